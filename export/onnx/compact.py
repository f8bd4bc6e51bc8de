"""`ExemplarNormalization` in fewer ONNX nodes than a converter makes of it."""

from typing import Any, NamedTuple

import keras
import numpy as np

from .graph import drop_unread, producers, read_tensors

# Earlier opsets have the axes of more operators as attributes.
OPSETS = range(13, 19)
_INSIDE = "/en/"
_ACTIVATIONS = {"relu": "Relu", "sigmoid": "Sigmoid", "tanh": "Tanh"}


def compact(proto: Any, calls: dict) -> list[str]:
    """Puts a form of 41 nodes in place of the 66 of each call of a layer that has the
    usual form: `Add(Mul(x, _), _)` or `Add(Mul(Transpose(x), _), _)`, with `x`
    of the layout (N, C, spatial...), is what leaves its scope, once. Nothing else is
    matched: what is not read any more is dropped. Others (rank 2, masks, activations)
    stay as they are. With `d = x - m`,

    `y = d * a + b`, `a = sum_k lambda_k gamma_k / sigma_k`,
    `b = sum_k lambda_k gamma_k (m - mu_k) / sigma_k + beta_k`,

    where the sums over normalizers, `gamma` and the batch's `1 / sigma` are one product
    with a constant. `d`, which the variance needs, is read again for `y`.

    Args:
        proto: `onnx.ModelProto` with nodes named `layer/operation`, changed in place.
        calls: Dictionary from `layer`, a scope, to the Keras layer called there.

    Returns:
        Scopes of the calls that have the new form.
    """
    (opset,) = (e.version for e in proto.opset_import if not e.domain)
    if opset not in OPSETS:
        return []
    graph, scopes = proto.graph, []
    constants: dict[str, Any] = {}
    for scope, layer in calls.items():
        call = _matched(graph, scope, layer) if _supported(layer) else None
        if call is None:
            continue
        form = _Form(layer, scope, 1 if call.perm else layer.channel_axis, opset)
        form.build(call)
        constants |= form.constants
        place = list(graph.node).index(call.last)
        graph.node.remove(call.last)
        for node in reversed(form.nodes):
            graph.node.insert(place, node)
        scopes.append(scope)
    if scopes:
        graph.initializer.extend(constants.values())
        drop_unread(graph)
    return scopes


def scopes(names: Any) -> set[str]:
    """Of the calls that have the compact form, from the names of nodes."""
    return {name.rpartition(_INSIDE)[0] for name in names if _INSIDE in name}


def _supported(layer):
    activation = layer.ratio_activation
    name = getattr(activation, "__name__", "")
    # One of the user's own may have the name, too.
    of_keras = (getattr(place, name, None) for place in (keras.activations, keras.ops))
    has_node = name in _ACTIVATIONS and any(each is activation for each in of_keras)
    return has_node and layer.input_spec.ndim > 2


class _Call(NamedTuple):
    """A call of a layer in a graph: `last(x * scale, _)`.

    - `last`: the Add, the one node that leaves it.
    - `x`: name of a tensor of the layout (N, C, spatial...), or of the layer's.
    - `perm`: how `x` is transposed to the layer's layout; `None` if it has that.
    - `inputs`: names of all tensors that it may read.
    """

    last: Any
    x: str
    perm: list | None
    inputs: set


def _matched(graph, scope, layer):
    """The `_Call` that the nodes in a scope are, or `None`."""
    nodes = [node for node in graph.node if node.name.startswith(f"{scope}/")]
    outside = read_tensors(graph, {node.name for node in nodes})
    ends = [n for n in nodes if n.op_type == "Add" and n.output[0] in outside]
    calls = [c for c in (_multiply_add(graph, n, layer) for n in ends) if c]
    if len(calls) != 1:
        return None
    inner = {tensor.name for tensor in graph.initializer} | {""}
    inner.update(t for node in nodes for t in node.output)
    read = {t for node in nodes for t in node.input} - inner
    # What else it reads is a mask.
    return calls[0] if read <= calls[0].inputs else None


def _multiply_add(graph, last, layer):
    sources, rank = producers(graph), layer.input_spec.ndim

    def source(tensor, kind):
        node = sources.get(tensor)
        return node if node and node.op_type == kind else None

    product = source(last.input[0], "Mul")
    if product is None:
        return None
    x, scale = product.input
    moved, reshaped = source(x, "Transpose"), source(scale, "Reshape")
    perm, last_axis = [0, *range(2, rank), 1], layer.channel_axis == rank - 1
    if last_axis and moved and list(moved.attribute[0].ints) == perm:
        return _Call(last, moved.input[0], perm, {moved.input[0], x})
    # Of the scale, if it is in the layer's layout; 1 channel could be in any.
    sizes = [-1] + [1] * (rank - 1)
    sizes[layer.channel_axis] = layer.input_spec.axes[layer.channel_axis]
    if max(sizes) > 1 and reshaped and _values(graph, reshaped.input[1]) == sizes:
        return _Call(last, x, None, {x})
    return None


def _values(graph, name):
    """Of a constant; `None` if it is none."""
    from onnx import numpy_helper

    for tensor in graph.initializer:
        if tensor.name == name:
            return numpy_helper.to_array(tensor).tolist()
    return None


class _Normalizer(NamedTuple):
    """Names of tensors `(N, C)`, and an array.

    - `row`: `(m - mu_k) / sigma_k`; `None` where it is 0.
    - `sigma`: what `lambda_k gamma_k` is divided by for a; `None`: by nothing.
    - `centred`: what it is multiplied by for b; `None` where that is 0.
    - `inverse`: `1 / sigma_k` where that is constant, as a part of `gamma_k`.
    """

    row: str | None = None
    sigma: str | None = None
    centred: str | None = None
    inverse: Any = 1


class _Form:
    """The nodes of one call, and their constants by name: those of a size or an epsilon
    have the same name, and the same value, in every call."""

    def __init__(self, layer, scope, axis, opset):
        self.layer, self.prefix, self.opset = layer, scope + _INSIDE, opset
        self.spatial = [i for i in range(1, layer.input_spec.ndim) if i != axis]
        self.channels = layer.input_spec.axes[layer.channel_axis]
        self.weights = {v.name: np.array(v) for v in layer.weights}
        self.nodes, self.constants = [], {}

    def add(self, kind, *inputs, out=None, outs=None, **attributes):
        from onnx import helper

        name = f"{self.prefix}{kind.lower()}_{len(self.nodes)}"
        outs = outs or [out or name]
        node = helper.make_node(kind, inputs, outs, name=name, **attributes)
        self.nodes.append(node)
        return outs if len(outs) > 1 else outs[0]

    def constant(self, name, values, dtype="float32"):
        from onnx import numpy_helper

        values = np.ascontiguousarray(values, dtype)
        self.constants[name] = numpy_helper.from_array(values, name)
        return name

    def weight(self, name, values):
        return self.constant(f"{self.prefix}{name}", values)

    def sizes(self, *values):
        return self.constant("sizes_" + "_".join(map(str, values)), values, "int64")

    def reshape(self, x, *sizes):
        return self.add("Reshape", x, self.sizes(*sizes))

    def mean(self, x, *axes, keepdims):
        if self.opset < 18:
            return self.add("ReduceMean", x, axes=axes, keepdims=keepdims)
        return self.add("ReduceMean", x, self.sizes(*axes), keepdims=keepdims)

    def broad(self, x):
        """`(N, C)` in the layout of `x`."""
        return self.add("Unsqueeze", x, self.sizes(*self.spatial))

    def build(self, call):
        """All nodes, from `x` to what the call returns."""
        add, epsilon = self.add, self.layer.epsilon
        m = self.mean(call.x, *self.spatial, keepdims=0)
        d = add("Sub", call.x, self.broad(m))
        # Not ReduceSumSquare, which takes onnxruntime 1.4 to 3 times as long.
        v = self.mean(add("Mul", d, d), *self.spatial, keepdims=0)
        v = add("Add", v, self.constant(f"epsilon_{epsilon:g}", epsilon))
        normalizers = [self.normalizer(name, m, v) for name in self.layer.pool]
        shares = self.shares([n.row for n in normalizers if n.row], m)
        a, b = self.multiply_add(normalizers, self.weighted(shares, normalizers))
        y = add("Mul", d, self.broad(a)), self.broad(b)
        out = call.last.output[0]
        if call.perm:
            add("Transpose", add("Add", *y), out=out, perm=call.perm)
        else:
            add("Add", *y, out=out)

    def normalizer(self, name, m, v):
        """The `_Normalizer` of a name; `v` has its epsilon."""
        if name == "instance":
            return _Normalizer(sigma=self.add("Sqrt", v))
        if name != "batch":
            row, sigma = self.over_channels(name, m, v)
            return _Normalizer(row, sigma, row)
        variance = self.weights["moving_variance"]
        inverse = 1 / np.sqrt(variance + self.layer.epsilon)
        mean = self.weight("mean", self.weights["moving_mean"])
        centred = self.add("Sub", m, mean)
        row = self.add("Mul", centred, self.weight("inverse", inverse))
        return _Normalizer(row, None, centred, inverse)

    def over_channels(self, name, m, v):
        """`(m - mu) / sigma`, `(N, C)`, and `sigma`, of "layer" or "group"."""
        add, axis, size = self.add, 1, self.channels // self.layer.groups
        if name == "group":
            axis = 2
            m, v = (self.reshape(t, 0, -1, size) for t in (m, v))
        deviation = add("Sub", m, self.mean(m, axis, keepdims=1))
        spread = add("Add", add("Mul", deviation, deviation), v)
        sigma = add("Sqrt", self.mean(spread, axis, keepdims=1))
        row = add("Div", deviation, sigma)
        if name == "group":
            sigma = add("Expand", sigma, self.sizes(1, 1, size))
            row, sigma = (self.reshape(t, 0, self.channels) for t in (row, sigma))
        return row, sigma

    def multiply_add(self, normalizers, parts):
        """a and b, `(N, C)`, of the parts `lambda_k gamma_k` of the normalizers."""
        a, b = [], []
        for part, normalizer in zip(parts, normalizers, strict=True):
            sigma, centred = normalizer.sigma, normalizer.centred
            a.append(self.add("Div", part, sigma) if sigma else part)
            if centred:
                b.append(self.add("Mul", part, centred))
        if "beta" in self.weights or not b:
            beta = self.weights.get("beta", np.zeros(self.channels))
            beta = beta if beta.ndim == 1 else beta.sum(axis=0)
            b.append(self.weight("beta", beta[None]))
        return (t[0] if len(t) == 1 else self.add("Sum", *t) for t in (a, b))

    def shares(self, rows, m):
        """The ratios, from the rows that are not 0, or from the means."""
        weights = self.weights
        hidden = self.weight("hidden_bias", weights["ratio_hidden_bias"])
        kernel = weights["ratio_hidden_kernel"]
        z = m
        if self.layer.ratio_head == "correlation":
            z, kernel = self.correlation(rows, kernel) if rows else (None, None)
        if z is None:
            # No row: the product is 0 for every sample.
            zero = self.constant("zero", 0)
            zeros = self.add("Mul", self.mean(m, 1, keepdims=1), zero)
            z = self.add("Add", zeros, hidden)
        else:
            z = self.add("Gemm", z, self.weight("hidden_kernel", kernel), hidden)
        z = self.add(_ACTIVATIONS[self.layer.ratio_activation.__name__], z)
        kernel = self.weight("output_kernel", weights["ratio_output_kernel"])
        bias = self.weight("output_bias", weights["ratio_output_bias"])
        return self.add("Softmax", self.add("Gemm", z, kernel, bias), axis=1)

    def correlation(self, rows, kernel):
        """Products of rows, `(N, rows * rows)`, and the rows of `kernel` for them. The
        row of "instance" is 0, and its products are left out."""
        pool, count, r = self.layer.pool, len(rows), self.layer.resolved_reduction
        z = self.add("Concat", *rows, axis=1) if count > 1 else rows[0]
        z = self.reshape(z, 0, count, self.channels)
        if "ratio_conv" in self.weights:
            z = self.add("Mul", z, self.weight("conv", self.weights["ratio_conv"]))
            z = self.reshape(z, 0, count, self.channels // r, r)
            z = self.add("ReduceSum", z, self.sizes(3), keepdims=0)
        z = self.add("MatMul", z, self.add("Transpose", z, perm=[0, 2, 1]))
        z = self.reshape(z, 0, count**2)
        others = [i for i, name in enumerate(pool) if name != "instance"]
        kernel = kernel.reshape(len(pool), len(pool), -1)[others][:, others]
        return z, kernel.reshape(count**2, -1)

    def weighted(self, shares, normalizers):
        """`lambda_k gamma_k`, for the batch over sigma: names of `(N, C)`."""
        k, channels = len(normalizers), self.channels
        gamma = self.weights.get("gamma", np.ones(channels)) * np.ones((k, channels))
        spread = np.zeros((k, k, channels))
        for i, normalizer in enumerate(normalizers):
            spread[i, i] = gamma[i] * normalizer.inverse
        parts = self.add("MatMul", shares, self.weight("gamma", spread.reshape(k, -1)))
        names = [f"{self.prefix}weights_{name}" for name in self.layer.pool]
        if k > 1:
            self.add("Split", parts, self.sizes(*[channels] * k), outs=names, axis=1)
        else:
            self.add("Identity", parts, outs=names)
        return names

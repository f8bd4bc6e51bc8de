"""`ExemplarNormalization` in fewer ONNX nodes than a converter makes of it."""

import numpy as np

from .graph import graphs

# Earlier opsets have the axes of more operators as attributes.
OPSETS = range(13, 19)
_INSIDE = "/en/"
_ACTIVATIONS = {"relu": "Relu", "sigmoid": "Sigmoid", "tanh": "Tanh"}


def compact(proto, calls):
    """Puts a form of 41 nodes in place of the 66 of each call of a layer that is found.

    A call is found if `Add(Mul(x, _), _)` or `Add(Mul(Transpose(x), _), _)`, with `x`
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
        Scopes of the calls that were found.
    """
    (opset,) = (e.version for e in proto.opset_import if not e.domain)
    if opset not in OPSETS:
        return []
    graph, found, constants = proto.graph, [], {}
    inside = {scope: [] for scope, layer in calls.items() if _known(layer)}
    for node in graph.node:
        for depth in range(node.name.count("/")):
            scope = node.name.rsplit("/", depth + 1)[0]
            if scope in inside:
                inside[scope].append(node)
    for scope, nodes in inside.items():
        layer = calls[scope]
        place = _find(graph, nodes, layer)
        if place is None:
            continue
        add, x, perm = place
        axis = 1 if perm else layer.channel_axis
        new = _Nodes(layer, scope, axis, opset, constants)
        new.normalized(x, perm, add.output[0])
        at = list(graph.node).index(add)
        graph.node.remove(add)
        for node in reversed(new.nodes):
            graph.node.insert(at, node)
        found.append(scope)
    if found:
        graph.initializer.extend(constants.values())
        _drop_unread(graph)
    return found


def scopes(names):
    """Of the calls that have the compact form, from the names of nodes."""
    return {name.rpartition(_INSIDE)[0] for name in names if _INSIDE in name}


def _known(layer):
    activation = getattr(layer.ratio_activation, "__name__", "")
    return layer.input_spec.ndim > 2 and activation in _ACTIVATIONS


def _find(graph, inside, layer):
    """Of the nodes of a call the one that leaves it, the name of x, and how that is
    transposed to the layer's layout, or `None`; `None` if it is not clear."""
    rank, channels = layer.input_spec.ndim, layer.input_spec.axes[layer.channel_axis]
    last = [0, *range(2, rank), 1] if layer.channel_axis == rank - 1 else None
    # Of the scale, if it is in the layer's layout; 1 channel could be in any.
    sizes = [-1] + [1] * (rank - 1)
    sizes[layer.channel_axis] = channels if channels > 1 else None
    names = {node.name for node in inside}
    every = [node for g in graphs(graph) for node in g.node]
    read = {t for node in every if node.name not in names for t in node.input}
    read |= {value.name for g in graphs(graph) for value in g.output}
    made = {tensor: node for node in graph.node for tensor in node.output}
    found = []
    for add in inside:
        if add.op_type != "Add" or add.output[0] not in read:
            continue
        product = made.get(add.input[0])
        if product is None or product.op_type != "Mul":
            continue
        x, scale = product.input
        turned = made.get(x)
        if last and _permutation(turned) == last:
            found.append((add, turned.input[0], last, {turned.input[0], x}))
        elif _sizes(graph, made.get(scale)) == sizes:
            found.append((add, x, None, {x}))
    if len(found) != 1:
        return None
    ((add, x, perm, given),) = found
    own = {t for node in inside for t in node.output}
    constants = {tensor.name for tensor in graph.initializer} | {""}
    others = {t for node in inside for t in node.input} - own - constants
    # What else it reads is a mask.
    return (add, x, perm) if others <= given else None


def _permutation(node):
    """Of a Transpose."""
    if node is not None and node.op_type == "Transpose":
        return list(node.attribute[0].ints)
    return None


def _sizes(graph, node):
    """Of a Reshape."""
    import onnx

    if node is not None and node.op_type == "Reshape":
        for tensor in graph.initializer:
            if tensor.name == node.input[1]:
                return onnx.numpy_helper.to_array(tensor).tolist()
    return None


class _Nodes:
    """The nodes of one call; those constants are shared that have one value a name."""

    def __init__(self, layer, scope, axis, opset, constants):
        self.layer, self.prefix = layer, scope + _INSIDE
        self.opset, self.constants = opset, constants
        self.spatial = [i for i in range(1, layer.input_spec.ndim) if i != axis]
        self.channels = layer.input_spec.axes[layer.channel_axis]
        self.nodes = []

    def add(self, kind, *inputs, out=None, outs=None, **attributes):
        import onnx

        name = f"{self.prefix}{kind.lower()}_{len(self.nodes)}"
        outs = outs or [out or name]
        node = onnx.helper.make_node(kind, inputs, outs, name=name, **attributes)
        self.nodes.append(node)
        return outs if len(outs) > 1 else outs[0]

    def constant(self, name, values, dtype="float32"):
        import onnx

        values = np.ascontiguousarray(values, dtype)
        self.constants[name] = onnx.numpy_helper.from_array(values, name)
        return name

    def weight(self, name, values):
        return self.constant(f"{self.prefix}{name}", values)

    def sizes(self, *values):
        return self.constant("sizes_" + "_".join(map(str, values)), values, "int64")

    def mean(self, x, *axes, keepdims):
        if self.opset < 18:
            return self.add("ReduceMean", x, axes=axes, keepdims=keepdims)
        return self.add("ReduceMean", x, self.sizes(*axes), keepdims=keepdims)

    def broad(self, x):
        """`(N, C)` in the layout of `x`."""
        return self.add("Unsqueeze", x, self.sizes(*self.spatial))

    def normalized(self, x, perm, out):
        """The layer's outputs, called `out`: those in the layout of `x`, transposed."""
        layer, add, channels = self.layer, self.add, self.channels
        weights = {v.name: np.array(v) for v in layer.weights}
        m = self.mean(x, *self.spatial, keepdims=0)
        d = add("Sub", x, self.broad(m))
        # Not ReduceSumSquare, which takes onnxruntime 1.4 to 3 times as long.
        v = self.mean(add("Mul", d, d), *self.spatial, keepdims=0)
        v = add("Add", v, self.constant(f"epsilon_{layer.epsilon:g}", layer.epsilon))

        # (m - mu_k) / sigma_k, and what lambda_k gamma_k is multiplied by for a and b.
        x_hat, for_a, for_b, scale = {}, {}, {}, {}
        for name in layer.pool:
            if name == "instance":
                for_a[name] = add("Sqrt", v)
            elif name in ("layer", "group"):
                x_hat[name], for_a[name] = self.over_channels(name, m, v)
                for_b[name] = x_hat[name]
            else:
                scale[name] = 1 / np.sqrt(weights["moving_variance"] + layer.epsilon)
                for_b[name] = add("Sub", m, self.weight("mean", weights["moving_mean"]))
                inverse = self.weight("inverse", scale[name])
                x_hat[name] = add("Mul", for_b[name], inverse)

        shares = self.shares(list(x_hat.values()), weights, m)
        names = [f"{self.prefix}weights_{name}" for name in layer.pool]
        self.weighted(shares, weights, scale, names)
        a, b = [], []
        for name, part in zip(layer.pool, names, strict=True):
            a.append(add("Div", part, for_a[name]) if name in for_a else part)
            if name in for_b:
                b.append(add("Mul", part, for_b[name]))
        if "beta" in weights or not b:
            beta = weights.get("beta", np.zeros(channels))
            beta = beta if beta.ndim == 1 else beta.sum(axis=0)
            b.append(self.weight("beta", beta[None]))
        a, b = (part[0] if len(part) == 1 else add("Sum", *part) for part in (a, b))
        y = add("Mul", d, self.broad(a)), self.broad(b)
        if perm:
            add("Transpose", add("Add", *y), out=out, perm=perm)
        else:
            add("Add", *y, out=out)

    def over_channels(self, name, m, v):
        """`(m - mu) / sigma`, `(N, C)`, and `sigma`; `v` has its epsilon."""
        add, axis, size = self.add, 1, self.channels // self.layer.groups
        if name == "group":
            axis = 2
            m, v = (add("Reshape", t, self.sizes(0, -1, size)) for t in (m, v))
        deviation = add("Sub", m, self.mean(m, axis, keepdims=1))
        spread = add("Add", add("Mul", deviation, deviation), v)
        sigma = add("Sqrt", self.mean(spread, axis, keepdims=1))
        x_hat = add("Div", deviation, sigma)
        if name == "group":
            sigma = add("Expand", sigma, self.sizes(1, 1, size))
            flat = self.sizes(0, self.channels)
            x_hat, sigma = (add("Reshape", t, flat) for t in (x_hat, sigma))
        return x_hat, sigma

    def shares(self, rows, weights, m):
        """The ratios, from the rows of `x_hat` that are not 0, or from the means."""
        hidden = self.weight("hidden_bias", weights["ratio_hidden_bias"])
        kernel = weights["ratio_hidden_kernel"]
        z = m
        if self.layer.ratio_head == "correlation":
            z, kernel = self.correlation(rows, weights, kernel)
        if z is None:
            # No row: the product is 0 for every sample.
            zero = self.constant("zero", 0)
            zeros = self.add("Mul", self.mean(m, 1, keepdims=1), zero)
            z = self.add("Add", zeros, hidden)
        else:
            z = self.add("Gemm", z, self.weight("hidden_kernel", kernel), hidden)
        z = self.add(
            "Gemm",
            self.add(_ACTIVATIONS[self.layer.ratio_activation.__name__], z),
            self.weight("output_kernel", weights["ratio_output_kernel"]),
            self.weight("output_bias", weights["ratio_output_bias"]),
        )
        return self.add("Softmax", z, axis=1)

    def correlation(self, rows, weights, kernel):
        """Products of rows, `(N, rows * rows)`, and the rows of `kernel` for them. The
        row of "instance" is 0, and its products are left out."""
        layer, add, k = self.layer, self.add, len(self.layer.pool)
        kept = [i for i, name in enumerate(layer.pool) if name != "instance"]
        if not kept:
            return None, None
        z = add("Concat", *rows, axis=1) if len(rows) > 1 else rows[0]
        z = add("Reshape", z, self.sizes(0, len(kept), self.channels))
        if "ratio_conv" in weights:
            z = add("Mul", z, self.weight("conv", weights["ratio_conv"]))
            groups = self.channels // layer.resolved_reduction
            z = add(
                "Reshape", z, self.sizes(0, len(kept), groups, layer.resolved_reduction)
            )
            z = add("ReduceSum", z, self.sizes(3), keepdims=0)
        z = add("MatMul", z, add("Transpose", z, perm=[0, 2, 1]))
        z = add("Reshape", z, self.sizes(0, len(kept) ** 2))
        kernel = kernel.reshape(k, k, -1)[kept][:, kept]
        return z, kernel.reshape(len(kept) ** 2, -1)

    def weighted(self, shares, weights, scale, names):
        """`lambda_k gamma_k`, for the batch over sigma: `(N, C)` by `names`."""
        k, channels = len(names), self.channels
        gamma = weights.get("gamma", np.ones(channels)) * np.ones((k, channels))
        spread = np.zeros((k, k, channels))
        for i, name in enumerate(self.layer.pool):
            spread[i, i] = gamma[i] * scale.get(name, 1)
        parts = self.add("MatMul", shares, self.weight("gamma", spread.reshape(k, -1)))
        if k > 1:
            sizes = self.sizes(*[channels] * k)
            self.add("Split", parts, sizes, outs=names, axis=1)
        else:
            self.add("Identity", parts, outs=names)


def _drop_unread(graph):
    while True:
        # Those of loops too, which read what is outside.
        read = {t for g in graphs(graph) for node in g.node for t in node.input}
        read |= {value.name for g in graphs(graph) for value in g.output}
        dead = [node for node in graph.node if not read.intersection(node.output)]
        if not dead:
            break
        for node in dead:
            graph.node.remove(node)
    kept = [tensor for tensor in graph.initializer if tensor.name in read]
    del graph.initializer[:]
    graph.initializer.extend(kept)

"""`ExemplarNormalization` in fewer ONNX nodes than a converter makes of it."""

import numpy as np

from .onnx_graph import graphs

# Earlier opsets have the axes of more operators as attributes.
OPSETS = range(13, 19)
_ACTIVATIONS = {"relu": "Relu", "sigmoid": "Sigmoid", "tanh": "Tanh"}


def compact(proto, layers):
    """Puts a form of 39 nodes in place of the 68 of each layer that is found.

    A layer is found if `Add(Mul(Transpose(x), _), _)` is what leaves its scope, once,
    with `x` of the layout (N, C, H, W). Nothing else is matched: what is not read any
    more is dropped. Other layers (other ranks, masks, several calls, a "group"
    normalizer, the head "mlp") stay as they are. With `d = x - m`,

    `y = d * a + b`, `a = sum_k lambda_k gamma_k / sigma_k`,
    `b = sum_k lambda_k gamma_k (m - mu_k) / sigma_k + beta_k`,

    where the sums over normalizers, `gamma` and the batch's `1 / sigma` are one product
    with a constant. `d`, which the variance needs, is read again for `y`.

    Args:
        proto: `onnx.ModelProto` with nodes named `layer/operation`, changed in place.
        layers: List of Keras layers.

    Returns:
        Names of the layers that were found.
    """
    (opset,) = (e.version for e in proto.opset_import if not e.domain)
    if opset not in OPSETS:
        return []
    graph, found, constants = proto.graph, [], {}
    for layer in layers:
        place = _find(graph, layer.name) if _known(layer) else None
        if place is None:
            continue
        add, x = place
        new = _Nodes(layer, opset, constants)
        new.add("Transpose", new.normalized(x), out=add.output[0], perm=[0, 2, 3, 1])
        at = list(graph.node).index(add)
        graph.node.remove(add)
        for node in reversed(new.nodes):
            graph.node.insert(at, node)
        found.append(layer.name)
    if found:
        graph.initializer.extend(constants.values())
        _drop_unread(graph)
    return found


def _known(layer):
    activation = getattr(layer.ratio_activation, "__name__", "")
    return (
        layer._axis == 3
        and "group" not in layer.pool
        and layer.ratio_head == "correlation"
        and activation in _ACTIVATIONS
    )


def _find(graph, name):
    """The node that leaves the layer, and the name of x; `None` if it is not clear."""
    inside = [node for node in graph.node if f"/{name}/" in f"/{node.name}"]
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
        turned = made.get(product.input[0]) if product is not None else None
        if (
            turned is not None
            and (product.op_type, turned.op_type) == ("Mul", "Transpose")
            and list(turned.attribute[0].ints) == [0, 2, 3, 1]
        ):
            found.append((add, turned.input[0], product.input[0]))
    if len(found) != 1:
        return None
    ((add, x, turned),) = found
    own = {t for node in inside for t in node.output}
    constants = {tensor.name for tensor in graph.initializer} | {""}
    others = {t for node in inside for t in node.input} - own - constants
    # What else it reads is a mask.
    return (add, x) if others <= {x, turned} else None


class _Nodes:
    """The nodes of one layer; constants are shared by name."""

    def __init__(self, layer, opset, constants):
        self.layer, self.opset, self.constants = layer, opset, constants
        self.nodes = []

    def add(self, kind, *inputs, out=None, outs=None, **attributes):
        import onnx

        name = f"{self.layer.name}/en/{kind.lower()}_{len(self.nodes)}"
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
        return self.constant(f"{self.layer.name}/en/{name}", values)

    def sizes(self, *values):
        return self.constant("sizes_" + "_".join(map(str, values)), values, "int64")

    def mean(self, x, *axes, keepdims):
        if self.opset < 18:
            return self.add("ReduceMean", x, axes=axes, keepdims=keepdims)
        return self.add("ReduceMean", x, self.sizes(*axes), keepdims=keepdims)

    def broad(self, x):
        """`(N, C)` to `(N, C, 1, 1)`."""
        return self.add("Unsqueeze", x, self.sizes(2, 3))

    def normalized(self, x):
        """The layer's outputs in the layout of `x`, `(N, C, H, W)`."""
        layer, add = self.layer, self.add
        weights = {v.name: np.array(v) for v in layer.weights}
        channels = layer.input_spec.axes[layer._axis]
        m = self.mean(x, 2, 3, keepdims=0)
        d = add("Sub", x, self.broad(m))
        v = self.mean(add("Mul", d, d), 2, 3, keepdims=0)
        v = add("Add", v, self.constant(f"epsilon_{layer.epsilon:g}", layer.epsilon))

        # (m - mu_k) / sigma_k, and what lambda_k gamma_k is multiplied by for a and b.
        x_hat, for_a, for_b, scale = {}, {}, {}, {}
        for name in layer.pool:
            if name == "instance":
                for_a[name] = add("Sqrt", v)
            elif name == "layer":
                deviation = add("Sub", m, self.mean(m, 1, keepdims=1))
                spread = add("Add", add("Mul", deviation, deviation), v)
                sigma = add("Sqrt", self.mean(spread, 1, keepdims=1))
                x_hat[name] = for_b[name] = add("Div", deviation, sigma)
                for_a[name] = sigma
            else:
                scale[name] = 1 / np.sqrt(weights["moving_variance"] + layer.epsilon)
                for_b[name] = add("Sub", m, self.weight("mean", weights["moving_mean"]))
                inverse = self.weight("inverse", scale[name])
                x_hat[name] = add("Mul", for_b[name], inverse)

        shares = self.shares(list(x_hat.values()), weights, m)
        names = [f"{layer.name}/en/weights_{name}" for name in layer.pool]
        self.weighted(shares, weights, scale, names, channels)
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
        return add("Add", add("Mul", d, self.broad(a)), self.broad(b))

    def shares(self, rows, weights, m):
        """The ratios. The row of "instance" is 0, and its products are left out."""
        layer, add, k = self.layer, self.add, len(self.layer.pool)
        channels = layer.input_spec.axes[layer._axis]
        kept = [i for i, name in enumerate(layer.pool) if name != "instance"]
        bias = self.weight("hidden_bias", weights["ratio_hidden_bias"])
        if kept:
            z = add("Concat", *rows, axis=1) if len(rows) > 1 else rows[0]
            z = add("Reshape", z, self.sizes(-1, len(kept), channels))
            if "ratio_conv" in weights:
                z = add("Mul", z, self.weight("conv", weights["ratio_conv"]))
                groups = channels // layer._reduction
                z = add(
                    "Reshape", z, self.sizes(0, len(kept), groups, layer._reduction)
                )
                z = add("ReduceSum", z, self.sizes(3), keepdims=0)
            z = add("MatMul", z, add("Transpose", z, perm=[0, 2, 1]))
            z = add("Reshape", z, self.sizes(-1, len(kept) ** 2))
            kernel = weights["ratio_hidden_kernel"].reshape(k, k, -1)[kept][:, kept]
            kernel = self.weight("hidden_kernel", kernel.reshape(len(kept) ** 2, -1))
            z = add("Gemm", z, kernel, bias)
        else:
            zero = self.constant("zero", 0)
            z = add("Add", add("Mul", self.mean(m, 1, keepdims=1), zero), bias)
        z = add(
            "Gemm",
            add(_ACTIVATIONS[layer.ratio_activation.__name__], z),
            self.weight("output_kernel", weights["ratio_output_kernel"]),
            self.weight("output_bias", weights["ratio_output_bias"]),
        )
        return add("Softmax", z, axis=1)

    def weighted(self, shares, weights, scale, names, channels):
        """`lambda_k gamma_k`, for the batch over sigma: `(N, C)` by `names`."""
        k = len(names)
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

"""Parameters and operations of the paper's networks, beside what it prints."""

import functools
import math
from collections.abc import Iterable
from typing import NamedTuple

from keras_en.arguments import check, check_backend
from keras_en.text import table

from .inception import InceptionV2
from .resnet import AAResNet50, ResNet50, SEResNet50
from .shufflenet import ShuffleNetV2

NETWORKS = {
    "ShuffleNetV2 x0.5": functools.partial(ShuffleNetV2, width=0.5),
    "ResNet50": ResNet50,
    "SEResNet50": SEResNet50,
    "AAResNet50": AAResNet50,
    "InceptionV2": InceptionV2,
}
NORMS = ("bn", "gn", "sn", "ssn", "en")
# Tables 2 and 3: GFLOPs, millions of parameters.
PAPER = {
    ("ShuffleNetV2 x0.5", "bn"): (0.046, 1.37),
    ("ShuffleNetV2 x0.5", "sn"): (0.057, 1.37),
    ("ShuffleNetV2 x0.5", "ssn"): (0.052, 1.37),
    ("ShuffleNetV2 x0.5", "en"): (0.063, 1.59),
    ("ResNet50", "bn"): (4.136, 25.56),
    ("ResNet50", "gn"): (4.155, 25.56),
    ("ResNet50", "sn"): (4.225, 25.56),
    ("ResNet50", "ssn"): (4.186, 25.56),
    ("ResNet50", "en"): (4.325, 25.91),
    ("SEResNet50", "bn"): (4.151, 26.77),
    ("AAResNet50", "bn"): (4.167, 25.80),
    ("InceptionV2", "bn"): (2.056, 11.29),
    ("InceptionV2", "sn"): (2.081, 11.30),
    ("InceptionV2", "en"): (2.122, 12.36),
}
HEAD = (
    *("network", "norm", "parameters (M)", "GFLOPs: products", "all of the graph"),
    *("counted as in the paper", "paper"),
)
PRODUCTS = ("Conv2D", "DepthwiseConv2dNative", "MatMul", "BatchMatMulV2", "Einsum")


class Row(NamedTuple):
    """One network with one normalization, for one image.

    - `parameters`: trainable ones.
    - `products`: multiply-adds of convolutions and products of matrices, in 1e9.
    - `gflops`: these and every other operation that TensorFlow's profiler counts in
      the graph of inference, two operations to a multiply-add, in 1e9.
    - `counted`: with batch normalization: `products`, and 4 operations an element
      that is normalized (subtract, divide, scale, shift) and 1 a ReLU, each as much
      as a multiply-add: a count that gives all of the paper's. Otherwise `None`.
    - `paper_gflops`, `paper_parameters`: what Tables 2 and 3 print, in 1e9 and 1e6;
      `None` where they print nothing.
    """

    network: str
    norm: str
    parameters: int
    products: float
    gflops: float
    counted: float | None
    paper_gflops: float | None
    paper_parameters: float | None


def summary_table(
    networks: Iterable[str] = tuple(NETWORKS), norms: Iterable[str] | None = None
) -> list[Row]:
    """Counts parameters and operations of networks at 224 x 224.

    Args:
        networks: Names out of `NETWORKS`.
        norms: Normalizations; `None`: `NORMS`, but "bn" alone for the networks that
            the paper has as baselines.

    Returns:
        List of `Row`.

    Raises:
        RuntimeError: The backend is not TensorFlow, whose profiler counts.
        ValueError: A network or a normalization is unknown.

    Example:

    >>> (row,) = summary_table(["ShuffleNetV2 x0.5"], ["bn"])
    >>> row.parameters, row.paper_parameters
    (1366792, 1.37)
    """
    check_backend("summary_table needs the TensorFlow backend, whose profiler counts")
    unknown = [name for name in networks if name not in NETWORKS]
    check(not unknown, "networks", f"names out of {list(NETWORKS)}", unknown)
    rows = []
    for network in networks:
        all_of_them = NORMS if (network, "en") in PAPER else NORMS[:1]
        rows += [_row(network, norm) for norm in norms or all_of_them]
    return rows


def markdown(rows: Iterable[Row]) -> str:
    """The rows as a table, what the paper prints in parentheses."""
    cells = []
    for row in rows:
        numbers = [row.products, row.gflops, row.counted, row.paper_gflops]
        printed = row.paper_parameters
        parameters = f"{row.parameters / 1e6:.2f}"
        parameters += "" if printed is None else f" ({printed:.2f})"
        texts = ["" if n is None else f"{n:.3f}" for n in numbers]
        cells.append([row.network, row.norm, parameters, *texts])
    return table(HEAD, cells)


def _row(network, norm):
    model = NETWORKS[network](norm=norm)
    operations = _operations(model)
    products = sum(operations.get(kind, 0) for kind in PRODUCTS) / 2e9
    counted = None
    if norm == "bn":
        elements = 4 * _elements(model, "_norm") + _elements(model, "_relu")
        counted = products + elements / 1e9
    return Row(
        network,
        norm,
        sum(math.prod(v.shape) for v in model.trainable_variables),
        products,
        sum(operations.values()) / 2e9,
        counted,
        *PAPER.get((network, norm), (None, None)),
    )


def _elements(model, ending):
    """Elements of the outputs of all layers with such a name, for one image."""
    outputs = [x.output for x in model.layers if x.name.endswith(ending)]
    return sum(math.prod(output.shape[1:]) for output in outputs)


def _operations(model):
    """Floating-point operations of one image, by the kind of operation."""
    import tensorflow as tf

    @tf.function(autograph=False)
    def inference(x):
        return model(x, training=False)

    spec = tf.TensorSpec((1, *model.input_shape[1:]), "float32")
    graph = inference.get_concrete_function(spec).graph
    profiler = tf.compat.v1.profiler
    options = profiler.ProfileOptionBuilder.float_operation()
    options["output"] = "none"
    profile = profiler.profile(graph, cmd="op", options=options)
    by_kind = {}
    nodes = list(profile.children)
    while nodes:
        node = nodes.pop()
        by_kind[node.name] = by_kind.get(node.name, 0) + node.float_ops
        nodes += node.children
    return by_kind

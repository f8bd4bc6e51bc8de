"""What options may be, as far as parsers say it: copies, for the library itself imports
Keras, and `--help` does not. A test holds each against its home."""

import re
from pathlib import Path

# keras_en.models.norms, keras_en.models.summary
NORMS = ("en", "sn", "ssn", "bn", "sync_bn", "gn", "in", "ln")
NETWORKS = ("ShuffleNetV2 x0.5", "ResNet50", "SEResNet50", "AAResNet50", "InceptionV2")
# keras_en.training: data.sources, strategies, recipes.tables, recipes.rules,
# data.augmentation
FORMS = "digits, tfds:NAME[/config], folder:PATH, list:FILE[,FILE] or npz:PATH"
STRATEGIES = ("none", "mirrored", "multiworker")
SCALES = ("paper", "small")
LARGEST, LAST_SEED = 10**9, 2**32 - 1
LARGEST_SIDE = 2**14
# keras_en.export: onnx.convert, onnx.source, saved_model.write, pixels, parity.verify
OPSETS = range(9, 24)
LAYOUTS = ("nhwc", "nchw")
DIMENSIONS = ("batch", "height", "width")
VERSION = 2**63 - 1
SIGNATURES = ("serving_default", "serving_bytes", "ratios")
PIXELS = ("auto", "0-255", "0-1")
BATCHES = (1, 7, 32)


def tables() -> list[str]:
    """The names of the paper's tables that can be trained."""
    folder = Path(__file__).parents[1] / "training" / "recipes" / "tables"
    return sorted(path.stem for path in folder.glob("*.yaml"))


def is_source(text: str) -> bool:
    """Whether it has one of the `FORMS`."""
    kind, _, rest = text.partition(":")
    return text == "digits" or (kind in re.findall(r"(\w+):", FORMS) and bool(rest))

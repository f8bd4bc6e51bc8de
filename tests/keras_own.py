"""Keras's own tests of normalization and saving, with one of our layers in the place of
`BatchNormalization`.

    python tests/keras_own.py [--layer SwitchableNormalization] [--all]

They are those that lie in the installed Keras, so of its version; nothing is copied.
Prints what passed, and the reason of what did not. `ExemplarNormalization` has weights
for ratios, which tests that count weights do not know; `SwitchableNormalization` of one
normalizer has those of `BatchNormalization`.
"""

import argparse
import sys
from pathlib import Path

import keras
import pytest

import keras_en

REPLACED = "BatchNormalization"
# Of `keras/src`; with `--all` everything, exports and training too.
FOLDERS = ("layers", "legacy", "saving", "models", "dtype_policies")


def substitute(layer):
    """A subclass that is called like Keras's layer, over a pool of "batch" alone."""

    options = {"normalizers": ("batch",)}
    if layer is keras_en.ExemplarNormalization:
        # Gamma and beta of the shape of Keras's.
        options["share_affine"] = True

    def __init__(self, *args, **kwargs):
        layer.__init__(self, *args, **{**options, **kwargs})

    members = {"__init__": __init__, "__module__": layer.__module__}
    register = keras.saving.register_keras_serializable("keras_own")
    return register(type(REPLACED, (layer,), members))


def replace_in_keras(layer):
    """Puts a class in the place of Keras's layer, wherever a module holds it."""
    original = getattr(keras.layers, REPLACED)
    for name, module in list(sys.modules.items()):
        within = name.partition(".")[0] == "keras"
        if within and getattr(module, REPLACED, None) is original:
            setattr(module, REPLACED, layer)


def files(everything):
    """The tests of the installed Keras that use the layer."""
    source = Path(keras.__file__).parent / "src"
    folders = [source] if everything else [source / name for name in FOLDERS]
    tests = sorted(path for root in folders for path in root.rglob("*_test.py"))
    return [path for path in tests if REPLACED in path.read_text("utf-8")]


class Report:
    """What became of every test."""

    def __init__(self):
        self.counts = dict.fromkeys(("passed", "failed", "skipped"), 0)

    def pytest_runtest_logreport(self, report):
        if report.when != "call" and report.passed:
            return
        self.counts[report.outcome] += 1
        if report.failed:
            crash = getattr(report.longrepr, "reprcrash", None)
            reason = str(crash.message if crash else report.longrepr)
            print(f"failed {report.nodeid.rpartition('/')[2]}")
            print("    " + " ".join(reason.split())[:300])


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    layers = keras_en.layers.__all__
    parser.add_argument("--layer", choices=layers, default=layers[0])
    parser.add_argument("--all", action="store_true", help="exports and training, too")
    options = parser.parse_args()
    tests = files(options.all)
    if not tests:
        parser.error(f"the installed Keras, {keras.__version__}, holds no tests")
    replace_in_keras(substitute(getattr(keras_en, options.layer)))
    report = Report()
    quiet = ["-p", "no:terminal", "-p", "no:cacheprovider", "-p", "no:xdist"]
    quiet += ["-c", "/dev/null", "--rootdir", str(tests[0].anchor), "-W", "ignore"]
    pytest.main([*quiet, *map(str, tests)], plugins=[report])
    counts = ", ".join(f"{n} {outcome}" for outcome, n in report.counts.items())
    backend = keras.backend.backend()
    print(f"{options.layer}, Keras {keras.__version__}, {backend}: {counts}")


if __name__ == "__main__":
    main()

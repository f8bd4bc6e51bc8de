"""What is measured on a GPU, as far as a CPU can hold it: the training of several
networks side by side, the weights that they begin with, the pages."""

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from benchmarks import gpu_tables, quick_weights

ROOT = Path(__file__).parents[2]
MACHINE = {
    "card": "NVIDIA H100 80GB HBM3, 580.1, 81559 MiB",
    "cores": 16,
    "versions": {"jax": "0.11.2"},
    "date": "2026-11-26",
    "arguments": ["--out", "folder"],
    "flags": "",
}


@pytest.fixture
def accuracy(monkeypatch):
    """A function from a name to that file of `benchmarks/accuracy`."""
    for folder in ("benchmarks", "benchmarks/accuracy"):
        monkeypatch.syspath_prepend(ROOT / folder)
    return importlib.import_module


@pytest.mark.parametrize("batch", [9, 2])
def test_dense_convolutions_are_those_of_every_network(batch, rng, accuracy):
    """Outputs and all gradients; fewer samples than channels take the other way."""
    import jax

    stacked = accuracy("stacked")

    def convolution(x, kernel, stride):
        layout = ("NHWC", "HWIO", "NHWC")
        return jax.lax.conv_general_dilated(
            x, kernel, (stride, stride), "SAME", dimension_numbers=layout
        )

    def loss(first, second, x):
        x = jax.nn.tanh(convolution(x, first, 1))
        return (convolution(x, second, 2) ** 2).sum()

    def normal(*shape):
        return rng.normal(size=(3, *shape)).astype("float32")

    inputs = normal(3, 3, 3, 4), normal(1, 1, 4, 6), normal(batch, 8, 8, 3)
    slopes = jax.vmap(jax.grad(loss, (0, 1, 2)))
    expected = slopes(*inputs)
    with stacked.dense_convolutions():
        lowered = jax.jit(lambda *x: slopes(*x)).lower(*inputs)
    assert "feature_group_count = 3" not in lowered.as_text()
    assert "feature_group_count = 3" in jax.jit(slopes).lower(*inputs).as_text()
    for one, other in zip(lowered.compile()(*inputs), expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["he_normal", "glorot_uniform", "VarianceScaling"])
def test_weights_by_numpy_have_keras_distribution(name):
    usual, other, again = (keras.initializers.get(name) for _ in range(3))
    other.seed = again.seed = 5
    shape = (3, 3, 400, 800)
    expected = np.asarray(keras.ops.convert_to_numpy(usual(shape)))
    with quick_weights.drawn_by_numpy():
        drawn, same = (
            np.asarray(keras.ops.convert_to_numpy(one(shape))) for one in (other, again)
        )
        assert other((4,)).shape == (4,)
    np.testing.assert_array_equal(drawn, same)
    assert drawn.dtype == expected.dtype
    assert abs(drawn.mean()) < 0.02 * drawn.std()
    quantiles = np.linspace(0.05, 0.95, 7)
    np.testing.assert_allclose(
        np.quantile(drawn, quantiles),
        np.quantile(expected, quantiles),
        atol=0.03 * expected.std(),
    )
    assert np.abs(drawn).max() <= 1.02 * np.abs(expected).max()


def test_page_of_times():
    times = {"time": 2e-3, "bytes": 3.35e9, "kernels": 20, "compiling": 9.0}
    right = {
        "case": {"shape": [4, 8], "dtype": "float32", "training": True, "masked": True},
        "kernels": True,
        "errors": {"outputs": 1e-7, "ratios": 2e-7, "dx": 3e-7, "gamma": 4e-7},
    }
    layer = "64x56x56x256, float32, training"
    network = "ResNet-50, batch 64, bfloat16, training"
    page = "\n".join(
        gpu_tables.page(
            {
                **MACHINE,
                "dispatch": 5e-6,
                "right": [right],
                "rows": {
                    f"{layer}, BN": {**times, "time": 1e-3},
                    f"{layer}, EN": times,
                    f"{layer}, EN, plain head": {**times, "time": 3e-3},
                    f"{network}, BN": times,
                    f"{network}, SN": {"kernels": 7, "bytes": 1e9, "compiling": 1.0},
                },
                "failures": {"one": "Error: of two\nlines"},
            }
        )
    )
    assert "| 1000.0 (1.00) |  | 2000.0 (2.00) | 3000.0 (3.00) | 16.3, 20 |" in page
    assert "| 3.35 | 1.68 | 50% |" in page
    assert f"| {network}: milliseconds (over BN's) | 2.0 (1.00) | not run |" in page
    assert f"| {network}: images a second | 32,000 |" in page
    assert "| 4x8 | float32 | training, mask | yes | 1.0e-07 |" in page
    assert "- not run: one: Error: of two lines" in page


def curve(accuracy):
    ratios = {"model/norm": [0.25, 0.25, 0.5]}
    rows = [(10, 0.5), (20, accuracy)]
    return [
        {"epoch": e, "loss": 1.0, "accuracy": a, "by batches": a, "ratios": ratios}
        for e, a in rows
    ]


def test_page_of_accuracy(accuracy):
    tables = accuracy("device_tables")
    assert tables.interval([1.0, 2.0, 3.0]) == pytest.approx((2.0, 4.303 / 3**0.5))
    results = {
        **MACHINE,
        "recipe": "cifar10_resnet20",
        "dtype": "float32",
        "epochs": 20,
        "seconds": 400.0,
        "finished": True,
        "compiling": {"en, dense": 12.0},
        "milliseconds": {"en": {"dense": 4.0}},
        "failures": {},
        "curves": {
            "bn": {"0": curve(0.90), "1": curve(0.91), "2": curve(0.92)},
            "en": {"0": curve(0.91), "1": curve(0.93), "2": curve(0.95)},
        },
    }
    page = "\n".join(tables.page(results))
    assert "| EN | 91.00 | 93.00 | 95.00 | **93.00** | 2.00 | 93.00 |" in page
    assert "| EN - BN | +2.00 | -0.48 to +4.48 |" in page
    assert "| norm | 0.25 | 0.25 | 0.50 |" in page
    assert "results compare with each other only" in page
    assert "Not finished" not in page and "none is tuned" in page
    tops = {"bn": {"0.1": 0.5, "0.2": 0.75}, "en": {"0.1": 0.625, "0.2": 0.25}}
    search = {"epochs": 8, "seed": 100, "images": [40, 10], "accuracy": tops}
    page = "\n".join(tables.page({**results, "search": search}))
    assert "| BN | 50.00 | **75.00** |" in page
    assert "| EN | **62.50** | 25.00 |" in page


@pytest.mark.skipif(
    "KERAS_EN_SLOW" not in os.environ, reason="a minute of compiling: KERAS_EN_SLOW=1"
)
def test_a_training_on_the_device_learns(rng, tmp_path):
    """Two seeds of the smallest network on images that differ by a colour."""
    arrays = {}
    for split, count in (("train", 96), ("test", 32)):
        labels = np.arange(count) % 3
        images = rng.integers(0, 60, (count, 16, 16, 3))
        images[np.arange(count), ..., labels] += 150
        arrays |= {f"x_{split}": images.astype("uint8"), f"y_{split}": labels}
    np.savez(tmp_path / "images.npz", **arrays)
    command = [sys.executable, "benchmarks/accuracy/device.py"]
    command += [str(tmp_path / "images.npz"), "--out", str(tmp_path / "results")]
    command += ["--arms", "bn", "--ways", "dense", "--seeds", "0", "1"]
    command += ["--search", "0.0001", "0.1", "--search-epochs", "2"]
    command += ["--epochs", "6", "--every", "2", "--set", "data.batch_size=16"]
    command += ["network.arguments.depth=8"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True)
    assert not done.returncode, done.stdout.decode() + done.stderr.decode()
    results = json.loads((tmp_path / "results/accuracy.json").read_text())
    assert results["finished"] and results["epochs"] == 6 and not results["failures"]
    assert results["search"]["images"] == [64, 32]
    assert results["search"]["best"] == {"bn": 0.1}
    curves = results["curves"]["bn"]
    assert [row["epoch"] for row in curves["0"]] == [2, 4, 6]
    for rows in curves.values():
        assert rows[-1]["by batches"] > 0.9
        assert rows[-1]["loss"] < rows[0]["loss"]
    assert curves["0"] != curves["1"]
    with np.load(tmp_path / "results/weights_bn.npz") as weights:
        first = weights["stem_conv/kernel"]
        assert first.shape == (2, 3, 3, 3, 16) and (first[0] != first[1]).any()

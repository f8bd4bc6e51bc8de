"""Networks that take text: right exports pass, wrong ones fail."""

import keras
import numpy as np
import pytest

from keras_en import export
from keras_en.export.parity.cases import cases
from tests.export.networks import randomized

pytestmark = pytest.mark.tensorflow
WORDS = ["the", "cat", "sat", "mat"]


def network(words=WORDS):
    layers = keras.layers
    tokens = layers.TextVectorization(output_sequence_length=6, vocabulary=words)
    inputs = keras.Input((1,), dtype="string")
    x = layers.Embedding(len(words) + 2, 8)(tokens(inputs))
    x = layers.BatchNormalization()(x)
    x = layers.Dense(3)(layers.GlobalAveragePooling1D()(x))
    return randomized(keras.Model(inputs, x, name="texts"))


def test_by_hand():
    inputs = {"text": ("string", [None, 2]), "n": ("float32", [None, 3])}
    drawn = cases(inputs, [4], None, seed=0, words=["cat"])
    kinds = {case.name: case for case in drawn}
    assert list(kinds) == [
        *("random, batch 4", "empty texts", "unknown words", "not ASCII"),
        *("constant, batch 4", "offset, batch 4"),
    ]
    random = kinds["random, batch 4"].inputs
    assert random["text"].shape == (4, 2) and random["n"].shape == (4, 3)
    assert all(isinstance(text, bytes) for text in random["text"].flat)
    assert b"cat" in b" ".join(random["text"].flat)
    assert set(kinds["empty texts"].inputs["text"].flat) == {b""}
    strange = kinds["not ASCII"].inputs["text"][0, 0].decode()
    assert not strange.isascii()


def test_right_and_wrong(tmp_path):
    model = network()
    path = export.export_saved_model(model, tmp_path)
    report = export.verify(model, path, batches=(1, 9))
    assert report.passed, report.failures
    reasons = {c.name: c.detail for c in report.checks if c.status == "not run"}
    assert reasons["C program"] == "the C program reads no text"
    assert reasons["constant, offset"].startswith("inputs are texts, which")

    other = network(["the", "sat", "cat", "mat"])
    other.set_weights(model.get_weights())
    report = export.verify(other, path, batches=(1, 9))
    failures = {check.name for check in report.failures}
    assert {"random, batch 9", "Python loader"} <= failures
    # Words that neither has are the same to both.
    assert not {"empty texts", "unknown words"} & failures


def test_texts_that_come_out(tmp_path):
    words = keras.layers.StringLookup(vocabulary=["a", "b"], invert=True)
    inputs = keras.Input((2,), dtype="int64")
    model = keras.Model(inputs, words(inputs))
    path = export.export_saved_model(model, tmp_path)
    np.testing.assert_equal(
        export.run_saved_model(path, np.array([[1, 2]])), [[b"a", b"b"]]
    )
    with pytest.raises(ValueError, match="texts cannot be compared. Received: "):
        export.verify(model, path)

"""Bad input: the message names the argument, what is allowed, what was received."""

import keras
import numpy as np
import pytest

from keras_en import ExemplarNormalization
from tests import backends


def test_a_message_by_hand():
    with pytest.raises(ValueError) as error:
        ExemplarNormalization(groups=0)
    assert "`groups`" in str(error.value), "the argument"
    assert "at least 1" in str(error.value), "what is allowed"
    assert "Received: groups=0" in str(error.value)


@pytest.mark.parametrize(
    "arguments, error, message",
    [
        (
            {"normalizers": ["batch", "weight"]},
            ValueError,
            r"`normalizers` must be a non-empty choice.*'instance', 'layer', 'group', "
            r"'batch'.*Received: normalizers=\('batch', 'weight'\)",
        ),
        (
            {"normalizers": ["batch", "batch"]},
            ValueError,
            "without duplicates.*Received",
        ),
        ({"normalizers": []}, ValueError, r"non-empty.*Received: normalizers=\(\)"),
        (
            {"normalizers": "batch"},
            TypeError,
            "`normalizers` must be None, a list or a tuple.*Received: .*'batch'",
        ),
        ({"axis": 0}, ValueError, "`axis` must be .* other than 0.*Received: axis=0"),
        ({"axis": [1, 2]}, TypeError, r"`axis` must be an integer.*axis=\[1, 2\]"),
        ({"axis": 1.0}, TypeError, "`axis` must be an integer.*Received: axis=1.0"),
        ({"groups": 0}, ValueError, "`groups` must be .* at least 1.*groups=0"),
        ({"expansion": 0}, ValueError, "`expansion` must be .*Received: expansion=0"),
        ({"expansion": "50"}, TypeError, "`expansion` must be .*expansion='50'"),
        ({"reduction": "none"}, ValueError, '"auto" or None.*Received: reduction='),
        ({"reduction": 0}, ValueError, "`reduction` must be .*Received: reduction=0"),
        (
            {"reduction": 2.5},
            TypeError,
            "`reduction` must be .*Received: reduction=2.5",
        ),
        (
            {"reduction": None, "ratio_head": "mlp"},
            ValueError,
            '`reduction` must be an integer or "auto" with ratio_head="mlp"',
        ),
        ({"ratio_head": "conv"}, ValueError, '"correlation" or "mlp".*ratio_head='),
        ({"momentum": None}, TypeError, "`momentum` must be a number.*=None"),
        ({"epsilon": "x"}, TypeError, "`epsilon` must be a number, positive.*='x'"),
        ({"momentum": 1.5}, ValueError, r"`momentum` must be in \[0, 1\].*=1.5"),
        ({"epsilon": 0.0}, ValueError, "`epsilon` must be positive.*epsilon=0.0"),
        (
            {"initial_ratios": {"batch": 0.7, "layer": 0.7}},
            ValueError,
            "`initial_ratios` must hold shares .* at most 1.*Received: initial_ratios=",
        ),
        ({"initial_ratios": {"batch": -0.1}}, ValueError, r"shares in \[0, 1\]"),
        ({"initial_ratios": {"batch": "0.9"}}, ValueError, r"shares in \[0, 1\]"),
        ({"initial_ratios": [0.9]}, TypeError, "must be None or a dictionary"),
        (
            {"initial_ratios": {"group": 0.9}, "normalizers": ["layer", "batch"]},
            ValueError,
            r"may name \['layer', 'batch'\] only, and \['group'\] is not among them",
        ),
        (
            {"initial_ratios": {"batch": 0.9}, "normalizers": ["batch"]},
            ValueError,
            "and to 1 if every normalizer is named",
        ),
        ({"ratio_activation": "no_such"}, ValueError, "no_such"),
        (
            {"ratio_activation": "glu"},
            ValueError,
            r"`ratio_activation` must be element-wise.*=glu, which makes \(1, 4\)",
        ),
        ({"epsilon": 1e-30}, ValueError, "`epsilon` must be .* 1e-20.*epsilon=1e-30"),
    ],
)
def test_bad_arguments(arguments, error, message):
    with pytest.raises(error, match="(?s)" + message):
        ExemplarNormalization(**arguments)


@pytest.mark.parametrize(
    "arguments, shape, message",
    [
        (
            {"reduction": 5},
            (None, 4, 4, 16),
            r"`reduction` must divide.*16.*\[4, 8\].*=5",
        ),
        ({"reduction": 64}, (None, 4, 4, 16), r"nearest divisors are \[16\]"),
        (
            {"normalizers": ["group"], "groups": 5},
            (None, 4, 4, 16),
            r"`groups` must divide the number of channels, 16; .*\[4, 8\].*groups=5",
        ),
        (
            {"axis": 4},
            (None, 4, 4, 16),
            "`axis` must be between -3 and 3, and not 0.*=4",
        ),
        ({"axis": -4}, (None, 4, 4, 16), "`axis` must be between -3 and 3.*axis=-4"),
        ({}, (None,), r"`inputs` must be of rank 2 to 5.*inputs.shape=\(None,\)"),
        ({}, (None, 2, 2, 2, 2, 8), "`inputs` must be of rank 2 to 5"),
        (
            {},
            (None, 4, 4, None),
            "`inputs` must be of a defined size on the channel axis",
        ),
        (
            {"normalizers": ["instance", "batch"]},
            (None, 8),
            '`normalizers` must be without "instance" for inputs of rank 2',
        ),
        ({"initial_ratios": {"instance": 0.9}}, (None, 8), "may name .* only"),
    ],
)
def test_bad_shapes(arguments, shape, message):
    with pytest.raises(ValueError, match="(?s)(?=.*Received: )" + message):
        ExemplarNormalization(**arguments).build(shape)
    with pytest.raises(ValueError, match="(?s)" + message):
        ExemplarNormalization(**arguments)(keras.Input(batch_shape=shape))


@pytest.mark.parametrize("symbolic", [True, False])
def test_bad_calls(symbolic):
    def tensor(shape, dtype):
        if symbolic:
            return keras.Input(batch_shape=shape, dtype=dtype)
        return np.zeros(shape, dtype)

    with pytest.raises(TypeError, match="`inputs` must .*real.*inputs.dtype=complex64"):
        ExemplarNormalization()(tensor((2, 4, 8), "complex64"))
    for shape in ((2, 4, 8), (2, 5), (3, 4)):
        message = "`mask` must have the shape of `inputs` without the last axis. "
        message += rf"Received: mask.shape=\({str(shape)[1:-1]}\), inputs.shape="
        with pytest.raises(ValueError, match=message):
            ExemplarNormalization()(
                tensor((2, 4, 8), "float32"), mask=tensor(shape, "bool")
            )


def test_an_activation_of_ones_own_is_elementwise(rng):
    layer = ExemplarNormalization(ratio_activation=lambda units: units[:, :1])
    with pytest.raises(ValueError, match="`ratio_activation` must be element-wise"):
        layer(backends.images(rng))


@pytest.mark.tensorflow
def test_ragged_inputs_are_refused():
    import tensorflow as tf

    rows = tf.RaggedTensor.from_row_lengths(tf.zeros((3, 4)), [1, 2])
    message = "'norm' must be a dense tensor: pass `inputs.to_tensor.*: a ragged"
    layer = ExemplarNormalization(name="norm")
    layer.build((None, None, 4))
    for inputs in (rows, keras.Input((None, 4), ragged=True)):
        with pytest.raises(TypeError, match=message):
            layer(inputs)


@pytest.mark.parametrize(
    "clipping, message",
    [
        ({"max": 1.0}, "invalid keys for `renorm_clipping`.*'max'.*Supported values"),
        ({"rmax": 1.0, "rmin": 2.0}, "rmax should be.*Received: rmax=1.0, rmin=2.0"),
        ({"dmax": -1.0}, "dmax should be non-negative.*Received: dmax=-1.0"),
    ],
)
def test_limits_of_renorm(clipping, message):
    """In the words of BatchNormalization."""
    for layer in (ExemplarNormalization, keras.layers.BatchNormalization):
        with pytest.raises(ValueError, match=message.split(".*Received")[0]):
            layer(renorm=True, renorm_clipping=clipping)
    with pytest.raises(ValueError, match=message):
        ExemplarNormalization(renorm=True, renorm_clipping=clipping)


@pytest.mark.skipif(backends.BACKEND != "torch", reason="allowed on other backends")
def test_torch_has_no_synchronized_statistics():
    with pytest.raises(ValueError, match="`synchronized` must be False on the torch"):
        ExemplarNormalization(synchronized=True)

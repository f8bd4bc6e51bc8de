"""The heads that compute the importance ratios `lambda[n, k]` (Sec. 3.3).

Symbols: `N` samples, `K` normalizers, `C` channels, `r` the reduction, `pi` the
expansion. Pure functions; the layer holds the weights.
"""

import functools
import math
import operator
from numbers import Real

import keras
from keras import ops

from keras_en import arguments
from keras_en.ops import rows, tracing
from keras_en.ops.gradients import vjp
from keras_en.ops.platforms import matmul

# A share of 0 has no finite logit. No float32 output can tell this one from 0.
SMALLEST_SHARE = 1e-8


def correlation(x_hat, conv, reduction):
    """Steps 1 and 2 of Sec. 3.3: grouped convolution, pairwise correlations.

    `z[n, k, g] = sum_j conv[g r + j] x_hat[n, k, g r + j]`, `v = z z^T`.

    Args:
        x_hat: `(N, K, C)`, pooled and pre-normalized features.
        conv: `(C,)`, shared by the `K` rows, or `None` for no convolution (Table 9b).
        reduction: `r`, divides `C`; ignored without `conv`.

    Returns:
        `v`, flattened to `(N, K * K)`, and `z`, `(N, K, C / r)`.
    """
    k, channels = x_hat.shape[1:]
    z = x_hat
    if conv is not None:
        channels //= reduction
        z = ops.sum(ops.reshape(x_hat * conv, (-1, k, channels, reduction)), axis=3)
    # Not a matrix product: TensorFlow's is made for large ones (340 us against 20).
    left, right = _facing(z)
    v = ops.sum(left * right, axis=3)  # (N, K, K)
    return ops.reshape(v, (-1, k * k)), z


def _facing(z):
    k, channels = z.shape[1:]
    return ops.reshape(z, (-1, k, 1, channels)), ops.reshape(z, (-1, 1, k, channels))


def correlation_backward(x_hat, conv, z, upstream):
    """The gradients by `x_hat` and `conv` (or `None`), given the one by the `v` that
    `correlation` makes of them."""
    k, channels = z.shape[1:]
    upstream = ops.reshape(upstream, (-1, k, k, 1))
    both = upstream + ops.transpose(upstream, (0, 2, 1, 3))
    dz = ops.sum(both * _facing(z)[1], axis=2)  # (N, K, C / r)
    if conv is None:
        return dz, None
    dz = ops.reshape(dz, (-1, k, channels, 1))
    grouped = ops.reshape(x_hat, (-1, k, channels, conv.shape[0] // channels))
    d_conv = ops.reshape(rows.total(ops.sum(dz * grouped, axis=1)), conv.shape)
    d_grouped = dz * ops.reshape(conv, (channels, -1))
    return ops.reshape(d_grouped, (-1, *x_hat.shape[1:])), d_conv


def perceptron(features, weights, activation):
    """Step 3 of Sec. 3.3: `lambda = softmax(f(features W1 + b1) W2 + b2)`.

    Args:
        features: `(N, F)`.
        weights: With the tensors `ratio_hidden_kernel` `(F, H)`, `ratio_hidden_bias`
            `(H,)`, `ratio_output_kernel` `(H, K)` and `ratio_output_bias` `(K,)`.
        activation: `f`.

    Returns:
        Ratios `(N, K)`, each in [0, 1], each row summing to 1; and the units before
        and behind `f`, `(N, H)`.
    """
    units = matmul(features, weights.ratio_hidden_kernel)
    units = units + weights.ratio_hidden_bias
    active = _activate(activation, units)
    logits = matmul(active, weights.ratio_output_kernel)
    return softmax(logits + weights.ratio_output_bias), (units, active)


def _activate(activation, units):
    # On JAX `keras.ops.tanh` computes float64 in float32.
    return ops.cast(check_elementwise(activation, units), units.dtype)


def check_elementwise(activation, units):
    """`activation(units)`.

    Raises:
        ValueError: It has another shape than `units`, as that of `glu` has.
    """
    active = activation(units)
    if tuple(active.shape) != tuple(units.shape):
        name = getattr(activation, "__name__", repr(activation))
        raise ValueError(
            "Argument `ratio_activation` must be element-wise: its output has the "
            f"shape of its input. Received: ratio_activation={name}, which makes "
            f"{tuple(active.shape)} of {tuple(units.shape)}"
        )
    return active


def perceptron_backward(features, weights, activation, shares, units, upstream):
    """The gradients by `features`, and by the four tensors of `weights` in their order,
    given the one by the ratios, `shares`, that `perceptron` makes of them."""
    units, active = units
    product = shares * upstream
    d_logits = product - shares * _row_totals(product)
    d_active = matmul(d_logits, ops.transpose(weights.ratio_output_kernel))
    activate = functools.partial(_activate, activation)
    (d_units,) = vjp(activate, [units], d_active)
    return matmul(d_units, ops.transpose(weights.ratio_hidden_kernel)), (
        matmul(ops.transpose(features), d_units),
        rows.total(d_units),
        matmul(ops.transpose(active), d_logits),
        rows.total(d_logits),
    )


def softmax(logits):
    """The softmax of each row of `(N, K)`.

    `keras.ops.softmax` becomes a oneDNN kernel on TensorFlow, which takes 100 to 200
    us for a few rows; these take 15.
    """
    # Whatever is subtracted, the result is the same: it needs no derivative.
    if _by_columns():
        columns = _columns(logits)
        top = functools.reduce(ops.maximum, map(ops.stop_gradient, columns))
        powers = [ops.exp(column - top) for column in columns]
        total = functools.reduce(operator.add, powers)
        return ops.concatenate([power / total for power in powers], axis=1)
    # `initial`: without it Keras refuses an empty batch.
    top = ops.max(logits, axis=1, keepdims=True, initial=-math.inf)
    powers = ops.exp(logits - ops.stop_gradient(top))
    return powers / ops.sum(powers, axis=1, keepdims=True)


def _by_columns():
    """Whether rows of ratios are not to be reduced.

    A reduction of rows that meets the rows again is a softmax to XLA for GPUs, which
    searches tiles of a Triton kernel for it and for what is around it: minutes for
    Switchable Normalization in a ResNet-20. On a TPU, and in TensorFlow, each column
    has kernels of its own.
    """
    return keras.backend.backend() == "jax" and tracing.platform() == "gpu"


def _columns(values):
    """The columns of `(N, K)`, each `(N, 1)`."""
    return [values[:, k : k + 1] for k in range(values.shape[1])]


def _row_totals(values):
    """The sum of each row of `(N, K)`, `(N, 1)`."""
    if _by_columns():
        return functools.reduce(operator.add, _columns(values))
    return ops.sum(values, axis=1, keepdims=True)


def resolve_reduction(reduction, channels):
    """The `r` for `channels`: `"auto"` is the largest divisor not above
    `min(32, channels // 2)`, at least 1.

    Raises:
        ValueError: `reduction` does not divide `channels`.
    """
    if reduction == "auto":
        limit = max(1, min(32, channels // 2))
        return max(d for d in range(1, limit + 1) if channels % d == 0)
    if reduction is not None:
        arguments.divisor("reduction", reduction, channels)
    return reduction


def complete_shares(initial_ratios, normalizers):
    """One share a normalizer: those of `initial_ratios`, the rest in equal parts.

    Args:
        initial_ratios: Dictionary from normalizer to its share in [0, 1].
        normalizers: Names, in the order of the result.

    Returns:
        List of `K` floats that sum to 1.

    Raises:
        ValueError: A name is not in `normalizers`, a share is outside [0, 1], or
            the shares sum to more than 1 (or to less, with none left to share).
    """
    valid = isinstance(initial_ratios, dict)
    allowed = "None or a dictionary from normalizer to its share"
    arguments.check(valid, "initial_ratios", allowed, initial_ratios, kind=TypeError)
    absent = [name for name in initial_ratios if name not in normalizers]
    if absent:
        raise ValueError(
            f"Argument `initial_ratios` may name {list(normalizers)} only, and "
            f"{absent} is not among them. Received: initial_ratios={initial_ratios}"
        )
    rest = len(normalizers) - len(initial_ratios)
    valid = all(
        isinstance(share, Real) and 0 <= share <= 1 for share in initial_ratios.values()
    )
    total = math.fsum(initial_ratios.values()) if valid else math.nan
    if not valid or total > 1 + 1e-6 or (rest == 0 and total < 1 - 1e-6):
        raise ValueError(
            "Argument `initial_ratios` must hold shares in [0, 1] that sum to at "
            "most 1, and to 1 if every normalizer is named. "
            f"Received: initial_ratios={initial_ratios}"
        )
    left = max(0.0, 1.0 - total) / max(1, rest)
    return [initial_ratios.get(name, left) for name in normalizers]


def logits(shares):
    """Softmax logits of `shares`; a share of 0 becomes `SMALLEST_SHARE`."""
    return [math.log(max(share, SMALLEST_SHARE)) for share in shares]


def switch_softmax(logits):
    """The softmax of `(K,)`: ratios of Switchable Normalization."""
    return softmax(logits[None])[0]


def circumradius(k):
    """The distance from the center of the simplex of `K` ratios to its corners,
    `sqrt((K - 1) / K)`: at this radius one ratio is 1."""
    return math.sqrt((k - 1) / k)


def sparsestmax(logits, radius):
    """The nearest ratios that are at least `radius` away from equal ones.

    `argmin_p |p - z|` over `p >= 0`, `sum_k p_k = 1`, `|p - 1 / K| >= r`    (Shao et
    al. 2019, Eq. 4; with `r = 0` sparsemax)

    It is the projection of `t z` onto the simplex, for the least `t >= 1` that leads
    out of the sphere, inside which `p z` decides alone. On the support `S` of its `s`
    positive ratios, `p = 1 / s + t (z - mean_S z)`, whose squares sum to
    `1 / s + t^2 sum_S (z - mean_S z)^2`. A ratio that is not positive on a larger
    support, whose `t` is never above the right one, is 0 on the right one: so `K - 1`
    steps find it. (For `K = 3` and `t > 1` the paper's Algorithm 1.)

    Logits that are equal on the support have no unique nearest point: their ratios
    are then equal, nearer than `radius`, and have no derivative.

    Args:
        logits: `z`, `(K,)`.
        radius: `r`, a scalar tensor in [0, `circumradius(K)`].

    Returns:
        Ratios `(K,)`.
    """
    # Not `keras.ops.sparsemax`, which is wrong for more than one positive ratio.
    (k,) = logits.shape
    least = ops.square(radius) + 1 / k  # of the squares of ratios
    support = ops.ones_like(logits)
    for _ in range(k):
        count = ops.sum(support)
        center = ops.sum(logits * support) / count
        deviation = (logits - center) * support
        length = ops.sum(ops.square(deviation))
        inside = ops.logical_and(length > 0, length < least - 1 / count)
        # Chosen before the square root, whose derivative is infinite at 0.
        ratio = (least - 1 / count) / ops.where(inside, length, 1)
        scale = ops.sqrt(ops.where(inside, ratio, 1))
        shares = support / count + scale * deviation
        support = ops.cast(shares > 0, logits.dtype)
    return shares

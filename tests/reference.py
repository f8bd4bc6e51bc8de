"""Exemplar Normalization in NumPy float64: the oracle the layer is tested against.

    y_n = sum_k [ gamma_k * lambda_nk * (x_n - mu_k) / sqrt(var_k + epsilon) + beta_k ]

(Zhang et al., "Exemplar Normalization for Learning Deep Representation", Eq. 3),
where lambda_n = F(x_n, {mu_k, var_k}) (Eq. 4) are softmax ratios, one per sample
and normalizer. F is Sec. 3.3, or one of its ablations in Table 9:

    x      (N, C)     spatial mean of the input
    x_hat  (N, K, C)  (x - mu_k) / sqrt(var_k + epsilon)
    z      (N, K, C/r)  z[n,k,g] = sum_{j<r} ratio_conv[g*r + j] * x_hat[n,k,g*r + j]
    v      (N, K*K)   z z^T, row by row
    lambda (N, K)     softmax(dense(activation(dense(v))))

The equations are written as printed: K normalized tensors, every mean and biased
variance taken directly from the input over its own axes. Nothing is shared,
folded or merged, so that a mistake in such a step of the layer cannot hide here.

Everything is holomorphic (no abs, conj or np.var, and decisions are made on real
parts), which is what lets `gradients` differentiate by the complex step.
"""

from typing import NamedTuple

import numpy as np

# Its square vanishes beside any float64, so the complex step has no truncation
# error, and without a difference of two losses it has no cancellation either.
COMPLEX_STEP = 1e-30

ACTIVATIONS = {
    "tanh": np.tanh,
    "relu": lambda t: np.where(t.real > 0, t, 0.0),
    "linear": lambda t: t,
}


class Result(NamedTuple):
    outputs: np.ndarray  # the shape of x
    ratios: np.ndarray  # (N, K)
    batch_mean: np.ndarray  # (C,)
    batch_variance: np.ndarray  # (C,)


def double(value):
    value = np.asarray(value)
    return value.astype(np.result_type(value, np.float64))


def _moments(x, valid, axes):
    """Mean and biased variance over `axes`, which stay with size 1, where `valid`;
    0, 0 if nowhere."""
    count = np.maximum(valid.sum(axis=axes, keepdims=True), 1)
    # Selected, not multiplied by 0: a NaN or infinity under the mask must not enter.
    x = np.where(valid, x, 0.0)
    mean = x.sum(axis=axes, keepdims=True) / count
    squares = np.where(valid, (x - mean) ** 2, 0.0)
    return mean, squares.sum(axis=axes, keepdims=True) / count


def _group_moments(x, valid, groups):
    channels = x.shape[-1]
    if groups < 1 or channels % groups:
        raise ValueError(f"groups must divide {channels} channels. Received: {groups}")
    size = channels // groups
    split = x.shape[:-1] + (groups, size)  # (N, spatial..., G, C/G)
    axes = tuple(range(1, x.ndim - 1)) + (x.ndim,)
    moments = _moments(x.reshape(split), valid.reshape(split), axes)
    # (N, 1..., G, 1) -> (N, 1..., G) -> (N, 1..., C)
    return tuple(np.repeat(moment[..., 0], size, axis=-1) for moment in moments)


def softmax(logits):
    exponentials = np.exp(logits - logits.real.max(axis=-1, keepdims=True))
    return exponentials / exponentials.sum(axis=-1, keepdims=True)


def _correlations(x_hat, weights, reduction):
    n, k, c = x_hat.shape
    z = x_hat
    if reduction is not None:
        conv = weights["ratio_conv"].reshape(c // reduction, reduction)  # (C/r, r)
        grouped = x_hat.reshape(n, k, c // reduction, reduction)  # (N, K, C/r, r)
        z = (grouped * conv).sum(axis=-1)  # (N, K, C/r)
    return (z @ z.transpose(0, 2, 1)).reshape(n, k * k)  # (N, K, K) -> (N, K*K)


def statistics(x, axis, normalizers, groups, mask, batch_statistics):
    """What every mixture starts from; arguments as in `exemplar_normalization`.

    Returns:
        `x` with its channels last; where statistics see it, of its shape; mean and
        variance of each normalizer; and those of the batch, (C,) each.
    """
    x = double(x)
    if axis in (0, -x.ndim):
        raise ValueError(f"The batch cannot be the channel axis. Received: {axis}")
    if x.ndim == 2 and "instance" in normalizers:
        raise ValueError(f"Rank 2 has no instance statistics. Received: {normalizers}")

    mask = np.asarray(np.ones(x.shape[:-1]) if mask is None else mask, dtype=bool)
    if mask.shape != x.shape[:-1]:
        raise ValueError(f"The mask lacks only the last axis. Received: {mask.shape}")
    valid = np.broadcast_to(mask[..., None], x.shape)
    x, valid = (np.moveaxis(t, axis, -1) for t in (x, valid))  # (N, spatial..., C)
    c, spatial = x.shape[-1], tuple(range(1, x.ndim - 1))

    batch = [moment.reshape(c) for moment in _moments(x, valid, (0,) + spatial)]
    if batch_statistics is None:
        batch_statistics = batch
    statistics_of = {
        "instance": lambda: _moments(x, valid, spatial),
        "layer": lambda: _moments(x, valid, spatial + (x.ndim - 1,)),
        "group": lambda: _group_moments(x, valid, groups),
        "batch": lambda: [double(moment).reshape(c) for moment in batch_statistics],
    }
    return x, valid, [statistics_of[name]() for name in normalizers], batch


def exemplar_normalization(
    x,
    weights,
    *,
    axis=-1,
    normalizers=("instance", "layer", "batch"),
    epsilon=1e-3,
    groups=32,
    reduction,
    ratio_head="correlation",
    ratio_activation="tanh",
    share_affine=False,
    mask=None,
    batch_statistics=None,
):
    """Eqs. 3 and 4 on `x`: batch first, channels at `axis`, rank 2 to 5.

    Args:
        weights: arrays by name, rows in the order of `normalizers`: `gamma`, `beta`
            (K, C), or (C,) with `share_affine`, either may be missing; `ratio_conv`
            (C,), unless `reduction` is None; `ratio_hidden_kernel` (K*K, pi*K),
            `ratio_hidden_bias`, `ratio_output_kernel` (pi*K, K),
            `ratio_output_bias`. The "mlp" head of Table 9a maps the spatial mean
            itself, C -> C/r -> K, with the last four.
        reduction: r, or None for no convolution (Table 9b).
        mask: None, or booleans in x's shape without its last axis, as Keras sends
            them, wherever the channels are. Statistics see True positions only; all
            positions are normalized.
        batch_statistics: None to use this batch's own (training), or the pair
            (moving_mean, moving_variance) to use instead (inference, frozen).
    """
    weights = {name: double(w) for name, w in weights.items()}
    x, valid, omega, batch = statistics(
        x, axis, normalizers, groups, mask, batch_statistics
    )
    n, c, k = x.shape[0], x.shape[-1], len(normalizers)
    spatial = tuple(range(1, x.ndim - 1))

    def normalize(values):
        return [(values - mean) / np.sqrt(var + epsilon) for mean, var in omega]

    pooled, _ = _moments(x, valid, spatial)  # (N, 1..., C)
    if ratio_head == "correlation":
        # K of (N, 1..., C) -> (N, K, C)
        x_hat = np.stack([p.reshape(n, c) for p in normalize(pooled)], axis=1)
        features = _correlations(x_hat, weights, reduction)
    elif ratio_head == "mlp":
        features = pooled.reshape(n, c)  # (N, C)
    else:
        raise ValueError(f"Unknown ratio head. Received: {ratio_head}")
    hidden = features @ weights["ratio_hidden_kernel"] + weights["ratio_hidden_bias"]
    hidden = ACTIVATIONS[ratio_activation](hidden)
    logits = hidden @ weights["ratio_output_kernel"] + weights["ratio_output_bias"]
    ratios = softmax(logits)  # (N, K)

    # A (C,) array where (K, C) is meant would broadcast to a plausible, wrong answer.
    affine = (c,) if share_affine else (k, c)
    gamma = weights.get("gamma", np.ones(affine))
    beta = weights.get("beta", np.zeros(affine))
    for name, weight in (("gamma", gamma), ("beta", beta)):
        if weight.shape != affine:
            raise ValueError(f"{name} must be {affine}. Received: {weight.shape}")

    lambdas = ratios.T.reshape(k, n, *[1] * (x.ndim - 1))  # (N, K) -> (K, N, 1...)
    weighted = [lambdas[i] * tensor for i, tensor in enumerate(normalize(x))]
    if share_affine:
        outputs = gamma * sum(weighted) + beta
    else:
        outputs = sum(gamma[i] * weighted[i] + beta[i] for i in range(k))
    outputs = np.moveaxis(outputs, -1, axis)
    return Result(outputs, ratios, *batch)


def gradients(x, weights, cotangent, normalization=exemplar_normalization, **options):
    """d sum(outputs * cotangent) with respect to x and every weight: (dx, {name: dw}).

    `options` are those of `normalization`; `batch_statistics` are constants.
    """
    arguments = {"x": x, **weights}
    derivatives = {}
    for name, value in arguments.items():
        value = np.asarray(value, dtype=np.float64)
        derivatives[name] = np.empty_like(value)
        for index in np.ndindex(value.shape):
            nudged = value.astype(np.complex128)
            nudged[index] += 1j * COMPLEX_STEP
            inputs = {**arguments, name: nudged}
            outputs = normalization(inputs.pop("x"), inputs, **options).outputs
            derivatives[name][index] = np.sum(outputs.imag / COMPLEX_STEP * cotangent)
    return derivatives.pop("x"), derivatives


def moving_update(moving, batch, momentum):
    """Keras's rule; `batch` variances stay biased, as everywhere else."""
    return moving * momentum + batch * (1.0 - momentum)

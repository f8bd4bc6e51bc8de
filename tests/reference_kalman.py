"""Batch Kalman Normalization in NumPy float64: the oracle of its layers.

Of each micro-batch, with `m`, `v` its mean and biased variance over all but channels,
and a prediction `pm`, `pv` of both:

    mean = p pm + (1 - p) m
    var = p pv + (1 - p) v + p (1 - p) (m - pm)^2       if mean_c(pv / v) < 100
    mean, var = m, v                                    otherwise, or without prediction
    y = gamma (x - mean) / sqrt(var + epsilon) + beta

The prediction for the normalization behind a convolution is the moments of what the
convolution makes of `relu(z sqrt(var) + mean)`, an image of normal noise `z` for each
micro-batch; that for a sum is the sum of means and the sum of variances.

One micro-batch, channel, pixel of a kernel at a time, wherever that is affordable; and
holomorphic, as `tests/reference.py`.
"""

from typing import NamedTuple

import numpy as np

from tests.reference import double, softmax


class Result(NamedTuple):
    outputs: np.ndarray  # the shape of x
    mean: np.ndarray  # (split, C)
    variance: np.ndarray  # (split, C)


def own_moments(part):
    """Mean and biased variance of each channel of `(n, spatial..., C)`."""
    mean, variance = [], []
    for channel in np.moveaxis(part, -1, 0):
        center = channel.sum() / channel.size
        mean.append(center)
        variance.append(((channel - center) ** 2).sum() / channel.size)
    return np.array(mean), np.array(variance)


def fuse(m, v, pm, pv, p):
    """Mean and variance of one micro-batch, `(C,)` each."""
    with np.errstate(divide="ignore", invalid="ignore"):
        trusted = (pv.real / v.real).sum() / len(v) < 100
    if not trusted:
        return m, v
    mean = p * pm + (1 - p) * m
    return mean, p * pv + (1 - p) * v + p * (1 - p) * (m - pm) ** 2


def kalman_normalization(x, weights, *, split, p, epsilon=1e-3, axis=-1):
    """What training makes of `x`: batch first, channels at `axis`.

    Args:
        weights: arrays by name: `gamma`, `beta` (C,); `predicted_mean` and
            `predicted_variance` (split, C), or neither.
    """
    weights = {name: double(w) for name, w in weights.items()}
    x = np.moveaxis(double(x), axis, -1)
    outputs, means, variances = [], [], []
    for i, part in enumerate(np.split(x, split)):
        mean, variance = own_moments(part)
        if "predicted_mean" in weights:
            prediction = weights["predicted_mean"][i], weights["predicted_variance"][i]
            mean, variance = fuse(mean, variance, *prediction, p)
        normalized = (part - mean) / np.sqrt(variance + epsilon)
        outputs.append(weights["gamma"] * normalized + weights["beta"])
        means.append(mean)
        variances.append(variance)
    outputs = np.moveaxis(np.concatenate(outputs), -1, axis)
    return Result(outputs, np.array(means), np.array(variances))


def relu(x):
    return np.where(x.real > 0, x, 0)


def convolution(x, kernel, stride=1):
    """`(N, H, W, C)` with `(size, size, C, D)`, `size // 2` zeros on every side."""
    size = kernel.shape[0]
    margin = size // 2
    padded = np.pad(x, ((0, 0), (margin, margin), (margin, margin), (0, 0)))
    rows, columns = (-(-n // stride) for n in x.shape[1:3])
    result = 0
    for i in range(size):
        for j in range(size):
            there = padded[:, i:, j:][:, ::stride, ::stride][:, :rows, :columns]
            result = result + there @ kernel[i, j]
    return result


def image_moments(images):
    """Mean and variance of each image over its positions, `(split, C)`."""
    moments = [own_moments(image[None]) for image in images]
    return tuple(np.array(values) for values in zip(*moments, strict=True))


def preactivation_resnet(x, weights, noise, *, depth, split, p, epsilon=1e-3):
    """Probabilities of `x`, `(N, H, W, 3)`, in training, and the moments behind each
    normalization by its name.

    Args:
        weights: arrays by "layer/weight".
        noise: `z` of each layer that draws, by its name.
    """
    weights = {name: double(w) for name, w in weights.items()}
    moments = {}

    def normalize(x, prediction, name):
        arguments = {key: weights[f"{name}/{key}"] for key in ("gamma", "beta")}
        if prediction is not None:
            arguments |= {"predicted_mean": prediction[0]}
            arguments |= {"predicted_variance": prediction[1]}
        result = kalman_normalization(x, arguments, split=split, p=p, epsilon=epsilon)
        moments[name] = result.mean, result.variance
        return relu(result.outputs), moments[name]

    def drawn(name, mean, variance):
        spread = np.sqrt(variance)[:, None, None]
        return relu(noise[name] * spread + mean[:, None, None])

    def convolve(x, name, stride=1):
        return convolution(x, weights[f"{name}/kernel"], stride)

    x, prediction = convolve(double(x), "stem_conv"), None
    for stage in (1, 2, 3):
        for block in range(1, (depth - 2) // 6 + 1):
            name = f"stage{stage}_block{block}"
            stride = 2 if stage > 1 and block == 1 else 1
            inputs = x
            x, (mean, variance) = normalize(x, prediction, f"{name}_1_norm")
            images = drawn(f"{name}_1_sample", mean, variance)
            if stride == 2:
                inputs = convolve(x, f"{name}_shortcut_conv", stride)
                short = convolve(images, f"{name}_shortcut_conv", stride)
                mean, variance = image_moments(short)
            x = convolve(x, f"{name}_1_conv", stride)
            prediction = image_moments(convolve(images, f"{name}_1_conv", stride))
            x, second = normalize(x, prediction, f"{name}_2_norm")
            images = drawn(f"{name}_2_sample", *second)
            x = inputs + convolve(x, f"{name}_2_conv")
            more = image_moments(convolve(images, f"{name}_2_conv"))
            prediction = mean + more[0], variance + more[1]
    x, _ = normalize(x, prediction, "last_norm")
    pooled = x.sum(axis=(1, 2)) / (x.shape[1] * x.shape[2])
    logits = pooled @ weights["predictions/kernel"] + weights["predictions/bias"]
    return softmax(logits), moments

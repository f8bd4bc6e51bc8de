"""What ratios say, in numbers."""

from typing import Any, NamedTuple

import numpy as np

from keras_en.analysis.ratios import Ratios
from keras_en.arguments import check, check_installed, number

# Samples that distances between all pairs are computed of.
PAIRS = 2000


class Spread(NamedTuple):
    """How far ratios are apart in each layer, standard deviations `(L,)`.

    The variances of all normalizers are added up; `total^2 = within^2 + between^2`.

    - `total`: of all samples. 0: the layer treats all alike.
    - `within`: of the samples of a class. `between`: of the means of classes, each as
      often as it has samples. NaN without labels.
    """

    total: np.ndarray
    within: np.ndarray
    between: np.ndarray


class Separability(NamedTuple):
    """How well the ratios alone tell classes apart.

    - `accuracy`: of the 5 nearest other samples, by all ratios of all layers.
    - `chance`: share of the largest class.
    - `silhouette`: mean silhouette coefficient, from -1 to 1; NaN where no class has
      two samples, or there is one class.
    - `samples`: how many were used. `seed`: of their choice.
    """

    accuracy: float
    chance: float
    silhouette: float
    samples: int
    seed: int


def features(ratios: Ratios) -> np.ndarray:
    """`(N, columns)`: the ratios of each sample in all layers that have a row a
    sample and depend on it."""
    own = [
        values.astype("float32")
        for layer, values in zip(ratios.layers, ratios.values(), strict=True)
        if not layer.constant and len(values) == ratios.count
    ]
    return np.concatenate(own, axis=1) if own else np.zeros((ratios.count, 0))


def entropy(ratios: Ratios) -> np.ndarray:
    """`(L,)`: the entropy of the ratios, mean over samples (of the mean ratios where
    there are no samples), as a share of the largest, `log K`: 0 is a single
    normalizer, 1 all alike. A pool of one has 0."""
    values = ratios.means if ratios.samples is None else ratios.samples
    result = []
    for layer, rows in zip(ratios.layers, values, strict=True):
        rows = np.atleast_2d(rows).astype("float64")
        terms = -rows * np.log(np.maximum(rows, 1e-30))
        result.append(terms.sum(1).mean() / max(np.log(len(layer.pool)), 1e-30))
    return np.array(result)


def spread(ratios: Ratios) -> Spread:
    """The `Spread` of each layer."""
    total = np.nansum(ratios.deviation() ** 2, axis=-1)
    within = between = np.full(len(ratios), np.nan)
    if len(ratios.classes):
        shares = (ratios.counts / ratios.counts.sum())[:, None, None]
        means, variances = ratios.by_class(), ratios.class_deviation() ** 2
        absent = np.isnan(means).all(axis=(0, 2))
        center = (shares * means).sum(0)
        within, between = (
            np.where(absent, np.nan, np.nansum(shares * values, axis=(0, 2)))
            for values in (variances, (means - center) ** 2)
        )
    return Spread(*(np.sqrt(values) for values in (total, within, between)))


def separability(ratios: Ratios, seed: int = 0) -> Separability:
    """The `Separability` of the classes, of at most 2,000 samples.

    Raises:
        ValueError: There are no labels or no ratios of samples, or a single sample.
        RuntimeError: scikit-learn is not installed.
    """
    check_installed("Separability", ["sklearn"], "plot")
    from sklearn.metrics import silhouette_score
    from sklearn.neighbors import NearestNeighbors

    check(ratios.labels is not None, "labels", "the class of each sample", None)
    count = ratios.count
    check(count > 1, "ratios", "of two samples at least", count, "count")
    chosen = subset(ratios.count, PAIRS, seed)
    values, labels = features(ratios)[chosen], ratios.labels[chosen]  # type: ignore[index]
    classes, inverse, counts = np.unique(
        labels, return_inverse=True, return_counts=True
    )
    if not values.shape[1]:
        values = np.zeros((len(values), 1))
    neighbours = min(5, len(values) - 1)
    search = NearestNeighbors(n_neighbors=neighbours).fit(values)
    near = inverse[search.kneighbors(return_distance=False)]
    votes = (near[:, :, None] == np.arange(len(classes))).sum(1)
    silhouette = np.nan
    if 1 < len(classes) < len(labels) and counts.max() > 1:
        silhouette = float(silhouette_score(values, labels))
    accuracy = float((votes.argmax(1) == inverse).mean())
    chance = float(counts.max() / len(labels))
    return Separability(accuracy, chance, silhouette, len(labels), seed)


def subset(count: int, limit: int, seed: int) -> np.ndarray:
    """`limit` numbers below `count`, ascending, or all of them."""
    if count <= limit:
        return np.arange(count)
    return np.sort(np.random.default_rng(seed).choice(count, limit, replace=False))


def by_typicality(ratios: Ratios) -> dict[int, np.ndarray]:
    """For each class the numbers of its samples, the one first whose ratios are
    nearest to the mean of the class."""
    check(ratios.labels is not None, "labels", "the class of each sample", None)
    values, result = features(ratios), {}
    for label in ratios.classes.tolist():
        members = np.flatnonzero(ratios.labels == label)
        own = values[members]
        distance = ((own - own.mean(0)) ** 2).sum(1)
        result[label] = members[np.argsort(distance, kind="stable")]
    return result


def layers_to_freeze(ratios: Ratios, threshold: float = 0.01) -> list[str]:
    """The layers whose ratios hardly depend on the sample: did they become static?

    Their heads compute the same for every sample: `simplify` replaces some of them.

    >>> from keras_en.analysis.running import Layer
    >>> layers = [Layer("one", ("layer", "batch")), Layer("two", ("layer", "batch"))]
    >>> static, mixed = np.array([[0.1, 0.9]] * 2), np.array([[0.4, 0.6], [0.8, 0.2]])
    >>> layers_to_freeze(Ratios.of(layers, [static, mixed]))
    ['one']

    Args:
        ratios: `Ratios`.
        threshold: The largest standard deviation of a ratio over all samples.

    Returns:
        Paths, in the order of the network. A layer that is static by construction is
        not among them.

    Raises:
        ValueError, TypeError: `threshold` is no number of at least 0.
    """
    threshold = number("threshold", threshold, "at least 0")
    check(threshold >= 0, "threshold", "at least 0", threshold)
    largest = np.nanmax(ratios.deviation(), axis=1)
    return [
        layer.path
        for layer, value in zip(ratios.layers, largest, strict=True)
        if value <= threshold and not layer.constant
    ]


def short_names(ratios: Ratios) -> list[str]:
    """Paths without what all have in common, at their beginning and end."""
    paths = [layer.path for layer in ratios.layers]
    parts: list[Any] = [path.split("/") for path in paths]
    while len({p[0] for p in parts}) == 1 and min(map(len, parts)) > 1:
        parts = [p[1:] for p in parts]
    names = ["/".join(p) for p in parts]
    if len(names) > 1 and all(name.endswith("_norm") for name in names):
        names = [name.removesuffix("_norm") for name in names]
    return names

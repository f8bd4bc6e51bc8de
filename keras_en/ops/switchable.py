"""Eq. 2 folded: one mixture of statistics for all samples."""

from typing import NamedTuple

from keras import ops

from keras_en.ops import moments


class Switch(NamedTuple):
    """What is fixed about a layer's switch; the arguments of the layer.

    `y[n] = x[n] a[n] + b[n]`, with `a = gamma / sqrt(sum_k w'_k var_k + epsilon)` and
    `b = beta - a sum_k w_k mu_k`.

    - `pool`: tuple of `K` normalizers.
    - `ratios`: function from logits `(K,)`, and from the tensor "radius" if there is
      one, to ratios `(K,)`.
    """

    pool: tuple
    epsilon: float
    groups: int
    ratios: object

    # `ratios` is one of `keras_en.ratios`: layers of a kind may share a function.
    pure = True

    def fold(self, tensors, training=False):
        """Scale and shift of each sample, and `None` for ratios of its own.

        Args:
            tensors: Dictionary of tensors of one dtype: "mean" and "variance"
                `(N, C)`, those of each sample; "batch_mean" and "batch_variance"
                `(C,)` or `(1, C)`, if the pool holds "batch"; "gamma" and "beta"
                `(C,)`, if there are any; "mean_logits" and "variance_logits" `(K,)`,
                if `K > 1`; "radius" `()`, if `ratios` takes one.
            training: Not used; as `Mixture.fold`.

        Returns:
            `a` and `b`, `(N, C)`, and `None`.
        """
        t = tensors
        batch = t.get("batch_mean"), t.get("batch_variance")
        zero = ops.zeros_like(t["mean"])
        means, variances = zip(
            *(
                moments.of(name, t["mean"], t["variance"], batch, self.groups)
                for name in self.pool
            ),
            strict=True,
        )
        mean = self._mixed(means, "mean_logits", t) + zero
        inverse = ops.rsqrt(self._mixed(variances, "variance_logits", t) + self.epsilon)
        a = inverse + zero
        if "gamma" in t:
            a = a * t["gamma"]
        b = -(mean * a)
        if "beta" in t:
            b = b + t["beta"]
        return a, b, None

    def _mixed(self, values, logits, t):
        if len(values) == 1:
            return values[0]
        radius = [t["radius"]] if "radius" in t else []
        shares = ops.unstack(self.ratios(t[logits], *radius))
        mixed = shares[0] * values[0]
        for share, value in zip(shares[1:], values[1:], strict=True):
            mixed = mixed + share * value
        return mixed

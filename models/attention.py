"""Self-attention over the positions of an image (Bello et al. 2019)."""

import math

import keras
import numpy as np
from keras import ops

from keras_en.arguments import require


@keras.saving.register_keras_serializable(package="keras_en")
class RelativeAttention2D(keras.layers.Layer):
    """Multi-head self-attention whose logits know relative positions.

    `o[i] = sum_j softmax_j(q[i] . (k[j] + r_w[j_x - i_x] + r_h[j_y - i_y]) / sqrt(d))
    v[j]`    (Bello et al. 2019, Eq. 2 to 5)

    - `i`, `j`: positions `(y, x)` of an image; `q`, `k`, `v`: what each head has of
      the input's channels, `d = keys / heads` of them a query.
    - `r_w`: `(2 W - 1, d)`, `r_h`: `(2 H - 1, d)`, shared by the heads.

    Args:
        heads: Number of heads; divides `keys`, and the channels that values have.
        keys: Channels of all queries, and of all keys.
        data_format: `None`: Keras's image data format.
        **kwargs: Base layer keyword arguments.

    Call arguments:
        inputs: Queries, keys and values side by side: `2 * keys` channels and those
            of the values, in the data format. Height and width are known.

    Output shape:
        That of `inputs`, with the channels of the values.

    Raises:
        ValueError: Height or width is unknown, or `heads` does not divide the channels.
    """

    def __init__(self, heads, keys, data_format=None, **kwargs):
        super().__init__(**kwargs)
        self.heads, self.keys = heads, keys
        self.data_format = data_format or keras.config.image_data_format()
        self.channels_first = self.data_format == "channels_first"

    def build(self, input_shape):
        channels, height, width = input_shape[1:]
        if not self.channels_first:
            height, width, channels = input_shape[1:]
        values = channels - 2 * self.keys
        what, received = "have a known height and width", tuple(input_shape)
        fixed = None not in (height, width)
        require(fixed, "Argument `inputs`", what, f"inputs.shape={received}")
        divides = not (self.keys % self.heads or values % self.heads) and values > 0
        what = f"divide the channels of queries, {self.keys}, and of values, {values}"
        require(divides, "Argument `heads`", what, f"heads={self.heads}")
        depth = self.keys // self.heads
        # As queries and keys: their products have to be of the order of 1.
        initializer = keras.initializers.RandomNormal(stddev=depth**-0.5)
        self.rows, self.columns = (
            self.add_weight(
                name=name, shape=(2 * size - 1, depth), initializer=initializer
            )
            for name, size in (("rows", height), ("columns", width))
        )
        self.size, self.values = (height, width), values

    def call(self, inputs):
        if self.channels_first:
            inputs = ops.transpose(inputs, (0, 2, 3, 1))
        count = math.prod(self.size)

        def heads(tensor, channels):
            shape = (-1, count, self.heads, channels // self.heads)
            return ops.transpose(ops.reshape(tensor, shape), (0, 2, 1, 3))

        q, k, v = ops.split(inputs, (self.keys, 2 * self.keys), axis=-1)
        q, k, v = heads(q, self.keys), heads(k, self.keys), heads(v, self.values)
        q = q * (self.keys // self.heads) ** -0.5
        height, width = self.size
        grid = (-1, self.heads, height, width)
        logits = ops.reshape(
            ops.matmul(q, ops.transpose(k, (0, 1, 3, 2))), (*grid, height, width)
        )
        q = ops.reshape(q, (*grid, q.shape[-1]))
        rows, columns = _relative(self.rows), _relative(self.columns)
        by_row = ops.einsum("nhyxd,yzd->nhyxz", q, rows)
        by_column = ops.einsum("nhyxd,xzd->nhyxz", q, columns)
        logits = logits + by_row[..., :, None] + by_column[..., None, :]
        shares = ops.softmax(ops.reshape(logits, (-1, self.heads, count, count)))
        outputs = ops.transpose(ops.matmul(shares, v), (0, 2, 1, 3))
        outputs = ops.reshape(outputs, (-1, height, width, self.values))
        return ops.transpose(outputs, (0, 3, 1, 2)) if self.channels_first else outputs

    def compute_output_shape(self, input_shape):
        if self.channels_first:
            return (input_shape[0], self.values, *input_shape[2:])
        return (*input_shape[:3], self.values)

    def get_config(self):
        names = ("heads", "keys", "data_format")
        own = {name: getattr(self, name) for name in names}
        return {**super().get_config(), **own}


def _relative(embeddings):
    """`(2 S - 1, d)` to `(S, S, d)`: from each position to each other."""
    size = (embeddings.shape[0] + 1) // 2
    places = np.arange(size)
    return ops.take(embeddings, places[None] - places[:, None] + size - 1, axis=0)

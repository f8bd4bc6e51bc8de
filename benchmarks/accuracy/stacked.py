"""Convolutions of several networks side by side, as one that is dense.

Under `vmap` over networks JAX makes one of as many groups, and what libraries have for
groups of 16 channels leaves a GPU idle. Here the kernels of all networks stand on the
diagonal of one dense kernel: more multiplications by their number, of the kind that
tensor cores are fast at, and the same results up to rounding.
"""

import contextlib

import jax
import jax.numpy as jnp
from jax.interpreters import batching


@contextlib.contextmanager
def dense_convolutions():
    """Inside, programs that are traced have them."""
    primitive = jax.lax.conv_general_dilated_p
    rules = batching.fancy_primitive_batchers
    usual = rules[primitive]

    def rule(axis, tensors, places, **options):
        grouped = options["feature_group_count"] * options["batch_group_count"] > 1
        if grouped or None in places:
            return usual(axis, tensors, places, **options)
        networks = [
            jnp.moveaxis(tensor, place, 0)
            for tensor, place in zip(tensors, places, strict=True)
        ]
        numbers = options["dimension_numbers"]
        batch, features = numbers.lhs_spec[:2]
        x = networks[0].shape[1:]
        if x[batch] > x[features]:
            return _on_diagonal(*networks, numbers, options)
        # Gradients by kernels: what is the batch are their input channels.
        return _crossed(*networks, numbers, options)

    rules[primitive] = rule
    try:
        yield
    finally:
        rules[primitive] = usual


def _on_diagonal(x, kernels, numbers, options):
    """Channels of all networks side by side; kernels on the diagonal."""
    count = len(x)
    outputs, inputs = numbers.rhs_spec[:2]
    # (networks of the input, networks of the output, kernel)
    blocks = _where_equal(kernels[None], 0, 1)
    axes = {inputs: [0], outputs: [1]}
    order = [a for i in range(4) for a in [*axes.get(i, []), i + 2]]
    shape = [
        size * (count if i in axes else 1) for i, size in enumerate(kernels.shape[1:])
    ]
    dense = blocks.transpose(order).reshape(shape)
    y = _convolution(_merged(x, numbers.lhs_spec[1]), dense, options)
    place = numbers.out_spec[1]
    return _split(y, place, count), place


def _crossed(x, kernels, numbers, options):
    """Each input by each kernel, of which the diagonal is wanted."""
    count = len(x)
    x = _merged(x, numbers.lhs_spec[0])
    y = _convolution(x, _merged(kernels, numbers.rhs_spec[0]), options)
    first, last = sorted(numbers.out_spec[:2])
    y = _split(_split(y, last, count), first, count)
    return jnp.sum(_where_equal(y, first, last + 1), axis=last + 1), first


def _where_equal(values, first, second):
    """`values` where the numbers along two axes are the same, 0 elsewhere."""
    size = max(values.shape[first], values.shape[second])
    shape = [size if i in (first, second) else 1 for i in range(values.ndim)]
    return jnp.where(jnp.eye(size, dtype=bool).reshape(shape), values, 0)


def _merged(values, place):
    """The first axis, before `place` of the others, and one with it."""
    shape = list(values.shape[1:])
    shape[place] *= len(values)
    return jnp.moveaxis(values, 0, place).reshape(shape)


def _split(values, place, count):
    shape = list(values.shape)
    shape[place : place + 1] = [count, shape[place] // count]
    return values.reshape(shape)


def _convolution(x, kernel, options):
    return jax.lax.conv_general_dilated_p.bind(x, kernel, **options)

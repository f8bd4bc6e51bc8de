"""Functions of which JAX makes another program for one kind of device."""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import keras
from keras import ops


def matmul(x: Any, y: Any) -> Any:
    """`x y`, of matrices, in the precision of their dtype.

    By itself JAX multiplies float32 in TF32 on a GPU and in bfloat16 on a TPU, which is
    meant for large products. On an H100 ratios were 1e-4 off by it.
    """
    if keras.backend.backend() != "jax":
        return ops.matmul(x, y)
    import jax

    return jax.numpy.matmul(x, y, precision=jax.lax.Precision.HIGHEST)


class Programs(NamedTuple):
    """Functions from tensors to a tuple of tensors, the same up to rounding.

    - `plain`: what derivatives are made of, and what most devices run.
    - `shapes`: tuple of shape and dtype of each output.
    - `on_cuda`: what CUDA devices run.
    - `transpose`: of programs that are the transpose of others, that other one: a
      function of the first tensors, `fixed` of them, in which these are not linear,
      and of cotangents. Otherwise `None`.
    """

    plain: Callable
    on_cuda: Callable
    shapes: tuple
    transpose: Callable | None = None
    fixed: int = 0

    def __call__(self, *tensors: Any) -> Sequence[Any]:
        """`plain(*tensors)`, of which JAX makes the program of `on_cuda` for CUDA
        devices. Derivatives of every order and batches by `vmap` are those of `plain`;
        the transpose of the transpose is these programs again."""
        return of_jax().bind(*tensors, programs=self)


@functools.cache
def of_jax():
    """The primitive of JAX that a call of `Programs` is."""
    import jax
    from jax.extend.core import Primitive
    from jax.interpreters import ad, batching, mlir

    primitive = Primitive("keras_en_programs")
    primitive.multiple_results = True

    @primitive.def_impl
    def _(*tensors, programs):
        return list(programs.plain(*tensors))

    @primitive.def_abstract_eval
    def _(*inputs, programs):
        return [jax.core.ShapedArray(*shape) for shape in programs.shapes]

    def derived(primals, tangents, *, programs):
        tangents = map(ad.instantiate_zeros, tangents)
        return jax.jvp(programs.plain, tuple(primals), tuple(tangents))

    def batched(tensors, axes, *, programs):
        outputs = jax.vmap(programs.plain, axes)(*tensors)
        return list(outputs), [0] * len(outputs)

    def transposed(cotangents, *tensors, programs):
        linear = [i for i, t in enumerate(tensors) if ad.is_undefined_primal(t)]
        cotangents = list(map(ad.instantiate_zeros, cotangents))
        if programs.transpose is not None:
            results = programs.transpose(*tensors[: programs.fixed], *cotangents)
            results = [None] * programs.fixed + list(results)
            return [r if i in linear else None for i, r in enumerate(results)]
        fixed = [t for i, t in enumerate(tensors) if i not in linear]
        shapes = [tensors[i].aval for i in linear]
        backward = _transpose(programs, linear, shapes, len(tensors))
        results = dict(zip(linear, backward(*fixed, *cotangents), strict=True))
        return [results.get(i) for i in range(len(tensors))]

    ad.primitive_jvps[primitive] = derived
    ad.primitive_transposes[primitive] = transposed
    batching.primitive_batchers[primitive] = batched
    for platform, name in ((None, "plain"), ("cuda", "on_cuda")):
        of_name = functools.partial(run, name)
        program = mlir.lower_fun(of_name, multiple_results=True)
        mlir.register_lowering(primitive, program, platform=platform)
    return primitive


def run(name, *tensors, programs):
    """Those of `programs` of this name, while JAX makes the program of a device."""
    return getattr(programs, name)(*tensors)


def _transpose(programs, linear, shapes, count):
    """`Programs` of the tensors that `programs` are not linear in, and of cotangents of
    their outputs.

    Args:
        programs: `Programs` of `count` tensors.
        linear: Places of those that they are linear in. `shapes`: of these.
    """
    import jax

    fixed = count - len(linear)

    def complete(values):
        values, chosen = iter(values[:fixed]), iter(values[fixed:])
        return [next(chosen if i in linear else values) for i in range(count)]

    def plain(*values):
        def of_linear(*chosen):
            return list(programs.plain(*complete([*values[:fixed], *chosen])))

        return jax.linear_transpose(of_linear, *shapes)(list(values[fixed:]))

    def transpose(*values):
        return programs(*complete(values))

    outputs = tuple((s.shape, s.dtype) for s in shapes)
    return Programs(plain, plain, outputs, transpose, fixed)

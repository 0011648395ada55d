"""Our operations in JAX's programs."""

from collections.abc import Callable
from typing import Any

import numpy as np

from tinyconv.interop import require


def function(
    forward: Callable[..., tuple[Any, Any]], backward: Callable[[Any, Any], Any], **options: Any
) -> Callable[..., Any]:
    """Make a function of JAX's arrays of a pair of operations; gradients go through the backward.

    It works under ``jax.grad``, ``jax.jit`` and ``jax.vmap``. JAX calls the operations on the
    host; what the forward one saves cannot stay there, so the backward pass computes it again.

    Args:
        forward: ``(*arrays, **options) -> y, saved``, as all of :mod:`tinyconv.ops`.
        backward: ``(dy, saved) ->`` the gradient of each array, in their order; one array or a
            tuple that holds None, or ends, where there is no gradient. For JAX that is NaN, which
            shows only if it asks for it; labels and masks have none.
        options: handed to the forward operation in every call.

    Returns:
        ``f(*arrays) -> array``.

    >>> import jax
    >>> import jax.numpy as jnp
    >>> from tinyconv import ops
    >>> pool = function(ops.max_pool2d, ops.max_pool2d_backward, kernel_size=2)
    >>> x = jnp.arange(4.0).reshape(1, 1, 2, 2)
    >>> jax.grad(lambda x: pool(x).sum())(x)
    Array([[[[0., 0.],
             [0., 1.]]]], dtype=float32)
    """
    jax = require("jax", "jax")

    def host_forward(*arrays: Any) -> Any:
        y, _ = forward(*map(np.asarray, arrays), **options)
        return np.asarray(y)

    def host_backward(dy: Any, *arrays: Any) -> tuple[Any, ...]:
        _, saved = forward(*map(np.asarray, arrays), **options)
        found = backward(np.asarray(dy), saved)
        gradients = [*(found if isinstance(found, tuple) else (found,)), *[None] * len(arrays)]
        with np.errstate(invalid="ignore"):  # of NaN among integers, which are left out below
            return tuple(
                np.full(x.shape, np.nan, x.dtype) if g is None else np.asarray(g)
                for x, g in zip(arrays, gradients, strict=False)
            )

    def like(x: Any) -> Any:
        return jax.ShapeDtypeStruct(x.shape, x.dtype)

    def call(*arrays: Any) -> Any:
        # The operation itself says what it gives, for zeros of these shapes.
        example = host_forward(*(np.zeros(x.shape, x.dtype) for x in arrays))
        return jax.pure_callback(host_forward, like(example), *arrays, vmap_method="sequential")

    def keep(*arrays: Any) -> tuple[Any, Any]:
        return call(*arrays), arrays

    def send_back(arrays: Any, dy: Any) -> Any:
        shapes = tuple(map(like, arrays))
        found = jax.pure_callback(host_backward, shapes, dy, *arrays, vmap_method="sequential")
        smooth = [jax.numpy.issubdtype(x.dtype, jax.numpy.inexact) for x in arrays]
        return tuple(g if is_one else None for g, is_one in zip(found, smooth, strict=True))

    operation = jax.custom_vjp(call)
    operation.defvjp(keep, send_back)
    traced: Callable[..., Any] = operation
    return traced

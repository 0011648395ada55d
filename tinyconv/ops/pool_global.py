"""Global pooling: one number for each plane, whatever its size.

Source: Lin, Chen and Yan, "Network in network" (2013). The axes of the plane stay, with length 1,
as in ONNX and PyTorch's adaptive pooling.
"""

import math
from types import ModuleType
from typing import NamedTuple

from tinyconv.backend import Array, floating, real_part
from tinyconv.errors import ShapeError
from tinyconv.ops.checks import incoming


class GlobalMaxPoolSaved(NamedTuple):
    """What the forward pass of global max-pooling keeps for the backward pass."""

    argmax: Array  #: (N, C, 1), integer: flat index of each maximum in its plane
    shape: tuple[int, ...]  #: of x


def global_max_pool(x: Array) -> tuple[Array, GlobalMaxPoolSaved]:
    """Take the maximum of each plane; a tie goes to the first in row-major order.

        y[n, c] = max_{h, w} x[n, c, h, w]

    Args:
        x: (N, C, *size), floating-point, for any number of axes. NaN is the greatest.

    Returns:
        y (N, C, 1, ...) and what :func:`global_max_pool_backward` needs.

    Raises:
        ShapeError: x has no plane, or an empty one.

    >>> import numpy as np
    >>> global_max_pool(np.array([[[[1.0, 3.0], [4.0, 2.0]]]]))[0]
    array([[[[4.]]]])
    """
    xp = _check("global_max_pool", x)
    rows = xp.reshape(x, (*x.shape[:2], math.prod(x.shape[2:])))
    argmax = xp.argmax(real_part(xp, rows), axis=2, keepdims=True)
    y = xp.take_along_axis(rows, argmax, axis=2)
    return xp.reshape(y, _single(x.shape)), GlobalMaxPoolSaved(argmax, tuple(x.shape))


def global_max_pool_backward(dy: Array, saved: GlobalMaxPoolSaved) -> Array:
    """Backpropagate through :func:`global_max_pool`: dy goes to where the maximum came from.

    >>> import numpy as np
    >>> y, saved = global_max_pool(np.array([[[[1.0, 3.0], [4.0, 2.0]]]]))
    >>> global_max_pool_backward(np.array([[[[5.0]]]]), saved)[0, 0]
    array([[0., 0.],
           [5., 0.]])
    """
    argmax, shape = saved
    xp = incoming("global_max_pool_backward", dy, _single(shape), argmax=argmax)
    places = xp.arange(math.prod(shape[2:]), dtype=argmax.dtype, device=dy.device)
    dy = xp.reshape(dy, argmax.shape)
    return xp.reshape(xp.where(places == argmax, dy, xp.zeros_like(dy)), shape)


def global_avg_pool(x: Array) -> tuple[Array, tuple[int, ...]]:
    """Take the mean of each plane: ``y[n, c] = 1 / (H W) sum_{h, w} x[n, c, h, w]``.

    Args:
        x: (N, C, *size), floating-point, for any number of axes.

    Returns:
        y (N, C, 1, ...) and the shape of x.

    Raises:
        ShapeError: x has no plane, or an empty one.

    >>> import numpy as np
    >>> global_avg_pool(np.array([[[[1.0, 3.0], [4.0, 2.0]]]]))[0]
    array([[[[2.5]]]])
    """
    xp = _check("global_avg_pool", x)
    y = xp.sum(x, axis=tuple(range(2, x.ndim)), keepdims=True) / math.prod(x.shape[2:])
    return y, tuple(x.shape)


def global_avg_pool_backward(dy: Array, shape: tuple[int, ...]) -> Array:
    """Backpropagate through :func:`global_avg_pool`: ``dx[n, c, h, w] = dy[n, c] / (H W)``.

    >>> import numpy as np
    >>> global_avg_pool_backward(np.array([[[[8.0]]]]), (1, 1, 2, 2))[0, 0]
    array([[2., 2.],
           [2., 2.]])
    """
    xp = incoming("global_avg_pool_backward", dy, _single(shape))
    share = xp.broadcast_to(dy / math.prod(shape[2:]), shape)
    return xp.asarray(share, copy=True)  # a broadcast array cannot be written to


def _check(op: str, x: Array) -> ModuleType:
    xp = floating(op, x=x)
    if x.ndim < 3 or 0 in x.shape[2:]:
        raise ShapeError(
            f"{op}: x has shape {tuple(x.shape)}, expected (N, C, *size) with no empty plane"
        )
    return xp


def _single(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the shape with one element in each plane."""
    return (*shape[:2], *(1 for _ in shape[2:]))

"""Pooling: the maximum, the mean or the L2 norm of each window.

Every function walks over the KH*KW offsets of a window; for one offset it handles all windows of
all planes at once. Source: Nielsen, "Neural Networks and Deep Learning", chapter 6.
"""

import math
from types import ModuleType
from typing import NamedTuple

from tinyconv.backend import Array, namespace, real_part, require_floating
from tinyconv.errors import ShapeError
from tinyconv.geometry import Geometry, check_rank, check_shape, sliding_window, spread

__all__ = [
    "AvgPoolSaved",
    "L2PoolSaved",
    "MaxPoolSaved",
    "avg_pool2d",
    "avg_pool2d_backward",
    "l2_pool2d",
    "l2_pool2d_backward",
    "max_pool2d",
    "max_pool2d_backward",
]


class MaxPoolSaved(NamedTuple):
    """What the forward pass of max-pooling keeps for the backward pass."""

    argmax: Array  #: (N, C, OH, OW), int64: flat index in the (H, W) plane of each maximum
    geometry: Geometry


class AvgPoolSaved(NamedTuple):
    """What the forward pass of average pooling keeps: nothing but sizes."""

    geometry: Geometry
    shape: tuple[int, ...]  #: of y, (N, C, OH, OW)


class L2PoolSaved(NamedTuple):
    """What the forward pass of L2 pooling keeps for the backward pass."""

    x: Array  #: (N, C, H, W)
    y: Array  #: (N, C, OH, OW)
    geometry: Geometry


def max_pool2d(
    x: Array,
    kernel_size: int | tuple[int, ...],
    stride: int | tuple[int, ...] | None = None,
    padding: int | tuple[int, ...] = 0,
) -> tuple[Array, MaxPoolSaved]:
    """Take the maximum of each window; a tie goes to the first in row-major order.

        y[n, c, p, q] = max_{i, j} x[n, c, s p + i - P, s q + j - P]

    Args:
        x: (N, C, H, W), floating-point. A NaN is greater than every number.
        kernel_size: of the window.
        stride: step between two windows; the kernel size if None.
        padding: on each side, at most half the kernel; it never is the maximum.

    Returns:
        y (N, C, OH, OW) and what :func:`max_pool2d_backward` needs; its argmax is PyTorch's.

    Raises:
        ShapeError: x does not have four axes, or the window does not fit.
        DtypeError: x is not floating-point.

    >>> import numpy as np
    >>> y, saved = max_pool2d(np.array([[[[1.0, 3.0], [3.0, 2.0]]]]), 2)
    >>> y.item(), saved.argmax.item()
    (3.0, 1)
    """
    xp, geometry = _prepare("max_pool2d", x, kernel_size, stride, padding)
    padded = _pad(xp, x, geometry, -xp.inf)
    y: Array = None
    argmax: Array = None
    for offset, window in geometry.windows():
        candidate = padded[:, :, *window]
        index = xp.broadcast_to(geometry.plane_index(offset, xp), candidate.shape)
        if y is None:
            y, argmax = candidate, index
            continue
        # x != x only for NaN: the first one stays, whatever follows. What stands there so far may
        # be padding (index -1), which gives way to anything, minus infinity included.
        is_first_nan = (candidate != candidate) & (y == y)
        better = (real_part(xp, candidate) > real_part(xp, y)) | is_first_nan | (argmax < 0)
        y = xp.where(better, candidate, y)
        argmax = xp.where(better, index, argmax)
    # With a 1x1 window nothing was compared, and y is still a view of x.
    return xp.asarray(y, copy=True), MaxPoolSaved(argmax, geometry)


def max_pool2d_backward(dy: Array, saved: MaxPoolSaved) -> Array:
    """Backpropagate through :func:`max_pool2d`: dy goes to where the maximum came from.

        dx[n, c, h, w] = sum of dy[n, c, p, q] over the windows whose maximum is x[n, c, h, w]

    Args:
        dy: (N, C, OH, OW).
        saved: from the forward pass.

    Returns:
        dx (N, C, H, W).

    Raises:
        ShapeError: dy does not have the shape of y.

    >>> import numpy as np
    >>> y, saved = max_pool2d(np.array([[[[1.0, 3.0], [3.0, 2.0]]]]), 2)
    >>> max_pool2d_backward(np.array([[[[5.0]]]]), saved)[0, 0]
    array([[0., 5.],
           [0., 0.]])
    """
    argmax, geometry = saved
    xp = namespace("max_pool2d_backward", dy=dy, argmax=argmax)
    check_shape("max_pool2d_backward", "dy", dy, tuple(argmax.shape))
    dx = xp.zeros((*dy.shape[:2], *geometry.padded), dtype=dy.dtype, device=dy.device)
    zero = xp.zeros_like(dy)
    for offset, window in geometry.windows():
        dx[:, :, *window] += xp.where(argmax == geometry.plane_index(offset, xp), dy, zero)
    return dx[:, :, *geometry.inside]


def avg_pool2d(
    x: Array,
    kernel_size: int | tuple[int, ...],
    stride: int | tuple[int, ...] | None = None,
    padding: int | tuple[int, ...] = 0,
) -> tuple[Array, AvgPoolSaved]:
    """Take the mean of each window; zeros of the padding count, as is PyTorch's default.

        y[n, c, p, q] = 1 / (KH KW) sum_{i, j} x[n, c, s p + i - P, s q + j - P]

    Args:
        x: (N, C, H, W), floating-point.
        kernel_size: of the window.
        stride: step between two windows; the kernel size if None.
        padding: zeros on each side, at most half the kernel.

    Returns:
        y (N, C, OH, OW) and what :func:`avg_pool2d_backward` needs.

    Raises:
        ShapeError: x does not have four axes, or the window does not fit.
        DtypeError: x is not floating-point.

    >>> import numpy as np
    >>> avg_pool2d(np.array([[[[1.0, 3.0], [3.0, 2.0]]]]), 2)[0].item()
    2.25
    """
    xp, geometry = _prepare("avg_pool2d", x, kernel_size, stride, padding)
    padded = _pad(xp, x, geometry, 0.0)
    y = xp.zeros((*x.shape[:2], *geometry.output), dtype=x.dtype, device=x.device)
    for _, window in geometry.windows():
        y += padded[:, :, *window]
    return y / math.prod(geometry.kernel), AvgPoolSaved(geometry, tuple(y.shape))


def avg_pool2d_backward(dy: Array, saved: AvgPoolSaved) -> Array:
    """Backpropagate through :func:`avg_pool2d`: each element of a window gets an equal share.

        dx[n, c, h, w] = 1 / (KH KW) sum of dy[n, c, p, q] over the windows that hold (h, w)

    Args:
        dy: (N, C, OH, OW).
        saved: from the forward pass.

    Returns:
        dx (N, C, H, W).

    Raises:
        ShapeError: dy does not have the shape of y.

    >>> import numpy as np
    >>> y, saved = avg_pool2d(np.array([[[[1.0, 3.0], [3.0, 2.0]]]]), 2)
    >>> avg_pool2d_backward(np.array([[[[4.0]]]]), saved)[0, 0]
    array([[1., 1.],
           [1., 1.]])
    """
    geometry, shape = saved
    xp = namespace("avg_pool2d_backward", dy=dy)
    check_shape("avg_pool2d_backward", "dy", dy, shape)
    share = dy / math.prod(geometry.kernel)
    dx = xp.zeros((*dy.shape[:2], *geometry.padded), dtype=dy.dtype, device=dy.device)
    for _, window in geometry.windows():
        dx[:, :, *window] += share
    return dx[:, :, *geometry.inside]


def l2_pool2d(
    x: Array,
    kernel_size: int | tuple[int, ...],
    stride: int | tuple[int, ...] | None = None,
    padding: int | tuple[int, ...] = 0,
) -> tuple[Array, L2PoolSaved]:
    """Take the square root of the sum of squares of each window.

        y[n, c, p, q] = sqrt(sum_{i, j} x[n, c, s p + i - P, s q + j - P]^2)

    Args:
        x: (N, C, H, W), floating-point.
        kernel_size: of the window.
        stride: step between two windows; the kernel size if None.
        padding: zeros on each side, at most half the kernel.

    Returns:
        y (N, C, OH, OW) and what :func:`l2_pool2d_backward` needs.

    Raises:
        ShapeError: x does not have four axes, or the window does not fit.
        DtypeError: x is not floating-point.

    >>> import numpy as np
    >>> l2_pool2d(np.array([[[[1.0, 2.0], [2.0, 4.0]]]]), 2)[0].item()
    5.0
    """
    xp, geometry = _prepare("l2_pool2d", x, kernel_size, stride, padding)
    padded = _pad(xp, x, geometry, 0.0)
    y = xp.zeros((*x.shape[:2], *geometry.output), dtype=x.dtype, device=x.device)
    for _, window in geometry.windows():
        y += padded[:, :, *window] ** 2
    y = xp.sqrt(y)
    return y, L2PoolSaved(x, y, geometry)


def l2_pool2d_backward(dy: Array, saved: L2PoolSaved) -> Array:
    """Backpropagate through :func:`l2_pool2d`.

        dx[n, c, h, w] = x[n, c, h, w] sum of dy[n, c, p, q] / y[n, c, p, q]
                         over the windows that hold (h, w)

    A window that is all zero has no gradient there; it passes 0 on, not NaN.

    Args:
        dy: (N, C, OH, OW).
        saved: from the forward pass.

    Returns:
        dx (N, C, H, W).

    Raises:
        ShapeError: dy does not have the shape of y.

    >>> import numpy as np
    >>> y, saved = l2_pool2d(np.array([[[[1.0, 2.0], [2.0, 4.0]]]]), 2)
    >>> l2_pool2d_backward(np.array([[[[10.0]]]]), saved)[0, 0]
    array([[2., 4.],
           [4., 8.]])
    """
    x, y, geometry = saved
    xp = namespace("l2_pool2d_backward", dy=dy, y=y)
    check_shape("l2_pool2d_backward", "dy", dy, tuple(y.shape))
    is_zero = y == 0
    scale = xp.where(is_zero, xp.zeros_like(dy), dy / xp.where(is_zero, xp.ones_like(y), y))
    spread_out = xp.zeros((*dy.shape[:2], *geometry.padded), dtype=dy.dtype, device=dy.device)
    for _, window in geometry.windows():
        spread_out[:, :, *window] += scale
    return x * spread_out[:, :, *geometry.inside]


def _prepare(
    op: str,
    x: Array,
    kernel_size: int | tuple[int, ...],
    stride: int | tuple[int, ...] | None,
    padding: int | tuple[int, ...],
) -> tuple[ModuleType, Geometry]:
    """Validate what the three poolings share; return the namespace of x and the geometry."""
    xp = namespace(op, x=x)
    require_floating(op, xp, x=x)
    check_rank(op, "x", x, "(N, C, H, W)")
    return xp, pool_geometry(op, x.shape[2:], kernel_size, stride, padding)


def pool_geometry(
    op: str,
    size: tuple[int, ...],
    kernel_size: int | tuple[int, ...],
    stride: int | tuple[int, ...] | None,
    padding: int | tuple[int, ...],
) -> Geometry:
    """Return the sliding window of a pooling: the stride defaults to the kernel size.

    Raises:
        ShapeError: a size is out of range, the window is larger than the padded input, or the
            padding larger than half the kernel, so that a window could see nothing else.

    >>> pool_geometry("max_pool2d", (4, 4), 2, None, 2)
    Traceback (most recent call last):
    tinyconv.errors.ShapeError: max_pool2d: padding is 2, expected at most half of kernel (2, 2)
    """
    kernel = spread(op, "kernel_size", kernel_size, len(size), least=1)
    geometry = sliding_window(
        op, tuple(size), kernel, kernel if stride is None else stride, padding
    )
    if any(2 * lo > k for (lo, _), k in zip(geometry.padding, kernel, strict=True)):
        raise ShapeError(f"{op}: padding is {padding!r}, expected at most half of kernel {kernel}")
    return geometry


def _pad(xp: ModuleType, x: Array, geometry: Geometry, value: float) -> Array:
    """Return x with ``value`` around each plane; x itself where there is no padding."""
    if not geometry.is_padded:
        return x
    shape = (*x.shape[:2], *geometry.padded)
    padded = xp.full(shape, value, dtype=x.dtype, device=x.device)
    padded[:, :, *geometry.inside] = x
    return padded

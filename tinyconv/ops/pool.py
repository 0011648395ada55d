"""Pooling: the maximum or the mean of each window.

Every function walks over the KH*KW offsets of a window; for one offset it handles all windows of
all planes at once. The functions that end in ``_nd`` do the work for any number of axes; the ones
on a single axis and on three are in :mod:`tinyconv.ops.pool_axes`.

Source: Nielsen, "Neural Networks and Deep Learning", chapter 6.
"""

import itertools
import math
from types import ModuleType
from typing import NamedTuple

from tinyconv.backend import Array, namespace, real_part, require_floating
from tinyconv.errors import ShapeError
from tinyconv.geometry import Geometry, Padding, check_rank, check_shape, sliding_window, spread

__all__ = [
    "AvgPoolSaved",
    "MaxPoolSaved",
    "avg_pool2d",
    "avg_pool2d_backward",
    "max_pool2d",
    "max_pool2d_backward",
]

Sizes = int | tuple[int, ...]


class MaxPoolSaved(NamedTuple):
    """What the forward pass of max-pooling keeps for the backward pass."""

    #: (N, C, OH, OW), int64: flat index of each maximum in the (H, W) plane
    argmax: Array
    geometry: Geometry


class AvgPoolSaved(NamedTuple):
    """What the forward pass of average pooling keeps: nothing but sizes."""

    geometry: Geometry
    shape: tuple[int, ...]  #: of y, (N, C, OH, OW)
    divisor: Array | int  #: what the sums are divided by, (OH, OW) where windows differ


def max_pool2d(
    x: Array,
    kernel_size: Sizes,
    *,
    stride: Sizes | None = None,
    padding: Padding = 0,
    dilation: Sizes = 1,
    ceil_mode: bool = False,
) -> tuple[Array, MaxPoolSaved]:
    """Take the maximum of each window; a tie goes to the first in row-major order.

        y[n, c, p, q] = max_{i, j} x[n, c, s p + d i - P, s q + d j - P]

    Args:
        x: (N, C, H, W), floating-point. A NaN is greater than every number.
        kernel_size: of the window.
        stride: step between two windows; the kernel size if None.
        padding: on each side, less than the window; it never is the maximum. A dilated window
            that sees nothing else gives minus infinity and has argmax -1.
        dilation: distance between two elements of a window.
        ceil_mode: round the output size up; the last windows may then reach beyond the padding.

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
    return max_pool_nd(
        "max_pool2d", ("H", "W"), x, kernel_size, stride, padding, dilation, ceil_mode
    )


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
    return max_pool_backward_nd("max_pool2d_backward", dy, saved)


def avg_pool2d(
    x: Array,
    kernel_size: Sizes,
    *,
    stride: Sizes | None = None,
    padding: Padding = 0,
    dilation: Sizes = 1,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> tuple[Array, AvgPoolSaved]:
    """Take the mean of each window.

        y[n, c, p, q] = 1 / D[p, q] sum_{i, j} x[n, c, s p + d i - P, s q + d j - P]

    The divisor D is the number of elements that the window sees: KH KW, less those that
    ``ceil_mode`` lets it see beyond the padding, and less the padding unless it counts. A dilated
    window that sees nothing has the mean 0.

    Args:
        x: (N, C, H, W), floating-point.
        kernel_size: of the window.
        stride: step between two windows; the kernel size if None.
        padding: zeros on each side, less than the window.
        dilation: distance between two elements of a window.
        ceil_mode: round the output size up; the last windows may then reach beyond the padding.
        count_include_pad: whether the zeros of the padding count, as is PyTorch's default; it is
            not ONNX's.

    Returns:
        y (N, C, OH, OW) and what :func:`avg_pool2d_backward` needs.

    Raises:
        ShapeError: x does not have four axes, or the window does not fit.
        DtypeError: x is not floating-point.

    >>> import numpy as np
    >>> avg_pool2d(np.array([[[[1.0, 3.0], [3.0, 2.0]]]]), 2)[0].item()
    2.25
    """
    window = (kernel_size, stride, padding, dilation, ceil_mode)
    return avg_pool_nd("avg_pool2d", ("H", "W"), x, *window, count_include_pad)


def avg_pool2d_backward(dy: Array, saved: AvgPoolSaved) -> Array:
    """Backpropagate through :func:`avg_pool2d`: each element of a window gets an equal share.

        dx[n, c, h, w] = sum of dy[n, c, p, q] / D[p, q] over the windows that hold (h, w)

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
    return avg_pool_backward_nd("avg_pool2d_backward", dy, saved)


def max_pool_nd(
    op: str,
    axes: tuple[str, ...],
    x: Array,
    kernel_size: Sizes,
    stride: Sizes | None,
    padding: Padding,
    dilation: Sizes,
    ceil_mode: bool,
) -> tuple[Array, MaxPoolSaved]:
    """:func:`max_pool2d` over the named axes, on behalf of ``op``."""
    xp, geometry = prepare(op, axes, x, kernel_size, stride, padding, dilation, ceil_mode=ceil_mode)
    padded = pad_for(xp, x, geometry, -xp.inf)
    y: Array = None
    argmax: Array = None
    for offset, window in geometry.windows():
        candidate = padded[:, :, *window]
        index = xp.broadcast_to(geometry.plane_index(offset, xp, x.device), candidate.shape)
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


def max_pool_backward_nd(op: str, dy: Array, saved: MaxPoolSaved) -> Array:
    """:func:`max_pool2d_backward` over any axes, on behalf of ``op``."""
    argmax, geometry = saved
    xp = namespace(op, dy=dy, argmax=argmax)
    check_shape(op, "dy", dy, tuple(argmax.shape))
    dx = xp.zeros((*dy.shape[:2], *geometry.padded), dtype=dy.dtype, device=dy.device)
    zero = xp.zeros_like(dy)
    for offset, window in geometry.windows():
        index = geometry.plane_index(offset, xp, dy.device)
        dx[:, :, *window] += xp.where(argmax == index, dy, zero)
    return dx[:, :, *geometry.inside]


def avg_pool_nd(
    op: str,
    axes: tuple[str, ...],
    x: Array,
    kernel_size: Sizes,
    stride: Sizes | None,
    padding: Padding,
    dilation: Sizes,
    ceil_mode: bool,
    count_include_pad: bool,
) -> tuple[Array, AvgPoolSaved]:
    """:func:`avg_pool2d` over the named axes, on behalf of ``op``."""
    xp, geometry = prepare(op, axes, x, kernel_size, stride, padding, dilation, ceil_mode=ceil_mode)
    padded = pad_for(xp, x, geometry, 0.0)
    y = xp.zeros((*x.shape[:2], *geometry.output), dtype=x.dtype, device=x.device)
    for _, window in geometry.windows():
        y += padded[:, :, *window]
    divisor: Array | int = math.prod(geometry.kernel)
    if geometry.is_padded:
        axes_seen = (elements_seen(geometry, axis, count_include_pad) for axis in range(len(axes)))
        # Dilated windows that see nothing at all have a sum of 0, and the mean 0.
        seen = [max(1, math.prod(counts)) for counts in itertools.product(*axes_seen)]
        counts = xp.asarray(seen, device=x.device)
        divisor = xp.astype(xp.reshape(counts, geometry.output), x.dtype)
    return y / divisor, AvgPoolSaved(geometry, tuple(y.shape), divisor)


def elements_seen(geometry: Geometry, axis: int, count_include_pad: bool) -> list[int]:
    """Return how many elements each window sees along an axis, padding included if it counts.

    >>> elements_seen(pool_geometry("demo", (5,), 2, 2, 1), 0, count_include_pad=False)
    [1, 2, 2]
    """
    before, after = geometry.padding[axis] if count_include_pad else (0, 0)
    counts = range(-before, geometry.size[axis] + after)
    reach, step = geometry.covered[axis], geometry.dilation[axis]
    starts = (
        place * geometry.stride[axis] - geometry.padding[axis][0]
        for place in range(geometry.output[axis])
    )
    return [sum(at in counts for at in range(start, start + reach, step)) for start in starts]


def avg_pool_backward_nd(op: str, dy: Array, saved: AvgPoolSaved) -> Array:
    """:func:`avg_pool2d_backward` over any axes, on behalf of ``op``."""
    geometry, shape, divisor = saved
    xp = namespace(op, dy=dy, divisor=None if isinstance(divisor, int) else divisor)
    check_shape(op, "dy", dy, shape)
    share = dy / divisor
    dx = xp.zeros((*dy.shape[:2], *geometry.padded), dtype=dy.dtype, device=dy.device)
    for _, window in geometry.windows():
        dx[:, :, *window] += share
    return dx[:, :, *geometry.inside]


def prepare(
    op: str,
    axes: tuple[str, ...],
    x: Array,
    kernel_size: Sizes,
    stride: Sizes | None,
    padding: Padding,
    dilation: Sizes = 1,
    *,
    ceil_mode: bool = False,
) -> tuple[ModuleType, Geometry]:
    """Validate what the poolings share; return the namespace of x and the geometry."""
    xp = namespace(op, x=x)
    require_floating(op, xp, x=x)
    check_rank(op, "x", x, f"(N, C, {', '.join(axes)})")
    size = tuple(x.shape[2:])
    return xp, pool_geometry(op, size, kernel_size, stride, padding, dilation, ceil_mode=ceil_mode)


def pool_geometry(
    op: str,
    size: tuple[int, ...],
    kernel_size: Sizes,
    stride: Sizes | None,
    padding: Padding,
    dilation: Sizes = 1,
    *,
    ceil_mode: bool = False,
) -> Geometry:
    """Return the sliding window of a pooling: the stride defaults to the kernel size.

    Raises:
        ShapeError: a size is out of range, the window is larger than the padded input, or the
            padding as large, so that it could see nothing else.

    >>> pool_geometry("max_pool2d", (4, 4), 2, None, 2)
    Traceback (most recent call last):
    tinyconv.errors.ShapeError: max_pool2d: padding is 2, expected less than kernel (2, 2)
    """
    kernel = spread(op, "kernel_size", kernel_size, len(size), least=1)
    geometry = sliding_window(
        op,
        tuple(size),
        kernel,
        kernel if stride is None else stride,
        padding,
        dilation,
        ceil_mode=ceil_mode,
    )
    if any(max(p) >= c for p, c in zip(geometry.padding, geometry.covered, strict=True)):
        dilated = f" with dilation {geometry.dilation}" if set(geometry.dilation) != {1} else ""
        raise ShapeError(
            f"{op}: padding is {padding!r}, expected less than kernel {kernel}{dilated}"
        )
    return geometry


def pad_for(xp: ModuleType, x: Array, geometry: Geometry, value: float) -> Array:
    """Return x with ``value`` around each plane; x itself where there is no padding."""
    if not geometry.is_padded:
        return x
    shape = (*x.shape[:2], *geometry.padded)
    padded = xp.full(shape, value, dtype=x.dtype, device=x.device)
    padded[:, :, *geometry.inside] = x
    return padded

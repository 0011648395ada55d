"""Pooling of windows: the maximum, the mean, a norm.

Every function walks over the KH*KW offsets of a window; for one offset it handles all windows of
all planes at once. The equations are those of two axes.

Sources: Nielsen, "Neural Networks and Deep Learning", chapter 6 (maximum, L2); Sermanet, Chintala
and LeCun, "Convolutional neural networks applied to house numbers digit classification" (2012).
"""

import itertools
import math
from types import ModuleType
from typing import Any, NamedTuple

from tinyconv.backend import Array, floating, real_part, table
from tinyconv.errors import ShapeError
from tinyconv.geometry import Geometry, Padding, Sizes, sliding_window, spread
from tinyconv.ops.checks import check_rank, incoming
from tinyconv.ops.ranks import Over, in_ranks
from tinyconv.ops.shape import pad_for


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


class LpPoolSaved(NamedTuple):
    """What the forward pass of L2 and Lp pooling keeps for the backward pass."""

    x: Array  #: (N, C, H, W)
    y: Array  #: (N, C, OH, OW)
    geometry: Geometry
    p: float


def max_pool_nd(
    over: Over,
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

    A dilated window that sees nothing but padding gives minus infinity and has argmax -1.

    Args:
        x: (N, C, H, W), floating-point. A NaN is greater than every number.
        padding: on each side, less than the window; it never is the maximum.

    Returns:
        y (N, C, OH, OW) and what :func:`max_pool2d_backward` needs; its argmax is PyTorch's.

    >>> import numpy as np
    >>> y, saved = max_pool2d(np.array([[[[1.0, 3.0], [3.0, 2.0]]]]), 2)
    >>> y.item(), saved.argmax.item()
    (3.0, 1)
    """
    xp, geometry = prepare(over, x, kernel_size, stride, padding, dilation, ceil_mode=ceil_mode)
    padded = pad_for(xp, x, geometry, -xp.inf)
    y: Array = None
    argmax: Array = None
    for offset, window in geometry.windows():
        candidate = padded[:, :, *window]
        index = table(x, Geometry.plane_index, geometry, offset)
        if y is None:
            y, argmax = candidate, xp.broadcast_to(index, candidate.shape)
            continue
        # x != x only for NaN: the first one stays, whatever follows. What stands there so far may
        # be padding (index -1), which gives way to anything, minus infinity included.
        is_first_nan = (candidate != candidate) & (y == y)
        better = (real_part(xp, candidate) > real_part(xp, y)) | is_first_nan | (argmax < 0)
        y = xp.where(better, candidate, y)
        argmax = xp.where(better, index, argmax)
    # With a 1x1 window nothing was compared, and y is still a view of x.
    return xp.asarray(y, copy=True), MaxPoolSaved(argmax, geometry)


def max_pool_nd_backward(over: Over, dy: Array, saved: MaxPoolSaved) -> Array:
    """Backpropagate through :func:`max_pool2d`: dy goes to where the maximum came from.

        dx[n, c, h, w] = sum of dy[n, c, p, q] over the windows whose maximum is x[n, c, h, w]

    >>> import numpy as np
    >>> y, saved = max_pool2d(np.array([[[[1.0, 3.0], [3.0, 2.0]]]]), 2)
    >>> max_pool2d_backward(np.array([[[[5.0]]]]), saved)[0, 0]
    array([[0., 5.],
           [0., 0.]])
    """
    argmax, geometry = saved
    xp = incoming(over.op, dy, argmax=argmax)
    dx = xp.zeros((*dy.shape[:2], *geometry.padded), dtype=dy.dtype, device=dy.device)
    zero = xp.zeros_like(dy)
    for offset, window in geometry.windows():
        index = table(dy, Geometry.plane_index, geometry, offset)
        dx[:, :, *window] += xp.where(argmax == index, dy, zero)
    return dx[:, :, *geometry.inside]


max_pool1d, max_pool2d, max_pool3d = in_ranks(max_pool_nd)
max_pool1d_backward, max_pool2d_backward, max_pool3d_backward = in_ranks(max_pool_nd_backward)


def avg_pool_nd(
    over: Over,
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
        count_include_pad: whether the zeros of the padding count, as is PyTorch's default; it is
            not ONNX's.

    >>> import numpy as np
    >>> avg_pool2d(np.array([[[[1.0, 3.0], [3.0, 2.0]]]]), 2)[0].item()
    2.25
    """
    xp, geometry = prepare(over, x, kernel_size, stride, padding, dilation, ceil_mode=ceil_mode)
    y = sums(xp, x, geometry)
    divisor: Array | int = math.prod(geometry.kernel)
    if geometry.is_padded:
        seen = table(x, _all_elements_seen, geometry, count_include_pad)
        divisor = xp.astype(xp.reshape(seen, geometry.output), x.dtype)
    return y / divisor, AvgPoolSaved(geometry, tuple(y.shape), divisor)


def avg_pool_nd_backward(over: Over, dy: Array, saved: AvgPoolSaved) -> Array:
    """Backpropagate through :func:`avg_pool2d`: each element of a window gets an equal share.

        dx[n, c, h, w] = sum of dy[n, c, p, q] / D[p, q] over the windows that hold (h, w)

    >>> import numpy as np
    >>> y, saved = avg_pool2d(np.array([[[[1.0, 3.0], [3.0, 2.0]]]]), 2)
    >>> avg_pool2d_backward(np.array([[[[4.0]]]]), saved)[0, 0]
    array([[1., 1.],
           [1., 1.]])
    """
    geometry, shape, divisor = saved
    xp = incoming(over.op, dy, shape, divisor=None if isinstance(divisor, int) else divisor)
    return shares(xp, dy / divisor, geometry)


avg_pool1d, avg_pool2d, avg_pool3d = in_ranks(avg_pool_nd)
avg_pool1d_backward, avg_pool2d_backward, avg_pool3d_backward = in_ranks(avg_pool_nd_backward)


def lp_pool_nd(
    over: Over,
    x: Array,
    norm_type: float,
    kernel_size: Sizes,
    *,
    stride: Sizes | None = None,
    padding: Padding = 0,
    dilation: Sizes = 1,
    ceil_mode: bool = False,
) -> tuple[Array, LpPoolSaved]:
    """Take the p-norm of each window.

        y[n, c, p, q] = (sum_{i, j} |x[n, c, s p + d i - P, s q + d j - P]|^t)^(1 / t)

    with t for norm_type. As in ONNX; PyTorch leaves the bars out, which matters where norm_type is
    odd and x negative, and in ceil mode it scales the windows at the rim up.

    Args:
        norm_type: the p of the norm, at least 1: 1 sums up, 2 is :func:`l2_pool2d`, and large
            ones come near the maximum.

    Raises:
        ShapeError: x does not have four axes, the window does not fit, or norm_type is below 1
            or infinite.

    >>> import numpy as np
    >>> lp_pool2d(np.array([[[[1.0, -3.0], [3.0, -2.0]]]]), 1, 2)[0].item()
    9.0
    """
    xp, geometry = prepare(over, x, kernel_size, stride, padding, dilation, ceil_mode=ceil_mode)
    if not 1 <= norm_type < float("inf"):
        raise ShapeError(f"{over.op}: norm_type is {norm_type!r}, expected a number of at least 1")
    # |x| by the sign of the real part, so that the complex step passes through it.
    powers = xp.where(real_part(xp, x) < 0, -x, x) ** norm_type
    y = sums(xp, powers, geometry) ** (1 / norm_type)
    return y, LpPoolSaved(x, y, geometry, norm_type)


def lp_pool_nd_backward(over: Over, dy: Array, saved: LpPoolSaved) -> Array:
    """Backpropagate through :func:`lp_pool2d`, with p for norm_type:

        dx[n, c, h, w] = sign(x[n, c, h, w]) |x[n, c, h, w]|^(p - 1)
                         sum of dy[n, c, p, q] / y[n, c, p, q]^(p - 1)
                         over the windows that hold (h, w)

    A window that is all zero has no gradient there; it passes 0 on, not NaN.

    >>> import numpy as np
    >>> y, saved = lp_pool2d(np.array([[[[1.0, -3.0], [3.0, -2.0]]]]), 1, 2)
    >>> lp_pool2d_backward(np.array([[[[5.0]]]]), saved)[0, 0]
    array([[ 5., -5.],
           [ 5., -5.]])
    """
    x, y, geometry, p = saved
    xp = incoming(over.op, dy, y=y)
    is_zero = y == 0
    scale = xp.where(
        is_zero, xp.zeros_like(dy), dy / xp.where(is_zero, xp.ones_like(y), y) ** (p - 1)
    )
    return xp.sign(x) * xp.abs(x) ** (p - 1) * shares(xp, scale, geometry)


lp_pool1d, lp_pool2d, lp_pool3d = in_ranks(lp_pool_nd)
lp_pool1d_backward, lp_pool2d_backward, lp_pool3d_backward = in_ranks(lp_pool_nd_backward)


def l2_pool_nd(
    over: Over,
    x: Array,
    kernel_size: Sizes,
    *,
    stride: Sizes | None = None,
    padding: Padding = 0,
    dilation: Sizes = 1,
    ceil_mode: bool = False,
) -> tuple[Array, LpPoolSaved]:
    """Take the square root of the sum of squares of each window.

        y[n, c, p, q] = sqrt(sum_{i, j} x[n, c, s p + d i - P, s q + d j - P]^2)

    >>> import numpy as np
    >>> l2_pool2d(np.array([[[[1.0, 2.0], [2.0, 4.0]]]]), 2)[0].item()
    5.0
    """
    window: dict[str, Any] = {"stride": stride, "padding": padding, "dilation": dilation}
    return lp_pool_nd(over, x, 2, kernel_size, **window, ceil_mode=ceil_mode)


def l2_pool_nd_backward(over: Over, dy: Array, saved: LpPoolSaved) -> Array:
    """Backpropagate through :func:`l2_pool2d`, as through :func:`lp_pool2d` with p = 2.

        dx[n, c, h, w] = x[n, c, h, w] sum of dy[n, c, p, q] / y[n, c, p, q]
                         over the windows that hold (h, w)

    >>> import numpy as np
    >>> y, saved = l2_pool2d(np.array([[[[1.0, 2.0], [2.0, 4.0]]]]), 2)
    >>> l2_pool2d_backward(np.array([[[[10.0]]]]), saved)[0, 0]
    array([[2., 4.],
           [4., 8.]])
    """
    return lp_pool_nd_backward(over, dy, saved)


l2_pool2d = in_ranks(l2_pool_nd)[1]
l2_pool2d_backward = in_ranks(l2_pool_nd_backward)[1]


def sums(xp: ModuleType, x: Array, geometry: Geometry) -> Array:
    """Return the sum of each window."""
    padded = pad_for(xp, x, geometry, 0.0)
    y = xp.zeros((*x.shape[:2], *geometry.output), dtype=x.dtype, device=x.device)
    for _, window in geometry.windows():
        y += padded[:, :, *window]
    return y


def shares(xp: ModuleType, dy: Array, geometry: Geometry) -> Array:
    """Add dy to all elements of each window: the adjoint of :func:`sums`."""
    dx = xp.zeros((*dy.shape[:2], *geometry.padded), dtype=dy.dtype, device=dy.device)
    for _, window in geometry.windows():
        dx[:, :, *window] += dy
    return dx[:, :, *geometry.inside]


def _all_elements_seen(geometry: Geometry, count_include_pad: bool) -> list[int]:
    """Return the divisor of each window, in row-major order."""
    axes = (elements_seen(geometry, axis, count_include_pad) for axis in range(len(geometry.size)))
    # Dilated windows that see nothing at all have a sum of 0, and the mean 0.
    return [max(1, math.prod(counts)) for counts in itertools.product(*axes)]


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


def prepare(over: Over, x: Array, *window: Any, **options: bool) -> tuple[ModuleType, Geometry]:
    """Validate what the poolings share; return the namespace of x and the :func:`pool_geometry`."""
    xp = floating(over.op, x=x)
    check_rank(over.op, over.x, x=x)
    return xp, pool_geometry(over.op, tuple(x.shape[2:]), *window, **options)


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
    window = (kernel, kernel if stride is None else stride, padding, dilation)
    geometry = sliding_window(op, tuple(size), *window, ceil_mode=ceil_mode)
    if any(max(p) >= c for p, c in zip(geometry.padding, geometry.covered, strict=True)):
        dilated = f" with dilation {geometry.dilation}" if set(geometry.dilation) != {1} else ""
        raise ShapeError(
            f"{op}: padding is {padding!r}, expected less than kernel {kernel}{dilated}"
        )
    return geometry

"""Pooling by a norm: L2, and Lp in general, of each window.

Sources: Nielsen, "Neural Networks and Deep Learning", chapter 6 (L2); Sermanet, Chintala and
LeCun, "Convolutional neural networks applied to house numbers digit classification" (2012) (Lp).
"""

from typing import NamedTuple

from tinyconv.backend import Array, namespace, real_part
from tinyconv.errors import ShapeError
from tinyconv.geometry import Geometry, Padding, check_shape
from tinyconv.ops.pool import pad_for, prepare

__all__ = [
    "LpPoolSaved",
    "l2_pool2d",
    "l2_pool2d_backward",
    "lp_pool2d",
    "lp_pool2d_backward",
]

Sizes = int | tuple[int, ...]


class LpPoolSaved(NamedTuple):
    """What the forward pass of L2 and Lp pooling keeps for the backward pass."""

    x: Array  #: (N, C, H, W)
    y: Array  #: (N, C, OH, OW)
    geometry: Geometry
    p: float


def l2_pool2d(
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

    Args:
        x: (N, C, H, W), floating-point.
        kernel_size: of the window.
        stride: step between two windows; the kernel size if None.
        padding: zeros on each side, less than the window.
        dilation: distance between two elements of a window.
        ceil_mode: round the output size up; the last windows may then reach beyond the padding.

    Returns:
        y (N, C, OH, OW) and what :func:`l2_pool2d_backward` needs.

    Raises:
        ShapeError: x does not have four axes, or the window does not fit.
        DtypeError: x is not floating-point.

    >>> import numpy as np
    >>> l2_pool2d(np.array([[[[1.0, 2.0], [2.0, 4.0]]]]), 2)[0].item()
    5.0
    """
    window = (kernel_size, stride, padding, dilation, ceil_mode)
    return lp_pool_nd("l2_pool2d", ("H", "W"), x, 2, *window)


def l2_pool2d_backward(dy: Array, saved: LpPoolSaved) -> Array:
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
    return lp_pool_backward_nd("l2_pool2d_backward", dy, saved)


def lp_pool2d(
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
        x: (N, C, H, W), floating-point.
        norm_type: the p of the norm, at least 1: 1 sums up, 2 is :func:`l2_pool2d`, and large
            ones come near the maximum.
        kernel_size: of the window.
        stride: step between two windows; the kernel size if None.
        padding: zeros on each side, less than the window.
        dilation: distance between two elements of a window.
        ceil_mode: round the output size up; the last windows may then reach beyond the padding.

    Returns:
        y (N, C, OH, OW) and what :func:`lp_pool2d_backward` needs.

    Raises:
        ShapeError: x does not have four axes, the window does not fit, or norm_type is below 1
            or infinite.
        DtypeError: x is not floating-point.

    >>> import numpy as np
    >>> lp_pool2d(np.array([[[[1.0, -3.0], [3.0, -2.0]]]]), 1, 2)[0].item()
    9.0
    """
    window = (kernel_size, stride, padding, dilation, ceil_mode)
    return lp_pool_nd("lp_pool2d", ("H", "W"), x, norm_type, *window)


def lp_pool2d_backward(dy: Array, saved: LpPoolSaved) -> Array:
    """Backpropagate through :func:`lp_pool2d`, with p for norm_type:

        dx[n, c, h, w] = sign(x[n, c, h, w]) |x[n, c, h, w]|^(p - 1)
                         sum of dy[n, c, p, q] / y[n, c, p, q]^(p - 1)
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
    >>> y, saved = lp_pool2d(np.array([[[[1.0, -3.0], [3.0, -2.0]]]]), 1, 2)
    >>> lp_pool2d_backward(np.array([[[[5.0]]]]), saved)[0, 0]
    array([[ 5., -5.],
           [ 5., -5.]])
    """
    return lp_pool_backward_nd("lp_pool2d_backward", dy, saved)


def lp_pool_nd(
    op: str,
    axes: tuple[str, ...],
    x: Array,
    p: float,
    kernel_size: Sizes,
    stride: Sizes | None,
    padding: Padding,
    dilation: Sizes,
    ceil_mode: bool,
) -> tuple[Array, LpPoolSaved]:
    """:func:`lp_pool2d` over the named axes, on behalf of ``op``."""
    xp, geometry = prepare(op, axes, x, kernel_size, stride, padding, dilation, ceil_mode=ceil_mode)
    if not 1 <= p < float("inf"):
        raise ShapeError(f"{op}: norm_type is {p!r}, expected a number of at least 1")
    # |x| by the sign of the real part, so that the complex step passes through it.
    powers = xp.where(real_part(xp, x) < 0, -x, x) ** p
    padded = pad_for(xp, powers, geometry, 0.0)
    y = xp.zeros((*x.shape[:2], *geometry.output), dtype=x.dtype, device=x.device)
    for _, window in geometry.windows():
        y += padded[:, :, *window]
    y = y ** (1 / p)
    return y, LpPoolSaved(x, y, geometry, p)


def lp_pool_backward_nd(op: str, dy: Array, saved: LpPoolSaved) -> Array:
    """:func:`lp_pool2d_backward` over any axes, on behalf of ``op``."""
    x, y, geometry, p = saved
    xp = namespace(op, dy=dy, y=y)
    check_shape(op, "dy", dy, tuple(y.shape))
    is_zero = y == 0
    scale = xp.where(
        is_zero, xp.zeros_like(dy), dy / xp.where(is_zero, xp.ones_like(y), y) ** (p - 1)
    )
    spread_out = xp.zeros((*dy.shape[:2], *geometry.padded), dtype=dy.dtype, device=dy.device)
    for _, window in geometry.windows():
        spread_out[:, :, *window] += scale
    return xp.sign(x) * xp.abs(x) ** (p - 1) * spread_out[:, :, *geometry.inside]

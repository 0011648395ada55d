"""Pooling along one axis and over three; see :mod:`tinyconv.ops.pool` and ``pool_lp``."""

from tinyconv.backend import Array
from tinyconv.geometry import Padding
from tinyconv.ops.pool import (
    AvgPoolSaved,
    MaxPoolSaved,
    avg_pool_backward_nd,
    avg_pool_nd,
    max_pool_backward_nd,
    max_pool_nd,
)
from tinyconv.ops.pool_lp import LpPoolSaved, lp_pool_backward_nd, lp_pool_nd

__all__ = [
    "avg_pool1d",
    "avg_pool1d_backward",
    "avg_pool3d",
    "avg_pool3d_backward",
    "lp_pool1d",
    "lp_pool1d_backward",
    "lp_pool3d",
    "lp_pool3d_backward",
    "max_pool1d",
    "max_pool1d_backward",
    "max_pool3d",
    "max_pool3d_backward",
]

Sizes = int | tuple[int, ...]


def max_pool1d(
    x: Array,
    kernel_size: Sizes,
    *,
    stride: Sizes | None = None,
    padding: Padding = 0,
    dilation: Sizes = 1,
    ceil_mode: bool = False,
) -> tuple[Array, MaxPoolSaved]:
    """Take the maximum of each window: :func:`tinyconv.ops.max_pool2d` for x (N, C, L).

    >>> import numpy as np
    >>> y, saved = max_pool1d(np.array([[[1.0, 3.0, 4.0, 2.0]]]), 2)
    >>> y, saved.argmax
    (array([[[3., 4.]]]), array([[[1, 2]]]))
    """
    axes = ("L",)
    return max_pool_nd("max_pool1d", axes, x, kernel_size, stride, padding, dilation, ceil_mode)


def max_pool1d_backward(dy: Array, saved: MaxPoolSaved) -> Array:
    """Backpropagate through :func:`max_pool1d`: dy goes to where the maximum came from.

    >>> import numpy as np
    >>> y, saved = max_pool1d(np.array([[[1.0, 3.0, 4.0, 2.0]]]), 2)
    >>> max_pool1d_backward(np.array([[[5.0, 6.0]]]), saved)
    array([[[0., 5., 6., 0.]]])
    """
    return max_pool_backward_nd("max_pool1d_backward", dy, saved)


def max_pool3d(
    x: Array,
    kernel_size: Sizes,
    *,
    stride: Sizes | None = None,
    padding: Padding = 0,
    dilation: Sizes = 1,
    ceil_mode: bool = False,
) -> tuple[Array, MaxPoolSaved]:
    """Take the maximum of each window: :func:`tinyconv.ops.max_pool2d` for x (N, C, D, H, W).

    The argmax is the flat index in the (D, H, W) volume.

    >>> import numpy as np
    >>> y, saved = max_pool3d(np.arange(8.0).reshape(1, 1, 2, 2, 2), 2)
    >>> y.item(), saved.argmax.item()
    (7.0, 7)
    """
    axes = ("D", "H", "W")
    return max_pool_nd("max_pool3d", axes, x, kernel_size, stride, padding, dilation, ceil_mode)


def max_pool3d_backward(dy: Array, saved: MaxPoolSaved) -> Array:
    """Backpropagate through :func:`max_pool3d`: dy goes to where the maximum came from.

    >>> import numpy as np
    >>> y, saved = max_pool3d(np.arange(8.0).reshape(1, 1, 2, 2, 2), 2)
    >>> max_pool3d_backward(np.array([[[[[3.0]]]]]), saved).ravel()
    array([0., 0., 0., 0., 0., 0., 0., 3.])
    """
    return max_pool_backward_nd("max_pool3d_backward", dy, saved)


def avg_pool1d(
    x: Array,
    kernel_size: Sizes,
    *,
    stride: Sizes | None = None,
    padding: Padding = 0,
    dilation: Sizes = 1,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> tuple[Array, AvgPoolSaved]:
    """Take the mean of each window: :func:`tinyconv.ops.avg_pool2d` for x (N, C, L).

    >>> import numpy as np
    >>> avg_pool1d(np.array([[[1.0, 3.0, 4.0, 2.0]]]), 2)[0]
    array([[[2., 3.]]])
    """
    window = (kernel_size, stride, padding, dilation, ceil_mode)
    return avg_pool_nd("avg_pool1d", ("L",), x, *window, count_include_pad)


def avg_pool1d_backward(dy: Array, saved: AvgPoolSaved) -> Array:
    """Backpropagate through :func:`avg_pool1d`: each element of a window gets an equal share.

    >>> import numpy as np
    >>> y, saved = avg_pool1d(np.array([[[1.0, 3.0, 4.0, 2.0]]]), 2)
    >>> avg_pool1d_backward(np.array([[[2.0, 4.0]]]), saved)
    array([[[1., 1., 2., 2.]]])
    """
    return avg_pool_backward_nd("avg_pool1d_backward", dy, saved)


def avg_pool3d(
    x: Array,
    kernel_size: Sizes,
    *,
    stride: Sizes | None = None,
    padding: Padding = 0,
    dilation: Sizes = 1,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> tuple[Array, AvgPoolSaved]:
    """Take the mean of each window: :func:`tinyconv.ops.avg_pool2d` for x (N, C, D, H, W).

    >>> import numpy as np
    >>> avg_pool3d(np.arange(8.0).reshape(1, 1, 2, 2, 2), 2)[0].item()
    3.5
    """
    window = (kernel_size, stride, padding, dilation, ceil_mode)
    return avg_pool_nd("avg_pool3d", ("D", "H", "W"), x, *window, count_include_pad)


def avg_pool3d_backward(dy: Array, saved: AvgPoolSaved) -> Array:
    """Backpropagate through :func:`avg_pool3d`: each element of a window gets an equal share.

    >>> import numpy as np
    >>> y, saved = avg_pool3d(np.arange(8.0).reshape(1, 1, 2, 2, 2), 2)
    >>> avg_pool3d_backward(np.array([[[[[8.0]]]]]), saved).ravel()
    array([1., 1., 1., 1., 1., 1., 1., 1.])
    """
    return avg_pool_backward_nd("avg_pool3d_backward", dy, saved)


def lp_pool1d(
    x: Array,
    norm_type: float,
    kernel_size: Sizes,
    *,
    stride: Sizes | None = None,
    padding: Padding = 0,
    dilation: Sizes = 1,
    ceil_mode: bool = False,
) -> tuple[Array, LpPoolSaved]:
    """Take the p-norm of each window: :func:`tinyconv.ops.lp_pool2d` for x (N, C, L).

    >>> import numpy as np
    >>> lp_pool1d(np.array([[[3.0, 4.0]]]), 2, 2)[0].item()
    5.0
    """
    window = (kernel_size, stride, padding, dilation, ceil_mode)
    return lp_pool_nd("lp_pool1d", ("L",), x, norm_type, *window)


def lp_pool1d_backward(dy: Array, saved: LpPoolSaved) -> Array:
    """Backpropagate through :func:`lp_pool1d`, as :func:`tinyconv.ops.lp_pool2d_backward`.

    >>> import numpy as np
    >>> y, saved = lp_pool1d(np.array([[[3.0, 4.0]]]), 2, 2)
    >>> lp_pool1d_backward(np.array([[[10.0]]]), saved)
    array([[[6., 8.]]])
    """
    return lp_pool_backward_nd("lp_pool1d_backward", dy, saved)


def lp_pool3d(
    x: Array,
    norm_type: float,
    kernel_size: Sizes,
    *,
    stride: Sizes | None = None,
    padding: Padding = 0,
    dilation: Sizes = 1,
    ceil_mode: bool = False,
) -> tuple[Array, LpPoolSaved]:
    """Take the p-norm of each window: :func:`tinyconv.ops.lp_pool2d` for x (N, C, D, H, W).

    >>> import numpy as np
    >>> lp_pool3d(np.ones((1, 1, 2, 2, 4)), 2, (2, 2, 4))[0].item()
    4.0
    """
    window = (kernel_size, stride, padding, dilation, ceil_mode)
    return lp_pool_nd("lp_pool3d", ("D", "H", "W"), x, norm_type, *window)


def lp_pool3d_backward(dy: Array, saved: LpPoolSaved) -> Array:
    """Backpropagate through :func:`lp_pool3d`, as :func:`tinyconv.ops.lp_pool2d_backward`.

    >>> import numpy as np
    >>> y, saved = lp_pool3d(np.ones((1, 1, 2, 2, 4)), 2, (2, 2, 4))
    >>> lp_pool3d_backward(np.array([[[[[8.0]]]]]), saved).sum().item()
    32.0
    """
    return lp_pool_backward_nd("lp_pool3d_backward", dy, saved)

"""Pooling as layers: the maximum, the mean, a norm, LeCun's trainable sum; of whole planes."""

from math import prod
from typing import Annotated

from tinyconv.arguments import Count, Number, checked
from tinyconv.geometry import Geometry, Padding, Sizes
from tinyconv.layers.base import Shape
from tinyconv.layers.operation import OneOperation, OverAxes, check_input
from tinyconv.ops import pool as ops
from tinyconv.ops import pool_global as whole
from tinyconv.ops.subsample import subsample_nd, subsample_nd_backward
from tinyconv.parameters import ParameterSpec

__all__ = ["AvgPool1d", "AvgPool2d", "AvgPool3d", "MaxPool1d", "MaxPool2d", "MaxPool3d"]
__all__ += ["GlobalAvgPool", "GlobalMaxPool", "L2Pool2d", "LPPool1d", "LPPool2d", "LPPool3d"]
__all__ += ["Subsample2d"]


class _Pool(OverAxes):
    """What all poolings share: the window, the shapes, one operation without parameters."""

    @checked
    def __init__(
        self,
        kernel_size: Sizes,
        stride: Sizes | None = None,
        padding: Padding = 0,
        dilation: Sizes = 1,
        *,
        ceil_mode: bool = False,
    ) -> None:
        stride = kernel_size if stride is None else stride
        self._set_window(kernel_size, stride, padding, dilation)
        self.ceil_mode = ceil_mode

    def output_shape(self, shape: Shape) -> Shape:
        self._check_planes(shape)
        return (shape[0], *self.window(shape[1:]).output)

    def window(self, size: tuple[int, ...]) -> Geometry:
        """Return the sliding window over planes of this size.

        Raises:
            ShapeError: it does not fit.
        """
        name = type(self).__name__
        return ops.pool_geometry(name, size, *self._window, ceil_mode=self.ceil_mode)


class _MaxPool(_Pool):
    """Max-pooling over any number of axes."""

    operation = (ops.max_pool_nd, ops.max_pool_nd_backward)


class MaxPool1d(_MaxPool, axes=1):
    """As :class:`MaxPool2d`, from (N, C, L) to (N, C, OL)."""


class MaxPool2d(_MaxPool, axes=2):
    """Keep the maximum of each window: (N, C, H, W) -> (N, C, OH, OW).

    Args:
        kernel_size: one integer or (KH, KW).
        stride: step between two windows; the kernel size if None.
        padding: on each side, less than the window: one integer, (down, across), a
            (before, after) pair for each axis, "same" or "valid". It never is the maximum.
        dilation: distance between two elements of a window.
        ceil_mode: round the output size up; the last windows may then reach beyond the padding.

    >>> import numpy as np
    >>> MaxPool2d(2).forward(np.arange(16.0).reshape(1, 1, 4, 4))[0, 0]
    array([[ 5.,  7.],
           [13., 15.]])
    """


class MaxPool3d(_MaxPool, axes=3):
    """As :class:`MaxPool2d`, from (N, C, D, H, W) to (N, C, OD, OH, OW)."""


class _AvgPool(_Pool):
    """Average pooling over any number of axes."""

    operation = (ops.avg_pool_nd, ops.avg_pool_nd_backward)

    @checked
    def __init__(
        self,
        kernel_size: Sizes,
        stride: Sizes | None = None,
        padding: Padding = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        *,
        dilation: Sizes = 1,
    ) -> None:
        super().__init__(kernel_size, stride, padding, dilation, ceil_mode=ceil_mode)
        self.count_include_pad = count_include_pad


class AvgPool1d(_AvgPool, axes=1):
    """As :class:`AvgPool2d`, from (N, C, L) to (N, C, OL)."""


class AvgPool2d(_AvgPool, axes=2):
    """Average each window: (N, C, H, W) -> (N, C, OH, OW).

    Args:
        kernel_size: as of :class:`MaxPool2d`, and so are stride, ceil_mode and dilation.
        padding: likewise; its elements are zeros.
        count_include_pad: divide by the elements of the padding too.

    >>> import numpy as np
    >>> AvgPool2d(2).forward(np.arange(16.0).reshape(1, 1, 4, 4))[0, 0]
    array([[ 2.5,  4.5],
           [10.5, 12.5]])
    """


class AvgPool3d(_AvgPool, axes=3):
    """As :class:`AvgPool2d`, from (N, C, D, H, W) to (N, C, OD, OH, OW)."""


class _LPPool(_Pool):
    """Pooling by a norm over any number of axes."""

    operation = (ops.lp_pool_nd, ops.lp_pool_nd_backward)

    @checked
    def __init__(
        self,
        norm_type: Annotated[float, Number(least=1)],
        kernel_size: Sizes,
        stride: Sizes | None = None,
        ceil_mode: bool = False,
        padding: Padding = 0,
        *,
        dilation: Sizes = 1,
    ) -> None:
        super().__init__(kernel_size, stride, padding, dilation, ceil_mode=ceil_mode)
        self.norm_type = norm_type


class LPPool1d(_LPPool, axes=1):
    """As :class:`LPPool2d`, from (N, C, L) to (N, C, OL)."""


class LPPool2d(_LPPool, axes=2):
    """Take the p-norm of each window: (N, C, H, W) -> (N, C, OH, OW).

    Differs from PyTorch's where :func:`tinyconv.ops.lp_pool2d` says.

    Args:
        norm_type: the p of the norm, at least 1.
        kernel_size: as of :class:`AvgPool2d`, and so are stride, ceil_mode, padding and dilation.

    >>> import numpy as np
    >>> LPPool2d(1, 2).forward(np.array([[[[1.0, -3.0], [3.0, -2.0]]]])).item()
    9.0
    """


class LPPool3d(_LPPool, axes=3):
    """As :class:`LPPool2d`, from (N, C, D, H, W) to (N, C, OD, OH, OW)."""


class L2Pool2d(_Pool, axes=2):
    """Take the root of the sum of squares of each window: (N, C, H, W) -> (N, C, OH, OW).

    The arguments are those of :class:`AvgPool2d` but for count_include_pad.

    >>> import numpy as np
    >>> L2Pool2d(2).forward(np.array([[[[1.0, 2.0], [2.0, 4.0]]]])).item()
    5.0
    """

    operation = (ops.l2_pool_nd, ops.l2_pool_nd_backward)

    @checked
    def __init__(
        self,
        kernel_size: Sizes,
        stride: Sizes | None = None,
        padding: Padding = 0,
        ceil_mode: bool = False,
        *,
        dilation: Sizes = 1,
    ) -> None:
        super().__init__(kernel_size, stride, padding, dilation, ceil_mode=ceil_mode)


class Subsample2d(_Pool, axes=2):
    """Sum up each window, times a trainable coefficient, plus a bias: LeNet-5's pooling.

    (N, C, H, W) -> (N, C, OH, OW). LeCun passes the result on through a sigmoid.

    Args:
        num_features: C, or None to take it from the first input.
        kernel_size: one integer or (KH, KW).
        stride: step between two windows; the kernel size if None.

    Parameters: ``weight`` (C,), ``bias`` (C,).

    Source: LeCun et al., "Gradient-based learning applied to document recognition" (1998).

    >>> import numpy as np
    >>> layer = Subsample2d(1, 2)
    >>> x = np.array([[[[1.0, 3.0], [4.0, 2.0]]]])
    >>> layer.forward(x).item()  # the mean, before it has learned
    2.5
    """

    operation = (subsample_nd, subsample_nd_backward)
    _options = ("kernel_size", "stride")
    _takes_weights = True

    @checked
    def __init__(
        self, num_features: Count | None, kernel_size: Sizes, stride: Sizes | None = None
    ) -> None:
        super().__init__(kernel_size, stride, 0)
        self.num_features = num_features

    def output_shape(self, shape: Shape) -> Shape:  # noqa: D102
        y_shape = super().output_shape(shape)
        check_input("Subsample2d", shape, self.num_features, "C ...")
        return y_shape

    def specs(self, shape: Shape | None) -> dict[str, ParameterSpec] | None:  # noqa: D102
        C, area = self._size("num_features", shape), prod(self.kernel_size)
        if C is None:
            return None
        return {
            "weight": ParameterSpec((C,), "reciprocal", area),
            "bias": ParameterSpec((C,), "zeros", area, decay=False),
        }

    def multiply_adds(self, shape: Shape) -> int:  # noqa: D102
        return prod(self.output_shape(shape))


class GlobalAvgPool(OneOperation):
    """Average each plane: (N, C, *size) -> (N, C, 1, ...). PyTorch's AdaptiveAvgPool2d(1).

    Source: Lin, Chen and Yan, "Network in network" (2013).

    >>> import numpy as np
    >>> GlobalAvgPool().forward(np.array([[[[1.0, 3.0], [4.0, 2.0]]]]))
    array([[[[2.5]]]])
    """

    operation = (whole.global_avg_pool, whole.global_avg_pool_backward)


class GlobalMaxPool(OneOperation):
    """Keep the maximum of each plane: (N, C, *size) -> (N, C, 1, ...).

    PyTorch's AdaptiveMaxPool2d(1).

    >>> import numpy as np
    >>> GlobalMaxPool().forward(np.array([[[[1.0, 3.0], [4.0, 2.0]]]]))
    array([[[[4.]]]])
    """

    operation = (whole.global_max_pool, whole.global_max_pool_backward)

"""Pooling as layers."""

from typing import Any

from tinyconv.backend import Array
from tinyconv.errors import ShapeError
from tinyconv.geometry import spread
from tinyconv.layers.base import Layer, Shape
from tinyconv.ops.pool import (
    avg_pool2d,
    avg_pool2d_backward,
    max_pool2d,
    max_pool2d_backward,
    pool_geometry,
)
from tinyconv.ops.pool_lp import l2_pool2d, l2_pool2d_backward

__all__ = ["AvgPool2d", "L2Pool2d", "MaxPool2d"]


class _Pool2d(Layer):
    """What the three poolings share: the arguments and the shapes."""

    def __init__(
        self,
        kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int] | None = None,
        padding: int | tuple[int, int] = 0,
    ) -> None:
        super().__init__()
        name = type(self).__name__
        self.kernel_size = spread(name, "kernel_size", kernel_size, 2, least=1)
        self.stride = (
            self.kernel_size if stride is None else spread(name, "stride", stride, 2, least=1)
        )
        self.padding = spread(name, "padding", padding, 2, least=0)

    def config(self) -> dict[str, Any]:
        return {"kernel_size": self.kernel_size, "stride": self.stride, "padding": self.padding}

    def output_shape(self, shape: Shape) -> Shape:
        name = type(self).__name__
        if len(shape) != 3:
            raise ShapeError(f"{name}: input of shape {shape}, expected (C, H, W)")
        window = pool_geometry(name, shape[1:], self.kernel_size, self.stride, self.padding)
        return (shape[0], *window.output)


class MaxPool2d(_Pool2d):
    """Keep the maximum of each window: (N, C, H, W) -> (N, C, OH, OW).

    Args:
        kernel_size: one integer or (KH, KW).
        stride: step between two windows; the kernel size if None.
        padding: on each side, at most half the kernel.

    >>> import numpy as np
    >>> MaxPool2d(2).forward(np.arange(16.0).reshape(1, 1, 4, 4))[0, 0]
    array([[ 5.,  7.],
           [13., 15.]])
    """

    def _forward(self, x: Array, training: bool, step: int) -> tuple[Array, Any]:
        return max_pool2d(x, self.kernel_size, self.stride, self.padding)

    def _backward(self, dy: Array, saved: Any) -> tuple[Array, dict[str, Array]]:
        return max_pool2d_backward(dy, saved), {}


class AvgPool2d(_Pool2d):
    """Average each window, zeros of the padding included: (N, C, H, W) -> (N, C, OH, OW).

    Args:
        kernel_size: one integer or (KH, KW).
        stride: step between two windows; the kernel size if None.
        padding: zeros on each side, at most half the kernel.

    >>> import numpy as np
    >>> AvgPool2d(2).forward(np.arange(16.0).reshape(1, 1, 4, 4))[0, 0]
    array([[ 2.5,  4.5],
           [10.5, 12.5]])
    """

    def _forward(self, x: Array, training: bool, step: int) -> tuple[Array, Any]:
        return avg_pool2d(x, self.kernel_size, self.stride, self.padding)

    def _backward(self, dy: Array, saved: Any) -> tuple[Array, dict[str, Array]]:
        return avg_pool2d_backward(dy, saved), {}


class L2Pool2d(_Pool2d):
    """Take the root of the sum of squares of each window: (N, C, H, W) -> (N, C, OH, OW).

    Args:
        kernel_size: one integer or (KH, KW).
        stride: step between two windows; the kernel size if None.
        padding: zeros on each side, at most half the kernel.

    >>> import numpy as np
    >>> L2Pool2d(2).forward(np.array([[[[1.0, 2.0], [2.0, 4.0]]]])).item()
    5.0
    """

    def _forward(self, x: Array, training: bool, step: int) -> tuple[Array, Any]:
        return l2_pool2d(x, self.kernel_size, self.stride, self.padding)

    def _backward(self, dy: Array, saved: Any) -> tuple[Array, dict[str, Array]]:
        return l2_pool2d_backward(dy, saved), {}

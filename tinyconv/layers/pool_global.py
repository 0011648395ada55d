"""Pooling of whole planes as layers, for any number of axes."""

from typing import Any

from tinyconv.backend import Array
from tinyconv.layers.base import Layer, Shape, shape_of
from tinyconv.ops.pool_global import (
    global_avg_pool,
    global_avg_pool_backward,
    global_max_pool,
    global_max_pool_backward,
)

__all__ = ["GlobalAvgPool", "GlobalMaxPool"]


class GlobalAvgPool(Layer):
    """Average each plane: (N, C, *size) -> (N, C, 1, ...). PyTorch's AdaptiveAvgPool2d(1).

    Source: Lin, Chen and Yan, "Network in network" (2013).

    >>> import numpy as np
    >>> GlobalAvgPool().forward(np.array([[[[1.0, 3.0], [4.0, 2.0]]]]))
    array([[[[2.5]]]])
    """

    def config(self) -> dict[str, Any]:  # noqa: D102
        return {}

    def output_shape(self, shape: Shape) -> Shape:  # noqa: D102
        return shape_of(global_avg_pool, shape)

    def compute(self, x: Array, training: bool, step: int) -> tuple[Array, Any]:  # noqa: D102
        return global_avg_pool(x)

    def compute_backward(self, dy: Array, saved: Any) -> tuple[Array, dict[str, Array]]:  # noqa: D102
        return global_avg_pool_backward(dy, saved), {}


class GlobalMaxPool(Layer):
    """Keep the maximum of each plane: (N, C, *size) -> (N, C, 1, ...).

    PyTorch's AdaptiveMaxPool2d(1).

    >>> import numpy as np
    >>> GlobalMaxPool().forward(np.array([[[[1.0, 3.0], [4.0, 2.0]]]]))
    array([[[[4.]]]])
    """

    def config(self) -> dict[str, Any]:  # noqa: D102
        return {}

    def output_shape(self, shape: Shape) -> Shape:  # noqa: D102
        return shape_of(global_max_pool, shape)

    def compute(self, x: Array, training: bool, step: int) -> tuple[Array, Any]:  # noqa: D102
        return global_max_pool(x)

    def compute_backward(self, dy: Array, saved: Any) -> tuple[Array, dict[str, Array]]:  # noqa: D102
        return global_max_pool_backward(dy, saved), {}

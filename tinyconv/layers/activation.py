"""Activations as layers: they keep the shape and have no parameters."""

from typing import Any

from tinyconv.backend import Array
from tinyconv.layers.base import Layer, Shape
from tinyconv.ops.activation import (
    relu,
    relu_backward,
    sigmoid,
    sigmoid_backward,
    tanh,
    tanh_backward,
)

__all__ = ["ReLU", "Sigmoid", "Tanh"]


class _Activation(Layer):
    """What all activations share."""

    def config(self) -> dict[str, Any]:
        return {}

    def output_shape(self, shape: Shape) -> Shape:
        return shape


class ReLU(_Activation):
    """``max(x, 0)``, of any shape.

    >>> import numpy as np
    >>> ReLU().forward(np.array([[-1.0, 2.0]]))
    array([[0., 2.]])
    """

    def _forward(self, x: Array, training: bool, step: int) -> tuple[Array, Any]:
        return relu(x)

    def _backward(self, dy: Array, saved: Any) -> tuple[Array, dict[str, Array]]:
        return relu_backward(dy, saved), {}


class Sigmoid(_Activation):
    """``1 / (1 + exp(-x))``, of any shape.

    >>> import numpy as np
    >>> Sigmoid().forward(np.array([[0.0]]))
    array([[0.5]])
    """

    def _forward(self, x: Array, training: bool, step: int) -> tuple[Array, Any]:
        return sigmoid(x)

    def _backward(self, dy: Array, saved: Any) -> tuple[Array, dict[str, Array]]:
        return sigmoid_backward(dy, saved), {}


class Tanh(_Activation):
    """``tanh(x)``, of any shape.

    >>> import numpy as np
    >>> Tanh().forward(np.array([[0.0]]))
    array([[0.]])
    """

    def _forward(self, x: Array, training: bool, step: int) -> tuple[Array, Any]:
        return tanh(x)

    def _backward(self, dy: Array, saved: Any) -> tuple[Array, dict[str, Array]]:
        return tanh_backward(dy, saved), {}

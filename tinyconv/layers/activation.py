"""Activations as layers: they keep the shape and have no parameters."""

from collections.abc import Callable
from typing import Any, ClassVar

from tinyconv.backend import Array
from tinyconv.layers.base import Layer, Shape
from tinyconv.ops import activation

__all__ = ["ReLU", "Sigmoid", "Tanh"]


class _Activation(Layer):
    """What all activations share."""

    _operation: ClassVar[Callable[[Array], tuple[Array, Array]]]
    _operation_backward: ClassVar[Callable[[Array, Array], Array]]

    def config(self) -> dict[str, Any]:
        return {}

    def output_shape(self, shape: Shape) -> Shape:
        return shape

    def _forward(self, x: Array, training: bool, step: int) -> tuple[Array, Any]:
        return type(self)._operation(x)

    def _backward(self, dy: Array, saved: Any) -> tuple[Array, dict[str, Array]]:
        return type(self)._operation_backward(dy, saved), {}


class ReLU(_Activation):
    """``max(x, 0)``, of any shape.

    >>> import numpy as np
    >>> ReLU().forward(np.array([[-1.0, 2.0]]))
    array([[0., 2.]])
    """

    _operation = staticmethod(activation.relu)
    _operation_backward = staticmethod(activation.relu_backward)


class Sigmoid(_Activation):
    """``1 / (1 + exp(-x))``, of any shape.

    >>> import numpy as np
    >>> Sigmoid().forward(np.array([[0.0]]))
    array([[0.5]])
    """

    _operation = staticmethod(activation.sigmoid)
    _operation_backward = staticmethod(activation.sigmoid_backward)


class Tanh(_Activation):
    """``tanh(x)``, of any shape.

    >>> import numpy as np
    >>> Tanh().forward(np.array([[0.0]]))
    array([[0.]])
    """

    _operation = staticmethod(activation.tanh)
    _operation_backward = staticmethod(activation.tanh_backward)

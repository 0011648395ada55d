"""Activations as layers: they keep the shape and have no parameters."""

from collections.abc import Callable
from typing import Annotated, Any

from tinyconv.arguments import OneOf, Positive, checked
from tinyconv.backend import Array
from tinyconv.layers.base import Layer, Shape
from tinyconv.ops.activation import (
    elu,
    elu_backward,
    leaky_relu,
    leaky_relu_backward,
    relu,
    relu_backward,
    scaled_tanh,
    scaled_tanh_backward,
    sigmoid,
    sigmoid_backward,
    tanh,
    tanh_backward,
)
from tinyconv.ops.activation_smooth import (
    gelu,
    gelu_backward,
    silu,
    silu_backward,
    softplus,
    softplus_backward,
)

__all__ = [
    "ELU",
    "GELU",
    "LeakyReLU",
    "ReLU",
    "ScaledTanh",
    "SiLU",
    "Sigmoid",
    "Softplus",
    "Tanh",
]


class _Activation(Layer):
    """What all activations share: one operation, whose options are the arguments."""

    _operation: tuple[Callable[..., tuple[Array, Any]], Callable[[Array, Any], Array]]

    def config(self) -> dict[str, Any]:
        return {}

    def output_shape(self, shape: Shape) -> Shape:
        return shape

    def compute(self, x: Array, training: bool, step: int) -> tuple[Array, Any]:
        forward, _ = self._operation
        return forward(x, **self.config())

    def compute_backward(self, dy: Array, saved: Any) -> tuple[Array, dict[str, Array]]:
        _, backward = self._operation
        return backward(dy, saved), {}


class ReLU(_Activation):
    """``max(x, 0)``, of any shape.

    >>> import numpy as np
    >>> ReLU().forward(np.array([[-1.0, 2.0]]))
    array([[0., 2.]])
    """

    _operation = (relu, relu_backward)


class LeakyReLU(_Activation):
    """``x`` where that is positive, ``negative_slope x`` elsewhere, of any shape.

    Args:
        negative_slope: the slope at and below 0.

    Raises:
        ArgumentError: the slope is no finite number.

    >>> import numpy as np
    >>> LeakyReLU(0.1).forward(np.array([[-1.0, 2.0]]))
    array([[-0.1,  2. ]])
    """

    _operation = (leaky_relu, leaky_relu_backward)

    @checked
    def __init__(self, negative_slope: float = 0.01) -> None:
        super().__init__()
        self.negative_slope = negative_slope

    def config(self) -> dict[str, Any]:  # noqa: D102
        return {"negative_slope": self.negative_slope}


class ELU(_Activation):
    """``x`` where that is positive, ``alpha (exp(x) - 1)`` elsewhere, of any shape.

    Args:
        alpha: -alpha is the limit for large negative x.

    Raises:
        ArgumentError: alpha is no finite number.

    >>> import numpy as np
    >>> ELU(2.0).forward(np.array([[-1000.0, 2.0]]))
    array([[-2.,  2.]])
    """

    _operation = (elu, elu_backward)

    @checked
    def __init__(self, alpha: float = 1.0) -> None:
        super().__init__()
        self.alpha = alpha

    def config(self) -> dict[str, Any]:  # noqa: D102
        return {"alpha": self.alpha}


class GELU(_Activation):
    """``x P(x)``, where P is the distribution function of a Gaussian; of any shape.

    Args:
        approximate: ``"none"``, or ``"tanh"`` for a formula without the error function.

    Raises:
        ArgumentError: approximate is neither of the two.

    >>> import numpy as np
    >>> GELU().forward(np.array([[-1.0, 0.0, 2.0]])).round(4)
    array([[-0.1587,  0.    ,  1.9545]])
    """

    _operation = (gelu, gelu_backward)

    @checked
    def __init__(self, approximate: Annotated[str, OneOf("none", "tanh")] = "none") -> None:
        super().__init__()
        self.approximate = approximate

    def config(self) -> dict[str, Any]:  # noqa: D102
        return {"approximate": self.approximate}


class SiLU(_Activation):
    """``x / (1 + exp(-x))``, of any shape.

    >>> import numpy as np
    >>> SiLU().forward(np.array([[-1000.0, 0.0, 1000.0]])) + 0.0
    array([[   0.,    0., 1000.]])
    """

    _operation = (silu, silu_backward)


class Softplus(_Activation):
    """``log(1 + exp(beta x)) / beta``, of any shape.

    Args:
        beta: the larger, the nearer to ReLU. (PyTorch's threshold is not needed: nothing
            overflows.)

    Raises:
        ArgumentError: beta is not positive.

    >>> import numpy as np
    >>> Softplus().forward(np.array([[-1000.0, 0.0, 3.0]])).round(4)
    array([[0.    , 0.6931, 3.0486]])
    """

    _operation = (softplus, softplus_backward)

    @checked
    def __init__(self, beta: Positive = 1.0) -> None:
        super().__init__()
        self.beta = beta

    def config(self) -> dict[str, Any]:  # noqa: D102
        return {"beta": self.beta}


class Sigmoid(_Activation):
    """``1 / (1 + exp(-x))``, of any shape.

    >>> import numpy as np
    >>> Sigmoid().forward(np.array([[0.0]]))
    array([[0.5]])
    """

    _operation = (sigmoid, sigmoid_backward)


class Tanh(_Activation):
    """``tanh(x)``, of any shape.

    >>> import numpy as np
    >>> Tanh().forward(np.array([[0.0]]))
    array([[0.]])
    """

    _operation = (tanh, tanh_backward)


class ScaledTanh(_Activation):
    """``1.7159 tanh(2 x / 3)``, of any shape: LeCun's, which maps 1 to 1 and -1 to -1.

    >>> import numpy as np
    >>> ScaledTanh().forward(np.array([[-1.0, 0.0, 1.0]])).round(3)
    array([[-1.,  0.,  1.]])
    """

    _operation = (scaled_tanh, scaled_tanh_backward)

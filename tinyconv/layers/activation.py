"""Activations as layers: they keep the shape and have no parameters."""

from typing import Annotated

from tinyconv.arguments import OneOf, Positive, checked
from tinyconv.layers.base import Shape
from tinyconv.layers.operation import OneOperation
from tinyconv.ops import activation as ops

__all__ = ["ELU", "GELU", "LeakyReLU", "ReLU", "ScaledTanh", "SiLU", "Sigmoid", "Softplus", "Tanh"]


class _Activation(OneOperation):
    """What all activations share: they keep the shape."""

    def output_shape(self, shape: Shape) -> Shape:
        return shape


class ReLU(_Activation):
    """``max(x, 0)``, of any shape.

    >>> import numpy as np
    >>> ReLU().forward(np.array([[-1.0, 2.0]]))
    array([[0., 2.]])
    """

    operation = (ops.relu, ops.relu_backward)


class LeakyReLU(_Activation):
    """``x`` where that is positive, ``negative_slope x`` elsewhere, of any shape.

    Args:
        negative_slope: the slope at and below 0.

    >>> import numpy as np
    >>> LeakyReLU(0.1).forward(np.array([[-1.0, 2.0]]))
    array([[-0.1,  2. ]])
    """

    operation = (ops.leaky_relu, ops.leaky_relu_backward)

    @checked
    def __init__(self, negative_slope: float = 0.01) -> None:
        self.negative_slope = negative_slope


class ELU(_Activation):
    """``x`` where that is positive, ``alpha (exp(x) - 1)`` elsewhere, of any shape.

    Args:
        alpha: -alpha is the limit for large negative x.

    >>> import numpy as np
    >>> ELU(2.0).forward(np.array([[-1000.0, 2.0]]))
    array([[-2.,  2.]])
    """

    operation = (ops.elu, ops.elu_backward)

    @checked
    def __init__(self, alpha: float = 1.0) -> None:
        self.alpha = alpha


class GELU(_Activation):
    """``x P(x)``, where P is the distribution function of a Gaussian; of any shape.

    Args:
        approximate: ``"none"``, or ``"tanh"`` for a formula without the error function.

    >>> import numpy as np
    >>> GELU().forward(np.array([[-1.0, 0.0, 2.0]])).round(4)
    array([[-0.1587,  0.    ,  1.9545]])
    """

    operation = (ops.gelu, ops.gelu_backward)

    @checked
    def __init__(self, approximate: Annotated[str, OneOf("none", "tanh")] = "none") -> None:
        self.approximate = approximate


class SiLU(_Activation):
    """``x / (1 + exp(-x))``, of any shape.

    >>> import numpy as np
    >>> SiLU().forward(np.array([[-1000.0, 0.0, 1000.0]])) + 0.0
    array([[   0.,    0., 1000.]])
    """

    operation = (ops.silu, ops.silu_backward)


class Softplus(_Activation):
    """``log(1 + exp(beta x)) / beta``, of any shape.

    Args:
        beta: the larger, the nearer to ReLU. (PyTorch's threshold is not needed: nothing
            overflows.)

    >>> import numpy as np
    >>> Softplus().forward(np.array([[-1000.0, 0.0, 3.0]])).round(4)
    array([[0.    , 0.6931, 3.0486]])
    """

    operation = (ops.softplus, ops.softplus_backward)

    @checked
    def __init__(self, beta: Positive = 1.0) -> None:
        self.beta = beta


class Sigmoid(_Activation):
    """``1 / (1 + exp(-x))``, of any shape.

    >>> import numpy as np
    >>> Sigmoid().forward(np.array([[0.0]]))
    array([[0.5]])
    """

    operation = (ops.sigmoid, ops.sigmoid_backward)


class Tanh(_Activation):
    """``tanh(x)``, of any shape.

    >>> import numpy as np
    >>> Tanh().forward(np.array([[0.0]]))
    array([[0.]])
    """

    operation = (ops.tanh, ops.tanh_backward)


class ScaledTanh(_Activation):
    """``1.7159 tanh(2 x / 3)``, of any shape: LeCun's, which maps 1 to 1 and -1 to -1.

    >>> import numpy as np
    >>> ScaledTanh().forward(np.array([[-1.0, 0.0, 1.0]])).round(3)
    array([[-1.,  0.,  1.]])
    """

    operation = (ops.scaled_tanh, ops.scaled_tanh_backward)

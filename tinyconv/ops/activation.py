"""Elementwise activations whose slope follows from the output, or from the sign of the input.

The smooth relatives of the rectifier are in :mod:`tinyconv.ops.activation_smooth`.
"""

from typing import NamedTuple

from tinyconv.backend import Array, floating, real_part
from tinyconv.ops.checks import incoming

# With these the outputs 1 and -1 lie where the curvature of the scaled tanh is greatest, and
# scaled_tanh(1) = 1.
AMPLITUDE = 1.7159
STEEPNESS = 2 / 3


class ActivationSaved(NamedTuple):
    """What the forward pass of an activation with a parameter keeps for the backward pass."""

    x: Array
    parameter: float


def relu(x: Array) -> tuple[Array, Array]:
    """Rectify: ``y = max(x, 0)``. NaN stays NaN.

    Source: Glorot, Bordes and Bengio, "Deep sparse rectifier neural networks" (2011).

    >>> import numpy as np
    >>> relu(np.array([-1.0, 0.0, 2.0]))[0]
    array([0., 0., 2.])
    """
    xp = floating("relu", x=x)
    y = xp.where(real_part(xp, x) <= 0, xp.zeros_like(x), x)
    return y, y


def relu_backward(dy: Array, y: Array) -> Array:
    """Backpropagate through :func:`relu`: ``dx = dy`` where y > 0, else 0 (also at x = 0).

    >>> import numpy as np
    >>> relu_backward(np.array([1.0, 2.0, 3.0]), np.array([0.0, 0.0, 2.0]))
    array([0., 0., 3.])
    """
    xp = incoming("relu_backward", dy, y=y)
    return xp.where(real_part(xp, y) <= 0, xp.zeros_like(dy), dy)


def sigmoid(x: Array) -> tuple[Array, Array]:
    """Squash into (0, 1): ``y = 1 / (1 + exp(-x))``.

    Computed as exp(x) / (1 + exp(x)) where x < 0, so that no x overflows and small results are
    as exact as large ones.

    Source: Nielsen, "Neural Networks and Deep Learning", equation 3.

    >>> import numpy as np
    >>> sigmoid(np.array([-1000.0, 0.0, 1000.0]))[0]
    array([0. , 0.5, 1. ])
    """
    xp = floating("sigmoid", x=x)
    is_negative = real_part(xp, x) < 0
    e = xp.exp(xp.where(is_negative, x, -x))
    y = xp.where(is_negative, e, xp.ones_like(e)) / (1 + e)
    return y, y


def sigmoid_backward(dy: Array, y: Array) -> Array:
    """Backpropagate through :func:`sigmoid`: ``dx = dy y (1 - y)``.

    >>> import numpy as np
    >>> sigmoid_backward(np.array([4.0]), np.array([0.5]))
    array([1.])
    """
    incoming("sigmoid_backward", dy, y=y)
    return dy * y * (1 - y)


def tanh(x: Array) -> tuple[Array, Array]:
    """Squash into (-1, 1): ``y = tanh(x)``.

    Source: Nielsen, "Neural Networks and Deep Learning", equation 110.

    >>> import numpy as np
    >>> tanh(np.array([0.0, 1000.0]))[0]
    array([0., 1.])
    """
    xp = floating("tanh", x=x)
    y = xp.tanh(x)
    return y, y


def tanh_backward(dy: Array, y: Array) -> Array:
    """Backpropagate through :func:`tanh`: ``dx = dy (1 - y^2)``.

    >>> import numpy as np
    >>> tanh_backward(np.array([4.0]), np.array([0.5]))
    array([3.])
    """
    incoming("tanh_backward", dy, y=y)
    return dy * (1 - y * y)


def scaled_tanh(x: Array) -> tuple[Array, Array]:
    """Squash into (-1.7159, 1.7159): ``y = 1.7159 tanh(2 x / 3)``, LeNet-5's activation.

    Source: LeCun, Bottou, Bengio and Haffner, "Gradient-based learning applied to document
    recognition" (1998), appendix A.

    >>> import numpy as np
    >>> scaled_tanh(np.array([0.0, 1.0, -1000.0]))[0].round(4)
    array([ 0.    ,  1.    , -1.7159])
    """
    xp = floating("scaled_tanh", x=x)
    y = AMPLITUDE * xp.tanh(STEEPNESS * x)
    return y, y


def scaled_tanh_backward(dy: Array, y: Array) -> Array:
    """Backpropagate through :func:`scaled_tanh`: ``dx = dy 2/3 (1.7159 - y^2 / 1.7159)``.

    >>> import numpy as np
    >>> scaled_tanh_backward(np.array([1.5]), np.array([0.0]))
    array([1.7159])
    """
    incoming("scaled_tanh_backward", dy, y=y)
    return dy * (STEEPNESS * (AMPLITUDE - y * y / AMPLITUDE))


def leaky_relu(x: Array, *, negative_slope: float = 0.01) -> tuple[Array, ActivationSaved]:
    """Rectify, but not wholly: ``y = x`` where x > 0, else ``negative_slope x``.

    Args:
        negative_slope: the slope at and below 0.

    Source: Maas, Hannun and Ng, "Rectifier nonlinearities improve neural network acoustic models"
    (2013).

    >>> import numpy as np
    >>> leaky_relu(np.array([-1.0, 0.0, 2.0]), negative_slope=0.25)[0]
    array([-0.25,  0.  ,  2.  ])
    """
    xp = floating("leaky_relu", x=x)
    y = xp.where(real_part(xp, x) > 0, x, negative_slope * x)
    return y, ActivationSaved(x, negative_slope)


def leaky_relu_backward(dy: Array, saved: ActivationSaved) -> Array:
    """Backpropagate through :func:`leaky_relu`: ``dx = dy`` where x > 0, else ``slope dy``.

    >>> import numpy as np
    >>> y, saved = leaky_relu(np.array([-1.0, 0.0, 2.0]), negative_slope=0.25)
    >>> leaky_relu_backward(np.array([4.0, 8.0, 3.0]), saved)
    array([1., 2., 3.])
    """
    x, negative_slope = saved
    xp = incoming("leaky_relu_backward", dy, x=x)
    return xp.where(real_part(xp, x) > 0, dy, negative_slope * dy)


def elu(x: Array, *, alpha: float = 1.0) -> tuple[Array, ActivationSaved]:
    """Rectify, saturating below: ``y = x`` where x > 0, else ``alpha (exp(x) - 1)``.

    Args:
        alpha: -alpha is the limit for large negative x.

    Source: Clevert, Unterthiner and Hochreiter, "Fast and accurate deep network learning by
    exponential linear units (ELUs)" (2015).

    >>> import numpy as np
    >>> elu(np.array([-1000.0, 0.0, 2.0]))[0]
    array([-1.,  0.,  2.])
    """
    xp = floating("elu", x=x)
    is_positive = real_part(xp, x) > 0
    # Where x is positive the exponential is not wanted, and might overflow.
    below = alpha * xp.expm1(xp.where(is_positive, xp.zeros_like(x), x))
    return xp.where(is_positive, x, below), ActivationSaved(x, alpha)


def elu_backward(dy: Array, saved: ActivationSaved) -> Array:
    """Backpropagate through :func:`elu`: ``dx = dy`` where x > 0, else ``dy alpha exp(x)``.

    >>> import numpy as np
    >>> y, saved = elu(np.log([0.5, 1.0, 2.0]))
    >>> elu_backward(np.array([6.0, 2.0, 3.0]), saved)
    array([3., 2., 3.])
    """
    x, alpha = saved
    xp = incoming("elu_backward", dy, x=x)
    is_positive = real_part(xp, x) > 0
    slope = alpha * xp.exp(xp.where(is_positive, xp.zeros_like(x), x))
    return xp.where(is_positive, dy, dy * slope)

"""Elementwise activations: rectifiers, what squashes, and the smooth relatives of the rectifier."""

import math
from types import ModuleType
from typing import NamedTuple

from tinyconv.backend import Array, floating, real_part
from tinyconv.errors import ShapeError
from tinyconv.ops.checks import incoming

# With these the outputs 1 and -1 lie where the curvature of the scaled tanh is greatest, and
# scaled_tanh(1) = 1.
AMPLITUDE = 1.7159
STEEPNESS = 2 / 3


class ActivationSaved(NamedTuple):
    """What the forward pass of an activation with a parameter keeps for the backward pass."""

    x: Array
    parameter: float


class GeluSaved(NamedTuple):
    """What the forward pass of :func:`gelu` keeps for the backward pass."""

    x: Array
    gate: Array  #: what x was multiplied by
    approximate: str


class SiluSaved(NamedTuple):
    """What the forward pass of :func:`silu` keeps for the backward pass."""

    x: Array
    gate: Array  #: sigmoid(x)


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


def gelu(x: Array, *, approximate: str = "none") -> tuple[Array, GeluSaved]:
    """Let x through with the probability that a normal variable is below it: ``y = x P(x)``.

        P(x) = (1 + erf(x / sqrt(2))) / 2                                     approximate="none"
        P(x) = (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) / 2                approximate="tanh"

    Args:
        approximate: "none" or "tanh", as in PyTorch and ONNX.

    Raises:
        ShapeError: approximate is something else.

    Source: Hendrycks and Gimpel, "Gaussian error linear units (GELUs)" (2016).

    >>> import numpy as np
    >>> gelu(np.array([-10.0, 0.0, 1.0]))[0].round(4)
    array([-0.    ,  0.    ,  0.8413])
    """
    xp = floating("gelu", x=x)
    z = _in_double(xp, x)
    if approximate == "none":
        gate = _normal_below(xp, z)
    elif approximate == "tanh":
        gate, _ = sigmoid(2 * math.sqrt(2 / math.pi) * (z + 0.044715 * z**3))
    else:
        raise ShapeError(f"gelu: approximate is {approximate!r}, expected 'none' or 'tanh'")
    gate = xp.astype(gate, x.dtype)
    return x * gate, GeluSaved(x, gate, approximate)


def gelu_backward(dy: Array, saved: GeluSaved) -> Array:
    """Backpropagate through :func:`gelu`: ``dx = dy (P(x) + x P'(x))``.

        P'(x) = exp(-x^2 / 2) / sqrt(2 pi)                                    approximate="none"
        P'(x) = 2 P(x) (1 - P(x)) sqrt(2 / pi) (1 + 3 0.044715 x^2)           approximate="tanh"

    >>> import numpy as np
    >>> y, saved = gelu(np.array([0.0, 10.0]))
    >>> gelu_backward(np.array([4.0, 4.0]), saved)
    array([2., 4.])
    """
    x, gate, approximate = saved
    xp = incoming("gelu_backward", dy, x=x)
    if approximate == "none":
        z = _in_double(xp, x)
        density = xp.exp(z * z * -0.5) * (1 / math.sqrt(2 * math.pi))
        change = x * xp.astype(density, x.dtype)
    else:
        # The small factor comes before any square of x, which may not be finite where that is 0.
        change = x * (gate * (1 - gate))
        change = 2 * math.sqrt(2 / math.pi) * (change + 3 * 0.044715 * (x * (x * change)))
    return dy * (gate + change)


def silu(x: Array) -> tuple[Array, SiluSaved]:
    """Let x through by its own sigmoid: ``y = x sigmoid(x)``, also called swish.

    Source: Elfwing, Uchibe and Doya, "Sigmoid-weighted linear units for neural network function
    approximation in reinforcement learning" (2017).

    >>> import numpy as np
    >>> silu(np.array([-1000.0, 0.0, 1000.0]))[0]
    array([  -0.,    0., 1000.])
    """
    floating("silu", x=x)
    gate, _ = sigmoid(x)
    return x * gate, SiluSaved(x, gate)


def silu_backward(dy: Array, saved: SiluSaved) -> Array:
    """Backpropagate through :func:`silu`: ``dx = dy s (1 + x (1 - s))`` with s = sigmoid(x).

    >>> import numpy as np
    >>> y, saved = silu(np.array([0.0, 1000.0]))
    >>> silu_backward(np.array([4.0, 4.0]), saved)
    array([2., 4.])
    """
    x, gate = saved
    incoming("silu_backward", dy, x=x)
    return dy * (gate * (1 + x * (1 - gate)))


def softplus(x: Array, *, beta: float = 1.0) -> tuple[Array, ActivationSaved]:
    """Rectify with a round corner: ``y = log(1 + exp(beta x)) / beta``.

    Computed as max(x, 0) + log(1 + exp(-\\|beta x\\|)) / beta, the same function, which no x
    overflows. PyTorch gives x itself where beta x is above 20; the difference is below 3e-9.

    Args:
        beta: how sharp the corner is, greater than 0.

    Raises:
        ShapeError: beta is not greater than 0.

    Source: Dugas et al., "Incorporating second-order functional knowledge for better option
    pricing" (2001).

    >>> import numpy as np
    >>> softplus(np.array([-1000.0, 0.0, 1000.0]))[0].round(4)
    array([0.000e+00, 6.931e-01, 1.000e+03])
    """
    xp = floating("softplus", x=x)
    if not beta > 0:
        raise ShapeError(f"softplus: beta is {beta!r}, expected a number greater than 0")
    is_negative = real_part(xp, x) < 0
    away = xp.where(is_negative, x, -x)  # -|x|, by the sign of the real part
    y = xp.where(is_negative, xp.zeros_like(x), x) + xp.log1p(xp.exp(beta * away)) / beta
    return y, ActivationSaved(x, beta)


def softplus_backward(dy: Array, saved: ActivationSaved) -> Array:
    """Backpropagate through :func:`softplus`: ``dx = dy sigmoid(beta x)``.

    >>> import numpy as np
    >>> y, saved = softplus(np.array([-1000.0, 0.0, 1000.0]))
    >>> softplus_backward(np.array([4.0, 4.0, 4.0]), saved)
    array([0., 2., 4.])
    """
    x, beta = saved
    incoming("softplus_backward", dy, x=x)
    return dy * sigmoid(beta * x)[0]


def _in_double(xp: ModuleType, x: Array) -> Array:
    """Return x in double precision, as exp multiplies its argument's rounding by the argument."""
    is_complex = xp.isdtype(x.dtype, "complex floating")
    return xp.astype(x, xp.complex128 if is_complex else xp.float64)


def _normal_below(xp: ModuleType, z: Array) -> Array:
    """Return the probability that a normal variable is below z, (1 + erf(z / sqrt(2))) / 2.

    Far below 0 that would cancel. There Laplace's continued fraction has it, which is exact to
    rounding after 100 steps:

        P(-t) = P'(t) / (t + 1 / (t + 2 / (t + 3 / (t + ...))))

    Source: Abramowitz and Stegun, "Handbook of mathematical functions", equation 26.2.14.
    """
    real = real_part(xp, z)
    is_far = real < -2
    # From 40 on it is 0; in places that are not far, any number serves.
    one = xp.ones_like(z)
    t = xp.where(is_far & (real > -40), -z, xp.where(is_far, 40 * one, 2 * one))
    fraction = t
    for n in range(100, 0, -1):
        fraction = t + n / fraction
    tail = xp.exp(t * t * -0.5) * (1 / math.sqrt(2 * math.pi)) / fraction
    near = (1 + _erf(xp, z * math.sqrt(0.5))) * 0.5
    return xp.where(is_far, tail, near)


def _erf(xp: ModuleType, z: Array) -> Array:
    """Return the error function, which the array API does not have, to within 3e-15.

        erf(x) = 2 / sqrt(pi) exp(-x^2) sum_{n >= 0} 2^n x^(2 n + 1) / (1 3 5 ... (2 n + 1))

    All terms have one sign, so nothing cancels, and 100 of them suffice up to 6; from there on erf
    is 1 within the precision of double. Source: Abramowitz and Stegun, "Handbook of mathematical
    functions", equation 7.1.6.
    """
    real = real_part(xp, z)
    is_small = xp.abs(real) < 6
    small = xp.where(is_small, z, xp.zeros_like(z))
    square = small * small
    term = total = small
    for n in range(1, 100):
        term = term * square * (2 / (2 * n + 1))
        total = total + term
    inside = total * xp.exp(-square) * (2 / math.sqrt(math.pi))
    # Not the complex sign of z; NaN stays NaN, as it is not small.
    return xp.where(is_small, inside, xp.astype(xp.sign(real), z.dtype))

"""The smooth relatives of the rectifier: GELU, SiLU and softplus."""

import math
from types import ModuleType
from typing import NamedTuple

from tinyconv.backend import Array, floating, namespace, real_part, require_floating
from tinyconv.errors import ShapeError
from tinyconv.ops.activation import ActivationSaved, sigmoid
from tinyconv.ops.checks import incoming


class GeluSaved(NamedTuple):
    """What the forward pass of :func:`gelu` keeps for the backward pass."""

    x: Array
    gate: Array  #: what x was multiplied by
    approximate: str


class SiluSaved(NamedTuple):
    """What the forward pass of :func:`silu` keeps for the backward pass."""

    x: Array
    gate: Array  #: sigmoid(x)


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
    if approximate == "none":
        gate = _normal_below(xp, x)
    elif approximate == "tanh":
        gate, _ = sigmoid(2 * math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))
    else:
        raise ShapeError(f"gelu: approximate is {approximate!r}, expected 'none' or 'tanh'")
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
        change = x * xp.exp(x * x * -0.5) * (1 / math.sqrt(2 * math.pi))
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
    require_floating("silu", namespace("silu", x=x), x=x)
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


def _normal_below(xp: ModuleType, x: Array) -> Array:
    """Return the probability that a normal variable is below x, (1 + erf(x / sqrt(2))) / 2.

    Far below 0 that would cancel. There Laplace's continued fraction has it, which is exact to
    rounding after 100 steps:

        P(-t) = P'(t) / (t + 1 / (t + 2 / (t + 3 / (t + ...))))

    Source: Abramowitz and Stegun, "Handbook of mathematical functions", equation 26.2.14.
    """
    is_complex = xp.isdtype(x.dtype, "complex floating")
    z = xp.astype(x, xp.complex128 if is_complex else xp.float64)
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
    return xp.astype(xp.where(is_far, tail, near), x.dtype)


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

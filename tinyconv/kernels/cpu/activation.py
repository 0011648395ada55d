"""Activations of vectors.

Twin of :mod:`tinyconv.ops.activation`: an activation is one row of ``ACTIVATIONS``, and a
convolution, a linear layer, a normalisation or a sum has all of them as its last part.
"""

from collections.abc import Callable
from math import pi, sqrt
from typing import Any

import numpy as np

from tinyconv.kernels.activations import NAMES
from tinyconv.kernels.cpu.kernel import choice, inner
from tinyconv.kernels.cpu.simd import (
    absolute,
    all_lanes,
    fma,
    maximum,
    minimum,
    where_at_most_zero,
    where_positive,
)
from tinyconv.kernels.cpu.vector_math import (
    exp,
    expm1,
    gaussian,
    log1p,
    normal_below,
    sigmoid,
    sigmoid_of_sum,
    tanh,
)

ZERO, ONE, HALF = np.float32(0), np.float32(1), np.float32(0.5)
DENSITY = np.float32(1 / sqrt(2 * pi))  # of the Gaussian at 0
# Of GELU's other formula: GATE z + CUBE z**3, each as a float32 and what is left of it. GATE has
# few bits, so that GATE + CUBE z**2 less GATE is exact. Beyond GATE_END the gate is 0 or 1.
EXACT_GATE = 2 * sqrt(2 / pi)
EXACT_CUBE = 0.044715 * EXACT_GATE
GATE, CUBE = np.float32(round(EXACT_GATE * 2**20) / 2**20), np.float32(EXACT_CUBE)
GATE_LOW, CUBE_LOW = np.float32(EXACT_GATE - float(GATE)), np.float32(EXACT_CUBE - float(CUBE))
THREE_CUBES, GATE_END = np.float32(3 * EXACT_CUBE), np.float32(11)
AMPLITUDE, STEEPNESS = np.float32(1.7159), np.float32(2 / 3)  # of the scaled tanh


def _leaky_relu(z, p):  # type: ignore[no-untyped-def]
    return where_positive(z, z, all_lanes(p, z) * z)


def _leaky_relu_backward(dy, v, p):  # type: ignore[no-untyped-def]
    return where_positive(v, dy, all_lanes(p, v) * dy)


def _elu(z, p):  # type: ignore[no-untyped-def]
    return where_positive(z, z, all_lanes(p, z) * expm1(minimum(all_lanes(ZERO, z), z)))


def _elu_backward(dy, v, p):  # type: ignore[no-untyped-def]
    slope = all_lanes(p, v) * exp(minimum(all_lanes(ZERO, v), v))
    return where_positive(v, dy, dy * slope)


def _gelu(z, p):  # type: ignore[no-untyped-def]
    return z * normal_below(z)


def _gelu_backward(dy, v, p):  # type: ignore[no-untyped-def]
    return dy * (normal_below(v) + v * all_lanes(DENSITY, v) * gaussian(v))


@inner
def gate_by_tanh(z):  # type: ignore[no-untyped-def]
    """sigmoid(GATE z + CUBE z**3), in two parts, as exp would multiply the sum's rounding."""
    z = maximum(all_lanes(-GATE_END, z), minimum(all_lanes(GATE_END, z), z))
    minus, cube = all_lanes(-ONE, z), all_lanes(CUBE, z)
    square = z * z
    factor = fma(cube, square, all_lanes(GATE, z))
    rest = fma(cube, square, all_lanes(GATE, z) - factor)
    low = fma(all_lanes(CUBE_LOW, z), square, all_lanes(GATE_LOW, z))
    rest = rest + fma(cube, fma(z, z, minus * square), low)
    whole = z * factor
    return sigmoid_of_sum(whole, fma(z, rest, fma(z, factor, minus * whole)))


def _gelu_tanh(z, p):  # type: ignore[no-untyped-def]
    return z * gate_by_tanh(z)


def _gelu_tanh_backward(dy, v, p):  # type: ignore[no-untyped-def]
    gate = gate_by_tanh(v)
    change = v * (gate * (all_lanes(ONE, v) - gate))  # which is 0 where a square is not finite
    change = all_lanes(GATE, v) * change + all_lanes(THREE_CUBES, v) * (v * (v * change))
    return dy * (gate + change)


def _silu_backward(dy, v, p):  # type: ignore[no-untyped-def]
    gate, one = sigmoid(v), all_lanes(ONE, v)
    return dy * (gate * (one + v * (one - gate)))


def _softplus(z, p):  # type: ignore[no-untyped-def]
    beta = all_lanes(p, z)
    rest = log1p(exp(all_lanes(ZERO, z) - absolute(beta * z)))
    return maximum(all_lanes(ZERO, z), z) + rest / beta


def _scaled_tanh_backward(dy, v, p):  # type: ignore[no-untyped-def]
    amplitude = all_lanes(AMPLITUDE, v)
    return dy * (all_lanes(STEEPNESS, v) * (amplitude - v * v / amplitude))


#: By the names of :mod:`tinyconv.kernels.activations`: y of a vector z and the parameter p, and dz
#: of dy, v and p, where v is y, or z if the slope needs that. It gives what the op gives if dy or v
#: is infinite or NaN.
ACTIVATIONS: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
    "Identity": (lambda z, p: z, lambda dy, v, p: dy),
    "ReLU": (
        lambda z, p: maximum(all_lanes(ZERO, z), z),
        lambda dy, v, p: where_at_most_zero(v, all_lanes(ZERO, v), dy),
    ),
    "Sigmoid": (lambda z, p: sigmoid(z), lambda dy, v, p: dy * v * (all_lanes(ONE, v) - v)),
    "Tanh": (lambda z, p: tanh(z), lambda dy, v, p: dy * (all_lanes(ONE, v) - v * v)),
    "ScaledTanh": (
        lambda z, p: all_lanes(AMPLITUDE, z) * tanh(all_lanes(STEEPNESS, z) * z),
        _scaled_tanh_backward,
    ),
    "LeakyReLU": (_leaky_relu, _leaky_relu_backward),
    "ELU": (_elu, _elu_backward),
    "GELU none": (_gelu, _gelu_backward),
    "GELU tanh": (_gelu_tanh, _gelu_tanh_backward),
    "SiLU": (lambda z, p: z * sigmoid(z), _silu_backward),
    "Softplus": (_softplus, lambda dy, v, p: dy * sigmoid(all_lanes(p, v) * v)),
}


_BY_NUMBER = [ACTIVATIONS[name] for name in NAMES]
#: ``activate(activation, z, p)`` and ``deactivate(activation, dy, v, p)``, in kernels.
activate, deactivate = (choice(functions) for functions in zip(*_BY_NUMBER, strict=True))

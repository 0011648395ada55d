"""exp, sigmoid and tanh of vectors."""

import math

import numba
import numpy as np

from tinyconv.kernels.cpu.simd import (
    absolute,
    all_lanes,
    fma,
    maximum,
    minimum,
    nearest,
    scale_by_power,
    where_positive,
    with_sign_of,
)

__all__ = ["exp", "sigmoid", "tanh"]

LOG2_E = np.float32(1 / math.log(2))
LN2_HIGH = np.float32(0.693359375)  # ln 2 = LN2_HIGH + LN2_LOW; the first has few bits
LN2_LOW = np.float32(-2.12194440e-4)
# exp(r) = 1 + r + r**2 * P(r) on |r| <= ln(2) / 2: Cephes, expf.c (S. L. Moshier)
EXP_5, EXP_4, EXP_3, EXP_2, EXP_1, EXP_0 = (
    np.float32(c)
    for c in (
        1.9875691500e-4,
        1.3981999507e-3,
        8.3334519073e-3,
        4.1665795894e-2,
        1.6666665459e-1,
        5.0000001201e-1,
    )
)
# tanh(x) = x + x**3 * P(x**2) on |x| < 0.625: Cephes, tanhf.c
TANH_4, TANH_3, TANH_2, TANH_1, TANH_0 = (
    np.float32(c)
    for c in (
        -5.70498872745e-3,
        2.06390887954e-2,
        -5.37397155531e-2,
        1.33314422036e-1,
        -3.33332819422e-1,
    )
)
LARGEST, SMALLEST = np.float32(88.0), np.float32(-87.0)  # of exp: beyond, float32 overflows
ONE, TWO, TANH_TURN = np.float32(1.0), np.float32(2.0), np.float32(0.625)


@numba.njit
def exp(x):  # type: ignore[no-untyped-def]
    """e to the power of each lane, to 2 units in the last place; x is cut off at -87 and 88."""
    x = minimum(all_lanes(LARGEST, x), maximum(all_lanes(SMALLEST, x), x))
    n = nearest(x * all_lanes(LOG2_E, x))
    r = fma(n, all_lanes(-LN2_LOW, x), fma(n, all_lanes(-LN2_HIGH, x), x))
    p = fma(all_lanes(EXP_5, x), r, all_lanes(EXP_4, x))
    p = fma(p, r, all_lanes(EXP_3, x))
    p = fma(p, r, all_lanes(EXP_2, x))
    p = fma(p, r, all_lanes(EXP_1, x))
    p = fma(p, r, all_lanes(EXP_0, x))
    return scale_by_power(fma(p, r * r, r + all_lanes(ONE, x)), n)


@numba.njit
def sigmoid(x):  # type: ignore[no-untyped-def]
    """1 / (1 + exp(-x)) of each lane."""
    one = all_lanes(ONE, x)
    return one / (one + exp(x * all_lanes(-ONE, x)))


@numba.njit
def tanh(x):  # type: ignore[no-untyped-def]
    """tanh of each lane: a polynomial near 0, 1 - 2 / (exp(2|x|) + 1) elsewhere."""
    size, one = absolute(x), all_lanes(ONE, x)
    far = with_sign_of(one - all_lanes(TWO, x) / (exp(size + size) + one), x)
    square = x * x
    p = fma(all_lanes(TANH_4, x), square, all_lanes(TANH_3, x))
    p = fma(p, square, all_lanes(TANH_2, x))
    p = fma(p, square, all_lanes(TANH_1, x))
    p = fma(p, square, all_lanes(TANH_0, x))
    near = fma(p * square, x, x)
    return where_positive(size - all_lanes(TANH_TURN, x), far, near)

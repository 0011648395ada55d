"""Exponentials, logarithms, sigmoid, tanh and erf of vectors.

NaN gives NaN, and infinity the limit.
"""

import math

import numpy as np

from tinyconv.kernels.cpu.kernel import inner
from tinyconv.kernels.cpu.simd import (
    absolute,
    all_lanes,
    exponent,
    fma,
    maximum,
    minimum,
    nearest,
    scale_by_power,
    where_at_most_zero,
    where_positive,
    with_sign_of,
)

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
# erf(x) = x P(x**2) / Q(x**2) on |x| < 4: least squares with the weights of the largest errors
# raised until all extremes of the relative error were 2.5e-8.
ERF_P = tuple(
    np.float32(c)
    for c in (1.12837914, 1.93535971e-1, 5.31002553e-2, 3.88286876e-3, 2.84541665e-4, 1.98668304e-6)
)
ERF_Q = tuple(
    np.float32(c)
    for c in (1.0, 5.04849348e-1, 1.15345981e-1, 1.52063175e-2, 1.18542999e-3, 3.74178556e-5)
)
#: exp is infinite a little below the first (at 88.72) and taken for 0 below the second, where
#: float32 comes to an end.
LARGEST, SMALLEST = np.float32(89.0), np.float32(-86.6)
ZERO, ONE, TWO, HALF = np.float32(0), np.float32(1), np.float32(2), np.float32(0.5)
TANH_TURN, ERF_END, ROOT_TWO = np.float32(0.625), np.float32(4), np.float32(math.sqrt(2))
FINITE, INFINITE, NAN = np.finfo(np.float32).max, np.float32(np.inf), np.float32(np.nan)
# atanh(s) / s - 1 = s**2 / 3 + s**4 / 5 + ...
ATANH_1, ATANH_2, ATANH_3, ATANH_4, ATANH_5, ATANH_6, ATANH_7, ATANH_8 = (
    np.float32(1 / (2 * n + 1)) for n in range(1, 9)
)


@inner
def power(x):  # type: ignore[no-untyped-def]
    """The whole n and the expm1(r) of x = n ln 2 + r with the smallest r."""
    n = nearest(x * all_lanes(LOG2_E, x))
    r = fma(n, all_lanes(-LN2_LOW, x), fma(n, all_lanes(-LN2_HIGH, x), x))
    p = fma(all_lanes(EXP_5, x), r, all_lanes(EXP_4, x))
    p = fma(p, r, all_lanes(EXP_3, x))
    p = fma(p, r, all_lanes(EXP_2, x))
    p = fma(p, r, all_lanes(EXP_1, x))
    p = fma(p, r, all_lanes(EXP_0, x))
    return n, fma(p, r * r, r)


@inner
def exp(x):  # type: ignore[no-untyped-def]
    """e to the power of each lane, to 2 units in the last place; 0 below -86.6."""
    one, least = all_lanes(ONE, x), all_lanes(SMALLEST, x)
    n, rest = power(minimum(all_lanes(LARGEST, x), maximum(least, x)))
    # In two factors, because 2**128 is infinite and the result may yet be finite.
    half = scale_by_power(rest + one, n - one)
    return where_positive(least - x, all_lanes(ZERO, x), half + half)


@inner
def expm1(x):  # type: ignore[no-untyped-def]
    """exp(x) - 1 of each lane that is 80 at most, to 3 units in the last place."""
    n, rest = power(maximum(all_lanes(SMALLEST, x), x))
    scale = scale_by_power(all_lanes(ONE, x), n)
    return fma(rest, scale, scale - all_lanes(ONE, x))


@inner
def atanh(s):  # type: ignore[no-untyped-def]
    """The inverse of tanh, for lanes of at most 1/3."""
    square = s * s
    p = fma(all_lanes(ATANH_8, s), square, all_lanes(ATANH_7, s))
    p = fma(p, square, all_lanes(ATANH_6, s))
    p = fma(p, square, all_lanes(ATANH_5, s))
    p = fma(p, square, all_lanes(ATANH_4, s))
    p = fma(p, square, all_lanes(ATANH_3, s))
    p = fma(p, square, all_lanes(ATANH_2, s))
    p = fma(p, square, all_lanes(ATANH_1, s))
    return fma(p * square, s, s)


@inner
def log1p(x):  # type: ignore[no-untyped-def]
    """log(1 + x) of each lane from 0 to 1, to 3 units in the last place."""
    half = atanh(x / (x + all_lanes(TWO, x)))
    return half + half


@inner
def log(x):  # type: ignore[no-untyped-def]
    """The natural logarithm of each lane that is a normal number or 0."""
    n, one = exponent(x * all_lanes(ROOT_TWO, x)), all_lanes(ONE, x)
    m = scale_by_power(x, all_lanes(ZERO, x) - n)  # between 1 / sqrt(2) and sqrt(2)
    half = atanh((m - one) / (m + one))
    y = fma(n, all_lanes(LN2_HIGH, x), fma(n, all_lanes(LN2_LOW, x), half + half))
    y = where_at_most_zero(x - all_lanes(FINITE, x), y, x)  # infinity and NaN stay
    below = where_at_most_zero(absolute(x), all_lanes(-INFINITE, x), all_lanes(NAN, x))
    return where_at_most_zero(x, below, y)


@inner
def erf(x):  # type: ignore[no-untyped-def]
    """The error function of each lane, to 6 units in the last place."""
    end = all_lanes(ERF_END, x)
    size = minimum(end, absolute(x))
    square = size * size
    p, q = all_lanes(ERF_P[5], x), all_lanes(ERF_Q[5], x)
    p, q = fma(p, square, all_lanes(ERF_P[4], x)), fma(q, square, all_lanes(ERF_Q[4], x))
    p, q = fma(p, square, all_lanes(ERF_P[3], x)), fma(q, square, all_lanes(ERF_Q[3], x))
    p, q = fma(p, square, all_lanes(ERF_P[2], x)), fma(q, square, all_lanes(ERF_Q[2], x))
    p, q = fma(p, square, all_lanes(ERF_P[1], x)), fma(q, square, all_lanes(ERF_Q[1], x))
    p, q = fma(p, square, all_lanes(ERF_P[0], x)), fma(q, square, all_lanes(ERF_Q[0], x))
    return with_sign_of(minimum(all_lanes(ONE, x), size * p / q), x)


@inner
def sigmoid(x):  # type: ignore[no-untyped-def]
    """1 / (1 + exp(-x)) of each lane."""
    one = all_lanes(ONE, x)
    return one / (one + exp(x * all_lanes(-ONE, x)))


@inner
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

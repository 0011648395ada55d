"""Exponentials, logarithms, sigmoid, tanh and the normal distribution of vectors.

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
    polynomial,
    scale_by_power,
    where_at_most_zero,
    where_positive,
    with_exponent,
    with_sign_of,
)

LOG2_E = np.float32(1 / math.log(2))
LN2_HIGH = np.float32(0.693359375)  # ln 2 = LN2_HIGH + LN2_LOW; the first has few bits
LN2_LOW = np.float32(-2.12194440e-4)
# exp(r) = 1 + r + r**2 * P(r) on |r| <= ln(2) / 2, and of a normal variable the probability to be
# below -x is exp(-x**2 / 2) P(x) / Q(x) on 0 <= x <= 13.2: least squares with the weights of the
# largest errors raised until all extremes of the relative error were 3.1e-9 and 4.9e-9.
_exp_rest = polynomial(
    4.999999343e-1, 1.666652040e-1, 4.166839079e-2, 8.368745108e-3, 1.381454008e-3
)
_tail_p = polynomial(0.500000002, 0.435569635, 0.181220803, 0.0399553187, 0.00401593656)
_tail_q = polynomial(1.0, 1.66902419, 1.19412613, 0.464153487, 0.100160557, 0.0100663158)
# atanh(s) / s - 1 = s**2 (1 / 3 + s**2 / 5 + ...)
_atanh_rest = polynomial(*(1 / (2 * n + 1) for n in range(1, 9)))
#: exp is infinite a little below the first (at 88.72) and taken for 0 below the second, where
#: float32 comes to an end.
LARGEST, SMALLEST = np.float32(89.0), np.float32(-86.6)
ZERO, ONE, TWO, HALF = np.float32(0), np.float32(1), np.float32(2), np.float32(0.5)
TANH_END, TAIL_END, ROOT_TWO = np.float32(10), np.float32(14), np.float32(math.sqrt(2))
#: Added to a small number, it leaves the nearest whole one in the last bits, and 126 more.
ROUNDER = np.float32(1.5 * 2**23 + 126)
FINITE, INFINITE, NAN = np.finfo(np.float32).max, np.float32(np.inf), np.float32(np.nan)


@inner
def power(x):  # type: ignore[no-untyped-def]
    """The expm1(r) and 2**(n - 1) of x = n ln 2 + r with the smallest r, for n from -125 to 128."""
    rounded = fma(x, all_lanes(LOG2_E, x), all_lanes(ROUNDER, x))
    n = rounded - all_lanes(ROUNDER, x)
    r = fma(n, all_lanes(-LN2_LOW, x), fma(n, all_lanes(-LN2_HIGH, x), x))
    return fma(_exp_rest(r), r * r, r), with_exponent(rounded)


@inner
def exp_above(x):  # type: ignore[no-untyped-def]
    """e to the power of each lane that is -86.6 at least."""
    rest, half = power(minimum(all_lanes(LARGEST, x), x))
    # In two factors, because 2**128 is infinite and the result may yet be finite.
    half = fma(rest, half, half)
    return half + half


@inner
def exp(x):  # type: ignore[no-untyped-def]
    """e to the power of each lane, to 2 units in the last place; 0 below -86.6."""
    least = all_lanes(SMALLEST, x)
    return where_positive(least - x, all_lanes(ZERO, x), exp_above(maximum(least, x)))


@inner
def expm1(x):  # type: ignore[no-untyped-def]
    """exp(x) - 1 of each lane that is 80 at most, to 3 units in the last place."""
    rest, half = power(maximum(all_lanes(SMALLEST, x), x))
    scale = half + half
    return fma(rest, scale, scale - all_lanes(ONE, x))


@inner
def atanh(s):  # type: ignore[no-untyped-def]
    """The inverse of tanh, for lanes of at most 1/3."""
    square = s * s
    return fma(_atanh_rest(square) * square, s, s)


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
def gaussian(x):  # type: ignore[no-untyped-def]
    """exp(-x**2 / 2) of each lane, to 3 units in the last place; 0 beyond 13.1."""
    size, half = minimum(all_lanes(TAIL_END, x), absolute(x)), all_lanes(-HALF, x)
    square = size * size
    y = exp(half * square)
    return fma(y, half * fma(size, size, all_lanes(-ONE, x) * square), y)  # what rounding took


@inner
def normal_below(x):  # type: ignore[no-untyped-def]
    """The probability that a normal variable is below each lane, to 4 units in the last place."""
    size = minimum(all_lanes(TAIL_END, x), absolute(x))
    tail = gaussian(x) * _tail_p(size) / _tail_q(size)
    return where_positive(x, all_lanes(ONE, x) - tail, tail)


@inner
def sigmoid_of_sum(x, rest):  # type: ignore[no-untyped-def]
    """1 / (1 + exp(-x - rest)) of each lane; the rest is what rounding took from x."""
    one = all_lanes(ONE, x)
    e = exp_above(maximum(all_lanes(SMALLEST, x), x * all_lanes(-ONE, x)))
    return one / (one + e * (one - rest))


@inner
def sigmoid(x):  # type: ignore[no-untyped-def]
    """1 / (1 + exp(-x)) of each lane."""
    return sigmoid_of_sum(x, all_lanes(ZERO, x))


@inner
def tanh(x):  # type: ignore[no-untyped-def]
    """tanh of each lane: e / (e + 1) where e is half of expm1(2|x|)."""
    size = minimum(all_lanes(TANH_END, x), absolute(x))
    rest, half = power(size + size)
    e = fma(rest, half, half - all_lanes(HALF, x))
    return with_sign_of(e / (e + all_lanes(ONE, x)), x)

"""What is done to numbers one by one: activations and their slopes, sums, parts of a norm.

Twin of :mod:`tinyconv.ops.activation`, of the sums in :mod:`tinyconv.layers.container` and, before
and after the sums of its windows, of pooling by a norm in :mod:`tinyconv.ops.pool`. With S for the
sum of each window (:mod:`resample`), S' for its transpose and p for the type of the norm,

    y = S(|x|^p)^(1/p)        dx = sign(x) |x|^(p-1) S'(dy / y^(p-1))

where ``P`` is p if it is 1 or 2, which need no powers in general, and 0 otherwise.
"""

from typing import Any

import numpy as np

from tinyconv.kernels.cpu.activation import activate, deactivate
from tinyconv.kernels.cpu.kernel import images, inner, kernel, record
from tinyconv.kernels.cpu.simd import (
    absolute,
    all_lanes,
    load,
    pointer,
    splat,
    sqrt,
    store_first,
    where_at_most_zero,
    where_positive,
    with_sign_of,
)
from tinyconv.kernels.cpu.vector_math import exp, log

#: ``planes`` times ``rows`` runs of ``count`` numbers of a sample. ``y`` may be x or ``other``.
#: ``parameter``: of the activation, or p.
ARGS = record(
    *images("x", "other", "slope", "y"), *("planes", "rows", "count"), floats=("parameter",)
)

ZERO, ONE = np.float32(0), np.float32(1)

#: What is done to the elements; the first two have one input.
POWER, ROOT, ACTIVATION, SUM, GRADIENT, SHARE, SLOPE = range(7)


@inner
def _to_power(a, p):  # type: ignore[no-untyped-def]
    """a to the power of p, for a that is not negative and p that is not 0."""
    return exp(all_lanes(p, a) * log(a))


@inner
def _below(a, p, P):  # type: ignore[no-untyped-def]
    """a to the power of p - 1."""
    if P == 1:
        return all_lanes(ONE, a)
    return a if P == 2 else _to_power(a, p - ONE)


@inner
def _power_of(x, p, P):  # type: ignore[no-untyped-def]
    size = absolute(x)
    if P == 1:
        return size
    return size * size if P == 2 else _to_power(size, p)


@inner
def _root_of(x, p, P):  # type: ignore[no-untyped-def]
    if P == 1:
        return x
    return sqrt(x) if P == 2 else _to_power(x, ONE / p)


@inner
def _share_of(dy, y, p, P):  # type: ignore[no-untyped-def]
    return where_at_most_zero(y, all_lanes(ZERO, y), dy / _below(y, p, P))


@inner
def _slope_of(x, sums, p, P):  # type: ignore[no-untyped-def]
    size = absolute(x)
    # 0 and NaN have no sign, and are their own slope.
    return where_positive(size, with_sign_of(_below(size, p, P), x), x) * sums


def elements(L: int, F: int, A: int, S: int = 0) -> Any:
    """Make the kernel of what is done to the elements, by its number.

    ACTIVATION and SUM: y = activation(x), or of x + other; if S, ``slope`` gets the slopes there,
    and may be x. GRADIENT: y = x * slope(other) or, if S, x * other. The activation is number A.

    POWER: y = |x|^p. ROOT: y = x^(1/p). SHARE: y = x / other^(p-1), and 0 where ``other`` is 0; x
    is its gradient. SLOPE: y = sign(x) |x|^(p-1) other, which is a sum of shares. P is A.
    """

    @kernel(ARGS)
    def elements(a, thread, first, last):  # type: ignore[no-untyped-def]
        x, others, y = pointer(a.x), pointer(a.other), pointer(a.y)
        slopes, p = pointer(a.slope), a.parameter
        for n in range(first, last):
            for line in range(a.planes * a.rows):
                plane, row = line // a.rows, line % a.rows
                i = n * a.x_sample + plane * a.x_plane + row * a.x_row
                j = n * a.y_sample + plane * a.y_plane + row * a.y_row
                k = n * a.other_sample + plane * a.other_plane + row * a.other_row
                s = n * a.slope_sample + plane * a.slope_plane + row * a.slope_row
                for c in range(0, a.count, L):
                    one, rest = load(x, i + c, L), a.count - c
                    if F > ACTIVATION:
                        other = load(others, k + c, L)
                    if F == SUM:
                        one = one + other
                    if F == POWER:
                        value = _power_of(one, p, A)
                    elif F == ROOT:
                        value = _root_of(one, p, A)
                    elif F == SHARE:
                        value = _share_of(one, other, p, A)
                    elif F == SLOPE:
                        value = _slope_of(one, other, p, A)
                    elif F == GRADIENT:
                        value = one * other if S else deactivate(A, one, other, p)
                    else:
                        value = activate(A, one, p)
                        if S:
                            slope = deactivate(A, splat(ONE, L), one, p)
                            store_first(slopes, s + c, slope, rest)
                    store_first(y, j + c, value, rest)

    return elements

"""What pooling by a norm does to single elements, before and after the sums of its windows.

Twin of :mod:`tinyconv.ops.pool`. With S for the sum of each window, S' for its transpose and
p for the type of the norm,

    y = S(|x|^p)^(1/p)        dx = sign(x) |x|^(p-1) S'(dy / y^(p-1))

and the sums are made by :mod:`resample`. ``P`` is p where it is 1 or 2, which need no powers in
general, and 0 otherwise.
"""

from typing import Any

import numpy as np

from tinyconv.kernels.cpu.kernel import images, inner, kernel, record
from tinyconv.kernels.cpu.simd import (
    absolute,
    all_lanes,
    load,
    pointer,
    sqrt,
    store_first,
    where_at_most_zero,
    where_positive,
    with_sign_of,
)
from tinyconv.kernels.cpu.vector_math import exp, log

#: ``to``: where the result goes, which may be x or y itself. ``rows`` runs of ``count`` numbers
#: a plane.
ARGS = record(*images("x", "y", "to"), *("planes", "rows", "count"), floats=("p",))

ZERO, ONE = np.float32(0), np.float32(1)

#: What is done to the elements.
POWER, ROOT, SHARE, SLOPE = range(4)


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


def elements(L: int, F: int, P: int) -> Any:
    """Make the kernel of what is done to the elements, by its number.

    POWER: to = |x|^p. ROOT: to = x^(1/p). SHARE: to = x / y^(p-1), and 0 where y is 0; x is the
    gradient of y. SLOPE: to = sign(x) |x|^(p-1) y; y is a sum of shares.
    """

    @kernel(ARGS)
    def lp(a, thread, first, last):  # type: ignore[no-untyped-def]
        x, y, to = pointer(a.x), pointer(a.y), pointer(a.to)
        for n in range(first, last):
            for d in range(a.planes):
                for h in range(a.rows):
                    i = n * a.x_sample + d * a.x_plane + h * a.x_row
                    j = n * a.y_sample + d * a.y_plane + h * a.y_row
                    k = n * a.to_sample + d * a.to_plane + h * a.to_row
                    for c in range(0, a.count, L):
                        one, other = load(x, i + c, L), load(y, j + c, L)
                        if F == POWER:
                            value = _power_of(one, a.p, P)
                        elif F == ROOT:
                            value = _root_of(one, a.p, P)
                        elif F == SHARE:
                            value = _share_of(one, other, a.p, P)
                        else:
                            value = _slope_of(one, other, a.p, P)
                        store_first(to, k + c, value, a.count - c)

    return lp

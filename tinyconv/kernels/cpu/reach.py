"""How large the gradients of a step's parameters can be, before anything was updated by them.

An update follows the gradient of each parameter at once, so it must be known before the first one
that all of them are finite. A gradient is a sum of products of an input and a gradient that came
in; none is larger than the sum of all sizes of the one times that of the other, its *reach*. Where
each thread keeps its gradients until the update, as a convolution does, the reach is the sum of
their sizes.
"""

from typing import Any

import numpy as np

from tinyconv.kernels.cpu.kernel import images, kernel, record
from tinyconv.kernels.cpu.simd import (
    absolute,
    doubles_pointer,
    ints_pointer,
    load,
    load_first,
    pointer,
    splat,
    total,
)

#: The reach from which on the layers themselves take a step: float32 ends at 3e38, some rules
#: square the gradient, and a norm may enlarge what comes in.
LIMIT = 1e15

#: ``inputs``: for each sample the sum of the sizes of the input. ``sums``: 0, or for each thread 8
#: float64, of which the second gets the reach.
ARGS = record(*images("v"), *("planes", "rows", "count", "inputs", "sums"))

ZERO, ONE = np.float32(0), np.float32(1)


def reach(L: int) -> Any:
    """Make the kernel of the sums of sizes of an input or, with ``sums``, of a gradient."""

    @kernel(ARGS)
    def reach_of_gradients(a, thread, first, last):  # type: ignore[no-untyped-def]
        v, inputs = pointer(a.v), pointer(a.inputs)
        most = 0.0
        for n in range(first, last):
            size, other = splat(ZERO, L), splat(ZERO, L)
            for line in range(a.planes * a.rows):
                i = n * a.v_sample + line // a.rows * a.v_plane + line % a.rows * a.v_row
                whole = a.count // (2 * L) * (2 * L)
                for k in range(0, whole, 2 * L):
                    size = size + absolute(load(v, i + k, L))
                    other = other + absolute(load(v, i + k + L, L))
                for k in range(whole, a.count, L):
                    size = size + absolute(load_first(v, i + k, a.count - k, L))
            found = total(size + other)
            if a.sums:
                most += found * (ONE + inputs[n])
            else:
                inputs[n] = found
        if a.sums:
            doubles_pointer(a.sums)[8 * thread + 1] += most

    return reach_of_gradients


#: Sums of ``channels`` channels, in blocks of ``width`` neighbours ``block`` apart, for each of
#: ``size`` ``places``. Those of an owner, a thread or a sample, begin ``v_owner`` behind those of
#: the one before.
KEPT = record("v", "v_owner", "places", "size", "width", "block", "channels", "sums")


def reach_of_kept(L: int) -> Any:
    """Make the kernel of the sums of sizes of what owners ``first`` to ``last`` keep."""

    @kernel(KEPT)
    def reach_of_kept_gradients(a, thread, first, last):  # type: ignore[no-untyped-def]
        places = ints_pointer(a.places)
        for owner in range(first, last):
            v = pointer(a.v + 4 * owner * a.v_owner)
            size = splat(ZERO, L)
            for channel in range(0, a.channels, a.width):
                count = min(a.width, a.channels - channel)
                for k in range(a.size):
                    i = channel // a.width * a.block + places[k]
                    for o in range(0, count, L):
                        size = size + absolute(load_first(v, i + o, count - o, L))
            doubles_pointer(a.sums)[8 * thread + 1] += total(size)

    return reach_of_kept_gradients

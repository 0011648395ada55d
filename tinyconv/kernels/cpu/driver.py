"""The compiled loop that runs a plan's kernels, on one thread or several.

A *program* is an array of calls, in phases. All threads finish a phase before any begins the
next. Within a phase each thread runs all calls on its own share: of the samples of the batch, a
block at a time, so that what one call writes is still in the cache when the next one reads it; or
of a number of items that the call names, rows of a weight, say.
"""

import math
from functools import cache
from typing import Any

from numba import prange, types

from tinyconv.kernels.cpu.kernel import inner, njit, record, record_at
from tinyconv.kernels.cpu.reach import LIMIT
from tinyconv.kernels.cpu.simd import (
    doubles_pointer,
    invoke,
)

__all__ = ["CALL", "PHASE", "compile_parallel", "compile_serial"]

#: One call. ``items``: what the threads share, or 0 for the samples of the batch; ``grain``: a
#: share is a multiple of it.
CALL = record("function", "args", "items", "grain")
#: One phase: the calls from ``first`` to ``last``. ``block``: samples at a time; 0 where the
#: calls name their items. ``guard``: 0, or the address of each thread's sums (8 float64: the loss,
#: the number of correct samples, the reach of the gradients); the phase begins only if the loss is
#: finite and the reach below its limit.
PHASE = record("first", "last", "block", "guard")
SIZE = CALL.itemsize  #: of either, in bytes

#: Addresses of the calls and of the phases, and four numbers: Numba takes a while for an array.
PROGRAM = types.void(*[types.int64] * 6)


@inner
def share(items, grain, thread, threads):  # type: ignore[no-untyped-def]
    """Where the share of a thread begins; that of the next thread begins where it ends."""
    grains = (items + grain - 1) // grain
    return min(grains * thread // threads * grain, items)


@inner
def run_phase(calls, first, last, block, n, thread, threads):  # type: ignore[no-untyped-def]
    """Run a thread's share of one phase."""
    if block > 0:
        stop = share(n, 1, thread + 1, threads)
        for start in range(share(n, 1, thread, threads), stop, block):
            for c in range(first, last):
                call = record_at(calls + c * SIZE, CALL)
                invoke(call.function, call.args, thread, start, min(start + block, stop))
    else:
        for c in range(first, last):
            call = record_at(calls + c * SIZE, CALL)
            start = share(call.items, call.grain, thread, threads)
            stop = share(call.items, call.grain, thread + 1, threads)
            if start < stop:
                invoke(call.function, call.args, thread, start, stop)


@inner
def may_go_on(guard, threads):  # type: ignore[no-untyped-def]
    """Whether the loss is finite and no gradient can be otherwise."""
    loss, reach = 0.0, 0.0
    if guard:
        sums = doubles_pointer(guard)
        for thread in range(threads):
            loss += sums[8 * thread]
            reach += sums[8 * thread + 2]
    return math.isfinite(loss) and reach < LIMIT


@cache
def compile_serial() -> Any:
    """Compile the loop over phases ``begin`` to ``end`` for n samples, threads' shares in turn."""

    @njit(PROGRAM, nogil=True)
    def run_serial(calls, phases, begin, end, n, threads):  # type: ignore[no-untyped-def]
        for p in range(begin, end):
            phase = record_at(phases + p * SIZE, PHASE)
            if not may_go_on(phase.guard, threads):
                return
            for thread in range(threads):
                run_phase(calls, phase.first, phase.last, phase.block, n, thread, threads)

    return run_serial


def compile_parallel() -> Any:
    """Compile the same loop with the threads' shares at once; takes a second or two."""

    @njit(PROGRAM, nogil=True, parallel=True)
    def run_parallel(calls, phases, begin, end, n, threads):  # type: ignore[no-untyped-def]
        for p in range(begin, end):
            phase = record_at(phases + p * SIZE, PHASE)
            first, last, block = phase.first, phase.last, phase.block
            if not may_go_on(phase.guard, threads):
                return
            for thread in prange(threads):
                run_phase(calls, first, last, block, n, thread, threads)

    return run_parallel

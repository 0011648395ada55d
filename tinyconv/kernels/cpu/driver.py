"""The compiled loop that runs a plan's kernels, on one thread or several.

A *program* is an array of calls, in phases. All shares of a phase are finished before any of the
next begins. Within a phase each thread runs all calls on its own share: of the samples of the
batch, a block at a time, so that what one call writes is still in the cache when the next one
reads it; or of a number of items that the call names, rows of a weight, say.
"""

import math
from functools import cache
from typing import Any

from numba import prange, types

from tinyconv.kernels.cpu.kernel import inner, njit, record, record_at
from tinyconv.kernels.cpu.reach import LIMIT
from tinyconv.kernels.cpu.simd import doubles_pointer, invoke, words_pointer
from tinyconv.kernels.cpu.turns import LINE, claim, rest, set_turn, turn_of

#: One call. ``items``: what the threads share, or 0 for the samples of the batch; ``grain``: a
#: share is a multiple of it.
CALL = record("function", "args", "items", "grain")
#: One phase: the calls from ``first`` to ``last``. ``block``: samples at a time; 0 where the
#: calls name their items. ``guard``: 0, or the address of each thread's sums (8 float64: the loss,
#: the reach of the gradients); the phase begins only if the loss is finite and the reach below its
#: limit. ``flags``: 0, or the address of each thread's flag (8 words); if none is set, the calls
#: are left out.
PHASE = record("first", "last", "block", "guard", "flags")
#: What runs at once: the phases from ``begin`` to ``end`` of those at an address, with the calls
#: and the turns of their shares at others.
SEGMENT = record("calls", "phases", "begin", "end", "threads", "turns")
CALL_SIZE, PHASE_SIZE = CALL.itemsize, PHASE.itemsize  #: in bytes

#: The address of a segment, the samples, and how many members there are; before these, for
#: :func:`work`, which of them one is. Numba takes a while for an array, and for each argument.
RUN, WORK = (types.void(*[types.int64] * count) for count in (3, 4))

#: How often one waits, some 50 ns at a time, for somebody else to begin a share, and how often
#: before one lets others have the core.
PATIENCE, LONG = 50, 500


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
                call = record_at(calls + c * CALL_SIZE, CALL)
                invoke(call.function, call.args, thread, start, min(start + block, stop))
    else:
        for c in range(first, last):
            call = record_at(calls + c * CALL_SIZE, CALL)
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
            reach += sums[8 * thread + 1]
    return math.isfinite(loss) and reach < LIMIT


@inner
def is_wanted(flags, threads):  # type: ignore[no-untyped-def]
    """Whether a phase is to run its calls."""
    wanted = flags == 0
    for thread in range(0 if wanted else threads):
        wanted = wanted or words_pointer(flags)[8 * thread] != 0
    return wanted


@inner
def work(segment, n, member, members):  # type: ignore[no-untyped-def]
    """Be one of ``members`` that run phases: do one's own shares, and any that nobody begins."""
    s = record_at(segment, SEGMENT)
    calls, threads, turns = s.calls, s.threads, s.turns
    for p in range(s.begin, s.end):
        phase = record_at(s.phases + p * PHASE_SIZE, PHASE)
        if not may_go_on(phase.guard, threads):
            return
        for k in range(threads):
            thread, waited = (member + k) % threads, 0
            turn = turns + LINE * thread
            while turn_of(turn) < 2 * p + 2:
                may_begin = thread % members == member or waited > PATIENCE
                if may_begin and claim(turn, 2 * p):
                    if is_wanted(phase.flags, threads):
                        run_phase(calls, phase.first, phase.last, phase.block, n, thread, threads)
                    set_turn(turn, 2 * p + 2)
                else:
                    rest(waited > LONG)
                    waited += 1


@inner
def begin(segment):  # type: ignore[no-untyped-def]
    """Let nothing of the first phase have begun."""
    s = record_at(segment, SEGMENT)
    for thread in range(s.threads):
        set_turn(s.turns + LINE * thread, 2 * s.begin)


@cache
def compile_serial() -> Any:
    """Compile the loop over the phases of a segment for n samples, threads' shares in turn."""

    @njit(RUN, nogil=True)
    def run_serial(segment, n, members):  # type: ignore[no-untyped-def]
        begin(segment)
        work(segment, n, 0, 1)

    return run_serial


def compile_parallel() -> Any:
    """Compile the same loop for ``members`` at once; takes a second or two."""

    @njit(RUN, nogil=True, parallel=True)
    def run_parallel(segment, n, members):  # type: ignore[no-untyped-def]
        begin(segment)
        for member in prange(members):
            work(segment, n, member, members)

    return run_parallel

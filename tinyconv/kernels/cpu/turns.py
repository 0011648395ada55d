"""How threads take turns at the shares of a phase, without going to sleep between two phases.

A *turn* is a number in a cache line of its own, one for each share of the work. Of phase p it is
2p before a thread has begun, 2p + 1 while one works, 2p + 2 when the share is done. Whoever finds
2p may begin, so nobody waits for a thread that has not come: it may be asleep, or not exist.
"""

import os
import platform

from llvmlite import ir

from tinyconv.kernels.cpu import emit
from tinyconv.kernels.cpu.instruction import INT32, Builder, Int, instruction

#: Bytes from one turn to the next.
LINE = 64
WORD = ir.IntType(64)


def _place(builder: Builder, address: Int) -> ir.Value:
    return builder.inttoptr(address, WORD.as_pointer())


@instruction()
def turn_of(builder: Builder, address: Int) -> Int:
    """The turn at an address; what was done before it was set is seen."""
    return builder.load_atomic(_place(builder, address), "acquire", 8, typ=WORD)


@instruction()
def set_turn(builder: Builder, address: Int, value: Int) -> None:
    """Set a turn behind all that this thread has done."""
    builder.store_atomic(value, _place(builder, address), "release", 8)


@instruction()
def claim(builder: Builder, address: Int, old: Int) -> Int:
    """Raise a turn by 1 if it is ``old``; 1 if it was, else 0. Of several threads one succeeds."""
    raised = builder.add(old, ir.Constant(WORD, 1))
    pair = builder.cmpxchg(_place(builder, address), old, raised, "acq_rel", "acquire")
    return builder.zext(builder.extract_value(pair, 1), WORD)


@instruction()
def rest(builder: Builder, longer: Int) -> None:
    """Wait some 50 ns or, if ``longer`` is not 0, let another thread have the core if one wants."""
    machine = platform.machine().lower()
    if machine in ("x86_64", "amd64"):
        emit.call(builder, "llvm.x86.sse2.pause", ir.VoidType())
    elif machine in ("aarch64", "arm64"):
        emit.call(builder, "llvm.aarch64.hint", ir.VoidType(), INT32(1))
    if hasattr(os, "sched_yield"):
        with builder.if_then(builder.icmp_signed("!=", longer, ir.Constant(WORD, 0))):
            emit.call(builder, "sched_yield", INT32)

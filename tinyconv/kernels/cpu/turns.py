"""How threads take turns at the shares of a phase, without going to sleep between two phases.

A *turn* is a number in a cache line of its own, one for each share of the work. Of phase p it is
2p before a thread has begun, 2p + 1 while one works, 2p + 2 when the share is done. Whoever finds
2p may begin, so nobody waits for a thread that has not come: it may be asleep, or not exist.
"""

import os
import platform
from typing import Any

from llvmlite import ir

from tinyconv.kernels.cpu.simd import INT, INT32, emit_call, instruction

__all__ = ["LINE", "claim", "rest", "set_turn", "turn_of"]

#: Bytes from one turn to the next.
LINE = 64
WORD = ir.IntType(64)


def _place(builder: ir.IRBuilder, address: ir.Value) -> ir.Value:
    return builder.inttoptr(address, WORD.as_pointer())


@instruction
def turn_of(typing: Any, address: Any) -> Any:
    """The turn at an address; what was done before it was set is seen."""

    def emit(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
        return builder.load_atomic(_place(builder, args[0]), "acquire", 8, typ=WORD)

    return INT(INT), emit


@instruction
def set_turn(typing: Any, address: Any, value: Any) -> Any:
    """Set a turn behind all that this thread has done."""

    def emit(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
        builder.store_atomic(args[1], _place(builder, args[0]), "release", 8)
        return args[1]

    return INT(INT, INT), emit


@instruction
def claim(typing: Any, address: Any, old: Any) -> Any:
    """Raise a turn by 1 if it is ``old``; 1 if it was, else 0. Of several threads one succeeds."""

    def emit(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
        place, old = _place(builder, args[0]), args[1]
        raised = builder.add(old, ir.Constant(WORD, 1))
        pair = builder.cmpxchg(place, old, raised, "acq_rel", "acquire")
        return builder.zext(builder.extract_value(pair, 1), WORD)

    return INT(INT, INT), emit


@instruction
def rest(typing: Any, longer: Any) -> Any:
    """Wait some 50 ns or, if ``longer`` is not 0, let another thread have the core if one wants."""

    def emit(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
        machine, nothing = platform.machine().lower(), ir.VoidType()
        if machine in ("x86_64", "amd64"):
            emit_call(builder, "llvm.x86.sse2.pause", nothing)
        elif machine in ("aarch64", "arm64"):
            emit_call(builder, "llvm.aarch64.hint", nothing, INT32(1))
        if hasattr(os, "sched_yield"):
            with builder.if_then(builder.icmp_signed("!=", args[0], ir.Constant(WORD, 0))):
                emit_call(builder, "sched_yield", INT32)
        return args[0]

    return INT(INT), emit

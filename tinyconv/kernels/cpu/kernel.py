"""What a kernel is: a compiled function that a plan calls through its address.

All kernels have one signature, so that one compiled loop (:mod:`driver`) can run any list of
them without going back to Python:

    kernel(args, thread, first, last)

``args`` points to the kernel's own record of addresses and sizes, ``thread`` numbers the thread,
and the kernel does items ``first`` to ``last`` of its work: samples of the batch, or rows of a
weight. It holds no lock, allocates nothing and checks nothing.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import cfunc, types

__all__ = ["address_of", "kernel", "record"]

SIGNATURE = types.void(types.voidptr, types.int64, types.int64, types.int64)


def kernel(function: Callable[..., None]) -> Any:
    """Compile a kernel, or fetch it from Numba's cache; its ``address`` is what a plan keeps.

    Of the fast-math flags only contraction is on: a product and a sum may be rounded once.
    """
    return cfunc(SIGNATURE, cache=True, error_model="numpy", fastmath={"contract"})(function)


def record(*fields: str, floats: tuple[str, ...] = ()) -> np.dtype[Any]:
    """Return the layout of a kernel's arguments: 64-bit integers, then float32 constants."""
    return np.dtype([(name, np.int64) for name in fields] + [(name, np.float32) for name in floats])


def address_of(args: np.ndarray[Any, Any]) -> int:
    """Return the address of an array's first element."""
    return int(args.ctypes.data)

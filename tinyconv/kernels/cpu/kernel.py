"""What a kernel is: a compiled function that a plan calls through its address.

All kernels have one signature, so that one compiled loop (:mod:`driver`) can run any list of
them without going back to Python:

    kernel(args, thread, first, last)

``args`` points to the kernel's own record of addresses and sizes, ``thread`` numbers the thread,
and the kernel does items ``first`` to ``last`` of its work: samples of the batch, or rows of a
weight. It holds no lock, allocates nothing and checks nothing.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numba
import numpy as np
from numba import cfunc, types

__all__ = ["address_of", "kernel", "njit", "record", "when_compiling"]

SIGNATURE = types.void(types.voidptr, types.int64, types.int64, types.int64)


class _Listener:
    call: Callable[[], None] | None = None


@contextmanager
def when_compiling(function: Callable[[], None] | None) -> Iterator[None]:
    """Call ``function``, if there is one, when the first kernel inside had to be compiled."""
    before, _Listener.call = _Listener.call, function
    try:
        yield
    finally:
        _Listener.call = before


def kernel(function: Callable[..., None]) -> Any:
    """Compile a kernel, or fetch it from Numba's cache; its ``address`` is what a plan keeps.

    Of the fast-math flags only contraction is on: a product and a sum may be rounded once.

    Numba caches beside this file or, where that is read-only, in the user's cache folder. It
    looks at the source of the kernel and at the constants of its closure, not at the functions
    that the kernel calls: who edits :mod:`simd` deletes ``__pycache__``.
    """
    options = {"error_model": "numpy", "fastmath": {"contract"}}
    try:
        compiled = cfunc(SIGNATURE, cache=True, **options)(function)
    except RuntimeError as error:  # no folder can be written to
        if "cannot cache" not in str(error):
            raise
        compiled = cfunc(SIGNATURE, **options)(function)
    if compiled.cache_hits == 0 and _Listener.call is not None:
        listener, _Listener.call = _Listener.call, None
        listener()
    return compiled


def njit(*signatures: Any, **options: Any) -> Callable[[Callable[..., Any]], Any]:
    """``numba.njit`` with a cache, or without one where no folder can be written to."""

    def compile_(function: Callable[..., Any]) -> Any:
        try:
            return numba.njit(*signatures, cache=True, **options)(function)
        except RuntimeError as error:
            if "cannot cache" not in str(error):
                raise
            return numba.njit(*signatures, **options)(function)

    return compile_


def record(*fields: str, floats: tuple[str, ...] = ()) -> np.dtype[Any]:
    """Return the layout of a kernel's arguments: 64-bit integers, then float32 constants."""
    return np.dtype([(name, np.int64) for name in fields] + [(name, np.float32) for name in floats])


def address_of(args: np.ndarray[Any, Any]) -> int:
    """Return the address of an array's first element."""
    return int(args.ctypes.data)

"""BLAS on one thread, where other threads are wanted on the same cores or would only wait.

OpenBLAS has a pool of threads that spins. Beside any other work on the same cores, Numba's threads
or another process, a product of small matrices waits for its slowest thread.
"""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any


class _Blas:
    """Who has asked, and what undoes it."""

    lock = threading.RLock()
    inside = 0  #: how many threads want BLAS to use one thread
    limit: Any = None  #: what undoes that


def _after_fork() -> None:
    _Blas.lock = threading.RLock()  # another thread may have held it
    _Blas.inside = 0  # and is not in the child


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


@cache
def _libraries() -> Any:
    """The BLAS libraries of this process, found once: finding them takes over a millisecond.

    None where threadpoolctl is not installed, which NumPy alone does not bring.
    """
    try:
        from threadpoolctl import ThreadpoolController
    except ImportError:
        return None
    return ThreadpoolController().select(user_api="blas")


@contextmanager
def single_blas_thread() -> Iterator[None]:
    """Let BLAS use one thread inside, and as many as before when the last one has left."""
    libraries = _libraries()
    if libraries is None:
        yield
        return
    with _Blas.lock:
        if _Blas.inside == 0:
            _Blas.limit = libraries.limit(limits=1)
        _Blas.inside += 1
    try:
        yield
    finally:
        with _Blas.lock:
            _Blas.inside -= 1
            if _Blas.inside == 0:
                _Blas.limit.restore_original_limits()

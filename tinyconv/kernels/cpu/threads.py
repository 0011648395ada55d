"""How many threads run a plan, and how they are started: Numba's OpenMP layer, chosen here.

Two pools of threads that spin on the same cores starve each other, and BLAS has one of its own.
So a plan calls no BLAS; where a layer without a kernel does, ``single_blas_thread`` of
:mod:`tinyconv.engines.blas` is around it. GNU OpenMP kills a process that was forked after it ran;
such a child runs serially.
"""

import os
import sys
import threading
import warnings
from typing import Any

import numba
import numpy as np

from tinyconv.kernels.cpu import driver
from tinyconv.kernels.cpu.kernel import address_of

#: How often a waiting OpenMP thread looks for work before it sleeps, from which to wake takes
#: longer. With a quarter as many, predictions of ten digits take a third more time; five times as
#: many gain nothing there, and take twice the time where other work wants a core.
SPIN_COUNT = "4000"


class _Threads:
    """What this process knows of its threads."""

    parallel: Any = None  #: the compiled parallel loop, once it was needed
    must_be_serial = False  #: whether this process was forked when threads were running
    layer = "omp"
    most = 1  #: of Numba's pool
    count_awake: Any = None  #: of those
    lock = threading.RLock()


def run(segment: int, n: int, threads: int) -> None:
    """Run the segment of a program at this address (:mod:`driver`) for a batch of n samples."""
    if threads == 1 or _Threads.must_be_serial:
        driver.compile_serial()(segment, n, 1)
        return
    if _Threads.parallel is None:
        start()
    if _Threads.layer == "workqueue":  # which ends the process if two threads enter it
        with _Threads.lock:
            _run_parallel(segment, n, threads)
    else:
        _run_parallel(segment, n, threads)


def _run_parallel(segment: int, n: int, threads: int) -> None:
    """Run with so many threads of Numba's pool awake, and leave the pool as it was found."""
    awake = min(threads, _Threads.most)
    before = _Threads.count_awake()
    if awake == before:
        _Threads.parallel(segment, n, awake)
        return
    numba.set_num_threads(awake)
    try:
        _Threads.parallel(segment, n, awake)
    finally:
        numba.set_num_threads(before)


def _after_fork() -> None:
    numba_threads = sys.modules.get("numba.np.ufunc.parallel")
    if numba_threads is not None and numba_threads._is_initialized:
        _Threads.must_be_serial = True
    _Threads.lock = threading.RLock()  # another thread may have held it


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def start() -> None:
    """Choose the threading layer, load it and compile the parallel loop."""
    with _Threads.lock:
        if _Threads.parallel is not None or _Threads.must_be_serial:
            return
        chosen = numba.config.THREADING_LAYER
        unset = "GOMP_SPINCOUNT" not in os.environ and "OMP_WAIT_POLICY" not in os.environ
        if unset:
            os.environ["GOMP_SPINCOUNT"] = SPIN_COUNT  # read by libgomp when it is loaded
        try:
            if chosen == "default":
                numba.config.THREADING_LAYER = "omp" if _has_openmp() else "workqueue"
            parallel = driver.compile_parallel()
            parallel(address_of(np.zeros(1, driver.SEGMENT)), 0, 1)
        finally:
            numba.config.THREADING_LAYER = chosen
            if unset:
                del os.environ["GOMP_SPINCOUNT"]
        _Threads.layer = numba.threading_layer()
        _Threads.most = int(numba.config.NUMBA_NUM_THREADS)
        # What Numba's function of that name asks after making sure, each time, that threads run.
        pool = sys.modules["numba.np.ufunc.parallel"]
        _Threads.count_awake = getattr(pool, "_get_num_threads", numba.get_num_threads)
        _Threads.parallel = parallel


def _has_openmp() -> bool:
    try:
        from numba.np.ufunc import omppool  # type: ignore[attr-defined]  # noqa: F401
    except ImportError:
        warnings.warn(
            "tinyconv: Numba finds no OpenMP library (libgomp), so starting threads takes longer; "
            "small nets may train faster with tc.set_num_threads(1)",
            RuntimeWarning,
            stacklevel=2,
        )
        return False
    return True

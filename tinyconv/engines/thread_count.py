"""How many threads train and predict on the CPU; apart from the kernels so that Numba can wait."""

import os
from typing import Annotated

from tinyconv.arguments import Number, checked

#: More threads than any machine has cores for.
MOST = 1024

_wanted: int | None = None


def available() -> int:
    """Return the number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def get_num_threads() -> int:
    """Return the number of threads that train and predict on the CPU.

    It is what :func:`set_num_threads` set; else what the environment variable
    ``OMP_NUM_THREADS`` says; else the number of cores.

    >>> import tinyconv as tc
    >>> tc.get_num_threads() >= 1
    True
    """
    return _wanted or _from_environment() or available()


def _from_environment() -> int | None:
    text = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    return int(text) if text.isdecimal() and 1 <= int(text) <= MOST else None


@checked
def set_num_threads(n: Annotated[int, Number(whole=True, least=1, most=MOST)] | None) -> None:
    """Set the number of threads that train and predict on the CPU, for the whole process.

    It holds for all networks and in all threads, from the next batch on. Results differ in
    rounding from one number to another, and not from run to run: the batch is shared out among so
    many threads however many cores there are, and more threads than cores take turns. So a number
    that is set, instead of the number of cores, gives equal bits on machines of 2 and of 16 cores.

    Args:
        n: from 1 to 1024; None for what :func:`get_num_threads` says besides.

    Raises:
        ArgumentError: n is no such number.

    >>> import tinyconv as tc
    >>> tc.set_num_threads(1)
    >>> tc.get_num_threads()
    1
    >>> tc.set_num_threads(None)
    >>> tc.set_num_threads(0)
    Traceback (most recent call last):
    tinyconv.errors.ArgumentError: set_num_threads: n is 0, expected an integer of at least 1 and
    at most 1024 or None
    """
    global _wanted
    _wanted = n

"""Several kernels that are not in the cache yet, compiled by two processes.

Numba compiles under one lock, so that a thread more gains nothing. The other process,
``python -m tinyconv.kernels.cpu.compiling FOLDER``, takes from the end of the list what this one
takes from its beginning, and leaves it in the cache. Who takes a kernel says so by making a file;
what the other one could not compile, this one does.
"""

import os
import pickle
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing.spawn import get_executable
from pathlib import Path
from tempfile import TemporaryDirectory

from tinyconv.kernels.cpu import threads
from tinyconv.kernels.cpu.kernel import Kernel

#: So many kernels take longer to compile than a process takes to begin with it, about a second.
MANY = 6

#: Seconds that one waits for the other process, which has no more left than a kernel or two.
PATIENCE = 60.0

#: A file's name in the folder that the processes share.
ORDERS = "orders"


def compile_all(kernels: Sequence[Kernel], processes: int) -> None:
    """Compile kernels, or fetch them from the cache, on two cores if ``processes`` is above 1."""
    missing = [kernel for kernel in dict.fromkeys(kernels) if not kernel.fetch()]
    jobs = [(kernel.compile, order) for kernel in missing if (order := _order(kernel))]
    is_python = get_executable() is not None and not getattr(sys, "frozen", False)
    if processes > 1 and len(jobs) >= MANY and is_python:
        # The loop that runs a program on threads is the last, so the other process's first.
        jobs.append((threads.start, pickle.dumps((threads.start, ()))))
        with suppress(OSError):  # of a disk that is full or read-only
            _share(jobs)
    for kernel in missing:
        kernel.compile()


def _order(kernel: Kernel) -> bytes | None:
    """Return what another process makes a kernel of; None if none can, or not for this one."""
    if kernel.origin is None or not kernel.is_cacheable:
        return None
    try:
        return pickle.dumps(kernel.origin)
    except (pickle.PicklingError, AttributeError):  # the maker has no name in a module
        return None


def _share(jobs: Sequence[tuple[Callable[[], None], bytes]]) -> None:
    """Do some jobs and leave the others to another process, which has done them if all is well."""
    with TemporaryDirectory(prefix="tinyconv-") as name:
        folder = Path(name)
        (folder / ORDERS).write_bytes(pickle.dumps([order for _, order in jobs]))
        with _other_process(folder) as other:
            mine = [number for number in range(len(jobs)) if _do(folder, number, jobs[number][0])]
            if other is not None and len(mine) < len(jobs):
                with suppress(subprocess.TimeoutExpired):
                    other.wait(PATIENCE)


def _do(folder: Path, number: int, job: Callable[[], None]) -> bool:
    """Do a job, unless the other process does; return whether it did not."""
    try:
        (folder / str(number)).touch(exist_ok=False)
    except FileExistsError:
        return False
    job()
    return True


@contextmanager
def _other_process(folder: Path) -> Iterator[subprocess.Popen[bytes] | None]:
    """Start the other process; None if there can be none."""
    python, nothing = get_executable(), subprocess.DEVNULL
    path = os.pathsep.join(each or os.getcwd() for each in sys.path)
    try:
        other = subprocess.Popen(
            [os.fsdecode(python), "-P", "-m", __name__, str(folder)],
            env=os.environ | {"PYTHONPATH": path},
            stdin=nothing,
            stdout=nothing,
            stderr=nothing,
        )
    except OSError:
        yield None
        return
    try:
        yield other
    finally:
        other.kill()
        other.wait()


def main(folder: Path) -> None:
    """Be the other process."""
    orders = pickle.loads((folder / ORDERS).read_bytes())
    for number in reversed(range(len(orders))):

        def compile_one(order: bytes = orders[number]) -> None:
            maker, constants = pickle.loads(order)
            made = maker(*constants)
            if isinstance(made, Kernel):
                made.compile()

        _do(folder, number, compile_one)


if __name__ == "__main__":
    main(Path(sys.argv[1]))

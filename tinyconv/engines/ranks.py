"""The processes that train together, the *ranks*: who they are, and what they ask of each other."""

import sys
import time
import traceback
from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any, ParamSpec, Protocol, TypeVar

import numpy as np

from tinyconv.backend import Values
from tinyconv.engines.base import Totals
from tinyconv.errors import ArgumentError


class Stopped(Exception):
    """All ranks leave a step untaken, because one of them wants to stop."""


class Comm(Protocol):
    """What is needed of a communicator of ``mpi4py``, such as ``MPI.COMM_WORLD``."""

    def Get_rank(self) -> int:
        """Return the number of this process, from 0."""

    def Get_size(self) -> int:
        """Return how many processes there are."""

    def Allreduce(self, sendbuf: Any, recvbuf: Any) -> None:
        """Put the sum of all ranks' first array into the second one of each."""

    def allgather(self, sendobj: Any) -> list[Any]:
        """Return what each rank hands over, by rank."""

    def bcast(self, obj: Any, root: int = 0) -> Any:
        """Return what rank ``root`` hands over."""

    def Abort(self, errorcode: int = 0) -> None:
        """End all processes at once."""


class Ranks:
    """The processes that train a network together; without a communicator this one alone.

    Args:
        comm: has the interface of ``mpi4py``'s communicators.

    >>> Ranks(None).part(10)
    slice(0, 10, None)
    """

    def __init__(self, comm: Comm | None) -> None:
        for name in ("Get_rank", "Get_size", "Allreduce", "allgather", "bcast", "Abort"):
            if comm is not None and not hasattr(comm, name):
                raise ArgumentError(
                    f"fit: comm has no {name}, expected a communicator such as mpi4py's "
                    "MPI.COMM_WORLD"
                )
        self.comm = comm
        self.rank = 0 if comm is None else comm.Get_rank()  #: number of this process
        self.size = 1 if comm is None else comm.Get_size()  #: how many there are

    @property
    def is_first(self) -> bool:
        """Whether this is the rank that writes and shows."""
        return self.rank == 0

    def part(self, n: int) -> slice:
        """Return which of n samples are this rank's; each has as many, or one more."""
        return slice(n * self.rank // self.size, n * (self.rank + 1) // self.size)

    def add(self, values: Values) -> Values:
        """Return the sum of all ranks' arrays, which are contiguous and alike."""
        if self.comm is None:
            return values
        total = np.empty_like(values)
        self.comm.Allreduce(values, total)
        return total

    def gather(self, value: Any) -> list[Any]:
        """Return what each rank hands over."""
        return [value] if self.comm is None else self.comm.allgather(value)

    def from_first(self, value: Any) -> Any:
        """Return what the first rank hands over."""
        return value if self.comm is None else self.comm.bcast(value)

    def agree(self, stop: str | None) -> str | None:
        """Return the reason to stop of the first rank that has one."""
        return next(filter(None, self.gather(stop)), None)

    def check_same(self, settings: Mapping[str, Any]) -> None:
        """Check that all ranks were given the same.

        Raises:
            ArgumentError: one was not.
        """
        first = self.from_first(dict(settings))
        for name, value in settings.items():
            if value != first.get(name):
                raise ArgumentError(
                    f"fit: rank {self.rank} has {name} {value!r} and rank 0 {first.get(name)!r}, "
                    "expected the same arguments and data on all ranks"
                )

    def outputs(self, part: Values) -> Values:
        """Return the outputs for all samples, of which each rank hands over its part."""
        parts = self.gather(part)
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def totals(self, part: Totals) -> Totals:
        """Return the sums over all samples, of which each rank hands over those of its part."""
        total = Totals()
        for each in self.gather(part):
            total.add(each)
        return total


#: This process without others.
ALONE = Ranks(None)

#: Seconds that ``mpiexec`` has to pass on what a rank wrote: it drops the rest at the rank's end.
PASSED_ON = 0.5

P = ParamSpec("P")
R = TypeVar("R")


def ends_all(fit: Callable[P, R]) -> Callable[P, R]:
    """Let an exception of one rank end all of them, with its text: they would wait for it forever.

    Args:
        fit: takes the communicator as ``comm``.
    """

    @wraps(fit)
    def together(*args: P.args, **kwargs: P.kwargs) -> R:
        comm: Any = kwargs.get("comm")
        try:
            return fit(*args, **kwargs)
        except BaseException as error:
            if hasattr(comm, "Abort") and comm.Get_size() > 1:
                text = "".join(traceback.format_exception(error))
                sys.stderr.write(f"{text}rank {comm.Get_rank()} ends all ranks: {error!r}\n")
                sys.stderr.flush()
                time.sleep(PASSED_ON)
                comm.Abort(1)
            raise

    return together

"""A communicator whose ranks are threads of this process: mpi4py's interface without MPI."""

import copy
import threading
from collections.abc import Callable
from typing import Any

import numpy as np


class Ended(Exception):
    """A rank has ended all others."""


class _World:
    def __init__(self, size: int) -> None:
        self.barrier = threading.Barrier(size, timeout=120)
        self.shared: list[Any] = [None] * size


class ThreadComm:
    """What :class:`tinyconv.engines.ranks.Comm` asks for."""

    def __init__(self, world: _World, rank: int) -> None:
        self.world, self.rank = world, rank

    def Get_rank(self) -> int:
        return self.rank

    def Get_size(self) -> int:
        return len(self.world.shared)

    def allgather(self, sendobj: Any) -> list[Any]:
        try:
            self.world.shared[self.rank] = sendobj
            self.world.barrier.wait()
            gathered = copy.deepcopy(self.world.shared)
            self.world.barrier.wait()
        except threading.BrokenBarrierError:
            raise Ended from None
        return gathered

    def Allreduce(self, sendbuf: Any, recvbuf: Any) -> None:
        recvbuf[...] = np.sum(self.allgather(sendbuf), axis=0)

    def bcast(self, obj: Any, root: int = 0) -> Any:
        return self.allgather(obj)[root]

    def Abort(self, errorcode: int = 0) -> None:
        self.world.barrier.abort()


def on_ranks(size: int, work: Callable[[ThreadComm], Any]) -> list[Any]:
    """Return what ``work`` returns on each rank, an exception where it raises one."""
    world = _World(size)
    results: list[Any] = [None] * size

    def run(rank: int) -> None:
        try:
            results[rank] = work(ThreadComm(world, rank))
        except BaseException as error:
            results[rank] = error

    threads = [threading.Thread(target=run, args=(rank,)) for rank in range(size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results

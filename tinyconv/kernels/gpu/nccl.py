"""Sums over the GPUs of several processes, one each, by NCCL through CuPy's bindings."""

from collections.abc import Callable
from typing import Any


class NcclSum:
    """Adds up arrays in place, in turn with what else the stream does.

    Args:
        nccl: CuPy's module ``cupy.cuda.nccl``.
        size: how many processes there are.
        rank: of this one.
        spread: returns what the first process calls it with, on all of them.
        address: where an array begins in the device's memory.
        stream: the address of the stream that is in use.

    Source: NVIDIA's documentation of ``ncclAllReduce``; sender and receiver may be one array.
    """

    def __init__(
        self,
        nccl: Any,
        size: int,
        rank: int,
        spread: Callable[[Any], Any],
        address: Callable[[Any], int],
        stream: Callable[[], int],
    ) -> None:
        identity = spread(nccl.get_unique_id() if rank == 0 else None)
        self._communicator = nccl.NcclCommunicator(size, identity, rank)
        self._types = {"float32": nccl.NCCL_FLOAT32, "float64": nccl.NCCL_FLOAT64}
        self._operation, self._address, self._stream = nccl.NCCL_SUM, address, stream

    def __call__(self, values: Any) -> Any:
        """Put the sum of all processes' arrays, contiguous and alike, in place of each."""
        place, kind = self._address(values), self._types[str(values.dtype)]
        self._communicator.allReduce(
            place, place, int(values.size), kind, self._operation, self._stream()
        )
        return values

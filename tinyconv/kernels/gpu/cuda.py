"""The launcher of a real GPU, over CuPy."""

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import cupy
import numpy as np

from tinyconv.kernels.gpu.nccl import NcclSum
from tinyconv.kernels.gpu.source import OPTIONS, Instance, Launch, kernels_of, module_source


class CudaLauncher:
    """CuPy's arrays, modules and graphs on one stream: a ``Launcher`` of engines/gpu/program.py.

    The stream waits for CuPy's default stream and the other way round, so that what a user does to
    the arrays between two steps is in turn with them.
    """

    def __init__(self) -> None:
        self.stream = cupy.cuda.Stream()

    @property
    def free_bytes(self) -> int:
        free, _ = cupy.cuda.runtime.memGetInfo()
        return int(free + cupy.get_default_memory_pool().free_bytes())

    def empty(self, shape: Sequence[int], dtype: Any = np.float32) -> Any:
        with self.stream:
            return cupy.empty(tuple(shape), dtype)

    def upload(self, values: np.ndarray[Any, Any]) -> Any:
        with self.stream:
            return cupy.array(values, order="C")

    def write(self, array: Any, values: Any) -> None:
        with self.stream:
            if isinstance(values, np.ndarray):
                values = np.ascontiguousarray(values, array.dtype).reshape(array.shape)
                array.set(values, self.stream)
            else:
                array[...] = values

    def read(self, array: Any) -> np.ndarray[Any, Any]:
        with self.stream:
            return np.asarray(array.get(self.stream))

    def address(self, array: Any) -> int:
        return int(array.data.ptr)

    def adder(self, size: int, rank: int, spread: Callable[[Any], Any]) -> NcclSum:
        """Return what adds up an array over the GPUs of all processes, in place."""
        from cupy.cuda import nccl

        def stream() -> int:
            return int(cupy.cuda.get_current_stream().ptr)

        return NcclSum(nccl, size, rank, spread, self.address, stream)

    def load(self, instances: Sequence[Instance]) -> Launch:
        """Compile families of kernels; CuPy keeps what comes of it in a folder of the user's."""
        module = cupy.RawModule(code=module_source(instances), options=OPTIONS)
        # All of them at once, because nothing may be loaded while a graph is made.
        functions = {
            (instance, name): module.get_function(f"{name}_{number}")
            for number, instance in enumerate(instances)
            for name in kernels_of(instance.family)
        }
        null = np.uint64(0)

        def launch(
            instance: Instance,
            kernel: str,
            grid: tuple[int, int, int],
            threads: int,
            arguments: Sequence[Any],
        ) -> None:
            given = tuple(null if argument is None else argument for argument in arguments)
            functions[instance, kernel](grid, (threads, 1, 1), given)

        return launch

    def run(self, function: Callable[[], None]) -> None:
        with self.stream:
            function()

    def capture(self, function: Callable[[], None]) -> Callable[[], None]:
        with self.stream:
            self.stream.begin_capture()
            try:
                function()
            finally:
                graph = self.stream.end_capture()
            graph.upload(self.stream)

        def replay() -> None:
            graph.launch(self.stream)

        return replay


@cache
def launcher() -> CudaLauncher:
    """Return the launcher of this process."""
    return CudaLauncher()

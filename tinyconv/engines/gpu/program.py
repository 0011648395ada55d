"""A list of kernel calls, with Python functions between them where a plan needs any."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Protocol

import numpy as np

from tinyconv.backend import Array, Values
from tinyconv.kernels.gpu.source import Instance, Launch, threads_of


class Launcher(Protocol):
    """A device with memory, on which things happen in the order in which they are asked for.

    Attributes:
        free_bytes: of its memory.
    """

    @property
    def free_bytes(self) -> int:
        """Bytes that an array could take."""

    def empty(self, shape: Sequence[int], dtype: Any = np.float32) -> Array:
        """Return an array of the device, of any values."""

    def upload(self, values: Values) -> Array:
        """Return a copy on the device."""

    def write(self, array: Array, values: Any) -> None:
        """Write values of the host or of the device to an array, in turn with the launches."""

    def read(self, array: Array) -> Values:
        """Return a copy in the host's memory, when all that was launched before has ended."""

    def address(self, array: Array) -> int:
        """Return where an array begins in the device's memory."""

    def load(self, instances: Sequence[Instance]) -> Launch:
        """Compile families of kernels."""

    def run(self, function: Callable[[], None]) -> None:
        """Call a function that uses the arrays in turn with the launches."""

    def capture(self, function: Callable[[], None]) -> Callable[[], None]:
        """Return what makes the launches that a function makes, all at once; none is made now."""


Grid = Callable[[int], tuple[int, int, int]]

#: Batch sizes of which a program keeps a graph: the usual one and that of an epoch's last batch;
#: more where somebody's batches are of many sizes. Beyond these it launches one by one.
MOST_GRAPHS = 8


def BATCH(n: int) -> np.int32:
    """The argument that is the size of the batch."""
    return np.int32(n)


def blocks(per_sample: int, threads: int = 256) -> Grid:
    """Return the grid in which each element of a batch has a thread.

    >>> blocks(100)(10)
    (4, 1, 1)
    """
    return lambda n: (max(1, -(-n * per_sample // threads)), 1, 1)


@dataclass
class _Call:
    name: str
    instance: Instance
    kernel: str
    grid: Grid
    threads: int
    arguments: tuple[Any, ...]


class Program:
    """What a plan runs: built call by call, then frozen."""

    def __init__(self, launcher: Launcher) -> None:
        self.launcher = launcher
        #: adds what decides whether a step is taken; called where the plan has all gradients.
        self.judge: Callable[[], None] = lambda: None
        self._calls: list[_Call | tuple[str, Callable[[int], None]]] = []
        self._graphs: dict[int, list[Callable[[], None]]] = {}
        self._seen: set[int] = set()

    def call(
        self,
        name: str,
        family: str,
        sizes: Mapping[str, int],
        kernel: str,
        grid: Grid,
        *arguments: Any,
        threads: int | None = None,
    ) -> None:
        """Add a kernel.

        Args:
            name: for the profile.
            family: of kernels.
            sizes: the macros; those not named are 0.
            kernel: of the family.
            grid: of the size of the batch.
            arguments: as a launcher takes them, or functions of the size of the batch that return
                such.
            threads: of a block; the family's number if None.
        """
        instance = Instance.of(family, sizes)
        threads = threads or threads_of(family)
        self._calls.append(_Call(name, instance, kernel, grid, threads, arguments))

    def python(self, name: str, function: Callable[[int], None]) -> None:
        """Add a Python function of the number of samples."""
        self._calls.append((name, function))

    def guard(self) -> None:
        """Let what follows run only if the loss and the gradients are finite."""
        self.judge()

    def freeze(self) -> None:
        """Compile the kernels."""
        instances = dict.fromkeys(c.instance for c in self._calls if isinstance(c, _Call))
        self._launch: Launch = self.launcher.load(list(instances))

    @property
    def is_compiled(self) -> bool:
        """Whether no Python function is in it."""
        return all(isinstance(call, _Call) for call in self._calls)

    def __len__(self) -> int:
        """How many kernels and Python functions there are."""
        return len(self._calls)

    def run(self, n: int) -> None:
        """Run everything for a batch of n samples: from its second batch of a size on, as graphs.

        The first one is launched call by call, so that nothing is loaded while a graph is made.
        """
        if n not in self._graphs:
            if n not in self._seen or len(self._graphs) == MOST_GRAPHS:
                self._seen.add(n)
                for segment in self._segments(n):
                    self.launcher.run(segment)
                return
            self._graphs[n] = [
                segment if isinstance(segment, PythonCall) else self.launcher.capture(segment)
                for segment in self._segments(n)
            ]
        for part in self._graphs[n]:
            if isinstance(part, PythonCall):
                self.launcher.run(part)
            else:
                part()

    def _segments(self, n: int) -> list[Callable[[], None]]:
        """Return the launches between two Python functions as one function each."""
        segments: list[Callable[[], None]] = []
        for are_kernels, group in groupby(self._calls, lambda call: isinstance(call, _Call)):
            calls: list[Any] = list(group)
            if are_kernels:
                segments.append(self._launches(calls, n))
            else:
                segments += [PythonCall(function, n) for _, function in calls]
        return segments

    def _launches(self, calls: list[_Call], n: int) -> Callable[[], None]:
        prepared = [
            (
                call.instance,
                call.kernel,
                call.grid(n),
                call.threads,
                [value(n) if callable(value) else value for value in call.arguments],
            )
            for call in calls
        ]

        def run() -> None:
            for each in prepared:
                self._launch(*each)

        return run

    def profile(self, n: int, seconds: dict[str, float], wait: Callable[[], object]) -> None:
        """Run everything call by call and add up the time of each, launch included."""
        for call in self._calls:
            started = time.perf_counter()
            if isinstance(call, _Call):
                name, run = call.name, self._launches([call], n)
            else:
                name, run = call[0], PythonCall(call[1], n)
            self.launcher.run(run)
            wait()
            seconds[name] = seconds.get(name, 0.0) + time.perf_counter() - started


@dataclass
class PythonCall:
    """A Python function between two graphs."""

    function: Callable[[int], None]
    n: int

    def __call__(self) -> None:
        """Call it."""
        with np.errstate(all="ignore"):  # what overflows is found by the judge
            self.function(self.n)

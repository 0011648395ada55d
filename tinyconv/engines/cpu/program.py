"""A list of kernel calls in phases, with Python functions between them where a plan needs any."""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np

from tinyconv.backend import Values
from tinyconv.engines.cpu.arena import Image
from tinyconv.engines.cpu.tiling import compiled
from tinyconv.kernels.cpu import changes, driver, threads
from tinyconv.kernels.cpu.compiling import compile_all
from tinyconv.kernels.cpu.kernel import Kernel, address_of
from tinyconv.kernels.cpu.turns import LINE

#: What an argument of a kernel is made of; see :meth:`Program.record`.
Value: TypeAlias = float | Values | Image | Kernel | None


@dataclass
class _Phase:
    """Calls between two meetings of the threads, or one Python function."""

    name: str
    of_samples: bool
    calls: list[tuple[Kernel, int, int, int]] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    function: Callable[[int], None] | None = None
    flags: int = 0


class Program:
    """What a plan runs: built call by call, then frozen into the driver's arrays.

    Args:
        threads: how many share the work of a phase.

    Attributes:
        sums: address of each thread's sums of the loss, which a guard looks at.
    """

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self.sums = 0
        self._phases: list[_Phase] = []
        self._records: list[Values] = []
        self._called: list[tuple[Values, str, Kernel]] = []
        self._must_begin = True
        self._deferred: list[Callable[[], object]] = []
        self._guarded_from: int | None = None
        self._prepared = 0  # phases that only changes make necessary
        self._segments: list[int | Callable[[int], None]] = []  # addresses or functions

    def call(
        self, name: str, kernel: Kernel, items: int = 0, grain: int = 1, **values: Value
    ) -> Values:
        """Add a call and return its record of arguments.

        Args:
            name: for the profile.
            kernel: what is called.
            items: what the threads share, the samples of the batch if 0.
            grain: a share is a multiple of it.
            values: the arguments, see :meth:`record`.
        """
        args = self.record(kernel, **values)
        of_samples = items == 0
        if self._must_begin or self._phases[-1].of_samples != of_samples:
            self._phases.append(_Phase(name, of_samples))
            self._must_begin = False
        phase = self._phases[-1]
        phase.calls.append((kernel, address_of(args), items, grain))
        phase.names.append(name)
        return args

    def record(self, kernel: Kernel, **values: Value) -> Values:
        """Return the arguments of a kernel; the program keeps them and the arrays among them.

        Args:
            kernel: whose arguments they are.
            values: by their names in its record; what is not named is 0. An array or a kernel
                becomes its address (a kernel in :meth:`freeze`), None becomes 0, and an image
                the address of its first number and, where the record asks, its strides.
        """
        args = np.zeros(1, kernel.layout)
        for name, value in values.items():
            if isinstance(value, Kernel):
                self._called.append((args, name, value))
            elif isinstance(value, Image):
                self._records.append(value.array)
                for field_name, number in value.arguments(name).items():
                    if field_name in (kernel.layout.names or ()):
                        args[field_name] = number
            elif isinstance(value, np.ndarray):
                self._records.append(value)
                args[name] = address_of(value)
            elif value is not None:
                args[name] = value
        self._records.append(args)
        return args

    def fields(self, name: str, value: int) -> list[Values]:
        """Return, of all records, the fields of that name which hold a value."""
        named = [record[name] for record in self._records if name in (record.dtype.names or ())]
        return [field for field in named if field[0] == value]

    def meet(self) -> None:
        """Let all threads finish what was added so far before what follows."""
        self._must_begin = True

    def defer(self, add: Callable[[], object]) -> None:
        """Let ``add`` add calls that read what those before :meth:`add_deferred` write."""
        self._deferred.append(add)

    def add_deferred(self) -> None:
        """Add what was deferred, in as few phases as possible."""
        while self._deferred:
            self.meet()
            waiting, self._deferred = self._deferred, []
            for add in waiting:
                add()

    def only_after_changes(self, sources: Iterable[Values]) -> None:
        """Let what was added so far run only if its sources changed since it last did.

        Args:
            sources: all that it reads, contiguous and of 4 bytes a number.
        """
        step = 4 * changes.BLOCK
        pieces = [
            (address_of(array) + start, min(step, array.nbytes - start) // 4)
            for array in sources
            for start in range(0, array.nbytes, step)
        ]
        if not self._phases or not pieces:
            return
        table = np.array(pieces, np.int64).T.copy()
        copies = np.full((len(pieces), changes.BLOCK), -1, np.int32)
        flags = np.zeros((self.threads, 8), np.int64)
        kernel = compiled(changes.changes)
        args = self.record(kernel, sources=table[0], counts=table[1], copies=copies, flags=flags)
        for phase in self._phases:
            phase.flags = address_of(flags)
        look = _Phase("changes", False, [(kernel, address_of(args), len(pieces), 1)])
        look.names.append(look.name)
        self._phases.insert(0, look)
        self._prepared = len(self._phases)
        self._must_begin = True

    def python(self, name: str, function: Callable[[int], None]) -> None:
        """Add a Python function of the number of samples, which one thread calls."""

        def run(n: int) -> None:
            # In training, what overflows is found by the guard, which says more than a warning.
            quiet = "warn" if self._guarded_from is None else "ignore"
            with np.errstate(over=quiet, invalid=quiet):  # type: ignore[arg-type]
                function(n)

        self._phases.append(_Phase(name, False, names=[name], function=run))
        self._must_begin = True

    def guard(self) -> None:
        """Let what follows run only if the loss is finite and the gradients are sure to be."""
        self._must_begin = True
        self._guarded_from = len(self._phases)

    def freeze(self, block: int) -> None:
        """Compile the kernels and make the driver's arrays.

        Args:
            block: samples that pass through all calls of a phase at a time.
        """
        phases = [phase for phase in self._phases if phase.function is None]
        calls = [call for phase in phases for call in phase.calls]
        kernels = [kernel for kernel, *_ in calls] + [kernel for *_, kernel in self._called]
        compile_all(kernels, self.threads)
        for args, key, kernel in self._called:
            args[key] = kernel.address
        table = [(kernel.address, *others) for kernel, *others in calls]
        self._calls = np.array(table, driver.CALL)
        self._table = np.zeros(len(phases), driver.PHASE)
        first = 0
        for row, phase in zip(self._table, phases, strict=True):
            row["first"], row["last"] = first, first + len(phase.calls)
            row["block"] = block if phase.of_samples else 0
            row["flags"] = phase.flags
            first += len(phase.calls)
        self._turns = np.zeros((self.threads, LINE), np.uint8)
        self._call = np.zeros(1, driver.PHASE)  # of one call, for a profile
        self._call_alone = self._segment(self._call, 0)
        guarded = self._guarded_from
        begin = 0
        for place, phase in enumerate(self._phases):
            if phase.function is not None:
                self._segments.append(phase.function)
                continue
            if guarded is not None and place >= guarded:
                self._table[begin]["guard"] = self.sums
            if not self._segments or callable(self._segments[-1]):
                self._segments.append(self._segment(self._table, begin))
            begin += 1
            self._records[-1]["end"] = begin
        if self.is_by_samples:
            self._again = self._segment(self._table, self._prepared)

    def _segment(self, phases: Values, begin: int) -> int:
        """Return the address of a segment that begins and ends with a phase."""
        segment = np.zeros(1, driver.SEGMENT)
        segment["calls"], segment["phases"] = address_of(self._calls), address_of(phases)
        segment["begin"], segment["end"] = begin, begin + 1
        segment["threads"], segment["turns"] = self.threads, address_of(self._turns)
        self._records.append(segment)
        return address_of(segment)

    @property
    def is_compiled(self) -> bool:
        """Whether no Python function is in it."""
        return not any(callable(segment) for segment in self._segments)

    @property
    def is_by_samples(self) -> bool:
        """Whether what runs without changes is one phase, which treats samples by themselves."""
        return [phase.of_samples for phase in self._phases[self._prepared :]] == [True]

    def run(self, n: int, again: bool = False) -> None:
        """Run everything for a batch of n samples; ``again`` without a look for changes."""
        for segment in (self._again,) if again else self._segments:
            if callable(segment):
                segment(n)
            else:
                threads.run(segment, n, self.threads)

    def profile(self, n: int, seconds: dict[str, float]) -> None:
        """Run everything call by call, and add up the time of each call on the whole batch."""
        begin = 0
        for phase in self._phases:
            if phase.function is not None:
                started = time.perf_counter()
                phase.function(n)
                passed = time.perf_counter() - started
                seconds[phase.name] = seconds.get(phase.name, 0.0) + passed
                continue
            for place, name in enumerate(phase.names):
                row = self._table[begin]
                self._call[0] = row
                self._call["first"] = row["first"] + place
                self._call["last"] = row["first"] + place + 1
                started = time.perf_counter()
                threads.run(self._call_alone, n, self.threads)
                passed = time.perf_counter() - started
                seconds[name] = seconds.get(name, 0.0) + passed
            begin += 1

"""Where the gradients of a plan lie: in few buffers, each free again when its last reader is done.

The backward pass runs from the last step to the first. Of the readers of a value, the first in that
order writes its gradient, and the others add to it; the step that made the value reads it last.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Slot:
    """Where a step puts the gradient of one of its inputs."""

    image: Any = None  #: the buffer; None if nobody wants the gradient
    adds: bool = False  #: whether the step adds to what is there
    total: Any = None  #: what the plan has to add the buffer to, because the step cannot
    finishes: Any = None  #: the step that made the input, if the gradient is complete then


@dataclass
class _Memory:
    """A buffer."""

    image: Any
    kind: Any  #: says which values it fits
    places: list[int] = field(default_factory=list)  #: of the values whose gradients lie in it now


def rooms_of_gradients(steps: Sequence[Any]) -> list[set[Any]]:
    """Return what the maker of each value needs of the buffer of its gradient.

    A gradient that a sum passes on is there for the makers of its inputs, too.
    """
    rooms: list[set[Any]] = [set()]
    for step in steps:
        passed = step.unit.inputs if step.passes_gradient else ()
        rooms.append({(step.gradient_border, 0)}.union(*(rooms[place] for place in passed)))
    return rooms


@dataclass
class Gradients:
    """The buffers of a plan's gradients, chosen by a walk through the backward pass."""

    shapes: Sequence[Any]  #: of one sample of each value
    trained: Sequence[bool]  #: which values want a gradient
    views: list[bool]  #: which values are their maker's input in another shape
    steps: Sequence[Any]  #: step k makes value k + 1
    backend: Any  #: gives the memory

    def __post_init__(self) -> None:
        shapes, steps = self.shapes, self.steps
        self.readers: list[list[int]] = [[] for _ in shapes]
        for number, step in enumerate(steps):
            for place in step.unit.inputs:
                self.readers[place].append(number)
        self.rooms = rooms_of_gradients(steps)
        self.memory: list[_Memory | None] = [None] * len(shapes)
        self.written: set[int] = set()
        self.free: dict[Any, list[_Memory]] = defaultdict(list)
        #: the gradient of each value, as the step that made it reads it.
        self.of: list[Any] = [None] * len(shapes)
        #: for each step, where the gradients of its inputs go.
        self.slots: list[list[Slot]] = [[] for _ in steps]
        if steps:
            self._begin(len(shapes) - 1)
        for number in reversed(range(len(steps))):
            self._walk(number)

    def _walk(self, number: int) -> None:
        """Choose where a step puts its gradients, and free what nobody reads behind it."""
        step = self.steps[number]
        passed = self._pass_on(number) if step.passes_gradient else []
        private = []
        for place in step.unit.inputs:
            if not self.trained[place]:
                slot = Slot()
            elif place in passed or place not in self.written:
                self._begin(place)
                self.written.add(place)
                slot = Slot(self._whole(place), finishes=self._finished(number, place))
            elif step.adds_gradients:
                finished = self._finished(number, place)
                slot = Slot(self._whole(place), adds=True, finishes=finished)
            else:
                private.append(self._take(place))
                slot = Slot(private[-1].image, total=self._whole(place))
            self.slots[number].append(slot)
        for memory in private:
            self.free[memory.kind].append(memory)
        own = self.memory[number + 1]
        if own is not None and (step.keeps_gradients or not step.is_trained):
            own.places.remove(number + 1)  # otherwise the update reads it
            if not own.places:
                self.free[own.kind].append(own)

    def _finished(self, number: int, place: int) -> Any:
        return self.steps[place - 1] if self.readers[place][0] == number else None

    def _whole(self, place: int) -> Any:
        """Return the gradient of a value as its readers write it."""
        memory = self.memory[place]
        assert memory is not None
        return self.of[place] if self.views[place] else memory.image

    def _is_dirty(self, place: int) -> bool:
        """Whether readers write to the border of a gradient."""
        return any(self.steps[number].spoils_border for number in self.readers[place])

    def _take(self, place: int) -> _Memory:
        """Return a buffer for a gradient."""
        readers = [self.steps[number] for number in self.readers[place]]
        rooms = {(step.border, step.spare) for step in readers} | self.rooms[place]
        wanted = [room for room in rooms if self.backend.needs_room([room])]
        kind = (tuple(self.shapes[place]), self._is_dirty(place), frozenset(wanted))
        if self.free[kind]:
            return self.free[kind].pop()
        return _Memory(self.backend.buffer(self.shapes[place], wanted), kind)

    def _keep(self, place: int, memory: _Memory, image: Any) -> None:
        memory.places.append(place)
        self.memory[place], self.of[place] = memory, image

    def _begin(self, place: int) -> None:
        """Choose where a gradient is, before anything is written there."""
        if not self.trained[place] or self.memory[place] is not None:
            return
        if self.views[place]:
            (source,) = self.steps[place - 1].unit.inputs
            if self.trained[source] and len(self.readers[source]) == 1:
                self._begin(source)
                memory = self.memory[source]
                view = self._whole(source).flattened()
                if memory is not None and view is not None:
                    self._keep(place, memory, view)
                    return
            self.views[place] = False
        memory = self._take(place)
        image = memory.image.without_border() if self._is_dirty(place) else memory.image
        self._keep(place, memory, image)

    def _pass_on(self, number: int) -> list[int]:
        """Let inputs of a sum have its gradient as theirs, where nobody is in the way of it.

        While one of them waits for its maker, no reader of another may add to the buffer, and no
        maker may change it.
        """
        memory, inputs = self.memory[number + 1], self.steps[number].unit.inputs
        if memory is None or len(set(inputs)) < len(inputs):
            return []
        y = self.of[number + 1]
        passed: list[int] = []
        others = [place for place in memory.places if place != number + 1]
        for place in sorted(inputs, reverse=True):
            if (
                self.trained[place]
                and self.memory[place] is None
                and not self.views[place]
                and not any(self.steps[reader].dx_is_like_x for reader in self.readers[place])
                and all(y.has_border(border) for border, _ in self.rooms[place])
                and all(
                    self._is_read_first(a, b, number)
                    for other in others + passed
                    for a, b in ((place, other), (other, place))
                )
            ):
                passed.append(place)
        for place in passed:
            self._keep(place, memory, y)
        return passed

    def _is_read_first(self, place: int, other: int, number: int) -> bool:
        """Whether, behind a step, the maker of a value comes before what changes another's."""
        changes = [reader for reader in self.readers[other] if reader < number]
        if self.steps[other - 1].changes_dy:
            changes.append(other - 1)
        return all(place - 1 > change for change in changes)

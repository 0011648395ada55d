"""The plan of a network: units as steps over buffers that exist once, in the order of a step.

It is the same for every device; a backend gives it memory, steps and a program. The layers run by
themselves (``net.forward``, ``net.backward``) are its specification.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tinyconv.engines.base import Net
from tinyconv.engines.gradients import Gradients, rooms_of_gradients
from tinyconv.engines.units import fuse
from tinyconv.layers.base import Shape


@dataclass
class _Value:
    """What flows between steps: the input of the network, or the output of a step."""

    shape: Shape  #: of one sample
    image: Any = None  #: its buffer
    is_view: bool = False  #: whether that is its maker's input in another shape
    is_trained: bool = False  #: whether a parameter has a part in it


class Plan:
    """Steps, buffers and program of a network, for batches up to one size.

    Args:
        shape: of one sample.
        backend: gives memory, steps and a program; see :mod:`tinyconv.engines.cpu.backend`.
    """

    def __init__(self, net: Net, shape: Shape, backend: Any) -> None:
        self.backend = backend
        training = backend.training
        units, output = fuse(net.layers, backend.accepts, training)
        values = [_Value(tuple(shape))]
        self.steps: list[Any] = []
        for unit in units:
            step = backend.step(unit, [values[place].shape for place in unit.inputs])
            trained = any(values[place].is_trained for place in unit.inputs)
            trained = trained or any(layer.grads for layer in unit.layers)
            values.append(_Value(step.shape, is_trained=trained))
            self.steps.append(step)
        self.values, self.output = values, values[output]
        self._lay_out(training)
        for step in self.steps:
            step.prepare(backend.program)
        backend.gather(values[0].image)
        for step in self.steps:
            step.forward(backend.program)
            if training and step.leaves_out:
                backend.watch_input(step)
        if training:
            self._add_training()
        else:
            backend.outputs(self.output.image, self.output.shape)
        backend.freeze()

    def _lay_out(self, training: bool) -> None:
        """Make the buffers and hand them to the steps."""
        backend, values = self.backend, self.values
        readers: list[list[Any]] = [[] for _ in values]
        for step in self.steps:
            for place in step.unit.inputs:
                readers[place].append(step)
        rooms = rooms_of_gradients(self.steps)
        for place, value in enumerate(values):
            wanted = [(step.border, step.spare) for step in readers[place]]
            if training and any(step.dx_is_like_x for step in readers[place]):
                wanted += rooms[place]
            maker = self.steps[place - 1] if place else None
            # A change of shape that leaves the numbers where they are has no buffers of its own.
            if maker is not None and maker.is_view and not backend.needs_room(wanted):
                value.image = values[maker.unit.inputs[0]].image.flattened()
                value.is_view = value.image is not None
            if value.image is None:
                value.image = backend.buffer(value.shape, wanted)
        self.gradients = Gradients(
            [value.shape for value in values],
            [training and value.is_trained for value in values],
            [value.is_view for value in values],
            self.steps,
            backend,
        )
        for place, step in enumerate(self.steps):
            xs = [values[i].image for i in step.unit.inputs]
            slots = self.gradients.slots[place]
            step.adds = [slot.adds for slot in slots]
            step.finishes = [slot.finishes for slot in slots]
            dxs = [slot.image for slot in slots]
            step.connect(xs, dxs, values[place + 1].image, self.gradients.of[place + 1])

    def _add_training(self) -> None:
        backend, program = self.backend, self.backend.program
        of, slots = self.gradients.of, self.gradients.slots
        backend.loss(self.output.image, of[-1], self.output.shape)
        for step, own, dy in zip(self.steps[::-1], slots[::-1], of[:0:-1], strict=True):
            if dy is None:  # nothing here or before it is trained
                continue
            step.backward(program)
            if step.is_trained and not step.keeps_gradients:
                backend.watch(step)
            for slot in own:
                if slot.total is not None:
                    backend.add(f"{step.name}: sum of gradients", slot.image, slot.total)
        for step in self.steps:
            if step.keeps_gradients:
                backend.watch_kept(step)
        program.guard()
        for step in self.steps:
            if not step.is_frozen:
                step.update(program)
        backend.finish_update()

    @property
    def is_compiled(self) -> bool:
        """Whether no layer of the plan runs by its own Python methods."""
        return bool(self.backend.program.is_compiled)

    def __str__(self) -> str:
        """One unit a line; those that run by their layers' own methods say so."""
        own = "  (by its own methods)"
        return "\n".join(
            step.name + (own if step.unit.kind == "plain" else "") for step in self.steps
        )


#: One for few samples and one for many, say, which different numbers of threads make. Two is what
#: memory has to hold in any case while one takes the place of another.
MOST_KEPT = 2


@dataclass
class KeptPlans:
    """Plans by what they are for, such as the shape of a sample; those asked for longest ago go."""

    #: returns a plan for so many samples at most, and for the rest of what it is for.
    make: Callable[..., Plan]
    _plans: dict[tuple[Any, ...], Plan] = field(default_factory=dict)
    _version: int = -1

    def find(self, version: int, batch: int, *key: Any) -> Plan:
        """Return a plan for so many samples of the network in this version."""
        if version != self._version:
            self._plans.clear()
            self._version = version
        plan = self._plans.pop(key, None)
        if plan is None or batch > plan.backend.batch:
            while len(self._plans) >= MOST_KEPT:
                del self._plans[next(iter(self._plans))]
            plan = self.make(batch, *key)
        self._plans[key] = plan  # behind the others
        return plan

"""The plan of a network: units as steps over buffers that exist once, in the order of a step.

It is the same for every device; a backend gives it memory, steps and a program. The layers run by
themselves (``net.forward``, ``net.backward``) are its specification.
"""

from dataclasses import dataclass, field
from typing import Any

from tinyconv.engines.base import Net
from tinyconv.engines.units import fuse
from tinyconv.layers.base import Shape
from tinyconv.layers.container import Container

__all__ = ["Plan"]


@dataclass
class _Value:
    """What flows between steps: the input of the network, or the output of a step.

    Attributes:
        shape: of one sample.
        image: its buffer.
        gradients: a buffer for each reader that is to send a gradient back; the first gets the
            sum.
        is_trained: whether a parameter has a part in it.
    """

    shape: Shape
    image: Any = None
    gradients: list[Any] = field(default_factory=list)
    is_trained: bool = False


class Plan:
    """Steps, buffers and program of a network, for batches up to one size.

    Args:
        net: the network.
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
            trained = trained or any(layer.params for layer in unit.layers)
            values.append(_Value(step.shape, is_trained=trained))
            self.steps.append(step)
        self.values, self.output = values, values[output]
        self._lay_out(training)
        for step in self.steps:
            step.prepare(backend.program)
        backend.gather(values[0].image)
        for step in self.steps:
            step.forward(backend.program)
        if training:
            self._add_training()
        backend.freeze()

    def _lay_out(self, training: bool) -> None:
        """Make the buffers and hand them to the steps."""
        backend, values = self.backend, self.values
        readers: list[list[Any]] = [[] for _ in values]
        for step in self.steps:
            for place in step.unit.inputs:
                readers[place].append(step)
        for place, value in enumerate(values):
            wanted = [(step.border, step.spare) for step in readers[place]]
            maker = self.steps[place - 1] if place else None
            # A change of shape that leaves the numbers where they are has no buffers of its own.
            view = slot = None
            if maker is not None and maker.is_view and not backend.needs_room(wanted):
                view = values[maker.unit.inputs[0]].image.flattened()
                slot = self._slot(maker, 0)
            value.image = backend.buffer(value.shape, wanted) if view is None else view
            if not training or not value.is_trained:
                continue
            value.gradients = [backend.buffer(value.shape, wanted) for _ in readers[place][1:]]
            if view is None or slot is None:
                value.gradients.insert(0, backend.buffer(value.shape, wanted))
            else:
                value.gradients.insert(0, slot.flattened())
        for place, step in enumerate(self.steps):
            y = values[place + 1]
            inputs = [values[i] for i in step.unit.inputs]
            gradients = [self._slot(step, k) for k in range(len(inputs))]
            step.connect(
                [x.image for x in inputs],
                gradients,
                y.image,
                y.gradients[0] if y.gradients else None,
            )

    def _slot(self, step: Any, number: int) -> Any:
        """Return the buffer for the gradient of an input of a step, None if nobody wants it."""
        place = step.unit.inputs[number]
        before = 0
        for other in self.steps:
            last = number if other is step else len(other.unit.inputs)
            before += other.unit.inputs[:last].count(place)
            if other is step:
                break
        gradients = self.values[place].gradients
        return gradients[before] if gradients else None

    def _add_training(self) -> None:
        backend, program = self.backend, self.backend.program
        gradients = self.output.gradients
        backend.loss(self.output.image, gradients[0] if gradients else None, self.output.shape)
        for step, value in zip(self.steps[::-1], self.values[:0:-1], strict=True):
            for other in value.gradients[1:]:
                backend.add(f"{step.name}: sum of gradients", other, value.gradients[0])
            layers = (layer for layer in step.unit.layers if not isinstance(layer, Container))
            is_trained = any(layer.params for layer in layers)
            if is_trained and not step.keeps_gradients:
                backend.watch(step)
            step.backward(program)
        for step in self.steps:
            if step.keeps_gradients:
                backend.watch_kept(step)
        program.guard()
        for step in self.steps:
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

"""What the steps of a plan have in common on every device.

A step is a unit with its buffers, which adds its calls to a program. Three methods, always in this
order: ``forward`` for every step from the first to the last, ``backward`` from the last to the
first, ``update`` for all.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from tinyconv.engines.units import ACTIVATIONS, Kinds, Unit
from tinyconv.kernels.activations import IDENTITY, Chosen, find
from tinyconv.layers import Layer, Parallel
from tinyconv.layers.base import Shape
from tinyconv.layers.container import Container


class UnitStep:
    """A unit with its buffers.

    Args:
        unit: what to compute.
        shapes: of one sample of each input, channels first.
        context: what all steps share.
    """

    #: What the inputs' buffers must have at least: a border of zeros, and spare numbers.
    border: Any = ()
    spare = 0
    #: The zeros that the step wants around dy.
    gradient_border: Any = ()
    #: Whether dx has to be laid out as x, and whether anything may be written to its border.
    dx_is_like_x = False
    spoils_border = False
    #: Whether the step can add to what is in dx.
    adds_gradients = False
    #: Whether dy, once the step has changed it, is the gradient of all inputs.
    passes_gradient = False
    #: Whether what the gradients of the parameters are sums of lies in memory before the update.
    keeps_gradients = False
    #: Whether numbers of x are passed over that the layers multiply by zeros, so must be finite.
    leaves_out = False
    #: Whether y is x itself where the numbers of x lie in the order of y already.
    is_view = False
    #: What the first layer may be; empty for anything of the unit's kind.
    kinds: Kinds = ()
    #: Whether samples have to be images, of three axes at most.
    is_for_images = False

    def __init__(self, unit: Unit, shapes: Sequence[Shape], context: Any) -> None:
        self.unit = unit
        self.layer: Any = unit.layers[0]  #: the first one
        self.context = context
        self.input_shape = shapes[0]  #: of one sample of the first input
        self.shape = self.output_shape(shapes)  #: of one sample of the output
        self.name = f"{unit.layers[0].path} {unit}"
        #: for each input, whether its gradient is added to what is there.
        self.adds: list[bool] = []
        #: for each input the step whose dy is complete behind this one, or None.
        self.finishes: list[Any] = []
        found = map(self.activation_of, unit.layers)
        #: what comes last, the identity if nothing does.
        self.activation = next((chosen for chosen in found if chosen is not None), Chosen())
        self.choose()

    @staticmethod
    def activation_of(layer: Layer) -> Chosen | None:
        """Return what computes a layer, if it is an activation that kernels know, else None."""
        kind = type(layer)
        return find(kind.__name__, layer.config()) if kind in ACTIVATIONS else None

    @classmethod
    def accepts(cls, unit: Unit) -> bool:
        """Whether there are kernels for this unit, beyond its being of the step's kind."""
        return not cls.kinds or type(unit.layers[0]) in cls.kinds

    @classmethod
    def takes(cls, shapes: Sequence[Shape]) -> bool:
        """Whether the kernels of a unit of one layer work on inputs of these shapes."""
        return not cls.is_for_images or len(shapes[0]) <= 4

    @property
    def is_trained(self) -> bool:
        """Whether there are parameters, but for those of branches that the step joins."""
        return any(layer.grads for layer in self.unit.layers if not isinstance(layer, Container))

    @property
    def is_frozen(self) -> bool:
        """Whether its parameters or running statistics shall stay as they are."""
        return any(
            (layer.params or layer.state) and not layer.trainable for layer in self.unit.layers
        )

    @property
    def changes_dy(self) -> bool:
        """Whether the backward pass writes to dy."""
        return True

    def output_shape(self, shapes: Sequence[Shape]) -> Shape:
        """Return the shape of the output."""
        (shape,) = shapes
        for layer in self.unit.layers:
            shape = layer.output_shape(shape)
        return shape

    def choose(self) -> None:
        """Choose what does not depend on the buffers, behind all that is above."""

    def prepare(self, program: Any) -> None:
        """Add what comes before all forward passes: packing of weights."""

    def forward(self, program: Any) -> None:
        """Add the calls that make y from x."""

    def backward(self, program: Any) -> None:
        """Add the calls that make dx from dy; without parameters, a step of one input has a dx."""

    def update(self, program: Any) -> None:
        """Add what a refused step must not do: gradients to the rule, running statistics."""

    def undo(self) -> None:
        """Take back what a refused step has done outside the plan's buffers nevertheless."""


class SumStep(UnitStep):
    """The sum of all inputs, two or more, with an activation behind it."""

    adds_gradients = True
    passes_gradient = True

    @property
    def changes_dy(self) -> bool:  # noqa: D102
        return self.activation.code != IDENTITY

    @classmethod
    def accepts(cls, unit: Unit) -> bool:  # noqa: D102
        layer = unit.layers[0]
        return not isinstance(layer, Parallel) or len(layer.branches) > 1

    def output_shape(self, shapes: Sequence[Shape]) -> Shape:  # noqa: D102
        return shapes[0]


class SideBySideStep(UnitStep):
    """All inputs side by side along the channels."""

    def output_shape(self, shapes: Sequence[Shape]) -> Shape:  # noqa: D102
        return (sum(shape[0] for shape in shapes), *shapes[0][1:])


class Steps:
    """The steps of a device by the kinds of :mod:`tinyconv.engines.units`, and those of a plan.

    Args:
        of_kind: kind -> the steps that may compute it, of which the first that accepts it does.
        context: what the steps of the plan share.
    """

    def __init__(self, of_kind: Mapping[str, tuple[type[Any], ...]], context: Any) -> None:
        self.of_kind, self.context = of_kind, context
        self.plain = of_kind["plain"][0]
        self.made: list[Any] = []  #: so far, in their order

    def _find(self, unit: Unit) -> type[Any] | None:
        return next((kind for kind in self.of_kind.get(unit.kind, ()) if kind.accepts(unit)), None)

    def accept(self, unit: Unit) -> bool:
        """Whether there are kernels for a unit."""
        last = unit.find(ACTIVATIONS)
        known = last is None or self.plain.activation_of(last) is not None
        return known and self._find(unit) is not None

    def make(self, unit: Unit, shapes: Sequence[Shape]) -> Any:
        """Return the step of a unit for inputs of these shapes."""
        kind = self._find(unit)
        if kind is None or not kind.takes(shapes):
            unit, kind = replace(unit, kind="plain"), self.plain
        self.made.append(kind(unit, shapes, self.context))
        return self.made[-1]

"""What a step of a plan is: a unit with its buffers, which appends its calls to a program.

Three methods, always in this order: ``forward`` for every step from the first to the last,
``backward`` from the last to the first, ``update`` for all.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from tinyconv.backend import Array
from tinyconv.engines.cpu.arena import NO_BORDER, Arena, Border, Image
from tinyconv.engines.cpu.program import Program
from tinyconv.engines.units import ACTIVATIONS, Unit
from tinyconv.kernels.cpu.activation import Chosen, find
from tinyconv.kernels.cpu.kernel import address_of
from tinyconv.layers.base import Layer, Shape
from tinyconv.layers.container import Container


class Context:
    """What the steps of a plan share.

    Attributes:
        batch: samples at most.
        threads: threads that share the work.
        training: whether there is a backward pass.
        arena: the memory.
        n: int64 array of one, the samples of the running batch.
        step: number of the running training step.
        flat: all parameters.
        flat_grad: all gradients, filled for layers without kernels only.
        rule: (address, address of arguments) of the optimizer's kernel.
    """

    def __init__(
        self, batch: int, threads: int, training: bool, flat: Array, flat_grad: Array
    ) -> None:
        self.batch = batch
        self.threads = threads
        self.training = training
        self.arena = Arena()
        self.n = np.zeros(1, np.int64)
        self.step = 0
        self.flat = flat
        self.flat_grad = flat_grad
        self.rule = (0, 0)
        self._room = np.zeros(0, np.float32)

    def room(self, count: int) -> tuple[int, int]:
        """Return the address of ``count`` numbers for each thread, and how far apart they are.

        They are there for the moment of a call, and all calls use the same.
        """
        if self._room.size // self.threads < count:
            self._room = self.arena.take(self.threads * count)
        return address_of(self._room), self._room.size // self.threads

    def place(self, parameter: Array) -> int:
        """Return where a parameter begins in the flat vector."""
        return (address_of(parameter) - address_of(self.flat)) // 4


class Step:
    """A unit with its buffers.

    Args:
        unit: what to compute.
        shapes: of one sample of each input, channels first.
        context: what all steps share.

    Attributes:
        input_shape: of one sample of the first input.
        shape: of one sample of the output.
        x, y: the first input and the output.
        xs: all inputs.
        dx, dxs: where the gradients of the inputs go; None where nobody wants one.
        dy: where the gradient of the output will be; None in a plan without training.
        activation: what comes last, the identity if nothing does.
        adds: for each input, whether its gradient is added to what is there.
        finishes: for each input the step whose dy is complete behind this one, or None.
        has_dz: whether a reader has made dz of dy: see :attr:`takes_dz`.
        kept_gradients: where threads or samples have what gradients are sums of, after
            ``backward``: arguments of :func:`tinyconv.kernels.cpu.reach.reach_of_kept`.
        z: laid out as y, what the activation is of; y itself unless the slope needs it. Then it
            holds the slopes once y is made.
    """

    #: What the inputs' buffers must have at least: a border of zeros, and spare numbers.
    border: Border = NO_BORDER
    spare = 0
    #: The zeros that the step wants around dy.
    gradient_border: Border = NO_BORDER
    #: Whether dx has to be laid out as x, and whether anything may be written to its border.
    dx_is_like_x = False
    spoils_border = False
    #: Whether the step can add to what is in dx.
    adds_gradients = False
    #: Whether dy, once the step has changed it, is the gradient of all inputs.
    passes_gradient = False
    #: Whether what the gradients of the parameters are sums of lies in memory before the update:
    #: then :attr:`kept_gradients` tells where.
    keeps_gradients = False
    #: Whether y is x itself where the numbers of x lie in the order of y already.
    is_view = False

    def __init__(self, unit: Unit, shapes: Sequence[Shape], context: Context) -> None:
        self.unit = unit
        self.input_shape = shapes[0]
        self.context = context
        self.shape = self.output_shape(shapes)
        self.name = f"{unit.layers[0].path} {unit}"
        self.adds: list[bool] = []
        self.finishes: list[Step | None] = []
        self.has_dz = False
        self.kept_gradients: list[dict[str, int]] = []
        found = (activation_of(layer) for layer in unit.layers)
        self.activation = next((chosen for chosen in found if chosen is not None), Chosen())

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

    @property
    def takes_dz(self) -> bool:
        """Whether a reader may write 0 to dy where y is not positive, instead of this step."""
        return False

    @staticmethod
    def accepts(unit: Unit) -> bool:
        """Whether there are kernels for this unit, beyond its being of the step's kind."""
        return True

    @staticmethod
    def takes(shapes: Sequence[Shape]) -> bool:
        """Whether the kernels of a unit of one layer work on inputs of these shapes."""
        return True

    def output_shape(self, shapes: Sequence[Shape]) -> Shape:
        """Return the shape of the output."""
        (shape,) = shapes
        for layer in self.unit.layers:
            shape = layer.output_shape(shape)
        return shape

    def connect(
        self, xs: Sequence[Image], dxs: Sequence[Image | None], y: Image, dy: Image | None
    ) -> None:
        """Take all inputs' buffers; a gradient's buffer is laid out as its input's."""
        self.xs, self.dxs = xs, dxs
        self.bind(xs[0], dxs[0], y, dy)

    def bind(self, x: Image, dx: Image | None, y: Image, dy: Image | None) -> None:
        """Take the buffers of the first input, its gradient, the output and its gradient."""
        self.x, self.dx, self.y, self.dy = x, dx, y, dy
        self.z = y
        if self.activation.needs_z and dy is not None:
            self.z = replace(y, array=self.context.arena.take(y.array.size))

    def prepare(self, program: Program) -> None:
        """Add what comes before all forward passes: packing of weights."""

    def forward(self, program: Program) -> None:
        """Add the calls that make y from x."""

    def backward(self, program: Program) -> None:
        """Add the calls that make dx from dy."""

    def update(self, program: Program) -> None:
        """Add what a refused step must not do: gradients to the rule, running statistics."""

    def undo(self) -> None:
        """Take back what a refused step has done outside the plan's buffers nevertheless."""

    def start(self, step: int) -> None:
        """Set what depends on the number of the training step."""


def activation_of(layer: Layer) -> Chosen | None:
    """Return what computes a layer, if it is an activation that kernels know."""
    kind = type(layer)
    return find(kind.__name__, layer.config()) if kind in ACTIVATIONS else None


def rows_of(image: Image, prefix: str) -> dict[str, int]:
    """The arguments that describe the inside of a buffer of one plane."""
    return {prefix: image.origin, f"{prefix}_sample": image.sample, f"{prefix}_row": image.row}


def planes_of(image: Image, prefix: str) -> dict[str, int]:
    """The arguments that describe the inside of a buffer."""
    return {**rows_of(image, prefix), f"{prefix}_plane": image.plane}

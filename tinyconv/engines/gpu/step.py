"""What a step of a plan on the GPU is: a unit with its buffers, which adds calls to a program."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from tinyconv.backend import Array
from tinyconv.engines.gpu.launcher import Launcher
from tinyconv.engines.gpu.program import BATCH, Program, blocks
from tinyconv.engines.units import ACTIVATIONS, Unit
from tinyconv.kernels.gpu.activations import IDENTITY, Chosen, find
from tinyconv.layers.base import Layer, Shape
from tinyconv.layers.container import Container

__all__ = ["Buffer", "Context", "Product", "Step", "activation_of"]

#: Blocks that keep a large GPU busy: two for each of its multiprocessors.
ENOUGH_BLOCKS = 264
#: Terms of a sum that a block has at least.
LEAST_TERMS = 64


@dataclass
class Buffer:
    """Memory for a batch of samples, channels first.

    Attributes:
        array: (batch, ...), contiguous.
    """

    array: Array

    def flattened(self) -> "Buffer":
        """Return the same numbers, a row a sample."""
        return Buffer(self.array.reshape(len(self.array), -1))

    def without_border(self) -> "Buffer":
        """Return the same memory: there are no borders."""
        return self

    def has_border(self, wanted: Any) -> bool:
        """Whether the border is at least as wide as another; nobody wants any."""
        return True


@dataclass
class Context:
    """What the steps of a plan share.

    Attributes:
        launcher: of the device.
        batch: samples at most.
        training: whether there is a backward pass.
        counters: int64, see :class:`tinyconv.engines.gpu.backend.GpuTraining`; empty in prediction.
        key_of: for each dropout layer, the key of its mask as a function of the step; row k of
            ``keys`` is of the k-th.
        keys: (layers, steps) uint64; see there too.
        step: number of the running training step, for layers that run by their own methods.
    """

    launcher: Launcher
    batch: int
    training: bool
    counters: dict[str, Array]
    key_of: list[Callable[[int], int]]
    keys: Array | None = None
    step: int = 0

    def empty(self, *shape: int, dtype: Any = np.float32) -> Array:
        """Return memory of the device."""
        return self.launcher.empty(shape, dtype)


def activation_of(layer: Layer) -> Chosen | None:
    """Return what computes a layer, if it is an activation that kernels know."""
    kind = type(layer)
    return find(kind.__name__, layer.config()) if kind in ACTIVATIONS else None


class Step:
    """A unit with its buffers.

    Args:
        unit: what to compute.
        shapes: of one sample of each input.
        context: what all steps share.

    Attributes:
        shape: of one sample of the output.
        xs, y: inputs and output.
        dxs: where the gradients of the inputs go; None where nobody wants one.
        dy: where the gradient of the output will be; None in a plan without training.
        x, dx: the first of the inputs and of their gradients.
        activation: what comes last, the identity if nothing does.
        adds: for each input, whether its gradient is added to what is there.
        finishes: for each input the step whose dy is complete behind this one, or None.
        z: what the activation is of, where its slope needs that; else None.
        v: what the slope is computed from, z or y.
    """

    #: What the protocol of a plan asks for, and a GPU has no use for: borders around images.
    border = gradient_border = ()
    spare = 0
    dx_is_like_x = spoils_border = False
    #: Gradients of parameters are made in the backward pass, not in the update.
    keeps_gradients = True
    #: Whether the step can add to what is in dx.
    adds_gradients = False
    #: Whether dy, once the step has changed it, is the gradient of all inputs.
    passes_gradient = False
    #: Whether y is x itself.
    is_view = False

    def __init__(self, unit: Unit, shapes: Sequence[Shape], context: Context) -> None:
        self.unit, self.context = unit, context
        self.input_shape = shapes[0]
        self.shape = self.output_shape(shapes)
        self.name = f"{unit.layers[0].path} {unit}"
        found = (activation_of(layer) for layer in unit.layers)
        self.activation = next((chosen for chosen in found if chosen is not None), IDENTITY)
        self.layer: Any = unit.layers[0]
        self.adds: list[bool] = []
        self.finishes: list[Step | None] = []

    @property
    def is_trained(self) -> bool:
        """Whether there are parameters, but for those of branches that the step joins."""
        return any(layer.params for layer in self.unit.layers if not isinstance(layer, Container))

    @property
    def changes_dy(self) -> bool:
        """Whether the backward pass writes to dy."""
        return False

    @staticmethod
    def accepts(unit: Unit) -> bool:
        """Whether there are kernels for this unit, beyond its being of the step's kind."""
        return True

    def output_shape(self, shapes: Sequence[Shape]) -> Shape:
        """Return the shape of the output."""
        (shape,) = shapes
        for layer in self.unit.layers:
            shape = layer.output_shape(shape)
        return shape

    def connect(
        self, xs: Sequence[Buffer], dxs: Sequence[Buffer | None], y: Buffer, dy: Buffer | None
    ) -> None:
        """Take the buffers."""
        self.xs = [x.array for x in xs]
        self.dxs = [None if dx is None else dx.array for dx in dxs]
        self.x, self.dx = self.xs[0], self.dxs[0]
        self.y, self.dy = y.array, None if dy is None else dy.array
        keeps = self.activation.needs_z and dy is not None
        self.z = self.context.empty(*self.y.shape) if keeps else None
        self.v = self.y if self.z is None else self.z

    @property
    def parameter(self) -> np.float32:
        """Of the activation."""
        return np.float32(self.activation.parameter)

    def prepare(self, program: Program) -> None:
        """Add what comes before all forward passes."""

    def forward(self, program: Program) -> None:
        """Add the calls that make y from x."""

    def backward(self, program: Program) -> None:
        """Add the calls that make dx and the gradients of the parameters from dy."""

    def update(self, program: Program) -> None:
        """Add what a refused step must not do, beyond the parameters."""

    def undo(self) -> None:
        """Take back what a refused step has done nevertheless."""

    def start(self, n: int) -> None:
        """Check a batch of n samples."""


class Product:
    """A matrix product [M x K] * [K x P], in as many parts of its sums as keep the device busy.

    Args:
        context: of the plan.
        M: rows.
        P: columns of a sample, or None where samples are summed over or are the rows.
        K: terms of a sum of a sample, or of the whole batch.
        groups: independent products.
        of_batch: which of M, P and K are multiplied by the size of the batch.

    Attributes:
        parts: of each sum.
        scratch: where they go; None for one.
    """

    def __init__(
        self,
        context: Context,
        M: int,
        P: int,
        K: int,
        outputs: int,
        groups: int = 1,
        of_batch: str = "P",
    ) -> None:
        self.sizes, self.groups, self.of_batch = (M, P, K), groups, of_batch
        M, P, K = self._sizes(context.batch)
        tiles = -(-M // 32) * -(-P // 64) * groups
        self.parts = max(1, min(ENOUGH_BLOCKS // tiles, K // LEAST_TERMS))
        self.scratch = context.empty(self.parts * outputs) if self.parts > 1 else None

    def _sizes(self, n: int) -> tuple[int, ...]:
        names = zip("MPK", self.sizes, strict=True)
        return tuple(size * (n if name in self.of_batch else 1) for name, size in names)

    def grid(self, n: int) -> tuple[int, int, int]:
        """Blocks for a batch of n samples."""
        M, P, _ = self._sizes(n)
        return -(-P // 64), -(-M // 32), self.groups * self.parts

    def add_outputs(
        self,
        program: Program,
        name: str,
        channels: int,
        positions: int,
        bias: Array | None,
        z: Array | None,
        y: Array,
        activation: Chosen = IDENTITY,
    ) -> None:
        """Add the call that adds the parts up to outputs, if there are several."""
        if self.parts == 1:
            return
        sizes = {
            "PARTS": self.parts,
            "CHANNELS": channels,
            "POSITIONS": positions,
            "ACTIVATION": activation.code,
        }
        grid = blocks(channels * positions)
        parameter = np.float32(activation.parameter)
        arguments = (self.scratch, bias, z, y, parameter, BATCH)
        program.call(f"{name}: sum", "product", sizes, "product_outputs", grid, *arguments)

    def add_weights(
        self, program: Program, name: str, dw: Array, db: Array | None, channels: int
    ) -> None:
        """Add the call that adds the parts up to gradients of parameters."""
        if self.parts == 1:
            return
        row = prod(dw.shape) // channels
        sizes = {"PARTS": self.parts, "CHANNELS": channels, "POSITIONS": row}
        count = -(-channels * (row + 1) // 256)
        arguments = (self.scratch, dw, db)
        program.call(
            f"{name}: sum",
            "product",
            sizes,
            "product_weights",
            lambda n: (count, 1, 1),
            *arguments,
        )

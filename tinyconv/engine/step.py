"""What a step of a plan is: a unit with its buffers, which appends its calls to a program.

Three methods, always in this order: ``forward`` for every step from the first to the last,
``backward`` from the last to the first, ``update`` for all.
"""

from dataclasses import replace

import numpy as np

from tinyconv.backend import Array
from tinyconv.engine.arena import Arena, Image
from tinyconv.engine.fusion import Unit, activation_of
from tinyconv.engine.program import Program
from tinyconv.kernels.cpu.activation import Chosen
from tinyconv.kernels.cpu.kernel import address_of

__all__ = ["Context", "Step", "rows_of"]


class Context:
    """What the steps of a plan share.

    Attributes:
        batch: samples at most.
        threads: threads that share the work.
        training: whether there is a backward pass.
        arena: the memory.
        n: int64 array of one, the samples of the running batch.
        flat: all parameters.
        flat_grad: all gradients, filled for layers without kernels only.
        starts: id of a parameter's array -> its place in ``flat``.
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

    def place(self, parameter: Array) -> int:
        """Return where a parameter begins in the flat vector."""
        return (address_of(parameter) - address_of(self.flat)) // 4


class Step:
    """A unit with its buffers.

    Attributes:
        shape: of one output, channels first.
        y: the output.
        dy: where the gradient of the output will be; None in a plan without training.
        activation: what comes last, the identity if nothing does.
        z: laid out as y, what the activation is of; y itself unless the slope needs it.
    """

    #: What the input's buffer must have for this step: a border of zeros and spare numbers.
    border: tuple[int, int, int, int] = (0, 0, 0, 0)
    spare = 0

    def __init__(self, unit: Unit, shape: tuple[int, ...], context: Context) -> None:
        self.unit = unit
        self.input_shape = shape
        self.context = context
        self.shape = shape
        for layer in unit.layers:
            self.shape = layer.output_shape(self.shape)
        self.name = f"{unit.layers[0].path} {unit}"
        found = (activation_of(layer) for layer in unit.layers)
        self.activation = next((chosen for chosen in found if chosen is not None), Chosen())

    def bind(self, x: Image, dx: Image | None, y: Image, dy: Image | None) -> None:
        """Take the buffers: of the input, its gradient if anybody wants it, and the output."""
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
        """Add the calls that make the gradients of the parameters and apply them."""

    def start(self, step: int) -> None:
        """Set what depends on the number of the training step."""


def rows_of(image: Image, prefix: str) -> dict[str, int]:
    """The arguments that describe the inside of a buffer."""
    return {prefix: image.origin, f"{prefix}_sample": image.sample, f"{prefix}_row": image.row}

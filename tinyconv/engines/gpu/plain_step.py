"""The step of a layer without kernels."""

from math import prod

from tinyconv.backend import Array
from tinyconv.engines.gpu.program import Program
from tinyconv.engines.gpu.step import Step
from tinyconv.layers.base import Shape


def samples(array: Array, n: int, shape: Shape) -> Array:
    """Return the first n samples of a buffer, in their shape."""
    return array.reshape(-1)[: n * prod(shape)].reshape(n, *shape)


class PlainStep(Step):
    """A layer without a kernel: its own forward and backward."""

    def forward(self, program: Program) -> None:
        state = self.layer.state if self.context.training else {}
        self.before = {name: array.copy() for name, array in state.items()}

        def run(n: int) -> None:
            for name, kept in self.before.items():
                kept[...] = state[name]
            # A copy: buffers are the plan's, and the layer keeps what it is handed.
            x = samples(self.x, n, self.input_shape).copy()
            y = self.layer.forward(x, self.context.training, self.context.step)
            samples(self.y, n, self.shape)[...] = y

        program.python(self.name, run)

    def backward(self, program: Program) -> None:
        def run(n: int) -> None:
            assert self.dy is not None
            dx = self.layer.backward(samples(self.dy, n, self.shape).copy())
            if self.dx is not None:
                samples(self.dx, n, self.input_shape)[...] = dx

        program.python(f"{self.name}: backward", run)

    def undo(self) -> None:
        for name, kept in self.before.items():
            self.layer.state[name][...] = kept

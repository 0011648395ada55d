"""The step of a layer without kernels."""

import numpy as np

from tinyconv.engines.blas import single_blas_thread
from tinyconv.engines.cpu.program import Program
from tinyconv.engines.cpu.step import Step
from tinyconv.engines.cpu.tiling import compiled
from tinyconv.kernels.cpu import update
from tinyconv.kernels.cpu.simd import LANES


class PlainStep(Step):
    """A layer without a kernel: its own forward and backward, on copies."""

    keeps_gradients = True

    def choose(self) -> None:
        state = self.layer.state if self.context.training else {}
        self.before = {name: np.copy(array) for name, array in state.items()}
        # A call that shares no items runs for each sample.
        self.gradients = {name: g for name, g in self.layer.grads.items() if g.size}

    def start(self, step: int) -> None:
        for name, kept in self.before.items():
            kept[...] = self.layer.state[name]

    def forward(self, program: Program) -> None:
        def run(n: int) -> None:
            x = np.ascontiguousarray(self.x.channels_first(n)).reshape(n, *self.input_shape)
            with single_blas_thread():
                y = self.layer.forward(x, self.context.training, self.context.step)
            out = self.y.channels_first(n)
            out[...] = y.reshape(out.shape)

        program.python(self.name, run)

    def backward(self, program: Program) -> None:
        def run(n: int) -> None:
            dy = np.ascontiguousarray(self.dy.channels_first(n)).reshape(n, *self.shape)
            with single_blas_thread():
                dx = self.layer.backward(dy)
            if self.dx is not None:
                out = self.dx.channels_first(n)
                out[...] = dx.reshape(out.shape)

        program.python(f"{self.name}: backward", run)
        for gradient in self.gradients.values():
            self.keep_gradient(gradient, gradient.size, items=1)

    def undo(self) -> None:
        for name, kept in self.before.items():
            self.layer.state[name][...] = kept

    def update(self, program: Program) -> None:
        for name, gradient in self.gradients.items():
            parameter = self.layer.params[name]
            program.call(
                f"{self.name}: update",
                compiled(update.flat),
                items=parameter.size,
                grain=LANES,
                dw=gradient,
                start=self.context.place(parameter),
                **self.context.rule,
            )

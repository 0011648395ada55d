"""The step of an activation that no other step took in."""

from tinyconv.engines.cpu.arena import Image
from tinyconv.engines.cpu.program import Program
from tinyconv.engines.cpu.step import Step, planes_of, runs_of
from tinyconv.engines.cpu.tiling import compiled
from tinyconv.kernels.cpu import activation
from tinyconv.kernels.cpu.simd import LANES


class ActivationStep(Step):
    """An activation that no other step took in."""

    def bind(self, x: Image, dx: Image | None, y: Image, dy: Image | None) -> None:
        self.x, self.dx, self.y, self.dy, self.z = x, dx, y, dy, x

    def forward(self, program: Program) -> None:
        program.call(
            self.name,
            compiled(activation.forward, LANES, self.activation.code),
            activation.ROWS,
            **runs_of(self.x),
            parameter=self.activation.parameter,
            **planes_of(self.x, "x"),
            **planes_of(self.y, "y"),
        )

    def backward(self, program: Program) -> None:
        if self.dx is None:
            return
        assert self.dy is not None
        program.call(
            f"{self.name}: backward",
            compiled(activation.backward, LANES, self.activation.code),
            activation.ROWS,
            **runs_of(self.x),
            parameter=self.activation.parameter,
            **planes_of(self.x if self.activation.needs_z else self.y, "v"),
            **planes_of(self.dx, "dx"),
            **planes_of(self.dy, "dy"),
        )

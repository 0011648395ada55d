"""The step of an activation that no other step took in."""

from tinyconv.engines.cpu.arena import Image
from tinyconv.engines.cpu.epilogue import add_activation, add_activation_backward
from tinyconv.engines.cpu.program import Program
from tinyconv.engines.cpu.step import Step


class ActivationStep(Step):
    """An activation that no other step took in."""

    keeps_slopes = False  # in z, which is the input

    def bind(self, x: Image, dx: Image | None, y: Image, dy: Image | None) -> None:
        self.x, self.dx, self.y, self.dy, self.z = x, dx, y, dy, x

    def forward(self, program: Program) -> None:
        add_activation(self, program, self.name)

    def backward(self, program: Program) -> None:
        add_activation_backward(self, program, f"{self.name}: backward", self.dx)

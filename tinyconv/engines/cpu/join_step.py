"""The steps that join branches: sums and concatenations."""

from dataclasses import replace

import numpy as np

from tinyconv.engines.cpu.arena import Image
from tinyconv.engines.cpu.epilogue import add_activation_backward
from tinyconv.engines.cpu.program import Program
from tinyconv.engines.cpu.step import Step, runs_of
from tinyconv.engines.cpu.tiling import compiled
from tinyconv.engines.step import SideBySideStep, SumStep
from tinyconv.kernels.activations import RELU, Chosen
from tinyconv.kernels.cpu import join
from tinyconv.kernels.cpu.simd import LANES


def add_image(program: Program, name: str, x: Image, y: Image) -> None:
    """Add the call y = y + x."""
    _add(program, name, x, y, y, y, Chosen())


def _add(
    program: Program, name: str, x: Image, other: Image, z: Image, y: Image, chosen: Chosen
) -> None:
    """Add the call z = x + other, y = activation(z)."""
    kernel, parameter = compiled(join.add, LANES, chosen.code), chosen.parameter
    program.call(name, kernel, x=x, other=other, z=z, y=y, **runs_of(y), parameter=parameter)


def _copy(program: Program, name: str, x: Image, y: Image) -> None:
    """Add the call y = x, of which one may be a slice of the channels of a larger buffer."""
    is_whole = x.step == y.step == x.C
    sizes = runs_of(x) | {"positions": 1 if is_whole else x.W}
    sizes["count"] //= sizes["positions"]
    program.call(name, compiled(join.copy, LANES), x=x, y=y, **sizes)


class AddStep(SumStep, Step):
    """The sum of all inputs, two or more, with an activation behind it."""

    @property
    def takes_dz(self) -> bool:
        return self.activation.code == RELU

    def forward(self, program: Program) -> None:
        total, *others, last = self.xs
        for other in others:
            _add(program, self.name, total, other, self.z, self.z, Chosen())
            total = self.z
        _add(program, self.name, total, last, self.z, self.y, self.activation)

    def backward(self, program: Program) -> None:
        dy, name = self.dy, f"{self.name}: backward"
        if self.changes_dy and not self.has_dz:
            add_activation_backward(self, program, f"{self.name}: activation backward", dy)
        for dx, adds in zip(self.dxs, self.adds, strict=True):
            if dx is not None and adds:
                add_image(program, name, dy, dx)
            elif dx is not None and dx.origin != dy.origin:
                _copy(program, name, dy, dx)


class ConcatStep(SideBySideStep, Step):
    """All inputs side by side along the channels."""

    def forward(self, program: Program) -> None:
        for x, part in zip(self.xs, self._parts(self.y), strict=True):
            _copy(program, self.name, x, part)

    def backward(self, program: Program) -> None:
        for dx, part in zip(self.dxs, self._parts(self.dy), strict=True):
            if dx is not None:
                _copy(program, f"{self.name}: backward", part, dx)

    def _parts(self, whole: Image) -> list[Image]:
        """Return where each input, or its gradient, lies in a buffer laid out as y."""
        axis = "C" if 2 <= len(self.shape) <= 4 else "W"
        sizes = [getattr(x, axis) for x in self.xs]
        firsts = np.cumsum(sizes) - sizes
        return [
            replace(whole, array=whole.array[first:], **{axis: size})
            for first, size in zip(firsts, sizes, strict=True)
        ]

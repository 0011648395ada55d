"""The steps that do the same to every number: activation, dropout, flattening, sums, joining."""

from dataclasses import replace
from math import ceil, prod
from typing import Any

import numpy as np

from tinyconv.engines.cpu.arena import Image
from tinyconv.engines.cpu.epilogue import add_activation, add_activation_backward, add_elements
from tinyconv.engines.cpu.program import Program
from tinyconv.engines.cpu.step import Context, Step, runs_of, sizes_of
from tinyconv.engines.cpu.tiling import compiled
from tinyconv.engines.step import SideBySideStep, SumStep
from tinyconv.engines.units import ACTIVATIONS
from tinyconv.kernels.activations import RELU, Chosen
from tinyconv.kernels.cpu import batch, elements, join
from tinyconv.kernels.cpu.kernel import Kernel
from tinyconv.kernels.cpu.simd import LANES
from tinyconv.layers import Dropout, Flatten, Reshape


class ActivationStep(Step):
    """An activation that no other step took in."""

    kinds = ACTIVATIONS
    keeps_slopes = False  # in z, which is the input

    def bind(self, x: Image, dx: Image | None, y: Image, dy: Image | None) -> None:
        self.x, self.dx, self.y, self.dy, self.z = x, dx, y, dy, x

    def forward(self, program: Program) -> None:
        add_activation(self, program, self.name)

    def backward(self, program: Program) -> None:
        add_activation_backward(self, program, f"{self.name}: backward", self.dx)


class DropoutStep(Step):
    """Dropout; in prediction, where it drops nothing, a factor for all."""

    kinds = (Dropout,)

    def choose(self) -> None:
        self.key = np.zeros(1, np.uint64)

    def start(self, step: int) -> None:
        self.key[0] = self.layer.mask_key(step, prod(self.shape))

    def forward(self, program: Program) -> None:
        kept, in_prediction = self.layer.scales
        size = self.context.batch * prod(self.shape)
        if not self.context.training:
            self.factor = np.full(size, in_prediction, np.float32)
            self._add(program, self.name, compiled(batch.multiply), self.x, self.y)
            return
        self.factor = self.context.arena.take(size)
        # uniform >= p, with both sides multiplied by 2**24, which is exact
        least = ceil(float(np.float32(self.layer.p)) * 2**24)
        kernel, options = compiled(batch.dropout), {"key": self.key, "least": least, "scale": kept}
        self._add(program, self.name, kernel, self.x, self.y, **options)

    def backward(self, program: Program) -> None:
        name = f"{self.name}: backward"
        self._add(program, name, compiled(batch.multiply), self.dy, self.dx)

    def _add(
        self, program: Program, name: str, kernel: Kernel, x: Image, y: Image, **options: Any
    ) -> None:
        options |= {"factor": self.factor, "factor_sample": prod(self.shape)}
        program.call(name, kernel, x=x, y=y, **sizes_of(x), **options)


def add_copy(context: Context, program: Program, name: str, x: Image, y: Image) -> None:
    """Add the calls that copy numbers in the order (C, D, H, W), if x and y are two places.

    They copy x to a row and the row to y; where one of the two is a row, a call is enough.
    """
    if x.origin == y.origin:
        return
    x_row, y_row = x.flattened(), y.flattened()
    row = y_row or x_row or context.arena.image(context.batch, (y.C * y.D * y.H * y.W,))
    if y_row is not None or x_row is None:
        kernel = compiled(batch.flatten, LANES, False)
        program.call(name, kernel, image=x, rows=row, **sizes_of(x))
    if y_row is None:
        program.call(name, compiled(batch.flatten, LANES, True), image=y, rows=row, **sizes_of(y))


class FlattenStep(Step):
    """Numbers in the order (C, D, H, W) take another shape."""

    kinds = (Flatten, Reshape)

    def choose(self) -> None:
        # Rows may be the very memory of an image, but not the other way about.
        self.is_view = not 2 <= len(self.shape) <= 4

    def forward(self, program: Program) -> None:
        add_copy(self.context, program, self.name, self.x, self.y)

    def backward(self, program: Program) -> None:
        add_copy(self.context, program, f"{self.name}: backward", self.dy, self.dx)


def add_image(program: Program, name: str, x: Image, y: Image) -> None:
    """Add the call y = y + x."""
    _add(program, name, x, y, y, y, Chosen())


def _add(
    program: Program, name: str, x: Image, other: Image, z: Image, y: Image, chosen: Chosen
) -> None:
    """Add the call z = x + other, y = activation(z)."""
    constants = elements.SUM, chosen.code, int(z is not y)
    add_elements(program, name, constants, chosen.parameter, x, y, other=other, slope=z)


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

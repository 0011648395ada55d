"""The steps that join branches: sums and concatenations."""

from collections.abc import Sequence
from typing import Any

from tinyconv.engines.cpu.arena import Image
from tinyconv.engines.cpu.program import Program
from tinyconv.engines.cpu.step import Step, planes_of
from tinyconv.engines.cpu.tiling import compiled
from tinyconv.kernels.cpu import activation, join
from tinyconv.kernels.cpu.simd import LANES
from tinyconv.layers.base import Shape

__all__ = ["AddStep", "ConcatStep", "add_image"]


def add_image(program: Program, name: str, x: Image, y: Image) -> None:
    """Add the call y = y + x."""
    _whole(program, name, compiled(join.add, LANES), x, y)


def _whole(program: Program, name: str, kernel: Any, x: Image, y: Image) -> None:
    """Add a call for images of one size, whose rows are one run each."""
    program.call(
        name,
        kernel,
        join.ARGS,
        **planes_of(x, "x"),
        **planes_of(y, "y"),
        planes=x.D,
        rows=x.H,
        positions=1,
        count=x.W * x.C,
    )


class AddStep(Step):
    """The sum of all inputs, with an activation behind it."""

    def output_shape(self, shapes: Sequence[Shape]) -> Shape:
        return shapes[0]

    def forward(self, program: Program) -> None:
        _whole(program, self.name, compiled(join.copy, LANES), self.xs[0], self.z)
        for x in self.xs[1:]:
            add_image(program, self.name, x, self.z)
        if self.activation.code:
            program.call(
                f"{self.name}: activation",
                compiled(activation.forward, LANES, self.activation.code),
                activation.ROWS,
                **planes_of(self.z, "x"),
                **planes_of(self.y, "y"),
                **self._runs(),
            )

    def backward(self, program: Program) -> None:
        dy = self.dy
        if dy is None:
            return
        if self.activation.code:
            program.call(
                f"{self.name}: activation backward",
                compiled(activation.backward, LANES, self.activation.code),
                activation.ROWS,
                **planes_of(self.z, "v"),
                **planes_of(dy, "dy"),
                **planes_of(dy, "dx"),
                **self._runs(),
            )
        for dx in self.dxs:
            if dx is not None:
                _whole(program, f"{self.name}: backward", compiled(join.copy, LANES), dy, dx)

    def _runs(self) -> dict[str, Any]:
        y, parameter = self.y, self.activation.parameter
        return {"planes": y.D, "rows": y.H, "count": y.W * y.C, "parameter": parameter}


class ConcatStep(Step):
    """All inputs side by side along the channels."""

    def output_shape(self, shapes: Sequence[Shape]) -> Shape:
        return (sum(shape[0] for shape in shapes), *shapes[0][1:])

    def forward(self, program: Program) -> None:
        first = 0
        for x in self.xs:
            self._copy(program, self.name, x, 0, self.y, first, x)
            first += self._width(x)

    def backward(self, program: Program) -> None:
        if self.dy is None:
            return
        first = 0
        for x, dx in zip(self.xs, self.dxs, strict=True):
            if dx is not None:
                self._copy(program, f"{self.name}: backward", self.dy, first, dx, 0, x)
            first += self._width(x)

    def _width(self, image: Image) -> int:
        """How many numbers of the joined axis lie side by side in memory."""
        return image.C if 2 <= len(self.shape) <= 4 else image.W

    def _copy(
        self,
        program: Program,
        name: str,
        x: Image,
        x_first: int,
        y: Image,
        y_first: int,
        part: Image,
    ) -> None:
        """Copy a part, from one channel of x on, to one of y on."""
        x_at, y_at = planes_of(x, "x"), planes_of(y, "y")
        x_at["x"] += 4 * x_first
        y_at["y"] += 4 * y_first
        width = self._width(part)
        program.call(
            name,
            compiled(join.copy, LANES),
            join.ARGS,
            **x_at,
            **y_at,
            x_step=x.C,
            y_step=y.C,
            planes=part.D,
            rows=part.H,
            positions=part.C * part.W // width,
            count=width,
        )

"""The steps that join branches: sums and concatenations."""

from tinyconv.engines.cpu.arena import Image
from tinyconv.engines.cpu.epilogue import add_activation_backward
from tinyconv.engines.cpu.program import Program
from tinyconv.engines.cpu.step import Step, planes_of, runs_of
from tinyconv.engines.cpu.tiling import compiled
from tinyconv.engines.step import SideBySideStep, SumStep
from tinyconv.kernels.cpu import join
from tinyconv.kernels.cpu.activation import RELU, Chosen
from tinyconv.kernels.cpu.simd import LANES


def add_image(program: Program, name: str, x: Image, y: Image) -> None:
    """Add the call y = y + x."""
    _add(program, name, x, y, y, y, Chosen())


def _add(
    program: Program, name: str, x: Image, other: Image, z: Image, y: Image, chosen: Chosen
) -> None:
    """Add the call z = x + other, y = activation(z)."""
    program.call(
        name,
        compiled(join.add, LANES, chosen.code),
        join.ADD,
        **planes_of(x, "x"),
        **planes_of(other, "other"),
        **planes_of(y, "y"),
        z=z.origin,
        **runs_of(y),
        parameter=chosen.parameter,
    )


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
        assert dy is not None
        if self.changes_dy and not self.has_dz:
            add_activation_backward(self, program, dy)
        for dx, adds in zip(self.dxs, self.adds, strict=True):
            if dx is not None and adds:
                add_image(program, name, dy, dx)
            elif dx is not None and dx.origin != dy.origin:
                program.call(
                    name,
                    compiled(join.copy, LANES),
                    join.ARGS,
                    **planes_of(dy, "x"),
                    **planes_of(dx, "y"),
                    positions=1,
                    **runs_of(dy),
                )


class ConcatStep(SideBySideStep, Step):
    """All inputs side by side along the channels."""

    def forward(self, program: Program) -> None:
        first = 0
        for x in self.xs:
            self._copy(program, self.name, x, 0, self.y, first, x)
            first += self._width(x)

    def backward(self, program: Program) -> None:
        assert self.dy is not None
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

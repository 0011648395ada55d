"""The step of a pooling by a norm."""

from collections.abc import Sequence
from typing import Any

from tinyconv.engines.cpu.arena import Image
from tinyconv.engines.cpu.program import Program
from tinyconv.engines.cpu.resample_step import add_resample
from tinyconv.engines.cpu.step import Context, Step, planes_of
from tinyconv.engines.cpu.tiling import compiled
from tinyconv.engines.units import NORM_POOLS, Unit
from tinyconv.kernels.cpu import lp
from tinyconv.kernels.cpu.simd import LANES
from tinyconv.kernels.terms import over_three_axes, window_terms
from tinyconv.layers.base import Shape

__all__ = ["NormPoolStep"]


class NormPoolStep(Step):
    """The p-norm of each window: powers, their sums, and the root of these in place."""

    def __init__(self, unit: Unit, shapes: Sequence[Shape], context: Context) -> None:
        super().__init__(unit, shapes, context)
        layer: Any = unit.layers[0]
        self.p = getattr(layer, "norm_type", 2.0)
        window = layer.window(self.input_shape[1:])
        self.tables = over_three_axes(
            [window_terms(window, axis) for axis in range(len(window.size))]
        )

    @staticmethod
    def accepts(unit: Unit) -> bool:
        return type(unit.layers[0]) in NORM_POOLS

    def forward(self, program: Program) -> None:
        context, y = self.context, self.y
        powers = context.arena.image(context.batch, self.input_shape)
        self._add(program, f"{self.name}: powers", lp.power, self.x, self.x, powers)
        add_resample(context, program, self.name, powers, y, self.tables)
        self._add(program, f"{self.name}: root", lp.root, y, y, y)

    def backward(self, program: Program) -> None:
        x, y, dx, dy, name = self.x, self.y, self.dx, self.dy, f"{self.name}: backward"
        if dx is None:
            return
        assert dy is not None
        tables = [table.transposed() for table in self.tables]
        self._add(program, f"{name} through the root", lp.share, dy, y, dy)
        add_resample(self.context, program, name, dy, dx, tables)
        self._add(program, f"{name} through the powers", lp.slope, x, dx, dx)

    def _add(self, program: Program, name: str, maker: Any, x: Image, y: Image, to: Image) -> None:
        program.call(
            name,
            compiled(maker, LANES, int(self.p) if self.p in (1, 2) else 0),
            lp.ARGS,
            **planes_of(x, "x"),
            **planes_of(y, "y"),
            **planes_of(to, "to"),
            planes=to.D,
            rows=to.H,
            count=to.W * to.C,
            p=self.p,
        )

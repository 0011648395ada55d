"""The step of a max-pool that no convolution took in."""

from collections.abc import Sequence
from math import prod
from typing import Any

from tinyconv.engines.cpu.arena import Image
from tinyconv.engines.cpu.program import Program
from tinyconv.engines.cpu.resample_step import channel_tiles, places_of
from tinyconv.engines.cpu.step import Context, Step, planes_of
from tinyconv.engines.cpu.tiling import compiled
from tinyconv.engines.units import Unit
from tinyconv.kernels.cpu import pool
from tinyconv.kernels.cpu.kernel import address_of
from tinyconv.kernels.cpu.simd import LANES
from tinyconv.kernels.terms import Terms, over_three_axes, window_terms
from tinyconv.layers import GlobalMaxPool, MaxPool1d, MaxPool2d, MaxPool3d
from tinyconv.layers.base import Shape

__all__ = ["MaxPoolStep"]


class MaxPoolStep(Step):
    """The maximum of windows or of whole planes."""

    dx_is_like_x = True

    def __init__(self, unit: Unit, shapes: Sequence[Shape], context: Context) -> None:
        super().__init__(unit, shapes, context)
        layer: Any = unit.layers[0]
        size = self.input_shape[1:]
        self.grid: tuple[int, ...] = ()  # the windows, if they lie side by side
        if type(layer) is GlobalMaxPool:
            tables = [Terms([[(place, 1.0) for place in range(n)]], n) for n in size]
        else:
            window = layer.window(size)
            side_by_side = window.kernel == window.stride and set(window.dilation) == {1}
            if side_by_side and not window.is_padded:
                self.grid = window.kernel
            tables = [window_terms(window, axis) for axis in range(len(size))]
        self.tables = over_three_axes(tables)

    @staticmethod
    def accepts(unit: Unit) -> bool:
        return type(unit.layers[0]) in (MaxPool1d, MaxPool2d, MaxPool3d, GlobalMaxPool)

    @staticmethod
    def takes(shapes: Sequence[Shape]) -> bool:
        return len(shapes[0]) <= 4  # an image has three axes at most

    def forward(self, program: Program) -> None:
        self.winners = self.context.arena.take(self.context.batch * prod(self.shape), "int32")
        kernel = compiled(pool.max_, *channel_tiles(self.x.C))
        tables = places_of(self.context, self.tables)
        self._add(program, self.name, kernel, self.x, self.y, tables)

    def backward(self, program: Program) -> None:
        if self.dx is None:
            return
        assert self.dy is not None
        kernel = compiled(pool.max_backward_of_grid if self.grid else pool.max_backward, LANES)
        KD, KH, KW = (1, 1, 1, *self.grid)[-3:]
        values = {"KD": KD, "KH": KH, "KW": KW}
        self._add(program, f"{self.name}: backward", kernel, self.dx, self.dy, values)

    def _add(
        self, program: Program, name: str, kernel: Any, x: Image, y: Image, values: dict[str, int]
    ) -> None:
        program.call(
            name,
            kernel,
            pool.ARGS,
            **planes_of(x, "x"),
            **planes_of(y, "y"),
            winners=address_of(self.winners),
            C=x.C,
            D=x.D,
            H=x.H,
            W=x.W,
            OD=y.D,
            OH=y.H,
            OW=y.W,
            **values,
        )

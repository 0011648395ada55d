"""The steps of poolings that no convolution took in: maxima, norms, subsampling."""

from math import prod
from typing import Any

from tinyconv.engines.cpu.arena import NO_BORDER, Image
from tinyconv.engines.cpu.depthwise_step import DepthwiseStep
from tinyconv.engines.cpu.epilogue import add_elements
from tinyconv.engines.cpu.product_step import ProductStep
from tinyconv.engines.cpu.program import Program
from tinyconv.engines.cpu.resample_step import add_resample, channel_tiles
from tinyconv.engines.cpu.step import Step, axes, sizes_of
from tinyconv.engines.cpu.tiling import compiled
from tinyconv.engines.units import MAX, NORM_POOLS, Unit
from tinyconv.geometry import Geometry, sliding_window
from tinyconv.kernels.cpu import elements, pool
from tinyconv.kernels.cpu.simd import LANES
from tinyconv.kernels.terms import Terms, arguments_of, over_three_axes, transposed, window_terms
from tinyconv.layers import GlobalMaxPool, Subsample2d


def _tables_of(window: Geometry) -> tuple[Terms, ...]:
    """Return which elements each window holds, axis by axis."""
    return over_three_axes([window_terms(window, axis) for axis in range(len(window.size))])


class MaxPoolStep(Step):
    """The maximum of windows or of whole planes."""

    dx_is_like_x = True
    is_for_images = True
    kinds = (*MAX, GlobalMaxPool)

    def choose(self) -> None:
        size = self.input_shape[1:]
        self.grid: tuple[int, ...] = ()  # the windows, if they lie side by side
        if type(self.layer) is GlobalMaxPool:
            whole = [Terms([[(place, 1.0) for place in range(n)]], n) for n in size]
            self.tables = over_three_axes(whole)
        else:
            window = self.layer.window(size)
            side_by_side = window.kernel == window.stride and set(window.dilation) == {1}
            if side_by_side and not window.is_padded:
                self.grid = window.kernel
            self.tables = _tables_of(window)

    def forward(self, program: Program) -> None:
        self.winners = self.context.arena.take(self.context.batch * prod(self.shape), "int32")
        kernel = compiled(pool.max_, *channel_tiles(self.x.C))
        self._add(program, self.name, kernel, self.x, self.y, arguments_of(self.tables))

    def backward(self, program: Program) -> None:
        kernel = compiled(pool.max_backward_of_grid if self.grid else pool.max_backward, LANES)
        values = axes("K", (1, 1, 1, *self.grid)[-3:])
        self._add(program, f"{self.name}: backward", kernel, self.dx, self.dy, values)

    def _add(
        self, program: Program, name: str, kernel: Any, x: Image, y: Image, values: dict[str, Any]
    ) -> None:
        values = {**values, **sizes_of(x), **axes("O", y.size)}
        program.call(name, kernel, x=x, y=y, winners=self.winners, **values)


class NormPoolStep(Step):
    """The p-norm of each window: powers, their sums, and the root of these in place."""

    kinds = NORM_POOLS

    def choose(self) -> None:
        self.p = getattr(self.layer, "norm_type", 2.0)
        self.tables = _tables_of(self.layer.window(self.input_shape[1:]))

    def forward(self, program: Program) -> None:
        context, y = self.context, self.y
        powers = context.arena.image(context.batch, self.input_shape)
        self._add(program, f"{self.name}: powers", elements.POWER, self.x, powers)
        add_resample(context, program, self.name, powers, y, self.tables)
        self._add(program, f"{self.name}: root", elements.ROOT, y, y)

    def backward(self, program: Program) -> None:
        x, y, dx, dy, name = self.x, self.y, self.dx, self.dy, f"{self.name}: backward"
        self._add(program, f"{name} through the root", elements.SHARE, dy, dy, other=y)
        add_resample(self.context, program, name, dy, dx, transposed(self.tables))
        self._add(program, f"{name} through the powers", elements.SLOPE, x, dx, other=dx)

    def _add(
        self,
        program: Program,
        name: str,
        what: int,
        x: Image,
        y: Image,
        other: Image | None = None,
    ) -> None:
        constants = what, int(self.p) if self.p in (1, 2) else 0
        add_elements(program, name, constants, self.p, x, y, other)


class SubsampleStep(DepthwiseStep):
    """A depthwise convolution, 1 x 1, of the sums of the windows."""

    adds_gradients = False

    def choose(self) -> None:
        self.tables = _tables_of(self.layer.window(self.input_shape[1:]))
        self.window = sliding_window("plan", (1, *self.shape[1:]), (1, 1, 1))

    @staticmethod
    def accepts(unit: Unit) -> bool:
        return type(unit.layers[0]) is Subsample2d

    def bind(self, x: Image, dx: Image | None, y: Image, dy: Image | None) -> None:
        ProductStep.bind(self, x, dx, y, dy)
        batch, arena = self.context.batch, self.context.arena
        sums = arena.image(batch, self.shape, NO_BORDER)
        dsums = None if dx is None else arena.image(batch, self.shape, NO_BORDER)
        self._choose_products(sums, dsums)

"""The step of subsampling: sums of windows, times a coefficient a channel, plus a bias."""

from collections.abc import Sequence
from typing import Any

from tinyconv.engines.cpu.arena import NO_BORDER, Image
from tinyconv.engines.cpu.depthwise_step import DepthwiseStep
from tinyconv.engines.cpu.product_step import ProductStep
from tinyconv.engines.cpu.program import Program
from tinyconv.engines.cpu.resample_step import add_resample
from tinyconv.engines.cpu.step import Context
from tinyconv.engines.units import Unit
from tinyconv.geometry import sliding_window
from tinyconv.kernels.terms import over_three_axes, window_terms
from tinyconv.layers import Subsample2d
from tinyconv.layers.base import Shape

__all__ = ["SubsampleStep"]


class SubsampleStep(DepthwiseStep):
    """A depthwise convolution, 1 x 1, of the sums of the windows."""

    adds_gradients = False

    def __init__(self, unit: Unit, shapes: Sequence[Shape], context: Context) -> None:
        ProductStep.__init__(self, unit, shapes, context)
        layer: Any = unit.layers[0]
        self.layer = layer
        windows = layer.window(self.input_shape[1:])
        self.tables = over_three_axes([window_terms(windows, axis) for axis in range(2)])
        self.window = sliding_window("plan", (1, *self.shape[1:]), (1, 1, 1))
        self.C = self.input_shape[0]

    @staticmethod
    def accepts(unit: Unit) -> bool:
        return type(unit.layers[0]) is Subsample2d

    def bind(self, x: Image, dx: Image | None, y: Image, dy: Image | None) -> None:
        ProductStep.bind(self, x, dx, y, dy)
        batch, arena = self.context.batch, self.context.arena
        self.sums = arena.image(batch, self.shape, NO_BORDER)
        self.dsums = None if dx is None else arena.image(batch, self.shape, NO_BORDER)
        self._choose_products(self.sums, self.dsums)

    def forward(self, program: Program) -> None:
        name = f"{self.name}: sums"
        add_resample(self.context, program, name, self.x, self.sums, self.tables)
        super().forward(program)

    def backward(self, program: Program) -> None:
        super().backward(program)
        if self.dx is None or self.dsums is None:
            return
        tables = [table.transposed() for table in self.tables]
        name = f"{self.name}: sums backward"
        add_resample(self.context, program, name, self.dsums, self.dx, tables)

"""The step of a pooling of windows, or of whole planes."""

from collections.abc import Sequence
from itertools import product
from math import prod

import numpy as np

from tinyconv.engines.gpu.product_steps import window_sizes
from tinyconv.engines.gpu.program import BATCH, Program, blocks
from tinyconv.engines.gpu.step import Buffer, Context, Step
from tinyconv.engines.units import AVG, MAX, Unit
from tinyconv.geometry import sliding_window
from tinyconv.layers import GlobalAvgPool, GlobalMaxPool, L2Pool2d
from tinyconv.layers.base import Shape
from tinyconv.ops.pool import elements_seen

__all__ = ["PoolStep"]


class PoolStep(Step):
    """The maximum, the mean or the root of the squares of windows; a whole plane is one window."""

    def __init__(self, unit: Unit, shapes: Sequence[Shape], context: Context) -> None:
        super().__init__(unit, shapes, context)
        size, kind = self.input_shape[1:], type(self.layer)
        is_global = kind in (GlobalAvgPool, GlobalMaxPool)
        self.window = (
            sliding_window("pool", size, kernel=size) if is_global else self.layer.window(size)
        )
        self.sizes = {"PLANES": self.input_shape[0], **window_sizes(self.window)}
        self.kernel = "pool_root"
        if kind in (*MAX, GlobalMaxPool):
            self.kernel = "pool_max"
        elif kind in (*AVG, GlobalAvgPool):
            self.kernel = "pool_mean"

    @staticmethod
    def accepts(unit: Unit) -> bool:
        return type(unit.layers[0]) in (*MAX, *AVG, L2Pool2d, GlobalAvgPool, GlobalMaxPool)

    def connect(
        self, xs: Sequence[Buffer], dxs: Sequence[Buffer | None], y: Buffer, dy: Buffer | None
    ) -> None:
        super().connect(xs, dxs, y, dy)
        context = self.context
        if self.kernel == "pool_max":
            self.saved = context.empty(context.batch, *self.shape, dtype=np.int32)
        elif self.kernel == "pool_mean":
            counts_padding = getattr(self.layer, "count_include_pad", True)
            axes = range(len(self.window.size))
            seen = (elements_seen(self.window, axis, counts_padding) for axis in axes)
            divisor = [max(1, prod(counts)) for counts in product(*seen)]  # as in the operation
            self.saved = context.launcher.upload(np.array(divisor, np.float32))

    def forward(self, program: Program) -> None:
        arguments: tuple[object, ...] = (self.x, self.y, BATCH)
        if self.kernel == "pool_max":
            arguments = (self.x, None, self.y, self.saved, self.parameter, BATCH)
        elif self.kernel == "pool_mean":
            arguments = (self.x, self.saved, self.y, BATCH)
        grid = blocks(prod(self.shape))
        program.call(self.name, "pool", self.sizes, self.kernel, grid, *arguments)

    def backward(self, program: Program) -> None:
        if self.dx is None:
            return
        arguments: tuple[object, ...] = (self.dy, self.x, self.y, self.dx, BATCH)
        if self.kernel == "pool_max":
            arguments = (self.dy, self.y, self.saved, self.dx, self.parameter, BATCH)
        elif self.kernel == "pool_mean":
            arguments = (self.dy, self.saved, self.dx, BATCH)
        program.call(
            f"{self.name}: backward",
            "pool",
            self.sizes,
            f"{self.kernel}_backward",
            blocks(prod(self.input_shape)),
            *arguments,
        )

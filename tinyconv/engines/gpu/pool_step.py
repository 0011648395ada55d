"""The step of the maximum or a norm of windows, or of whole planes."""

from math import prod

import numpy as np

from tinyconv.engines.gpu.product_steps import window_sizes
from tinyconv.engines.gpu.program import BATCH, Program, blocks
from tinyconv.engines.gpu.step import Step
from tinyconv.engines.units import MAX, NORM_POOLS
from tinyconv.geometry import sliding_window
from tinyconv.layers import GlobalMaxPool


class PoolStep(Step):
    """The maximum or a norm of windows; a whole plane is one window."""

    kinds = (*MAX, *NORM_POOLS, GlobalMaxPool)

    def choose(self) -> None:
        planes, *size = self.input_shape
        if type(self.layer) is GlobalMaxPool:
            window = sliding_window("pool", (prod(size),), kernel=(prod(size),))
        else:
            window = self.layer.window(tuple(size))
        self.sizes = {"PLANES": planes, **window_sizes(window)}
        self.is_norm = type(self.layer) in NORM_POOLS
        if self.is_norm:
            self.power = np.float32(getattr(self.layer, "norm_type", 2))
        else:
            self.argmax = self.context.empty(self.context.batch, *self.shape, dtype=np.int32)

    def forward(self, program: Program) -> None:
        last, kernel = (self.power, "pool_norm") if self.is_norm else (self.argmax, "pool_max")
        arguments = (self.x, self.y, last, BATCH)
        grid = blocks(prod(self.shape))
        program.call(self.name, "pool", self.sizes, kernel, grid, *arguments)

    def backward(self, program: Program) -> None:
        if self.is_norm:
            kernel = "pool_norm_backward"
            arguments: tuple[object, ...] = (self.dy, self.x, self.y, self.dx, self.power, BATCH)
        else:
            kernel = "pool_max_backward"
            arguments = (self.dy, self.argmax, self.dx, BATCH)
        grid = blocks(prod(self.input_shape))
        program.call(f"{self.name}: backward", "pool", self.sizes, kernel, grid, *arguments)

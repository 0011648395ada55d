"""The step of a convolution of each channel by itself, with a batch norm and an activation."""

from collections.abc import Sequence
from math import ceil
from typing import Any

import numpy as np

from tinyconv.engines.cpu.arena import Image
from tinyconv.engines.cpu.conv_dims import (
    SUMS,
    Product,
    border_of_gradient,
    convolution,
    input_gradient,
    over_three_axes,
)
from tinyconv.engines.cpu.product_step import ProductStep
from tinyconv.engines.cpu.program import Program
from tinyconv.engines.cpu.step import Context
from tinyconv.engines.cpu.tiling import compiled, even
from tinyconv.engines.units import AVG, CONVS, MAX, Unit
from tinyconv.kernels.cpu import depthwise
from tinyconv.kernels.cpu.simd import LANES
from tinyconv.layers.base import Shape

#: Numbers of x and of dz that pass while a tile of a weight's gradient stays in registers.
CHUNK = 4096


class DepthwiseStep(ProductStep):
    """Convolution with as many groups as channels of input and output.

    The channels are not treated group by group: one product, of another kind, makes all.
    """

    def __init__(self, unit: Unit, shapes: Sequence[Shape], context: Context) -> None:
        super().__init__(unit, shapes, context)
        layer: Any = unit.layers[0]
        self.layer = layer
        self.window = over_three_axes(layer.window(self.input_shape[1:]))
        self.border = self.window.padding
        self.gradient_border = border_of_gradient(self.window)
        self.C = self.input_shape[0]

    @staticmethod
    def accepts(unit: Unit) -> bool:
        layer: Any = unit.layers[0]
        return (
            type(layer) in CONVS
            and 1 < layer.groups == layer.in_channels == layer.out_channels
            and layer.padding_mode == "zeros"
            and unit.find((*MAX, *AVG)) is None
        )

    def bind(self, x: Image, dx: Image | None, y: Image, dy: Image | None) -> None:
        super().bind(x, dx, y, dy)
        self._choose_products(x, dx)

    def _choose_products(self, source: Image, dsource: Image | None) -> None:
        """Choose what makes y of the source, and its gradient."""
        batch, arena, window = self.context.batch, self.context.arena, self.window
        self.source, self.dsource, self.dz = source, dsource, self.dy
        products = [convolution(window, source.channels(0, 1), self.z.channels(0, 1), batch, arena)]
        if dsource is not None:
            self.dz = self._bordered(self.dy)
            dz, dx = self.dz.channels(0, 1), dsource.channels(0, 1)
            products += input_gradient(window, dz, dx, batch, arena)
        self.product, *self.gradients = (
            product.of_each_channel(self.C, arena) for product in products
        )

    def _kernel_of(self, product: Product) -> Any:
        return compiled(depthwise.forward, product.tile.L, product.tile.V, product.tile.N)

    def _add_weight_gradient(self, program: Program, dz: Image) -> None:
        table, x = self.context.arena.table, self.source
        (KD, KH, KW), L = self.window.kernel, self.product.tile.L
        RW = even(KW, SUMS)
        RH = even(KH, SUMS // RW)
        V = max(1, min(self.product.tile.V, SUMS // (RH * RW)))
        rows, columns = ceil(KH / RH), ceil(KW / RW)
        kd, kh, kw = np.indices((KD, KH, KW)).reshape(3, -1)
        block = (kd * rows + kh // RH) * columns + kw // RW
        slots = (block * RH + kh % RH) * RW + kw % RW
        deep, down, along = (
            stride * dilation
            for stride, dilation in zip((x.plane, x.row, x.C), self.window.dilation, strict=True)
        )
        d, h, w = np.indices((KD, rows, columns)).reshape(3, -1)
        corners = table(d * deep + h * RH * down + w * RW * along)
        self._describe(dz)
        w_row = ceil(self.C / (V * L)) * V * L
        self.places = table(slots * w_row)
        self._take_gradients(len(corners) * RH * RW * w_row, w_row + LANES, w_row, block=0)
        self._keep(self.places, self.C, self.C)
        program.call(
            f"{self.name}: dw",
            compiled(depthwise.weight_gradient, L, V, RH, RW),
            dims=self.product.dims,
            x=x.array,
            dz=dz.array,
            corners=corners,
            blocks=len(corners),
            down=down,
            along=along,
            chunk=max(16, CHUNK // self.C),
            w_row=w_row,
            **self._gradients(),
        )

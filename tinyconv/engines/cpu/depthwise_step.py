"""The step of a convolution in groups of few channels, with a batch norm and an activation."""

from math import ceil
from typing import Any

import numpy as np

from tinyconv.backend import Values
from tinyconv.engines.cpu.arena import Image
from tinyconv.engines.cpu.conv_dims import (
    SUMS,
    Product,
    border_of_gradient,
    convolution,
    input_gradient,
    over_three_axes,
    set_dims,
)
from tinyconv.engines.cpu.product_step import ProductStep
from tinyconv.engines.cpu.program import Program
from tinyconv.engines.cpu.tiling import compiled, even
from tinyconv.engines.units import AVG, CONVS, MAX, Unit
from tinyconv.kernels.cpu import conv
from tinyconv.kernels.cpu.simd import LANES

#: Numbers of x and of dz that pass while a tile of a weight's gradient stays in registers.
CHUNK = 4096
#: Inputs or outputs of a group at most, a power of two: more of them fill vectors by themselves.
FEW = LANES // 2


class DepthwiseStep(ProductStep):
    """Convolution in groups of few channels, or of each channel by itself.

    The channels are not treated group by group: one product, of another kind, makes all.

    Attributes:
        inputs, outputs: channels of a group.
    """

    inputs = outputs = 1

    def choose(self) -> None:
        self.inputs, self.outputs = _channels_of_a_group(self.layer)
        self.window = over_three_axes(self.layer.window(self.input_shape[1:]))
        self.border = self.window.padding
        self.gradient_border = border_of_gradient(self.window)

    @staticmethod
    def accepts(unit: Unit) -> bool:
        layer: Any = unit.layers[0]
        return (
            type(layer) in CONVS
            and has_small_groups(layer)
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
        product = convolution(window, source.channels(0, 1), self.z.channels(0, 1), batch, arena)
        K, self.gradients = product.count, []
        self.product = product.of_each_channel(self.z.C, self.inputs, K, arena)
        if dsource is not None:
            self.dz = self._bordered(self.dy)
            dz, dx = self.dz.channels(0, 1), dsource.channels(0, 1)
            for product in input_gradient(window, dz, dx, batch, arena):
                product.of_each_channel(dsource.C, self.outputs, K * self.inputs, arena)
                self.gradients.append(product)

    def _pack(
        self, program: Program, product: Product, column: int, bias: Values | None
    ) -> tuple[Values, Values]:
        take, tile, weight = self.context.arena.take, product.tile, self.weight.ravel()
        channels, group = tile.padded(product.channels), self.outputs * self.weight[0].size
        w, b = take(product.count * channels), take(channels)
        if product is self.product or self.inputs == 1:
            apart = column if product is self.product else group
            parts = [{"weight": weight, "w": w, "bias": bias, "b": b}]
            self._add_packs(program, product, apart, product.channels, parts)
        else:  # the weights of the inputs of a group are as far apart, those of others farther
            parts = []
            for number, first in enumerate(range(0, product.channels, self.inputs)):
                block, place = divmod(first, tile.width)
                into = w[block * product.count * tile.width + place :]
                parts.append({"weight": weight[number * group :], "w": into})
            self._add_packs(program, product, column, self.inputs, parts)
        return w, b

    def _kernel_of(self, product: Product) -> Any:
        tile, I, O = product.tile, self.inputs, self.outputs
        if product is not self.product:
            I, O = O, I
        return compiled(conv.forward, tile.L, tile.V, tile.N, I, 1, O)

    def _add_weight_gradient(self, program: Program, dz: Image) -> None:
        product, taps, I = self.product, self.product.elements, self.inputs
        at_once = even(len(taps), SUMS // I)
        L, V = product.tile.L, max(1, min(product.tile.V, SUMS // (at_once * I)))
        blocks, width = ceil(product.channels / (V * L)), V * L
        block = ceil(len(taps) / at_once) * at_once * I * width
        self._describe(dz)
        sizes = {"row_count": len(taps), "run": I, "run_padded": I}
        set_dims(product.dims, self.context.arena, rows=taps, **sizes)
        self._take_gradients(blocks * block, blocks * width + LANES, width, block)
        self._keep_places(np.arange(product.count) * width)
        self._keep(self.places, width, product.channels)
        program.call(
            f"{self.name}: dw",
            compiled(conv.weight_gradient, L, V, I, at_once, self.outputs),
            dims=product.dims,
            x=product.x.array,
            dz=dz.array,
            **self._gradients(),
            chunk=max(16, CHUNK // product.channels),
            block=1,
        )


def has_small_groups(layer: Any) -> bool:
    """Whether a convolution is one in groups that the kernels here can treat."""
    sizes = _channels_of_a_group(layer)
    return layer.groups > 1 and all(n <= FEW and n.bit_count() == 1 for n in sizes)


def _channels_of_a_group(layer: Any) -> tuple[int, int]:
    return layer.in_channels // layer.groups, layer.out_channels // layer.groups

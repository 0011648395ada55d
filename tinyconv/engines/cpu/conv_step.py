"""The step of a convolution with what is joined to it: a pooling, a batch norm, an activation."""

from collections.abc import Sequence
from dataclasses import replace
from math import prod
from typing import Any

import numpy as np

from tinyconv.engines.cpu.arena import NO_BORDER, Image
from tinyconv.engines.cpu.conv_dims import (
    Product,
    border_of_gradient,
    convolution,
    input_gradient,
    over_three_axes,
)
from tinyconv.engines.cpu.epilogue import add_fold
from tinyconv.engines.cpu.product_step import ProductStep
from tinyconv.engines.cpu.program import Program
from tinyconv.engines.cpu.resample_step import add_resample
from tinyconv.engines.cpu.step import Context, activation_of
from tinyconv.engines.units import AVG, CONVS, MAX, Unit
from tinyconv.geometry import Geometry, sliding_window
from tinyconv.kernels.cpu.terms import Terms, window_terms
from tinyconv.layers.base import Layer, Shape
from tinyconv.ops.shape import pad_sources

__all__ = ["ConvStep", "is_convolution", "pool_sizes"]

Array = np.ndarray[Any, Any]

#: Numbers of a mean that is joined: more of them cost more than the convolution saves.
MEANS = 16


class ConvStep(ProductStep):
    """Convolution with an activation.

    The convolution reads ``source``. That is x or, where x is padded with its own numbers or a mean
    comes behind, made of x by a table for each axis. For convolution and mean commute: the mean
    over neighbouring results is the convolution, with a stride, of such means of the input.
    """

    def __init__(self, unit: Unit, shapes: Sequence[Shape], context: Context) -> None:
        super().__init__(unit, shapes, context)
        layer: Any = unit.layers[0]
        self.layer, self.groups = layer, layer.groups
        window = over_three_axes(
            sliding_window(
                "plan",
                self.input_shape[1:],
                layer.kernel_size,
                layer.stride,
                layer.padding,
                layer.dilation,
            )
        )
        self.tables, self.window = _source_of(
            window, pool_sizes(unit.find(AVG)), layer.padding_mode
        )
        self.pooling = pool_sizes(unit.find(MAX))
        front, top, left = self.window.padding
        self.border = (front, top, left)
        self.gradient_border = border_of_gradient(self.window)
        self.adds_gradients = not self.tables

    @staticmethod
    def accepts(unit: Unit) -> bool:
        return is_convolution(unit) and prod(pool_sizes(unit.find(MAX))) == 1

    def bind(self, x: Image, dx: Image | None, y: Image, dy: Image | None) -> None:
        super().bind(x, dx, y, dy)
        self.source, self.dsource = x, dx
        batch, arena = self.context.batch, self.context.arena
        if self.tables:
            shape = (x.C, *self.window.size)
            self.source = arena.image(batch, shape, NO_BORDER, self.spare)
            self.dsource = None if dx is None else arena.image(batch, shape, NO_BORDER, self.spare)
        # of the first group of channels; see ProductStep
        C, O = x.C // self.groups, y.C // self.groups
        source, z = self.source.channels(0, C), self.z.channels(0, O)
        self.product = convolution(self.window, source, z, batch, arena, self.pooling)
        self.gradients: list[Product] = []
        if dy is not None:
            self.dz = dy
            self._bind_gradient(dy)

    def _bind_gradient(self, dy: Image) -> None:
        """Choose where dz is, the gradient of the convolution's result, and what makes dx of it."""
        if self.dsource is None:
            return
        batch, arena = self.context.batch, self.context.arena
        self.dz = self._bordered(dy)
        dz = self.dz.channels(0, self.product.channels)
        dsource = self.dsource.channels(0, self.product.x.C)
        self.gradients = input_gradient(self.window, dz, dsource, batch, arena)

    # Weights.

    def prepare(self, program: Program) -> None:
        self.weight, self.bias = add_fold(self, program)
        size, K = self.weight[0].size, prod(self.window.kernel)
        self.packed = [self._pack(program, self.product, size, self.bias)]
        self.packed += [self._pack(program, product, K, None) for product in self.gradients]

    # Forward.

    def forward(self, program: Program) -> None:
        if self.tables:
            name = f"{self.name}: source"
            add_resample(self.context, program, name, self.x, self.source, self.tables)
        self._add_product(program, self.name, self.product, self.packed[0], self._floor)
        self._add_other_activation(program)

    # Backward.

    def backward(self, program: Program) -> None:
        assert self.dy is not None
        self._add_dz(program, self.dy, self.dz)
        self._add_weight_gradient(program, self.dz)
        for product, packed in zip(self.gradients, self.packed[1:], strict=True):
            adds = self.adds[0] and not self.tables
            self._add_product(program, f"{self.name}: dx", product, packed, adds=adds)
        if self.tables and self.dx is not None and self.dsource is not None:
            tables = [table.transposed() for table in self.tables]
            name = f"{self.name}: source backward"
            add_resample(self.context, program, name, self.dsource, self.dx, tables)


def _source_of(
    window: Geometry, means: tuple[int, int, int], padding_mode: str
) -> tuple[list[Terms], Geometry]:
    """Return what makes the source of x, nothing if that is x, and the window over the source."""
    axes = range(3)
    if means != (1, 1, 1):
        size = tuple(n - m + 1 for n, m in zip(window.padded, means, strict=True))
        ones = (1, 1, 1)
        boxes = Geometry(window.size, means, ones, window.padding, ones, size)
        tables = [
            Terms([[(k, w / means[axis]) for k, w in terms] for terms in table.lists], table.size)
            for axis, table in ((axis, window_terms(boxes, axis)) for axis in axes)
        ]
        output = tuple(n // m for n, m in zip(window.output, means, strict=True))
        window = replace(window, stride=means, output=output)
    elif padding_mode != "zeros" and window.is_padded:
        size = window.padded
        tables = [
            Terms([[(k, 1.0)] for k in pad_sources("plan", padding_mode, axis, n, *both)], n)
            for axis, n, both in zip(axes, window.size, window.padding, strict=True)
        ]
    else:
        return [], window
    return tables, replace(window, size=size, padding=((0, 0),) * 3)


def is_convolution(unit: Unit) -> bool:
    """Whether a unit is a convolution with what may be joined to it, whatever its max-pool."""
    before = unit.layers[1:-1]  # a maximum is taken before the activation in front of it
    return (
        type(unit.layers[0]) in CONVS
        and all(chosen is None or chosen.increases for chosen in map(activation_of, before))
        and prod(pool_sizes(unit.find(AVG))) <= MEANS
    )


def pool_sizes(pool: Layer | None) -> tuple[int, int, int]:
    """Return the window of a pooling over three axes."""
    window = () if pool is None else tuple(pool.config()["kernel_size"])
    front, top, left = (1,) * (3 - len(window)) + window
    return front, top, left

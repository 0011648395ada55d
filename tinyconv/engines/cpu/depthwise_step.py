"""The step of a convolution of each channel by itself, with a batch norm and an activation."""

from collections.abc import Sequence
from math import ceil, inf, prod
from typing import Any

import numpy as np

from tinyconv.engines.cpu.arena import NO_BORDER, Image
from tinyconv.engines.cpu.conv_dims import (
    SUMS,
    Product,
    border_of_gradient,
    convolution,
    input_gradient,
    inside,
    over_three_axes,
)
from tinyconv.engines.cpu.epilogue import add_activation, add_activation_backward, add_fold
from tinyconv.engines.cpu.program import Program
from tinyconv.engines.cpu.step import Context, Step
from tinyconv.engines.cpu.tiling import compiled, even, lanes_for
from tinyconv.engines.units import AVG, CONVS, MAX, Unit
from tinyconv.geometry import sliding_window
from tinyconv.kernels.cpu import conv, depthwise
from tinyconv.kernels.cpu.activation import IDENTITY, RELU
from tinyconv.kernels.cpu.kernel import address_of
from tinyconv.kernels.cpu.simd import LANES
from tinyconv.layers.base import Shape

__all__ = ["DepthwiseStep"]

Array = np.ndarray[Any, Any]

#: Numbers of x and of dz that pass while a tile of a weight's gradient stays in registers.
CHUNK = 4096


class DepthwiseStep(Step):
    """Convolution with as many groups as channels of input and output."""

    def __init__(self, unit: Unit, shapes: Sequence[Shape], context: Context) -> None:
        super().__init__(unit, shapes, context)
        layer: Any = unit.layers[0]
        self.layer = layer
        window = layer.kernel_size, layer.stride, layer.padding, layer.dilation
        self.window = over_three_axes(sliding_window("plan", self.input_shape[1:], *window))
        front, top, left = self.window.padding
        self.border = (front, top, left)
        self.C, self.K = self.input_shape[0], prod(self.window.kernel)
        self.L = lanes_for(self.C)
        self.V = even(ceil(self.C / self.L), 4)

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
        batch, arena = self.context.batch, self.context.arena
        # The tables of one channel serve all.
        self.product = convolution(
            self.window, x.channels(0, 1), self.z.channels(0, 1), batch, arena
        )
        self.products = [self.product]
        if dy is not None:
            self.dz = dy
        if dy is not None and dx is not None:
            border = border_of_gradient(self.window)
            if border != NO_BORDER:
                self.dz = arena.image(batch, self.shape, border)
            self.products += input_gradient(
                self.window, self.dz.channels(0, 1), dx.channels(0, 1), batch, arena
            )
        for product in self.products:
            product.dims["O"] = self.C

    def prepare(self, program: Program) -> None:
        weight, bias = add_fold(self, program)
        take, table = self.context.arena.take, self.context.arena.table
        self.w_row = ceil(self.C / (self.V * self.L)) * self.V * self.L
        self.packed = []
        for product in self.products:
            w, b = take(product.count * self.w_row), take(self.w_row)
            self.packed.append((w, b))
            if product.count == 0:
                continue
            add_bias = product is self.product and bias is not None
            program.call(
                f"{self.name}: pack",
                compiled(conv.pack),
                conv.PACK,
                items=product.count,
                weight=address_of(weight),
                places=address_of(product.weight_at),
                column=self.K,
                columns=self.C,
                w=address_of(w),
                into=address_of(table(np.arange(product.count) * self.w_row)),
                width=self.w_row,
                bias=address_of(bias) if add_bias and bias is not None else 0,
                b=address_of(b),
            )

    def forward(self, program: Program) -> None:
        code = self.activation.code
        floor = 0.0 if code == RELU else -inf
        self._add_product(program, self.name, self.product, self.packed[0], floor)
        if code not in (IDENTITY, RELU):
            add_activation(self, program)

    def _add_product(
        self,
        program: Program,
        name: str,
        product: Product,
        packed: tuple[Array, Array],
        floor: float = -inf,
    ) -> None:
        program.call(
            name,
            compiled(depthwise.forward, self.L, self.V, max(1, min(8, SUMS // self.V))),
            depthwise.FORWARD,
            dims=address_of(product.dims),
            x=product.x.base,
            w=address_of(packed[0]),
            w_row=self.w_row,
            b=address_of(packed[1]),
            y=product.y.base,
            floor=floor,
        )

    def backward(self, program: Program) -> None:
        assert self.dy is not None
        if self.activation.code != IDENTITY or self.dz is not self.dy:
            add_activation_backward(self, program, self.dz)
        self._add_weight_gradient(program)
        for product, packed in zip(self.products[1:], self.packed[1:], strict=True):
            self._add_product(program, f"{self.name}: dx", product, packed)

    def _add_weight_gradient(self, program: Program) -> None:
        table, take, x = self.context.arena.table, self.context.arena.take, self.x
        (KD, KH, KW), threads = self.window.kernel, self.context.threads
        RW = even(KW, SUMS)
        RH = even(KH, SUMS // RW)
        V = max(1, min(self.V, SUMS // (RH * RW)))
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
        z_at = table(inside(self.dz))
        for name, value in (
            ("z_sample", self.dz.sample),
            ("z_at", address_of(z_at)),
            ("positions", len(z_at)),
        ):
            self.product.dims[name] = value
        w_row = ceil(self.C / (V * self.L)) * V * self.L
        self.places = table(slots * w_row)
        self.dw_layout = {
            "dw_thread": len(corners) * RH * RW * w_row,
            "db_thread": w_row + LANES,
            "width": w_row,
        }
        self.dw = take(threads * self.dw_layout["dw_thread"])
        self.db = take(threads * self.dw_layout["db_thread"])
        program.call(
            f"{self.name}: dw",
            compiled(depthwise.weight_gradient, self.L, V, RH, RW),
            depthwise.WEIGHT_GRADIENT,
            dims=address_of(self.product.dims),
            x=x.base,
            dz=self.dz.base,
            corners=address_of(corners),
            blocks=len(corners),
            down=down,
            along=along,
            chunk=max(16, CHUNK // self.C),
            dw=address_of(self.dw),
            dw_thread=self.dw_layout["dw_thread"],
            w_row=w_row,
            db=address_of(self.db),
            db_thread=self.dw_layout["db_thread"],
        )

    def update(self, program: Program) -> None:
        context, bias = self.context, self.layer.params.get("bias")
        room = max(self.K, self.C) + LANES
        program.call(
            f"{self.name}: update",
            compiled(conv.update),
            conv.UPDATE,
            items=self.C,
            dw=address_of(self.dw),
            places=address_of(self.places),
            size=self.K,
            db=address_of(self.db),
            **self.dw_layout,
            threads=context.threads,
            sum=address_of(context.arena.take(context.threads * room)),
            sum_thread=room,
            function=context.rule[0],
            function_args=context.rule[1],
            weight_start=context.place(self.layer.params["weight"]),
            bias_start=-1 if bias is None else context.place(bias),
        )

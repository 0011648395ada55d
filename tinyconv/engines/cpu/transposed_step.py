"""The step of a transposed convolution with its activation."""

from collections.abc import Sequence
from math import prod

import numpy as np

from tinyconv.backend import Array
from tinyconv.engines.cpu.arena import Image
from tinyconv.engines.cpu.conv_dims import (
    border_of_gradient,
    convolution,
    input_gradient,
    inside,
    over_three_axes,
)
from tinyconv.engines.cpu.product_step import ProductStep
from tinyconv.engines.cpu.program import Program
from tinyconv.engines.cpu.step import Context
from tinyconv.engines.cpu.tiling import compiled, lanes_for
from tinyconv.engines.units import Unit
from tinyconv.kernels.cpu import conv, depthwise, join
from tinyconv.kernels.cpu.kernel import address_of
from tinyconv.kernels.cpu.simd import LANES
from tinyconv.layers.base import Shape


class TransposedStep(ProductStep):
    """What :class:`.conv_step.ConvStep` does with dz, done with x, and the other way about.

    With the convolution that leads from the size of y to that of x, y is what it sends back for
    x, dx is its result for dy, and dw is its dw of input dy and gradient x. Its weight is the
    layer's as it is.
    """

    def __init__(self, unit: Unit, shapes: Sequence[Shape], context: Context) -> None:
        super().__init__(unit, shapes, context)
        self.groups = self.layer.groups
        self.window = over_three_axes(self.layer.window(self.input_shape[1:]))
        self.border = border_of_gradient(self.window)
        front, top, left = self.window.padding
        self.gradient_border = (front, top, left)

    def bind(self, x: Image, dx: Image | None, y: Image, dy: Image | None) -> None:
        super().bind(x, dx, y, dy)
        batch, arena, window = self.context.batch, self.context.arena, self.window
        C, O = x.C // self.groups, y.C // self.groups
        source, z = x.channels(0, C), self.z.channels(0, O)
        self.phases = input_gradient(window, source, z, batch, arena)
        if dy is None:
            return
        self.dz = self._bordered(dy)
        target = source if dx is None else dx.channels(0, C)
        self.product = convolution(window, self.dz.channels(0, O), target, batch, arena)

    def prepare(self, program: Program) -> None:
        self.weight, bias = self.layer.params["weight"], self.layer.params.get("bias")
        K = prod(self.window.kernel)
        packed = [self._pack(program, phase, K, bias) for phase in self.phases]
        # A phase that no tap reaches is nothing but bias, and has packed none itself.
        reached = (b for phase, (_, b) in zip(self.phases, packed, strict=True) if phase.count)
        b = next(reached, None)
        if b is None:
            b = self._copied(program, bias)
        self.packed = [(w, b) for w, _ in packed]
        if self.dy is not None and self.dx is not None:
            size = self.weight[0].size
            self.packed_back = self._pack(program, self.product, size, None)

    def _copied(self, program: Program, bias: Array | None) -> Array:
        """Add the calls that make the biases where no tap reaches any output."""
        phase = self.phases[0]
        channels = phase.tile.padded(phase.channels)
        b = self.context.arena.take(self.groups * channels)
        if bias is None:
            return b
        for group in range(self.groups):
            program.call(
                f"{self.name}: pack",
                compiled(join.copy, LANES),
                join.ARGS,
                items=1,
                x=address_of(bias) + 4 * group * phase.channels,
                y=address_of(b) + 4 * group * channels,
                planes=1,
                rows=1,
                positions=1,
                count=phase.channels,
            )
        return b

    def forward(self, program: Program) -> None:
        for phase, packed in zip(self.phases, self.packed, strict=True):
            self._add_product(program, self.name, phase, packed, self._floor)
        self._add_other_activation(program)

    def backward(self, program: Program) -> None:
        assert self.dy is not None
        self._add_dz(program, self.dy, self.dz)
        if self.is_trained:
            self._add_weight_gradient(program, self.x)
            self._add_bias_gradient(program)
        if self.dx is not None:
            name, packed = f"{self.name}: dx", self.packed_back
            self._add_product(program, name, self.product, packed, adds=self.adds[0])

    def _add_bias_gradient(self, program: Program) -> None:
        """Add the call that sums dz: what came with dw are sums of x."""
        O, threads, arena = self.dz.C, self.context.threads, self.context.arena
        L = lanes_for(O)
        self.bias_thread = -(-O // L) * L + LANES
        self.dbias = arena.take(threads * self.bias_thread)
        z_at = arena.table(inside(self.dz))
        dims = np.zeros(1, conv.DIMS)
        arena.arrays.append(dims)
        dims["O"], dims["positions"] = O, len(z_at)
        dims["z_sample"], dims["z_at"] = self.dz.sample, address_of(z_at)
        self._keep_biases(address_of(self.dbias), self.bias_thread, O)
        program.call(
            f"{self.name}: db",
            compiled(depthwise.weight_gradient, L, 1, 1, 1),
            depthwise.WEIGHT_GRADIENT,
            dims=address_of(dims),
            dz=self.dz.base,
            chunk=len(z_at),
            db=address_of(self.dbias),
            db_thread=self.bias_thread,
        )

    def update(self, program: Program) -> None:
        bias = self.layer.params.get("bias")
        inputs, size = len(self.weight) // self.groups, self.weight[0].size
        for group in range(self.groups):
            self._add_update(
                program,
                inputs,
                size,
                address_of(self.dw) + 4 * group * self.dw_group,
                address_of(self.db) + 4 * group * self.db_group,
                self.context.place(self.weight) + group * inputs * size,
                -1,
            )
        if bias is not None:
            self.dw_layout |= {"db_thread": self.bias_thread}
            start = self.context.place(bias)
            dw, db = address_of(self.dw), address_of(self.dbias)
            self._add_update(program, len(bias), 0, dw, db, start, start)

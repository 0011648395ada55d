"""The step of a transposed convolution with its activation."""

from math import prod
from typing import Any

import numpy as np

from tinyconv.backend import Array
from tinyconv.engines.cpu.arena import Image
from tinyconv.engines.cpu.conv_dims import (
    border_of_gradient,
    convolution,
    input_gradient,
    inside,
    over_three_axes,
    set_dims,
)
from tinyconv.engines.cpu.product_step import ProductStep
from tinyconv.engines.cpu.program import Program
from tinyconv.engines.cpu.tiling import compiled, lanes_for
from tinyconv.kernels.cpu import conv, join
from tinyconv.kernels.cpu.simd import LANES


class TransposedStep(ProductStep):
    """What :class:`.conv_step.ConvStep` does with dz, done with x, and the other way about.

    With the convolution that leads from the size of y to that of x, y is what it sends back for
    x, dx is its result for dy, and dw is its dw of input dy and gradient x. Its weight is the
    layer's as it is.
    """

    def choose(self) -> None:
        self.groups = self.layer.groups
        self.window = over_three_axes(self.layer.window(self.input_shape[1:]))
        self.border = border_of_gradient(self.window)
        self.gradient_border = self.window.padding

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
                items=1,
                x=bias[group * phase.channels :],
                y=b[group * channels :],
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
        thread = -(-O // L) * L + LANES
        db = arena.take(threads * thread)
        self.bias_gradient: dict[str, Any] = {"db": db, "db_thread": thread}
        dims, z_at = np.zeros(1, conv.DIMS), inside(self.dz)
        set_dims(dims, arena, O=O, positions=len(z_at), z_sample=self.dz.sample, z_at=z_at)
        self.keep_gradient(db, O, threads, thread)
        program.call(
            f"{self.name}: db",
            compiled(conv.weight_gradient, L, 1, 1, 1),
            dims=dims,
            dz=self.dz.array,
            chunk=len(z_at),
            block=1,
            **self.bias_gradient,
        )

    def update(self, program: Program) -> None:
        self._add_updates(program, None)
        bias = self.layer.params.get("bias")
        if bias is not None:
            nothing = bias.reshape(len(bias), 1)[:, :0]
            self._add_update(program, nothing, bias, **self.bias_gradient)

"""The step of a convolution with what is joined to it: a pooling, a batch norm, an activation."""

from collections.abc import Sequence
from dataclasses import replace
from math import ceil, prod
from typing import Any

import numpy as np

from tinyconv.engines.cpu.arena import NO_BORDER, Image
from tinyconv.engines.cpu.conv_dims import (
    Product,
    border_of_gradient,
    convolution,
    input_gradient,
    inside,
    over_three_axes,
)
from tinyconv.engines.cpu.epilogue import add_activation_backward, add_fold
from tinyconv.engines.cpu.product_step import ProductStep
from tinyconv.engines.cpu.program import Program
from tinyconv.engines.cpu.resample_step import add_resample
from tinyconv.engines.cpu.step import Context, activation_of
from tinyconv.engines.cpu.tiling import compiled, even, lanes_for, rows_for
from tinyconv.engines.units import AVG, CONVS, MAX, Unit
from tinyconv.geometry import Geometry, sliding_window
from tinyconv.kernels.cpu import conv, conv_max
from tinyconv.kernels.cpu.activation import IDENTITY
from tinyconv.kernels.cpu.kernel import address_of
from tinyconv.kernels.cpu.simd import LANES, REGISTERS
from tinyconv.kernels.cpu.terms import Terms, window_terms
from tinyconv.layers.base import Layer, Shape
from tinyconv.ops.shape import pad_sources

__all__ = ["ConvStep"]

Array = np.ndarray[Any, Any]

#: Bytes of input that a block of samples may have in the backward pass of a max-pool.
FIRST_CACHE = 32 << 10
#: Positions of a window of a max-pool that is joined: more of them find no registers. Numbers of
#: a mean: more of them cost more than the convolution saves.
POOLED, MEANS = 9, 16


class ConvStep(ProductStep):
    """Convolution with a pooling and an activation.

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
        self.tables, self.window = _source_of(window, _sizes(unit.find(AVG)), layer.padding_mode)
        self.pooling = _sizes(unit.find(MAX))
        self.is_sparse = self.pooling != (1, 1, 1)
        front, top, left = self.window.padding
        self.border = (front, top, left)
        if self.is_sparse and context.training:
            self._choose_runs()

    @staticmethod
    def accepts(unit: Unit) -> bool:
        layer: Any = unit.layers[0]
        before = unit.layers[1:-1]  # a maximum is taken before the activation in front of it
        if any(chosen and not chosen.increases for chosen in map(activation_of, before)):
            return False
        return (
            type(layer) in CONVS
            and prod(_sizes(unit.find(MAX))) <= (POOLED if layer.groups == 1 else 1)
            and prod(_sizes(unit.find(AVG))) <= MEANS
        )

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
        if dy is None:
            return
        # The gradient of the convolution's result; dx needs it in a border of zeros.
        self.dz = dy
        if self.dsource is not None and not self.is_sparse:
            border = border_of_gradient(self.window)
            if border != NO_BORDER:
                self.dz = arena.image(batch, self.shape, border)
            dz, dsource = self.dz.channels(0, O), self.dsource.channels(0, C)
            self.gradients = input_gradient(self.window, dz, dsource, batch, arena)

    # Weights.

    def prepare(self, program: Program) -> None:
        self.weight, self.bias = add_fold(self, program)
        size, K = self.weight[0].size, prod(self.window.kernel)
        self.packed = [self._pack(program, self.product, size, self.bias)]
        self.packed += [self._pack(program, product, K, None) for product in self.gradients]
        if self.is_sparse and self.dsource is not None:
            self._pack_runs(program)

    # Forward.

    def forward(self, program: Program) -> None:
        if self.tables:
            name = f"{self.name}: source"
            add_resample(self.context, program, name, self.x, self.source, self.tables)
        if self.is_sparse:
            self.winners = self.context.arena.take(self.z.array.size, "uint8")
        self._add_product(program, self.name, self.product, self.packed[0], self._floor)
        self._add_other_activation(program)

    # Backward.

    def backward(self, program: Program) -> None:
        assert self.dy is not None
        if self.activation.code != IDENTITY or self.dz is not self.dy:
            add_activation_backward(self, program, self.dz)
        if self.is_sparse:
            self._backward_of_winners(program)
        else:
            self._add_weight_gradient(program, self.dz)
        for product, packed in zip(self.gradients, self.packed[1:], strict=True):
            self._add_product(program, f"{self.name}: dx", product, packed)
        if self.tables and self.dx is not None and self.dsource is not None:
            tables = [table.transposed() for table in self.tables]
            name = f"{self.name}: source backward"
            add_resample(self.context, program, name, self.dsource, self.dx, tables)

    # Backward through a max-pool: see tinyconv.kernels.cpu.conv_max.

    def _choose_runs(self) -> None:
        """Choose how the runs of a window are cut into tiles, for which x needs spare numbers."""
        window, C = self.window, self.input_shape[0]
        taps = 1 if window.dilation[2] == 1 else window.kernel[2]
        run = C * window.kernel[2] // taps
        self.slabs = window.kernel[0] * taps
        self.run_lanes = lanes_for(run)
        vectors = ceil(run / self.run_lanes)
        self.run_vectors = even(vectors, (REGISTERS - 2) // 4)
        self.run_padded = ceil(vectors / self.run_vectors) * self.run_vectors * self.run_lanes
        self.spare = self.run_padded - run + LANES

    def _runs_at(self) -> Array:
        """Where element t of a channel lies in the layout (slabs, KH, run_padded)."""
        (KD, KH, KW), C = self.window.kernel, self.input_shape[0]
        kd, kh, kw, c = np.unravel_index(np.arange(KD * KH * KW * C), (KD, KH, KW, C))
        if self.slabs > KD:  # with a dilation, (plane, column) is a slab
            return ((kd * KW + kw) * KH + kh) * self.run_padded + c
        return (kd * KH + kh) * self.run_padded + kw * C + c

    def _pack_runs(self, program: Program) -> None:
        product, O = self.product, self.product.channels
        channel = self.slabs * self.window.kernel[1] * self.run_padded
        size, C = product.count, self.input_shape[0]
        # A row is an element of the kernel of one output channel, its columns the C channels.
        taps = slice(None, None, C)
        outputs = np.arange(O)[:, None]
        table = self.context.arena.table
        places = table((outputs * size + product.weight_at[taps]).ravel())
        into = table((outputs * channel + self._runs_at()[taps]).ravel())
        self.w_runs = self.context.arena.take(O * channel)
        program.call(
            f"{self.name}: pack",
            compiled(conv.pack),
            conv.PACK,
            items=len(places),
            weight=address_of(self.weight),
            places=address_of(places),
            column=prod(self.window.kernel),
            columns=C,
            w=address_of(self.w_runs),
            into=address_of(into),
            width=C,
        )

    def _backward_of_winners(self, program: Program) -> None:
        product, take, threads = self.product, self.context.arena.take, self.context.threads
        x, dz, O, KH = product.x, self.dz, product.channels, self.window.kernel[1]
        L, V = self.run_lanes, self.run_vectors
        R = even(KH, rows_for(V, KH))
        rest = KH % R or R
        is_small = R == KH and self.slabs == 1 and R * V <= 8 and self.run_padded == V * L
        if is_small and self.dsource is None:
            kernel = compiled(conv_max.small_backward, L, V, R)
        else:
            kernel = compiled(conv_max.backward, L, V, R, rest)
        block = max(1, min(16, FIRST_CACHE // (4 * x.sample)))
        channel = block * product.windows + 1
        listed = max(O * channel, product.positions * O) + 16
        counts = max(O, product.positions) + 16
        taps = self.slabs // self.window.kernel[0]
        table = self.context.arena.table
        slab_at, dz_at = table(product.rows.reshape(-1, KH, taps)[:, 0].ravel()), table(inside(dz))
        size = self.slabs * KH * self.run_padded
        self._keep_places(self._runs_at())
        self.dw, self.db = take(threads * O * size), take(threads * (O + LANES))
        self.dw_group, self.db_group = O * size, O + LANES
        self.dw_layout = {
            "dw_thread": O * size,
            "width": 1,
            "dw_block": size,
            "db_thread": O + LANES,
        }
        # Here the runs of all channels are what lies side by side.
        self._keep(np.arange(O * self.slabs * KH) * self.run_padded, product.run, product.run)
        program.call(
            f"{self.name}: backward",
            kernel,
            conv_max.BACKWARD,
            x=x.base,
            x_sample=x.sample,
            x_at=address_of(product.x_at),
            area=product.positions,
            windows=product.windows,
            O=O,
            winners=address_of(self.winners),
            y_sample=self.z.sample,
            y_at=address_of(product.y_at),
            dz=dz.base,
            dz_sample=dz.sample,
            dz_at=address_of(dz_at),
            dx=0 if self.dsource is None else self.dsource.base,
            w=0 if self.dsource is None else address_of(self.w_runs),
            slabs=self.slabs,
            slab_at=address_of(slab_at),
            KH=KH,
            x_row=x.row * self.window.dilation[1],
            run_padded=self.run_padded,
            dw=address_of(self.dw),
            dw_thread=self.dw_layout["dw_thread"],
            db=address_of(self.db),
            db_thread=self.dw_layout["db_thread"],
            block=block,
            places=address_of(take(threads * listed, "int32")),
            values=address_of(take(threads * listed)),
            list_thread=listed,
            list_channel=channel,
            counts=address_of(take(threads * counts, "int32")),
            counts_thread=counts,
        )


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


def _sizes(pool: Layer | None) -> tuple[int, int, int]:
    """Return the window of a pooling over three axes."""
    window = () if pool is None else tuple(pool.config()["kernel_size"])
    front, top, left = (1,) * (3 - len(window)) + window
    return front, top, left

"""The step of a convolution and the max-pool behind it: see ``kernels.cpu.conv_max``."""

from collections.abc import Sequence
from math import ceil, prod
from typing import Any

import numpy as np

from tinyconv.engines.cpu.arena import NO_BORDER, Image
from tinyconv.engines.cpu.conv_dims import inside
from tinyconv.engines.cpu.conv_step import ConvStep, is_convolution, pool_sizes
from tinyconv.engines.cpu.program import Program
from tinyconv.engines.cpu.step import Context
from tinyconv.engines.cpu.tiling import compiled, even, lanes_for, rows_for
from tinyconv.engines.units import MAX, Unit
from tinyconv.kernels.cpu import conv, conv_max
from tinyconv.kernels.cpu.kernel import address_of
from tinyconv.kernels.cpu.simd import LANES, REGISTERS
from tinyconv.layers.base import Shape

__all__ = ["ConvMaxStep"]

Array = np.ndarray[Any, Any]

#: Bytes of input that a block of samples may have in the backward pass.
FIRST_CACHE = 32 << 10
#: Positions of a window that is joined: more of them find no registers.
POOLED = 9


class ConvMaxStep(ConvStep):
    """Convolution with a max-pool of windows side by side and an increasing activation."""

    dx_is_like_x = True

    def __init__(self, unit: Unit, shapes: Sequence[Shape], context: Context) -> None:
        super().__init__(unit, shapes, context)
        self.gradient_border, self.adds_gradients = NO_BORDER, False
        self._choose_runs()

    @staticmethod
    def accepts(unit: Unit) -> bool:
        return (
            is_convolution(unit)
            and unit.layers[0].config()["groups"] == 1
            and 1 < prod(pool_sizes(unit.find(MAX))) <= POOLED
        )

    def _bind_gradient(self, dy: Image) -> None:
        """Leave dz where dy is: its kernel makes dx, too."""

    def prepare(self, program: Program) -> None:
        super().prepare(program)
        if self.dsource is not None:
            self._pack_runs(program)

    def forward(self, program: Program) -> None:
        self.winners = self.context.arena.take(self.z.array.size, "uint8")
        super().forward(program)

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

    def _add_weight_gradient(self, program: Program, dz: Image) -> None:
        product, take, threads = self.product, self.context.arena.take, self.context.threads
        assert self.winners is not None
        x, O, KH = product.x, product.channels, self.window.kernel[1]
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

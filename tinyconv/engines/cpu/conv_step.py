"""The step of a convolution with its pooling and activation."""

from collections.abc import Sequence
from math import ceil, prod
from typing import Any

from tinyconv.engines.cpu.arena import Border, Image
from tinyconv.engines.cpu.program import Program
from tinyconv.engines.cpu.step import Context, Step, activation_of, rows_of
from tinyconv.engines.cpu.tiling import compiled, even, lanes_for, rows_for
from tinyconv.engines.units import BATCH_NORMS, Unit
from tinyconv.geometry import Geometry, sliding_window
from tinyconv.kernels.cpu import conv, pool
from tinyconv.kernels.cpu.kernel import address_of
from tinyconv.kernels.cpu.simd import LANES, REGISTERS
from tinyconv.layers import AvgPool1d, AvgPool2d, Conv1d, Conv2d, MaxPool1d, MaxPool2d
from tinyconv.layers.base import Shape

__all__ = ["ConvStep"]

#: Bytes of input that a block of samples may have in the backward pass.
FIRST_CACHE = 32 << 10


class ConvStep(Step):
    """Convolution, max-pool and activation."""

    def __init__(self, unit: Unit, shapes: Sequence[Shape], context: Context) -> None:
        super().__init__(unit, shapes, context)
        shape, layer = self.input_shape, unit.layers[0]
        assert isinstance(layer, Conv1d | Conv2d)
        self.layer = layer
        window = _over_two_axes(
            sliding_window(
                "plan", shape[1:], layer.kernel_size, layer.stride, layer.padding, layer.dilation
            )
        )
        pooling = unit.find((MaxPool2d,))
        self.PH, self.PW = pooling.kernel_size if isinstance(pooling, MaxPool2d) else (1, 1)
        self.is_pooled = isinstance(pooling, MaxPool2d)
        averaging = unit.find((AvgPool2d,))
        self.box = averaging.kernel_size if isinstance(averaging, AvgPool2d) else None
        rows, columns = window.padding
        self.border = ((0, 0), rows, columns)
        C, (KH, KW), O = shape[0], window.kernel, layer.out_channels
        self.window = window
        self.C, self.KH, self.KW, self.O = C, KH, KW, O
        self.taps, self.run = (1, KW * C) if window.dilation[1] == 1 else (KW, C)
        self.OH, self.OW = (1, *self.shape[1:])[-2:]
        # Forward: vectors of output channels.
        self.L = lanes_for(O)
        self.V = even(ceil(O / self.L), 4)
        self.w_row = ceil(O / (self.V * self.L)) * self.V * self.L
        # Backward: vectors of a run.
        self.LQ = lanes_for(self.run)
        vectors = ceil(self.run / self.LQ)
        self.VQ = even(vectors, (REGISTERS - 2) // 4)
        self.run_padded = ceil(vectors / self.VQ) * self.VQ * self.LQ
        self.spare = self.run_padded - self.run + LANES

    @staticmethod
    def accepts(unit: Unit) -> bool:
        layer: Any = unit.layers[0]
        if type(layer) not in (Conv1d, Conv2d) or unit.find((MaxPool1d, AvgPool1d, *BATCH_NORMS)):
            return False
        before = unit.layers[1:-1]  # a maximum is taken before the activation in front of it
        if any(chosen and not chosen.increases for chosen in map(activation_of, before)):
            return False
        highest, averaged = unit.find((MaxPool2d,)), unit.find((AvgPool2d,))
        return (
            layer.groups == 1
            and layer.padding_mode == "zeros"
            and (not isinstance(highest, MaxPool2d) or prod(highest.kernel_size) <= 9)
            and (not isinstance(averaged, AvgPool2d) or prod(averaged.kernel_size) <= 16)
        )

    def bind(self, x: Image, dx: Image | None, y: Image, dy: Image | None) -> None:
        super().bind(x, dx, y, dy)
        self.source, self.dsource = x, dx
        self.corner = x.corner(self.border)
        if self.box is None:
            return
        # What is convolved is the input's means, in a border that their gradient needs.
        PH, PW = self.box
        H, W = (n - k + 1 for n, k in zip(self.window.padded, self.box, strict=True))
        image = (self.C, H, W)
        border: Border = ((0, 0), (PH - 1, PH - 1), (PW - 1, PW - 1))
        arena, batch = self.context.arena, self.context.batch
        self.source = arena.image(batch, image, border, self.spare)
        self.dsource = None if dx is None else arena.image(batch, image, border, self.spare)
        self.corner = self.source.origin

    def _add_box(
        self,
        program: Program,
        name: str,
        x: int,
        source: Image,
        y: int,
        target: Image,
        rows: int,
        count: int,
    ) -> None:
        assert self.box is not None
        program.call(
            name,
            compiled(pool.box, LANES),
            pool.BOX,
            x=x,
            x_sample=source.sample,
            x_row=source.row,
            y=y,
            y_sample=target.sample,
            y_row=target.row,
            rows=rows,
            count=count * self.C,
            KH=self.box[0],
            KW=self.box[1],
            C=self.C,
        )

    @property
    def _offsets(self) -> dict[str, int]:
        """Distances in what is convolved."""
        source, (DH, DW) = self.source, self.window.dilation
        SH, SW = self.window.stride if self.box is None else self.box
        return {
            "x": self.corner,
            "x_sample": source.sample,
            "x_row": source.row * DH,
            "x_tap": source.C * DW,
            "x_down": source.row * SH,
            "x_along": source.C * SW,
        }

    @property
    def _sizes(self) -> dict[str, int]:
        return {
            "KH": self.KH,
            "taps": self.taps,
            "run": self.run,
            "O": self.O,
            "OH": self.OH,
            "OW": self.OW,
        }

    def prepare(self, program: Program) -> None:
        take = self.context.arena.take
        self.w = take(self.KH * self.KW * self.C * self.w_row)
        self.b = take(self.w_row)
        self.wd = take(self.O * self.taps * self.KH * self.run_padded)
        weight, bias = self.layer.params["weight"], self.layer.params.get("bias")
        program.call(
            f"{self.name}: pack",
            compiled(conv.pack),
            conv.PACK,
            items=self.O,
            weight=address_of(weight),
            bias=0 if bias is None else address_of(bias),
            w=address_of(self.w),
            w_row=self.w_row,
            b=address_of(self.b),
            wd=address_of(self.wd) if self.dx else 0,
            C=self.C,
            KH=self.KH,
            KW=self.KW,
            taps=self.taps,
            run_padded=self.run_padded,
        )

    def forward(self, program: Program) -> None:
        if self.box:
            self._add_box(
                program,
                f"{self.name}: means",
                self.x.corner(self.border),
                self.x,
                self.source.origin,
                self.source,
                self.source.H,
                self.source.W,
            )
        positions = self.PH * self.PW
        most = max(1, min(rows_for(self.V) // positions, 16 // positions or 1))
        N = even(self.OW, min(most, self.OW))
        kernel = compiled(
            conv.forward, self.L, self.V, self.PH, self.PW, N, self.activation.code, self.O
        )
        if self.is_pooled:
            self.winners = self.context.arena.take(self.y.array.size, "uint8")
        program.call(
            self.name,
            kernel,
            conv.FORWARD,
            **self._offsets,
            **self._sizes,
            w=address_of(self.w),
            b=address_of(self.b),
            z=self.z.origin,
            parameter=self.activation.parameter,
            **rows_of(self.y, "y"),
            winners=self._winners if self.is_pooled else 0,
        )

    @property
    def _winners(self) -> int:
        return address_of(self.winners) + (self.y.origin - self.y.base) // 4

    def backward(self, program: Program) -> None:
        assert self.dy is not None
        context, take = self.context, self.context.arena.take
        sample_bytes = 4 * self.source.sample
        block = max(1, min(16, FIRST_CACHE // sample_bytes))
        self.db_thread = self.w_row + 16
        values: dict[str, Any] = {
            **self._offsets,
            **self._sizes,
            "wd": address_of(self.wd),
            "block": block,
            "run_padded": self.run_padded,
            **rows_of(self.z, "y"),
            "parameter": self.activation.parameter,
            **rows_of(self.dy, "dy"),
            "dx": self.corner - self.source.base + self.dsource.base if self.dsource else 0,
        }
        has_dx = self.dx is not None
        if self.is_pooled:
            groups = ceil(self.KH / rows_for(self.VQ, self.KH))
            R = ceil(self.KH / groups)
            rest = self.KH % R or R
            is_small = R == self.KH and self.taps == 1 and R * self.VQ <= 8
            if is_small and not has_dx and self.run_padded == self.VQ * self.LQ:
                kernel = compiled(
                    conv.small_max_backward,
                    *(self.LQ, self.VQ, R, self.PH, self.PW, self.activation.code),
                )
            else:
                kernel = compiled(
                    conv.max_backward,
                    *(self.LQ, self.VQ, R, rest, self.PH, self.PW, self.activation.code, has_dx),
                )
            channel = block * self.OH * self.OW + 1
            listed = max(self.O * channel, self.PH * self.PW * self.O) + 16
            counts = max(self.O, self.PH * self.PW) + 16
            self.dw_thread = self.O * self.taps * self.KH * self.run_padded
            self.dw_strides = {
                "dw_channel": self.taps * self.KH * self.run_padded,
                "dw_tap": self.KH * self.run_padded,
                "dw_kh": self.run_padded,
                "dw_q": 1,
            }
            T = context.threads
            values |= {
                "winners": self._winners,
                "positions": address_of(take(T * listed, "int32")),
                "values": address_of(take(T * listed)),
                "list_thread": listed,
                "list_channel": channel,
                "counts": address_of(take(T * counts, "int32")),
                "counts_thread": counts,
            }
        else:
            RQ = even(self.run, rows_for(self.V))
            RP = even(self.OW, rows_for(self.VQ))
            kernel = compiled(
                conv.dense_backward,
                self.L,
                self.V,
                RQ,
                self.LQ,
                self.VQ,
                RP,
                self.activation.code,
                has_dx,
            )
            rows = ceil(self.run / RQ) * RQ
            self.dw_thread = self.KH * self.taps * rows * self.w_row
            self.dw_strides = {
                "dw_channel": 1,
                "dw_q": self.w_row,
                "dw_tap": rows * self.w_row,
                "dw_kh": self.taps * rows * self.w_row,
            }
            values |= {"dw_rows": rows, "dw_row": self.w_row}
        self.dw = take(context.threads * self.dw_thread)
        self.db = take(context.threads * self.db_thread)
        program.call(
            f"{self.name}: backward",
            kernel,
            conv.BACKWARD,
            **values,
            dw=address_of(self.dw),
            dw_thread=self.dw_thread,
            db=address_of(self.db),
            db_thread=self.db_thread,
        )
        if self.box and self.dx and self.dsource:
            _, (top, _), (left, _) = self.border
            self._add_box(
                program,
                f"{self.name}: means backward",
                self.dsource.base + 4 * (top * self.dsource.row + left * self.C),
                self.dsource,
                self.dx.origin,
                self.dx,
                self.x.H,
                self.x.W,
            )

    def update(self, program: Program) -> None:
        context = self.context
        size = self.C * self.KH * self.KW
        room = max(size, self.O) + 16
        weight, bias = self.layer.params["weight"], self.layer.params.get("bias")
        program.call(
            f"{self.name}: update",
            compiled(conv.update),
            conv.UPDATE,
            items=self.O,
            dw=address_of(self.dw),
            dw_thread=self.dw_thread,
            **self.dw_strides,
            db=address_of(self.db),
            db_thread=self.db_thread,
            threads=context.threads,
            sum=address_of(context.arena.take(context.threads * room)),
            sum_thread=room,
            C=self.C,
            KH=self.KH,
            KW=self.KW,
            taps=self.taps,
            size=size,
            function=context.rule[0],
            function_args=context.rule[1],
            weight_start=context.place(weight),
            bias_start=-1 if bias is None else context.place(bias),
        )


def _over_two_axes(window: Geometry) -> Geometry:
    """Return a window over (L,) as one over (1, L)."""
    if len(window.size) == 2:
        return window
    return Geometry(
        size=(1, *window.size),
        kernel=(1, *window.kernel),
        stride=(1, *window.stride),
        padding=((0, 0), *window.padding),
        dilation=(1, *window.dilation),
        output=(1, *window.output),
    )

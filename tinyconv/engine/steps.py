"""How each kind of unit becomes calls of kernels: forward, backward, update.

A step knows its buffers and appends its calls to a program. Three methods, always in this order:
``forward`` for every step from the first to the last, ``backward`` from the last to the first,
``update`` for all.
"""

from math import ceil, prod
from typing import Any

import numpy as np

from tinyconv.backend import Array
from tinyconv.engine import kernels
from tinyconv.engine.arena import Arena, Image
from tinyconv.engine.fusion import ACTIVATIONS, Unit
from tinyconv.engine.program import Program
from tinyconv.geometry import Geometry, sliding_window
from tinyconv.kernels.cpu import activation, batch, conv, linear, pool, update
from tinyconv.kernels.cpu.kernel import address_of
from tinyconv.kernels.cpu.simd import LANES, REGISTERS
from tinyconv.kernels.cpu.threads import single_blas_thread
from tinyconv.layers import AvgPool2d, Conv2d, Dropout, Linear, MaxPool2d

__all__ = ["STEPS", "Context", "Step"]

ACTIVATION_CODES = {
    "ReLU": activation.Activation.RELU,
    "Sigmoid": activation.Activation.SIGMOID,
    "Tanh": activation.Activation.TANH,
}

#: Bytes of a weight from which on threads share its rows rather than the samples.
SHARED_WEIGHT = 1 << 20
#: Bytes of input that a block of samples may have in the backward pass of a convolution, and of
#: gradient that a block of rows may have in the update of a linear layer.
FIRST_CACHE = 32 << 10
SECOND_CACHE = 256 << 10


class Context:
    """What the steps of a plan share.

    Attributes:
        batch: samples at most.
        threads: threads that share the work.
        training: whether there is a backward pass.
        arena: the memory.
        n: int64 array of one, the samples of the running batch.
        flat: all parameters.
        flat_grad: all gradients, filled for layers without kernels only.
        starts: id of a parameter's array -> its place in ``flat``.
        rule: (address, address of arguments) of the optimizer's kernel.
    """

    def __init__(
        self, batch: int, threads: int, training: bool, flat: Array, flat_grad: Array
    ) -> None:
        self.batch = batch
        self.threads = threads
        self.training = training
        self.arena = Arena()
        self.n = np.zeros(1, np.int64)
        self.step = 0
        self.flat = flat
        self.flat_grad = flat_grad
        self.rule = (0, 0)

    def place(self, parameter: Array) -> int:
        """Return where a parameter begins in the flat vector."""
        return (address_of(parameter) - address_of(self.flat)) // 4


class Step:
    """A unit with its buffers.

    Attributes:
        shape: of one output, channels first.
        y: the output.
        dy: where the gradient of the output will be; None in a plan without training.
    """

    #: What the input's buffer must have for this step: a border of zeros and spare numbers.
    border: tuple[int, int, int, int] = (0, 0, 0, 0)
    spare = 0

    def __init__(self, unit: Unit, shape: tuple[int, ...], context: Context) -> None:
        self.unit = unit
        self.input_shape = shape
        self.context = context
        self.shape = shape
        for layer in unit.layers:
            self.shape = layer.output_shape(self.shape)
        self.name = f"{unit.layers[0].path} {unit}"

    def bind(self, x: Image, dx: Image | None, y: Image, dy: Image | None) -> None:
        """Take the buffers: of the input, its gradient if anybody wants it, and the output."""
        self.x, self.dx, self.y, self.dy = x, dx, y, dy

    def prepare(self, program: Program) -> None:
        """Add what comes before all forward passes: packing of weights."""

    def forward(self, program: Program) -> None:
        """Add the calls that make y from x."""

    def backward(self, program: Program) -> None:
        """Add the calls that make dx from dy."""

    def update(self, program: Program) -> None:
        """Add the calls that make the gradients of the parameters and apply them."""

    def start(self, step: int) -> None:
        """Set what depends on the number of the training step."""

    @property
    def _activation(self) -> int:
        layer = self.unit.find(ACTIVATIONS)
        return 0 if layer is None else int(ACTIVATION_CODES[type(layer).__name__])


def _rows_of(image: Image, prefix: str) -> dict[str, int]:
    """The arguments that describe the inside of a buffer."""
    return {prefix: image.origin, f"{prefix}_sample": image.sample, f"{prefix}_row": image.row}


class ConvStep(Step):
    """Convolution, max-pool and activation."""

    def __init__(self, unit: Unit, shape: tuple[int, ...], context: Context) -> None:
        super().__init__(unit, shape, context)
        layer = unit.layers[0]
        assert isinstance(layer, Conv2d)
        self.layer = layer
        window: Geometry = sliding_window(
            "Conv2d", shape[1:], layer.kernel_size, layer.stride, layer.padding, layer.dilation
        )
        pooling = unit.find((MaxPool2d,))
        self.PH, self.PW = pooling.kernel_size if isinstance(pooling, MaxPool2d) else (1, 1)
        self.is_pooled = isinstance(pooling, MaxPool2d)
        averaging = unit.find((AvgPool2d,))
        self.box = averaging.kernel_size if isinstance(averaging, AvgPool2d) else None
        (top, bottom), (left, right) = window.padding
        self.border = (top, bottom, left, right)
        C, (KH, KW), O = shape[0], window.kernel, layer.out_channels
        self.window = window
        self.C, self.KH, self.KW, self.O = C, KH, KW, O
        self.taps, self.run = (1, KW * C) if window.dilation[1] == 1 else (KW, C)
        _, self.OH, self.OW = self.shape
        # Forward: vectors of output channels.
        self.L = kernels.lanes_for(O)
        self.V = kernels.even(ceil(O / self.L), 4)
        self.w_row = ceil(O / (self.V * self.L)) * self.V * self.L
        # Backward: vectors of a run.
        self.LQ = kernels.lanes_for(self.run)
        vectors = ceil(self.run / self.LQ)
        self.VQ = kernels.even(vectors, (REGISTERS - 2) // 4)
        self.run_padded = ceil(vectors / self.VQ) * self.VQ * self.LQ
        self.spare = self.run_padded - self.run + LANES

    def bind(self, x: Image, dx: Image | None, y: Image, dy: Image | None) -> None:
        super().bind(x, dx, y, dy)
        self.source, self.dsource = x, dx
        self.corner = x.base
        if self.box is None:
            return
        # What is convolved is the input's means, in a border that their gradient needs.
        PH, PW = self.box
        H, W = (n - k + 1 for n, k in zip(self.window.padded, self.box, strict=True))
        image, border = (self.C, H, W), (PH - 1, PH - 1, PW - 1, PW - 1)
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
            kernels.get("pool.box", LANES),
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
            kernels.get("conv.pack"),
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
                self.x.base,
                self.x,
                self.source.origin,
                self.source,
                self.source.H,
                self.source.W,
            )
        positions = self.PH * self.PW
        most = max(1, min(kernels.rows_for(self.V) // positions, 16 // positions or 1))
        N = kernels.even(self.OW, min(most, self.OW))
        kernel = kernels.get(
            "conv.forward", self.L, self.V, self.PH, self.PW, N, self._activation, self.O
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
            **_rows_of(self.y, "y"),
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
        values: dict[str, int] = {
            **self._offsets,
            **self._sizes,
            "wd": address_of(self.wd),
            "block": block,
            "run_padded": self.run_padded,
            **_rows_of(self.y, "y"),
            **_rows_of(self.dy, "dy"),
            "dx": self.corner - self.source.base + self.dsource.base if self.dsource else 0,
        }
        has_dx = self.dx is not None
        if self.is_pooled:
            groups = ceil(self.KH / kernels.rows_for(self.VQ, self.KH))
            R = ceil(self.KH / groups)
            rest = self.KH % R or R
            kernel = kernels.get(
                "conv.max_backward",
                self.LQ,
                self.VQ,
                R,
                rest,
                self.PH,
                self.PW,
                self._activation,
                has_dx,
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
            RQ = kernels.even(self.run, kernels.rows_for(self.V))
            RP = kernels.even(self.OW, kernels.rows_for(self.VQ))
            kernel = kernels.get(
                "conv.dense_backward",
                self.L,
                self.V,
                RQ,
                self.LQ,
                self.VQ,
                RP,
                self._activation,
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
            first = 4 * (self.x.top * self.dsource.row + self.x.left * self.C)
            self._add_box(
                program,
                f"{self.name}: means backward",
                self.dsource.base + first,
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
            kernels.get("conv.update"),
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


class LinearStep(Step):
    """The fully connected layer and its activation."""

    def __init__(self, unit: Unit, shape: tuple[int, ...], context: Context) -> None:
        super().__init__(unit, shape, context)
        layer = unit.layers[0]
        assert isinstance(layer, Linear)
        self.layer = layer
        (self.I,), self.O = shape, layer.out_features
        self.by_features = 4 * self.I * self.O > SHARED_WEIGHT
        # Input columns of dx and dw: the vectors must not reach beyond a row.
        self.L = LANES
        while self.L > self.I:
            self.L //= 2
        self.V = min(4 if REGISTERS >= 32 else 2, self.I // self.L)
        self.R = min(kernels.rows_for(self.V), 6)

    def forward(self, program: Program) -> None:
        Q = min(4, self.O)
        R = min(6, (REGISTERS - 2 - Q) // Q)
        L = kernels.lanes_for(self.I)
        kernel = kernels.get("linear.forward", L, R, Q, self.O % Q or Q, self._activation)
        bias = self.layer.params.get("bias")
        if self.by_features:
            program.meet()
        program.call(
            self.name,
            kernel,
            linear.FORWARD,
            items=self.O if self.by_features else 0,
            grain=4 * Q,
            x=self.x.origin,
            x_sample=self.x.sample,
            w=address_of(self.layer.params["weight"]),
            b=0 if bias is None else address_of(bias),
            y=self.y.origin,
            y_sample=self.y.sample,
            I=self.I,
            O=self.O,
            n=address_of(self.context.n),
            by_features=self.by_features,
        )

    def backward(self, program: Program) -> None:
        assert self.dy is not None
        if self._activation:
            program.call(
                f"{self.name}: activation backward",
                kernels.get("activation.backward", LANES, self._activation),
                activation.ROWS,
                **_rows_of(self.y, "y"),
                **_rows_of(self.dy, "dy"),
                **_rows_of(self.dy, "dx"),
                rows=1,
                count=self.O,
            )
        if self.dx is None:
            return
        if self.by_features:
            program.meet()
        program.call(
            f"{self.name}: backward",
            kernels.get("linear.backward", self.L, self.R, self.V),
            linear.BACKWARD,
            items=self.I if self.by_features else 0,
            grain=self.V * self.L,
            dy=self.dy.origin,
            dy_sample=self.dy.sample,
            w=address_of(self.layer.params["weight"]),
            dx=self.dx.origin,
            dx_sample=self.dx.sample,
            I=self.I,
            O=self.O,
            n=address_of(self.context.n),
            by_features=self.by_features,
        )

    def update(self, program: Program) -> None:
        assert self.dy is not None
        context = self.context
        block = max(self.R, SECOND_CACHE // (4 * self.I) // self.R * self.R)
        block = min(block, ceil(self.O / self.R) * self.R)
        room = max(block * self.I, LANES) + 16 * self.I
        bias = self.layer.params.get("bias")
        program.call(
            f"{self.name}: update",
            kernels.get("linear.update", self.L, self.R, self.V),
            linear.UPDATE,
            items=self.O,
            grain=self.R,
            dy=self.dy.origin,
            dy_sample=self.dy.sample,
            x=self.x.origin,
            x_sample=self.x.sample,
            I=self.I,
            n=address_of(context.n),
            sum=address_of(context.arena.take(context.threads * room)),
            sum_thread=room,
            block=block,
            function=context.rule[0],
            function_args=context.rule[1],
            weight_start=context.place(self.layer.params["weight"]),
            bias_start=-1 if bias is None else context.place(bias),
        )


class PoolStep(Step):
    """A pooling by itself."""

    def __init__(self, unit: Unit, shape: tuple[int, ...], context: Context) -> None:
        super().__init__(unit, shape, context)
        (layer,) = unit.layers
        self.kind = {"MaxPool2d": "max", "AvgPool2d": "avg", "L2Pool2d": "l2"}[type(layer).__name__]
        self.layer: Any = layer

    def _arguments(self) -> dict[str, int]:
        C, H, W = self.input_shape
        (KH, KW), (SH, SW), (PH, PW) = (
            self.layer.kernel_size,
            self.layer.stride,
            self.layer.padding,
        )
        values = {
            **_rows_of(self.x, "x"),
            **_rows_of(self.y, "y"),
            "C": C,
            "H": H,
            "W": W,
            "KH": KH,
            "KW": KW,
            "SH": SH,
            "SW": SW,
            "PH": PH,
            "PW": PW,
            "OH": self.shape[1],
            "OW": self.shape[2],
            "is_covered": SH <= KH
            and SW <= KW
            and self.shape[1] * SH >= H + PH - (KH - SH)
            and self.shape[2] * SW >= W + PW - (KW - SW),
        }
        if self.kind == "max":
            values["winners"] = address_of(self.winners) + (self.y.origin - self.y.base) // 4
        return values

    def forward(self, program: Program) -> None:
        if self.kind == "max":
            self.winners = self.context.arena.take(self.y.array.size, "uint8")
        name = "pool.max_" if self.kind == "max" else f"pool.{self.kind}"
        program.call(self.name, kernels.get(name, LANES), pool.ARGS, **self._arguments())

    def backward(self, program: Program) -> None:
        if self.dx is None:
            return
        assert self.dy is not None
        constants = [LANES]
        if self.kind != "max":
            stride, window = self.layer.stride, self.layer.kernel_size
            constants.append(any(s < k for s, k in zip(stride, window, strict=True)))
        program.call(
            f"{self.name}: backward",
            kernels.get(f"pool.{self.kind}_backward", *constants),
            pool.ARGS,
            **self._arguments(),
            **_rows_of(self.dx, "dx"),
            **_rows_of(self.dy, "dy"),
        )


class ActivationStep(Step):
    """An activation that no other step took in."""

    def _arguments(self) -> dict[str, int]:
        return {"rows": self.x.H, "count": self.x.W * self.x.C, **_rows_of(self.y, "y")}

    def forward(self, program: Program) -> None:
        kernel = kernels.get("activation.forward", LANES, self._activation)
        program.call(
            self.name, kernel, activation.ROWS, **self._arguments(), **_rows_of(self.x, "x")
        )

    def backward(self, program: Program) -> None:
        if self.dx is None:
            return
        assert self.dy is not None
        program.call(
            f"{self.name}: backward",
            kernels.get("activation.backward", LANES, self._activation),
            activation.ROWS,
            **self._arguments(),
            **_rows_of(self.dx, "dx"),
            **_rows_of(self.dy, "dy"),
        )


class DropoutStep(Step):
    """Dropout in training; it makes no step in prediction."""

    def __init__(self, unit: Unit, shape: tuple[int, ...], context: Context) -> None:
        super().__init__(unit, shape, context)
        (layer,) = unit.layers
        assert isinstance(layer, Dropout)
        self.layer = layer
        self.key = np.zeros(1, np.uint64)

    def start(self, step: int) -> None:
        self.key[0] = self.layer.mask_key(step)

    def _arguments(self) -> dict[str, int]:
        C, H, W = self.x.C, self.x.H, self.x.W
        return {
            "C": C,
            "H": H,
            "W": W,
            "factor": address_of(self.factor),
            "factor_sample": prod(self.shape),
        }

    def forward(self, program: Program) -> None:
        self.factor = self.context.arena.take(self.context.batch * prod(self.shape))
        # uniform >= p, with both sides multiplied by 2**24, which is exact
        least = ceil(float(np.float32(self.layer.p)) * 2**24)
        program.call(
            self.name,
            kernels.get("batch.dropout"),
            batch.DROPOUT,
            **self._arguments(),
            **_rows_of(self.x, "x"),
            **_rows_of(self.y, "y"),
            key=address_of(self.key),
            least=least,
            scale=1 / (1 - self.layer.p),
        )

    def backward(self, program: Program) -> None:
        if self.dx is None:
            return
        assert self.dy is not None
        program.call(
            f"{self.name}: backward",
            kernels.get("batch.multiply"),
            batch.DROPOUT,
            **self._arguments(),
            **_rows_of(self.dy, "x"),
            **_rows_of(self.dx, "y"),
        )


class FlattenStep(Step):
    """Images to rows; nothing to do where the numbers lie in that order already."""

    def _arguments(self, image: Image, rows: Image) -> dict[str, int]:
        return {
            **_rows_of(image, "image"),
            "rows": rows.origin,
            "rows_sample": rows.sample,
            "C": image.C,
            "H": image.H,
            "W": image.W,
        }

    def forward(self, program: Program) -> None:
        if self.x.flattened() is not None:
            return
        program.call(
            self.name,
            kernels.get("batch.flatten", LANES),
            batch.IMAGE,
            **self._arguments(self.x, self.y),
        )

    def backward(self, program: Program) -> None:
        if self.dx is None or self.x.flattened() is not None:
            return
        assert self.dy is not None
        program.call(
            f"{self.name}: backward",
            kernels.get("batch.flatten_backward", LANES),
            batch.IMAGE,
            **self._arguments(self.dx, self.dy),
        )


class PlainStep(Step):
    """A layer without a kernel: its own forward and backward, on copies."""

    def __init__(self, unit: Unit, shape: tuple[int, ...], context: Context) -> None:
        super().__init__(unit, shape, context)
        (self.layer,) = unit.layers

    def forward(self, program: Program) -> None:
        def run(n: int) -> None:
            x = np.ascontiguousarray(self.x.channels_first(n)).reshape(n, *self.input_shape)
            with single_blas_thread():
                y = self.layer.forward(x, self.context.training, self.context.step)
            out = self.y.channels_first(n)
            out[...] = y.reshape(out.shape)

        program.python(self.name, run)

    def backward(self, program: Program) -> None:
        if self.dy is None:  # neither this layer nor one before it is trained
            return

        def run(n: int) -> None:
            assert self.dy is not None
            dy = np.ascontiguousarray(self.dy.channels_first(n)).reshape(n, *self.shape)
            with single_blas_thread():
                dx = self.layer.backward(dy)
            if self.dx is not None:
                out = self.dx.channels_first(n)
                out[...] = dx.reshape(out.shape)

        program.python(f"{self.name}: backward", run)

    def update(self, program: Program) -> None:
        for name, parameter in self.layer.params.items():
            program.call(
                f"{self.name}: update",
                kernels.get("update.flat"),
                update.FLAT,
                items=parameter.size,
                grain=LANES,
                dw=address_of(self.layer.grads[name]),
                start=self.context.place(parameter),
                function=self.context.rule[0],
                function_args=self.context.rule[1],
            )


STEPS: dict[str, type[Step]] = {
    "conv": ConvStep,
    "linear": LinearStep,
    "pool": PoolStep,
    "activation": ActivationStep,
    "dropout": DropoutStep,
    "flatten": FlattenStep,
    "plain": PlainStep,
}

"""Which step computes which kind of unit, and the steps that are short."""

from math import ceil, prod
from typing import Any

import numpy as np

from tinyconv.engine import kernels
from tinyconv.engine.arena import Image
from tinyconv.engine.conv_step import ConvStep
from tinyconv.engine.fusion import Unit
from tinyconv.engine.linear_step import LinearStep
from tinyconv.engine.program import Program
from tinyconv.engine.step import Context, Step, rows_of
from tinyconv.kernels.cpu import activation, batch, pool, update
from tinyconv.kernels.cpu.kernel import address_of
from tinyconv.kernels.cpu.simd import LANES
from tinyconv.kernels.cpu.threads import single_blas_thread
from tinyconv.layers import Dropout

__all__ = ["STEPS"]


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
            **rows_of(self.x, "x"),
            **rows_of(self.y, "y"),
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
            **rows_of(self.dx, "dx"),
            **rows_of(self.dy, "dy"),
        )


class ActivationStep(Step):
    """An activation that no other step took in."""

    def bind(self, x: Image, dx: Image | None, y: Image, dy: Image | None) -> None:
        self.x, self.dx, self.y, self.dy, self.z = x, dx, y, dy, x

    def _arguments(self) -> dict[str, Any]:
        return {
            "rows": self.x.H,
            "count": self.x.W * self.x.C,
            "parameter": self.activation.parameter,
        }

    def forward(self, program: Program) -> None:
        program.call(
            self.name,
            kernels.get("activation.forward", LANES, self.activation.code),
            activation.ROWS,
            **self._arguments(),
            **rows_of(self.x, "x"),
            **rows_of(self.y, "y"),
        )

    def backward(self, program: Program) -> None:
        if self.dx is None:
            return
        assert self.dy is not None
        program.call(
            f"{self.name}: backward",
            kernels.get("activation.backward", LANES, self.activation.code),
            activation.ROWS,
            **self._arguments(),
            **rows_of(self.x if self.activation.needs_z else self.y, "v"),
            **rows_of(self.dx, "dx"),
            **rows_of(self.dy, "dy"),
        )


class DropoutStep(Step):
    """Dropout; in prediction, where it drops nothing, a factor for all."""

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
        kept, in_prediction = self.layer.scales
        size = self.context.batch * prod(self.shape)
        if not self.context.training:
            self.factor = np.full(size, in_prediction, np.float32)
            self._add_product(program, self.name, self.x, self.y)
            return
        self.factor = self.context.arena.take(size)
        # uniform >= p, with both sides multiplied by 2**24, which is exact
        least = ceil(float(np.float32(self.layer.p)) * 2**24)
        program.call(
            self.name,
            kernels.get("batch.dropout"),
            batch.DROPOUT,
            **self._arguments(),
            **rows_of(self.x, "x"),
            **rows_of(self.y, "y"),
            key=address_of(self.key),
            least=least,
            scale=kept,
        )

    def backward(self, program: Program) -> None:
        if self.dx is None:
            return
        assert self.dy is not None
        self._add_product(program, f"{self.name}: backward", self.dy, self.dx)

    def _add_product(self, program: Program, name: str, x: Image, y: Image) -> None:
        program.call(
            name,
            kernels.get("batch.multiply"),
            batch.DROPOUT,
            **self._arguments(),
            **rows_of(x, "x"),
            **rows_of(y, "y"),
        )


class FlattenStep(Step):
    """Images to rows; nothing to do where the numbers lie in that order already."""

    def _arguments(self, image: Image, rows: Image) -> dict[str, int]:
        return {
            **rows_of(image, "image"),
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

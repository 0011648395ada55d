"""The step of a fully connected layer with its activation."""

from collections.abc import Sequence
from math import ceil

from tinyconv.engines.cpu.epilogue import add_activation_backward, add_fold
from tinyconv.engines.cpu.program import Program
from tinyconv.engines.cpu.step import Context, Step
from tinyconv.engines.cpu.tiling import compiled, lanes_for, rows_for
from tinyconv.engines.units import Unit
from tinyconv.kernels.cpu import linear
from tinyconv.kernels.cpu.kernel import address_of
from tinyconv.kernels.cpu.simd import LANES, REGISTERS
from tinyconv.layers import Linear
from tinyconv.layers.base import Shape

__all__ = ["LinearStep"]

#: Bytes of a weight from which on threads share its rows rather than the samples.
SHARED_WEIGHT = 1 << 20
#: Bytes of gradient that a block of rows may have in the update.
SECOND_CACHE = 256 << 10


class LinearStep(Step):
    """The fully connected layer and its activation."""

    def __init__(self, unit: Unit, shapes: Sequence[Shape], context: Context) -> None:
        super().__init__(unit, shapes, context)
        layer = unit.layers[0]
        assert isinstance(layer, Linear)
        self.layer = layer
        (self.I,), self.O = self.input_shape, layer.out_features
        self.by_features = 4 * self.I * self.O > SHARED_WEIGHT
        # Input columns of dx and dw: the vectors must not reach beyond a row.
        self.L = LANES
        while self.L > self.I:
            self.L //= 2
        self.V = min(4 if REGISTERS >= 32 else 2, self.I // self.L)
        self.R = min(rows_for(self.V), 6)

    def prepare(self, program: Program) -> None:
        self.weight, self.bias = add_fold(self, program)

    def forward(self, program: Program) -> None:
        Q = min(4, self.O)
        R = min(6, (REGISTERS - 2 - Q) // Q)
        L = lanes_for(self.I)
        kernel = compiled(linear.forward, L, R, Q, self.O % Q or Q, self.activation.code)
        bias = self.bias
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
            w=address_of(self.weight),
            b=0 if bias is None else address_of(bias),
            z=self.z.origin,
            y=self.y.origin,
            y_sample=self.y.sample,
            parameter=self.activation.parameter,
            I=self.I,
            O=self.O,
            n=address_of(self.context.n),
            by_features=self.by_features,
        )

    def backward(self, program: Program) -> None:
        assert self.dy is not None
        if self.activation.code:
            add_activation_backward(self, program, self.dy)
        if self.dx is None:
            return
        if self.by_features:
            program.meet()
        program.call(
            f"{self.name}: backward",
            compiled(linear.backward, self.L, self.R, self.V),
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
            compiled(linear.update, self.L, self.R, self.V),
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

"""The steps of convolution and of the fully connected layer, with their activations."""

from collections.abc import Sequence
from math import prod

import numpy as np

from tinyconv.engines.gpu.program import BATCH, Program, blocks
from tinyconv.engines.gpu.step import Buffer, Context, Product, Step, activation_of
from tinyconv.engines.units import AVG, BATCH_NORMS, MAX, Unit
from tinyconv.geometry import Geometry
from tinyconv.kernels.gpu.activations import IDENTITY
from tinyconv.layers.base import Shape

__all__ = ["ConvStep", "LinearStep", "window_sizes"]


def window_sizes(window: Geometry) -> dict[str, int]:
    """Return the macros of a window over one, two or three axes, as one over three."""
    values = {
        "": (window.size, 1),
        "O": (window.output, 1),
        "K": (window.kernel, 1),
        "S": (window.stride, 1),
        "L": (window.dilation, 1),
        "P": (tuple(before for before, _ in window.padding), 0),
    }
    sizes: dict[str, int] = {}
    for prefix, (along, fill) in values.items():
        filled = (fill,) * (3 - len(along)) + tuple(along)
        sizes |= {f"{prefix}{axis}": n for axis, n in zip("DHW", filled, strict=True)}
    return sizes


class ConvStep(Step):
    """The convolution, its activation, and a max-pool before or behind that.

    Attributes:
        window: of the convolution.
        pool: macros of the max-pool, None without one.
        u, du: what the convolution makes, and its gradient: y and dy where there is no max-pool.
    """

    def __init__(self, unit: Unit, shapes: Sequence[Shape], context: Context) -> None:
        super().__init__(unit, shapes, context)
        C, *size = self.input_shape
        layer, pool = self.layer, unit.find(MAX)
        self.window, self.pool = layer._window(tuple(size)), None
        self.O, self.positions = layer.out_channels, prod(self.window.output)
        if pool is not None:
            window = pool.window(self.window.output)  # type: ignore[attr-defined]
            self.pool = {"PLANES": self.O, **window_sizes(window)}
            self.pool["ACTIVATION"] = self.activation.code
        self.own = IDENTITY if self.pool else self.activation
        self.sizes = {
            "C": C,
            "O": self.O,
            "GROUPS": layer.groups,
            **window_sizes(self.window),
            "ACTIVATION": self.own.code,
        }

    @staticmethod
    def accepts(unit: Unit) -> bool:
        takes = unit.find((*AVG, *BATCH_NORMS)) is None
        takes = takes and unit.layers[0].padding_mode == "zeros"  # type: ignore[attr-defined]
        # Only what increases may change places with a maximum.
        swaps = len(unit.layers) == 3 and type(unit.layers[2]) in MAX
        chosen = activation_of(unit.layers[1]) if swaps else IDENTITY
        return takes and chosen is not None and chosen.increases

    def connect(
        self, xs: Sequence[Buffer], dxs: Sequence[Buffer | None], y: Buffer, dy: Buffer | None
    ) -> None:
        super().connect(xs, dxs, y, dy)
        self.u, self.du = self.y, self.dy
        if self.pool is not None:
            context, batch = self.context, self.context.batch
            self.u = context.empty(batch, self.O, *self.window.output)
            self.argmax = context.empty(batch, *self.shape, dtype=np.int32)
            self.du = None if dy is None else context.empty(*self.u.shape)

    def forward(self, program: Program) -> None:
        C, O, G = self.input_shape[0], self.O, self.layer.groups
        weight, bias = self.layer.params["weight"], self.layer.params.get("bias")
        terms, count = C // G * prod(self.window.kernel), self.context.batch * O * self.positions
        product = Product(self.context, O // G, self.positions, terms, count, G)
        z = None if self.pool else self.z
        program.call(
            self.name,
            "conv",
            self.sizes,
            "conv_forward",
            product.grid,
            *(self.x, weight, bias, z, self.u, product.scratch, self.parameter, BATCH),
        )
        product.add_outputs(program, self.name, O, self.positions, bias, z, self.u, self.own)
        if self.pool is not None:
            arguments = (self.u, self.z, self.y, self.argmax, self.parameter, BATCH)
            grid, name = blocks(prod(self.shape)), f"{self.name}: pool"
            program.call(name, "pool", self.pool, "pool_max", grid, *arguments)

    def backward(self, program: Program) -> None:
        C, O, G = self.input_shape[0], self.O, self.layer.groups
        taps, inputs, context = prod(self.window.kernel), prod(self.window.size), self.context
        name, params, grads = f"{self.name}: backward", self.layer.params, self.layer.grads
        v = self.v
        if self.pool is not None:
            arguments = (self.dy, self.v, self.argmax, self.du, self.parameter, BATCH)
            grid, v = blocks(O * self.positions), self.u
            program.call(name, "pool", self.pool, "pool_max_backward", grid, *arguments)
        columns = C // G * taps + 1
        product = Product(context, O // G, columns, self.positions, O * columns, G, of_batch="K")
        dw, db = grads["weight"], grads.get("bias")
        program.call(
            name,
            "conv",
            self.sizes,
            "conv_weights",
            product.grid,
            *(self.du, v, self.x, dw, db, product.scratch, self.parameter, BATCH),
        )
        product.add_weights(program, name, dw, db, O)
        if self.dx is None:
            return
        count = context.batch * prod(self.input_shape)
        product = Product(context, C // G, inputs, O // G * taps, count, G)
        program.call(
            name,
            "conv",
            self.sizes,
            "conv_backward",
            product.grid,
            *(self.du, v, params["weight"], self.dx, product.scratch, self.parameter, BATCH),
        )
        product.add_outputs(program, name, C, inputs, None, None, self.dx)


class LinearStep(Step):
    """The fully connected layer and its activation."""

    def __init__(self, unit: Unit, shapes: Sequence[Shape], context: Context) -> None:
        super().__init__(unit, shapes, context)
        (self.I,), (self.O,) = self.input_shape, self.shape
        self.sizes = {"I": self.I, "O": self.O, "ACTIVATION": self.activation.code}

    @staticmethod
    def accepts(unit: Unit) -> bool:
        return unit.find(BATCH_NORMS) is None

    def forward(self, program: Program) -> None:
        weight, bias = self.layer.params["weight"], self.layer.params.get("bias")
        product = Product(self.context, self.O, 1, self.I, self.context.batch * self.O)
        program.call(
            self.name,
            "linear",
            self.sizes,
            "linear_forward",
            product.grid,
            *(self.x, weight, bias, self.z, self.y, product.scratch, self.parameter, BATCH),
        )
        product.add_outputs(program, self.name, self.O, 1, bias, self.z, self.y, self.activation)

    def backward(self, program: Program) -> None:
        context, I, O = self.context, self.I, self.O
        name, params, grads = f"{self.name}: backward", self.layer.params, self.layer.grads
        product = Product(context, O, I + 1, 1, O * (I + 1), of_batch="K")
        dw, db = grads["weight"], grads.get("bias")
        program.call(
            name,
            "linear",
            self.sizes,
            "linear_weights",
            product.grid,
            *(self.dy, self.v, self.x, dw, db, product.scratch, self.parameter, BATCH),
        )
        product.add_weights(program, name, dw, db, O)
        if self.dx is None:
            return
        product = Product(context, 1, I, O, context.batch * I, of_batch="M")
        program.call(
            name,
            "linear",
            self.sizes,
            "linear_backward",
            product.grid,
            *(self.dy, self.v, params["weight"], self.dx, product.scratch, self.parameter, BATCH),
        )
        product.add_outputs(program, name, I, 1, None, None, self.dx)

"""The steps of convolution and of the fully connected layer, with their activations."""

from collections.abc import Sequence
from math import prod

from tinyconv.engines.gpu.program import BATCH, Program
from tinyconv.engines.gpu.step import Context, Product, Step
from tinyconv.engines.units import AVG, BATCH_NORMS, MAX, Unit
from tinyconv.geometry import Geometry
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
    """The convolution and its activation."""

    def __init__(self, unit: Unit, shapes: Sequence[Shape], context: Context) -> None:
        super().__init__(unit, shapes, context)
        C, *size = self.input_shape
        layer = self.layer
        self.window = layer._window(tuple(size))
        self.sizes = {
            "C": C,
            "O": layer.out_channels,
            "GROUPS": layer.groups,
            **window_sizes(self.window),
            "ACTIVATION": self.activation.code,
        }

    @staticmethod
    def accepts(unit: Unit) -> bool:
        alone = unit.find((*MAX, *AVG, *BATCH_NORMS)) is None
        return alone and unit.layers[0].padding_mode == "zeros"  # type: ignore[attr-defined]

    def forward(self, program: Program) -> None:
        C, O, G = self.input_shape[0], self.shape[0], self.layer.groups
        taps, positions = prod(self.window.kernel), prod(self.window.output)
        weight, bias = self.layer.params["weight"], self.layer.params.get("bias")
        count = self.context.batch * prod(self.shape)
        product = Product(self.context, O // G, positions, C // G * taps, count, G)
        program.call(
            self.name,
            "conv",
            self.sizes,
            "conv_forward",
            product.grid,
            *(self.x, weight, bias, self.z, self.y, product.scratch, self.parameter, BATCH),
        )
        product.add_outputs(program, self.name, O, positions, bias, self.z, self.y, self.activation)

    def backward(self, program: Program) -> None:
        C, O, G = self.input_shape[0], self.shape[0], self.layer.groups
        taps, positions = prod(self.window.kernel), prod(self.window.output)
        inputs, context = prod(self.window.size), self.context
        name, params, grads = f"{self.name}: backward", self.layer.params, self.layer.grads
        columns = C // G * taps + 1
        product = Product(context, O // G, columns, positions, O * columns, G, of_batch="K")
        dw, db = grads["weight"], grads.get("bias")
        program.call(
            name,
            "conv",
            self.sizes,
            "conv_weights",
            product.grid,
            *(self.dy, self.v, self.x, dw, db, product.scratch, self.parameter, BATCH),
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
            *(self.dy, self.v, params["weight"], self.dx, product.scratch, self.parameter, BATCH),
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

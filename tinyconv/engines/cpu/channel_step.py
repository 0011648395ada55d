"""Steps whose kernels want the numbers in an order that not every buffer has."""

from math import prod
from typing import Any

from tinyconv.engines.cpu.arena import Image
from tinyconv.engines.cpu.element_steps import add_copy
from tinyconv.engines.cpu.program import Program
from tinyconv.engines.cpu.step import Step
from tinyconv.engines.cpu.tiling import compiled, lanes_for
from tinyconv.kernels.cpu import layer_norm, local_response_norm
from tinyconv.kernels.cpu.simd import LANES
from tinyconv.layers import LayerNorm, LocalResponseNorm


class ChannelStep(Step):
    """A step on images (positions, C).

    Samples of more than four axes are rows in the order of the op; they are copied to images
    and back.

    Attributes:
        images: x, dx, y and dy as the kernels see them, by these names.
    """

    def bind(self, x: Image, dx: Image | None, y: Image, dy: Image | None) -> None:
        self.x, self.dx, self.y, self.dy = x, dx, y, dy
        buffers = {"x": x, "dx": dx, "y": y, "dy": dy}
        self.images: dict[str, Any] = {
            name: image and self._as_image(image) for name, image in buffers.items()
        }

    def _as_image(self, image: Image) -> Image:
        if len(self.shape) <= 4:
            return image
        C, *size = self.shape
        return self.context.arena.image(self.context.batch, (C, prod(size)))

    def _arguments(self) -> dict[str, Any]:
        """The buffers and their sizes."""
        x = self.images["x"]
        # The channels of a vector are the columns of its buffer.
        W = 1 if len(self.shape) == 1 else x.W
        return {**self.images, "lines": x.D * x.H, "rows": x.H, "W": W, "C": self.shape[0]}

    def forward(self, program: Program) -> None:
        add_copy(self.context, program, self.name, self.x, self.images["x"])
        self._forward(program)
        add_copy(self.context, program, self.name, self.images["y"], self.y)

    def backward(self, program: Program) -> None:
        name = f"{self.name}: backward"
        add_copy(self.context, program, name, self.dy, self.images["dy"])
        self._backward(program, name)
        if self.dx is not None:
            add_copy(self.context, program, name, self.images["dx"], self.dx)

    def _forward(self, program: Program) -> None:
        """Add the calls on images that make y."""

    def _backward(self, program: Program, name: str) -> None:
        """Add the calls on images that make dx, if anybody wants it."""


class LocalResponseNormStep(ChannelStep):
    """Each channel damped by its neighbours."""

    kinds = (LocalResponseNorm,)

    def bind(self, x: Image, dx: Image | None, y: Image, dy: Image | None) -> None:
        super().bind(x, dx, y, dy)
        layer, context, take = self.layer, self.context, self.context.arena.take
        self.L = lanes_for(self.shape[0])
        numbers = prod(self.shape)
        self._values: dict[str, Any] = {
            "base": take(context.batch * numbers),
            "base_sample": numbers,
            "size": layer.size,
            "share": layer.alpha / layer.size,
            "beta": layer.beta,
            "k": layer.k,
        }

    def _call(self, program: Program, name: str, kernel: Any) -> None:
        # Each has windows of its own, as they begin elsewhere among the zeros.
        thread = self.shape[0] + self._values["size"] + self.L
        window = self.context.arena.take(self.context.threads * thread)
        values = self._arguments() | self._values
        program.call(name, kernel, window=window, window_thread=thread, **values)

    def _forward(self, program: Program) -> None:
        self._call(program, self.name, compiled(local_response_norm.forward, self.L))

    def _backward(self, program: Program, name: str) -> None:
        self._call(program, name, compiled(local_response_norm.backward, self.L))


class LayerNormStep(ChannelStep):
    """Normalisation of each sample, or of parts of it that are neighbours in the op's order.

    Its images are rows of that order.
    """

    kinds = (LayerNorm,)

    def bind(self, x: Image, dx: Image | None, y: Image, dy: Image | None) -> None:
        super().bind(x, dx, y, dy)
        context, take = self.context, self.context.arena.take
        self.count = prod(self.layer.normalized_shape)
        sets = prod(self.shape) // self.count
        self._values: dict[str, Any] = {
            "sets": sets,
            "count": self.count,
            "mean": take(context.batch * sets),
            "inverse": take(context.batch * sets),
            "weight": self.layer.params.get("weight"),
            "bias": self.layer.params.get("bias"),
            "n": context.n,
            "gradient": take(context.threads * LANES),
            "eps": self.layer.eps,
            "parameter": self.activation.parameter,
            **self.images,
        }

    @property
    def multiplied(self) -> tuple[Image, Image]:
        return self.images["x"], self.images["dy"]

    def _as_image(self, image: Image) -> Image:
        context, count = self.context, prod(self.shape)
        return image.flattened() or context.arena.image(context.batch, (count,))

    def _forward(self, program: Program) -> None:
        kernel = compiled(layer_norm.forward, LANES, self.activation.code)
        program.call(self.name, kernel, **self._values)

    def _backward(self, program: Program, name: str) -> None:
        chosen = self.activation
        constants = (LANES, chosen.code, chosen.needs_y, self.dx is not None)
        program.call(name, compiled(layer_norm.backward, *constants), **self._values)

    def update(self, program: Program) -> None:
        if self.layer.params:
            program.call(
                f"{self.name}: update",
                compiled(layer_norm.update, LANES),
                items=self.count,
                grain=LANES,
                **self._values,
                **self.context.rule_of(self.layer),
            )

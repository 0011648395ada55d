"""The step of a layer normalisation with its activation."""

from math import prod
from typing import Any

from tinyconv.engines.cpu.arena import Image
from tinyconv.engines.cpu.flatten_step import add_flatten, add_unflatten
from tinyconv.engines.cpu.program import Program
from tinyconv.engines.cpu.step import Step
from tinyconv.engines.cpu.tiling import compiled
from tinyconv.kernels.cpu import layer_norm
from tinyconv.kernels.cpu.simd import LANES
from tinyconv.layers import LayerNorm


class LayerNormStep(Step):
    """Normalisation of each sample, or of parts of it that are neighbours in the op's order.

    Images of several channels are turned into rows of that order and back.
    """

    kinds = (LayerNorm,)

    def choose(self) -> None:
        self.count = prod(self.layer.normalized_shape)
        self.sets = prod(self.shape) // self.count

    def bind(self, x: Image, dx: Image | None, y: Image, dy: Image | None) -> None:
        self.x, self.dx, self.y, self.dy = x, dx, y, dy
        context, take = self.context, self.context.arena.take
        buffers = {"x": x, "dx": dx, "y": y, "dy": dy}
        self.rows = {key: self._as_rows(image) for key, image in buffers.items() if image}
        self._values: dict[str, Any] = {
            "sets": self.sets,
            "count": self.count,
            "mean": take(context.batch * self.sets),
            "inverse": take(context.batch * self.sets),
            "weight": self.layer.params.get("weight"),
            "bias": self.layer.params.get("bias"),
            "n": context.n,
            "gradient": take(context.threads * LANES),
            "eps": self.layer.eps,
            "parameter": self.activation.parameter,
            **self.rows,
        }

    @property
    def multiplied(self) -> tuple[Image, Image]:
        return self.rows["x"], self.rows["dy"]

    def _as_rows(self, image: Image) -> Image:
        context, count = self.context, prod(self.shape)
        return image.flattened() or context.arena.image(context.batch, (count,))

    def forward(self, program: Program) -> None:
        add_flatten(program, self.name, self.x, self.rows["x"])
        kernel = compiled(layer_norm.forward, LANES, self.activation.code)
        program.call(self.name, kernel, **self._values)
        add_unflatten(program, self.name, self.rows["y"], self.y)

    def backward(self, program: Program) -> None:
        name, chosen = f"{self.name}: backward", self.activation
        add_flatten(program, name, self.dy, self.rows["dy"])
        constants = (LANES, chosen.code, chosen.needs_y, self.dx is not None)
        kernel = compiled(layer_norm.backward, *constants)
        program.call(name, kernel, **self._values)
        if self.dx is not None:
            add_unflatten(program, name, self.rows["dx"], self.dx)

    def update(self, program: Program) -> None:
        params, context = self.layer.params, self.context
        if params:
            program.call(
                f"{self.name}: update",
                compiled(layer_norm.update, LANES),
                items=self.count,
                grain=LANES,
                **self._values,
                **context.rule,
                weight_start=context.place(params["weight"]),
                bias_start=context.place(params.get("bias")),
            )

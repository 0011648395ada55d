"""The step of a layer normalisation with its activation."""

from collections.abc import Sequence
from math import prod
from typing import Any

from tinyconv.engines.cpu.arena import Image
from tinyconv.engines.cpu.flatten_step import add_flatten, add_unflatten
from tinyconv.engines.cpu.program import Program
from tinyconv.engines.cpu.step import Context, Step
from tinyconv.engines.cpu.tiling import compiled
from tinyconv.engines.units import Unit
from tinyconv.kernels.cpu import layer_norm
from tinyconv.kernels.cpu.kernel import address_of
from tinyconv.kernels.cpu.simd import LANES
from tinyconv.layers import LayerNorm
from tinyconv.layers.base import Shape


class LayerNormStep(Step):
    """Normalisation of each sample, or of parts of it that are neighbours in the op's order.

    Images of several channels are turned into rows of that order and back.
    """

    kinds = (LayerNorm,)

    def __init__(self, unit: Unit, shapes: Sequence[Shape], context: Context) -> None:
        super().__init__(unit, shapes, context)
        self.count = prod(self.layer.normalized_shape)
        self.sets = prod(self.shape) // self.count

    def bind(self, x: Image, dx: Image | None, y: Image, dy: Image | None) -> None:
        self.x, self.dx, self.y, self.dy = x, dx, y, dy
        context, take = self.context, self.context.arena.take
        buffers = {"x": x, "dx": dx, "y": y, "dy": dy}
        self.rows = {key: self._as_rows(image) for key, image in buffers.items() if image}
        of_sets = [take(context.batch * self.sets) for _ in range(2)]
        params = self.layer.params
        self._values: dict[str, Any] = {
            "sets": self.sets,
            "count": self.count,
            "mean": address_of(of_sets[0]),
            "inverse": address_of(of_sets[1]),
            "weight": address_of(params["weight"]) if "weight" in params else 0,
            "bias": address_of(params["bias"]) if "bias" in params else 0,
            "n": address_of(context.n),
            "gradient": address_of(take(context.threads * LANES)),
            "eps": self.layer.eps,
            "parameter": self.activation.parameter,
        }
        for name, rows in self.rows.items():
            self._values |= {name: rows.origin, f"{name}_sample": rows.sample}

    def _as_rows(self, image: Image) -> Image:
        flat = image.flattened()
        return (
            self.context.arena.image(self.context.batch, (prod(self.shape),))
            if flat is None
            else flat
        )

    def forward(self, program: Program) -> None:
        add_flatten(program, self.name, self.x, self.rows["x"])
        kernel = compiled(layer_norm.forward, LANES, self.activation.code)
        program.call(self.name, kernel, layer_norm.ARGS, **self._values)
        add_unflatten(program, self.name, self.rows["y"], self.y)

    def backward(self, program: Program) -> None:
        assert self.dy is not None
        name, chosen = f"{self.name}: backward", self.activation
        add_flatten(program, name, self.dy, self.rows["dy"])
        constants = (LANES, chosen.code, chosen.needs_y, self.dx is not None)
        kernel = compiled(layer_norm.backward, *constants)
        program.call(name, kernel, layer_norm.ARGS, **self._values)
        if self.dx is not None:
            add_unflatten(program, name, self.rows["dx"], self.dx)

    def update(self, program: Program) -> None:
        params, context = self.layer.params, self.context
        if params:
            program.call(
                f"{self.name}: update",
                compiled(layer_norm.update, LANES),
                layer_norm.ARGS,
                items=self.count,
                grain=LANES,
                **self._values,
                function=context.rule[0],
                function_args=context.rule[1],
                weight_start=context.place(params["weight"]),
                bias_start=context.place(params["bias"]) if "bias" in params else -1,
            )

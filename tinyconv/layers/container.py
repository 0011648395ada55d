"""Layers made of layers."""

from collections.abc import Iterator, Sequence
from typing import Any

from tinyconv.backend import Array
from tinyconv.errors import ShapeError
from tinyconv.layers.base import Layer, Shape
from tinyconv.parameters import ParameterSpec

__all__ = ["Chain"]


class Chain(Layer):
    """Layers one after the other; parameters are named ``"<place>.<name>"`` as in PyTorch.

    >>> import numpy as np
    >>> from tinyconv.layers import Linear, ReLU
    >>> chain = Chain([Linear(4, 3), ReLU()])
    >>> chain.forward(np.zeros((2, 4))).shape, list(chain.params)
    ((2, 3), ['0.weight', '0.bias'])
    """

    def __init__(self, layers: Sequence[Layer]) -> None:
        super().__init__()
        if not layers:
            raise ShapeError(f"{type(self).__name__}: no layers, expected at least one")
        for place, layer in enumerate(layers):
            if not isinstance(layer, Layer):
                raise ShapeError(
                    f"{type(self).__name__}: element {place} is {layer!r}, expected a layer"
                )
        if len({id(layer) for layer in layers}) < len(layers):
            raise ShapeError(
                f"{type(self).__name__}: the same layer object stands in two places, "
                "expected a layer of its own in each"
            )
        self.layers = list(layers)

    def config(self) -> dict[str, Any]:  # noqa: D102
        return {"layers": [[type(layer).__name__, layer.config()] for layer in self.layers]}

    def output_shape(self, shape: Shape) -> Shape:  # noqa: D102
        for place, layer in enumerate(self.layers):
            try:
                shape = layer.output_shape(shape)
            except ShapeError as error:
                raise ShapeError(f"layer {place}: {error}") from None
        return shape

    def parameter_specs(self, shape: Shape | None) -> dict[str, ParameterSpec] | None:  # noqa: D102
        specs = {}
        for place, layer in enumerate(self.layers):
            own = layer.parameter_specs(shape)
            if own is None:
                return None
            specs.update({f"{place}.{name}": spec for name, spec in own.items()})
            if shape is not None:
                shape = layer.output_shape(shape)
        return specs

    def state_values(self) -> dict[str, Any]:  # noqa: D102
        return {
            f"{place}.{name}": value
            for place, layer in enumerate(self.layers)
            for name, value in layer.state_values().items()
        }

    def multiply_adds(self, shape: Shape) -> int:  # noqa: D102
        total = 0
        for layer in self.layers:
            total += layer.multiply_adds(shape)
            shape = layer.output_shape(shape)
        return total

    def bind(  # noqa: D102
        self, path: str, seed: int, values: dict[str, Array], grads: dict[str, Array], device: str
    ) -> None:
        super().bind(path, seed, values, grads, device)
        self.state = {}
        for place, layer in enumerate(self.layers):
            start = f"{place}."
            layer.bind(
                f"{path}.{place}" if path else str(place),
                seed,
                {k.removeprefix(start): v for k, v in values.items() if k.startswith(start)},
                {k.removeprefix(start): v for k, v in grads.items() if k.startswith(start)},
                device,
            )
            self.state.update({start + name: array for name, array in layer.state.items()})

    def walk(self) -> Iterator[Layer]:  # noqa: D102
        for layer in self.layers:
            yield from layer.walk()

    def _forward(self, x: Array, training: bool, step: int) -> tuple[Array, Any]:
        for layer in self.layers:
            x = layer.forward(x, training, step)
        return x, None

    def _backward(self, dy: Array, saved: Any) -> tuple[Array, dict[str, Array]]:
        for layer in reversed(self.layers):
            dy = layer.backward(dy)
        return dy, {}

    def __repr__(self) -> str:
        return f"{type(self).__name__}([{', '.join(map(repr, self.layers))}])"

"""Layers as functions of the batch and of all their parameters, which is what a check takes."""

import contextlib
import operator
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from tinyconv.backend import Array, namespace
from tinyconv.layers import Layer


@dataclass
class Stack:
    """Layers one after the other, as functions of the batch and of all their parameters.

    ``forward`` starts at the first layer whose input or parameters are not the very arrays of
    the call before: a check that moves one parameter of a late layer need not repeat the early
    ones. ``backward`` starts its own forward pass where they are not equal.
    """

    layers: Sequence[Layer]
    training: bool
    step: int
    loss: Any = None
    labels: Array | None = None

    def __post_init__(self) -> None:
        self._leaves = [list(layer.walk()) for layer in self.layers]
        self._last: list[tuple[list[Array], Array]] = []  # a layer's arguments and its output
        leaves = [leaf for inside in self._leaves for leaf in inside]
        self.parameters = [p for leaf in leaves for p in leaf.params.values()]
        self.names = [".".join(filter(None, (f.path, key))) for f in leaves for key in f.params]

    def forward(self, x: Array, *parameters: Array) -> Array:
        """Return the output, or the loss, for a batch and all parameters in order."""
        return self._run(x, self._by_layer(parameters), operator.is_)

    def backward(self, dy: Array, x: Array, *parameters: Array) -> list[Array | None]:
        """Return dx and the gradient of every parameter."""
        by_layer = self._by_layer(parameters)
        self._run(x, by_layer, _equal)
        if self.loss is not None:
            dy = dy * self.loss.backward()
        with contextlib.ExitStack() as held:
            for place, own in enumerate(by_layer):
                held.enter_context(self._holding(place, own, with_gradients=True))
            for layer in reversed(self.layers):
                dy = layer.backward(dy)
            leaves = [leaf for inside in self._leaves for leaf in inside]
            # What is frozen has no gradient.
            return [dy, *(g if f.trainable else None for f in leaves for g in f.grads.values())]

    def _by_layer(self, parameters: Sequence[Array]) -> list[list[Array]]:
        remaining = iter(parameters)
        return [
            [next(remaining) for leaf in inside for _ in leaf.params] for inside in self._leaves
        ]

    def _run(
        self, x: Array, by_layer: list[list[Array]], is_same: Callable[[Array, Array], bool]
    ) -> Array:
        unchanged = True
        for place, layer in enumerate(self.layers):
            arguments = [x, *by_layer[place]]
            if unchanged and place < len(self._last):
                before, output = self._last[place]
                if all(map(is_same, arguments, before)):
                    x = output
                    continue
            unchanged = False
            with self._holding(place, by_layer[place]):
                x = layer.forward(x, self.training, self.step)
            self._last[place:] = [(arguments, x)]
        return x if self.loss is None else self.loss.forward(x, self.labels)

    @contextlib.contextmanager
    def _holding(
        self, place: int, parameters: Sequence[Array], with_gradients: bool = False
    ) -> Iterator[None]:
        """Lend parameters to a layer, and copies of its state, which it may update."""
        leaves = self._leaves[place]
        kept = [(leaf, leaf.params, leaf.grads, leaf.state) for leaf in leaves]
        given = iter(parameters)
        for leaf in leaves:
            leaf.params = {key: next(given) for key in leaf.params}
            if with_gradients:
                leaf.grads = {
                    k: namespace("check", p=p).zeros_like(p) for k, p in leaf.params.items()
                }
            # Adding a zero of the parameters' type copies, and makes complex what must be.
            zero = sum((0 * p.reshape(-1)[:1] for p in leaf.params.values()), 0)
            leaf.state = {key: _copy(value, zero) for key, value in leaf.state.items()}
        try:
            yield
        finally:
            for leaf, params, grads, state in kept:
                leaf.params, leaf.grads, leaf.state = params, grads, state


def _equal(a: Array, b: Array) -> bool:
    xp = namespace("check", a=a)
    return bool(a is b or (a.dtype == b.dtype and xp.all(a == b)))


def _copy(value: Array, zero: Array) -> Array:
    """Return a copy of a layer's state: a count as it is, other numbers plus ``zero``."""
    xp = namespace("check", value=value)
    is_count = xp.isdtype(value.dtype, "integral")
    return xp.asarray(value if is_count else value + zero, copy=True)

"""Layers made of layers: one after the other, around a shortcut, side by side."""

from abc import abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import accumulate, pairwise
from typing import Annotated, Any

from tinyconv.arguments import OneOf, checked
from tinyconv.backend import Array, Values, namespace
from tinyconv.errors import ArgumentError, ShapeError
from tinyconv.layers.base import Layer, Place, Shape
from tinyconv.messages import shown
from tinyconv.parameters import ParameterSpec

__all__ = ["Chain", "Container", "Parallel", "Residual"]

#: What stands in the columns of a row of :func:`summary_rows`.
HEAD = ("", "layer", "output", "parameters", "multiply-adds")


class Container(Layer):
    """What all containers share: parameters are named ``"<child>.<name>"`` as in PyTorch."""

    @abstractmethod
    def children(self) -> dict[str, Layer]:
        """Return the layers inside by name."""

    def child_inputs(self, shape: Shape) -> Iterator[tuple[str, Layer, Shape]]:
        """Yield each child with its name and the shape of its input: ``shape``, unless overridden.

        Raises:
            ShapeError: a child does not take its input.
        """
        return ((name, child, shape) for name, child in self.children().items())

    @property
    def trainable(self) -> bool:
        """Whether the parameters of any layer inside are trained; setting it sets them all."""
        return any(child.trainable for child in self.children().values())

    @trainable.setter
    def trainable(self, value: bool) -> None:
        for child in self.children().values():
            child.trainable = value

    def _check_layers_differ(self) -> None:
        """Refuse a layer that stands in two places: it keeps the arrays of one pass only."""
        inside = [id(leaf) for leaf in self.walk()]
        if len(set(inside)) < len(inside):
            raise ShapeError(
                f"{type(self).__name__}: the same layer object stands in two places, "
                "expected a layer of its own in each"
            )

    def specs(self, shape: Shape | None) -> dict[str, ParameterSpec] | None:  # noqa: D102
        specs: dict[str, ParameterSpec] = {}
        unknown = ((name, child, None) for name, child in self.children().items())
        for name, child, given in unknown if shape is None else self.child_inputs(shape):
            own = child.specs(given)
            if own is None:
                return None
            for key, spec in own.items():
                trained = spec.trainable and child.trainable
                specs[f"{name}.{key}"] = replace(spec, trainable=trained)
        return specs

    def state_values(self) -> dict[str, Values]:  # noqa: D102
        return {
            f"{name}.{key}": value
            for name, child in self.children().items()
            for key, value in child.state_values().items()
        }

    def multiply_adds(self, shape: Shape) -> int:  # noqa: D102
        return sum(child.multiply_adds(given) for _, child, given in self.child_inputs(shape))

    def _bind(self, place: Place, values: dict[str, Array], grads: dict[str, Array]) -> None:
        super()._bind(place, values, grads)
        self.state = {}
        for name, child in self.children().items():
            start = f"{name}."
            child._bind(
                place._replace(path=f"{place.path}.{name}" if place.path else name),
                {k.removeprefix(start): v for k, v in values.items() if k.startswith(start)},
                {k.removeprefix(start): v for k, v in grads.items() if k.startswith(start)},
            )
            # The child's own arrays under longer names: both see every update.
            self.state.update({start + key: array for key, array in child.state.items()})

    def _keep(self, op: str, grads: Any) -> None:
        """Do nothing: each child has kept its own."""

    def walk(self) -> Iterator[Layer]:  # noqa: D102
        for child in self.children().values():
            yield from child.walk()


class Chain(Container):
    """Layers one after the other.

    ``chain[0]``, ``chain["0"]`` and ``chain["2.body.1"]`` are layers by place or by the path that
    starts the names of their parameters, ``chain[:3]`` is a chain of the same layers, which share
    their parameters; ``len(chain)`` and iteration are over the layers.

    Args:
        layers: a list of layers, or the first of them.
        more: the others.

    >>> import numpy as np
    >>> from tinyconv.layers import Linear, ReLU
    >>> chain = Chain(Linear(4, 3), ReLU())
    >>> chain(np.zeros((2, 4))).shape, list(chain.params), len(chain[:1])
    ((2, 3), ['0.weight', '0.bias'], 1)
    """

    #: Whether it owns the parameters of its layers and what trains them.
    is_network = False

    def __init__(self, layers: Sequence[Layer] | Layer, *more: Layer) -> None:
        name = type(self).__name__
        if isinstance(layers, Layer) or more:
            layers = [layers, *more]  # type: ignore[list-item]
        if isinstance(layers, str) or not isinstance(layers, Iterable):
            raise ArgumentError(f"{name}: layers is {shown(layers)}, expected a list of layers")
        self.layers = list(layers)
        self.check_layers()

    def check_layers(self) -> None:
        """Check that the list holds layers, each once.

        Raises:
            ArgumentError: it is empty, or holds something else.
            ShapeError: a layer stands in two places.
        """
        name = type(self).__name__
        if not self.layers:
            raise ArgumentError(f"{name}: no layers, expected at least one")
        for place, layer in enumerate(self.layers):
            if not isinstance(layer, Layer):
                raise ArgumentError(f"{name}: element {place} is {shown(layer)}, expected a layer")
        self._check_layers_differ()

    def config(self) -> dict[str, Any]:
        """Return the arguments that construct it again; those of a subclass are its own."""
        if type(self).__init__ is Chain.__init__:
            return {"layers": self.layers}
        return super().config()

    def children(self) -> dict[str, Layer]:  # noqa: D102
        return {str(place): layer for place, layer in enumerate(self.layers)}

    def __len__(self) -> int:
        return len(self.layers)

    def __iter__(self) -> Iterator[Layer]:
        return iter(self.layers)

    def __getitem__(self, place: int | slice | str) -> Layer:
        if isinstance(place, slice):
            part = Chain(self.layers[place])
            part.is_bound = self.is_bound
            for own in ("params", "grads", "state"):
                for name, child in part.children().items():
                    arrays = getattr(child, own).items()
                    getattr(part, own).update({f"{name}.{k}": array for k, array in arrays})
            return part
        if not isinstance(place, str):
            return self.layers[place]
        layer: Layer = self
        for name in place.split("."):
            inside = layer.children() if isinstance(layer, Container) else {}
            if name not in inside:
                known = ", ".join(inside) or "no layers"
                raise KeyError(f"no layer {place!r}: {layer.path or 'the chain'} holds {known}")
            layer = inside[name]
        return layer

    def child_inputs(self, shape: Shape) -> Iterator[tuple[str, Layer, Shape]]:  # noqa: D102
        for name, layer in self.children().items():
            yield name, layer, shape
            shape = _output_shape(name, layer, shape)

    def output_shape(self, shape: Shape) -> Shape:  # noqa: D102
        for name, layer in self.children().items():
            shape = _output_shape(name, layer, shape)
        return shape

    def compute(self, x: Array, training: bool, step: int) -> tuple[Array, Any]:  # noqa: D102
        for layer in self.layers:
            x = layer.forward(x, training, step)
        return x, None

    def compute_backward(self, dy: Array, saved: Any) -> tuple[Array, dict[str, Array]]:  # noqa: D102
        for layer in reversed(self.layers):
            dy = layer.backward(dy)
        return dy, {}

    def __repr__(self) -> str:
        return f"{type(self).__name__}([{', '.join(map(repr, self.layers))}])"


class _Branches(Container):
    """Layers side by side, which all get x, and whose outputs are joined."""

    #: How: added up, or one behind the other along the channels.
    join = "add"
    #: What messages say of the list of shapes that are joined.
    _given: str

    @property
    def adds_input(self) -> bool:
        """Whether x itself is one more of what is joined."""
        return False

    def output_shape(self, shape: Shape) -> Shape:
        shapes = [_output_shape(name, c, given) for name, c, given in self.child_inputs(shape)]
        shapes += [shape] * self.adds_input
        self._check(shapes)
        if self.join == "add":
            return shapes[0]
        return (sum(given[0] for given in shapes), *shapes[0][1:])

    def _check(self, shapes: list[Shape], batch: int = 0) -> None:
        """Check shapes that begin with so many axes of the batch."""
        is_concat = self.join == "concat"
        if len({(*shape[:batch], *shape[batch + is_concat :]) for shape in shapes}) > 1:
            given = self._given.format([shape[batch:] for shape in shapes])
            what = "shapes that differ in channels only" if is_concat else "equal shapes"
            raise ShapeError(f"{type(self).__name__}: {given}, expected {what}")

    def compute(self, x: Array, training: bool, step: int) -> tuple[Array, Any]:
        parts = [child.forward(x, training, step) for child in self.children().values()]
        parts += [x] * self.adds_input
        self._check([tuple(part.shape) for part in parts], batch=1)
        if self.join == "add":
            return sum(parts[1:], start=parts[0]), None
        y = namespace(type(self).__name__, x=x).concat(parts, axis=1)
        return y, [part.shape[1] for part in parts]

    def compute_backward(self, dy: Array, saved: Any) -> tuple[Array, dict[str, Array]]:
        branches = self.children().values()
        parts = [dy] * len(branches)
        if self.join == "concat":
            ends = [0, *accumulate(saved)]
            parts = [dy[:, first:end, ...] for first, end in pairwise(ends)]
        dxs = [branch.backward(part) for branch, part in zip(branches, parts, strict=True)]
        dxs += [dy] * self.adds_input
        return sum(dxs[1:], start=dxs[0]), {}


class Residual(_Branches):
    """Add what a body makes of x to x, or to what a shortcut makes of it.

        y = body(x) + shortcut(x),    dx = body'(dy) + shortcut'(dy)

    Args:
        body: a layer or a list of them.
        shortcut: likewise; the identity if None.

    Source: He et al., "Deep residual learning for image recognition" (2015).

    >>> import numpy as np
    >>> from tinyconv.layers import Flatten, Linear, ReLU
    >>> Residual([Linear(4, 4), ReLU()]).forward(np.zeros((2, 4))).shape
    (2, 4)
    >>> Residual(Linear(4, 3)).output_shape((4,))
    Traceback (most recent call last):
    tinyconv.errors.ShapeError: Residual: body gives (3,) and shortcut (4,), expected equal shapes
    """

    _given = "body gives {0[0]} and shortcut {0[1]}"

    @checked
    def __init__(
        self, body: Layer | Sequence[Layer], shortcut: Layer | Sequence[Layer] | None = None
    ) -> None:
        self.body = _as_layer("Residual", "body", body)
        self.shortcut: Layer | None = None
        if shortcut is not None:
            self.shortcut = _as_layer("Residual", "shortcut", shortcut)
        self._check_layers_differ()

    def children(self) -> dict[str, Layer]:  # noqa: D102
        own = {"body": self.body}
        return own if self.shortcut is None else own | {"shortcut": self.shortcut}

    @property
    def adds_input(self) -> bool:  # noqa: D102
        return self.shortcut is None


class Parallel(_Branches):
    """Give x to every branch and join what they return.

        concat: y = [branch_0(x), branch_1(x), ...] along the channels, dx = sum branch_k'(dy_k)
        add:    y = branch_0(x) + branch_1(x) + ..., dx = sum branch_k'(dy)

    Args:
        branches: each a layer or a list of them.
        join: ``"concat"`` or ``"add"``.

    Source: Szegedy et al., "Going deeper with convolutions" (2014), for the concatenation.

    >>> from tinyconv.layers import Linear
    >>> Parallel([Linear(4, 3), Linear(4, 2)]).output_shape((4,))
    (5,)
    """

    _given = "branches give {0}"

    @checked
    def __init__(
        self,
        branches: Sequence[Layer | Sequence[Layer]],
        join: Annotated[str, OneOf("concat", "add")] = "concat",
    ) -> None:
        if isinstance(branches, Layer) or not isinstance(branches, Iterable):
            raise ArgumentError(
                f"Parallel: branches is {shown(branches)}, expected a list of layers"
            )
        self.branches = [
            _as_layer("Parallel", f"branch {place}", branch)
            for place, branch in enumerate(branches)
        ]
        if not self.branches:
            raise ShapeError("Parallel: no branches, expected at least one")
        self.join = join
        self._check_layers_differ()

    def children(self) -> dict[str, Layer]:  # noqa: D102
        return {str(place): branch for place, branch in enumerate(self.branches)}


def in_a_row(layers: Iterable[Layer]) -> list[Layer]:
    """Return layers with those of chains in the place of the chain.

    >>> from tinyconv.layers import ReLU, Tanh
    >>> in_a_row([Chain(ReLU(), Chain(Tanh())), ReLU()])
    [ReLU(), Tanh(), ReLU()]
    """
    row: list[Layer] = []
    for layer in layers:
        is_plain = type(layer).compute is Chain.compute
        row += in_a_row(layer.layers) if isinstance(layer, Chain) and is_plain else [layer]
    return row


def _as_layer(op: str, name: str, value: Layer | Sequence[Layer]) -> Layer:
    """Return a layer; a list of layers becomes a chain, and so does a ``Sequential``."""
    if isinstance(value, Chain) and value.is_network:
        return Chain(value.layers)
    if isinstance(value, list | tuple):
        return Chain(value)
    if not isinstance(value, Layer):
        raise ShapeError(f"{op}: {name} is {shown(value)}, expected a layer or a list of layers")
    return value


def _output_shape(name: str, layer: Layer, shape: Shape) -> Shape:
    try:
        return layer.output_shape(shape)
    except ShapeError as error:
        raise ShapeError(f"layer {name}: {error}") from None


def summary_rows(layers: Sequence[Layer], shape: Shape | None) -> list[tuple[str, ...]]:
    """Return place, kind, output shape, parameters and multiply-adds of each layer, and the total.

    The last row has the parameters that are frozen, if there are any.

    Args:
        layers: one after the other.
        shape: of one sample; None while it is not known, and then a ``?`` stands for what follows.

    >>> from tinyconv.layers import Linear, ReLU
    >>> summary_rows([Linear(4, 8), ReLU()], (4,))[-1]
    ('', 'total', '', '40', '32')
    """
    rows, parameters, frozen, multiply_adds = [], 0, 0, 0
    total_cost = "?" if shape is None else ""
    for place, layer in enumerate(layers):
        count = layer.parameter_count(shape)
        still = [leaf for leaf in layer.walk() if not leaf.trainable]
        frozen += sum(leaf.parameter_count(shape if leaf is layer else None) or 0 for leaf in still)
        cost = None if shape is None else layer.multiply_adds(shape)
        shape = None if shape is None else layer.output_shape(shape)
        output = "?" if shape is None else "x".join(map(str, shape))
        numbers = ["?" if number is None else f"{number:,}" for number in (count, cost)]
        rows.append((str(place), type(layer).__name__, output, *numbers))
        parameters += count or 0
        multiply_adds += cost or 0
    rows.append(("", "total", "", f"{parameters:,}", total_cost or f"{multiply_adds:,}"))
    if frozen:
        rows.append(("", "frozen", "", f"{frozen:,}", ""))
    return rows

"""What the readers of operators look things up in: constants, and what becomes of them."""

from dataclasses import dataclass, field

import numpy as np

from tinyconv.backend import Values
from tinyconv.errors import FileError
from tinyconv.interop.onnx.file import Model, Node
from tinyconv.layers.base import Layer

Tensors = dict[str, Values]


@dataclass
class Source:
    """What a file's nodes refer to, and what the layers made of them hold."""

    model: Model  #: constants and shapes
    #: each layer that has parameters or statistics, with their values.
    tensors: list[tuple[Layer, Tensors]] = field(default_factory=list)

    def constant_of(self, node: Node) -> Values:
        """Return the one constant among a node's inputs."""
        found = [self.model.constants[n] for n in node.inputs if n in self.model.constants]
        if len(found) != 1:
            raise FileError(f"{node} has {len(found)} constants, expected one")
        return found[0]

    def scalar_of(self, node: Node, op: str) -> float | None:
        """Return the number that a node of this operator combines its input with."""
        if node.op != op:
            return None
        found = [self.model.constants[n] for n in node.inputs if n in self.model.constants]
        if len(found) != 1 or found[0].size != 1:
            return None
        if op not in ("Add", "Mul") and node.inputs[0] in self.model.constants:
            return None
        return float(found[0].reshape(()))

    def input(self, node: Node, place: int, rank: int = 0) -> Values | None:
        """Return a constant input, None if it is left out.

        Sizes of an array of ``rank`` axes may leave that of the batch unknown: it is 1.
        """
        name = node.inputs[place] if place < len(node.inputs) else ""
        if not name:
            return None
        sizes = self.model.sizes.get(name, (None,))
        sizes = (1, *sizes[1:]) if len(sizes) == rank else sizes
        if name not in self.model.constants and None not in sizes:
            return np.array(sizes, np.int64)
        if name not in self.model.constants:
            raise FileError(f"{node}: {name!r} is computed, expected a constant")
        return self.model.constants[name]

    def weight(self, node: Node, place: int) -> Values:
        """Return a constant input that must be there."""
        value = self.input(node, place)
        if value is None:
            raise FileError(f"{node}: input {place} is left out")
        return value

    def keep(self, layer: Layer, **tensors: Values | None) -> Layer:
        """Remember the values of a layer's parameters."""
        self.tensors.append((layer, {k: v for k, v in tensors.items() if v is not None}))
        return layer


def bias_of(value: Values, O: int, axes: int) -> Values | None:
    """Return one number for each of O channels, None if adding ``value`` does something else.

    Args:
        value: what is added to (N, O, ...).
        O: how many channels there are.
        axes: how many axes there are behind the channels.
    """
    target = (1, O, *(1,) * axes)
    if value.ndim > len(target) or any(
        n not in (1, whole) for n, whole in zip(value.shape[::-1], target[::-1], strict=False)
    ):
        return None
    return np.broadcast_to(value, target).reshape(O)


def float_of(node: Node, name: str, default: float) -> float:
    """Return a float32 attribute as the shortest decimal that rounds to it."""
    return float(str(np.float32(node.attributes.get(name, default))))

"""Reading an ONNX file as a network: from a graph to layers one after the other."""

import json
from dataclasses import dataclass
from functools import cached_property
from math import prod
from pathlib import Path
from typing import Any

from tinyconv import layers as L
from tinyconv.data.report import CLASS_NAMES, PIXELS, Pixels
from tinyconv.engines.units import CONVS
from tinyconv.errors import FileError, ShapeError
from tinyconv.files import check_json, naming
from tinyconv.interop.onnx import read_patterns as patterns
from tinyconv.interop.onnx.file import LARGEST_SAMPLE, Model, Node, open_model
from tinyconv.interop.onnx.read_layers import DATA_INPUTS, OPERATORS
from tinyconv.interop.onnx.source import Source, bias_of
from tinyconv.layers.base import Layer, Shape
from tinyconv.losses import LOSSES
from tinyconv.network import Sequential

#: How deep branches may lie in branches.
DEEPEST = 50


def import_(path: str | Path) -> Sequential:
    """Read a convolutional network from an ONNX file, to predict, explain and train it further.

    It may consist of layers one after the other, of residual sums and of branches that are joined
    by a sum or a concatenation. A softmax at the end is left out: networks here give logits.
    The loss, ``class_names`` and ``pixels`` are those of the file's metadata, if they are there.

    Args:
        path: of the file; weights that it keeps elsewhere must lie beside it.

    Returns:
        The network, float32 or float64 as the file's input.

    Raises:
        FileError: the file is damaged or foreign, has operators that no layer computes (all are
            named), or is not made of parts one after the other and side by side.
    """
    path = Path(path)
    with naming(path, "its operators do not fit together"):
        return _Import(path, open_model(path)).network()


@dataclass
class _Import:
    path: Path
    model: Model

    def __post_init__(self) -> None:
        self.producer = {name: node for node in self.model.nodes for name in node.outputs}
        self.used: set[int] = set()
        self.source = Source(self.model)

    def network(self) -> Sequential:
        model = self.model
        output, softmax = self._logits()
        self._refuse_unknown(output)
        items = self._items(output, model.x, 0)
        source = self.source
        layers, shape = self._layers(items, model.input_shape)
        layers = layers or [L.Identity()]
        if softmax is not None and not _is_over_classes(softmax, shape):
            raise FileError(f"{self.path}: no layer computes {softmax} of samples of shape {shape}")
        # Nothing of a size that the file merely claims is allocated.
        claimed = sum(
            prod(spec.shape) for spec in (L.Chain(layers).specs(model.input_shape) or {}).values()
        )
        if claimed > sum(array.size for _, own in source.tensors for array in own.values()):
            raise FileError(f"{self.path}: {claimed} parameters, more than the file holds")
        net = Sequential(layers, input_shape=model.input_shape, dtype=model.dtype)
        for layer, tensors in source.tensors:
            for name, array in tensors.items():
                target = layer.params.get(name, layer.state.get(name))
                if target is None or target.shape != array.shape:
                    raise FileError(f"{self.path}: {name} of layer {layer.path} does not fit")
                target[...] = array
        loss = self._metadata("loss", (None, {"name": str, "config": dict}))
        if loss is not None:
            net.loss = LOSSES.make(loss["name"], loss["config"])
        names, pixels = self._metadata("class_names", CLASS_NAMES), self._metadata("pixels", PIXELS)
        net.class_names, net.pixels = names and tuple(names), pixels and Pixels(**pixels)
        return net

    def _metadata(self, name: str, form: Any) -> Any:
        value = json.loads(self.model.metadata.get(name, "null"))
        check_json(self.path, value, form, name)
        return value

    def _logits(self) -> tuple[str, Node | None]:
        """Return the name of the output, or of the value that a last softmax makes it of."""
        names = self.model.outputs
        if "logits" in names:
            return "logits", None
        if len(names) != 1:
            raise FileError(
                f"{self.path}: {len(names)} outputs ({', '.join(names)}), expected one, or one "
                "called logits"
            )
        node = self.producer.get(names[0])
        if node is not None and node.op in ("Softmax", "LogSoftmax"):
            return node.inputs[0], node
        return names[0], None

    def _data(self, node: Node) -> list[str]:
        """Return the inputs of a node that the network's input reaches and that are computed on.

        A shape that follows from another one is not computed on.
        """
        inputs = node.inputs[: DATA_INPUTS.get(node.op, len(node.inputs))]
        return [name for name in inputs if name and name not in self.model.constants]

    def _refuse_unknown(self, output: str) -> None:
        unknown, waiting, seen = set(), [output], set()
        while waiting:
            name = waiting.pop()
            node = self.producer.get(name)
            if node is None or id(node) in seen:
                continue
            seen.add(id(node))
            if node.op not in OPERATORS and node.op not in patterns.IN_PATTERNS:
                unknown.add(str(node))
            waiting += self._data(node)
        if unknown:
            raise FileError(f"{self.path}: no layer computes {', '.join(sorted(unknown))}")

    def _items(self, value: str, source: str, depth: int) -> list[Node | patterns.Join]:
        """Return what makes ``value`` of ``source``: nodes, and joins of branches."""
        if depth > DEEPEST:
            raise FileError(f"{self.path}: branches in branches, more than {DEEPEST} deep")
        items: list[Node | patterns.Join] = []
        while value != source:
            node = self.producer.get(value)
            if node is None:
                raise FileError(f"{self.path}: {value!r} does not come from {source!r}")
            if value != node.outputs[0]:
                raise FileError(f"{self.path}: no layer gives {value!r}, another output of {node}")
            if id(node) in self.used:
                raise FileError(
                    f"{self.path}: {node} is part of several branches, expected branches that "
                    "have nothing in common"
                )
            self.used.add(id(node))
            data = self._data(node)
            if len(data) == 1:
                items.append(node)
                value = data[0]
                continue
            if not data:
                raise FileError(f"{self.path}: {node} does not depend on the input")
            fork = self._fork(data)
            branches = [self._items(name, fork, depth + 1) for name in data]
            items.append(patterns.Join(node, branches))
            value = fork
        return items[::-1]

    def _fork(self, values: list[str]) -> str:
        """Return the last value that all ways from the input to ``values`` lead through."""
        gates = self._gates
        if not all(value in gates for value in values):
            raise FileError(f"{self.path}: {', '.join(values)} have nothing in front in common")
        return _meeting(gates, values)

    @cached_property
    def _gates(self) -> dict[str, tuple[int, str]]:
        """For each value the last one before it that all ways to it lead through.

        In front of it stands how many such values there are on the way from the input.
        """
        gates = {self.model.x: (0, self.model.x)}
        for node in self.model.nodes:
            before = [name for name in self._data(node) if name in gates]
            if before:
                gate = _meeting(gates, before)
                for name in node.outputs:
                    gates[name] = (gates[gate][0] + 1, gate)
        return gates

    def _layers(self, items: patterns.Items, shape: Shape) -> tuple[list[Layer], Shape]:
        """Return the layers of a row of items, and the shape of their output."""
        made: list[Layer] = []
        place = 0
        while place < len(items):
            found, count = self._next(items, place, shape, made)
            for layer in found:
                try:
                    shape = layer.output_shape(shape)
                except ShapeError as error:
                    raise FileError(f"no layer computes {items[place]} ({error})") from None
                if prod(shape) > LARGEST_SAMPLE:
                    raise FileError(f"{items[place]} gives a sample the shape {shape}")
            made += found
            place += count
        return made, shape

    def _next(
        self, items: patterns.Items, place: int, shape: Shape, made: list[Layer]
    ) -> tuple[list[Layer], int]:
        """Return the layers of the next items, and how many items these are."""
        for pattern in patterns.PATTERNS:
            layer, count = pattern(self.source, items[place : place + patterns.LONGEST], shape)
            if count:
                return ([] if layer is None else [layer]), count
        item = items[place]
        if isinstance(item, patterns.Join):
            return [self._join(item, shape)], 1
        if item.op in ("Concat", "Sum") and len(item.inputs) == 1:
            return [], 1
        if item.op in ("Add", "Sum"):
            self._add_bias(item, made)
            return [], 1
        if item.op not in OPERATORS:
            raise FileError(f"no layer computes {item}")
        result = OPERATORS[item.op](self.source, item, shape)
        return (result if isinstance(result, list) else [result]), 1

    def _join(self, join: patterns.Join, shape: Shape) -> Layer:
        op = join.node.op
        if len(join.branches) != len(join.node.inputs):
            raise FileError(f"no layer computes {join.node} of branches and constants")
        branches = [self._layers(items, shape)[0] for items in join.branches]
        if op == "Add" and len(branches) == 2:
            body, other = branches if branches[0] else branches[::-1]
            return L.Residual(body or [L.Identity()], other or None)
        whole = [branch or [L.Identity()] for branch in branches]
        if op in ("Add", "Sum"):
            return L.Parallel(whole, "add")
        if op == "Concat" and join.node.attributes.get("axis") in (1, -len(shape)):
            return L.Parallel(whole)
        raise FileError(f"no layer computes {join.node} of branches")

    def _add_bias(self, node: Node, made: list[Layer]) -> None:
        """Take a constant that is added into the bias of the layer in front."""
        constant = self.source.constant_of(node)
        layer: Any = made[-1] if made else None
        bias = None
        if isinstance(layer, L.Linear) and not layer.bias:
            bias = bias_of(constant, layer.out_features, 0)
        elif type(layer) in CONVS and not layer.bias:
            bias = bias_of(constant, layer.out_channels, len(layer.kernel_size))
        if bias is None:
            raise FileError(f"no layer computes {node} with a constant of shape {constant.shape}")
        layer.bias = True
        next(own for other, own in self.source.tensors if other is layer)["bias"] = bias


def _is_over_classes(softmax: Node, shape: Shape) -> bool:
    """Whether a softmax is over the axis that networks here have the classes in."""
    axis = softmax.attributes.get("axis", -1 if softmax.opset >= 13 else 1)
    # Before opset 13 the axes behind the named one belong to it.
    return axis in (1, -len(shape)) and (softmax.opset >= 13 or prod(shape[1:]) == 1)


def _meeting(gates: dict[str, tuple[int, str]], values: list[str]) -> str:
    """Return where the ways back from values, from gate to gate, meet first."""
    first, *others = values
    for other in others:
        while first != other:  # the one that is further from the input takes a step back
            if gates[first][0] >= gates[other][0]:
                first = gates[first][1]
            else:
                other = gates[other][1]
    return first

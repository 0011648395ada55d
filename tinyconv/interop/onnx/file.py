"""Opening an ONNX file: everything that can be refused before a layer is made.

The file is data. Nothing in it is executed, no other file is read than weights beside it, and
nothing is allocated that is larger than what the file holds.
"""

from dataclasses import dataclass, field
from functools import cached_property
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from tinyconv.backend import Values
from tinyconv.errors import FileError
from tinyconv.interop import require

#: Numbers that the result of a node over constants may have.
LARGEST_FOLDED = 1 << 24

#: Numbers that a value of one sample may have, and nodes that a graph may: far more than any
#: network that fits in memory has.
LARGEST_SAMPLE = 1 << 28
MOST_NODES = 10_000


@dataclass(frozen=True, eq=False)
class Node:
    """One operator with its attributes as Python values."""

    op: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: dict[str, Any]
    opset: int
    proto: Any

    @cached_property
    def reference(self) -> Any:
        """What computes the operator as ONNX defines it."""
        onnx, evaluators = require("onnx", "onnx"), require("onnx.reference", "onnx")
        values = [onnx.ValueInfoProto(name=name) for name in self.outputs]
        # Of a node alone ONNX takes some operators to be of its newest version.
        graph = onnx.helper.make_graph([self.proto], "node", [], values)
        return evaluators.ReferenceEvaluator(graph, {"": self.opset})

    def __str__(self) -> str:
        return f"{self.op} ({self.name or self.outputs[0]})"


@dataclass
class Model:
    """What is in a file."""

    #: in an order in which each one's inputs are there; none over constants alone.
    nodes: list[Node]
    constants: dict[str, Values]  #: weights, and what follows from them
    x: str  #: name of the input
    input_shape: tuple[int, ...]  #: of one sample
    outputs: list[str]  #: names
    #: of values, as far as ONNX infers them; None for a dimension that is not known.
    shapes: dict[str, tuple[int | None, ...]]
    metadata: dict[str, str] = field(default_factory=dict)  #: names and texts
    dtype: str = "float32"  #: of the input, ``"float32"`` or ``"float64"``
    #: values that hold dimensions, with None for one that is not known.
    sizes: dict[str, tuple[int | None, ...]] = field(default_factory=dict)


def open_model(path: Path) -> Model:
    """Read a file as far as ONNX goes.

    Raises:
        FileError: no ONNX file, damaged, of several inputs, with a size of the input that is not
            known, with weights elsewhere than beside the file, or of another set of operators.
    """
    onnx = require("onnx", "onnx")
    if path.exists() and not path.is_file():  # a pipe would be waited for without end
        raise FileError(f"{path}: cannot be read (it is a folder or a device)")
    try:
        data = path.read_bytes()
    except OSError as error:
        raise FileError(f"{path}: cannot be read ({error.strerror})") from None
    try:
        proto = onnx.load_model_from_string(data)
        graph = proto.graph
        constants = {
            tensor.name: tensor_of(path, onnx, tensor, len(data)) for tensor in graph.initializer
        }
    except FileError:
        raise
    except Exception as error:  # protobuf's errors have no base of their own
        raise FileError(f"{path}: not an ONNX file, or a damaged one ({error})") from None
    if len(graph.node) > MOST_NODES:
        raise FileError(f"{path}: {len(graph.node)} nodes, expected at most {MOST_NODES}")
    if not graph.node or not proto.opset_import:
        raise FileError(f"{path}: not an ONNX file: no operators are in it")
    foreign = sorted({node.domain for node in graph.node} - {"", "ai.onnx"})
    if foreign or proto.functions:
        raise FileError(f"{path}: operators of the domain {', '.join(foreign) or 'local'}")
    x, shape, dtype = _input(path, onnx, graph, constants)
    nodes = nodes_of(path, onnx, graph, {x, *constants}, len(data), opset_of(proto))
    model = Model(
        nodes,
        constants,
        x,
        shape,
        [value.name for value in graph.output],
        _inferred(onnx, proto),
        {item.key: item.value for item in proto.metadata_props},
        dtype,
    )
    _fold(model, LARGEST_FOLDED + 4 * len(data))
    return model


def tensor_of(path: Path, onnx: Any, tensor: Any, size: int) -> Values:
    """Return the numbers of a weight, once it is sure that they are there."""
    kind = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)
    if kind.kind not in "fiub" and str(kind) not in ("bfloat16",):
        raise FileError(f"{path}: weight {tensor.name!r} has the dtype {kind}")
    if any(n < 0 for n in tensor.dims):
        raise FileError(f"{path}: weight {tensor.name!r} has the shape {tuple(tensor.dims)}")
    count = prod(tensor.dims)
    array: Values
    if tensor.data_location == onnx.TensorProto.EXTERNAL:
        array = _external(path, tensor, kind, count)
    elif count > 8 * size:  # four bits a number at least
        raise FileError(
            f"{path}: weight {tensor.name!r} claims {count} numbers, more than the file holds"
        )
    else:
        array = onnx.numpy_helper.to_array(tensor)
    return array.astype(np.float32) if str(kind) in ("bfloat16", "float16") else array


def _external(path: Path, tensor: Any, kind: Any, count: int) -> Values:
    about = {entry.key: entry.value for entry in tensor.external_data}
    folder = path.resolve().parent
    place = (folder / about.get("location", "")).resolve()
    if not place.is_relative_to(folder) or not place.is_file():
        raise FileError(
            f"{path}: weight {tensor.name!r} lies in {about.get('location')!r}, which is no file "
            "beside the model"
        )
    try:
        first = int(about.get("offset", 0))
    except ValueError:
        first = -1
    needed = count * kind.itemsize
    if first < 0 or first + needed > place.stat().st_size:
        raise FileError(f"{path}: weight {tensor.name!r} lies beyond the end of {place.name}")
    with place.open("rb") as file:
        file.seek(first)
        return np.frombuffer(file.read(needed), kind).reshape(tuple(tensor.dims))


def _input(
    path: Path, onnx: Any, graph: Any, constants: dict[str, Any]
) -> tuple[str, tuple[int, ...], str]:
    inputs = [value for value in graph.input if value.name not in constants]
    if len(inputs) != 1:
        names = ", ".join(value.name for value in inputs)
        raise FileError(f"{path}: {len(inputs)} inputs ({names}), expected one")
    (value,) = inputs
    tensor = value.type.tensor_type
    dims = [dim.dim_value for dim in tensor.shape.dim]
    if len(dims) < 2 or any(n < 1 for n in dims[1:]):
        raise FileError(
            f"{path}: input {value.name!r} has the shape {tuple(dims)}, expected a batch and "
            "known sizes (export with a fixed size of the images)"
        )
    kinds = {onnx.TensorProto.DOUBLE: "float64"}
    return value.name, tuple(dims[1:]), kinds.get(tensor.elem_type, "float32")


def opset_of(proto: Any) -> int:
    """Return the version of ONNX's own operators that a model is written in."""
    own = [entry.version for entry in proto.opset_import if entry.domain in ("", "ai.onnx")]
    return int(own[0]) if own else 1


def nodes_of(
    path: Path, onnx: Any, graph: Any, known: set[str], size: int, opset: int
) -> list[Node]:
    """Return the nodes; refuse a graph in which one comes before its inputs, as in a circle."""
    nodes = []
    for proto in graph.node:
        words = (proto.op_type, proto.name, *proto.input, *proto.output)
        if not all(isinstance(word, str) for word in words):
            raise FileError(f"{path}: names that are no text")
        attributes: dict[str, Any] = {}
        for attribute in proto.attribute:
            if attribute.type in (attribute.GRAPH, attribute.GRAPHS):
                raise FileError(f"{path}: {proto.op_type} holds a graph of its own")
            if attribute.type == attribute.TENSOR:
                attributes[attribute.name] = tensor_of(path, onnx, attribute.t, size)
                continue
            value = onnx.helper.get_attribute_value(attribute)
            attributes[attribute.name] = value.decode() if isinstance(value, bytes) else value
        names = (tuple(proto.input), tuple(proto.output))
        node = Node(proto.op_type, proto.name, *names, attributes, opset, proto)
        missing = {name for name in node.inputs if name} - known
        if missing or not node.outputs:
            raise FileError(
                f"{path}: {node.op} uses {', '.join(sorted(missing))!r} before anything makes it"
            )
        if known & {name for name in node.outputs if name}:
            raise FileError(f"{path}: {node} makes what is there already")
        known |= set(node.outputs)
        nodes.append(node)
    return nodes


def _inferred(onnx: Any, proto: Any) -> dict[str, tuple[int | None, ...]]:
    try:  # without following data, which would be computed whatever its size
        graph = onnx.shape_inference.infer_shapes(proto).graph
    except Exception:  # what is not inferred is None below
        return {}
    return {
        value.name: tuple(
            dim.dim_value if dim.HasField("dim_value") else None
            for dim in value.type.tensor_type.shape.dim
        )
        for value in (*graph.input, *graph.value_info, *graph.output)
        if value.type.tensor_type.HasField("shape")
    }


def _fold(model: Model, room: int) -> None:
    """Take out the nodes that have constants alone as inputs, and keep their results.

    Raises:
        FileError: the results have more than ``room`` numbers together.
    """
    rest = []
    for node in model.nodes:
        inputs = [name for name in node.inputs if name]
        if node.op == "Constant":
            model.constants[node.outputs[0]] = constant(node)
        elif node.op in FOLDED and all(name in model.constants for name in inputs):
            made = folded(node, [model.constants[name] for name in inputs])
            room -= made.size
            if room < 0:
                raise FileError(f"{node} and the constants before it are too many numbers")
            model.constants[node.outputs[0]] = made
        else:
            rest.append(node)
            sizes = _sizes(model, node)
            if sizes is not None:
                model.sizes[node.outputs[0]] = sizes
    model.nodes = rest


def _sizes(model: Model, node: Node) -> tuple[int | None, ...] | None:
    """Return the dimensions that a node computes of a shape, as exporters do for a reshape."""
    if node.op == "Shape":
        shape = model.shapes.get(node.inputs[0])
        return shape and shape[node.attributes.get("start", 0) : node.attributes.get("end")]
    known: list[tuple[int | None, ...] | None] = []
    for name in node.inputs:
        value = model.constants.get(name)
        if value is not None and value.ndim <= 1 and value.dtype.kind in "iu":
            known.append(tuple(value.ravel().tolist()))
        else:
            known.append(model.sizes.get(name))
    if not known or known[0] is None:
        return None
    if node.op in ("Cast", "Identity", "Squeeze", "Unsqueeze"):
        return known[0]
    if node.op == "Slice" and len(known) == 4 and known[3] == (0,) and None not in known[1:3]:
        (start,), (stop,) = known[1] or (None,), known[2] or (None,)
        return known[0][start:stop]
    if node.op == "Gather" and known[1] is not None:
        return tuple(
            known[0][n] for n in known[1] if n is not None and -len(known[0]) <= n < len(known[0])
        )
    if node.op == "Concat" and None not in known:
        return tuple(n for value in known if value is not None for n in value)
    return None


def constant(node: Node) -> Values:
    """Return what a Constant holds."""
    for name in ("value", "value_float", "value_floats", "value_int", "value_ints"):
        if name in node.attributes:
            value = np.asarray(node.attributes[name])
            return value.astype(np.float32) if name.startswith("value_float") else value
    raise FileError(f"{node} holds no numbers")


#: What is computed beforehand where all inputs are constants.
FOLDED = frozenset(
    {
        *("Add", "Cast", "Concat", "ConstantOfShape", "Div", "Gather", "Identity", "Mul", "Neg"),
        *("Reshape", "Shape", "Slice", "Sqrt", "Squeeze", "Sub", "Transpose", "Unsqueeze"),
    }
)


def folded(node: Node, values: list[Values]) -> Values:
    """Compute a node by ONNX's own reference, unless its result is larger than need be."""
    shapes = [value.shape for value in values]
    try:
        claimed = 0
        if node.op in ("Add", "Sub", "Mul", "Div"):
            claimed = prod(np.broadcast_shapes(*shapes))
        elif node.op == "Gather":
            claimed = prod(shapes[0]) * prod(shapes[1])
        elif node.op == "Concat":
            claimed = sum(map(prod, shapes))
        elif node.op == "ConstantOfShape":
            claimed = prod(map(int, values[0]))
        if claimed > LARGEST_FOLDED:
            raise ValueError("too many numbers")
        names = [name for name in node.inputs if name]
        (result,) = node.reference.run(None, dict(zip(names, values, strict=True)))
        return np.asarray(result)
    except Exception as error:  # what a damaged node leads NumPy to has no base of its own
        raise FileError(f"{node} cannot be computed ({error})") from None

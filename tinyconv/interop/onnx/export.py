"""Writing a network as an ONNX file."""

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path

import numpy as np

from tinyconv.arguments import checked
from tinyconv.errors import FileError, StateError
from tinyconv.files import write
from tinyconv.interop import require
from tinyconv.interop.onnx.export_layers import EXPORTERS, Exporter, Graph, add
from tinyconv.layers import encode
from tinyconv.layers.base import Layer
from tinyconv.layers.snapshot import descendants
from tinyconv.network import Sequential
from tinyconv.ops.activation import sigmoid
from tinyconv.ops.softmax import softmax


def exports(kind: type[Layer]) -> Callable[[Exporter], Exporter]:
    """Decorate a function that says in ONNX what a layer of one's own does.

    It gets a :class:`~tinyconv.interop.onnx.graph.Graph`, the layer, the name of its input and
    the shape of one sample, and returns the name of its output.

    >>> import tinyconv as tc
    >>> class Double(tc.Identity):
    ...     pass
    >>> @exports(Double)
    ... def double(graph, layer, x, shape):
    ...     return graph.node("Add", x, x)
    """

    def register(exporter: Exporter) -> Exporter:
        EXPORTERS[kind] = exporter
        return exporter

    return register


@checked
def export(net: Sequential, path: str | Path, *, metadata: Mapping[str, str] | None = None) -> None:
    """Write a network as ONNX, for ONNX Runtime and every other runtime that reads it.

    The file takes a batch of any size as ``x``, of samples of the shape that the network was built
    for (``net.build(shape)`` makes it another one, where the layers take it), and gives ``logits``
    and, for the losses that have them, ``probabilities``, as :meth:`predict_proba` does. Weights
    keep PyTorch's names, and numbers their format: ONNX Runtime knows few operators in float64, and
    no convolution, so build a network for it in float32. The operators are of the newest version
    that the installed onnx and ONNX Runtime both take; the file is checked, shapes inferred, before
    it is written, and appears whole or not at all.

    Args:
        net: with parameters.
        path: of the file.
        metadata: names and texts to keep in the file, beside ``loss``, ``class_names`` and
            ``pixels`` of the network, which are kept as JSON.

    Raises:
        StateError: the network's input shape is not known yet.
        FileError: ONNX cannot express some layers, all of which are named, or there is no folder
            for the file; nothing is written.

    >>> import tempfile, os
    >>> import tinyconv as tc
    >>> net = tc.Sequential([tc.Conv2d(1, 4, 3), tc.ReLU(), tc.Flatten(), tc.Linear(None, 10)],
    ...                     input_shape=(1, 8, 8))
    >>> path = os.path.join(tempfile.mkdtemp(), "net.onnx")
    >>> tc.interop.onnx.export(net, path)
    >>> same = tc.interop.onnx.import_(path)
    >>> print(same.layers[0])
    Conv2d(in_channels=1, out_channels=4, ...)
    """
    onnx = require("onnx", "onnx")
    opset, file_version = newest_opset()
    shape = net.input_shape
    if shape is None:
        raise StateError("export: the input shape is not known yet; call build() or predict()")
    unknown = [layer for layer in descendants(net) if type(layer) not in EXPORTERS]
    if unknown:
        named = ", ".join(f"{layer.path} ({type(layer).__name__})" for layer in unknown)
        raise FileError(
            f"export: no exporter for layer {named}; give one by @tinyconv.interop.onnx.exports"
        )
    graph = Graph(net.dtype, opset)
    problems, x = [], "x"
    for layer in net.layers:
        try:
            x = add(graph, layer, x, shape)
        except FileError as error:
            problems.append(str(error))
        shape = layer.output_shape(shape)
    if problems:
        raise FileError("export: " + "; ".join(problems))
    helper = onnx.helper
    kind = onnx.TensorProto.DOUBLE if net.dtype == "float64" else onnx.TensorProto.FLOAT
    graph.nodes.append(helper.make_node("Identity", [x], ["logits"], name="logits"))
    outputs = ["logits"]
    activation = _output_activation(net, shape)
    if activation:
        attributes = {"axis": 1} if activation == "Softmax" else {}
        graph.nodes.append(
            helper.make_node(
                activation, ["logits"], ["probabilities"], name="probabilities", **attributes
            )
        )
        outputs.append("probabilities")
    assert net.input_shape is not None
    model = helper.make_model(
        helper.make_graph(
            graph.nodes,
            "tinyconv",
            [helper.make_tensor_value_info("x", kind, ["N", *net.input_shape])],
            [helper.make_tensor_value_info(name, kind, ["N", *shape]) for name in outputs],
            list(graph.initializers.values()),
        ),
        producer_name="tinyconv",
        opset_imports=[helper.make_opsetid("", opset)],
        ir_version=file_version,
    )
    about = dict(metadata or {})
    if net.class_names is not None:
        about["class_names"] = json.dumps(list(net.class_names))
    name = type(net.loss).__name__
    about["loss"] = json.dumps({"name": name, "config": encode(net.loss.config(), of=name)})
    if net.pixels is not None:
        about["pixels"] = json.dumps(asdict(net.pixels))
    helper.set_model_props(model, about)
    model = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True)
    onnx.checker.check_model(model, full_check=True)
    write(path, model.SerializeToString(deterministic=True))


def _output_activation(net: Sequential, shape: tuple[int, ...]) -> str | None:
    """Return the operator that makes probabilities of logits; None where none does.

    The loss is asked what it makes of some logits, so this holds for one of anybody's.
    """
    logits = np.linspace(-1, 2, 2 * math.prod(shape)).reshape(2, *shape)
    try:
        found = net.loss.probabilities(logits)
    except StateError:
        return None
    for operator, expected in (("Softmax", softmax(logits)[0]), ("Sigmoid", sigmoid(logits)[0])):
        if np.shape(found) == expected.shape and np.allclose(found, expected):
            return operator
    return None


def newest_opset() -> tuple[int, int]:
    """Return the newest opset, and its file format, that onnx and ONNX Runtime both take.

    ONNX Runtime does not say what it takes, so it is given an empty network of each, newest first.
    """
    onnx = require("onnx", "onnx")
    runtime = require("onnxruntime", "onnx")
    helper, one = onnx.helper, onnx.TensorProto.FLOAT
    options = runtime.SessionOptions()
    options.log_severity_level = 4
    for opset in range(onnx.defs.onnx_opset_version(), 16, -1):
        version = helper.find_min_ir_version_for([helper.make_opsetid("", opset)])
        x, y = (helper.make_tensor_value_info(name, one, [1]) for name in "xy")
        graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "probe", [x], [y])
        model = helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=version
        )
        try:
            runtime.InferenceSession(
                model.SerializeToString(), options, providers=["CPUExecutionProvider"]
            )
        except Exception:  # its classes have no base of their own
            continue
        return opset, version
    raise ImportError('onnxruntime is too old: pip install -U "tinyconv[onnx]"')

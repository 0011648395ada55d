"""How each layer is said in ONNX: one function a kind of layer, in one table.

A function gets the graph, the layer, the name of its input and the shape of one sample of it, and
returns the name of its output. The batch is a dimension without a number throughout.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np

from tinyconv import layers as L
from tinyconv.backend import to_numpy
from tinyconv.engines.units import AVG, BATCH_NORMS, CONVS, MAX, NORM_POOLS, TRANSPOSED
from tinyconv.errors import FileError
from tinyconv.geometry import Geometry, Pairs, spread_pairs
from tinyconv.interop import require
from tinyconv.layers.base import Layer, Shape


@dataclass
class Graph:
    """What the exporters of layers add to."""

    dtype: str  #: of all numbers of the network, ``"float32"`` or ``"float64"``
    opset: int  #: version of ONNX's operators that the nodes are of
    path: str = ""  #: of the layer that is being added, with which names begin
    nodes: list[Any] = field(default_factory=list)
    initializers: dict[str, Any] = field(default_factory=dict)
    _names: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._helper = require("onnx", "onnx").helper
        self._numpy = require("onnx.numpy_helper", "onnx")

    def constant(self, name: str, value: Any) -> str:
        """Add an array, of its own dtype if that is an integer one; return the name it has.

        Args:
            name: that is wished for behind the path of the layer, such as ``"weight"``.
            value: an array or numbers.
        """
        array = np.asarray(value)
        if array.dtype.kind == "f":
            array = array.astype(self.dtype)
        name = self._unique(f"{self.path}.{name}")
        self.initializers[name] = self._numpy.from_array(array.copy(order="C"), name)
        return name

    def node(self, op: str, *inputs: str, **attributes: Any) -> str:
        """Add a node with one output; return the output's name.

        Args:
            op: the operator, such as ``"Conv"``.
            inputs: names of values; "" for one that is left out.
            attributes: of the operator.
        """
        output = self._unique(f"{self.path}/{op}")
        node = self._helper.make_node(op, list(inputs), [output], name=output, **attributes)
        self.nodes.append(node)
        return output

    def _unique(self, name: str) -> str:
        wished, count = name, 1
        while name in self._names:
            count += 1
            name = f"{wished}.{count}"
        self._names.add(name)
        return name


Exporter = Callable[[Graph, Any, str, Shape], str]

#: ONNX's names of the ways to fill a border.
MODES = {"zeros": "constant", "reflect": "reflect", "replicate": "edge", "circular": "wrap"}


def add(graph: Graph, layer: Layer, x: str, shape: Shape) -> str:
    """Add a layer, and the layers inside it; return the name of its output."""
    before, graph.path = graph.path, layer.path
    y = EXPORTERS[type(layer)](graph, layer, x, shape)
    graph.path = before
    return y


def _parameter(graph: Graph, layer: Layer, name: str) -> str:
    """Add a parameter or a running statistic under PyTorch's name; "" if there is none."""
    array = layer.params.get(name, layer.state.get(name))
    return "" if array is None else graph.constant(name, to_numpy(array))


def _sides(padding: Pairs) -> list[int]:
    """Return ONNX's order: what comes before each axis, then what comes after each."""
    return [before for before, _ in padding] + [after for _, after in padding]


def _pad(graph: Graph, x: str, padding: Pairs, mode: str = "zeros", value: float = 0.0) -> str:
    if not any(map(any, padding)):
        return x
    inputs = [graph.constant("pads", np.array(_sides(padding), np.int64))]
    inputs.append(graph.constant("value", np.array(value)) if mode == "zeros" else "")
    # Naming the axes also keeps ONNX Runtime 1.31 from merging this into a pooling behind it,
    # where it forgets that the padding may win a maximum and the rounding of the size.
    axes = np.arange(2, 2 + len(padding))
    inputs.append(graph.constant("axes", axes.astype(np.int64)))
    return graph.node("Pad", x, *inputs, mode=MODES[mode])


def _weighted(op: str, graph: Graph, layer: Any, x: str, shape: Shape, **attributes: Any) -> str:
    """Add an operator of an input, a weight and, if there is one, a bias."""
    inputs = [_parameter(graph, layer, name) for name in ("weight", "bias")]
    return graph.node(op, x, *filter(None, inputs), **attributes)


def _windows(window: Geometry) -> dict[str, Any]:
    """Return the attributes of sliding windows."""
    return {
        "kernel_shape": window.kernel,
        "strides": window.stride,
        "pads": _sides(window.padding),
        "dilations": window.dilation,
    }


def _conv(graph: Graph, layer: Any, x: str, shape: Shape) -> str:
    window = layer.window(shape[1:])
    if layer.padding_mode != "zeros":
        x = _pad(graph, x, window.padding, layer.padding_mode)
        window = replace(window, padding=((0, 0),) * len(window.padding))
    return _weighted("Conv", graph, layer, x, shape, **_windows(window), group=layer.groups)


def _conv_transpose(graph: Graph, layer: Any, x: str, shape: Shape) -> str:
    more = {"output_padding": layer.output_padding, "group": layer.groups}
    window = _windows(layer.window(shape[1:]))
    return _weighted("ConvTranspose", graph, layer, x, shape, **more, **window)


def _pool(op: str, **names: str) -> Exporter:
    """A pooling: its window, and attributes of the layer under ONNX's names."""
    names |= {"ceil_mode": "ceil_mode"}

    def emit(graph: Graph, layer: Any, x: str, shape: Shape) -> str:
        window = layer.window(shape[1:])
        attributes = {onnx: int(getattr(layer, ours)) for onnx, ours in names.items()}
        return graph.node(op, x, **_windows(window), **attributes)

    return emit


def _lp_pool(graph: Graph, layer: Any, x: str, shape: Shape) -> str:
    p = layer.norm_type
    if p != int(p):
        raise FileError(
            f"layer {layer.path} ({type(layer).__name__}): norm_type is {p!r}, ONNX has integers "
            "only"
        )
    return _pool("LpPool", p="norm_type")(graph, layer, x, shape)


def _subsample(graph: Graph, layer: Any, x: str, shape: Shape) -> str:
    """A window's sum times a coefficient is a convolution of a channel with a constant kernel."""
    weight = to_numpy(layer.params["weight"])
    kernel = np.broadcast_to(weight.reshape(-1, 1, 1, 1), (shape[0], 1, *layer.kernel_size))
    inputs = graph.constant("weight", kernel), _parameter(graph, layer, "bias")
    return graph.node("Conv", x, *inputs, **_windows(layer.window(shape[1:])), group=shape[0])


def _batch_norm(graph: Graph, layer: Any, x: str, shape: Shape) -> str:
    if not layer.track_running_stats:
        raise FileError(
            f"layer {layer.path} ({type(layer).__name__}): normalises by the statistics of the "
            "batch in prediction too, which ONNX has for training only"
        )
    values = {"weight": 1.0, "bias": 0.0, "running_mean": 0.0, "running_var": 1.0}
    inputs = _filled(graph, layer, shape[:1], values)
    return graph.node("BatchNormalization", x, *inputs, epsilon=layer.eps)


def _filled(graph: Graph, layer: Any, shape: Shape, values: dict[str, float]) -> list[str]:
    """Add arrays that ONNX wants by name, of one value where the layer has none."""
    return [
        _parameter(graph, layer, name) or graph.constant(name, np.full(shape, value))
        for name, value in values.items()
    ]


def _layer_norm(graph: Graph, layer: Any, x: str, shape: Shape) -> str:
    sizes = layer.normalized_shape
    inputs = [*_filled(graph, layer, sizes, {"weight": 1.0}), _parameter(graph, layer, "bias")]
    how = {"axis": -len(sizes), "epsilon": layer.eps}
    return graph.node("LayerNormalization", x, *filter(None, inputs), **how)


def _group_norm(graph: Graph, layer: Any, x: str, shape: Shape) -> str:
    inputs = _filled(graph, layer, shape[:1], {"weight": 1.0, "bias": 0.0})
    how = {"num_groups": layer.num_groups, "epsilon": layer.eps}
    taken = (*shape, 1) if len(shape) == 1 else shape  # ONNX wants axes behind the channels
    return _of_shape(taken, "GroupNormalization", graph, x, shape, *inputs, **how)


def _local_response_norm(graph: Graph, layer: Any, x: str, shape: Shape) -> str:
    if layer.size % 2 == 0:
        raise FileError(
            f"layer {layer.path} (LocalResponseNorm): size is {layer.size}; ONNX's window of an "
            "even size lies one channel further, export an odd size"
        )
    # ONNX Runtime takes four axes and no others.
    planes = shape if len(shape) == 3 else (shape[0], math.prod(shape[1:]), 1)
    how = {"alpha": float(layer.alpha), "beta": float(layer.beta), "bias": float(layer.k)}
    return _of_shape(planes, "LRN", graph, x, shape, size=layer.size, **how)


def _of_shape(
    taken: Shape, op: str, graph: Graph, x: str, shape: Shape, *inputs: str, **how: Any
) -> str:
    """Add an operator that takes and gives samples of the shape ``taken``."""
    if taken == shape:
        return graph.node(op, x, *inputs, **how)
    y = graph.node(op, _reshape_to(graph, x, taken), *inputs, **how)
    return _reshape_to(graph, y, shape)


def _simple(op: str, *, axis: int | None = None, **names: str) -> Exporter:
    """A layer that is one operator, with attributes of the layer under ONNX's names."""

    def emit(graph: Graph, layer: Any, x: str, shape: Shape) -> str:
        found = {onnx: getattr(layer, ours) for onnx, ours in names.items()}
        attributes = {k: v if isinstance(v, str) else float(v) for k, v in found.items()}
        if axis is not None:
            attributes["axis"] = axis
        return graph.node(op, x, **attributes)

    return emit


def _softplus(graph: Graph, layer: Any, x: str, shape: Shape) -> str:
    if layer.beta == 1:
        return graph.node("Softplus", x)
    beta = graph.constant("beta", np.float64(layer.beta))
    y = graph.node("Softplus", graph.node("Mul", x, beta))
    return graph.node("Div", y, beta)


def _scaled_tanh(graph: Graph, layer: Any, x: str, shape: Shape) -> str:
    inner = graph.constant("inner", np.float64(2 / 3))
    outer = graph.constant("outer", np.float64(1.7159))
    y = graph.node("Tanh", graph.node("Mul", x, inner))
    return graph.node("Mul", y, outer)


def _dropout(graph: Graph, layer: Any, x: str, shape: Shape) -> str:
    ratio = graph.constant("ratio", np.float64(layer.p))
    y = graph.node("Dropout", x, ratio)
    if not layer.scale_at_test:
        return y
    kept = graph.constant("kept", np.float64(layer.scales[1]))
    return graph.node("Mul", y, kept)


def _reshape_to(graph: Graph, x: str, shape: Shape) -> str:
    target = graph.constant("shape", np.array((-1, *shape), np.int64))
    return graph.node("Reshape", x, target)


def _pad_layer(graph: Graph, layer: Any, x: str, shape: Shape) -> str:
    padding = spread_pairs("onnx", "padding", layer.padding, len(shape) - 1)
    return _pad(graph, x, padding, layer.mode, layer.value)


def _crop(graph: Graph, layer: Any, x: str, shape: Shape) -> str:
    cropping = spread_pairs("onnx", "cropping", layer.cropping, len(shape) - 1)
    starts = [before for before, _ in cropping]
    ends = [n - after for n, (_, after) in zip(shape[1:], cropping, strict=True)]
    parts = {"starts": starts, "ends": ends, "axes": list(range(2, len(shape) + 1))}
    inputs = [graph.constant(part, np.array(values, np.int64)) for part, values in parts.items()]
    return graph.node("Slice", x, *inputs)


def _upsample(graph: Graph, layer: Any, x: str, shape: Shape) -> str:
    size = layer.output_shape(shape)[1:]
    # ONNX Runtime wants a number for each axis; the axes that stay are not named.
    sizes = graph.constant("size", np.array(size, np.int64))
    mode, where = "linear", "align_corners" if layer.align_corners else "half_pixel"
    how = {}
    if layer.mode == "nearest":
        mode, where, how = "nearest", "asymmetric", {"nearest_mode": "floor"}
    how |= {"mode": mode, "coordinate_transformation_mode": where}
    return graph.node("Resize", x, "", "", sizes, axes=[2, 3], **how)


def _chain(graph: Graph, layer: Any, x: str, shape: Shape) -> str:
    for inner in layer.layers:
        x = add(graph, inner, x, shape)
        shape = inner.output_shape(shape)
    return x


def _branches(graph: Graph, layer: L.Residual | L.Parallel, x: str, shape: Shape) -> str:
    parts = [add(graph, child, x, shape) for child in layer.children().values()]
    parts += [x] * layer.adds_input
    if layer.join == "concat":
        return graph.node("Concat", *parts, axis=1)
    return graph.node("Add" if isinstance(layer, L.Residual) else "Sum", *parts)


EXPORTERS: dict[type[Layer], Exporter] = {
    **dict.fromkeys(CONVS, _conv),
    **dict.fromkeys(TRANSPOSED, _conv_transpose),
    **dict.fromkeys(MAX, _pool("MaxPool")),
    **dict.fromkeys(AVG, _pool("AveragePool", count_include_pad="count_include_pad")),
    **dict.fromkeys(NORM_POOLS, _lp_pool),
    L.L2Pool2d: _pool("LpPool"),
    **dict.fromkeys(BATCH_NORMS, _batch_norm),
    L.Linear: partial(_weighted, "Gemm", transB=1),
    L.Subsample2d: _subsample,
    L.GlobalAvgPool: _simple("GlobalAveragePool"),
    L.GlobalMaxPool: _simple("GlobalMaxPool"),
    L.LayerNorm: _layer_norm,
    L.GroupNorm: _group_norm,
    L.LocalResponseNorm: _local_response_norm,
    L.ReLU: _simple("Relu"),
    L.LeakyReLU: _simple("LeakyRelu", alpha="negative_slope"),
    L.ELU: _simple("Elu", alpha="alpha"),
    L.Sigmoid: _simple("Sigmoid"),
    L.Tanh: _simple("Tanh"),
    L.SiLU: lambda graph, layer, x, shape: graph.node("Mul", x, graph.node("Sigmoid", x)),
    L.GELU: _simple("Gelu", approximate="approximate"),
    L.Softplus: _softplus,
    L.ScaledTanh: _scaled_tanh,
    L.Dropout: _dropout,
    L.Flatten: _simple("Flatten", axis=1),
    L.Reshape: lambda graph, layer, x, shape: _reshape_to(graph, x, layer.output_shape(shape)),
    L.Pad: _pad_layer,
    L.Crop: _crop,
    L.Upsample: _upsample,
    L.Identity: _simple("Identity"),
    L.Chain: _chain,
    **dict.fromkeys((L.Residual, L.Parallel), _branches),
}

"""Which layer computes what one ONNX operator says."""

from collections.abc import Callable
from typing import Any

import numpy as np

from tinyconv import layers as L
from tinyconv.engines.units import AVG, BATCH_NORMS, CONVS, MAX, TRANSPOSED
from tinyconv.errors import FileError
from tinyconv.geometry import Pairs, same_padding, transposed_window
from tinyconv.interop.onnx import read_shapes as shapes
from tinyconv.interop.onnx.file import Node
from tinyconv.interop.onnx.source import Source, bias_of, float_of
from tinyconv.layers.base import Layer, Shape

#: Operators of which only the first inputs are computed on; the others say how.
DATA_INPUTS = {
    **dict.fromkeys(("Reshape", "Squeeze", "Unsqueeze", "Shape", "Dropout"), 1),
    **dict.fromkeys(("Resize", "Upsample", "Pad", "Slice", "ReduceMean", "ReduceMax"), 1),
}
LP = (L.LPPool1d, L.LPPool2d, L.LPPool3d)
NORMS: tuple[Any, ...] = (L.BatchNorm1d, *BATCH_NORMS)

#: ONNX's numbers of the floating-point types.
FLOATS = (1, 10, 11, 16)


def _pairs(node: Node, axes: int, size: Shape, covered: Shape) -> Pairs:
    """Return the padding of a sliding window as (before, after) for each axis."""
    mode = node.attributes.get("auto_pad", "NOTSET")
    if mode in ("SAME_UPPER", "SAME_LOWER"):
        strides = tuple(node.attributes.get("strides", (1,) * axes))
        pairs = same_padding(size, covered, strides)
        return pairs if mode == "SAME_UPPER" else tuple((b, a) for a, b in pairs)
    none = (0,) * (2 * axes)
    pads = node.attributes.get("pads", none) if mode == "NOTSET" else none
    return tuple((pads[axis], pads[axes + axis]) for axis in range(axes))


def short(pairs: Pairs) -> Any:
    """Return padding as a layer's repr reads best: one number an axis where both sides agree."""
    return tuple(a if a == b else (a, b) for a, b in pairs)


def _window(node: Node, shape: Shape, kernel: Shape) -> dict[str, Any]:
    axes = len(kernel)
    dilation = tuple(node.attributes.get("dilations", (1,) * axes))
    covered = tuple(d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True))
    return {
        "kernel_size": kernel,
        "stride": tuple(node.attributes.get("strides", (1,) * axes)),
        "padding": short(_pairs(node, axes, shape[1:], covered)),
        "dilation": dilation,
    }


def read_conv(source: Source, node: Node, shape: Shape, pad: L.Pad | None = None) -> Layer:
    """Return a convolution, or the subsampling that a Conv says, with the padding before it."""
    w, b = source.weight(node, 1), source.input(node, 2)
    groups = int(node.attributes.get("group", 1))
    window = _window(node, shape, w.shape[2:])
    if pad is not None:
        window |= {"padding": short(pad.padding), "padding_mode": pad.mode}  # type: ignore[arg-type]
    elif _is_subsampling(w, b, groups, window):
        layer: Layer = L.Subsample2d(len(w), w.shape[2:], window["stride"])
        return source.keep(layer, weight=w[:, 0, 0, 0], bias=b)
    kind: Any = CONVS[w.ndim - 3]
    layer = kind(w.shape[1] * groups, len(w), **window, groups=groups, bias=b is not None)
    return source.keep(layer, weight=w, bias=b)


def _is_subsampling(w: Any, b: Any, groups: int, window: dict[str, Any]) -> bool:
    """Whether a convolution is LeCun's subsampling: one number for all of a channel's window."""
    return bool(
        w.ndim == 4
        and b is not None
        and groups == len(w)
        and w.shape[1] == 1
        and w[0].size > 1
        and (w == w[:, :, :1, :1]).all()
        and set(window["dilation"]) == {1}
        and not any(np.ravel(window["padding"]))
    )


def _conv_transpose(source: Source, node: Node, shape: Shape) -> Layer:
    w, b = source.weight(node, 1), source.input(node, 2)
    axes, groups = w.ndim - 2, int(node.attributes.get("group", 1))
    window = _window(node, shape, w.shape[2:])
    extra = tuple(node.attributes.get("output_padding", (0,) * axes))
    mode = node.attributes.get("auto_pad", "NOTSET")
    size = node.attributes.get("output_shape", ())[-axes:]
    if mode.startswith("SAME"):
        size = size or [n * step for n, step in zip(shape[1:], window["stride"], strict=True)]
    if size:
        whole = transposed_window(
            "ConvTranspose",
            *(shape[1:], w.shape[2:], window["stride"], 0, window["dilation"], extra),
        )
        cut = [full - n for full, n in zip(whole.size, size, strict=True)]
        extra = tuple(more - min(n, 0) for more, n in zip(extra, cut, strict=True))
        pairs = tuple((max(n, 0) // 2, (max(n, 0) + 1) // 2) for n in cut)
        window["padding"] = short(pairs if mode == "SAME_UPPER" else tuple(p[::-1] for p in pairs))
    kind: Any = TRANSPOSED[axes - 1]
    layer = kind(
        *(len(w), w.shape[1] * groups),
        **window,
        output_padding=extra,
        groups=groups,
        bias=b is not None,
    )
    return source.keep(layer, weight=w, bias=b)


def _pool(kinds: tuple[Any, ...]) -> Callable[[Source, Node, Shape], Layer]:
    def read(source: Source, node: Node, shape: Shape) -> Layer:
        kernel = tuple(node.attributes["kernel_shape"])
        window = _window(node, shape, kernel)
        window["ceil_mode"] = bool(node.attributes.get("ceil_mode", 0))
        kind = kinds[len(kernel) - 1]
        if kinds is AVG:
            window["count_include_pad"] = bool(node.attributes.get("count_include_pad", 0))
        elif kinds is LP:
            window["norm_type"] = int(node.attributes.get("p", 2))
            if window["norm_type"] == 2 and len(kernel) == 2:
                kind = L.L2Pool2d
                del window["norm_type"]
        layer: Layer = kind(**window)
        return layer

    return read


def _gemm(source: Source, node: Node, shape: Shape) -> Layer:
    w, b = source.input(node, 1), source.input(node, 2)
    attributes = node.attributes
    if w is None or attributes.get("transA"):
        raise FileError(f"{node}: expected the first factor as it is")
    w = (w if attributes.get("transB") else w.T) * np.float32(attributes.get("alpha", 1))
    bias = None if b is None else bias_of(b, len(w), 0)
    if b is not None and bias is None:
        raise FileError(f"{node}: its bias of shape {b.shape} is not one number an output")
    if bias is not None:
        bias = bias * np.float32(attributes.get("beta", 1))
    layer = L.Linear(w.shape[1], len(w), bias=bias is not None)
    return source.keep(layer, weight=w, bias=bias)


def _matmul(source: Source, node: Node, shape: Shape) -> Layer:
    w = source.input(node, 1)
    if w is None or w.ndim != 2:
        raise FileError(f"{node}: expected a matrix as the second factor")
    return source.keep(L.Linear(w.shape[0], w.shape[1], bias=False), weight=w.T)


def _batch_norm(source: Source, node: Node, shape: Shape) -> Layer:
    # Before opset 14, what has the statistics as outputs trains.
    if node.attributes.get("training_mode") or (node.opset < 14 and len(node.outputs) > 1):
        raise FileError(f"{node} is in training mode")
    w, b, mean, var = (source.weight(node, place) for place in range(1, 5))
    layer = NORMS[len(shape) - 1](len(w), eps=float_of(node, "epsilon", 1e-5))
    return source.keep(layer, weight=w, bias=b, running_mean=mean, running_var=var)


def _layer_norm(source: Source, node: Node, shape: Shape) -> Layer:
    w, b = source.input(node, 1), source.input(node, 2)
    axis = node.attributes.get("axis", -1)
    if axis == 0 or axis <= -len(shape) - 1:
        raise FileError(f"{node} mixes samples")
    sizes = shape[axis - 1 if axis > 0 else axis :]
    layer = L.LayerNorm(sizes, eps=float_of(node, "epsilon", 1e-5), bias=b is not None)
    return source.keep(layer, weight=None if w is None else w.reshape(sizes), bias=b)


def _group_norm(source: Source, node: Node, shape: Shape) -> Layer:
    w, b = source.weight(node, 1), source.weight(node, 2)
    groups = int(node.attributes["num_groups"])
    if len(w) != shape[0]:  # before opset 21, one number a group
        if len(w) != groups or len(b) != groups:
            raise FileError(f"{node}: {len(w)} and {len(b)} numbers for {groups} groups")
        w, b = (np.repeat(v, shape[0] // groups) for v in (w, b))
    layer = L.GroupNorm(groups, shape[0], eps=float_of(node, "epsilon", 1e-5))
    return source.keep(layer, weight=w, bias=b)


def _instance_norm(source: Source, node: Node, shape: Shape) -> Layer:
    w, b = source.input(node, 1), source.input(node, 2)
    layer = L.GroupNorm(shape[0], shape[0], eps=float_of(node, "epsilon", 1e-5))
    return source.keep(layer, weight=w, bias=b)


def _local_response_norm(source: Source, node: Node, shape: Shape) -> Layer:
    size = int(node.attributes["size"])
    if size % 2 == 0:
        raise FileError(f"{node}: an even size lies elsewhere than ours")
    values = {"alpha": 1e-4, "beta": 0.75, "bias": 1.0}
    alpha, beta, k = (float_of(node, name, default) for name, default in values.items())
    return L.LocalResponseNorm(size, alpha=alpha, beta=beta, k=k)


def _simple(kind: Any, **names: tuple[str, float]) -> Callable[[Source, Node, Shape], Layer]:
    """A layer whose arguments are float attributes: argument = (attribute, default)."""

    def read(source: Source, node: Node, shape: Shape) -> Layer:
        layer: Layer = kind(**{ours: float_of(node, *theirs) for ours, theirs in names.items()})
        return layer

    return read


def read_dropout(source: Source, node: Node, shape: Shape) -> Layer:
    """Return dropout of the ratio that a node says."""
    ratio, training = source.input(node, 1), source.input(node, 2)
    if training is not None and training:
        raise FileError(f"{node} is in training mode")
    p = float(str(np.float32(ratio))) if ratio is not None else float_of(node, "ratio", 0.5)
    return L.Dropout(p) if 0 <= p < 1 else L.Identity()


def _cast(source: Source, node: Node, shape: Shape) -> list[Layer]:
    """Nothing: a network here computes in one format, and not in a shorter one in between."""
    if node.attributes["to"] not in FLOATS:
        raise FileError(f"{node} makes something else than floating-point numbers")
    return []


OPERATORS: dict[str, Callable[[Source, Node, Shape], Any]] = {
    "Conv": read_conv,
    "ConvTranspose": _conv_transpose,
    "MaxPool": _pool(MAX),
    "AveragePool": _pool(AVG),
    "LpPool": _pool(LP),
    "GlobalAveragePool": _simple(L.GlobalAvgPool),
    "GlobalMaxPool": _simple(L.GlobalMaxPool),
    "ReduceMean": shapes.read_reduce(L.GlobalAvgPool),
    "ReduceMax": shapes.read_reduce(L.GlobalMaxPool),
    "Gemm": _gemm,
    "MatMul": _matmul,
    "BatchNormalization": _batch_norm,
    "LayerNormalization": _layer_norm,
    "GroupNormalization": _group_norm,
    "InstanceNormalization": _instance_norm,
    "LRN": _local_response_norm,
    "Relu": _simple(L.ReLU),
    "LeakyRelu": _simple(L.LeakyReLU, negative_slope=("alpha", 0.01)),
    "Elu": _simple(L.ELU, alpha=("alpha", 1.0)),
    "Sigmoid": _simple(L.Sigmoid),
    "Tanh": _simple(L.Tanh),
    "Softplus": _simple(L.Softplus),
    "Gelu": lambda source, node, shape: L.GELU(node.attributes.get("approximate", "none")),
    "Dropout": read_dropout,
    **dict.fromkeys(("Reshape", "Flatten", "Squeeze", "Unsqueeze"), shapes.read_reshape),
    "Pad": shapes.read_pad,
    "Slice": shapes.read_slice,
    **dict.fromkeys(("Resize", "Upsample"), shapes.read_resize),
    "Identity": lambda source, node, shape: [],
    "Cast": _cast,
}

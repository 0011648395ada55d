"""Which layer computes what one ONNX operator says."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tinyconv import layers as L
from tinyconv.errors import FileError
from tinyconv.geometry import same_padding
from tinyconv.interop.onnx.file import Model, Node
from tinyconv.layers.base import Layer, Shape

__all__ = [
    "CONVS",
    "DATA_INPUTS",
    "OPERATORS",
    "Source",
    "float_of",
    "read_conv",
    "read_dropout",
    "read_pad",
    "short",
]

#: Operators of which only the first inputs are computed on; the others say how.
DATA_INPUTS = {
    **dict.fromkeys(("Reshape", "Squeeze", "Unsqueeze", "Shape", "Dropout"), 1),
    **dict.fromkeys(("Resize", "Upsample", "Pad", "Slice", "ReduceMean", "ReduceMax"), 1),
}
CONVS = (L.Conv1d, L.Conv2d, L.Conv3d)
TRANSPOSED = (L.ConvTranspose1d, L.ConvTranspose2d, L.ConvTranspose3d)
MAX_POOLS = (L.MaxPool1d, L.MaxPool2d, L.MaxPool3d)
AVG_POOLS = (L.AvgPool1d, L.AvgPool2d, L.AvgPool3d)
NORMS = (L.BatchNorm1d, L.BatchNorm1d, L.BatchNorm2d, L.BatchNorm3d)
MODES = {"constant": "zeros", "reflect": "reflect", "edge": "replicate", "wrap": "circular"}

Tensors = dict[str, np.ndarray[Any, Any]]
Pairs = tuple[tuple[int, int], ...]


class Source:
    """What a file's nodes refer to, and what the layers made of them hold.

    Attributes:
        model: constants and shapes.
        tensors: each layer that has parameters or statistics, with their values.
    """

    def __init__(self, model: Model) -> None:
        self.model = model
        self.tensors: list[tuple[Layer, Tensors]] = []

    def constant_of(self, node: Node) -> np.ndarray[Any, Any]:
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
        if op == "Div" and node.inputs[0] in self.model.constants:
            return None
        return float(found[0].reshape(()))

    def input(self, node: Node, place: int) -> np.ndarray[Any, Any] | None:
        """Return a constant input, None if it is left out."""
        name = node.inputs[place] if place < len(node.inputs) else ""
        if not name:
            return None
        sizes = self.model.sizes.get(name, (None,))
        if name not in self.model.constants and None not in sizes:
            return np.array(sizes, np.int64)
        if name not in self.model.constants:
            raise FileError(f"{node}: {name!r} is computed, expected a constant")
        return self.model.constants[name]

    def weight(self, node: Node, place: int) -> np.ndarray[Any, Any]:
        """Return a constant input that must be there."""
        value = self.input(node, place)
        if value is None:
            raise FileError(f"{node}: input {place} is left out")
        return value

    def keep(self, layer: Layer, **tensors: np.ndarray[Any, Any] | None) -> Layer:
        """Remember the values of a layer's parameters."""
        self.tensors.append((layer, {k: v for k, v in tensors.items() if v is not None}))
        return layer


def _pairs(source: Source, node: Node, axes: int, size: Shape, covered: Shape) -> Pairs:
    """Return the padding of a sliding window as (before, after) for each axis."""
    mode = node.attributes.get("auto_pad", "NOTSET")
    if mode in ("SAME_UPPER", "SAME_LOWER"):
        strides = tuple(node.attributes.get("strides", (1,) * axes))
        pairs = same_padding(size, covered, strides)
        return pairs if mode == "SAME_UPPER" else tuple((b, a) for a, b in pairs)
    pads = (
        tuple(node.attributes.get("pads", (0,) * 2 * axes))
        if mode == "NOTSET"
        else (0,) * (2 * axes)
    )
    return tuple((pads[axis], pads[axes + axis]) for axis in range(axes))


def short(pairs: Pairs) -> Any:
    """Return padding as a layer's repr reads best: one number an axis where both sides agree."""
    return tuple(a if a == b else (a, b) for a, b in pairs)


def _window(source: Source, node: Node, shape: Shape, kernel: Shape) -> dict[str, Any]:
    axes = len(kernel)
    dilation = tuple(node.attributes.get("dilations", (1,) * axes))
    covered = tuple(d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True))
    return {
        "kernel_size": kernel,
        "stride": tuple(node.attributes.get("strides", (1,) * axes)),
        "padding": short(_pairs(source, node, axes, shape[1:], covered)),
        "dilation": dilation,
    }


def read_conv(source: Source, node: Node, shape: Shape) -> Layer:
    """Return a convolution, or the subsampling that a convolution says."""
    w, b = source.weight(node, 1), source.input(node, 2)
    groups = int(node.attributes.get("group", 1))
    window = _window(source, node, shape, w.shape[2:])
    if _is_subsampling(w, b, groups, window):
        layer: Layer = L.Subsample2d(len(w), w.shape[2:], window["stride"])
        return source.keep(layer, weight=w[:, 0, 0, 0], bias=b)
    kind = CONVS[w.ndim - 3]
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
    if node.attributes.get("auto_pad", "NOTSET") not in ("NOTSET", "VALID") or node.attributes.get(
        "output_shape"
    ):
        raise FileError(f"{node}: the output's size is given, expected pads")
    window = _window(source, node, shape, w.shape[2:])
    layer = TRANSPOSED[axes - 1](
        len(w),
        w.shape[1] * groups,
        **window,
        output_padding=tuple(node.attributes.get("output_padding", (0,) * axes)),
        groups=groups,
        bias=b is not None,
    )
    return source.keep(layer, weight=w, bias=b)


def _pool(kinds: tuple[Any, ...]) -> Callable[[Source, Node, Shape], Layer]:
    def read(source: Source, node: Node, shape: Shape) -> Layer:
        kernel = tuple(node.attributes["kernel_shape"])
        window = _window(source, node, shape, kernel)
        window["ceil_mode"] = bool(node.attributes.get("ceil_mode", 0))
        if kinds is AVG_POOLS:
            window["count_include_pad"] = bool(node.attributes.get("count_include_pad", 0))
            if set(window.pop("dilation")) != {1}:
                raise FileError(f"{node} is dilated")
        elif node.attributes.get("storage_order"):
            raise FileError(f"{node} counts by columns")
        layer: Layer = kinds[len(kernel) - 1](**window)
        return layer

    return read


def _lp_pool(source: Source, node: Node, shape: Shape) -> Layer:
    kernel, p = tuple(node.attributes["kernel_shape"]), int(node.attributes.get("p", 2))
    window = _window(source, node, shape, kernel)
    if set(window.pop("dilation")) != {1} or len(kernel) != 2:
        raise FileError(f"{node} is dilated, or not of two axes")
    window["ceil_mode"] = bool(node.attributes.get("ceil_mode", 0))
    return L.L2Pool2d(**window) if p == 2 else L.LPPool2d(p, **window)


def _gemm(source: Source, node: Node, shape: Shape) -> Layer:
    w, b = source.input(node, 1), source.input(node, 2)
    attributes = node.attributes
    if w is None or attributes.get("transA") or attributes.get("alpha", 1) != 1:
        raise FileError(f"{node}: expected alpha 1 and the first factor as it is")
    if not attributes.get("transB"):
        w = w.T
    if b is not None and b.size not in (1, len(w)):
        raise FileError(f"{node}: its bias of shape {b.shape} is not one number an output")
    if b is not None:
        b = np.broadcast_to(b.reshape(-1) * np.float32(attributes.get("beta", 1)), len(w)).copy()
    layer = L.Linear(w.shape[1], len(w), bias=b is not None)
    return source.keep(layer, weight=w, bias=b)


def _matmul(source: Source, node: Node, shape: Shape) -> Layer:
    w = source.input(node, 1)
    if w is None or w.ndim != 2:
        raise FileError(f"{node}: expected a matrix as the second factor")
    return source.keep(L.Linear(w.shape[0], w.shape[1], bias=False), weight=w.T)


def _batch_norm(source: Source, node: Node, shape: Shape) -> Layer:
    if node.attributes.get("training_mode"):
        raise FileError(f"{node} is in training mode")
    w, b, mean, var = (source.weight(node, place) for place in range(1, 5))
    layer = NORMS[len(shape) - 1](len(w), eps=float_of(node, "epsilon", 1e-5))
    return source.keep(layer, weight=w, bias=b, running_mean=mean, running_var=var)


def float_of(node: Node, name: str, default: float) -> float:
    """Return a float32 attribute as the shortest decimal that rounds to it."""
    return float(str(np.float32(node.attributes.get(name, default))))


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


def _gelu(source: Source, node: Node, shape: Shape) -> Layer:
    return L.GELU(node.attributes.get("approximate", "none"))


def read_dropout(source: Source, node: Node, shape: Shape) -> Layer:
    """Return dropout of the ratio that a node says."""
    ratio, training = source.input(node, 1), source.input(node, 2)
    if training is not None and training:
        raise FileError(f"{node} is in training mode")
    p = float(str(np.float32(ratio))) if ratio is not None else float_of(node, "ratio", 0.5)
    return L.Dropout(p) if 0 <= p < 1 else L.Identity()


def _reshape(source: Source, node: Node, shape: Shape) -> list[Layer]:
    """Reshape, Flatten, Squeeze and Unsqueeze: by the shape that ONNX infers or the node says."""
    if node.op == "Flatten":
        if node.attributes.get("axis", 1) != 1:
            raise FileError(f"{node} joins the samples, expected axis 1")
        return [L.Flatten()]
    target: Sequence[int | None] | None = source.model.shapes.get(node.outputs[0])
    axes = node.attributes.get("axes") if node.op != "Reshape" else None
    if node.op != "Reshape" and axes is None and source.input(node, 1) is not None:
        axes = source.input(node, 1)
    if axes is not None:
        change = np.expand_dims if node.op == "Unsqueeze" else np.squeeze
        # A batch of none shows that no axis is taken for the batch or put before it.
        changed = change(np.empty((0, *shape)), tuple(int(a) for a in axes)).shape
        target = (None, *changed[1:]) if changed[0] == 0 else None
    if node.op == "Reshape":
        said = source.model.sizes.get(node.inputs[1])
        if node.inputs[1] in source.model.constants:
            said = tuple(int(n) for n in source.model.constants[node.inputs[1]])
        if said is not None:
            target = [shape[at - 1] if n == 0 and at else n for at, n in enumerate(said)]
    if not target or None in target[1:]:
        raise FileError(f"{node}: the shape that it gives is not known")
    sizes = tuple(int(n) for n in target[1:] if n is not None)
    whole = math.prod(shape)
    if sizes.count(-1) == 1:
        known = -math.prod(sizes)
        sizes = tuple(whole // max(known, 1) if n == -1 else n for n in sizes)
    if math.prod(sizes) != whole:
        raise FileError(f"{node} makes {sizes} of a sample of {shape}: it mixes samples")
    if sizes == shape:
        return []
    return [L.Flatten()] if len(sizes) == 1 else [L.Reshape(sizes)]


def read_pad(source: Source, node: Node, shape: Shape) -> Layer:
    """Return the layer that pads planes."""
    pads = source.input(node, 1)
    said = list(node.attributes.get("pads", ())) if pads is None else [int(n) for n in pads]
    axes = source.input(node, 3)
    rank = len(shape) + 1
    before, after = [0] * rank, [0] * rank
    places = range(rank) if axes is None else [int(a) % rank for a in axes]
    half = len(said) // 2
    for at, place in enumerate(places):
        before[place], after[place] = said[at], said[half + at]
    mode = MODES.get(node.attributes.get("mode", "constant"))
    if mode is None or any(before[:2] + after[:2]) or min(before + after) < 0:
        raise FileError(f"{node}: expected padding of planes by a known mode")
    value = source.input(node, 2) if len(node.inputs) > 2 else None
    padding = tuple(zip(before[2:], after[2:], strict=True))
    return L.Pad(padding, mode, float(value.reshape(())) if value is not None else 0.0)


def _slice(source: Source, node: Node, shape: Shape) -> Layer:
    starts, ends, axes, steps = (source.input(node, place) for place in range(1, 5))
    if starts is None or ends is None or (steps is not None and set(steps.tolist()) != {1}):
        raise FileError(f"{node}: expected steps of 1")
    rank = len(shape) + 1
    places = range(rank) if axes is None else [int(a) % rank for a in axes]
    cropping = [(0, 0)] * rank
    for place, start, end in zip(places, starts.tolist(), ends.tolist(), strict=False):
        if place < 2:
            raise FileError(f"{node}: expected a cut of planes")
        n = shape[place - 1]
        first = max(0, start + n if start < 0 else min(start, n))
        last = max(0, end + n if end < 0 else min(end, n))
        cropping[place] = (first, n - last)
    return L.Crop(tuple(cropping[2:]))


def _resize(source: Source, node: Node, shape: Shape) -> Layer:
    """Resize, and Upsample of old files, where it repeats or interpolates as a layer here does."""
    size = _resized(source, node, shape)
    attributes, whole = (
        node.attributes,
        not any(n % m for n, m in zip(size, shape[1:], strict=True)),
    )
    mode = attributes.get("mode", "nearest")
    where = attributes.get("coordinate_transformation_mode", "half_pixel")
    rounding = attributes.get("nearest_mode", "round_prefer_floor")
    if node.op == "Upsample":
        where, rounding = "asymmetric", "floor"
    if attributes.get("antialias"):
        mode = f"antialiased {mode}"
    repeats = (where, rounding) == ("asymmetric", "floor")
    if where == "half_pixel" and rounding.startswith("round"):
        repeats = whole
    if mode == "nearest" and repeats:
        return L.Upsample(size)
    is_known = where in ("align_corners", "half_pixel")
    if where == "pytorch_half_pixel":  # which differs where a single element is left
        is_known = 1 not in size
    if mode == "linear" and is_known:
        return L.Upsample(size, mode="bilinear", align_corners=where == "align_corners")
    raise FileError(f"{node}: mode {mode} with coordinates {where} rounded by {rounding}")


def _resized(source: Source, node: Node, shape: Shape) -> tuple[int, int]:
    """Return the size that planes get, which must be a whole number of times their scale."""
    scales, sizes = source.input(node, 2), source.input(node, 3)
    if node.op == "Upsample":
        scales = source.input(node, 1)
    rank = len(shape) + 1
    axes = [a % rank for a in node.attributes.get("axes", range(rank))]
    target = [1.0, *shape]
    for at, axis in enumerate(axes):
        if sizes is not None and sizes.size:
            target[axis] = int(sizes[at]) if axis else 1
        elif scales is not None and scales.size:
            target[axis] *= float(scales[at])
    stretches = node.attributes.get("keep_aspect_ratio_policy", "stretch") == "stretch"
    is_whole = all(n == int(n) >= 1 for n in target)
    if rank != 4 or target[:2] != [1, shape[0]] or not is_whole or not stretches:
        raise FileError(f"{node}: expected planes of two axes to be stretched to whole sizes")
    return int(target[2]), int(target[3])


def _reduce(kind: type[Layer]) -> Callable[[Source, Node, Shape], list[Layer]]:
    """The mean or the maximum of whole planes."""

    def read(source: Source, node: Node, shape: Shape) -> list[Layer]:
        said = source.input(node, 1)
        axes = node.attributes.get("axes", ()) if said is None else said.tolist()
        rank = len(shape) + 1
        if sorted(a % rank for a in axes) != list(range(2, rank)):
            raise FileError(f"{node}: expected whole planes to be reduced")
        return [kind()] + ([] if node.attributes.get("keepdims", 1) else [L.Flatten()])

    return read


def _nothing(source: Source, node: Node, shape: Shape) -> list[Layer]:
    return []


OPERATORS: dict[str, Callable[[Source, Node, Shape], Any]] = {
    "Conv": read_conv,
    "ConvTranspose": _conv_transpose,
    "MaxPool": _pool(MAX_POOLS),
    "AveragePool": _pool(AVG_POOLS),
    "LpPool": _lp_pool,
    "GlobalAveragePool": _simple(L.GlobalAvgPool),
    "GlobalMaxPool": _simple(L.GlobalMaxPool),
    "ReduceMean": _reduce(L.GlobalAvgPool),
    "ReduceMax": _reduce(L.GlobalMaxPool),
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
    "Gelu": _gelu,
    "Dropout": read_dropout,
    **dict.fromkeys(("Reshape", "Flatten", "Squeeze", "Unsqueeze"), _reshape),
    "Pad": read_pad,
    "Slice": _slice,
    **dict.fromkeys(("Resize", "Upsample"), _resize),
    **dict.fromkeys(("Identity", "Cast"), _nothing),
}

"""What one ONNX operator gives for arrays, by our operations.

Most operators are a layer here, and the reader of files knows which: the layer is made of all
inputs but the first, and maps that one. What mixes samples, has several outputs or trains calls
the operation itself, and what is no operation of networks is left to ONNX's own reference.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tinyconv import ops
from tinyconv.backend import Array
from tinyconv.errors import FileError
from tinyconv.interop.onnx.file import FOLDED, Model, Node, constant, folded
from tinyconv.interop.onnx.read_layers import OPERATORS as READERS
from tinyconv.interop.onnx.read_shapes import MODES, padding_of, resizing_of
from tinyconv.interop.onnx.source import Source, float_of
from tinyconv.layers import Chain, Identity
from tinyconv.ops.shape import crop, pad

Outputs = Array | tuple[Array, ...]

#: Operators between those of networks: ONNX's reference computes them.
BETWEEN = FOLDED | {"Erf", "Greater", "ReduceMax", "ReduceMean", "Sum", "Where"}


def compute(node: Node, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
    """Return the outputs of a node; its result has the dtype of the first input where both float.

    Args:
        node: one of :data:`OPERATORS`.
        inputs: its inputs, None for one that is left out.

    Raises:
        FileError: it asks for something that our operations do not compute.
    """
    try:
        if node.op == "Constant":
            return (constant(node),)
        if any(isinstance(value, list) for value in inputs):
            raise FileError(f"{node}: sequences of tensors are not known")
        if node.op in BETWEEN:
            return (folded(node, [value for value in inputs if value is not None]),)
        x = inputs[0] if inputs else None
        if x is None:
            raise FileError(f"{node}: input 0 is left out")
        # Half-precision numbers are computed with as float32, as elsewhere.
        is_half = str(x.dtype) in ("float16", "bfloat16")
        given = [
            v if v is None or not is_half or v.dtype != x.dtype else v.astype(np.float32)
            for v in inputs
        ]
        first, *others = given
        own = COMPUTED.get(node.op)
        made = own(node, *given) if own else layers_of(node, first, others).forward(first)
        found = made if isinstance(made, tuple) else (made,)
        return tuple(y.astype(x.dtype) if is_half and y.dtype == np.float32 else y for y in found)
    except FileError:
        raise
    except (LookupError, TypeError, ValueError, OverflowError) as error:
        raise FileError(f"{node}: {error}") from None


def layers_of(node: Node, x: Array, others: Sequence[Array | None]) -> Chain:
    """Return the layers that the reader makes of a node and its inputs behind x, with weights."""
    if x.dtype.kind != "f" or x.ndim < 1:
        raise FileError(f"{node}: {x.dtype} of shape {x.shape}, layers take floating-point batches")
    constants = {
        name: value
        for name, value in zip(node.inputs[1:], others, strict=True)
        if value is not None
    }
    shape = x.shape[1:]
    source = Source(Model([node], constants, node.inputs[0], shape, list(node.outputs), {}))
    made = READERS[node.op](source, node, shape)
    chain = Chain((made if isinstance(made, list) else [made]) or [Identity()])
    chain.forward(np.zeros((1, *shape), x.dtype))  # makes the parameters
    for layer, tensors in source.tensors:
        for name, value in tensors.items():
            (layer.params | layer.state)[name][...] = value
    return chain


def _max_pool(node: Node, x: Array) -> Outputs:
    """The maxima, and where they lie in x laid out by rows, or by columns within a plane."""
    numbers = x.astype(np.float32) if x.dtype.kind in "iu" else x  # which holds bytes exactly
    y, saved = layers_of(node, numbers, ()).layers[0].compute(numbers, False, 0)
    if len(node.outputs) == 1:
        return np.asarray(y).astype(x.dtype)
    place = saved.argmax
    size = x.shape[2:]
    if node.attributes.get("storage_order"):
        place = np.ravel_multi_index(np.unravel_index(place, size)[::-1], size[::-1])
    planes = np.arange(math.prod(x.shape[:2])).reshape(*x.shape[:2], *[1] * len(size))
    return np.asarray(y).astype(x.dtype), place + planes * math.prod(size)


def _gemm(node: Node, a: Array, b: Array, c: Array | None = None) -> Array:
    alpha, beta = (np.float64(node.attributes.get(name, 1)) for name in ("alpha", "beta"))
    a = a.T if node.attributes.get("transA") else a
    b = b if node.attributes.get("transB") else b.T
    y = (alpha * ops.linear(a, b)[0]).astype(a.dtype)
    return y if c is None else y + (beta * c).astype(a.dtype)


def _matmul(node: Node, a: Array, b: Array) -> Array:
    return ops.linear(a, b.T)[0] if a.ndim == b.ndim == 2 else np.matmul(a, b)


def _batch_norm(node: Node, x: Array, w: Array, b: Array, mean: Array, var: Array) -> Outputs:
    eps = float_of(node, "epsilon", 1e-5)
    w, b = w.astype(x.dtype), b.astype(x.dtype)
    if not node.attributes.get("training_mode"):
        return ops.batch_norm(x, w, b, mean.astype(x.dtype), var.astype(x.dtype), eps=eps)[0]
    y, saved = ops.batch_norm(x, w, b, eps=eps)
    kept = np.float32(node.attributes.get("momentum", 0.9))
    averages = ((mean, saved.mean), (var, saved.var))
    return y, *(old * kept + new * (1 - kept) for old, new in averages)


def _layer_norm(node: Node, x: Array, w: Array, b: Array | None = None) -> Outputs:
    axis = node.attributes.get("axis", -1) % x.ndim
    shape = x.shape[axis:]
    full = [None if v is None else np.broadcast_to(v, shape) for v in (w, b)]
    y, saved = ops.layer_norm(x, shape, *full, eps=float_of(node, "epsilon", 1e-5))
    return y, saved.mean, saved.scale


def _dropout(
    node: Node, x: Array, ratio: Array | None = None, training: Array | None = None
) -> Outputs:
    p = float(ratio) if ratio is not None else float_of(node, "ratio", 0.5)
    mask = np.ones(x.shape, bool)
    if training is None or not training:
        return x, mask
    # ONNX leaves the generator open; its tests are made by this one.
    draws = np.random.RandomState(node.attributes.get("seed"))
    mask = draws.uniform(0, 1, x.shape) >= p
    return ops.dropout(x, mask, p)[0], mask


def _flatten(node: Node, x: Array) -> Array:
    axis = node.attributes.get("axis", 1)
    rows = math.prod(x.shape[: axis + x.ndim if axis < 0 else axis])
    return x.reshape(rows, x.size // rows if rows else 0)


def _over_classes(op: Callable[[Array], tuple[Array, Any]]) -> Callable[..., Array]:
    """Softmax or its logarithm; before opset 13 all axes from the named one on are one."""

    def run(node: Node, x: Array) -> Array:
        if node.opset < 13:
            axis = node.attributes.get("axis", 1) % x.ndim
            return op(x.reshape(math.prod(x.shape[:axis]), -1))[0].reshape(x.shape)
        moved = np.moveaxis(x, node.attributes.get("axis", -1), -1)
        y = op(moved.reshape(-1, moved.shape[-1]))[0].reshape(moved.shape)
        return np.moveaxis(y, -1, node.attributes.get("axis", -1))

    return run


def _resize(node: Node, x: Array, *others: Array | None) -> Array:
    size, options = resizing_of(node, x.shape, others)
    if x.dtype.kind != "f":
        raise FileError(f"{node}: {x.dtype}, the operation takes floating-point arrays")
    return ops.resize(x[None, None], tuple(size), **options)[0][0, 0]


def _pad(
    node: Node,
    x: Array,
    pads: Array | None = None,
    value: Array | None = None,
    axes: Array | None = None,
) -> Array:
    """Every axis is padded as one of a plane; what is negative is cut off."""
    pairs = padding_of(node, x.ndim, pads, axes)
    filling = float_of(node, "value", 0.0) if value is None else float(value.reshape(()))
    kind = x.dtype
    plane = x[None, None] if kind.kind == "f" else x[None, None].astype(np.float64)
    more = tuple((max(a, 0), max(b, 0)) for a, b in pairs)
    less = tuple((max(-a, 0), max(-b, 0)) for a, b in pairs)
    mode = MODES[node.attributes.get("mode", "constant")]
    return crop(pad(plane, more, mode=mode, value=filling)[0], less)[0][0, 0].astype(kind)


def _negative_log_likelihood(
    node: Node, x: Array, labels: Array, weight: Array | None = None
) -> Array:
    """The loss of logarithms of probabilities, (N, K, ...), for labels (N, ...)."""
    weights = np.ones(x.shape[1], x.dtype) if weight is None else weight
    ignored = labels == node.attributes.get("ignore_index", math.nan)
    places = np.where(ignored, 0, labels)
    of_label = np.where(ignored, 0, weights[places])
    loss = -np.take_along_axis(x, places[:, None], 1)[:, 0] * of_label
    reduction = node.attributes.get("reduction", "mean")
    if reduction == "none":
        return loss
    return np.asarray(loss.sum() / (of_label.sum() if reduction == "mean" else 1), x.dtype)


def _softmax_cross_entropy(node: Node, x: Array, *others: Any) -> Outputs:
    logarithms, _ = ops.log_softmax(x)
    return _negative_log_likelihood(node, logarithms, *others), logarithms


COMPUTED: dict[str, Callable[..., Outputs]] = {
    "MaxPool": _max_pool,
    "Gemm": _gemm,
    "MatMul": _matmul,
    "BatchNormalization": _batch_norm,
    "LayerNormalization": _layer_norm,
    "Dropout": _dropout,
    "Flatten": _flatten,
    "Softmax": _over_classes(ops.softmax),
    "LogSoftmax": _over_classes(ops.log_softmax),
    **dict.fromkeys(("Resize", "Upsample"), _resize),
    "Pad": _pad,
    "NegativeLogLikelihoodLoss": _negative_log_likelihood,
    "SoftmaxCrossEntropyLoss": _softmax_cross_entropy,
}

#: All operators that can be computed.
OPERATORS = frozenset({"Constant", *BETWEEN, *READERS, *COMPUTED})

"""Which layer computes what several ONNX operators say together."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tinyconv import layers as L
from tinyconv.interop.onnx.file import Node
from tinyconv.interop.onnx.read_layers import read_conv, read_dropout
from tinyconv.interop.onnx.read_shapes import read_pad
from tinyconv.interop.onnx.source import Source, bias_of, float_of
from tinyconv.layers.base import Layer, Shape


@dataclass(frozen=True, eq=False)
class Join:
    """A node with several inputs, and what makes each of them of one value."""

    node: Node
    branches: list[list[Any]]

    def __str__(self) -> str:
        return str(self.node)


Items = Sequence[Node | Join]


#: How many items a pattern looks at.
LONGEST = 5

#: Operators that mean something together with others only.
IN_PATTERNS = ("Add", "Sum", "Concat", "Mul", "Div", "Erf", "Greater", "Where")

Found = tuple[Layer | None, int]


def _ops(items: Items) -> list[str]:
    return [item.node.op + "*" if isinstance(item, Join) else item.op for item in items]


def _scalar(source: Source, item: Node | Join, op: str) -> float | None:
    return None if isinstance(item, Join) else source.scalar_of(item, op)


def _silu_join(source: Source, items: Items, shape: Shape) -> Found:
    """``x * sigmoid(x)``."""
    item = items[0]
    if not isinstance(item, Join) or item.node.op != "Mul":
        return None, 0
    is_gated = sorted(_ops(branch) for branch in item.branches) == [[], ["Sigmoid"]]
    return (L.SiLU(), 1) if is_gated else (None, 0)


def _gelu_join(source: Source, items: Items, shape: Shape) -> Found:
    """``x * (1 + erf(x / sqrt(2))) * 0.5``, with the factor 0.5 where PyTorch puts it."""
    item = items[0]
    if not isinstance(item, Join) or item.node.op != "Mul" or len(items) < 2:
        return None, 0
    branches = sorted(item.branches, key=len)
    if branches[0] or _ops(branches[1]) not in (["Div", "Erf", "Add"], ["Mul", "Erf", "Add"]):
        return None, 0
    first, _, plus = branches[1]
    root = _scalar(source, first, "Div")
    if root is None:
        root = 1 / (_scalar(source, first, "Mul") or math.nan)
    half = _scalar(source, items[1], "Mul")
    numbers = (root / math.sqrt(2), _scalar(source, plus, "Add"), half and 2 * half)
    if all(n is not None and abs(n - 1) < 1e-5 for n in numbers):
        return L.GELU(), 2
    return None, 0


def _scaled(source: Source, items: Items, shape: Shape) -> Found:
    """A factor in front of tanh or softplus, and another one behind it."""
    if len(items) < 3:
        return None, 0
    inner, outer = _scalar(source, items[0], "Mul"), _scalar(source, items[2], "Mul")
    is_tanh = inner is not None and outer is not None and _ops(items[1:2]) == ["Tanh"]
    if is_tanh and np.allclose(np.array((inner, outer), float), (2 / 3, 1.7159), rtol=1e-6):
        return L.ScaledTanh(), 3
    divisor = _scalar(source, items[2], "Div")
    if inner is not None and inner == divisor and _ops(items[1:2]) == ["Softplus"]:
        return L.Softplus(float(str(np.float32(inner)))), 3
    return None, 0


def _scaled_dropout(source: Source, items: Items, shape: Shape) -> Found:
    """Dropout, and in prediction a factor of what it keeps."""
    if len(items) < 2 or isinstance(items[0], Join) or items[0].op != "Dropout":
        return None, 0
    layer, kept = read_dropout(source, items[0], shape), _scalar(source, items[1], "Mul")
    if isinstance(layer, L.Dropout) and kept is not None and abs(kept - (1 - layer.p)) < 1e-6:
        return L.Dropout(layer.p, scale_at_test=True), 2
    return None, 0


def _padded_conv(source: Source, items: Items, shape: Shape) -> Found:
    """A convolution behind padding of its own kind, which a convolution here does itself."""
    if len(items) < 2 or _ops(items[:2]) != ["Pad", "Conv"]:
        return None, 0
    first, second = items[:2]
    assert isinstance(first, Node)
    assert isinstance(second, Node)
    pad = read_pad(source, first, shape)
    assert isinstance(pad, L.Pad)
    is_same = second.attributes.get("auto_pad", "NOTSET").startswith("SAME")
    if pad.mode == "zeros" or is_same or any(second.attributes.get("pads", ())):
        return None, 0
    return read_conv(source, second, pad.output_shape(shape), pad), 2


def _softplus_join(source: Source, items: Items, shape: Shape) -> Found:
    """Softplus that PyTorch says to be the identity for large x, which it is to rounding."""
    item = items[0]
    if isinstance(item, Join) and item.node.op == "Where" and len(item.branches) == 3:
        condition, large, small = item.branches
        if _ops(condition) in (["Greater"], ["Mul", "Greater"]) and not large:
            limit = _scalar(source, condition[-1], "Greater")
            is_plain = _ops(small) == ["Softplus"]
            layer, count = (L.Softplus(), 1) if is_plain else _scaled(source, small, shape)
            is_whole = isinstance(layer, L.Softplus) and count == len(small)
            if limit is not None and limit >= 15 and is_whole:
                return layer, 1
    return None, 0


def _grouped_norm(source: Source, items: Items, shape: Shape) -> Found:
    """Group normalisation as PyTorch says it: the groups are instances of a reshaped batch."""
    if _ops(items[:5]) != ["Reshape", "InstanceNormalization", "Reshape", "Mul", "Add"]:
        return None, 0
    (_, norm, _, scale, shift), C = [i for i in items[:5] if isinstance(i, Node)], shape[0]
    ones, zeros = source.input(norm, 1), source.input(norm, 2)
    w, b = (bias_of(source.constant_of(node), C, len(shape) - 1) for node in (scale, shift))
    if ones is None or zeros is None or (ones != 1).any() or zeros.any():
        return None, 0
    if w is None or b is None:
        return None, 0
    layer = L.GroupNorm(len(ones), C, eps=float_of(norm, "epsilon", 1e-5))
    return source.keep(layer, weight=w, bias=b), 5


PATTERNS: tuple[Callable[[Source, Items, Shape], Found], ...] = (
    _silu_join,
    _gelu_join,
    _softplus_join,
    _grouped_norm,
    _scaled,
    _scaled_dropout,
    _padded_conv,
)

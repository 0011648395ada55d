"""Which layer computes what one ONNX operator says that changes shapes."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tinyconv import layers as L
from tinyconv.backend import Values
from tinyconv.errors import FileError
from tinyconv.interop.onnx.file import Node
from tinyconv.interop.onnx.source import Source, float_of
from tinyconv.layers.base import Layer, Shape

MODES = {"constant": "zeros", "reflect": "reflect", "edge": "replicate", "wrap": "circular"}


def read_reshape(source: Source, node: Node, shape: Shape) -> list[Layer]:
    """Reshape, Flatten, Squeeze and Unsqueeze: by the shape that ONNX infers or the node says."""
    if node.op == "Flatten":
        if node.attributes.get("axis", 1) not in (1, -len(shape)):
            raise FileError(f"{node} joins the samples, expected axis 1")
        return [L.Flatten()]
    target: Sequence[int | None] | None = source.model.shapes.get(node.outputs[0])
    axes = node.attributes.get("axes") if node.op != "Reshape" else None
    if node.op != "Reshape" and axes is None and source.input(node, 1) is not None:
        axes = source.input(node, 1)
    if node.op == "Squeeze" and axes is None:
        target = (None, *(n for n in shape if n != 1))
    elif axes is not None:
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
    batch = source.model.shapes.get(source.model.x, (None,))[0]
    if target[0] not in (batch, None, 0, -1):
        raise FileError(f"{node} makes a batch of {target[0]} of any: it mixes samples")
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


def padding_of(
    node: Node, rank: int, pads: Values | None, axes: Values | None
) -> list[tuple[int, int]]:
    """Return what a Pad puts before and after each of ``rank`` axes."""
    said = list(node.attributes.get("pads", ())) if pads is None else [int(n) for n in pads]
    pairs, half = [(0, 0)] * rank, len(said) // 2
    for at, axis in enumerate(range(rank) if axes is None else axes.tolist()):
        pairs[axis] = (said[at], said[half + at])
    return pairs


def read_pad(source: Source, node: Node, shape: Shape) -> Layer:
    """Return the layer that pads planes."""
    pads, value, axes = (source.input(node, place) for place in range(1, 4))
    pairs = padding_of(node, len(shape) + 1, pads, axes)
    mode = MODES.get(node.attributes.get("mode", "constant"))
    if mode is None or any(map(any, pairs[:2])) or any(min(pair) < 0 for pair in pairs):
        raise FileError(f"{node}: expected padding of planes by a known mode")
    filling = float_of(node, "value", 0.0) if value is None else float(value.reshape(()))
    return L.Pad(tuple(pairs[2:]), mode, filling)


def read_slice(source: Source, node: Node, shape: Shape) -> Layer:
    """Return the layer that cuts planes."""
    inputs = (source.input(node, place) for place in range(1, 5))
    starts, ends, axes, steps = (None if value is None else value.tolist() for value in inputs)
    if node.opset < 10:
        starts, ends, axes = (node.attributes.get(name) for name in ("starts", "ends", "axes"))
    if starts is None or ends is None or set(steps or ()) - {1}:
        raise FileError(f"{node}: expected steps of 1")
    rank = len(shape) + 1
    places = range(rank) if axes is None else [int(a) % rank for a in axes]
    cropping = [(0, 0)] * rank
    for place, start, end in zip(places, starts, ends, strict=False):
        if place < 2:
            raise FileError(f"{node}: expected a cut of planes")
        n = shape[place - 1]
        first = max(0, start + n if start < 0 else min(start, n))
        last = max(0, end + n if end < 0 else min(end, n))
        cropping[place] = (first, n - last)
    return L.Crop(tuple(cropping[2:]))


def resizing_of(
    node: Node, shape: Sequence[int], inputs: Sequence[Values | None]
) -> tuple[list[int], dict[str, Any]]:
    """Return the size that a Resize gives, and the options of :func:`tinyconv.ops.resize`.

    Args:
        node: a Resize, or an Upsample of old files.
        shape: of the whole input.
        inputs: those behind the first.
    """
    told, rank = node.attributes, len(shape)
    region, scales, sizes = [*inputs, None, None, None][:3]
    if node.op == "Upsample" or node.opset < 11:
        said = told.get("scales")
        region, scales, sizes = None, region if said is None else np.asarray(said), None
        told = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor", **told}
    axes = [axis % rank for axis in told.get("axes", range(rank))]
    factors, size = [1.0] * rank, list(shape)
    if sizes is not None and sizes.size:
        wanted = {axis: int(n) for axis, n in zip(axes, sizes, strict=True)}
        ratios = {axis: n / shape[axis] for axis, n in wanted.items()}
        policy = told.get("keep_aspect_ratio_policy", "stretch")
        if policy != "stretch":
            ratio = (min if policy == "not_larger" else max)(ratios.values())
            ratios = dict.fromkeys(axes, ratio)
            wanted = {axis: math.floor(ratio * shape[axis] + 0.5) for axis in axes}
    elif scales is not None and scales.size:
        ratios = {axis: float(ratio) for axis, ratio in zip(axes, scales, strict=True)}
        wanted = {axis: math.floor(ratio * shape[axis]) for axis, ratio in ratios.items()}
    else:
        raise FileError(f"{node} says neither a size nor scales")
    for axis in axes:
        factors[axis], size[axis] = ratios[axis], wanted[axis]
    coordinates = told.get("coordinate_transformation_mode", "half_pixel")
    options: dict[str, Any] = {
        "mode": told.get("mode", "nearest"),
        "coordinates": coordinates,
        "rounding": told.get("nearest_mode", "round_prefer_floor"),
        "scales": None if size == [n * f for n, f in zip(shape, factors, strict=True)] else factors,
        "cubic_coeff": float_of(node, "cubic_coeff_a", -0.75),
        "exclude_outside": bool(told.get("exclude_outside", 0)),
        "antialias": bool(told.get("antialias", 0)),
    }
    if coordinates == "tf_crop_and_resize":
        if region is None:
            raise FileError(f"{node} says no region")
        whole = [(0.0, 1.0)] * rank
        for at, axis in enumerate(axes):
            whole[axis] = (float(region[at]), float(region[len(axes) + at]))
        options |= {
            "coordinates": "half_pixel",
            "region": tuple(whole),
            "value": float_of(node, "extrapolation_value", 0.0),
        }
    return size, options


def read_resize(source: Source, node: Node, shape: Shape) -> Layer:
    """Resize, and Upsample of old files, where it repeats or interpolates as a layer here does."""
    rank = len(shape) + 1
    inputs = [source.input(node, place, rank) for place in range(1, len(node.inputs))]
    sizes = inputs[2] if len(inputs) > 2 else None
    if sizes is not None and len(sizes) == rank:  # whatever the file says of the batch
        inputs[2] = np.array([1, *sizes[1:]])
    size, how = resizing_of(node, (1, *shape), inputs)
    if len(size) != 4 or size[:2] != [1, shape[0]] or how["scales"] or "region" in how:
        raise FileError(f"{node}: expected planes of two axes to be stretched to whole sizes")
    mode, where, rounding = how["mode"], how["coordinates"], how["rounding"]
    planes = (size[2], size[3])
    if not how["antialias"] and not how["exclude_outside"]:
        repeats = (where, rounding) == ("asymmetric", "floor")
        if where == "half_pixel" and rounding.startswith("round"):
            repeats = not any(m % n for m, n in zip(planes, shape[1:], strict=True))
        if mode == "nearest" and repeats:
            return L.Upsample(planes)
        # PyTorch's half pixels differ where a single element is left.
        is_half = where == "half_pixel" or (where == "pytorch_half_pixel" and 1 not in planes)
        if mode == "linear" and (is_half or where == "align_corners"):
            return L.Upsample(planes, mode="bilinear", align_corners=where == "align_corners")
    raise FileError(f"{node}: mode {mode} with coordinates {where} rounded by {rounding}")


def read_reduce(kind: type[Layer]) -> Callable[[Source, Node, Shape], list[Layer]]:
    """The mean or the maximum of whole planes."""

    def read(source: Source, node: Node, shape: Shape) -> list[Layer]:
        said = source.input(node, 1)
        axes = node.attributes.get("axes", ()) if said is None else said.tolist()
        rank = len(shape) + 1
        if sorted(a % rank for a in axes) != list(range(2, rank)):
            raise FileError(f"{node}: expected whole planes to be reduced")
        return [kind()] + ([] if node.attributes.get("keepdims", 1) else [L.Flatten()])

    return read

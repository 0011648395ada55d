"""The receptive field: what every unit of every layer sees of the input.

Along one axis, unit i of a layer sees an interval of the layer's input. :func:`reach` holds the
one rule that each kind of layer adds: from an interval of its output to the interval of its input.
Following the rules from a layer back to the input of the network gives the receptive field, also
through branches (the smallest interval around those of all branches) and through layers that go up
in size, where it changes from unit to unit. Dilation and strides larger than the kernel leave gaps
in it, of which an interval does not tell.

Source: Araujo, Norris and Sim, "Computing receptive fields of convolutional neural networks",
Distill, 2019.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import singledispatch
from typing import Any, TypeAlias

import numpy as np

from tinyconv import layers as L
from tinyconv.analysis.probe import input_shape_of
from tinyconv.analysis.table import Table, by_axis, column
from tinyconv.arguments import checked
from tinyconv.errors import ShapeError
from tinyconv.geometry import spread_pairs
from tinyconv.layers import Chain, Container, Layer, activation, conv, norm, pool
from tinyconv.layers.base import Shape
from tinyconv.layers.registry import layers_in

Ints: TypeAlias = np.ndarray[Any, np.dtype[np.int64]]

#: First and last position, each of shape (axes, units); an interval without positions has
#: (NOTHING, -NOTHING), so that minima and maxima over branches pass it by.
Interval: TypeAlias = tuple[Ints, Ints]

NOTHING = 2**40

#: A multiple of every plausible product of strides of layers that go up in size: over so many
#: units the receptive field moves by a whole number of input positions.
PERIOD = 2**5 * 3**2 * 5 * 7


@singledispatch
def reach(layer: Layer, shape: Shape, units: Interval, inside: bool) -> Interval:
    """Return what the units ``units`` of a layer's output see of its input.

    Args:
        layer: whose rule to follow; ``reach.register(Kind)`` adds the rule of another kind.
        shape: of the layer's input, (C, H, W) or the like.
        units: intervals of the output, first and last (axes, units).
        inside: whether to leave out what lies in the padding, which sees nothing; otherwise the
            rule applies there too, as if the input went on for ever.

    Raises:
        ShapeError: there is no rule for such a layer.
    """
    raise ShapeError(
        f"receptive_field: no rule for the layer {type(layer).__name__}; "
        "reach.register adds one (tinyconv.analysis)"
    )


def _tidy(first: Ints, last: Ints) -> Interval:
    empty = first > last
    return np.where(empty, NOTHING, first), np.where(empty, -NOTHING, last)


def _clip(first: Ints, last: Ints, shape: Shape, mode: str = "zeros") -> Interval:
    """Leave out what lies beyond the input; ``mode`` says what stands there instead of zeros."""
    n = _column(shape[1:])
    if mode == "replicate":
        empty = first > last
        first, last = np.clip(first, 0, n - 1), np.clip(last, 0, n - 1)
        return np.where(empty, NOTHING, first), np.where(empty, -NOTHING, last)
    parts = [_tidy(np.maximum(first, 0), np.minimum(last, n - 1))]
    if mode in ("reflect", "circular"):
        below, above = _tidy(first, np.minimum(last, -1)), _tidy(np.maximum(first, n), last)
        if mode == "reflect":
            parts += [(-below[1], -below[0]), (2 * n - 2 - above[1], 2 * n - 2 - above[0])]
        else:
            parts += [(below[0] + n, below[1] + n), (above[0] - n, above[1] - n)]
    return _around([_tidy(*part) for part in parts])


def _around(intervals: Sequence[Interval]) -> Interval:
    """Return the smallest interval around several."""
    return (
        np.min([first for first, _ in intervals], axis=0),
        np.max([last for _, last in intervals], axis=0),
    )


def _column(values: tuple[int, ...]) -> Ints:
    return np.array(values, np.int64)[:, None]


def _window(layer: Any, shape: Shape, units: Interval, inside: bool) -> Interval:
    # Window i covers s i - before ... s i - before + d (k - 1).
    window = layer.window(shape[1:])
    stride, before = _column(window.stride), _column(tuple(lo for lo, _ in window.padding))
    covered, mode = _column(window.covered), getattr(layer, "padding_mode", "zeros")
    first, last = units
    if inside and mode == "zeros":
        # Where a stride leaves gaps, units at the ends may see nothing but padding.
        n = _column(shape[1:])
        first = np.maximum(first, -((covered - 1 - before) // stride))
        last = np.minimum(last, (n - 1 + before) // stride)
    first, last = _tidy(first, last)
    first, last = _tidy(first * stride - before, last * stride - before + covered - 1)
    return _clip(first, last, shape, mode) if inside else (first, last)


def _transposed_window(layer: Any, shape: Shape, units: Interval, inside: bool) -> Interval:
    # Input j reaches the outputs s j - before + d t with 0 <= t < k, so output i comes from
    # (i + before - d (k - 1)) / s <= j <= (i + before) / s.
    window = layer.window(shape[1:])
    stride, before = _column(window.stride), _column(tuple(lo for lo, _ in window.padding))
    covered = _column(window.covered)
    first = -((-(units[0] + before - covered + 1)) // stride)
    first, last = _tidy(first, (units[1] + before) // stride)
    return _clip(first, last, shape) if inside else (first, last)


def _whole(layer: Layer, shape: Shape, units: Interval, inside: bool) -> Interval:
    last = np.repeat(_column(shape[1:]) - 1, units[0].shape[1], axis=1)
    return np.zeros_like(last), last


def _pad(layer: L.Pad, shape: Shape, units: Interval, inside: bool) -> Interval:
    pairs = spread_pairs("Pad", "padding", layer.padding, len(shape) - 1)
    before = _column(tuple(lo for lo, _ in pairs))
    first, last = _tidy(units[0] - before, units[1] - before)
    return _clip(first, last, shape, layer.mode) if inside else (first, last)


def _crop(layer: L.Crop, shape: Shape, units: Interval, inside: bool) -> Interval:
    pairs = spread_pairs("Crop", "cropping", layer.cropping, len(shape) - 1)
    before = _column(tuple(lo for lo, _ in pairs))
    return _tidy(units[0] + before, units[1] + before)


def _upsample(layer: L.Upsample, shape: Shape, units: Interval, inside: bool) -> Interval:
    # Output i lies at the place p / q of the input, and sees its neighbours below and above.
    small, large = _column(shape[1:]), _column(layer.output_shape(shape)[1:])
    if layer.mode == "nearest":
        return _tidy(units[0] * small // large, units[1] * small // large)
    if layer.align_corners:
        slope, start, q = small - 1, 0 * small, np.maximum(large - 1, 1)
    else:
        slope, start, q = 2 * small, small - large, 2 * large
    first, last = _tidy((units[0] * slope + start) // q, -((-(units[1] * slope + start)) // q))
    return _clip(first, last, shape, "replicate") if inside else (first, last)


def _chain(layer: Chain, shape: Shape, units: Interval, inside: bool) -> Interval:
    for _, child, given in reversed([*layer.child_inputs(shape)]):
        units = reach(child, given, units, inside)
    return units


def _branches(
    layer: L.Residual | L.Parallel, shape: Shape, units: Interval, inside: bool
) -> Interval:
    seen = [reach(child, given, units, inside) for _, child, given in layer.child_inputs(shape)]
    return _around(seen + [units] * layer.adds_input)


def _register(rule: Callable[[Any, Shape, Interval, bool], Interval], *kinds: type[Layer]) -> None:
    for kind in kinds:
        reach.register(kind, rule)


_register(_window, *layers_in(conv), *layers_in(pool))
_register(_transposed_window, L.ConvTranspose1d, L.ConvTranspose2d, L.ConvTranspose3d)
# Outside of training a batch normalisation is a factor and a shift for each channel.
_register(lambda layer, shape, units, inside: units, L.Dropout, L.Identity)
_register(lambda layer, shape, units, inside: units, *layers_in(activation), *layers_in(norm))
_register(_whole, L.Flatten, L.Reshape, L.Linear, L.LayerNorm, L.GroupNorm)
_register(_whole, L.GlobalAvgPool, L.GlobalMaxPool)
_register(_pad, L.Pad)
_register(_crop, L.Crop)
_register(_upsample, L.Upsample)
_register(_chain, Chain)
_register(_branches, L.Parallel, L.Residual)


@dataclass(frozen=True)
class FieldRow:
    """The receptive field of the units of one layer, an entry for each spatial axis of the input.

    Attributes:
        path: place in the network; empty for the network's input.
        layer: kind of the layer.
        output: shape of its output.
        size: input positions that a unit sees, padding included; of the unit that sees most.
        stride: input positions between the fields of two neighbouring units; 0 where all units
            see the same, a fraction behind layers that go up in size.
        offset: first input position that any unit sees; negative in the padding.
        padding: how far the fields reach beyond the input, (before, after).
    """

    path: str = field(metadata=column(""))
    layer: str = field(metadata=column("layer"))
    output: Shape = field(metadata=column("output"))
    size: tuple[int, ...] = field(metadata=column("size"))
    stride: tuple[Fraction, ...] = field(metadata=column("stride", by_axis))
    offset: tuple[int, ...] = field(metadata=column("offset", by_axis))
    padding: tuple[tuple[int, int], ...] = field(metadata=column("padding", by_axis))


#: From intervals of a layer's output to intervals of the network's input.
Back: TypeAlias = Callable[[Interval, bool], Interval]


@dataclass(frozen=True)
class ReceptiveField(Table[FieldRow]):
    """A row for each layer, in the order of the forward pass; see :func:`receptive_field`."""

    _backs: dict[str, Back]

    def of(self, path: str, *position: int) -> tuple[slice, ...]:
        """Return the part of the input that one unit sees, as a slice for each axis.

        A unit that sees nothing but padding has empty slices.

        Args:
            path: of the layer, as in the table.
            position: of the unit in the output of the layer, without the channel.

        Raises:
            ShapeError: there is no such layer or unit.
        """
        row = next((row for row in self.rows if row.path == path), None)
        if row is None:
            known = ", ".join(row.path for row in self.rows)
            raise ShapeError(f"receptive_field: no layer {path!r}, expected one of {known}")
        sizes = row.output[1:]
        if len(position) != len(sizes) or any(
            not 0 <= i < n for i, n in zip(position, sizes, strict=True)
        ):
            raise ShapeError(
                f"receptive_field: position {position} of layer {path}, whose output is {sizes}"
            )
        unit = np.array(position, np.int64).reshape(len(sizes), 1)
        first, last = self._backs[path]((unit, unit), True)
        if (first > last).any():
            return (slice(0, 0),) * len(first)
        return tuple(
            slice(int(lo), int(hi) + 1) for lo, hi in zip(first[:, 0], last[:, 0], strict=True)
        )

    def along(self, axis: int) -> Interval:
        """Return the first and last input position of every unit of the last layer on one axis.

        Padding counts as if the input went on; where a unit sees nothing, last lies before first.
        """
        row = self.rows[-1]
        units = np.zeros((len(row.output) - 1, row.output[1 + axis]), np.int64)
        units[axis] = np.arange(row.output[1 + axis])
        first, last = self._backs[row.path]((units, units), False)
        return first[axis], last[axis]


@checked
def receptive_field(net: Layer, input_shape: Shape | None = None) -> ReceptiveField:
    """Return what the units of each layer see of the network's input.

    Branches have a row for each layer inside and one for the whole. Channels are not looked at:
    a layer with groups sees the same positions of fewer channels.

    Args:
        net: a network or a single layer.
        input_shape: of one sample; what the network knows if None.

    Raises:
        ShapeError: the input shape is not known or does not fit, or a layer has no rule
            (see :func:`reach`).

    >>> from tinyconv.models import nielsen_conv_conv
    >>> field = receptive_field(nielsen_conv_conv())
    >>> print(Table(field.rows[:6]))
       layer      output    size   stride  offset  padding
       input      1x28x28   1x1    1, 1    0, 0    0+0, 0+0
    0  Conv2d     20x24x24  5x5    1, 1    0, 0    0+0, 0+0
    1  MaxPool2d  20x12x12  6x6    2, 2    0, 0    0+0, 0+0
    2  Sigmoid    20x12x12  6x6    2, 2    0, 0    0+0, 0+0
    3  Conv2d     40x8x8    14x14  2, 2    0, 0    0+0, 0+0
    4  MaxPool2d  40x4x4    16x16  4, 4    0, 0    0+0, 0+0
    >>> field.of("4", 0, 3)
    (slice(0, 16, None), slice(12, 28, None))
    """
    shape = input_shape_of("receptive_field", net, input_shape)

    def nothing(units: Interval, inside: bool) -> Interval:
        return units

    backs: dict[str, Back] = {"": nothing}
    rows = [_row("", "input", shape, shape, nothing)]
    for path, layer, given, back in _walk(net, shape, "", nothing):
        backs[path] = back
        rows.append(_row(path, type(layer).__name__, layer.output_shape(given), shape, back))
    return ReceptiveField(tuple(rows), backs)


def _walk(
    layer: Layer, shape: Shape, path: str, back: Back
) -> Iterator[tuple[str, Layer, Shape, Back]]:
    """Yield every layer with path, input shape and the way from its output back to the input.

    ``back`` is the way from the input of ``layer``.
    """

    def behind(layer: Layer, shape: Shape, back: Back) -> Back:
        return lambda units, inside: back(reach(layer, shape, units, inside), inside)

    if isinstance(layer, Container):
        before = back
        for name, child, given in layer.child_inputs(shape):
            yield from _walk(child, given, f"{path}.{name}" if path else name, before)
            if isinstance(layer, Chain):
                before = behind(child, given, before)
    if not isinstance(layer, Chain):
        yield path or "0", layer, shape, behind(layer, shape, back)


def _row(path: str, layer: str, output: Shape, shape: Shape, back: Back) -> FieldRow:
    # The units along every axis at once: axes of different lengths are filled up with their last.
    sizes, count = output[1:], max(output[1:], default=1)
    units = np.empty((len(sizes), count), np.int64)
    for axis, n in enumerate(sizes):
        units[axis] = np.minimum(np.arange(count), n - 1)
    first, last = back((units, units), False)
    further, _ = back((units + PERIOD, units + PERIOD), False)
    seen, end = first <= last, np.array(shape[1:], np.int64) - 1
    lowest = np.where(seen, first, NOTHING).min(axis=1)
    highest = np.where(seen, last, -NOTHING).max(axis=1)
    # Behind a transposed convolution with gaps, the first unit may see nothing.
    moved = np.where(seen, further - first, 0).max(axis=1)
    return FieldRow(
        path=path,
        layer=layer,
        output=output,
        size=tuple(int(n) for n in np.maximum(last - first + 1, 0).max(axis=1)),
        stride=tuple(Fraction(int(m), PERIOD).limit_denominator(64) for m in moved),
        offset=tuple(int(n) for n in lowest),
        padding=tuple(
            (max(0, -int(lo)), max(0, int(hi)))
            for lo, hi in zip(lowest, highest - end, strict=True)
        ),
    )

"""What becomes of a shift: equivariance of layers, invariance of networks, measured.

A layer f is equivariant to shifts T if ``f(T x) = T' f(x)``: shifting the input shifts the output,
by the shift divided by the layer's stride. It is invariant if ``f(T x) = f(x)``.

Source: Prince, "Understanding deep learning" (2023), section 10.1.
"""

from dataclasses import dataclass, field

import numpy as np

from tinyconv.analysis.probe import input_shape_of, probe
from tinyconv.analysis.reach import receptive_field
from tinyconv.analysis.table import Table, by_axis, column
from tinyconv.arguments import checked
from tinyconv.backend import Array, Values, to_numpy
from tinyconv.errors import ShapeError
from tinyconv.geometry import Sizes
from tinyconv.layers import Layer

#: Samples drawn where none are given.
SAMPLES = 4


@dataclass(frozen=True)
class EquivarianceRow:
    """How well the output follows one shift of the input.

    Attributes:
        shift: of the input, for each spatial axis, in positions.
        output_shift: of the output: the shift divided by the stride, rounded.
        exact: whether nothing had to be rounded.
        error: length of ``f(T x) - T' f(x)``, as a share of that of ``f(x)``.
        inside: the same for the units whose receptive field holds neither padding nor what the
            shift brought in from the other side; NaN where there is none.
        units: share of these units.
    """

    shift: tuple[int, ...] = field(metadata=column("shift", by_axis))
    output_shift: tuple[int, ...] = field(metadata=column("output shift", by_axis))
    exact: bool = field(metadata=column("exact"))
    error: float = field(metadata=column("error"))
    inside: float = field(metadata=column("inside"))
    units: float = field(metadata=column("units inside", lambda value: f"{value:.0%}"))


@dataclass(frozen=True)
class Equivariance(Table[EquivarianceRow]):
    """A row for each shift, and images of the largest one; see :func:`equivariance`.

    Attributes:
        x: the first channel of the first sample.
        shifted_x: the same after the shift.
        y: the first channel of the first output.
        shifted_y: the same after the output shift, which an equivariant layer gives for
            ``shifted_x``.
        y_of_shifted: what the layer gives for ``shifted_x``.
        inside: True for the units that the row's ``inside`` compares.
    """

    x: Values
    shifted_x: Values
    y: Values
    shifted_y: Values
    y_of_shifted: Values
    inside: Values


@dataclass(frozen=True)
class InvarianceRow:
    """How far the output stays the same under one shift of the input.

    Attributes:
        shift: of the input, for each spatial axis, in positions.
        change: length of ``f(T x) - f(x)``, as a share of that of ``f(x)``.
        same_class: share of the samples whose largest output is the same.
    """

    shift: tuple[int, ...] = field(metadata=column("shift", by_axis))
    change: float = field(metadata=column("change"))
    same_class: float = field(metadata=column("same class", lambda value: f"{value:.1%}"))


@checked
def equivariance(layer: Layer, shift: Sizes, x: Array | None = None) -> Equivariance:
    """Measure how the output follows shifts of the input, from none to ``shift``.

    Images are shifted around: what leaves on one side comes in on the other. A convolution of
    stride 1 is equivariant but for its border, and with circular padding there, too; a layer of
    stride 2 only to every second shift.

    Args:
        layer: a layer or network whose output has spatial axes.
        shift: positions to shift by, one number for every axis or one for each.
        x: (N, C, H, W) or the like; random if None, of the channels that the layer takes.

    Raises:
        ShapeError: x does not fit or cannot be chosen, the shift does not fit its axes, or the
            output has no spatial axes.

    >>> from tinyconv.layers import MaxPool2d
    >>> x = np.random.default_rng(0).normal(size=(2, 1, 8, 8))
    >>> print(equivariance(MaxPool2d(2), (0, 3), x))
    shift  output shift  exact   error  inside  units inside
    0, 0   0, 0            yes       0       0          100%
    0, 1   0, 0             no  0.4926  0.5143           75%
    0, 2   0, 1            yes       0       0           75%
    0, 3   0, 2             no  0.4725  0.4815           50%
    """
    x = _samples("equivariance", layer, x)
    shape = x.shape[1:]
    steps = _steps("equivariance", shift, len(shape) - 1)
    field = receptive_field(layer, shape).rows[-1]
    if len(field.output) != len(shape):
        raise ShapeError(
            f"equivariance: the output has shape {field.output}, expected a spatial axis for each "
            "of the input's; see invariance"
        )
    if 0 in field.stride:
        raise ShapeError("equivariance: every unit sees the same of the input; see invariance")
    rows = []
    with probe(layer) as f:
        y = f(x)
        for step in steps:
            quotients = [a / s for a, s in zip(step, field.stride, strict=True)]
            moved = tuple(round(q) for q in quotients)
            y_of_shifted, shifted_y = f(_roll(x, step)), _roll(y, moved)
            inside = _inside(layer, shape, step, moved)
            difference = y_of_shifted - shifted_y
            rows.append(
                EquivarianceRow(
                    shift=step,
                    output_shift=moved,
                    exact=all(m == q for m, q in zip(moved, quotients, strict=True)),
                    error=_share(difference, shifted_y),
                    inside=_share(difference[..., inside], shifted_y[..., inside]),
                    units=float(inside.mean()),
                )
            )
    return Equivariance(
        rows=tuple(rows),
        x=x[0, 0],
        shifted_x=_roll(x, step)[0, 0],
        y=y[0, 0],
        shifted_y=shifted_y[0, 0],
        y_of_shifted=y_of_shifted[0, 0],
        inside=inside,
    )


def invariance(net: Layer, shift: Sizes, x: Array | None = None) -> Table[InvarianceRow]:
    """Measure how far the output stays the same while the input shifts, from not to ``shift``.

    Images are shifted around: what leaves on one side comes in on the other.

    Args:
        net: a network or layer; the other arguments are those of :func:`equivariance`.

    Raises:
        ShapeError: x does not fit or cannot be chosen, or the shift does not fit its axes.

    >>> import tinyconv as tc
    >>> net = tc.Sequential([tc.AvgPool2d(8), tc.Flatten()])    # a mean over all positions
    >>> print(invariance(net, (0, 2), np.random.default_rng(0).normal(size=(2, 3, 8, 8)).round(1)))
    shift  change  same class
    0, 0        0  100.0%
    0, 1   ...     100.0%
    0, 2   ...     100.0%
    """
    x = _samples("invariance", net, x)
    rows = []
    with probe(net) as f:
        y = f(x)
        classes = y.reshape(len(x), -1).argmax(axis=1)
        for step in _steps("invariance", shift, x.ndim - 2):
            moved = f(_roll(x, step))
            same = moved.reshape(len(x), -1).argmax(axis=1) == classes
            rows.append(InvarianceRow(step, _share(moved - y, y), float(same.mean())))
    return Table(tuple(rows))


def _samples(op: str, layer: Layer, x: Array | None) -> Values:
    if x is not None:
        return to_numpy(x)
    channels, kernel = getattr(layer, "in_channels", 1), getattr(layer, "kernel_size", None)
    shape = getattr(layer, "input_shape", None)
    if shape is None and channels is not None and kernel is not None:
        shape = (channels, *(max(16, 4 * k) for k in kernel))
    shape = input_shape_of(op, layer, shape)
    return np.random.default_rng(0).normal(size=(SAMPLES, *shape))


def _steps(op: str, shift: Sizes, axes: int) -> list[tuple[int, ...]]:
    """Return the shifts from none to the whole one, all axes together."""
    whole = (shift,) * axes if isinstance(shift, int) else tuple(shift)
    if len(whole) != axes or axes == 0:
        raise ShapeError(f"{op}: shift is {shift!r}, expected {axes} integers, one a spatial axis")
    largest = max(map(abs, whole))
    return [
        tuple(int(np.sign(a)) * min(abs(a), number) for a in whole) for number in range(largest + 1)
    ]


def _roll(x: Values, shift: tuple[int, ...]) -> Values:
    return np.roll(x, shift, axis=tuple(range(2, x.ndim)))


def _share(difference: Values, whole: Values) -> float:
    """Return the length of the difference over that of the whole; NaN where nothing is left."""
    if difference.size == 0:
        return float("nan")
    length = float(np.linalg.norm(whole))
    return float(np.linalg.norm(difference)) / length if length else float(np.any(difference))


def _inside(
    layer: Layer, shape: tuple[int, ...], shift: tuple[int, ...], moved: tuple[int, ...]
) -> Values:
    """Tell which units of the shifted output see neither padding nor what was shifted around."""
    field = receptive_field(layer, shape)
    sizes = field.rows[-1].output[1:]
    inside = np.ones(sizes, bool)
    for axis, (a, b) in enumerate(zip(shift, moved, strict=True)):
        first, last = field.along(axis)
        end = shape[1 + axis] - 1
        good = (first >= max(0, a)) & (last <= end + min(0, a))
        # The unit that it is compared with came from b positions before; not around the end.
        origin = np.arange(sizes[axis]) - b
        good &= (origin >= 0) & (origin < sizes[axis])
        origin = np.where(good, origin, 0)
        good &= (first[origin] >= 0) & (last[origin] <= end)
        inside &= good.reshape([-1 if other == axis else 1 for other in range(len(sizes))])
    return inside

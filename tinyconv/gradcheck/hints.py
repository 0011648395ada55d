"""From the pattern of an error to the mistake that makes such patterns.

Each function here looks for one family of mistakes in an :class:`Evidence` and returns a
sentence, or "" if the pattern is another. :func:`explain` asks them in order, from the most
specific to the most general.
"""

import itertools
import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from tinyconv.gradcheck.callables import FloatArray, largest
from tinyconv.gradcheck.evidence import Evidence
from tinyconv.gradcheck.locations import (
    broad_part,
    name_ratio,
    narrow_part,
    part_of_dy,
    wrong_places,
)

__all__ = ["explain", "explain_shape"]


def explain(evidence: Evidence) -> str:
    """Return what the pattern suggests, "" if nothing."""
    if not np.any(evidence.wrong):
        return ""
    for look in (
        _not_linear_in_dy,
        _constant_ratio,
        _order,
        _rearranged,
        _input_rearranged,
        _stale,
        _local_derivative,
        _sum_of_dy,
        narrow_part,
        part_of_dy,
        wrong_places,
        _missing_term,
        _dy_times,
        broad_part,
    ):
        sentence = look(evidence)
        if sentence:
            return f"{evidence.name}: {sentence}"
    return ""


def _not_linear_in_dy(e: Evidence) -> str:
    """A gradient is linear in dy: doubling dy doubles it."""
    doubled = e.vjp(2 * e.dy, None)
    if np.all(np.abs(doubled - 2 * e.analytic) <= 1e-9 * largest(doubled)):
        return ""
    if np.all(np.abs(doubled - e.analytic) <= 1e-9 * largest(doubled)):
        return "the gradient does not depend on dy: multiply by what comes from above"
    return "the gradient is not linear in dy"


def _constant_ratio(e: Evidence) -> str:
    if not np.any(e.got) and np.any(e.wrong):
        return "" if np.any(e.analytic) else "the gradient is zero everywhere: it is never computed"
    ratio = e.ratio(np.ones_like(e.wrong))
    return "" if ratio is None else f"the gradient is {name_ratio(ratio, e)}"


def _rearranged(e: Evidence) -> str:
    """The right numbers, with axes swapped, flipped or shifted."""
    shape = e.analytic.shape
    axes = range(len(shape))
    for order in itertools.permutations(axes) if len(shape) <= 4 else ():
        if order == tuple(axes) or tuple(shape[k] for k in order) != shape:
            continue
        if e.matches(np.transpose(e.analytic, order)):
            swapped = tuple(k for k in axes if order[k] != k)
            return f"the gradient is transposed: axes {swapped} are swapped"
    for count in range(1, len(shape) + 1):
        for flipped in itertools.combinations(axes, count):
            if e.matches(np.flip(e.analytic, flipped)):
                if len(shape) == 4 and flipped == (2, 3):
                    return "the kernel is flipped: axes (2, 3) run backwards"
                return f"the gradient is flipped: axes {flipped} run backwards"
    for axis, by in itertools.product(axes, (1, -1, 2, -2)):
        if shape[axis] > abs(by) and _is_shift(e, {axis: by}):
            return f"the gradient is shifted by {-by} along axis {axis}: an offset or the padding"
    if len(shape) >= 2:
        for by in (1, -1, 2, -2):
            if _is_shift(e, {len(shape) - 2: by, len(shape) - 1: by}):
                return f"the gradient is shifted by {-by} along both last axes: the padding"
    return ""


def _is_shift(e: Evidence, shifts: dict[int, int]) -> bool:
    """Tell whether the gradient moved by ``shifts`` is right, where the two overlap."""
    shape = e.analytic.shape
    moved = e.at(np.roll(e.analytic, list(shifts.values()), list(shifts)))
    index = np.unravel_index(e.flat, shape)
    inside = np.ones(e.flat.shape, dtype=bool)
    for axis, by in shifts.items():
        inside &= (index[axis] >= by) & (index[axis] < shape[axis] + min(by, 0))
    if np.sum(inside & (np.abs(e.numeric) > 1e-6 * e.size)) < 2 or not np.any(inside & e.wrong):
        return False
    return bool(np.all(e.close(moved)[inside]))


def _order(e: Evidence) -> str:
    """Gradients returned in another order than the inputs."""
    for name, other in e.others.items():
        if other.shape == e.analytic.shape and e.matches(other):
            return (
                f"this is not its gradient, but the gradient of {name} would be: the order is off"
            )
    return ""


def _input_rearranged(e: Evidence) -> str:
    """Right if another input were transposed or flipped, so backward uses it like that."""
    for j, x in enumerate(e.inputs):
        if j == e.position or x.ndim < 2 or x.dtype.kind != "f":
            continue
        for how, moved in _rearrangements(x):
            inputs = [moved if k == j else a for k, a in enumerate(e.inputs)]
            if e.matches(e.vjp(e.dy, inputs)):
                return f"backward is right for {e.names[j]} {how}: it has {e.names[j]} used {how}"
    return ""


def _rearrangements(x: Any) -> Iterator[tuple[str, Any]]:
    last = (x.ndim - 2, x.ndim - 1)
    if x.shape[-1] == x.shape[-2]:
        yield "transposed", np.swapaxes(x, *last)
    if x.ndim > 2 and x.shape[0] == x.shape[1]:
        yield "transposed", np.swapaxes(x, 0, 1)
    yield "flipped", np.flip(x, last)


def _local_derivative(e: Evidence) -> str:
    """Elementwise functions: what dy is multiplied by."""
    for name, x in e.same_shape.items():
        if np.all(e.close(e.got * x)):
            return f"the factor {name} is missing"
        if np.all(e.close(e.got, e.numeric * x)):
            return f"the factor {name} is too much"
    if e.analytic.shape != e.dy.shape:
        return ""
    dy = e.at(e.dy)
    if np.all(e.close(e.got, dy)):
        if np.all((np.abs(e.numeric) <= e.tolerance) | e.close(dy)):
            return "dy is passed on where the derivative is zero: the mask is missing"
        return "the gradient is dy itself: the derivative of the function is missing"
    for name, factor in _factors(e).items():
        if np.all(e.close(e.got * factor)):
            return f"the factor {name} is missing"
        if np.all(e.close(e.got, e.numeric * factor)):
            return f"the factor {name} is too much"
    return _other_mask(e)


def _factors(e: Evidence) -> dict[str, FloatArray]:
    y = e.at(e.y)
    return {"y": y, "1 - y": 1 - y, "1 - y^2": 1 - y * y, "y (1 - y)": y * (1 - y)}


def _other_mask(e: Evidence) -> str:
    ratio = e.ratio((np.abs(e.got) > 0) & (np.abs(e.numeric) > e.tolerance))
    if ratio is None or abs(ratio - 1) > 1e-6:
        return ""
    lost = np.any((e.got == 0) & e.wrong)
    extra = np.any((np.abs(e.numeric) <= e.tolerance) & e.wrong)
    if lost and extra:
        return "zeros are in the wrong places: another mask than that of forward"
    if extra:
        return "dy is passed on where the derivative is zero: the mask is missing or too wide"
    return "the gradient is zero where it should not be: the mask is too narrow"


def _dy_times(e: Evidence) -> str:
    if e.analytic.shape != e.dy.shape:
        return ""
    for name, factor in (e.same_shape | _factors(e)).items():
        if np.all(e.close(e.got, e.at(e.dy) * factor)):
            return f"the gradient is dy * ({name}), which is not the derivative"
    return ""


def _stale(e: Evidence) -> str:
    if not e.is_stale():
        return ""
    return "the gradient is that of an earlier call with other inputs: saved values are stale"


def _sum_of_dy(e: Evidence) -> str:
    """Biases: the gradient is dy summed over all axes but the bias's own."""
    sums = dict(_sums(e.dy))
    right = [axes for axes, total in sums.items() if total.shape == e.analytic.shape]
    right = [axes for axes in right if e.matches(sums[axes])]
    if not right:
        return ""
    for axes, total in sums.items():
        if total.shape == e.analytic.shape and e.explains(total):
            return f"the gradient is dy summed over axes {axes}, expected {right[0]}"
    for axis in right[0]:
        for k in range(e.dy.shape[axis]):
            taken = np.take(e.dy, [k], axis=axis).sum(axis=right[0])
            if e.explains(taken):
                return f"only dy at index {k} of axis {axis} is counted: sum over that axis"
            if e.explains(sums[right[0]] - taken):
                return f"dy at index {k} of axis {axis}, of {e.dy.shape[axis]}, is left out"
    return ""


def _missing_term(e: Evidence) -> str:
    """The difference to the numeric gradient is something simple."""
    missing = e.numeric - e.got
    shape = e.analytic.shape
    terms = dict(e.same_shape)
    if e.y.shape == shape:
        y, dy = e.at(e.y), e.at(e.dy)
        terms |= {"dy": dy, "y": y, "y dy": y * dy, "y^2 dy": y * y * dy}
    terms["1"] = np.ones_like(missing)
    everything = np.zeros_like(e.flat)
    for name, values in terms.items():
        factor = _multiple(e, missing, values, everything)
        if factor is not None:
            what = "the same number" if name == "1" else f"proportional to {name}"
            return f"a term is missing: the derivative has {factor:.4g} times {name} more, {what}"
    index = np.unravel_index(e.flat, shape)
    for axis in range(len(shape) if len(shape) > 1 else 0):
        others = [index[k] for k in range(len(shape)) if k != axis]
        group = np.ravel_multi_index(others, [n for k, n in enumerate(shape) if k != axis])
        for name, values in terms.items():
            if shape[axis] > 2 and _multiple(e, missing, values, group) is not None:
                return (
                    f"a term is missing: {name} times a number for each slice along axis {axis}, "
                    "as from a sum over it"
                )
    if 1 < np.sum(e.wrong) < len(e.wrong):
        off = missing[e.wrong]
        if np.all(np.abs(off - off[0]) <= 4 * e.tolerance[e.wrong] + 1e-9 * e.size):
            return (
                f"a term is missing in {len(off)} elements, which are all too "
                f"{'small' if off[0] > 0 else 'large'} by {abs(off[0]):.6g}; right elsewhere"
            )
    return ""


def _multiple(e: Evidence, missing: FloatArray, values: FloatArray, group: Any) -> float | None:
    """Return the number of the first group if ``missing`` is ``values`` times one a group."""
    _, group, counts = np.unique(group, return_inverse=True, return_counts=True)
    if np.max(counts) < 3:
        return None
    dot = np.bincount(group, missing * values)
    square = np.bincount(group, values * values)
    factor = np.divide(dot, square, out=np.zeros_like(dot), where=square > 0)
    return float(factor[0]) if np.all(e.close(missing, factor[group] * values)) else None


def _sums(dy: FloatArray) -> Iterator[tuple[tuple[int, ...], FloatArray]]:
    for count in range(1, dy.ndim + 1):
        for axes in itertools.combinations(range(dy.ndim), count):
            yield axes, np.asarray(dy.sum(axis=axes))


def explain_shape(
    name: str, g: np.ndarray[Any, Any], shape: tuple[int, ...], dy: FloatArray, y: FloatArray
) -> str:
    """Return what the wrong shape of a gradient suggests, "" if nothing."""
    if g.ndim == len(shape) > 1 and sorted(g.shape) == sorted(shape):
        return f"{name}: the gradient is transposed"
    if tuple(n for n in g.shape if n != 1) == tuple(n for n in shape if n != 1):
        return f"{name}: the right elements, but axes of length 1 are left over or lost"
    if y.ndim and g.shape == (y.shape[0], *shape):
        return f"{name}: the gradient is not summed over the batch, axis 0"
    if g.shape == y.shape and y.shape != shape:
        return f"{name}: the gradient has the shape of y: sum it over the axes that were broadcast"
    for axes, total in _sums(dy):
        if total.shape == g.shape and np.allclose(total, g):
            return f"{name}: the gradient is dy summed over axes {axes}, which are the wrong ones"
    if g.ndim == len(shape):
        off = [k for k in range(g.ndim) if g.shape[k] != shape[k]]
        by = {g.shape[k] - shape[k] for k in off}
        if len(by) == 1:
            return (
                f"{name}: off by {by.pop():+d} along axes {tuple(off)}: the padding is not cut off"
            )
    if g.size == math.prod(shape):
        return f"{name}: the right number of elements: reshape it to {shape}"
    return ""

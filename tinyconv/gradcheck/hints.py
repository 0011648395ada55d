"""From the pattern of an error to the mistake that makes such patterns.

Each function here looks for one family of mistakes in an :class:`Evidence` and returns a
sentence, or "" if the pattern is another. :func:`explain` asks them in order, from the most
specific to the most general.
"""

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from tinyconv.gradcheck.callables import FloatArray, largest

__all__ = ["Evidence", "explain", "explain_shape"]


@dataclass(frozen=True)
class Evidence:
    """What is known about the wrong gradient of one input.

    The numeric gradient is known at the flat indices ``flat``; kinks are left out.
    """

    name: str
    position: int
    inputs: list[Any]
    names: list[str]
    dy: FloatArray
    y: FloatArray
    analytic: FloatArray  #: the whole gradient
    elsewhere: FloatArray | None  #: the gradient for the same dy at another point
    flat: np.ndarray[Any, Any]
    numeric: FloatArray
    tolerance: FloatArray
    vjp: Callable[[FloatArray], FloatArray]  #: dy -> the gradient of this input
    #: v (a random direction of the input's shape) and the derivative of every output along it
    jvp: Callable[[], tuple[FloatArray, FloatArray] | None]

    @cached_property
    def got(self) -> FloatArray:
        """The analytic gradient where the numeric one is known."""
        return np.asarray(self.analytic.reshape(-1)[self.flat])

    @cached_property
    def wrong(self) -> np.ndarray[Any, np.dtype[np.bool_]]:
        """Where the two differ."""
        return ~self.close(self.got)

    @cached_property
    def size(self) -> float:
        """The largest absolute value of either."""
        return max(largest(self.numeric), largest(self.got))

    def close(self, got: Any, numeric: Any = None) -> np.ndarray[Any, np.dtype[np.bool_]]:
        """Tell where ``got`` is the numeric gradient, or another one, within the tolerance."""
        numeric = self.numeric if numeric is None else numeric
        return np.asarray(np.abs(got - numeric) <= 4 * self.tolerance + 1e-9 * self.size)

    def matches(self, candidate: FloatArray) -> bool:
        """Tell whether the analytic gradient, taken differently, is the numeric one."""
        return bool(np.all(self.close(candidate.reshape(-1)[self.flat])))

    def explains(self, mistake: FloatArray) -> bool:
        """Tell whether the analytic gradient is all of ``mistake``, and this is not just zero."""
        return largest(mistake) > 0 and bool(
            np.all(np.abs(self.analytic - mistake) <= 1e-9 * self.size)
        )


def explain(evidence: Evidence) -> str:
    """Return what the pattern suggests, "" if nothing."""
    if not np.any(evidence.wrong):
        return ""
    for look in (
        _not_linear_in_dy,
        _constant_ratio,
        _rearranged,
        _local_derivative,
        _sum_of_dy,
        _part_of_the_tensor,
        _part_of_dy,
        _wrong_places,
        _missing_term,
        _stale,
    ):
        sentence = look(evidence)
        if sentence:
            return f"{evidence.name}: {sentence}"
    return ""


# -- the whole tensor -------------------------------------------------------------------------


def _not_linear_in_dy(e: Evidence) -> str:
    """A gradient is linear in dy: doubling dy doubles it."""
    doubled = e.vjp(2 * e.dy)
    if np.all(np.abs(doubled - 2 * e.analytic) <= 1e-9 * largest(doubled)):
        return ""
    if np.all(np.abs(doubled - e.analytic) <= 1e-9 * largest(doubled)):
        return "the gradient does not depend on dy: multiply by what comes from above"
    return "the gradient is not linear in dy"


def _constant_ratio(e: Evidence) -> str:
    if not np.any(e.got) and np.any(e.wrong):
        return "" if np.any(e.analytic) else "the gradient is zero everywhere: it is never computed"
    ratio = _ratio(e, np.ones_like(e.wrong))
    return "" if ratio is None else f"the gradient is {_name_ratio(ratio, e)}"


def _ratio(e: Evidence, where: Any) -> float | None:
    """Return the ratio analytic / numeric if it is the same wherever ``where`` holds."""
    got, numeric = e.got[where], e.numeric[where]
    significant = np.abs(numeric) > 1e-6 * e.size
    if not np.any(significant):
        return None
    ratio = float(np.median(got[significant] / numeric[significant]))
    slack = 4 * max(1.0, abs(ratio)) * e.tolerance[where] + 1e-9 * e.size
    return ratio if np.all(np.abs(got - ratio * numeric) <= slack) else None


def _name_ratio(ratio: float, e: Evidence) -> str:
    if abs(ratio) < 1e-9:
        return "zero there"
    text = f"{ratio:.6g} times what it should be"
    if abs(ratio + 1) < 1e-6:
        return text + ": the sign is flipped"
    for value, meaning in _lengths(e):
        if abs(abs(ratio) - value) < 1e-6 * value:
            return f"{text}; {value} is {meaning}: a sum instead of a mean, or 1/{value} missing"
        if abs(abs(ratio) * value - 1) < 1e-6:
            return f"{text}; {value} is {meaning}: a mean instead of a sum, or 1/{value} twice"
    if abs(abs(ratio) - 2) < 1e-6:
        return text + ": a factor 2 too much, as from a square, or the gradient added twice"
    if abs(abs(ratio) - 0.5) < 1e-6:
        return text + ": a factor 2 is missing, as from a square"
    return text + ": a constant factor is missing or too much"


def _lengths(e: Evidence) -> Iterator[tuple[int, str]]:
    """Yield the numbers that a mean may be over, and what each of them is."""
    arrays = [("y", e.y), *zip(e.names, e.inputs, strict=True)]
    if e.inputs and e.inputs[0].ndim:
        yield e.inputs[0].shape[0], f"the batch size, axis 0 of {e.names[0]}"
    for name, a in arrays:
        for axis, length in enumerate(a.shape):
            if length > 2:
                yield length, f"the length of axis {axis} of {name}"
    for name, a in arrays:
        if a.ndim >= 3 and math.prod(a.shape[2:]) > 2:
            yield math.prod(a.shape[2:]), f"the number of positions of {name}"
        if a.ndim >= 2 and a.size > 2:
            yield a.size, f"the number of elements of {name}"
    if e.y.ndim == 4 and e.inputs[e.position].ndim == 4:
        areas = [math.prod(a.shape[2:]) for a in (e.inputs[e.position], e.y)]
        if areas[1] and areas[0] % areas[1] == 0 and areas[0] // areas[1] > 1:
            yield areas[0] // areas[1], "the number of inputs to one output, the window"


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
    moved = np.roll(e.analytic, list(shifts.values()), list(shifts)).reshape(-1)[e.flat]
    index = np.unravel_index(e.flat, shape)
    inside = np.ones(e.flat.shape, dtype=bool)
    for axis, by in shifts.items():
        inside &= (index[axis] >= by) & (index[axis] < shape[axis] + min(by, 0))
    if np.sum(inside & (np.abs(e.numeric) > 1e-6 * e.size)) < 2 or not np.any(inside & e.wrong):
        return False
    return bool(np.all(e.close(moved)[inside]))


def _local_derivative(e: Evidence) -> str:
    """Elementwise functions: what dy is multiplied by."""
    if e.analytic.shape != e.dy.shape:
        return ""
    dy = e.dy.reshape(-1)[e.flat]
    y = e.y.reshape(-1)[e.flat]
    x = e.inputs[e.position].reshape(-1)[e.flat].astype(np.float64)
    if np.all(e.close(e.got, dy)):
        masked = (np.abs(e.numeric) <= e.tolerance) | e.close(dy)
        if np.all(masked):
            return "dy is passed on where the derivative is zero: the mask is missing"
        return "the gradient is dy itself: the derivative of the function is missing"
    factors = {"y": y, "x": x, "1 - y": 1 - y, "1 - y^2": 1 - y * y, "y (1 - y)": y * (1 - y)}
    for name, factor in factors.items():
        if np.all(e.close(e.got * factor)):
            return f"the factor {name} is missing"
        if np.all(e.close(e.got, e.numeric * factor)):
            return f"the factor {name} is too much"
    for name, factor in factors.items():
        if np.all(e.close(e.got, dy * factor)):
            return f"the gradient is dy * ({name}), which is not the derivative"
    ratio = _ratio(e, (np.abs(e.got) > 0) & (np.abs(e.numeric) > e.tolerance))
    if ratio is not None and abs(ratio - 1) < 1e-6:
        lost = np.any((e.got == 0) & e.wrong)
        extra = np.any((np.abs(e.numeric) <= e.tolerance) & e.wrong)
        if lost and extra:
            return "zeros are in the wrong places: another mask than that of forward"
        if extra:
            return "dy is passed on where the derivative is zero: the mask is missing or too wide"
        return "the gradient is zero where it should not be: the mask is too narrow"
    return ""


def _sum_of_dy(e: Evidence) -> str:
    """Biases: the gradient is dy summed over all axes but the bias's own."""
    sums = dict(_sums(e.dy))
    right = [axes for axes, total in sums.items() if total.shape == e.analytic.shape]
    right = [axes for axes in right if np.all(e.close(sums[axes].reshape(-1)[e.flat]))]
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


def _sums(dy: FloatArray) -> Iterator[tuple[tuple[int, ...], FloatArray]]:
    for count in range(1, dy.ndim + 1):
        for axes in itertools.combinations(range(dy.ndim), count):
            yield axes, np.asarray(dy.sum(axis=axes))


# -- parts ------------------------------------------------------------------------------------


def _part_of_the_tensor(e: Evidence) -> str:
    """Wrong only on the border, for some channels, for the last batch element."""
    if np.all(e.wrong[np.abs(e.numeric) + np.abs(e.got) > e.tolerance]):
        return ""
    index = np.unravel_index(e.flat, e.analytic.shape)
    where = _where(index, e.analytic.shape, e.wrong, _axis_names(e))
    if not where:
        return ""
    ratio = _ratio(e, e.wrong)
    detail = "" if ratio is None else f"; it is {_name_ratio(ratio, e)}"
    if ratio is not None and abs(ratio) < 1e-9:
        detail = "; it is zero there"
    return f"wrong only {where}{detail}"


def _part_of_dy(e: Evidence) -> str:
    """The gradient is linear in dy, so each part of dy can be checked on its own."""
    found = e.jvp() if e.dy.ndim else None
    if found is None:
        return ""
    v, slopes = found
    wrong = np.zeros(e.dy.shape, dtype=bool)
    lost = True
    if e.dy.size > 256:
        return _slice_of_dy(e, v, slopes)
    slack = 1e-6 * float(np.max(np.abs(slopes), initial=0.0))
    for output in np.ndindex(e.dy.shape):
        one = np.zeros_like(e.dy)
        one[output] = 1.0
        analytic = float(np.sum(e.vjp(one) * v))
        wrong[output] = abs(analytic - slopes[output]) > slack
        lost = lost and (not wrong[output] or abs(analytic) <= slack)
    if not np.any(wrong) or np.all(wrong[np.abs(slopes) > slack]):
        return ""
    index = tuple(k.reshape(-1) for k in np.indices(e.dy.shape))
    where = _where(index, e.dy.shape, wrong.reshape(-1), _BATCH_AXES)
    return _say_part(where, lost) if where else ""


def _slice_of_dy(e: Evidence, v: FloatArray, slopes: FloatArray) -> str:
    for axis, length in enumerate(e.dy.shape):
        if not 1 < length <= 32:
            continue
        bad, lost = [], True
        for k in range(length):
            part = np.zeros_like(e.dy)
            at: list[Any] = [slice(None)] * e.dy.ndim
            at[axis] = k
            part[tuple(at)] = e.dy[tuple(at)]
            analytic = float(np.sum(e.vjp(part) * v))
            slack = 1e-6 * float(np.sum(np.abs(part * slopes)))
            if abs(analytic - float(np.sum(part * slopes))) > slack:
                bad.append(k)
                lost = lost and abs(analytic) <= slack
        if 0 < len(bad) < length:
            return _say_part(_say_indices(bad, length, _BATCH_AXES.get(axis, f"axis {axis}")), lost)
    return ""


def _say_part(where: str, lost: bool) -> str:
    return f"dy is {'left out' if lost else 'used wrongly'} {where}, and right elsewhere"


_BATCH_AXES = {0: "batch element", 1: "channel", 2: "row", 3: "column"}


def _axis_names(e: Evidence) -> dict[int, str]:
    shape = e.analytic.shape
    if e.position == 0:
        return _BATCH_AXES
    if len(shape) == 4:
        return {0: "output channel", 1: "input channel", 2: "kernel row", 3: "kernel column"}
    if len(shape) == 2:
        return {0: "output", 1: "input"}
    return {0: "element"}


def _where(index: Any, shape: tuple[int, ...], wrong: Any, names: dict[int, str]) -> str:
    """Describe the set of wrong elements if it is (most of) a simple set, else return ""."""
    best: tuple[float, str] | None = None
    for axis, length in enumerate(shape):
        bad = sorted({int(k) for k in index[axis][wrong]})
        present = set(index[axis].tolist())
        inside = np.isin(index[axis], bad)
        if len(bad) < len(present) and np.mean(wrong[inside]) >= 0.5:
            share = len(bad) / len(present)
            if best is None or share < best[0]:
                best = share, _say_indices(bad, length, names.get(axis, f"axis {axis}, index"))
    if len(shape) >= 3:
        spatial = range(2, len(shape))
        depth = np.min([np.minimum(index[k], shape[k] - 1 - index[k]) for k in spatial], axis=0)
        for width in (1, 2, 3):
            ring = depth < width
            if np.all(ring[wrong]) and not np.all(ring) and np.mean(wrong[ring]) >= 0.5:
                if best is None or best[0] > 0.5 or not best[1].startswith("for"):
                    return f"on the border, {width} wide: the padding"
                break
    return "" if best is None else best[1]


def _say_indices(bad: list[int], length: int, name: str) -> str:
    if bad == [length - 1]:
        return f"for the last {name} ({length - 1})"
    if bad == [0]:
        return f"for the first {name} (0)"
    if len(bad) == length - 1:
        (good,) = set(range(length)) - set(bad)
        return f"for every {name} but {good}"
    listing = ", ".join(map(str, bad[:8])) + (", …" if len(bad) > 8 else "")
    return f"for {name} {listing} of {length}"


# -- places and terms -------------------------------------------------------------------------


def _wrong_places(e: Evidence) -> str:
    """Zeros and values at the wrong indices: an argmax, a mask, a stride."""
    zero = np.abs(e.numeric) <= e.tolerance + 1e-9 * e.size
    none = np.abs(e.got) <= 1e-9 * e.size
    is_whole = len(e.flat) == e.analytic.size
    got, numeric = np.sort(e.got), np.sort(e.numeric)
    if np.any(zero) and is_whole and np.allclose(got, numeric, rtol=1e-6, atol=1e-9 * e.size):
        return "the right values in the wrong places: an index, an argmax or a stride"
    extra, lost = e.wrong & zero, e.wrong & none
    if np.any(extra) and np.any(lost):
        return "gradient goes to elements that have none and misses others: an index or argmax"
    if np.any(extra) and not np.any(e.wrong & ~zero):
        return "gradient goes to elements that have none: a mask or the choice of a maximum"
    if np.any(lost) and not np.any(e.wrong & ~none):
        return "zero where there is a gradient, right elsewhere: elements are left out"
    return ""


def _missing_term(e: Evidence) -> str:
    """The difference to the numeric gradient is something simple."""
    missing = e.numeric - e.got
    shape = e.analytic.shape
    index = np.unravel_index(e.flat, shape)
    by_name = {name: a for name, a in zip(e.names, e.inputs, strict=True) if a.shape == shape}
    if e.y.shape == shape:
        by_name |= {"dy": e.dy, "y": e.y, "y * dy": e.y * e.dy}
    for name, a in by_name.items():
        values = a.reshape(-1)[e.flat].astype(np.float64)
        if _is_multiple(e, missing, values, np.zeros_like(e.flat)):
            return f"a term is missing that is proportional to {name}"
    for axis in range(len(shape)):
        if shape[axis] < 2 or len(shape) < 2:
            continue
        others = [index[k] for k in range(len(shape)) if k != axis]
        group = np.ravel_multi_index(others, [n for k, n in enumerate(shape) if k != axis])
        if _is_multiple(e, missing, np.ones_like(missing), group):
            return (
                f"a term is missing that is the same all along axis {axis}, as from a sum over it"
            )
        for name, a in by_name.items():
            values = a.reshape(-1)[e.flat].astype(np.float64)
            if _is_multiple(e, missing, values, group):
                return (
                    f"a term is missing: {name} times a number for each slice along axis {axis}, "
                    "as from a sum over it"
                )
    return ""


def _is_multiple(e: Evidence, missing: FloatArray, values: FloatArray, group: Any) -> bool:
    """Tell whether ``missing`` is ``values`` times one number for each group."""
    _, group, counts = np.unique(group, return_inverse=True, return_counts=True)
    if np.max(counts) < 3:
        return False
    dot = np.bincount(group, missing * values)
    square = np.bincount(group, values * values)
    factor = np.divide(dot, square, out=np.zeros_like(dot), where=square > 0)
    return bool(np.all(e.close(missing, factor[group] * values)))


def _stale(e: Evidence) -> str:
    if e.elsewhere is None or not e.explains(e.elsewhere):
        return ""
    return "the gradient is that of an earlier call with other inputs: saved values are stale"


# -- shapes -----------------------------------------------------------------------------------


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

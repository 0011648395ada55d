"""Where a gradient is wrong: in which part of the tensor, for which part of dy, in which places."""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from tinyconv.gradcheck.callables import FloatArray
from tinyconv.gradcheck.evidence import Evidence

__all__ = ["broad_part", "name_ratio", "narrow_part", "part_of_dy", "wrong_places"]


def narrow_part(e: Evidence) -> str:
    """Wrong in at most half of the tensor: the border, some channels, the last batch element."""
    return _part(e, 0.5)


def broad_part(e: Evidence) -> str:
    """Wrong in more than that, but in a part that has a name."""
    return _part(e, 1.0)


def _part(e: Evidence, most: float) -> str:
    if np.all(e.wrong[np.abs(e.numeric) + np.abs(e.got) > e.tolerance]):
        return ""
    index = np.unravel_index(e.flat, e.analytic.shape)
    where = _describe(index, e.analytic.shape, e.wrong, _axis_names(e), most)
    if not where:
        return ""
    ratio = e.ratio(e.wrong)
    return f"wrong only {where}" + ("" if ratio is None else f"; it is {name_ratio(ratio, e)}")


def part_of_dy(e: Evidence) -> str:
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
        analytic = float(np.sum(e.vjp(one, None) * v))
        wrong[output] = abs(analytic - slopes[output]) > slack
        lost = lost and (not wrong[output] or abs(analytic) <= slack)
    if not np.any(wrong) or np.all(wrong[np.abs(slopes) > slack]):
        return ""
    index = tuple(k.reshape(-1) for k in np.indices(e.dy.shape))
    where = _describe(index, e.dy.shape, wrong.reshape(-1), _BATCH_AXES, 0.9)
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
            analytic = float(np.sum(e.vjp(part, None) * v))
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


def _describe(
    index: Any, shape: tuple[int, ...], wrong: Any, names: dict[int, str], most: float = 0.5
) -> str:
    """Describe the set of wrong elements if it is (most of) a simple set, else return ""."""
    best, words = most, ""
    for axis, length in enumerate(shape):
        bad = sorted({int(k) for k in index[axis][wrong]})
        share = len(bad) / len(np.unique(index[axis]))
        inside = np.isin(index[axis], bad)
        if (
            share < 1
            and share <= best
            and np.mean(wrong[inside]) >= 0.5
            and (not words or share < best)
        ):
            best, words = share, _say_indices(bad, length, names.get(axis, f"axis {axis}, index"))
    if words or len(shape) < 3:
        return words
    depth = np.min(
        [np.minimum(index[k], shape[k] - 1 - index[k]) for k in range(2, len(shape))], axis=0
    )
    for width in (1, 2):
        ring = depth < width
        if np.all(ring[wrong]) and not np.all(ring) and np.mean(wrong[ring]) >= 0.9:
            return f"on the border, {width} wide: the padding"
    return ""


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


def wrong_places(e: Evidence) -> str:
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


def name_ratio(ratio: float, e: Evidence) -> str:
    """Return ``"4 times what it should be"`` and what a 4 may come from."""
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

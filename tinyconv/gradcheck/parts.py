"""Where a gradient is wrong: in which part of the tensor, for which part of dy."""

from collections.abc import Iterator
from typing import Any, TypeAlias

import numpy as np

from tinyconv.gradcheck.evidence import Evidence
from tinyconv.gradcheck.numbers import largest

__all__ = ["broad_part", "dy_part", "narrow_part", "selected"]

Hypotheses: TypeAlias = Iterator[tuple[Any, str]]
#: Of more outputs dy is not taken apart.
MANY = 600


def narrow_part(e: Evidence, most: float = 0.5) -> Hypotheses:
    """Wrong in at most half of the tensor, in a part that has a name, and right elsewhere."""
    if np.all(e.wrong[e.significant]):
        return
    if np.sum(e.wrong) == 1 and np.sum(e.significant) > 2:
        where = tuple(int(k[e.wrong][0]) for k in e.index)
        compared = "" if len(e.flat) == e.analytic.size else " compared"
        yield True, f"wrong at {where} alone, and all others{compared} are right"
        return
    names = [e.axis(k) for k in range(e.analytic.ndim)]
    words = _describe(e.index, e.analytic.shape, e.wrong, e.significant, names, most)
    yield words, f"wrong only {words}{_share(e)}"


def broad_part(e: Evidence) -> Hypotheses:
    """Wrong in more than that, but in a part that has a name."""
    return narrow_part(e, 1.0)


def _share(e: Evidence) -> str:
    if (ratio := e.ratio(e.wrong)) is None:
        return ""
    how = "zero" if abs(ratio) < 1e-9 else f"{ratio:.6g} times what it should be"
    return f"; it is {how} there"


def selected(e: Evidence) -> Hypotheses:
    """Wrong just where an input of integers points: at labels, in rows that are looked up."""
    shape, wrong = e.analytic.shape, e.wrong & e.significant
    if np.all(e.wrong[e.significant]):
        return
    for name, k in e.inputs.items():
        if k.dtype.kind not in "iu" or not k.size or k.min() < 0 or not shape:
            continue
        if len(shape) == 2 and k.shape == shape[:1] and k.max() < shape[1]:
            at = (k[e.index[0]] == e.index[1]) & e.significant
            text = f"wrong only at {e.axis(1)} = {name}, and there everywhere{_share(e)}"
            yield np.array_equal(wrong, at), text
        counts = np.bincount(k.reshape(-1), minlength=shape[0])[e.index[0]]
        if k.max() < shape[0] and np.array_equal(wrong, (counts > 1) & e.significant):
            lost = ": repeated indices overwrite each other instead of adding up"
            lost = lost if _is_overwritten(e, k) else ""
            yield True, f"wrong only for what occurs more than once in {name}{lost}"


def _is_overwritten(e: Evidence, index: Any) -> bool:
    """Tell whether the gradient is that of the last occurrence of each index, or of the first."""
    if e.dy.shape[: index.ndim] != index.shape:
        return False
    kept = np.zeros((2, index.size))
    for mask, order in zip(kept, (slice(None), slice(None, None, -1)), strict=True):
        mask[order][np.unique(index.reshape(-1)[order], return_index=True)[1]] = 1
    masks = kept.reshape(2, *index.shape, *[1] * (e.dy.ndim - index.ndim))
    errors = (np.abs(e.at(e.vjp(e.dy * mask)) - e.got) for mask in masks)
    return any(np.all(error <= 1e-9 * e.size) for error in errors)


def dy_part(e: Evidence) -> Hypotheses:
    """The gradient is linear in dy, so each element of dy can be checked on its own."""
    if not e.dy.ndim or e.dy.size > MANY or not np.any(e.wrong):
        return
    direction = e.comparison.direction([e.leaf], draw=2**32 - 1)
    slopes = e.comparison.slopes.of_outputs(direction)
    if slopes is None:
        return
    slack, slopes = 1e-6 * largest(slopes), slopes.reshape(-1)
    units = np.eye(e.dy.size).reshape(-1, *e.dy.shape)
    analytic = np.array([float(np.sum(e.mode.terms(direction, unit))) for unit in units])
    wrong, significant = np.abs(analytic - slopes) > slack, np.abs(slopes) > slack
    if not np.any(wrong) or np.all(wrong[significant]):
        return
    index = np.unravel_index(np.arange(e.dy.size), e.dy.shape)
    names = [e.axis(k, "y") for k in range(e.dy.ndim)]
    where = _describe(index, e.dy.shape, wrong, significant, names, 0.9)
    is_lost = bool(np.all(np.abs(analytic[wrong]) <= slack))
    if where and not is_lost:
        # Where these outputs send gradient, it is all wrong; else it is a matter of the input.
        sent = e.vjp(np.where(wrong.reshape(e.dy.shape), e.dy, 0.0))
        reached = np.abs(e.at(sent)) > 1e-9 * e.size
        if not np.any(reached) or np.mean(e.wrong[reached]) < 0.9:
            return
    yield where, f"dy is {'left out' if is_lost else 'used wrongly'} {where}, and right elsewhere"


def _describe(
    index: Any, shape: tuple[int, ...], wrong: Any, significant: Any, names: list[str], most: float
) -> str:
    """Describe the set of wrong elements if it is (all of) a simple set, else return ""."""
    best, words = most, ""
    for axis, length in enumerate(shape):
        bad, present = np.unique(index[axis][wrong]), np.unique(index[axis])
        if len(present) < length and 2 * len(wrong) < np.prod(shape):
            continue  # of a few elements it is not known which indices are right
        share = len(bad) / len(present)
        inside = np.isin(index[axis], bad) & significant
        is_part = share < 1 and (share < best or (share == best and not words))
        if is_part and np.sum(wrong) > 1 and np.mean(wrong[inside]) >= 0.9:
            best, words = share, _say_indices(bad.tolist(), length, names[axis])
    if words or len(shape) < 3:
        return words
    ends = [np.minimum(index[k], shape[k] - 1 - index[k]) for k in range(2, len(shape))]
    for width in (1, 2):
        ring = np.min(ends, axis=0) < width
        if np.all(ring[wrong]) and not np.all(ring) and np.mean(wrong[ring & significant]) >= 0.9:
            return f"on the border of axes 2 and up, {width} wide"
    return ""


def _say_indices(bad: list[int], length: int, name: str) -> str:
    if bad in ([0], [length - 1]):
        return f"at the {'last' if bad[0] else 'first'} index ({bad[0]}) of {name}"
    if len(bad) == length - 1:
        (good,) = set(range(length)) - set(bad)
        return f"at every index but {good} of {name}"
    listing = ", ".join(map(str, bad[:8])) + (", …" if len(bad) > 8 else "")
    return f"at index {listing} of {name}, of {length}"

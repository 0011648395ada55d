"""Hypotheses of where a gradient is wrong: in a part of it that has a name, or for a part of dy."""

from typing import Any

import numpy as np

from tinyconv.gradcheck.evidence import Evidence, Hypotheses
from tinyconv.gradcheck.nests import largest

#: Of more outputs dy is not taken apart.
MANY = 600


def part(e: Evidence) -> Hypotheses:
    """Wrong in a part that has a name, or where integers point, and right elsewhere."""
    shape, wrong, share = e.analytic.shape, e.wrong & e.significant, ""
    if e.all_wrong:
        return
    if (ratio := e.ratio(e.wrong)) is not None:
        how = "zero" if abs(ratio) < 1e-9 else f"{ratio:.6g} times what it should be"
        share = f"; it is {how} there"
    for name, k in e.inputs.items():  # at labels, in rows that are looked up
        if k.dtype.kind not in "iu" or not k.size or k.min() < 0 or not shape:
            continue
        if len(shape) == 2 and k.shape == shape[:1] and k.max() < shape[1]:
            at = (k[e.index[0]] == e.index[1]) & e.significant
            text = f"wrong only at {e.axis(1)} = {name}, and there everywhere{share}"
            yield np.array_equal(wrong, at), text
        counts = np.bincount(k.reshape(-1), minlength=shape[0])[e.index[0]]
        is_repeated = k.max() < shape[0] and np.array_equal(wrong, (counts > 1) & e.significant)
        lost = ": repeated indices overwrite each other instead of adding up"
        lost = lost if is_repeated and _is_overwritten(e, k) else ""
        yield is_repeated, f"wrong only for what occurs more than once in {name}{lost}"
    if np.sum(e.wrong) == 1 and np.sum(e.significant) > 2:
        where = tuple(int(k[e.wrong][0]) for k in e.index)
        compared = "" if len(e.flat) == e.analytic.size else " compared"
        yield True, f"wrong at {where} alone, and all others{compared} are right"
        return
    names = [e.axis(k) for k in range(len(shape))]
    words = _described(e.index, shape, e.wrong, e.significant, names, 0.5)
    yield words, f"wrong only {words}{share}"


def _is_overwritten(e: Evidence, index: Any) -> bool:
    """Tell whether the gradient is that of the last occurrence of each index, or of the first."""
    kept = np.zeros((2, index.size))
    for mask, order in zip(kept, (slice(None), slice(None, None, -1)), strict=True):
        mask[order][np.unique(index.reshape(-1)[order], return_index=True)[1]] = 1
    if e.dy.shape[: index.ndim] != index.shape:
        return False
    masks = kept.reshape(2, *index.shape, *[1] * (e.dy.ndim - index.ndim))
    return any(np.all(np.abs(e.at(e.vjp(e.dy * m)) - e.got) <= 1e-9 * e.size) for m in masks)


def part_of_dy(e: Evidence) -> Hypotheses:
    """The gradient is linear in dy, so each element of dy can be checked on its own."""
    direction, slopes = e.comparison.direction([e.leaf], draw=2**32 - 1), None
    if e.dy.ndim and e.dy.size <= MANY:
        slopes = e.comparison.slopes.of_outputs(direction)
    if slopes is None:
        return
    slack, slopes = 1e-6 * largest(slopes), slopes.reshape(-1)
    units = np.eye(e.dy.size).reshape(-1, *e.dy.shape)
    analytic = np.array([float(np.sum(e.called.terms(direction, unit))) for unit in units])
    wrong, significant = np.abs(analytic - slopes) > slack, np.abs(slopes) > slack
    if not np.any(wrong) or np.all(wrong[significant]):
        return
    index = np.unravel_index(np.arange(e.dy.size), e.dy.shape)
    names = [e.axis(k, "y") for k in range(e.dy.ndim)]
    where = _described(index, e.dy.shape, wrong, significant, names, 0.9)
    is_lost = bool(np.all(np.abs(analytic[wrong]) <= slack))
    if where and not is_lost:
        # Where these outputs send gradient, it is all wrong; else it is a matter of the input.
        sent = e.vjp(np.where(wrong.reshape(e.dy.shape), e.dy, 0.0))
        reached = np.abs(e.at(sent)) > 1e-9 * e.size
        if not np.any(reached) or np.mean(e.wrong[reached]) < 0.9:
            return
    yield where, f"dy is {'left out' if is_lost else 'used wrongly'} {where}, and right elsewhere"


def _described(
    index: Any, shape: tuple[int, ...], wrong: Any, significant: Any, names: list[str], most: float
) -> str:
    """Describe the set of wrong elements if it is (all of) a simple set, else return ""."""
    best, words = most, ""
    for axis, (length, name) in enumerate(zip(shape, names, strict=True)):
        bad, present = np.unique(index[axis][wrong]), np.unique(index[axis])
        if len(present) < length and 2 * len(wrong) < np.prod(shape):
            continue  # of a few elements it is not known which indices are right
        share = len(bad) / len(present)
        inside = np.isin(index[axis], bad) & significant
        is_part = share < 1 and (share < best or (share == best and not words))
        if is_part and np.sum(wrong) > 1 and _mostly(wrong[inside]):
            best, good = share, sorted(set(range(length)) - set(bad.tolist()))
            listing = ", ".join(map(str, bad[:8])) + (", …" if len(bad) > 8 else "")
            words = f"at index {listing} of {name}, of {length}"
            if len(bad) == 1 and bad[0] in (0, length - 1):
                words = f"at the {'last' if bad[0] else 'first'} index ({bad[0]}) of {name}"
            elif len(good) == 1:
                words = f"at every index but {good[0]} of {name}"
    if words or len(shape) < 3:
        return words
    ends = [np.minimum(index[k], shape[k] - 1 - index[k]) for k in range(2, len(shape))]
    for width in (1, 2):
        ring = np.min(ends, axis=0) < width
        if np.all(ring[wrong]) and not np.all(ring) and _mostly(wrong[ring & significant]):
            return f"on the border of axes 2 and up, {width} wide"
    return ""


def _mostly(wrong: Any) -> bool:
    return bool(wrong.size and np.mean(wrong) >= 0.9)

"""Where a gradient is wrong: in which part of the tensor, for which part of dy, in which places."""

from collections.abc import Iterator
from typing import Any, TypeAlias

import numpy as np

from tinyconv.gradcheck.evidence import Evidence
from tinyconv.gradcheck.numbers import largest
from tinyconv.gradcheck.problem import FloatArray

__all__ = ["Hypotheses", "broad_part", "dy_part", "narrow_part", "places", "selected"]

#: whether each holds, and what to say then
Hypotheses: TypeAlias = Iterator[tuple[Any, str]]
#: Of more outputs only whole slices of dy are looked at.
MANY = 256


def narrow_part(e: Evidence) -> Hypotheses:
    """Wrong in at most half of the tensor, in a part that has a name, and right elsewhere."""
    yield from _part(e, 0.5)


def broad_part(e: Evidence) -> Hypotheses:
    """Wrong in more than that, but in a part that has a name."""
    yield from _part(e, 1.0)


def _part(e: Evidence, most: float) -> Hypotheses:
    significant = _significant(e)
    if np.all(e.wrong[significant]):
        return
    index = np.unravel_index(e.flat, e.analytic.shape)
    if np.sum(e.wrong) == 1 and np.sum(significant) > 2:
        where = tuple(int(k[e.wrong][0]) for k in index)
        compared = "" if len(e.flat) == e.analytic.size else " compared"
        yield True, f"wrong at {where} alone, and all others{compared} are right"
        return
    names = [e.axis(k) for k in range(e.analytic.ndim)]
    words = _describe(index, e.analytic.shape, e.wrong, significant, names, most)
    yield words, f"wrong only {words}{_share(e)}"


def selected(e: Evidence) -> Hypotheses:
    """Wrong just where an input of integers points: at labels, in rows that are looked up."""
    shape, significant = e.analytic.shape, _significant(e)
    if np.all(e.wrong[significant]) or len(shape) < 1:
        return
    index, wrong = np.unravel_index(e.flat, shape), e.wrong & significant
    for name, k in e.inputs.items():
        if k.dtype.kind not in "iu" or not k.size or k.min() < 0:
            continue
        if len(shape) == 2 and k.shape == shape[:1] and k.max() < shape[1]:
            at = (k[index[0]] == index[1]) & significant
            text = f"wrong only at {e.axis(1)} = {name}, and there everywhere{_share(e)}"
            yield np.array_equal(wrong, at), text
        if k.max() < shape[0]:
            counts = np.bincount(k.reshape(-1), minlength=shape[0])[index[0]]
            if np.array_equal(wrong, (counts > 1) & significant):
                lost = ": repeated indices overwrite each other instead of adding up"
                lost = lost if _is_overwritten(e, k) else ""
                yield True, f"wrong only for what occurs more than once in {name}{lost}"


def _is_overwritten(e: Evidence, index: Any) -> bool:
    """Tell whether the gradient is that of the last occurrence of each index, or of the first."""
    if e.dy.shape[: index.ndim] != index.shape:
        return False
    flat = index.reshape(-1)
    for step in (1, -1):
        at = np.arange(flat.size)[::step]
        kept = np.isin(at, list(dict(zip(flat[at], at, strict=True)).values()))[::step]
        kept = kept.reshape(*index.shape, *[1] * (e.dy.ndim - index.ndim))
        if np.all(np.abs(e.vjp(e.dy * kept) - e.analytic) <= 1e-9 * e.size):
            return True
    return False


def _significant(e: Evidence) -> Any:
    """Return where either side has a gradient."""
    return ~e.zero | (np.abs(e.got) > e.tolerance + 1e-9 * e.size)


def _share(e: Evidence) -> str:
    ratio = e.ratio(e.wrong)
    if ratio is None:
        return ""
    how = "zero" if abs(ratio) < 1e-9 else f"{ratio:.6g} times what it should be"
    return f"; it is {how} there"


def dy_part(e: Evidence) -> Hypotheses:
    """The gradient is linear in dy, so each part of dy can be checked on its own."""
    found = e.jvp if e.dy.ndim and np.any(e.wrong) else None
    if found is None:
        return
    v, slopes = found
    names = [e.axis(k, "y") for k in range(e.dy.ndim)]

    def look(part: FloatArray, slack: float) -> tuple[bool, bool]:
        """Tell whether the gradient for a part of dy is wrong, and whether it is none."""
        analytic = float(np.sum(e.vjp(part) * v))
        return abs(analytic - float(np.sum(part * slopes))) > slack, abs(analytic) <= slack

    if e.dy.size > MANY:
        for axis, length in enumerate(e.dy.shape):
            bad: list[int] = []
            lost = True
            for k in range(length) if 1 < length <= 32 else ():
                part = np.zeros_like(e.dy)
                at = (slice(None),) * axis + (k,)
                part[at] = e.dy[at]
                is_wrong, is_none = look(part, 1e-6 * float(np.sum(np.abs(part * slopes))))
                bad, lost = bad + [k] * is_wrong, lost and (is_none or not is_wrong)
            if 0 < len(bad) < length:
                yield True, _say_part(_say_indices(bad, length, names[axis]), lost)
                return
        return
    slack = 1e-6 * largest(slopes)
    seen = [look(part.reshape(e.dy.shape), slack) for part in np.eye(e.dy.size)]
    wrong = np.array([is_wrong for is_wrong, _ in seen])
    lost = all(is_none for is_wrong, is_none in seen if is_wrong)
    significant = (np.abs(slopes) > slack).reshape(-1)
    if not np.any(wrong) or np.all(wrong[significant]):
        return
    index = tuple(k.reshape(-1) for k in np.indices(e.dy.shape))
    where = _describe(index, e.dy.shape, wrong, significant, names, 0.9)
    if where and not lost:
        # Where these outputs send gradient, it is all wrong; else it is a matter of the input.
        sent = e.vjp(np.where(wrong.reshape(e.dy.shape), e.dy, 0.0))
        reached = np.abs(e.at(sent)) > 1e-9 * e.size
        if not np.any(reached) or np.mean(e.wrong[reached]) < 0.9:
            return
    yield where, _say_part(where, lost)


def _say_part(where: str, lost: bool) -> str:
    return f"dy is {'left out' if lost else 'used wrongly'} {where}, and right elsewhere"


def _describe(
    index: Any, shape: tuple[int, ...], wrong: Any, significant: Any, names: list[str], most: float
) -> str:
    """Describe the set of wrong elements if it is (all of) a simple set, else return ""."""
    best, words = most, ""
    for axis, length in enumerate(shape):
        bad = sorted({int(k) for k in index[axis][wrong]})
        present = np.unique(index[axis])
        share = len(bad) / len(present)
        inside = np.isin(index[axis], bad) & significant
        is_part = share < 1 and (share < best or (share == best and not words))
        if is_part and np.sum(wrong) > 1 and np.mean(wrong[inside]) >= 0.9:
            best, words = share, _say_indices(bad, length, names[axis])
    if words or len(shape) < 3:
        return words
    depth = np.min(
        [np.minimum(index[k], shape[k] - 1 - index[k]) for k in range(2, len(shape))], axis=0
    )
    for width in (1, 2):
        ring = depth < width
        if np.all(ring[wrong]) and not np.all(ring) and np.mean(wrong[ring & significant]) >= 0.9:
            return f"on the border of axes 2 and up, {width} wide"
    return ""


def _say_indices(bad: list[int], length: int, name: str) -> str:
    if bad == [length - 1]:
        return f"at the last index ({length - 1}) of {name}"
    if bad == [0]:
        return f"at the first index (0) of {name}"
    if len(bad) == length - 1:
        (good,) = set(range(length)) - set(bad)
        return f"at every index but {good} of {name}"
    listing = ", ".join(map(str, bad[:8])) + (", …" if len(bad) > 8 else "")
    return f"at index {listing} of {name}, of {length}"


def places(e: Evidence) -> Hypotheses:
    """Zeros and values at the wrong indices: an argmax, a mask, a stride."""
    none = np.abs(e.got) <= 1e-9 * e.size
    got, numeric = np.sort(e.got), np.sort(e.numeric)
    same = np.allclose(got, numeric, rtol=1e-6, atol=1e-9 * e.size)
    same = same and bool(np.any(e.zero)) and len(e.flat) == e.analytic.size
    yield same, "the right values in the wrong places: an index, an argmax or a stride"
    extra, lost = e.wrong & e.zero, e.wrong & none
    is_extra = not same and np.any(extra) and np.all(extra[e.wrong])
    yield is_extra, "gradient goes to elements that have none, and is right elsewhere"
    is_lost = not same and not is_extra and np.any(lost) and np.all(lost[e.wrong])
    text = "zero where there is a gradient, and right elsewhere: elements are left out"
    yield is_lost, text

"""Where a gradient is wrong: in which part of the tensor, for which part of dy, in which places."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from tinyconv.gradcheck.evidence import Evidence
from tinyconv.gradcheck.problem import FloatArray

__all__ = ["broad_part", "dy_part", "narrow_part", "places", "selected"]


def narrow_part(e: Evidence) -> Iterator[str]:
    """Wrong in at most half of the tensor, in a part that has a name, and right elsewhere."""
    yield from _part(e, 0.5)


def broad_part(e: Evidence) -> Iterator[str]:
    """Wrong in more than that, but in a part that has a name."""
    yield from _part(e, 1.0)


def _part(e: Evidence, most: float) -> Iterator[str]:
    significant = _significant(e)
    if np.all(e.wrong[significant]):
        return
    if np.sum(e.wrong) == 1 and np.sum(significant) > 2:
        (flat,) = e.flat[e.wrong]
        where = tuple(int(k) for k in np.unravel_index(flat, e.analytic.shape))
        compared = "" if len(e.flat) == e.analytic.size else " compared"
        yield f"wrong at {where} alone, and all others{compared} are right"
        return
    index = np.unravel_index(e.flat, e.analytic.shape)
    names = [e.axis(k) for k in range(e.analytic.ndim)]
    words = _describe(index, e.analytic.shape, e.wrong, significant, names, most)
    if words:
        yield f"wrong only {words}{_share(e)}"


def selected(e: Evidence) -> Iterator[str]:
    """Wrong just where an input of integers points: at labels, in rows that are looked up."""
    shape, significant = e.analytic.shape, _significant(e)
    if np.all(e.wrong[significant]) or len(shape) < 1:
        return
    index = np.unravel_index(e.flat, shape)
    for name, k in e.inputs.items():
        if k.dtype.kind not in "iu" or not k.size or k.min() < 0:
            continue
        if len(shape) == 2 and k.shape == shape[:1] and k.max() < shape[1]:
            at = k[index[0]] == index[1]
            if np.array_equal(e.wrong & significant, at & significant):
                yield f"wrong only at {e.axis(1)} = {name}, and there everywhere{_share(e)}"
        if k.max() < shape[0]:
            counts = np.bincount(k.reshape(-1), minlength=shape[0])[index[0]]
            if np.array_equal(e.wrong & significant, (counts > 1) & significant):
                lost = ": repeated indices overwrite each other instead of adding up"
                overwritten = lost if _is_overwritten(e, k) else ""
                yield f"wrong only for what occurs more than once in {name}{overwritten}"


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
    return (
        f"; it is {'zero' if abs(ratio) < 1e-9 else f'{ratio:.6g} times what it should be'} there"
    )


def dy_part(e: Evidence) -> Iterator[str]:
    """The gradient is linear in dy, so each part of dy can be checked on its own."""
    found = e.jvp if e.dy.ndim and np.any(e.wrong) else None
    if found is None:
        return
    v, slopes = found
    if e.dy.size > 256:
        yield from _slice_of_dy(e, v, slopes)
        return
    slack = 1e-6 * float(np.max(np.abs(slopes), initial=0.0))
    wrong = np.zeros(e.dy.shape, dtype=bool)
    lost = True
    for output in np.ndindex(e.dy.shape):
        one = np.zeros_like(e.dy)
        one[output] = 1.0
        analytic = float(np.sum(e.vjp(one, {}) * v))
        wrong[output] = abs(analytic - slopes[output]) > slack
        if wrong[output]:
            lost = lost and abs(analytic) <= slack
    significant = np.abs(slopes) > slack
    if not np.any(wrong) or np.all(wrong[significant]):
        return
    index = tuple(k.reshape(-1) for k in np.indices(e.dy.shape))
    names = [e.axis(k, "y") for k in range(e.dy.ndim)]
    flat = (wrong.reshape(-1), significant.reshape(-1))
    where = _describe(index, e.dy.shape, *flat, names, 0.9)
    if not where:
        return
    if not lost:
        # Where these outputs send gradient, it is all wrong; else it is a matter of the input.
        reached = np.abs(e.at(e.vjp(np.where(wrong, e.dy, 0.0), {}))) > 1e-9 * e.size
        if not np.any(reached) or np.mean(e.wrong[reached]) < 0.9:
            return
    yield _say_part(where, lost)


def _slice_of_dy(e: Evidence, v: FloatArray, slopes: FloatArray) -> Iterator[str]:
    for axis, length in enumerate(e.dy.shape):
        if not 1 < length <= 32:
            continue
        bad, lost = [], True
        for k in range(length):
            part = np.zeros_like(e.dy)
            at: list[Any] = [slice(None)] * e.dy.ndim
            at[axis] = k
            part[tuple(at)] = e.dy[tuple(at)]
            analytic = float(np.sum(e.vjp(part, {}) * v))
            slack = 1e-6 * float(np.sum(np.abs(part * slopes)))
            if abs(analytic - float(np.sum(part * slopes))) > slack:
                bad.append(k)
                lost = lost and abs(analytic) <= slack
        if 0 < len(bad) < length:
            yield _say_part(_say_indices(bad, length, e.axis(axis, "y")), lost)
            return


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


def places(e: Evidence) -> Iterator[str]:
    """Zeros and values at the wrong indices: an argmax, a mask, a stride."""
    none = np.abs(e.got) <= 1e-9 * e.size
    is_whole = len(e.flat) == e.analytic.size
    got, numeric = np.sort(e.got), np.sort(e.numeric)
    if np.any(e.zero) and is_whole and np.allclose(got, numeric, rtol=1e-6, atol=1e-9 * e.size):
        yield "the right values in the wrong places: an index, an argmax or a stride"
        return
    extra, lost = e.wrong & e.zero, e.wrong & none
    if np.any(extra) and np.all(extra[e.wrong]):
        yield "gradient goes to elements that have none, and is right elsewhere"
    elif np.any(lost) and np.all(lost[e.wrong]):
        yield "zero where there is a gradient, and right elsewhere: elements are left out"

"""What a constant factor comes from: the problem is resized, and the factor measured again."""

import contextlib
import itertools
import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from tinyconv.gradcheck.calls import COMPLAINTS
from tinyconv.gradcheck.evidence import Evidence
from tinyconv.gradcheck.numbers import scale_of
from tinyconv.gradcheck.problem import Problem, Stop

__all__ = ["follow"]


def follow(e: Evidence, ratio: float) -> str:
    """Return what the ratio depends on when axes are doubled in length, or what it may be."""
    if abs(ratio + 1) < 1e-6:
        return ": the sign is flipped"
    others = [(length, axes, _ratio(e, near)) for length, axes, near in _resized(e)]
    powers = [(n, axes, math.log2(abs(r / ratio))) for n, axes, r in others if r]
    known = itertools.product(powers, (1, -1, 0.5, -0.5, 2, -2))
    followed = [(n, axes, p) for (n, axes, power), p in known if abs(power - p) < 1e-3]
    if not powers:
        return "; no other shape could be tried"
    if len({p for _, _, p in followed}) > 1:
        return ""
    if followed:
        p, size = followed[0][2], math.prod(n for n, _, _ in followed)
        names = " and ".join(dict.fromkeys(axes for _, axes, _ in followed))
        number = f"sqrt({size})" if abs(p) == 0.5 else str(size) + "^2" * (abs(p) == 2)
        what = f"1/{number} is {'missing' if p > 0 else 'too much'}"
        if abs(p) == 1:
            what += ": a sum instead of a mean" if p > 0 else ": a mean instead of a sum"
        if abs(abs(ratio) - size**p) > 1e-6 * abs(ratio):  # of a part of that length, say
            word = {0.5: "the root of ", 1: "", 2: "the square of "}[abs(p)]
            what = f"a factor that goes with {word}a length of these is wrong"
        return f"; with {names} twice as long it is {2**p:.3g} times that: {what}"
    one = np.zeros_like(e.dy)
    one.flat[one.size // 2] = 1.0
    window, what = int(np.count_nonzero(np.nan_to_num(e.vjp(one)))), ": a constant factor"
    larger = max(abs(ratio), 1 / abs(ratio))
    if window > 2 and abs(larger - window) < 1e-6 * larger:
        what = f"; {window} elements of {e.name} have a gradient from one output: a sum and a mean"
        what += " over these are mistaken for each other"
    elif abs(larger - 2) < 1e-6:
        too_much = "too much, as of a square, or added twice"
        what = f": a factor 2 {too_much if abs(ratio) > 1 else 'is missing, as of a square'}"
    return f", whatever the lengths of axes{what}"


def _ratio(e: Evidence, near: Problem) -> float | None:
    """Return the gradient of the input over its numeric value, along one direction."""
    with contextlib.suppress(Stop, *COMPLAINTS):
        other = e.comparison.at(near, e.comparison.options.seed)
        (same,) = (leaf for leaf in other.problem.leaves if leaf.place == e.leaf.place)
        reading = other.read(other.direction([same]))
        return reading.analytic / reading.slope.value if reading.slope.value else None
    return None


def _resized(e: Evidence) -> Iterator[tuple[int, str, Problem]]:
    """Yield (a length, the axes that have it and must change together, the problem so changed)."""
    lengths: dict[int, list[tuple[str, int]]] = {}
    for name, a in e.inputs.items():
        for axis, length in enumerate(a.shape[: -1 if name in e.pairs else None]):
            if length > 1:
                lengths.setdefault(length, []).append((name, axis))
    for length, places in lengths.items():
        done: list[set[tuple[str, int]]] = []
        counts = range(1, min(len(places), 4) + 1)
        for some in itertools.chain(*(itertools.combinations(places[:6], n) for n in counts)):
            near = None if any(group <= set(some) for group in done) else _doubled(e, some)
            if near is not None:
                done.append(set(some))
                yield length, " and ".join(f"axis {k} of {name}" for name, k in some), near


def _doubled(e: Evidence, some: Any) -> Problem | None:
    rng = np.random.default_rng(7)

    def resize(name: str, a: Any) -> Any:
        for axis in (axis for each, axis in some if each == name):
            noise = 0.3 * scale_of(a) * rng.normal(size=a.shape) if a.dtype.kind == "f" else 0
            a = np.concatenate([a, (a + noise).astype(a.dtype)], axis=axis)
        return a

    # Most lengths cannot change alone: forward says so by an error of its own choice.
    with contextlib.suppress(Exception):
        near = e.called.problem.resized(resize)
        if np.all(np.isfinite(near.value())):
            return near
    return None

"""A wrong gradient looked at again: at other inputs, and at inputs of other shapes."""

import contextlib
import itertools
import math
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np

from tinyconv.gradcheck.calls import COMPLAINTS, elsewhere, is_stale
from tinyconv.gradcheck.comparison import WORK, Comparison
from tinyconv.gradcheck.evidence import Evidence
from tinyconv.gradcheck.hints import explain
from tinyconv.gradcheck.numbers import scale_of
from tinyconv.gradcheck.problem import FloatArray, Leaf, Problem, Stop

__all__ = ["moved", "say_why"]

Axes = dict[str, tuple[str, ...]]
#: So many wrong elements, and so many others, are compared at a second draw at most.
AGAIN = 256


def say_why(comparison: Comparison, leaf: Leaf, axes: Axes) -> str:
    """Return a hint for the wrong gradient of a leaf, "" if there is none."""
    evidence = _evidence(comparison, leaf, axes)
    if comparison.is_cut or evidence is None:
        return ""  # what is known of it is a part, and patterns of a part deceive
    if is_stale(comparison.problem, comparison.called, leaf):
        what = "the gradient is that of an earlier call with other inputs: saved values are stale"
        return f"{leaf.name}: {what}"
    return explain(
        evidence,
        lambda: _second_draw(comparison, leaf, axes),
        lambda ratio: _follow(comparison, leaf, ratio),
    )


def moved(problem: Problem, which: list[Leaf], by: float, seed: list[int]) -> FloatArray:
    """Return the point with some leaves moved at random by up to ``by`` times their size."""
    rng, x = np.random.default_rng(seed), problem.x.copy()
    for leaf in which:
        x[leaf.part] += rng.uniform(-by, by, leaf.size) * scale_of(leaf.of(x))
    return x


def _evidence(comparison: Comparison, leaf: Leaf, axes: Axes) -> Evidence | None:
    analytic = comparison.side.here(leaf)
    if analytic is None:
        return None
    scaled_error = partial(_scaled_error, comparison, leaf)
    return Evidence(comparison, leaf, analytic, axes, scaled_error)


def _same(near: Problem, leaf: Leaf) -> Leaf:
    """Return the leaf of another problem that stands in the place of this one."""
    return next(other for other in near.leaves if other.place == leaf.place)


def _compared(
    comparison: Comparison, near: Problem, leaf: Leaf, seed: int, most: int, axes: Axes
) -> Evidence | None:
    """Return the evidence of the same elements at another point."""
    other, same = comparison.at(near, seed), _same(near, leaf)
    wrong = [e.k for e in comparison.elements[leaf] if e.is_wrong]
    right = [e.k for e in comparison.elements[leaf] if not e.is_wrong]
    ks = wrong[:: len(wrong) // most + 1] + right[:: len(right) // most + 1]
    other.compare(same, np.array(sorted(ks)))
    return _evidence(other, same, axes)


def _second_draw(comparison: Comparison, leaf: Leaf, axes: Axes) -> Evidence | None:
    problem, seed = comparison.problem, comparison.options.seed + 1
    total = sum(leaf.size for leaf in comparison.called.checked)
    most = max(4, min(AGAIN, WORK // total // 4))
    for x in (elsewhere(problem), moved(problem, comparison.called.checked, 0.25, [seed, 6])):
        with contextlib.suppress(Stop, *COMPLAINTS):
            return _compared(comparison, problem.at(x), leaf, seed, most, axes)
    return None


def _scaled_error(comparison: Comparison, leaf: Leaf, factor: float) -> float | None:
    """Return the error relative to the gradient with a leaf so many times as large."""
    x = comparison.problem.x.copy()
    x[leaf.part] *= factor
    with contextlib.suppress(Stop, *COMPLAINTS):
        near = comparison.problem.at(x)
        e = _compared(comparison, near, leaf, comparison.options.seed, 32, {})
        if e is not None and e.size > 0:
            return float(np.max(np.abs(e.got - e.numeric), initial=0.0)) / e.size
    return None


# -- what a constant factor comes from --------------------------------------------------------


def _follow(comparison: Comparison, leaf: Leaf, ratio: float) -> str:
    """Return what the ratio depends on: axes are doubled in length, and it is measured again."""
    if abs(ratio + 1) < 1e-6:
        return ": the sign is flipped"
    followed: list[tuple[int, str, float]] = []
    tried = False
    for length, axes, near in _resized(comparison.problem):
        other = _ratio_of(comparison, near, leaf)
        if other is None or other == 0:
            continue
        tried = True
        power = math.log2(abs(other / ratio))
        for p in (1.0, -1.0, 0.5, -0.5, 2.0, -2.0):
            if abs(power - p) < 1e-3:
                followed.append((length, axes, p))
    powers = {p for _, _, p in followed}
    if len(powers) == 1:
        (p,) = powers
        size = math.prod(length for length, _, _ in followed)
        names = " and ".join(dict.fromkeys(axes for _, axes, _ in followed))
        number = f"sqrt({size})" if abs(p) == 0.5 else str(size) + "^2" * (abs(p) == 2)
        what = f"1/{number} is missing" if p > 0 else f"1/{number} is too much"
        if abs(p) == 1:
            what += ": a sum instead of a mean" if p > 0 else ": a mean instead of a sum"
        if abs(abs(ratio) - size**p) > 1e-6 * abs(ratio):  # of a part of that length, say
            word = {0.5: "the root of ", 1: "", 2: "the square of "}[abs(p)]
            what = f"a factor that goes with {word}a length of these is wrong"
        return f"; with {names} twice as long it is {2**p:.3g} times that: {what}"
    if followed or not tried:
        return "" if followed else "; no other shape could be tried"
    window = _inputs_of_one_output(comparison, leaf)
    for value in (abs(ratio), 1 / abs(ratio)):
        if window > 2 and abs(value - window) < 1e-6 * value:
            return (
                f", whatever the lengths of axes; {window} elements of "
                f"{leaf.name} have a gradient from one output: a sum and a mean "
                "over these are mistaken for each other"
            )
    if abs(abs(ratio) - 2) < 1e-6:
        return ", whatever the lengths of axes: a factor 2 too much, as of a square, or added twice"
    if abs(abs(ratio) - 0.5) < 1e-6:
        return ", whatever the lengths of axes: a factor 2 is missing, as of a square"
    return ", whatever the lengths of axes: a constant factor"


def _ratio_of(comparison: Comparison, near: Problem, leaf: Leaf) -> float | None:
    with contextlib.suppress(Stop, *COMPLAINTS):
        return comparison.at(near, comparison.options.seed).ratio(_same(near, leaf))
    return None


def _resized(problem: Problem) -> Iterator[tuple[int, str, Problem]]:
    """Yield (a length, the axes that have it and must change together, the problem so changed)."""
    lengths: dict[int, list[tuple[str, int]]] = {}
    pairs = [leaf.name for leaf in problem.leaves if leaf.pairs]
    for name, a in problem.arrays().items():
        for axis, length in enumerate(a.shape[: -1 if name in pairs else None]):
            if length > 1:
                lengths.setdefault(length, []).append((name, axis))
    for length, places in lengths.items():
        done: list[set[tuple[str, int]]] = []
        for count in range(1, min(len(places), 4) + 1):
            for some in itertools.combinations(places[:6], count):
                if any(group <= set(some) for group in done):
                    continue
                near = _doubled(problem, some)
                if near is not None:
                    done.append(set(some))
                    yield length, " and ".join(f"axis {k} of {name}" for name, k in some), near


def _doubled(problem: Problem, some: Any) -> Problem | None:
    rng = np.random.default_rng(7)

    def resize(name: str, a: Any) -> Any:
        for each, axis in some:
            if each == name:
                extra = a
                if a.dtype.kind == "f":
                    extra = a + (0.3 * scale_of(a) * rng.normal(size=a.shape)).astype(a.dtype)
                a = np.concatenate([a, extra], axis=axis)
        return a

    # Most lengths cannot change alone: forward says so by an error of its own choice.
    with contextlib.suppress(Exception):
        near = problem.resized(resize)
        if np.all(np.isfinite(near.value(near.x))):
            return near
    return None


def _inputs_of_one_output(comparison: Comparison, leaf: Leaf) -> int:
    one = np.zeros_like(comparison.called.dy)
    one.flat[one.size // 2] = 1.0
    return int(np.count_nonzero(comparison.side.whole(leaf, one, comparison.problem.x)))

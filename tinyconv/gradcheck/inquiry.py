"""Evidence of a wrong gradient: gathered here, at other inputs, and at inputs of other shapes."""

import contextlib
import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from tinyconv.gradcheck.calls import call, elsewhere, is_stale
from tinyconv.gradcheck.comparison import WORK, Comparison
from tinyconv.gradcheck.evidence import Evidence
from tinyconv.gradcheck.hints import explain
from tinyconv.gradcheck.problem import FloatArray, Problem, Stop, scale_of

__all__ = ["moved", "say_why"]

Axes = dict[str, tuple[str, ...]]
#: So many wrong elements, and so many others, are compared at a second draw at most.
AGAIN = 256


def say_why(comparison: Comparison, i: int, axes: Axes) -> str:
    """Return a hint for the wrong gradient of input i, "" if there is none."""
    if comparison.is_cut or comparison.options.is_over:
        return ""  # what is known of it is a part, and patterns of a part deceive
    return explain(
        _evidence(comparison, i, axes),
        lambda: _second_draw(comparison, i, axes),
        lambda ratio: _follow(comparison, i, ratio),
    )


def moved(problem: Problem, which: Any, by: float, seed: list[int]) -> list[Any]:
    """Return the inputs, some of them moved at random by up to ``by`` times their size."""
    rng = np.random.default_rng(seed)
    point = list(problem.given)
    for i in which:
        x = point[i]
        point[i] = x + np.asarray(rng.uniform(-by, by, x.shape) * scale_of(x), dtype=x.dtype)
    return point


def _evidence(comparison: Comparison, i: int, axes: Axes) -> Evidence:
    problem, called = comparison.problem, comparison.called
    smooth = [e for e in comparison.elements[i] if not e.slope.kink]
    gradient = called.gradients[i].astype(np.float64)
    places = {name: k for k, name in enumerate(problem.names)}

    def vjp(dy: FloatArray, changed: Mapping[str, Any]) -> FloatArray:
        point = called.point
        if changed:
            point = list(point)
            for name, a in changed.items():
                point[places[name]] = a
        g = problem.gradients(dy, point)[i]
        return np.zeros_like(gradient) if g is None else g.astype(np.float64)

    return Evidence(
        name=problem.names[i],
        inputs={
            name: a
            for name, a in zip(problem.names, problem.base, strict=True)
            if isinstance(a, np.ndarray)
        },
        dy=called.dy,
        y=called.y,
        analytic=gradient,
        others={
            problem.names[k]: called.gradients[k].astype(np.float64)
            for k in called.checked
            if k != i
        },
        flat=np.array([e.flat for e in smooth], dtype=int),
        numeric=np.array([e.numeric for e in smooth]),
        tolerance=np.array([e.tolerance for e in smooth]),
        vjp=vjp,
        jvp=lambda: comparison.output_slopes(i),
        is_stale=lambda: is_stale(problem, called, i),
        scaled_error=lambda factor: _scaled_error(comparison, i, factor),
        shared=tuple(
            problem.names[k] for pair in called.shared if i in pair for k in pair if k != i
        ),
        pairs=_paired(problem),
        axes=axes,
    )


def _compared(comparison: Comparison, near: Problem, i: int, seed: int, most: int) -> Any:
    """Return the comparison of the same elements of input i, at another point."""
    options = replace(comparison.options, seed=seed)
    other = Comparison(near, call(near, seed, repeat=False), options)
    other.slopes.complex_step = comparison.slopes.complex_step
    wrong = [e.flat for e in comparison.elements[i] if e.is_wrong]
    right = [e.flat for e in comparison.elements[i] if not e.is_wrong]
    flat = wrong[:: len(wrong) // most + 1] + right[:: len(right) // most + 1]
    other.compare(i, np.array(sorted(flat)))
    return other


def _second_draw(comparison: Comparison, i: int, axes: Axes) -> Evidence | None:
    problem, seed = comparison.problem, comparison.options.seed + 1
    total = sum(problem.base[k].size for k in comparison.called.checked)
    most = max(4, min(AGAIN, WORK // total // 4))
    for point in (elsewhere(problem), moved(problem, comparison.called.checked, 0.25, [seed, 6])):
        with contextlib.suppress(Stop, ArithmeticError, LookupError, TypeError, ValueError):
            return _evidence(_compared(comparison, problem.at(point), i, seed, most), i, axes)
    return None


def _scaled_error(comparison: Comparison, i: int, factor: float) -> float | None:
    """Return the error relative to the gradient with input i so many times as large."""
    point = list(comparison.problem.given)
    point[i] = (point[i] * factor).astype(point[i].dtype)
    with contextlib.suppress(Stop, ArithmeticError, LookupError, TypeError, ValueError):
        other = _compared(comparison, comparison.problem.at(point), i, comparison.options.seed, 32)
        e = _evidence(other, i, {})
        if e.size > 0:
            return float(np.max(np.abs(e.got - e.numeric), initial=0.0)) / e.size
    return None


# -- what a constant factor comes from --------------------------------------------------------


def _follow(comparison: Comparison, i: int, ratio: float) -> str:
    """Return what the ratio depends on: axes are doubled in length, and it is measured again."""
    if abs(ratio + 1) < 1e-6:
        return ": the sign is flipped"
    followed: list[tuple[int, str, float]] = []
    tried = False
    for length, axes, near in _resized(comparison.problem):
        other = _ratio_of(comparison, near, i)
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
        return f"; with {names} twice as long it is {2**p:.3g} times that: {what}"
    if followed or not tried:
        return "" if followed else "; no other shape could be tried"
    window = _inputs_of_one_output(comparison, i)
    for value in (abs(ratio), 1 / abs(ratio)):
        if window > 2 and abs(value - window) < 1e-6 * value:
            return (
                f", whatever the lengths of axes; {window} elements of "
                f"{comparison.problem.names[i]} have a gradient from one output: a sum and a mean "
                "over these are mistaken for each other"
            )
    if abs(abs(ratio) - 2) < 1e-6:
        return ", whatever the lengths of axes: a factor 2 too much, as of a square, or added twice"
    if abs(abs(ratio) - 0.5) < 1e-6:
        return ", whatever the lengths of axes: a factor 2 is missing, as of a square"
    return ", whatever the lengths of axes: a constant factor"


def _ratio_of(comparison: Comparison, near: Problem, i: int) -> float | None:
    with contextlib.suppress(Stop, ArithmeticError, LookupError, TypeError, ValueError):
        other = Comparison(
            near, call(near, comparison.options.seed, repeat=False), comparison.options
        )
        other.slopes.complex_step = comparison.slopes.complex_step
        analytic, numeric = other.ratio(i)
        return analytic / numeric if numeric else None
    return None


def _resized(problem: Problem) -> Iterator[tuple[int, str, Problem]]:
    """Yield (a length, the axes that have it and must change together, the problem so changed)."""
    lengths: dict[int, list[tuple[str, int]]] = {}
    for name, a in zip(problem.names, problem.given, strict=True):
        if isinstance(a, np.ndarray):
            for axis, length in enumerate(a.shape[: -1 if name in _paired(problem) else None]):
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


def _paired(problem: Problem) -> tuple[str, ...]:
    return tuple(n for n, pairs in zip(problem.names, problem.pairs, strict=True) if pairs)


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
        if np.all(np.isfinite(near.value(near.given))):
            return near
    return None


def _inputs_of_one_output(comparison: Comparison, i: int) -> int:
    called = comparison.called
    one = np.zeros_like(called.dy)
    one.flat[one.size // 2] = 1.0
    g = comparison.problem.gradients(one, called.point)[i]
    return 0 if g is None else int(np.count_nonzero(g))

"""Comparing the two sides: all at once, then one by one where it matters.

Noise and rounding are measured before anything is compared, and each direction is drawn from a
seed of its own. So the verdict of an element depends on its own numbers, and not on what was
compared before it.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np

from tinyconv.gradcheck.calls import Called, first
from tinyconv.gradcheck.element import Element, Options
from tinyconv.gradcheck.problem import FloatArray, Problem, Stop, largest, scale_of
from tinyconv.gradcheck.report import TensorReport
from tinyconv.gradcheck.rounding import measure_wobbles
from tinyconv.gradcheck.slopes import HALF, Direction, Slope, Slopes

__all__ = ["ROUNDING", "WORK", "Comparison"]

#: How many units of round-off a sound algorithm may lose, relative to what it adds up.
ROUNDING = 64.0
#: The same in float16, where that would be all of them.
ROUNDING_OF_HALF = 4.0
#: An error below this, relative to the gradient's largest element, is no mistake in the formula
#: but the round-off of float32 (or, for float32 gradients, ten thousand units of it).
SINGLE_PRECISION = 3e-6
#: So many elements are evaluated together, where the user told how.
TOGETHER = 32
#: Of a failing tensor so many elements are compared at least, if it has them, and no more than
#: what takes one evaluation of a function of so many inputs.
FEW, WORK = 20, 2_000_000


@contextmanager
def _progress(**options: Any) -> Iterator[Callable[[int], object]]:
    """Yield what is told how many elements are done; without tqdm nothing is shown."""
    try:
        from tqdm import tqdm
    except ImportError:
        yield lambda count: None
        return
    with tqdm(leave=False, **options) as bar:
        yield bar.update


class Comparison:
    """Compares gradients with numeric derivatives at one point; ``rows`` is the result."""

    def __init__(self, problem: Problem, called: Called, options: Options):
        self.problem, self.called, self.options = problem, called, options
        self._scales = {i: scale_of(problem.base[i]) for i in called.checked}
        self._check_finite()
        self._all = self._direction(called.checked)
        self.slopes = Slopes(problem, called, self._all)
        self._wobbles = measure_wobbles(problem, called)
        self._largest = {i: largest(called.gradients[i]) for i in called.checked}
        self._rounding = problem.eps_analytic * (
            ROUNDING_OF_HALF if problem.eps_analytic > HALF else ROUNDING
        )
        self.rows: dict[int, TensorReport] = {}
        self.elements: dict[int, list[Element]] = {}
        self.projection: tuple[float, float, float] | None = None
        #: a kink along the direction of all inputs that no single tensor shows
        self.kink_of_all = False
        self.is_cut = False  #: whether time ran out before all was compared
        self._kinks_around: dict[int, bool] = {}

    def run(self) -> None:
        """Project all gradients onto one direction, then look into single tensors and elements.

        Raises:
            Stop: a gradient is not finite.
        """
        slope = self._choose_method(self._all)
        self.projection = self._all.dot(self.called.gradients)[0], slope.value, slope.bar
        suspicious = slope.kink or not self._agrees(self._all, slope)
        for i in self.called.checked:
            if not (suspicious and self._inspect(i)):
                self.compare(i, self._choose(i))
        self.kink_of_all = slope.kink and all(row.verdict == "ok" for row in self.rows.values())

    def wrong(self) -> dict[int, list[int]]:
        """Return the wrong elements, by input and flat index."""
        wrong = {i: [e.flat for e in self.elements[i] if e.is_wrong] for i in self.elements}
        return {i: flat for i, flat in wrong.items() if flat}

    def has_kinks(self, directions: int) -> bool:
        """Tell whether any of some random directions of all inputs shows a kink, or a hint of one.

        Where kinks stand close together, none of them is resolved, and the slope is rough.
        """
        slopes = (
            self.slopes.kink_slope(self._direction(self.called.checked, draw=1 + k))
            for k in range(directions)
        )
        return any(slope.kink or slope.rough for slope in slopes)

    def call_kinks(self, i: int, flat: list[int]) -> None:
        """Judge anew, with some elements called kinks."""
        called = [
            replace(e, slope=e.slope.as_kink) if e.flat in flat else e for e in self.elements[i]
        ]
        self._store(i, called)

    # -- which numbers to compare -----------------------------------------------------------

    def _check_finite(self) -> None:
        for i in self.called.checked:
            bad = ~np.isfinite(self.called.gradients[i])
            if not np.any(bad):
                continue
            flat, name = int(np.flatnonzero(bad)[0]), self.problem.names[i]
            where = first(bad)
            seen = f"the gradient of {name} is {self.called.gradients[i][where]} at {where}, and in"
            seen = f"{seen} {int(bad.sum())} of {bad.size} elements, where"
            if not np.isfinite(self.problem.base[i].flat[flat]):
                hint = "the input is infinite there: return 0, as for what is masked"
                raise Stop("nonfinite", f"{seen} the input is infinite", f"{name}: {hint}", i)
            direction, step = self._element_direction(i, flat), self._step(i, flat)
            slope = Slopes(self.problem, self.called, direction).real_slope(direction)
            if slope.kink:
                numeric = f"the slopes are {slope.left / step:.4g} and {slope.right / step:.4g}"
                hint = "forward has a kink there, and backward divides 0 by 0: return 0, say"
            else:
                numeric = f"the numeric derivative is {slope.value / step:.6g}"
                hint = "an intermediate result overflows or is divided by 0"
            raise Stop("nonfinite", f"{seen} {numeric}", f"{name}: {hint}", i)

    def _choose_method(self, direction: Direction) -> Slope:
        """Return the slope along ``direction`` and settle for one method for all that follows.

        The complex step is valid if it agrees with differences along a direction that has no
        small element: a function that is not analytic somewhere shows there.
        """
        method = self.options.method
        by_step = None if method == "central" else self.slopes.complex_slope(direction)
        if by_step is None:
            if method == "complex":
                raise ValueError("check: method is 'complex', but forward takes no complex numbers")
            self.slopes.complex_step = False
            return self._slope(direction)
        real = self.slopes.kink_slope(direction)
        if real.kink or not real.is_near(by_step):
            real = self.slopes.kink_slope(direction, coarse=True)
        if real.kink:
            return replace(real, value=by_step.value, bar=by_step.bar)
        if method == "auto" and not real.is_near(by_step):
            self.slopes.complex_step = False
            return self._slope(direction)
        return by_step

    def _inspect(self, i: int) -> bool:
        """Look for what is wrong in tensor i; return False if that is nothing."""
        direction = self._direction([i])
        slope = self._slope(direction, kinks_around=True)
        error, tolerance = self._error(direction, slope)
        agrees = slope.kink or abs(error) <= tolerance
        if agrees and not slope.kink:
            return False
        self._kinks_around[i] = slope.kink
        flat = self._choose(i, all_of=True)
        row = self.compare(i, flat)
        if not agrees and not row.wrong:
            where = np.arange(self.problem.base[i].size)
            found = self._bisect(i, direction, where, error, tolerance)
            row = self.compare(i, np.union1d(flat, found).astype(int)) if found else row
            if not row.wrong:
                row = replace(row, verdict="wrong")
        if slope.kink and row.verdict == "ok":
            step = self._scales[i]
            row = replace(row, verdict="kink", left=slope.left / step, right=slope.right / step)
        self.rows[i] = row
        return True

    def _choose(self, i: int, all_of: bool = False) -> Any:
        """Return the flat indices of the elements to compare; ``all_of`` what is suspicious."""
        finite = np.flatnonzero(np.isfinite(self.problem.base[i]))
        count = finite.size if self.options.samples == "all" else int(self.options.samples)
        if all_of and self.options.samples != "all":
            total = sum(self.problem.base[k].size for k in self.called.checked)
            count = max(count, min(self.options.limit, max(FEW, WORK // total)))
        if count >= finite.size:
            return finite
        rng = np.random.default_rng([self.options.seed, 5, i])
        return np.sort(rng.choice(finite, count, replace=False))

    def _bisect(
        self, i: int, whole: Direction, flat: Any, error: float, tolerance: float
    ) -> list[int]:
        """Return up to 4 wrong elements, by halving sets whose projection is wrong.

        Projections add up, so that of one half gives the other's.
        """
        if len(flat) == 1:
            return [int(flat[0])]
        halves = flat[: len(flat) // 2], flat[len(flat) // 2 :]
        v = whole.parts[i][1]
        direction = Direction(self.problem, {i: (halves[0], v[halves[0]])})
        slope = self._slope(direction)
        if slope.kink or self._time_is_up():
            return []
        first_error, first_tolerance = self._error(direction, slope)
        rest = error - first_error, tolerance + first_tolerance
        found: list[int] = []
        if abs(first_error) > first_tolerance:
            found = self._bisect(i, whole, halves[0], first_error, first_tolerance)
        if abs(rest[0]) > rest[1] and len(found) < 4:
            found += self._bisect(i, whole, halves[1], rest[0], rest[1])
        return found

    # -- comparing them ---------------------------------------------------------------------

    def compare(self, i: int, flat: Any) -> TensorReport:
        """Compare some elements of tensor i one by one; return its row."""
        elements: list[Element] = []
        progress = self.options.progress
        disable = None if progress is None else not progress
        name = f"gradcheck {self.problem.names[i]}"
        delay = 0.0 if progress else 2.0
        with _progress(total=len(flat), desc=name, delay=delay, disable=disable) as advance:
            for start in range(0, len(flat), TOGETHER):
                if self._time_is_up():
                    break
                some = [int(k) for k in flat[start : start + TOGETHER]]
                elements += self._elements(i, some)
                advance(len(some))
        return self._store(i, elements)

    def _time_is_up(self) -> bool:
        self.is_cut = self.is_cut or self.options.is_over
        return self.is_cut

    def _elements(self, i: int, some: list[int]) -> list[Element]:
        directions = [self._element_direction(i, k) for k in some]
        around = self._kinks_around.get(i, False)
        if around or not self.slopes.complex_step:
            elements: list[Element] = []
            for k, direction in zip(some, directions, strict=True):
                if elements and self._time_is_up():
                    break
                elements.append(self._element(i, k, self._slope(direction, around)))
            return elements
        slopes = self.slopes.complex_slopes(directions)
        elements = []
        for k, direction, slope in zip(some, directions, slopes, strict=True):
            e = self._element(i, k, slope or self._slope(direction))
            if e.is_wrong:  # or at a kink that the complex step does not see
                e = self._element(i, k, self._slope(direction, kinks_around=True))
            elements.append(e)
        return elements

    def _store(self, i: int, elements: list[Element]) -> TensorReport:
        self.elements[i] = elements
        self.rows[i] = self._row(i, elements)
        return self.rows[i]

    def _element(self, i: int, flat: int, slope: Slope) -> Element:
        step = self._step(i, flat)
        numeric, bar = slope.value / step, slope.bar / step
        rounding = self._rounding * (self._largest[i] + self.natural_size(step))
        tolerance = bar + rounding + self._wobbles[i]
        analytic = float(self.called.gradients[i].reshape(-1)[flat])
        element = Element(flat, analytic, numeric, bar, tolerance, slope)
        if slope.rough and self._says_nothing(i, element, max(self._largest[i], abs(numeric))):
            # There is a kink close by: that, and not the gradient, is what can be said here.
            return replace(element, slope=slope.as_kink)
        return element

    def _slope(self, direction: Direction, kinks_around: bool = False) -> Slope:
        """Return the slope by the chosen method; ``kinks_around`` looks for one with any.

        Differences that show a kink, or another slope than the gradient's, are judged once more
        with coarser noise: both must agree on it.
        """
        by_step = self.slopes.complex_slope(direction) if self.slopes.complex_step else None
        if by_step is None:
            real = self.slopes.real_slope(direction)
            if real.kink or not self._agrees(direction, real):
                coarse = self.slopes.real_slope(direction, coarse=True)
                real = replace(coarse, rough=coarse.rough or real.kink)
            return real
        if not kinks_around:
            return by_step
        real = self.slopes.kink_slope(direction)
        if real.kink or not real.is_near(by_step):
            coarse = self.slopes.kink_slope(direction, coarse=True)
            real = replace(coarse, rough=coarse.rough or real.kink)
        return real if real.kink or not real.is_near(by_step) else by_step

    def _step(self, i: int, flat: int) -> float:
        """Return a power of 2 of the size of the element or of its tensor, if that is larger."""
        size = abs(float(self.problem.base[i].flat[flat]))
        return 2.0 ** round(math.log2(max(self._scales[i], size if np.isfinite(size) else 0.0)))

    def _element_direction(self, i: int, flat: int) -> Direction:
        return Direction(self.problem, {i: (np.array([flat]), np.array([self._step(i, flat)]))})

    def _direction(self, tensors: Sequence[int], draw: int = 0) -> Direction:
        """Return a random direction of the size of the inputs in which no element is small."""
        parts: dict[int, tuple[Any, Any]] = {}
        for i in tensors:
            x = self.problem.base[i].reshape(-1)
            size = np.maximum(self._scales[i], np.abs(x).astype(np.float64))
            rng = np.random.default_rng([self.options.seed, 1, draw, i])
            uniform = rng.uniform(-0.5, 0.5, x.size)
            parts[i] = (
                None,
                (uniform + np.copysign(0.5, uniform)) * np.where(np.isfinite(size), size, 0),
            )
        return Direction(self.problem, parts)

    def output_slopes(self, i: int) -> tuple[FloatArray, FloatArray] | None:
        """Return a direction of tensor i and the derivative of every output along it."""
        direction = self._direction([i], draw=-1 % 2**32)
        slopes = self.slopes.output_slopes(direction)
        v = direction.parts[i][1].reshape(self.problem.base[i].shape)
        return None if slopes is None else (v, slopes)

    def ratio(self, i: int) -> tuple[float, float]:
        """Return the gradient of tensor i, and its numeric value, along one direction."""
        direction = self._direction([i])
        return direction.dot(self.called.gradients)[0], self._slope(direction).value

    def _error(self, direction: Direction, slope: Slope) -> tuple[float, float]:
        """Return the error along a direction, and its tolerance."""
        analytic, absolute = direction.dot(self.called.gradients)
        rounding, wobble = absolute, 0.0
        for i, (_, v) in direction.parts.items():
            rounding += self.slopes.size * max(1.0, self._scales[i])
            rounding += self.slopes.unit * float(np.sqrt(np.sum(np.square(v))))
            wobble += self._wobbles[i] * float(np.sum(np.abs(v)))
        tolerance = slope.bar + self._rounding * rounding + wobble
        return analytic - slope.value, tolerance

    def _agrees(self, direction: Direction, slope: Slope) -> bool:
        error, tolerance = self._error(direction, slope)
        return bool(abs(error) <= tolerance)

    def natural_size(self, step: float) -> float:
        """Return the derivative of a function of this size that varies over ``step``, or over 1.

        A derivative much below it is a difference of larger numbers, and rounded like those.
        """
        return self.slopes.size / min(step, 1.0) + self.slopes.unit

    def _row(self, i: int, elements: list[Element]) -> TensorReport:
        shape = self.problem.given[i].shape
        kinks = [e for e in elements if e.slope.kink]
        smooth = [e for e in elements if not e.slope.kink]
        wrong = [e for e in smooth if e.is_wrong]
        size = max([largest(self.called.gradients[i]), *(abs(e.numeric) for e in smooth)])
        counts = len(elements), len(wrong), len(kinks)
        row = TensorReport(self.problem.names[i], shape, "ok", *counts)
        if smooth:
            worst = max(smooth, key=lambda e: e.severity)
            error = max(e.error for e in smooth)
            row = replace(
                row,
                absolute_error=error,
                relative_error=error / size if size else 0.0,
                index=_unravel(worst.flat, shape),
                analytic=worst.analytic,
                numeric=worst.numeric,
                bar=worst.bar,
            )
        if kinks:
            step = self._step(i, kinks[0].flat)
            left, right = kinks[0].slope.left / step, kinks[0].slope.right / step
            index = _unravel(kinks[0].flat, shape)
            row = replace(row, kink_index=index, left=left, right=right)
        return replace(row, verdict=self._verdict(i, wrong, kinks, smooth, size))

    def _verdict(
        self, i: int, wrong: list[Element], kinks: list[Element], smooth: list[Element], size: float
    ) -> str:
        if wrong:
            rounding = max(SINGLE_PRECISION, min(1e4 * self.problem.eps_analytic, 0.05))
            return "precision" if max(e.error for e in wrong) <= rounding * size else "wrong"
        if kinks:
            return "kink"
        too_wide = any(self._says_nothing(i, e, size) for e in smooth)
        return "precision" if too_wide else "ok"

    def _says_nothing(self, i: int, e: Element, size: float) -> bool:
        """Tell whether the bar is wider than a hundredth of the gradient, ``size``.

        A gradient that is nothing beside the function's own size needs no narrow bar, and where
        all is rounded to float16 there are no hundredths.
        """
        share = max(1e-2, 500 * self.problem.eps_numeric)
        nothing = min(1.0, max(1e-4, 1e6 * self.problem.eps_numeric))
        return e.bar > share * max(size, nothing * self.natural_size(self._step(i, e.flat)))


def _unravel(flat: int, shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(int(k) for k in np.unravel_index(flat, shape))

"""Comparing the two sides: all at once, then one by one where it matters."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tinyconv.gradcheck.callables import FloatArray, Problem, Stop, largest, scale_of
from tinyconv.gradcheck.calls import Called, first, is_stale
from tinyconv.gradcheck.evidence import Evidence
from tinyconv.gradcheck.report import TensorReport
from tinyconv.gradcheck.rounding import Rounding
from tinyconv.gradcheck.slopes import Direction, Slope, Slopes

__all__ = ["Comparison"]

#: How many units of round-off a sound algorithm may lose, relative to what it adds up.
ROUNDING = 64.0
#: An error below this, relative to the gradient's largest element, is no mistake in the formula
#: but the round-off of float32 (or, for float32 gradients, ten thousand units of it).
SINGLE_PRECISION = 3e-6
#: So many wrong elements are looked at once more, for kinks.
FEW = 32
#: So many elements are evaluated together, where the user told how.
TOGETHER = 32


@dataclass(frozen=True)
class Element:
    """One element compared: its flat index, and what both sides say."""

    flat: int
    analytic: float
    numeric: float
    bar: float  #: of the numeric value alone
    tolerance: float  #: of the comparison
    slope: Slope

    @property
    def error(self) -> float:
        """Return the absolute error."""
        return abs(self.analytic - self.numeric)

    @property
    def is_wrong(self) -> bool:
        """Tell whether the error is larger than its tolerance, at a point without a kink."""
        return not self.slope.kink and not self.error <= self.tolerance

    @property
    def severity(self) -> float:
        """Return the error in units of its tolerance."""
        return self.error / self.tolerance if self.tolerance > 0 else self.error


class Comparison:
    """Compares gradients with numeric derivatives at one point; ``rows`` is the result."""

    def __init__(
        self,
        problem: Problem,
        called: Called,
        *,
        seed: int,
        method: str,
        samples: int | str,
        limit: int,
    ):
        self.problem, self.called = problem, called
        self.samples, self.limit = samples, limit
        self.slopes = Slopes(problem, called)
        self.rounding = Rounding(problem, called, self.slopes)
        self.rows: dict[int, TensorReport] = {}
        self.projection: tuple[float, float, float] | None = None
        #: a kink along the direction of all inputs that no single tensor shows
        self.kink_of_all = False
        self._method = method
        self._scales = {i: scale_of(problem.base[i]) for i in called.checked}
        self._largest = {i: largest(called.gradients[i]) for i in called.checked}
        self._elements: dict[int, list[Element]] = {}
        self._rng = np.random.default_rng([seed, 1])

    def run(self) -> None:
        """Project all gradients onto one direction, then look into single tensors and elements.

        Raises:
            Stop: a gradient is not finite.
        """
        self._check_finite()
        direction = self._direction(self.called.checked)
        slope = self._choose_method(direction)
        self.projection = direction.dot(self.called.gradients)[0], slope.value, slope.bar
        suspicious = slope.kink or not self._agrees(direction, slope)
        for i in self.called.checked:
            if not (suspicious and self._inspect(i)):
                self._compare(i, self._choose(i))
        self.kink_of_all = slope.kink and all(row.verdict == "ok" for row in self.rows.values())

    def wrong(self) -> dict[int, list[int]]:
        """Return the wrong elements, by input and flat index."""
        wrong = {i: [e.flat for e in self._elements[i] if e.is_wrong] for i in self._elements}
        return {i: flat for i, flat in wrong.items() if flat}

    def has_kinks(self, directions: int) -> bool:
        """Tell whether any of some random directions of all inputs shows a kink, or a hint of one.

        Where kinks stand close together, none of them is resolved, and the slope is rough.
        """
        slopes = (
            self.slopes.kink_slope(self._direction(self.called.checked)) for _ in range(directions)
        )
        return any(slope.kink or slope.rough for slope in slopes)

    def wrong_among(self, i: int, flat: list[int], complex_step: bool) -> list[int]:
        """Return which of these elements are wrong, without a :meth:`run`."""
        self.slopes.complex_step = complex_step
        self._compare(i, np.array(flat))
        return [e.flat for e in self._elements[i] if e.is_wrong]

    def call_kinks(self, i: int, flat: list[int]) -> None:
        """Judge anew, with some elements called kinks."""
        self._store(
            i,
            [replace(e, slope=e.slope.as_kink) if e.flat in flat else e for e in self._elements[i]],
        )

    def evidence(self, i: int) -> Evidence:
        """Return what is known about the gradient of input i, for :mod:`.hints`."""
        smooth = [e for e in self._elements[i] if not e.slope.kink]
        gradient = self.called.gradients[i].astype(np.float64)

        def vjp(dy: FloatArray, inputs: list[Any] | None) -> FloatArray:
            point = self.called.point(self.problem) if inputs is None else inputs
            g = self.problem.gradients(dy.astype(self.called.dy_dtype(self.problem)), point)[i]
            return np.zeros_like(gradient) if g is None else g.astype(np.float64)

        def jvp() -> tuple[FloatArray, FloatArray] | None:
            direction = self._direction([i])
            slopes = self.slopes.output_slopes(direction)
            v = direction.parts[i][1].reshape(gradient.shape)
            return None if slopes is None else (v, slopes)

        return Evidence(
            name=self.problem.names[i],
            position=i,
            inputs=self.problem.base,
            names=self.problem.names,
            dy=self.called.dy,
            y=self.called.y,
            analytic=gradient,
            others={
                self.problem.names[k]: self.called.gradients[k].astype(np.float64)
                for k in self.called.checked
                if k != i
            },
            flat=np.array([e.flat for e in smooth], dtype=int),
            numeric=np.array([e.numeric for e in smooth]),
            tolerance=np.array([e.tolerance for e in smooth]),
            vjp=vjp,
            jvp=jvp,
            is_stale=lambda: is_stale(self.problem, self.called, i),
        )

    # -- which numbers to compare -----------------------------------------------------------

    def _check_finite(self) -> None:
        for i in self.called.checked:
            bad = ~np.isfinite(self.called.gradients[i])
            if not np.any(bad):
                continue
            flat, name = int(np.flatnonzero(bad)[0]), self.problem.names[i]
            slope = self.slopes.real_slope(self._element_direction(i, flat))
            step = self._step(i, flat)
            if slope.kink:
                numeric = f"the slopes are {slope.left / step:.4g} and {slope.right / step:.4g}"
                hint = "forward has a kink there, and backward divides 0 by 0: return 0, say"
            else:
                numeric = f"the numeric derivative is {slope.value / step:.6g}"
                hint = "an intermediate result overflows or is divided by 0"
            where = first(bad)
            raise Stop(
                "nonfinite",
                f"the gradient of {name} is {self.called.gradients[i][where]} at {where}, and in "
                f"{int(bad.sum())} of {bad.size} elements, where {numeric}",
                f"{name}: {hint}",
                i,
            )

    def _choose_method(self, direction: Direction) -> Slope:
        """Return the slope along ``direction`` and settle for one method for all that follows.

        The complex step is valid if it agrees with differences along a direction that has no
        small element: a function that is not analytic somewhere shows there.
        """
        if self._method == "central":
            self.slopes.complex_step = False
            return self._real_slope(direction)
        by_step = self.slopes.complex_slope(direction)
        if by_step is None:
            if self._method == "complex":
                raise ValueError("check: method is 'complex', but forward takes no complex numbers")
            self.slopes.complex_step = False
            return self._real_slope(direction)
        real = self.slopes.kink_slope(direction)
        if not (real.kink or real.is_near(by_step)) and self.slopes.measure_noise(direction):
            real = self.slopes.kink_slope(direction)
        if real.kink:
            return replace(real, value=by_step.value, bar=by_step.bar)
        if self._method == "auto" and not real.is_near(by_step):
            self.slopes.complex_step = False
            return self._real_slope(direction)
        return by_step

    def _real_slope(self, direction: Direction) -> Slope:
        """Return the slope by differences; if it is not the gradient's, with the noise measured."""
        slope = self.slopes.real_slope(direction)
        if slope.kink or self._agrees(direction, slope) or not self.slopes.measure_noise(direction):
            return slope
        return self.slopes.real_slope(direction)

    def _inspect(self, i: int) -> bool:
        """Look for what is wrong in tensor i; return False if that is nothing."""
        direction = self._direction([i])
        slope = self._slope(direction, kinks_around=True)
        agrees = slope.kink or self._agrees(direction, slope)
        if agrees and not slope.kink:
            return False
        size = self.problem.base[i].size
        flat = np.arange(size)
        if size > self.limit and self.samples != "all":
            flat = np.sort(self._rng.choice(size, self.limit, replace=False))
        row = self._compare(i, flat, kinks_around=slope.kink)
        if not agrees and not row.wrong and len(flat) < size:
            found = self._bisect(i, np.arange(size))
            row = self._compare(i, np.union1d(flat, found))
            if not row.wrong:
                row = replace(row, verdict="wrong")
        if slope.kink and row.verdict == "ok":
            step = self._scales[i]
            row = replace(row, verdict="kink", left=slope.left / step, right=slope.right / step)
        self.rows[i] = row
        return True

    def _choose(self, i: int) -> Any:
        """Return the flat indices of the elements to compare where nothing is suspicious."""
        size = self.problem.base[i].size
        if self.samples == "all" or int(self.samples) >= size:
            return np.arange(size)
        return np.sort(self._rng.choice(size, int(self.samples), replace=False))

    def _bisect(self, i: int, flat: Any) -> list[int]:
        """Return up to 4 wrong elements, by halving sets whose projection is wrong."""
        direction = self._direction([i], flat)
        slope = self._slope(direction)
        if slope.kink or self._agrees(direction, slope):
            return []
        if len(flat) == 1:
            return [int(flat[0])]
        found = self._bisect(i, flat[: len(flat) // 2])
        return found if len(found) >= 4 else found + self._bisect(i, flat[len(flat) // 2 :])

    # -- comparing them ---------------------------------------------------------------------

    def _compare(self, i: int, flat: Any, kinks_around: bool = False) -> TensorReport:
        elements = []
        for start in range(0, len(flat), TOGETHER):
            some = [int(k) for k in flat[start : start + TOGETHER]]
            slopes = self._slopes([self._element_direction(i, k) for k in some], kinks_around)
            elements += [self._element(i, k, s) for k, s in zip(some, slopes, strict=True)]
        if not self.rounding.is_measured and any(e.is_wrong for e in elements):
            wobble = self.rounding.wobble(i)
            elements = [replace(e, tolerance=e.tolerance + wobble) for e in elements]
        if not kinks_around and sum(e.is_wrong for e in elements) <= FEW:
            # A few wrong elements may be kinks too small for the projection to see.
            for place, e in enumerate(elements):
                if e.is_wrong:
                    slope = self._slope(self._element_direction(i, e.flat), kinks_around=True)
                    elements[place] = self._element(i, e.flat, slope)
        return self._store(i, elements)

    def _store(self, i: int, elements: list[Element]) -> TensorReport:
        self._elements[i] = elements
        self.rows[i] = self._row(i, elements)
        return self.rows[i]

    def _element(self, i: int, flat: int, slope: Slope) -> Element:
        step = self._step(i, flat)
        g = self.called.gradients[i]
        numeric, bar = slope.value / step, slope.bar / step
        rounding = self.problem.eps_analytic * (self._largest[i] + self.rounding.natural_size(step))
        tolerance = bar + ROUNDING * rounding
        if self.rounding.is_measured:
            tolerance += self.rounding.wobble(i)
        element = Element(flat, float(g.reshape(-1)[flat]), numeric, bar, tolerance, slope)
        if slope.rough and self._says_nothing(i, element, max(self._largest[i], abs(numeric))):
            # There is a kink close by: that, and not the gradient, is what can be said here.
            return replace(element, slope=slope.as_kink)
        return element

    def _slopes(self, directions: list[Direction], kinks_around: bool) -> list[Slope]:
        if kinks_around or not self.slopes.complex_step:
            return [self._slope(direction, kinks_around) for direction in directions]
        by_step = self.slopes.complex_slopes(directions)
        return [s or self._slope(d) for s, d in zip(by_step, directions, strict=True)]

    def _slope(self, direction: Direction, kinks_around: bool = False) -> Slope:
        if not self.slopes.complex_step:
            return self._real_slope(direction)
        by_step = self.slopes.complex_slope(direction)
        if by_step is not None and not kinks_around:
            return by_step
        real = self.slopes.kink_slope(direction)
        if by_step is None or real.kink or not real.is_near(by_step):
            return real
        return by_step

    def _step(self, i: int, flat: int) -> float:
        """Return a power of 2 of the size of the element or of its tensor, if that is larger."""
        size = max(self._scales[i], abs(float(self.problem.base[i].flat[flat])))
        return 2.0 ** round(math.log2(size))

    def _element_direction(self, i: int, flat: int) -> Direction:
        return Direction(self.problem, {i: (np.array([flat]), np.array([self._step(i, flat)]))})

    def _direction(self, tensors: Sequence[int], flat: Any = None) -> Direction:
        """Return a random direction of the size of the inputs in which no element is small."""
        parts = {}
        for i in tensors:
            x = self.problem.base[i].reshape(-1)
            x = x if flat is None else x[flat]
            size = np.maximum(self._scales[i], np.abs(x).astype(np.float64))
            uniform = self._rng.uniform(-0.5, 0.5, x.size)
            parts[i] = flat, (uniform + np.copysign(0.5, uniform)) * size
        return Direction(self.problem, parts)

    def _agrees(self, direction: Direction, slope: Slope) -> bool:
        """Compare along a direction; on a mismatch, once more with the rounding measured."""
        analytic, absolute = direction.dot(self.called.gradients)
        error = abs(analytic - slope.value)
        rounding = absolute
        for i, (_, v) in direction.parts.items():
            rounding += self.slopes.size * max(1.0, self._scales[i])
            rounding += self.slopes.unit * float(np.sqrt(np.sum(np.square(v))))
        tolerance = slope.bar + ROUNDING * self.problem.eps_analytic * rounding
        if error > tolerance:
            for i, (_, v) in direction.parts.items():
                tolerance += self.rounding.wobble(i) * float(np.sum(np.abs(v)))
        return bool(error <= tolerance)

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
            rounding = max(SINGLE_PRECISION, 1e4 * self.problem.eps_analytic)
            return "precision" if max(e.error for e in wrong) <= rounding * size else "wrong"
        if kinks:
            return "kink"
        too_wide = any(self._says_nothing(i, e, size) for e in smooth)
        return "precision" if too_wide else "ok"

    def _says_nothing(self, i: int, e: Element, size: float) -> bool:
        """Tell whether the bar is wider than a hundredth of the gradient, ``size``.

        A gradient that is nothing beside the function's own size needs no narrow bar.
        """
        return e.bar > 1e-2 * max(size, 1e-4 * self.rounding.natural_size(self._step(i, e.flat)))


def _unravel(flat: int, shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(int(k) for k in np.unravel_index(flat, shape))

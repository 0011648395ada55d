"""Comparing the two sides: all at once, then one by one where it matters.

Noise and rounding are measured for themselves, and each direction is drawn from a seed of its own.
So the verdict of an element depends on its own numbers, and not on what was compared before it.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tinyconv.gradcheck.calls import Called, call
from tinyconv.gradcheck.numbers import scale_of
from tinyconv.gradcheck.problem import HALF, FloatArray, Leaf, Problem, Stop, TimeUp
from tinyconv.gradcheck.report import TensorReport
from tinyconv.gradcheck.sides import Tangents
from tinyconv.gradcheck.slopes import Direction, Slope, Slopes

__all__ = ["WORK", "Comparison", "Element", "Options"]

#: How many units of round-off a sound algorithm may lose, relative to what it adds up; in float16
#: that would be all of them.
ROUNDING, ROUNDING_OF_HALF = 64.0, 4.0
#: An error below this, relative to the gradient's largest element, is no mistake in the formula
#: but the round-off of float32 (or, for float32 gradients, ten thousand units of it).
SINGLE_PRECISION = 3e-6
#: So many elements are evaluated together, where the user told how.
TOGETHER = 32
#: Of a failing tensor so many elements are compared at least, if it has them, and no more than
#: what takes one evaluation of a function of so many inputs.
FEW, WORK = 20, 2_000_000


@dataclass(frozen=True)
class Options:
    """What the user asked for, see :func:`tinyconv.gradcheck.check`."""

    seed: int = 0
    method: str = "auto"
    samples: int | str = 4
    limit: int = 2048
    seconds: float = math.inf
    progress: bool | None = None


@dataclass(frozen=True)
class Element:
    """One coordinate compared, and what both sides say."""

    k: int
    analytic: float
    numeric: float
    bar: float  #: of the numeric value alone
    tolerance: float  #: of the comparison, less what rounding moves the gradient by
    slope: Slope
    is_off: bool  #: whether the error is larger than its tolerance

    @property
    def error(self) -> float:
        """The absolute error."""
        return abs(self.analytic - self.numeric)

    @property
    def is_wrong(self) -> bool:
        """Whether it is off, at a point without a kink."""
        return self.is_off and not self.slope.kink


@contextmanager
def _progress(name: str, total: int, shown: bool | None) -> Iterator[Callable[[int], object]]:
    """Yield what is told how many elements are done; without tqdm nothing is shown."""
    try:
        from tqdm import tqdm
    except ImportError:
        yield lambda count: None
        return
    disable, delay = None if shown is None else not shown, 0.0 if shown else 2.0
    with tqdm(leave=False, total=total, desc=name, delay=delay, disable=disable) as bar:
        yield bar.update


class Comparison:
    """Compares gradients with numeric derivatives at one point; ``rows`` is the result."""

    def __init__(self, problem: Problem, called: Called, options: Options):
        self.problem, self.called, self.side, self.options = problem, called, called.side, options
        self._scales = {leaf: scale_of(leaf.of(problem.x)) for leaf in problem.leaves}
        scales = [np.full(leaf.size, self._scales[leaf]) for leaf in problem.leaves]
        sizes = np.maximum(np.concatenate(scales), np.abs(problem.x))
        self._sizes = np.where(np.isfinite(sizes), sizes, 0.0)
        self._all = self._direction(called.checked)
        self.slopes = Slopes(problem, called, self._all)
        self._rounding = problem.eps_analytic * (
            ROUNDING_OF_HALF if problem.eps_analytic > HALF else ROUNDING
        )
        self.rows: dict[Leaf, TensorReport] = {}
        self.elements: dict[Leaf, list[Element]] = {}
        self.projection: tuple[float, float, float] | None = None
        self.projection_fails = False
        #: a kink along the direction of all inputs that no single tensor shows
        self.kink_of_all = False
        self.is_cut = False  #: whether time ran out before all was compared
        self._kinks_around: dict[Leaf, bool] = {}

    def run(self) -> None:
        """Project all gradients onto one direction, then look into single tensors and elements.

        Raises:
            Stop: a gradient is not finite.
        """
        self._require_finite()
        slope = self._choose_method(self._all)
        agrees = self._agrees(self._all, slope)
        self.projection = self.side.along(self._all)[0], slope.value, slope.bar
        self.projection_fails = not (agrees or slope.kink)
        for leaf in self.called.checked:
            if (agrees and not slope.kink) or not self._inspect(leaf):
                self.compare(leaf, self._choose(leaf))
        self.kink_of_all = slope.kink and all(row.verdict == "ok" for row in self.rows.values())

    def at(self, near: Problem, seed: int) -> "Comparison":
        """Return a comparison at another point, by the method that was chosen here."""
        options = replace(self.options, seed=seed)
        other = Comparison(near, call(near, seed, repeat=False), options)
        other._require_finite()
        other.slopes.complex_step = self.slopes.complex_step
        return other

    def wrong(self) -> dict[Leaf, list[int]]:
        """Return the wrong coordinates."""
        wrong = {leaf: [e.k for e in some if e.is_wrong] for leaf, some in self.elements.items()}
        return {leaf: ks for leaf, ks in wrong.items() if ks}

    def has_kinks(self, directions: int) -> bool:
        """Tell whether any of some random directions of all inputs shows a kink, or a hint of one.

        Where kinks stand close together, none of them is resolved, and the slope is rough.
        """
        slopes = (
            self.slopes.kink_slope(self._direction(self.called.checked, draw=1 + k))
            for k in range(directions)
        )
        return any(slope.kink or slope.rough for slope in slopes)

    def call_kinks(self, leaf: Leaf, ks: list[int]) -> None:
        """Judge anew, with some elements called kinks."""
        called = [
            replace(e, slope=replace(e.slope, kink=True)) if e.k in ks else e
            for e in self.elements[leaf]
        ]
        self._store(leaf, called)

    # -- which numbers to compare -----------------------------------------------------------

    def _require_finite(self) -> None:
        if isinstance(self.side, Tangents):
            return
        for leaf in self.called.checked:
            bad = np.flatnonzero(~np.isfinite(self.side.vector[leaf.part])) + leaf.part.start
            if not bad.size:
                continue
            k, name = int(bad[0]), leaf.name
            seen = f"the gradient of {name} is {self.side.vector[k]} at {leaf.index(k)}, and in"
            seen = f"{seen} {bad.size} of {leaf.size} elements, where"
            if not np.isfinite(self.problem.x[k]):
                hint = "the input is infinite there: return 0, as for what is masked"
                raise Stop("nonfinite", f"{seen} the input is infinite", f"{name}: {hint}", leaf)
            direction, step = self._axis(leaf, k), self._step(k)
            slope = self.slopes.real_slope(direction)
            if slope.kink:
                numeric = f"the slopes are {slope.left / step:.4g} and {slope.right / step:.4g}"
                hint = "forward has a kink there, and backward divides 0 by 0: return 0, say"
            else:
                numeric = f"the numeric derivative is {slope.value / step:.6g}"
                hint = "an intermediate result overflows or is divided by 0"
            raise Stop("nonfinite", f"{seen} {numeric}", f"{name}: {hint}", leaf)

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
        if self.slopes.confirms(direction, by_step):
            return by_step
        real = self.slopes.kink_slope(direction)
        if real.kink or not real.is_near(by_step):
            real = self.slopes.kink_slope(direction, coarse=True)
        if real.kink:
            return replace(real, value=by_step.value, bar=by_step.bar)
        if method == "auto" and not real.is_near(by_step):
            self.slopes.complex_step = False
            return self._slope(direction)
        return by_step

    def _inspect(self, leaf: Leaf) -> bool:
        """Look for what is wrong in a tensor; return False if that is nothing."""
        direction = self._direction([leaf])
        slope = self._slope(direction, kinks_around=True)
        error, tolerance = self._error(direction, slope)
        agrees = slope.kink or abs(error) <= tolerance
        if agrees and not slope.kink:
            return False
        self._kinks_around[leaf] = slope.kink
        some = self._choose(leaf, all_of=True)
        row = self.compare(leaf, some)
        if not agrees and not row.wrong:
            everywhere = np.arange(leaf.part.start, leaf.part.stop)
            found = self._bisect(leaf, direction, everywhere, error, tolerance)
            row = self.compare(leaf, np.union1d(some, found).astype(int)) if found else row
            is_half = self.problem.eps_numeric > HALF  # its steps may cross a kink from afar
            if not row.wrong and not (is_half and row.kinks):
                row = replace(row, verdict="wrong")
        if slope.kink and row.verdict == "ok":
            step = self._scales[leaf]
            row = replace(row, verdict="kink", left=slope.left / step, right=slope.right / step)
        self.rows[leaf] = row
        return True

    def _choose(self, leaf: Leaf, all_of: bool = False) -> Any:
        """Return the coordinates to compare; ``all_of`` what is suspicious."""
        finite = np.flatnonzero(np.isfinite(self.problem.x[leaf.part]))
        count = finite.size if self.options.samples == "all" else int(self.options.samples)
        if all_of and self.options.samples != "all":
            total = sum(leaf.size for leaf in self.called.checked)
            count = max(count, min(self.options.limit, max(FEW, WORK // total)))
        if count < finite.size:
            rng = np.random.default_rng([self.options.seed, 5, leaf.place])
            finite = np.sort(rng.choice(finite, count, replace=False))
        return finite + leaf.part.start

    def _bisect(
        self, leaf: Leaf, whole: Direction, ks: Any, error: float, tolerance: float
    ) -> list[int]:
        """Return up to 4 wrong coordinates, by halving sets whose projection is wrong.

        Projections add up, so that of one half gives the other's.
        """
        if len(ks) == 1:
            return [int(ks[0])]
        halves = ks[: len(ks) // 2], ks[len(ks) // 2 :]
        v = whole.parts[leaf][1]
        direction = Direction(self.problem, {leaf: (halves[0], v[halves[0] - leaf.part.start])})
        try:
            slope = self._slope(direction)
            first_error, first_tolerance = self._error(direction, slope)
        except TimeUp:
            self.is_cut = True
            return []
        if slope.kink:
            return []
        rest = error - first_error, tolerance + first_tolerance
        found: list[int] = []
        if abs(first_error) > first_tolerance:
            found = self._bisect(leaf, whole, halves[0], first_error, first_tolerance)
        if abs(rest[0]) > rest[1] and len(found) < 4:
            found += self._bisect(leaf, whole, halves[1], *rest)
        return found

    # -- comparing them ---------------------------------------------------------------------

    def compare(self, leaf: Leaf, ks: Any) -> TensorReport:
        """Compare some coordinates of a leaf one by one; return its row."""
        known = {e.k: e for e in self.elements.get(leaf, [])}
        elements = [known[k] for k in ks if k in known]
        ks = [int(k) for k in ks if k not in known]
        name = f"gradcheck {leaf.name}"
        with _progress(name, len(ks), self.options.progress) as advance:
            for start in range(0, len(ks), TOGETHER):
                some = ks[start : start + TOGETHER]
                try:
                    for element in self._elements(leaf, some):
                        elements.append(element)
                except TimeUp:
                    self.is_cut = True
                    break
                advance(len(some))
        return self._store(leaf, sorted(elements, key=lambda e: e.k))

    def _elements(self, leaf: Leaf, some: list[int]) -> Iterator[Element]:
        directions = [self._axis(leaf, k) for k in some]
        around = self._kinks_around.get(leaf, False)
        if around or not self.slopes.complex_step:
            for k, direction in zip(some, directions, strict=True):
                yield self._element(leaf, k, self._slope(direction, around))
            return
        slopes = self.slopes.complex_slopes(directions)
        for k, direction, slope in zip(some, directions, slopes, strict=True):
            e = self._element(leaf, k, slope or self._slope(direction))
            if e.is_wrong:  # or at a kink that the complex step does not see
                e = self._element(leaf, k, self._slope(direction, kinks_around=True))
            yield e

    def _store(self, leaf: Leaf, elements: list[Element]) -> TensorReport:
        self.elements[leaf] = elements
        self.rows[leaf] = self._row(leaf, elements)
        return self.rows[leaf]

    def _element(self, leaf: Leaf, k: int, slope: Slope) -> Element:
        step = self._step(k)
        numeric, bar, analytic = slope.value / step, slope.bar / step, self.side.at(leaf, k)
        size = max(self.side.largest(leaf), abs(analytic))
        tolerance = bar + self._rounding * (size + self.natural_size(step))
        error = abs(analytic - numeric)
        is_off = not error <= tolerance and not error <= tolerance + self._wobble(leaf, k)
        if slope.rough and self._says_nothing(k, bar, max(size, abs(numeric))):
            # There is a kink close by: that, and not the gradient, is what can be said here.
            slope = replace(slope, kink=True)
        return Element(k, analytic, numeric, bar, tolerance, slope, is_off)

    def tolerances(self, leaf: Leaf, elements: list[Element]) -> FloatArray:
        """Return all that explains a difference between the two sides."""
        return np.array([e.tolerance + self._wobble(leaf, e.k) for e in elements])

    def _wobble(self, leaf: Leaf, k: int) -> float:
        return self.side.wobble(self._axis(leaf, k)) / self._step(k)

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
        if not kinks_around or self.slopes.confirms(direction, by_step):
            return by_step
        real = self.slopes.kink_slope(direction)
        if real.kink or not real.is_near(by_step):
            coarse = self.slopes.kink_slope(direction, coarse=True)
            real = replace(coarse, rough=coarse.rough or real.kink)
        return real if real.kink or not real.is_near(by_step) else by_step

    def _step(self, k: int) -> float:
        """Return a power of 2 of the size of the element or of its tensor, if that is larger."""
        return float(2.0 ** round(math.log2(self._sizes[k])))

    def _axis(self, leaf: Leaf, k: int) -> Direction:
        return Direction(self.problem, {leaf: (np.array([k]), np.array([self._step(k)]))})

    def _direction(self, leaves: Sequence[Leaf], draw: int = 0) -> Direction:
        """Return a random direction of the size of the inputs in which no element is small."""
        parts = {}
        for leaf in leaves:
            rng = np.random.default_rng([self.options.seed, 1, draw, leaf.place])
            uniform = rng.uniform(-0.5, 0.5, leaf.size)
            v = (uniform + np.copysign(0.5, uniform)) * self._sizes[leaf.part]
            parts[leaf] = leaf.part, v
        return Direction(self.problem, parts)

    def output_slopes(self, leaf: Leaf) -> tuple[FloatArray, FloatArray] | None:
        """Return a direction of a leaf and the derivative of every output along it."""
        direction = self._direction([leaf], draw=-1 % 2**32)
        slopes = self.slopes.output_slopes(direction)
        v = direction.parts[leaf][1].reshape(leaf.shape)
        return None if slopes is None else (v, slopes)

    def ratio(self, leaf: Leaf) -> float | None:
        """Return the gradient over its numeric value, along one direction of a leaf."""
        direction = self._direction([leaf])
        slope = self._slope(direction)
        return self.side.along(direction)[0] / slope.value if slope.value else None

    def _error(self, direction: Direction, slope: Slope) -> tuple[float, float]:
        """Return the error along a direction, and its tolerance."""
        analytic, rounding = self.side.along(direction)
        for leaf, (_, v) in direction.parts.items():
            rounding += self.slopes.size * max(1.0, self._scales[leaf])
            rounding += self.slopes.unit * float(np.sqrt(np.sum(np.square(v))))
        error, tolerance = analytic - slope.value, slope.bar + self._rounding * rounding
        if not abs(error) <= tolerance:
            tolerance += self.side.wobble(direction)
        return error, tolerance

    def _agrees(self, direction: Direction, slope: Slope) -> bool:
        error, tolerance = self._error(direction, slope)
        return bool(abs(error) <= tolerance)

    def natural_size(self, step: float) -> float:
        """Return the derivative of a function of this size that varies over ``step``, or over 1.

        A derivative much below it is a difference of larger numbers, and rounded like those.
        """
        return self.slopes.size / min(step, 1.0) + self.slopes.unit

    def _row(self, leaf: Leaf, elements: list[Element]) -> TensorReport:
        if not elements:
            return TensorReport(leaf.name, leaf.shape, "ok")
        kinks = [e for e in elements if e.slope.kink]
        smooth = [e for e in elements if not e.slope.kink]
        wrong = [e for e in smooth if e.is_wrong]
        size = max([self.side.largest(leaf), *(abs(e.numeric) for e in smooth)])
        counts = len(elements), len(wrong), len(kinks)
        verdict = self._verdict(wrong, kinks, smooth, size)
        row = TensorReport(leaf.name, leaf.shape, verdict, *counts)
        if smooth:
            worst = max(smooth, key=lambda e: (e.is_wrong, e.error / (e.tolerance or 1.0)))
            error = max(e.error for e in smooth)
            row = replace(
                row,
                absolute_error=error,
                relative_error=error / size if size else 0.0,
                index=leaf.index(worst.k),
                analytic=worst.analytic,
                numeric=worst.numeric,
                bar=worst.bar,
            )
        if kinks:
            kink, step = kinks[0], self._step(kinks[0].k)
            left, right = kink.slope.left / step, kink.slope.right / step
            row = replace(row, kink_index=leaf.index(kink.k), left=left, right=right)
        return row

    def _verdict(
        self, wrong: list[Element], kinks: list[Element], smooth: list[Element], size: float
    ) -> str:
        if wrong:
            rounding = max(SINGLE_PRECISION, min(1e4 * self.problem.eps_analytic, 0.05))
            return "precision" if max(e.error for e in wrong) <= rounding * size else "wrong"
        if kinks:
            return "kink"
        too_wide = any(self._says_nothing(e.k, e.bar, size) for e in smooth)
        return "precision" if too_wide else "ok"

    def _says_nothing(self, k: int, bar: float, size: float) -> bool:
        """Tell whether a bar is wider than a hundredth of the gradient, ``size``.

        A gradient that is nothing beside the function's own size needs no narrow bar, and where
        all is rounded to float16 there are no hundredths.
        """
        share = max(1e-2, 500 * self.problem.eps_numeric)
        nothing = min(1.0, max(1e-4, 1e6 * self.problem.eps_numeric))
        return bar > share * max(size, nothing * self.natural_size(self._step(k)))

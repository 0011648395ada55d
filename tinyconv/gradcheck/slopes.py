"""Numeric derivatives of ``<dy, forward(x + t v)>`` at t = 0, each with an error bar.

The complex step, ``Im f(x + i h v) / h``, takes no difference, so nothing cancels, and is as exact
as f itself, which must be analytic and compute with complex numbers (Squire and Trapp, "Using
complex variables to estimate derivatives of real functions", SIAM Review 1998).

Else central differences on a ladder of ever smaller steps, each pair of rungs extrapolated to h = 0
(Richardson, "The approximate arithmetical solution by finite differences", 1911). They also yield
the *jump*, right slope minus left slope. For a smooth function that is proportional to h;
extrapolated to h = 0 it is zero within its own error bar, and where it is not, the function has a
kink. A kink at a small distance d is no kink for steps below d: the ladder goes on downwards until
it has passed it or drowns in rounding errors.
"""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from tinyconv.gradcheck.nests import FloatArray, Leaf
from tinyconv.gradcheck.problem import DOUBLE, HALF, Problem

if TYPE_CHECKING:
    from tinyconv.gradcheck.calls import Called


#: Steps of the complex method, by precision: their squares are nothing beside 1, and what is
#: computed from them is far above the smallest number; beside smaller inputs it would not be.
COMPLEX_STEP, COMPLEX_STEP_SINGLE, TINY = 2.0**-150, 2.0**-40, 1e-200
#: Two neighbouring rungs of the ladder differ by this factor; so many standard deviations of
#: rounding noise are in an error bar.
RATIO, SIGMAS = 8.0, 10.0
#: What noise may be: that of rounding the values alone; what was measured too; and never below
#: that of outputs rounded next to 1, as the log of a number close to 1 is.
ROUNDED, MEASURED, COARSE = range(3)


@dataclass(frozen=True)
class Slope:
    """A numeric derivative along a direction."""

    value: float
    bar: float  #: the true derivative is within value ± bar
    left: float = np.nan  #: slope towards smaller t, NaN where it was not taken
    right: float = np.nan
    kink: bool = False
    rough: bool = False  #: something like a kink is near, which no step could resolve
    is_exact: bool = False  #: by the complex step

    def over(self, unit: float) -> "Slope":
        """Return the slope along a direction that is so many times shorter."""
        left, right = self.left / unit, self.right / unit
        return replace(self, value=self.value / unit, bar=self.bar / unit, left=left, right=right)


class Direction:
    """A direction in the space of coordinates: ``v`` at those of ``leaves`` that are ``where``.

    It is rounded so that ``x + t v`` is exact for every t on the ladder: ``h v`` is a multiple of
    the spacing of numbers around x for the smallest step h. An infinite input stays.
    """

    def __init__(self, problem: Problem, leaves: list[Leaf], where: Any, v: Any):
        self._x, self.leaves, self.where = problem.x, leaves, where
        finite = np.isfinite(x := problem.x[where])
        unit = np.spacing(2 * np.where(finite, np.abs(x) + np.abs(v), 1)) * (problem.eps / DOUBLE)
        unit = unit / (_steps(problem.eps)[-1] / 4)  # the noise is measured below the last rung
        self.v: FloatArray = np.where(finite, np.round(v / unit), 0) * unit
        #: what was seen along it with each step: the slopes on both sides, the size of the values
        self.rungs: dict[float, tuple[float, float, float] | None] = {}
        self.exact: list[Slope | None] = []  #: by the complex step, after that was taken

    def moved(self, t: complex) -> dict[Leaf, Any]:
        """Return the coordinates of its leaves at ``x + t v``."""
        x: Any = self._x.astype(complex) if isinstance(t, complex) else self._x.copy()
        x[self.where] += t * self.v
        return {leaf: leaf.of(x) for leaf in self.leaves}


def _steps(eps: float) -> list[float]:
    """Return the steps of the ladder, relative to the size of the inputs."""
    if eps > HALF:
        return [2.0**-k for k in (1, 4)]
    return [2.0**-k for k in ((4, 7, 10) if eps > DOUBLE else (10, 13, 16, 19, 22, 25, 28))]


class Slopes:
    """Takes slopes of ``<dy, forward>`` at one point; their noise is measured along a direction."""

    def __init__(self, called: "Called", direction: Direction):
        self.problem, self.dy, self.y = called.numeric, called.dy, called.ys[0]
        self.complex_step, self._direction = True, direction
        self._is_half, self._steps = self.problem.eps_y > HALF, _steps(self.problem.eps)
        # What is almost 0 here may be a difference of numbers that are not, and those were rounded.
        terms = called.mode.vector * np.where(np.isfinite(self.problem.x), self.problem.x, 0)
        terms = np.where(np.isfinite(terms), terms, 0)
        sizes = [self._sum(self.dy * y) for y in called.ys] + [float(np.linalg.norm(terms))]
        #: the size of what is differentiated, and of an output of 1
        self.size = max(sizes) or float(np.sum(np.abs(self.dy)))
        self.unit = float(np.linalg.norm(self.dy))

    def _sum(self, terms: FloatArray) -> float:
        """Return a bound of the size of a sum, or in float16, where all counts, its likely size."""
        return float(np.linalg.norm(terms) if self._is_half else np.sum(np.abs(terms)))

    def natural(self, v: FloatArray) -> float:
        """Return a slope below which one is a difference of larger numbers, rounded like those."""
        longest = float(np.max(np.abs(v), initial=0))
        return self.size * max(1.0, longest) + self.unit * float(np.linalg.norm(v))

    def along(
        self, direction: Direction, is_off: Callable[[Slope], bool], kinks: bool = False
    ) -> Slope:
        """Return the slope by the chosen method; with ``kinks`` one is looked for with any.

        If differences show a kink, or are off, that must hold whatever the noise is.
        """
        exact = self.by_complex_step(direction) if self.complex_step else None
        if exact is not None and not kinks:
            return exact
        rough = False
        for slope in self.by_differences(direction, short=exact is not None):
            is_right = not is_off(slope)
            if exact is not None:
                is_right = abs(exact.value - slope.value) <= exact.bar + slope.bar
            if is_right and not slope.kink:
                return exact or replace(slope, rough=slope.rough or rough)
            rough |= slope.kink
        return replace(slope, rough=slope.rough or rough)

    def by_complex_step(self, direction: Direction) -> Slope | None:
        """Return the derivative by the complex step, None where forward does not admit it."""
        if not direction.exact:
            direction.exact.append(None)
            if (derivative := self._imaginary(direction)) is not None:
                terms = self.dy * derivative
                bar = 16 * self.problem.eps_y * (float(np.sum(np.abs(terms))) + self.size)
                direction.exact[0] = Slope(float(np.sum(terms)), bar, is_exact=True)
        return direction.exact[0]

    def of_outputs(self, direction: Direction) -> FloatArray | None:
        """Return the derivative of every output along ``direction``, None at an edge."""
        if self.complex_step:
            return self._imaginary(direction)
        h = self._steps[1]
        above, below = (self._value(direction, t) for t in (h, -h))
        return None if above is None or below is None else (above - below) / (2 * h)

    def _imaginary(self, direction: Direction) -> FloatArray | None:
        h = COMPLEX_STEP_SINGLE if self.problem.eps > DOUBLE else COMPLEX_STEP
        is_tiny = 0 < np.max(np.abs(direction.v), initial=0) < TINY
        if is_tiny or any(leaf.pairs for leaf in self.problem.leaves):
            return None
        # Any error means the same: this function is not made for complex numbers.
        with contextlib.suppress(Exception):
            y = self.problem.evaluate(direction.moved(1j * h), complex_step=True)
            if y.dtype.kind == "c" and y.shape == self.y.shape and np.all(np.isfinite(y)):
                return np.asarray(y.imag.astype(np.float64) / h)
        return None

    # -- differences ----------------------------------------------------------------------------

    def by_differences(self, direction: Direction, short: bool = False) -> Iterator[Slope]:
        """Yield what differences say, with ever more noise.

        ``short`` looks for kinks alone, far down the ladder, because a step of thousands of inputs
        at once crosses the kinks of thousands of ReLUs. Curvature looks like a jump too; only if
        there is something to see, more rungs must tell which of them it is.
        """
        for noise in (ROUNDED, MEASURED) if short else ():
            rung = self._rung(direction, self._steps[-2], noise)
            if rung is not None and (jump := abs(rung.right - rung.left)) <= 4 * rung.bar:
                yield replace(rung, bar=rung.bar + jump)
        for noise in (MEASURED, COARSE):
            yield self._ladder(direction, self._steps[-3:] if short else self._steps, noise)

    def _ladder(self, direction: Direction, steps: list[float], noise: int) -> Slope:
        """Return the derivative by extrapolated central differences, and whether x is a kink."""
        before: Slope | None = None
        best = Slope(np.nan, np.inf, kink=True)
        seen = 0.0  # the last extrapolated jump that showed
        rough = persists = False  # whether any showed, and whether the last one had not shrunk
        for h in steps:
            rung = self._rung(direction, h, noise)
            if rung is None or before is None:
                before = rung  # outside the domain, only smaller steps can tell
                continue
            jumps = RATIO * (rung.right - rung.left) - (before.right - before.left)
            jump, moved = abs(jumps) / (RATIO - 1), rung.value - before.value
            value = rung.value + moved / (RATIO**2 - 1)
            # From rung to rung the error falls by 64 where the function is smooth, but only by 8
            # where its second derivative jumps, which would leave a seventh of the difference.
            # A jump that noise hides is in the bar too.
            bar = rung.bar + abs(moved) / 4 + jump
            shows = jump > 4 * rung.bar
            if shows:
                persists = seen > 0 and jump > seen / 32
                rough, seen = True, jump
            elif 4 * rung.bar < seen / 4:
                seen, persists = 0.0, False  # noise would not hide the jump: it is gone
            if rough:
                bar += 7 * jump + 2 * abs(moved)  # none of that holds near a kink
            if bar < best.bar or best.kink:
                best = Slope(value, bar, rung.left, rung.right)
            if not shows and not persists and bar <= 1e-8 * abs(value) + 1e-10 * self.size:
                return best
            before = rung
        if best.kink or before is None:
            return Slope(np.nan, np.inf, kink=True)
        if persists:
            return replace(before, bar=abs(before.right - before.left) / 2, kink=True)
        # A jump that showed, and was neither followed down nor seen to vanish, makes this rough.
        return replace(best, rough=rough and best.bar > 1e-6 * (abs(best.value) + self.size))

    def _rung(self, direction: Direction, h: float, noise: int) -> Slope | None:
        """Return the slope between ``x ± h v``, its bar noise; None where there is no number."""
        if h not in direction.rungs:
            above, below = (self._value(direction, t) for t in (h, -h))
            direction.rungs[h] = None
            if above is not None and below is not None:
                right = float(np.sum(self.dy * (above - self.y))) / h
                left = float(np.sum(self.dy * (self.y - below))) / h
                sizes = np.abs(self.dy) * np.maximum(np.abs(above), np.abs(below))
                if self._is_half:  # so coarse that the rounding of what stays must not count
                    sizes = sizes[(above != self.y) | (below != self.y)]
                direction.rungs[h] = left, right, self._sum(sizes)
        if (seen := direction.rungs[h]) is None:
            return None
        left, right, size = seen
        eps, measured = self.problem.eps_y, 0.0 if noise == ROUNDED else self._measured_noise
        if self._is_half:
            bar = 4 * max(eps * size, measured)
        else:
            coarse = eps * self.unit if noise == COARSE else 0.0
            bar = SIGMAS * max(eps * max(size, self.size), measured, coarse)
        return Slope((left + right) / 2, bar / h, left, right)

    def _value(self, direction: Direction, t: float) -> FloatArray | None:
        y = self.problem.evaluate(direction.moved(t))
        return y.astype(np.float64) if np.all(np.isfinite(y)) else None

    @cached_property
    def _measured_noise(self) -> float:
        """The rounding noise of ``<dy, forward>``.

        On points so close to each other that every smooth function is linear between them, all
        that second differences show is noise, with sqrt(6) times the standard deviation of a value
        (Hamming's difference table; Moré and Wild, "Estimating computational noise", 2011).
        Kinks may be among the points, so the smallest of six differences that are not 0 counts,
        three times: that is about the standard deviation of six random ones.
        """
        found: list[float] = []
        for side in (self._steps[-1] / 4, -self._steps[-1] / 4):
            for k in range(4):  # ever wider, while rounding makes all values equal
                step = side * RATIO**k
                values = [self._value(self._direction, step * i) for i in (1, 2, 3, 4)]
                finite = [self.y, *(y for y in values if y is not None)]
                phi = [float(np.sum(self.dy * (y - self.y))) for y in finite]
                if len(phi) < 5 or any(phi):
                    found += list(np.abs(np.diff(phi, 2))) if len(phi) == 5 else []
                    break
        return 3 * min((d for d in found if d > 0), default=0.0) / float(np.sqrt(6))

"""Numeric derivatives of ``<dy, forward(x + t v)>`` at t = 0, each with an error bar.

Two methods:

* The complex step, ``Im f(x + i h v) / h`` with h so small that h^2 vanishes: no difference is
  taken, so nothing cancels, and the derivative is as exact as f itself. It needs a forward that
  is analytic and computes with complex numbers (Squire and Trapp, "Using complex variables to
  estimate derivatives of real functions", SIAM Review 1998).
* Central differences on a ladder of ever smaller steps, each pair of rungs extrapolated to h = 0
  (Richardson, "The approximate arithmetical solution by finite differences", 1911).

The ladder also yields the *jump*, right slope minus left slope. For a smooth function the jump
is proportional to h; extrapolated to h = 0 it is zero within its own error bar, and where it
is not, the function has a kink. A kink at a small distance d is no kink for steps below d: the
ladder goes on downwards until it has passed it or drowns in rounding errors.
"""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from tinyconv.gradcheck.calls import Called
from tinyconv.gradcheck.problem import DOUBLE, HALF, FloatArray, Leaf, Problem

__all__ = ["Direction", "Slope", "Slopes"]

#: Steps of the complex method, by precision: their squares are nothing beside 1, and what is
#: computed from them is far above the smallest number.
COMPLEX_STEP, COMPLEX_STEP_SINGLE = 2.0**-150, 2.0**-40
#: Below inputs of this size the complex step would be subnormal.
TINY = 1e-200
#: Two neighbouring rungs of the ladder differ by this factor.
RATIO = 8.0
#: How many standard deviations of rounding noise an error bar holds.
SIGMAS = 10.0


@dataclass(frozen=True)
class Slope:
    """A numeric derivative along a direction."""

    value: float
    bar: float  #: the true derivative is within value ± bar
    left: float = np.nan  #: slope towards smaller t, NaN where it was not taken
    right: float = np.nan
    kink: bool = False
    rough: bool = False  #: something like a kink is near, which no step could resolve

    def is_near(self, other: "Slope") -> bool:
        """Tell whether the bars of two slopes overlap."""
        return abs(self.value - other.value) <= self.bar + other.bar


@dataclass(frozen=True)
class _Rung:
    """The slopes on both sides with one step, and what rounding adds to them."""

    h: float
    left: float
    right: float
    size: float  #: of the values that were subtracted
    noise: float = 0.0

    @property
    def central(self) -> float:
        return (self.left + self.right) / 2

    @property
    def jump(self) -> float:
        return self.right - self.left


class Direction:
    """A direction in the space of all coordinates, some of one leaf or of several.

    ``v`` is rounded so that ``x + t v`` is exact for every t on the ladder, which removes the
    rounding of x from the differences: with E the spacing of numbers around x, ``h v`` is a
    multiple of E for the smallest step h.
    """

    def __init__(self, problem: Problem, parts: dict[Leaf, tuple[Any, Any]]):
        """Take, for a leaf, ``(which coordinates, v)``: its slice, or an array of indices."""
        self._x = problem.x
        self.rungs: dict[float, _Rung | None] = {}  #: the slopes taken along it, by step
        self.parts: dict[Leaf, tuple[Any, FloatArray]] = {}
        smallest = _rungs(problem.eps)[-1] / 4  # the noise is measured below the last rung
        for leaf, (where, v) in parts.items():
            x = problem.x[where]
            # An infinite input has no neighbours: it stays.
            finite = np.isfinite(x)
            spacing = np.where(finite, np.abs(x) + np.abs(v), 1)
            spacing = np.spacing(2 * spacing) * (problem.eps / DOUBLE)
            v = np.where(finite, np.round(np.asarray(v) * smallest / spacing), 0)
            self.parts[leaf] = where, v * spacing / smallest

    def moved(self, t: complex) -> dict[Leaf, Any]:
        """Return the coordinates of the leaves that differ from the base point at ``x + t v``."""
        result = {}
        for leaf, (where, v) in self.parts.items():
            x: Any = self._x[leaf.part]
            x = x + 0j if isinstance(t, complex) else x.copy()
            x[slice(None) if isinstance(where, slice) else where - leaf.part.start] += t * v
            result[leaf] = x
        return result


def _rungs(eps: float) -> list[float]:
    """Return the steps of the ladder, relative to the size of the inputs."""
    if eps > HALF:
        return [2.0**-k for k in (1, 4)]
    if eps > DOUBLE:
        return [2.0**-k for k in (4, 7, 10)]
    return [2.0**-k for k in (10, 13, 16, 19, 22, 25, 28)]


class Slopes:
    """Takes slopes of ``<dy, forward>`` at the base point of a problem.

    The noise of differences is measured once, along ``direction``, and before any comparison
    that it could matter to: what a slope is, and whether it shows a kink, depends on nothing
    that is looked at before or after it.
    """

    def __init__(self, problem: Problem, called: Called, direction: Direction):
        self.problem, self.dy, self.y, self._direction = problem, called.dy, called.y, direction
        self.complex_step = True
        dy = called.dy
        # The size of what is differentiated: sum of |dy_j y_j|, here or at another point, or the
        # root of the sum of (g_i x_i)^2. What is almost 0 here may be a difference of numbers
        # that are not, and those were rounded.
        self._is_half = problem.eps_numeric > HALF
        sizes = [self._sum(dy * self.y), *map(called.side.size, called.checked)]
        if called.y_elsewhere is not None:
            sizes.append(self._sum(dy * called.y_elsewhere))
        self.size = max(sizes) or float(np.sum(np.abs(dy)))
        #: the size of an output of 1: what a saturated function that is almost 0 was taken from
        self.unit = float(np.sqrt(np.sum(np.square(dy))))
        self._rungs = _rungs(problem.eps)

    def _sum(self, terms: FloatArray) -> float:
        """Return the size of a sum: in float16, where all counts, its likely one, else a bound."""
        root = float(np.sqrt(np.sum(np.square(terms))))
        return root if self._is_half else float(np.sum(np.abs(terms)))

    # -- the complex step -----------------------------------------------------------------------

    def complex_slope(self, direction: Direction) -> Slope | None:
        """Return the derivative by the complex step, None where forward does not admit it."""
        return self.complex_slopes([direction])[0]

    def complex_slopes(self, directions: list[Direction]) -> list[Slope | None]:
        """Return the derivative along each direction."""
        sizes = [np.max(np.abs(v), initial=0) for d in directions for _, v in d.parts.values()]
        if 0 < max(sizes, default=0) < TINY:
            return [None] * len(directions)
        moved = [direction.moved(1j * self._complex_step) for direction in directions]
        slopes: list[Slope | None] = []
        for y in self.problem.complex_values(moved):
            derivative = self._imaginary(y)
            if derivative is None:
                slopes.append(None)
                continue
            terms = self.dy * derivative
            bar = 16 * self.problem.eps_numeric * (float(np.sum(np.abs(terms))) + self.size)
            slopes.append(Slope(float(np.sum(terms)), bar))
        return slopes

    @property
    def _complex_step(self) -> float:
        return COMPLEX_STEP_SINGLE if self.problem.eps > DOUBLE else COMPLEX_STEP

    def _imaginary(self, y: Any) -> FloatArray | None:
        if y is None or y.shape != self.y.shape:
            return None
        return np.asarray(y.imag.astype(np.float64) / self._complex_step)

    def output_slopes(self, direction: Direction) -> FloatArray | None:
        """Return the derivative of every output along ``direction``, None at an edge."""
        if self.complex_step:
            moved = direction.moved(1j * self._complex_step)
            return self._imaginary(self.problem.complex_values([moved])[0])
        h = self._rungs[1]
        above, below = (self._value(direction, t) for t in (h, -h))
        return None if above is None or below is None else (above - below) / (2 * h)

    # -- differences ----------------------------------------------------------------------------

    def confirms(self, direction: Direction, slope: Slope) -> bool:
        """Tell whether the rounding of two values explains all that differs from ``slope``.

        Then there is no kink either, and noise need not be measured: it could only widen this.
        """
        rung = self._rung(direction, self._rungs[-2])
        if rung is None:
            return False
        noise = self._noise(rung.size, measured=0.0) / rung.h
        bars = noise + abs(rung.jump) + slope.bar
        return abs(rung.jump) <= 4 * noise and abs(rung.central - slope.value) <= bars

    def kink_slope(self, direction: Direction, coarse: bool = False) -> Slope:
        """Return a rough derivative, and whether x is a kink: two evaluations if it is none.

        They are taken far down the ladder, because a step of thousands of inputs at once crosses
        the kinks of thousands of ReLUs. Curvature looks like a jump too; only if there is
        something to see, two more rungs must tell which of them it is.
        """
        rung = self._noisy_rung(direction, self._rungs[-2], coarse)
        if rung is not None and abs(rung.jump) <= 4 * rung.noise:
            return Slope(rung.central, rung.noise + abs(rung.jump), rung.left, rung.right)
        return self.real_slope(direction, coarse, max(0, len(self._rungs) - 3))

    def real_slope(self, direction: Direction, coarse: bool = False, first_rung: int = 0) -> Slope:
        """Return the derivative by extrapolated central differences, and whether x is a kink.

        With ``coarse`` noise is never below that of outputs rounded next to 1, as the log of a
        number close to 1 is: steps that are rounded alike would hide it.
        """
        before: _Rung | None = None
        best: Slope | None = None
        seen = 0.0  # the last extrapolated jump that showed
        rough = persists = False  # whether any showed, and whether the last one had not shrunk
        for h in self._rungs[first_rung:]:
            rung = self._noisy_rung(direction, h, coarse)
            if rung is None or before is None:
                before = rung  # outside the domain, only smaller steps can tell
                continue
            jump = abs(RATIO * rung.jump - before.jump) / (RATIO - 1)
            difference = abs(rung.central - before.central)
            value = rung.central + (rung.central - before.central) / (RATIO**2 - 1)
            # From rung to rung the error falls by 64 where the function is smooth, but only by 8
            # where its second derivative jumps, which would leave a seventh of the difference.
            # A jump that noise hides is in the bar too.
            bar = rung.noise + difference / 4 + jump
            shows = jump > 4 * rung.noise
            if shows:
                persists = seen > 0 and jump > seen / 32
                rough, seen = True, jump
            elif 4 * rung.noise < seen / 4:
                seen, persists = 0.0, False  # noise would not hide the jump: it is gone
            if rough:
                bar += 7 * jump + 2 * difference  # none of that holds near a kink
            if best is None or bar < best.bar:
                best = Slope(value, bar, rung.left, rung.right)
            if not shows and not persists and bar <= 1e-8 * abs(value) + 1e-10 * self.size:
                return best
            before = rung
        if best is None or before is None:
            return Slope(np.nan, np.inf, kink=True)
        if persists:
            half = abs(before.jump) / 2
            return Slope(before.central, half, before.left, before.right, kink=True)
        # A jump that showed, and was neither followed down nor seen to vanish, makes this rough.
        return replace(best, rough=rough and best.bar > 1e-6 * (abs(best.value) + self.size))

    def _rung(self, direction: Direction, h: float) -> _Rung | None:
        """Evaluate at ``x ± h v``; None where forward is not finite there."""
        if h not in direction.rungs:
            above, below = (self._value(direction, t) for t in (h, -h))
            direction.rungs[h] = None
            if above is not None and below is not None:
                right = float(np.sum(self.dy * (above - self.y))) / h
                left = float(np.sum(self.dy * (self.y - below))) / h
                sizes = np.abs(self.dy) * np.maximum(np.abs(above), np.abs(below))
                if self._is_half:  # so coarse that the rounding of what stays must not count
                    sizes = sizes[(above != self.y) | (below != self.y)]
                direction.rungs[h] = _Rung(h, left, right, self._sum(sizes))
        return direction.rungs[h]

    def _noisy_rung(self, direction: Direction, h: float, coarse: bool) -> _Rung | None:
        rung = self._rung(direction, h)
        if rung is None:
            return None
        noise = self._noise(rung.size, self._measured_noise)
        if coarse and not self._is_half:
            noise = max(noise, SIGMAS * self.problem.eps_numeric * self.unit)
        return replace(rung, noise=noise / h)

    def _value(self, direction: Direction, t: float) -> FloatArray | None:
        y = self.problem.evaluate(direction.moved(t))
        return y.astype(np.float64) if np.all(np.isfinite(y)) else None

    def _noise(self, size: float, measured: float) -> float:
        """Return the error bar of a difference of two values of ``<dy, forward>`` of this size."""
        if self._is_half:
            return 4 * max(self.problem.eps_numeric * size, measured)
        return SIGMAS * max(self.problem.eps_numeric * max(size, self.size), measured)

    @cached_property
    def _measured_noise(self) -> float:
        """The rounding noise of ``<dy, forward>``.

        On points so close to each other that every smooth function is linear between them, all
        that second differences show is noise, with sqrt(6) times the standard deviation of a value
        (Hamming's difference table; Moré and Wild, "Estimating computational noise", 2011).
        Kinks may be among the points, so the smallest of six differences that are not 0 counts,
        three times: that is about the standard deviation of six random ones.
        """
        step = self._rungs[-1] / 4
        differences = np.concatenate([self._noise_on_one_side(s) for s in (step, -step)])
        smallest = float(np.min(differences, where=differences > 0, initial=np.inf))
        return 3 * smallest / float(np.sqrt(6)) if np.isfinite(smallest) else 0.0

    def _noise_on_one_side(self, step: float) -> FloatArray:
        for _ in range(4):
            values = [self.y] + [self._value(self._direction, step * k) for k in (1, 2, 3, 4)]
            finite = [y for y in values if y is not None]
            if len(finite) < 5:
                break
            phi = np.array([float(np.sum(self.dy * (y - self.y))) for y in finite])
            if np.any(phi):
                return np.abs(np.diff(phi, 2))
            step *= RATIO  # so close that rounding made all values equal, which shows no noise
        return np.zeros(1)

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
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from tinyconv.gradcheck.calls import Called
from tinyconv.gradcheck.nests import FloatArray, length
from tinyconv.gradcheck.problem import DOUBLE, HALF, Direction, steps

#: Steps of the complex method, by precision: their squares are nothing beside 1, and what is
#: computed from them is far above the smallest number; beside smaller inputs it would not be.
COMPLEX_STEP, COMPLEX_STEP_SINGLE, TINY = 2.0**-150, 2.0**-40, 1e-200
#: Steps above the ladder, ever wider: there noise is small, and kinks are crossed.
WIDER = 2.0**-7, 2.0**-4
#: Two neighbouring rungs of the ladder differ by this factor; so many standard deviations of
#: rounding noise are in an error bar.
RATIO, SIGMAS = 8.0, 10.0
#: Beside longer directions no derivative is taken for a difference from 1: what saturates does so
#: at inputs far below.
LONG = 2.0**20
#: From a slope with such a share of its value for a bar little can be told.
VAGUE = 1e-3
#: Points that noise is measured at: equal distances might all be rounded alike.
UNEVEN = (0, 1, 3, 4, 6)


@dataclass(frozen=True)
class Slope:
    """A numeric derivative along a direction."""

    value: float
    bar: float  #: the true derivative is within value ± bar
    left: float = np.nan  #: slope towards smaller t, NaN where it was not taken
    right: float = np.nan
    kink: bool = False  #: whether there is a kink, here or too close by to be resolved
    is_exact: bool = False  #: by the complex step
    #: more bar, if outputs are rounded next to 1, as the log of a number close to 1 is
    coarse: float = 0.0


def _extrapolated(far: Slope, near: Slope, has_shown: bool) -> Slope:
    """Return the slope that two neighbouring rungs tell, a kink if they show a jump.

    From rung to rung the error falls by 64 where the function is smooth, but only by 8 where its
    second derivative jumps, which would leave a seventh of the difference. A jump that noise hides
    is in the bar too, and none of that holds near a kink, as one that ``has_shown`` farther out.
    """
    jumps = RATIO * (near.right - near.left) - (far.right - far.left)
    jump, moved = abs(jumps) / (RATIO - 1), near.value - far.value
    shows = jump > 4 * near.bar
    bar = near.bar + abs(moved) / 4 + jump + (has_shown or shows) * (7 * jump + 2 * abs(moved))
    return replace(near, value=near.value + moved / (RATIO**2 - 1), bar=bar, kink=shows)


class Slopes:
    """Takes slopes of ``<dy, forward>`` at one point; their noise is measured along a direction."""

    def __init__(self, called: Called, direction: Direction):
        self.problem, self.dy, self.y = called.numeric, called.dy, called.ys[0]
        self.complex_step, self._called, self._direction = True, called, direction
        self._is_half, self._steps = self.problem.eps_y > HALF, steps(self.problem.eps)
        # What is almost 0 here may be a difference of numbers that are not, and those were rounded.
        terms = called.vector * np.where(np.isfinite(self.problem.x), self.problem.x, 0)
        terms = np.where(np.isfinite(terms), terms, 0)
        sums, own = [self.dy * y for y in called.ys], length(terms)
        #: The likely size of what is differentiated: signs in dy are random, so rounding errors of
        #: the outputs, whatever they are, add up as in a random walk.
        self._likely = max([own, *(length(a) for a in sums)])
        #: a bound of that size; in float16, where all counts, the likely one
        most = self._likely if self._is_half else max([own, *(np.sum(np.abs(a)) for a in sums)])
        self.size = float(most) or float(np.sum(np.abs(self.dy)))

    @cached_property
    def unit(self) -> float:
        """The size of an output of 1, next to which much may be rounded; 0 if nothing was."""
        is_fine = self._called.is_fine(self._direction, self._steps[0], self._steps[-2])
        return 0.0 if is_fine else length(self.dy)

    def natural(self, direction: Direction) -> float:
        """Return a slope below which one is a difference of larger numbers, rounded like those."""
        longest = min(float(np.max(np.abs(direction.v), initial=0)), LONG)
        change = self.unit * min(length(direction.v), LONG)
        return (self.size * max(1.0, longest) + change) / direction.unit

    def along(self, direction: Direction, kinks: bool = False) -> Slope:
        """Return the slope by the chosen method; with ``kinks`` one is looked for with any."""
        exact = self.by_complex_step(direction) if self.complex_step else None
        if exact is not None and not kinks:
            return exact
        slope = self.by_differences(direction, short=exact is not None)
        if exact is None:
            return slope
        slack = slope.bar + slope.coarse
        if slack > VAGUE * abs(exact.value):
            # The short steps drown in rounding; what all of them tell may be worth more.
            whole = self.by_differences(direction)
            slope = whole if whole.bar + whole.coarse < slack else slope
        slack = exact.bar + slope.bar + slope.coarse
        return slope if slope.kink or not abs(exact.value - slope.value) <= slack else exact

    def by_complex_step(self, direction: Direction) -> Slope | None:
        """Return the derivative by the complex step, None where forward does not admit it."""
        if (derivative := self._imaginary(direction)) is None:
            return None
        terms = self.dy * derivative
        bar = 16 * self.problem.eps_y * (float(np.sum(np.abs(terms))) + self.size / direction.unit)
        return Slope(float(np.sum(terms)), bar, is_exact=True)

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
                return np.asarray(y.imag.astype(np.float64) / h / direction.unit)
        return None

    # -- differences ----------------------------------------------------------------------------

    def by_differences(self, direction: Direction, short: bool = False) -> Slope:
        """Return the derivative by extrapolated central differences, and whether x is a kink.

        ``short`` looks for kinks alone, far down the ladder, because a step of thousands of inputs
        at once crosses the kinks of thousands of ReLUs. Curvature looks like a jump too; only if
        there is something to see, more rungs must tell which of them it is.
        """
        if short and (rung := self._rung(direction, self._steps[-2], measured=False)):
            jump = abs(rung.right - rung.left)
            if jump <= 4 * rung.bar:
                return replace(rung, bar=rung.bar + jump)
        before: Slope | None = None
        best, has_shown = Slope(np.nan, np.inf, kink=True), False
        for h in self._steps[-3:] if short else self._steps:
            rung = self._rung(direction, h)
            if rung is None or before is None:
                before = rung  # outside the domain, only smaller steps can tell
                continue
            found = _extrapolated(before, rung, has_shown)
            has_shown |= found.kink
            best = found if found.bar < best.bar else best
            before = rung
            # Good enough; or the noise of the next rung alone is more than that bar.
            if not found.kink and found.bar <= max(1e-8 * abs(best.value), RATIO * rung.bar):
                break
        if not (short or has_shown) and VAGUE * abs(best.value) < best.bar < np.inf:
            best = self._by_wider_steps(direction, best)
        # A jump that showed and was not left behind is a kink, unless it is nothing beside others.
        size = abs(best.value) + self.size / direction.unit
        at_kink = best.kink or (has_shown and best.bar > 1e-4 * size)
        return replace(best, kink=at_kink and best.bar > 1e-10 * self.natural(direction))

    def _by_wider_steps(self, direction: Direction, best: Slope) -> Slope:
        """Return a better slope from steps above the ladder, for one that drowns in noise on it."""
        near = self._rung(direction, self._steps[0])
        for h in WIDER if self.problem.eps <= DOUBLE else ():
            far = self._rung(direction, h)
            if near is None or far is None:
                break
            found = _extrapolated(far, near, False)
            if found.kink or found.bar >= best.bar:
                break
            best, near = found, far
        return best

    def _rung(self, direction: Direction, h: float, measured: bool = True) -> Slope | None:
        """Return the slope between ``x ± h v``, its bar noise; None where there is no number."""
        above, below = (self._value(direction, t) for t in (h, -h))
        if above is None or below is None:
            return None
        h *= direction.unit
        right = float(np.sum(self.dy * (above - self.y))) / h
        left = float(np.sum(self.dy * (self.y - below))) / h
        sizes = np.abs(self.dy) * np.maximum(np.abs(above), np.abs(below))
        sigmas, unit = SIGMAS, self.unit
        if self._is_half:  # so coarse that the rounding of what stays must not count
            sizes, sigmas, unit = sizes[(above != self.y) | (below != self.y)], 4.0, 0.0
        size = max(length(sizes), 0.0 if self._is_half else self._likely)
        noise = max(self.problem.eps_y * size, self._noise if measured else 0.0)
        coarse = sigmas * self.problem.eps_y * unit / h
        return Slope((left + right) / 2, sigmas * noise / h, left, right, coarse=coarse)

    def _value(self, direction: Direction, t: float) -> FloatArray | None:
        y = self.problem.evaluate(direction.moved(t))
        return y.astype(np.float64) if np.all(np.isfinite(y)) else None

    @cached_property
    def _noise(self) -> float:
        """The rounding noise of ``<dy, forward>``, a standard deviation.

        On points so close to each other that every smooth function is linear between them, all
        that differences of slopes show is noise: of distances 1 and 2, sqrt(3.5) times that of a
        value (as in Hamming's difference table; Moré and Wild, "Estimating computational noise",
        2011). Kinks may be among the points, so the smallest of six differences that are not 0
        counts, three times: that is about the standard deviation of six random ones.
        """
        found: list[float] = []
        for side in (self._steps[-1] / 4, -self._steps[-1] / 4):
            for k in range(4):  # ever wider, while rounding makes all values equal
                values = (self._value(self._direction, side * RATIO**k * n) for n in UNEVEN[1:])
                phi = [0.0, *(np.sum(self.dy * (y - self.y)) for y in values if y is not None)]
                if len(phi) < len(UNEVEN):
                    break  # outside of the domain
                if any(phi):
                    found += list(np.abs(np.diff(np.diff(phi) / np.diff(UNEVEN))))
                    break
        return 3 * min((d for d in found if d > 0), default=0.0) / float(np.sqrt(3.5))

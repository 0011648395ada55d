"""Comparing the two sides: all at once, then one by one where it matters.

Noise and rounding are measured for themselves, and each direction is drawn from a seed of its own.
So the verdict of an element depends on its own numbers, and not on what was compared before it.
"""

import contextlib
import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from tinyconv.gradcheck.calls import Called
from tinyconv.gradcheck.nests import Leaf, length
from tinyconv.gradcheck.problem import HALF, Direction, Problem, Stop
from tinyconv.gradcheck.slopes import Slope, Slopes

#: How many units of round-off a sound algorithm may lose, relative to what it adds up; in float16
#: that would be all of them.
ROUNDING, ROUNDING_OF_HALF = 64.0, 4.0
#: Of a failing tensor so many elements are compared at least, if it has them, at most, and no more
#: than what takes one evaluation of a function of so many inputs.
FEW, MANY, WORK = 20, 2048, 2_000_000
#: How many directions must show that the complex step is blind, and the first of their draws.
POINTS, BLIND = 4, 100


@dataclass(frozen=True)
class Options:
    """What the user asked for, see :func:`tinyconv.gradcheck.check`."""

    seed: int = 0
    method: str = "auto"
    samples: int | str = 4
    seconds: float = math.inf
    progress: bool | None = None
    axes: Mapping[str, Sequence[str]] = field(default_factory=dict)


@dataclass(frozen=True)
class Reading:
    """What both sides say along one direction, of all inputs, of a tensor, or of an element."""

    direction: Direction
    analytic: float
    slope: Slope  #: the numeric side
    tolerance: float  #: less what rounding moves the analytic side by
    is_off: bool  #: whether the two differ by more than both of these

    @property
    def k(self) -> int:
        """The coordinate of an element."""
        return int(self.direction.where[0])

    @property
    def difference(self) -> float:
        """Analytic less numeric."""
        return self.analytic - self.slope.value

    @property
    def is_wrong(self) -> bool:
        """Whether it is off, at a point without a kink."""
        return self.is_off and not self.slope.kink


class Comparison:
    """Compares gradients with numeric derivatives at one point; stops if one is not finite."""

    def __init__(self, called: Called, options: Options):
        self.called, self.options = called, options
        self.problem, self._sizes = called.numeric, np.zeros_like(called.numeric.x)
        for leaf in self.problem.leaves:
            x, size = np.abs(self.problem.x[leaf.part]), leaf.scale(self.problem.x)
            self._sizes[leaf.part] = np.where(np.isfinite(x), np.maximum(x, size), 0)
        self._all = self.direction(called.checked)
        self.slopes = Slopes(called, self._all)
        half = self.called.eps > HALF
        self._rounding = self.called.eps * (ROUNDING_OF_HALF if half else ROUNDING)
        self.projection: Reading | None = None  #: of all inputs
        self.wholes: dict[Leaf, Reading] = {}  #: of a tensor, where the projection fails
        self.elements: dict[Leaf, list[Reading]] = {leaf: [] for leaf in called.checked}
        self.is_cut = False  #: whether time ran out before all was compared
        self._require_finite()

    def at(self, near: Problem, seed: int) -> "Comparison":
        """Return a comparison at another point, by the method that was chosen here."""
        other = Comparison(Called(near, seed, repeat=False), replace(self.options, seed=seed))
        other.slopes.complex_step = self.slopes.complex_step
        return other

    def wrong(self) -> dict[Leaf, set[int]]:
        """Return the wrong coordinates."""
        return {leaf: {e.k for e in es if e.is_wrong} for leaf, es in self.elements.items()}

    def is_unlocated(self, leaf: Leaf) -> bool:
        """Tell whether a leaf is wrong as a whole, though in no element compared."""
        whole, elements = self.wholes.get(leaf), self.elements[leaf]
        if whole is None or not whole.is_wrong or any(e.is_wrong for e in elements):
            return False
        # Kinks may be to blame if all were compared, or if steps of float16 cross them from afar;
        # and a step of all at once crosses kinks that are close to single elements.
        is_all = len(elements) == np.count_nonzero(np.isfinite(self.problem.x[leaf.part]))
        lengths = [abs(whole.direction.v[e.k - leaf.part.start]) for e in elements]
        slack = sum(self.full_tolerance(e) * v for e, v in zip(elements, lengths, strict=True))
        if is_all and abs(whole.difference) <= slack:
            return False
        is_excuse = is_all or self.problem.eps_y > HALF
        return not (is_excuse and any(e.slope.kink for e in elements))

    def full_tolerance(self, reading: Reading) -> float:
        """Return all that explains a difference between the two sides."""
        return reading.tolerance + self.called.wobble(reading.direction)

    def direction(self, leaves: list[Leaf], draw: int = 0) -> Direction:
        """Return a random direction of the size of the inputs in which no element is small."""
        v = np.zeros_like(self._sizes)
        for leaf in leaves:
            rng = np.random.default_rng([self.options.seed, 1, draw, leaf.place])
            uniform = rng.uniform(-0.5, 0.5, leaf.size)
            v[leaf.part] = (uniform + np.copysign(0.5, uniform)) * self._sizes[leaf.part]
        where = leaves[0].part if len(leaves) == 1 else slice(None)
        return Direction(self.problem, leaves, where, v[where])

    def _axis(self, leaf: Leaf, k: int) -> Direction:
        """Return the direction of one coordinate, its length a power of 2."""
        step = float(2.0 ** round(math.log2(self._sizes[k])))
        return Direction(self.problem, [leaf], np.array([k]), np.array([step]), step)

    # -- what to compare --------------------------------------------------------------------

    def _require_finite(self) -> None:
        bad = np.flatnonzero(~np.isfinite(self.called.vector))
        if not bad.size:
            return
        k = int(bad[0])
        (leaf,) = (a for a in self.problem.leaves if a.part.start <= k < a.part.stop)
        count = np.count_nonzero((bad >= leaf.part.start) & (bad < leaf.part.stop))
        what = "the input is infinite"
        hint = f"{what} there: return 0, as for what is masked"
        if np.isfinite(self.problem.x[k]):
            slope = self.slopes.by_differences(self._axis(leaf, k))
            what = f"the slopes are {slope.left:.4g} and {slope.right:.4g}"
            hint = "an intermediate result overflows or is divided by 0"
            if slope.kink:
                hint = "forward has a kink there, and backward divides 0 by 0: return 0, say"
        seen = f"the gradient of {leaf.name} is {self.called.vector[k]} at {leaf.index(k)}, and in"
        seen = f"{seen} {count} of {leaf.size} elements, where {what}"
        raise Stop("nonfinite", seen, f"{leaf.name}: {hint}", leaf)

    def run(self) -> None:
        """Project all gradients onto one direction, then look into single tensors and elements.

        The projection settles for one method for all that follows: where a function is not
        analytic the complex step and differences do not agree.
        """
        slopes, method = self.slopes, self.options.method
        slopes.complex_step = method != "central" and slopes.by_complex_step(self._all) is not None
        if method == "complex" and not slopes.complex_step:
            raise ValueError("check: method is 'complex', but forward takes no complex numbers")
        whole = self.read(self._all, kinks=method == "auto")
        if method == "auto" and not (whole.slope.is_exact or whole.slope.kink):
            slopes.complex_step = False
            whole = self.read(self._all)
        self._look_into(whole)
        if method == "auto" and self._is_blind():
            slopes.complex_step, self.wholes = False, {}
            self.elements = {leaf: [] for leaf in self.elements}
            self._look_into(self.read(self._all))

    def _look_into(self, whole: Reading) -> None:
        self.projection = whole
        for leaf in self.called.checked:
            part = whole
            if whole.is_off or whole.slope.kink:
                part = self.read(self.direction([leaf]), kinks=True)
            is_suspicious = part.is_off or part.slope.kink
            if is_suspicious:
                self.wholes[leaf] = part
            self.compare(leaf, self._chosen(leaf, is_suspicious))
            if self.is_unlocated(leaf):
                ks, slack = np.arange(leaf.part.start, leaf.part.stop), self.full_tolerance(part)
                self.compare(leaf, self._bisect(leaf, part, ks, part.difference, slack))

    def _chosen(self, leaf: Leaf, suspicious: bool) -> Any:
        """Return coordinates to compare, more of what is ``suspicious``."""
        finite = np.flatnonzero(np.isfinite(self.problem.x[leaf.part]))
        count = finite.size if self.options.samples == "all" else int(self.options.samples)
        if suspicious:
            total = sum(leaf.size for leaf in self.called.checked)
            count = max(count, min(MANY, max(FEW, WORK // total)))
        if count < finite.size:
            rng = np.random.default_rng([self.options.seed, 5, leaf.place])
            finite = np.sort(rng.choice(finite, count, replace=False))
        return finite + leaf.part.start

    def _bisect(self, leaf: Leaf, whole: Reading, ks: Any, error: float, slack: float) -> list[int]:
        """Return up to 4 wrong coordinates, by halving sets whose projection is wrong.

        Projections add up, so that of one half gives the other's.
        """
        if len(ks) == 1:
            return [int(ks[0])]
        left, right = np.split(ks, [len(ks) // 2])
        v = whole.direction.v[left - leaf.part.start]
        half, found = self.read(Direction(self.problem, [leaf], left, v)), list[int]()
        own = self.full_tolerance(half)
        if half.is_wrong:
            found = self._bisect(leaf, whole, left, half.difference, own)
        rest, slack = error - half.difference, slack + own
        if not half.slope.kink and abs(rest) > slack and len(found) < 4:
            found += self._bisect(leaf, whole, right, rest, slack)
        return found

    # -- comparing it -----------------------------------------------------------------------

    def compare(self, leaf: Leaf, ks: Iterable[int]) -> None:
        """Compare some coordinates of a leaf one by one."""
        todo: Iterable[int] = sorted({int(k) for k in ks} - {e.k for e in self.elements[leaf]})
        with contextlib.suppress(ImportError):
            from tqdm import tqdm  # a bar on a terminal after two seconds, if it is installed

            shown = self.options.progress
            off, delay = None if shown is None else not shown, 0.0 if shown else 2.0
            todo = tqdm(todo, f"gradcheck {leaf.name}", leave=False, delay=delay, disable=off)
        whole = self.wholes.get(leaf)
        for k in todo:
            axis = self._axis(leaf, k)
            e = self.read(axis, whole is not None and whole.slope.kink)
            if e.is_wrong and e.slope.is_exact:  # or at a kink that the complex step does not see
                e = self.read(axis, True)
            self.elements[leaf].append(e)

    def read(self, direction: Direction, kinks: bool = False) -> Reading:
        """Read both sides along a direction; ``kinks`` looks for one with any method."""
        terms, unit = self.called.terms(direction), direction.unit
        analytic, top = float(np.sum(terms)) / unit, self.called.top[direction.where] * direction.v
        rounding = (float(np.sum(np.abs(terms))) + length(top)) / unit
        rounding = self._rounding * (rounding + self.slopes.natural(direction))
        slope = self.slopes.along(direction, kinks)
        error = abs(analytic - slope.value)
        if not error <= slope.bar + rounding:
            slope = replace(slope, bar=slope.bar + slope.coarse)
        tolerance = slope.bar + rounding
        is_off = not error <= tolerance and not error <= tolerance + self.called.wobble(direction)
        return Reading(direction, analytic, slope, tolerance, is_off)

    def _is_blind(self) -> bool:
        """Tell whether the complex step misses what is small, where differences are too coarse.

        NumPy's variance drops imaginary parts. Then differences side with backward everywhere.
        """
        readings = itertools.chain(*self.elements.values(), [self.projection])
        missed = [r for r in readings if r is not None and r.is_off and r.slope.is_exact]
        analytic = exact = 0.0
        for draw in range(POINTS if missed else 0):
            reading = self.read(self.direction(missed[0].direction.leaves, BLIND + draw))
            slope = self.slopes.by_differences(reading.direction)
            analytic += abs(reading.analytic - slope.value)
            exact += abs(reading.slope.value - slope.value)
        return 8 * analytic < exact

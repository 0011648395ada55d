"""What a check knows about one wrong gradient, for those who look for the reason."""

import contextlib
import itertools
from collections.abc import Iterator
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np

from tinyconv.gradcheck.calls import COMPLAINTS, elsewhere
from tinyconv.gradcheck.comparison import WORK, Comparison
from tinyconv.gradcheck.nests import FloatArray, Leaf, largest, scale_of
from tinyconv.gradcheck.problem import Problem, Stop

#: What must hold, and what to say then: what the families of :mod:`tinyconv.gradcheck.hints` yield.
Hypotheses: TypeAlias = Iterator[tuple[Any, str]]
#: So many wrong elements, and so many others, are compared at a second draw at most.
AGAIN = 256


class Evidence:
    """What is known about the wrong gradient of one input.

    ``analytic`` is the gradient, NaN where forward mode was not asked for it; the numeric one is
    known at the flat indices ``flat``, kinks left out. ``inputs`` are all arrays by name, complex
    ones, ``pairs``, with a last axis of length 2; those ``alike`` have the shape of the gradient.
    """

    def __init__(self, comparison: Comparison, leaf: Leaf):
        smooth = [e for e in comparison.elements[leaf] if not e.slope.kink]
        self.comparison, self.called = comparison, (called := comparison.called)
        self.leaf, self.name, self.problem = leaf, leaf.name, called.point
        self.dy, self.y = called.dy, called.ys[0]
        self.inputs = self.problem.arrays()
        self.pairs = [a.name for a in self.problem.leaves if a.pairs]
        self._ks = [e.k for e in smooth]
        self.analytic, self.flat = self.known(leaf), np.array(self._ks, dtype=int) - leaf.part.start
        # NumPy has no indices of a number.
        self.index = np.unravel_index(self.flat, leaf.shape) if leaf.shape else ()
        self.numeric = np.array([e.slope.value for e in smooth])
        self.tolerance = np.array([comparison.full_tolerance(e) for e in smooth])
        self.got = self.at(self.analytic)
        self.size = max(largest(self.numeric), largest(self.got))
        self.wrong, slack = ~self.close(self.got), self.tolerance + 1e-9 * self.size
        #: where there is no gradient, and where either side has one
        self.zero = np.abs(self.numeric) <= slack
        self.significant = ~self.zero | (np.abs(self.got) > slack)
        self.all_wrong = bool(np.all(self.wrong[self.significant]))
        alike = {name: a for name, a in self.inputs.items() if a.shape == leaf.shape}
        self.alike = {name: a + 0.0 for name, a in alike.items() if np.all(np.isfinite(a))}
        # An output of this shape, too, is worth a look: what it is multiplied by, or added.
        self.is_elementwise = self.y.shape == leaf.shape == self.dy.shape

    def known(self, leaf: Leaf) -> FloatArray:
        """Return the gradient of a leaf, NaN where it is unknown."""
        g = leaf.of(self.called.at(self.problem, self.dy, ())).copy()
        for e in self.comparison.elements[leaf]:
            g.flat[e.k - leaf.part.start] = e.analytic
        return g

    def vjp(self, dy: FloatArray, name: str = "", changed: Any = None) -> FloatArray:
        """Return the gradient of this input for another dy, where an input changes perhaps."""
        x = self.problem.x.copy()
        for leaf in (leaf for leaf in self.problem.leaves if leaf.name == name):
            x[leaf.part] = changed.reshape(-1)
        near = self.problem.at(x) if name else self.problem
        return self.leaf.of(self.called.at(near, dy, self._ks))

    @cached_property
    def second(self) -> "Evidence | None":
        """The same at a second draw, None if the functions do not take that."""
        called, seed = self.called, self.comparison.options.seed + 1
        most = max(4, min(AGAIN, WORK // sum(a.size for a in called.checked) // 4))
        near = called.problem.moved(called.checked, 0.25, [seed, 6])
        return self.again(elsewhere(called.problem), most) or self.again(near, most)

    def again(self, near: Problem, most: int) -> "Evidence | None":
        """Return the same of up to ``most`` wrong and right elements each at another point."""
        elements = self.comparison.elements[self.leaf]
        with contextlib.suppress(Stop, *COMPLAINTS):
            other = self.comparison.at(near, self.comparison.options.seed + 1)
            for is_wrong in (True, False):
                ks = [e.k for e in elements if e.is_wrong == is_wrong]
                other.compare(self.leaf, ks[:: len(ks) // most + 1])
            return Evidence(other, self.leaf)
        return None

    def at(self, a: Any) -> FloatArray:
        """Return the elements of ``a`` where the numeric gradient is known."""
        return np.asarray(a.reshape(-1)[self.flat], dtype=np.float64)

    def close(self, got: Any, numeric: Any = None) -> Any:
        """Tell where ``got`` is the numeric gradient, or another one, within the tolerance."""
        numeric = self.numeric if numeric is None else numeric
        return np.abs(got - numeric) <= 4 * self.tolerance + 1e-9 * self.size

    def matches(self, candidate: Any) -> bool:
        """Tell whether the analytic gradient, taken differently, is the numeric one."""
        if candidate.size != self.analytic.size:
            return False
        got = self.at(candidate)
        known = ~np.isnan(got) | ~np.any(np.isnan(self.analytic))
        enough = np.sum(known & self.wrong) >= min(4, np.sum(self.wrong))
        return bool(enough and np.all(self.close(got)[known]))

    def is_got(self, candidate: Any) -> bool:
        """Tell whether the analytic gradient is ``candidate``, and not just zero."""
        if candidate.shape != self.analytic.shape or not largest(candidate) > 0:
            return False
        error = np.abs(self.analytic - candidate)
        return bool(np.all((error <= 1e-9 * self.size) | np.isnan(self.analytic)))

    def ratio(self, where: Any = slice(None)) -> float | None:
        """Return the ratio analytic / numeric if it is the same wherever ``where`` holds."""
        got, numeric = self.got[where], self.numeric[where]
        significant = np.abs(numeric) > 1e-6 * self.size
        if not np.any(significant):
            return None
        ratio = float(np.median(got[significant] / numeric[significant]))
        slack = 4 * max(1.0, abs(ratio)) * self.tolerance[where] + 1e-9 * self.size
        return ratio if np.all(np.abs(got - ratio * numeric) <= slack) else None

    def axis(self, axis: int, name: str = "") -> str:
        """Return what the caller calls an axis of an input, or "axis 1"."""
        name = name or self.name
        if name in self.pairs and axis == self.inputs[name].ndim - 1:
            return "(real, imaginary)"
        names = self.comparison.options.axes.get(name, ())
        return names[axis] if axis < len(names) else f"axis {axis}"

    # -- at other shapes ------------------------------------------------------------------------

    def ratios(self) -> Iterator[tuple[int, str, float]]:
        """Yield a length, the axes of inputs that have it, and the ratio where it is doubled.

        Only axes that must change together do.
        """
        lengths: dict[int, list[tuple[str, int]]] = {}
        for name, a in self.inputs.items():
            for axis, length in enumerate(a.shape[: -1 if name in self.pairs else None]):
                lengths.setdefault(length, []).append((name, axis))
        for length, places in lengths.items():
            done: list[set[tuple[str, int]]] = []
            counts = range(1, min(len(places), 4) + 1 if length > 1 else 1)
            for some in itertools.chain(*(itertools.combinations(places[:6], n) for n in counts)):
                is_done = any(group <= set(some) for group in done)
                if not is_done and (near := self._doubled(some)) is not None:
                    done.append(set(some))
                    names = " and ".join(f"axis {k} of {name}" for name, k in some)
                    yield length, names, self._ratio(near)

    def _doubled(self, some: Any) -> Problem | None:
        """Return the problem with some axes twice as long, None if forward does not take it."""
        rng = np.random.default_rng(7)

        def resize(name: str, a: Any) -> Any:
            for axis in (axis for each, axis in some if each == name):
                noise = 0.3 * scale_of(a) * rng.normal(size=a.shape) if a.dtype.kind == "f" else 0
                a = np.concatenate([a, (a + noise).astype(a.dtype)], axis=axis)
            return a

        # Most lengths cannot change alone: forward says so by an error of its own choice.
        with contextlib.suppress(Exception):
            near = self.called.problem.resized(resize)
            return near if np.all(np.isfinite(near.value())) else None
        return None

    def _ratio(self, near: Problem) -> float:
        """Return the gradient over the numeric one, along one direction; 0 if that is unknown."""
        with contextlib.suppress(Stop, *COMPLAINTS):
            other = self.comparison.at(near, self.comparison.options.seed)
            (same,) = (a for a in other.problem.leaves if a.place == self.leaf.place)
            reading = other.read(other.direction([same]))
            return reading.analytic / reading.slope.value
        return 0.0

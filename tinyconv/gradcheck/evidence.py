"""What a check knows about one wrong gradient, for those who look for the reason."""

import contextlib
from collections.abc import Mapping
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np

from tinyconv.gradcheck.calls import COMPLAINTS
from tinyconv.gradcheck.comparison import Comparison
from tinyconv.gradcheck.numbers import largest
from tinyconv.gradcheck.problem import FloatArray, Leaf, Problem, Stop

__all__ = ["Axes", "Evidence"]

Axes: TypeAlias = dict[str, tuple[str, ...]]


class Evidence:
    """What is known about the wrong gradient of one input.

    ``analytic`` is the gradient, NaN where forward mode was not asked for it; the numeric one is
    known at the flat indices ``flat``, kinks left out. ``inputs`` are all arrays by name, complex
    ones, ``pairs``, with a last axis of length 2.
    """

    def __init__(self, comparison: Comparison, leaf: Leaf, axes: Axes):
        called = comparison.called
        smooth = [e for e in comparison.elements[leaf] if not e.slope.kink]
        self.comparison, self.leaf, self.name, self._axes = comparison, leaf, leaf.name, axes
        self.mode, self.dy, self.y = comparison.mode, called.dy, called.ys[0]
        self.problem = self.mode.problem
        self._ks = [e.k for e in smooth]
        self.analytic = self._known(leaf)
        self.inputs, self.pairs = (
            self.problem.arrays(),
            [a.name for a in self.problem.leaves if a.pairs],
        )
        self.flat = np.array(self._ks, dtype=int) - leaf.part.start
        self.numeric = np.array([e.slope.value for e in smooth])
        self.tolerance = np.array([comparison.full_tolerance(e) for e in smooth])
        self.got = self.at(self.analytic)
        self.size = max(largest(self.numeric), largest(self.got))
        self.wrong = ~self.close(self.got)
        self.everywhere = np.ones_like(self.wrong)
        #: where there is no gradient, and where either side has one
        self.zero = np.abs(self.numeric) <= self.tolerance + 1e-9 * self.size
        self.significant = ~self.zero | (np.abs(self.got) > self.tolerance + 1e-9 * self.size)
        self.index = np.unravel_index(self.flat, leaf.shape)
        #: inputs that have the shape of the gradient
        self.alike = {
            name: a.astype(np.float64)
            for name, a in self.inputs.items()
            if a.shape == leaf.shape and np.all(np.isfinite(a))
        }
        # An output of this shape, too, is worth a look: what it is multiplied by, or added.
        self.is_elementwise = self.y.shape == leaf.shape == self.dy.shape

    def _known(self, leaf: Leaf) -> FloatArray:
        """Return the gradient of a leaf, NaN where it is unknown."""
        g = self.mode.gradient(leaf, self.dy, self.problem, ()).copy()
        for e in self.comparison.elements[leaf]:
            g.flat[e.k - leaf.part.start] = e.analytic
        return g

    def vjp(self, dy: FloatArray, changed: Mapping[str, Any] | None = None) -> FloatArray:
        """Return the gradient of this input for another dy, where some inputs change."""
        near = self.problem
        if changed:
            x = near.x.copy()
            for leaf in near.leaves:
                if leaf.name in changed:
                    x[leaf.part] = changed[leaf.name].reshape(-1)
            near = near.at(x)
        return self.mode.gradient(self.leaf, dy, near, self._ks)

    def again(self, near: Problem, most: int) -> "Evidence | None":
        """Return the same of up to ``most`` wrong and right elements each at another point."""
        elements = self.comparison.elements[self.leaf]
        wrong = [e.k for e in elements if e.is_wrong]
        right = [e.k for e in elements if not e.is_wrong]
        with contextlib.suppress(Stop, *COMPLAINTS):
            other = self.comparison.at(near, self.comparison.options.seed + 1)
            other.compare(self.leaf, wrong[:: len(wrong) // most + 1])
            other.compare(self.leaf, right[:: len(right) // most + 1])
            return Evidence(other, self.leaf, self._axes)
        return None

    @cached_property
    def others(self) -> dict[str, FloatArray]:
        """The gradients of the other inputs."""
        checked = self.comparison.called.checked
        return {leaf.name: self._known(leaf) for leaf in checked if leaf is not self.leaf}

    def at(self, a: Any) -> FloatArray:
        """Return the elements of ``a`` where the numeric gradient is known."""
        return np.asarray(a.reshape(-1)[self.flat], dtype=np.float64)

    def close(self, got: Any, numeric: Any = None) -> Any:
        """Tell where ``got`` is the numeric gradient, or another one, within the tolerance."""
        numeric = self.numeric if numeric is None else numeric
        with np.errstate(all="ignore"):
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

    def ratio(self, where: Any) -> float | None:
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
        names = self._axes.get(name, ())
        return names[axis] if axis < len(names) else f"axis {axis}"

"""What a check knows about one wrong gradient, for those who look for the reason."""

from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any

import numpy as np

from tinyconv.gradcheck.comparison import Comparison
from tinyconv.gradcheck.numbers import largest
from tinyconv.gradcheck.problem import FloatArray, Leaf

__all__ = ["Evidence"]

BoolArray = np.ndarray[Any, np.dtype[np.bool_]]


class Evidence:
    """What is known about the wrong gradient of one input.

    ``analytic`` is the whole gradient; the numeric one is known at the flat indices ``flat``,
    kinks left out. ``pairs`` names the complex inputs, pairs of real numbers along a last axis.
    """

    def __init__(
        self,
        comparison: Comparison,
        leaf: Leaf,
        analytic: FloatArray,
        axes: dict[str, tuple[str, ...]],
        scaled_error: Callable[[float], float | None],
    ):
        problem, called = comparison.problem, comparison.called
        smooth = [e for e in comparison.elements[leaf] if not e.slope.kink]
        self.comparison, self.leaf, self.name, self.axes = comparison, leaf, leaf.name, axes
        self.analytic, self.dy, self.y = analytic, called.dy, called.y
        self.inputs = problem.arrays()
        #: factor -> the error in units of the gradient, with this input so many times as large
        self.scaled_error = scaled_error
        self.flat = np.array([e.k for e in smooth], dtype=int) - leaf.part.start
        self.numeric = np.array([e.numeric for e in smooth])
        self.tolerance = comparison.tolerances(leaf, smooth)
        #: other inputs whose gradients lie in the same memory
        self.shared = [n for both in called.shared if leaf.name in both for n in both - {leaf.name}]
        self.pairs = [leaf.name for leaf in problem.leaves if leaf.pairs]

    @cached_property
    def others(self) -> dict[str, FloatArray]:
        """The gradients of the other inputs."""
        rest = [leaf for leaf in self.comparison.called.checked if leaf is not self.leaf]
        found = {leaf.name: self.comparison.side.here(leaf) for leaf in rest}
        return {name: g for name, g in found.items() if g is not None}

    @property
    def jvp(self) -> tuple[FloatArray, FloatArray] | None:
        """A random direction of the input's shape, and the derivative of every output along it."""
        return self.comparison.output_slopes(self.leaf)

    def vjp(self, dy: FloatArray, changed: Mapping[str, Any] | None = None) -> FloatArray:
        """Return the gradient of this input for another dy, where some inputs change."""
        problem = self.comparison.problem
        x = problem.x.copy() if changed else problem.x
        for leaf in problem.leaves:
            if changed and leaf.name in changed:
                x[leaf.part] = changed[leaf.name].reshape(-1)
        return self.comparison.side.whole(self.leaf, dy, x)

    @cached_property
    def got(self) -> FloatArray:
        """The analytic gradient where the numeric one is known."""
        return self.at(self.analytic)

    @cached_property
    def wrong(self) -> BoolArray:
        """Where the two differ."""
        return ~self.close(self.got)

    @cached_property
    def size(self) -> float:
        """The largest absolute value of either."""
        return max(largest(self.numeric), largest(self.got))

    @cached_property
    def zero(self) -> BoolArray:
        """Where there is no gradient."""
        return np.asarray(np.abs(self.numeric) <= self.tolerance + 1e-9 * self.size)

    def close(self, got: Any, numeric: Any = None) -> BoolArray:
        """Tell where ``got`` is the numeric gradient, or another one, within the tolerance."""
        numeric = self.numeric if numeric is None else numeric
        with np.errstate(all="ignore"):
            return np.asarray(np.abs(got - numeric) <= 4 * self.tolerance + 1e-9 * self.size)

    @cached_property
    def same_shape(self) -> dict[str, FloatArray]:
        """The inputs that have the shape of the gradient, by name."""
        return {
            name: a.astype(np.float64)
            for name, a in self.inputs.items()
            if a.shape == self.analytic.shape and np.all(np.isfinite(a))
        }

    def at(self, a: Any) -> FloatArray:
        """Return the elements of ``a`` where the numeric gradient is known."""
        return np.asarray(a.reshape(-1)[self.flat], dtype=np.float64)

    def ratio(self, where: Any) -> float | None:
        """Return the ratio analytic / numeric if it is the same wherever ``where`` holds."""
        got, numeric = self.got[where], self.numeric[where]
        significant = np.abs(numeric) > 1e-6 * self.size
        if not np.any(significant):
            return None
        ratio = float(np.median(got[significant] / numeric[significant]))
        slack = 4 * max(1.0, abs(ratio)) * self.tolerance[where] + 1e-9 * self.size
        return ratio if np.all(np.abs(got - ratio * numeric) <= slack) else None

    def matches(self, candidate: Any) -> bool:
        """Tell whether the analytic gradient, taken differently, is the numeric one."""
        return candidate.size == self.analytic.size and bool(np.all(self.close(self.at(candidate))))

    def is_got(self, candidate: Any) -> bool:
        """Tell whether the whole analytic gradient is ``candidate``, and not just zero."""
        return (
            candidate.shape == self.analytic.shape
            and largest(candidate) > 0
            and bool(np.all(np.abs(self.analytic - candidate) <= 1e-9 * self.size))
        )

    def axis(self, axis: int, name: str = "") -> str:
        """Return what the caller calls an axis of an input, or "axis 1"."""
        if (name or self.name) in self.pairs and axis == self.inputs[name or self.name].ndim - 1:
            return "(real, imaginary)"
        names = self.axes.get(name or self.name, ())
        return names[axis] if axis < len(names) else f"axis {axis}"

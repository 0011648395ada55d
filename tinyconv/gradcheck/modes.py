"""What is checked: the derivative at one point as a linear map, in one of two forms.

Reverse mode returns ``J^T dy`` for a dy, forward mode ``J v`` for a v; second order and adjoint
pairs are reverse mode of other functions. What is compared is always the form ``<dy, J v>``.
"""

from functools import cached_property
from typing import Any

import numpy as np

from tinyconv.gradcheck.numbers import first, largest, rounding_differs
from tinyconv.gradcheck.problem import HALF, FloatArray, Leaf, Problem, Stop
from tinyconv.gradcheck.slopes import Direction

__all__ = ["Forward", "Reverse"]

#: Inputs and dy grow or shrink by so many units of round-off, all by the same, which keeps ties
#: ties and zeros zeros. So many times the change counts.
UNITS, TIMES = ((4, 0), (-8, 4), (12, -4), (-20, 0)), 8
#: In float16 that would be a fifth of the gradient itself.
UNITS_OF_HALF, TIMES_OF_HALF = ((1, 0), (-2, 1), (3, -1)), 2


class Reverse:
    """The gradients that backward returned for dy, which are all there at once."""

    def __init__(self, problem: Problem, dy: FloatArray, eps: float, gradients: list[Any]):
        self.problem, self.dy, self.eps, self.given = problem, dy, eps, gradients
        self._bounds = np.ones(problem.x.size)
        self.vector = self._in_a_row(gradients)  #: zero for leaves that are not checked

    def _in_a_row(self, gradients: list[Any]) -> FloatArray:
        pairs = zip(self.problem.leaves, gradients, strict=True)
        rows = [np.zeros(leaf.size) if g is None else g.reshape(-1) for leaf, g in pairs]
        return np.concatenate(rows, dtype=np.float64)

    def _probe(self, near: Problem, dy: FloatArray) -> FloatArray:
        """Return numbers of the size of the derivatives at another point."""
        return self._in_a_row(near.gradients(dy))

    def terms(self, direction: Direction, dy: FloatArray | None = None) -> FloatArray:
        """Return numbers whose sum is the derivative of ``<dy, y>`` along a direction."""
        vector = self.vector if dy is None else self._probe(self.problem, dy)
        return np.asarray(vector[direction.where] * direction.v)

    def gradient(self, leaf: Leaf, dy: FloatArray, near: Problem, ks: Any) -> FloatArray:
        """Return the gradient of a leaf for any dy anywhere; all but ``ks`` may be NaN."""
        is_here = near is self.problem and dy is self.dy
        return np.asarray(leaf.of(self.vector if is_here else self._probe(near, dy)))

    @cached_property
    def top(self) -> FloatArray:
        """The largest derivative of the leaf that each coordinate belongs to."""
        return self._largest(self.vector)

    def _largest(self, vector: FloatArray) -> FloatArray:
        leaves = self.problem.leaves
        return np.repeat([largest(vector[a.part]) for a in leaves], [a.size for a in leaves])

    def wobble(self, direction: Direction) -> float:
        """Return some times the distance by which rounding moves the derivative, at most."""
        return float(np.sum(self._wobbles[direction.where] * np.abs(direction.v)))

    @cached_property
    def _wobbles(self) -> FloatArray:
        """What rounding moves derivatives by, measured when it first matters.

        Changes of more than a thousand times the root of the unit are no rounding.
        """
        problem, wobbles, is_half = self.problem, np.zeros_like(self.vector), self.eps > HALF
        for units, dy_units in UNITS_OF_HALF if is_half else UNITS:
            near = problem.at(problem.x * (1 + units * problem.units))
            change = np.abs(self._probe(near, self.dy * (1 + dy_units * self.eps)) - self.vector)
            change[~(change < 1e3 * np.sqrt(self.eps) * self.top)] = 0
            wobbles = np.maximum(wobbles, self._largest(change))
        return self._bounds * (TIMES_OF_HALF if is_half else TIMES) * wobbles


class Forward(Reverse):
    """What jvp returns, asked for one direction at a time.

    In the place of the gradient, ``vector`` has the root mean square of its elements, as it is
    known of each leaf from one direction of random signs.
    """

    def __init__(self, problem: Problem, dy: FloatArray, y: FloatArray, repeat: bool):
        self.problem, self.dy, self.given, self._y_shape = problem, dy, [], y.shape
        signs = np.random.default_rng(9).choice([-1.0, 1.0], problem.x.size)
        self._signs = np.where(np.isfinite(problem.x), signs, 0.0)
        t = self._tangent(self._signs, problem)
        self.eps = max(problem.eps_y, float(np.finfo(t.dtype).eps))
        if repeat and rounding_differs(t, self._tangent(self._signs, problem), self.eps):
            raise Stop("nondeterministic", "jvp differs between two calls")
        sizes = [leaf.size for leaf in problem.leaves]
        self._bounds = np.sqrt(np.repeat(sizes, sizes))
        self.vector = self._probe(problem, dy)

    def _tangent(self, v: FloatArray, near: Problem) -> Any:
        t = near.tangent(v)
        if t.shape != self._y_shape:
            raise Stop("shape", f"jvp returned shape {t.shape}, expected {self._y_shape}")
        if not np.all(np.isfinite(t)):
            where = first(~np.isfinite(t))
            raise Stop("nonfinite", f"the tangent of y is {t[where]} at {where}")
        return t

    def _probe(self, near: Problem, dy: FloatArray) -> FloatArray:
        found = np.zeros(near.x.size)
        for leaf in near.leaves:
            v = np.zeros_like(found)
            v[leaf.part] = self._signs[leaf.part]
            found[leaf.part] = np.sum(dy * self._tangent(v, near)) / np.sqrt(max(1, leaf.size))
        return found

    def terms(self, direction: Direction, dy: FloatArray | None = None) -> FloatArray:
        """Return numbers whose sum is the derivative of ``<dy, y>`` along a direction."""
        v = np.zeros(self.problem.x.size)
        v[direction.where] = direction.v
        t = self._tangent(v, self.problem).astype(np.float64)
        return np.asarray((self.dy if dy is None else dy) * t)

    def gradient(self, leaf: Leaf, dy: FloatArray, near: Problem, ks: Any) -> FloatArray:
        """Return the gradient of a leaf for any dy anywhere, NaN but for the coordinates ks."""
        g = np.full(near.x.size, np.nan)
        for k in ks:
            axis = np.zeros(near.x.size)
            axis[k] = 1.0
            g[k] = np.sum(dy * self._tangent(axis, near))
        return np.asarray(leaf.of(g))

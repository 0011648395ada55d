"""What is checked: the derivative at one point as a linear map, in one of two forms.

Reverse mode returns ``J^T dy`` for a dy, forward mode ``J v`` for a v; second order and adjoint
pairs are reverse mode of other functions. What is compared is always the form ``<dy, J v>``.
"""

from functools import cached_property
from typing import Any

import numpy as np

from tinyconv.gradcheck.nests import FloatArray
from tinyconv.gradcheck.numbers import blemish, largest, rounding_differs
from tinyconv.gradcheck.problem import HALF, Problem, Stop
from tinyconv.gradcheck.slopes import Direction

__all__ = ["Forward", "Reverse"]

#: Inputs and dy grow or shrink by so many units of round-off, all by the same, which keeps ties
#: ties and zeros zeros. So many times the change counts; in float16 that would be a fifth of the
#: gradient itself.
UNITS, TIMES = ((4, 0), (-8, 4), (12, -4), (-20, 0)), 8
UNITS_OF_HALF, TIMES_OF_HALF = ((1, 0), (-2, 1), (3, -1)), 2


class Reverse:
    """The gradients that backward returned for dy, which are all there at once.

    ``vector`` holds them in a row, zeros for leaves that are not checked.
    """

    bounds: Any = 1.0  #: what numbers of the size of the gradient become bounds by

    def __init__(self, problem: Problem, dy: FloatArray, eps: float, gradients: list[Any]):
        self.problem, self.dy, self.eps = problem, dy, eps
        self.vector = self._row(gradients)

    def _row(self, gradients: list[Any]) -> FloatArray:
        pairs = zip(self.problem.leaves, gradients, strict=True)
        rows = (np.zeros(leaf.size) if g is None else g.reshape(-1) for leaf, g in pairs)
        return np.concatenate([np.zeros(0), *rows], dtype=np.float64)

    def at(self, near: Problem, dy: FloatArray, ks: Any = None) -> FloatArray:
        """Return the gradient for any dy anywhere; all but the coordinates ``ks`` may be NaN."""
        is_here = near is self.problem and dy is self.dy
        return self.vector if is_here else self._row(near.gradients(dy))

    def terms(self, direction: Direction, dy: FloatArray | None = None) -> FloatArray:
        """Return numbers whose sum is the derivative of ``<dy, y>`` along a direction."""
        vector = self.at(self.problem, self.dy if dy is None else dy)
        return np.asarray(vector[direction.where] * direction.v)

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
            change = np.abs(self.at(near, self.dy * (1 + dy_units * self.eps)) - self.vector)
            change[~(change < 1e3 * np.sqrt(self.eps) * self.top)] = 0
            wobbles = np.maximum(wobbles, self._largest(change))
        return np.asarray(self.bounds * (TIMES_OF_HALF if is_half else TIMES) * wobbles)


class Forward(Reverse):
    """What jvp returns, asked for one direction at a time.

    In the place of the gradient, ``vector`` has the root mean square of its elements, as it is
    known of each leaf from one direction of random signs.
    """

    def __init__(self, problem: Problem, dy: FloatArray, repeat: bool):
        self.problem, self.dy, sizes = problem, dy, [leaf.size for leaf in problem.leaves]
        signs = np.random.default_rng(9).choice([-1.0, 1.0], problem.x.size)
        self._signs, self.eps = np.where(np.isfinite(problem.x), signs, 0.0), 0.0
        t = self._tangent(problem, slice(None), self._signs)
        self.eps = max(problem.eps_y, float(np.finfo(t.dtype).eps))
        again = self._tangent(problem, slice(None), self._signs) if repeat else t
        if rounding_differs(t, again, self.eps):
            raise Stop("nondeterministic", "jvp differs between two calls")
        self.bounds = np.sqrt(np.repeat(sizes, sizes))
        self.vector = self.at(problem, dy)

    def _tangent(self, near: Problem, where: Any, v: Any) -> Any:
        every = np.zeros_like(near.x)
        every[where] = v
        t = near.tangent(every)
        if t.shape != near.y_shape:
            raise Stop("shape", f"jvp returned shape {t.shape}, expected {near.y_shape}")
        if found := blemish(t):
            raise Stop("nonfinite", f"the tangent of y is {found}")
        return t

    def at(self, near: Problem, dy: FloatArray, ks: Any = None) -> FloatArray:
        """Return the gradient for any dy anywhere, NaN but for ``ks``; without them the sizes."""
        probes: list[Any] = [(k, 1.0) for k in ks] if ks is not None else []
        if ks is None:
            probes = [(a.part, self._signs[a.part]) for a in near.leaves]
        g = np.full_like(near.x, np.nan if ks is not None else 0.0)
        for where, v in probes:
            length = np.sqrt(max(1, np.size(v)))
            g[where] = np.sum(dy * self._tangent(near, where, v)) / length
        return g

    def terms(self, direction: Direction, dy: FloatArray | None = None) -> FloatArray:
        """Return numbers whose sum is the derivative of ``<dy, y>`` along a direction."""
        t = self._tangent(self.problem, direction.where, direction.v).astype(np.float64)
        return np.asarray((self.dy if dy is None else dy) * t)

"""A direction in which numeric derivatives are taken, and the ladder of steps along it."""

from typing import Any

import numpy as np

from tinyconv.gradcheck.nests import FloatArray, Leaf
from tinyconv.gradcheck.problem import DOUBLE, HALF, Problem


def steps(eps: float) -> list[float]:
    """Return the steps of the ladder, relative to the size of the inputs."""
    if eps > HALF:
        return [2.0**-k for k in (1, 4)]
    return [2.0**-k for k in ((4, 7, 10) if eps > DOUBLE else (10, 13, 16, 19, 22, 25, 28))]


class Direction:
    """A direction in the space of coordinates: ``v`` at those of ``leaves`` that are ``where``.

    It is rounded so that ``x + t v`` is exact for every t on the ladder: ``h v`` is a multiple of
    the spacing of numbers around x for the smallest step h. An infinite input stays. Derivatives
    along it are divided by ``unit``, the length of what stands for one coordinate.
    """

    def __init__(self, problem: Problem, leaves: list[Leaf], where: Any, v: Any, unit: float = 1.0):
        self._x, self.leaves, self.where, self.unit = problem.x, leaves, where, unit
        finite = np.isfinite(x := problem.x[where])
        grid = np.spacing(2 * np.where(finite, np.abs(x) + np.abs(v), 1)) * (problem.eps / DOUBLE)
        grid = grid / (steps(problem.eps)[-1] / 4)  # the noise is measured below the last rung
        self.v: FloatArray = np.where(finite, np.round(v / grid), 0) * grid

    def moved(self, t: complex) -> dict[Leaf, Any]:
        """Return the coordinates of its leaves at ``x + t v``."""
        x: Any = self._x.astype(complex) if isinstance(t, complex) else self._x.copy()
        x[self.where] += t * self.v
        return {leaf: leaf.of(x) for leaf in self.leaves}

"""The derivatives that are checked: gradients of reverse mode, tangents of forward mode.

Both answer the same questions: what the derivative of ``<dy, y>`` is along a direction or an
axis, how large it is, and how far rounding moves it. Gradients are there for all axes at once;
tangents are asked for one direction at a time.
"""

from typing import TYPE_CHECKING, Any

import numpy as np

from tinyconv.gradcheck.numbers import first, largest, rounding_differs
from tinyconv.gradcheck.problem import DOUBLE, HALF, FloatArray, Leaf, Problem, Stop

if TYPE_CHECKING:
    from tinyconv.gradcheck.slopes import Direction

__all__ = ["Gradients", "Tangents"]

#: Of a leaf of so many elements, tangents are asked for all axes.
FEW = 256
#: Inputs and dy grow or shrink by so many units of round-off, all by the same, which keeps ties
#: ties and zeros zeros. So many times the change counts.
UNITS, TIMES = ((4, 0), (-8, 4), (12, -4), (-20, 0)), 8
#: In float16 that would be a fifth of the gradient itself.
UNITS_OF_HALF, TIMES_OF_HALF = ((1, 0), (-2, 1), (3, -1)), 2


class Gradients:
    """What backward returned."""

    def __init__(self, problem: Problem, dy: FloatArray, arrays: list[Any], precise: bool):
        self.problem, self.dy, self.precise = problem, dy, precise
        self._arrays = dict(zip(problem.leaves, arrays, strict=True))
        self.vector = self._in_a_row(arrays)  #: zero for leaves that are not checked
        self._wobbles: dict[Leaf, float] | None = None

    def _in_a_row(self, arrays: list[Any]) -> FloatArray:
        pairs = zip(self.problem.leaves, arrays, strict=True)
        rows = [np.zeros(leaf.size) if g is None else g.reshape(-1) for leaf, g in pairs]
        return np.concatenate(rows, dtype=np.float64)

    def array(self, leaf: Leaf) -> Any:
        """Return one gradient in its own precision."""
        return self._arrays[leaf]

    def along(self, direction: "Direction") -> tuple[float, float]:
        """Return the derivative along a direction, and the sum of the sizes of its terms."""
        terms = [self.vector[where] * v for where, v in direction.parts.values()]
        sums = [(float(np.sum(t)), float(np.sum(np.abs(t)))) for t in terms]
        return sum(s for s, _ in sums), sum(a for _, a in sums)

    def at(self, leaf: Leaf, k: int) -> float:
        """Return the derivative with respect to coordinate k."""
        return float(self.vector[k])

    def here(self, leaf: Leaf) -> FloatArray | None:
        """Return the gradient of a leaf."""
        return leaf.of(self.vector)

    def whole(self, leaf: Leaf, dy: FloatArray, x: FloatArray) -> FloatArray:
        """Return the gradient of a leaf for another dy, at another point."""
        g = self.problem.gradients(dy, x, self.precise)[self.problem.leaves.index(leaf)]
        return np.zeros(leaf.shape) if g is None else g.astype(np.float64)

    def largest(self, leaf: Leaf) -> float:
        """Return the largest derivative of a leaf."""
        return largest(self.vector[leaf.part])

    def size(self, leaf: Leaf) -> float:
        """Return the root of the sum of squares of derivatives times coordinates."""
        with np.errstate(invalid="ignore"):  # 0 times infinity
            terms = self.vector[leaf.part] * self.problem.x[leaf.part]
        return float(np.sqrt(np.sum(np.square(terms[np.isfinite(terms)]))))

    def wobble(self, direction: "Direction") -> float:
        """Return some times the distance by which rounding moves the derivative, at most.

        It is measured, once and when it first matters. Changes of more than a thousand times the
        root of the unit are no rounding: they do not count.
        """
        if self._wobbles is None:
            self._wobbles = self._measured_wobbles()
        parts = direction.parts.items()
        return sum(self._wobbles[leaf] * float(np.sum(np.abs(v))) for leaf, (_, v) in parts)

    def _measured_wobbles(self) -> dict[Leaf, float]:
        problem, wobbles = self.problem, dict.fromkeys(self.problem.leaves, 0.0)
        steps, times = _steps(problem)
        for units, dy_units in steps:
            dy = self.dy * (1 + dy_units * problem.eps_analytic)
            gradients = problem.gradients(dy, _grown(problem, units, self.precise), self.precise)
            for leaf, moved in zip(problem.leaves, gradients, strict=True):
                if moved is None or self._arrays[leaf] is None:
                    continue
                change = np.abs(moved - self._arrays[leaf])
                most = 1e3 * np.sqrt(problem.eps_analytic) * self.largest(leaf)
                change = largest(np.where(change < most, change, 0))
                wobbles[leaf] = max(wobbles[leaf], times * change)
        return wobbles


class Tangents:
    """What jvp returns, asked for when it is needed."""

    def __init__(self, problem: Problem, dy: FloatArray, y: FloatArray, repeat: bool):
        self.problem, self.dy, self.precise, self._y = problem, dy, problem.precise, y
        signs = np.random.default_rng(9).choice([-1.0, 1.0], problem.x.size)
        self._v = np.where(np.isfinite(problem.x), signs, 0.0)
        t = self._tangent(self._v, problem.x)
        problem.eps_analytic = max(problem.eps_numeric, float(np.finfo(t.dtype).eps))
        if repeat and rounding_differs(t, self._tangent(self._v, problem.x), problem.eps_analytic):
            raise Stop("nondeterministic", "jvp differs between two calls")
        self._largest: dict[Leaf, float] = {}

    def _tangent(self, v: FloatArray, x: FloatArray) -> Any:
        t = self.problem.tangent(v, x, self.precise)
        if t.shape != self._y.shape:
            raise Stop("shape", f"jvp returned shape {t.shape}, expected {self._y.shape}")
        if not np.all(np.isfinite(t)):
            where = first(~np.isfinite(t))
            raise Stop("nonfinite", f"the tangent of y is {t[where]} at {where}")
        return t

    def _terms(self, direction: "Direction", x: FloatArray) -> FloatArray:
        v = np.zeros(self.problem.x.size)
        for where, part in direction.parts.values():
            v[where] = part
        return np.asarray(self.dy * self._tangent(v, x).astype(np.float64))

    def along(self, direction: "Direction") -> tuple[float, float]:
        """Return the derivative along a direction, and the sum of the sizes of its terms."""
        terms = self._terms(direction, self.problem.x)
        return float(np.sum(terms)), float(np.sum(np.abs(terms)))

    def at(self, leaf: Leaf, k: int) -> float:
        """Return the derivative with respect to coordinate k."""
        v = np.zeros(self.problem.x.size)
        v[k] = 1.0
        return float(np.sum(self.dy * self._tangent(v, self.problem.x)))

    def here(self, leaf: Leaf) -> FloatArray | None:
        """Return the gradient of a leaf, None if it has many elements."""
        return self.whole(leaf, self.dy, self.problem.x) if leaf.size <= FEW else None

    def whole(self, leaf: Leaf, dy: FloatArray, x: FloatArray) -> FloatArray:
        """Return the gradient of a leaf for another dy, at another point, one axis at a time."""
        axes = np.eye(self.problem.x.size)[leaf.part]
        return np.array([np.sum(dy * self._tangent(v, x)) for v in axes]).reshape(leaf.shape)

    def largest(self, leaf: Leaf) -> float:
        """Return the size of the derivatives of a leaf, as they are along one direction."""
        if leaf not in self._largest:
            v = np.zeros_like(self._v)
            v[leaf.part] = self._v[leaf.part]
            size = abs(float(np.sum(self.dy * self._tangent(v, self.problem.x))))
            self._largest[leaf] = size / max(1.0, float(np.sqrt(leaf.size)))
        return self._largest[leaf]

    def size(self, leaf: Leaf) -> float:
        """Return 0: the root of the sum of squares is not known."""
        return 0.0

    def wobble(self, direction: "Direction") -> float:
        """Return some times the distance by which rounding moves the derivative."""
        here, eps = self.along(direction)[0], self.problem.eps_analytic
        most, change = 1e3 * np.sqrt(eps) * abs(here), 0.0
        steps, times = _steps(self.problem)
        for units, _ in steps:
            moved = float(np.sum(self._terms(direction, _grown(self.problem, units, self.precise))))
            change = max(change, abs(moved - here) if abs(moved - here) < most else 0.0)
        return times * change


def _steps(problem: Problem) -> tuple[tuple[tuple[int, int], ...], int]:
    is_half = problem.eps_analytic > HALF
    return (UNITS_OF_HALF, TIMES_OF_HALF) if is_half else (UNITS, TIMES)


def _grown(problem: Problem, units: int, precise: bool) -> FloatArray:
    eps = [np.full(leaf.size, DOUBLE if precise else leaf.eps) for leaf in problem.leaves]
    return np.asarray(problem.x * (1 + units * np.concatenate(eps)))

"""How far rounding moves the analytic side: what belongs to the tolerance beside the bar."""

import numpy as np

from tinyconv.gradcheck.callables import Problem, largest
from tinyconv.gradcheck.calls import Called
from tinyconv.gradcheck.slopes import Slopes

__all__ = ["Rounding"]


class Rounding:
    """The rounding of the gradients of one problem."""

    def __init__(self, problem: Problem, called: Called, slopes: Slopes):
        self.problem, self.called, self.slopes = problem, called, slopes
        self._wobbles: dict[int, float] | None = None

    @property
    def is_measured(self) -> bool:
        """Whether :meth:`wobble` was asked for."""
        return self._wobbles is not None

    def natural_size(self, step: float) -> float:
        """Return the derivative of a function of this size that varies over ``step``, or over 1.

        A derivative much below it is a difference of larger numbers, and rounded like those.
        """
        return self.slopes.size / min(step, 1.0) + self.slopes.unit

    def wobble(self, i: int) -> float:
        """Return 4 times the distance by which rounding moves the analytic gradient of input i.

        It is measured: inputs and dy grow or shrink by a few units of round-off, all by the same,
        which keeps ties ties and zeros zeros. Changes of more than a thousand times the root of
        the unit are no rounding: they do not count.
        """
        if self._wobbles is None:
            self._wobbles = dict.fromkeys(self.called.checked, 0.0)
            for units, dy_units in ((4, 0), (-8, 4), (0, -4)):
                point = [
                    a * a.dtype.type(1 + units * np.finfo(a.dtype).eps)
                    if i in self.problem.floating
                    else a
                    for i, a in enumerate(self.called.point(self.problem))
                ]
                dy = self.called.dy.astype(self.called.dy_dtype(self.problem))
                dy *= 1 + dy_units * np.finfo(dy.dtype).eps
                for k, moved in enumerate(self.problem.gradients(dy, point)):
                    if k not in self._wobbles or moved is None:
                        continue
                    g = self.called.gradients[k]
                    change = np.abs(moved - g)
                    small = change < 1e3 * np.sqrt(self.problem.eps_analytic) * largest(g)
                    wobble = 4 * largest(np.where(small, change, 0))
                    self._wobbles[k] = max(self._wobbles[k], wobble)
        return self._wobbles[i]

    def jumps_within_rounding(self, i: int) -> bool:
        """Tell whether gradient i jumps when the inputs move by the round-off of their own dtype.

        Then float32 inputs are so close to a kink that float32 arithmetic may take either side.
        """
        g = self.called.gradients[i]
        for seed in range(4):
            rng = np.random.default_rng([seed, 3])
            point = [
                a * (1 + 8 * float(np.finfo(given.dtype).eps) * rng.choice([-1, 1], a.shape))
                if k in self.problem.floating
                else a
                for k, (a, given) in enumerate(
                    zip(self.problem.base, self.problem.given, strict=True)
                )
            ]
            moved = self.problem.gradients(self.called.dy, point)[i]
            if moved is not None and largest(moved - g) > 1e-3 * largest(g):
                return True
        return False

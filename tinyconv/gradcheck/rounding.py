"""How far rounding moves the analytic side: what belongs to the tolerance beside the bar."""

import numpy as np

from tinyconv.gradcheck.calls import Called
from tinyconv.gradcheck.problem import Problem, largest

__all__ = ["jumps_within_rounding", "measure_wobbles"]


def measure_wobbles(problem: Problem, called: Called) -> dict[int, float]:
    """Return, for each input, 8 times the distance by which rounding moves its gradient.

    It is measured: inputs and dy grow or shrink by a few units of round-off, all by the same,
    which keeps ties ties and zeros zeros. Changes of more than a thousand times the root of
    the unit are no rounding: they do not count.
    """
    wobbles = dict.fromkeys(called.checked, 0.0)
    for units, dy_units in ((4, 0), (-8, 4), (12, -4), (-20, 0)):
        point = [
            a * a.dtype.type(1 + units * np.finfo(a.dtype).eps) if i in problem.floating else a
            for i, a in enumerate(called.point)
        ]
        dy = called.dy * (1 + dy_units * problem.eps_analytic)
        for k, moved in enumerate(problem.gradients(dy, point)):
            if k not in wobbles or moved is None:
                continue
            change = np.abs(moved - called.gradients[k])
            most = 1e3 * np.sqrt(problem.eps_analytic) * largest(called.gradients[k])
            wobbles[k] = max(wobbles[k], 8 * largest(np.where(change < most, change, 0)))
    return wobbles


def jumps_within_rounding(problem: Problem, called: Called, i: int) -> bool:
    """Tell whether gradient i jumps when the inputs move by the round-off of their own dtype.

    Then float32 inputs are so close to a kink that float32 arithmetic may take either side.
    """
    g = called.gradients[i]
    for seed in range(4):
        rng = np.random.default_rng([seed, 3])
        point = [
            a * (1 + 8 * float(np.finfo(given.dtype).eps) * rng.choice([-1, 1], a.shape))
            if k in problem.floating
            else a
            for k, (a, given) in enumerate(zip(problem.base, problem.given, strict=True))
        ]
        moved = problem.gradients(called.dy, point)[i]
        if moved is not None and largest(moved - g) > 1e-3 * largest(g):
            return True
    return False

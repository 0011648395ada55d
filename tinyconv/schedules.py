"""Learning-rate schedules: by what to multiply the optimizer's rate, and when.

A schedule is a pure function ``schedule(t, rows) -> factor`` of how far the run has come: ``t``
counts the epochs completed since ``fit`` began (or the steps, as its user decides), and ``rows`` is
the history, one row for each epoch completed. So a run that is resumed has the rates of one that
was not stopped. An argument out of range is an ArgumentError.
:class:`~tinyconv.training.callbacks.Schedule` hangs one on the fit loop; any callable will do:

>>> inverse_time = lambda t, rows: 1 / (1 + 0.1 * t)
>>> [round(inverse_time(epoch, []), 3) for epoch in (0, 10, 20)]
[1.0, 0.5, 0.333]
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, TypeAlias

from tinyconv.arguments import Count, Fraction, NotNegative, Number, Positive, checked

__all__ = ["Cosine", "Exponential", "OnPlateau", "Rows", "ScheduleFunction", "Step"]

#: The history of a run: a mapping for each epoch completed, see :class:`tinyconv.History`.
Rows: TypeAlias = Sequence[Mapping[str, float]]

#: (epochs or steps completed, history) -> what to multiply the optimizer's rate with.
ScheduleFunction: TypeAlias = Callable[[int, Rows], float]


@checked
@dataclass(frozen=True)
class Step:
    """Multiply the rate by ``factor`` once every so often: ``factor^floor(t / every)``.

    Args:
        every: epochs (or steps) between two changes, at least 1.
        factor: greater than 0.

    >>> schedule = Step(every=2, factor=0.5)
    >>> [schedule(epoch) for epoch in range(6)]
    [1.0, 1.0, 0.5, 0.5, 0.25, 0.25]
    """

    every: Count
    factor: Positive = 0.1

    def __call__(self, t: int, rows: Rows = ()) -> float:
        """Return the factor after ``t`` epochs (or steps)."""
        return float(self.factor ** (t // self.every))


@checked
@dataclass(frozen=True)
class Exponential:
    """Multiply the rate by ``factor`` every time, down to a floor: ``max(factor^t, lowest)``.

    Args:
        factor: greater than 0.
        lowest: the floor, as a multiple of the optimizer's rate; 0 or more.

    Ten epochs from a rate of 1e-3 to one of 1e-6:

    >>> schedule = Exponential(factor=(1e-6 / 1e-3) ** (1 / 9), lowest=1e-3)
    >>> [round(1e-3 * schedule(epoch), 9) for epoch in (0, 3, 6, 9, 12)]
    [0.001, 0.0001, 1e-05, 1e-06, 1e-06]
    """

    factor: Positive
    lowest: NotNegative = 0.0

    def __call__(self, t: int, rows: Rows = ()) -> float:
        """Return the factor after ``t`` epochs (or steps)."""
        return float(max(self.factor**t, self.lowest))


@checked
@dataclass(frozen=True)
class Cosine:
    """Let the rate fall along half a cosine, then stay at the lowest:

        lowest + (1 - lowest) (1 + cos(pi t / length)) / 2        for t <= length

    Source: Loshchilov and Hutter, "SGDR: stochastic gradient descent with warm restarts", 2017,
    equation 5, without restarts.

    Args:
        length: epochs (or steps) until the lowest rate, at least 1.
        lowest: the factor at the end, from 0 to 1.

    >>> schedule = Cosine(length=4)
    >>> [round(schedule(epoch), 3) for epoch in range(6)]
    [1.0, 0.854, 0.5, 0.146, 0.0, 0.0]
    """

    length: Count
    lowest: Fraction = 0.0

    def __call__(self, t: int, rows: Rows = ()) -> float:
        """Return the factor after ``t`` epochs (or steps)."""
        cosine = math.cos(math.pi * min(t, self.length) / self.length)
        return self.lowest + (1 - self.lowest) * (1 + cosine) / 2


@checked
@dataclass(frozen=True)
class OnPlateau:
    """Multiply the rate by ``factor`` whenever a figure has not improved for some epochs.

    After a change the count of epochs without improvement starts again; every improvement counts,
    however small.

    Args:
        monitor: entry of the history's rows; a name that ends in ``loss``, ``mae`` or
            ``mse`` is to fall.
        factor: greater than 0 and less than 1.
        patience: epochs without improvement to wait for, at least 1. As everywhere in this
            library, the change follows the last of them; PyTorch waits for one more.
        lowest: the floor, as a multiple of the optimizer's rate; 0 or more.

    >>> schedule = OnPlateau("val_loss", factor=0.5, patience=2)
    >>> rows = [{"val_loss": loss} for loss in (3.0, 2.0, 2.0, 2.5, 1.0)]
    >>> [schedule(epoch, rows[:epoch]) for epoch in range(6)]
    [1.0, 1.0, 1.0, 1.0, 0.5, 0.5]
    """

    monitor: str = "val_loss"
    factor: Annotated[float, Number(above=0, below=1)] = 0.1
    patience: Count = 10
    lowest: NotNegative = 0.0

    def __call__(self, t: int, rows: Rows) -> float:
        """Return the factor that follows from the history.

        Raises:
            KeyError: the rows do not hold the figure to monitor; ``fit`` refuses that beforehand.
        """
        sign = -1 if self.monitor.endswith(("loss", "mae", "mse")) else 1
        best, waited, result = -math.inf, 0, 1.0
        for row in rows:
            if self.monitor not in row:
                raise KeyError(
                    f"no row of the history has {self.monitor!r}; there are {', '.join(row)}"
                )
            value = sign * row[self.monitor]
            if value > best:
                best, waited = value, 0
            else:
                waited += 1
            if waited == self.patience:
                result, waited = result * self.factor, 0
        return max(result, self.lowest)

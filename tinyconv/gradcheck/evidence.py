"""What a check knows about one wrong gradient, for those who look for the reason."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from tinyconv.gradcheck.callables import FloatArray, largest

__all__ = ["Evidence"]


@dataclass(frozen=True)
class Evidence:
    """What is known about the wrong gradient of one input.

    The numeric gradient is known at the flat indices ``flat``; kinks are left out.
    """

    name: str
    position: int
    inputs: list[Any]
    names: list[str]
    dy: FloatArray
    y: FloatArray
    analytic: FloatArray  #: the whole gradient
    others: dict[str, FloatArray]  #: the gradients of the other inputs
    flat: np.ndarray[Any, Any]
    numeric: FloatArray
    tolerance: FloatArray
    #: (dy, inputs or None for the point of the check) -> the gradient of this input
    vjp: Callable[[FloatArray, list[Any] | None], FloatArray]
    #: v (a random direction of the input's shape) and the derivative of every output along it
    jvp: Callable[[], tuple[FloatArray, FloatArray] | None]
    #: whether the gradient is that of another point, where backward was called before
    is_stale: Callable[[], bool]

    @cached_property
    def got(self) -> FloatArray:
        """The analytic gradient where the numeric one is known."""
        return self.at(self.analytic)

    @cached_property
    def wrong(self) -> np.ndarray[Any, np.dtype[np.bool_]]:
        """Where the two differ."""
        return ~self.close(self.got)

    @cached_property
    def size(self) -> float:
        """The largest absolute value of either."""
        return max(largest(self.numeric), largest(self.got))

    def close(self, got: Any, numeric: Any = None) -> np.ndarray[Any, np.dtype[np.bool_]]:
        """Tell where ``got`` is the numeric gradient, or another one, within the tolerance."""
        numeric = self.numeric if numeric is None else numeric
        return np.asarray(np.abs(got - numeric) <= 4 * self.tolerance + 1e-9 * self.size)

    @property
    def same_shape(self) -> dict[str, FloatArray]:
        """The inputs that have the shape of the gradient, by name, as they are at ``flat``."""
        named = zip(self.names, self.inputs, strict=True)
        return {name: self.at(a) for name, a in named if a.shape == self.analytic.shape}

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

    def matches(self, candidate: FloatArray) -> bool:
        """Tell whether the analytic gradient, taken differently, is the numeric one."""
        return bool(np.all(self.close(self.at(candidate))))

    def explains(self, mistake: FloatArray) -> bool:
        """Tell whether the analytic gradient is all of ``mistake``, and this is not just zero."""
        return largest(mistake) > 0 and bool(
            np.all(np.abs(self.analytic - mistake) <= 1e-9 * self.size)
        )

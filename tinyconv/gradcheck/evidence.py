"""What a check knows about one wrong gradient, for those who look for the reason."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from tinyconv.gradcheck.problem import FloatArray, largest

__all__ = ["Evidence"]


@dataclass(frozen=True)
class Evidence:
    """What is known about the wrong gradient of one input.

    The numeric gradient is known at the flat indices ``flat``; kinks are left out. Of a check of
    forward mode it is the tangent of the output that is known, and ``dy`` is that of the input.
    """

    name: str
    inputs: dict[str, Any]  #: the arrays among the inputs, by name
    dy: FloatArray
    y: FloatArray
    analytic: FloatArray  #: the whole gradient
    others: dict[str, FloatArray]  #: the gradients of the other inputs
    flat: np.ndarray[Any, Any]
    numeric: FloatArray
    tolerance: FloatArray
    #: (dy, inputs that change) -> the gradient of this input
    vjp: Callable[[FloatArray, Mapping[str, Any]], FloatArray]
    #: v (a random direction of the input's shape) and the derivative of every output along it
    jvp: Callable[[], tuple[FloatArray, FloatArray] | None] = lambda: None
    #: whether the gradient is that of another point, where backward was called before
    is_stale: Callable[[], bool] = lambda: False
    #: (factor, power) -> the error in units of the gradient, with the inputs so many times as large
    scaled_error: Callable[[float], float | None] = lambda _: None
    shared: tuple[str, ...] = ()  #: other inputs whose gradients lie in the same memory
    pairs: tuple[str, ...] = ()  #: the complex inputs: pairs of real numbers along the last axis
    axes: dict[str, tuple[str, ...]] = field(default_factory=dict)  #: names of axes, by input

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

    @cached_property
    def zero(self) -> np.ndarray[Any, np.dtype[np.bool_]]:
        """Where there is no gradient."""
        return np.asarray(np.abs(self.numeric) <= self.tolerance + 1e-9 * self.size)

    def close(self, got: Any, numeric: Any = None) -> np.ndarray[Any, np.dtype[np.bool_]]:
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

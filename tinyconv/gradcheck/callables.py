"""The pair of functions under test, seen as functions of NumPy arrays and watched while they run.

Whatever array library the functions want, the checker computes in NumPy: inputs are handed over
in the library (and on the device) of the arrays that the user gave, results are taken back.
"""

import contextlib
import functools
import warnings
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import array_api_compat
import numpy as np

from tinyconv.backend import Array, namespace, to_numpy

__all__ = ["FloatArray", "Problem", "Stop", "largest", "rounding_differs", "scale_of"]

FloatArray: TypeAlias = np.ndarray[Any, np.dtype[np.float64]]
AnyArray: TypeAlias = np.ndarray[Any, Any]


class Stop(Exception):
    """What makes further checking meaningless: a verdict, what was seen, and perhaps a hint."""

    def __init__(self, verdict: str, message: str, hint: str = "", tensor: int | None = None):
        super().__init__(message)
        self.verdict, self.message, self.hint, self.tensor = verdict, message, hint, tensor


class Problem:
    """Forward, backward and the point at which they are checked.

    Args:
        forward: ``forward(*inputs) -> y``.
        backward: ``backward(dy, *inputs) -> one gradient an input``.
        inputs: arrays of one library; the floating-point ones are differentiated.
        names: one for each input, for messages.
        forward_many: forward for a list of lists of inputs, if that is faster than a loop.
    """

    def __init__(
        self,
        forward: Callable[..., Array],
        backward: Callable[..., Any],
        inputs: Sequence[Array],
        names: Sequence[str],
        forward_many: Callable[[list[list[Array]]], list[Array]] | None = None,
    ):
        self._forward_many = forward_many
        self._xp = namespace("gradcheck", **{f"inputs[{i}]": a for i, a in enumerate(inputs)})
        self._device = None
        if inputs and not isinstance(inputs[0], np.ndarray):
            self._device = array_api_compat.device(inputs[0])
        self._forward, self._backward = forward, backward
        self.names = list(names)
        self.given: list[AnyArray] = [np.array(to_numpy(a)) for a in inputs]
        self.floating = [i for i, a in enumerate(self.given) if a.dtype.kind == "f"]
        self.base = self.given  #: in float64 where forward takes that
        self._wrapped: dict[bool, list[Array]] = {}
        #: unit round-off of the gradients and of the numeric evaluation, set by `choose_precision`
        self.eps_analytic = max(
            (float(np.finfo(self.given[i].dtype).eps) for i in self.floating),
            default=float(np.finfo(np.float64).eps),
        )
        self.eps_numeric = self.eps_analytic
        self.y_dtype: Any = np.dtype(np.float64)  #: of forward's result for the inputs as given
        self.evaluations = 0
        self._forward_was_at: Sequence[AnyArray] | None = None

    def at(self, point: Sequence[AnyArray]) -> "Problem":
        """Return the problem of the same functions at another point.

        They may have a memory, so be done with that problem before this one is used again.
        """
        self._forward_was_at = None
        arrays = self.hand_over(point)
        return Problem(self._forward, self._backward, arrays, self.names, self._forward_many)

    def hand_over(self, arrays: Sequence[AnyArray]) -> list[Array]:
        """Return arrays of the library and on the device that the functions work with."""
        if self._device is None:
            return list(arrays)
        return [self._xp.asarray(a, device=self._device) for a in arrays]

    def _constants(self, complex_numbers: bool) -> list[Array]:
        """Return the base point, handed over once for each of the two kinds of numbers."""
        if complex_numbers not in self._wrapped:
            arrays = [
                (a + 0j if complex_numbers else a) if i in self.floating else a
                for i, a in enumerate(self.base)
            ]
            self._wrapped[complex_numbers] = self.hand_over([a.copy() for a in arrays])
        return self._wrapped[complex_numbers]

    def evaluate(self, moved: dict[int, AnyArray], complex_numbers: bool = False) -> AnyArray:
        """Return forward at the base point with some of its inputs replaced."""
        arguments = list(self._constants(complex_numbers))
        for i, a in moved.items():
            (arguments[i],) = self.hand_over([a])
        self.evaluations += 1
        self._forward_was_at = None
        with np.errstate(all="ignore"):
            return np.asarray(to_numpy(self._forward(*arguments)))

    def value(self, arrays: Sequence[AnyArray]) -> AnyArray:
        """Return forward of ``arrays``; stop if it changes one of them."""
        arguments = self.hand_over([a.copy() for a in arrays])
        with np.errstate(all="ignore"):
            y = np.array(to_numpy(self._forward(*arguments)))
        self._forward_was_at = arrays
        self._check_unchanged("forward", arguments, arrays, self.names)
        return y

    def gradients(self, dy: AnyArray, arrays: Sequence[AnyArray]) -> list[AnyArray | None]:
        """Return the gradient of every input; stop if backward changes dy or an input.

        A backward may use what the forward pass before it has saved, as layers do: the last call
        of forward is always one with the same inputs.
        """
        if self._forward_was_at is not arrays:
            self.value(arrays)
        arguments = self.hand_over([dy.copy(), *(a.copy() for a in arrays)])
        with np.errstate(all="ignore"):
            result = self._backward(*arguments)
        result = list(result) if isinstance(result, (tuple, list)) else [result]
        gradients = [None if g is None else np.array(to_numpy(g)) for g in result]
        self._check_unchanged("backward", arguments, [dy, *arrays], ["dy", *self.names])
        if len(gradients) != len(arrays):
            # Gradients of the floating-point inputs alone are understood: labels have none.
            if len(gradients) != len(self.floating):
                raise Stop(
                    "shape",
                    f"backward returned {len(gradients)} gradients, expected {len(arrays)}: one "
                    "an input, None for an input that is not checked",
                )
            by_input: list[AnyArray | None] = [None] * len(arrays)
            for i, g in zip(self.floating, gradients, strict=True):
                by_input[i] = g
            gradients = by_input
        return [g if i in self.floating else None for i, g in enumerate(gradients)]

    def _check_unchanged(
        self,
        who: str,
        after: Sequence[Array],
        before: Sequence[AnyArray],
        names: Sequence[str],
    ) -> None:
        for name, a, b in zip(names, after, before, strict=True):
            a = to_numpy(a)
            if a.shape != b.shape or not _same(a, b):
                raise Stop(
                    "mutates-input",
                    f"{who} changed {name}",
                    f"{who} writes into its argument {name}: work on a copy "
                    f"({name} = {name} * … instead of {name} *= …)",
                )

    def choose_precision(self, y: AnyArray) -> AnyArray:
        """Evaluate numerically in float64 wherever forward takes it, and return its result.

        float32 inputs are promoted, exactly; should forward refuse them, or answer in float32
        all the same, then the numeric side has that type's precision. ``y`` is forward's result
        for the inputs as given.
        """
        self.y_dtype = y.dtype
        if self.eps_analytic > np.finfo(np.float64).eps:
            promoted = [
                a.astype(np.float64) if i in self.floating else a for i, a in enumerate(self.given)
            ]
            with contextlib.suppress(TypeError, ValueError, RuntimeError):
                precise = self.value(promoted)
                if precise.dtype == np.float64 and np.all(np.isfinite(precise)):
                    self.base, y = promoted, precise
        self.eps_numeric = float(np.finfo(y.dtype).eps)
        return y

    @functools.cached_property
    def is_single(self) -> bool:
        """Whether the inputs, or forward whatever its inputs, are of less than double precision.

        To be asked after :meth:`choose_precision`.
        """
        eps = [self.eps_numeric, *(float(np.finfo(self.base[i].dtype).eps) for i in self.floating)]
        return max(eps) > float(np.finfo(np.float64).eps)

    def complex_value(self, moved: dict[int, AnyArray]) -> AnyArray | None:
        """Return forward of complex inputs, or None where it does not take them."""
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")  # NumPy only warns when it drops imaginary parts
                y = self.evaluate(moved, complex_numbers=True)
        except Exception:
            # Any error means the same: this function is not made for complex numbers.
            return None
        return y if y.dtype.kind == "c" and np.all(np.isfinite(y)) else None

    def complex_values(self, many: list[dict[int, AnyArray]]) -> list[AnyArray | None]:
        """Return forward of several complex points, all at once if the user told how.

        The first one is always evaluated on its own too. Should the two differ, then what the
        user told is not the same function, and it is not used again.
        """
        first = self.complex_value(many[0])
        if self._forward_many is not None and first is not None and len(many) > 1:
            points = []
            for moved in many:
                arguments = list(self._constants(complex_numbers=True))
                for i, a in moved.items():
                    (arguments[i],) = self.hand_over([a])
                points.append(arguments)
            self.evaluations += len(many) - 1
            with np.errstate(all="ignore"):
                values = [np.asarray(to_numpy(y)) for y in self._forward_many(points)]
            if not rounding_differs(values[0].imag, first.imag, self.eps_numeric):
                return [first, *values[1:]]
            self._forward_many = None
        return [first, *(self.complex_value(moved) for moved in many[1:])]


def _same(a: AnyArray, b: AnyArray) -> bool:
    return np.array_equal(a, b, equal_nan=a.dtype.kind in "fc")


def largest(a: AnyArray) -> float:
    """Return the largest finite absolute value, 0 for no elements."""
    a = np.abs(a)
    return float(np.max(a, where=np.isfinite(a), initial=0.0))


def rounding_differs(a: AnyArray, b: AnyArray, eps: float) -> bool:
    """Tell whether two results differ by more than the order of a parallel sum explains."""
    if a.shape != b.shape or not np.array_equal(np.isfinite(a), np.isfinite(b)):
        return True
    difference = largest(np.where(np.isfinite(a), a, 0) - np.where(np.isfinite(b), b, 0))
    return difference > 1e3 * eps * max(largest(a), largest(b))


def scale_of(x: np.ndarray[Any, Any]) -> float:
    """Return the size of a tensor's elements, in which steps are measured: their rms, or 1."""
    with np.errstate(all="ignore"):
        rms = float(np.sqrt(np.mean(np.square(x.astype(np.float64))))) if x.size else 0.0
    return rms if rms > 1e-150 and np.isfinite(rms) else 1.0

"""The functions under test, seen as functions of real NumPy arrays and watched while they run.

Whatever their arguments are, the checker computes with a list of *leaves*. The differentiated
ones are float arrays; complex numbers are pairs of real ones along a last axis of length 2, so that
their gradient, dL/dRe + i dL/dIm as in PyTorch, is the gradient of the pairs. The outputs become
one array: the output itself, or the elements of several in a row.
"""

import contextlib
import functools
import io
import math
import warnings
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import array_api_compat
import numpy as np

from tinyconv.backend import Array, namespace, to_numpy
from tinyconv.gradcheck.trees import leaves_like, leaves_of, rebuild

__all__ = ["DOUBLE", "FloatArray", "Problem", "Stop", "largest", "rounding_differs", "scale_of"]

FloatArray: TypeAlias = np.ndarray[Any, np.dtype[np.float64]]
AnyArray: TypeAlias = np.ndarray[Any, Any]

#: The unit round-off of float64.
DOUBLE = float(np.finfo(np.float64).eps)


class Stop(Exception):
    """What makes further checking meaningless: a verdict, what was seen, and perhaps a hint."""

    def __init__(self, verdict: str, message: str, hint: str = "", tensor: int | None = None):
        super().__init__(message)
        self.verdict, self.message, self.hint, self.tensor = verdict, message, hint, tensor


class Problem:
    """Forward, backward and the point at which they are checked.

    Args:
        forward: ``forward(*inputs, **kwargs) -> y``, a nest of arrays and numbers.
        backward: ``backward(dy, *inputs, **kwargs)`` -> a nest of gradients for each input.
        inputs: nests; their floating-point and complex leaves are differentiated.
        names: one for each input, for messages.
        kwargs: further arguments of both functions, constants.
        forward_many: forward for a list of lists of inputs, if that is faster than a loop.
    """

    def __init__(
        self,
        forward: Callable[..., Any],
        backward: Callable[..., Any],
        inputs: Sequence[Any],
        names: Sequence[str],
        kwargs: dict[str, Any] | None = None,
        forward_many: Callable[[list[list[Array]]], list[Array]] | None = None,
    ):
        self.forward, self.backward, self._forward_many = forward, backward, forward_many
        self._kwargs, self._top, self.inputs = kwargs or {}, list(names), list(inputs)
        named = [leaf for n, a in zip(names, inputs, strict=True) for leaf in leaves_of(a, n)]
        self.names = [name for name, _ in named]
        self._leaves = [leaf for _, leaf in named]
        arrays = {name: a for name, a in named if array_api_compat.is_array_api_obj(a)}
        self._xp = namespace("gradcheck", **arrays)
        foreign = [a for a in arrays.values() if not isinstance(a, (np.ndarray, np.generic))]
        self._device = array_api_compat.device(foreign[0]) if foreign else None
        taken = [_take(a) for a in self._leaves]
        self.pairs = [isinstance(a, np.ndarray) and a.dtype.kind == "c" for a in taken]
        #: the leaves; what is neither an array nor a floating-point number is there as it is
        self.given = [_pairs(a) if p else a for a, p in zip(taken, self.pairs, strict=True)]
        self.floating = [
            i for i, a in enumerate(self.given) if isinstance(a, np.ndarray) and a.dtype.kind == "f"
        ]
        self.base = self.given  #: in float64 where forward takes that
        self._wrapped: dict[bool, list[Any]] = {}
        #: unit round-off of the gradients and of the numeric evaluation, set by `choose_precision`
        eps = [float(np.finfo(self.given[i].dtype).eps) for i in self.floating]
        self.eps_analytic = self.eps_numeric = self.eps_given = max(eps, default=DOUBLE)
        self.evaluations = 0
        self.results: list[Any] = []  #: the gradients of the last call, as backward returned them
        #: where forward was called last, known to all problems of the same functions
        self._memory: list[Any] = [None]
        self._loud = {forward, backward}  # functions whose first call is still to come
        self._y_tree: Any = None
        #: where outputs are infinite, as they may be at infinite inputs: they count as constants
        self.dead: Any = False

    def at(self, point: Sequence[Any]) -> "Problem":
        """Return the problem of the same functions at another point."""
        inputs = self._nests(self._hand_over(point))
        return self._sibling(inputs)

    def resized(self, resize: Callable[[str, AnyArray], AnyArray]) -> "Problem":
        """Return the problem with ``resize(name, a)`` in the place of every array."""
        leaves = [
            self._give(i, resize(name, a)) if isinstance(a, np.ndarray) else a
            for i, (name, a) in enumerate(zip(self.names, self.given, strict=True))
        ]
        return self._sibling(self._nests(leaves))

    def _sibling(self, inputs: list[Any]) -> "Problem":
        functions = self.forward, self.backward
        other = Problem(*functions, inputs, self._top, self._kwargs, self._forward_many)
        other._loud, other._memory = self._loud, self._memory
        return other

    # -- between their kinds of arguments and ours ---------------------------------------------

    def _hand_over(self, arrays: Sequence[Any]) -> list[Any]:
        """Return the leaves in the library and on the device that the functions work with."""
        return [self._give(i, a) for i, a in enumerate(arrays)]

    def _give(self, i: int, a: Any) -> Any:
        leaf = self._leaves[i]
        if not isinstance(a, np.ndarray):
            return a
        a = _complex(a) if self.pairs[i] else a
        if not hasattr(leaf, "shape"):
            return a.item()
        return a[()] if isinstance(leaf, np.generic) else self._asarray(a)

    def _asarray(self, a: AnyArray) -> Array:
        return a if self._device is None else self._xp.asarray(a, device=self._device)

    def _nests(self, leaves: Sequence[Any]) -> list[Any]:
        return list(rebuild(self.inputs, iter(leaves)))

    def _call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Call a function of theirs; what it prints and warns about is shown the first time."""
        with np.errstate(all="ignore"):
            if function in self._loud:
                self._loud.discard(function)
                return function(*arguments, **self._kwargs)
            with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                # NumPy only warns when it drops imaginary parts, which would deceive the step.
                warnings.simplefilter("error", np.exceptions.ComplexWarning)
                return function(*arguments, **self._kwargs)

    def _output(self, result: Any, complex_step: bool = False) -> AnyArray:
        """Return forward's outputs as one array, complex only where the complex step made it so."""
        arrays = [np.asarray(to_numpy(a)) for _, a in leaves_of(result) if a is not None]
        arrays = [a if a.dtype.kind != "c" or complex_step else _pairs(a) for a in arrays]
        kept = [a for a in arrays if a.dtype.kind in "fc"]
        if not kept:
            return arrays[0] if arrays else np.zeros(0, dtype=int)
        y = kept[0] if len(kept) == 1 else np.concatenate([a.reshape(-1) for a in kept])
        return np.where(self.dead, 0, y) if y.shape == np.shape(self.dead) and y.shape else y

    def like_output(self, dy: AnyArray) -> Any:
        """Return dy as a nest like forward's last output, None for what is no floating number."""
        leaves: list[Any] = []
        rest = dy.reshape(-1)
        for _, leaf in leaves_of(self._y_tree):
            a = np.zeros(0, dtype=int) if leaf is None else np.asarray(to_numpy(leaf))
            if a.dtype.kind not in "fc":
                leaves.append(None)
                continue
            shape = (*a.shape, 2) if a.dtype.kind == "c" else a.shape
            part, rest = rest[: math.prod(shape)], rest[math.prod(shape) :]
            part = part.reshape(shape).astype(a.real.dtype)
            leaves.append(self._asarray(_complex(part) if a.dtype.kind == "c" else part))
        return rebuild(self._y_tree, iter(leaves))

    # -- calling them ---------------------------------------------------------------------------

    def _constants(self, complex_numbers: bool) -> list[Any]:
        """Return the base point, handed over once for each of the two kinds of numbers."""
        if complex_numbers not in self._wrapped:
            arrays = [
                (a + 0j if complex_numbers else a) if i in self.floating else a
                for i, a in enumerate(self.base)
            ]
            self._wrapped[complex_numbers] = self._hand_over([_copy(a) for a in arrays])
        return self._wrapped[complex_numbers]

    def evaluate(self, moved: dict[int, AnyArray], complex_step: bool = False) -> AnyArray:
        """Return forward at the base point with some of its leaves replaced."""
        leaves = list(self._constants(complex_step))
        for i, a in moved.items():
            leaves[i] = self._give(i, a)
        self.evaluations += 1
        self._memory[0] = None
        return self._output(self._call(self.forward, *self._nests(leaves)), complex_step)

    def value(self, arrays: Sequence[Any]) -> AnyArray:
        """Return forward of ``arrays``; stop if it changes one of them."""
        leaves = self._hand_over([_copy(a) for a in arrays])
        self._y_tree = self._call(self.forward, *self._nests(leaves))
        y = np.array(self._output(self._y_tree))
        self._memory[0] = arrays
        self._check_unchanged("forward", leaves, arrays, self.names)
        return y

    def ignore_infinite(self, y: AnyArray) -> AnyArray:
        """Return y with zeros where it is infinite, which are constants from here on."""
        self.dead = np.isinf(y)
        return np.where(self.dead, 0, y)

    def gradients(self, dy: AnyArray, arrays: Sequence[Any]) -> list[AnyArray | None]:
        """Return the gradient of every leaf; stop if backward changes dy or an input.

        A backward may use what the forward pass before it has saved, as layers do: the last call
        of forward is always one with the same inputs.
        """
        if self._memory[0] is not arrays:
            self.value(arrays)
        return self.backward_again(dy, arrays)

    def tangent(
        self, jvp: Callable[..., Any], tangents: Sequence[Any], arrays: Sequence[Any]
    ) -> AnyArray:
        """Return the derivative of the outputs as ``jvp(tangents, *inputs)`` has it."""
        leaves = self._hand_over([_copy(a) for a in arrays])
        given = [None if t is None else self._give(i, t) for i, t in enumerate(tangents)]
        result = self._call(jvp, tuple(self._nests(given)), *self._nests(leaves))
        self._check_unchanged("jvp", leaves, arrays, self.names)
        return np.array(self._output(result))

    def backward_again(self, dy: AnyArray, arrays: Sequence[Any]) -> list[AnyArray | None]:
        """Return :meth:`gradients` without a forward pass before."""
        leaves = self._hand_over([_copy(a) for a in arrays])
        dys = self.like_output(dy)
        before = [(f"dy{n}", _copy(_take(a)), a) for n, a in leaves_of(dys) if a is not None]
        result = self._call(self.backward, dys, *self._nests(leaves))
        self.results = self._by_leaf(result)
        for name, b, a in before:
            if not np.array_equal(_take(a), b, equal_nan=True):
                raise Stop("mutates-input", *_mutation("backward", name))
        self._check_unchanged("backward", leaves, arrays, self.names)
        gradients: list[AnyArray | None] = []
        for i, g in enumerate(self.results):
            a = None if g is None or i not in self.floating else np.array(to_numpy(g))
            if a is not None and self.pairs[i]:
                a = _pairs(a.astype(np.result_type(a, np.complex64)) if a.dtype.kind == "f" else a)
            gradients.append(a)
        return gradients

    def _by_leaf(self, result: Any) -> list[Any]:
        """Return the gradient of each leaf, None where there is none.

        One of the only input, or of the only one with floating-point numbers, may come without a
        tuple around it, and constants may be left out altogether.
        """
        tree, places, start = self.inputs, [], 0
        for k, part in enumerate(tree):
            stop = start + len(leaves_of(part))
            if any(i in self.floating for i in range(start, stop)):
                places.append(k)
            start = stop
        whole: list[Any] = [None] * len(tree)
        if isinstance(result, (tuple, list)) and len(result) == len(tree):
            whole = list(result)
        elif isinstance(result, (tuple, list)) and len(result) == len(places):
            for k, part in zip(places, result, strict=True):
                whole[k] = part
        elif len(places) == 1 and (
            not isinstance(result, (tuple, list)) or isinstance(tree[places[0]], (tuple, list))
        ):
            whole[places[0]] = result
        else:
            count = len(result) if isinstance(result, (tuple, list)) else 1
            raise Stop(
                "shape",
                f"backward returned {count} gradients, expected {len(tree)}: one "
                "an input, None for an input that is not checked",
            )
        leaves: list[Any] = []
        for name, part, gradient in zip(self._top, tree, whole, strict=True):
            try:
                leaves += leaves_like(part, gradient)
            except ValueError as error:
                raise Stop("shape", f"the gradient of {name} is {error}") from None
        return leaves

    def _check_unchanged(
        self, who: str, after: Sequence[Any], before: Sequence[Any], names: Sequence[str]
    ) -> None:
        for i, (name, a, b) in enumerate(zip(names, after, before, strict=True)):
            if not isinstance(b, np.ndarray) or not hasattr(a, "shape"):
                continue
            a = _pairs(to_numpy(a)) if self.pairs[i] else to_numpy(a)
            if a.shape != b.shape or not np.array_equal(a, b, equal_nan=a.dtype.kind in "fc"):
                raise Stop("mutates-input", *_mutation(who, name))

    def choose_precision(self, y: AnyArray) -> AnyArray:
        """Evaluate numerically in float64 wherever forward takes it, and return its result.

        float32 inputs are promoted, exactly; should forward refuse them, or answer in float32
        all the same, then the numeric side has that type's precision. ``y`` is forward's result
        for the inputs as given.
        """
        if self.eps_analytic > DOUBLE:
            promoted = [
                a.astype(np.float64) if i in self.floating else a for i, a in enumerate(self.given)
            ]
            # Any error means the same: this function is made for one precision.
            with contextlib.suppress(Exception):
                precise = self.value(promoted)
                if precise.dtype == np.float64 and np.all(np.isfinite(precise)):
                    self.base, y = promoted, precise
        self.eps_numeric = float(np.finfo(y.dtype).eps)
        return y

    @functools.cached_property
    def eps(self) -> float:
        """The unit round-off that the steps of differences must respect.

        To be asked after :meth:`choose_precision`.
        """
        eps = [float(np.finfo(self.base[i].dtype).eps) for i in self.floating]
        return max(self.eps_numeric, *eps)

    def complex_value(self, moved: dict[int, AnyArray]) -> AnyArray | None:
        """Return forward of complex inputs, or None where it does not take them."""
        if any(self.pairs):
            return None
        try:
            y = self.evaluate(moved, complex_step=True)
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
                leaves = list(self._constants(complex_numbers=True))
                for i, a in moved.items():
                    leaves[i] = self._give(i, a)
                points.append(self._nests(leaves))
            self.evaluations += len(many) - 1
            with np.errstate(all="ignore"):
                values = [self._output(y, complex_step=True) for y in self._forward_many(points)]
            if not rounding_differs(values[0].imag, first.imag, self.eps_numeric):
                return [first, *values[1:]]
            self._forward_many = None
        return [first, *(self.complex_value(moved) for moved in many[1:])]


def _take(leaf: Any) -> Any:
    """Return a leaf as a NumPy array of its own, what holds no numbers of ours as it is."""
    if array_api_compat.is_array_api_obj(leaf) or isinstance(leaf, (float, complex)):
        return np.array(to_numpy(leaf))
    return leaf


def _copy(a: Any) -> Any:
    return a.copy() if isinstance(a, np.ndarray) else a


def _pairs(a: AnyArray) -> AnyArray:
    """Return complex numbers as pairs along a last axis."""
    return np.stack([a.real, a.imag], axis=-1)


def _complex(a: AnyArray) -> AnyArray:
    """Return pairs along the last axis as complex numbers."""
    dtype = np.complex128 if a.dtype == np.float64 else np.complex64
    return np.asarray(np.ascontiguousarray(a).view(dtype)[..., 0])


def _mutation(who: str, name: str) -> tuple[str, str]:
    return (
        f"{who} changed {name}",
        f"{who} writes into its argument {name}: work on a copy "
        f"({name} = {name} * … instead of {name} *= …)",
    )


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


def scale_of(x: AnyArray) -> float:
    """Return the size of a tensor's elements, in which steps are measured: their rms, or 1.

    It is 1 as well for numbers so small that steps beside them would be subnormal.
    """
    top = largest(x)
    if not top > 1e-280:
        return 1.0
    finite = x[np.isfinite(x)].astype(np.float64)
    return top * float(np.sqrt(np.mean(np.square(finite / top))))

"""The functions under test, seen as functions of one vector of real numbers, and watched.

Whatever their arguments are, the checker computes with the *coordinates* of everything that is
differentiated, in a row and in float64; a table of leaves says whose they are. Complex numbers are
pairs of real ones along a last axis of length 2, so that their gradient, dL/dRe + i dL/dIm as in
PyTorch, is the gradient of the pairs. Outputs become one array: the output itself, or the
elements of several in a row.
"""

import contextlib
import io
import math
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import array_api_compat
import numpy as np

from tinyconv.backend import Array, namespace, to_numpy
from tinyconv.errors import DtypeError
from tinyconv.gradcheck.trees import leaves_like, leaves_of, rebuild

__all__ = ["DOUBLE", "HALF", "FloatArray", "Leaf", "Problem", "Stop", "TimeUp"]

FloatArray: TypeAlias = np.ndarray[Any, np.dtype[np.float64]]
AnyArray: TypeAlias = np.ndarray[Any, Any]

#: The unit round-off of float64, and what that of float16 alone is above.
DOUBLE, HALF = float(np.finfo(np.float64).eps), 1e-4


class Stop(Exception):
    """What makes further checking meaningless: a verdict, what was seen, and perhaps a hint."""

    def __init__(self, verdict: str, message: str, hint: str = "", leaf: "Leaf | None" = None):
        super().__init__(message)
        self.verdict, self.message, self.hint, self.leaf = verdict, message, hint, leaf


class TimeUp(BaseException):
    """The budget of seconds is over. No ``Exception``: those of the functions may be ignored."""


@dataclass(frozen=True, eq=False)
class Leaf:
    """One differentiated array or number among the inputs, and its part of the coordinates."""

    name: str
    place: int  #: among all leaves of the inputs
    part: slice
    shape: tuple[int, ...]  #: in real numbers
    dtype: np.dtype[Any]  #: of these, as given
    pairs: bool  #: whether it is complex

    @property
    def size(self) -> int:
        """The number of its coordinates."""
        return int(self.part.stop - self.part.start)

    @property
    def eps(self) -> float:
        """The unit round-off of its numbers as given."""
        return float(np.finfo(self.dtype).eps)

    def of(self, x: AnyArray) -> AnyArray:
        """Return its own part of a vector, in its shape."""
        return x[self.part].reshape(self.shape)

    def index(self, k: int) -> tuple[int, ...]:
        """Return where in it coordinate k is."""
        return tuple(int(n) for n in np.unravel_index(k - self.part.start, self.shape))


class Problem:
    """Two functions and the point at which they are checked, ``x``.

    Args:
        forward: ``forward(*inputs, **kwargs) -> y``, a nest of arrays and numbers.
        backward: ``backward(dy, *inputs, **kwargs)`` -> a nest of gradients for each input; in
            forward mode ``jvp(tangents, *inputs, **kwargs)`` -> tangents of y.
        inputs: nests; their floating-point and complex leaves are differentiated.
        names: one for each input, for messages.
        kwargs: further arguments of both functions, constants.
        forward_many: forward for a list of lists of inputs, if that is faster than a loop.
        forward_mode: whether ``backward`` is a jvp.
        deadline: on the clock of ``time.monotonic``; no call is begun after it.

    Raises:
        DeviceError: the inputs hold arrays of several libraries.
        DtypeError: one holds bfloat16 or numbers of 8 bits, which tell no derivative.
    """

    def __init__(
        self,
        forward: Callable[..., Any],
        backward: Callable[..., Any],
        inputs: Sequence[Any],
        names: Sequence[str],
        kwargs: dict[str, Any] | None = None,
        forward_many: Callable[[list[list[Array]]], list[Array]] | None = None,
        forward_mode: bool = False,
        deadline: float = math.inf,
    ):
        self.forward, self.backward, self._forward_many = forward, backward, forward_many
        self.forward_mode, self.deadline, self._kwargs = forward_mode, deadline, kwargs or {}
        self._top, self.inputs = list(names), list(inputs)
        named = [leaf for n, a in zip(names, inputs, strict=True) for leaf in leaves_of(a, n)]
        self._names, self._given = [name for name, _ in named], [leaf for _, leaf in named]
        arrays = {name: a for name, a in named if array_api_compat.is_array_api_obj(a)}
        self._xp = namespace("gradcheck", **arrays)
        foreign = [a for a in arrays.values() if not isinstance(a, (np.ndarray, np.generic))]
        self._device = array_api_compat.device(foreign[0]) if foreign else None
        self.leaves: list[Leaf] = []
        self._constants: list[Any] = []  #: all other leaves, None in the places of these
        numbers: list[AnyArray] = [np.zeros(0)]
        start = 0
        for place, (name, leaf) in enumerate(named):
            a = _take(name, leaf)
            is_number = isinstance(a, np.ndarray) and a.dtype.kind in "fc"
            self._constants.append(None if is_number else a)
            if is_number:
                pairs = a.dtype.kind == "c"
                a = _pairs(a) if pairs else a
                part = slice(start, start := start + a.size)
                self.leaves.append(Leaf(name, place, part, a.shape, a.dtype, pairs))
                numbers.append(a.reshape(-1))
        self.x: FloatArray = np.concatenate(numbers, dtype=np.float64)
        self.precise = False  #: whether the numeric side hands over float64 whatever was given
        #: unit round-off of the gradients and of the numeric evaluation, set by `choose_precision`
        self.eps_given = max([leaf.eps for leaf in self.leaves], default=DOUBLE)
        self.eps_analytic = self.eps_numeric = self.eps_given
        self.evaluations = 0
        self.results: list[Any] = []  #: the gradients of the last call, as backward returned them
        #: where forward was called last, known to all problems of the same functions
        self._memory: list[Any] = [None, False]
        self._loud = {forward, backward}  # functions whose first call is still to come
        self._y_trees: dict[bool, Any] = {}  #: what forward returned last, as given and precise
        self.y_shape: tuple[int, ...] = ()  #: of forward's last outputs, as one array
        self._base: dict[bool, list[Any]] = {}
        #: where outputs are infinite, as they may be at infinite inputs: they count as constants
        self.dead: Any = False

    def at(self, x: FloatArray) -> "Problem":
        """Return the problem of the same functions at another point."""
        return self._sibling(self._arguments(x))

    def resized(self, resize: Callable[[str, AnyArray], AnyArray]) -> "Problem":
        """Return the problem with ``resize(name, a)`` in the place of every array."""
        arguments, leaves = list(self._constants), {leaf.place: leaf for leaf in self.leaves}
        for name, a in self.arrays().items():
            place = self._names.index(name)
            a, leaf = resize(name, a), leaves.get(place)
            a = a.astype(leaf.dtype) if leaf else a
            arguments[place] = self._like(place, _complex(a) if leaf and leaf.pairs else a)
        return self._sibling(arguments)

    def _sibling(self, arguments: list[Any]) -> "Problem":
        inputs, functions = self._nests(arguments), (self.forward, self.backward)
        other = Problem(*functions, inputs, self._top, self._kwargs, self._forward_many,
                        self.forward_mode, self.deadline)  # fmt: skip
        other._loud, other._memory = self._loud, self._memory
        return other

    def arrays(self) -> dict[str, AnyArray]:
        """Return the arrays among the inputs by name, constants too, complex ones as pairs."""
        leaves = {leaf.place: leaf.of(self.x) for leaf in self.leaves}
        found = (leaves.get(place, a) for place, a in enumerate(self._constants))
        named = zip(self._names, found, strict=True)
        return {name: a for name, a in named if isinstance(a, np.ndarray)}

    # -- between their kinds of arguments and ours ---------------------------------------------

    def _arguments(self, x: AnyArray, precise: bool = False) -> list[Any]:
        """Return fresh leaves in the library and on the device that the functions work with."""
        constants = (a.copy() if isinstance(a, np.ndarray) else a for a in self._constants)
        arguments = [self._like(place, a) for place, a in enumerate(constants)]
        for leaf in self.leaves:
            arguments[leaf.place] = self._argument(leaf, x[leaf.part], precise)
        return arguments

    def _argument(self, leaf: Leaf, numbers: AnyArray, precise: bool) -> Any:
        dtype = np.dtype(np.float64) if precise else leaf.dtype
        dtype = np.result_type(dtype, np.complex64) if numbers.dtype.kind == "c" else dtype
        a = numbers.reshape(leaf.shape).astype(dtype)
        return self._like(leaf.place, _complex(a) if leaf.pairs else a)

    def _like(self, place: int, a: Any) -> Any:
        leaf = self._given[place]
        if not isinstance(a, np.ndarray):
            return a
        if not hasattr(leaf, "shape"):
            return a.item()
        return a[()] if isinstance(leaf, np.generic) else self._asarray(a)

    def _asarray(self, a: AnyArray) -> Array:
        return a if self._device is None else self._xp.asarray(a, device=self._device)

    def _nests(self, leaves: Sequence[Any]) -> list[Any]:
        return list(rebuild(self.inputs, iter(leaves)))

    def _call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Call a function of theirs; what it prints and warns about is shown the first time."""
        if time.monotonic() > self.deadline:
            raise TimeUp
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

    def like_output(self, dy: AnyArray, precise: bool = False) -> Any:
        """Return dy as a nest like forward's last output, None for what is no floating number."""
        tree = self._y_trees[precise]
        leaves: list[Any] = []
        rest = dy.reshape(-1)
        for _, leaf in leaves_of(tree):
            a = np.zeros(0, dtype=int) if leaf is None else np.asarray(to_numpy(leaf))
            if a.dtype.kind not in "fc":
                leaves.append(None)
                continue
            shape = (*a.shape, 2) if a.dtype.kind == "c" else a.shape
            part, rest = rest[: math.prod(shape)], rest[math.prod(shape) :]
            part = part.reshape(shape).astype(a.real.dtype)
            leaves.append(self._asarray(_complex(part) if a.dtype.kind == "c" else part))
        return rebuild(tree, iter(leaves))

    # -- calling them ---------------------------------------------------------------------------

    def value(self, x: FloatArray, precise: bool = False) -> AnyArray:
        """Return forward at x, in the given types or in float64; stop if it changes an input."""
        arguments = self._arguments(x, precise)
        self._y_trees[precise] = self._call(self.forward, *self._nests(arguments))
        y = np.array(self._output(self._y_trees[precise]))
        self.y_shape = y.shape
        self._memory[:] = x, precise
        self._require_unchanged("forward", self._names, arguments, self._arguments(x, precise))
        return y

    def gradients(
        self, dy: AnyArray, x: FloatArray, precise: bool = False, again: bool = False
    ) -> list[AnyArray | None]:
        """Return the gradient of every leaf; stop if backward changes dy or an input.

        A backward may use what the forward pass before it has saved, as layers do: the last call
        of forward is one with the same inputs, and of no other call of backward, unless ``again``.
        """
        if not again and not (self._memory[0] is x and self._memory[1] == precise):
            self.value(x, precise)
        arguments, dys = self._arguments(x, precise), self.like_output(dy, precise)
        result = self._call(self.backward, dys, *self._nests(arguments))
        self.results = self._by_leaf(result)
        after, before = leaves_of(dys, "dy"), leaves_of(self.like_output(dy, precise))
        names = [name for name, _ in after]
        self._require_unchanged("backward", names, *([a for _, a in n] for n in (after, before)))
        self._require_unchanged("backward", self._names, arguments, self._arguments(x, precise))
        gradients: list[AnyArray | None] = []
        for leaf in self.leaves:
            g = self.results[leaf.place]
            a = None if g is None else np.array(to_numpy(g))
            if a is not None and leaf.pairs:
                a = _pairs(a.astype(np.result_type(a, np.complex64)) if a.dtype.kind == "f" else a)
            gradients.append(a)
        return gradients

    def tangent(self, v: FloatArray, x: FloatArray, precise: bool = False) -> AnyArray:
        """Return the derivative of the outputs along v, as a jvp has it."""
        arguments, tangents = self._arguments(x, precise), [None] * len(self._names)
        for leaf in self.leaves:
            tangents[leaf.place] = self._argument(leaf, v[leaf.part], precise)
        result = self._call(self.backward, tuple(self._nests(tangents)), *self._nests(arguments))
        self._require_unchanged("jvp", self._names, arguments, self._arguments(x, precise))
        return np.array(self._output(result))

    def _by_leaf(self, result: Any) -> list[Any]:
        """Return the gradient of each leaf, None where there is none.

        One of the only input, or of the only one with floating-point numbers, may come without a
        tuple around it, and constants may be left out altogether.
        """
        is_several = isinstance(result, (tuple, list))
        places = [
            k
            for k, (name, part) in enumerate(zip(self._top, self.inputs, strict=True))
            if {n for n, _ in leaves_of(part, name)} & {leaf.name for leaf in self.leaves}
        ]
        whole: list[Any] = [None] * len(self.inputs)
        if is_several and len(result) == len(whole):
            whole = list(result)
        elif is_several and len(result) == len(places):
            for k, part in zip(places, result, strict=True):
                whole[k] = part
        elif len(places) == 1 and (
            not is_several or isinstance(self.inputs[places[0]], (tuple, list))
        ):
            whole[places[0]] = result
        else:
            raise Stop(
                "shape",
                f"backward returned {len(result) if is_several else 1} gradients, expected "
                f"{len(whole)}: one an input, None for an input that is not checked",
            )
        leaves: list[Any] = []
        for name, part, gradient in zip(self._top, self.inputs, whole, strict=True):
            try:
                leaves += leaves_like(part, gradient)
            except ValueError as error:
                raise Stop("shape", f"the gradient of {name} is {error}") from None
        return leaves

    def _require_unchanged(
        self, who: str, names: Sequence[str], after: Sequence[Any], before: Sequence[Any]
    ) -> None:
        for name, a, b in zip(names, after, before, strict=True):
            if not hasattr(b, "shape"):
                continue
            a, b = to_numpy(a), to_numpy(b)
            if a.shape != b.shape or not np.array_equal(a, b, equal_nan=a.dtype.kind in "fc"):
                raise Stop(
                    "mutates-input",
                    f"{who} changed {name}",
                    f"{who} writes into its argument {name}: work on a copy "
                    f"({name} = {name} * … instead of {name} *= …)",
                )

    # -- the numeric side -----------------------------------------------------------------------

    def choose_precision(self, y: AnyArray) -> AnyArray:
        """Evaluate numerically in float64 wherever forward takes it, and return its result.

        float32 inputs are promoted, exactly; should forward refuse them, or answer in float32
        all the same, then the numeric side has that type's precision. ``y`` is forward's result
        for the inputs as given.
        """
        if self.eps_given > DOUBLE:
            # Any error means the same: this function is made for one precision.
            with contextlib.suppress(Exception):
                precise = self.value(self.x, precise=True)
                if precise.dtype == np.float64 and np.all(np.isfinite(precise)):
                    self.precise, y = True, precise
        self.eps_numeric = float(np.finfo(y.dtype).eps)
        return y

    @property
    def eps(self) -> float:
        """The unit round-off that the steps of differences respect, after `choose_precision`."""
        return max(self.eps_numeric, DOUBLE if self.precise else self.eps_given)

    def evaluate(self, moved: Mapping[Leaf, AnyArray], complex_step: bool = False) -> AnyArray:
        """Return forward at the base point with the coordinates of some leaves replaced."""
        self.evaluations += 1
        self._memory[0] = None
        return self._output(
            self._call(self.forward, *self._moved(moved, complex_step)), complex_step
        )

    def _moved(self, moved: Mapping[Leaf, AnyArray], complex_step: bool) -> list[Any]:
        """Return inputs of which those that did not move are the same objects in every call."""
        if complex_step not in self._base:
            x = self.x.astype(complex) if complex_step else self.x
            self._base[complex_step] = self._arguments(x, self.precise)
        arguments = list(self._base[complex_step])
        for leaf, numbers in moved.items():
            arguments[leaf.place] = self._argument(leaf, numbers, self.precise)
        return self._nests(arguments)

    def complex_values(self, many: list[dict[Leaf, AnyArray]]) -> list[AnyArray | None]:
        """Return forward of several complex points, None where it does not take them.

        Where the user told how, they are taken all at once. The first one is always evaluated on
        its own too: should the two differ, then what the user told is not the same function,
        and it is not used again.
        """
        first = self._complex_value(many[0])
        if self._forward_many is not None and first is not None and len(many) > 1:
            points = [self._moved(moved, complex_step=True) for moved in many]
            self.evaluations += len(many) - 1
            with np.errstate(all="ignore"):
                values = [self._output(y, complex_step=True) for y in self._forward_many(points)]
            error, size = np.abs(values[0].imag - first.imag), np.abs(first.imag)
            if np.all(error <= 1e3 * self.eps_numeric * np.max(size, initial=0)):
                return [first, *values[1:]]
            self._forward_many = None
        return [first, *(self._complex_value(moved) for moved in many[1:])]

    def _complex_value(self, moved: dict[Leaf, AnyArray]) -> AnyArray | None:
        if any(leaf.pairs for leaf in self.leaves):
            return None
        try:
            y = self.evaluate(moved, complex_step=True)
        except Exception:
            # Any error means the same: this function is not made for complex numbers.
            return None
        return y if y.dtype.kind == "c" and np.all(np.isfinite(y)) else None


def _take(name: str, leaf: Any) -> Any:
    """Return a leaf as a NumPy array of its own, what holds no numbers of ours as it is."""
    dtype = str(getattr(leaf, "dtype", ""))
    if "bfloat16" in dtype or "float8" in dtype or "float4" in dtype:
        raise DtypeError(
            f"check: {name} is {dtype}, whose few digits tell no derivative: pass it as float32"
        )
    if array_api_compat.is_array_api_obj(leaf) or isinstance(leaf, (float, complex)):
        return np.array(to_numpy(leaf))
    return leaf


def _pairs(a: AnyArray) -> AnyArray:
    """Return complex numbers as pairs along a last axis."""
    return np.stack([a.real, a.imag], axis=-1)


def _complex(a: AnyArray) -> AnyArray:
    """Return pairs along the last axis as complex numbers."""
    dtype = np.complex128 if a.dtype == np.float64 else np.complex64
    return np.asarray(np.ascontiguousarray(a).view(dtype)[..., 0])

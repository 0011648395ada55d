"""The functions under test, seen as functions of one vector of real numbers, and watched.

Whatever their arguments are, the checker computes with the *coordinates* of everything that is
differentiated, in a row and in float64; leaves say whose they are. Complex numbers are pairs of
real ones along a last axis, so that their gradient, dL/dRe + i dL/dIm as in PyTorch, is that of the
pairs. Outputs become one array: the output itself, or the elements of several in a row.
"""

import contextlib
import copy
import io
import itertools
import math
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import array_api_compat
import numpy as np

from tinyconv.backend import namespace, to_numpy
from tinyconv.errors import DtypeError
from tinyconv.gradcheck.numbers import scale_of
from tinyconv.gradcheck.trees import leaves_like, leaves_of, rebuild

__all__ = ["DOUBLE", "HALF", "FloatArray", "Functions", "Leaf", "Problem", "Stop", "TimeUp"]

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


@dataclass
class Functions:
    """Two functions under test, and what all their calls share."""

    forward: Callable[..., Any]
    backward: Callable[..., Any]  #: in forward mode a jvp
    names: Sequence[str]  #: of the inputs
    kwargs: Mapping[str, Any] | None = None
    deadline: float = math.inf  #: on the clock of ``time.monotonic``; no call begins after it
    forward_mode: bool = False
    evaluations: int = 0  #: calls of forward for the numeric side
    _quiet: list[Any] = field(default_factory=list)  #: those that were called before

    def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Call one of them; what it prints and warns about is shown the first time."""
        if time.monotonic() > self.deadline:
            raise TimeUp
        with contextlib.ExitStack() as quiet, np.errstate(all="ignore"):
            if function in self._quiet:
                quiet.enter_context(contextlib.redirect_stdout(io.StringIO()))
                quiet.enter_context(warnings.catch_warnings())
                warnings.simplefilter("ignore")
                # NumPy only warns when it drops imaginary parts, which would deceive the step.
                warnings.simplefilter("error", np.exceptions.ComplexWarning)
            self._quiet.append(function)
            return function(*arguments, **(self.kwargs or {}))


@dataclass(frozen=True, eq=False)
class Leaf:
    """One differentiated array or number among the inputs, and its part of the coordinates."""

    name: str
    place: int  #: among all leaves of the inputs
    part: slice
    shape: tuple[int, ...]  #: in real numbers
    dtype: np.dtype[Any]  #: of these, as given
    pairs: bool  #: whether it is complex

    size: int
    eps: float  #: the unit round-off of the numbers as given

    def of(self, x: AnyArray) -> AnyArray:
        """Return its own part of a vector, in its shape."""
        return x[self.part].reshape(self.shape)

    def index(self, k: int) -> tuple[int, ...]:
        """Return where in it coordinate k is."""
        return tuple(int(n) for n in np.unravel_index(k - self.part.start, self.shape))


class Problem:
    """The functions at one point, ``x``, in one precision: that of the inputs, or promoted.

    Raises:
        DeviceError: the inputs hold arrays of several libraries.
        DtypeError: one holds bfloat16 or numbers of 8 bits, which tell no derivative.
    """

    def __init__(self, functions: Functions, inputs: Sequence[Any]):
        self.functions, self._tree = functions, list(inputs)
        pairs = zip(functions.names, inputs, strict=True)
        named = [leaf for name, a in pairs for leaf in leaves_of(a, name)]
        arrays = {name: a for name, a in named if array_api_compat.is_array_api_obj(a)}
        self._xp = namespace("gradcheck", **arrays)
        foreign = [a for a in arrays.values() if not isinstance(a, (np.ndarray, np.generic))]
        self._device = array_api_compat.device(foreign[0]) if foreign else None
        self._names, self._given = [name for name, _ in named], [a for _, a in named]
        self.leaves: list[Leaf] = []
        self._constants: list[Any] = []  #: all other leaves, None in the places of these
        numbers: list[AnyArray] = [np.zeros(0)]
        start = 0
        for place, (name, given) in enumerate(named):
            a = _taken(name, given)
            is_number = isinstance(a, np.ndarray) and a.dtype.kind in "fc"
            self._constants.append(None if is_number else a)
            if is_number:
                is_complex = a.dtype.kind == "c"
                a = as_pairs(a) if is_complex else a
                part, eps = slice(start, start := start + a.size), float(np.finfo(a.dtype).eps)
                leaf = Leaf(name, place, part, a.shape, a.dtype, is_complex, a.size, eps)
                self.leaves.append(leaf)
                numbers.append(a.reshape(-1))
        self.x: FloatArray = np.concatenate(numbers, dtype=np.float64)
        #: the unit round-off of both, of the inputs, and after `value` of forward's output
        self.eps = self.eps_x = self.eps_y = max([leaf.eps for leaf in self.leaves], default=DOUBLE)
        self.is_promoted = False
        self.shared: list[set[str]] = []  #: inputs whose last gradients lie in the same memory
        self.y_shape: tuple[int, ...] = ()  #: of forward's last outputs, as one array
        self._y: Any = None  #: these, as forward returned them
        #: where outputs are infinite, as they may be at infinite inputs: they count as constants
        self.dead: Any = False
        self._base: dict[bool, list[Any]] = {}

    def at(self, x: FloatArray) -> "Problem":
        """Return the problem at another point, which is rounded to the types of the inputs."""
        other = copy.copy(self)
        rounded = [np.zeros(0)] + [x[leaf.part].astype(leaf.dtype) for leaf in self.leaves]
        other.x = x if self.is_promoted else np.concatenate(rounded, dtype=np.float64)
        other._base = {}
        return other

    def moved(self, which: Sequence[Leaf], by: float, seed: list[int]) -> "Problem":
        """Return the problem with some leaves moved at random by up to ``by`` times their size."""
        rng, x = np.random.default_rng(seed), self.x.copy()
        for leaf in which:
            x[leaf.part] += rng.uniform(-by, by, leaf.size) * scale_of(leaf.of(x))
        return self.at(x)

    @property
    def units(self) -> FloatArray:
        """The unit round-off of each coordinate."""
        eps = [np.full(a.size, DOUBLE if self.is_promoted else a.eps) for a in self.leaves]
        return np.concatenate(eps)

    def promoted(self) -> "Problem":
        """Return the problem with float64 handed over in the place of all types, exactly."""
        other = copy.copy(self)
        other.is_promoted, other.eps_x, other._base = True, DOUBLE, {}
        return other

    def resized(self, resize: Callable[[str, AnyArray], AnyArray]) -> "Problem":
        """Return the problem with ``resize(name, a)`` in the place of every array."""
        arguments, leaves = list(self._constants), {leaf.place: leaf for leaf in self.leaves}
        for name, a in self.arrays().items():
            place = self._names.index(name)
            a, leaf = resize(name, a), leaves.get(place)
            a = a.astype(leaf.dtype) if leaf else a
            arguments[place] = self._like(place, as_complex(a) if leaf and leaf.pairs else a)
        return Problem(self.functions, self._nests(arguments))

    def arrays(self) -> dict[str, AnyArray]:
        """Return the arrays among the inputs by name, constants too, complex ones as pairs."""
        leaves = {leaf.place: leaf.of(self.x) for leaf in self.leaves}
        found = {name: leaves.get(k, self._constants[k]) for k, name in enumerate(self._names)}
        return {name: a for name, a in found.items() if isinstance(a, np.ndarray)}

    # -- between their kinds of arguments and ours ---------------------------------------------

    def inputs(self) -> list[Any]:
        """Return the nests of inputs at this point."""
        return self._nests(self._arguments(self.x))

    def _nests(self, leaves: Sequence[Any]) -> list[Any]:
        return list(rebuild(self._tree, iter(leaves)))

    def _arguments(self, x: AnyArray, constants: bool = True) -> list[Any]:
        """Return fresh leaves in the library and on the device that the functions work with."""
        others = self._constants if constants else [None] * len(self._constants)
        copies = (a.copy() if isinstance(a, np.ndarray) else a for a in others)
        arguments = [self._like(place, a) for place, a in enumerate(copies)]
        for leaf in self.leaves:
            arguments[leaf.place] = self._argument(leaf, x[leaf.part])
        return arguments

    def _argument(self, leaf: Leaf, numbers: AnyArray) -> Any:
        dtype = np.dtype(np.float64) if self.is_promoted else leaf.dtype
        dtype = np.result_type(dtype, np.complex64) if numbers.dtype.kind == "c" else dtype
        a = numbers.reshape(leaf.shape).astype(dtype)
        return self._like(leaf.place, as_complex(a) if leaf.pairs else a)

    def _like(self, place: int, a: Any) -> Any:
        given = self._given[place]
        if not isinstance(a, np.ndarray) or isinstance(given, np.generic):
            return a[()] if isinstance(a, np.ndarray) else a
        return self._asarray(a) if hasattr(given, "shape") else a.item()

    def _asarray(self, a: AnyArray) -> Any:
        return a if self._device is None else self._xp.asarray(a, device=self._device)

    def _output(self, result: Any, complex_step: bool = False) -> AnyArray:
        """Return forward's outputs as one array, complex only where the complex step made it so."""
        arrays = [np.asarray(to_numpy(a)) for _, a in leaves_of(result) if a is not None]
        arrays = [a if a.dtype.kind != "c" or complex_step else as_pairs(a) for a in arrays]
        kept = [a for a in arrays if a.dtype.kind in "fc"]
        if not kept:
            return arrays[0] if arrays else np.zeros(0, dtype=int)
        y = kept[0] if len(kept) == 1 else np.concatenate([a.reshape(-1) for a in kept])
        return np.where(self.dead, 0, y) if y.shape == np.shape(self.dead) and y.shape else y

    def like_output(self, dy: AnyArray) -> Any:
        """Return dy as a nest like forward's last output, None for what is no floating number."""
        leaves: list[Any] = []
        rest = dy.reshape(-1)
        for _, leaf in leaves_of(self._y):
            a = np.zeros(0, dtype=int) if leaf is None else np.asarray(to_numpy(leaf))
            if a.dtype.kind not in "fc":
                leaves.append(None)
                continue
            shape = (*a.shape, 2) if a.dtype.kind == "c" else a.shape
            part, rest = rest[: math.prod(shape)], rest[math.prod(shape) :]
            part = part.reshape(shape).astype(a.real.dtype)
            leaves.append(self._asarray(as_complex(part) if a.dtype.kind == "c" else part))
        return rebuild(self._y, iter(leaves))

    # -- calling them ---------------------------------------------------------------------------

    def value(self) -> AnyArray:
        """Return forward here; stop if it changes an input."""
        self._y = self._call("forward")
        y = np.array(self._output(self._y))
        self.eps_y = float(np.finfo(y.dtype).eps) if y.dtype.kind == "f" else DOUBLE
        self.eps, self.y_shape = max(self.eps_x, self.eps_y), y.shape
        return y

    def gradients(self, dy: AnyArray, forward_first: bool = True) -> list[AnyArray | None]:
        """Return the gradient of every leaf; stop if backward changes dy or an input.

        A backward may use what the forward pass before it has saved, as layers do.
        """
        if forward_first:
            self.value()
        dys = self.like_output(dy)
        results = self._by_leaf(self._call("backward", dys))
        names, after = zip(*leaves_of(dys, "dy"), strict=True)
        _require_unchanged(
            "backward", names, after, [a for _, a in leaves_of(self.like_output(dy))]
        )
        self.shared = _sharing([(leaf.name, results[leaf.place]) for leaf in self.leaves])
        gradients: list[AnyArray | None] = []
        for leaf in self.leaves:
            g = results[leaf.place]
            a = None if g is None else np.array(to_numpy(g))
            if a is not None and leaf.pairs:
                a = as_pairs(
                    a.astype(np.result_type(a, np.complex64)) if a.dtype.kind == "f" else a
                )
            gradients.append(a)
        return gradients

    def tangent(self, v: FloatArray) -> AnyArray:
        """Return the derivative of the outputs along v, as a jvp has it."""
        tangents = tuple(self._nests(self._arguments(v, constants=False)))
        return np.array(self._output(self._call("jvp", tangents)))

    def _call(self, who: str, *first: Any) -> Any:
        """Call forward, backward or jvp here; stop if it changes an input."""
        arguments, functions = self._arguments(self.x), self.functions
        function = functions.backward if first else functions.forward
        result = functions.call(function, *first, *self._nests(arguments))
        _require_unchanged(who, self._names, arguments, self._arguments(self.x))
        return result

    def evaluate(self, moved: Mapping[Leaf, AnyArray], complex_step: bool = False) -> AnyArray:
        """Return forward with the coordinates of some leaves replaced.

        What did not move is the same objects in every call, which a forward may profit from.
        """
        self.functions.evaluations += 1
        if complex_step not in self._base:
            x = self.x.astype(complex) if complex_step else self.x
            self._base[complex_step] = self._arguments(x)
        arguments = list(self._base[complex_step])
        for leaf, numbers in moved.items():
            arguments[leaf.place] = self._argument(leaf, numbers)
        result = self.functions.call(self.functions.forward, *self._nests(arguments))
        return self._output(result, complex_step)

    def _by_leaf(self, result: Any) -> list[Any]:
        """Return the gradient of each leaf, None where there is none.

        One of the only input, or of the only one with floating-point numbers, may come without a
        tuple around it, and constants may be left out altogether.
        """
        is_several, checked = isinstance(result, (tuple, list)), {a.name for a in self.leaves}
        parts = list(zip(self.functions.names, self._tree, strict=True))
        places = [k for k, p in enumerate(parts) if checked & {n for n, _ in leaves_of(p[1], p[0])}]
        whole = list(result) if is_several else [result]
        is_one = len(places) == 1 and isinstance(parts[places[0]][1], (tuple, list))
        if is_one and is_several and len(result) not in (len(parts), len(places)):
            whole = [result]
        if len(whole) == len(places) != len(parts):
            found = dict(zip(places, whole, strict=True))
            whole = [found.get(k) for k in range(len(parts))]
        if len(whole) != len(parts):
            what = f"{len(parts)}: one an input, None for an input that is not checked"
            raise Stop("shape", f"backward returned {len(whole)} gradients, expected {what}")
        leaves: list[Any] = []
        for (name, part), gradient in zip(parts, whole, strict=True):
            try:
                leaves += leaves_like(part, gradient)
            except ValueError as error:
                raise Stop("shape", f"the gradient of {name} is {error}") from None
        return leaves


def _require_unchanged(
    who: str, names: Sequence[str], after: Sequence[Any], before: Sequence[Any]
) -> None:
    for name, a, b in zip(names, after, before, strict=True):
        if hasattr(b, "shape"):
            a, b = to_numpy(a), to_numpy(b)
            if a.shape != b.shape or not np.array_equal(a, b, equal_nan=a.dtype.kind in "fc"):
                how = f"work on a copy ({name} = {name} * … instead of {name} *= …)"
                hint = f"{who} writes into its argument {name}: {how}"
                raise Stop("mutates-input", f"{who} changed {name}", hint)


def _sharing(arrays: Sequence[tuple[str, Any]]) -> list[set[str]]:
    """Return the pairs of names whose arrays lie in the same memory."""
    own = [(n, a) for n, a in arrays if isinstance(a, np.ndarray) and a.size and a.flags.writeable]
    pairs = itertools.combinations(own, 2)
    return [{n, m} for (n, a), (m, b) in pairs if a.shape == b.shape and np.may_share_memory(a, b)]


def _taken(name: str, given: Any) -> Any:
    """Return a leaf as a NumPy array of its own, what holds no numbers of ours as it is."""
    dtype = str(getattr(given, "dtype", ""))
    if "bfloat16" in dtype or "float8" in dtype or "float4" in dtype:
        raise DtypeError(
            f"check: {name} is {dtype}, whose few digits tell no derivative: pass it as float32"
        )
    if array_api_compat.is_array_api_obj(given) or isinstance(given, (float, complex)):
        return np.array(to_numpy(given))
    return given


def as_pairs(a: AnyArray) -> AnyArray:
    """Return complex numbers as pairs along a last axis."""
    return np.stack([a.real, a.imag], axis=-1)


def as_complex(a: AnyArray) -> AnyArray:
    """Return pairs along the last axis as complex numbers."""
    dtype = np.complex128 if a.dtype == np.float64 else np.complex64
    return np.asarray(np.ascontiguousarray(a).view(dtype)[..., 0])

"""The functions under test, seen as functions of one vector of real numbers, and watched.

Their outputs become one array: the output itself, or the elements of several in a row.
"""

import contextlib
import copy
import io
import math
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import array_api_compat
import numpy as np

from tinyconv.backend import namespace, to_numpy
from tinyconv.gradcheck.nests import FloatArray, Leaf, Nest, as_real, leaves_like, leaves_of

#: One for each leaf, None for what is not checked.
Gradients: TypeAlias = dict[Leaf, Any]
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


class Problem:
    """The functions at one point, ``x``, in one precision: that of the inputs, or promoted.

    Raises:
        DeviceError: the inputs hold arrays of several libraries.
        DtypeError: one holds bfloat16 or numbers of 8 bits, which tell no derivative.
    """

    def __init__(self, functions: Functions, inputs: Sequence[Any]):
        self.functions = functions
        self._parts = [leaves_of(a, n) for n, a in zip(functions.names, inputs, strict=True)]
        named = [leaf for part in self._parts for leaf in part]
        arrays = {name: a for name, a in named if array_api_compat.is_array_api_obj(a)}
        xp = namespace("gradcheck", **arrays)
        foreign = [a for a in arrays.values() if not isinstance(a, (np.ndarray, np.generic))]
        device = array_api_compat.device(foreign[0]) if foreign else None
        self._asarray = (lambda a: xp.asarray(a, device=device)) if foreign else (lambda a: a)
        self._nest = Nest(list(inputs), named, self._asarray)
        self.leaves, self.x, self.dtype = self._nest.leaves, self._nest.x, None
        #: the unit round-off of both, of the inputs, and after `value` of forward's output
        self.eps = self.eps_x = self.eps_y = float(np.max(self.units, initial=DOUBLE))
        self.y_shape: tuple[int, ...] = ()  #: of forward's last outputs, as one array
        self._y: Any = None  #: these, as forward returned them
        #: where outputs are infinite, as they may be at infinite inputs: they count as constants
        self.dead: Any = False
        self.returned: dict[Leaf, Any] = {}  #: the last gradients, as backward returned them
        self._base: dict[bool, list[Any]] = {}

    @property
    def units(self) -> FloatArray:
        """The unit round-off of each coordinate."""
        eps = [float(np.finfo(self.dtype or leaf.dtype).eps) for leaf in self.leaves]
        return np.repeat(eps, [leaf.size for leaf in self.leaves])

    def at(self, x: FloatArray, dtype: Any = None) -> "Problem":
        """Return the problem at another point, rounded to the inputs' types, or one for all."""
        other = copy.copy(self)
        other.dtype, other._base = dtype or self.dtype, {}
        rounded = (leaf.of(x).astype(other.dtype or leaf.dtype) for leaf in self.leaves)
        other.x = np.concatenate([np.zeros(0), *(a.reshape(-1) for a in rounded)], dtype=np.float64)
        other.eps_x = float(np.max(other.units, initial=DOUBLE))
        return other

    def moved(self, which: Sequence[Leaf], by: float, seed: list[int]) -> "Problem":
        """Return the problem with some leaves moved at random by up to ``by`` times their size."""
        rng, x = np.random.default_rng(seed), self.x.copy()
        for leaf in which:
            x[leaf.part] += rng.uniform(-by, by, leaf.size) * leaf.scale(x)
        return self.at(x)

    def resized(self, resize: Callable[[str, FloatArray], FloatArray]) -> "Problem":
        """Return the problem with ``resize(name, a)`` in the place of every array."""
        nest, leaves = self._nest, {leaf.place: leaf for leaf in self.leaves}
        arguments, arrays = list(nest.constants), self.arrays()
        for place, (name, _) in enumerate(nest.named):
            a = resize(name, arrays[name]) if name in arrays else None
            if a is not None:
                leaf = leaves.get(place)
                arguments[place] = nest.argument(leaf, a) if leaf else nest.like(place, a)
        return Problem(self.functions, nest.rebuild(arguments))

    def arrays(self) -> dict[str, FloatArray]:
        """Return the arrays among the inputs by name, constants too, complex ones as pairs."""
        every = list(self._nest.constants)
        for leaf in self.leaves:
            every[leaf.place] = leaf.of(self.x)
        pairs = zip(self._nest.named, every, strict=True)
        return {name: a for (name, _), a in pairs if isinstance(a, np.ndarray)}

    def inputs(self) -> list[Any]:
        """Return the nests of inputs at this point."""
        return list(self._nest.rebuild(self._nest.arguments(self.x, self.dtype)))

    def _output(self, result: Any, complex_step: bool = False) -> FloatArray:
        """Return forward's outputs as one array, complex only where the complex step made it so."""
        leaves = (leaf for _, leaf in leaves_of(result) if leaf is not None)
        arrays = [np.asarray(to_numpy(leaf)) for leaf in leaves]
        kept = [a if complex_step else as_real(a) for a in arrays if a.dtype.kind in "fc"]
        if not kept:
            return arrays[0] if arrays else np.zeros(0, dtype=int)
        y = kept[0] if len(kept) == 1 else np.concatenate([a.reshape(-1) for a in kept])
        return np.where(self.dead, 0, y) if y.shape == np.shape(self.dead) and y.shape else y

    def like_output(self, dy: FloatArray) -> Any:
        """Return dy as a nest like forward's last output, None for what is no floating number."""
        nest = Nest(self._y, leaves_of(self._y, "dy"), self._asarray)
        return nest.rebuild(nest.arguments(dy.reshape(-1), constants=False))

    # -- calling them ---------------------------------------------------------------------------

    def value(self) -> FloatArray:
        """Return forward here; stop if it changes an input."""
        self._y = self._call("forward")
        y = np.array(self._output(self._y))
        self.eps_y = float(np.finfo(y.dtype).eps) if y.dtype.kind == "f" else DOUBLE
        self.eps, self.y_shape = max(self.eps_x, self.eps_y), y.shape
        return y

    def gradients(self, dy: FloatArray, forward_first: bool = True) -> Gradients:
        """Return the gradient of every leaf; stop if backward changes dy or an input.

        A backward may use what the forward pass before it has saved, as layers do.
        """
        if forward_first:
            self.value()
        dys = self.like_output(dy)
        results = self._by_leaf(self._call("backward", dys))
        (names, after), before = zip(*leaves_of(dys, "dy"), strict=True), self.like_output(dy)
        _require_unchanged("backward", names, after, [a for _, a in leaves_of(before)])
        self.returned = {leaf: results[leaf.place] for leaf in self.leaves}
        found = {a: None if g is None else np.array(to_numpy(g)) for a, g in self.returned.items()}
        for leaf, g in found.items():  # of a complex number it may well be real
            found[leaf] = as_real(g + 0j) if leaf.pairs and g is not None else g
        return found

    def tangent(self, v: FloatArray) -> FloatArray:
        """Return the derivative of the outputs along v, as a jvp has it."""
        tangents = self._nest.arguments(v, self.dtype, constants=False)
        return np.array(self._output(self._call("jvp", tuple(self._nest.rebuild(tangents)))))

    def _call(self, who: str, *first: Any) -> Any:
        """Call forward, backward or jvp here; stop if it changes an input."""
        nest, functions = self._nest, self.functions
        arguments, before = (nest.arguments(self.x, self.dtype) for _ in range(2))
        function = functions.backward if first else functions.forward
        result = functions.call(function, *first, *nest.rebuild(arguments))
        _require_unchanged(who, [name for name, _ in nest.named], arguments, before)
        return result

    def evaluate(self, moved: Mapping[Leaf, FloatArray], complex_step: bool = False) -> FloatArray:
        """Return forward with the coordinates of some leaves replaced.

        What did not move is the same objects in every call, which a forward may profit from.
        """
        self.functions.evaluations += 1
        if complex_step not in self._base:
            x = self.x.astype(complex) if complex_step else self.x
            self._base[complex_step] = self._nest.arguments(x, self.dtype)
        arguments = list(self._base[complex_step])
        for leaf, a in moved.items():
            arguments[leaf.place] = self._nest.argument(leaf, a.reshape(leaf.shape), self.dtype)
        result = self.functions.call(self.functions.forward, *self._nest.rebuild(arguments))
        return self._output(result, complex_step)

    def _by_leaf(self, result: Any) -> list[Any]:
        """Return the gradient of each leaf, None where there is none.

        One alone may come without a tuple around it, and constants may be left out altogether.
        """
        checked, count = {leaf.name for leaf in self.leaves}, len(self._parts)
        places = [k for k, part in enumerate(self._parts) if checked & {name for name, _ in part}]
        whole = list(result) if isinstance(result, (tuple, list)) else [result]
        if len(places) == 1 and len(whole) not in (1, count):
            whole = [result]
        if len(whole) == len(places):
            found = dict(zip(places, whole, strict=True))
            whole = [found.get(k) for k in range(count)]
        if len(whole) != count:
            what = f"{count}: one an input, None for an input that is not checked"
            raise Stop("shape", f"backward returned {len(whole)} gradients, expected {what}")
        names, leaves = self.functions.names, list[Any]()
        for name, part, g in zip(names, self._nest.tree, whole, strict=True):
            try:
                leaves += leaves_like(part, g, name)
            except ValueError as error:
                raise Stop("shape", f"the gradient of {name} is another nest: {error}") from None
        return leaves


def _require_unchanged(who: str, names: Any, after: Any, before: Any) -> None:
    for name, a, b in zip(names, after, before, strict=True):
        if hasattr(b, "shape"):
            a, b = to_numpy(a), to_numpy(b)
            if a.shape != b.shape or not np.array_equal(a, b, equal_nan=a.dtype.kind in "fc"):
                how = f"work on a copy ({name} = {name} * … instead of {name} *= …)"
                hint = f"{who} writes into its argument {name}: {how}"
                raise Stop("mutates-input", f"{who} changed {name}", hint)


def steps(eps: float) -> list[float]:
    """Return the steps of the ladder, relative to the size of the inputs."""
    if eps > HALF:
        return [2.0**-k for k in (1, 4)]
    return [2.0**-k for k in ((4, 7, 10) if eps > DOUBLE else (10, 13, 16, 19, 22, 25, 28))]


class Direction:
    """A direction in the space of coordinates: ``v`` at those of ``leaves`` that are ``where``.

    It is rounded so that ``x + t v`` is exact for every t on the ladder: ``h v`` is a multiple of
    the spacing of numbers around x for the smallest step h. An infinite input stays. Derivatives
    along it are divided by ``unit``, the length of what stands for one coordinate.
    """

    def __init__(self, problem: Problem, leaves: list[Leaf], where: Any, v: Any, unit: float = 1.0):
        self._x, self.leaves, self.where, self.unit = problem.x, leaves, where, unit
        finite = np.isfinite(x := problem.x[where])
        grid = np.spacing(2 * np.where(finite, np.abs(x) + np.abs(v), 1)) * (problem.eps / DOUBLE)
        grid = grid / (steps(problem.eps)[-1] / 4)  # the noise is measured below the last rung
        self.v: FloatArray = np.where(finite, np.round(v / grid), 0) * grid

    def moved(self, t: complex) -> dict[Leaf, Any]:
        """Return the coordinates of its leaves at ``x + t v``."""
        x: Any = self._x.astype(complex) if isinstance(t, complex) else self._x.copy()
        x[self.where] += t * self.v
        return {leaf: leaf.of(x) for leaf in self.leaves}

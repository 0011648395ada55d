"""Nests of tuples, lists and dicts, and the real numbers in them in a row: their *coordinates*.

Everything that is differentiated is computed with as one vector in float64; leaves say whose its
parts are. Complex numbers are pairs of real ones along a last axis, so that their gradient,
dL/dRe + i dL/dIm as in PyTorch, is that of the pairs.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

import array_api_compat
import numpy as np

from tinyconv.backend import Values, to_numpy
from tinyconv.errors import DtypeError

FloatArray: TypeAlias = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True, eq=False)
class Leaf:
    """One differentiated array or number of a nest, and its part of the coordinates."""

    name: str
    place: int  #: among all leaves of the nest
    part: slice
    shape: tuple[int, ...]  #: in real numbers
    dtype: np.dtype[Any]  #: of these, as given
    pairs: bool  #: whether it is complex
    size: int

    def of(self, x: Values) -> Values:
        """Return its own part of a vector, in its shape."""
        return x[self.part].reshape(self.shape)

    def scale(self, x: Values) -> float:
        """Return the size of its own part of a vector, see :func:`scale_of`."""
        return scale_of(self.of(x))

    def index(self, k: int) -> tuple[int, ...]:
        """Return where in it coordinate k is."""
        return tuple(int(n) for n in np.unravel_index(k - self.part.start, self.shape))


class Nest:
    """A nest and its coordinates ``x``; ``asarray`` makes arrays of the caller's library.

    Raises:
        DtypeError: a leaf holds bfloat16 or numbers of 8 bits, which tell no derivative; or it is a
            matrix or a masked array.
    """

    def __init__(self, tree: Any, named: list[tuple[str, Any]], asarray: Callable[[Values], Any]):
        self.tree, self.named, self._asarray = tree, named, asarray
        self.leaves: list[Leaf] = []
        self.constants: list[Any] = []  #: all other leaves, None in the places of these
        numbers, start = [np.zeros(0)], 0
        for place, (name, given) in enumerate(named):
            a = _taken(name, given)
            is_number = isinstance(a, np.ndarray) and a.dtype.kind in "fc"
            self.constants.append(None if is_number else a)
            if is_number:
                pairs, a = a.dtype.kind == "c", as_real(a)
                part = slice(start, start := start + a.size)
                self.leaves.append(Leaf(name, place, part, a.shape, a.dtype, pairs, a.size))
                numbers.append(a.reshape(-1))
        self.x: FloatArray = np.concatenate(numbers, dtype=np.float64)

    def arguments(self, x: Values, dtype: Any = None, constants: bool = True) -> list[Any]:
        """Return fresh leaves for other coordinates; None for constants, if they are left out."""
        others = self.constants if constants else [None] * len(self.constants)
        copies = (a.copy() if isinstance(a, np.ndarray) else a for a in others)
        found = [self.like(place, a) for place, a in enumerate(copies)]
        for leaf in self.leaves:
            found[leaf.place] = self.argument(leaf, leaf.of(x), dtype)
        return found

    def argument(self, leaf: Leaf, a: Values, dtype: Any = None) -> Any:
        """Return real numbers as one of the leaves, of another dtype perhaps; so complex ones."""
        dtype = np.dtype(dtype or leaf.dtype)
        dtype = np.result_type(dtype, np.complex64) if a.dtype.kind == "c" else dtype
        a = a.astype(dtype)
        if leaf.pairs:
            pairs = np.complex128 if dtype == np.float64 else np.complex64
            a = np.asarray(np.ascontiguousarray(a).view(pairs)[..., 0])
        return self.like(leaf.place, a)

    def like(self, place: int, a: Any) -> Any:
        """Return an array as what was given in a place: an array of the library, or a number."""
        given = self.named[place][1]
        if not isinstance(a, np.ndarray) or isinstance(given, np.generic):
            return a[()] if isinstance(a, np.ndarray) else a
        return self._asarray(a) if hasattr(given, "shape") else a.item()

    def rebuild(self, leaves: list[Any]) -> Any:
        """Return a nest like this of other leaves."""
        return rebuild(self.tree, iter(leaves))


def _taken(name: str, given: Any) -> Any:
    """Return a leaf as a NumPy array of its own, what holds no numbers of ours as it is."""
    dtype = str(getattr(given, "dtype", ""))
    if "bfloat16" in dtype or "float8" in dtype or "float4" in dtype:
        raise DtypeError(
            f"check: {name} is {dtype}, whose few digits tell no derivative: pass it as float32"
        )
    if isinstance(given, (np.matrix, np.ma.MaskedArray)):
        what = f"{name} is a {type(given).__name__}"
        raise DtypeError(f"check: {what}, which computes by rules of its own: pass an array")
    if array_api_compat.is_array_api_obj(given) or isinstance(given, (float, complex)):
        return np.array(to_numpy(given))
    return given


def as_real(a: Values) -> Values:
    """Return complex numbers as pairs along a last axis, others as they are."""
    return np.stack([a.real, a.imag], axis=-1) if a.dtype.kind == "c" else a


def leaves_of(tree: Any, name: str = "") -> list[tuple[str, Any]]:
    """Return the leaves of a nest, each with its name, which is an expression of Python.

    >>> leaves_of({"w": 1, "b": (2, 3)}, "p")
    [("p['w']", 1), ("p['b'][0]", 2), ("p['b'][1]", 3)]
    """
    parts = dict(enumerate(tree)) if isinstance(tree, (tuple, list)) else tree
    if not isinstance(parts, dict):
        return [(name, tree)]
    return [leaf for key, part in parts.items() for leaf in leaves_of(part, f"{name}[{key!r}]")]


def rebuild(tree: Any, leaves: Iterator[Any]) -> Any:
    """Return a nest like ``tree`` of other leaves.

    >>> rebuild({"w": 1, "b": (2, 3)}, iter("abc"))
    {'w': 'a', 'b': ('b', 'c')}
    """
    if isinstance(tree, dict):
        return {key: rebuild(part, leaves) for key, part in tree.items()}
    if isinstance(tree, (tuple, list)):
        parts = [rebuild(part, leaves) for part in tree]
        return type(tree)(*parts) if hasattr(tree, "_fields") else type(tree)(parts)
    return next(leaves)


def leaves_like(tree: Any, other: Any, name: str = "") -> list[Any]:
    """Return the leaves of ``other``, a nest like ``tree``; it may be None in parts.

    Raises:
        ValueError: ``other`` has another structure.

    >>> leaves_like({"w": 1, "b": (2, 3)}, {"w": None, "b": ("x", "y")})
    [None, 'x', 'y']
    """
    names, found = [n for n, _ in leaves_of(tree, name)], dict(leaves_of(other, name))
    none = tuple(n for n, leaf in found.items() if leaf is None)
    have = [n for n in found if n not in none]
    if not set(have) <= set(names) or not all(n in have or n.startswith(none) for n in names):
        raise ValueError(f"{', '.join(have) or 'nothing'}, expected {', '.join(names)}")
    return [found.get(n) for n in names]


def largest(a: Any) -> float:
    """Return the largest finite absolute value, 0 for no elements."""
    return float(np.max(np.abs(a), where=np.isfinite(a), initial=0.0))


def length(a: Any) -> float:
    """Return the Euclidean norm, also of numbers whose squares overflow or vanish.

    >>> round(length(np.array([3e200, 4e200])) / 1e200, 9), length(np.zeros(2))
    (5.0, 0.0)
    """
    top = float(np.max(np.abs(a), initial=0.0))
    return top * float(np.linalg.norm(a / top)) if 0 < top < math.inf else top


def scale_of(x: Any) -> float:
    """Return the rms of a tensor's elements, or 1 where steps beside it would be subnormal."""
    if not (top := largest(x)) > 1e-280:
        return 1.0
    finite = x[np.isfinite(x)].astype(np.float64)
    return top * float(np.sqrt(np.mean(np.square(finite / top))))

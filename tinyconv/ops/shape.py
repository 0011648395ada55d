"""Padding, cropping and changing the shape: nothing is computed, elements only move.

The backward of each is its transpose: what was copied to several places adds up, what was cut
away gets zeros.
"""

import math
from types import ModuleType
from typing import NamedTuple

from tinyconv.backend import Array, floating, table
from tinyconv.errors import ShapeError
from tinyconv.geometry import Geometry, Pairs, Sides, spread_pairs
from tinyconv.ops.checks import incoming


class PadSaved(NamedTuple):
    """What the forward pass of padding keeps: nothing but sizes."""

    shape: tuple[int, ...]  #: of x
    padding: Pairs
    mode: str


class CropSaved(NamedTuple):
    """What the forward pass of cropping keeps: nothing but sizes."""

    shape: tuple[int, ...]  #: of x
    inside: tuple[slice, ...]


def pad(
    x: Array,
    padding: Sides,
    *,
    mode: str = "zeros",
    value: float = 0.0,
) -> tuple[Array, PadSaved]:
    """Put elements around each plane.

    The modes, for the elements a b c d with two more on each side (names are PyTorch's):

        zeros      . . a b c d . .     ``value``, 0 by default
        reflect    c b a b c d c b     mirrored, the end itself not repeated
        replicate  a a a b c d d d     the end again and again
        circular   c d a b c d a b     from the other end

    Args:
        x: (N, C, *size), floating-point.
        padding: how many, for all axes or for each: an integer or a (before, after) pair.
        mode: one of the above.
        value: of the padding in mode "zeros".

    Returns:
        y (N, C, *padded size) and what :func:`pad_backward` needs.

    Raises:
        ShapeError: x has no plane, the padding is negative, the mode unknown, or the input too
            small: "reflect" takes at most size - 1, "circular" at most size, from one side.

    >>> import numpy as np
    >>> pad(np.array([[[1.0, 2.0, 3.0]]]), 2, mode="reflect")[0]
    array([[[3., 2., 1., 2., 3., 2., 1.]]])
    """
    return pad_planes("pad", x, padding, mode, value)


def pad_backward(dy: Array, saved: PadSaved) -> Array:
    """Backpropagate through :func:`pad`: every copy adds its dy to the element it was made of.

    >>> import numpy as np
    >>> y, saved = pad(np.array([[[1.0, 2.0, 3.0]]]), 1, mode="replicate")
    >>> pad_backward(np.array([[[10.0, 1.0, 2.0, 3.0, 20.0]]]), saved)
    array([[[11.,  2., 23.]]])
    """
    shape, pairs, mode = saved
    size = shape[2:]
    padded = tuple(n + lo + hi for n, (lo, hi) in zip(size, pairs, strict=True))
    xp = incoming("pad_backward", dy, (*shape[:2], *padded))
    if mode == "zeros":
        return xp.asarray(dy[:, :, *_inside(size, pairs)], copy=True)
    for axis, (n, (lo, hi)) in enumerate(zip(size, pairs, strict=True)):
        before = (slice(None),) * (axis + 2)
        dx = xp.asarray(dy[*before, lo : lo + n, ...], copy=True)
        sources = pad_sources("pad_backward", mode, axis, n, lo, hi)
        for place in [*range(lo), *range(lo + n, lo + n + hi)]:
            dx[*before, sources[place], ...] += dy[*before, place, ...]
        dy = dx
    return dy


def crop(x: Array, cropping: Sides) -> tuple[Array, CropSaved]:
    """Cut elements off around each plane: ``y = x[:, :, before:-after, ...]``.

    Args:
        x: (N, C, *size), floating-point.
        cropping: how many, for all axes or for each: an integer or a (before, after) pair.

    Returns:
        y (N, C, *what is left) and what :func:`crop_backward` needs.

    Raises:
        ShapeError: x has no plane, the cropping is negative, or nothing would be left.

    >>> import numpy as np
    >>> crop(np.array([[[1.0, 2.0, 3.0, 4.0]]]), ((2, 1),))[0]
    array([[[3.]]])
    """
    xp = floating("crop", x=x)
    size = _planes("crop", x)
    pairs = spread_pairs("crop", "cropping", cropping, len(size))
    for axis, (n, (lo, hi)) in enumerate(zip(size, pairs, strict=True)):
        if lo + hi >= n:
            raise ShapeError(
                f"crop: cropping takes {lo} + {hi} elements of axis {axis}, expected fewer than "
                f"its size {n}"
            )
    inside = tuple(slice(lo, n - hi) for n, (lo, hi) in zip(size, pairs, strict=True))
    return xp.asarray(x[:, :, *inside], copy=True), CropSaved(tuple(x.shape), inside)


def crop_backward(dy: Array, saved: CropSaved) -> Array:
    """Backpropagate through :func:`crop`: dy in the middle, zeros around it.

    >>> import numpy as np
    >>> y, saved = crop(np.array([[[1.0, 2.0, 3.0, 4.0]]]), ((2, 1),))
    >>> crop_backward(np.array([[[5.0]]]), saved)
    array([[[0., 0., 5., 0.]]])
    """
    shape, inside = saved
    left = tuple(s.stop - s.start for s in inside)
    xp = incoming("crop_backward", dy, (*shape[:2], *left))
    dx = xp.zeros(shape, dtype=dy.dtype, device=dy.device)
    dx[:, :, *inside] = dy
    return dx


def flatten(x: Array) -> tuple[Array, tuple[int, ...]]:
    """Make one row of each sample, in row-major order.

    Args:
        x: (N, ...), floating-point.

    Returns:
        y (N, the product of the other axes), a view of x where the library can, and the shape
            of x.

    Raises:
        ShapeError: x has no axes.

    >>> import numpy as np
    >>> y, shape = flatten(np.zeros((2, 3, 4)))
    >>> y.shape, shape
    ((2, 12), (2, 3, 4))
    """
    return _reshape("flatten", x, (-1,))


def flatten_backward(dy: Array, shape: tuple[int, ...]) -> Array:
    """Backpropagate through :func:`flatten`: dy in the shape of x.

    >>> import numpy as np
    >>> flatten_backward(np.zeros((2, 12)), (2, 3, 4)).shape
    (2, 3, 4)
    """
    xp = incoming("flatten_backward", dy, (shape[0], math.prod(shape[1:])))
    return xp.reshape(dy, shape)


def reshape(
    x: Array, shape: tuple[int, ...]
) -> tuple[Array, tuple[tuple[int, ...], tuple[int, ...]]]:
    """Give each sample another shape, in row-major order.

    Args:
        x: (N, ...), floating-point.
        shape: of one sample of y; one entry may be -1 and is inferred.

    Returns:
        y (N, *shape), a view of x where the library can, and the shapes of x and y.

    Raises:
        ShapeError: x has no axes, or a sample does not have as many elements as the shape.

    >>> import numpy as np
    >>> y, (x_shape, y_shape) = reshape(np.zeros((2, 3, 4)), (2, -1))
    >>> x_shape, y_shape
    ((2, 3, 4), (2, 2, 6))
    """
    y, x_shape = _reshape("reshape", x, shape)
    return y, (x_shape, tuple(y.shape))


def reshape_backward(dy: Array, saved: tuple[tuple[int, ...], tuple[int, ...]]) -> Array:
    """Backpropagate through :func:`reshape`: dy in the shape of x.

    >>> import numpy as np
    >>> reshape_backward(np.zeros((2, 2, 6)), ((2, 3, 4), (2, 2, 6))).shape
    (2, 3, 4)
    """
    x_shape, y_shape = saved
    xp = incoming("reshape_backward", dy, y_shape)
    return xp.reshape(dy, x_shape)


def pad_planes(
    op: str,
    x: Array,
    padding: Sides,
    mode: str,
    value: float = 0.0,
) -> tuple[Array, PadSaved]:
    """Pad as :func:`pad` does, on behalf of ``op``, whose name the error messages bear."""
    xp = floating(op, x=x)
    size = _planes(op, x)
    pairs = spread_pairs(op, "padding", padding, len(size))
    if mode not in ("zeros", "reflect", "replicate", "circular"):
        raise ShapeError(
            f"{op}: padding mode is {mode!r}, expected 'zeros', 'reflect', 'replicate' or "
            "'circular'"
        )
    saved = PadSaved(tuple(x.shape), pairs, mode)
    if mode == "zeros":
        shape = (*x.shape[:2], *(n + lo + hi for n, (lo, hi) in zip(size, pairs, strict=True)))
        y = xp.full(shape, value, dtype=x.dtype, device=x.device)
        y[:, :, *_inside(size, pairs)] = x
        return y, saved
    y = xp.asarray(x, copy=True)
    for axis, (n, (lo, hi)) in enumerate(zip(size, pairs, strict=True)):
        if lo or hi:
            source = table(x, pad_sources, op, mode, axis, n, lo, hi)
            y = xp.take(y, source, axis=axis + 2)
    return y, saved


def _reshape(op: str, x: Array, shape: tuple[int, ...]) -> tuple[Array, tuple[int, ...]]:
    xp = floating(op, x=x)
    if x.ndim == 0:
        raise ShapeError(f"{op}: x has shape (), expected (N, ...)")
    # Worked out here and not left to the library: -1 of an empty batch is undefined there.
    sample = math.prod(x.shape[1:])
    known = math.prod(s for s in shape if s != -1)
    inferred = sample // known if known > 0 else 0
    full = tuple(inferred if s == -1 else s for s in shape)
    if shape.count(-1) > 1 or any(s < 0 for s in full) or math.prod(full) != sample:
        raise ShapeError(
            f"{op}: shape is {shape}, expected {sample} elements because x has shape "
            f"{tuple(x.shape)}"
        )
    return xp.reshape(x, (x.shape[0], *full)), tuple(x.shape)


def _planes(op: str, x: Array) -> tuple[int, ...]:
    """Return the size of the planes of x."""
    if x.ndim < 3:
        raise ShapeError(f"{op}: x has shape {tuple(x.shape)}, expected (N, C, *size)")
    return tuple(x.shape[2:])


def _inside(size: tuple[int, ...], pairs: Pairs) -> tuple[slice, ...]:
    return tuple(slice(lo, lo + n) for n, (lo, _) in zip(size, pairs, strict=True))


def pad_sources(op: str, mode: str, axis: int, n: int, lo: int, hi: int) -> list[int]:
    """Return for each place along a padded axis the index of the element it is a copy of.

    Args:
        op: whose name an error message bears.
        mode: ``"reflect"``, ``"replicate"`` or ``"circular"``.
        axis: its number, for the message.
        n: elements of the axis.
        lo: places before them.
        hi: places behind them.

    Raises:
        ShapeError: there are too few elements.

    >>> pad_sources("pad", "circular", 0, 3, 1, 2)
    [2, 0, 1, 2, 0, 1]
    """
    _check_copies(op, mode, axis, n, lo, hi)
    places = range(-lo, n + hi)
    if mode == "reflect":
        return [n - 1 - abs(n - 1 - abs(i)) for i in places]
    if mode == "replicate":
        return [min(max(i, 0), n - 1) for i in places]
    return [i % n for i in places]


def _check_copies(op: str, mode: str, axis: int, n: int, lo: int, hi: int) -> None:
    """Check that there is an element for every place beside an axis."""
    # Replicating needs an element, reflecting one more than it copies.
    most = {"reflect": n - 1, "replicate": lo + hi if n else 0, "circular": n}[mode]
    if max(lo, hi) > most:
        raise ShapeError(
            f"{op}: padding is {lo} + {hi} on axis {axis}, expected at most {most} on each side "
            f"because mode {mode!r} has {n} elements to copy"
        )


def padded_shape(shape: tuple[int, ...], padding: Sides, mode: str) -> tuple[int, ...]:
    """Return the shape that :func:`pad` gives an array (N, C, *size), without listing its places.

    Raises:
        ShapeError: as of :func:`pad`.

    >>> padded_shape((5, 3, 8, 8), ((1, 2), (0, 10**9)), "replicate")
    (5, 3, 11, 1000000008)
    """
    if len(shape) < 3:
        raise ShapeError(f"pad: x has shape {shape}, expected (N, C, *size)")
    pairs = spread_pairs("pad", "padding", padding, len(shape) - 2)
    for axis, (n, (lo, hi)) in enumerate(zip(shape[2:], pairs, strict=True)):
        if mode != "zeros" and (lo or hi):
            _check_copies("pad", mode, axis, n, lo, hi)
    sizes = (n + lo + hi for n, (lo, hi) in zip(shape[2:], pairs, strict=True))
    return (*shape[:2], *sizes)


def pad_for(xp: ModuleType, x: Array, geometry: Geometry, value: float) -> Array:
    """Return x with ``value`` around each plane; x itself where there is no padding."""
    if not geometry.is_padded:
        return x
    shape = (*x.shape[:2], *geometry.padded)
    padded = xp.full(shape, value, dtype=x.dtype, device=x.device)
    padded[:, :, *geometry.inside] = x
    return padded

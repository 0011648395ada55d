r"""Resizing planes by interpolation, as ONNX's operator Resize defines it.

Along one axis of n elements, element p of the m that come out stands for a point h of the axis, and
is a weighted sum of the elements around it,

    y[p] = sum_i w[p, i] x[i],    w[p, i] = k((h[p] - i) s) / Z[p]

with a kernel k: linear, 1 - |t| up to |t| = 1, or cubic. s is 1, or min(1, m / n) where detail that
is finer than the output can hold is to be smoothed away ("antialias"). What the kernel finds beyond
the ends counts for the element at the end, or not at all, and Z makes the weights add up to 1.
Several axes
are resized one after the other. The matrix w does not depend on x, so that backward is w
transposed.

Source: Keys, "Cubic convolution interpolation for digital image processing" (1981); ONNX, Resize.
"""

import math
from collections.abc import Callable
from fractions import Fraction
from functools import lru_cache
from typing import NamedTuple

from tinyconv.backend import Array, floating, namespace, table
from tinyconv.errors import ArgumentError, ShapeError
from tinyconv.geometry import Sizes, spread
from tinyconv.ops.checks import incoming

#: For each element of the output along an axis, the (place in the input, weight) of its terms.
Taps = tuple[tuple[tuple[int, float], ...], ...]

HALF = Fraction(1, 2)

#: Name -> the element that a point between two elements is rounded to.
ROUNDINGS: dict[str, Callable[[Fraction], int]] = {
    "round_prefer_floor": lambda h: math.ceil(h - HALF),
    "round_prefer_ceil": lambda h: math.floor(h + HALF),
    "floor": math.floor,
    "ceil": math.ceil,
}

#: Name -> the point of n elements that element p of m stands for; m is about n times the scale.
COORDINATES: dict[str, Callable[[int, int, int, Fraction], Fraction]] = {
    "half_pixel": lambda p, n, m, scale: (p + HALF) / scale - HALF,
    "half_pixel_symmetric": lambda p, n, m, scale: (p + HALF - HALF * m) / scale + HALF * (n - 1),
    "pytorch_half_pixel": lambda p, n, m, scale: (p + HALF) / scale - HALF if m > 1 else -HALF,
    "align_corners": lambda p, n, m, scale: p * Fraction(n - 1) / (n * scale - 1 if m > 1 else 1),
    "asymmetric": lambda p, n, m, scale: p / scale,
}


class ResizeSaved(NamedTuple):
    """What the forward pass keeps: nothing but places and weights."""

    shape: tuple[int, ...]  #: of x
    taps: tuple[Taps, ...]  #: of each axis behind the channels


def resize(
    x: Array,
    size: Sizes,
    *,
    mode: str = "linear",
    coordinates: str = "half_pixel",
    rounding: str = "round_prefer_floor",
    scales: tuple[float, ...] | None = None,
    cubic_coeff: float = -0.75,
    exclude_outside: bool = False,
    antialias: bool = False,
    region: tuple[tuple[float, float], ...] | None = None,
    value: float = 0.0,
) -> tuple[Array, ResizeSaved]:
    """Resize the axes behind the channels; see the top of this file for the equation.

    Args:
        x: (N, C, *axes), floating-point.
        size: of the output, an integer for all axes or for each.
        mode: "nearest", "linear" or "cubic".
        coordinates: which point h of n elements the element p of m stands for: "half_pixel",
            (p + 1/2) n/m - 1/2; "half_pixel_symmetric", the same about the middle;
            "pytorch_half_pixel", the same but -1/2 where m is 1; "align_corners",
            p (n - 1) / (m - 1); "asymmetric", p n/m.
        rounding: of h in mode "nearest": "round_prefer_floor", "round_prefer_ceil", "floor" or
            "ceil".
        scales: what takes the place of m/n for each axis, where a size was rounded.
        cubic_coeff: the slope of the cubic kernel at 1.
        exclude_outside: whether what lies beyond the ends has the weight 0.
        antialias: whether the kernel is stretched where the output is smaller.
        region: for each axis a (start, end), from 0 to 1 within x, whose corners are those of the
            output; "coordinates" then says nothing.
        value: of elements that stand for a point outside x, with a region.

    Returns:
        y (N, C, *size) and what :func:`resize_backward` needs.

    Raises:
        ShapeError: x has no axes behind the channels or no elements, or size, scales or region are
            not one for each axis.
        ArgumentError: an unknown name.

    >>> import numpy as np
    >>> x = np.array([[[0.0, 4.0]]])
    >>> resize(x, 4)[0], resize(x, 4, mode="nearest")[0]
    (array([[[0., 1., 3., 4.]]]), array([[[0., 0., 4., 4.]]]))
    """
    xp = floating("resize", x=x)
    if x.ndim < 3 or 0 in x.shape[2:]:
        raise ShapeError(f"resize: x has shape {tuple(x.shape)}, expected (N, C, *axes)")
    known = {"mode": ("nearest", *KERNELS), "coordinates": COORDINATES, "rounding": ROUNDINGS}
    for name, given in (("mode", mode), ("coordinates", coordinates), ("rounding", rounding)):
        if given not in known[name]:
            raise ArgumentError(f"resize: {name} is {given!r}, expected {', '.join(known[name])}")
    axes = x.ndim - 2
    target = spread("resize", "size", size, axes, least=1)
    if len(scales or target) != axes or len(region or target) != axes:
        raise ShapeError(
            f"resize: scales are {scales} and region is {region}, expected one for each of the "
            f"{axes} axes behind the channels"
        )
    taps = tuple(
        axis_taps(
            *(n, m, mode, coordinates, rounding),
            None if scales is None else Fraction(scales[axis]),
            *(cubic_coeff, exclude_outside, antialias),
            None if region is None else tuple(map(Fraction, region[axis])),
        )
        for axis, (n, m) in enumerate(zip(x.shape[2:], target, strict=True))
    )
    y = resample(x, taps)
    for axis, along in enumerate(taps, start=2):
        beside = tuple(-1 if other == axis else 1 for other in range(x.ndim))
        is_outside = xp.reshape(table(x, _outside, along), beside)
        y = xp.where(is_outside, xp.full_like(y, value), y)
    return y, ResizeSaved(tuple(x.shape), taps)


def resize_backward(dy: Array, saved: ResizeSaved) -> Array:
    """Backpropagate through :func:`resize`: ``dx[i] = sum_p w[p, i] dy[p]`` along each axis.

    >>> import numpy as np
    >>> y, saved = resize(np.array([[[0.0, 4.0]]]), 4)
    >>> resize_backward(np.array([[[0.0, 4.0, 8.0, 1.0]]]), saved)
    array([[[5., 8.]]])
    """
    return send_back("resize_backward", dy, saved)


def resample(x: Array, taps: tuple[Taps, ...]) -> Array:
    """Return the weighted sums along the axes behind the channels, one axis after the other.

    >>> import numpy as np
    >>> resample(np.array([[[1.0, 2.0]]]), ((((1, 10.0),), ((0, 1.0), (1, 1.0))),))
    array([[[20.,  3.]]])
    """
    xp = namespace("resample", x=x)
    for axis, along in enumerate(taps, start=2):
        beside = tuple(-1 if other == axis else 1 for other in range(x.ndim))
        total: Array = None
        for term in range(max(1, *map(len, along))):
            weights = xp.reshape(xp.astype(table(x, _weights, along, term), x.dtype), beside)
            part = xp.take(x, table(x, _places, along, term), axis=axis)
            if any(len(terms) <= term or terms[term][1] != 1 for terms in along):
                part = xp.where(weights == 0, xp.zeros_like(part), weights * part)
            total = part if total is None else total + part
        x = total
    return x


def send_back(op: str, dy: Array, saved: ResizeSaved) -> Array:
    """Return what :func:`resample` sends back, on behalf of ``op``."""
    shape, taps = saved
    xp = incoming(op, dy, (*shape[:2], *map(len, taps)))
    for axis, along in enumerate(taps, start=2):
        smaller = (*dy.shape[:axis], shape[axis], *dy.shape[axis + 1 :])
        dx = xp.zeros(smaller, dtype=dy.dtype, device=dy.device)
        before = (slice(None),) * axis
        for p, terms in enumerate(along):
            for place, weight in terms:
                dx[*before, place, ...] += weight * dy[*before, p, ...]
        dy = dx
    return dy


# A place with fewer terms takes any element with the weight 0, and leaves it out.


def _places(along: Taps, term: int) -> list[int]:
    return [terms[term][0] if term < len(terms) else 0 for terms in along]


def _weights(along: Taps, term: int) -> list[float]:
    return [terms[term][1] if term < len(terms) else 0.0 for terms in along]


def _outside(along: Taps) -> list[bool]:
    return [not terms for terms in along]


def _cubic(t: float, a: float) -> float:
    t = abs(t)
    if t <= 1:
        return ((a + 2) * t - (a + 3)) * t * t + 1
    return a * (((t - 5) * t + 8) * t - 4) if t < 2 else 0.0


#: Mode -> the kernel k, and how far it reaches.
KERNELS: dict[str, tuple[Callable[[float, float], float], int]] = {
    "linear": (lambda t, a: max(0.0, 1 - abs(t)), 1),
    "cubic": (_cubic, 2),
}


@lru_cache(maxsize=256)
def axis_taps(
    n: int,
    m: int,
    mode: str,
    coordinates: str,
    rounding: str = "floor",
    scale: Fraction | None = None,
    cubic_coeff: float = -0.75,
    exclude_outside: bool = False,
    antialias: bool = False,
    region: tuple[Fraction, ...] | None = None,
) -> Taps:
    """Return what m elements are made of n; points are fractions, so that no rounding moves one.

    The arguments are those of :func:`resize` for one axis. Weights of 0 are left out.

    >>> axis_taps(2, 3, "linear", "align_corners")
    (((0, 1.0),), ((0, 0.5), (1, 0.5)), ((1, 1.0),))
    """
    scale = Fraction(m, n) if scale is None else scale
    stretch = min(1.0, float(scale)) if antialias else 1.0
    taps: list[tuple[tuple[int, float], ...]] = []
    for p in range(m):
        if region is None:
            h = COORDINATES[coordinates](p, n, m, scale)
        else:
            start, end = region
            share = p / (n * scale - 1) if m > 1 else HALF
            h = (start + share * (end - start)) * (n - 1)
            if not 0 <= h <= n - 1:
                taps.append(())
                continue
        if mode == "nearest":
            taps.append(((min(max(ROUNDINGS[rounding](h), 0), n - 1), 1.0),))
            continue
        kernel, reach = KERNELS[mode]
        weights: dict[int, float] = {}
        for i in range(math.floor(h - reach / stretch), math.ceil(h + reach / stretch) + 1):
            if exclude_outside and not 0 <= i < n:
                continue
            place = min(max(i, 0), n - 1)
            weights[place] = weights.get(place, 0.0) + kernel(float(h - i) * stretch, cubic_coeff)
        total = sum(weights.values()) if antialias or exclude_outside else 1.0
        taps.append(tuple((place, weight / total) for place, weight in weights.items() if weight))
    return tuple(taps)

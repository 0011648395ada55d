"""Distorted copies of images: shifts, rotation, scaling, shear, elastic distortion.

:func:`distort` and :func:`shift` take a batch (N, C, H, W) and a key of :mod:`tinyconv.random`, and
give each image a distortion of its own; equal keys give equal ones. What lies outside an image is
0. A range is a pair (low, high); a number r stands for (-r, r), or for (1 - r, 1 + r) of a factor.

Source: Simard, Steinkraus and Platt, "Best practices for convolutional neural networks applied to
visual document analysis" (ICDAR 2003).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, TypeAlias

import numpy as np

from tinyconv import random
from tinyconv.arguments import Kind, Natural, NotNegative, Number, checked
from tinyconv.backend import Values
from tinyconv.data.splits import ByteImages
from tinyconv.errors import DtypeError, ShapeError

#: Beyond so many degrees, pixels, slopes or factors no image has numbers.
MOST = 1e6


@dataclass(frozen=True)
class _Interval:
    """A pair (low, high), or a number that stands for the numbers up to so far from ``around``."""

    around: float = 0.0

    @property
    def expected(self) -> str:
        """What is asked for."""
        return "(low, high) with low <= high" + " and low > 0" * bool(self.around)

    def take(self, value: Any) -> tuple[float, float]:
        """Return low and high."""
        number = Number(least=-MOST, most=MOST)
        if isinstance(value, tuple | list) and len(value) == 2:
            low, high = (number.take(each) for each in value)
        else:
            low, high = self.around - number.take(value), self.around + number.take(value)
        if low > high or (self.around and low <= 0):
            raise ValueError
        return float(low), float(high)


Range: TypeAlias = Annotated[float | tuple[float, float], _Interval()]
Factors: TypeAlias = Annotated[float | tuple[float, float], _Interval(around=1.0)]
Images: TypeAlias = Annotated[Values, Kind(np.ndarray, "a NumPy array (N, C, H, W)")]
Labels: TypeAlias = Annotated[Values, Kind(Sequence | np.ndarray, "an array (N,), or a list")]
Places: TypeAlias = Annotated[Values, Kind(np.ndarray, "a NumPy array (N, OH, OW)")]
Sigma: TypeAlias = Annotated[float, Number(above=0, most=1000)]

#: Down and right: the image itself and its four shifts by one pixel.
SHIFTS = ((0, 0), (1, 0), (-1, 0), (0, 1), (0, -1))


@checked
def move(x: Images, down: int, right: int) -> Values:
    """Move all images by whole pixels; what comes in is 0. Of any dtype.

    >>> move(np.array([[[[1, 2], [3, 4]]]]), 1, 0)[0, 0].tolist()
    [[0, 0], [1, 2]]
    """
    _check_axes("move", x)
    H, W = x.shape[2:]
    y = np.zeros_like(x)
    to_rows, from_rows = _overlap(down, H)
    to_columns, from_columns = _overlap(right, W)
    y[:, :, to_rows, to_columns] = x[:, :, from_rows, from_columns]
    return y


def _overlap(by: int, size: int) -> tuple[slice, slice]:
    """Return where ``size`` pixels moved ``by`` still lie inside, and where they came from."""
    by = max(-size, min(size, by))
    return slice(max(by, 0), size + min(by, 0)), slice(max(-by, 0), size - max(by, 0))


@checked
def expand(x: Images, y: Labels, key: int = 0) -> tuple[ByteImages, Values]:
    """Return each image and its four shifts by one pixel, shuffled once: the book's larger set.

    Args:
        x: (N, C, H, W), floating-point in [0, 1], or bytes.
        y: (N,), labels, or another target of each.
        key: fixes the order.

    Returns:
        The 5 N images, as bytes, and their labels.

    Raises:
        ShapeError: there are not as many labels as images.
        DataError: a value is outside [0, 1].

    Source: Nielsen, "Neural Networks and Deep Learning", chapter 6, "Expanding the training data".

    >>> images, labels = expand(np.ones((2, 1, 3, 3)), np.array([4, 7]))
    >>> images.shape, sorted(labels.tolist())
    ((10, 1, 3, 3), [4, 4, 4, 4, 4, 7, 7, 7, 7, 7])
    """
    _check_axes("expand", x)
    (labels,) = np.shape(y)[:1] or ("no",)
    if len(x) != labels:
        raise ShapeError(f"expand: y has {labels} labels, expected {len(x)}, one an image")
    pixels = (ByteImages(x) if x.dtype == np.uint8 else ByteImages.from_floats(x)).pixels
    order = random.permutation(random.key(key, "expand"), len(SHIFTS) * len(x))
    shuffled = np.empty((len(order), *pixels.shape[1:]), np.uint8)
    place = np.empty_like(order)  # where in the shuffled set each copy goes
    place[order] = np.arange(len(order))
    for number, (down, right) in enumerate(SHIFTS):
        first = number * len(x)
        shuffled[place[first : first + len(x)]] = move(pixels, down, right)
    return ByteImages(shuffled), np.concatenate([y] * len(SHIFTS))[order]


@checked
def sample(x: Images, rows: Places, columns: Places) -> Values:
    """Take images at fractional places, bilinearly interpolated; 0 outside, where NaN is too.

    Args:
        x: (N, C, H, W), floating-point.
        rows: (N, OH, OW), the row in x that each pixel of the result is taken from.
        columns: (N, OH, OW), its column.

    Returns:
        (N, C, OH, OW), of the dtype of x.

    Raises:
        ShapeError: x does not have four axes, or rows and columns no three or not as many images.
        DtypeError: x is not floating-point.

    >>> x = np.array([[[[0.0, 4.0], [8.0, 12.0]]]])
    >>> sample(x, np.array([[[0.5, 0.0]]]), np.array([[[0.5, 5.0]]]))[0, 0].tolist()
    [[6.0, 0.0]]
    """
    _check("sample", x)
    N, C, H, W = x.shape
    if rows.shape != columns.shape or rows.ndim != 3 or len(rows) != N:
        raise ShapeError(
            f"sample: rows has shape {rows.shape} and columns {columns.shape}, expected ({N}, OH, "
            "OW) both"
        )
    # A border of zeros, one pixel before and two after, makes every neighbour exist.
    padded = np.zeros((N, C, H + 3, W + 3), x.dtype)
    padded[:, :, 1 : H + 1, 1 : W + 1] = x
    fine = np.result_type(x, np.float32)  # half precision has no places between distant pixels
    down = np.fmin(np.fmax(rows, -1), H).astype(fine) + 1
    right = np.fmin(np.fmax(columns, -1), W).astype(fine) + 1
    i, j = down.astype(np.intp), right.astype(np.intp)
    down, right = down - i, right - j
    plane, width = (H + 3) * (W + 3), W + 3
    first = i * width + j + np.arange(N)[:, None, None] * (C * plane)
    flat = padded.reshape(-1)
    y = np.empty((N, C, *rows.shape[1:]), x.dtype)
    for c in range(C):
        at = first + c * plane
        above = flat[at] + right * (flat[at + 1] - flat[at])
        at += width
        below = flat[at] + right * (flat[at + 1] - flat[at])
        y[:, c] = above + down * (below - above)
    return y


@checked
def distort(
    x: Images,
    key: int,
    *,
    degrees: Range = (0.0, 0.0),
    factors: Factors = (1.0, 1.0),
    slopes: Range = (0.0, 0.0),
    pixels: Range = (0.0, 0.0),
    alpha: NotNegative = 0.0,
    sigma: Sigma = 4.0,
    normalized: bool = False,
) -> Values:
    """Scale, shear, rotate, shift and distort elastically, with a single interpolation.

    Alone, ``distort(x, key, degrees=20)`` rotates, and so for the others. A pixel at p from the
    centre moves to ``R K S p + t``: S scales both axes, K moves a pixel
    sideways by its height times the slope, R turns counterclockwise, t shifts. The elastic
    displacement is added to the place that a pixel is taken from.

    Args:
        x: (N, C, H, W), floating-point.
        key: fixes the distortions.
        degrees: range of the rotation.
        factors: range of the scale, drawn for height and width separately.
        slopes: range of the shear.
        pixels: range of the shift, drawn for both directions separately, fractions included.
        alpha: strength of the elastic distortion, 0 for none: both components of the displacement
            are uniform in (-1, 1), smoothed by a Gaussian, and multiplied by it.
        sigma: standard deviation of that Gaussian, whose sum is 1, in pixels.
        normalized: whether the field, before alpha, has the same norm for every image: the squares
            of all its numbers, of both components, sum to 1, as the paper says in between. For
            digits of 28 x 28 pixels its alpha of 34 and sigma of 4 then move a pixel up or down by
            about 0.9, else by 1.4.

    Returns:
        The distorted images, of the shape and dtype of x.

    Raises:
        ShapeError: x does not have four axes.
        ArgumentError: a range is upside down, a factor not positive, alpha negative, or sigma not
            above 0 and at most 1000.
        DtypeError: x is not floating-point.

    >>> x = np.zeros((1, 1, 3, 3)); x[0, 0, 0, 1] = 1
    >>> distort(x, 0, degrees=(90, 90))[0, 0].round(6).tolist()
    [[0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 0.0]]
    """
    _check("distort", x)
    N, _, H, W = x.shape
    ranges: dict[str, Any] = {"degrees": degrees, "height": factors, "width": factors}
    ranges |= {"slopes": slopes, "down": pixels, "right": pixels}
    # Uniform; each range has a stream of its own.
    angle, tall, wide, slope, down, right = (
        (low + (high - low) * random.uniform(random.key(key, name), N)).astype(np.float32)
        for name, (low, high) in ranges.items()
    )
    # Rows count downwards, so this turns counterclockwise as seen.
    cos, sin = np.cos(np.deg2rad(angle)), np.sin(np.deg2rad(angle))
    turn = np.array([[cos, -sin], [sin, cos]]).transpose(2, 0, 1)
    one, zero = np.ones(N), np.zeros(N)
    lean = np.array([[one, zero], [-slope, one]]).transpose(2, 0, 1)
    stretch = np.array([[tall, zero], [zero, wide]]).transpose(2, 0, 1)
    back = np.linalg.inv(turn @ lean @ stretch).astype(np.float32)
    middle = np.array([(H - 1) / 2, (W - 1) / 2], np.float32)
    row = np.arange(H, dtype=np.float32)[:, None] - middle[0] - down[:, None, None]
    column = np.arange(W, dtype=np.float32)[None] - middle[1] - right[:, None, None]
    rows = back[:, 0, 0, None, None] * row + back[:, 0, 1, None, None] * column + middle[0]
    columns = back[:, 1, 0, None, None] * row + back[:, 1, 1, None, None] * column + middle[1]
    if alpha:
        rng = random.generator(random.key(key, "elastic"))
        field = rng.random((N, 2, H, W), np.float32) * 2 - 1
        field = _gaussian(H, sigma) @ field @ _gaussian(W, sigma)
        if normalized:
            field /= np.sqrt(np.square(field).sum(axis=(1, 2, 3), keepdims=True))
        field *= np.float32(alpha)
        rows, columns = rows + field[:, 0], columns + field[:, 1]
    return sample(x, rows, columns)


@checked
def shift(x: Images, pixels: Natural, key: int) -> Values:
    """Move each image by whole pixels, -pixels to pixels down and as many across.

    >>> shift(np.ones((2, 1, 3, 3)), 0, key=1).min()
    np.float64(1.0)
    """
    _check_axes("shift", x)
    by = random.generator(random.key(key, "shift")).integers(-pixels, pixels + 1, (len(x), 2))
    y = np.empty_like(x)
    for n, (down, right) in enumerate(by.tolist()):
        y[n : n + 1] = move(x[n : n + 1], down, right)
    return y


def _gaussian(size: int, sigma: float) -> Values:
    """Return (size, size): the matrix that smooths a row of ``size`` numbers, 0 outside it."""
    reach = np.arange(-4 * int(np.ceil(sigma)), 4 * int(np.ceil(sigma)) + 1)
    distance = np.arange(size)[:, None] - np.arange(size)
    total = np.exp(-0.5 * (reach / sigma) ** 2).sum()
    weights: Values = np.exp(-0.5 * (distance / sigma) ** 2) / total
    return weights.astype(np.float32)


def _check(op: str, x: Values) -> None:
    if x.dtype.kind != "f":
        raise DtypeError(f"{op}: x has dtype {x.dtype}, expected a floating-point type")
    _check_axes(op, x)


def _check_axes(op: str, x: Values) -> None:
    if x.ndim != 4:
        raise ShapeError(f"{op}: x has shape {x.shape}, expected (N, C, H, W)")

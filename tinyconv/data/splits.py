"""What every data set is loaded into: three splits of inputs and labels, and the classes' names.

And what the readers of data of one's own return before it is numbered, split and scaled, and how
much memory a file may ask for, decided before any is taken.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any, NamedTuple

import array_api_compat.numpy as array_api_numpy
import numpy as np

from tinyconv import random
from tinyconv.arguments import Kind, checked
from tinyconv.backend import Values
from tinyconv.errors import DataError, DtypeError, ShapeError

ARRAY = Kind(np.ndarray, "an array (N, ...)")


class ByteImages:
    """Images in bytes that look like float32 images in [0, 1]: what is taken out is divided by 255.

    ``fit``, ``predict`` and ``evaluate`` take one wherever they take an array of samples.

    Args:
        pixels: (N, ...), uint8.

    Attributes:
        pixels: the bytes themselves.

    Raises:
        DtypeError: the pixels are not bytes.
        ShapeError: they have no axes.

    >>> images = ByteImages(np.full((3, 1, 2, 2), 51, np.uint8))
    >>> images.shape, images.dtype.name
    ((3, 1, 2, 2), 'float32')
    >>> images[np.array([2, 0])][0, 0]
    array([[0.2, 0.2],
           [0.2, 0.2]], dtype=float32)
    """

    dtype = np.dtype(np.float32)
    device = "cpu"

    @checked
    def __init__(self, pixels: Annotated[Values, ARRAY]) -> None:
        if pixels.dtype != np.uint8:
            raise DtypeError(f"ByteImages: pixels has dtype {pixels.dtype}, expected uint8")
        if pixels.ndim == 0:
            raise ShapeError("ByteImages: pixels has shape (), expected (N, ...)")
        self.pixels = pixels

    @classmethod
    @checked
    def from_floats(cls, x: Annotated[Values, ARRAY]) -> "ByteImages":
        """Round images in [0, 1] to bytes; exact for what was bytes before.

        Raises:
            DataError: a value is outside [0, 1].

        >>> ByteImages.from_floats(np.full((1, 1, 1, 1), 0.2)).pixels.item()
        51
        """
        if x.size and not (x.min() >= 0 and x.max() <= 1):
            raise DataError(
                f"ByteImages: values from {x.min()} to {x.max()}, expected them in [0, 1]"
            )
        return cls(np.rint(x * 255).astype(np.uint8))

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, ...)."""
        return tuple(self.pixels.shape)

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return self.pixels.ndim

    def __array_namespace__(self, *, api_version: str | None = None) -> ModuleType:
        """Answer as NumPy arrays do, so that checks of arrays accept the images."""
        return array_api_numpy

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Values:
        if copy is False:
            raise ValueError("ByteImages: an array of floats is always a copy")
        return self[:].astype(dtype or self.dtype, copy=False)

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, index: Any) -> np.ndarray[Any, np.dtype[np.float32]]:
        x: np.ndarray[Any, np.dtype[np.float32]] = self.pixels[index].astype(np.float32)
        x /= 255
        return x

    def __repr__(self) -> str:
        return f"ByteImages of shape {self.shape}"


DIGITS = tuple("0123456789")


class Split(NamedTuple):
    """Inputs and labels, unpacked as ``x, y = split``.

    ``x`` is float32 of shape (N, ...): (N, 1, 28, 28) for digits, (N, C, H, W) for pictures,
    (N, D) for rows of a table; ``y`` holds the class of each, int64 of shape (N,), or the numbers
    to be predicted, float32 of shape (N, K).
    """

    x: np.ndarray[Any, np.dtype[np.float32]]
    y: Values

    @classmethod
    def from_bytes(
        cls,
        images: np.ndarray[Any, np.dtype[np.uint8]],
        labels: np.ndarray[Any, np.dtype[np.uint8]],
    ) -> "Split":
        """Scale images (N, 28, 28) of bytes to one channel of [0, 1], and widen the labels.

        >>> images = np.full((2, 28, 28), 51, dtype=np.uint8)
        >>> x, y = Split.from_bytes(images, np.array([3, 7], dtype=np.uint8))
        >>> x.shape, x.dtype.name, round(float(x.max()), 4), y.dtype.name
        ((2, 1, 28, 28), 'float32', 0.2, 'int64')
        """
        return cls(ByteImages(images[:, np.newaxis])[:], labels.astype(np.int64))


@dataclass(frozen=True)
class DataSet:
    """Three splits, by name or unpacked: ``(x, y), (xv, yv), (xt, yt) = data``.

    Attributes:
        train: what a network learns from.
        validation: what is looked at while it learns.
        test: what is looked at once, at the end.
        class_names: the name of each class, in the order of the labels; none where numbers are to
            be predicted.
        source: where the data came from: a name or a path.
        kind: ``"digits"``, which ``tinyconv predict`` finds and centres in a photo as MNIST does;
            ``"pictures"``, which it takes as they are; or ``"numbers"``, which no picture holds.
        about: what the reader did with the data, for the report.

    >>> import tinyconv as tc
    >>> tc.data.load("mnist-sample")
    DataSet('mnist-sample': 3,500 / 500 / 1,000 samples of (1, 28, 28), 10 classes)
    """

    train: Split
    validation: Split
    test: Split
    class_names: tuple[str, ...] = DIGITS
    source: str = ""
    kind: str = "digits"
    about: str = ""

    def __iter__(self) -> Iterator[Split]:
        return iter((self.train, self.validation, self.test))

    def __getitem__(self, place: int) -> Split:
        return (self.train, self.validation, self.test)[place]

    def __len__(self) -> int:
        return 3

    def __repr__(self) -> str:
        sizes = " / ".join(f"{len(y):,}" for _, y in self)
        shape, classes = self.train.x.shape[1:], len(self.class_names)
        what = f"{classes} classes" if classes else f"numbers of {self.train.y.shape[1:]}"
        return f"DataSet({self.source!r}: {sizes} samples of {shape}, {what})"


def stratified(
    y: Values, shares: dict[str, float], seed: int = 0
) -> dict[str, np.ndarray[Any, np.dtype[np.int64]]]:
    """Return which samples go to which part, of every class the same share, drawn by the seed.

    Args:
        y: (N,), labels.
        shares: name of a part -> its share of the samples; ``"train"`` gets the rest, and at
            least one sample of every class.
        seed: fixes the draw.

    Returns:
        Name of a part -> the numbers of its samples, in a random order.

    Raises:
        DataError: a share is not between 0 and 1, they leave nothing to train on, or a part would
            have no sample.

    >>> parts = stratified(np.repeat([0, 1], 50), {"validation": 0.1, "test": 0.2})
    >>> {name: np.bincount(np.repeat([0, 1], 50)[which]).tolist() for name, which in parts.items()}
    {'validation': [5, 5], 'test': [10, 10], 'train': [35, 35]}
    """
    for name, share in shares.items():
        if not 0 < share < 1:
            raise DataError(f"{name} is {share!r}, expected a share between 0 and 1")
    if sum(shares.values()) >= 1:
        raise DataError(f"the shares {shares} leave no samples for training")
    parts: dict[str, list[Values]] = {name: [] for name in (*shares, "train")}
    for number, label in enumerate(np.unique(y)):
        members = np.flatnonzero(y == label)
        members = members[random.permutation(random.key(seed, "split", number), len(members))]
        first = 1  # which is for training
        for name, share in shares.items():
            last = min(first + round(share * len(members)), len(members))
            parts[name].append(members[first:last])
            first = last
        parts["train"].append(np.concatenate([members[:1], members[first:]]))
    whole = {name: np.concatenate(pieces) for name, pieces in parts.items()}
    for name, which in whole.items():
        if not len(which):
            raise DataError(
                f"{len(y)} samples are too few: the {name} part, {shares[name]:.0%} of each "
                "class, would be empty"
            )
        whole[name] = which[random.permutation(random.key(seed, "order", name), len(which))]
    return whole


#: A compressed file may unpack to so many times its size: pictures of digits reach 10, masks 50.
MOST_TIMES = 100
#: A small file may do so in any case.
SMALL = 64 << 20

#: The parts of data that are split already, and the names that each goes by.
SPELLINGS = {
    "train": ("train", "training"),
    "validation": ("validation", "val", "valid"),
    "test": ("test", "testing"),
}

#: What has more is no set of classes, but numbers or file names taken for labels.
MOST_CLASSES = 10_000


class Part(NamedTuple):
    """Samples (N, ...), uint8 or float32, and their labels.

    Those of classes are (N,), integers or strings; numbers to be predicted are (N, K), float32.
    """

    x: Values
    labels: Values


@dataclass(frozen=True)
class Parts:
    """A file or folder as it was read."""

    #: ``"train"`` and, where the data have parts of their own, ``"test"`` and ``"validation"``.
    arrays: dict[str, Part]
    kind: str  #: see :class:`tinyconv.data.DataSet`
    class_names: tuple[str, ...] | None = None  #: what the labels number, where the data say it
    like_mnist: bool = False  #: whether digits are of MNIST's form: light on dark, centred
    about: str = ""  #: what was done with the data, for the report


def most_unpacked(path: str | Path) -> int:
    """Return how many bytes the content of a file may have when it is unpacked.

    A hundred times the size of the file, and 64 MiB at least: enough for every picture that is
    one, too little for a file made to fill the memory.
    """
    return max(SMALL, MOST_TIMES * os.path.getsize(path))


def check_unpacked(path: str | Path, size: int) -> None:
    """Check what a file says it will unpack to.

    Raises:
        DataError: it is more than :func:`most_unpacked`.
    """
    if size > (most := most_unpacked(path)):
        raise DataError(
            f"{path}: claims {size:,} bytes when unpacked, expected at most {most:,} "
            f"({MOST_TIMES} times its size)"
        )

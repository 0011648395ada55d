"""Data sets by name: digits to train on, as arrays, split for training, validation and test."""

from collections.abc import Callable
from pathlib import Path

from tinyconv.data import augment
from tinyconv.data.byte_images import ByteImages
from tinyconv.data.images import read_digit
from tinyconv.data.mnist import load_mnist
from tinyconv.data.mnist1d import load_mnist1d
from tinyconv.data.sample import load_sample
from tinyconv.data.splits import DataSet, Split
from tinyconv.errors import DataError

__all__ = ["ByteImages", "DataSet", "Split", "augment", "load", "names", "read_digit"]

_LOADERS: dict[str, Callable[[str | Path | None], DataSet]] = {
    "mnist-sample": lambda root: load_sample(),
    "mnist": load_mnist,
    "mnist1d": lambda root: load_mnist1d(),
}


def names() -> list[str]:
    """Return the names that :func:`load` knows.

    >>> names()
    ['mnist-sample', 'mnist', 'mnist1d']
    """
    return list(_LOADERS)


def load(name: str = "mnist-sample", root: str | Path | None = None) -> DataSet:
    """Return the training, validation and test split of a data set.

    Args:
        name: one of :func:`names`.
        root: a folder to look in first, for a data set that does not ship with the package.

    Raises:
        DataError: the name is unknown, or a file is missing, damaged or not what it should be.

    >>> (x, y), (xv, yv), (xt, yt) = load("mnist-sample")
    >>> x.shape, xv.shape, xt.shape
    ((3500, 1, 28, 28), (500, 1, 28, 28), (1000, 1, 28, 28))
    """
    if name not in _LOADERS:
        raise DataError(f"load: no data set is named {name!r}, expected one of {names()}")
    return _LOADERS[name](root)

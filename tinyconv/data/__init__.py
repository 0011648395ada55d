"""Data sets by name or from files, as arrays, split for training, validation and test."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

from tinyconv.arguments import FilePath, Number, OneOf, checked
from tinyconv.data import augment
from tinyconv.data.images import read_digit
from tinyconv.data.mnist import load_mnist, load_sample
from tinyconv.data.mnist1d import load_mnist1d
from tinyconv.data.own import OPTIONS, load_own
from tinyconv.data.pictures import read_picture
from tinyconv.data.report import Pixels, Report, report
from tinyconv.data.splits import ByteImages, DataSet, Split
from tinyconv.errors import DataError
from tinyconv.geometry import spread
from tinyconv.messages import hint

__all__ = [
    "ByteImages",
    "DataSet",
    "Pixels",
    "Report",
    "Split",
    "augment",
    "load",
    "names",
    "read_digit",
    "read_picture",
    "report",
]

_LOADERS: dict[str, Callable[[str | Path | None], DataSet]] = {
    "mnist-sample": lambda root: load_sample(),
    "mnist": load_mnist,
    "mnist1d": lambda root: load_mnist1d(),
}


#: A share of the samples that leaves some on either side.
_Part = Annotated[float, Number(above=0, below=1)]


def names() -> list[str]:
    """Return the names that :func:`load` knows.

    >>> names()
    ['mnist-sample', 'mnist', 'mnist1d']
    """
    return list(_LOADERS)


@checked
def load(
    source: Annotated[str | Path, FilePath("a name or a path")] = "mnist-sample",
    root: Annotated[str | Path | None, FilePath()] = None,
    *,
    size: int | tuple[int, int] | None = None,
    channels: int | None = None,
    shape: tuple[int, ...] | None = None,
    label: str | int | None = None,
    task: Annotated[str, OneOf("classification", "regression")] | None = None,
    validation: _Part = 0.1,
    test: _Part = 0.2,
    seed: int = 0,
) -> DataSet:
    """Return the training, validation and test split of a data set, by name or from files.

    Args:
        source: one of :func:`names`, or a path to data of one's own: a folder of IDX files, a
            folder of pictures per class, a ``.csv``, ``.tsv`` or ``.npz`` file; see
            :mod:`tinyconv.data.own` for how each has to look. A folder that has one of the names
            is written with a dot: ``./mnist``.
        root: a folder to look in first, for a named data set that does not ship with the package.
        size: of pictures, one number of pixels a side or (H, W), to which all are scaled; if
            None, their own size if they have the same one, else 28.
        channels: of pictures, 1 for grey and 3 for colour; if None, 1 if all of them are grey.
        shape: of one sample in a table or a ``.npz`` file, such as (3, 32, 32), if it is not
            clear from the file.
        label: name or number of the column of a table that holds the labels.
        task: of a table or a ``.npz`` file, ``"regression"`` if the labels are numbers to be
            predicted, ``"classification"`` if they name classes; if None, numbers if one of them is
            not whole.
        validation: share of every class that is taken from the training samples for validation,
            where the data have no part for it.
        test: the same for the test.
        seed: fixes which samples these are.

    Raises:
        DataError: the name is unknown, a file is missing, damaged or not what it should be, or an
            argument is not for this data; the text is one line that names the file.
        ArgumentError: an argument has a type or value that it cannot have.

    >>> (x, y), (xv, yv), (xt, yt) = load("mnist-sample")
    >>> x.shape, xv.shape, xt.shape
    ((3500, 1, 28, 28), (500, 1, 28, 28), (1000, 1, 28, 28))
    """
    if shape is not None:
        sides = tuple(shape) if isinstance(shape, tuple | list) else (shape,)
        shape = spread("load", "shape", sides, len(sides), least=1)
    options = {"size": size, "channels": channels, "shape": shape, "label": label, "task": task}
    if source in _LOADERS:
        for name, value in options.items():
            if value is not None:
                raise DataError(f"load: {name}= is for {OPTIONS[name]}, not for {source!r}")
        return _LOADERS[str(source)](root)
    if not Path(source).expanduser().exists():
        raise DataError(
            f"load: no data set is named {str(source)!r}, expected one of {names()}, "
            f"and no such file or folder is there{hint(str(source), names())}"
        )
    return load_own(source, validation=validation, test=test, seed=seed, **options)

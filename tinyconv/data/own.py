"""Data of one's own: what a path holds, read into three splits with the names of the classes.

================================  ==========================================================
a path to                         holds
================================  ==========================================================
a folder of IDX files             ``train-images-idx3-ubyte`` and the like, as MNIST's
a folder of folders               one folder of PNG or JPEG pictures a class; or ``train``,
                                  ``test`` and perhaps ``validation``, each of such folders
a file ``.csv`` or ``.tsv``       a sample a row, one column of them the label: a class, or a number
                                  to be predicted
a file ``.npz``                   arrays ``x_train``, ``y_train``, ``x_test``, ``y_test``;
                                  ``train_images``, ``train_labels``, …; or ``x``, ``y``
================================  ==========================================================

Labels that are no whole numbers are numbers to be predicted, for ``loss="mse"``; ``task=`` says it
of others. Where there is no part for validation or test, a share of every class is drawn for it.
Bytes are divided by 255; other numbers are left as they are. Every reader decides from the sizes
in the file at hand before it takes memory, and gives either the whole data or one error.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from tinyconv.backend import Values
from tinyconv.data import idx, npz, pictures, table
from tinyconv.data.splits import DIGITS, MOST_CLASSES, ByteImages, DataSet, Parts, Split, stratified
from tinyconv.errors import DataError

#: The options that only some data take, and which.
OPTIONS = {
    "size": "a folder of pictures",
    "channels": "a folder of pictures",
    "shape": "a CSV or .npz file",
    "label": "a CSV file",
    "task": "a CSV or .npz file",
}

#: What a path holds -> its reader, and the options that this takes.
READERS: dict[str, tuple[Callable[..., Parts], tuple[str, ...]]] = {
    "IDX files": (idx.read_idx_folder, ()),
    "pictures": (pictures.read_pictures, ("size", "channels")),
    ".csv": (table.read_table, ("label", "shape", "task")),
    ".tsv": (table.read_table, ("label", "shape", "task")),
    ".npz": (npz.read_npz, ("shape", "task")),
}


def load_own(
    path: str | Path, *, validation: float = 0.1, test: float = 0.2, seed: int = 0, **options: Any
) -> DataSet:
    """Return what a path holds; the arguments are those of :func:`tinyconv.data.load`.

    Raises:
        DataError: the path is none of the above, or is damaged, or an option is not for it.
    """
    path = Path(path).expanduser()
    if not path.exists():
        raise DataError(f"{path}: no such file or folder")
    kind = path.suffix.lower()
    if path.is_dir():
        kind = "IDX files" if idx.is_idx_folder(path) else "pictures"
    if kind not in READERS:
        raise DataError(f"{path}: is no folder, and neither a .csv, a .tsv nor a .npz file")
    reader, taken = READERS[kind]
    options = {name: value for name, value in options.items() if value is not None}
    for name in options:
        if name not in taken:
            raise DataError(f"{path}: {name}= is for {OPTIONS[name]}, and this is none")
    try:
        return _split(path, reader(path, **options), {"validation": validation, "test": test}, seed)
    except MemoryError:
        raise DataError(f"{path}: does not fit into memory") from None
    except OSError as error:
        raise DataError(f"{error.filename or path}: cannot be read: {error.strerror}") from None


def _split(path: Path, parts: Parts, shares: dict[str, float], seed: int) -> DataSet:
    """Number the classes, draw the parts that are missing, and scale bytes to [0, 1]."""
    for name, (x, labels) in parts.arrays.items():
        if not len(x):
            raise DataError(f"{path}: its {name} part has no samples")
        for what, array in (("values", x), ("labels", labels)):
            if array.dtype.kind == "f" and not np.isfinite(array).all():
                raise DataError(f"{path}: its {name} part holds {what} that are NaN or infinite")
        if len(labels) != len(x):
            raise DataError(
                f"{path}: its {name} part has {len(x)} samples and {len(labels)} labels"
            )
    if len({x.dtype == np.uint8 for x, _ in parts.arrays.values()}) > 1:
        raise DataError(
            f"{path}: one part holds bytes, which are divided by 255, and another other numbers; "
            "expected one type"
        )
    names, numbered = _numbered(path, parts)
    missing = {name: share for name, share in shares.items() if name not in parts.arrays}
    arrays = {name: (x, numbered[name]) for name, (x, _) in parts.arrays.items()}
    if missing:
        x, y = arrays["train"]
        try:
            drawn = stratified(y if names else np.zeros(len(y)), missing, seed)
        except DataError as error:
            raise DataError(f"{path}: {error}") from None
        arrays |= {name: (x[which], y[which]) for name, which in drawn.items()}
    if len(shapes := {x.shape[1:] for x, _ in arrays.values()}) > 1:
        raise DataError(f"{path}: its parts hold samples of different shapes: {sorted(shapes)}")
    (shape,) = shapes
    kind = parts.kind
    if kind == "pictures" and parts.like_mnist and shape == (1, 28, 28) and names == DIGITS:
        kind = "digits"
    train, validation, test = (
        Split(ByteImages(x)[:] if x.dtype == np.uint8 else x.astype(np.float32), y)
        for x, y in map(arrays.__getitem__, ("train", "validation", "test"))
    )
    return DataSet(train, validation, test, names, str(path), kind, parts.about)


def _numbered(path: Path, parts: Parts) -> tuple[tuple[str, ...], dict[str, Values]]:
    """Return the names of the classes in their order, and the labels as numbers of classes.

    Numbers to be predicted stay as they are, and there are no names.
    """
    labels = {name: part.labels for name, part in parts.arrays.items()}
    if len({y.dtype.kind for y in labels.values()}) > 1:
        raise DataError(f"{path}: the labels of one part are of another kind than those of another")
    if any(y.dtype.kind == "f" for y in labels.values()):
        if len(widths := {y.shape[1] for y in labels.values()}) > 1:
            raise DataError(f"{path}: its parts have labels of different widths: {sorted(widths)}")
        return (), labels
    if parts.class_names is not None:  # the labels number these already
        names = parts.class_names
        for y in labels.values():
            if y.min() < 0 or y.max() >= len(names):
                raise DataError(
                    f"{path}: labels from {y.min()} to {y.max()}, expected 0 to {len(names) - 1} "
                    f"because there are {len(names)} names"
                )
        numbered = labels
    else:
        # Part by part: strings of all parts in one array would all be as wide as the widest.
        found = {name: np.unique(y, return_inverse=True) for name, y in labels.items()}
        values = sorted({value for each, _ in found.values() for value in each.tolist()})
        names = tuple(map(str, values))  # numbers were sorted as numbers, so 10 comes after 9
        number = {value: n for n, value in enumerate(values)}
        numbered = {
            name: np.array([number[value] for value in each.tolist()], np.int64)[inverse]
            for name, (each, inverse) in found.items()
        }
    for name in names:
        if not name.isprintable() or not name or len(name) > 200:
            raise DataError(f"{path}: a class has the name {name[:200]!r}, which cannot be printed")
    if not 2 <= len(names) <= MOST_CLASSES:
        raise DataError(
            f"{path}: {len(names):,} classes ({', '.join(names[:3])} …), "
            f"expected 2 to {MOST_CLASSES:,}"
        )
    if len(set(names)) < len(names):
        raise DataError(f"{path}: two classes have the same name")
    return names, {name: np.asarray(y, np.int64) for name, y in numbered.items()}

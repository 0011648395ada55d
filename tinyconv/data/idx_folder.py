"""A folder of IDX files with the names of MNIST's, of EMNIST's or of one's own.

Of a name matters whether it says ``images`` or ``labels``, and which part: ``train``, ``test`` or
``t10k``, ``valid``.
"""

from pathlib import Path

import numpy as np

from tinyconv.data.idx import read_idx
from tinyconv.data.parts import Part, Parts
from tinyconv.errors import DataError

PARTS = {"train": "train", "t10k": "test", "test": "test", "val": "validation"}
ENDS = ("-ubyte", "-ubyte.gz", ".idx", ".idx.gz")


def is_one(folder: Path) -> bool:
    """Tell whether a folder holds files that are named as IDX files are."""
    return bool(_files(folder))


def read_idx_folder(folder: Path) -> Parts:
    """Read images (N, H, W), or (N, C, H, W), of bytes and their labels (N,).

    Raises:
        DataError: a file is damaged, has no part in the above, or is one of two for the same part;
            images lack their labels, or labels their images.
    """
    found: dict[tuple[str, str], Path] = {}
    for path in _files(folder):
        role = _role(path)
        if role in found:
            raise DataError(
                f"{folder}: {found[role].name} and {path.name} are both {' '.join(role)}"
            )
        found[role] = path
    arrays = {}
    for part in sorted({part for part, _ in found}):
        for what in ("images", "labels"):
            if (part, what) not in found:
                raise DataError(f"{folder}: has no file of {part} {what}")
        labels = read_idx(found[part, "labels"])
        if labels.ndim != 1:
            raise DataError(
                f"{found[part, 'labels']}: labels of shape {labels.shape}, expected (N,)"
            )
        x = read_idx(found[part, "images"])
        if x.ndim == 3:
            x = x[:, np.newaxis]
        if x.ndim != 4 or 0 in x.shape:
            raise DataError(
                f"{found[part, 'images']}: images of shape {x.shape}, expected (N, H, W)"
            )
        arrays[part] = Part(x, labels.astype(np.int64))
    if "train" not in arrays:
        raise DataError(f"{folder}: has no file of train images")
    return Parts(arrays, "pictures", like_mnist=True)


def _files(folder: Path) -> list[Path]:
    """Return the IDX files; those whose names begin with a dot are some system's own."""
    return [
        path
        for path in sorted(folder.iterdir())
        if path.name.endswith(ENDS) and not path.name.startswith(".") and path.is_file()
    ]


def _role(path: Path) -> tuple[str, str]:
    parts = {part for word, part in PARTS.items() if word in path.name}
    kinds = [what for what in ("images", "labels") if what in path.name]
    if len(kinds) != 1 or len(parts) > 1:
        raise DataError(
            f"{path}: its name says not whether it holds images or labels, and which part: "
            "expected one such as train-images-idx3-ubyte"
        )
    return parts.pop() if parts else "train", kinds[0]

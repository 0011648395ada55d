"""NumPy's ``.npz``: a zip of arrays, each a header that says type and shape, then the numbers.

The headers are read and compared with the sizes in the zip's directory before anything is
unpacked; arrays of objects, which only pickle could restore, are refused.
"""

import math
import sys
import zipfile
import zlib
from pathlib import Path
from typing import IO, Any
from zipfile import ZIP_DEFLATED, ZIP_STORED

import numpy as np

from tinyconv.backend import Values
from tinyconv.data.splits import SPELLINGS, Part, Parts, check_unpacked
from tinyconv.errors import DataError

#: The names under which samples and labels are found, by part; ``{}`` is the part's name.
NAMES = (("x_{}", "y_{}"), ("X_{}", "y_{}"), ("{}_images", "{}_labels"), ("{}_x", "{}_y"))
#: The names where there are no parts.
WHOLE = (("x", "y"), ("X", "y"), ("images", "labels"), ("data", "target"), ("data", "labels"))

CLASS_NAMES = "class_names"


def read_npz(path: Path, shape: tuple[int, ...] | None = None, task: str | None = None) -> Parts:
    """Read samples and labels, and ``class_names`` where the file has it.

    The arguments are those of :func:`tinyconv.data.load`; labels of a floating-point type are
    numbers to be predicted in any case.

    Raises:
        DataError: the file is damaged or unpacks to too much, has no arrays of these names, or
            they are no samples and labels.
    """
    arrays = _arrays(path)
    found: dict[str, Part] = {}
    used = {CLASS_NAMES}
    for part, spellings in SPELLINGS.items():
        for spelling in spellings:
            for names in NAMES:
                x, y = (name.format(spelling) for name in names)
                if x in arrays and y in arrays and part not in found:
                    found[part] = _part(path, arrays, (x, y), shape, task)
                    used |= {x, y}
    for x, y in WHOLE:
        if not found and x in arrays and y in arrays:
            found["train"] = _part(path, arrays, (x, y), shape, task)
            used |= {x, y}
    if "train" not in found:
        raise DataError(
            f"{path}: holds {', '.join(arrays) or 'nothing'}; expected x_train and y_train, "
            "train_images and train_labels, or x and y"
        )
    if unused := sorted(arrays.keys() - used):
        raise DataError(f"{path}: {', '.join(unused)}: neither samples nor labels of a known name")
    class_names = None
    if CLASS_NAMES in arrays:
        listed = arrays[CLASS_NAMES]
        if listed.ndim != 1 or listed.dtype.kind != "U":
            raise DataError(f"{path}: class_names is no list of strings")
        class_names = tuple(listed.tolist())
        if any(part.labels.dtype.kind == "U" for part in found.values()):
            raise DataError(f"{path}: the labels are strings, so class_names has no use")
    kind = "pictures" if found["train"].x.ndim == 4 else "numbers"
    return Parts(found, kind, class_names, like_mnist=True)


def _arrays(path: Path) -> dict[str, Values]:
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            check_unpacked(path, sum(member.file_size for member in members))
            if len({member.filename for member in members}) < len(members):
                raise DataError(f"{path}: holds two arrays of one name")
            if {member.compress_type for member in members} - {ZIP_STORED, ZIP_DEFLATED}:
                raise DataError(f"{path}: is packed in a way that NumPy does not use")
            return {
                member.filename.removesuffix(".npy"): _array(
                    f"{path}: {member.filename}", archive.open(member), member.file_size
                )
                for member in members
            }
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
        raise DataError(f"{path}: is no whole .npz file: {error}") from None
    except (RuntimeError, UnicodeError) as error:  # encrypted; a name in no encoding
        raise DataError(f"{path}: is no .npz file: {error}") from None


def _array(name: str, file: IO[bytes], size: int) -> Values:
    """Read one array of a zip, whose directory claims ``size`` bytes for it."""
    with file:
        try:
            version = np.lib.format.read_magic(file)
            read = {
                (1, 0): np.lib.format.read_array_header_1_0,
                (2, 0): np.lib.format.read_array_header_2_0,
            }[version]
            shape, columns_first, dtype = read(file)
        except Exception:  # NumPy reads it as Python source, whose errors are many
            raise DataError(f"{name}: has no header of an array") from None
        if dtype.kind not in "uifbU":
            raise DataError(f"{name}: an array of {dtype}, expected numbers")
        count = math.prod(shape)
        if len(shape) > 8 or min(shape, default=0) < 0 or count * dtype.itemsize > size:
            raise DataError(f"{name}: its header claims shape {shape}, more than it holds")
        content = file.read(count * dtype.itemsize + 1)
        if len(content) != count * dtype.itemsize:
            raise DataError(f"{name}: holds another number of bytes than its header claims")
    if not dtype.itemsize:
        raise DataError(f"{name}: holds empty strings")
    if dtype.kind == "U":  # NumPy gives a SystemError for what is no character
        characters = np.frombuffer(content, np.dtype(np.uint32).newbyteorder(dtype.byteorder))
        if characters.size and characters.max() > sys.maxunicode:
            raise DataError(f"{name}: holds strings that are none")
    return np.frombuffer(content, dtype).reshape(shape, order="F" if columns_first else "C")


def _part(
    path: Path, arrays: Any, names: tuple[str, str], shape: tuple[int, ...] | None, task: str | None
) -> Part:
    (x_name, x), (y_name, y) = ((name, arrays[name]) for name in names)
    if x.ndim < 2 or 0 in x.shape or x.dtype.kind not in "uifb":
        raise DataError(
            f"{path}: {x_name} is {x.dtype} of shape {x.shape}, expected (N, ...) numbers"
        )
    if x.dtype != np.uint8:
        with np.errstate(over="ignore"):  # what becomes infinite is found and named
            x = x.astype(np.float32)
    x = as_samples(f"{path}: {x_name}", x, shape)
    return Part(x, _labels(f"{path}: {y_name}", y, task))


def _labels(name: str, y: Values, task: str | None) -> Values:
    """Return integers or strings (N,) that name classes, or numbers (N, K) to be predicted."""
    came = f"{name} is {y.dtype} of shape {y.shape}, expected"
    if task == "regression" or (task is None and y.dtype.kind == "f"):
        if y.ndim not in (1, 2) or 0 in y.shape or y.dtype.kind not in "uif":
            raise DataError(f"{came} (N,) or (N, K) numbers")
        with np.errstate(over="ignore"):  # what becomes infinite is found and named
            return y.astype(np.float32).reshape(len(y), -1)
    if y.ndim == 2 and y.shape[1] == 1:
        y = y[:, 0]
    if y.ndim != 1 or y.dtype.kind not in "biuU":
        raise DataError(f"{came} (N,) integers or strings")
    if y.dtype.kind == "u" and y.dtype.itemsize == 8 and y.size and y.max() >= 2**63:
        raise DataError(f"{name} holds {y.max()}, which is no class")
    return y if y.dtype.kind == "U" else y.astype(np.int64)


def as_samples(name: str, x: Values, shape: tuple[int, ...] | None) -> Values:
    """Return samples as layers take them, channels first.

    (N, H, W) are pictures of one channel, (N, 1, L) signals of one channel; of (N, H, W, C) the
    last axis is that of the channels if it has 1 or 3 places and the second has not.
    """
    if shape is not None:
        if math.prod(shape) != math.prod(x.shape[1:]):
            raise DataError(f"{name}: samples of shape {x.shape[1:]} do not make {shape}")
        return x.reshape(len(x), *shape)
    if x.ndim == 3 and x.shape[1] > 1:
        return x[:, np.newaxis]
    if x.ndim == 4 and x.shape[3] in (1, 3) and x.shape[1] not in (1, 3):
        return np.ascontiguousarray(x.transpose(0, 3, 1, 2))
    return x

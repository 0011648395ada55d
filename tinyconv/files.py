"""Files of arrays: written whole or not at all, read or refused, one process at a time.

A file is a safetensors file. Beside the arrays it holds one text, JSON under the name "tinyconv",
with a checksum over itself and all arrays; so equal contents are equal bytes, and no bit that
flipped is taken for a weight.
"""

import hashlib
import json
import os
import stat
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np

from tinyconv.arguments import shown
from tinyconv.backend import Array, like, to_numpy
from tinyconv.errors import FileError

__all__ = [
    "check_json",
    "check_tensors",
    "copy_tensors",
    "fingerprint",
    "locked",
    "read_tensors",
    "sweep",
    "write",
    "write_tensors",
]

#: Written into every file; a file with a higher one is refused.
FORMAT_VERSION = 2

#: Seconds after which a file that was being written belongs to a process that was killed.
ABANDONED = 3600


def write(path: str | Path, content: bytes | str) -> None:
    """Write a file beside ``path``, then rename it: it appears whole or not at all.

    Also on a machine that loses its power: the bytes are on the disk before the name is.

    Raises:
        OSError: it cannot be written; the error names ``path``.
        FileError: ``path`` is a folder, or its folder is not there.
    """
    path = Path(path)
    if not path.parent.is_dir():
        raise FileError(f"{path}: there is no folder {path.parent}")
    if path.is_dir():
        raise FileError(f"{path}: is a folder, expected the name of a file")
    data = content.encode() if isinstance(content, str) else content
    # Threads of one process may write one file at once.
    beside = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}")
    try:
        sweep(path, ABANDONED)
        try:
            with beside.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            beside.replace(path)
        finally:
            beside.unlink(missing_ok=True)
        _sync_folder(path.parent)
    except OSError as error:
        if error.errno is None:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error


def sweep(path: Path, older: float = 0.0) -> None:
    """Remove what killed processes left when they wrote ``path``, and is so many seconds old."""
    for left in path.parent.glob(f".{path.name}.*-*"):
        with suppress(OSError):  # another process sweeps too
            if time.time() - left.stat().st_mtime >= older:
                left.unlink()


def _sync_folder(folder: Path) -> None:
    """Bring a rename to the disk, where the system can do that."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@contextmanager
def locked(folder: str | Path) -> Iterator[None]:
    """Keep every other process and thread out of a folder, which is made if it is not there.

    The lock is the system's: it ends with the process, however that ends.

    Raises:
        FileError: another one is in it.
    """
    from filelock import FileLock, Timeout  # only here: few need it, and it takes 20 ms

    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise FileError(f"{folder}: is a file, expected a folder")
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / ".lock", timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise FileError(
            f"{folder}: another process is at work in it; let it end, or name another folder"
        ) from None
    try:
        yield
    finally:
        with suppress(OSError):  # Windows removes no open file
            (
                folder / ".lock"
            ).unlink()  # who waits for a file without a name notices and opens anew
        lock.release()


def write_tensors(path: str | Path, tensors: Mapping[str, Array], about: Mapping[str, Any]) -> None:
    """Write arrays and a description that JSON can hold, whose "format" says what they are."""
    from safetensors.numpy import save

    arrays = {name: np.asarray(to_numpy(a), order="C") for name, a in tensors.items()}
    described = {**about, "version": FORMAT_VERSION}
    described["checksum"] = _checksum(arrays, described)
    write(path, save(arrays, metadata={"tinyconv": json.dumps(described)}))


def read_tensors(
    path: str | Path, format: str
) -> tuple[dict[str, np.ndarray[Any, Any]], dict[str, Any]]:
    """Read the arrays and the description that :func:`write_tensors` wrote.

    Raises:
        FileError: there is no such file, or it is not a whole file of this format and version.
    """
    from safetensors import SafetensorError, safe_open

    path = Path(path)
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError):
        raise FileError(f"{path}: no such file") from None
    if not stat.S_ISREG(mode):  # a pipe would be waited for without end
        raise FileError(f"{path}: not a whole safetensors file (it is a folder or a device)")
    try:
        with safe_open(path, framework="numpy") as file:
            text = (file.metadata() or {}).get("tinyconv")
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, TypeError, ValueError, AttributeError) as error:
        raise FileError(f"{path}: not a whole safetensors file ({error})") from None
    if text is None:
        raise FileError(f"{path}: a safetensors file, but not a {format} of tinyconv")
    try:
        about = json.loads(text)
    except (ValueError, RecursionError):
        raise FileError(f"{path}: its description is damaged (no JSON)") from None
    check_json(path, about, dict)
    if about.get("format") != format:
        raise FileError(f"{path}: a safetensors file, but not a {format} of tinyconv")
    version, checksum = about.get("version"), about.pop("checksum", None)
    if isinstance(version, int) and version > FORMAT_VERSION:
        raise FileError(f"{path}: written by a later version of tinyconv; upgrade it")
    if checksum != _checksum(tensors, about):
        raise FileError(f"{path}: its checksum is not that of its content, so it is damaged")
    return tensors, about


def _checksum(tensors: Mapping[str, np.ndarray[Any, Any]], about: Mapping[str, Any]) -> str:
    digest = hashlib.sha256(json.dumps(about, sort_keys=True).encode())
    for name in sorted(tensors):
        array = np.ascontiguousarray(tensors[name])
        digest.update(json.dumps([name, str(array.dtype), array.shape]).encode())
        digest.update(array.reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def fingerprint(x: Array, rows: int = 4096) -> str:
    """Return a text that differs for arrays of different content, a part at a time.

    >>> fingerprint(np.zeros(3)) == fingerprint(np.zeros(3)) != fingerprint(np.ones(3))
    True
    """
    digest = hashlib.sha256(f"{tuple(x.shape)}".encode())
    for first in range(0, len(x), rows):
        part = np.ascontiguousarray(to_numpy(x[first : first + rows]))
        digest.update(str(part.dtype).encode())
        digest.update(part.reshape(-1).view(np.uint8).data)
    return digest.hexdigest()[:16]


def check_json(source: str | Path, value: Any, form: Any, place: str = "") -> None:
    """Check what came out of a JSON text against what it is to be.

    Args:
        source: of the text, for the message.
        value: what came.
        form: a type; a rule of :mod:`tinyconv.arguments`; ``[form]`` for a list of such, a
            dictionary for one of exactly these keys, a tuple for one of several forms, None.
        place: of the value in the text, for the message.

    Raises:
        FileError: it is something else.

    >>> check_json("a file", {"seed": "one"}, {"seed": int})
    Traceback (most recent call last):
    tinyconv.errors.FileError: a file: its description is damaged (seed is 'one')
    """
    if isinstance(form, tuple):
        for each in form[:-1]:
            with suppress(FileError):
                return check_json(source, value, each, place)
        return check_json(source, value, form[-1], place)
    good = True
    if isinstance(form, dict):
        good = isinstance(value, dict) and value.keys() == form.keys()
        for name in form if good else ():
            check_json(source, value[name], form[name], f"{place}.{name}" if place else name)
    elif isinstance(form, list):
        good = isinstance(value, list)
        for number, each in enumerate(value if good else ()):
            check_json(source, each, form[0], f"{place}.{number}" if place else str(number))
    elif form is None:
        good = value is None
    elif isinstance(form, type):
        good = isinstance(value, form) and (form is bool or not isinstance(value, bool))
    else:
        try:
            form.take(value)
        except ValueError:
            good = False
    if not good:
        what = f"{place or 'it'} is {shown(value)}"
        raise FileError(f"{source}: its description is damaged ({what})")
    return None


def check_tensors(
    source: str,
    tensors: Mapping[str, np.ndarray[Any, Any]],
    shapes: Mapping[str, tuple[int, ...]],
) -> None:
    """Check that tensors of these names and shapes are there.

    Raises:
        FileError: a name is missing, or a shape differs.

    >>> check_tensors("a file", {}, {"0.weight": (2, 3)})
    Traceback (most recent call last):
    tinyconv.errors.FileError: a file: tensors missing: 0.weight
    """
    if missing := sorted(shapes.keys() - tensors.keys()):
        raise FileError(f"{source}: tensors missing: {', '.join(missing)}")
    for name, shape in shapes.items():
        if tuple(tensors[name].shape) != shape:
            raise FileError(
                f"{source}: {name} has shape {tuple(tensors[name].shape)}, expected {shape}"
            )


def copy_tensors(
    source: str, tensors: Mapping[str, np.ndarray[Any, Any]], into: Mapping[str, Array]
) -> None:
    """Copy tensors into arrays of the same names and shapes.

    Raises:
        FileError: a name is missing or unknown, a shape differs, or a type cannot be converted.

    >>> copy_tensors("a file", {"w": np.zeros(2)}, {"w": np.zeros(3)})
    Traceback (most recent call last):
    tinyconv.errors.FileError: a file: w has shape (2,), expected (3,)
    """
    check_tensors(source, tensors, {name: tuple(array.shape) for name, array in into.items()})
    if unknown := sorted(tensors.keys() - into.keys()):
        raise FileError(f"{source}: tensors unknown to this network: {', '.join(unknown)}")
    for name, array in into.items():
        if not np.can_cast(tensors[name].dtype, str(array.dtype), "same_kind"):
            raise FileError(
                f"{source}: {name} has dtype {tensors[name].dtype}, expected {array.dtype}"
            )
    for name, array in into.items():
        array[...] = like(array, tensors[name].astype(str(array.dtype), copy=False))

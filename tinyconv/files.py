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

from tinyconv.backend import Array, Values, like, to_numpy
from tinyconv.errors import DAMAGED, FileError
from tinyconv.messages import shown

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
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise FileError(f"{folder}: is in a file, expected a folder") from None
    path = folder / ".lock"
    lock = FileLock(path, timeout=0)
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
            path.unlink()  # who waits for a file without a name notices and opens anew
        lock.release()


def write_tensors(path: str | Path, tensors: Mapping[str, Array], about: Mapping[str, Any]) -> None:
    """Write arrays and a description that JSON can hold, whose "format" says what they are."""
    from safetensors.numpy import save

    arrays = {name: np.asarray(to_numpy(a), order="C") for name, a in tensors.items()}
    described = {**about, "version": FORMAT_VERSION}
    described["checksum"] = _checksum(arrays, described)
    write(path, save(arrays, metadata={"tinyconv": json.dumps(described)}))


def read_tensors(path: str | Path, format: str) -> tuple[dict[str, Values], dict[str, Any]]:
    """Read the arrays and the description that :func:`write_tensors` wrote.

    Raises:
        FileError: there is no such file, or it is not a whole file of this format and version.
    """
    from safetensors import SafetensorError, safe_open

    path = _regular(path)
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


def read_weights(path: str | Path) -> dict[str, Values]:
    """Read the arrays of anybody's safetensors file; bfloat16 becomes float32, which holds it.

    Raises:
        FileError: there is no such file, it is not whole, or its numbers are none of NumPy's.
    """
    from safetensors import SafetensorError, deserialize

    path = _regular(path)
    try:
        entries = deserialize(path.read_bytes())  # type: ignore[no-untyped-call]
    except (SafetensorError, OSError) as error:
        raise FileError(f"{path}: not a whole safetensors file ({error})") from None
    arrays = {}
    for name, entry in entries:
        kind, data = entry["dtype"], entry["data"]
        if kind not in _FORMATS:
            raise FileError(f"{path}: {name} has numbers of the format {kind}, which is not known")
        array = np.frombuffer(data, _FORMATS[kind])
        if kind == "BF16":  # the upper half of a float32
            array = (array.astype(np.uint32) << 16).view(np.float32)
        arrays[name] = array.reshape(entry["shape"])
    return arrays


#: safetensors' names of the formats of numbers -> NumPy's; bfloat16 by its bits.
_FORMATS = {"BF16": "uint16", "BOOL": "bool", "I8": "int8", "U8": "uint8"}
_FORMATS |= {
    f"{k[0].upper()}{n}": f"{k}{n}" for k in ("float", "int", "uint") for n in (16, 32, 64)
}


def _regular(path: str | Path) -> Path:
    """Return the path of a file that is there; a pipe would be waited for without end."""
    path = Path(path)
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError):
        raise FileError(f"{path}: no such file") from None
    if not stat.S_ISREG(mode):
        raise FileError(f"{path}: not a whole safetensors file (it is a folder or a device)")
    return path


def _checksum(tensors: Mapping[str, Values], about: Mapping[str, Any]) -> str:
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


@contextmanager
def naming(path: Path, damage: str = "its description is damaged") -> Iterator[None]:
    """Let errors begin with the path of a file, and say ``damage`` of what its content led to.

    Raises:
        FileError: in the place of any error of damaged content.

    >>> with naming(Path("net.safetensors")):
    ...     {}["layers"]
    Traceback (most recent call last):
    tinyconv.errors.FileError: net.safetensors: its description is damaged ('layers')
    """
    try:
        yield
    except FileError as error:
        text = str(error)
        raise FileError(text if text.startswith(f"{path}: ") else f"{path}: {text}") from None
    except DAMAGED as error:
        raise FileError(f"{path}: {damage} ({error})") from None


def array_of(value: Any) -> Values:
    """Return a tensor of any library as an array: detached and on the host, bfloat16 as float32.

    >>> array_of([1.0, 2.0])
    array([1., 2.])
    """
    if hasattr(value, "detach"):  # PyTorch's
        value = value.detach().cpu()
        value = value.float() if "bfloat16" in str(value.dtype) else value
    array = np.asarray(value if isinstance(value, list | tuple) else to_numpy(value))
    return array.astype(np.float32) if str(array.dtype) == "bfloat16" else array


def check_tensors(
    source: str,
    tensors: Mapping[str, Values],
    shapes: Mapping[str, tuple[int, ...]],
    *,
    strict: bool = True,
) -> tuple[list[str], list[str]]:
    """Check that tensors of these names and shapes are there, and no others.

    Args:
        source: what the error message begins with.
        tensors: by name.
        shapes: of those that are expected.
        strict: whether a name that is missing or unknown is an error.

    Returns:
        The names that are missing and those that are unknown.

    Raises:
        FileError: it is not so; the text lists all that is wrong.

    >>> check_tensors("a file", {"w": np.zeros(2)}, {"w": (3,), "b": (3,)})
    Traceback (most recent call last):
    tinyconv.errors.FileError: a file: tensors missing: b; w has shape (2,), expected (3,)
    """
    missing = sorted(shapes.keys() - tensors.keys())
    unknown = sorted(tensors.keys() - shapes.keys())
    wrong = []
    if strict and missing:
        wrong.append(f"tensors missing: {', '.join(missing)}")
    if strict and unknown:
        wrong.append(f"tensors unknown to this network: {', '.join(unknown)}")
    for name, shape in shapes.items():
        if name in tensors and tuple(tensors[name].shape) != shape:
            wrong.append(f"{name} has shape {tuple(tensors[name].shape)}, expected {shape}")
    if wrong:
        raise FileError(f"{source}: {'; '.join(wrong)}")
    return missing, unknown


def copy_tensors(
    source: str,
    tensors: Mapping[str, Values],
    into: Mapping[str, Array],
    *,
    strict: bool = True,
) -> tuple[list[str], list[str]]:
    """Copy tensors into arrays of the same names and shapes, all or none.

    Returns and raises what :func:`check_tensors` does; a type that cannot be converted is an error
    too.

    >>> copy_tensors("a file", {"w": np.zeros(2)}, {"w": np.zeros(3)})
    Traceback (most recent call last):
    tinyconv.errors.FileError: a file: w has shape (2,), expected (3,)
    """
    shapes = {name: tuple(array.shape) for name, array in into.items()}
    found = check_tensors(source, tensors, shapes, strict=strict)
    pairs = [(name, tensors[name], array) for name, array in into.items() if name in tensors]
    wrong = [
        f"{name} has dtype {value.dtype}, expected {array.dtype}"
        for name, value, array in pairs
        if not np.can_cast(value.dtype, str(array.dtype), "same_kind")
    ]
    if wrong:
        raise FileError(f"{source}: {'; '.join(wrong)}")
    for _, value, array in pairs:
        array[...] = like(array, value.astype(str(array.dtype), copy=False))
    return found

"""Which array library an array belongs to, and how to get arrays on and off a device.

The operations of :mod:`tinyconv.ops` are written against the Python array API standard, so one
file serves NumPy, CuPy and every other library whose arrays can be written to. This module is
the only one outside :mod:`tinyconv.kernels.gpu` that imports CuPy, and only when it is asked to.

A step on a GPU is a queue of kernels. To look at one of its numbers the host waits until the queue
is empty, and it stands idle while a table is copied to it. So tables stay there, and within
:func:`one_read` everything that the host wants to know of a step is read at once, by :func:`read`.
On the CPU nothing is copied, and every number is looked at where it is asked for.
"""

from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from types import ModuleType
from typing import Any, TypeAlias

import array_api_compat
import array_api_compat.numpy as array_api_numpy
import numpy as np

from tinyconv.errors import ArgumentError, DeviceError, DtypeError

#: An array of any library that follows the array API standard. The standard has no static type
#: for it, and the libraries' own types are unrelated to each other.
Array: TypeAlias = Any
#: An array of NumPy, whatever it holds.
Values: TypeAlias = np.ndarray[Any, Any]


def namespace(op: str, **arrays: Array | None) -> ModuleType:
    """Return the array-API namespace that all ``arrays`` share; ``None`` values are skipped.

    Raises:
        DeviceError: the arrays belong to different libraries, or one is no array at all.

    >>> import numpy as np
    >>> namespace("relu", x=np.zeros(3)).__name__
    'array_api_compat.numpy'
    >>> namespace("relu", x=[1.0, 2.0])
    Traceback (most recent call last):
    tinyconv.errors.DeviceError: relu: x is a list, expected an array
    """
    given = {name: array for name, array in arrays.items() if array is not None}
    if all(type(array) is np.ndarray for array in given.values()):
        return array_api_numpy  # the answer of the general path below, in a tenth of its time
    for name, array in given.items():
        if not array_api_compat.is_array_api_obj(array):
            raise DeviceError(f"{op}: {name} is a {type(array).__name__}, expected an array")
    try:
        xp: ModuleType = array_api_compat.array_namespace(*given.values())
    except TypeError:
        listing = ", ".join(
            f"{name} of {type(array).__module__.partition('.')[0]}" for name, array in given.items()
        )
        raise DeviceError(f"{op}: arrays of one library expected, got {listing}") from None
    return xp


def require_floating(op: str, xp: ModuleType, **arrays: Array | None) -> None:
    """Check that every array holds real or complex floating-point numbers, all of one type.

    Complex numbers are admitted so that derivatives can be taken by the complex step.

    Raises:
        DtypeError: an array holds something else, or two arrays differ.

    >>> import numpy as np
    >>> require_floating("relu", np, x=np.arange(3))
    Traceback (most recent call last):
    tinyconv.errors.DtypeError: relu: x has dtype int64, expected a floating-point type
    """
    first: tuple[str, Any] | None = None
    for name, array in arrays.items():
        if array is None:
            continue
        if type(array) is np.ndarray:
            floating = array.dtype.kind in "fc"
        else:
            floating = xp.isdtype(array.dtype, ("real floating", "complex floating"))
        if not floating:
            raise DtypeError(
                f"{op}: {name} has dtype {array.dtype}, expected a floating-point type"
            )
        if first is None:
            first = (name, array.dtype)
        elif array.dtype != first[1] and not (
            isinstance(array, np.ndarray) and np.can_cast(array.dtype, first[1], "equiv")
        ):  # the order of bytes does not matter
            raise DtypeError(
                f"{op}: {name} has dtype {array.dtype}, expected {first[1]} like {first[0]}"
            )


def floating(op: str, **arrays: Array | None) -> ModuleType:
    """Return the namespace of arrays that all hold floating-point numbers of one type.

    Raises:
        DeviceError: as :func:`namespace`.
        DtypeError: as :func:`require_floating`.

    >>> floating("relu", x=np.arange(3))
    Traceback (most recent call last):
    tinyconv.errors.DtypeError: relu: x has dtype int64, expected a floating-point type
    """
    xp = namespace(op, **arrays)
    require_floating(op, xp, **arrays)
    return xp


def real_part(xp: ModuleType, x: Array) -> Array:
    """Return the real part of ``x``; ``x`` itself where it is real already.

    Comparisons have no meaning for complex numbers. Where an operation compares (a maximum, a
    sign), it compares real parts, which is what differentiation by the complex step asks for.
    """
    return xp.real(x) if xp.isdtype(x.dtype, "complex floating") else x


def gpu_is_available() -> bool:
    """Tell whether CuPy is installed and sees a GPU."""
    try:
        import cupy
    except ImportError:
        return False
    try:
        return bool(cupy.cuda.runtime.getDeviceCount() > 0)
    except cupy.cuda.runtime.CUDARuntimeError:
        return False


def check_device(device: str) -> str:
    """Return ``device`` if it names a device of this machine.

    Raises:
        DeviceError: the name is unknown, CuPy is not installed, or no GPU is there.

    >>> check_device("cpu")
    'cpu'
    >>> check_device("tpu")
    Traceback (most recent call last):
    tinyconv.errors.DeviceError: device is 'tpu', expected 'cpu' or 'gpu'
    """
    if not isinstance(device, str) or device not in ("cpu", "gpu"):
        raise DeviceError(f"device is {device!r}, expected 'cpu' or 'gpu'")
    if device == "gpu" and not gpu_is_available():
        raise DeviceError(
            "device 'gpu' needs CuPy and an NVIDIA GPU: "
            'pip install "tinyconv[cuda12]" or, for CUDA 13, pip install "tinyconv[cuda13]"'
        )
    return device


def use_gpu(place: int, processes: int) -> None:
    """Work on a GPU of one's own from here on, where processes share a machine.

    Raises:
        DeviceError: there are fewer GPUs than processes.
    """
    check_device("gpu")
    import cupy

    if processes > (gpus := cupy.cuda.runtime.getDeviceCount()):
        raise DeviceError(
            f"device 'gpu': {processes} processes on a machine with {gpus} GPUs, expected one each"
        )
    cupy.cuda.Device(place).use()


def device_of(x: Array) -> str:
    """Return ``"gpu"`` for a CuPy array, ``"cpu"`` for every other one."""
    return "gpu" if array_api_compat.is_cupy_array(x) else "cpu"


def like(x: Array, values: np.ndarray[Any, Any]) -> Array:
    """Return ``values`` as an array of the library and on the device of ``x``."""
    if isinstance(x, np.ndarray):
        return values
    return array_api_compat.array_namespace(x).asarray(values, device=x.device)


def from_numpy(x: np.ndarray[Any, Any], device: str) -> Array:
    """Return ``x`` on ``device``: itself on the CPU, an uploaded copy on the GPU."""
    if device == "cpu":
        return x
    import cupy

    return cupy.asarray(x)


def to_numpy(x: Array) -> np.ndarray[Any, Any]:
    """Return ``x`` as a NumPy array, downloaded where it lives on a GPU."""
    if isinstance(x, np.ndarray):
        return x
    if array_api_compat.is_cupy_array(x):
        downloaded: np.ndarray[Any, Any] = x.get()
        return downloaded
    return np.asarray(x)


#: How many tables are kept; a deep network has some dozens.
MOST_TABLES = 256
_tables: dict[Hashable, Array] = {}
#: Conditions that are still to be read, with the errors that tell of them; None outside of a step.
_conditions: ContextVar[list[tuple[Array, Callable[[], Exception]]] | None] = ContextVar(
    "conditions", default=None
)


def table(of: Array, make: Callable[..., Any], *arguments: Hashable) -> Array:
    """Return ``make(*arguments)`` as an array of the library and on the device of ``of``.

    It is made once for these arguments and must not be written to.

    Args:
        of: the array it is to be used with.
        make: a function of a module, without side effects, that returns numbers.
        arguments: what the numbers follow from, such as a geometry.

    Raises:
        ArgumentError: make is no function of a module: made anew for every call, it would never
            be found again.

    >>> import numpy as np
    >>> table(np.zeros(2), list, (1, 4, 9)).tolist()
    [1, 4, 9]
    >>> table(np.zeros(9), list, (1, 4, 9)) is table(np.zeros(2), list, (1, 4, 9))
    True
    """
    xp = namespace("table", of=of)
    key = (make, arguments, xp, str(of.device))
    found = _tables.get(key)
    if found is None:
        if "<" in getattr(make, "__qualname__", "<"):  # "<lambda>", "outer.<locals>.inner"
            raise ArgumentError(f"table: make is {make!r}, expected a function of a module")
        if len(_tables) >= MOST_TABLES:  # the oldest goes
            _tables.pop(next(iter(_tables)), None)
        found = _tables[key] = xp.asarray(make(*arguments), device=of.device)
    return found


@contextmanager
def one_read() -> Iterator[None]:
    """Let :func:`require` and :func:`number` leave on a GPU what is there, until :func:`read`."""
    token = _conditions.set([])
    try:
        yield
    finally:
        _conditions.reset(token)


def require(holds: Array, error: Callable[[], Exception]) -> None:
    """Raise an error unless a condition holds; on a GPU and within a step, in :func:`read`.

    Args:
        holds: without axes, bool.
        error: makes the error.

    >>> import numpy as np
    >>> require(np.all(np.ones(2) > 1), lambda: ValueError("too small"))
    Traceback (most recent call last):
    ValueError: too small
    """
    conditions = _conditions.get()
    if conditions is not None and device_of(holds) == "gpu":
        conditions.append((holds, error))
    elif not bool(holds):
        raise error()


def number(value: Array | float) -> Any:
    """Return a value without axes as a float; on a GPU and within a step as it is.

    >>> import numpy as np
    >>> number(np.float32(0.5))
    0.5
    """
    is_left = _conditions.get() is not None and device_of(value) == "gpu"
    return value if is_left else float(value)


def read(*values: Array | float) -> list[float]:
    """Return values without axes as floats, those on a GPU by one copy.

    Raises what :func:`require` was told of, the first one first.

    >>> import numpy as np
    >>> read(np.float32(0.5), 2)
    [0.5, 2.0]
    """
    conditions = _conditions.get() or []
    errors = [error for _, error in conditions]
    wanted = [*(holds for holds, _ in conditions), *values]
    conditions.clear()
    there = [value for value in wanted if device_of(value) == "gpu"]
    if there:
        xp = namespace("read", value=there[0])
        scalars = [xp.reshape(xp.astype(value, xp.float64), ()) for value in there]
        copied = iter(to_numpy(xp.stack(scalars)).tolist())
        wanted = [next(copied) if device_of(value) == "gpu" else value for value in wanted]
    found = [float(value) for value in wanted]
    for holds, error in zip(found, errors, strict=False):
        if not holds:
            raise error()
    return found[len(errors) :]

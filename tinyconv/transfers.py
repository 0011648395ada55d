"""What passes between host and device: constants go up once, numbers come down together.

A step on a GPU is a queue of kernels. To look at one of its numbers the host waits until the queue
is empty, and it stands idle while a table is copied to it. So tables stay there, and within
:func:`one_read` everything that the host wants to know of a step is read at once, by :func:`read`.
On the CPU nothing is copied, and every number is looked at where it is asked for.
"""

from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from tinyconv.backend import Array, device_of, namespace, to_numpy
from tinyconv.errors import ArgumentError

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

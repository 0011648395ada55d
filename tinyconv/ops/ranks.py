"""One operation for one, two and three axes: ``max_pool_nd`` becomes ``max_pool1d`` and so on.

Its docstring is written for two.
"""

import inspect
from collections.abc import Callable
from typing import Concatenate, NamedTuple, ParamSpec, TypeVar

#: The letters of the axes, by their number.
AXES = {1: ("L",), 2: ("H", "W"), 3: ("D", "H", "W")}

P = ParamSpec("P")
R = TypeVar("R")


class Over(NamedTuple):
    """What an operation is called, and over which axes it goes.

    >>> Over.of("max_pool_nd", 3).x
    '(N, C, D, H, W)'
    """

    op: str
    axes: tuple[str, ...]

    @classmethod
    def of(cls, name: str, rank: int) -> "Over":
        """Return that of an operation's name with ``_nd`` for its rank."""
        return cls(name.replace("_nd", f"{rank}d"), AXES[rank])

    @property
    def x(self) -> str:
        """The shape of the input."""
        return f"(N, C, {', '.join(self.axes)})"


def in_ranks(
    function: Callable[Concatenate[Over, P], R],
) -> tuple[Callable[P, R], Callable[P, R], Callable[P, R]]:
    """Return a function for one, two and three axes, each without its first argument.

    >>> def size_nd(over, x): "Return x."; return over.op, x
    >>> size1d, size2d, size3d = in_ranks(size_nd)
    >>> size3d(5), size3d.__name__
    (('size3d', 5), 'size3d')
    >>> print(size3d.__doc__)
    Return x.
    <BLANKLINE>
    As :func:`size2d`, for (N, C, D, H, W) in place of (N, C, H, W).
    """
    one, two, three = (_in_rank(function, rank) for rank in AXES)
    return one, two, three


def _in_rank(function: Callable[Concatenate[Over, P], R], rank: int) -> Callable[P, R]:
    over, two = Over.of(function.__name__, rank), Over.of(function.__name__, 2)

    def run(*args: P.args, **options: P.kwargs) -> R:
        return function(over, *args, **options)

    run.__name__ = run.__qualname__ = over.op
    run.__module__ = function.__module__
    run.__doc__ = function.__doc__
    if rank != 2:
        about = (function.__doc__ or "").partition("\n")[0]
        run.__doc__ = f"{about}\n\nAs :func:`{two.op}`, for {over.x} in place of {two.x}."
    _, *others = inspect.signature(function).parameters.values()
    signature = inspect.signature(function).replace(parameters=others)
    run.__signature__ = signature  # type: ignore[attr-defined]  # what inspect looks for
    return run

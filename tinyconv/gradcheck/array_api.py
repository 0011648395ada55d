"""Pairs of functions on arrays of any library that follows the array API standard."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tinyconv.gradcheck.check import check as check_functions
from tinyconv.gradcheck.report import Report
from tinyconv.gradcheck.trees import leaves_of, rebuild

__all__ = ["check"]


def check(
    forward: Callable[..., Any],
    backward: Callable[..., Any] | None,
    inputs: Sequence[Any],
    xp: Any,
    *,
    device: Any = None,
    **settings: Any,
) -> Report:
    """Check a pair of functions on arrays of the library ``xp``.

    Args:
        forward: as in :func:`tinyconv.gradcheck.check`, and so are ``backward`` and ``settings``.
        backward: gets and returns arrays of ``xp``.
        inputs: nests of NumPy arrays, which are handed over.
        xp: a namespace of the array API standard.
        device: one of that library, None for its default.
        settings: more arguments.

    >>> import array_api_strict as xp
    >>> check(xp.exp, lambda dy, x: dy * xp.exp(x), [np.ones(3)], xp).ok
    True
    """
    leaves = [
        xp.asarray(a, device=device) if isinstance(a, np.ndarray) else a
        for _, a in leaves_of(list(inputs))
    ]
    return check_functions(forward, backward, rebuild(list(inputs), iter(leaves)), **settings)

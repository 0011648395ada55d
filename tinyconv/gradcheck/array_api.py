"""Pairs of functions on arrays of any library that follows the array API standard."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from tinyconv.gradcheck.check import check as check_functions
from tinyconv.gradcheck.nests import leaves_of, rebuild
from tinyconv.gradcheck.report import Report


def check(
    forward: Any,
    backward: Any,
    inputs: Sequence[Any],
    xp: Any,
    *,
    device: Any = None,
    **settings: Any,
) -> Report:
    """Check a pair of functions on arrays of ``xp``, a namespace of the array API standard.

    The NumPy arrays among the inputs are handed over on the ``device``, None for the default one;
    for all else see :func:`tinyconv.gradcheck.check`.

    >>> import array_api_strict as xp
    >>> check(xp.exp, lambda dy, x: dy * xp.exp(x), [np.ones(3)], xp).ok
    True
    """
    leaves = (leaf for _, leaf in leaves_of(list(inputs)))
    own = (xp.asarray(a, device=device) if isinstance(a, np.ndarray) else a for a in leaves)
    return check_functions(forward, backward, rebuild(list(inputs), own), **settings)

"""What the methods of a layer of somebody's own return, checked where it comes in."""

from typing import Any

from tinyconv.backend import Array, namespace
from tinyconv.errors import ArgumentError
from tinyconv.messages import shown
from tinyconv.ops.checks import check_shape


def array_and_more(op: str, found: Any, expected: str, x: Array) -> tuple[Array, Any]:
    """Return the array, in the dtype of x, and what came beside it.

    Raises:
        ArgumentError: no pair came that begins with an array.

    >>> import numpy as np
    >>> array_and_more("Mine.compute", None, "y and what was saved", np.zeros(2))
    Traceback (most recent call last):
    tinyconv.errors.ArgumentError: Mine.compute: None was returned, expected y and what was saved
    """
    if not (isinstance(found, tuple) and len(found) == 2 and hasattr(found[0], "dtype")):
        names = ", ".join(type(each).__name__ for each in found) if type(found) is tuple else ""
        came = f"a tuple ({names})" if names else shown(found)
        raise ArgumentError(f"{op}: {came} was returned, expected {expected}")
    y, more = found
    if y.dtype != x.dtype:  # there was a float64 of NumPy's among the factors
        xp = namespace(op, x=x, y=y)
        # It is complex where the complex step moves a parameter.
        y = y if xp.isdtype(y.dtype, "complex floating") else xp.astype(y, x.dtype)
    return y, more


def copy_gradients(op: str, found: Any, into: dict[str, Array]) -> None:
    """Copy gradients to where the network has them.

    Raises:
        ArgumentError: there is not one for each name.
        ShapeError: one has another shape.
    """
    named = found if isinstance(found, dict) else {}
    if named.keys() != into.keys():
        came, expected = list(named), list(into)
        raise ArgumentError(f"{op}: gradients of {came} were returned, expected of {expected}")
    for name, grad in named.items():
        check_shape(op, tuple(into[name].shape), **{name: grad})
        into[name][...] = grad

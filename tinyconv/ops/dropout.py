"""Dropout with a mask that the caller draws, so that the operation itself is deterministic.

Source: Srivastava et al., "Dropout: a simple way to prevent neural networks from overfitting"
(2014), in the inverted form: what is kept is scaled up in training, and nothing at test time.
"""

from types import ModuleType
from typing import NamedTuple

from tinyconv.backend import Array, namespace, require_floating
from tinyconv.errors import DtypeError, ShapeError
from tinyconv.ops.checks import check_shape, incoming


class DropoutSaved(NamedTuple):
    """What the forward pass keeps for the backward pass."""

    mask: Array  #: bool, of the shape of x; True where x is kept
    p: float


def dropout(x: Array, mask: Array, p: float) -> tuple[Array, DropoutSaved]:
    """Keep x where the mask is True, scaled by ``1 / (1 - p)``, and put 0 elsewhere.

    Args:
        mask: bool, of the shape of x, each element True with probability 1 - p.
        p: the probability of dropping an element, 0 <= p < 1.

    Returns:
        y of the shape of x, whose expectation over the masks is x, and what
        :func:`dropout_backward` needs.

    Raises:
        ShapeError: p is out of range, or the mask does not have the shape of x.
        DtypeError: x is not floating-point or the mask not bool.
        DeviceError: x and mask are not of one library.

    >>> import numpy as np
    >>> dropout(np.array([1.0, 2.0, 3.0]), np.array([True, False, True]), 0.5)[0]
    array([2., 0., 6.])
    """
    xp = namespace("dropout", x=x, mask=mask)
    require_floating("dropout", xp, x=x)
    if not xp.isdtype(mask.dtype, "bool"):
        raise DtypeError(f"dropout: mask has dtype {mask.dtype}, expected bool")
    check_shape("dropout", tuple(x.shape), mask=mask)
    if not 0 <= p < 1:
        raise ShapeError(f"dropout: p is {p!r}, expected 0 <= p < 1")
    saved = DropoutSaved(mask, p)
    return _masked(xp, x, saved), saved


def dropout_backward(dy: Array, saved: DropoutSaved) -> Array:
    """Backpropagate through :func:`dropout`: the same mask and the same scale, applied to dy.

    >>> import numpy as np
    >>> y, saved = dropout(np.array([1.0, 2.0, 3.0]), np.array([True, False, True]), 0.5)
    >>> dropout_backward(np.array([1.0, 1.0, -1.0]), saved)
    array([ 2.,  0., -2.])
    """
    xp = incoming("dropout_backward", dy, mask=saved.mask)
    return _masked(xp, dy, saved)


def _masked(xp: ModuleType, x: Array, saved: DropoutSaved) -> Array:
    return xp.where(saved.mask, x * (1 / (1 - saved.p)), xp.zeros_like(x))

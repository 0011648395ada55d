"""Where the first value that is not finite appears."""

import numpy as np

from tinyconv.backend import Array, namespace
from tinyconv.engines.base import Net

__all__ = ["check_finite"]


def check_finite(net: Net, x: Array, step: int = 0) -> str | None:
    """Run a forward pass; say where the first value that is not finite appears, if one does.

    >>> from tinyconv.layers import Chain, Linear, ReLU
    >>> net = Chain([Linear(2, 2), ReLU()])
    >>> check_finite(net, np.array([[1.0, float("nan")]]))
    'the input of the network holds values that are not finite'
    >>> check_finite(net, np.array([[1.0, 2.0]])) is None
    True
    """
    xp = namespace("check_finite", x=x)
    if not bool(xp.all(xp.isfinite(x))):
        return "the input of the network holds values that are not finite"
    with np.errstate(over="ignore", invalid="ignore"):
        net.forward(x, True, step)
    for layer in net.walk():
        for name, values in layer.params.items():
            if not bool(xp.all(xp.isfinite(values))):
                where = f"layer {layer.path} ({type(layer).__name__})"
                return f"{where} has a {name} that is not finite"
        if not bool(xp.all(xp.isfinite(layer.y))):
            where = f"layer {layer.path} ({type(layer).__name__})"
            return f"{where} is the first whose output is not finite"
    return None

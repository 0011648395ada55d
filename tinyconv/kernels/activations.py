"""Which number an activation has in all kernels, and what a plan must know of it."""

from collections.abc import Mapping
from typing import Any, NamedTuple

#: Names of the layers, with their options of text, in the order of their numbers: that of
#: ``common.cuh``, too.
NAMES = (
    *("Identity", "ReLU", "Sigmoid", "Tanh", "ScaledTanh", "LeakyReLU", "ELU"),
    *("GELU none", "GELU tanh", "SiLU", "Softplus"),
)
IDENTITY, RELU = NAMES.index("Identity"), NAMES.index("ReLU")


class Chosen(NamedTuple):
    """An activation as kernels take it."""

    code: int = IDENTITY  #: its number
    parameter: float = 0.0  #: its option that is a number; 0 without one
    needs_z: bool = False  #: whether its slope does not follow from its output
    #: whether its slope does not follow from its input without computing the output.
    needs_y: bool = False
    #: whether a maximum may be taken before it instead of after it. One that does not increase
    #: falls as far as one place, and rises from there on.
    increases: bool = True


def find(name: str, config: Mapping[str, Any]) -> Chosen | None:
    """Return what computes the layer of that name with these options; None if nothing does.

    >>> find("LeakyReLU", {"negative_slope": -0.5})
    Chosen(code=5, parameter=-0.5, needs_z=True, needs_y=False, increases=False)
    >>> find("GELU", {"approximate": "tanh"}).code, find("Softmax", {})
    (8, None)
    """
    words = [value for value in config.values() if isinstance(value, str)]
    numbers = [float(value) for value in config.values() if not isinstance(value, str)]
    full = " ".join([name, *words])
    if full not in NAMES or len(numbers) > 1:
        return None
    p = (*numbers, 0.0)[0]
    falls = name in ("GELU", "SiLU") or (name in ("LeakyReLU", "ELU") and p < 0)
    needs_y = name in ("Sigmoid", "Tanh", "ScaledTanh")
    needs_z = falls or name in ("ELU", "Softplus")
    return Chosen(NAMES.index(full), p, needs_z, needs_y, not falls)

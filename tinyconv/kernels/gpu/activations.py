"""Which number an activation has in the kernels."""

from collections.abc import Mapping
from typing import Any, NamedTuple

#: Name of the layer, with its options of text -> number, in the order of common.cuh.
CODES = {
    name: code
    for code, name in enumerate(
        (
            "",
            "ReLU",
            "Sigmoid",
            "Tanh",
            "ScaledTanh",
            "LeakyReLU",
            "ELU",
            "GELU none",
            "GELU tanh",
            "SiLU",
            "Softplus",
        )
    )
}


class Chosen(NamedTuple):
    """An activation as kernels take it.

    Attributes:
        code: its number.
        parameter: its option that is a number; 0 without one.
        needs_z: whether the slope is computed from the input, not from the output.
        increases: whether a maximum may be taken before it instead of after it.
    """

    code: int = 0
    parameter: float = 0.0
    needs_z: bool = False
    increases: bool = True


IDENTITY = Chosen()


def find(name: str, config: Mapping[str, Any]) -> Chosen | None:
    """Return the activation of a layer of this name and configuration, if kernels know it.

    >>> find("LeakyReLU", {"negative_slope": 0.5})
    Chosen(code=5, parameter=0.5, needs_z=True, increases=True)
    >>> find("GELU", {"approximate": "tanh"}).code, find("Softmax", {})
    (8, None)
    """
    words = [value for value in config.values() if isinstance(value, str)]
    numbers = [float(value) for value in config.values() if not isinstance(value, str)]
    code = CODES.get(" ".join([name, *words]))
    if code is None or len(numbers) > 1:
        return None
    p = (*numbers, 0.0)[0]
    increases = name not in ("GELU", "SiLU") and not (name in ("LeakyReLU", "ELU") and p < 0)
    return Chosen(code, p, code >= CODES["LeakyReLU"], increases)

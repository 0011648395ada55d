"""Functions with right gradients at hard points: kinks, ties, saturation, float32.

``case_of(seed)`` is one of them; the shapes are few, so that compilers may keep what they made.
"""

import functools
from dataclasses import dataclass
from typing import Any

import numpy as np

from . import bugs
from . import bugs_elsewhere as elsewhere

KINDS = ["normal", "ties", "zeros", "large", "small", "near ties", "mixed", "offset"]
SMOOTH = ["normal", "large", "small", "mixed"]


def draw_array(kind: str, shape: tuple[int, ...], seed: Any) -> Any:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=shape)
    if kind == "ties":
        return rng.integers(-2, 3, size=shape).astype(float)
    if kind == "zeros":
        return x * (rng.random(shape) < 0.3)
    if kind == "large":
        return x * 1e4
    if kind == "small":
        return x * 1e-5
    if kind == "near ties":
        near = rng.choice([0, 1e-15, 1e-12, 1e-9, 1e-7, 1e-5], size=shape)
        return rng.integers(-1, 2, size=shape) + near
    if kind == "mixed":
        return x * 10.0 ** rng.integers(-4, 4, size=shape)
    if kind == "offset":
        return x + 100
    return x


@dataclass(frozen=True)
class Family:
    """A function with its right gradient, and how to draw its inputs."""

    name: str
    case: bugs.Case
    kinds: tuple[str, ...]

    @property
    def shift(self) -> Any:
        """What is added to the first input, so that it is in the domain."""
        return 1e5 * np.eye(4) if self.case is elsewhere.SOLVE else 0


def _op(op: str, *shapes: tuple[int, ...], **options: Any) -> bugs.Case:
    return bugs._case(op, *(np.zeros(shape) for shape in shapes), **options)


FAMILIES = [
    *(
        Family(name.lower(), getattr(bugs, name), tuple(KINDS))
        for name in (
            *("CONV", "CONV_STRIDED", "CONV_GROUPED", "LINEAR", "MAX_POOL", "MAX_POOL_OVERLAPPING"),
            *("AVG_POOL", "L2_POOL", "RELU", "SIGMOID", "TANH", "DROPOUT", "SOFTMAX", "LOSS"),
        )
    ),
    Family("gelu", _op("gelu", (4, 6)), tuple(KINDS)),
    Family("leaky relu", _op("leaky_relu", (4, 6), negative_slope=0.1), tuple(KINDS)),
    *(
        Family(name.lower(), getattr(elsewhere, name), tuple(KINDS))
        for name in (
            *("LAYER_NORM", "SQUARE_SOFTMAX", "LOG_SOFTMAX", "LOGSUMEXP", "EMBEDDING", "EINSUM"),
            *("DEPTHWISE", "SCALE", "ROWS", "CUMSUM", "RESIDUAL", "SQUARES"),
        )
    ),
    *(
        Family(name.lower(), getattr(elsewhere, name), ("normal", "small", "zeros"))
        for name in ("ATTENTION", "SOLVE")
    ),
    Family("unit", elsewhere.UNIT, tuple(SMOOTH)),
    Family("complex", elsewhere.COMPLEX, ("normal",)),
]


@functools.cache
def family_of(seed: int) -> Family:
    return FAMILIES[int(np.random.default_rng([seed, 0]).integers(len(FAMILIES)))]


def case_of(seed: int) -> tuple[str, Family, list[Any]]:
    """Return what it is, the family, and the inputs."""
    family = family_of(seed)
    rng = np.random.default_rng([seed, 1])
    kind = str(rng.choice(family.kinds))
    dtype = str(rng.choice(["float64", "float64", "float64", "float32"]))
    inputs: list[Any] = []
    for k, a in enumerate(family.case.inputs):
        if a.dtype.kind == "f":
            x = draw_array(kind, a.shape, [seed, 2, k])
            x = x + family.shift if k == 0 else x
            inputs.append(x.astype(dtype))
        else:
            inputs.append(a)
    return f"{family.name}, {kind}, {dtype}", family, inputs

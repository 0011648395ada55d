"""The network that the page works out by hand, with its numbers from the library's operations.

    x --w, b--> z --window--> p --activation--> a --W, B--> u --softmax--> y, cost C

``dz`` is the gradient of C with respect to z.
"""

from collections.abc import Callable, Mapping
from math import prod
from typing import Annotated, Any

import numpy as np

from tinyconv import ops
from tinyconv.arguments import Count, Natural, Numbers, OneOf, checked
from tinyconv.backend import Values
from tinyconv.errors import ShapeError

#: What the page shows first. Neither kernel equals its flip or its transpose, so that a backward
#: pass which forgot to flip would give other numbers.
# fmt: off
EXAMPLE: dict[str, Any] = {
    "size": 6, "kernel": 3, "maps": 2, "stride": 1, "padding": 0, "dilation": 1,
    "pool": "max", "window": 2, "poolStride": 2,
    "activation": "relu",
    "classes": 3, "label": 0, "rate": 0.05,
    "x": [
        0, 0.5, 1, 1, 0.5, 0,
        0, 0, 0, 0.5, 1, 0,
        0, 0, 0.5, 1, 0, 0,
        0, 0, 1, 0.5, 0, 0,
        0, 0.5, 1, 0, 0, 0,
        0, 0.5, 0.5, 0, 0, 0,
    ],
    "w": [
        1, 0, -1,
        2, 1, 0,
        0, -1, -2,

        0, 1, 2,
        -1, 0, 1,
        -2, -1, 0,
    ],
    "b": [-0.5, 0.5],
    "W": [
        0.25, -0.25, 0.5, 0.25, 0.25, 0, -0.25, 0,
        0, 0.25, -0.25, 0, -0.25, 0.25, 0.25, 0.5,
        -0.25, 0, 0.25, -0.25, 0, 0.25, 0.25, -0.5,
    ],
    "B": [0.25, 0, -0.25],
}
# fmt: on

#: The page's names of poolings -> those of the operations, which activations have in common.
_POOLS = {"max": "max_pool2d", "average": "avg_pool2d", "l2": "l2_pool2d"}


def numbers(state: Mapping[str, Any]) -> dict[str, list[float]]:
    """Return every array of one forward and one backward pass, and the cost after one update.

    Args:
        state: settings and parameters, as in :data:`EXAMPLE`; arrays are flat lists.

    Returns:
        name -> its numbers in row-major order, float64; ``C`` and ``C_after`` hold one each.

    Raises:
        ShapeError: a window does not fit, or an array has another size.
        ArgumentError: an entry is missing or not what it should be.

    >>> result = numbers(EXAMPLE)
    >>> len(result["z"]), len(result["dx"])
    (32, 36)
    >>> result["C_after"] < result["C"]
    True
    """
    result = explore(**state)
    moved = {
        name: np.array(state[name]) - state["rate"] * np.ravel(result[f"d{name}"])
        for name in ("w", "b", "W", "B")
    }
    result["C_after"] = explore(**{**state, **moved})["C"]
    return {name: np.ravel(value).tolist() for name, value in result.items()}


_Flat = Annotated[Any, Numbers()]


@checked
def explore(
    *,
    size: Count,
    kernel: Count,
    stride: int,
    padding: int,
    dilation: int,
    pool: Annotated[str, OneOf(*_POOLS)],
    window: int,
    poolStride: int,
    activation: Annotated[str, OneOf("relu", "sigmoid", "tanh")],
    label: Natural,
    rate: float,
    x: _Flat,
    w: _Flat,
    b: _Flat,
    W: _Flat,
    B: _Flat,
    **others: Any,
) -> dict[str, Any]:
    """Return every array of a forward and a backward pass of a state."""
    pool_of, pool_backward = _pair(_POOLS[pool])
    activation_of, activation_backward = _pair(activation)

    image = _shaped("x", x, 1, 1, size, size)
    weight = _shaped("w", w, len(b), 1, kernel, kernel)
    z, conv_saved = ops.conv2d(
        image, weight, np.array(b, float), stride=stride, padding=padding, dilation=dilation
    )
    p, pool_saved = pool_of(z, window, stride=poolStride)
    a, activation_saved = activation_of(p)
    rows = _shaped("W", W, len(B), a.size)
    u, linear_saved = ops.linear(a.reshape(1, -1), rows, np.array(B, float))
    C, loss_saved = ops.cross_entropy(u, np.array([label]))

    du = ops.cross_entropy_backward(1.0, loss_saved)
    da, dW, dB = ops.linear_backward(du, linear_saved)
    dp = activation_backward(da.reshape(a.shape), activation_saved)
    dz = pool_backward(dp, pool_saved)
    dx, dw, db = ops.conv2d_backward(dz, conv_saved)
    return {
        "z": z, "p": p, "a": a, "u": u, "y": ops.softmax(u)[0], "C": C,
        "du": du, "dW": dW, "dB": dB, "da": da, "dp": dp, "dz": dz, "dw": dw, "db": db, "dx": dx,
    }  # fmt: skip


def _shaped(name: str, numbers: list[float], *shape: int) -> Values:
    if len(numbers) != prod(shape):
        raise ShapeError(
            f"explore: {name} has {len(numbers)} numbers, expected {prod(shape)} of shape {shape}"
        )
    return np.array(numbers, np.float64).reshape(shape)


def _pair(name: str) -> tuple[Callable[..., Any], Callable[..., Any]]:
    return getattr(ops, name), getattr(ops, f"{name}_backward")

"""The network that the page works out by hand, with its numbers from the library's operations.

    x --w, b--> z --window--> p --activation--> a --W, B--> u --softmax--> y, cost C

``dz`` is the gradient of C with respect to z.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from tinyconv import ops
from tinyconv.backend import Values

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

    >>> result = numbers(EXAMPLE)
    >>> len(result["z"]), len(result["dx"])
    (32, 36)
    >>> result["C_after"] < result["C"]
    True
    """
    arrays = {name: np.array(state[name], np.float64) for name in ("x", "w", "b", "W", "B")}
    result = _passes(state, **arrays)
    moved = {
        name: value - state["rate"] * result[f"d{name}"].reshape(value.shape)
        for name, value in arrays.items()
        if name != "x"
    }
    result["C_after"] = _passes(state, x=arrays["x"], **moved)["C"]
    return {name: np.ravel(value).tolist() for name, value in result.items()}


def _passes(
    state: Mapping[str, Any],
    x: Values,
    w: Values,
    b: Values,
    W: Values,
    B: Values,
) -> dict[str, Any]:
    size, kernel = state["size"], state["kernel"]
    pool, pool_backward = _pair(_POOLS[state["pool"]])
    activation, activation_backward = _pair(state["activation"])
    label = np.array([state["label"]])

    z, conv_saved = ops.conv2d(
        x.reshape(1, 1, size, size),
        w.reshape(-1, 1, kernel, kernel),
        b,
        stride=state["stride"],
        padding=state["padding"],
        dilation=state["dilation"],
    )
    p, pool_saved = pool(z, state["window"], stride=state["poolStride"])
    a, activation_saved = activation(p)
    u, linear_saved = ops.linear(a.reshape(1, -1), W.reshape(len(B), -1), B)
    C, loss_saved = ops.cross_entropy(u, label)

    du = ops.cross_entropy_backward(1.0, loss_saved)
    da, dW, dB = ops.linear_backward(du, linear_saved)
    dp = activation_backward(da.reshape(a.shape), activation_saved)
    dz = pool_backward(dp, pool_saved)
    dx, dw, db = ops.conv2d_backward(dz, conv_saved)
    return {
        "z": z, "p": p, "a": a, "u": u, "y": ops.softmax(u)[0], "C": C,
        "du": du, "dW": dW, "dB": dB, "da": da, "dp": dp, "dz": dz, "dw": dw, "db": db, "dx": dx,
    }  # fmt: skip


def _pair(name: str) -> tuple[Callable[..., Any], Callable[..., Any]]:
    return getattr(ops, name), getattr(ops, f"{name}_backward")

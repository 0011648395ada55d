"""Exercises with blanks, graded by the gradient checker; and slopes that lessons measure."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from tinyconv import ops
from tinyconv.backend import Values
from tinyconv.errors import ArgumentError
from tinyconv.gradcheck import check


@dataclass(frozen=True)
class Exercise:
    """A backward pass to be written.

    Attributes:
        lesson: to which it belongs.
        equation: of the forward pass.
        task: the signature to write, and what it returns.
        forward: the forward pass, whose derivatives are asked for.
        shapes: of the arrays that it is tried on.
    """

    lesson: int
    equation: str
    task: str
    forward: Callable[..., Values]
    shapes: tuple[tuple[int, ...], ...]


#: Name of an exercise -> the exercise.
EXERCISES = {
    "neuron": Exercise(
        1,
        "a = 1 / (1 + exp(-(w x + b)))",
        "backward(da, x, w, b) -> dx, dw, db",
        lambda x, w, b: np.asarray(1 / (1 + np.exp(-(w * x + b)))),
        ((), (), ()),
    ),
    "layer": Exercise(
        1,
        "z = x w^T + b, a row of x is a sample",
        "backward(dz, x, w, b) -> dx, dw, db",
        lambda x, w, b: np.asarray(x @ w.T + b),
        ((4, 3), (2, 3), (2,)),
    ),
    "convolution": Exercise(
        2,
        "y[p, q] = sum_{i, j} w[i, j] x[p + i, q + j]",
        "backward(dy, x, w) -> dx, dw",
        lambda x, w: np.asarray(ops.conv2d(x[None, None], w[None, None])[0][0, 0]),
        ((5, 6), (3, 2)),
    ),
    "overlapping max-pooling": Exercise(
        3,
        "y[p, q] = max of x[p : p + 2, q : q + 2]",
        "backward(dy, x) -> dx",
        lambda x: np.asarray(ops.max_pool2d(x[None, None], 2, stride=1)[0][0, 0]),
        ((4, 5),),
    ),
    "L2 pooling": Exercise(
        3,
        "y[p, q] = sqrt of the sum of squares of x[2 p : 2 p + 2, 2 q : 2 q + 2]",
        "backward(dy, x) -> dx",
        lambda x: np.asarray(ops.l2_pool2d(x[None, None], 2)[0][0, 0]),
        ((4, 6),),
    ),
    "softplus": Exercise(
        4,
        "y = log(1 + exp(x)), an activation whose slope is never 0",
        "backward(dy, x) -> dx",
        lambda x: np.asarray(np.log1p(np.exp(x))),
        ((3, 4),),
    ),
    "upsampling": Exercise(
        5,
        "y[p, q] = x[p // 2, q // 2]: each pixel becomes four",
        "backward(dy, x) -> dx",
        lambda x: np.asarray(x.repeat(2, axis=0).repeat(2, axis=1)),
        ((3, 4),),
    ),
    "im2col": Exercise(
        6,
        "col[i, j, p, q] = x[p + i, q + j] of a 2x2 window",
        "backward(dcol, x) -> dx",
        lambda x: np.stack(
            [[x[i : i + 3, j : j + 4] for j in range(2)] for i in range(2)]  # (2, 2, 3, 4)
        ),
        ((4, 5),),
    ),
}


def grade(name: str, backward: Callable[..., Any]) -> str:
    """Compare a student's backward pass with numeric derivatives, and say what is wrong with it.

    Args:
        name: of the exercise, one of :data:`EXERCISES`.
        backward: takes the gradient of the result, then the arrays of the forward pass; returns
            the gradient of each of these.

    Returns:
        ``"right"``, or a sentence on what is wrong.

    Raises:
        ArgumentError: there is no such exercise.

    >>> grade("softplus", lambda dy, x: dy / (1 + np.exp(-x)))
    'right'
    >>> grade("softplus", lambda dy, x: ...)
    'not filled in yet: there is still a blank (...)'
    """
    if name not in EXERCISES:
        raise ArgumentError(f"grade: no exercise {name!r}, expected one of {list(EXERCISES)}")
    exercise = EXERCISES[name]
    rng = np.random.default_rng(0)
    # Sizes away from 0, all different: no kink of a maximum is near.
    inputs = [
        np.asarray(rng.permutation(np.prod(shape, dtype=int)) * 0.1 + 0.35).reshape(shape) - 0.8
        for shape in exercise.shapes
    ]
    y = exercise.forward(*inputs)
    tried = backward(np.ones_like(y), *inputs)
    given = tried if isinstance(tried, tuple) else (tried,)
    if any(each is ... for each in given):
        return "not filled in yet: there is still a blank (...)"
    report = check(exercise.forward, backward, inputs)
    if report.ok:
        return "right"
    return report.hint or f"{report.verdict}: the gradients differ from numeric derivatives"


def slopes(cost: Callable[[], float], values: Values, h: float = 1e-5) -> Values:
    """Return how a cost changes with each of the values, by moving one at a time.

    Args:
        cost: reads ``values`` and returns a number.
        values: of any shape, floating-point; as before when the function returns.
        h: how far each is moved to both sides.

    Returns:
        The slopes, of the shape of ``values``.

    >>> x = np.array([1.0, 3.0])
    >>> slopes(lambda: float(np.sum(x**2)), x).round(6)
    array([2., 6.])
    """
    result = np.empty_like(values)
    for at in np.ndindex(values.shape):
        was = values[at]
        values[at] = was + h
        above = cost()
        values[at] = was - h
        below = cost()
        values[at] = was
        result[at] = (above - below) / (2 * h)
    return result

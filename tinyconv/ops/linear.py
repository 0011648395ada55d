"""The fully connected map ``y = x w^T + b``.

Source: Nielsen, "Neural Networks and Deep Learning", chapter 2, equations BP1 to BP4, for a batch
at once and with the weights stored as (out, in).
"""

from typing import NamedTuple

from tinyconv.backend import Array, floating
from tinyconv.errors import ShapeError
from tinyconv.ops.checks import check_rank, check_shape, incoming


class LinearSaved(NamedTuple):
    """What the forward pass keeps for the backward pass."""

    x: Array  #: (N, I)
    w: Array  #: (O, I)
    has_bias: bool


def linear(x: Array, w: Array, b: Array | None = None) -> tuple[Array, LinearSaved]:
    """Map a batch of vectors: [N x I] @ [I x O] -> [N x O], plus the bias.

    Args:
        x: (N, I), floating-point.
        w: (O, I), of the dtype of x.
        b: (O,), or None for no bias.

    Returns:
        y (N, O) and what :func:`linear_backward` needs.

    Raises:
        ShapeError: the shapes do not fit each other.

    >>> import numpy as np
    >>> y, saved = linear(np.array([[1.0, 2.0]]), np.array([[3.0, 4.0], [5.0, 6.0]]))
    >>> y
    array([[11., 17.]])
    """
    xp = floating("linear", x=x, w=w, b=b)
    check_rank("linear", "(N, I)", x=x)
    check_rank("linear", "(O, I)", w=w)
    check_shape("linear", (w.shape[0],), b=b)
    if x.shape[1] != w.shape[1]:
        raise ShapeError(
            f"linear: w has shape {tuple(w.shape)}, expected (O, {x.shape[1]}) "
            f"because x has {x.shape[1]} features"
        )
    y = xp.matmul(x, xp.matrix_transpose(w))
    return (y if b is None else y + b), LinearSaved(x, w, b is not None)


def linear_backward(dy: Array, saved: LinearSaved) -> tuple[Array, Array, Array | None]:
    """Backpropagate through :func:`linear`.

        dx = dy w       [N x O] @ [O x I] -> [N x I]
        dw = dy^T x     [O x N] @ [N x I] -> [O x I]
        db = sum of dy over the samples

    Returns:
        dx (N, I), dw (O, I), db (O,) or None where there was no bias.

    >>> import numpy as np
    >>> y, saved = linear(np.array([[1.0, 2.0]]), np.array([[3.0, 4.0], [5.0, 6.0]]))
    >>> dx, dw, db = linear_backward(np.array([[1.0, -1.0]]), saved)
    >>> dx.tolist(), dw.tolist(), db
    ([[-2.0, -2.0]], [[1.0, 2.0], [-1.0, -2.0]], None)
    """
    x, w, has_bias = saved
    xp = incoming("linear_backward", dy, (x.shape[0], w.shape[0]), x=x)
    dx = xp.matmul(dy, w)
    dw = xp.matmul(xp.matrix_transpose(dy), x)
    db = xp.sum(dy, axis=0) if has_bias else None
    return dx, dw, db

"""Subsampling with a trainable coefficient and bias, as in the layers S2 and S4 of LeNet-5.

Source: LeCun, Bottou, Bengio and Haffner, "Gradient-based learning applied to document
recognition" (1998), section II.B.
"""

from typing import NamedTuple

from tinyconv.backend import Array, floating
from tinyconv.geometry import Geometry, Sizes
from tinyconv.ops.checks import check_shape, incoming
from tinyconv.ops.pool import prepare, shares, sums
from tinyconv.ops.ranks import Over, in_ranks


class SubsampleSaved(NamedTuple):
    """What the forward pass of subsampling keeps for the backward pass."""

    sums: Array  #: (N, C, OH, OW), of the windows of x
    w: Array  #: (C,)
    geometry: Geometry


def subsample_nd(
    over: Over,
    x: Array,
    w: Array,
    b: Array,
    kernel_size: Sizes,
    *,
    stride: Sizes | None = None,
) -> tuple[Array, SubsampleSaved]:
    """Add up each window, times one coefficient a channel, plus one bias a channel.

        y[n, c, p, q] = w[c] sum_{i, j} x[n, c, s p + i, s q + j] + b[c]

    LeNet-5 passes y on through a sigmoid.

    Args:
        w: (C,), of the dtype of x.
        b: (C,), of the dtype of x.

    Raises:
        ShapeError: the shapes do not fit each other, or the window does not fit.

    >>> import numpy as np
    >>> x = np.array([[[[1.0, 3.0], [4.0, 2.0]]]])
    >>> subsample2d(x, np.array([0.5]), np.array([-1.0]), 2)[0].item()
    4.0
    """
    xp = floating(over.op, x=x, w=w, b=b)
    _, geometry = prepare(over, x, kernel_size, stride, 0)
    C = x.shape[1]
    check_shape(over.op, (C,), w=w, b=b)
    of_windows = sums(xp, x, geometry)
    y = xp.reshape(w, (C, 1, 1)) * of_windows + xp.reshape(b, (C, 1, 1))
    return y, SubsampleSaved(of_windows, w, geometry)


def subsample_nd_backward(
    over: Over, dy: Array, saved: SubsampleSaved
) -> tuple[Array, Array, Array]:
    """Backpropagate through :func:`subsample2d`, with S for the sums of the windows:

        dx[n, c, h, w] = w[c] times the sum of dy[n, c, p, q] over the windows that hold (h, w)
        dw[c] = sum_{n, p, q} dy[n, c, p, q] S[n, c, p, q]
        db[c] = sum_{n, p, q} dy[n, c, p, q]

    Returns:
        dx (N, C, H, W), dw (C,), db (C,).

    >>> import numpy as np
    >>> x = np.array([[[[1.0, 3.0], [4.0, 2.0]]]])
    >>> y, saved = subsample2d(x, np.array([0.5]), np.array([-1.0]), 2)
    >>> dx, dw, db = subsample2d_backward(np.array([[[[3.0]]]]), saved)
    >>> dx[0, 0], dw, db
    (array([[1.5, 1.5],
           [1.5, 1.5]]), array([30.]), array([3.]))
    """
    of_windows, w, geometry = saved
    xp = incoming(over.op, dy, tuple(of_windows.shape), w=w)
    dx = shares(xp, xp.reshape(w, (-1, 1, 1)) * dy, geometry)
    return dx, xp.sum(dy * of_windows, axis=(0, 2, 3)), xp.sum(dy, axis=(0, 2, 3))


subsample2d = in_ranks(subsample_nd)[1]
subsample2d_backward = in_ranks(subsample_nd_backward)[1]

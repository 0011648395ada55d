r"""Transposed convolution: what the backward pass of a convolution does to dy, done forward.

Every element of x lays its multiple of the kernel onto the output, s apart:

    y[n, o, h, w] = b[o] + sum_{c, i, j, p, q} w[c, o, i, j] x[n, c, p, q]
                    over all with s p + d i - P = h and s q + d j - P = w

with stride s, dilation d and P cut off each side. Seen from the other end, a convolution with the
same arguments leads from the size of y to the size of x, and its matrix is the transpose.

Source: Dumoulin and Visin, "A guide to convolution arithmetic for deep learning" (2016).
"""

import math
from typing import NamedTuple

from tinyconv.backend import Array, floating
from tinyconv.errors import ShapeError
from tinyconv.geometry import Geometry, Sides, Sizes, transposed_window
from tinyconv.ops.checks import check_rank, check_shape, incoming
from tinyconv.ops.conv import col2im, im2col
from tinyconv.ops.ranks import Over, in_ranks


class ConvTransposeSaved(NamedTuple):
    """What the forward pass of a transposed convolution keeps for the backward pass."""

    x: Array  #: (N, C, H, W)
    w: Array  #: (C, O/groups, KH, KW)
    has_bias: bool
    groups: int
    geometry: Geometry  #: of the convolution from y to x: its output is the size of x


def conv_transpose_nd(
    over: Over,
    x: Array,
    w: Array,
    b: Array | None = None,
    *,
    stride: Sizes = 1,
    padding: Sides = 0,
    output_padding: Sizes = 0,
    groups: int = 1,
    dilation: Sizes = 1,
) -> tuple[Array, ConvTransposeSaved]:
    """Spread a batch of images out with a bank of kernels.

    Per sample and group it is one product, [K x C/G] @ [C/G x P] -> [K x P], of the transposed
    weights with x: K = O/G * KH * KW outputs of one kernel, P = H * W positions. The columns are
    then added up where they overlap. OH = (H - 1) s - 2 P + d (KH - 1) + output_padding + 1.

    Args:
        x: (N, C, H, W), floating-point.
        w: (C, O/groups, KH, KW), of the dtype of x.
        b: (O,), or None for no bias.
        stride: distance between two neighbouring kernels in y.
        padding: how many elements are cut off each side: an integer, one for each axis, or a
            (before, after) pair for each axis.
        output_padding: how many elements are added below and right; they get what the cut would
            have left them. Less than the stride or the dilation.
        dilation: distance between two elements of the kernel.

    Returns:
        y (N, O, OH, OW) and what :func:`conv_transpose2d_backward` needs.

    Raises:
        ShapeError: the shapes do not fit each other, or nothing is left of y.

    >>> import numpy as np
    >>> x, w = np.array([[[[1.0, 10.0]]]]), np.array([[[[1.0, 2.0, 3.0]]]])
    >>> conv_transpose2d(x, w, stride=(1, 2))[0]
    array([[[[ 1.,  2., 13., 20., 30.]]]])
    """
    xp = floating(over.op, x=x, w=w, b=b)
    check_rank(over.op, over.x, x=x)
    check_rank(over.op, f"(C, O/groups, {', '.join('K' + axis for axis in over.axes)})", w=w)
    N, C = x.shape[:2]
    if w.shape[0] != C or 0 in w.shape:
        raise ShapeError(
            f"{over.op}: w has shape {tuple(w.shape)}, expected (C={C}, O/groups, ...) without an "
            f"axis of length 0 because x has {C} channels"
        )
    if not isinstance(groups, int) or groups < 1 or C % groups:
        raise ShapeError(
            f"{over.op}: groups is {groups!r}, expected a divisor of the {C} input channels"
        )
    O, kernel = w.shape[1] * groups, tuple(w.shape[2:])
    check_shape(over.op, (O,), b=b)
    geometry = transposed_window(
        over.op, tuple(x.shape[2:]), kernel, stride, padding, dilation, output_padding
    )
    K, P = w.shape[1] * math.prod(kernel), math.prod(geometry.output)

    rows = xp.reshape(x, (N, groups, C // groups, P))
    col = xp.matmul(xp.matrix_transpose(xp.reshape(w, (groups, C // groups, K))), rows)
    y = col2im(xp.reshape(col, (N, O, *kernel, *geometry.output)), geometry)
    if b is not None:
        y = y + xp.reshape(b, (O, *(1 for _ in over.axes)))
    return y, ConvTransposeSaved(x, w, b is not None, groups, geometry)


def conv_transpose_nd_backward(
    over: Over, dy: Array, saved: ConvTransposeSaved
) -> tuple[Array, Array, Array | None]:
    """Backpropagate through :func:`conv_transpose2d`.

    The forward pass is y = col2im(w^T x) + b, so with the columns of dy as a matrix

        db = sum of dy over samples and positions
        dx = w im2col(dy)                         [C/G x K] @ [K x P] -> [C/G x P]
        dw = x im2col(dy)^T, summed over samples  [C/G x P] @ [P x K] -> [C/G x K]

    Returns:
        dx (N, C, H, W), dw (C, O/groups, KH, KW), db (O,) or None where there was no bias.

    >>> import numpy as np
    >>> x, w = np.array([[[[1.0, 10.0]]]]), np.array([[[[1.0, 2.0, 3.0]]]])
    >>> y, saved = conv_transpose2d(x, w, stride=(1, 2))
    >>> dx, dw, db = conv_transpose2d_backward(np.array([[[[1.0, 0.0, 1.0, 0.0, -1.0]]]]), saved)
    >>> dx, dw
    (array([[[[ 4., -2.]]]]), array([[[[11.,  0., -9.]]]]))
    """
    x, w, has_bias, G, geometry = saved
    N, C = x.shape[:2]
    xp = incoming(over.op, dy, (N, w.shape[1] * G, *geometry.size), x=x)
    K, P = w.shape[1] * math.prod(geometry.kernel), math.prod(geometry.output)

    db = xp.sum(dy, axis=(0, *range(2, dy.ndim))) if has_bias else None
    dcol = xp.reshape(im2col(dy, geometry), (N, G, K, P))
    dx = xp.matmul(xp.reshape(w, (G, C // G, K)), dcol)
    rows = xp.reshape(x, (N, G, C // G, P))
    dw = xp.sum(xp.matmul(rows, xp.matrix_transpose(dcol)), axis=0)
    return xp.reshape(dx, x.shape), xp.reshape(dw, w.shape), db


conv_transpose1d, conv_transpose2d, conv_transpose3d = in_ranks(conv_transpose_nd)
conv_transpose1d_backward, conv_transpose2d_backward, conv_transpose3d_backward = in_ranks(
    conv_transpose_nd_backward
)

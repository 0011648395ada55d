r"""Convolution in one, two or three dimensions as im2col and one matrix product.

As in PyTorch and ONNX the kernel is not flipped (cross-correlation):

    y[n, o, p, q] = b[o] + sum_{c, i, j} w[o, c, i, j] x[n, c, s p + d i - P, s q + d j - P]

with stride s, dilation d and P zeros of padding. im2col copies the window under every output
position into a column, so that the sum over (c, i, j) becomes a product of matrices.

Source: Nielsen, "Neural Networks and Deep Learning", chapter 6, equation 125; the backward
equations are the transposes of the forward ones, which is what ``<im2col(x), c> = <x, col2im(c)>``
says of the one step that is not a matrix product.
"""

import math
from typing import NamedTuple

from tinyconv.backend import Array, floating, namespace
from tinyconv.geometry import Geometry, Padding, Sizes, sliding_window
from tinyconv.ops.checks import check_channels, check_rank, incoming
from tinyconv.ops.ranks import Over, in_ranks
from tinyconv.ops.shape import PadSaved, pad_backward, pad_for, pad_planes


class ConvSaved(NamedTuple):
    """What the forward pass of a convolution keeps for the backward pass."""

    col: Array  #: (N, G, K, P), the columns; G groups, K = C/G * KH * KW, P = OH * OW
    w: Array  #: (O, C/G, KH, KW)
    has_bias: bool
    channels: int
    geometry: Geometry  #: over the input, or over the padded input where ``pad`` is not None
    pad: PadSaved | None  #: of a padding with something else than zeros


def im2col(x: Array, geometry: Geometry) -> Array:
    """Copy the window under every output position into a column.

    Args:
        x: (N, C, *size).
        geometry: the sliding window over ``size``; padding is filled with zeros.

    Returns:
        (N, C, *kernel, *output), of the dtype of x: [n, c, i, j, p, q] is the element (i, j) of
        the window (p, q).

    >>> import numpy as np
    >>> x = np.arange(9.0).reshape(1, 1, 3, 3)
    >>> im2col(x, sliding_window("demo", (3, 3), kernel=(2, 2)))[0, 0, 0, 1]  # right neighbours
    array([[1., 2.],
           [4., 5.]])
    """
    xp = namespace("im2col", x=x)
    padded = pad_for(xp, x, geometry, 0.0)
    shape = (*x.shape[:2], *geometry.kernel, *geometry.output)
    col = xp.empty(shape, dtype=x.dtype, device=x.device)
    for offset, window in geometry.windows():
        col[:, :, *offset, ...] = padded[:, :, *window]
    return col


def col2im(col: Array, geometry: Geometry) -> Array:
    """Add every column back to where im2col took it from: the adjoint of :func:`im2col`.

    Args:
        col: (N, C, *kernel, *output).
        geometry: the sliding window of the forward pass.

    Returns:
        (N, C, *size): each element is the sum of its copies in ``col``.

    >>> import numpy as np
    >>> col2im(np.ones((1, 1, 2, 2, 2, 2)), sliding_window("demo", (3, 3), kernel=(2, 2)))[0, 0]
    array([[1., 2., 1.],
           [2., 4., 2.],
           [1., 2., 1.]])
    """
    xp = namespace("col2im", col=col)
    N, C = col.shape[:2]
    padded = xp.zeros((N, C, *geometry.padded), dtype=col.dtype, device=col.device)
    for offset, window in geometry.windows():
        padded[:, :, *window] += col[:, :, *offset, ...]
    return padded[:, :, *geometry.inside]


def conv_nd(
    over: Over,
    x: Array,
    w: Array,
    b: Array | None = None,
    *,
    stride: Sizes = 1,
    padding: Padding = 0,
    dilation: Sizes = 1,
    groups: int = 1,
    padding_mode: str = "zeros",
) -> tuple[Array, ConvSaved]:
    """Convolve a batch of images with a bank of kernels.

    Per sample and group it is one product, [O/G x K] @ [K x P] -> [O/G x P], of the weights with
    the columns: K = C/G * KH * KW inputs of one window, P = OH * OW positions.

    Args:
        x: (N, C, H, W), floating-point.
        w: (O, C/groups, KH, KW), of the dtype of x.
        b: (O,), or None for no bias.
        stride: step between two windows, down and across.
        padding: how many elements on each side: an integer, one for each axis, a (before,
            after) pair for each axis, "same" (the output is ceil(size / stride) long) or "valid".
        dilation: distance between two elements of the kernel.
        groups: number of separate blocks of channels; C of them is a depthwise convolution.
        padding_mode: what the padding holds: "zeros", "reflect", "replicate" or "circular", see
            :func:`tinyconv.ops.pad`.

    Returns:
        y (N, O, OH, OW) and what :func:`conv2d_backward` needs.

    Raises:
        ShapeError: the shapes do not fit each other, or the window not into the padded image.

    >>> import numpy as np
    >>> y, saved = conv2d(np.arange(9.0).reshape(1, 1, 3, 3), np.ones((1, 1, 2, 2)))
    >>> y[0, 0]
    array([[ 8., 12.],
           [20., 24.]])
    """
    xp = floating(over.op, x=x, w=w, b=b)
    check_rank(over.op, over.x, x=x)
    check_rank(over.op, f"(O, C/groups, {', '.join('K' + axis for axis in over.axes)})", w=w)
    N, C, O = x.shape[0], x.shape[1], w.shape[0]
    kernel = tuple(w.shape[2:])
    check_channels(over.op, groups, x, w, b)
    geometry = sliding_window(over.op, tuple(x.shape[2:]), kernel, stride, padding, dilation)
    pad_saved = None
    if padding_mode != "zeros":
        x, pad_saved = pad_planes(over.op, x, geometry.padding, padding_mode)
        geometry = sliding_window(over.op, tuple(x.shape[2:]), kernel, stride, 0, dilation)
    K, P = w.shape[1] * math.prod(kernel), math.prod(geometry.output)

    # The windows of a 1x1 kernel are x itself: no copy, only the product.
    col = x if geometry.is_pointwise else im2col(x, geometry)
    col = xp.reshape(col, (N, groups, K, P))
    y = xp.matmul(xp.reshape(w, (groups, O // groups, K)), col)
    y = xp.reshape(y, (N, O, *geometry.output))
    if b is not None:
        y = y + xp.reshape(b, (O, *(1 for _ in over.axes)))
    return y, ConvSaved(col, w, b is not None, C, geometry, pad_saved)


def conv_nd_backward(over: Over, dy: Array, saved: ConvSaved) -> tuple[Array, Array, Array | None]:
    """Backpropagate through :func:`conv2d`.

    With the columns of x as a matrix the forward pass is y = w col + b, so

        db = sum of dy over samples and positions
        dw = dy col^T, summed over samples    [O/G x P] @ [P x K] -> [O/G x K]
        dx = col2im(w^T dy)                   [K x O/G] @ [O/G x P] -> [K x P]

    Returns:
        dx (N, C, H, W), dw (O, C/groups, KH, KW), db (O,) or None where there was no bias.

    >>> import numpy as np
    >>> y, saved = conv2d(np.arange(9.0).reshape(1, 1, 3, 3), np.ones((1, 1, 2, 2)))
    >>> dx, dw, db = conv2d_backward(np.array([[[[1.0, 0.0], [0.0, -1.0]]]]), saved)
    >>> dw[0, 0]
    array([[-4., -4.],
           [-4., -4.]])
    >>> dx[0, 0]
    array([[ 1.,  1.,  0.],
           [ 1.,  0., -1.],
           [ 0., -1., -1.]])
    """
    col, w, has_bias, C, geometry, pad_saved = saved
    (N, G, K, P), O = col.shape, w.shape[0]
    xp = incoming(over.op, dy, (N, O, *geometry.output), w=w)

    db = xp.sum(dy, axis=(0, *range(2, dy.ndim))) if has_bias else None
    dy = xp.reshape(dy, (N, G, O // G, P))
    dw = xp.sum(xp.matmul(dy, xp.matrix_transpose(col)), axis=0)
    dcol = xp.matmul(xp.matrix_transpose(xp.reshape(w, (G, O // G, K))), dy)
    if geometry.is_pointwise:
        dx = xp.reshape(dcol, (N, C, *geometry.size))
    else:
        dx = col2im(xp.reshape(dcol, (N, C, *geometry.kernel, *geometry.output)), geometry)
    if pad_saved is not None:
        dx = pad_backward(dx, pad_saved)
    return dx, xp.reshape(dw, w.shape), db


conv1d, conv2d, conv3d = in_ranks(conv_nd)
conv1d_backward, conv2d_backward, conv3d_backward = in_ranks(conv_nd_backward)

"""Convolution exactly as its equation reads: seven loops and no trick.

Nothing computes with this; it is what :mod:`tinyconv.ops.conv` is compared with, and the place to
see what a convolution and its gradients are. Loops and names are those of

    y[n, o, p, q] = b[o] + sum_{c, i, j} w[o, c, i, j] x[n, c, s p + d i - P, s q + d j - P]

where each output channel sees the input channels of its own group.
"""

from collections.abc import Iterator

from tinyconv.backend import Array, floating
from tinyconv.geometry import Geometry, Padding, Sizes, sliding_window
from tinyconv.ops.checks import check_channels, check_rank, incoming


def conv2d_direct(
    x: Array,
    w: Array,
    b: Array | None = None,
    *,
    stride: Sizes = 1,
    padding: Padding = 0,
    dilation: Sizes = 1,
    groups: int = 1,
) -> tuple[Array, tuple[Array, Array, bool, Geometry]]:
    """Convolve as :func:`tinyconv.ops.conv2d` does, one multiplication at a time.

    Args, errors and y are those of :func:`tinyconv.ops.conv2d`.

    >>> import numpy as np
    >>> conv2d_direct(np.arange(9.0).reshape(1, 1, 3, 3), np.ones((1, 1, 2, 2)))[0][0, 0]
    array([[ 8., 12.],
           [20., 24.]])
    """
    xp = floating("conv2d_direct", x=x, w=w, b=b)
    check_rank("conv2d_direct", "(N, C, H, W)", x=x)
    check_rank("conv2d_direct", "(O, C/groups, KH, KW)", w=w)
    N, O = x.shape[0], w.shape[0]
    check_channels("conv2d_direct", groups, x, w, b)
    geometry = sliding_window("conv2d_direct", x.shape[2:], w.shape[2:], stride, padding, dilation)

    y = xp.zeros((N, O, *geometry.output), dtype=x.dtype, device=x.device)
    if b is not None:
        for o in range(O):
            y[:, o, :, :] = b[o]
    for n, o, c, p, q, i, j, k, h, v in _loops(N, w, groups, geometry):
        y[n, o, p, q] += w[o, c, i, j] * x[n, k, h, v]
    return y, (x, w, b is not None, geometry)


def conv2d_direct_backward(
    dy: Array, saved: tuple[Array, Array, bool, Geometry]
) -> tuple[Array, Array, Array | None]:
    """Backpropagate through :func:`conv2d_direct`: the same loops, the product rule inside.

    Every term ``y[n, o, p, q] += w[o, c, i, j] x[n, k, h, v]`` of the forward pass gives
    ``dw[o, c, i, j] += dy[n, o, p, q] x[n, k, h, v]`` and
    ``dx[n, k, h, v] += dy[n, o, p, q] w[o, c, i, j]``.

    >>> import numpy as np
    >>> y, saved = conv2d_direct(np.arange(9.0).reshape(1, 1, 3, 3), np.ones((1, 1, 2, 2)))
    >>> conv2d_direct_backward(np.array([[[[1.0, 0.0], [0.0, -1.0]]]]), saved)[1][0, 0]
    array([[-4., -4.],
           [-4., -4.]])
    """
    x, w, has_bias, geometry = saved
    xp = incoming("conv2d_direct_backward", dy, (x.shape[0], w.shape[0], *geometry.output), x=x)
    dx, dw = xp.zeros_like(x), xp.zeros_like(w)
    groups = x.shape[1] // w.shape[1]
    for n, o, c, p, q, i, j, k, h, v in _loops(x.shape[0], w, groups, geometry):
        dw[o, c, i, j] += dy[n, o, p, q] * x[n, k, h, v]
        dx[n, k, h, v] += dy[n, o, p, q] * w[o, c, i, j]
    return dx, dw, xp.sum(dy, axis=(0, 2, 3)) if has_bias else None


def _loops(N: int, w: Array, groups: int, geometry: Geometry) -> Iterator[tuple[int, ...]]:
    """Yield n, o, c, p, q, i, j of every product, with the channel k and the place (h, v) in x."""
    O, C, KH, KW = w.shape  # C is the number of channels of one group
    H, W = geometry.size
    OH, OW = geometry.output
    (top, _), (left, _) = geometry.padding
    for n in range(N):
        for o in range(O):
            group = o // (O // groups)
            for c in range(C):
                for p in range(OH):
                    for q in range(OW):
                        for i in range(KH):
                            for j in range(KW):
                                h = p * geometry.stride[0] + i * geometry.dilation[0] - top
                                v = q * geometry.stride[1] + j * geometry.dilation[1] - left
                                if 0 <= h < H and 0 <= v < W:  # elsewhere is a zero of the padding
                                    yield n, o, c, p, q, i, j, group * C + c, h, v

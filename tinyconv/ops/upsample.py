"""Upsampling: repeating, interpolating, and putting maxima back where they came from.

Repeating and interpolating are :func:`tinyconv.ops.resize` with PyTorch's arguments.
"""

import math

from tinyconv.backend import Array, floating, namespace, require_floating
from tinyconv.errors import ShapeError
from tinyconv.geometry import Geometry, Sizes, spread
from tinyconv.ops.checks import check_rank, check_shape, incoming
from tinyconv.ops.pool import MaxPoolSaved, max_pool_nd_backward
from tinyconv.ops.ranks import Over
from tinyconv.ops.resize import ResizeSaved, Taps, axis_taps, resample, send_back


def upsample_nearest2d(
    x: Array, size: Sizes | None = None, *, scale_factor: Sizes | None = None
) -> tuple[Array, ResizeSaved]:
    """Repeat elements: ``y[n, c, p, q] = x[n, c, floor(p H / OH), floor(q W / OW)]``.

    As PyTorch's mode "nearest", and ONNX's Resize with asymmetric coordinates rounded down.

    Args:
        x: (N, C, H, W), floating-point.
        size: of the output, (OH, OW); or
        scale_factor: how many times larger it is, an integer for all axes or for each.

    Returns:
        y (N, C, OH, OW) and what :func:`upsample_nearest2d_backward` needs.

    Raises:
        ShapeError: x does not have four axes or no elements, or not exactly one of size and
            scale_factor is given.

    >>> import numpy as np
    >>> upsample_nearest2d(np.array([[[[1.0, 2.0]]]]), scale_factor=(1, 2))[0]
    array([[[[1., 1., 2., 2.]]]])
    """
    return _upsample("upsample_nearest2d", x, size, scale_factor, "nearest", False)


def upsample_nearest2d_backward(dy: Array, saved: ResizeSaved) -> Array:
    """Backpropagate through :func:`upsample_nearest2d`: the copies of an element add their dy.

    >>> import numpy as np
    >>> y, saved = upsample_nearest2d(np.array([[[[1.0, 2.0]]]]), scale_factor=(1, 2))
    >>> upsample_nearest2d_backward(np.array([[[[1.0, 10.0, 100.0, 1000.0]]]]), saved)
    array([[[[  11., 1100.]]]])
    """
    return send_back("upsample_nearest2d_backward", dy, saved)


def upsample_bilinear2d(
    x: Array,
    size: Sizes | None = None,
    *,
    scale_factor: Sizes | None = None,
    align_corners: bool = False,
) -> tuple[Array, ResizeSaved]:
    """Interpolate linearly down and across: ``y[n, c] = A x[n, c] B^T``.

    Row p of A, (OH, H), weighs the two rows of x next to the point h that row p of y stands for,
    each by one minus its distance; B does so for columns.

        h = p (H - 1) / (OH - 1)           align_corners: corners are centres of corner elements
        h = max(0, (p + 1/2) H / OH - 1/2)  otherwise: corners are corners of corner elements

    Args:
        x: (N, C, H, W), floating-point.
        size: of the output, (OH, OW); or
        scale_factor: how many times larger it is, an integer for all axes or for each.
        align_corners: see above. As in PyTorch; ONNX calls the two "align_corners" and
            "half_pixel".

    Returns:
        y (N, C, OH, OW) and what :func:`upsample_bilinear2d_backward` needs.

    Raises:
        ShapeError: x does not have four axes or no elements, or not exactly one of size and
            scale_factor is given.

    >>> import numpy as np
    >>> upsample_bilinear2d(np.array([[[[0.0, 4.0]]]]), (1, 4))[0]
    array([[[[0., 1., 3., 4.]]]])
    >>> upsample_bilinear2d(np.array([[[[0.0, 3.0]]]]), (1, 4), align_corners=True)[0]
    array([[[[0., 1., 2., 3.]]]])
    """
    return _upsample("upsample_bilinear2d", x, size, scale_factor, "linear", align_corners)


def upsample_bilinear2d_backward(dy: Array, saved: ResizeSaved) -> Array:
    """Backpropagate through :func:`upsample_bilinear2d`: ``dx[n, c] = A^T dy[n, c] B``.

    >>> import numpy as np
    >>> y, saved = upsample_bilinear2d(np.array([[[[0.0, 4.0]]]]), (1, 4))
    >>> upsample_bilinear2d_backward(np.array([[[[0.0, 4.0, 8.0, 1.0]]]]), saved)
    array([[[[5., 8.]]]])
    """
    return send_back("upsample_bilinear2d_backward", dy, saved)


def max_unpool2d(x: Array, argmax: Array, geometry: Geometry) -> tuple[Array, MaxPoolSaved]:
    """Put each element where a max-pooling found its maximum, zeros elsewhere.

        y[n, c, h, w] = sum of x[n, c, p, q] over the windows whose argmax is (h, w)

    This is the transpose of picking the maxima, that is :func:`tinyconv.ops.max_pool2d_backward`
    with x for dy. Where overlapping windows share a maximum the elements add up; in PyTorch one of
    them wins, and which one is undefined.

    Args:
        x: (N, C, OH, OW), floating-point.
        argmax: (N, C, OH, OW), int64: what the max-pooling saved.
        geometry: what it saved too; (H, W) is its size.

    Returns:
        y (N, C, H, W) and what :func:`max_unpool2d_backward` needs.

    Raises:
        ShapeError: x, argmax and geometry do not fit each other.

    Source: Zeiler and Fergus, "Visualizing and understanding convolutional networks" (2014).

    >>> import numpy as np
    >>> from tinyconv.ops import max_pool2d
    >>> y, saved = max_pool2d(np.array([[[[1.0, 3.0], [4.0, 2.0]]]]), 2)
    >>> max_unpool2d(np.array([[[[7.0]]]]), *saved)[0][0, 0]
    array([[0., 0.],
           [7., 0.]])
    """
    xp = namespace("max_unpool2d", x=x, argmax=argmax)
    require_floating("max_unpool2d", xp, x=x)
    check_rank("max_unpool2d", "(N, C, OH, OW)", x=x)
    check_shape("max_unpool2d", (*x.shape[:2], *geometry.output), x=x)
    check_shape("max_unpool2d", tuple(x.shape), argmax=argmax)
    saved = MaxPoolSaved(argmax, geometry)
    return max_pool_nd_backward(Over.of("max_unpool_nd", 2), x, saved), saved


def max_unpool2d_backward(dy: Array, saved: MaxPoolSaved) -> Array:
    """Backpropagate through :func:`max_unpool2d`: ``dx[n, c, p, q] = dy[n, c, argmax]``.

    >>> import numpy as np
    >>> from tinyconv.ops import max_pool2d
    >>> _, saved = max_pool2d(np.array([[[[1.0, 3.0], [4.0, 2.0]]]]), 2)
    >>> y, saved = max_unpool2d(np.array([[[[7.0]]]]), *saved)
    >>> max_unpool2d_backward(np.array([[[[1.0, 2.0], [5.0, 4.0]]]]), saved).item()
    5.0
    """
    argmax, geometry = saved
    N, C = argmax.shape[:2]
    xp = incoming("max_unpool2d_backward", dy, (N, C, *geometry.size), argmax=argmax)
    rows = xp.reshape(dy, (N, C, math.prod(geometry.size)))
    places = xp.reshape(argmax, (N, C, math.prod(geometry.output)))
    # A window that saw nothing but padding has the argmax -1, and put its element nowhere.
    found = xp.take_along_axis(rows, xp.where(places < 0, xp.zeros_like(places), places), axis=2)
    dx = xp.where(places < 0, xp.zeros_like(found), found)
    return xp.reshape(dx, argmax.shape)


def upsample_taps(n: int, m: int, mode: str, align_corners: bool) -> Taps:
    """Return what m elements along an axis are made of n, in mode "nearest" or "linear".

    >>> [place for ((place, _),) in upsample_taps(2, 5, "nearest", False)]
    [0, 0, 0, 1, 1]
    """
    coordinates = "align_corners" if align_corners else "half_pixel"
    return axis_taps(n, m, mode, "asymmetric" if mode == "nearest" else coordinates)


def upsampled_size(
    op: str, plane: tuple[int, ...], size: Sizes | None, scale_factor: Sizes | None
) -> tuple[int, ...]:
    """Return (OH, OW): it is said, or the plane's times factors."""
    if size is not None and scale_factor is None:
        return spread(op, "size", size, 2, least=1)
    if size is None and scale_factor is not None:
        factors = spread(op, "scale_factor", scale_factor, 2, least=1)
        return tuple(n * factor for n, factor in zip(plane, factors, strict=True))
    raise ShapeError(
        f"{op}: size is {size!r} and scale_factor is {scale_factor!r}, expected one of them"
    )


def _upsample(
    op: str,
    x: Array,
    size: Sizes | None,
    scale_factor: Sizes | None,
    mode: str,
    align_corners: bool,
) -> tuple[Array, ResizeSaved]:
    floating(op, x=x)
    check_rank(op, "(N, C, H, W)", x=x)
    if 0 in x.shape[2:]:
        raise ShapeError(f"{op}: x has shape {tuple(x.shape)}, expected no empty plane")
    target = upsampled_size(op, x.shape[2:], size, scale_factor)
    taps = tuple(
        upsample_taps(n, m, mode, align_corners) for n, m in zip(x.shape[2:], target, strict=True)
    )
    return resample(x, taps), ResizeSaved(tuple(x.shape), taps)

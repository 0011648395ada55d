"""Normalisation over the batch, over a sample, over groups of channels, and by neighbours.

The first three subtract the mean of a set of elements and divide by their standard deviation,

    z = (x - m) / sqrt(v + eps),    y = w z + b,

and differ in the set only. m and v depend on every element of the set, so the gradient does too:

    dz = w dy
    dx = (dz - mean(dz) - z mean(z dz)) / sqrt(v + eps)

with the means taken over the set. v is the mean of the squares, not divided by one less.

Sources: Ioffe and Szegedy, "Batch normalization" (2015); Ba, Kiros and Hinton, "Layer
normalization" (2016); Wu and He, "Group normalization" (2018); Krizhevsky, Sutskever and Hinton,
"ImageNet classification with deep convolutional neural networks" (2012), section 3.3 (by
neighbours).
"""

import math
from collections.abc import Callable
from types import ModuleType
from typing import NamedTuple

from tinyconv.backend import Array, floating
from tinyconv.errors import ShapeError
from tinyconv.geometry import spread
from tinyconv.ops.checks import check_shape, incoming


class Parts(NamedTuple):
    """Where the batch is in parts, each with a process of its own: what one knows of the others."""

    samples: int  #: of all parts together
    share: float  #: what makes the gradient of the whole batch of the one of a part, not 0
    add_up: Callable[[Array], Array]  #: returns the sum of the arrays that all parts call it with


class NormSaved(NamedTuple):
    """What the forward pass of a normalisation keeps for the backward pass."""

    z: Array  #: of the shape of x: normalised, not yet scaled
    scale: Array  #: 1 / sqrt(v + eps), one for each set of elements
    w: Array | None  #: as it was given
    has_bias: bool
    axes: tuple[int, ...]  #: that a set of elements extends over; none where m and v were given
    mean: Array  #: of each set of elements
    var: Array  #: of each set of elements
    rows: tuple[int, ...]  #: the shape in which ``axes`` are those of z
    parts: Parts | None = None  #: of a batch


def batch_norm(
    x: Array,
    w: Array | None = None,
    b: Array | None = None,
    mean: Array | None = None,
    var: Array | None = None,
    *,
    eps: float = 1e-5,
    parts: Parts | None = None,
) -> tuple[Array, NormSaved]:
    """Normalise each channel over the batch and the plane, or by a given mean and variance.

        y[n, c, h, w] = w[c] (x[n, c, h, w] - m[c]) / sqrt(v[c] + eps) + b[c]

    In training m and v are those of the batch: leave mean and var out, and find them in ``saved``
    to keep running averages of. (PyTorch averages v times n / (n - 1), n being the number of
    elements of a channel.) At test time give the averages.

    Args:
        x: (N, C) or (N, C, *size), floating-point.
        w: (C,), the scale, or None for 1.
        b: (C,), the shift, or None for 0.
        mean: (C,), or None for that of the batch.
        var: (C,), or None for that of the batch.
        parts: where x is a part of the batch. m and v are of the whole batch then, and dx is the
            gradient through all of it (PyTorch's ``SyncBatchNorm``).

    Raises:
        ShapeError: the shapes do not fit each other, mean is given without var or the other way
            round.

    >>> import numpy as np
    >>> y, saved = batch_norm(np.array([[1.0], [3.0]]), w=np.array([10.0]), eps=0.0)
    >>> y, saved.mean, saved.var
    (array([[-10.],
           [ 10.]]), array([2.]), array([1.]))
    """
    xp = floating("batch_norm", x=x, w=w, b=b, mean=mean, var=var)
    if x.ndim < 2:
        raise ShapeError(f"batch_norm: x has shape {tuple(x.shape)}, expected (N, C, *size)")
    if (mean is None) != (var is None):
        given, missing = ("var", "mean") if mean is None else ("mean", "var")
        raise ShapeError(
            f"batch_norm: {given} is given and {missing} is not, expected both or none"
        )
    C = x.shape[1]
    check_shape("batch_norm", (C,), w=w, b=b, mean=mean, var=var)
    column = (C, *(1 for _ in x.shape[2:]))  # (C,) so shaped aligns with the channels of x
    axes: tuple[int, ...] = ()
    if mean is None:
        axes = (0, *range(2, x.ndim))
        z, scale, mean, var = _normalise(xp, x, axes, eps, parts)
        mean, var = xp.reshape(mean, (C,)), xp.reshape(var, (C,))
    else:
        scale = 1 / xp.sqrt(xp.reshape(var, column) + eps)
        z = (x - xp.reshape(mean, column)) * scale
    saved = NormSaved(z, scale, w, b is not None, axes, mean, var, tuple(x.shape), parts)
    return _affine(xp, z, w, b, column), saved


def batch_norm_backward(dy: Array, saved: NormSaved) -> tuple[Array, Array | None, Array | None]:
    """Backpropagate through :func:`batch_norm`.

        dw[c] = sum over n, h, w of dy z
        db[c] = sum over n, h, w of dy
        dx as at the top of this file, over the elements of a channel; where mean and var were
        given they are constants, and dx = w dy / sqrt(v + eps)

    Returns:
        dx of the shape of x, dw (C,), db (C,); None for a w or b that was None.

    >>> import numpy as np
    >>> y, saved = batch_norm(np.array([[1.0], [3.0]]), w=np.array([10.0]), eps=0.0)
    >>> dx, dw, db = batch_norm_backward(np.array([[1.0], [4.0]]), saved)
    >>> dx, dw, db
    (array([[0.],
           [0.]]), array([3.]), None)
    """
    C = saved.z.shape[1]
    column = (C, *(1 for _ in saved.z.shape[2:]))
    return _backward("batch_norm_backward", dy, saved, column, (0, *range(2, saved.z.ndim)))


def layer_norm(
    x: Array,
    normalized_shape: int | tuple[int, ...],
    w: Array | None = None,
    b: Array | None = None,
    *,
    eps: float = 1e-5,
) -> tuple[Array, NormSaved]:
    """Normalise each sample over its last axes: ``y = w (x - m) / sqrt(v + eps) + b``.

    Args:
        x: (N, ..., *normalized_shape), floating-point.
        normalized_shape: the axes that m and v are taken over, by their lengths.
        w: (*normalized_shape), the scale of each element, or None for 1.
        b: (*normalized_shape), the shift of each element, or None for 0.

    Raises:
        ShapeError: the shapes do not fit each other.

    >>> import numpy as np
    >>> layer_norm(np.array([[1.0, 3.0], [-8.0, -8.0]]), 2, eps=1e-30)[0]
    array([[-1.,  1.],
           [ 0.,  0.]])
    """
    xp = floating("layer_norm", x=x, w=w, b=b)
    shape = (normalized_shape,) if isinstance(normalized_shape, int) else tuple(normalized_shape)
    if not shape or math.prod(shape) == 0 or tuple(x.shape[-len(shape) :]) != shape:
        raise ShapeError(
            f"layer_norm: normalized_shape is {normalized_shape!r}, expected the last axes of x, "
            f"which has shape {tuple(x.shape)}"
        )
    check_shape("layer_norm", shape, w=w, b=b)
    axes = tuple(range(x.ndim - len(shape), x.ndim))
    z, scale, mean, var = _normalise(xp, x, axes, eps)
    saved = NormSaved(z, scale, w, b is not None, axes, mean, var, tuple(x.shape))
    return _affine(xp, z, w, b, shape), saved


def layer_norm_backward(dy: Array, saved: NormSaved) -> tuple[Array, Array | None, Array | None]:
    """Backpropagate through :func:`layer_norm`.

        dw = sum of dy z over the axes that were not normalised
        db = sum of dy over the axes that were not normalised
        dx as at the top of this file, over the elements of a sample

    Returns:
        dx of the shape of x, dw and db (*normalized_shape); None for a w or b that was None.

    >>> import numpy as np
    >>> y, saved = layer_norm(np.array([[1.0, 3.0]]), 2, b=np.array([0.0, 5.0]), eps=0.0)
    >>> layer_norm_backward(np.array([[1.0, 4.0]]), saved)
    (array([[0., 0.]]), None, array([1., 4.]))
    """
    z, axes = saved.z, saved.axes
    shape = tuple(z.shape[axis] for axis in axes)
    return _backward("layer_norm_backward", dy, saved, shape, tuple(range(axes[0])))


def group_norm(
    x: Array, num_groups: int, w: Array | None = None, b: Array | None = None, *, eps: float = 1e-5
) -> tuple[Array, NormSaved]:
    """Normalise each sample over groups of neighbouring channels and the plane.

        y[n, c, h, w] = w[c] (x[n, c, h, w] - m[n, g]) / sqrt(v[n, g] + eps) + b[c]

    where g is the group of channel c. With one group it is a layer normalisation of the sample,
    with C of them an instance normalisation.

    Args:
        x: (N, C, *size), floating-point.
        num_groups: a divisor of C.
        w: (C,), the scale, or None for 1.
        b: (C,), the shift, or None for 0.

    Raises:
        ShapeError: the shapes do not fit each other, or a group has no elements.

    >>> import numpy as np
    >>> group_norm(np.array([[1.0, 3.0, -4.0, 4.0]]), 2, eps=0.0)[0]
    array([[-1.,  1., -1.,  1.]])
    """
    xp = floating("group_norm", x=x, w=w, b=b)
    if x.ndim < 2 or math.prod(x.shape[1:]) == 0:
        raise ShapeError(
            f"group_norm: x has shape {tuple(x.shape)}, expected (N, C, *size) with elements"
        )
    N, C = x.shape[:2]
    if not isinstance(num_groups, int) or num_groups < 1 or C % num_groups:
        raise ShapeError(f"group_norm: num_groups is {num_groups!r}, expected a divisor of C={C}")
    check_shape("group_norm", (C,), w=w, b=b)
    rows = (N, num_groups, math.prod(x.shape[1:]) // num_groups)
    z, scale, mean, var = _normalise(xp, xp.reshape(x, rows), (2,), eps)
    z = xp.reshape(z, x.shape)
    saved = NormSaved(z, scale, w, b is not None, (2,), mean, var, rows)
    return _affine(xp, z, w, b, (C, *(1 for _ in x.shape[2:]))), saved


def group_norm_backward(dy: Array, saved: NormSaved) -> tuple[Array, Array | None, Array | None]:
    """Backpropagate through :func:`group_norm`, as through :func:`batch_norm`.

    dx is as at the top of this file, over the elements of a group.

    Returns:
        dx of the shape of x, dw (C,), db (C,); None for a w or b that was None.

    >>> import numpy as np
    >>> y, saved = group_norm(np.array([[1.0, 3.0, -4.0, 4.0]]), 2, w=np.ones(4), eps=0.0)
    >>> group_norm_backward(np.array([[1.0, 1.0, 0.0, 5.0]]), saved)[1]
    array([-1.,  1.,  0.,  5.])
    """
    z = saved.z
    column = (z.shape[1], *(1 for _ in z.shape[2:]))
    return _backward("group_norm_backward", dy, saved, column, (0, *range(2, z.ndim)))


def _normalise(
    xp: ModuleType, x: Array, axes: tuple[int, ...], eps: float, parts: Parts | None = None
) -> tuple[Array, Array, Array, Array]:
    """Return z, 1 / sqrt(v + eps), m and v, the last three with axes of length 1."""
    add_up: Callable[[Array], Array] = parts.add_up if parts else lambda values: values
    count = _count(tuple(x.shape), axes, parts)
    mean = add_up(xp.sum(x, axis=axes, keepdims=True)) / count
    centred = x - mean
    # Not the library's variance, which would take the modulus of a complex step.
    var = add_up(xp.sum(centred * centred, axis=axes, keepdims=True)) / count
    scale = 1 / xp.sqrt(var + eps)
    return centred * scale, scale, mean, var


def _count(shape: tuple[int, ...], axes: tuple[int, ...], parts: Parts | None) -> int:
    """Return the number of elements of a set."""
    sizes = [shape[axis] for axis in axes]
    if parts is not None:
        sizes[0] = parts.samples
    return max(1, math.prod(sizes))


def _affine(
    xp: ModuleType, z: Array, w: Array | None, b: Array | None, shape: tuple[int, ...]
) -> Array:
    """Return w z + b, with w and b reshaped to align with z."""
    y = z if w is None else xp.reshape(w, shape) * z
    return xp.asarray(y, copy=True) if b is None else y + xp.reshape(b, shape)


def _backward(
    op: str, dy: Array, saved: NormSaved, w_shape: tuple[int, ...], w_axes: tuple[int, ...]
) -> tuple[Array, Array | None, Array | None]:
    """Backpropagate; w aligns with z in the shape w_shape and was repeated along w_axes."""
    z, scale, w, has_bias, axes, _, _, rows, parts = saved
    xp = incoming(op, dy, z=z)
    dw = None if w is None else xp.sum(dy * z, axis=w_axes)
    db = xp.sum(dy, axis=w_axes) if has_bias else None
    dz = dy if w is None else dy * xp.reshape(w, w_shape)
    if not axes:  # the mean and the variance were given
        return dz * scale, dw, db
    z, dz = xp.reshape(z, rows), xp.reshape(dz, rows)
    count = _count(rows, axes, parts)
    sum_dz = xp.sum(dz, axis=axes, keepdims=True)
    sum_z_dz = xp.sum(z * dz, axis=axes, keepdims=True)
    if parts is not None:
        both = parts.add_up(xp.stack((sum_dz, sum_z_dz)) * parts.share) / parts.share
        sum_dz, sum_z_dz = both[0, ...], both[1, ...]
    mean_dz, mean_z_dz = sum_dz / count, sum_z_dz / count
    dx = (dz - mean_dz - z * mean_z_dz) * scale
    return xp.reshape(dx, dy.shape), dw, db


class LocalResponseNormSaved(NamedTuple):
    """What the forward pass keeps for the backward pass."""

    x: Array  #: (N, C, *size)
    base: Array  #: of the shape of x: what is raised to the power -beta
    size: int
    alpha: float
    beta: float


def local_response_norm(
    x: Array, size: int, *, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0
) -> tuple[Array, LocalResponseNormSaved]:
    """Divide each element by a power of the sum of squares over the channels around it.

        y[n, c] = x[n, c] s[n, c]^(-beta)
        s[n, c] = k + alpha / size  sum of x[n, j]^2 over the ``size`` channels j around c

    j runs from c - size // 2 to c + (size - 1) // 2, as in PyTorch; ONNX has the two the other
    way round, which matters for even sizes only. The paper does not divide alpha by the size: its
    n = 5, alpha = 1e-4, beta = 0.75, k = 2 are size=5, alpha=5e-4, beta=0.75, k=2 here.

    Args:
        x: (N, C, *size of the plane), floating-point.
        size: number of channels that a sum extends over.
        alpha: see above.
        beta: see above.
        k: see above, greater than 0.

    Raises:
        ShapeError: x does not have channels, or size is below 1.

    >>> import numpy as np
    >>> x = np.array([[[1.0], [2.0], [3.0]]])
    >>> local_response_norm(x, 2, alpha=2.0, beta=1.0)[0].ravel()  # 1/2, 2/(1+1+4), 3/(1+4+9)
    array([0.5       , 0.33333333, 0.21428571])
    """
    xp = floating("local_response_norm", x=x)
    if x.ndim < 2:
        raise ShapeError(
            f"local_response_norm: x has shape {tuple(x.shape)}, expected (N, C, *size)"
        )
    (size,) = spread("local_response_norm", "size", size, 1, least=1)
    before, after = size // 2, (size - 1) // 2
    base = k + alpha / size * _sum_of_neighbours(xp, x * x, before, after)
    return x * base**-beta, LocalResponseNormSaved(x, base, size, alpha, beta)


def local_response_norm_backward(dy: Array, saved: LocalResponseNormSaved) -> Array:
    """Backpropagate through :func:`local_response_norm`.

    x[n, j] acts on y[n, j] directly and through the sums s of all channels c that it is near to:

        dx[n, j] = dy[n, j] s[n, j]^(-beta)
                   - 2 alpha beta / size  x[n, j] sum_c dy[n, c] x[n, c] s[n, c]^(-beta - 1)

    >>> import numpy as np
    >>> y, saved = local_response_norm(np.array([[[1.0]]]), 1, alpha=1.0, beta=1.0)
    >>> local_response_norm_backward(np.array([[[4.0]]]), saved)  # (x / (1 + x^2))' = 0 at x = 1
    array([[[0.]]])
    """
    x, base, size, alpha, beta = saved
    xp = incoming("local_response_norm_backward", dy, x=x)
    before, after = size // 2, (size - 1) // 2
    # c is near j exactly if j is near c, looked at from the other side.
    through_sums = _sum_of_neighbours(xp, dy * x * base ** (-beta - 1), after, before)
    return dy * base**-beta - (2 * alpha * beta / size) * x * through_sums


def _sum_of_neighbours(xp: ModuleType, x: Array, before: int, after: int) -> Array:
    """Return for each channel c the sum of the channels c - before to c + after that exist."""
    C = x.shape[1]
    total = xp.zeros_like(x)
    for shift in range(max(-before, 1 - C), min(after, C - 1) + 1):
        first, end = max(0, -shift), min(C, C - shift)
        total[:, first:end, ...] += x[:, first + shift : end + shift, ...]
    return total

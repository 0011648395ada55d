"""What all losses share: labels as rows of zeros and a one, how often a sample counts.

``op`` is the name that error messages begin with, ``xp`` the namespace of the arrays.
"""

from math import prod
from types import ModuleType
from typing import NamedTuple

from tinyconv.backend import Array, floating, namespace, real_part, require, require_floating
from tinyconv.errors import ArgumentError, DtypeError, ShapeError
from tinyconv.ops.checks import check_shape


class LossSaved(NamedTuple):
    """What a forward pass keeps: the derivative of the loss."""

    slope: Array  #: of the shape of x


def one_hot(op: str, x: Array, labels: Array, *, ignore_index: int | None = None) -> Array:
    """Return (N, K, ...), boolean: where the class is the label of its position.

    Args:
        x: (N, K, ...), the logits.
        labels: (N, ...), integer, 0 to K - 1.
        ignore_index: a label that may stand there too and whose classes are all False.

    Raises:
        ShapeError: the shapes do not fit.
        ArgumentError: a label is out of range.
        DtypeError: labels is not integer.

    >>> import numpy as np
    >>> one_hot("demo", np.zeros((2, 3)), np.array([2, 0]))
    array([[False, False,  True],
           [ True, False, False]])
    """
    xp = namespace(op, x=x, labels=labels)
    check_logits(op, x)
    K = x.shape[1]
    if not xp.isdtype(labels.dtype, "integral"):
        raise DtypeError(f"{op}: labels has dtype {labels.dtype}, expected integers")
    check_shape(op, (x.shape[0], *x.shape[2:]), labels=labels)
    labels = xp.astype(labels, xp.int64, copy=False)  # bytes hold the numbers of 256 classes only
    checked = labels
    if ignore_index is not None:
        checked = xp.where(labels == ignore_index, xp.zeros_like(labels), labels)
    if 0 not in labels.shape:
        low, high = xp.min(checked), xp.max(checked)
        require(
            (low >= 0) & (high < K),
            lambda: ArgumentError(
                f"{op}: labels run from {int(low)} to {int(high)}, expected 0 to {K - 1} because "
                f"x has {K} classes"
            ),
        )
    classes = xp.arange(K, dtype=labels.dtype, device=labels.device)
    classes = xp.reshape(classes, (1, K, *[1] * (x.ndim - 2)))
    found = xp.expand_dims(labels, axis=1) == classes
    if ignore_index is not None:
        found = found & xp.expand_dims(labels != ignore_index, axis=1)
    return found


def check_logits(op: str, x: Array) -> None:
    """Check that x has an axis of at least one class behind that of the batch.

    Raises:
        ShapeError: it has none.

    >>> import numpy as np
    >>> check_logits("softmax", np.zeros(3))
    Traceback (most recent call last):
    tinyconv.errors.ShapeError: softmax: x has shape (3,), expected (N, K, ...)
    """
    if x.ndim < 2:
        raise ShapeError(f"{op}: x has shape {tuple(x.shape)}, expected (N, K, ...)")
    if x.shape[1] == 0:
        raise ShapeError(f"{op}: x has shape {tuple(x.shape)}, expected at least one class")


def check_loss_dy(op: str, dy: Array | float, **saved: Array) -> None:
    """Check the gradient of a loss: a Python number, or an array without axes.

    Raises:
        ShapeError: dy has axes.
        DeviceError: dy is an array of another library than what the forward pass saved.

    >>> import numpy as np
    >>> check_loss_dy("mse_loss_backward", np.zeros((3, 4)), x=np.zeros((3, 4)))
    Traceback (most recent call last):
    tinyconv.errors.ShapeError: mse_loss_backward: dy has shape (3, 4), expected ()
    """
    if not isinstance(dy, int | float | complex):
        namespace(op, dy=dy, **saved)
        check_shape(op, (), dy=dy)


def weights_of(
    op: str, xp: ModuleType, x: Array, sample_weight: Array | None
) -> tuple[Array | float, Array | int]:
    """Return how often each sample counts, and the sum of that over the batch.

    A weight of 2 does what the sample twice in the batch does, 0 what its absence does.

    Args:
        x: (N, ...), floating-point.
        sample_weight: (N,), of the dtype of x, not negative; None for 1.

    Returns:
        1 or (N, 1, ...), with as many axes as x; and their sum, at least 1 where it is 0.

    Raises:
        ShapeError: sample_weight does not have one entry a sample.
        ArgumentError: an entry is negative.
        DtypeError: sample_weight is of another dtype than x.

    >>> import numpy as np
    >>> often, total = weights_of("demo", np, np.zeros((2, 3)), np.array([3.0, 1.0]))
    >>> often.tolist(), total.item()
    ([[3.0], [1.0]], 4.0)
    """
    if sample_weight is None:
        return 1.0, max(x.shape[0], 1)
    require_floating(op, xp, x=x, sample_weight=sample_weight)
    check_shape(op, (x.shape[0],), sample_weight=sample_weight)
    real = real_part(xp, sample_weight)
    require(
        ~xp.any(real < 0),
        lambda: ArgumentError(
            f"{op}: sample_weight holds {float(xp.min(real))}, expected 0 or more"
        ),
    )
    total = xp.sum(sample_weight)
    total = xp.where(total == 0, xp.ones_like(total), total)
    return xp.reshape(sample_weight, (-1, *[1] * (x.ndim - 1))), total


def elementwise(op: str, x: Array, targets: Array) -> ModuleType:
    """Check the outputs and targets of a loss of elements one by one; return their namespace.

    Raises:
        ShapeError: the shapes differ, or there is no axis of samples.
        DtypeError: the dtypes differ or are not floating-point.
        DeviceError: the arrays are not of one library.

    >>> import numpy as np
    >>> elementwise("mse_loss", np.zeros((5, 1)), np.zeros(5))
    Traceback (most recent call last):
    tinyconv.errors.ShapeError: mse_loss: targets has shape (5,), expected (5, 1)
    """
    xp = floating(op, x=x, targets=targets)
    check_shape(op, tuple(x.shape), targets=targets)
    if x.ndim == 0:
        raise ShapeError(f"{op}: x has shape (), expected (N, ...)")
    return xp


def mean(
    op: str, xp: ModuleType, losses: Array, slope: Array, sample_weight: Array | None
) -> tuple[Array, LossSaved]:
    """Return the mean of the losses of all elements, and its derivative from theirs.

    >>> import numpy as np
    >>> losses, slope = np.array([[1.0, 3.0], [5.0, 5.0]]), np.ones((2, 2))
    >>> loss, saved = mean("demo", np, losses, slope, np.array([3.0, 1.0]))
    >>> loss.item(), saved.slope[:, 0].tolist()
    (2.75, [0.375, 0.125])
    """
    if sample_weight is not None:
        namespace(op, x=losses, sample_weight=sample_weight)
    often, total = weights_of(op, xp, losses, sample_weight)
    count = total * max(prod(losses.shape[1:]), 1)
    return xp.sum(often * losses) / count, LossSaved(often * slope / count)


def loss_backward(op: str, dy: Array | float, saved: LossSaved) -> Array:
    """Return the gradient of a loss with respect to its outputs.

    Raises:
        ShapeError: dy has axes.
        DeviceError: dy is an array of another library than what was saved.

    >>> import numpy as np
    >>> loss_backward("demo_backward", 2.0, LossSaved(np.array([[0.5]])))
    array([[1.]])
    """
    check_loss_dy(op, dy, slope=saved.slope)
    return saved.slope * dy

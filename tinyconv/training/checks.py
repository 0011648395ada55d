"""What ``fit``, ``evaluate`` and ``predict`` check of their arguments before anything runs."""

from tinyconv.backend import Array, namespace
from tinyconv.errors import DtypeError, ShapeError

__all__ = ["check_classes", "check_count", "check_samples"]


def check_count(op: str, name: str, value: object) -> None:
    """Check that a number of epochs or samples is an integer of at least 1.

    Raises:
        ShapeError: it is not.

    >>> check_count("fit", "epochs", 0)
    Traceback (most recent call last):
    tinyconv.errors.ShapeError: fit: epochs is 0, expected an integer of at least 1
    """
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ShapeError(f"{op}: {name} is {value!r}, expected an integer of at least 1")


def check_samples(op: str, x: Array, y: Array) -> None:
    """Check that there is one integer label for every sample.

    Raises:
        DeviceError: x or y is no array.
        ShapeError: y has not one entry for every sample.
        DtypeError: y does not hold integers.

    >>> import numpy as np
    >>> check_samples("fit", np.zeros((3, 4)), np.zeros(2, int))
    Traceback (most recent call last):
    tinyconv.errors.ShapeError: fit: y has shape (2,), expected (3,) because x has 3 samples
    """
    namespace(op, x=x)  # x and y may live on different devices; each must be an array
    xp = namespace(op, y=y)
    if x.ndim == 0 or tuple(y.shape) != (len(x),):
        samples = len(x) if x.ndim else 0
        raise ShapeError(
            f"{op}: y has shape {tuple(y.shape)}, expected ({samples},) "
            f"because x has {samples} samples"
        )
    if not xp.isdtype(y.dtype, "integral"):
        raise DtypeError(f"{op}: y has dtype {y.dtype}, expected integer class indices")


def check_classes(
    op: str, y: Array, output_shape: tuple[int, ...], ignored: int | None = None
) -> None:
    """Check that the network gives one logit a class, and that every label is a class or ignored.

    Raises:
        ShapeError: one or the other is not so.

    >>> import numpy as np
    >>> check_classes("fit", np.array([3, 10]), (10,))
    Traceback (most recent call last):
    tinyconv.errors.ShapeError: fit: y runs from 3 to 10, expected 0 to 9 because the network has
    10 outputs
    """
    if len(output_shape) != 1:
        raise ShapeError(
            f"{op}: the network maps a sample to shape {output_shape}, expected (K,), "
            "one logit a class; end it with Flatten() and Linear(None, K)"
        )
    if len(y) == 0:
        return
    xp = namespace(op, y=y)
    if ignored is not None:
        y = xp.where(y == ignored, xp.zeros_like(y), y)
    low, high = int(xp.min(y)), int(xp.max(y))
    if low < 0 or high >= output_shape[0]:
        raise ShapeError(
            f"{op}: y runs from {low} to {high}, expected 0 to {output_shape[0] - 1} "
            f"because the network has {output_shape[0]} outputs"
        )

"""What targets may be, said before training with the line that mends them.

The checks take ``op``, the name that error messages begin with, y (S, ...), the targets of all
samples, and the shape (K, ...) that the network makes of one sample.
"""

from math import isfinite, prod

from tinyconv.backend import Array, namespace
from tinyconv.errors import ArgumentError, DtypeError, ShapeError

#: How far probabilities of a sample may be from adding up to 1.
TOLERANCE = 1e-3


def mended_shape(name: str, shape: tuple[int, ...], expected: tuple[int, ...]) -> str:
    """Return the expression that makes an array fit, after a semicolon; "" if none is known.

    Args:
        name: of the array.
        shape: of one sample as it came.
        expected: of one sample.

    >>> mended_shape("x", (28, 28, 3), (3, 28, 28))
    '; pass x.transpose(0, 3, 1, 2)'
    >>> mended_shape("y", (), (1,))
    '; pass y[:, None]'
    >>> mended_shape("x", (784,), (1, 28, 28))
    '; pass x.reshape(-1, 1, 28, 28)'
    >>> mended_shape("x", (3, 4), (5,))
    ''
    """
    line = ""
    if len(shape) > 1 and (shape[-1], *shape[:-1]) == expected:
        line = f".transpose(0, {', '.join(map(str, [len(shape), *range(1, len(shape))]))})"
    elif (1, *shape) == expected:
        line = "[:, None]"
    elif shape == (*expected, 1):
        line = "[..., 0]"
    elif shape == (1, *expected):
        line = "[:, 0]"
    elif prod(shape) == prod(expected) and 1 in (len(shape), len(expected)):
        line = f".reshape({', '.join(map(str, (-1, *expected)))})"
    return f"; pass {name}{line}" if line else ""


def check_classes(
    op: str, y: Array, output_shape: tuple[int, ...], ignored: int | None = None
) -> None:
    """Check that the network gives a logit a class, and every label is a class or ``ignored``.

    Raises:
        ShapeError: the shapes do not fit.
        DtypeError: y does not hold integers.
        ArgumentError: a label is out of range.

    >>> import numpy as np
    >>> check_classes("fit", np.array([3, 10]), (10,))
    Traceback (most recent call last):
    tinyconv.errors.ArgumentError: fit: y runs from 3 to 10, expected 0 to 9 because the network
    has 10 outputs
    >>> check_classes("fit", np.eye(10, dtype=int)[:3], (10,))
    Traceback (most recent call last):
    tinyconv.errors.ShapeError: fit: y has shape (3, 10), expected (3,) with class indices; pass
    y.argmax(axis=1)
    """
    xp = namespace(op, y=y)
    if len(output_shape) == 0:
        raise ShapeError(
            f"{op}: the network maps a sample to a number, expected (K, ...), one logit a class; "
            "end it with Linear(None, K)"
        )
    K, *positions = output_shape
    if tuple(y.shape[1:]) != tuple(positions):
        expected = (y.shape[0], *positions)
        if tuple(y.shape[1:]) == tuple(output_shape) and K > 1:
            mended = "; pass y.argmax(axis=1)"
        elif positions and y.ndim == 1:
            mended = (
                f" because the network maps a sample to shape {tuple(output_shape)}; for one "
                "class a sample end it with Flatten() and Linear(None, K)"
            )
        else:
            mended = mended_shape("y", tuple(y.shape[1:]), tuple(positions))
        raise ShapeError(
            f"{op}: y has shape {tuple(y.shape)}, expected {expected} with class indices{mended}"
        )
    if not xp.isdtype(y.dtype, ("bool", "numeric")):
        raise DtypeError(
            f"{op}: y has dtype {y.dtype}, expected integer class indices; pass "
            "np.unique(y, return_inverse=True)[1]"
        )
    if not xp.isdtype(y.dtype, "integral"):
        whole = xp.isdtype(y.dtype, "bool") or bool(xp.all(y == xp.round(y)))
        mended = "pass y.astype(int)" if whole else 'for numbers to be met use loss="mse"'
        raise DtypeError(f"{op}: y has dtype {y.dtype}, expected integer class indices; {mended}")
    if 0 in y.shape:
        return
    if ignored is not None:
        y = xp.where(y == ignored, xp.zeros_like(y), y)
    low, high = int(xp.min(y)), int(xp.max(y))
    if low < 0 or high >= K:
        mended = "; pass y - 1" if low == 1 and high == K else ""
        raise ArgumentError(
            f"{op}: y runs from {low} to {high}, expected 0 to {K - 1} "
            f"because the network has {K} outputs{mended}"
        )


def check_values(
    op: str,
    y: Array,
    output_shape: tuple[int, ...],
    *,
    least: float | None = None,
    most: float | None = None,
) -> None:
    """Check that there is a number for every output, finite and from ``least`` to ``most``.

    Raises:
        ShapeError: the shapes do not fit.
        DtypeError: y does not hold numbers.
        ArgumentError: a value is not finite or out of range.

    >>> import numpy as np
    >>> check_values("fit", np.zeros(5), (1,))
    Traceback (most recent call last):
    tinyconv.errors.ShapeError: fit: y has shape (5,), expected (5, 1) like the outputs; pass
    y[:, None]
    >>> check_values("fit", np.full((5, 2), 255.0), (2,), least=0, most=1)
    Traceback (most recent call last):
    tinyconv.errors.ArgumentError: fit: y runs from 255.0 to 255.0, expected 0 to 1; pass y / 255
    """
    xp = namespace(op, y=y)
    shape, expected = tuple(y.shape[1:]), tuple(output_shape)
    if shape != expected:
        mended = mended_shape("y", shape, expected)
        if shape == expected[1:] and xp.isdtype(y.dtype, "integral"):
            mended = (
                f'; for class indices use loss="cross_entropy" or pass np.eye({expected[0]})[y]'
            )
        raise ShapeError(
            f"{op}: y has shape {tuple(y.shape)}, expected {(y.shape[0], *expected)} "
            f"like the outputs{mended}"
        )
    if not xp.isdtype(y.dtype, ("bool", "integral", "real floating")):
        raise DtypeError(f"{op}: y has dtype {y.dtype}, expected real numbers")
    if 0 in y.shape or xp.isdtype(y.dtype, "bool"):
        return
    # A minimum and a maximum are NaN where an element is.
    low, high = float(xp.min(y[:])), float(xp.max(y[:]))
    if not (isfinite(low) and isfinite(high)):
        raise ArgumentError(f"{op}: y holds values that are not finite")
    if (least is not None and low < least) or (most is not None and high > most):
        mended = ""
        if most == 1:
            mended = '; for numbers to be met use loss="mse"'
            if low >= 0 and bool(xp.all((y == 0) | (y == high))):  # one of two
                mended = f"; pass y / {high:g}"
            elif low >= 0 and 128 <= high <= 255:  # bytes of images, of which some are bright
                mended = "; pass y / 255"
        raise ArgumentError(
            f"{op}: y runs from {low} to {high}, expected {least:g} to {most:g}{mended}"
        )


def check_probabilities(op: str, y: Array, output_shape: tuple[int, ...]) -> None:
    """Check that there are probabilities of the classes for every sample, adding up to 1.

    Raises:
        ShapeError: the shapes do not fit.
        ArgumentError: a value is out of range, or a sample's do not add up to 1.

    >>> import numpy as np
    >>> check_probabilities("fit", np.array([[0.0, 1.0, 1.0]]), (3,))
    Traceback (most recent call last):
    tinyconv.errors.ArgumentError: fit: the probabilities of a sample in y add up to 2.0, expected
    1; for labels that do not exclude each other use loss="bce_with_logits"
    """
    check_values(op, y, output_shape, least=0, most=1)
    if 0 in y.shape:
        return
    xp = namespace(op, y=y)
    sums = xp.sum(xp.astype(y[:], xp.float64), axis=1)
    away = xp.abs(sums - 1)
    if float(xp.max(away)) > TOLERANCE:
        worst = float(xp.reshape(sums, (-1,))[int(xp.argmax(away))])
        raise ArgumentError(
            f"{op}: the probabilities of a sample in y add up to {worst:.6}, expected 1; for "
            'labels that do not exclude each other use loss="bce_with_logits"'
        )

"""What ``fit``, ``evaluate`` and ``predict`` check of their arguments before anything runs."""

import warnings
from inspect import signature
from typing import Any

import numpy as np
from array_api_compat import is_array_api_obj, is_cupy_array, is_numpy_array

from tinyconv.backend import Array, namespace
from tinyconv.errors import ArgumentError, DeviceError, DtypeError, ShapeError
from tinyconv.losses import Loss, Targets
from tinyconv.losses.checks import mended_shape

#: A learning rate above this one is a slip of the pen.
HIGHEST_RATE = 1000


def as_array(op: str, name: str, value: Any) -> Array:
    """Return samples or targets as an array that training can take batches of.

    Arrays of NumPy and of the GPU's library stay what they are. Lists, and what NumPy can read
    (data frames and tensors of other libraries, in host memory, also by DLPack alone), become
    NumPy arrays.

    Raises:
        DeviceError: it is no array and cannot become one.

    >>> as_array("fit", "y", [0, 1, 1])
    array([0, 1, 1])
    >>> as_array("fit", "x", 5)
    Traceback (most recent call last):
    tinyconv.errors.DeviceError: fit: x is a int, expected an array
    """
    if type(value) is np.ndarray and value.dtype.kind not in "TV":
        return value  # the answer of what follows, in a fifth of its time
    if isinstance(value, np.ndarray) and value.dtype.kind in "TV":
        return value.astype(object)  # NumPy's own isdtype knows neither texts nor records
    if isinstance(value, np.ma.MaskedArray):
        raise DeviceError(
            f"{op}: {name} is a masked array, whose mask would be lost; pass {name}.filled(0), and "
            "sample_weight= for samples that shall not count"
        )
    is_own = type(value).__module__.startswith("tinyconv.") and is_array_api_obj(value)
    if is_own or is_numpy_array(value) or is_cupy_array(value):
        return value
    listed = isinstance(value, list | tuple) or hasattr(value, "__array__")
    if not listed and not hasattr(value, "__dlpack__"):
        raise DeviceError(f"{op}: {name} is a {type(value).__name__}, expected an array")
    try:
        if not listed:
            return np.from_dlpack(value)
        if str(getattr(value, "dtype", "")) == "torch.bfloat16":  # which NumPy does not have
            value = value.float()
        return np.asarray(value.detach() if hasattr(value, "detach") else value)
    except (TypeError, ValueError, RuntimeError, BufferError) as error:
        raise DeviceError(f"{op}: {name} cannot become a NumPy array: {error}") from None


def require_array(op: str, x: Any) -> None:
    """Refuse samples that are no array.

    Raises:
        DeviceError: they are none.

    >>> require_array("Sequential", None)
    Traceback (most recent call last):
    tinyconv.errors.DeviceError: Sequential: x is a NoneType, expected an array
    """
    if type(x) is not np.ndarray and not is_array_api_obj(x):
        raise DeviceError(f"{op}: x is a {type(x).__name__}, expected an array")


def check_input(op: str, x: Array, shape: tuple[int, ...]) -> None:
    """Check samples against the shape that a network was built for.

    Raises:
        DtypeError: they are not floating-point.
        ShapeError: their shape is another one; the text has the line that mends it.

    >>> check_input("fit", np.zeros((5, 28, 28), np.float32), (1, 28, 28))
    Traceback (most recent call last):
    tinyconv.errors.ShapeError: fit: x has shape (5, 28, 28), expected (N, 1, 28, 28); pass
    x[:, None]
    """
    if isinstance(x, np.ndarray) and x.ndim and x.dtype.kind == "f" and x.shape[1:] == shape:
        return  # nearly always; what follows takes longer than a small prediction
    xp = namespace(op, x=x)
    if x.ndim == 0:
        raise ShapeError(f"{op}: x has shape (), expected (N, ...)")
    mended = mended_shape("x", tuple(x.shape[1:]), shape)
    if not xp.isdtype(x.dtype, "real floating"):
        line = "x / 255" if x.dtype == xp.uint8 else 'x.astype("float32")'
        raise DtypeError(
            f"{op}: x has dtype {x.dtype}, expected a floating-point type; pass {line}"
        )
    if tuple(x.shape) == shape:
        mended = "; pass x[None], a batch of one sample"
    if tuple(x.shape[1:]) != shape:
        expected = f"({', '.join(map(str, ('N', *shape)))})"
        raise ShapeError(f"{op}: x has shape {tuple(x.shape)}, expected {expected}{mended}")


def check_targets(
    op: str,
    x: Array,
    y: Array,
    sample_weight: Array | None,
    loss: Loss,
    output_shape: tuple[int, ...],
) -> Targets:
    """Return targets and weights of samples that fit them, the loss and the network.

    Raises:
        ShapeError: there is not one for every sample, or what the loss finds.
        DtypeError: the loss does not take numbers of such a type, or weights are none.
        ArgumentError: there is no sample, a target is out of range, a weight negative, or the loss
            takes no weights.

    >>> from tinyconv.losses import MSELoss
    >>> check_targets("fit", np.zeros((3, 4)), np.zeros((2, 1)), None, MSELoss(), (1,))
    Traceback (most recent call last):
    tinyconv.errors.ShapeError: fit: y has shape (2, 1), expected 3 samples as x has
    """
    samples = x.shape[0]
    if samples == 0:
        raise ArgumentError(f"{op}: no samples, expected at least one")
    if y.ndim == 0 or y.shape[0] != samples:
        plural = "sample" if samples == 1 else "samples"
        raise ShapeError(
            f"{op}: y has shape {tuple(y.shape)}, expected {samples} {plural} as x has"
        )
    loss.check_targets(op, y, output_shape)
    if loss.one_class:
        _check_there_is_a_choice(op, y, loss, output_shape)
    if sample_weight is None:
        return Targets(y)
    if "sample_weight" not in signature(loss.forward).parameters:
        raise ArgumentError(
            f"{op}: the forward method of {type(loss).__name__} takes no sample_weight"
        )
    xp = namespace(op, sample_weight=sample_weight)
    if tuple(sample_weight.shape) != (samples,):
        raise ShapeError(
            f"{op}: sample_weight has shape {tuple(sample_weight.shape)}, expected ({samples},)"
        )
    if not xp.isdtype(sample_weight.dtype, ("bool", "integral", "real floating")):
        raise DtypeError(
            f"{op}: sample_weight has dtype {sample_weight.dtype}, expected real numbers"
        )
    weight = xp.astype(sample_weight, xp.float64)
    if not bool(xp.all(xp.isfinite(weight) & (weight >= 0))) or not bool(xp.any(weight > 0)):
        raise ArgumentError(
            f"{op}: sample_weight holds {float(xp.min(weight))} to {float(xp.max(weight))}, "
            "expected numbers of at least 0, and one above"
        )
    return Targets(y, weight)


def _check_there_is_a_choice(op: str, y: Array, loss: Loss, output_shape: tuple[int, ...]) -> None:
    if output_shape[:1] == (1,):
        raise ArgumentError(
            f"{op}: the network has one output, and {type(loss).__name__} asks for one a class; "
            'end it with Linear(None, 2), or use loss="bce_with_logits"'
        )
    xp = namespace(op, y=y)
    if loss.ignore_index is not None and len(y) and bool(xp.all(y == loss.ignore_index)):
        raise ArgumentError(f"{op}: every label is {loss.ignore_index}, which is ignored")


def warn_of_nonsense(x: Array, lr: float) -> None:
    """Warn of what is possible and never learns: the bytes of pictures, and a rate far too high."""
    if lr > HIGHEST_RATE:
        warnings.warn(
            f"fit: the optimizer's lr is {lr:g}; no network learns at rates above {HIGHEST_RATE:,}",
            stacklevel=4,
        )
    xp = namespace("fit", x=x)
    first = x[:256]
    low, high = float(xp.min(first)), float(xp.max(first))
    if low >= 0 and 100 < high <= 255 and bool(xp.all(first == xp.round(first))):
        warnings.warn(
            f"fit: x runs from {low:g} to {high:g}, as the bytes of pictures do; networks learn "
            "from numbers near 1: pass x / 255",
            stacklevel=4,
        )

"""Losses by name: what a file may say of a loss, and what ``fit(loss="mse")`` means."""

from collections.abc import Mapping
from typing import Any

from tinyconv.errors import ArgumentError, FileError
from tinyconv.losses.base import Loss
from tinyconv.losses.classes import (
    CrossEntropyLoss,
    MultiMarginLoss,
    Quadratic,
    SigmoidCrossEntropy,
)
from tinyconv.losses.elements import BCEWithLogitsLoss, HuberLoss, L1Loss, MSELoss

__all__ = ["LOSSES", "SHORT_NAMES", "loss_from_name", "loss_of"]

#: What ``loss=`` takes as a string.
SHORT_NAMES: dict[str, type[Loss]] = {
    "cross_entropy": CrossEntropyLoss,
    "mse": MSELoss,
    "l1": L1Loss,
    "huber": HuberLoss,
    "bce_with_logits": BCEWithLogitsLoss,
    "hinge": MultiMarginLoss,
    "quadratic": Quadratic,
    "sigmoid_cross_entropy": SigmoidCrossEntropy,
}

#: The losses that a file may name; the first is the book's name of the second.
LOSSES: dict[str, type[Loss]] = {
    "SoftmaxLogLikelihood": CrossEntropyLoss,
    **{kind.__name__: kind for kind in SHORT_NAMES.values()},
}


def loss_of(op: str, loss: Loss | str) -> Loss:
    """Return the loss that an argument means: an object, or a name.

    Raises:
        ArgumentError: there is none of that name, or it is no loss.

    >>> loss_of("fit", "mse")
    MSELoss()
    >>> loss_of("fit", "mse_loss")
    Traceback (most recent call last):
    tinyconv.errors.ArgumentError: fit: loss is 'mse_loss', expected an object such as MSELoss() or
    one of 'cross_entropy', 'mse', 'l1', 'huber', 'bce_with_logits', 'hinge', 'quadratic',
    'sigmoid_cross_entropy'
    """
    if isinstance(loss, Loss):
        return loss
    kind = {**LOSSES, **SHORT_NAMES}.get(loss) if isinstance(loss, str) else None
    if kind is None:
        raise ArgumentError(
            f"{op}: loss is {loss!r}, expected an object such as MSELoss() or one of "
            f"{', '.join(map(repr, SHORT_NAMES))}"
        )
    return kind()


def loss_from_name(name: str, config: Mapping[str, Any] | None = None) -> Loss:
    """Return a loss by the name of its class and what its ``config()`` gave.

    Raises:
        FileError: there is none of that name, or it does not take such arguments.

    >>> loss_from_name("CrossEntropyLoss")
    CrossEntropyLoss()
    >>> loss_from_name("MultiMarginLoss", {"margin": 0.5})
    MultiMarginLoss(margin=0.5)
    >>> loss_from_name("Surprise")
    Traceback (most recent call last):
    tinyconv.errors.FileError: unknown loss 'Surprise'
    """
    if name not in LOSSES:
        raise FileError(f"unknown loss {name!r}")
    try:
        return LOSSES[name](**(config or {}))
    except (TypeError, ValueError) as error:
        raise FileError(f"loss {name} does not take {config!r}: {error}") from None

"""Losses by name: what a file may say of a loss, and what ``fit(loss="mse")`` means."""

from tinyconv.errors import ArgumentError
from tinyconv.losses.base import Loss
from tinyconv.losses.classes import (
    CrossEntropyLoss,
    MultiMarginLoss,
    Quadratic,
    SigmoidCrossEntropy,
)
from tinyconv.losses.elements import BCEWithLogitsLoss, HuberLoss, L1Loss, MSELoss
from tinyconv.messages import hint, shown
from tinyconv.registry import Registry

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

#: The losses that a file may name.
LOSSES: Registry[Loss] = Registry("loss", {kind.__name__: kind for kind in SHORT_NAMES.values()})


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
    'sigmoid_cross_entropy'; the nearest is 'mse'
    """
    if isinstance(loss, Loss):
        return loss
    kind = {**LOSSES, **SHORT_NAMES}.get(loss) if isinstance(loss, str) else None
    if kind is None:
        raise ArgumentError(
            f"{op}: loss is {shown(loss)}, expected an object such as MSELoss() or one of "
            f"{', '.join(map(repr, SHORT_NAMES))}{hint(loss, SHORT_NAMES)}"
        )
    return kind()

"""Losses as thin objects over the operations: what ``fit(loss=...)`` takes."""

from tinyconv.losses.base import Loss
from tinyconv.losses.base import Targets as Targets
from tinyconv.losses.base import take as take
from tinyconv.losses.classes import (
    CrossEntropyLoss,
    MultiMarginLoss,
    Quadratic,
    SigmoidCrossEntropy,
    SoftmaxLogLikelihood,
)
from tinyconv.losses.elements import BCEWithLogitsLoss, HuberLoss, L1Loss, MSELoss
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
LOSSES: Registry[Loss] = Registry(Loss, SHORT_NAMES.values(), SHORT_NAMES, such_as="MSELoss()")

__all__ = [
    "BCEWithLogitsLoss",
    "CrossEntropyLoss",
    "HuberLoss",
    "L1Loss",
    "Loss",
    "MSELoss",
    "MultiMarginLoss",
    "Quadratic",
    "SigmoidCrossEntropy",
    "SoftmaxLogLikelihood",
]

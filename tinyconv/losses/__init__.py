"""Losses as thin objects over the operations: what ``fit(loss=...)`` takes."""

from tinyconv.losses.base import Loss
from tinyconv.losses.classes import (
    CrossEntropyLoss,
    MultiMarginLoss,
    Quadratic,
    SigmoidCrossEntropy,
    SoftmaxLogLikelihood,
)
from tinyconv.losses.elements import BCEWithLogitsLoss, HuberLoss, L1Loss, MSELoss
from tinyconv.losses.names import LOSSES, loss_of
from tinyconv.losses.targets import Targets, take

__all__ = [
    "LOSSES",
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
    "Targets",
    "loss_of",
    "take",
]

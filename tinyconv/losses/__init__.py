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
from tinyconv.losses.names import LOSSES as LOSSES
from tinyconv.losses.names import loss_of as loss_of
from tinyconv.losses.targets import Targets as Targets
from tinyconv.losses.targets import take as take

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

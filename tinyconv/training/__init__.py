"""Training: the loop, what executes its steps, what hangs on it, what it leaves behind."""

from tinyconv.training.average import AverageWeights
from tinyconv.training.callbacks import (
    Callback,
    EarlyStopping,
    KeepBest,
    Schedule,
    StopOnInterrupt,
)
from tinyconv.training.history import History
from tinyconv.training.loggers import CSVLogger, Logger, ProgressBar

__all__ = [
    "AverageWeights",
    "CSVLogger",
    "Callback",
    "EarlyStopping",
    "History",
    "KeepBest",
    "Logger",
    "ProgressBar",
    "Schedule",
    "StopOnInterrupt",
]

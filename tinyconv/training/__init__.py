"""Training: the loop, what executes its steps, what hangs on it, what it leaves behind."""

from tinyconv.training.callbacks import (
    Callback,
    EarlyStopping,
    KeepBest,
    ProgressBar,
    Schedule,
    StopOnInterrupt,
)
from tinyconv.training.history import History

__all__ = [
    "Callback",
    "EarlyStopping",
    "History",
    "KeepBest",
    "ProgressBar",
    "Schedule",
    "StopOnInterrupt",
]

"""Pictures. Each function returns a matplotlib figure, which ``figure.savefig(path)`` writes.

The figures are made without pyplot, so no window opens and no state is shared; a notebook shows
them by itself.
"""

from tinyconv.plots.analysis import (
    connections,
    equivariance,
    invariance,
    matrix,
    receptive_field,
    trace,
)
from tinyconv.plots.figure import Figure
from tinyconv.plots.images import augmentations, feature_maps, filters
from tinyconv.plots.predictions import confusion_matrix, mistakes
from tinyconv.plots.training import learning_curves, training_report

__all__ = [
    "Figure",
    "augmentations",
    "confusion_matrix",
    "connections",
    "equivariance",
    "feature_maps",
    "filters",
    "invariance",
    "learning_curves",
    "matrix",
    "mistakes",
    "receptive_field",
    "trace",
    "training_report",
]

"""Pictures. Each function returns a matplotlib figure, which ``figure.savefig(path)`` writes.

The figures are made without pyplot, so no window opens and no state is shared.
"""

from tinyconv.plots.images import filters
from tinyconv.plots.training import learning_curves, training_report

__all__ = ["filters", "learning_curves", "training_report"]

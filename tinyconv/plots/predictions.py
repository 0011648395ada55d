"""Pictures of what a network answers: the images that it gets wrong, and what it takes for what."""

from typing import TYPE_CHECKING, Any

import numpy as np

from tinyconv.errors import ShapeError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["confusion_matrix", "mistakes"]


def mistakes(
    x: np.ndarray[Any, Any],
    y: np.ndarray[Any, Any],
    predicted: np.ndarray[Any, Any],
    limit: int = 60,
    columns: int = 10,
) -> "Figure":
    """Draw misclassified images; top right stands the true label, bottom right the predicted one.

    Args:
        x: (N, 1, H, W) or (N, H, W), images.
        y: (N,), their classes.
        predicted: (N,), the classes that a network or an ensemble predicted.
        limit: images at most, the first ones.
        columns: images in a row.

    Raises:
        ShapeError: the shapes do not fit.

    >>> x, y = np.zeros((3, 1, 28, 28)), np.array([1, 2, 3])
    >>> figure = mistakes(x, y, np.array([1, 7, 3]))
    >>> figure.get_suptitle(), [text.get_text() for text in figure.axes[0].texts]
    ('1 of 3 wrong', ['2', '7'])
    """
    from matplotlib.figure import Figure

    _check("mistakes", y, predicted)
    if x.ndim == 4 and x.shape[1] == 1:
        x = x[:, 0]
    if x.ndim != 3 or len(x) != len(y):
        raise ShapeError(
            f"mistakes: x has shape {tuple(x.shape)}, expected ({len(y)}, 1, H, W) because y has "
            f"{len(y)} labels"
        )
    wrong = np.flatnonzero(y != predicted)
    shown = wrong[:limit]
    rows = max(1, -(-len(shown) // columns))
    figure = Figure(figsize=(columns * 0.85, rows * 0.85 + 0.5), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for panel in panels[len(shown) :]:
        panel.remove()
    for panel, n in zip(panels, shown, strict=False):
        panel.imshow(x[n], cmap="gray_r")
        panel.set_xticks([])
        panel.set_yticks([])
        for height, side, label in ((0.97, "top", y[n]), (0.03, "bottom", predicted[n])):
            panel.text(
                0.96, height, str(label), transform=panel.transAxes, ha="right", va=side, fontsize=9
            )
    title = f"{len(wrong):,} of {len(y):,} wrong"
    if len(shown) < len(wrong):
        title += f", the first {len(shown)} of them"
    figure.suptitle(title, fontsize=10)
    return figure


def confusion_matrix(
    y: np.ndarray[Any, Any], predicted: np.ndarray[Any, Any], classes: int = 10
) -> "Figure":
    """Draw how often each class is taken for which: rows are true, columns predicted.

    The colours show the mistakes only, which the diagonal would outshine.

    Raises:
        ShapeError: the shapes do not fit, or a label is out of range.

    >>> figure = confusion_matrix(np.array([0, 1, 1]), np.array([0, 1, 0]), classes=2)
    >>> [text.get_text() for text in figure.axes[0].texts]
    ['1', '0', '1', '1']
    """
    from matplotlib.figure import Figure

    _check("confusion_matrix", y, predicted)
    both = np.concatenate([y, predicted])
    if both.size and not (both.min() >= 0 and both.max() < classes):
        raise ShapeError(
            f"confusion_matrix: labels from {both.min()} to {both.max()}, "
            f"expected 0 to {classes - 1}"
        )
    counts = np.bincount(y * classes + predicted, minlength=classes**2).reshape(classes, classes)
    mistakes_only = counts * (1 - np.eye(classes, dtype=counts.dtype))
    figure = Figure(figsize=(1.5 + 0.5 * classes, 1.2 + 0.5 * classes), layout="constrained")
    panel = figure.subplots()
    panel.imshow(mistakes_only, cmap="Oranges", vmin=0, vmax=max(1, int(mistakes_only.max())))
    for row in range(classes):
        for column in range(classes):
            weight = "bold" if row == column else "normal"
            panel.text(
                column,
                row,
                f"{counts[row, column]:,}",
                ha="center",
                va="center",
                fontsize=8,
                fontweight=weight,
            )
    panel.set_xticks(range(classes))
    panel.set_yticks(range(classes))
    panel.set_xlabel("predicted")
    panel.set_ylabel("true")
    correct = int(np.trace(counts))
    panel.set_title(f"{correct:,} of {len(y):,} correct", fontsize=10)
    return figure


def _check(op: str, y: np.ndarray[Any, Any], predicted: np.ndarray[Any, Any]) -> None:
    if y.ndim != 1 or y.shape != predicted.shape:
        raise ShapeError(
            f"{op}: y has shape {y.shape} and predicted {predicted.shape}, expected (N,) of both"
        )

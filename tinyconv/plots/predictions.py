"""Pictures of what a network answers: the images that it gets wrong, and what it takes for what."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.ticker import MaxNLocator

from tinyconv.arguments import Count, Natural, checked
from tinyconv.backend import Values, to_numpy
from tinyconv.data.splits import ByteImages
from tinyconv.errors import DtypeError, ShapeError
from tinyconv.plots.figure import Figure, grid


@checked
def mistakes(
    x: Values,
    y: Values,
    predicted: Values,
    limit: Natural = 60,
    columns: Count = 10,
    *,
    class_names: Sequence[str] | None = None,
    cmap: str = "gray_r",
) -> Figure:
    """Draw misclassified images; below each stands its class and the predicted one.

    Args:
        x: (N, C, H, W) of one or three channels, or (N, H, W), images in [0, 1] or bytes.
        y: (N,), their classes.
        predicted: (N,), the classes that a network or an ensemble predicted.
        limit: images at most, the first ones.
        columns: images in a row.
        class_names: of the classes; a class that has none is called by its number.
        cmap: colours of images of one channel, by matplotlib's name; the default is dark on light.

    Raises:
        ShapeError: the shapes do not fit.
        ArgumentError: ``limit`` is below 0, or ``columns`` below 1.

    >>> x, y = np.zeros((3, 1, 28, 28)), np.array([1, 2, 3])
    >>> figure = mistakes(x, y, np.array([1, 7, 3]))
    >>> figure.get_suptitle(), figure.axes[0].get_xlabel().split("\\n")
    ('1 of 3 wrong', ['true: 2', 'predicted: 7'])
    """
    y, predicted = _labels("mistakes", y, predicted)
    x = x if isinstance(x, ByteImages) else to_numpy(x)
    shape = tuple(x.shape)
    if x.ndim == 4 and x.shape[1] == 1:
        x = x[:, 0]
    elif x.ndim == 4 and x.shape[1] == 3:
        x = x.transpose(0, 2, 3, 1)  # as matplotlib has them
    if (x.ndim != 3 and x.shape[3:] != (3,)) or len(x) != len(y):
        raise ShapeError(
            f"mistakes: x has shape {shape}, expected ({len(y)}, 1, H, W) because y has "
            f"{len(y)} labels"
        )
    wrong, white = np.flatnonzero(y != predicted), 255 if x.dtype == np.uint8 else 1
    shown = wrong[:limit]
    rows = max(1, -(-len(shown) // columns))
    figure = Figure(figsize=(columns * 0.95, rows * 1.25 + 0.5), layout="constrained")
    for panel, n in zip(grid(figure, len(shown), columns), shown, strict=True):
        panel.imshow(x[n].clip(0, white) if x.ndim == 4 else x[n], cmap=cmap)
        true, taken = (_name(class_names, label) for label in (y[n], predicted[n]))
        panel.set_xlabel(
            f"true: {true[:12]}\npredicted: {taken[:12]}", fontsize=7, parse_math=False
        )
    title = f"{len(wrong):,} of {len(y):,} wrong"
    if len(shown) < len(wrong):
        title += f", the first {len(shown)} of them"
    figure.suptitle(title, fontsize=10)
    return figure


@checked
def confusion_matrix(
    y: Values,
    predicted: Values,
    classes: Count = 10,
    *,
    class_names: Sequence[str] | None = None,
) -> Figure:
    """Draw how often each class is taken for which: rows are true, columns predicted.

    The colours, whose scale stands beside, show the mistakes only; the diagonal would outshine
    them. The table has a row for each of ``class_names``, or for the numbers below ``classes``.

    Raises:
        ShapeError: the shapes do not fit, or a label is out of range.
        DtypeError: labels are no integers.
        ArgumentError: ``classes`` is below 1.

    >>> figure = confusion_matrix(np.array([0, 1, 1]), np.array([0, 1, 0]), classes=2)
    >>> [text.get_text() for text in figure.axes[0].texts]
    ['1', '0', '1', '1']
    """
    y, predicted = _labels("confusion_matrix", y, predicted)
    classes = (0 if class_names is None else len(class_names)) or classes
    both = np.concatenate([y, predicted])
    if both.size and both.dtype.kind not in "iub":
        raise DtypeError(f"confusion_matrix: labels are {both.dtype}, expected integers")
    if both.size and not (both.min() >= 0 and both.max() < classes):
        raise ShapeError(
            f"confusion_matrix: labels from {both.min()} to {both.max()}, "
            f"expected 0 to {classes - 1}"
        )
    counts = np.zeros((classes, classes), int)
    np.add.at(counts, (y.astype(int), predicted.astype(int)), 1)
    mistakes_only = counts * (1 - np.eye(classes, dtype=counts.dtype))
    figure = Figure(figsize=(1.5 + 0.5 * classes, 1.2 + 0.5 * classes), layout="constrained")
    panel = figure.subplots()
    most = max(1, int(mistakes_only.max()))
    image = panel.imshow(mistakes_only, cmap="Oranges", vmin=0, vmax=most)
    whole = MaxNLocator(integer=True)
    figure.colorbar(image, ax=panel, label="mistakes", shrink=0.7, ticks=whole)
    how: Any = {"ha": "center", "va": "center", "fontsize": 8}
    for row in range(classes):
        for column in range(classes):
            text, weight = f"{counts[row, column]:,}", "bold" if row == column else "normal"
            colour = "white" if mistakes_only[row, column] > 0.6 * most else "black"
            panel.text(column, row, text, color=colour, fontweight=weight, **how)
    names = [_name(class_names, number)[:16] for number in range(classes)]
    turned = 90 if max(map(len, names)) > 2 else 0
    panel.set_xticks(range(classes), names, rotation=turned, parse_math=False)
    panel.set_yticks(range(classes), names, parse_math=False)
    panel.set(xlabel="predicted", ylabel="true")
    panel.set_title(f"{int(np.trace(counts)):,} of {len(y):,} correct", fontsize=10)
    return figure


def _name(class_names: Sequence[str] | None, label: Any) -> str:
    names = dict(enumerate(() if class_names is None else class_names))
    return str(names.get(label, label))


def _labels(op: str, y: Any, predicted: Any) -> tuple[Values, Values]:
    """Return labels as arrays of NumPy."""
    y, predicted = to_numpy(y), to_numpy(predicted)
    if y.ndim != 1 or y.shape != predicted.shape:
        raise ShapeError(
            f"{op}: y has shape {y.shape} and predicted {predicted.shape}, expected (N,) of both"
        )
    return y, predicted

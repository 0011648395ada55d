"""Pictures. Each function returns a matplotlib figure, which ``figure.savefig(path)`` writes.

The figures are made without pyplot, so no window opens and no state is shared.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from tinyconv.backend import to_numpy
from tinyconv.errors import ShapeError, StateError
from tinyconv.layers import Conv2d
from tinyconv.network import Sequential
from tinyconv.training.history import History

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

__all__ = ["filters", "learning_curves", "training_report"]


def learning_curves(runs: Mapping[str, History]) -> "Figure":
    """Draw loss and accuracy against the epoch, training dashed and validation solid.

    Args:
        runs: name in the legend -> history.

    Raises:
        StateError: no run has completed an epoch.

    >>> history = History([{"epoch": 1, "loss": 0.5, "accuracy": 0.8}])
    >>> learning_curves({"a run": history}).axes[0].get_ylabel()
    'loss'
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.6), layout="constrained")
    _draw_curves(runs, figure.subplots(1, 2))
    return figure


def filters(layer: Conv2d, title: str = "") -> "Figure":
    """Draw the kernels of a convolution as grey images: dark is negative, white positive.

    A kernel with several input channels is drawn as one row of images.

    Raises:
        StateError: the layer has no parameters yet.

    >>> from tinyconv.models import nielsen_conv
    >>> len(filters(nielsen_conv().layers[0]).axes)
    20
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 5), layout="constrained")
    _draw_filters(layer, figure, title)
    return figure


def training_report(net: Sequential, history: History) -> "Figure":
    """Draw the learning curves of a run and, beside them, the filters of the first convolution.

    Raises:
        StateError: no epoch has been completed.
    """
    from matplotlib.figure import Figure

    first = next((layer for layer in net.walk() if isinstance(layer, Conv2d)), None)
    if first is None:
        return learning_curves({"training": history})
    figure = Figure(figsize=(13, 3.8), layout="constrained")
    left, right = figure.subfigures(1, 2, squeeze=False, width_ratios=(2, 1))[0]
    _draw_curves({"": history}, left.subplots(1, 2))
    _draw_filters(first, right, "filters of the first layer")
    return figure


def _draw_curves(
    runs: Mapping[str, History], axes: "np.ndarray[tuple[int], np.dtype[np.object_]]"
) -> None:
    if not any(len(history) for history in runs.values()):
        raise StateError("learning_curves: no epoch has been completed")
    for panel, name in zip(axes, ("loss", "accuracy"), strict=True):
        for number, (run, history) in enumerate(runs.items()):
            epochs, colour = history["epoch"], f"C{number}"
            before = f"{run}, " if run else ""
            if name in history:
                _line(panel, epochs, history[name], colour, "--", f"{before}training")
            if f"val_{name}" in history:
                _line(panel, epochs, history[f"val_{name}"], colour, "-", f"{before}validation")
        panel.set_xlabel("epoch")
        panel.set_ylabel(name)
        panel.grid(alpha=0.3)
        panel.xaxis.get_major_locator().set_params(integer=True)
    axes[0].set_yscale("log")
    axes[1].legend(frameon=False)


def _line(
    panel: "Axes", epochs: list[float], values: list[float], colour: str, style: str, label: str
) -> None:
    panel.plot(epochs, values, style, color=colour, label=label, marker="o", markersize=3)


def _draw_filters(layer: Conv2d, figure: "Figure | SubFigure", title: str) -> None:
    if "weight" not in layer.params:
        raise StateError("filters: the layer has no parameters yet; run a forward pass first")
    w = to_numpy(layer.params["weight"])
    if w.ndim != 4:
        raise ShapeError(f"filters: weights of shape {w.shape}, expected (O, C, KH, KW)")
    O, C = w.shape[:2]
    columns = C if C > 1 else int(np.ceil(O**0.5 * 1.2))
    rows = -(-O * C // columns)
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    limit = float(np.abs(w).max()) or 1.0
    for kernel, panel in zip(w.reshape(O * C, *w.shape[2:]), panels, strict=False):
        panel.imshow(kernel, cmap="gray", vmin=-limit, vmax=limit)
    for number, panel in enumerate(figure.axes):
        panel.set_axis_off()
        if number >= O * C:
            panel.remove()
    if title:
        figure.suptitle(title, fontsize=10)

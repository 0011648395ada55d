"""Pictures of a training run: its learning curves, alone or with what the first layer learnt."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from tinyconv.arguments import checked
from tinyconv.errors import ArgumentError, StateError
from tinyconv.layers import Conv2d
from tinyconv.network import Sequential
from tinyconv.plots.figure import Figure, legend_beside, named
from tinyconv.plots.images import draw_filters
from tinyconv.training.history import History


def learning_curves(runs: History | Mapping[str, History]) -> Figure:
    """Draw loss and accuracy against the epoch, training dashed and validation solid.

    Args:
        runs: a history, or name in the legend -> history.

    Raises:
        ArgumentError: a row of a history has no epoch.
        StateError: no run has completed an epoch.

    >>> history = History([{"epoch": 1, "loss": 0.5, "accuracy": 0.8}])
    >>> learning_curves(history).axes[0].get_ylabel()
    'loss'
    """
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    _draw_curves(named("learning_curves", History, runs), figure.subplots(1, 2))
    return figure


@checked
def training_report(net: Sequential, history: History) -> Figure:
    """Draw the learning curves of a run and, beside them, the filters of the first convolution.

    Raises:
        StateError: no epoch has been completed.
    """
    first = next((layer for layer in net.walk() if isinstance(layer, Conv2d)), None)
    if first is None:
        return learning_curves({"training": history})
    figure = Figure(figsize=(13, 3.8), layout="constrained")
    left, right = figure.subfigures(1, 2, squeeze=False, width_ratios=(2, 1))[0]
    _draw_curves({"": history}, left.subplots(1, 2))
    draw_filters(first, right, "filters of the first layer")
    return figure


def _draw_curves(
    runs: Mapping[str, History], axes: "np.ndarray[tuple[int], np.dtype[np.object_]]"
) -> None:
    if not any(len(history) for history in runs.values()):
        raise StateError("learning_curves: no epoch has been completed")
    for run, history in runs.items():
        if len(history) and "epoch" not in history:
            of_run = f" of {run!r}" if run else ""
            raise ArgumentError(f"learning_curves: the history{of_run} has rows without an epoch")
    figures = ["loss", *_beside_the_loss(runs)]
    lowest = dict.fromkeys(figures, math.inf)
    for panel in axes[len(figures) :]:
        panel.set_axis_off()
    for panel, name in zip(axes, figures, strict=False):
        for number, (run, history) in enumerate(runs.items()):
            how: Any = {"color": f"C{number}", "marker": "o", "markersize": 3}
            before = f"{run}, " if run else ""
            for start, style, part in (("", "--", "training"), ("val_", "-", "validation")):
                column = start + name
                rows = [row for row in history if column in row]
                if rows:
                    places = [row["epoch"] for row in rows], [row[column] for row in rows]
                    panel.plot(*places, style, label=f"{before}{part}", **how)
                    lowest[name] = min(lowest[name], *places[1])
        panel.set(xlabel="epoch", ylabel=name)
        panel.grid(alpha=0.3)
        panel.xaxis.get_major_locator().set_params(integer=True)
    if lowest["loss"] > 0:  # what is not above it has no place on a logarithmic scale
        axes[0].set_yscale("log")
    legend_beside(axes[len(figures) - 1])


def _beside_the_loss(runs: Mapping[str, History]) -> list[str]:
    """Return the figure to draw beside the loss: the accuracy, else the first that there is."""
    none = ("epoch", "loss", "lr", "seconds", "samples_per_second")
    names = {name: None for history in runs.values() for row in history for name in row}
    there = [name for name in names if name not in none and not name.startswith("val_")]
    return ["accuracy"] if "accuracy" in there else there[:1]

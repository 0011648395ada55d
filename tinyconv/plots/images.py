"""Pictures of what a network holds and sees: its filters."""

from typing import TYPE_CHECKING

import numpy as np

from tinyconv.backend import to_numpy
from tinyconv.errors import ShapeError, StateError
from tinyconv.layers import Conv2d

if TYPE_CHECKING:
    from matplotlib.figure import Figure, SubFigure

__all__ = ["draw_filters", "filters"]


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
    draw_filters(layer, figure, title)
    return figure


def draw_filters(layer: Conv2d, figure: "Figure | SubFigure", title: str) -> None:
    """Draw the kernels of a convolution into a figure or a part of one."""
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

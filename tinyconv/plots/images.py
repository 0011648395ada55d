"""Pictures of what a network holds and sees: filters, feature maps, distorted images."""

import numpy as np
from matplotlib.figure import SubFigure

from tinyconv.arguments import Natural, checked
from tinyconv.backend import Values, like, to_numpy
from tinyconv.data import augment
from tinyconv.errors import ShapeError, StateError
from tinyconv.layers import Conv2d
from tinyconv.network import Sequential
from tinyconv.plots.figure import DIVERGING, Figure, grid

#: Feature maps drawn side by side.
COLUMNS = 10

#: Kernels drawn at most, down and across: more would be too small to be read.
MOST = (8, 10)


@checked
def filters(layer: Conv2d, title: str = "") -> Figure:
    """Draw the kernels of a convolution on one scale: blue is negative, red positive.

    A kernel with several input channels is drawn as one row of images. Of many kernels and channels
    the first are drawn, and the title counts all of them.

    Raises:
        StateError: the layer has no parameters yet.

    >>> from tinyconv.models import nielsen_conv
    >>> len(filters(nielsen_conv().layers[0]).axes)  # 20 kernels and the scale
    21
    """
    figure = Figure(figsize=(6, 5), layout="constrained")
    draw_filters(layer, figure, title)
    return figure


def draw_filters(layer: Conv2d, figure: Figure | SubFigure, title: str) -> None:
    """Draw the kernels of a convolution into a figure or a part of one."""
    if "weight" not in layer.params:
        raise StateError("filters: the layer has no parameters yet; run a forward pass first")
    w = to_numpy(layer.params["weight"])
    if w.ndim != 4:
        raise ShapeError(f"filters: weights of shape {w.shape}, expected (O, C, KH, KW)")
    O, C = w.shape[:2]
    if C > 1:
        rows, columns = min(O, MOST[0]), min(C, MOST[1])
        shown = w[:rows, :columns].reshape(rows * columns, *w.shape[2:])
    else:
        shown = w[: MOST[0] * MOST[1], 0]
        columns = int(np.ceil(len(shown) ** 0.5 * 1.2))
    if len(shown) < O * C:
        count = f"{len(shown)} of {O * C:,} kernels ({O} outputs from {C} inputs)"
        title = f"{title}: {count}" if title else count
    panels = grid(figure, len(shown), columns)
    limit = float(np.abs(w).max()) or 1.0
    for kernel, panel in zip(shown, panels, strict=True):
        image = panel.imshow(kernel, cmap=DIVERGING, vmin=-limit, vmax=limit)
    figure.colorbar(image, ax=panels, shrink=0.6)
    if title:
        figure.suptitle(title, fontsize=10)


@checked
def feature_maps(net: Sequential, image: Values, layer: int | None = None) -> Figure:
    """Draw what the layers of a network make of an image, one small picture a feature map.

    The maps of a layer have one scale, whose bar stands beside them: blue is negative.

    Args:
        net: the network; it need not have run before.
        image: (C, H, W), or (H, W) of one channel, floating-point.
        layer: place of the layer to draw; every one that gives feature maps if None.

    Raises:
        ShapeError: the image does not fit the network, or no layer asked for gives feature maps.

    >>> from tinyconv.models import nielsen_conv
    >>> figure = feature_maps(nielsen_conv(), np.zeros((28, 28)), layer=1)
    >>> len(figure.axes), figure.axes[0].images[0].get_array().shape  # 20 maps and the scale
    (21, (12, 12))
    """
    image = to_numpy(image)
    if image.ndim == 2:
        image = image[None]
    if image.ndim != 3:
        raise ShapeError(f"feature_maps: image has shape {image.shape}, expected (C, H, W)")
    x = image[None].astype(net.dtype)
    if net.input_shape is None:
        net.build(image.shape)
    net.forward(like(net.parameters.flat, x))
    drawn = []
    for place, part in enumerate(net.layers):
        y = to_numpy(part.y)
        if layer in (None, place) and y.ndim == 4 and max(y.shape[2:]) > 1:
            drawn.append((f"{place} {type(part).__name__}", y[0]))
    if not drawn:
        asked = (
            "no layer" if layer is None else f"layer {layer} of {len(net.layers)} does not exist or"
        )
        raise ShapeError(f"feature_maps: {asked} gives (N, C, H, W), expected one that does")
    rows = [-(-len(maps) // COLUMNS) for _, maps in drawn]
    figure = Figure(figsize=(COLUMNS * 0.8 + 0.8, 0.3 + sum(rows) * 0.8 + 0.3 * len(rows)))
    figure.set_layout_engine("constrained")
    parts = figure.subfigures(len(drawn), 1, squeeze=False, height_ratios=rows)[:, 0]
    for (name, maps), part in zip(drawn, parts, strict=True):
        part.suptitle(name, fontsize=9)
        panels = grid(part, len(maps), COLUMNS)
        limit = float(np.abs(maps).max()) or 1.0
        for panel, values in zip(panels, maps, strict=True):
            panel.set_axis_off()
            picture = panel.imshow(values, cmap=DIVERGING, vmin=-limit, vmax=limit)
        bar = part.colorbar(picture, ax=panels)
        bar.set_ticks([-limit, 0, limit], labels=[f"{-limit:.2g}", "0", f"{limit:.2g}"], fontsize=7)
    return figure


@checked
def augmentations(image: Values, key: int = 0, copies: Natural = 6) -> Figure:
    """Draw what each distortion of :mod:`tinyconv.data.augment` does to an image.

    Args:
        image: (H, W) or (1, H, W), floating-point in [0, 1].
        key: fixes the distortions.
        copies: distorted copies in a row.

    Raises:
        ShapeError: the image has another shape.
        ArgumentError: ``copies`` is below 0.

    >>> len(augmentations(np.zeros((28, 28)), copies=3).axes)  # six rows of an image and copies
    24
    """
    image = to_numpy(image)
    if image.ndim == 3 and len(image) == 1:
        image = image[0]
    if image.ndim != 2:
        raise ShapeError(f"augmentations: image has shape {image.shape}, expected (H, W)")
    x = np.repeat(image[None, None], copies, axis=0)
    rows = {
        "shift": augment.shift(x, 2, key),
        "rotate": augment.distort(x, key, degrees=20),
        "scale": augment.distort(x, key, factors=0.25),
        "shear": augment.distort(x, key, slopes=0.4),
        "elastic": augment.distort(x, key, alpha=34),
        "all": augment.distort(x, key, degrees=12, factors=0.12, slopes=0.2, pixels=1, alpha=30),
    }
    figure = Figure(figsize=(copies + 1, len(rows) * 1.05), layout="constrained")
    panels = grid(figure, len(rows) * (copies + 1), copies + 1)
    pictures = [pixels for distorted in rows.values() for pixels in (image, *distorted[:, 0])]
    for panel, pixels in zip(panels, pictures, strict=True):
        panel.imshow(pixels, cmap="gray_r", vmin=0, vmax=1)
    for panel, name in zip(panels[:: copies + 1], rows, strict=True):
        panel.set_ylabel(name)
    panels[0].set_title("image", fontsize=9)
    return figure

"""Pictures of :mod:`tinyconv.analysis`: what a layer is, what it sees, how gradients flow.

Each is drawn from a real layer: a line is there because the output changes with the input.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.patches import Rectangle

from tinyconv.analysis import Equivariance, InvarianceRow, Table, Trace, as_matrix
from tinyconv.analysis import receptive_field as measure_field
from tinyconv.analysis.probe import input_shape_of, probe
from tinyconv.arguments import Fitting, checked
from tinyconv.backend import Values, to_numpy
from tinyconv.errors import ShapeError
from tinyconv.layers import Chain, Layer
from tinyconv.layers.base import Shape
from tinyconv.layers.container import in_a_row
from tinyconv.plots.figure import DIVERGING, Figure, bare, legend_beside, named

#: More different weights than this get a continuous scale of colours.
COLOURS = 20


@checked
def matrix(layer: Layer, input_shape: Shape, title: str = "") -> Figure:
    """Draw the matrix of a linear layer, equal weights in equal colours, zeros white.

    A bar beside it says which colour is which weight.

    Args:
        layer: as of :func:`tinyconv.analysis.as_matrix`, and so for input_shape and the errors.
        input_shape: the picture has as many columns as it elements.
        title: above the picture.

    >>> from tinyconv.layers import Conv1d
    >>> matrix(Conv1d(1, 1, 3, stride=2), (1, 9)).axes[0].get_ylabel()
    'output, 4 elements'
    """
    A = as_matrix(layer, input_shape)
    kinds, weights = _kinds(A)
    figure = Figure(
        figsize=(6, max(1.8, 6 * min(1.5, A.shape[0] / A.shape[1]))), layout="constrained"
    )
    panel = bare(figure.subplots())
    if len(weights) <= COLOURS:
        shown = np.ma.masked_equal(kinds, 0)
        colours = ListedColormap(_palette(len(weights)))
        image = panel.imshow(shown, cmap=colours, vmin=0.5, vmax=max(1, len(weights)) + 0.5)
        bar = figure.colorbar(image, ax=panel, shrink=0.8)
        bar.set_ticks(
            list(range(1, len(weights) + 1)), labels=[f"{weight:.3g}" for weight in weights]
        )
    else:
        limit = float(np.abs(A).max())
        image = panel.imshow(np.ma.masked_equal(A, 0), cmap=DIVERGING, vmin=-limit, vmax=limit)
        figure.colorbar(image, ax=panel, shrink=0.8)
    panel.set(xlabel=f"input, {A.shape[1]} elements", ylabel=f"output, {A.shape[0]} elements")
    panel.set_title(title)
    return figure


def _kinds(A: Values) -> tuple[Values, Values]:
    """Number the different values of a matrix from 1; zeros stay 0.

    >>> _kinds(np.array([[0.5, 0.0], [2.0, 0.5]]))
    (array([[1, 0],
           [2, 1]]), array([0.5, 2. ]))
    """
    # What should be equal may differ by a rounding error.
    size = float(np.abs(A).max(initial=0)) or 1.0
    rounded = np.round(A / size, 6)
    values = np.unique(rounded)
    values = values[values != 0]
    kinds = np.searchsorted(values, rounded) + 1
    return np.where(rounded == 0, 0, kinds), values * size


def _palette(count: int) -> list[Any]:
    scale = colormaps["tab10" if count <= 10 else "tab20"]
    return [scale(number) for number in range(max(1, count))]


def _layers(net: Any) -> Sequence[Layer]:
    return [net] if isinstance(net, Layer) else net


@checked
def connections(
    networks: Annotated[
        Mapping[str, Layer | Sequence[Layer]],
        Fitting(
            "a dictionary: title -> layers, at least one",
            lambda v: isinstance(v, Mapping) and len(v) and all(map(_layers, v.values())),
        ),
    ],
    length: int,
    unit: int | None = None,
) -> Figure:
    """Draw which unit is connected with which: stride, dilation and receptive field at a glance.

    A row of circles for the input and one for each layer above it, a line wherever the output
    changes with the input. Everything that one unit of the last layer sees is marked. In a layer
    from one channel to one, lines with equal weights have equal colours.

    Args:
        networks: title -> a layer or several, over one axis.
        length: of the input.
        unit: of the last layer, whose field to mark; the middle one if None.

    Raises:
        ShapeError: a layer does not take such an input or gives no axis, or there is no such unit.
        ArgumentError: there are no networks, or one has no layers.

    >>> from tinyconv.layers import Conv1d
    >>> figure = connections({"stride 2": Conv1d(1, 1, 3, 2), "dilation 2": [
    ...     Conv1d(1, 1, 3), Conv1d(1, 1, 3, dilation=2)]}, length=11)
    >>> [panel.get_title() for panel in figure.axes]
    ['stride 2', 'dilation 2']
    """
    figure = Figure(figsize=(0.4 * length * len(networks) + 1, 3.6), layout="constrained")
    panels = figure.subplots(1, len(networks), squeeze=False)[0]
    for panel, (title, net) in zip(panels, networks.items(), strict=True):
        layers = in_a_row(_layers(net))
        _draw_connections(panel, layers, length, unit)
        panel.set_title(title)
    return figure


def _draw_connections(panel: Axes, layers: list[Layer], length: int, unit: int | None) -> None:
    channels = getattr(layers[0], "in_channels", None) or 1
    shape: Shape = (channels, length)
    steps = []
    for layer in layers:
        depends = _depends(layer, shape)
        is_plain = shape[0] == 1 and layer.output_shape(shape)[0] == 1
        steps.append((depends, _colours(layer, shape) if is_plain else None))
        shape = layer.output_shape(shape)
    if unit is None:
        unit = shape[1] // 2
    if not 0 <= unit < shape[1]:
        raise ShapeError(f"connections: unit {unit} of a last layer with {shape[1]} units")
    places = [np.arange(length, dtype=float)]
    for count in range(1, len(layers) + 1):
        # Over the middle of what it sees; the padding counts, so that neighbours are equally far.
        row = measure_field(Chain(layers[:count]), (channels, length)).rows[-1]
        middle = row.offset[0] + (row.size[0] - 1) / 2
        places.append(middle + float(row.stride[0]) * np.arange(row.output[1]))
    marked: Values = np.equal(np.arange(shape[1]), unit)
    for height in range(len(steps), -1, -1):
        panel.scatter(
            places[height],
            np.full(len(places[height]), height),
            s=90,
            zorder=3,
            color=np.where(marked, "black", "white"),
            edgecolors="black",
        )
        if height == 0:
            break
        depends, colours = steps[height - 1]
        for i, j in np.argwhere(depends):
            panel.plot(
                (places[height - 1][j], places[height][i]),
                (height - 1, height),
                color="grey" if colours is None else colours[i][j],
                linewidth=2.2 if marked[i] else 0.8,
                alpha=1.0 if marked[i] else 0.45,
                zorder=2 if marked[i] else 1,
            )
        marked = np.logical_or.reduce(depends[marked], axis=0)
    panel.set_axis_off()


def _depends(layer: Layer, shape: Shape) -> Values:
    """Tell which output positions (rows) change with which input positions (columns)."""
    output = layer.output_shape(shape)
    if len(shape) != 2 or len(output) != 2:
        raise ShapeError(
            f"connections: {type(layer).__name__} gives {output} for {shape}, expected one axis"
        )
    x = np.random.default_rng(0).uniform(0.5, 1, size=(1, *shape))
    changed = np.repeat(x, shape[1], axis=0)
    # Enough to become the maximum of every window.
    changed[np.arange(shape[1]), :, np.arange(shape[1])] += 10
    with probe(layer) as f:
        moved = np.abs(f(changed) - f(x)).max(axis=1)
    depends: Values = np.greater(moved.T, 1e-6 * (float(moved.max(initial=0)) or 1.0))
    return depends


def _colours(layer: Layer, shape: Shape) -> list[list[Any]] | None:
    try:
        kinds, weights = _kinds(as_matrix(layer, shape))
    except ShapeError:
        return None  # not linear
    if len(weights) > COLOURS:
        return None
    palette = _palette(len(weights))
    return [[palette[max(kind - 1, 0)] for kind in row] for row in kinds]


@checked
def receptive_field(
    net: Layer, input_shape: Shape | None = None, image: Values | None = None
) -> Figure:
    """Draw, over the input, what the middle unit of every layer sees; the padding is shaded.

    Args:
        net: a network or layer over two axes.
        input_shape: of one sample; what the network knows if None.
        image: (H, W) or (1, H, W), the background; white if None.

    Raises:
        ShapeError: the input shape is not known, has other than two axes, or is not the image's.

    >>> from tinyconv.models import nielsen_conv_conv
    >>> figure = receptive_field(nielsen_conv_conv())
    >>> [text.get_text() for text in figure.legends[0].get_texts()]
    ['0 Conv2d, 5x5', '1 MaxPool2d, 6x6', '3 Conv2d, 14x14', '4 MaxPool2d, 16x16']
    """
    shape = input_shape_of("receptive_field", net, input_shape)
    if len(shape) != 3:
        raise ShapeError(f"receptive_field: input of shape {shape}, expected (C, H, W)")
    image = None if image is None else to_numpy(image)
    if image is not None and image.ndim == 3 and len(image) == 1:
        image = image[0]
    if image is not None and image.shape != shape[1:]:
        raise ShapeError(f"receptive_field: image of shape {image.shape}, expected {shape[1:]}")
    field = measure_field(net, shape)
    figure = Figure(figsize=(6.5, 4.5), layout="constrained")
    panel = figure.subplots()
    H, W = shape[1:]
    background = np.zeros((H, W)) if image is None else image
    panel.imshow(background, cmap="gray_r", extent=(0, W, H, 0), alpha=0.6)
    panel.set_facecolor("0.85")
    before: Shape = (1, 1)
    last = 0
    for row in field.rows:
        # A layer that sees no more than the one before it, such as an activation, has no picture.
        if len(row.output) != 3 or row.size == before:
            continue
        before = row.size
        middle = [n // 2 for n in row.output[1:]]
        top, left = (row.offset[axis] + float(row.stride[axis]) * middle[axis] for axis in (0, 1))
        panel.add_patch(
            Rectangle(
                (left, top),
                row.size[1],
                row.size[0],
                fill=False,
                linewidth=2,
                edgecolor=f"C{last}",
                label=f"{row.path} {row.layer}, {row.size[0]}x{row.size[1]}",
            )
        )
        last += 1
    panel.autoscale_view()
    panel.set_aspect("equal")
    if last:
        figure.legend(loc="outside right center", frameon=False)
    return figure


@checked
def equivariance(table: Equivariance) -> Figure:
    """Draw the largest shift of a table, input and output, and the error of every shift.

    Raises:
        ShapeError: the images have other than one or two axes.

    >>> from tinyconv import analysis
    >>> from tinyconv.layers import Conv2d
    >>> figure = equivariance(analysis.equivariance(Conv2d(1, 1, 3), 3))
    >>> [panel.get_title() for panel in figure.axes][:3]
    ['x', 'f(x)', "T' f(x)"]
    """
    if table.y.ndim not in (1, 2):
        raise ShapeError(f"equivariance: images of {table.y.ndim} axes, expected one or two")
    figure = Figure(figsize=(12, 4.6), layout="constrained")
    grid = figure.add_gridspec(2, 4)
    difference = np.abs(table.y_of_shifted - table.shifted_y)
    images = {
        "x": table.x,
        "f(x)": table.y,
        "T' f(x)": table.shifted_y,
        "T x": table.shifted_x,
        "f(T x)": table.y_of_shifted,
        "|f(T x) - T' f(x)|": difference,
    }
    scales = []
    for place, (name, image) in enumerate(images.items()):
        panel = figure.add_subplot(grid[place // 3, place % 3])
        limit = float(np.abs(table.x if name in ("x", "T x") else table.y).max()) or 1.0
        if image.ndim == 1:
            panel.plot(image, color="C3" if image is difference else "C0")
            panel.set_ylim(-limit, limit)
        else:
            picture = bare(panel).imshow(image, cmap=DIVERGING, vmin=-limit, vmax=limit)
            scales.append((panel, picture))
        panel.set_title(name, fontsize=10)
    panel = figure.add_subplot(grid[:, 3])
    places = range(len(table))
    panel.plot(places, table["error"], "o-", label="everywhere")
    panel.plot(places, table["inside"], "s-", label="inside")
    _label_shifts(panel, table["shift"], "error")
    panel.legend(frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)
    for beside, picture in scales:
        figure.colorbar(picture, ax=beside, shrink=0.8)
    return figure


def invariance(tables: Table[InvarianceRow] | Mapping[str, Table[InvarianceRow]]) -> Figure:
    """Draw how far the outputs of networks change with the shift, and how often the class stays.

    Args:
        tables: what :func:`tinyconv.analysis.invariance` returned; or several, by the name in the
            legend.

    Raises:
        StateError: there is no table.

    >>> from tinyconv import analysis
    >>> from tinyconv.models import nielsen_conv
    >>> figure = invariance(analysis.invariance(nielsen_conv(), (0, 3)))
    >>> [panel.get_ylabel() for panel in figure.axes]
    ['change of the output', 'share with the same class']
    """
    tables = named("invariance", Table, tables)
    figure = Figure(figsize=(9, 3.4), layout="constrained")
    panels = figure.subplots(1, 2)
    names = {"change": "change of the output", "same_class": "share with the same class"}
    for panel, (name, label) in zip(panels, names.items(), strict=True):
        for run, table in tables.items():
            panel.plot(range(len(table)), table[name], "o-", label=run)
        _label_shifts(panel, next(iter(tables.values()))["shift"], label)
    panels[1].set_ylim(0, 1.05)
    legend_beside(panels[1])
    return figure


def _label_shifts(panel: Axes, shifts: list[tuple[int, ...]], label: str) -> None:
    panel.set_xticks(range(len(shifts)), [", ".join(map(str, shift)) for shift in shifts])
    panel.set(xlabel="shift of the input", ylabel=label)
    panel.grid(alpha=0.3)


def trace(tables: Trace | Mapping[str, Trace]) -> Figure:
    """Draw the length of the gradient at every layer, and the share of zeros in it.

    On the logarithmic scale a gradient that vanishes is a line that falls towards the input.

    Args and errors are those of :func:`invariance`, with :func:`tinyconv.analysis.trace`.

    >>> from tinyconv import analysis
    >>> from tinyconv.models import nielsen_conv
    >>> one = analysis.trace(nielsen_conv(), np.ones((2, 1, 28, 28)), np.array([3, 4]))
    >>> figure = trace(one)
    >>> [label.get_text() for label in figure.axes[1].get_xticklabels()][:2]
    ['0 Conv2d', '1 MaxPool2d']
    """
    tables = named("trace", Trace, tables)
    longest = max(tables.values(), key=len)
    figure = Figure(figsize=(2 + 0.5 * len(longest), 5), layout="constrained")
    panels = figure.subplots(2, 1, sharex=True)
    for run, table in tables.items():
        places = range(len(table))
        # A gradient of 0 has no place on a logarithmic scale.
        lengths = [value or np.nan for value in table["gradient"]]
        panels[0].plot(places, lengths, "o-", label=run)
        panels[1].plot(places, table["zeros"], "o-", label=run)
    panels[0].set(yscale="log", ylabel="length of dy")
    panels[1].set(ylabel="share of zeros in dy", ylim=(-0.05, 1.05))
    names = [f"{row.path} {row.layer}" for row in longest]
    panels[1].set_xticks(range(len(names)), names, rotation=60, ha="right", fontsize=8)
    for panel in panels:
        panel.grid(alpha=0.3)
    legend_beside(panels[0])
    return figure

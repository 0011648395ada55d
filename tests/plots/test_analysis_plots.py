"""Pictures of the analysis: what is drawn is what was measured."""

from typing import Any

import numpy as np
import pytest
from matplotlib.colors import to_rgb

import tinyconv as tc
from tinyconv import analysis, plots
from tinyconv.errors import ShapeError, StateError


def conv(*weights: float, **how: Any) -> tc.Conv1d:
    layer = tc.Conv1d(1, 1, len(weights), bias=False, **how)
    layer.forward(np.zeros((1, 1, 40)))
    layer.params["weight"][...] = [[weights]]
    return layer


def circles(panel: Any) -> list[list[bool]]:
    """For each row of units, which are marked."""
    return [
        [to_rgb(colour[:3]) == (0, 0, 0) for colour in each.get_facecolor()]
        for each in reversed(panel.collections)
    ]


def test_matrix_has_equal_colours_for_equal_weights() -> None:
    figure = plots.matrix(conv(1, 2, 1, -3), (1, 6))
    said = [label.get_text() for label in figure.axes[1].get_yticklabels()]
    assert said == ["-3", "1", "2"]  # the bar tells which colour is which weight
    image = figure.axes[0].images[0].get_array()
    assert image is not None
    assert np.ma.filled(image, 0).tolist() == [
        [2, 3, 2, 1, 0, 0],
        [0, 2, 3, 2, 1, 0],
        [0, 0, 2, 3, 2, 1],
    ]


def test_matrix_of_many_weights_is_a_scale() -> None:
    layer = tc.Linear(6, 5)
    image = plots.matrix(layer, (6,), title="full").axes[0].images[0].get_array()
    np.testing.assert_array_equal(np.asarray(image), analysis.as_matrix(layer, (6,)))
    assert plots.matrix(layer, (6,), title="full").axes[0].get_title() == "full"


def test_matrix_of_a_layer_that_is_not_linear() -> None:
    with pytest.raises(ShapeError, match="MaxPool1d is not linear"):
        plots.matrix(tc.MaxPool1d(2), (1, 8))


@pytest.mark.parametrize(
    ("layer", "seen"),
    [
        (conv(1, 2, 3, padding=1), [3, 4, 5]),
        (conv(1, 2, 3, stride=2), [4, 5, 6]),
        (conv(1, 2, 3, padding=2, dilation=2), [2, 4, 6]),
        (conv(1, 0, 3), [3, 5]),
        (tc.MaxPool1d(2), [4, 5]),
        (tc.ReLU(), [4]),
    ],
    ids=["plain", "stride", "dilation", "a zero weight", "max-pooling", "activation"],
)
def test_connections_are_those_of_the_layer(layer: tc.layers.Layer, seen: list[int]) -> None:
    units = layer.output_shape((1, 9))[1]
    panel = plots.connections({"": layer}, 9).axes[0]
    below, above = circles(panel)
    assert [place for place, marked in enumerate(below) if marked] == seen
    assert [place for place, marked in enumerate(above) if marked] == [units // 2]
    strong = [line for line in panel.lines if line.get_linewidth() > 2]
    assert sorted(int(line.get_xdata()[0]) for line in strong) == seen


def test_connections_with_equal_weights_have_equal_colours() -> None:
    panel = plots.connections({"": conv(1, 2, 1)}, 9, unit=0).axes[0]
    colours = {
        int(line.get_xdata()[0]): line.get_color()
        for line in panel.lines
        if line.get_linewidth() > 2
    }
    assert colours[0] == colours[2] != colours[1]


def test_connections_through_several_layers() -> None:
    net = tc.Sequential([tc.Conv1d(2, 3, 3), tc.Conv1d(3, 1, 3, stride=2)], input_shape=(2, 11))
    panel = plots.connections({"": [net, tc.ReLU()]}, 11, unit=1).axes[0]
    rows = circles(panel)
    assert [sum(row) for row in rows] == [5, 3, 1, 1]
    assert [len(row) for row in rows] == [11, 9, 4, 4]


def test_connections_that_are_refused() -> None:
    with pytest.raises(ShapeError, match="connections: unit 7 of a last layer with 7 units"):
        plots.connections({"": conv(1, 2, 3)}, 9, unit=7)
    with pytest.raises(ShapeError, match=r"Flatten gives \(9,\) for \(1, 9\), expected one axis"):
        plots.connections({"": tc.Flatten()}, 9)


def test_receptive_field_draws_the_middle_unit_of_each_layer_that_sees_more() -> None:
    net = tc.models.nielsen_conv_conv()
    image = np.random.default_rng(0).uniform(size=(28, 28))
    figure = plots.receptive_field(net, image=image)
    boxes = [patch.get_bbox().bounds for patch in figure.axes[0].patches]
    # Units (12, 12), (6, 6), (4, 4) and (2, 2): left, top, width, height.
    assert boxes == [(12, 12, 5, 5), (12, 12, 6, 6), (8, 8, 14, 14), (8, 8, 16, 16)]
    np.testing.assert_array_equal(figure.axes[0].images[0].get_array(), image)
    again = plots.receptive_field(net, image=image[None])
    np.testing.assert_array_equal(again.axes[0].images[0].get_array(), image)


def test_receptive_field_that_is_refused() -> None:
    with pytest.raises(ShapeError, match=r"input of shape \(1, 9\), expected \(C, H, W\)"):
        plots.receptive_field(conv(1, 2), (1, 9))
    with pytest.raises(ShapeError, match=r"image of shape \(2, 2\), expected \(9, 8\)"):
        plots.receptive_field(tc.Conv2d(1, 1, 3), (1, 9, 8), np.zeros((2, 2)))


@pytest.mark.parametrize("shape", [(1, 1, 12), (1, 1, 12, 12)])
def test_equivariance(shape: tuple[int, ...]) -> None:
    table = analysis.equivariance(tc.ReLU(), 2, np.random.default_rng(0).normal(size=shape))
    figure = plots.equivariance(table)
    titles = [panel.get_title() for panel in figure.axes]
    assert titles[:6] == ["x", "f(x)", "T' f(x)", "T x", "f(T x)", "|f(T x) - T' f(x)|"]
    errors = figure.axes[6].lines[0].get_ydata()
    assert list(errors) == table["error"]
    panel = figure.axes[4]
    drawn = panel.images[0].get_array() if panel.images else panel.lines[0].get_ydata()
    np.testing.assert_array_equal(drawn, table.y_of_shifted)


def test_equivariance_over_three_axes_is_refused() -> None:
    table = analysis.equivariance(tc.ReLU(), 1, np.ones((1, 1, 3, 3, 3)))
    with pytest.raises(ShapeError, match="images of 3 axes, expected one or two"):
        plots.equivariance(table)


def test_invariance() -> None:
    x = np.random.default_rng(0).normal(size=(6, 1, 28, 28))
    net = tc.models.nielsen_fully_connected()
    table = analysis.invariance(net, (0, 2), x)
    change, same = plots.invariance({"a": table, "b": table}).axes
    assert [list(line.get_ydata()) for line in change.lines] == [table["change"]] * 2
    assert list(same.lines[0].get_ydata()) == table["same_class"]
    with pytest.raises(StateError, match="invariance: no table, expected at least one"):
        plots.invariance({})


def test_trace() -> None:
    net = tc.Sequential([tc.Linear(3, 4), tc.ReLU(), tc.Linear(4, 2)], seed=0)
    table = analysis.trace(net, np.ones((2, 3)), np.array([0, 1]))
    lengths, zeros = plots.trace({"a": table}).axes
    assert list(lengths.lines[0].get_ydata()) == table["gradient"]
    assert lengths.get_yscale() == "log"
    assert list(zeros.lines[0].get_ydata()) == table["zeros"]
    assert list(plots.trace(table).axes[0].lines[0].get_ydata()) == table["gradient"]
    with pytest.raises(StateError, match="trace: no trace, expected at least one"):
        plots.trace({})

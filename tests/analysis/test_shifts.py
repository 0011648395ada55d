"""Equivariance and invariance where theory says what they are."""

import numpy as np
import pytest

import tinyconv as tc
from tinyconv.analysis import equivariance, invariance
from tinyconv.errors import ShapeError
from tinyconv.layers import Chain


def test_convolution_but_for_its_border() -> None:
    table = equivariance(tc.Conv2d(2, 3, 3, padding=1), (2, -3))
    assert table["shift"] == [(0, 0), (1, -1), (2, -2), (2, -3)]
    assert table["output_shift"] == table["shift"]
    assert all(table["exact"])
    assert max(table["inside"]) < 1e-14
    assert table["error"][0] == 0
    assert min(table["error"][1:]) > 0.01
    # Of 16 x 16 units, the border of 1 and what came in from the other side fall away.
    assert table["units"][-1] == (16 - 2 - 2) * (16 - 2 - 3) / 16**2
    assert table.inside.sum() == 12 * 11


def test_circular_padding_has_no_border() -> None:
    layer = tc.Conv2d(2, 3, 3, padding=1, padding_mode="circular")
    assert max(equivariance(layer, 3)["error"]) < 1e-14


@pytest.mark.parametrize(
    "layer",
    [tc.Conv1d(1, 2, 3, stride=2), Chain([tc.Conv1d(1, 2, 3), tc.ReLU(), tc.MaxPool1d(2)])],
    ids=["convolution", "max-pooling"],
)
def test_a_stride_of_two_follows_every_second_shift(layer: tc.Conv1d) -> None:
    x = np.random.default_rng(0).normal(size=(3, 1, 30))
    table = equivariance(layer, 4, x)
    assert table["exact"] == [True, False, True, False, True]
    assert table["output_shift"] == [(0,), (0,), (1,), (2,), (2,)]
    for row in table:
        assert (row.inside < 1e-14) == row.exact


def test_upsampling_doubles_the_shift() -> None:
    table = equivariance(tc.Upsample(scale_factor=2), (0, 1), np.eye(6)[None, None])
    assert table["output_shift"] == [(0, 0), (0, 2)]
    assert table["error"] == [0, 0]


def test_images_of_the_largest_shift() -> None:
    x = np.arange(12.0).reshape(1, 1, 3, 4)
    table = equivariance(tc.ReLU(), (1, 0), x)
    np.testing.assert_array_equal(table.shifted_x, np.roll(x[0, 0], 1, axis=0))
    np.testing.assert_array_equal(table.y_of_shifted, table.shifted_y)
    np.testing.assert_array_equal(table.y, x[0, 0])


def test_nothing_inside_is_not_a_number() -> None:
    row = equivariance(tc.Conv1d(1, 1, 5, padding=2), 3, np.ones((1, 1, 4))).rows[-1]
    assert row.units == 0
    assert np.isnan(row.inside)


def test_a_mean_over_all_positions_is_invariant() -> None:
    net = tc.Sequential([tc.GlobalAvgPool(), tc.Flatten()], input_shape=(3, 8, 8), dtype="float64")
    table = invariance(net, 2)
    assert max(table["change"]) < 1e-12
    assert table["same_class"] == [1, 1, 1]


def test_full_connection_is_not() -> None:
    net = tc.Sequential([tc.Flatten(), tc.Linear(64, 10)], input_shape=(1, 8, 8))
    table = invariance(net, (0, 2), np.random.default_rng(0).normal(size=(50, 1, 8, 8)))
    assert table["change"][0] == 0
    assert table["same_class"][0] == 1
    assert min(table["change"][1:]) > 0.5
    assert max(table["same_class"][1:]) < 0.6


def test_the_network_stays_as_it_was() -> None:
    net = tc.Sequential([tc.Conv2d(1, 2, 3)], input_shape=(1, 5, 5))
    y = net.forward(np.ones((1, 1, 5, 5), np.float32))
    equivariance(net, 1)
    invariance(net, 1)
    assert net.y is y


def test_what_is_refused() -> None:
    for function, name in ((equivariance, "equivariance"), (invariance, "invariance")):
        with pytest.raises(ShapeError, match=f"{name}: shift is .*, expected 2 integers, one a"):
            function(tc.Conv2d(1, 1, 3), (1, 2, 3))
        with pytest.raises(ShapeError, match=f"{name}: the shape of a sample is not known"):
            function(tc.ReLU(), 1)
    with pytest.raises(ShapeError, match=r"the output has shape \(16,\), expected a spatial axis"):
        equivariance(tc.Flatten(), 1, np.ones((1, 1, 4, 4)))
    with pytest.raises(ShapeError, match="every unit sees the same of the input; see invariance"):
        equivariance(tc.GlobalAvgPool(), 1, np.ones((1, 1, 4, 4)))

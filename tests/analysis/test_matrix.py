"""The matrix of a layer: its product is the layer, its transpose the backward pass."""

import sys
from typing import Any

import numpy as np
import pytest

import tinyconv as tc
from tinyconv.analysis import as_matrix
from tinyconv.errors import ShapeError
from tinyconv.layers import Chain, Layer

LINEAR: list[tuple[Layer, tuple[int, ...]]] = [
    (tc.Conv1d(2, 3, 3, stride=2, padding=1, dilation=2), (2, 11)),
    (tc.Conv2d(4, 6, (2, 3), stride=(2, 1), padding=(1, 2), groups=2), (4, 5, 4)),
    (tc.Conv2d(2, 2, 3, padding=1, padding_mode="circular"), (2, 4, 5)),
    (tc.Conv2d(2, 3, 3, padding="same", bias=False), (2, 4, 5)),
    (tc.Conv3d(1, 2, 2, stride=(1, 2, 1)), (1, 3, 4, 3)),
    (tc.ConvTranspose1d(2, 3, 4, stride=3, padding=1, output_padding=2), (2, 4)),
    (tc.ConvTranspose2d(4, 2, 3, stride=2, groups=2, dilation=2), (4, 3, 2)),
    (tc.AvgPool2d(3, 2, 1), (2, 5, 6)),
    (tc.GlobalAvgPool(), (3, 4, 5)),
    (tc.Upsample(scale_factor=2, mode="bilinear"), (1, 3, 4)),
    (tc.Pad(((1, 2), (0, 1)), "reflect"), (2, 3, 4)),
    (tc.Linear(5, 4), (5,)),
    (Chain([tc.Conv2d(1, 2, 3), tc.AvgPool2d(2), tc.Flatten(), tc.Linear(8, 3)]), (1, 6, 7)),
]


@pytest.mark.parametrize(("layer", "shape"), LINEAR, ids=lambda v: type(v).__name__)
def test_product_and_transpose(layer: Layer, shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(3, *shape))
    layer.forward(x)
    for name, values in layer.params.items():
        values[...] = rng.normal(size=values.shape) if "bias" in name else values
    y, zero = layer.forward(x), layer.forward(0 * x)
    A = as_matrix(layer, shape)
    np.testing.assert_allclose((A @ x.reshape(3, -1).T).T, (y - zero).reshape(3, -1), atol=1e-12)
    dy = rng.normal(size=y.shape)
    layer.forward(x)
    dx = layer.backward(dy)
    np.testing.assert_allclose((A.T @ dy.reshape(3, -1).T).T, dx.reshape(3, -1), atol=1e-12)


@pytest.mark.parametrize("dilation", [1, 2])
@pytest.mark.parametrize(("stride", "padding", "groups"), [(1, 0, 1), (2, 1, 2), (3, 0, 1)])
def test_transposed_convolution_is_the_transpose(
    stride: int, padding: int, groups: int, dilation: int
) -> None:
    down = tc.Conv2d(4, 2, 3, stride, padding, dilation, groups, bias=False)
    size = (4, 10, 12)
    small = down.output_shape(size)
    up = tc.ConvTranspose2d(
        2,
        4,
        3,
        stride,
        padding,
        # What the stride leaves over of either size.
        tuple((n + 2 * padding - 2 * dilation - 1) % stride for n in size[1:]),
        groups,
        False,
        dilation,
    )
    down.forward(np.zeros((1, *size)))
    up.forward(np.zeros((1, *small)))
    up.params["weight"][...] = down.params["weight"]
    np.testing.assert_array_equal(as_matrix(up, small), as_matrix(down, size).T)


def test_strides_fill_rows_by_hand() -> None:
    layer = tc.Conv1d(1, 1, 3, stride=2, padding=1, dilation=2)
    layer.forward(np.zeros((1, 1, 5)))
    layer.params["weight"][...] = [[[1, 2, 3]]]
    layer.params["bias"][...] = 7
    assert as_matrix(layer, (1, 5)).tolist() == [[0, 2, 0, 3, 0], [0, 1, 0, 2, 0]]


@pytest.mark.parametrize("layer", [tc.ReLU(), tc.MaxPool2d(2), tc.L2Pool2d(2), tc.Sigmoid()])
def test_what_is_not_linear(layer: Layer) -> None:
    with pytest.raises(ShapeError, match=f"as_matrix: {type(layer).__name__} is not linear"):
        as_matrix(layer, (1, 4, 4))


def test_the_layer_stays_as_it_was() -> None:
    net = tc.Sequential([tc.Conv2d(1, 2, 3), tc.Flatten()], input_shape=(1, 5, 5))
    x = np.ones((2, 1, 5, 5), np.float32)
    y = net.forward(x)
    A = as_matrix(net, (1, 5, 5))
    assert A.dtype == np.float32
    assert net.y is y
    assert net.layers[0].x is x
    fresh = tc.Conv2d(None, 2, 3)
    as_matrix(fresh, (3, 4, 4))
    assert not fresh.is_bound
    assert fresh.in_channels is None


def test_more_columns_than_one_pass_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    layer = tc.Conv1d(1, 2, 3, padding=1)
    whole = as_matrix(layer, (1, 20))
    monkeypatch.setattr("tinyconv.analysis.matrix.COLUMNS", 7)
    np.testing.assert_array_equal(as_matrix(layer, (1, 20)), whole)


def test_sparse() -> None:
    pytest.importorskip("scipy.sparse")
    layer = tc.Conv2d(1, 2, 3, stride=2)
    sparse = as_matrix(layer, (1, 20, 20), sparse=True)
    assert (sparse.format, sparse.nnz) == ("csr", 2 * 81 * 9)
    np.testing.assert_array_equal(sparse.toarray(), as_matrix(layer, (1, 20, 20)))


def test_sparse_without_scipy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "scipy.sparse", None)
    with pytest.raises(ImportError, match="as_matrix: sparse=True needs SciPy: pip install scipy"):
        as_matrix(tc.ReLU(), (4,), sparse=True)


def test_other_shapes_are_refused() -> None:
    wrong: Any = (2, 4, 4)
    with pytest.raises(ShapeError, match=r"Conv2d: input of shape \(2, 4, 4\), expected \(1, H, W"):
        as_matrix(tc.Conv2d(1, 2, 3), wrong)

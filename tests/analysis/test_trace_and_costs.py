"""The trace of one pass, and what a network costs, against the arrays themselves."""

import itertools
from typing import Any

import numpy as np
import pytest

import tinyconv as tc
from tinyconv.analysis import as_matrix, flops, memory, receptive_field, trace
from tinyconv.errors import ShapeError
from tinyconv.layers import LAYERS, Container
from tinyconv.models import nielsen_conv, nielsen_conv_conv


def small_net(**how: str) -> tc.Sequential:
    body = [tc.Conv2d(2, 2, 3, padding=1), tc.ReLU()]
    layers = [tc.Conv2d(1, 2, 2), tc.Residual(body), tc.AvgPool2d(2), tc.Flatten(), tc.Linear(8, 3)]
    return tc.Sequential(layers, input_shape=(1, 5, 5), seed=3, **how)


X = np.random.default_rng(0).normal(size=(4, 1, 5, 5))
Y = np.array([0, 1, 2, 1])


def test_rows_are_what_the_layers_hold() -> None:
    net = small_net(dtype="float64")
    loss, gradients = net.loss_and_grads(X, Y)
    table = trace(net, X, Y)
    assert table.loss == loss
    assert table["path"] == ["0", "1.body.0", "1.body.1", "2", "3", "4"]
    assert table["x"][:2] == [(4, 1, 5, 5), (4, 2, 4, 4)]
    assert table["y"][-2:] == [(4, 8), (4, 3)]
    layers = [*net.walk()]
    for row, layer in zip(table, layers, strict=True):
        assert layer.y is not None
        assert (row.lowest, row.highest) == (layer.y.min(), layer.y.max())
        assert row.gradient == pytest.approx(np.sqrt((layer.dy**2).sum()))
        assert row.zeros == (layer.dy == 0).mean()
        assert row.forward > 0
        assert row.backward > 0
    own = np.concatenate([gradients["4.weight"].ravel(), gradients["4.bias"]])
    assert table["weight_gradient"][-1] == pytest.approx(np.linalg.norm(own))
    assert table["weight_gradient"][2] is None
    # Behind the rectifier, the gradient of the layer before it holds its zeros.
    assert table["zeros"][1] == (layers[1].y <= 0).mean() > 0


def test_vanishing_gradients_show() -> None:
    layers: list[tc.Linear | tc.Sigmoid] = []
    for _ in range(6):
        layers += [tc.Linear(20, 20), tc.Sigmoid()]
    net = tc.Sequential([*layers, tc.Linear(20, 5)], seed=0)
    lengths = trace(net, np.ones((8, 20)), np.arange(8) % 5)["gradient"]
    activations = lengths[1::2]
    assert all(a < b for a, b in itertools.pairwise(activations))
    assert activations[0] < 0.01 * activations[-1]


def test_the_methods_of_the_layers_come_back() -> None:
    net = small_net()
    before = [dict(vars(layer)).keys() for layer in net.walk()]
    trace(net, X, Y)
    assert [dict(vars(layer)).keys() for layer in net.walk()] == before
    with pytest.raises(ShapeError):
        trace(net, X[..., :4], Y)
    assert [dict(vars(layer)).keys() for layer in net.walk()] == before


def test_text_and_page() -> None:
    table = trace(small_net(), X, Y)
    lines = str(table).splitlines()
    assert lines[0].split()[:2] == ["layer", "equation"]
    assert lines[-1] == f"loss {table.loss:.6g}"
    assert lines[6].split()[:2] == ["4", "Linear"]
    page = table._repr_html_()
    assert page.endswith(f"<p>loss {table.loss:.6g}</p>")
    assert page.count("<tr>") == 7


def test_dropout_drops_when_asked() -> None:
    net = tc.Sequential([tc.Dropout(0.5), tc.Linear(20, 2)], seed=0)
    x, y = np.ones((10, 20)), np.zeros(10, int)
    assert trace(net, x, y)["lowest"][0] == 1
    assert trace(net, x, y, training=True)["lowest"][0] == 0


@pytest.mark.parametrize(
    "name", [n for n, kind in LAYERS.items() if not issubclass(kind, Container)]
)
def test_every_layer_has_words_for_the_equation(name: str) -> None:
    assert (LAYERS[name].__doc__ or "").partition("\n")[0]


# Costs.


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (None, [0], "trace: x is a NoneType, expected an array"),
        (np.ones((2, 3)), None, "trace: y is a NoneType, expected an array"),
        (np.ones((2, 3)), [0], r"trace: y has shape \(1,\), expected 2 samples"),
        (np.ones((2, 3)), [0, 2], "trace: y runs from 0 to 2, expected 0 to 1"),
        (np.ones((2, 4)), [0, 1], r"layer 0: Linear: input of shape \(4,\), expected \(3,\)"),
    ],
)
def test_what_cannot_be_traced(x: Any, y: Any, message: str) -> None:
    net = tc.Sequential([tc.Linear(3, 2)], seed=0)
    with pytest.raises((tc.ShapeError, tc.DeviceError, tc.ArgumentError), match=f"^{message}"):
        trace(net, x, y)
    assert (
        trace(net, [[1, 2, 3]], [0]).loss
        == trace(net, np.array([[1.0, 2.0, 3.0]]), np.array([0])).loss
    )


def test_products_of_what_has_no_channels() -> None:
    for layer in (tc.Conv2d(1, 2, 3), tc.ConvTranspose2d(1, 2, 3), tc.Linear(3, 2)):
        with pytest.raises(tc.ShapeError):
            layer.multiply_adds(())


def test_flops_are_twice_the_products() -> None:
    table = flops(small_net())
    assert table["forward"] == [
        2 * 2 * 4 * 4 * 4,
        2 * 2 * 4 * 4 * 18,
        0,
        0,
        0,
        2 * 8 * 3,
        2 * (128 + 576 + 24),
    ]
    assert table["backward"] == [2 * count for count in table["forward"]]
    assert table.rows[-1].path == "total"


@pytest.mark.oracle
def test_flops_are_those_of_pytorch(torch: Any) -> None:
    from torch.utils.flop_counter import FlopCounterMode

    net = nielsen_conv_conv()
    twin = torch.nn.Sequential(
        torch.nn.Conv2d(1, 20, 5),
        torch.nn.MaxPool2d(2),
        torch.nn.Conv2d(20, 40, 5),
        torch.nn.MaxPool2d(2),
        torch.nn.Flatten(),
        torch.nn.Linear(640, 100),
        torch.nn.Linear(100, 10),
    )
    x = torch.zeros(1, 1, 28, 28, requires_grad=True)
    with FlopCounterMode(display=False) as counter:
        y = twin(x)
        forward = counter.get_total_flops()
        y.sum().backward()
    total = flops(net).rows[-1]
    assert (total.forward, total.forward + total.backward) == (forward, counter.get_total_flops())


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_memory_is_that_of_the_arrays(dtype: str) -> None:
    net = small_net(dtype=dtype)
    trace(net, X, Y)
    table = memory(net, batch=4)
    for row, layer in zip(table, net.walk(), strict=False):
        assert layer.y is not None
        assert row.parameters == sum(values.nbytes for values in layer.params.values())
        assert row.gradients == sum(values.nbytes for values in layer.grads.values())
        assert row.outputs == (0 if row.layer == "Flatten" else layer.y.nbytes)
        assert row.output_gradients == row.outputs
        assert row.columns == (layer._saved.col.nbytes if row.layer == "Conv2d" else 0)
    total = table.rows[-1]
    assert total.parameters == net.parameters.flat.nbytes
    assert total.outputs == sum(row.outputs for row in table.rows[:-1])


def test_pointwise_convolution_keeps_no_columns() -> None:
    assert memory(tc.Conv2d(3, 4, 1), 2, (3, 5, 5))["columns"] == [0, 0]


def test_memory_grows_with_the_batch_but_for_parameters() -> None:
    one, ten = memory(nielsen_conv(), 1).rows[-1], memory(nielsen_conv(), 10).rows[-1]
    assert ten.parameters == one.parameters == 4 * 289630
    assert (ten.outputs, ten.columns) == (10 * one.outputs, 10 * one.columns)


def test_the_input_shape_must_be_known() -> None:
    for function in (flops, lambda net: memory(net, 1)):
        with pytest.raises(ShapeError, match="the shape of a sample is not known"):
            function(tc.Sequential([tc.Linear(2, 2)]))


@pytest.mark.parametrize("shape", [np.zeros((5, 1, 8, 8)), "digits", (1, 8, -8), 3.5])
def test_what_is_no_shape_is_refused(shape: Any) -> None:
    layer = tc.Conv2d(1, 2, 3)
    for call in (flops, as_matrix, receptive_field):
        with pytest.raises(ShapeError, match=f"^{call.__name__}: input_shape is "):
            call(layer, shape)
    with pytest.raises(ShapeError, match=r"^Sequential: input_shape is "):
        tc.Sequential(layer, input_shape=shape)


def test_a_trace_times_a_warm_pass() -> None:
    """What is compiled or allocated once happens before the clock starts."""
    net = tc.Sequential([tc.Linear(3, 2)], seed=0)
    calls: list[str] = []
    layer = net.layers[0]
    forward = layer.forward

    def counted(*arguments: Any) -> Any:
        calls.append("forward")
        return forward(*arguments)

    vars(layer)["forward"] = counted
    trace(net, np.ones((2, 3)), np.array([0, 1]))
    assert len(calls) == 2

"""Checks of operations, layers and networks, and the strategies that users import."""

import sys
import warnings

import numpy as np
import pytest
from hypothesis import given, settings

import tinyconv as tc
from tinyconv import layers, ops, testing
from tinyconv.gradcheck import Report
from tinyconv.testing import (
    KinkWarning,
    arrays_away_from_kinks,
    assert_gradients,
    check_layer,
    check_network,
    check_op,
    conv_geometries,
    format_checks,
    networks,
    pool_geometries,
)
from tinyconv.testing.examples import LAYER_EXAMPLES, OP_EXAMPLES, layer_names, op_names

rng = np.random.default_rng(0)


@pytest.fixture(scope="module")
def everything():
    return testing.check_everything()


def test_every_operation_and_layer_has_an_example():
    assert set(op_names()) == set(OP_EXAMPLES)
    assert set(layer_names()) <= set(LAYER_EXAMPLES)


def test_everything_is_right_to_ten_digits_by_the_complex_step(everything):
    for name, report in everything.items():
        assert report.ok, f"{name}: {report}"
        assert report.method == "complex step", name
        assert max(row.relative_error for row in report.tensors) < 1e-10, name


def test_every_element_was_compared(everything):
    for name, report in everything.items():
        for row in report.tensors:
            assert row.checked == int(np.prod(row.shape)), name


def test_the_table_has_a_line_each_and_the_failures_in_full(everything):
    table = format_checks(everything)
    assert len(table.splitlines()) == 1 + len(everything)
    assert "ops.conv2d " in table
    failing = everything | {"ops.mine": Report("wrong", "x has 3 wrong elements", "transposed")}
    assert "ops.mine: wrong: x has 3 wrong elements\nhint: transposed" in format_checks(failing)


def test_a_damaged_operation_is_found(monkeypatch):
    right = ops.linear_backward

    def backward(dy, saved):
        dx, dw, db = right(dy, saved)
        return dx, dw, -db

    monkeypatch.setattr(ops, "linear_backward", backward)
    report = check_op("linear", seed=3)
    assert report.verdict == "wrong"
    assert report.hint == "b: the gradient is -1 times what it should be: the sign is flipped"
    assert report.reproduce.endswith("print(check_op('linear', seed=3))")


def test_unknown_operations_are_named():
    with pytest.raises(ValueError, match=r"no operation 'conv9d'; there are .*conv2d"):
        check_op("conv9d")


def test_an_operation_without_an_example_asks_for_inputs(monkeypatch):
    monkeypatch.delitem(OP_EXAMPLES, "tanh")
    with pytest.raises(ValueError, match="no example of 'tanh'; pass inputs"):
        check_op("tanh")


def test_options_of_an_operation():
    report = check_op("max_pool2d", [rng.normal(size=(1, 1, 4, 4))], {"kernel_size": 2})
    assert report.ok


def test_a_layer_is_left_as_it_was():
    layer = tc.BatchNorm2d(3)
    x = rng.normal(size=(4, 3, 2, 2))
    layer.forward(x, training=True)
    layer.backward(np.ones_like(x))
    before = [
        {k: (id(a), a.copy()) for k, a in arrays.items()}
        for arrays in (layer.params, layer.grads, layer.state)
    ]
    state = {k: a.copy() for k, a in layer.state.items()}
    stack = testing.stack.Stack([layer], True, 0)
    stack.forward(x, *stack.parameters)
    assert all(np.array_equal(state[k], layer.state[k]) for k in state)
    assert check_layer(layer, x, training=True).ok
    after = (layer.params, layer.grads, layer.state)
    for was, now in zip(before[:2], after[:2], strict=True):
        assert {k: i for k, (i, _) in was.items()} == {k: id(a) for k, a in now.items()}
        assert all(np.array_equal(a, now[k]) for k, (_, a) in was.items())


def test_a_layer_of_layers_and_dropout_in_training():
    layer = layers.Chain([tc.Linear(4, 6), tc.Dropout(0.5), tc.Tanh(), tc.Linear(6, 2)])
    report = check_layer(layer, rng.normal(size=(3, 4)), training=True, step=5)
    assert report.ok, str(report)
    names = [row.name for row in report.tensors]
    assert names == ["x", "0.weight", "0.bias", "3.weight", "3.bias"]


def test_a_float32_layer_is_checked_in_float64():
    layer = tc.Conv2d(2, 3, 3)
    report = check_layer(layer, rng.normal(size=(2, 2, 5, 5)).astype(np.float32))
    assert report.ok
    assert report.tensors[1].relative_error < 1e-12
    assert layer.params["weight"].dtype == np.float32


class Broken(tc.Linear):
    def compute_backward(self, dy, saved):
        dx, grads = super().compute_backward(dy, saved)
        return dx, grads | {"weight": 2 * grads["weight"]}


def test_a_broken_layer_is_found_alone_and_in_a_network():
    report = check_layer(Broken(4, 3), rng.normal(size=(5, 4)))
    assert report.hint.startswith("weight: the gradient is 2 times what it should be")
    net = tc.Sequential([Broken(4, 6), tc.Tanh(), tc.Linear(6, 3)], dtype="float64")
    report = check_network(net, rng.normal(size=(5, 4)), np.array([0, 1, 2, 0, 1]))
    assert [row.name for row in report.tensors if row.verdict == "wrong"] == ["0.weight"]
    assert "2 times" in report.hint


def conv_net(dtype="float64"):
    return tc.Sequential(
        [
            *(tc.Conv2d(1, 3, 3), tc.MaxPool2d(2), tc.ReLU(), tc.Conv2d(3, 4, 2), tc.ReLU()),
            *(tc.Flatten(), tc.Linear(None, 5), tc.Sigmoid(), tc.Linear(5, 3)),
        ],
        dtype=dtype,
        input_shape=(1, 8, 8),
    )


def test_every_element_of_a_network():
    net, x, y = conv_net(), rng.normal(size=(2, 1, 8, 8)), np.array([0, 2])
    before = {k: a.copy() for k, a in net.state_dict().items()}
    report = check_network(net, x, y, samples="all")
    assert report.ok
    assert sum(row.checked for row in report.tensors) == net.parameter_count() + x.size
    assert max(row.relative_error for row in report.tensors) < 1e-12
    assert all(np.array_equal(a, before[k]) for k, a in net.state_dict().items())


def test_only_the_layers_above_a_moved_parameter_run_again(monkeypatch):
    net, x, y = conv_net(), rng.normal(size=(2, 1, 8, 8)), np.array([0, 2])
    calls = []
    first = net.layers[0]
    forward = first.forward
    monkeypatch.setattr(first, "forward", lambda *a: calls.append(1) or forward(*a))
    report = check_network(net, x, y, samples="all")
    own = sum(row.checked for row in report.tensors if row.name in ("x", "0.weight", "0.bias"))
    assert len(calls) < own + 40 < report.evaluations


def test_a_network_without_its_input_shape():
    net = tc.Sequential([tc.Linear(None, 3)], dtype="float64")
    assert check_network(net, rng.normal(size=(5, 4)), np.array([0, 1, 2, 0, 1])).ok


def test_assert_gradients_passes_fails_and_warns():
    assert assert_gradients(np.tanh, lambda dy, x: dy / np.cosh(x) ** 2, [np.ones(3)]).ok
    with pytest.raises(AssertionError, match=r"(?s)^wrong: .*hint: .*sign is flipped"):
        assert_gradients(np.tanh, lambda dy, x: -dy / np.cosh(x) ** 2, [np.ones(3)])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        report = assert_gradients(np.abs, lambda dy, x: dy * np.sign(x), [np.zeros(3)])
    assert report.ok
    assert report.redrawn == 1
    assert not caught


def test_assert_gradients_warns_where_it_cannot_get_away_from_kinks():
    def steep(x):  # the absolute value of x rounded to a grid, so that every point is a kink
        return np.abs(x - np.round(x))

    with pytest.warns(KinkWarning, match="kink: "):
        report = assert_gradients(
            steep, lambda dy, x: dy * np.sign(x - np.round(x)), [np.zeros(3)], redraw=0
        )
    assert report.verdict == "kink"


@settings(max_examples=30)
@given(arrays_away_from_kinks((4, 5), gap=0.1))
def test_arrays_away_from_kinks(x):
    assert x.shape == (4, 5)
    values = np.sort(x, axis=None)
    assert np.min(np.diff(values)) >= 0.05 - 1e-9
    assert np.min(np.abs(values)) >= 0.025 - 1e-9


@settings(max_examples=60)
@given(conv_geometries())
def test_convolution_geometries_fit(g):
    y, _ = ops.conv2d(np.zeros(g.x_shape), np.zeros(g.w_shape), **g.options)
    assert y.size > 0


@settings(max_examples=60)
@given(pool_geometries())
def test_pool_geometries_fit(g):
    for op in (ops.max_pool2d, ops.avg_pool2d, ops.l2_pool2d):
        assert op(np.zeros(g.x_shape), **g.options)[0].size > 0


@settings(max_examples=20)
@given(networks(classes=3))
def test_random_networks_run(case):
    net, x, labels = case
    assert net.forward(x).shape == (len(labels), 3)


def test_the_strategies_name_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "hypothesis.strategies", None)
    for strategy in (conv_geometries, pool_geometries, networks):
        with pytest.raises(ImportError, match=r'pip install "tinyconv\[test\]"'):
            strategy()
    with pytest.raises(ImportError, match=r'pip install "tinyconv\[test\]"'):
        arrays_away_from_kinks((2,))

"""What is changed in a network reaches every engine, whenever it is changed."""

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import numpy as np
import pytest

import tinyconv as tc
from tinyconv.layers import Chain

Array = np.ndarray[Any, Any]
Change = Callable[[tc.Sequential], None]
X = np.random.default_rng(0).normal(size=(8, 1, 6, 6)).astype(np.float32)
Y = np.arange(8) % 3


def small_net(p: float = 0.5) -> tc.Sequential:
    layers = [
        tc.Conv2d(1, 4, 3),
        tc.ReLU(),
        tc.Residual([tc.Conv2d(4, 4, 3, padding=1), tc.Dropout(p, scale_at_test=True)]),
        tc.Flatten(),
        tc.Linear(64, 3),
    ]
    return tc.Sequential(layers, seed=1, input_shape=(1, 6, 6))


def other_weight(net: tc.Sequential) -> None:
    net.layers[0].params["weight"] = np.full((4, 1, 3, 3), 0.25, np.float32)


def other_option(net: tc.Sequential) -> None:
    net.layers[2].body.layers[1].p = 0.0  # type: ignore[attr-defined]


def other_layer(net: tc.Sequential) -> None:
    net.layers[1] = tc.Tanh()


def other_layer_with_parameters(net: tc.Sequential) -> None:
    net.layers[4] = tc.Linear(64, 3, weight_init="zeros")


def other_body(net: tc.Sequential) -> None:
    net.layers[2].body = Chain([tc.Conv2d(4, 4, 1)])  # type: ignore[attr-defined]


def one_layer_less(net: tc.Sequential) -> None:
    del net.layers[1]


def frozen(net: tc.Sequential) -> None:
    net[0].trainable = False


def values_in_place(net: tc.Sequential) -> None:
    net.layers[4].params["bias"][...] = [1, 2, 3]


CHANGES = [
    other_weight,
    other_option,
    other_layer,
    other_layer_with_parameters,
    other_body,
    one_layer_less,
    values_in_place,
]


@pytest.mark.parametrize("change", CHANGES)
def test_predictions_and_files_follow(change: Change, tmp_path: Any) -> None:
    net = small_net()
    before = net.logits(X)
    change(net)
    after = net.logits(X)
    assert np.abs(after - before).max() > 1e-3
    np.testing.assert_allclose(after, net.forward(X), rtol=1e-4, atol=1e-5)
    net.save(tmp_path / "net.safetensors")
    np.testing.assert_allclose(tc.load(tmp_path / "net.safetensors").logits(X), after, atol=1e-5)


@pytest.mark.parametrize("change", [*CHANGES, frozen])
def test_training_follows(change: Change) -> None:
    nets = [small_net(), small_net()]
    for net, engine in zip(nets, ("plan", "eager"), strict=True):
        net.fit(X, Y, engine=engine, verbose=False)
        change(net)
        net.fit(X, Y, engine=engine, verbose=False)
        if change is other_weight:  # the array that took its place is trained
            assert np.ptp(net.layers[0].params["weight"]) > 0
    for name, array in nets[1].state_dict().items():
        np.testing.assert_allclose(nets[0].state_dict()[name], array, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("engine", ["plan", "eager"])
def test_a_callback_may_change_options_and_not_layers(engine: str) -> None:
    class Late(tc.training.Callback):
        def __init__(self, change: Change, net: tc.Sequential) -> None:
            self.change, self.net = change, net

        def on_epoch_end(self, training: Any) -> None:
            self.change(self.net)

    net, other = small_net(), small_net()
    net.fit(X, Y, epochs=2, engine=engine, verbose=False, callbacks=[Late(other_option, net)])
    other.fit(X, Y, engine=engine, verbose=False)
    other_option(other)
    other.fit(X, Y, engine=engine, verbose=False)
    np.testing.assert_array_equal(net.parameters.flat, other.parameters.flat)
    for change in (other_weight, other_layer_with_parameters, frozen):
        with pytest.raises(tc.StateError, match="fit: a layer or an array of parameters was rep"):
            net.fit(X, Y, epochs=2, engine=engine, verbose=False, callbacks=[Late(change, net)])


def test_an_option_that_nobody_had_set() -> None:
    net = tc.Sequential([tc.Dropout(0.75), tc.Linear(2, 2)], seed=0)
    x = np.ones((1, 2), np.float32)
    before = net.logits(x)
    net.layers[0].scale_at_test = True  # type: ignore[attr-defined]
    np.testing.assert_allclose(net.logits(x), before / 4, rtol=1e-6)


@pytest.mark.parametrize("engine", ["plan", "eager"])
@pytest.mark.parametrize(
    ("loss", "options"),
    [
        (tc.CrossEntropyLoss(), {"label_smoothing": 0.5}),
        (tc.CrossEntropyLoss(), {"ignore_index": 1}),
        (tc.CrossEntropyLoss(), {"weight": [1, 5, 2]}),
        (tc.CrossEntropyLoss([1.0, 1.0, 1.0]), {"weight": [0.0, 5.0, 2.0]}),
        (tc.MultiMarginLoss(), {"margin": 5.0}),
        (tc.Quadratic(), {"output": "linear"}),
        (tc.HuberLoss(), {"delta": 0.01}),
    ],
)
def test_a_callback_may_change_options_of_the_loss(
    engine: str, loss: tc.Loss, options: dict[str, Any]
) -> None:
    class Late(tc.training.Callback):
        def on_epoch_end(self, training: Any) -> None:
            vars(changing).update(options)

    before, changing = deepcopy(loss), deepcopy(loss)
    net, other = small_net(), small_net()
    y = Y if loss.one_class else np.eye(3)[Y]
    run: dict[str, Any] = {"engine": engine, "verbose": False}
    history = net.fit(X, y, epochs=2, loss=changing, callbacks=[Late()], **run)
    other.fit(X, y, loss=before, **run)
    vars(before).update(options)
    apart = other.fit(X, y, **run)
    np.testing.assert_array_equal(net.parameters.flat, other.parameters.flat)
    assert history["loss"][1] == apart["loss"][0]


def test_what_does_not_fit_is_named() -> None:
    net = small_net()
    net.layers[4].params["weight"] = np.zeros((3, 65), np.float32)
    with pytest.raises(tc.ShapeError, match=r"weight of layer 4 \(Linear\) has shape \(3, 65\), e"):
        net.predict(X)
    net = small_net()
    net.layers[4] = tc.Linear(65, 3)
    with pytest.raises(tc.ShapeError, match="layer 4: "):
        net.predict(X)
    net, used = small_net(), tc.Linear(64, 3)
    used.forward(np.zeros((1, 64), np.float32))
    net.layers[4] = used
    with pytest.raises(tc.StateError, match="Linear, which took a place in the network, was used"):
        net.predict(X)


def test_running_statistics_stay_when_another_layer_is_replaced() -> None:
    layers = [tc.BatchNorm1d(4), tc.Linear(4, 3), tc.ReLU()]
    net = tc.Sequential(layers, seed=0)
    net.fit(X[:, 0, 0, :4], Y, verbose=False)
    before = net.state_dict()["0.running_mean"]
    net.layers[2] = tc.Tanh()
    np.testing.assert_array_equal(net.state_dict()["0.running_mean"], before)
    assert np.abs(before).max() > 0


def test_a_layer_has_one_place() -> None:
    """Also one without parameters: its place fixes its dropout masks."""
    dropout = tc.Dropout(0.5)
    tc.Sequential([tc.Linear(4, 3), dropout], seed=0)
    with pytest.raises(tc.StateError, match="Dropout: the layer has its place already, of another"):
        tc.Sequential([tc.Linear(4, 3), tc.ReLU(), dropout], seed=0)
    alone = tc.ReLU()
    alone.forward(np.zeros((1, 3), np.float32))
    tc.Sequential([tc.Linear(4, 3), alone], seed=0)


def test_asking_for_the_number_of_parameters_fixes_no_size() -> None:
    for layer in (tc.Linear(None, 3), tc.Residual([tc.Linear(None, 9), tc.Linear(None, 4)])):
        count = layer.parameter_count((4,))
        assert count is not None
        assert layer.parameter_count(None) is None


def test_a_chain_of_a_users_own_inside_a_residual_keeps_itscompute() -> None:
    class Doubled(Chain):
        def compute(self, x: Array, training: bool, step: int) -> tuple[Array, Any]:
            y, saved = super().compute(x, training, step)
            return 2 * y, saved

        def compute_backward(self, dy: Array, saved: Any) -> tuple[Array, dict[str, Array]]:
            return super().compute_backward(2 * dy, saved)

    def make() -> tc.Sequential:
        body = Doubled([tc.Linear(4, 4), tc.ReLU()])
        return tc.Sequential([tc.Residual(body), tc.Linear(4, 3)], seed=0)

    x = X.reshape(-1, 4)[:6]
    net = make()
    inner = net.layers[0].body  # type: ignore[attr-defined]
    assert type(inner) is Doubled
    expected = x + 2 * np.maximum(x @ inner.params["0.weight"].T + inner.params["0.bias"], 0)
    np.testing.assert_allclose(net.layers[0].forward(x), expected, rtol=1e-5)
    np.testing.assert_allclose(net.logits(x), net.forward(x), rtol=1e-5, atol=1e-6)
    nets = [make(), make()]
    for each, engine in zip(nets, ("plan", "eager"), strict=True):
        each.fit(x, Y[:6], engine=engine, verbose=False)
    np.testing.assert_allclose(nets[0].parameters.flat, nets[1].parameters.flat, atol=1e-6)


@pytest.mark.parametrize("mode", ["reflect", "circular"])
def test_padding_larger_than_the_input_is_refused_at_its_place(mode: str) -> None:
    layers = [tc.ReLU(), tc.Conv2d(1, 2, 3, padding=7, padding_mode=mode)]
    with pytest.raises(tc.ShapeError, match="layer 1: pad: padding is 7"):
        tc.Sequential(layers, input_shape=(1, 6, 6))

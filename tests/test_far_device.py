"""Layers, losses and optimizers on a device whose arrays do not mix with NumPy's, as a GPU's."""

import inspect
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import array_api_strict as xs
import numpy as np
import pytest

import tinyconv as tc
from tinyconv import backend, losses
from tinyconv.data import ByteImages
from tinyconv.layers import LAYERS
from tinyconv.losses import Targets
from tinyconv.losses.base import take
from tinyconv.testing.examples import LAYER_EXAMPLES, OP_EXAMPLES, draw

FAR, NEAR = xs.Device("device1"), xs.Device("CPU_DEVICE")


def far(array: Any) -> Any:
    return xs.asarray(np.array(array), device=FAR)


def near(array: Any) -> np.ndarray:
    assert array.device == FAR
    return np.asarray(array.to_device(NEAR))


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("name", LAYER_EXAMPLES)
def test_every_layer(name: str, training: bool) -> None:
    arguments, shape = LAYER_EXAMPLES[name]
    layers = [LAYERS.make(name, arguments) for _ in range(2)]
    rng = np.random.default_rng(0)
    x = rng.normal(size=shape)
    y = layers[0].forward(x, training)
    dy = rng.normal(size=y.shape)
    dx, grads = layers[0].compute_backward(dy, layers[0]._saved)
    layers[1].forward(x)
    for key, value in layers[0].params.items():
        layers[1].params[key] = far(value)
    layers[1].state = {key: far(value) for key, value in layers[1].state.items()}
    far_y, saved = layers[1].compute(far(x), training, 0)
    far_dx, far_grads = layers[1].compute_backward(far(dy), saved)
    np.testing.assert_allclose(near(far_y), y, rtol=1e-12)
    np.testing.assert_allclose(near(far_dx), dx, rtol=1e-12, atol=1e-15)
    assert grads.keys() == far_grads.keys()
    for key, gradient in grads.items():
        np.testing.assert_allclose(near(far_grads[key]), gradient, rtol=1e-12)
    for key, value in layers[0].state.items():
        np.testing.assert_allclose(near(layers[1].state[key]), value, rtol=1e-12)


def test_a_batch_norm_that_averages_all_batches() -> None:
    layers = [tc.BatchNorm1d(3, momentum=None) for _ in range(2)]
    x = np.random.default_rng(0).normal(size=(3, 5, 3))
    for batch in x:
        layers[0].forward(batch, training=True)
    layers[1].forward(x[0])
    layers[1].params = {key: far(value) for key, value in layers[1].params.items()}
    layers[1].state = {key: far(value) for key, value in layers[1].state.items()}
    for batch in x:
        layers[1].compute(far(batch), True, 0)
    expected = x.mean(axis=1).mean(axis=0)
    np.testing.assert_allclose(layers[0].state["running_mean"], expected)
    np.testing.assert_allclose(near(layers[1].state["running_mean"]), expected)


@pytest.mark.parametrize(
    "loss",
    [
        tc.CrossEntropyLoss([1.0, 2.0, 0.5], ignore_index=1, label_smoothing=0.1),
        losses.MultiMarginLoss(),
        losses.SigmoidCrossEntropy(),
        losses.Quadratic(),
        tc.MSELoss(),
        losses.L1Loss(),
        losses.HuberLoss(),
        losses.BCEWithLogitsLoss(),
    ],
    ids=repr,
)
def test_every_loss_with_weights_of_samples(loss: Any) -> None:
    rng = np.random.default_rng(0)
    outputs, weight = rng.normal(size=(5, 3)), rng.random(5)
    y = rng.integers(0, 3, 5) if loss.one_class else rng.random((5, 3))
    expected = loss.forward(outputs, y, weight), loss.backward()
    value = loss.forward(far(outputs), far(y), far(weight))
    np.testing.assert_allclose(near(value), expected[0])
    np.testing.assert_allclose(near(loss.backward()), expected[1])


@pytest.mark.parametrize(
    "rule",
    [
        tc.SGD(lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.1, clip_norm=0.5),
        tc.Adagrad(),
        tc.RMSProp(momentum=0.5, centered=True),
        tc.Adam(),
        tc.AdamW(),
    ],
    ids=lambda rule: type(rule).__name__,
)
def test_every_optimizer(rule: tc.Optimizer) -> None:
    rng = np.random.default_rng(0)
    w, dw, decay = rng.normal(size=6), rng.normal(size=6), np.ones(6)
    far_w, far_dw, far_decay = far(w), far(dw), far(decay)
    state, far_state = rule.init(w), rule.init(far_w)
    for _ in range(3):
        rule.update(w, dw, state, decay)
        rule.update(far_w, far_dw, far_state, far_decay)
    np.testing.assert_allclose(near(far_w), w, rtol=1e-12)


def test_images_in_bytes_and_their_labels_go_to_the_device_of_the_network() -> None:
    images = ByteImages(np.arange(12, dtype=np.uint8).reshape(3, 1, 2, 2))
    flat, index = far(np.zeros(1, np.float32)), np.array([2, 0])
    np.testing.assert_array_equal(near(take(images, index, flat)), images[index])
    labels, _ = Targets(np.array([5, 6, 7])).batch(index, flat)
    assert near(labels).tolist() == [7, 5]


class FakeArray:
    """An array of a library whose arrays are downloaded by a method."""

    def __init__(self, values: Any) -> None:
        self.values = values

    def get(self) -> Any:
        return self.values

    def __array__(self, *arguments: Any, **options: Any) -> Any:
        raise TypeError("no implicit conversion")


def test_parameters_can_be_set_from_arrays_of_cupy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backend.array_api_compat, "is_cupy_array", lambda x: type(x) is FakeArray)
    net = tc.Sequential(tc.Linear(2, 2))
    net.load_state_dict({"0.weight": FakeArray(np.eye(2)), "0.bias": FakeArray(np.arange(2.0))})
    np.testing.assert_array_equal(net.layers[0].params["weight"], np.eye(2))


class Recorder:
    """A namespace that keeps which of its functions were called with which keywords."""

    def __init__(self) -> None:
        self.calls: dict[str, set[str]] = {}

    def __getattr__(self, name: str) -> Any:
        value = getattr(xs, name)
        if not inspect.isfunction(value):
            self.calls.setdefault(name, set())
            return value

        def call(*arguments: Any, **options: Any) -> Any:
            self.calls.setdefault(name, set()).update(options)
            return value(*arguments, **options)

        return call


def accepts(function: Callable[..., Any], keyword: str) -> bool:
    """Whether a function of CuPy takes a keyword; its ufuncs name theirs in the first line."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return keyword in (function.__doc__ or "").partition("\n\n")[0]
    any_name = any(each.kind is each.VAR_KEYWORD for each in parameters)
    return any_name or keyword in (each.name for each in parameters)


def test_cupy_has_every_name_and_keyword_that_operations_use(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip("cupy")
    import array_api_compat.cupy as theirs

    recorder = Recorder()
    compat = SimpleNamespace(**vars(backend.array_api_compat))
    compat.array_namespace = lambda *arrays: recorder
    monkeypatch.setattr(backend, "array_api_compat", compat)
    from tinyconv import ops

    for name, examples in OP_EXAMPLES.items():
        for inputs, options in examples:
            arrays = [far(draw(each, np.random.default_rng(0))) for each in inputs]
            y, saved = getattr(ops, name)(*arrays, **options)
            dy = 1.0 if y.ndim == 0 else far(np.ones(y.shape))
            getattr(ops, f"{name}_backward")(dy, saved)
    assert len(recorder.calls) > 30
    assert accepts(theirs.sum, "axis")
    assert not accepts(theirs.sum, "axes")
    missing = [
        f"{name}({keyword}=)"
        for name, keywords in recorder.calls.items()
        for keyword in ("", *keywords)
        if not hasattr(theirs, name) or (keyword and not accepts(getattr(theirs, name), keyword))
    ]
    assert missing == []

"""The engine on a real GPU: what the emulator's tests say, where there is one."""

from typing import Any

import numpy as np
import pytest
from nets import NETS

import tinyconv as tc
from tinyconv.engines.choose import engine_for

Array = np.ndarray[Any, Any]

pytestmark = pytest.mark.gpu


def pair(name: str) -> tuple[list[tc.Sequential], Array, Array]:
    """A net on the GPU and its twin on the CPU, with samples and labels."""
    shape, layers = NETS[name]
    nets = [
        tc.Sequential(layers(), seed=3, input_shape=shape, device=device)
        for device in ("gpu", "cpu")
    ]
    rng = np.random.default_rng(5)
    x = rng.normal(size=(23, *shape)).astype(np.float32)
    K, *positions = nets[0].output_shape(shape)
    return nets, x, rng.integers(0, K, (23, *positions))


@pytest.mark.parametrize("name", NETS)
def test_fit_and_predict_as_the_layers_do_on_the_cpu(name: str) -> None:
    """Three epochs of two full batches, the second of them from a graph on, and a short one."""
    nets, x, y = pair(name)
    options: dict[str, Any] = {"epochs": 3, "batch_size": 10, "verbose": False}
    options["optimizer"] = tc.SGD(lr=0.01, momentum=0.5)
    gpu = nets[0].fit(x, y, **options)
    cpu = nets[1].fit(x, y, engine="eager", **options)
    assert gpu["loss"] == pytest.approx(cpu["loss"], rel=1e-3)
    for key, value in nets[1].state_dict().items():
        scale = max(float(np.abs(value).max()), 1e-2)
        np.testing.assert_allclose(nets[0].state_dict()[key], value, rtol=0, atol=1e-3 * scale)
    expected = nets[1].forward(x)
    scale = max(float(np.abs(expected).max()), 1.0)
    np.testing.assert_allclose(nets[0].logits(x, 10), expected, rtol=0, atol=1e-3 * scale)


def test_reruns_give_the_same_bits() -> None:
    weights = []
    for _ in range(2):
        (net, _), x, y = pair("dropout of vectors and images")
        net.fit(x, y, epochs=4, batch_size=10, optimizer="adam", verbose=False)
        weights.append(net.state_dict())
    for key, value in weights[0].items():
        np.testing.assert_array_equal(weights[1][key], value)


def test_a_refused_step_has_changed_nothing_and_is_explained() -> None:
    (net, _), x, y = pair("conv, max, relu; two of them")
    net.fit(x, y, batch_size=10, verbose=False)
    before = net.state_dict()
    x[:, :, 0, 0] = np.nan
    with pytest.raises(tc.NonFiniteError, match="epoch 2, batch 1: the input of the network"):
        net.fit(x, y, batch_size=10, verbose=False)
    for key, value in net.state_dict().items():
        np.testing.assert_array_equal(value, before[key])


def test_what_a_user_does_between_steps_is_in_turn_with_them() -> None:
    """Parameters set from CuPy's default stream, and read there, at once after a step."""
    (net, twin), x, y = pair("linear layers of odd sizes")
    for each in (net, twin):
        each.start_training(optimizer=tc.SGD(lr=0.1))
        for step in range(4):
            each.train_step(x, y)
            each.parameters.flat[...] *= 0.5 + step
    values = net.parameters.flat.get()
    np.testing.assert_allclose(values, twin.parameters.flat, rtol=1e-3, atol=1e-5)


def test_float64_runs_layer_by_layer() -> None:
    net = tc.Sequential([tc.Linear(3, 2)], dtype="float64", device="gpu")
    assert type(engine_for(net)).__name__ == "EagerEngine"
    net.fit(np.ones((4, 3)), np.array([0, 1, 1, 0]), verbose=False)

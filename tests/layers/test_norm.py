"""Batch normalisation: what its running statistics are, and where they go."""

import copy
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tinyconv as tc
from tinyconv.errors import FileError, ShapeError

STATE = ["running_mean", "running_var", "num_batches_tracked"]


def drawn(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(2.0, 3.0, size=shape)


def normalised_net(seed: int = 0, dtype: str = "float32") -> tc.Sequential:
    layers = [
        tc.Conv2d(1, 4, 3, bias=False),
        tc.BatchNorm2d(4),
        tc.ReLU(),
        tc.Residual([tc.Conv2d(4, 4, 3, padding=1), tc.BatchNorm2d(None, momentum=None)]),
        tc.Flatten(),
        tc.BatchNorm1d(64),
        tc.Linear(64, 3),
    ]
    return tc.Sequential(layers, seed=seed, dtype=dtype, input_shape=(1, 6, 6))


def batch(n: int = 20) -> tuple[np.ndarray, np.ndarray]:
    return drawn(n, 1, 6, 6).astype(np.float32), np.arange(n) % 3


def test_running_statistics_by_hand() -> None:
    layer = tc.BatchNorm1d(2, momentum=0.5)
    layer.forward(np.array([[1.0, 0.0], [3.0, 0.0]]), training=True)
    # The means are 2 and 0, the variances divided by n - 1 are 2 and 0.
    np.testing.assert_array_equal(layer.state["running_mean"], [1.0, 0.0])
    np.testing.assert_array_equal(layer.state["running_var"], [1.5, 0.5])
    layer.forward(np.array([[3.0, 1.0], [3.0, 1.0]]), training=True)
    np.testing.assert_array_equal(layer.state["running_mean"], [2.0, 0.5])
    np.testing.assert_array_equal(layer.state["running_var"], [0.75, 0.25])
    assert layer.state["num_batches_tracked"] == 2


def test_without_momentum_all_batches_count_the_same() -> None:
    layer, x = tc.BatchNorm2d(3, momentum=None), drawn(4, 5, 3, 2, 2)
    for each in x:
        layer.forward(each, training=True)
    expected = x.mean(axis=(1, 3, 4)).mean(axis=0), x.var(axis=(1, 3, 4), ddof=1).mean(axis=0)
    np.testing.assert_allclose(layer.state["running_mean"], expected[0], rtol=1e-14)
    np.testing.assert_allclose(layer.state["running_var"], expected[1], rtol=1e-14)


def test_outside_training_a_sample_does_not_depend_on_the_others() -> None:
    layer, x = tc.BatchNorm2d(3), drawn(6, 3, 4, 4)
    layer.forward(x, training=True)
    kept = {name: array.copy() for name, array in layer.state.items()}
    whole = layer.forward(x)
    np.testing.assert_array_equal(
        np.concatenate([layer.forward(x[n : n + 1]) for n in range(6)]), whole
    )
    for name in STATE:  # and nothing is tracked
        np.testing.assert_array_equal(layer.state[name], kept[name])


def test_in_training_every_channel_has_mean_0_and_variance_1() -> None:
    y = tc.BatchNorm2d(3, eps=1e-12).forward(drawn(6, 3, 4, 4), training=True)
    np.testing.assert_allclose(y.mean(axis=(0, 2, 3)), 0, atol=1e-14)
    np.testing.assert_allclose(y.var(axis=(0, 2, 3)), 1, rtol=1e-10)


def test_an_empty_batch_in_training_moves_no_statistics() -> None:
    layer = tc.BatchNorm2d(3)
    y = layer.forward(np.zeros((0, 3, 4, 4)), training=True)
    assert layer.backward(y).shape == (0, 3, 4, 4)
    np.testing.assert_array_equal(layer.state["running_var"], np.ones(3))
    assert layer.state["num_batches_tracked"] == 0


def test_one_element_a_channel_has_no_variance() -> None:
    message = r"BatchNorm1d: x has shape \(1, 3\), expected more than one element a channel"
    with pytest.raises(ShapeError, match=message):
        tc.BatchNorm1d(3).forward(np.zeros((1, 3)), training=True)
    assert tc.BatchNorm1d(3).forward(np.zeros((1, 3))).shape == (1, 3)
    assert tc.BatchNorm1d(3).forward(np.zeros((1, 3, 2)), training=True).shape == (1, 3, 2)


def test_scale_and_shift_do_not_decay() -> None:
    norms = tc.BatchNorm1d(4), tc.LayerNorm(4), tc.GroupNorm(2, 4)
    net = tc.Sequential([*norms, tc.Linear(4, 2)])
    decays = dict(zip(net.parameters.specs, net.parameters.specs.values(), strict=True))
    assert [name for name, spec in decays.items() if spec.decay] == ["3.weight"]
    for place in "012":
        np.testing.assert_array_equal(net.parameters.values[f"{place}.weight"], np.ones(4))
        np.testing.assert_array_equal(net.parameters.values[f"{place}.bias"], np.zeros(4))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_state_has_the_dtype_of_the_network(dtype: str) -> None:
    net = normalised_net(dtype=dtype)
    net.forward(drawn(5, 1, 6, 6).astype(dtype), training=True)
    assert {str(net.state[f"1.{name}"].dtype) for name in STATE} == {dtype, "int64"}
    assert net.forward(drawn(5, 1, 6, 6).astype(dtype)).dtype == dtype


def test_names_of_parameters_and_state() -> None:
    names = list(normalised_net().state_dict())
    assert [name for name in names if name.startswith("3.")] == [
        "3.body.0.weight",
        "3.body.0.bias",
        "3.body.1.weight",
        "3.body.1.bias",
        "3.body.1.running_mean",
        "3.body.1.running_var",
        "3.body.1.num_batches_tracked",
    ]


def test_what_a_container_and_its_layer_hold_is_one_array() -> None:
    net = normalised_net()
    net.forward(batch()[0], training=True)
    inner = net.layers[3].body.layers[1]  # type: ignore[attr-defined]
    assert inner.state["running_mean"] is net.state["3.body.1.running_mean"]
    assert net.state["3.body.1.num_batches_tracked"] == 1


@pytest.mark.parametrize("engine", ["plan", "eager"])
def test_statistics_are_trained_saved_and_copied(engine: str, tmp_path: Path) -> None:
    net, (x, y) = normalised_net(), batch()
    net.fit(x, y, epochs=3, batch_size=6, engine=engine, verbose=False)
    assert net.state["1.num_batches_tracked"] == 3 * 4
    net.save(tmp_path / "net.safetensors")
    for again in (
        tc.load(tmp_path / "net.safetensors"),
        copy.deepcopy(net),
        pickle.loads(pickle.dumps(net)),
    ):
        np.testing.assert_array_equal(again.logits(x), net.logits(x))
        for name, array in net.state_dict().items():
            np.testing.assert_array_equal(again.state_dict()[name], array)
    # A copy's statistics are its own.
    again.fit(x, y, epochs=1, batch_size=6, engine=engine, verbose=False)
    assert net.state["1.num_batches_tracked"] == 12


@pytest.mark.parametrize("engine", ["plan", "eager"])
def test_a_resumed_run_continues_with_the_statistics(engine: str, tmp_path: Path) -> None:
    x, y = batch()
    arguments: dict[str, Any] = {"batch_size": 6, "engine": engine, "verbose": False}
    whole, first, second = (normalised_net(seed=4) for _ in range(3))
    whole.fit(x, y, epochs=4, **arguments)
    first.fit(x, y, epochs=2, checkpoint=tmp_path, **arguments)
    second.fit(x, y, epochs=4, checkpoint=tmp_path, resume=True, **arguments)
    for name, array in whole.state_dict().items():
        np.testing.assert_array_equal(second.state_dict()[name], array, err_msg=name)


def test_plan_and_eager_train_alike() -> None:
    nets, (x, y) = [normalised_net(seed=2) for _ in range(2)], batch()
    for net, engine in zip(nets, ("plan", "eager"), strict=True):
        net.fit(x, y, epochs=3, batch_size=6, engine=engine, optimizer=tc.SGD(0.01), verbose=False)
    for name, array in nets[0].state_dict().items():
        np.testing.assert_allclose(nets[1].state_dict()[name], array, rtol=1e-4, atol=1e-5)


def test_a_file_without_statistics_is_refused() -> None:
    net = normalised_net()
    tensors = net.state_dict()
    del tensors["1.running_var"]
    with pytest.raises(FileError, match=r"tensors missing: 1\.running_var"):
        net.load_state_dict(tensors)


@pytest.mark.oracle
def test_statistics_over_many_batches_equal_pytorchs(torch: Any) -> None:
    for momentum in (0.1, 0.7, None):
        ours, theirs = (
            tc.BatchNorm2d(3, momentum=momentum),
            torch.nn.BatchNorm2d(3, momentum=momentum, dtype=torch.float64),
        )
        for step in range(5):
            x = drawn(4, 3, 2, 5, seed=step)
            theirs(torch.tensor(x))
            ours.forward(x, training=True)
        for name, buffer in theirs.named_buffers():
            np.testing.assert_allclose(ours.state[name], buffer.numpy(), rtol=1e-12)
        theirs.eval()
        np.testing.assert_allclose(ours.forward(x), theirs(torch.tensor(x)).detach(), rtol=1e-12)


@pytest.mark.oracle
def test_pytorchs_state_dict_loads_unchanged(torch: Any) -> None:
    nn = torch.nn
    theirs = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten())
    x = drawn(5, 1, 6, 6).astype(np.float32)
    theirs(torch.tensor(x))  # moves the statistics
    theirs.eval()
    ours = tc.Sequential([tc.Conv2d(1, 4, 3), tc.BatchNorm2d(4), tc.ReLU(), tc.Flatten()])
    ours.load_state_dict(theirs.state_dict())
    assert ours.state["1.num_batches_tracked"] == 1
    np.testing.assert_allclose(ours.forward(x), theirs(torch.tensor(x)).detach(), atol=1e-5)

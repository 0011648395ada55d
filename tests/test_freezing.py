"""Layers whose parameters stay as they are while others are trained."""

import copy
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tinyconv as tc
from tinyconv.engines.cpu.backend import CpuTraining
from tinyconv.engines.eager import EagerEngine
from tinyconv.engines.plan import Plan
from tinyconv.layers import decode, encode
from tinyconv.losses import CrossEntropyLoss

X = np.random.default_rng(0).normal(size=(12, 1, 5, 5)).astype(np.float32)
Y = np.arange(12) % 3
ENGINES = pytest.mark.parametrize("engine", ["plan", "eager"])


def small_net() -> tc.Sequential:
    layers = [
        tc.Conv2d(1, 4, 3),
        tc.BatchNorm2d(4),
        tc.ReLU(),
        tc.Residual([tc.Conv2d(4, 4, 1), tc.Tanh()]),
        tc.Flatten(),
        tc.Linear(36, 3),
    ]
    return tc.Sequential(layers, seed=1, input_shape=(1, 5, 5))


def moved(net: tc.Sequential, **settings: Any) -> set[str]:
    """The names of what one epoch changes."""
    before = net.state_dict()
    net.fit(X, Y, verbose=False, **settings)
    after = net.state_dict()
    return {name for name, value in before.items() if not np.array_equal(value, after[name])}


@ENGINES
def test_what_is_frozen_stays_and_all_else_moves(engine: str) -> None:
    net = small_net()
    net[2].trainable = False  # it has nothing to freeze
    everything = moved(net, engine=engine, optimizer="adam")
    assert everything == set(net.state_dict())
    for place in (0, 1, 3):
        net[place].trainable = False
    assert moved(net, engine=engine, optimizer="adam") == {"5.weight", "5.bias"}
    net.trainable = False
    net[3].trainable = True
    assert [net.trainable, net[3].trainable, net["3.body.0"].trainable] == [True] * 3
    assert moved(net, engine=engine) == {"3.body.0.weight", "3.body.0.bias"}


def test_training_says_where_there_is_nothing_to_train() -> None:
    net = small_net()
    net.trainable = False
    with pytest.raises(tc.ArgumentError, match=r"fit: .*frozen; set net\['5'\]\.trainable = True"):
        net.fit(X, Y, verbose=False)
    with pytest.raises(tc.ArgumentError, match=r"start_training: .* frozen; set net\['5'\]"):
        net.start_training()
    empty = tc.Sequential(tc.Flatten())
    with pytest.raises(tc.ArgumentError, match=r"fit: .* no layer has parameters; add one"):
        empty.fit(X, Y, verbose=False)
    # Running statistics alone are trained too.
    tc.Sequential(tc.Flatten(), tc.BatchNorm1d(25, affine=False)).fit(X, Y, verbose=False)


@ENGINES
def test_a_frozen_batch_norm_normalises_by_its_running_statistics(engine: str) -> None:
    """In training, too, so that one sample a batch is enough."""
    layers = [tc.BatchNorm1d(3, affine=False), tc.Linear(3, 2, weight_init="zeros")]
    net = tc.Sequential(layers, input_shape=(3,))
    net.state["0.running_mean"][...] = 5
    x = np.float32([[6, 7, 8]])
    net[0].trainable = False
    net.fit(x, np.array([0]), engine=engine, verbose=False, optimizer=tc.SGD(lr=1.0))
    w = net.parameters.values["1.weight"][0]
    np.testing.assert_allclose(w / w[0], [1, 2, 3], rtol=1e-5)
    np.testing.assert_array_equal(net.state["0.running_mean"], 5)


def test_no_memory_and_no_gradient_is_for_what_is_frozen() -> None:
    net = small_net()
    net[0].trainable = net[1].trainable = False
    _, grads = net.loss_and_grads(X, Y)
    assert list(grads) == ["3.body.0.weight", "3.body.0.bias", "5.weight", "5.bias"]
    assert not net[0].grads
    p = net.parameters
    assert p.flat.size == p.flat_grad.size == p.decay.size == 20 + 111
    rule = tc.Adam()
    assert rule.init(p.flat)["mean"].size == 131
    engine = EagerEngine(net)
    engine.start_training(CrossEntropyLoss(), rule)
    plan = Plan(net, (1, 5, 5), CpuTraining(engine, (1, 5, 5), 4, 1))
    assert [image is None for image in plan.gradients.of[:4]] == [True, True, True, False]


@pytest.mark.parametrize("again", [copy.deepcopy, lambda net: pickle.loads(pickle.dumps(net))])
def test_copies_are_frozen_too(again: Any) -> None:
    net = small_net()
    net[0].trainable = net["3.body.0"].trainable = False
    assert [leaf.trainable for leaf in again(net).walk()] == [
        *(False, True, True, False, True, True, True)
    ]


def test_files_say_what_is_frozen(tmp_path: Path) -> None:
    net, path = small_net(), tmp_path / "net.safetensors"
    net[0].trainable = False
    net.save(path)
    loaded = tc.load(path)
    assert not loaded[0].trainable
    assert moved(loaded) == {name for name in net.state_dict() if not name.startswith("0.")}
    said = encode(tc.ReLU()) | {"trainable": 3}
    with pytest.raises(tc.FileError, match="trainable is 3, expected false or none"):
        decode(said)


def test_a_run_goes_on_with_what_it_froze(tmp_path: Path) -> None:
    nets = [small_net(), small_net(), small_net()]
    for net in nets[:2]:
        net[0].trainable = False
    settings: dict[str, Any] = {"optimizer": "adam", "verbose": False, "batch_size": 4}
    nets[0].fit(X, Y, epochs=2, **settings)
    nets[1].fit(X, Y, epochs=1, checkpoint=tmp_path, **settings)
    nets[1].fit(X, Y, epochs=2, checkpoint=tmp_path, resume=True, **settings)
    for name, value in nets[0].state_dict().items():
        np.testing.assert_array_equal(nets[1].state_dict()[name], value)
    with pytest.raises(tc.FileError):
        nets[2].fit(X, Y, epochs=3, checkpoint=tmp_path, resume=True, **settings)


def test_a_second_fit_begins_anew_where_other_layers_are_trained() -> None:
    net = small_net()
    net.fit(X, Y, optimizer=tc.SGD(lr=0.1, momentum=0.9), verbose=False)
    other = copy.deepcopy(net)
    for each, rule in ((net, None), (other, tc.SGD(lr=0.1, momentum=0.9))):
        each[0].trainable = False
        each.fit(X, Y, optimizer=rule, verbose=False)
    np.testing.assert_array_equal(net.parameters.flat, other.parameters.flat)


def test_pytorchs_word_is_answered() -> None:
    layer = tc.Linear(2, 2)
    with pytest.raises(AttributeError, match="'requires_grad'; instead: trainable = False freez"):
        layer.requires_grad = False
    with pytest.raises(AttributeError, match="'requires_grad_'; instead: trainable = False freez"):
        layer.requires_grad_(False)
    with pytest.raises(AttributeError, match="trainable = False freezes all layers"):
        tc.Sequential(layer).requires_grad_(False)

"""Samples of other sizes than the network was built for, where its layers take them."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from emulator import Emulator, needs_compiler

import tinyconv as tc
from tinyconv.engines.base import Totals
from tinyconv.engines.gpu.engine import GpuEngine
from tinyconv.losses import Targets

Array = np.ndarray[Any, Any]
SIZES = ((9, 9), (12, 7), (9, 9), (6, 20))


def pooling_net() -> tc.Sequential:
    layers = [
        tc.Conv2d(1, 4, 3, bias=False),
        tc.BatchNorm2d(4),
        tc.ReLU(),
        tc.Residual([tc.Conv2d(4, 4, 3, padding=1), tc.GELU()]),
        tc.MaxPool2d(2),
        tc.GlobalAvgPool(),
        tc.Flatten(),
        tc.Linear(4, 3),
    ]
    return tc.Sequential(layers, seed=1, input_shape=(1, 9, 9))


def batches() -> Iterator[tuple[Array, Array]]:
    rng = np.random.default_rng(0)
    for size in SIZES:
        yield rng.normal(size=(5, 1, *size)).astype(np.float32), rng.integers(0, 3, 5)


def test_predictions_are_those_of_the_layers() -> None:
    net = pooling_net()
    for x, y in batches():
        expected = net.forward(x)
        np.testing.assert_allclose(net.logits(x, batch_size=3), expected, rtol=1e-5, atol=1e-6)
        assert net.predict(x).tolist() == expected.argmax(axis=1).tolist()
        assert net.evaluate(x, y)["accuracy"] == (expected.argmax(axis=1) == y).mean()


def test_batches_of_several_sizes_train_in_both_engines_alike() -> None:
    nets = [pooling_net() for _ in range(2)]
    for net, engine in zip(nets, ("plan", "eager"), strict=True):
        net.fit(
            list(batches()),
            engine=engine,
            epochs=2,
            optimizer=tc.SGD(lr=0.1, momentum=0.9),
            verbose=False,
        )
    for name, value in nets[1].state_dict().items():
        got = nets[0].state_dict()[name]
        np.testing.assert_allclose(got, value, rtol=1e-4, atol=1e-5, err_msg=name)


@needs_compiler
def test_and_on_the_gpu() -> None:
    net, other = pooling_net(), pooling_net()
    rule = tc.SGD(lr=0.1)
    other.fit(list(batches()), engine="eager", optimizer=rule, verbose=False)
    engine = GpuEngine(net, Emulator())
    engine.start_training(tc.CrossEntropyLoss(), rule, [])
    engine.start_epoch(Totals())
    for step, (x, y) in enumerate(batches()):
        engine.train_step(x, Targets(y), np.arange(5), step, 0.1)
    engine.totals()
    for name, value in other.state_dict().items():
        np.testing.assert_allclose(net.state_dict()[name], value, rtol=1e-4, atol=1e-5)
    for x, _ in batches():
        np.testing.assert_allclose(engine.logits(x, 3), other.forward(x), rtol=1e-4, atol=1e-5)


def test_targets_of_each_pixel_have_the_size_of_their_images() -> None:
    net = tc.Sequential([tc.Conv2d(1, 2, 3, padding=1)], seed=0, input_shape=(1, 4, 4))
    x = np.ones((3, 1, 5, 6), np.float32)
    net.fit(x, np.ones((3, 5, 6), int), epochs=5, verbose=False)
    assert net.evaluate(x, np.ones((3, 5, 6), int))["accuracy"] > 0.5
    with pytest.raises(tc.ShapeError, match=r"y has shape \(3, 4, 4\), expected \(3, 5, 6\)"):
        net.evaluate(x, np.ones((3, 4, 4), int))


def test_a_linear_layer_takes_the_size_that_it_was_built_for() -> None:
    net = tc.Sequential([tc.Conv2d(1, 2, 3), tc.Flatten(), tc.Linear(None, 2)], seed=0)
    net.predict(np.zeros((1, 1, 5, 5), np.float32))
    with pytest.raises(tc.ShapeError, match=r"x has shape \(1, 1, 6, 5\), expected \(N, 1, 5, 5\)"):
        net.predict(np.zeros((1, 1, 6, 5), np.float32))

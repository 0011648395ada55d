"""The moving average of the weights: its value, who sees it when, and resuming it."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_run import BATCHES, EPOCHS, data, run

import tinyconv as tc
from tinyconv import files
from tinyconv.errors import ArgumentError, FileError
from tinyconv.training import checkpoint as checkpoints

DECAY = 0.8


def network() -> tc.Sequential:
    layers = [tc.Conv2d(1, 4, 3), tc.BatchNorm2d(4), tc.ReLU(), tc.Flatten(), tc.Linear(144, 4)]
    return tc.Sequential(layers, seed=0)


class Watch(tc.Callback):
    """Keeps what is trained after every step, and what the network holds after every epoch."""

    def __init__(self, stop_at: int = -1) -> None:
        self.stop_at = stop_at
        self.trained: list[dict[str, np.ndarray]] = []
        self.held: list[dict[str, np.ndarray]] = []

    def on_batch_end(self, training: Any) -> None:
        self.trained.append(self._copy(training))
        if training.position.step == self.stop_at:
            training.stop = "enough"

    def on_epoch_end(self, training: Any) -> None:
        self.held.append(self._copy(training))

    def _copy(self, training: Any) -> dict[str, np.ndarray]:
        arrays = {"flat": training.parameters.flat, **training.state}
        return {name: array.copy() for name, array in arrays.items()}


@pytest.fixture(scope="module", params=["plan", "eager"])
def whole(request: pytest.FixtureRequest) -> tuple[str, tc.Sequential, tc.History, Watch]:
    net, watch = network(), Watch()
    history = run(net, callbacks=[watch, tc.AverageWeights(DECAY)], engine=request.param)
    return request.param, net, history, watch


def test_the_average_is_that_of_the_steps(whole: Any) -> None:
    engine, net, history, watch = whole
    plain, of_plain = network(), Watch()
    run(plain, callbacks=[of_plain], engine=engine)
    start = network()
    start.build((1, 8, 8))
    for name in ("flat", "1.running_mean", "1.running_var"):
        average = (start.parameters.flat if name == "flat" else start.state[name]).astype(float)
        for step, trained in enumerate(of_plain.trained, 1):
            # The average is not trained on: the steps are those of a run without it.
            np.testing.assert_array_equal(watch.trained[step - 1][name], trained[name])
            decay = min(DECAY, (1 + step) / (10 + step))
            average = decay * average + (1 - decay) * trained[name]
            if step % BATCHES == 0:
                held = watch.held[step // BATCHES - 1][name]
                np.testing.assert_allclose(held, average, rtol=2e-5, atol=1e-6)
        assert np.abs(average - trained[name]).max() > 1e-4
    np.testing.assert_array_equal(net.parameters.flat, watch.held[-1]["flat"])
    assert net.state["1.num_batches_tracked"] == EPOCHS * BATCHES
    assert history["val_loss"][-1] == net.evaluate(*data(20, seed=1))["loss"]


@pytest.mark.parametrize("step", [3, 2 * BATCHES, 2 * BATCHES + 3, EPOCHS * BATCHES])
def test_it_is_resumed_with_the_same_bits(whole: Any, step: int, tmp_path: Path) -> None:
    engine, net, history, _ = whole
    how: dict[str, Any] = {"checkpoint": tmp_path, "engine": engine}
    run(network(), callbacks=[tc.AverageWeights(DECAY), Watch(step)], **how)
    again = network()
    resumed = run(again, callbacks=[tc.AverageWeights(DECAY)], resume=True, **how)
    assert resumed["val_loss"] == history["val_loss"]
    for name, array in net.state_dict().items():
        np.testing.assert_array_equal(again.state_dict()[name], array)


def test_a_run_that_is_stopped_before_an_epochs_first_batch(tmp_path: Path) -> None:
    """The network then holds the trained weights, though no batch of the epoch is done."""

    class Stop(tc.Callback):
        def on_epoch_begin(self, training: Any) -> None:
            if training.position.epoch == 1:
                training.stop = "enough"

    plain, again = network(), network()
    run(plain, epochs=2, callbacks=[tc.AverageWeights(DECAY)])
    run(network(), epochs=2, callbacks=[tc.AverageWeights(DECAY), Stop()], checkpoint=tmp_path)
    how: dict[str, Any] = {"checkpoint": tmp_path, "resume": True}
    run(again, epochs=2, callbacks=[tc.AverageWeights(DECAY)], **how)
    np.testing.assert_array_equal(again.parameters.flat, plain.parameters.flat)


@pytest.mark.parametrize("order", [1, -1])
def test_the_best_epochs_average_is_kept(order: int) -> None:
    watch, net = Watch(), network()
    callbacks = [watch, *[tc.KeepBest("val_loss"), tc.AverageWeights(DECAY)][::order]]
    history = run(net, callbacks=callbacks)
    best = watch.held[int(history.best("val_loss")["epoch"]) - 1]
    np.testing.assert_array_equal(net.parameters.flat, best["flat"])


def test_one_that_has_served_begins_afresh() -> None:
    average, one, other = tc.AverageWeights(DECAY), network(), network()
    for net in (one, other):
        run(net, epochs=1, callbacks=[average])
    np.testing.assert_array_equal(one.parameters.flat, other.parameters.flat)


def test_a_checkpoint_without_an_array_of_the_average(tmp_path: Path) -> None:
    how: dict[str, Any] = {"engine": "eager", "checkpoint": tmp_path}
    run(network(), epochs=1, callbacks=[tc.AverageWeights()], **how)
    tensors, about = checkpoints.read_state(tmp_path)
    del tensors["callback.AverageWeights.0.state.1.running_var"]
    files.write_tensors(tmp_path / "checkpoint.safetensors", tensors, about)
    with pytest.raises(FileError, match=r"AverageWeights in .*missing: state.1.running_var"):
        run(network(), epochs=2, resume=True, callbacks=[tc.AverageWeights()], **how)


def test_a_decay_out_of_range() -> None:
    with pytest.raises(ArgumentError, match="decay is 1, expected a number"):
        tc.AverageWeights(1)

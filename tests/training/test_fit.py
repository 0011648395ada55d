"""The fit loop: what it computes, in which order, and how it fails."""

import hashlib
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_run import BATCH, BATCHES, SAMPLES, data, network, run

import tinyconv as tc
from tinyconv import random
from tinyconv.errors import ArgumentError, NonFiniteError, StateError

#: The engine that a user gets, and the one that is the specification.
ENGINES = pytest.mark.parametrize("engine", [{}, {"engine": "eager"}], ids=["default", "eager"])


class Log(tc.Callback):
    """Notes what it was called for, and where the run stood."""

    def __init__(self, name: str = "", log: list[Any] | None = None) -> None:
        self.name = name
        self.log: list[Any] = [] if log is None else log

    def note(self, event: str, training: Any) -> None:
        place = training.position
        self.log.append((self.name + event, place.epoch, place.batch, place.step))

    def on_train_begin(self, training: Any) -> None:
        self.note("train begins", training)

    def on_epoch_begin(self, training: Any) -> None:
        self.note("epoch begins", training)

    def on_batch_end(self, training: Any) -> None:
        self.note("batch ends", training)

    def on_epoch_end(self, training: Any) -> None:
        self.note("epoch ends", training)

    def on_train_end(self, training: Any) -> None:
        self.note("train ends", training)


class StopAfter(tc.Callback):
    """Stops the run after so many steps."""

    def __init__(self, step: int, reason: str = "enough") -> None:
        self.step = step
        self.reason = reason

    def on_batch_end(self, training: Any) -> None:
        if training.position.step >= self.step:
            training.stop = self.reason


# What it computes.


@ENGINES
@pytest.mark.parametrize("shuffle", [True, False])
def test_fit_is_what_a_loop_by_hand_computes(engine: dict[str, str], shuffle: bool) -> None:
    """46 samples in batches of 8: the last batch has 6 of them, and all enter the mean."""
    x, y = data()
    net, by_hand = network(dropout=0), network(dropout=0)
    sgd = tc.SGD(lr=0.05, momentum=0.9, nesterov=True, weight_decay=0.02)
    history = run(net, epochs=2, optimizer=sgd, shuffle=shuffle, **engine)

    own = by_hand.parameters
    state, rows, sizes = sgd.init(own.flat), [], []
    for epoch in range(2):
        order = np.arange(SAMPLES)
        if shuffle:
            order = random.permutation(random.key(0, "shuffle", epoch), SAMPLES)
        loss = correct = 0.0
        for first in range(0, SAMPLES, BATCH):
            index = order[first : first + BATCH]
            correct += (by_hand.predict(x[index]) == y[index]).sum()
            loss += by_hand.loss_and_grads(x[index], y[index])[0] * len(index)
            sgd.update(own.flat, own.flat_grad, state, own.decay)
            sizes.append(len(index))
        rows.append((loss / SAMPLES, correct / SAMPLES))
    assert sizes == [8, 8, 8, 8, 8, 6] * 2
    np.testing.assert_allclose(net.parameters.flat, own.flat, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(history["loss"], [row[0] for row in rows], rtol=1e-4)
    assert history["accuracy"] == pytest.approx([row[1] for row in rows])
    if engine:
        np.testing.assert_array_equal(net.parameters.flat, own.flat)


@ENGINES
def test_validation_is_an_evaluation_after_the_epoch(engine: dict[str, str]) -> None:
    net, seen = network(), []

    class Evaluate(tc.Callback):
        def on_epoch_end(self, training: Any) -> None:
            seen.append(net.evaluate(*data(20, seed=1)))

    history = run(net, epochs=2, callbacks=[Evaluate()], **engine)
    assert history["val_loss"] == [figures["loss"] for figures in seen]
    assert history["val_accuracy"] == [figures["accuracy"] for figures in seen]
    assert list(history.rows[0]) == [
        "epoch",
        "loss",
        "accuracy",
        "lr",
        "seconds",
        "samples_per_second",
        "val_loss",
        "val_accuracy",
    ]
    assert history["epoch"] == [1, 2]
    assert history["lr"] == [0.05, 0.05]
    assert "val_loss" not in run(network(), epochs=1, validation_data=None, **engine)


def test_it_learns() -> None:
    history = run(network(), epochs=12)
    assert history["val_accuracy"][-1] == 1
    assert history["loss"][-1] < 0.2 * history["loss"][0]


@ENGINES
def test_a_second_fit_goes_on(engine: dict[str, str]) -> None:
    """Steps and epochs count on, so shuffles and masks do not repeat."""
    twice, once = network(), network()
    optimizer = tc.SGD(lr=0.05)  # without momentum there is nothing that starts afresh
    first = run(twice, epochs=1, optimizer=optimizer, **engine)
    second = run(twice, epochs=2, optimizer=optimizer, **engine)
    whole = run(once, epochs=3, optimizer=optimizer, **engine)
    np.testing.assert_array_equal(twice.parameters.flat, once.parameters.flat)
    assert first["loss"] + second["loss"] == whole["loss"]
    assert second["epoch"] == [2, 3]
    assert twice.position == once.position
    assert (once.position.epoch, once.position.batch, once.position.step) == (3, 0, 18)


def test_samples_of_another_precision_or_order_in_memory() -> None:
    x, y = data()
    nets = [network() for _ in range(4)]
    nets[0].fit(x, y, verbose=False)
    nets[1].fit(x.astype(np.float64), y.astype(np.uint8), verbose=False)
    nets[2].fit(np.asfortranarray(x), y.astype(np.int32), verbose=False)
    wide = np.zeros((2 * len(x), 1, 8, 8), np.float32)
    wide[::2] = x
    nets[3].fit(wide[::2], y, verbose=False)
    for net in nets[1:]:
        np.testing.assert_array_equal(net.parameters.flat, nets[0].parameters.flat)


@ENGINES
def test_x_and_y_are_not_changed(engine: dict[str, str]) -> None:
    x, y = data()
    x.flags.writeable = y.flags.writeable = False
    kept = x.copy(), y.copy()
    network().fit(x, y, verbose=False, **engine)
    assert (x == kept[0]).all()
    assert (y == kept[1]).all()


@ENGINES
@pytest.mark.parametrize("batch_size", [1, SAMPLES, 1000])
def test_extreme_batch_sizes(engine: dict[str, str], batch_size: int) -> None:
    log = Log()
    history = run(network(), epochs=1, batch_size=batch_size, callbacks=[log], **engine)
    steps = len([event for event in log.log if event[0] == "batch ends"])
    assert steps == (SAMPLES if batch_size == 1 else 1)
    assert len(history) == 1


# The same seed, the same bits.


@ENGINES
def test_equal_seeds_give_equal_bits(engine: dict[str, str]) -> None:
    one, same, other = network(0), network(0), network(1)
    rows = [
        [{**row, "seconds": 0, "samples_per_second": 0} for row in run(net, **engine).rows]
        for net in (one, same, other)
    ]
    np.testing.assert_array_equal(one.parameters.flat, same.parameters.flat)
    assert rows[0] == rows[1] != rows[2]
    assert (one.parameters.flat != other.parameters.flat).any()


def test_equal_seeds_give_equal_bits_in_processes_of_their_own() -> None:
    """One after the other: the first compiles the kernels for the second."""
    program = Path(__file__).with_name("small_run.py")
    digests = [
        subprocess.run(
            [sys.executable, program, seed], stdout=subprocess.PIPE, text=True, check=True
        ).stdout
        for seed in ("0", "0")
    ]
    net = network(1)
    run(net)
    assert [len(digest) for digest in digests] == [65, 65]
    assert digests[0] == digests[1] != hashlib.sha256(net.parameters.flat).hexdigest() + "\n"


def test_fit_outside_the_main_thread() -> None:
    net, here, caught = network(), network(), tc.StopOnInterrupt()
    thread = threading.Thread(target=run, args=(net,), kwargs={"callbacks": [caught]})
    thread.start()
    thread.join()
    run(here)
    np.testing.assert_array_equal(net.parameters.flat, here.parameters.flat)


# Callbacks.


def test_callbacks_are_called_in_order_and_end_in_reverse() -> None:
    log: list[Any] = []
    run(network(), epochs=2, batch_size=23, callbacks=[Log("a ", log), Log("b ", log)])
    events = [
        ("train begins", 0, 0, 0),
        ("epoch begins", 0, 0, 0),
        ("batch ends", 0, 1, 1),
        ("batch ends", 0, 2, 2),
        ("epoch ends", 1, 0, 2),
        ("epoch begins", 1, 0, 2),
        ("batch ends", 1, 1, 3),
        ("batch ends", 1, 2, 4),
        ("epoch ends", 2, 0, 4),
    ]
    expected = [(name + event, *place) for event, *place in events for name in ("a ", "b ")]
    expected += [("b train ends", 2, 0, 4), ("a train ends", 2, 0, 4)]
    assert log == expected


def test_a_callback_may_hand_on_whatever_it_gets() -> None:
    class Stop(tc.Callback):
        def on_epoch_end(self, *args: Any, **kwargs: Any) -> None:
            super().on_epoch_end(*args, **kwargs)
            args[0].stop = True

    assert len(run(network(), epochs=3, callbacks=[Stop()])) == 1


@pytest.mark.parametrize("step", [1, 3, BATCHES, BATCHES + 2])
def test_a_run_stops_after_the_batch_at_which_it_was_told(step: int) -> None:
    net, log = network(), Log()
    history = run(net, callbacks=[StopAfter(step), log])
    assert net.position.step == step
    assert len(history) == net.position.epoch == step // BATCHES
    assert net.position.batch == step % BATCHES
    assert log.log[-1][0] == "train ends"


def test_whoever_began_is_told_of_the_end_whatever_happens() -> None:
    class Breaks(tc.Callback):
        def __init__(self, event: str) -> None:
            setattr(self, event, self.fail)

        def fail(self, training: Any) -> None:
            raise RuntimeError("broken callback")

    for event in ("on_epoch_begin", "on_batch_end", "on_epoch_end", "on_train_end"):
        before, after = Log(), Log()
        with pytest.raises(RuntimeError, match="broken callback"):
            run(network(), epochs=1, callbacks=[before, Breaks(event), after])
        assert before.log[-1][0] == after.log[-1][0] == "train ends"
    before, after = Log(), Log()
    with pytest.raises(RuntimeError, match="broken callback"):
        run(network(), epochs=1, callbacks=[before, Breaks("on_train_begin"), after])
    assert [event[0] for event in before.log] == ["train begins", "train ends"]
    assert after.log == []


@ENGINES
def test_a_callback_may_set_the_rate(engine: dict[str, str]) -> None:
    """Also as a NumPy number, which must not change the precision of the arithmetic."""

    class Drop(tc.Callback):
        def __init__(self, kind: type) -> None:
            self.kind = kind

        def on_epoch_end(self, training: Any) -> None:
            training.lr = self.kind(0.1 / training.position.epoch)

    nets = [network(), network()]
    rows = [
        run(net, epochs=3, optimizer=tc.SGD(lr=0.2), callbacks=[Drop(kind)], **engine)
        for net, kind in zip(nets, (float, np.float64), strict=True)
    ]
    assert rows[0]["lr"] == rows[1]["lr"] == [0.2, 0.1, 0.05]
    assert all(type(lr) is float for lr in rows[1]["lr"])
    np.testing.assert_array_equal(nets[0].parameters.flat, nets[1].parameters.flat)


# Values that are not finite.


@ENGINES
def test_nan_in_the_data(engine: dict[str, str]) -> None:
    x, y = data()
    x[20, 0, 3, 3] = np.nan
    message = "^fit: epoch 1, batch 3: the input of the network holds values that are not finite$"
    with pytest.raises(NonFiniteError, match=message):
        network().fit(x, y, batch_size=8, shuffle=False, verbose=False, **engine)


@ENGINES
def test_a_network_that_is_broken_already(engine: dict[str, str]) -> None:
    net = network()
    net.parameters.values["5.bias"][2] = np.inf
    with pytest.raises(
        NonFiniteError, match=r"^fit: epoch 1, batch 1: layer 5 \(Linear\) has a bias that is not"
    ):
        run(net, **engine)


@pytest.mark.filterwarnings("ignore:fit. the optimizer's lr")
@ENGINES
def test_a_rate_that_is_far_too_high(engine: dict[str, str]) -> None:
    """Without weight decay the weights explode within a few steps; a layer is named."""
    with pytest.raises(NonFiniteError, match=r"^fit: epoch \d, batch \d: layer \d \(\w+\) ") as e:
        run(network(), optimizer=tc.SGD(lr=1e25), **engine)
    assert "not finite" in str(e.value)


@pytest.mark.filterwarnings("ignore:fit. the optimizer's lr")
@ENGINES
def test_the_last_update_is_looked_at_too(engine: dict[str, str], tmp_path: Path) -> None:
    """One batch an epoch, whose loss is finite: only the update overflows."""
    with pytest.raises(
        NonFiniteError, match=r"^fit: epoch 1, batch 1: \d\.\w+ is not finite after the update$"
    ):
        run(
            network(),
            epochs=1,
            batch_size=SAMPLES,
            optimizer=tc.SGD(lr=1e38, weight_decay=1e10),
            checkpoint=tmp_path,
            **engine,
        )
    assert list(tmp_path.iterdir()) == []  # what is broken is not saved


# Bad arguments. Samples and labels that do not fit are in test_network.py.


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"epochs": 0}, "fit: epochs is 0, expected an integer of at least 1"),
        ({"epochs": 1.5}, "fit: epochs is 1.5, expected an integer"),
        ({"epochs": True}, "fit: epochs is True, expected an integer"),
        ({"batch_size": 0}, "fit: batch_size is 0, expected an integer"),
        ({"batch_size": "10"}, "fit: batch_size is '10', expected an integer"),
        ({"optimizer": "momentum"}, "fit: optimizer is 'momentum', expected an object such as SGD"),
        ({"optimizer": 0.1}, r"fit: optimizer is 0.1, expected an object such as SGD\(lr=0.1\) or"),
        (
            {"loss": "kl"},
            r"fit: loss is 'kl', expected an object such as MSELoss\(\) or one of",
        ),
        ({"loss": 1}, r"fit: loss is 1, expected an object such as MSELoss\(\) or one of 'cross_"),
        ({"metrics": ["auc"]}, "fit: metric 'auc', expected 'accuracy', 'mae', 'mse', 'top_<k>'"),
        ({"metrics": "accuracy"}, r"fit: metrics is 'accuracy', expected a list such as \['accur"),
        ({"metrics": ["top_1", "top_1"]}, r"metrics have the names \['top_1', 'top_1'\], expected"),
        ({"metrics": ["mae"]}, "fit: the metric 'mae' makes no sense: the targets are classes"),
        ({"engine": "warp"}, "fit: engine is 'warp', expected"),
        ({"validation_data": data()[:1]}, r"validation_data is not \(x, y\) or \(x, y, sample_w"),
    ],
)
def test_bad_arguments(arguments: dict[str, Any], message: str) -> None:
    net = network()
    with pytest.raises(ArgumentError, match=message):
        run(net, **arguments)
    assert net.position.step == 0
    run(net, epochs=1)  # nothing of the bad argument stays


def test_no_samples() -> None:
    x, y = data()
    with pytest.raises(ArgumentError, match="fit: no samples, expected at least one"):
        network().fit(x[:0], y[:0])


def test_resuming_needs_a_folder() -> None:
    with pytest.raises(StateError, match="fit: resume=True needs checkpoint=, the folder"):
        run(network(), resume=True)

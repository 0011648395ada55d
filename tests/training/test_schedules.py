"""Schedules against literals and PyTorch, and the callback that sets the rate in a run."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tinyconv as tc
from tinyconv.schedules import Cosine, Exponential, OnPlateau, Step

X = np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32)
Y = np.random.default_rng(1).integers(0, 3, 50)


class Rates(tc.Callback):
    """Notes the rate that every step was taken with; hang it after the schedule."""

    def __init__(self) -> None:
        self.rates: list[float] = []

    def on_epoch_begin(self, training: Any) -> None:
        self.next = training.lr

    def on_batch_end(self, training: Any) -> None:
        self.rates.append(self.next)
        self.next = training.lr


def train(*callbacks: tc.Callback, epochs: int = 3, **how: Any) -> tuple[tc.Sequential, tc.History]:
    """A run of 5 batches an epoch."""
    net = tc.Sequential([tc.Linear(4, 5), tc.Tanh(), tc.Linear(5, 3)], seed=1)
    how = {"optimizer": tc.SGD(lr=0.2, momentum=0.5), "validation_data": (X, Y), **how}
    history = net.fit(X, Y, epochs=epochs, batch_size=10, verbose=False, callbacks=callbacks, **how)
    return net, history


def losses(*values: float) -> list[dict[str, float]]:
    return [{"val_loss": value, "val_accuracy": -value} for value in values]


# The functions.


def test_literals() -> None:
    assert [Step(3, 0.1)(t) for t in (0, 2, 3, 5, 6)] == pytest.approx([1, 1, 0.1, 0.1, 0.01])
    assert [Exponential(0.5, lowest=0.2)(t) for t in range(4)] == [1, 0.5, 0.25, 0.2]
    thirds = [1, 0.2 + 0.8 * 0.75, 0.2 + 0.8 * 0.25, 0.2, 0.2]
    assert [Cosine(3, lowest=0.2)(t) for t in range(5)] == pytest.approx(thirds)


@pytest.mark.parametrize("monitor", ["val_loss", "val_accuracy"])
def test_on_plateau_counts_anew_after_a_change_and_after_an_improvement(monitor: str) -> None:
    schedule = OnPlateau(monitor, factor=0.5, patience=2, lowest=0.2)
    rows = losses(5, 4, 4, 4, 4, 3, 3, 4, 5, 6, 7)
    #       waits:    1  2  1  0  1  2  1  2  1
    factors = [schedule(t, rows[:t]) for t in range(len(rows) + 1)]
    assert factors == [1, 1, 1, 1, 0.5, 0.5, 0.5, 0.5, 0.25, 0.25, 0.2, 0.2]


def test_on_plateau_takes_nan_for_no_improvement() -> None:
    schedule = OnPlateau(factor=0.5, patience=1)
    assert schedule(2, losses(1, math.nan)) == 0.5


def test_on_plateau_names_the_figure_that_is_missing() -> None:
    with pytest.raises(KeyError, match="no row of the history has 'val_loss'; there are epoch"):
        OnPlateau()(1, [{"epoch": 1, "loss": 0.5}])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Step(0), "Step: every is 0, expected an integer"),
        (lambda: Step(1, 0.0), "Step: factor is 0.0, expected a number above 0"),
        (lambda: Exponential(-1.0), "Exponential: factor is -1.0, expected a number above 0"),
        (lambda: Exponential(0.5, -1.0), "Exponential: lowest is -1.0, expected a number"),
        (lambda: Cosine(0), "Cosine: length is 0, expected an integer"),
        (lambda: Cosine(1, 2.0), "Cosine: lowest is 2.0, expected a number"),
        (lambda: OnPlateau(factor=1.0), "OnPlateau: factor is 1.0, expected a number above 0"),
        (lambda: OnPlateau(patience=0), "OnPlateau: patience is 0, expected an integer"),
        (lambda: OnPlateau(lowest=-1.0), "OnPlateau: lowest is -1.0, expected a number"),
        (lambda: tc.Schedule(Step(1), "batch"), "Schedule: per is 'batch', expected 'epoch' or"),
    ],
)
def test_arguments_out_of_range(make: Any, message: str) -> None:
    with pytest.raises(tc.ArgumentError, match=message):
        make()


# The callback.


def test_a_rate_an_epoch() -> None:
    rates = Rates()
    _, history = train(tc.Schedule(Step(1, 0.5)), rates)
    assert history["lr"] == pytest.approx([0.2, 0.1, 0.05])
    assert rates.rates == pytest.approx([0.2] * 5 + [0.1] * 5 + [0.05] * 5)


def test_a_rate_a_step() -> None:
    rates = Rates()
    _, history = train(tc.Schedule(lambda t, rows: 1 / (1 + t), per="step"), rates)
    assert rates.rates == pytest.approx([0.2 / (1 + t) for t in range(15)])
    assert history["lr"] == pytest.approx([0.2 / 5, 0.2 / 10, 0.2 / 15])


def test_a_second_run_begins_its_schedule_anew() -> None:
    net, _ = train()
    history = net.fit(
        X,
        Y,
        epochs=2,
        optimizer=tc.SGD(lr=0.2),
        callbacks=[tc.Schedule(Step(1, 0.5))],
        verbose=False,
    )
    assert history["lr"] == [0.2, 0.1]


def test_the_schedule_sees_the_history() -> None:
    seen = []

    def schedule(t: int, rows: Any) -> float:
        seen.append((t, [row["epoch"] for row in rows]))
        return 1.0

    train(tc.Schedule(schedule))
    assert seen == [(0, []), (1, [1]), (2, [1, 2])]


def test_the_rate_may_fall_to_zero() -> None:
    _, history = train(tc.Schedule(Cosine(1)), epochs=2)
    assert history["lr"] == [0.2, 0.0]
    assert history["val_loss"][0] == pytest.approx(history["val_loss"][1], rel=1e-6)


@pytest.mark.parametrize("factor", [-0.5, math.nan, math.inf])
def test_a_factor_that_is_none(factor: float) -> None:
    with pytest.raises(tc.ArgumentError, match="Schedule: the factor after 0 epochs is"):
        train(tc.Schedule(lambda t, rows: factor))


class StopAt(tc.Callback):
    def __init__(self, step: int) -> None:
        self.step = step

    def on_batch_end(self, training: Any) -> None:
        if training.position.step == self.step:
            training.stop = "enough"


@pytest.mark.parametrize("stop", [4, 5, 7, 10, 13])
@pytest.mark.parametrize(
    ("schedule", "per"),
    [(Cosine(20), "step"), (Step(1, 0.5), "epoch"), (OnPlateau(patience=1, factor=0.5), "epoch")],
)
def test_a_resumed_run_has_the_rates_of_one_that_was_not_stopped(
    tmp_path: Path, schedule: Any, per: str, stop: int
) -> None:
    whole, history = train(tc.Schedule(schedule, per), epochs=4, optimizer=tc.SGD(lr=2.0))
    again: dict[str, Any] = {"epochs": 4, "optimizer": tc.SGD(lr=2.0), "checkpoint": tmp_path / "r"}
    train(tc.Schedule(schedule, per), StopAt(stop), **again)
    resumed, rest = train(tc.Schedule(schedule, per), StopAt(-1), resume=True, **again)
    assert rest["lr"] == history["lr"]
    np.testing.assert_array_equal(resumed.parameters.flat, whole.parameters.flat)


# PyTorch.


@pytest.mark.oracle
def test_factors_are_those_of_pytorch() -> None:
    torch = pytest.importorskip("torch", reason='needs pip install "tinyconv[oracle]"')
    schedulers = torch.optim.lr_scheduler
    drawn = np.random.default_rng(0).normal(size=60).cumsum()
    cases: list[tuple[Any, Any]] = [
        (Step(7, 0.3), lambda rule: schedulers.StepLR(rule, 7, 0.3)),
        (Exponential(0.9), lambda rule: schedulers.ExponentialLR(rule, 0.9)),
        (Cosine(60, 0.1), lambda rule: schedulers.CosineAnnealingLR(rule, 60, 0.1)),
        (
            OnPlateau("loss", 0.5, patience=3, lowest=0.01),
            lambda rule: schedulers.ReduceLROnPlateau(
                rule, factor=0.5, patience=2, threshold=0, min_lr=0.01
            ),
        ),
    ]
    for ours, theirs in cases:
        rule = torch.optim.SGD([torch.zeros(1)], lr=1.0)
        scheduler = theirs(rule)
        rows: list[dict[str, float]] = []
        for t in range(61):
            assert ours(t, rows) == pytest.approx(rule.param_groups[0]["lr"], rel=1e-9), ours
            rule.step()
            rows.append({"loss": float(drawn[min(t, 59)])})
            on_plateau = isinstance(scheduler, schedulers.ReduceLROnPlateau)
            scheduler.step(*[rows[-1]["loss"]] * on_plateau)

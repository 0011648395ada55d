"""Sweeps: every combination once, failures apart, the same on any backend."""

import os
import pickle
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tinyconv as tc
from tinyconv.trials import attempt_all

X = np.random.default_rng(0).normal(size=(60, 2)).astype("float32")
Y = (X[:, 0] > 0).astype(int)


def train(x: Any, y: Any, *, seed: int, lr: float, width: int = 3) -> Any:
    if seed == 9:
        raise RuntimeError("no more paper")
    assert not isinstance(x, np.memmap)
    net = tc.Sequential(tc.Linear(2, width), tc.Tanh(), tc.Linear(width, 2), seed=seed)
    size = max(10, len(x) // 60)  # of many samples, too, an epoch has few steps
    rule = tc.SGD(lr=lr)
    return net.fit(x, y, epochs=2, batch_size=size, optimizer=rule, verbose=False, engine="eager")


GRID = {"lr": [0.01, 0.5], "width": [2, 4]}


def test_every_setting_has_every_seed_and_is_what_it_is_alone():
    found = tc.search(train, GRID, data=(X, Y), seeds=[0, 1], processes=1)
    settings = [trial.settings for trial in found.trials]
    assert len(found) == 8
    assert settings[:3] == [
        {"lr": 0.01, "width": 2, "seed": 0},
        {"lr": 0.01, "width": 2, "seed": 1},
        {"lr": 0.01, "width": 4, "seed": 0},
    ]
    for trial in found.trials:
        alone = train(X, Y, **trial.settings).rows[-1]
        assert trial.figures["loss"] == alone["loss"]
        assert trial.error is None


def test_processes_give_the_same_figures_and_lose_none_to_one_that_fails(tmp_path):
    big = np.repeat(X, 3000, axis=0), np.repeat(Y, 3000)  # large enough for joblib's files
    few = {"lr": [0.5]}
    found = tc.search(train, few, data=big, seeds=[9, 1], processes=2)
    failed, good = found.trials
    assert failed.error == "RuntimeError: no more paper"
    assert "in train" in failed.trace
    assert failed.figures == {}
    alone = tc.search(train, few, data=big, seeds=[1], processes=1)[0]
    assert good.figures["loss"] == alone.figures["loss"]
    found.to_csv(tmp_path / "found.csv")
    head, *rows = (tmp_path / "found.csv").read_text().splitlines()
    assert head.startswith("lr,seed,error,epoch,loss")
    assert len(rows) == 2
    assert "no more paper" in str(found)


class Unsendable(Exception):
    """Pickles, and cannot be made again: its constructor takes more than its text."""

    def __init__(self, text: str, place: int) -> None:
        super().__init__(f"{text} at {place}")


def fail_at(number: int) -> int:
    if number == 2:
        raise Unsendable("no more paper", 7)
    return number


def test_an_exception_that_cannot_be_sent_loses_none_of_the_others():
    attempts = attempt_all(fail_at, [(1,), (2,), (3,)], 2)
    assert [attempt.value for attempt in attempts] == [1, None, 3]
    assert str(attempts[1].error) == "Unsendable: no more paper at 7"


def die_at(x: Any, *, seed: int, a: int) -> dict[str, float]:
    if (seed, a) in ((1, 0), (3, 1)):
        os._exit(7)
    return {"figure": 10 * a + seed}


def test_a_worker_that_dies_loses_none_of_the_others():
    pytest.importorskip("joblib")
    found = tc.search(die_at, {"a": [0, 1]}, data=(X,), seeds=range(5), processes=2)
    died = [trial for trial in found.trials if trial.error is not None]
    assert [trial.settings for trial in died] == [{"a": 0, "seed": 1}, {"a": 1, "seed": 3}]
    for trial in died:
        assert str(trial.error).startswith("ChildProcessError: the process that worked on it ended")
    figures = [trial.figures["figure"] for trial in found.trials if trial.error is None]
    assert figures == [0, 2, 3, 4, 10, 11, 12, 14]


class DieOnce(tc.Callback):
    """Ends the process with the first epoch, if no process has ended so before."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def on_epoch_begin(self, training: Any) -> None:
        if training.position.epoch == 1 and not self.mark.exists():
            self.mark.touch()
            os._exit(7)


def test_a_member_whose_process_died_goes_on_from_its_checkpoint(tmp_path):
    pytest.importorskip("joblib")
    nets = [tc.Sequential(tc.Linear(2, 2), seed=seed) for seed in range(3)]
    run: dict[str, Any] = {"epochs": 3, "engine": "eager", "verbose": False}
    calls = [DieOnce(tmp_path / "died")]
    histories = tc.Ensemble(nets).fit(
        X, Y, processes=2, checkpoint=tmp_path, callbacks=calls, **run
    )
    assert (tmp_path / "died").exists()
    for net, history in zip(nets, histories, strict=True):
        alone = tc.Sequential(tc.Linear(2, 2), seed=net.seed)
        assert alone.fit(X, Y, **run)["loss"] == history["loss"]
        np.testing.assert_array_equal(net.parameters.flat, alone.parameters.flat)


def test_medians_over_the_seeds():
    def of(*, seed: int, a: int) -> dict[str, float]:
        return {"figure": a + [0, 5, 1][seed]}

    found = tc.search(of, {"a": [1, 2]}, seeds=range(3), processes=1)
    assert found.medians("figure") == [({"a": 2}, 3.0), ({"a": 1}, 2.0)]
    with pytest.raises(tc.ArgumentError, match="figure is 'accuracy', expected one of figure"):
        found.medians("accuracy")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"grid": {"lr": 0.1}}, "search: lr of the grid is 0.1, expected a list of values"),
        ({"grid": {"net": "mlp"}}, "search: net of the grid is 'mlp', expected a list of values"),
        (
            {"grid": {"lr": np.array(0.1)}},
            "search: lr of the grid is .*, expected a list of values",
        ),
        ({"grid": {"lr": []}}, r"search: lr of the grid is \[\], expected a list of values"),
        (
            {"grid": [("lr", [0.1])]},
            "search: grid is .*, expected a dictionary: name of an argument",
        ),
        (
            {"grid": {"seed": [1, 2]}},
            "search: the grid has the name 'seed'.*; seeds are an argument",
        ),
        ({"grid": {3: [1]}}, "search: the grid has the name 3, expected one of an argument"),
        ({"seeds": []}, "search: no seeds, expected at least one"),
        ({"seeds": 3}, "search: seeds is 3, expected integers"),
        ({"data": X}, "search: data is an array of shape .*, expected a tuple of arrays"),
        ({"processes": 0}, "processes"),
    ],
)
def test_what_is_no_search(arguments, message):
    with pytest.raises(tc.ArgumentError, match=message):
        tc.search(train, **arguments)


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        (5, "train returned 5, expected figures by name or a history of epochs"),
        (tc.History(), "train returned History.*, expected figures by name or a history of epochs"),
        ({"a": 1, "b": None}, "the figure 'b' of train is None, expected a number"),
    ],
)
def test_what_is_no_figure_is_the_trial_s_error(returned, message):
    trial = tc.search(lambda seed: returned, processes=1)[0]
    assert re.fullmatch(f"ArgumentError: search: {message}", str(trial.error))


def test_a_setting_stands_in_the_table_as_it_was_set():
    def halved(*, seed: int, lr: float) -> tc.History:
        schedule = tc.Schedule(tc.schedules.Step(every=1, factor=0.5))
        net, rule = tc.Sequential(tc.Linear(2, 2)), tc.SGD(lr=lr)
        return net.fit(
            X, Y, epochs=3, optimizer=rule, callbacks=[schedule], verbose=False, engine="eager"
        )

    found = tc.search(halved, {"lr": [0.5, 0.25]}, processes=1)
    assert [row["lr"] for row in found.rows()] == [0.5, 0.25]
    assert [trial.figures["lr"] for trial in found.trials] == [0.125, 0.0625]


def test_values_that_are_written_alike_are_not_one():
    one, other = np.arange(2000.0), np.arange(2000.0)
    other[1000] = 0
    found = tc.search(lambda seed, a: {"sum": a.sum()}, {"a": [one, other]}, processes=1)
    assert [median for _, median in found.medians("sum")] == [one.sum(), other.sum()]


def test_medians_of_a_search_that_was_pickled_and_of_two_that_were_joined():
    def of(*, seed: int, lr: float, widths: list[int]) -> dict[str, float]:
        return {"figure": lr * sum(widths) + seed}

    grid = {"lr": [0.5, 2.0], "widths": [[300, 400], [500]]}
    found = tc.search(of, grid, seeds=range(2), processes=1)
    expected = found.medians("figure")
    assert len(expected) == 4
    assert pickle.loads(pickle.dumps(found)).medians("figure") == expected
    parts = [
        tc.search(of, pickle.loads(pickle.dumps(grid)), seeds=[seed], processes=1)
        for seed in range(2)
    ]
    joined = type(found)([trial for part in parts for trial in part.trials])
    assert joined.medians("figure") == expected


def test_no_number_is_the_last_of_the_medians():
    values = [np.nan, 1.0, 3.0, np.nan, 2.0]
    found = tc.search(lambda seed, a: {"v": values[a]}, {"a": range(5)}, processes=1)
    assert [settings["a"] for settings, _ in found.medians("v")] == [2, 4, 1, 0, 3]


def test_without_joblib(monkeypatch):
    monkeypatch.setitem(sys.modules, "joblib", None)
    with pytest.raises(ImportError, match=r'needs joblib: pip install "tinyconv\[parallel\]"'):
        attempt_all(abs, [(1,)], 2)


class Counted(np.ndarray):
    """An array that counts how often this process has pickled one like it."""

    pickled = 0

    def __reduce_ex__(self, protocol: Any) -> Any:
        Counted.pickled += 1
        return super().__reduce_ex__(protocol)


@pytest.fixture(params=["loky", "dask", "ray"])
def cluster(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Two workers, as docs/many_machines.md gets them."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))  # where they find this file
    joblib = pytest.importorskip("joblib")
    with ExitStack() as ending:
        if request.param == "dask":
            distributed = pytest.importorskip("distributed")
            local = distributed.LocalCluster(
                n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None
            )
            ending.enter_context(local)
            ending.enter_context(distributed.Client(local))
        elif request.param == "ray":
            ray = pytest.importorskip("ray")
            ray_joblib = pytest.importorskip("ray.util.joblib")
            ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
            ending.callback(ray.shutdown)
            ray_joblib.register_ray()
        ending.enter_context(joblib.parallel_config(backend=request.param, n_jobs=2))
        yield request.param


@pytest.mark.oracle
def test_two_workers_carry_searches_and_ensembles(cluster: str) -> None:
    Counted.pickled = 0
    x, y = np.repeat(X, 5, axis=0), np.repeat(Y, 5)
    found = tc.search(train, {"lr": [0.5]}, data=(x.view(Counted), y), seeds=[0, 9, 1, 2, 3])
    if cluster != "loky":  # which hands over files, if arrays are large
        assert Counted.pickled <= 1
    assert [trial.error for trial in found.trials] == [
        *(None, "RuntimeError: no more paper", None, None, None)
    ]
    ensemble = tc.Ensemble([tc.Sequential(tc.Linear(2, 2), seed=seed) for seed in (3, 4)])
    histories = ensemble.fit(X, Y, epochs=2, verbose=False)
    assert found[2].figures["loss"] == train(x, y, seed=1, lr=0.5)["loss"][-1]
    alone = tc.Sequential(tc.Linear(2, 2), seed=4)
    alone.fit(X, Y, epochs=2, verbose=False)
    np.testing.assert_array_equal(ensemble.nets[1].parameters.flat, alone.parameters.flat)
    assert len(histories) == 2


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self").exists(), reason="looks for processes in /proc")
def test_workers_end_with_a_process_that_was_killed(tmp_path: Path) -> None:
    pytest.importorskip("joblib")
    program = (
        "import os; from tinyconv.trials import attempt_all\n"
        f"files = [{str(tmp_path)!r} + f'/{{n}}' for n in range(2)]\n"
        "attempt_all(os.system, [(f'echo $PPID > {file}; exec sleep 15',) for file in files], 2)"
    )
    parent = subprocess.Popen([sys.executable, "-c", program], stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    written: list[str] = []
    while len(written) < 2 and time.monotonic() < deadline:
        time.sleep(0.1)
        written = [text for path in tmp_path.iterdir() if (text := path.read_text().strip())]
    assert len(written) == 2
    parent.kill()
    parent.wait()
    while any(Path("/proc", pid).exists() for pid in written):
        assert time.monotonic() < deadline
        time.sleep(0.1)

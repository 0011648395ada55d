"""The trainings beyond the book: recorded, killed, resumed, put to the vote and into a table."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import tinyconv as tc
from tinyconv.cli import book
from tinyconv.training import checkpoint

SCRIPTS = Path(__file__).parents[1] / "examples" / "beyond"


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """The path of few digits."""
    path = tmp_path_factory.mktemp("digits") / "digits.npz"
    parts = {}
    names = ("train", "validation", "test")
    for name, (x, y), count in zip(names, tc.data.load(), (60, 20, 40), strict=True):
        parts[f"x_{name}"] = np.rint(x[:count] * 255).astype(np.uint8)
        parts[f"y_{name}"] = y[:count]
    np.savez(path, **parts)
    return path


def run(script, *arguments):
    """Run a script in this process, which has imported everything."""
    return book._execute(SCRIPTS / script, [str(argument) for argument in arguments])


@pytest.fixture
def script_parts(digits, monkeypatch):
    """The module of the runs, a tiny net, and the digits; modules of the scripts are importable."""
    before = sys.modules.copy()
    monkeypatch.syspath_prepend(str(SCRIPTS))
    import runs

    net = tc.Sequential([tc.Flatten(), tc.Linear(784, 10)], seed=0)
    yield runs, net, tc.data.load(digits)
    for name in sys.modules.keys() - before.keys():
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(SCRIPTS.parent)):
            del sys.modules[name]


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_run_is_recorded_and_not_repeated(digits, tmp_path, capsys):
    arguments = ("simard.py", "--data", digits, "--epochs", 2, "--out", tmp_path)
    assert run(*arguments, "--seeds", 0) == 0
    assert "epoch 2/2" in capsys.readouterr().err
    path = tmp_path / "results" / "simard.jsonl"
    (result,) = lines(path)
    history = tc.History.from_csv((tmp_path / "results" / "simard-0.csv").read_text())
    net = tc.load(tmp_path / "simard-0" / "model.safetensors")
    data = tc.data.load(digits)
    assert net.evaluate(*data.test)["accuracy"] == result["test"]
    assert net.evaluate(*data.validation)["accuracy"] == result["validation"]
    assert result["validation"] == max(history["val_accuracy"])
    assert (result["epochs"], result["planned"], result["weights"]) == (2, 2, 132_540)
    assert sum(history["cpu_seconds"]) > 0
    assert run(*arguments, "--seeds", 0, 1) == 0
    assert "simard, seed 0: has its result" in capsys.readouterr().out
    assert [line["seed"] for line in lines(path)] == [0, 1]
    assert lines(path)[0] == result


def test_a_run_that_is_killed_continues_with_the_same_bits(digits, tmp_path):
    arguments = ["--data", str(digits), "--seeds", "0", "--epochs"]
    command = [sys.executable, str(SCRIPTS / "simard.py"), *arguments, "100000"]
    killed = tmp_path / "killed"
    running = subprocess.Popen([*command, "--out", str(killed)], stderr=subprocess.PIPE, text=True)
    epochs = 0
    while epochs < 3:
        line = running.stderr.readline()
        assert line
        epochs += not line.startswith("compiling")
    running.kill()
    running.communicate(timeout=60)
    assert not (killed / "results").exists()
    done = checkpoint.read_state(killed / "simard-0")[1]["position"]["epoch"]
    assert done >= 2  # the checkpoint of the third one may not have been written
    for out in (killed, tmp_path / "whole"):
        assert run("simard.py", *arguments, done + 2, "--out", out) == 0
    nets = [out / "simard-0" / "model.safetensors" for out in (killed, tmp_path / "whole")]
    assert nets[0].read_bytes() == nets[1].read_bytes()
    histories = [
        tc.History.from_csv((out / "results" / "simard-0.csv").read_text())
        for out in (killed, tmp_path / "whole")
    ]
    assert histories[0]["loss"] == histories[1]["loss"]


def test_the_hours_are_counted_across_stops(script_parts, tmp_path):
    """A run that has used up its hours ends, and stays ended when it is started again."""
    runs, net, data = script_parts
    for _ in range(2):
        history = net.fit(
            data.train,
            epochs=3,
            verbose=False,
            callbacks=[runs.CpuTime(hours=1e-9)],
            checkpoint=tmp_path,
            resume=True,
        )
        assert len(history) == 1
    clock = runs.CpuTime()
    clock.restore({"seconds": np.asarray(5.0)})
    assert 5 <= float(clock.state()["seconds"]) < 60


def test_the_rectified_net_is_simards_but_for_its_units(script_parts):
    from simard_rectified import rectified

    net, papers = rectified(seed=0), tc.models.simard2003(seed=0)
    assert net.output_shape((1, 28, 28)) == (10,)
    for layer, other in zip(net.layers, papers.layers, strict=True):
        if isinstance(other, tc.Tanh):
            assert isinstance(layer, tc.ReLU)
        else:
            assert {**layer.config(), "weight_init": 0} == {**other.config(), "weight_init": 0}


def test_the_small_net(digits, script_parts):
    """Its sizes, the rate's rise and fall, and that its distortions keep shapes."""
    from small_net import Settings

    settings = Settings()
    net = settings.build(seed=0)
    assert net.multiply_adds((1, 28, 28)) == 21_439_872
    schedule, average = settings.callbacks(epochs=10, batches=10)
    rates = [schedule.schedule(step, []) for step in range(100)]
    assert rates.index(max(rates)) == 20
    assert rates[:21] == sorted(rates[:21])
    assert rates[20:] == sorted(rates[20:], reverse=True)
    assert (max(rates), rates[0], round(rates[-1], 3)) == (1, 0.04, 0)
    assert average.decay == settings.decay
    x = tc.data.load(digits).train.x[:3]
    assert settings.distort(x, 1).shape == x.shape


def test_the_looks_of_a_net(digits, script_parts):
    """The mean over the digit and slight distortions of it."""
    from small_net import LOOKS, look

    _, net, data = script_parts
    seen = look(net, data.test.x)
    once = net.predict_proba(data.test.x)
    np.testing.assert_allclose(seen.sum(axis=1), 1, rtol=1e-5)
    assert 0 < np.abs(seen - once).max() < 0.3
    blank = np.zeros((2, 1, 28, 28), np.float32)  # distortions of nothing are nothing
    np.testing.assert_allclose(look(net, blank), net.predict_proba(blank), rtol=1e-5)
    assert LOOKS == 8


def test_the_vote_and_the_table(digits, tmp_path, script_parts, monkeypatch):
    results = tmp_path / "results"
    assert run("vote.py", "--data", digits, "--out", tmp_path) == 1  # no net has said anything
    arguments = ["--data", digits, "--out", tmp_path, "--epochs", 1, "--seeds", 0, 3]
    assert run("small_net.py", *arguments) == 0
    assert run("vote.py", "--data", digits, "--out", tmp_path) == 0
    (result,) = lines(results / "vote.jsonl")
    test = tc.data.load(digits).test
    from small_net import look

    total = np.zeros((len(test.y), 10), np.float32)
    for seed, line in zip((0, 3), lines(results / "small-net.jsonl"), strict=True):
        said = look(tc.load(tmp_path / f"small-net-{seed}" / "model.safetensors"), test.x)
        assert line["test"] == (said.argmax(axis=1) == test.y).mean()
        total += said.astype(np.float16)
    assert result["test"] == (total.argmax(axis=1) == test.y).mean()
    assert (result["seed"], result["members"]) == ("0, 3", 2)
    assert (results / "vote.png").stat().st_size > 1000

    about = {"epochs": 30, "planned": 30, "weights": 1000, "multiply_adds": 2000}
    about |= {"machine": "abacus"}
    for name, given in (
        ("small-net", [{"test": 0.9971}, {"test": 0.9969}, {"test": 0.9975}]),
        ("settings-first", [{"validation": 0.99}]),
        ("settings-second", [{"validation": 0.992}]),
    ):
        (results / f"{name}.jsonl").write_text(
            "".join(
                json.dumps(
                    {"experiment": name, "seed": seed, "cpu_minutes": 10 + seed, **about, **one}
                )
                + "\n"
                for seed, one in enumerate(given)
            )
        )
    import table

    monkeypatch.setattr(table, "HERE", tmp_path)
    monkeypatch.setattr(sys, "argv", ["table.py", str(results)])
    table.main()
    text = (tmp_path / "RESULTS.md").read_text()
    assert (
        "| small net, `small_net.py` | 99.70 | 99.71 | 99.71, 99.69, 99.75 | 29, 31, 25 | 1,000 | "
        "2,000 | 30 of 30 | 11.0 |\n" in text
    )
    assert "`simard.py` | 99.60 | not measured |" in text
    assert "\n2 configurations were tried, each for a few epochs" in text
    assert text.index("| second | 30 | 99.20 |") < text.index("| first | 30 | 99.00 |")
    assert "abacus" in text
    assert "results/vote.png" in text


def test_the_rows_of_the_book_that_need_patience(script_parts):
    """Each network that the table names is one of the script beside it."""
    from book import BOOK, ROWS

    for script, names in ROWS.items():
        assert (BOOK / script).exists()
        stems = {name.partition("-")[0] for name in names}
        assert all(stem in (BOOK / script).read_text() for stem in stems)

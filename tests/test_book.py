"""The experiments of the book: listed, run, stopped, resumed, and put into a table."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import tinyconv as tc
from tinyconv.cli import book, main
from tinyconv.engines import plan_engine
from tinyconv.engines.eager import EagerEngine

SCRIPTS = Path(__file__).parents[1] / "examples" / "book"


@pytest.fixture(scope="module")
def script(tmp_path_factory):
    """What gives the command that runs a script, on few digits."""
    digits = tmp_path_factory.mktemp("digits") / "digits.npz"
    parts = {}
    names = ("train", "validation", "test")
    for name, (x, y), count in zip(names, tc.data.load(), (60, 20, 40), strict=True):
        parts[f"x_{name}"] = np.rint(x[:count] * 255).astype(np.uint8)
        parts[f"y_{name}"] = y[:count]
    np.savez(digits, **parts)

    def command(name, *arguments):
        return [sys.executable, str(SCRIPTS / name), "--data", str(digits), *arguments]

    return command


def status_here(command):
    """Run a script in this process, which has imported everything; return its status."""
    return book._execute(Path(command[1]), command[2:])


def lines(folder, name):
    return [json.loads(line) for line in (folder / f"{name}.jsonl").read_text().splitlines()]


def test_the_list_names_every_experiment(capsys):
    assert main(["book"]) == 0
    listed = capsys.readouterr().out.splitlines()
    numbered = sorted(path.name for path in SCRIPTS.glob("[0-9]*.py"))
    assert len(listed) == len(numbered) + 2
    for line, path in zip(listed, numbered, strict=False):
        name, about = line.split(maxsplit=1)
        assert name == path[3:-3].replace("_", "-")
        assert len(about) > 20
    assert "--quick" in listed[-1]


def test_an_unknown_experiment_and_scripts_that_are_missing(capsys, monkeypatch, tmp_path):
    assert main(["book", "quantum"]) == 1
    assert "no experiment 'quantum', expected one of " in capsys.readouterr().err
    monkeypatch.setattr(book, "PLACES", (tmp_path / "nowhere",))
    assert main(["book"]) == 1
    assert "nowhere: no such folder; the experiments are not installed" in capsys.readouterr().err


def test_a_run_is_recorded_and_not_repeated(script, tmp_path, capsys):
    command = script("02_fully_connected.py", "--epochs", "2", "--out", str(tmp_path))
    assert status_here(command) == 0
    assert "epoch 1/2" in capsys.readouterr().err
    (result,) = lines(tmp_path / "results", "fully-connected")
    history = tc.History.from_csv((tmp_path / "results" / "fully-connected-0.csv").read_text())
    best = max(history["val_accuracy"])
    chosen = [row for row in history if row["val_accuracy"] == best][-1]
    assert result["test"] == pytest.approx(chosen["test_accuracy"])
    assert result["best_epoch"] == chosen["epoch"]
    assert (result["epochs"], result["planned"], result["seed"]) == (2, 2, 0)
    net = tc.load(tmp_path / "fully-connected-0" / "model.safetensors")
    validation = tc.data.load(command[3]).validation
    assert net.evaluate(*validation)["accuracy"] == pytest.approx(best)

    assert status_here(command) == 0
    assert "epoch 1/2" not in capsys.readouterr().err
    assert lines(tmp_path / "results", "fully-connected") == [result]
    assert status_here([*command, "--seed", "1"]) == 0
    assert [line["seed"] for line in lines(tmp_path / "results", "fully-connected")] == [0, 1]


def test_a_run_that_is_interrupted_continues(script, tmp_path, capsys):
    command = script("02_fully_connected.py", "--epochs", "5000", "--out", str(tmp_path))
    running = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    checkpoint = tmp_path / "fully-connected-0" / "checkpoint.safetensors"
    for _ in range(600):
        if checkpoint.exists():
            break
        time.sleep(0.1)
    running.send_signal(signal.SIGINT)
    out, err = running.communicate(timeout=60)
    assert running.returncode == 130, err
    assert "stopped; start it again to continue" in out
    (part,) = lines(tmp_path / "results", "fully-connected")
    assert 1 <= part["epochs"] < part["planned"] == 5000
    more = str(part["epochs"] + 1)
    command[command.index("5000")] = more
    assert status_here(command) == 0
    assert capsys.readouterr().err.count("epoch ") == 1
    (whole,) = lines(tmp_path / "results", "fully-connected")
    assert whole["epochs"] == whole["planned"] == int(more)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("08_pooling.py", ["--only", "conv-conv-relu-average"]),
        ("10_expanded_wide.py", ["--only", "expanded-300"]),
        ("14_distorted.py", []),
    ],
)
def test_variants_expanded_and_distorted_data(name, arguments, script, tmp_path, monkeypatch):
    """By the layers one by one: kernels of this size would take longer to compile."""
    monkeypatch.setattr(plan_engine, "PlanEngine", EagerEngine)
    command = script(name, "--epochs", "1", "--out", str(tmp_path), *arguments)
    assert status_here(command) == 0
    (path,) = (tmp_path / "results").glob("*.jsonl")
    assert path.stem == (arguments or ["", "distorted"])[1]


def test_the_command_runs_a_script_on_a_tenth_of_the_epochs(tmp_path):
    """On MNIST itself there is no time here, so a script is put in the place of the real one."""
    place = tmp_path / "examples"
    place.mkdir()
    (place / "01_echo.py").write_text('"""Says what it was asked."""\nimport sys\nprint(sys.argv)')
    program = f"import pathlib; from tinyconv.cli import book, main; \
        book.PLACES = (pathlib.Path({str(place)!r}),); raise SystemExit(main())"
    command = [sys.executable, "-c", program, "book", "echo", "--quick", "--seed", "3"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "'--seed', '3'" in done.stdout
    assert "'--quick'" in done.stdout


def test_the_table(tmp_path):
    results = tmp_path / "results"
    results.mkdir()
    for name, tests, epochs in (("conv", (0.985, 0.99, 0.988), 60), ("expanded", (0.9931,), 31)):
        (results / f"{name}.jsonl").write_text(
            "".join(
                json.dumps(
                    {
                        "seed": seed,
                        "test": test,
                        "epochs": epochs,
                        "planned": 60,
                        "seconds": 90.0,
                        "machine": "abacus",
                    }
                )
                + "\n"
                for seed, test in enumerate(tests)
            )
        )
    program = f"import sys; sys.path.insert(0, {str(SCRIPTS)!r}); import make_table; \
        make_table.HERE = __import__('pathlib').Path({str(tmp_path)!r}); make_table.main()"
    environment = dict(os.environ, PYTHONDONTWRITEBYTECODE="1")
    subprocess.run(
        [sys.executable, "-c", program, str(results)], check=True, env=environment, timeout=60
    )
    table = (tmp_path / "RESULTS.md").read_text()
    assert (
        "| conv-pool, 100 sigmoid units | 98.78 | 98.80 | +0.02 | 98.50, 99.00, 98.80 | "
        "60 of 60 | 1.5 |\n" in table
    )
    assert "| expanded data | 99.37 | 99.31 | -0.06 | 99.31 | 31 of 60 | 1.5 |\n" in table
    assert "| vote of 5 such nets | 99.67 | not measured |" in table
    assert "Machine: abacus." in table


def test_the_vote_and_what_it_gets_wrong(script, tmp_path, capsys):
    command = script("13_vote.py", "--epochs", "1", "--out", str(tmp_path))
    assert status_here(command) == 0
    (result,) = lines(tmp_path / "results", "vote")
    nets = [tc.load(tmp_path / f"dropout-1000-{seed}" / "model.safetensors") for seed in range(5)]
    assert result["test"] == tc.Ensemble(nets).evaluate(*tc.data.load(command[3]).test)["accuracy"]
    assert (result["epochs"], result["planned"]) == (1, 40)
    assert (tmp_path / "results" / "vote.png").stat().st_size > 1000
    assert f"vote of 5 networks: test accuracy {result['test']:.2%}" in capsys.readouterr().out


def test_several_seeds_have_processes_of_their_own(tmp_path, monkeypatch, capsys):
    (tmp_path / "01_note.py").write_text(
        '"""Notes its seed."""\nimport pathlib, sys\nout, seed = sys.argv[2], sys.argv[4]\n'
        'if seed == "5":\n    raise RuntimeError("no more paper")\n'
        "pathlib.Path(out, seed).touch()\n"
    )
    monkeypatch.setattr(book, "PLACES", (tmp_path,))
    arguments = ["book", "note", "--out", str(tmp_path), "--seed"]
    assert main([*arguments, "3", "4"]) == 0
    assert (tmp_path / "3").exists()
    assert (tmp_path / "4").exists()
    assert main([*arguments, "5", "6"]) == 1
    assert (tmp_path / "6").exists()
    assert capsys.readouterr().err == "tinyconv: seed 5: no more paper\n"

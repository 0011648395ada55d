"""``tinyconv train`` as a user runs it: what it writes, how it stops, how it resumes."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import tinyconv as tc
from tinyconv.cli import main
from tinyconv.training import checkpoint

#: The command in a process of its own, without the picture of a run: see conftest.py.
PROGRAM = (
    "from tinyconv.cli import main, train; train._pictured = lambda *arguments: False; "
    "raise SystemExit(main())"
)
QUICK = ["train", "--net", "nielsen-conv-softmax", "--batch-size", "50"]


def run(*arguments: str, **more: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        **more,  # type: ignore[call-overload]
    )


def start(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def weights(folder: Path) -> dict[str, np.ndarray]:
    return tc.load(folder / "model.safetensors").state_dict()


def assert_same(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> None:
    assert one.keys() == other.keys()
    for name in one:
        assert np.array_equal(one[name], other[name]), name


def figures(folder: Path) -> list[tuple[str, ...]]:
    """The history without the columns that time decides."""
    rows = (folder / "history.csv").read_text().splitlines()
    names = rows[0].split(",")
    kept = [k for k, n in enumerate(names) if n not in ("seconds", "samples_per_second")]
    return [tuple(row.split(",")[k] for k in kept) for row in rows]


def test_a_run_writes_model_history_and_picture(tmp_path, capsys, pictures_of_runs):
    folder = tmp_path / "run"
    assert main([*QUICK, "--epochs", "2", "--out", str(folder)]) == 0
    printed = capsys.readouterr()
    assert {path.name for path in folder.iterdir()} == {
        "model.safetensors",
        "history.csv",
        "training.png",
        "run.json",
        "checkpoint",
    }
    assert (folder / "training.png").read_bytes().startswith(b"\x89PNG")
    assert len((folder / "history.csv").read_text().splitlines()) == 3
    assert re.search(r"test accuracy \d\d\.\d\d% on 1,000 samples", printed.out)
    assert "epoch 2/2" in printed.err


def test_the_accuracy_that_is_printed_is_the_models(tmp_path, capsys):
    folder = tmp_path / "run"
    main([*QUICK, "--epochs", "1", "--out", str(folder)])
    printed = re.search(r"test accuracy ([\d.]+)%", capsys.readouterr().out)
    assert printed is not None
    measured = tc.load(folder / "model.safetensors").evaluate(*tc.data.load().test)["accuracy"]
    assert float(printed[1]) == pytest.approx(100 * measured, abs=0.005)


def test_equal_seeds_give_equal_bits_and_other_seeds_do_not(tmp_path):
    for name, seed in (("a", "3"), ("b", "3"), ("c", "4")):
        main([*QUICK, "--epochs", "1", "--seed", seed, "--out", str(tmp_path / name)])
    assert_same(weights(tmp_path / "a"), weights(tmp_path / "b"))
    assert not np.array_equal(
        weights(tmp_path / "a")["0.weight"], weights(tmp_path / "c")["0.weight"]
    )


def test_resume_after_ctrl_c_continues_bit_for_bit(tmp_path):
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    settings = [*QUICK[:3], "--epochs", "3", "--batch-size", "10"]
    assert main([*settings, "--out", str(whole)]) == 0

    process = start(*settings, "--out", str(stopped))
    while not checkpoint.exists(stopped / "checkpoint"):
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert f"tinyconv train --resume {stopped}" in out

    assert main(["train", "--resume", str(stopped)]) == 0
    assert_same(weights(whole), weights(stopped))
    assert figures(whole) == figures(stopped)


def test_kill_loses_at_most_the_current_epoch(tmp_path, capsys):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    settings = [*QUICK, "--epochs", "4"]
    assert main([*settings, "--out", str(whole)]) == 0

    process = start(*settings, "--out", str(killed))
    assert process.stderr is not None
    finished = [line for line, _ in zip(process.stderr, range(2), strict=False)]
    assert finished[1].startswith("epoch 2/4")
    process.kill()
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL

    capsys.readouterr()
    assert main(["train", "--resume", str(killed)]) == 0
    # The line of epoch 2 is printed before its checkpoint is written, so epoch 2 may be lost.
    assert capsys.readouterr().err.startswith(("epoch 2/4", "epoch 3/4", "epoch 4/4"))
    assert_same(weights(whole), weights(killed))


def test_resume_can_raise_the_epochs_and_nothing_else(tmp_path, capsys):
    folder = tmp_path / "run"
    main([*QUICK, "--epochs", "1", "--out", str(folder)])
    assert main(["train", "--resume", str(folder), "--epochs", "2"]) == 0
    assert len((folder / "history.csv").read_text().splitlines()) == 3
    capsys.readouterr()
    for arguments, message in (
        (["--lr", "0.5"], "--lr cannot be changed on --resume"),
        (["--epochs", "1"], "--epochs can only be raised; the run has 2"),
    ):
        with pytest.raises(SystemExit) as exit_:
            main(["train", "--resume", str(folder), *arguments])
        assert exit_.value.code == 2
        assert message in capsys.readouterr().err


def test_a_run_does_not_overwrite_another(tmp_path, capsys):
    folder = tmp_path / "run"
    main([*QUICK, "--epochs", "1", "--out", str(folder)])
    before = weights(folder)
    with pytest.raises(SystemExit) as exit_:
        main([*QUICK, "--epochs", "1", "--seed", "5", "--out", str(folder)])
    assert exit_.value.code == 2
    assert "holds a run already" in capsys.readouterr().err
    assert_same(before, weights(folder))


@pytest.mark.parametrize(
    "arguments",
    [
        ["train", "--lr", "0"],
        ["train", "--lr", "nan"],
        ["train", "--epochs", "-1"],
        ["train", "--batch-size", "1.5"],
        ["train", "--weight-decay", "-1"],
        ["train", "--data", "imagenet"],
        ["train", "--net", "transformer"],
        ["train", "--device", "tpu"],
        ["retrain"],
        [],
    ],
)
def test_wrong_usage_exits_2_with_one_message(arguments, capsys):
    with pytest.raises(SystemExit) as exit_:
        main(arguments)
    assert exit_.value.code == 2
    assert "error:" in capsys.readouterr().err.splitlines()[-1]


def test_a_failure_is_one_line_and_debug_shows_the_traceback(tmp_path, capsys):
    arguments = ["train", "--resume", str(tmp_path / "nothing")]
    assert main(arguments) == 1
    assert capsys.readouterr().err == (
        f"tinyconv: {tmp_path / 'nothing'}: no checkpoint to resume from\n"
    )
    assert main([*arguments, "--debug"]) == 1
    assert "Traceback" in capsys.readouterr().err


def test_a_damaged_checkpoint_is_refused(tmp_path, capsys):
    folder = tmp_path / "run"
    main([*QUICK, "--epochs", "1", "--out", str(folder)])
    (folder / "run.json").write_text("{")
    assert main(["train", "--resume", str(folder)]) == 1
    assert "run.json: missing or damaged" in capsys.readouterr().err
    (folder / "run.json").write_text(json.dumps({"data": "mnist-sample"}))
    assert main(["train", "--resume", str(folder)]) == 1
    assert "run.json: its description is damaged" in capsys.readouterr().err


def test_no_data_and_no_network_is_one_clear_message(tmp_path):
    env = dict(os.environ, TINYCONV_DATA=str(tmp_path), XDG_CACHE_HOME=str(tmp_path))
    result = run("train", "--data", "mnist", cwd=tmp_path, env=env)
    assert result.returncode == 1
    assert len(result.stderr.splitlines()) == 1
    assert result.stdout == ""
    assert not (tmp_path / "runs").exists()


@pytest.mark.skipif(tc.backend.gpu_is_available(), reason="there is a GPU")
def test_a_missing_gpu_names_what_to_install(tmp_path, capsys):
    assert main([*QUICK, "--device", "gpu", "--out", str(tmp_path / "run")]) == 1
    assert 'pip install "tinyconv[cuda12]"' in capsys.readouterr().err

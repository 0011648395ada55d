"""Faults around a run on the command line: other processes, signals, disks, terminals."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from test_train import PROGRAM, QUICK, run, start

import tinyconv as tc
from tinyconv.cli import book, main
from tinyconv.training import checkpoint


def wait_for_a_checkpoint(process: subprocess.Popen[str], folder: Path) -> None:
    while not checkpoint.exists(folder / "checkpoint"):
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)


def test_two_runs_begun_in_one_second_have_a_folder_each(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(time, "strftime", lambda form: "20260101-000000")
    for _ in range(2):
        assert main([*QUICK, "--epochs", "1"]) == 0
    names = sorted(path.name for path in (tmp_path / "runs").iterdir())
    assert names == [
        f"nielsen-conv-softmax-mnist-sample-20260101-000000{end}" for end in ("", "-2")
    ]


def test_a_folder_with_foreign_files_is_refused(tmp_path, capsys):
    (tmp_path / "letter.txt").write_text("dear")
    with pytest.raises(SystemExit) as exit_:
        main([*QUICK, "--out", str(tmp_path)])
    assert exit_.value.code == 2
    assert "holds files already, letter.txt for one" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["letter.txt"]


def test_one_process_resumes_a_run_and_signals_save_it(tmp_path, capsys):
    """SIGTERM ends a job, SIGHUP comes from a terminal that was closed."""
    folder = tmp_path / "run"
    for name in ("SIGTERM", "SIGHUP"):
        number = getattr(signal, name)
        how = ["--resume", str(folder)] if folder.exists() else ["--out", str(folder)]
        how += ["--epochs", "1000"] if "--out" in how else []
        inherited = signal.signal(number, signal.SIG_DFL)  # else nohup's ignoring reaches the job
        process = start(*(QUICK if "--out" in how else QUICK[:1]), *how)
        signal.signal(number, inherited)
        wait_for_a_checkpoint(process, folder)
        assert process.stderr is not None
        process.stderr.readline()  # of an epoch: it trains
        assert main(["train", "--resume", str(folder)]) == 1
        assert "another process is at work in it" in capsys.readouterr().err
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
        assert process.returncode == 128 + number, err
        assert f"tinyconv train --resume {folder}" in out
    assert tc.load(folder).position.epoch > 0
    assert not list(folder.rglob(".*"))


def test_a_book_experiment_ends_with_its_command(tmp_path):
    """Nothing goes on training behind a command that was stopped or killed."""
    (tmp_path / "01_wait.py").write_text(
        '"""Waits."""\nimport os, time\nprint(os.getpid(), flush=True)\ntime.sleep(60)\n'
    )
    program = (
        "from pathlib import Path; from tinyconv.cli import book, main; import sys\n"
        f"book.PLACES = (Path({str(tmp_path)!r}),)\nsys.exit(main(['book', 'wait']))"
    )
    for number in (signal.SIGTERM, signal.SIGKILL):
        process = subprocess.Popen(
            [sys.executable, "-c", program], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        assert int(process.stdout.readline()) == process.pid
        process.send_signal(number)
        assert process.wait(timeout=30) == -number
        process.stdout.close()


@pytest.mark.parametrize(("ending", "status"), [("3", 3), ("", 0), ("'no data'", 1)])
def test_the_status_of_a_book_experiment(tmp_path, monkeypatch, ending, status):
    (tmp_path / "01_end.py").write_text(f'"""Ends."""\nimport sys\nsys.exit({ending})\n')
    monkeypatch.setattr(book, "PLACES", (tmp_path,))
    before = sys.argv, [*sys.path]
    assert main(["book", "end"]) == status
    assert (sys.argv, sys.path) == before


def test_a_kill_while_resuming_leaves_a_run_that_resumes(tmp_path, monkeypatch):
    folder = tmp_path / "run"
    assert main([*QUICK, "--epochs", "1", "--out", str(folder)]) == 0

    class Killed(BaseException):
        pass

    def killed(*arguments):
        raise Killed

    for call in ("os.fsync", "pathlib.Path.replace"):
        with monkeypatch.context() as patched:
            patched.setattr(call, killed)
            with pytest.raises(Killed):
                main(["train", "--resume", str(folder), "--epochs", "2"])
    assert json.loads((folder / "run.json").read_text())["epochs"] == 1
    assert main(["train", "--resume", str(folder), "--epochs", "2"]) == 0


def test_a_folder_that_vanished_is_a_failure(tmp_path, monkeypatch, capsys):
    folder = tmp_path / "run"
    finished = tc.ProgressBar.on_epoch_end

    def vanish(self, training):
        finished(self, training)
        shutil.rmtree(folder)

    monkeypatch.setattr(tc.ProgressBar, "on_epoch_end", vanish)
    assert main([*QUICK, "--epochs", "1", "--out", str(folder)]) == 1
    assert "there is no folder" in capsys.readouterr().err


def test_a_reader_of_the_progress_who_leaves_does_not_stop_the_training(tmp_path):
    process = start(*QUICK, "--epochs", "3", "--out", str(tmp_path / "run"))
    assert process.stderr is not None
    process.stderr.close()
    process.stderr = None
    process.communicate(timeout=120)
    assert process.returncode == 0
    assert tc.load(tmp_path / "run").position.epoch == 3


def test_a_program_without_standard_error(tmp_path):
    program = PROGRAM.replace("; raise", "; import sys; sys.stderr = None; raise")
    done = subprocess.run(
        [sys.executable, "-c", program, *QUICK, "--epochs", "1", "--out", str(tmp_path / "run")],
        timeout=120,
        stdout=subprocess.DEVNULL,
        check=False,
    )
    assert done.returncode == 0


def test_a_machine_that_cannot_draw_has_trained_all_the_same(
    tmp_path, monkeypatch, capsys, pictures_of_runs
):
    def fail(*arguments):
        raise OSError("no usable temporary folder")

    monkeypatch.setattr("tinyconv.plots.training_report", fail)
    assert main([*QUICK, "--epochs", "1", "--out", str(tmp_path / "run")]) == 0
    printed = capsys.readouterr()
    assert "no picture: no usable temporary folder" in printed.err
    assert printed.out.endswith("run/: model.safetensors, history.csv\n")


def test_help_on_a_terminal_of_ascii_letters():
    shown = run("--help", env={**os.environ, "PYTHONIOENCODING": "ascii"})
    assert shown.returncode == 0, shown.stderr
    assert "usage: tinyconv" in shown.stdout


def test_a_picture_without_an_ending_is_called_what_it_is(tmp_path, capsys):
    (tmp_path / "history.csv").write_text("epoch,loss,accuracy\n1,0.5,0.5\n2,0.4,0.6\n")
    curves = ["plot", "curves", str(tmp_path / "history.csv"), "-o", str(tmp_path / "x")]
    assert main(curves) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'x.png'}\n"
    assert (tmp_path / "x.png").exists()


def test_predict_takes_the_folder_of_a_run(tmp_path, capsys):
    from PIL import Image

    net = tc.models.nielsen_conv_softmax()
    net.save(tmp_path / "model.safetensors")
    image = (255 * tc.data.load().test.x[0, 0]).astype("uint8")
    Image.fromarray(image).save(tmp_path / "digit.png")
    assert main(["predict", str(tmp_path), str(tmp_path / "digit.png")]) == 0
    assert "digit.png: " in capsys.readouterr().out

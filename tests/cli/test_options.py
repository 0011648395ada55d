"""Mistakes on the command line: the last line of what is printed, with exit status 2."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tinyconv.cli import main

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("arguments", "end"),
    [
        ("trian", "; the nearest is 'train'"),
        ("plot curve", "; the nearest is 'curves'"),
        ("train --learning-rate 1", "there is no argument --learning-rate; it is called --lr here"),
        ("train --batchsize 3", "there is no argument --batchsize; the nearest is 'batch-size'"),
        ("train --momentum=0.9", "there is no argument --momentum=0.9"),
        ("train --lr nan", "argument --lr: 'nan', expected a number above 0"),
        ("train --lr=-1", "argument --lr: '-1', expected a number above 0"),
        ("train --lr fast", "argument --lr: 'fast', expected a number above 0"),
        ("train --weight-decay=-1", "'-1', expected a number of at least 0"),
        ("train --epochs 0", "argument --epochs: '0', expected an integer of at least 1"),
        ("train --epochs 1.5", "argument --epochs: '1.5', expected an integer of at least 1"),
        ("train --seed x", "argument --seed: 'x', expected an integer"),
        ("train --net lenet", "; the nearest is 'lenet5'"),
        ("train --data minst", "and no such path; the nearest is 'mnist'"),
        ("train --size 28xa", "argument --size: 'a', expected an integer of at least 1"),
        ("train --size 0", "argument --size: '0', expected an integer of at least 1"),
        ("train --sync-batch-norm", "needs processes that share a batch; use mpiexec -n"),
        ("train --channels 2", "(choose from 1, 3)"),
        ("train --device cuda", "; the nearest is 'gpu'"),
        ("plot mistakes m --limit 0", "--limit: '0', expected an integer of at least 1"),
        ("plot features m --index=-1", "--index: '-1', expected an integer of at least 0"),
        ("plot filters m --layer one", "--layer: 'one', expected an integer of at least 0"),
    ],
)
def test_a_mistake(arguments: str, end: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(arguments.split())
    assert exit_.value.code == 2
    quoted = end.replace("from 1, 3", "from '1', '3'")  # by Python 3.14
    assert capsys.readouterr().err.splitlines()[-1].endswith((end, quoted))


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
@pytest.mark.parametrize("module", ["numpy", "tinyconv.cli"])
def test_ctrl_c_during_the_imports_is_quiet(module: str) -> None:
    program = (
        "import builtins, os, signal; real = builtins.__import__\n"
        "def hooked(name, *more):\n"
        f"    if {module!r} in (name, f'{{name}}.{{(more[2] or [None])[0]}}'):\n"
        "        os.kill(os.getpid(), signal.SIGINT)\n"
        "    return real(name, *more)\n"
        "builtins.__import__ = hooked\n"
        "from tinyconv_command import main; raise SystemExit(main())"
    )
    command = [sys.executable, "-c", program, "nets"]
    done = subprocess.run(command, capture_output=True, cwd=ROOT, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGINT, b"", b"")


def test_the_command_runs_the_command_line() -> None:
    program = "from tinyconv_command import main; raise SystemExit(main())"
    command = [sys.executable, "-c", program, "nets", "--debgu"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 2
    assert done.stderr.endswith("there is no argument --debgu; the nearest is 'debug'\n")

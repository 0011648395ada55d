"""``mpiexec -n 2 tinyconv train``: real processes; what ranks do is tested in tests/training."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import tinyconv as tc
from tinyconv.training import checkpoint

pytestmark = pytest.mark.oracle

pytest.importorskip("mpi4py")
MPIEXEC, TINYCONV = (Path(sys.executable).parent / name for name in ("mpiexec", "tinyconv"))
if not MPIEXEC.exists():
    pytest.skip("no mpiexec beside this Python", allow_module_level=True)


def command(ranks: int, *arguments: object) -> list[str]:
    return [
        *(str(MPIEXEC), "-n", str(ranks), str(TINYCONV), "train"),
        *("--net", "nielsen-fully-connected", "--batch-size", "50", "--lr", "0.5"),
        *map(str, arguments),
    ]


def run(ranks: int, *arguments: object) -> str:
    done = subprocess.run(command(ranks, *arguments), capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_two_ranks_write_one_run_equal_to_that_of_one(tmp_path) -> None:
    said = run(2, "--epochs", 1, "--out", tmp_path / "two")
    assert said.count("on 2 ranks") == 1
    run(1, "--epochs", 1, "--out", tmp_path / "one")
    one, two = (tc.load(tmp_path / name) for name in ("one", "two"))
    np.testing.assert_allclose(two.parameters.flat, one.parameters.flat, rtol=1e-3, atol=1e-5)
    names = ["checkpoint", "history.csv", "model.safetensors", "run.json", "training.png"]
    assert sorted(path.name for path in (tmp_path / "two").iterdir()) == names


def children(pid: int) -> list[int]:
    """The process of a launcher and all below it."""
    path = Path(f"/proc/{pid}/task/{pid}/children")
    below = [int(child) for child in path.read_text().split()] if path.exists() else []
    return [pid, *(each for child in below for each in children(child))]


def is_rank(pid: int) -> bool:
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
    return str(TINYCONV).encode() in words[:2]


def check_gone(ranks: list[int]) -> None:
    """Wait until all ranks have ended, ten seconds at most."""
    killed = time.monotonic()
    while any(map(is_rank, ranks)):
        assert time.monotonic() - killed < 10
        time.sleep(0.01)


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="finds the ranks in /proc")
def test_a_killed_rank_ends_all_and_the_run_goes_on_where_it_was_saved(tmp_path) -> None:
    out = tmp_path / "run"
    started = subprocess.Popen(
        command(2, "--epochs", 40, "--out", out), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    while not checkpoint.exists(out / "checkpoint"):
        assert started.poll() is None
        time.sleep(0.05)
    ranks = [pid for pid in children(started.pid) if is_rank(pid)]
    assert len(ranks) == 2
    os.kill(ranks[1], signal.SIGKILL)
    check_gone(ranks)
    started.communicate(timeout=60)
    assert started.returncode != 0
    _, state = checkpoint.read_state(out / "checkpoint")
    saved = state["position"]["epoch"]
    assert saved >= 1
    resumed = [str(MPIEXEC), "-n", "1", str(TINYCONV), "train"]
    resumed += ["--resume", str(out), "--epochs", str(max(40, saved + 1))]
    done = subprocess.run(resumed, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "began with ranks 2 and goes on with 1" in done.stderr
    assert tc.load(out).position.epoch == max(40, saved + 1)


def test_an_error_of_a_rank_ends_all_with_its_text_and_the_run_goes_on(tmp_path) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        "import numpy as np, tinyconv as tc\n"
        "from mpi4py import MPI\n"
        "comm = MPI.COMM_WORLD\n"
        "class Fail(tc.Callback):\n"
        "    def on_batch_end(self, training):\n"
        "        if comm.size == 2 and comm.rank == 1 and training.position.step == 7:\n"
        "            raise RuntimeError('no more paper')\n"
        "net = tc.Sequential(tc.Linear(4, 6), tc.BatchNorm1d(6), tc.Linear(6, 2), seed=0)\n"
        "x = np.random.default_rng(0).random((8, 4), dtype='f')\n"
        "net.fit(x, np.arange(8) % 2, comm=comm, callbacks=[Fail()], epochs=5, batch_size=3,\n"
        f"        sync_batch_norm=True, checkpoint={str(tmp_path / 'run')!r}, resume=True)\n"
    )

    def started(ranks: int) -> subprocess.CompletedProcess[str]:
        words = [str(MPIEXEC), "-n", str(ranks), sys.executable, str(program)]
        return subprocess.run(words, capture_output=True, text=True, timeout=120)

    failed = started(2)
    assert failed.returncode != 0
    assert "rank 1 ends all ranks: RuntimeError('no more paper')" in failed.stderr
    assert checkpoint.read_state(tmp_path / "run")[1]["position"]["epoch"] == 2
    # On another number of ranks it goes on.
    assert started(3).returncode == 0
    assert checkpoint.read_state(tmp_path / "run")[1]["position"]["epoch"] == 5


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="finds the ranks in /proc")
def test_twenty_kills_at_random_moments_lose_no_epoch_and_hang_never(tmp_path) -> None:
    rng = np.random.default_rng(0)
    out, finished = tmp_path / "run", 0
    for _ in range(20):
        begin = command(2, "--epochs", 1000, "--out", out)
        if checkpoint.exists(out / "checkpoint"):
            begin = [str(MPIEXEC), "-n", "2", str(TINYCONV), "train", "--resume", str(out)]
        started = subprocess.Popen(begin, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        ranks: list[int] = []
        while len(ranks) < 2:
            ranks = [pid for pid in children(started.pid) if is_rank(pid)]
        time.sleep(rng.uniform(0, 6))
        os.kill(int(rng.choice(ranks)), signal.SIGKILL)
        check_gone(ranks)
        started.wait(timeout=10)
        if checkpoint.exists(out / "checkpoint"):
            epoch = checkpoint.read_state(out / "checkpoint")[1]["position"]["epoch"]
            assert epoch >= finished
            finished = epoch
        elif out.exists():
            shutil.rmtree(out)  # nothing was trained
    assert finished > 0

"""Files of arrays: whole or not at all, read or refused, one process at a time."""

import errno
import os
import subprocess
import sys
import threading
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tinyconv as tc
from tinyconv import files
from tinyconv.errors import FileError

X, Y = np.eye(8, dtype=np.float32), np.arange(8) % 3


def net(seed: int = 0) -> tc.Sequential:
    return tc.Sequential([tc.Linear(8, 3)], seed=seed)


def train(folder: Path, **how: Any) -> tc.History:
    settings: dict[str, Any] = {"epochs": 2, "verbose": False, "engine": "eager"}
    return net().fit(X, Y, checkpoint=folder, **{**settings, **how})


# One process at a time.


def test_a_folder_is_locked_for_threads_and_processes(tmp_path: Path) -> None:
    code = (
        "import sys; from tinyconv import files\n"
        "with files.locked(sys.argv[1]): print('in', flush=True); sys.stdin.read()\n"
    )
    with (
        subprocess.Popen(
            [sys.executable, "-c", code, str(tmp_path / "run")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        ) as other,
    ):
        assert other.stdout is not None
        assert other.stdout.readline() == b"in\n"
        with pytest.raises(FileError, match="run: another process is at work in it"):
            train(tmp_path / "run")
        other.kill()  # the lock ends with the process
        other.wait()
    train(tmp_path / "run")
    with (
        files.locked(tmp_path / "run"),
        pytest.raises(FileError, match="another process"),
        files.locked(tmp_path / "run"),
    ):
        pass
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["checkpoint.safetensors"]


def test_a_lock_where_a_file_is(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(FileError, match="file: is a file, expected a folder"):
        train(tmp_path / "file")


def test_a_run_does_not_overwrite_the_checkpoint_of_another(tmp_path: Path) -> None:
    train(tmp_path)
    before = (tmp_path / "checkpoint.safetensors").read_bytes()
    with pytest.raises(FileError, match="holds the checkpoint of a run already; resume=True"):
        train(tmp_path)
    assert (tmp_path / "checkpoint.safetensors").read_bytes() == before


def test_two_fits_of_one_net_at_once() -> None:
    one = net()
    seen: list[str] = []

    class Again(tc.Callback):
        def on_epoch_begin(self, training: Any) -> None:
            with pytest.raises(tc.StateError, match="is being trained already, by another fit"):
                one.fit(X, Y, verbose=False)
            seen.append("refused")

    one.fit(X, Y, verbose=False, callbacks=[Again()])
    one.fit(X, Y, verbose=False)  # and it is free again
    assert seen == ["refused"]


# Whole or not at all.


def test_threads_that_write_one_file_do_not_tear_it(tmp_path: Path) -> None:
    nets, stop, torn = [net(seed) for seed in range(3)], threading.Event(), []
    nets[0].save(tmp_path / "net")

    def save(each: tc.Sequential) -> None:
        while not stop.is_set():
            each.save(tmp_path / "net")

    threads = [threading.Thread(target=save, args=(each,)) for each in nets]
    for thread in threads:
        thread.start()
    try:
        for _ in range(100):
            weights = tc.load(tmp_path / "net").parameters.flat
            torn.append(not any((weights == each.parameters.flat).all() for each in nets))
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert not any(torn)
    assert [path.name for path in tmp_path.iterdir()] == ["net"]


def test_what_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="is a folder, expected the name of a file"):
        net().save(tmp_path)
    (tmp_path / "file").write_text("mine")
    with pytest.raises(FileError, match="file/net: its folder is a file"):
        net().save(tmp_path / "file" / "net")
    with pytest.raises(FileError, match=r"net: there is no folder .*nowhere"):
        files.write(tmp_path / "nowhere" / "net", b"")


def test_a_full_disk_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match=r"No space left on device: .*/net'$"):
        net().save(tmp_path / "net")
    assert [*tmp_path.iterdir()] == []


def test_what_a_killed_process_left_is_removed(tmp_path: Path) -> None:
    left, fresh = tmp_path / ".net.4711-1", tmp_path / ".net.4712-1"
    left.write_bytes(b"half")
    fresh.write_bytes(b"half")
    os.utime(left, (0, 0))
    net().save(tmp_path / "net")
    assert not left.exists()
    assert fresh.exists()  # of a process that may be writing it now


# Read or refused.


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(FileError, match="it is a folder or a device"):
        tc.load(tmp_path / "pipe")


@pytest.mark.parametrize("place", [-1, -10, -60])
def test_a_bit_that_flipped_in_the_numbers(tmp_path: Path, place: int) -> None:
    train(tmp_path)
    net().save(tmp_path / "net")
    for name in ("net", "checkpoint.safetensors"):
        data = bytearray((tmp_path / name).read_bytes())
        data[place] ^= 1
        (tmp_path / name).write_bytes(data)
    with pytest.raises(FileError, match="its checksum is not that of its content"):
        tc.load(tmp_path / "net")
    with pytest.raises(FileError, match="its checksum is not that of its content"):
        train(tmp_path, resume=True)


def described(path: Path, change: dict[str, Any]) -> None:
    """Change the description in a file, with the right checksum."""
    tensors, about = files.read_tensors(path, "network")
    files.write_tensors(path, tensors, {**about, **change})


CLAIMS: list[list[tuple[str, dict[str, Any]]]] = [
    [("Upsample", {"scale_factor": 10**6})],
    [("Upsample", {"size": 10**9, "mode": "bilinear"})],
    [("LocalResponseNorm", {"size": 10**9})],
    [("Pad", {"padding": 10**9, "mode": "replicate"})],
    [("BatchNorm1d", {"num_features": 10**8})] * 50,
    [("BatchNorm1d", {"num_features": 10**8, "affine": False})] * 50,
    [("Linear", {"in_features": 8, "out_features": 10**12})] * 2,
]


def test_sizes_that_a_file_merely_claims_cost_nothing(tmp_path: Path) -> None:
    """All of them in a process that may have a quarter of a gigabyte more, and some seconds."""
    path = tmp_path / "net"
    net().save(path)
    _, about = files.read_tensors(path, "network")
    code = (
        "import resource, sys, tinyconv as tc\n"
        "used = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize()\n"
        "resource.setrlimit(resource.RLIMIT_AS, (used + 2**28, -1))\n"
        "resource.setrlimit(resource.RLIMIT_CPU, (10, 10))\n"
        "for path in sys.argv[1:]:\n"
        "    try: tc.load(path)\n"
        "    except tc.FileError as error: print(error)\n"
    )
    paths = []
    for number, (layers, shape) in enumerate(product(CLAIMS, (None, [1, 4, 4], [8]))):
        head = [{"layer": kind, "config": config} for kind, config in layers]
        paths.append(str(tmp_path / f"net{number}"))
        (tmp_path / f"net{number}").write_bytes(path.read_bytes())
        described(
            tmp_path / f"net{number}",
            {"layers": [*head, *about["layers"]], "input_shape": shape},
        )
    run = subprocess.run(
        [sys.executable, "-c", code, *paths], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    assert "memory" not in run.stdout
    assert "allocate" not in run.stdout


@pytest.mark.parametrize(
    "change",
    [
        {"seed": float("inf")},
        {"seed": 1.5},
        {"seed": True},
        {"epochs": "3"},
        {"epochs": -1},
        {"steps": None},
        {"loss": 3},
        {"loss_config": [1]},
        {"input_shape": [0]},
        {"input_shape": [8.0]},
        {"input_shape": {"0": 8}},
        {"layers": [[]]},
        {"layers": ["ReLU"]},
        {"dtype": ["float32"]},
        {"surprise": 1},
        {"layers": [{"layer": "Linear", "config": {"in_features": [], "out_features": {}}}]},
        {"layers": [{"layer": "Residual", "config": {"body": 3, "shortcut": 4}}]},
        {"layers": [{"layer": "Linear", "config": 7}]},
        {"loss": "SoftmaxLogLikelihood", "loss_config": {"weight": {"a": 1}}},
        {"loss": "Hinge", "loss_config": {"margin": "wide"}},
    ],
)
def test_descriptions_of_the_wrong_type(tmp_path: Path, change: dict[str, Any]) -> None:
    net().save(tmp_path / "net")
    described(tmp_path / "net", change)
    with pytest.raises(FileError) as caught:
        tc.load(tmp_path / "net")
    assert str(tmp_path / "net") in str(caught.value)


# The same data, the same threads.


def test_other_data_of_equal_size_are_refused_on_resuming(tmp_path: Path) -> None:
    train(tmp_path)
    for x, y, what in ((X[::-1], Y, "x"), (X, Y[::-1], "y"), (X.astype("f8"), Y, "x")):
        with pytest.raises(FileError, match=rf"made with {what} \(fingerprint\)"):
            net().fit(
                x, y, checkpoint=tmp_path, resume=True, epochs=3, verbose=False, engine="eager"
            )


def test_another_number_of_threads_is_said_on_resuming(tmp_path: Path) -> None:
    tc.set_num_threads(1)
    try:
        train(tmp_path)
        tc.set_num_threads(2)
        with pytest.warns(UserWarning, match="the run began with threads 1 and goes on with 2"):
            train(tmp_path, resume=True, epochs=3)
    finally:
        tc.set_num_threads(None)

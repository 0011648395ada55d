"""A run that is killed at any write, sync or rename, and resumed, ends with the same bits."""

import os
import pathlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_run import SAMPLES, network, run

import tinyconv as tc
from tinyconv.training import checkpoint as checkpoints

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # of forking a process with threads
]

EPOCHS = 2
HOW: dict[str, Any] = {"epochs": EPOCHS, "engine": "eager", "batch_size": SAMPLES}


def hooks(kill_at: int) -> Iterator[tuple[Any, str, Any]]:
    """Yield what to patch so that the process dies, with no farewell, at the call of this number.

    A write dies when half of it is on the disk.
    """
    count = 0

    def dies() -> bool:
        nonlocal count
        count += 1
        return count == kill_at

    opened, renamed, synced, removed = (
        pathlib.Path.open, pathlib.Path.replace, os.fsync, pathlib.Path.unlink
    )  # fmt: skip

    def open_(path: Path, mode: str = "r", *more: Any) -> Any:
        file = opened(path, mode, *more)
        if "w" in mode and dies():
            write = file.write
            file = Half(file, write)
        return file

    class Half:
        def __init__(self, file: Any, write: Any) -> None:
            self.file, self.half = file, write

        def __enter__(self) -> "Half":
            return self

        def __exit__(self, *error: object) -> None:
            os._exit(9)

        def write(self, data: bytes) -> None:
            self.half(data[: len(data) // 2])
            self.file.flush()
            os._exit(9)

    def before(call: Any) -> Any:
        def hooked(*arguments: Any, **named: Any) -> Any:
            if dies():
                os._exit(9)
            result = call(*arguments, **named)
            if dies():
                os._exit(9)
            return result

        return hooked

    yield pathlib.Path, "open", open_
    yield pathlib.Path, "replace", before(renamed)
    yield pathlib.Path, "unlink", before(removed)
    yield os, "fsync", before(synced)


def train(folder: Path, kill_at: int = 0) -> bool:
    """Train in a child that is killed at a call; return whether it came to its end."""
    child = os.fork()
    if child == 0:
        status = 8
        try:
            for owner, name, hooked in hooks(kill_at):
                setattr(owner, name, hooked)
            run(network(), **HOW, checkpoint=folder, resume=True)
            status = 0
        finally:
            os._exit(status)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert status in (0, 9)
    return status == 0


def test_killed_at_every_write_sync_and_rename(tmp_path: Path) -> None:
    net = network()
    run(net, **HOW)
    calls = 0
    while True:
        calls += 1
        folder = tmp_path / str(calls)
        if train(folder, kill_at=calls):
            break
        train(folder, kill_at=1 + calls % 7)  # the resumed run is killed too
        assert train(folder)
        tensors, state = checkpoints.read_state(folder)
        assert state["position"]["epoch"] == EPOCHS
        for name, values in net.state_dict().items():
            np.testing.assert_array_equal(tensors[f"network.{name}"], values)
        assert [path.name for path in folder.iterdir()] == ["checkpoint.safetensors"]
    assert calls > 8 * EPOCHS  # every epoch opens, writes, syncs, renames and cleans up


def test_a_network_killed_while_it_is_saved_is_the_old_or_the_new_one(tmp_path: Path) -> None:
    old, new = network(), network(seed=1)
    for each in (old, new):
        each.build((1, 8, 8))
    for kill_at in range(1, 12):
        path = tmp_path / str(kill_at)
        old.save(path)
        child = os.fork()
        if child == 0:
            for owner, name, hooked in hooks(kill_at):
                setattr(owner, name, hooked)
            new.save(path)
            os._exit(0)
        os.waitpid(child, 0)
        flat = tc.load(path).parameters.flat
        assert any((flat == each.parameters.flat).all() for each in (old, new))

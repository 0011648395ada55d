"""Checkpoints: a folder with one safetensors file, replaced in a single rename.

Arrays (parameters, running statistics, what the optimizer remembers) are the file's tensors;
position, history, the sums of a running epoch and the settings that must not change are JSON in
its metadata. Whenever the process dies, the folder holds either the last checkpoint or the one
before it, whole.
"""

import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from tinyconv.backend import Array, like, to_numpy
from tinyconv.engines.base import Totals
from tinyconv.errors import FileError
from tinyconv.training.callbacks import Callback
from tinyconv.training.fit import Position, Training

__all__ = [
    "Checkpoint",
    "check_tensors",
    "copy_tensors",
    "exists",
    "read_state",
    "read_tensors",
    "restore",
    "write_tensors",
]

FILE = "checkpoint.safetensors"


def write_tensors(path: Path, tensors: Mapping[str, Array], metadata: Mapping[str, str]) -> None:
    """Write a safetensors file beside ``path``, then rename it: it appears whole or not at all."""
    from safetensors.numpy import save

    path.parent.mkdir(parents=True, exist_ok=True)
    data = save(
        {name: np.asarray(to_numpy(array), order="C") for name, array in tensors.items()},
        metadata=dict(metadata),
    )
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with beside.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def read_tensors(path: Path) -> tuple[dict[str, np.ndarray[Any, Any]], dict[str, str]]:
    """Read the tensors and the metadata of a safetensors file.

    Raises:
        FileError: there is no such file, or it is not a whole safetensors file.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            names = file.keys()
            return {name: file.get_tensor(name) for name in names}, file.metadata() or {}
    except FileNotFoundError:
        raise FileError(f"{path}: no such file") from None
    except (SafetensorError, OSError, TypeError, ValueError) as error:
        raise FileError(f"{path}: not a whole safetensors file ({error})") from None


class Checkpoint(Callback):
    """Save everything that a run needs to continue, after every epoch and when it is stopped.

    Args:
        folder: where to; made if it is not there.
        tensors: returns the parameters and state of the network by name.
        network: description of the network; a resumed run must have the same one.
        settings: what else must not change from one part of a run to the next.
    """

    def __init__(
        self,
        folder: str | Path,
        tensors: Mapping[str, Array],
        network: Mapping[str, Any],
        settings: Mapping[str, Any],
    ) -> None:
        self.folder = Path(folder)
        self.tensors = tensors
        self.network = network
        self.settings = settings

    def on_epoch_end(self, training: Training) -> None:  # noqa: D102
        self.save(training)

    def on_train_end(self, training: Training) -> None:  # noqa: D102
        if training.stop is not None and training.ended:
            self.save(training)

    def save(self, training: Training) -> None:
        """Write the checkpoint now, between two batches."""
        tensors = {f"network.{name}": array for name, array in self.tensors.items()}
        for name, array in training.engine.optimizer_state.items():
            tensors[f"optimizer.{name}"] = array
        for start, callback in _named(training.callbacks):
            for name, array in callback.state().items():
                tensors[start + name] = array
        state = {
            "network": self.network,
            "settings": self.settings,
            "position": asdict(training.position),
            "totals": asdict(training.totals),
            "history": training.history.rows,
            "lr": float(training.lr),
        }
        metadata = {"format": "tinyconv-checkpoint", "state": json.dumps(state)}
        write_tensors(self.folder / FILE, tensors, metadata)


def exists(folder: str | Path) -> bool:
    """Tell whether the folder holds a checkpoint."""
    return (Path(folder) / FILE).is_file()


def read_state(folder: str | Path) -> tuple[dict[str, np.ndarray[Any, Any]], dict[str, Any]]:
    """Return the tensors and the JSON part of the checkpoint in a folder.

    Raises:
        FileError: there is none, or it is corrupt or foreign.
    """
    path = Path(folder) / FILE
    tensors, metadata = read_tensors(path)
    if metadata.get("format") != "tinyconv-checkpoint":
        raise FileError(f"{path}: a safetensors file, but not a checkpoint of tinyconv")
    try:
        state: dict[str, Any] = json.loads(metadata["state"])
    except (KeyError, ValueError):
        raise FileError(f"{path}: its description is damaged") from None
    return tensors, state


def restore(checkpoint: Checkpoint, training: Training) -> None:
    """Bring a run to where the checkpoint in its folder left it.

    Raises:
        FileError: the checkpoint is corrupt, or of another network or other settings.
    """
    tensors, state = read_state(checkpoint.folder)
    try:
        position = Position(**state["position"])
        totals = Totals(**state["totals"])
        rows, lr = [dict(row) for row in state["history"]], float(state["lr"])
        saved = {**state["network"], **state["settings"]}
    except (KeyError, TypeError, ValueError) as error:
        raise FileError(f"{checkpoint.folder}: its description is damaged ({error})") from None
    # Through JSON and back, so that tuples compare with the lists that the file holds.
    expected = json.loads(json.dumps({**checkpoint.network, **checkpoint.settings}))
    for place, there, here in _differences("", saved, expected):
        raise FileError(
            f"{checkpoint.folder}: the checkpoint was made with {place} {there!r}, "
            f"this run has {here!r}"
        )
    into = {f"network.{name}": array for name, array in checkpoint.tensors.items()}
    for name, array in training.engine.optimizer_state.items():
        into[f"optimizer.{name}"] = array
    of_callbacks = {k: tensors.pop(k) for k in [*tensors] if k.startswith("callback.")}
    copy_tensors(str(checkpoint.folder), tensors, into)
    for start, callback in _named(training.callbacks):
        callback.restore(
            {k.removeprefix(start): v for k, v in of_callbacks.items() if k.startswith(start)}
        )
    training.position, training.totals, training.lr = position, totals, lr
    training.history.rows = rows
    for left_by_a_killed_process in checkpoint.folder.glob(f".{FILE}.*"):
        left_by_a_killed_process.unlink(missing_ok=True)


def _differences(place: str, saved: Any, expected: Any) -> Iterator[tuple[str, Any, Any]]:
    """Yield where two descriptions differ, and how.

    >>> list(_differences("", {"seed": 1, "layers": [{"p": 0.2}]}, {"layers": [{"p": 0.3}]}))
    [('layers.0.p', 0.2, 0.3), ('seed', 1, None)]
    """
    if isinstance(saved, dict) and isinstance(expected, dict):
        pairs = [(k, saved.get(k), expected.get(k)) for k in sorted(saved.keys() | expected.keys())]
    elif isinstance(saved, list) and isinstance(expected, list) and len(saved) == len(expected):
        pairs = [(str(i), *both) for i, both in enumerate(zip(saved, expected, strict=True))]
    else:
        if saved != expected:
            yield place, saved, expected
        return
    for name, one, other in pairs:
        yield from _differences(f"{place}.{name}" if place else name, one, other)


def _named(callbacks: Sequence[Callback]) -> Iterator[tuple[str, Callback]]:
    """Yield each callback after the start of its tensors' names: its class and which of these.

    So a run may be resumed with or without a progress bar.
    """
    seen: Counter[str] = Counter()
    for callback in callbacks:
        kind = type(callback).__name__
        yield f"callback.{kind}.{seen[kind]}.", callback
        seen[kind] += 1


def check_tensors(
    source: str, tensors: Mapping[str, np.ndarray[Any, Any]], shapes: Mapping[str, tuple[int, ...]]
) -> None:
    """Check that tensors of these names and shapes are there.

    Raises:
        FileError: a name is missing, or a shape differs.

    >>> check_tensors("a file", {}, {"0.weight": (2, 3)})
    Traceback (most recent call last):
    tinyconv.errors.FileError: a file: tensors missing: 0.weight
    """
    if missing := sorted(shapes.keys() - tensors.keys()):
        raise FileError(f"{source}: tensors missing: {', '.join(missing)}")
    for name, shape in shapes.items():
        if tuple(tensors[name].shape) != shape:
            raise FileError(
                f"{source}: {name} has shape {tuple(tensors[name].shape)}, expected {shape}"
            )


def copy_tensors(
    source: str, tensors: Mapping[str, np.ndarray[Any, Any]], into: Mapping[str, Array]
) -> None:
    """Copy tensors into arrays of the same names and shapes.

    Raises:
        FileError: a name is missing or unknown, or a shape differs.

    >>> copy_tensors("a file", {"w": np.zeros(2)}, {"w": np.zeros(3)})
    Traceback (most recent call last):
    tinyconv.errors.FileError: a file: w has shape (2,), expected (3,)
    """
    check_tensors(source, tensors, {name: tuple(array.shape) for name, array in into.items()})
    if unknown := sorted(tensors.keys() - into.keys()):
        raise FileError(f"{source}: tensors unknown to this network: {', '.join(unknown)}")
    for name, array in into.items():
        array[...] = like(array, tensors[name].astype(str(array.dtype), copy=False))

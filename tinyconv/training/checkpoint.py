"""Checkpoints: a folder with one safetensors file, replaced in a single rename.

Arrays (parameters, running statistics, what the optimizer remembers) are the file's tensors;
position, history, the sums of a running epoch and the settings that must not change are JSON in
its metadata. Whenever the process dies, the folder holds either the last checkpoint or the one
before it, whole.
"""

import json
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tinyconv.arguments import Number
from tinyconv.backend import Array, Values
from tinyconv.engines.base import Totals
from tinyconv.errors import FileError
from tinyconv.files import check_json, copy_tensors, read_tensors, sweep, write_tensors
from tinyconv.training.callbacks import Callback, Position, Training

FILE = "checkpoint.safetensors"

_COUNT = Number(whole=True, least=0)

#: What the JSON in a checkpoint is.
STATE = {
    "format": str,
    "version": _COUNT,
    "network": dict,
    "settings": dict,
    "machine": dict,
    "position": {"epoch": _COUNT, "batch": _COUNT, "step": _COUNT},
    # A sum that has overflowed is NaN or infinite. Files before 0.3 have no divisor.
    "totals": (
        {"sums": dict, "samples": (int, float)},
        {"sums": dict, "samples": (int, float), "divisor": (int, float)},
    ),
    "history": [dict],
    "lr": Number(),
}


@dataclass(eq=False)
class Checkpoint(Callback):
    """Save everything that a run needs to continue, after every epoch and when it is stopped."""

    folder: Path  #: where to; made if it is not there
    tensors: Mapping[str, Array]  #: returns the parameters and state of the network by name
    network: Mapping[str, Any]  #: description of the network; a resumed run must have the same one
    settings: Mapping[str, Any]  #: what else must not change from one part of a run to the next
    machine: Mapping[str, Any]  #: what changes the rounding if it does

    def on_epoch_end(self, training: Training) -> None:  # noqa: D102
        self.save(training)

    def on_train_end(self, training: Training) -> None:  # noqa: D102
        if training.stop is not None and training.ended:
            self.save(training)

    def save(self, training: Training) -> None:
        """Write the checkpoint now, between two batches."""
        tensors = _arrays(self.tensors, training)
        for start, callback in _named(training.callbacks):
            for name, array in callback.state().items():
                tensors[start + name] = array
        state = {
            "format": "checkpoint",
            "network": self.network,
            "settings": self.settings,
            "machine": self.machine,
            "position": asdict(training.position),
            "totals": asdict(training.totals),
            "history": training.history.rows,
            "lr": float(training.lr),
        }
        write_tensors(self.folder / FILE, tensors, state)


def exists(folder: str | Path) -> bool:
    """Tell whether the folder holds a checkpoint."""
    return (Path(folder) / FILE).is_file()


def read_state(folder: str | Path) -> tuple[dict[str, Values], dict[str, Any]]:
    """Return the tensors and the JSON part of the checkpoint in a folder.

    Raises:
        FileError: there is none, or it is corrupt or foreign.
    """
    path = Path(folder) / FILE
    tensors, state = read_tensors(path, "checkpoint")
    check_json(path, state, STATE)
    for number, row in enumerate(state["history"]):
        check_json(path, row, dict.fromkeys(row, (int, float)), f"history.{number}")
    return tensors, state


#: What callbacks are to continue from: the start of the names of one's arrays -> its state.
States = dict[str, dict[str, Array]]


def begin(checkpoint: Checkpoint, training: Training, resume: bool) -> States:
    """Bring a run to where the checkpoint in its folder left it; leave it where there is none.

    The caller has the folder locked, so what another process was writing there has no owner.

    Returns:
        The states that the callbacks got; none where the run begins.

    Raises:
        FileError: there is one, and the run is not to be resumed; or it is corrupt, or of another
            network or other settings.
    """
    sweep(checkpoint.folder / FILE)
    if not exists(checkpoint.folder):
        return {}
    if not resume:
        raise FileError(
            f"{checkpoint.folder}: holds the checkpoint of a run already; resume=True continues "
            "it, another folder begins another"
        )
    tensors, state = read_state(checkpoint.folder)
    position, sums = Position(**state["position"]), state["totals"]
    totals = Totals(**{"divisor": sums["samples"], **sums})
    saved = {**state["network"], **state["settings"]}
    # Through JSON and back, so that tuples compare with the lists that the file holds.
    expected = json.loads(json.dumps({**checkpoint.network, **checkpoint.settings}))
    for place, there, here in _differences("", saved, expected):
        raise FileError(
            f"{checkpoint.folder}: the checkpoint was made with {place} {there!r}, "
            f"this run has {here!r}"
        )
    for place, there, here in _differences("", state["machine"], dict(checkpoint.machine)):
        warnings.warn(
            f"{checkpoint.folder}: the run began with {place} {there!r} and goes on with {here!r}: "
            "it will not have the bits of a run that was not stopped",
            stacklevel=4,
        )
    of_callbacks = {k: tensors.pop(k) for k in [*tensors] if k.startswith("callback.")}
    copy_tensors(str(checkpoint.folder), tensors, _arrays(checkpoint.tensors, training))
    states: States = {}
    for start, callback in _named(training.callbacks):
        states[start] = {
            k.removeprefix(start): v for k, v in of_callbacks.items() if k.startswith(start)
        }
        callback.restore(states[start])
    training.position, training.totals, training.lr = position, totals, float(state["lr"])
    training.history.rows = state["history"]
    return states


def spread(
    training: Training,
    tensors: Mapping[str, Array],
    callbacks: Sequence[Callback],
    states: States,
) -> None:
    """Bring all ranks to where the first one is.

    Args:
        training: the run, changed in place.
        tensors: parameters and state of the network by name, likewise.
        callbacks: those that all ranks have, likewise.
        states: what those of the first rank were restored from.
    """
    arrays = _arrays(tensors, training)
    of_run = (training.position, training.totals, training.lr, training.epochs)
    mine = (arrays, states, of_run, training.history.rows)
    if training.ranks.is_first:
        training.ranks.from_first(mine)
        return
    there, states, of_run, training.history.rows = training.ranks.from_first(None)
    training.position, training.totals, training.lr, training.epochs = of_run
    for name, array in arrays.items():
        array[...] = there[name]
    for name, callback in _named(callbacks):
        if name in states:
            callback.restore(states[name])


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


def _arrays(tensors: Mapping[str, Array], training: Training) -> dict[str, Array]:
    """Return the arrays of a network and of its optimizer by their names in a checkpoint."""
    parts = {"network": tensors, "optimizer": training.engine.optimizer_state}
    return {f"{part}.{name}": a for part, arrays in parts.items() for name, a in arrays.items()}


def _named(callbacks: Sequence[Callback]) -> Iterator[tuple[str, Callback]]:
    """Yield each callback after the start of its tensors' names: its class and which of these.

    So a run may be resumed with or without a progress bar.
    """
    seen: Counter[str] = Counter()
    for callback in callbacks:
        kind = type(callback).__name__
        yield f"callback.{kind}.{seen[kind]}.", callback
        seen[kind] += 1

"""Several networks that answer together."""

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tinyconv.arguments import shown
from tinyconv.backend import Array, to_numpy
from tinyconv.errors import ArgumentError, ShapeError
from tinyconv.network import Sequential, load
from tinyconv.training.history import History

__all__ = ["Ensemble"]


class Ensemble:
    """Networks of equal inputs and classes that vote, or whose probabilities are averaged.

    Args:
        nets: the members, a list of them or the first; give each a seed of its own.
        more: the others.

    Raises:
        ArgumentError: there are no members, or one is in the list twice.

    >>> import tinyconv as tc
    >>> nets = [tc.models.nielsen_fully_connected(seed=seed) for seed in range(3)]
    >>> (x, y), *_ = tc.data.load()
    >>> tc.Ensemble(nets).predict(x[:5]).shape
    (5,)
    """

    def __init__(self, nets: Sequence[Sequential] | Sequential, *more: Sequential) -> None:
        self.nets = [nets, *more] if isinstance(nets, Sequential) else [*nets, *more]
        for net in self.nets:
            if not hasattr(net, "predict_proba"):
                raise ArgumentError(
                    f"Ensemble: a member is {shown(net)}, expected a network, such as "
                    "tinyconv.load(path)"
                )
        if not self.nets:
            raise ArgumentError("Ensemble: no networks, expected at least one")
        if len({id(net) for net in self.nets}) < len(self.nets):
            raise ArgumentError("Ensemble: a network is in the list twice")

    def predict(
        self, x: Array, batch_size: int = 256, *, how: str = "vote"
    ) -> np.ndarray[Any, Any]:
        """Return the class that the members agree on for every sample, (N,), int64.

        Args:
            x: (N, ...), samples.
            batch_size: samples in memory at a time.
            how: ``"vote"`` takes the class that most members name, of equally many votes the one
                of the highest mean probability; ``"mean"`` takes the highest mean probability.

        Raises:
            ShapeError: the members have different numbers of classes.
            ArgumentError: ``how`` is unknown.
        """
        if how not in ("vote", "mean"):
            raise ArgumentError(f"Ensemble: how is {how!r}, expected 'vote' or 'mean'")
        members = self._probabilities(x, batch_size)
        # Half of a probability breaks ties, and cannot make up for a vote.
        score = np.mean(members, axis=0) / 2
        if how == "vote":
            samples = np.arange(len(score))
            for probabilities in members:
                score[samples, probabilities.argmax(axis=1)] += 1
        classes: np.ndarray[Any, Any] = score.argmax(axis=1)
        return classes

    def predict_proba(self, x: Array, batch_size: int = 256) -> np.ndarray[Any, Any]:
        """Return the mean of the members' probabilities, (N, K)."""
        mean: np.ndarray[Any, Any] = np.mean(self._probabilities(x, batch_size), axis=0)
        return mean

    def evaluate(self, x: Array, y: Array, *, how: str = "vote") -> dict[str, float]:
        """Return ``{"accuracy": ...}`` of :meth:`predict` on labelled samples."""
        return {"accuracy": float(np.mean(self.predict(x, how=how) == to_numpy(y)))}

    def fit(
        self,
        x: Array,
        y: Array,
        *,
        processes: int | None = None,
        checkpoint: str | Path | None = None,
        **arguments: Any,
    ) -> list[History]:
        """Train every member, several at a time in processes of their own.

        A member becomes what its own ``fit`` with these arguments would make of it, so it can be
        trained again alone.

        Args:
            x: (S, ...), samples in host memory; the processes share them.
            y: (S,), integer class indices.
            processes: members trained at a time, at most one a core if None; 1 trains them one
                after the other in this process.
            checkpoint: folder that gets one of every member: ``0``, ``1`` and so on.
            arguments: what :meth:`Sequential.fit` takes besides.

        Returns:
            The members' histories.

        Raises:
            ImportError: joblib is not installed, and more than one process is asked for.
            ArgumentError: processes is below 1, or what ``Sequential.fit`` finds.
        """
        count = min(len(self.nets), os.cpu_count() or 1) if processes is None else processes
        if count < 1:
            raise ArgumentError(f"Ensemble: processes is {processes!r}, expected at least 1")
        folders = [
            None if checkpoint is None else Path(checkpoint) / str(number)
            for number in range(len(self.nets))
        ]
        if count == 1:
            return [
                net.fit(x, y, checkpoint=folder, **arguments)
                for net, folder in zip(self.nets, folders, strict=True)
            ]
        try:
            from joblib import Parallel, delayed
        except ImportError:
            raise ImportError(
                "Ensemble: training in several processes needs joblib: "
                'pip install "tinyconv[parallel]"'
            ) from None
        for net in self.nets:
            net.build(tuple(x.shape[1:]))
        with tempfile.TemporaryDirectory() as shared:
            paths = [Path(shared) / f"{number}.safetensors" for number in range(len(self.nets))]
            for net, path in zip(self.nets, paths, strict=True):
                net.save(path)
            jobs = [
                delayed(_fit_saved)(path, net.device, x, y, {"checkpoint": folder, **arguments})
                for net, path, folder in zip(self.nets, paths, folders, strict=True)
            ]
            histories: list[History] = Parallel(n_jobs=count, backend="loky")(jobs)
            for net, path in zip(self.nets, paths, strict=True):
                trained = load(path)
                net.load_state_dict(trained.state_dict())
                net.position, net.loss = trained.position, trained.loss
        return histories

    def _probabilities(self, x: Array, batch_size: int) -> list[np.ndarray[Any, Any]]:
        members = [net.predict_proba(x, batch_size) for net in self.nets]
        classes = [probabilities.shape[1] for probabilities in members]
        if len(set(classes)) > 1:
            raise ShapeError(f"Ensemble: the members have {classes} classes, expected equally many")
        return members


def _fit_saved(path: Path, device: str, x: Array, y: Array, arguments: dict[str, Any]) -> History:
    """Train the network of a file, in a process of its own, and write it back."""
    net = load(path, device)
    if isinstance(x, np.ndarray):
        x = np.asarray(x)  # the array behind the file that the processes share
    history = net.fit(x, y, **arguments)
    net.save(path)
    return history

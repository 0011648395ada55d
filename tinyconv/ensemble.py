"""Several networks that answer together."""

import copy
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np

from tinyconv.arguments import Count, FilePath, checked
from tinyconv.backend import Array, Values, to_numpy
from tinyconv.errors import ArgumentError, ShapeError
from tinyconv.losses import Loss
from tinyconv.messages import shown
from tinyconv.metrics import Accuracy, figures
from tinyconv.network import Sequential
from tinyconv.training.checks import as_array, check_targets
from tinyconv.training.history import History
from tinyconv.trials import attempt_all


class Ensemble:
    """Networks of equal inputs and outputs that vote, or whose answers are averaged.

    Args:
        nets: the members, a list of them or the first; give each a seed of its own.
        more: the others.

    Raises:
        ArgumentError: there are no members, or one is in the list twice; or, as soon as they are
            asked, their losses give answers of different kinds.

    >>> import tinyconv as tc
    >>> nets = [tc.models.nielsen_fully_connected(seed=seed) for seed in range(3)]
    >>> (x, y), *_ = tc.data.load()
    >>> tc.Ensemble(nets).predict(x[:5]).shape
    (5,)
    """

    def __init__(self, nets: Sequence[Sequential] | Sequential, *more: Sequential) -> None:
        self.nets = [*nets, *more] if isinstance(nets, Sequence) else [nets, *more]
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

    @checked
    def predict(self, x: Array, batch_size: Count = 256, *, how: str | None = None) -> Values:
        """Return what the members agree on, of the shape that a member's ``predict`` returns.

        Args:
            x: (N, ...), samples.
            batch_size: samples in memory at a time.
            how: of classes (of samples or of pixels) and of labels that coincide, ``"vote"``, also
                if None, takes what most members say, of equally many votes what has the highest
                mean probability; ``"mean"`` takes the highest mean probability. Of numbers the
                mean is the only way.

        Raises:
            ShapeError: the members have different numbers of classes, or outputs of other shapes.
            ArgumentError: ``how`` is unknown, or is to count votes on numbers.
            StateError: the loss knows no probabilities.
        """
        predictions: Values = self.loss.predictions(self._scores(x, batch_size, how))
        return predictions

    @checked
    def predict_proba(self, x: Array, batch_size: Count = 256) -> Values:
        """Return the mean of the members' probabilities, (N, K)."""
        return self._mean("predict_proba", x, batch_size)[0]

    @checked
    def evaluate(self, x: Array, y: Array, *, how: str | None = None) -> dict[str, float]:
        """Return ``{"accuracy": ...}`` of :meth:`predict`, of numbers ``{"loss": ...}``.

        Errors are those of :meth:`predict`, and of :meth:`Sequential.evaluate` for y.
        """
        x, y = as_array("evaluate", "x", x), as_array("evaluate", "y", y)
        scores = self._scores(x, 256, how)
        check_targets("evaluate", x, y, None, self.loss, scores.shape[1:])
        y = to_numpy(y)
        if "accuracy" in self.loss.metrics:
            return {"accuracy": Accuracy()(self.loss, scores, y)}
        return figures([], self.loss, scores, y)

    @checked
    def fit(
        self,
        x: Any,
        y: Array | None = None,
        *,
        processes: Count | None = None,
        checkpoint: Annotated[str | Path | None, FilePath()] = None,
        **arguments: Any,
    ) -> list[History]:
        """Train every member, several at a time in processes of their own.

        A member becomes what its own ``fit`` with these arguments would make of it, so it can be
        trained again alone.

        Args:
            x: (S, ...), samples in host memory; the processes share them. Or what else
                :meth:`Sequential.fit` takes in place of samples and targets, but no iterator.
            y: (S, ...), targets as the members' loss takes them.
            processes: members trained at a time; 1 trains them one after the other in this
                process, None one a core, or what ``joblib.parallel_config`` names.
            checkpoint: folder that gets one of every member: ``0``, ``1`` and so on.
            arguments: what :meth:`Sequential.fit` takes besides.

        Returns:
            The members' histories.

        Raises:
            ImportError: joblib is not installed, and more than one process is asked for.
            ArgumentError: processes is below 1, x an iterator, or what ``Sequential.fit`` finds.
                An exception of a member leaves the others trained; a note of it names the seeds
                that failed.
        """
        if isinstance(x, Iterator) and len(self.nets) > 1:
            raise ArgumentError(
                f"fit: x is {shown(x)}, which gives its batches once, for one member of "
                f"{len(self.nets)}; expected what gives them again, such as a function"
            )
        calls = [
            (net, x, y, arguments | {"checkpoint": checkpoint and Path(checkpoint) / str(number)})
            for number, net in enumerate(self.nets)
        ]
        processes = 1 if len(self.nets) == 1 else processes
        fitted = partial(_fitted, apart=processes != 1)
        attempts = attempt_all(fitted, calls, processes, again=partial(fitted, again=True))
        failed: dict[int, Exception] = {}
        for net, attempt in zip(self.nets, attempts, strict=True):
            if attempt.error is not None:
                failed[net.seed] = attempt.error
            elif attempt.value[0] is not net:
                net._become(attempt.value[0])
        for error in failed.values():
            seeds = ", ".join(map(str, failed))
            error.add_note(
                f"of the members those with seeds {seeds} failed; the others are trained"
            )
            raise error
        return [attempt.value[1] for attempt in attempts]

    @property
    def loss(self) -> Loss:
        """The members' loss, which says what their answers mean."""
        losses = [net.loss for net in self.nets]
        if len({(loss.one_class, loss.metrics) for loss in losses}) > 1:
            raise ArgumentError(
                f"Ensemble: the losses of the members are {', '.join(map(repr, losses))}, whose "
                "answers cannot be put together; expected equal ones"
            )
        return losses[0]

    def _scores(self, x: Array, batch_size: int, how: str | None) -> Values:
        """Return outputs of which the loss predicts what the members agree on."""
        loss = self.loss
        votes = "accuracy" in loss.metrics
        if how not in (None, "vote", "mean"):
            raise ArgumentError(f"Ensemble: how is {how!r}, expected 'vote' or 'mean'")
        if not votes:
            if how == "vote":
                raise ArgumentError(
                    f"Ensemble: how is 'vote', and the members of {loss!r} answer with numbers; "
                    "expected 'mean'"
                )
            return self._mean("predict", x, batch_size)[0]
        mean, members = self._mean("predict_proba", x, batch_size)
        # Half of a probability breaks ties, and cannot make up for a vote.
        scores = mean / 2 if loss.one_class else mean - 0.5
        for probabilities in members if how != "mean" else ():
            if loss.one_class:
                best = np.expand_dims(probabilities.argmax(axis=1), 1)
                np.put_along_axis(scores, best, np.take_along_axis(scores, best, 1) + 1, axis=1)
            else:
                scores += np.where(probabilities > 0.5, 1, -1)
        return scores

    def _mean(self, method: str, x: Array, batch_size: int) -> tuple[Values, list[Values]]:
        """Return the mean of what a method of the members returns, and each of them."""
        members = [getattr(net, method)(x, batch_size) for net in self.nets]
        if len({answer.shape for answer in members}) > 1:
            shapes = ", ".join(str(answer.shape) for answer in members)
            raise ShapeError(f"Ensemble: the members answer with {shapes}, expected equal shapes")
        return np.mean(members, axis=0), members


#: Arguments of a fit that training only reads, and that are large.
_SAMPLES = ("validation_data", "sample_weight")


def _fitted(
    net: Sequential,
    x: Any,
    y: Array | None,
    arguments: dict[str, Any],
    apart: bool,
    again: bool = False,
) -> tuple[Sequential, History]:
    """Train a network, in a process of its own as a copy, and return it.

    Args:
        apart: whether beside others, with which it would share callbacks, loss and metrics.
        again: whether its process died; it goes on from the checkpoint that this left.
    """
    if apart:
        arguments = {k: v if k in _SAMPLES else copy.deepcopy(v) for k, v in arguments.items()}
    if again and arguments["checkpoint"] is not None:
        arguments = arguments | {"resume": True}
    history = net.fit(x, y, **arguments)
    return net, history

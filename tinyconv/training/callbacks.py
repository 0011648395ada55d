"""What can be hung on the fit loop: schedules, stopping, keeping the best, Ctrl-C."""

import inspect
import signal
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

import numpy as np

from tinyconv.arguments import Count, Function, OneOf, checked
from tinyconv.backend import Array, like
from tinyconv.engines.base import Engine, Totals
from tinyconv.engines.ranks import ALONE, Ranks
from tinyconv.errors import ArgumentError
from tinyconv.files import check_tensors
from tinyconv.messages import hint, shown
from tinyconv.parameters import Parameters
from tinyconv.schedules import ScheduleFunction
from tinyconv.training.history import History


@dataclass
class Position:
    """How far training has come.

    Attributes:
        epoch: epochs completed since the network was made.
        batch: batches completed of the running epoch.
        step: training steps since the network was made.
    """

    epoch: int = 0
    batch: int = 0
    step: int = 0


@dataclass
class Training:
    """A run in progress, as callbacks see it.

    Attributes:
        engine: executes the steps.
        parameters: of the network.
        state: running statistics of the network, by name.
        epochs: the epoch at which the run ends.
        batches: batches in an epoch; 0 as long as nobody knows.
        position: how far training has come.
        totals: sums of an epoch that was interrupted and is now resumed.
        history: a row for every epoch completed.
        lr: learning rate of the next step; a callback may change it.
        callbacks: called in this order.
        stop: None, or the reason to stop after the current batch.
        last_batch_size: samples in the batch that has just ended.
        ended: whether the loop came to its end, and no exception broke a batch off halfway.
        ranks: the processes that train together; what one of them wants to stop, all stop.
    """

    engine: Engine
    parameters: Parameters
    epochs: int
    batches: int
    position: Position
    history: History
    lr: float
    state: Mapping[str, Array] = field(default_factory=dict)
    callbacks: Sequence["Callback"] = ()
    totals: Totals = field(default_factory=Totals)
    stop: str | None = None
    last_batch_size: int = 0
    ended: bool = False
    ranks: Ranks = ALONE


class Callback:
    """The base of all callbacks: override what you need.

    Every method is handed the running :class:`Training`, whose fields it may read; setting
    ``training.stop`` to a reason ends the run after the current batch.

    >>> class Announce(Callback):
    ...     def on_epoch_end(self, training):
    ...         print(f"epoch {training.history.rows[-1]['epoch']} is over")
    """

    #: Names of what it adds to the rows of the history, for the callbacks behind it to monitor.
    adds: Sequence[str] = ()

    #: Whether the first of the processes that train together has it alone, as what writes should.
    first_rank_only: bool = False

    def check(self, figures: Sequence[str]) -> None:
        """Look before the first epoch at the figures that a row of the history will have.

        Raises:
            ArgumentError: one that the callback needs will not be there.
        """

    def on_train_begin(self, training: Training) -> None:
        """Before the first batch."""

    def on_epoch_begin(self, training: Training) -> None:
        """Before the first batch of an epoch."""

    def on_batch_end(self, training: Training) -> None:
        """After every batch."""

    def on_epoch_end(self, training: Training) -> None:
        """After the last batch of an epoch and its validation; its row is in the history."""

    def on_train_end(self, training: Training) -> None:
        """After the last batch, also when the run was stopped or an error ended it.

        Called in the reverse of the callbacks' order.
        """

    def state(self) -> dict[str, Array]:
        """Return the arrays that a checkpoint must hold for this callback to continue."""
        return {}

    def restore(self, state: dict[str, Array]) -> None:
        """Take back what :meth:`state` returned, as NumPy arrays."""


#: The methods of a callback, each of which is handed the training alone.
_HOOKS = ("on_train_begin", "on_epoch_begin", "on_batch_end", "on_epoch_end", "on_train_end")


def check_callback(callback: object) -> None:
    """Check that a callback is one of this library, with its methods' arguments.

    Raises:
        ArgumentError: it is not; the text tells it from those of Keras.

    >>> class Theirs(Callback):
    ...     def on_epoch_end(self, epoch, logs=None):
    ...         print(logs["loss"])
    >>> check_callback(Theirs())
    Traceback (most recent call last):
    tinyconv.errors.ArgumentError: fit: Theirs.on_epoch_end takes (epoch, logs) as in Keras,
    expected (training), which has position.epoch and history.rows[-1]
    """
    name = type(callback).__name__
    if not isinstance(callback, Callback):
        of_keras = " of Keras" if hasattr(callback, "set_params") else ""
        what = shown(callback)
        raise ArgumentError(f"fit: a callback is {what}{of_keras}, expected a tinyconv.Callback")
    for hook in _HOOKS:
        names = inspect.signature(getattr(callback, hook)).parameters
        takes_any = any(each.kind is each.VAR_POSITIONAL for each in names.values())
        if len(names) != 1 and not takes_any:
            raise ArgumentError(
                f"fit: {name}.{hook} takes ({', '.join(names)}) as in Keras, expected (training), "
                "which has position.epoch and history.rows[-1]"
            )


@checked
@dataclass(eq=False, repr=False)
class Schedule(Callback):
    """Set the learning rate of every epoch, or of every step, to a multiple of the optimizer's.

    Args:
        schedule: one of :mod:`tinyconv.schedules`, or any function of the epochs (or steps)
            completed since ``fit`` began and of the rows of the history.
        per: what is counted, and when the rate changes: ``"epoch"`` or ``"step"``.

    Raises:
        ArgumentError: ``per`` is neither of the two, or (in ``fit``) the schedule gave a factor
            that is not a number of at least 0, or monitors what there will not be.

    >>> import tinyconv as tc
    >>> x, y = np.eye(2), np.arange(2)
    >>> net = tc.Sequential([tc.Linear(2, 2)])
    >>> history = net.fit(x, y, epochs=3, optimizer=tc.SGD(lr=0.1), verbose=False,
    ...                   callbacks=[tc.Schedule(tc.schedules.Step(every=1, factor=0.5))])
    >>> history["lr"]
    [0.1, 0.05, 0.025]
    """

    schedule: Annotated[ScheduleFunction, Function("t", "rows", such_as="schedules.Step(every=10)")]
    per: Annotated[str, OneOf("epoch", "step")] = "epoch"

    def check(self, figures: Sequence[str]) -> None:  # noqa: D102
        monitor = getattr(self.schedule, "monitor", None)
        if isinstance(monitor, str):
            check_monitor(type(self.schedule).__name__, monitor, figures)

    def on_epoch_begin(self, training: Training) -> None:  # noqa: D102
        self._set(training)

    def on_batch_end(self, training: Training) -> None:  # noqa: D102
        # After the last batch the row of the epoch is yet to be written, with the rate it had.
        if self.per == "step" and training.position.batch != training.batches:
            self._set(training)

    def _set(self, training: Training) -> None:
        # The history has a row for each epoch of this run, also where it was resumed.
        t = len(training.history)
        if self.per == "step":
            t = t * training.batches + training.position.batch
        factor = self.schedule(t, training.history.rows)
        if not (isinstance(factor, float | int | np.number) and 0 <= factor < np.inf):
            raise ArgumentError(
                f"Schedule: the factor after {t} {self.per}s is {shown(factor)}, "
                "expected a number of at least 0"
            )
        training.lr = training.engine.optimizer.lr * float(factor)


def held(training: Training) -> dict[str, Array]:
    """Return the arrays that a network consists of: its parameters and its state."""
    state = {f"state.{name}": array for name, array in training.state.items()}
    return {"parameters": training.parameters.flat, **state}


class KeepBest(Callback):
    """Give the network, when training ends, the parameters and statistics of its best epoch.

    Args:
        monitor: entry of the history's rows; see :meth:`History.best` for which value is best.

    Raises:
        ArgumentError: (in ``fit``, before the first epoch) the rows will have no such entry.
        FileError: (there too) the checkpoint to resume lacks an array of the best epoch.
    """

    @checked
    def __init__(self, monitor: str = "val_accuracy") -> None:
        self.monitor = monitor
        self._best: dict[str, Array] = {}

    def check(self, figures: Sequence[str]) -> None:  # noqa: D102
        check_monitor(type(self).__name__, self.monitor, figures)

    def on_train_begin(self, training: Training) -> None:  # noqa: D102
        if not training.history.rows:
            self._best = {}  # of an earlier run; a resumed one has rows
        elif self._best:
            shapes = {name: tuple(array.shape) for name, array in held(training).items()}
            check_tensors(f"{type(self).__name__} in the checkpoint", self._best, shapes)

    def on_epoch_end(self, training: Training) -> None:  # noqa: D102
        if training.history.best(self.monitor) is training.history.rows[-1]:
            self._best = {name: array.copy() for name, array in held(training).items()}

    def on_train_end(self, training: Training) -> None:  # noqa: D102
        for name, array in held(training).items() if self._best else ():
            best = self._best[name]
            array[...] = like(array, best) if isinstance(best, np.ndarray) else best

    def state(self) -> dict[str, Array]:  # noqa: D102
        return self._best

    def restore(self, state: dict[str, Array]) -> None:  # noqa: D102
        self._best = state


class EarlyStopping(KeepBest):
    """Stop when a figure has not improved for some epochs.

    Args:
        monitor: as of :class:`KeepBest`, and so for the errors.
        patience: epochs without improvement to wait for.
        restore_best: whether the network gets the parameters of its best epoch, as by
            :class:`KeepBest`, and not those of the last one.
    """

    @checked
    def __init__(
        self, monitor: str = "val_accuracy", patience: Count = 5, *, restore_best: bool = False
    ) -> None:
        super().__init__(monitor)
        self.patience = patience
        self.restore_best = restore_best

    def on_train_begin(self, training: Training) -> None:  # noqa: D102
        super().on_train_begin(training)
        if training.history.rows:  # a run resumed after it was stopped here
            self._stop(training)

    def on_epoch_end(self, training: Training) -> None:  # noqa: D102
        if self.restore_best:
            super().on_epoch_end(training)
        self._stop(training)

    def _stop(self, training: Training) -> None:
        best = training.history.best(self.monitor)["epoch"]
        if training.history.rows[-1]["epoch"] - best >= self.patience:
            training.stop = f"{self.monitor} has not improved for {self.patience} epochs"


def check_monitor(op: str, monitor: str, figures: Sequence[str]) -> None:
    """Check that rows of a history will have a figure.

    Raises:
        ArgumentError: they will not.

    >>> check_monitor("EarlyStopping", "val_loss", ["loss", "accuracy"])
    Traceback (most recent call last):
    tinyconv.errors.ArgumentError: EarlyStopping: monitor is 'val_loss', expected 'loss' or
    'accuracy'; val_... needs validation_data or validation_split
    """
    if monitor in figures:
        return
    *first, last = map(repr, figures)
    known = f"{', '.join(first)} or {last}" if first else last
    needs = "; val_... needs validation_data or validation_split"
    missing = monitor.startswith("val_") and not any(f.startswith("val_") for f in figures)
    raise ArgumentError(
        f"{op}: monitor is {monitor!r}, expected {known}"
        f"{needs if missing else hint(monitor, figures)}"
    )


class StopOnInterrupt(Callback):
    """Turn Ctrl-C into a stop after the current batch; a second Ctrl-C interrupts at once.

    So does SIGTERM, which ends a job, and SIGHUP, which a closed terminal sends.

    Attributes:
        interrupted: whether a signal came.
        signal: its number; 0 if none came.
    """

    SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP")

    def __init__(self) -> None:
        self.signal = 0
        self._previous: dict[int, Any] = {}

    @property
    def interrupted(self) -> bool:  # noqa: D102
        return self.signal != 0

    def on_train_begin(self, training: Training) -> None:  # noqa: D102
        self.signal = 0
        if threading.current_thread() is not threading.main_thread():
            return  # signals can only be caught in the main thread

        def handle(number: int, frame: Any) -> None:
            self.signal = number
            training.stop = "interrupted"
            signal.signal(number, self._previous.pop(number))

        for name in self.SIGNALS:
            number = getattr(signal, name, None)  # Windows lacks some
            # Who ignores a signal, as nohup does, goes on ignoring it.
            if number is not None and signal.getsignal(number) not in (signal.SIG_IGN, None):
                self._previous[number] = signal.signal(number, handle)

    def on_train_end(self, training: Training) -> None:  # noqa: D102
        if threading.current_thread() is threading.main_thread():
            while self._previous:
                signal.signal(*self._previous.popitem())

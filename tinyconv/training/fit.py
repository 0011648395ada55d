"""The training loop: epochs, batches, validation, callbacks. It computes nothing itself."""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from tinyconv.backend import namespace
from tinyconv.engines.base import Totals
from tinyconv.engines.ranks import Stopped
from tinyconv.errors import NonFiniteError
from tinyconv.training.batches import Batches
from tinyconv.training.callbacks import Position, Training
from tinyconv.training.history import History


def fit(
    training: Training, source: Batches, validate: Callable[[], dict[str, float]] | None = None
) -> History:
    """Train from ``training.position`` to the end of epoch ``training.epochs``.

    The batches are a function of the number of the epoch, so a run that was stopped between any two
    of them continues as if it had not been. Callbacks are called in
    their order, but ``on_train_end`` in the reverse one, as blocks that are nested end.

    Args:
        training: where the run stands; changed in place.
        source: of the batches.
        validate: returns the figures of an epoch's row beyond the training ones.

    Returns:
        The history, also in ``training.history``.

    Raises:
        NonFiniteError: the loss is not finite; the text names the epoch, the batch and the layer.
    """
    position, engine, callbacks = training.position, training.engine, training.callbacks
    with ExitStack() as ending:
        for callback in callbacks:
            callback.on_train_begin(training)
            ending.callback(callback.on_train_end, training)
        while position.epoch < training.epochs and not _ends(training):
            engine.start_epoch(training.totals)
            started, seen = time.perf_counter(), 0
            for callback in callbacks:
                callback.on_epoch_begin(training)
            with _named(position):
                for x, y, index in source.epoch(position.epoch, position.batch):
                    # What one rank wants to stop, all find in the next step, and do not take it.
                    if training.ranks.size == 1 and training.stop is not None:
                        break
                    training.batches = len(source)
                    try:
                        engine.train_step(x, y, index, position.step, float(training.lr))
                    except Stopped:
                        training.stop = training.ranks.agree(training.stop)
                        break
                    position.batch += 1
                    position.step += 1
                    training.last_batch_size = len(index)
                    seen += len(index)
                    for callback in callbacks:
                        callback.on_batch_end(training)
                training.totals = training.ranks.totals(engine.totals())
            if position.batch != training.batches:
                break
            _check_parameters(training)
            _finish_epoch(training, validate, time.perf_counter() - started, seen)
            for callback in callbacks:
                callback.on_epoch_end(training)
        training.ended = True
    return training.history


@contextmanager
def _named(position: Position) -> Iterator[None]:
    """Say at which batch a step was refused; go back there, if that was found some steps later."""
    try:
        yield
    except NonFiniteError as error:
        if error.step is None:
            raise
        position.batch -= position.step - error.step
        position.step = error.step
        place = f"epoch {position.epoch + 1}, batch {position.batch + 1}"
        raise NonFiniteError(f"fit: {place}: {error}") from None


def _ends(training: Training) -> bool:
    """Whether somebody wants to stop, on any rank."""
    # A signal may set the reason at any moment, on one rank; all must read the same.
    reason = training.ranks.agree(training.stop)
    if reason is not None:
        training.stop = reason
    return reason is not None


def _check_parameters(training: Training) -> None:
    """Find what the update of the last batch broke, before it is saved or evaluated."""
    xp = namespace("fit", flat=training.parameters.flat)
    for name, values in training.parameters.values.items():
        if not bool(xp.all(xp.isfinite(values))):
            place = f"epoch {training.position.epoch + 1}, batch {training.position.batch}"
            raise NonFiniteError(f"fit: {place}: {name} is not finite after the update")


def _finish_epoch(
    training: Training,
    validate: Callable[[], dict[str, float]] | None,
    seconds: float,
    samples: int,
) -> None:
    """Write the row of an epoch and move on to the next one."""
    position, totals = training.position, training.totals
    position.epoch += 1
    position.batch = 0
    row: dict[str, float] = {
        "epoch": position.epoch,
        **totals.means(),
        "lr": float(training.lr),
        "seconds": round(seconds, 3),
        "samples_per_second": round(samples / max(seconds, 1e-9), 1),
    }
    if validate is not None:
        row.update({f"val_{name}": value for name, value in validate().items()})
    training.history.append(row)
    training.totals = Totals()

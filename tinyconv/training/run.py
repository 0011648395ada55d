"""A run of ``fit`` from its arguments: data, validation, engine, callbacks, checkpoint."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from tinyconv import files
from tinyconv.backend import Array
from tinyconv.data.splits import DataSet
from tinyconv.engines.ranks import Ranks
from tinyconv.engines.thread_count import get_num_threads
from tinyconv.errors import ArgumentError, StateError
from tinyconv.losses import Targets
from tinyconv.messages import shown
from tinyconv.training import checkpoint as checkpoints
from tinyconv.training.batches import (
    ArrayBatches,
    Batches,
    Batching,
    IterableBatches,
    as_pair,
    split_off,
)
from tinyconv.training.callbacks import Callback, Training, check_callback
from tinyconv.training.loggers import ProgressBar

#: Returns checked samples and targets of x, y and weights or None; the first argument begins
#: messages.
Accept = Callable[[str, Any, Any, Any], tuple[Array, Targets]]


@dataclass
class Data:
    """What a run trains on and validates with."""

    batches: Batches  #: of every epoch
    some: Array  #: samples, all or those of the first batch
    validation: tuple[Array, Targets] | None  #: samples and their targets; None for none
    settings: dict[str, Any]  #: what of it must be the same where a run is resumed
    source: DataSet | None = None  #: the data set that all this was taken from, if it was one


def read_data(
    accept: Accept,
    x: Any,
    y: Any,
    sample_weight: Any,
    how: Batching,
    *,
    validation_data: Any,
    validation_split: float,
    epochs: int,
    resumable: bool,
) -> Data:
    """Return the batches and the validation data that the arguments of ``fit`` mean.

    Raises:
        ArgumentError: two arguments do not go together, or no batch is left.
    """
    source = x if isinstance(x, DataSet) else None
    if source is not None:
        if y is not None:
            raise ArgumentError("fit: x is a data set, which has targets, and y is given too")
        x = source.train
        if validation_data is None and not validation_split:
            validation_data = source.validation
    validation = None
    if validation_data is not None:
        if validation_split:
            raise ArgumentError("fit: validation_data and validation_split, expected one of them")
        if not isinstance(validation_data, Sequence) or len(validation_data) not in (2, 3):
            raise ArgumentError(
                "fit: validation_data is not (x, y) or (x, y, sample_weight), expected one"
            )
        given = (*validation_data, *[None] * (3 - len(validation_data)))
        validation = accept("fit: validation_data", *given)
    settings: dict[str, Any] = {
        name: getattr(how, name) for name in ("batch_size", "shuffle", "drop_last")
    }
    pair = as_pair(x, y, sample_weight)
    if pair is None:
        if validation_split or sample_weight is not None:
            raise ArgumentError(
                "fit: x gives batches, which go with neither validation_split nor sample_weight; "
                "pass validation_data, and weights in the batches"
            )
        batches = IterableBatches(x, partial(accept, "fit"), how)
        if batches.once and epochs > 1:
            raise ArgumentError(
                f"fit: x is {shown(x)}, which gives its batches once, and epochs is {epochs}; "
                "expected a list, or the function that makes the generator"
            )
        if resumable and not len(batches):
            raise ArgumentError(
                f"fit: x is {shown(x)}, whose number of batches nobody knows, so a checkpoint "
                "cannot say where the run stands; expected a list or anything else with a length"
            )
        first_batch = batches.first()  # builds the network
        settings |= {"batches": len(batches), "samples in the first": len(first_batch[1])}
        return Data(batches, first_batch[0], validation, settings)
    x, targets = accept("fit", *pair)
    if validation_split:
        (x, targets), validation = split_off(validation_split, how.seed, x, targets)
    settings["samples"] = len(targets)
    settings["x (fingerprint)"] = files.fingerprint(x)
    settings["y (fingerprint)"] = files.fingerprint(targets.y)
    return Data(ArrayBatches(x, targets, how), x, validation, settings, source)


def check_callbacks(
    callbacks: Sequence[Callback],
    verbose: bool,
    figures: Sequence[str],
    validates: bool,
    ranks: Ranks,
) -> list[Callback]:
    """Return the callbacks of a run that this process has, checked against what will be measured.

    Raises:
        ArgumentError: one is no callback, or monitors a figure that there will not be.
    """
    if isinstance(callbacks, Callback) or not isinstance(callbacks, Sequence):
        raise ArgumentError("fit: callbacks is no list, expected one such as [EarlyStopping()]")
    names = [*figures, *(f"val_{name}" for name in figures if validates)]
    for callback in callbacks:
        check_callback(callback)
        callback.check(names)
        if ranks.size == 1 or not callback.first_rank_only:  # other ranks' rows lack the figures
            names += callback.adds
    shown_and_given = [*([ProgressBar()] if verbose else []), *callbacks]
    return [each for each in shown_and_given if ranks.is_first or not each.first_rank_only]


@contextmanager
def kept_in(
    folder: str | Path | None,
    training: Training,
    resume: bool,
    tensors: Mapping[str, Array],
    about: Callable[[], dict[str, Any]],
    settings: Mapping[str, Any],
) -> Iterator[None]:
    """Lock the folder of a run's checkpoints, resume from it, and save into it.

    Of ranks that train together the first one does so, and all begin where it does.

    Raises:
        StateError: ``resume`` without a folder.
        FileError: the checkpoint is corrupt or of another run, or one is there and not wanted.
        ArgumentError: a rank has other data or arguments.
    """
    if folder is None and resume:
        raise StateError("fit: resume=True needs checkpoint=, the folder to resume from")
    epochs = training.epochs - training.position.epoch
    ranks, callbacks = training.ranks, training.callbacks
    states: checkpoints.States = {}
    with ExitStack() as locks:
        if folder is not None and ranks.is_first:
            locks.enter_context(files.locked(folder))
            machine = {"threads": get_num_threads(), "ranks": ranks.size}
            keeper = checkpoints.Checkpoint(Path(folder), tensors, about(), settings, machine)
            states = checkpoints.begin(keeper, training, resume)
            done_before_the_run = training.position.epoch - len(training.history)
            training.epochs = done_before_the_run + epochs
            training.callbacks = [*callbacks, keeper]
        if ranks.size > 1:
            ranks.check_same(settings)
            checkpoints.spread(training, tensors, callbacks, states)
        yield

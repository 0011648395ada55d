"""The figures of a run for TensorBoard, by tensorboardX, which needs no TensorFlow."""

from pathlib import Path
from typing import Any

from tinyconv.interop import require
from tinyconv.training.callbacks import Training
from tinyconv.training.loggers import Logger


class TensorBoard(Logger):
    """Write the figures of each epoch as scalars, which ``tensorboard --logdir FOLDER`` shows.

    A run that is resumed from a checkpoint replaces what the folder has of later epochs.

    Args:
        folder: of the run; one run a folder.

    >>> import os, tempfile
    >>> import tinyconv as tc
    >>> folder = tempfile.mkdtemp()
    >>> net = tc.Sequential(tc.Linear(2, 2))
    >>> data = [[0.0, 1.0], [1.0, 0.0]], [0, 1]
    >>> _ = net.fit(*data, epochs=2, callbacks=[TensorBoard(folder)], verbose=False)
    >>> [name.startswith("events.out.tfevents") for name in os.listdir(folder)]
    [True]
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = folder
        self._writers = require("tensorboardX", "tensorboard")
        self._writer: Any = None

    def on_train_begin(self, training: Training) -> None:  # noqa: D102
        done = training.position.epoch
        self._writer = self._writers.SummaryWriter(
            str(self.folder), purge_step=done + 1 if done else None
        )

    def log(self, figures: dict[str, float], epoch: int) -> None:  # noqa: D102
        for name, value in figures.items():
            self._writer.add_scalar(name, value, epoch)
        self._writer.flush()

    def on_train_end(self, training: Training) -> None:  # noqa: D102
        self._writer.close()

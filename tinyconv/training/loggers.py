"""Figures of each epoch handed on: to a CSV file, or to anybody's way of tracking runs."""

from pathlib import Path
from typing import Annotated

from tinyconv.arguments import FilePath, checked
from tinyconv.training.callbacks import Callback, Training


class Logger(Callback):
    """Hands the figures of each epoch on; override :meth:`log`, which is all that a logger needs.

    Figures that another callback adds are among them if it stands in front. Of processes that train
    together, the first one logs.

    >>> class Printed(Logger):
    ...     def log(self, figures, epoch):
    ...         print(epoch, sorted(figures))
    """

    first_rank_only = True

    def log(self, figures: dict[str, float], epoch: int) -> None:
        """Take the figures of one epoch.

        Args:
            figures: by name, as in a row of the history: loss, accuracy, val_loss, ..., seconds.
            epoch: counted from 1.
        """
        raise NotImplementedError(f"{type(self).__name__} does not define log(figures, epoch)")

    def on_epoch_end(self, training: Training) -> None:  # noqa: D102
        figures = dict(training.history.rows[-1])
        self.log(figures, int(figures.pop("epoch")))


class CSVLogger(Callback):
    """Keep the history in a CSV file, which is whole after every epoch.

    A run that is resumed from a checkpoint goes on in the same table.

    Args:
        path: of the file; what was there is replaced.

    >>> import pathlib, tempfile
    >>> import tinyconv as tc
    >>> path = pathlib.Path(tempfile.mkdtemp(), "history.csv")
    >>> net = tc.Sequential(tc.Linear(2, 2))
    >>> data = [[0.0, 1.0], [1.0, 0.0]], [0, 1]
    >>> _ = net.fit(*data, epochs=2, callbacks=[tc.CSVLogger(path)], verbose=False)
    >>> print(path.read_text().splitlines()[0])
    epoch,loss,accuracy,lr,seconds,samples_per_second
    """

    first_rank_only = True

    @checked
    def __init__(self, path: Annotated[str | Path, FilePath()]) -> None:
        self.path = path

    def on_epoch_end(self, training: Training) -> None:  # noqa: D102
        training.history.save(self.path)

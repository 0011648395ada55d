"""Figures of each epoch handed on: to a bar or a line, to a CSV file, to a way of tracking runs."""

import sys
import time
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, TextIO

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


class ProgressBar(Callback):
    """Show epoch, batches, loss, accuracy, samples per second and the time left.

    On a terminal and in a notebook it is a live bar, elsewhere one line an epoch.

    Args:
        file: where to; standard error if None.
    """

    #: Seconds between two updates; reading the loss makes a GPU wait.
    INTERVAL = 0.1

    def __init__(self, file: TextIO | None = None) -> None:
        self.file = file
        self._bar: Any = None
        self._last = 0.0

    def on_train_begin(self, training: Training) -> None:  # noqa: D102
        file = self.file or sys.stderr
        self._started, self._seen = time.perf_counter(), 0
        in_notebook = type(file).__module__.startswith("ipykernel.")
        if file is not None and (in_notebook or file.isatty()):  # no console: no stderr
            from tqdm import tqdm  # what needs no bar works without it

            remaining = (training.epochs - training.position.epoch) * training.batches
            self._bar = tqdm(
                total=remaining - training.position.batch if training.batches else None,
                file=_Cell() if in_notebook else file,
                unit="batch",
                dynamic_ncols=True,
                bar_format="{desc} {bar} {n_fmt}/{total_fmt} batches [{remaining} left{postfix}]",
            )

    def on_epoch_begin(self, training: Training) -> None:  # noqa: D102
        if self._bar is not None:
            self._bar.set_description_str(f"epoch {training.position.epoch + 1}/{training.epochs}")

    def on_batch_end(self, training: Training) -> None:  # noqa: D102
        self._seen += training.last_batch_size
        if self._bar is None:
            return
        self._bar.update(1)
        now = time.perf_counter()
        if now - self._last >= self.INTERVAL:
            self._last = now
            means = training.engine.totals().means()
            speed = self._seen / (now - self._started)
            figures = ", ".join(_said(name, value) for name, value in means.items())
            self._bar.set_postfix_str(f"{figures}, {speed:,.0f} samples/s", refresh=False)

    def on_epoch_end(self, training: Training) -> None:  # noqa: D102
        row = training.history.rows[-1]
        figures = [_said(k, v) for k, v in row.items() if k not in _NO_FIGURES]
        line = "  ".join([f"epoch {row['epoch']}/{training.epochs}", *figures])
        line += f"  {row['seconds']:.1f} s  {row['samples_per_second']:,.0f} samples/s"
        if self._bar is not None:
            self._bar.write(line, file=self.file or sys.stderr)
        elif (self.file or sys.stderr) is not None:
            with suppress(OSError):  # who read it has left, or its disk is full; training goes on
                print(line, file=self.file or sys.stderr, flush=True)

    def on_train_end(self, training: Training) -> None:  # noqa: D102
        if self._bar is not None:
            self._bar.close()
            self._bar = None


class _Cell:
    """The output of a notebook's cell, as a file: each line takes the place of the one before.

    So a saved notebook holds the last one alone, and no widget is needed.
    """

    encoding = "utf-8"  # so that the bar is of blocks

    def __init__(self) -> None:
        display = import_module("IPython.display").display
        self._handle = display({"text/plain": ""}, raw=True, display_id=True)

    def write(self, text: str) -> None:
        if text.strip():
            self._handle.update({"text/plain": text.strip("\r\n")}, raw=True)

    def flush(self) -> None:
        pass


#: Entries of a row of the history that are no figures of the network.
_NO_FIGURES = ("epoch", "lr", "seconds", "samples_per_second")


def _said(name: str, value: float) -> str:
    """Return a figure as a line of progress shows it.

    >>> _said("val_top_5", 0.98765), _said("loss", 0.125)
    ('validation top 5 98.77%', 'loss 0.1250')
    """
    is_share = name.removeprefix("val_").startswith(("accuracy", "top_"))
    words = name.replace("val_", "validation ", 1).replace("_", " ")
    return f"{words} {value:.2%}" if is_share else f"{words} {value:.4f}"

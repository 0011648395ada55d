"""What a training run measured, epoch by epoch."""

import csv
import io
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from tinyconv.arguments import checked
from tinyconv.errors import FileError
from tinyconv.files import write
from tinyconv.messages import hint, missing
from tinyconv.spellings import OTHER_COLUMNS
from tinyconv.tables import columns_of, csv_table, html_table


@dataclass
class History:
    """One row an epoch: a dictionary of epoch, loss, accuracy, val_loss, … and seconds.

    ``pandas.DataFrame(history)`` is a data frame of it.

    Attributes:
        rows: the rows.
        profile: after ``fit(profile=True)``, seconds a step of each call of the plan, by name.

    >>> history = History()
    >>> history.append({"epoch": 1, "loss": 0.5, "val_accuracy": 0.9})
    >>> history.append({"epoch": 2, "loss": 0.25, "val_accuracy": 0.8})
    >>> history["loss"]
    [0.5, 0.25]
    >>> history.best("val_accuracy")["epoch"]
    1
    >>> print(history.to_csv())
    epoch,loss,val_accuracy
    1,0.5,0.9
    2,0.25,0.8
    """

    #: Draws the curves of one: set by the package, since pictures are made above this module.
    drawn_by: ClassVar[Callable[["History"], Any]]

    rows: list[dict[str, float]] = field(default_factory=list)
    profile: dict[str, float] = field(default_factory=dict)

    if not TYPE_CHECKING:  # for a type checker, an attribute that is not there is not there

        def __getattr__(self, name):
            """Say how a column is reached that was asked for as in another library."""
            raise AttributeError(missing("History", name, OTHER_COLUMNS, dir(type(self))))

    def append(self, row: dict[str, float]) -> None:
        """Add the row of one epoch."""
        self.rows.append(dict(row))

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[dict[str, float]]:
        return iter(self.rows)

    def __getitem__(self, name: str) -> list[float]:
        if not all(name in row for row in self.rows):
            raise KeyError(self._missing(name))
        return [row[name] for row in self.rows]

    def __contains__(self, name: str) -> bool:
        return bool(self.rows) and all(name in row for row in self.rows)

    def best(self, name: str) -> dict[str, float]:
        """Return the first row with the highest ``name``; the lowest if it is a loss or an error.

        Lowest is best of what ends in ``loss``, ``mae`` or ``mse``; NaN is never best.

        Raises:
            KeyError: no row has such an entry.
        """
        rows = [row for row in self.rows if name in row]
        if not rows:
            raise KeyError(self._missing(name))
        choose = min if name.endswith(("loss", "mae", "mse")) else max
        rows = [row for row in rows if not math.isnan(row[name])] or rows
        return choose(rows, key=lambda row: row[name])

    def _missing(self, name: str) -> str:
        known = ", ".join(columns_of(self.rows)) or "no rows"
        which = "not every" if any(name in row for row in self.rows) else "no"
        near = hint(name, known.split(", "))
        return f"{which} row of the history has {name!r}; there are {known}{near}"

    def to_csv(self) -> str:
        """Return the table as text: a header, then a line an epoch; :meth:`save` writes it."""
        return csv_table(self.rows)

    @classmethod
    @checked
    def from_csv(cls, text: str) -> "History":
        """Read what :meth:`to_csv` returned.

        Raises:
            FileError: it is no table of numbers.

        >>> History.from_csv("epoch,loss\\n1,0.5\\n").rows
        [{'epoch': 1, 'loss': 0.5}]
        """
        try:
            rows = [
                {k: int(v) if v.isdigit() else float(v) for k, v in row.items() if v}
                for row in csv.DictReader(io.StringIO(text))
            ]
        except (AttributeError, ValueError, csv.Error) as error:
            raise FileError(f"not the history of a run ({error})") from None
        return cls(rows)

    def plot(self) -> Any:
        """Return a figure of matplotlib: loss and accuracy against the epoch.

        Raises:
            StateError: no epoch has been completed.
            ImportError: matplotlib is not installed.
        """
        return History.drawn_by(self)

    def _repr_html_(self) -> str:
        """Return the table for a notebook."""
        names = columns_of(self.rows)
        shown = [
            {k: f"{v:.4g}" if isinstance(v, float) else str(v) for k, v in row.items()}
            for row in self
        ]
        return html_table(names, [[row.get(name, "") for name in names] for row in shown])

    def save(self, path: str | Path) -> None:
        """Write the table to a CSV file."""
        write(path, self.to_csv())

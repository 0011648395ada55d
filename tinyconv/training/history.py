"""What a training run measured, epoch by epoch."""

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tinyconv.files import write

__all__ = ["History"]


@dataclass
class History:
    """One row an epoch: a dictionary of epoch, loss, accuracy, val_loss, … and seconds.

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

    rows: list[dict[str, float]] = field(default_factory=list)
    profile: dict[str, float] = field(default_factory=dict)

    def append(self, row: dict[str, float]) -> None:
        """Add the row of one epoch."""
        self.rows.append(dict(row))

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[dict[str, float]]:
        return iter(self.rows)

    def __getitem__(self, name: str) -> list[float]:
        return [row[name] for row in self.rows]

    def __contains__(self, name: str) -> bool:
        return bool(self.rows) and all(name in row for row in self.rows)

    def best(self, name: str) -> dict[str, float]:
        """Return the first row with the highest ``name``; the lowest if it is a loss.

        Raises:
            KeyError: no row has such an entry.
        """
        rows = [row for row in self.rows if name in row]
        if not rows:
            raise KeyError(f"no row of the history has {name!r}; val_... needs validation_data")
        choose = min if name.endswith("loss") else max
        return choose(rows, key=lambda row: row[name])

    def to_csv(self) -> str:
        """Return the table as text: a header, then a line an epoch."""
        out = io.StringIO()
        if self.rows:
            names = list(dict.fromkeys(name for row in self.rows for name in row))
            writer = csv.DictWriter(out, names, lineterminator="\n")
            writer.writeheader()
            writer.writerows(self.rows)
        return out.getvalue()

    @classmethod
    def from_csv(cls, text: str) -> "History":
        """Read what :meth:`to_csv` returned.

        >>> History.from_csv("epoch,loss\\n1,0.5\\n").rows
        [{'epoch': 1, 'loss': 0.5}]
        """
        return cls(
            [
                {k: int(v) if v.isdigit() else float(v) for k, v in row.items() if v}
                for row in csv.DictReader(io.StringIO(text))
            ]
        )

    def save(self, path: str | Path) -> None:
        """Write the table to a CSV file."""
        write(path, self.to_csv())

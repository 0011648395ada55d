"""What to look at before training: how much data there is, of which classes, and what is odd."""

import hashlib
from dataclasses import dataclass, fields
from html import escape
from textwrap import indent
from typing import Annotated, Any

import numpy as np

from tinyconv.arguments import Kind, Number, Printable, checked
from tinyconv.backend import Values
from tinyconv.data.splits import DataSet
from tinyconv.tables import html_table, text_table

MOST_SHOWN = 20  # classes in the table
#: Numbers beyond are no inputs that a network learns from: they were not scaled.
LARGEST = 20.0
#: Classes whose sizes differ by more are worth a warning.
UNEVEN = 20


@dataclass(frozen=True)
class Pixels:
    """The numbers that samples consist of.

    Attributes:
        low: the smallest.
        high: the largest.
        mean: of all.
        spread: standard deviation of the samples' means.
        kind: of the data; see :class:`tinyconv.data.DataSet`.
    """

    low: float
    high: float
    mean: float
    spread: float
    kind: str

    @classmethod
    def of(cls, x: Any, kind: str = "pictures") -> "Pixels":
        """Measure samples (N, ...).

        >>> Pixels.of(np.array([[0.0, 1.0], [0.5, 0.5]]))
        Pixels(low=0.0, high=1.0, mean=0.5, spread=0.0, kind='pictures')
        """
        means = np.concatenate(
            [np.mean(x[n : n + 1024].reshape(len(x[n : n + 1024]), -1), axis=1, dtype=np.float64)
             for n in range(0, len(x), 1024)]
        )  # fmt: skip
        low, high = float(np.min(x)), float(np.max(x))
        return cls(low, high, float(means.mean()), float(means.std()), kind)

    def differs(self, trained: "Pixels") -> str | None:
        """Say how these samples differ from those that a network was trained on; None if not.

        >>> bytes_, scaled = Pixels(0, 255, 33, 10, "digits"), Pixels(0, 1, 0.13, 0.04, "digits")
        >>> bytes_.differs(scaled)
        'values from 0 to 255, but the net was trained on 0 to 1'
        >>> Pixels(0, 1, 0.87, 0.04, "digits").differs(scaled)
        'values of mean 0.87, but the net was trained on mean 0.13: are light and dark exchanged?'
        """
        width = trained.high - trained.low
        outside = self.low < trained.low - width / 2 or self.high > trained.high + width / 2
        if outside or self.high - self.low < width / 20:
            ours = f"values from {self.low:.4g} to {self.high:.4g}"
            return f"{ours}, but the net was trained on {trained.low:.4g} to {trained.high:.4g}"
        if abs(self.mean - trained.mean) > 4 * trained.spread + width / 20:
            text = f"values of mean {self.mean:.2g}, but the net was trained on mean "
            text += f"{trained.mean:.2g}"
            other = trained.low + trained.high - self.mean
            if abs(other - trained.mean) < abs(self.mean - trained.mean) / 3:
                text += ": are light and dark exchanged?"
            return text
        return None


#: What a file says of the data that a network was trained on, for tinyconv.files.check_json.
CLASS_NAMES = (None, [Printable()])
PIXELS = (None, {f.name: str if f.name == "kind" else Number() for f in fields(Pixels)})


@dataclass(frozen=True)
class Report:
    """What :func:`report` found; printed, it is a table.

    Attributes:
        source: name or path of the data.
        shape: of one sample.
        about: what the reader did.
        class_names: of the classes.
        counts: name of a split -> samples of each class.
        pixels: of the training samples.
        targets: of their targets, where these are numbers to be predicted; else None.
        duplicates: name of a split -> samples of it that the training split holds too.
        warnings: what should be looked at, a sentence each.
    """

    source: str
    shape: tuple[int, ...]
    about: str
    class_names: tuple[str, ...]
    counts: dict[str, tuple[int, ...]]
    pixels: Pixels
    targets: Pixels | None
    duplicates: dict[str, int]
    warnings: tuple[str, ...]

    def _rows(self) -> list[tuple[str, ...]]:
        """Return the table: a heading, a row a class, the sums."""
        rows = [("class" if self.class_names else "samples", *self.counts)]
        for number, name in enumerate(self.class_names[:MOST_SHOWN]):
            rows.append((name, *(f"{counts[number]:,}" for counts in self.counts.values())))
        if (more := len(self.class_names) - MOST_SHOWN) > 0:
            rows.append((f"and {more:,} more", *(
                f"{sum(counts[MOST_SHOWN:]):,}" for counts in self.counts.values())))  # fmt: skip
        rows.append(("all", *(f"{sum(counts):,}" for counts in self.counts.values())))
        return rows

    def _lines(self) -> list[str]:
        """Return what is said before the table and, from the second line on, below it."""
        total = sum(map(sum, self.counts.values()))
        size = " x ".join(map(str, self.shape))
        about = f" ({self.about})" if self.about else ""
        measured = {"values": self.pixels, "targets": self.targets}
        return [
            f"{self.source}: {total:,} samples of {size}{about}",
            *(
                f"{what} from {p.low:.4g} to {p.high:.4g}, mean {p.mean:.4g}"
                for what, p in measured.items()
                if p is not None
            ),
            *(f"warning: {warning}" for warning in self.warnings),
        ]

    def __str__(self) -> str:
        first, *rest = self._lines()
        return "\n".join([first, indent(text_table(self._rows(), left=1), "  "), *rest])

    def _repr_html_(self) -> str:
        """Return the same for a notebook."""
        first, *rest = map(escape, self._lines())
        head, *rows = self._rows()
        return f"<p>{first}</p>{html_table(head, rows)}<p>{'<br>'.join(rest)}</p>"


@checked
def report(data: Annotated[DataSet, Kind(DataSet, "a data set, as load() returns")]) -> Report:
    """Look at a data set before training.

    >>> import tinyconv as tc
    >>> print(tc.data.report(tc.data.load("mnist1d")))
    mnist1d: 6,000 samples of 1 x 40
      class  train  validation   test
      0        398         100    102
    ...
      all    4,000       1,000  1,000
    values from -5.479 to 4.534, mean -0.0003...
    """
    splits = {"train": data.train, "validation": data.validation, "test": data.test}
    classes = len(data.class_names)
    counts = {
        name: tuple(np.bincount(y, minlength=classes).tolist()) if classes else (len(y),)
        for name, (_, y) in splits.items()
    }
    known = set(map(_digest, data.train.x))
    duplicates = {
        name: sum(_digest(sample) in known for sample in splits[name].x)
        for name in ("validation", "test")
    }
    pixels = Pixels.of(data.train.x, data.kind)
    targets = None if classes else Pixels.of(data.train.y, "numbers")
    return Report(
        data.source, data.train.x.shape[1:], data.about, data.class_names, counts, pixels,
        targets, duplicates, tuple(_warnings(data, counts, duplicates, pixels, targets)),
    )  # fmt: skip


def _digest(sample: Values) -> bytes:
    """Return 16 bytes that stand for a sample, since all samples would be as much memory again."""
    return hashlib.blake2b(np.ascontiguousarray(sample).data, digest_size=16).digest()


def _warnings(
    data: DataSet,
    counts: dict[str, tuple[int, ...]],
    duplicates: dict[str, int],
    pixels: Pixels,
    targets: Pixels | None,
) -> list[str]:
    found = []
    for name, count in duplicates.items():
        if count:
            found.append(
                f"{count:,} of {sum(counts[name]):,} {name} samples are training samples too"
            )
    train = counts["train"]
    if absent := [data.class_names[n] for n, count in enumerate(train) if not count]:
        found.append(f"nothing to learn these classes from: {', '.join(absent[:5])}")
    elif max(train) > UNEVEN * min(train):
        few, many = (data.class_names[train.index(pick(train))] for pick in (min, max))
        found.append(f"{many} has {max(train):,} training samples and {few} {min(train):,}")
    if pixels.low == pixels.high:
        found.append(f"all values are {pixels.low:.4g}")
    elif max(-pixels.low, pixels.high) > LARGEST:
        found.append(
            f"values from {pixels.low:.4g} to {pixels.high:.4g} are too large to learn from; "
            "bring them to about 0 to 1"
        )
    elif pixels.high - pixels.low < 1 / LARGEST:
        found.append(
            f"values from {pixels.low:.4g} to {pixels.high:.4g} differ too little to learn from; "
            "were they divided by 255 twice?"
        )
    if targets is not None and max(-targets.low, targets.high) > LARGEST:
        found.append(
            f"targets from {targets.low:.4g} to {targets.high:.4g} are too large to learn; bring "
            "them to about -1 to 1"
        )
    return found

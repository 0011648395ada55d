"""CSV and TSV: a sample a row, one column the label, a class or a number, the others numbers.

The first row is a header if none of its cells is a number; if one is the label that is asked for;
or, where no sample has the label that it would have, if its numbers count 0, 1, 2, … or 1, 2, 3, …
or stand beside one that says "label" or the like. A first column without a name, the index of a
data frame, is left out. Columns are separated by the one of comma, semicolon and tab that the first
row has most of.
"""

import csv
import math
import re
import sys
from array import array
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from tinyconv.backend import Values
from tinyconv.data.npz import as_samples
from tinyconv.data.splits import MOST_CLASSES, Part, Parts
from tinyconv.errors import DataError

#: A column of one of these names holds the labels unless another one is asked for.
LABELS = ("label", "labels", "class", "target", "y")
#: Columns of these names are the pixels of a square picture, row by row: pixel0, …; or 1x1, 1x2, …
PIXEL = re.compile(r"pixel\d+|\d+x\d+")
#: More columns than any sample has numbers; a row is read as a whole.
MOST_COLUMNS = 1 << 20


def read_table(
    path: Path,
    label: str | int | None = None,
    shape: tuple[int, ...] | None = None,
    task: str | None = None,
) -> Parts:
    """Read the rows of a file.

    The file is in UTF-8. Without a label= its column is the one called label, class, target or y,
    or the only one whose first value is no number; without a shape= columns that are named as
    pixels are a square picture, others (D,). The other arguments are those of
    :func:`tinyconv.data.load`.

    Raises:
        DataError: the file is no table of numbers and labels; the text says the line.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            delimiter = max(",;\t", key=file.readline(MOST_COLUMNS).count)
            file.seek(0)
            rows = csv.reader(file, delimiter=delimiter, strict=True)
            return _read(path, rows, label, shape, task)
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: is no text in UTF-8: {error.reason}") from None
    except csv.Error as error:
        raise DataError(f"{path}: is no table: {error}") from None


def _read(
    path: Path, lines: Any, label: str | int | None, shape: tuple[int, ...] | None, task: str | None
) -> Parts:
    rows: Iterator[list[str]] = (row for row in lines if row)
    first = next(rows, None)
    if first is None:
        raise DataError(f"{path}: is empty")
    if not 2 <= len(first) <= MOST_COLUMNS:
        raise DataError(f"{path}: has {len(first):,} columns, expected 2 to {MOST_COLUMNS:,}")
    header, doubtful = _header(first, label)
    if header is not None:
        first = next(rows, None)
        if first is None:
            raise DataError(f"{path}: has a header and no rows")
    column = _label_column(path, header, first, label)
    left_out = {column} if header is None or header[0] or not column else {0, column}
    # Four bytes a number and eight a label: rows of Python's objects would take forty times that.
    numbers, labels, known = array("f"), array("q"), dict[str, int]()
    width = len(first if header is None else header)
    most = MOST_CLASSES
    row: list[str] | None = first
    while row is not None:
        if len(row) != width:
            raise DataError(
                f"{path}: line {lines.line_num} has {len(row)} columns, expected {width}"
            )
        name = row[column].strip()
        if not name or (_is_number(name) and math.isnan(float(name))):
            raise DataError(f"{path}: line {lines.line_num} has the label {name!r}, which is none")
        labels.append(known.setdefault(name, len(known)))
        for place in sorted(left_out, reverse=True):
            del row[place]
        if len(known) > most:
            if (task or _task(known)) != "regression":
                raise DataError(f"{path}: has more than {MOST_CLASSES:,} different labels")
            task, most = "regression", sys.maxsize
        try:
            numbers.extend(map(float, row))
        except ValueError:
            wrong = next(cell for cell in row if not _is_number(cell))
            raise DataError(
                f"{path}: line {lines.line_num} has {wrong[:40]!r} for a number"
            ) from None
        row = next(rows, None)
    if doubtful and (name := doubtful.pop(column).strip()) in known:  # it was a sample
        if words := [cell for cell in doubtful if not _is_number(cell)]:
            raise DataError(f"{path}: line 1 has {words[0][:40]!r} for a number")
        labels.insert(0, known[name])
        numbers[:0] = array("f", map(float, doubtful))
    if len(left_out) == width:
        raise DataError(f"{path}: has no columns beside its index and its label")
    x = np.frombuffer(numbers, np.float32).reshape(len(labels), width - len(left_out))
    names = [cell for n, cell in enumerate(header or ()) if n not in left_out]
    x, about = _pixels(x, names, shape is None)
    if about and shape is None:
        shape = (1, math.isqrt(x.shape[1]), math.isqrt(x.shape[1]))
    if len(left_out) > 1:
        about = "; ".join(filter(None, ("a first column without a name left out", about)))
    if shape is not None:
        x = as_samples(str(path), x, shape)
    kind = "pictures" if x.ndim == 4 else "numbers"
    codes = np.frombuffer(labels, np.int64)
    if (task or _task(known)) == "regression":
        try:
            values = np.array(list(map(float, known)), np.float32)
        except ValueError:
            wrong = next(name for name in known if not _is_number(name))
            raise DataError(f"{path}: the label {wrong[:40]!r} is no number") from None
        return Parts({"train": Part(x, values[codes][:, np.newaxis])}, kind, about=about)
    class_names, places = _sorted(known)
    part = Part(x, places[codes])
    return Parts({"train": part}, kind, class_names, like_mnist=True, about=about)


def _header(first: list[str], label: str | int | None) -> tuple[list[str] | None, list[str]]:
    """Return the names of the columns, None if the first row is a sample, and the row if in doubt.

    >>> _header(["a", "b"], None), _header(["3", "b"], None), _header(["3", "b"], "b")
    ((['a', 'b'], []), (None, []), (['0', 'b'], []))
    >>> _header(["kind", "0", "1"], None)
    (['kind', '1', '2'], ['kind', '0', '1'])
    """
    cells = [cell.strip() for cell in first]
    numbers = [cell for cell in cells if _is_number(cell)]
    if not numbers:
        return cells, []
    counts = any(numbers == [str(first + n) for n in range(len(numbers))] for first in (0, 1))
    said = any(cell.lower() in LABELS for cell in cells)
    asked = label in cells and label not in numbers
    if len(numbers) == len(cells) or not (counts or said or asked):
        return None, []
    # A number is a place among the columns, so that it names no other one.
    names = [str(place) if _is_number(cell) else cell for place, cell in enumerate(cells)]
    return names, [] if asked or "" in cells else first


def _task(labels: Collection[str]) -> str:
    """Return what labels are, where nobody says it.

    >>> _task(["1", "2.5"]), _task(["1", "2"]), _task(["1.5", "ant"])
    ('regression', 'classification', 'classification')
    """
    if not all(map(_is_number, labels)):
        return "classification"
    values = list(map(float, labels))
    fractions = all(map(math.isfinite, values)) and not all(map(float.is_integer, values))
    return "regression" if fractions else "classification"


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _label_column(
    path: Path, header: list[str] | None, first: list[str], label: str | int | None
) -> int:
    names = header or [str(number) for number in range(len(first))]
    if label is not None:
        if str(label) in names:
            return names.index(str(label))
        if str(label).isdecimal() and int(label) < len(names):
            return int(label)
        some = ", ".join(names[:10]) + (" …" if len(names) > 10 else "")
        raise DataError(f"{path}: has no column {label!r} for the label; its columns: {some}")
    lowered = [name.lower() for name in names]
    words = [n for n, cell in enumerate(first) if not _is_number(cell)]
    named = [n for n, name in enumerate(lowered) if name and not _is_number(name)]
    listed = [lowered.index(name) for name in LABELS if name in lowered]
    for candidates in (listed, words, named):
        if len(candidates) == 1:
            return candidates[0]
    raise DataError(
        f"{path}: which column holds the label? none or several are called "
        f"{', '.join(LABELS)} or hold words; say label= (in a command --label), its name or "
        "number"
    )


def _pixels(x: Values, names: list[str], square: bool) -> tuple[Values, str]:
    """Return columns that are named as pixels as bytes, and what was done."""
    if not names or not all(map(PIXEL.fullmatch, names)):
        return x, ""
    if square and math.isqrt(x.shape[1]) ** 2 != x.shape[1]:
        return x, ""
    if x.min() < 0 or x.max() > 255 or (x != np.rint(x)).any():
        return x, "columns read as pixels"
    return x.astype(np.uint8), "columns read as pixels from 0 to 255"


def _sorted(known: dict[str, int]) -> tuple[tuple[str, ...], Values]:
    """Return the labels in their order, and the place in it of each in the order of the file.

    Labels that are all numbers sort as such, so that 10 comes after 9.
    """
    is_numeric = all(map(_is_number, known))
    names = sorted(known, key=lambda name: (float(name) if is_numeric else 0.0, name))
    places = np.empty(len(names), np.int64)
    places[[known[name] for name in names]] = np.arange(len(names))
    return tuple(names), places

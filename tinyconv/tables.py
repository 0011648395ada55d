"""Tables as text for a terminal, as HTML for a notebook and as CSV."""

import csv
import io
from collections.abc import Collection, Iterable, Mapping, Sequence
from html import escape
from typing import Any


def text_table(rows: Sequence[Sequence[str]], left: int | Collection[int]) -> str:
    """Return rows as lines, the first ``left`` columns, or those, flush left, the others right.

    >>> print(text_table([("layer", "size"), ("ReLU", "8")], left=1))
    layer  size
    ReLU      8
    """
    places = range(left) if isinstance(left, int) else left
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [
            cell.ljust(width) if column in places else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def columns_of(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return the names that occur in rows, in the order in which they come."""
    return list(dict.fromkeys(name for row in rows for name in row))


def csv_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return rows as CSV with a line of names; nothing without rows.

    >>> print(csv_table([{"epoch": 1, "loss": 0.5}, {"epoch": 2}]))
    epoch,loss
    1,0.5
    2,
    """
    out = io.StringIO()
    if rows:
        writer = csv.DictWriter(out, columns_of(rows), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return out.getvalue()


def html_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a heading and rows as HTML.

    >>> html_table(["a<b"], [["1"]])
    '<table><tr><th>a&lt;b</th></tr><tr><td>1</td></tr></table>'
    """
    lines = [("th", head), *(("td", row) for row in rows)]
    text = "".join(
        "<tr>" + "".join(f"<{tag}>{escape(cell)}</{tag}>" for cell in cells) + "</tr>"
        for tag, cells in lines
    )
    return f"<table>{text}</table>"

"""Tables as text for a terminal and as HTML for a notebook."""

from collections.abc import Iterable, Sequence
from html import escape


def text_table(rows: Sequence[Sequence[str]], left: int) -> str:
    """Return rows as lines, the first ``left`` columns flush left and the others flush right.

    >>> print(text_table([("layer", "size"), ("ReLU", "8")], left=1))
    layer  size
    ReLU      8
    """
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [
            cell.ljust(width) if column < left else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


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

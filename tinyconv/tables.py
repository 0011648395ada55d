"""Tables as text for a terminal and as HTML for a notebook."""

from collections.abc import Collection, Iterable, Sequence
from html import escape


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

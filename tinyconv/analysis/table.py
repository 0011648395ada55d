"""Tables of results: typed rows that print as text and show as HTML."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from typing import Any, Generic, TypeVar

from tinyconv.tables import html_table, text_table

Row = TypeVar("Row")


def show(value: Any) -> str:
    """Return a value as a cell: thousands apart, four digits, a shape as 20x24x24.

    >>> [show(v) for v in (1234567, 0.123456, (20, 24, 24), True, None, float("nan"))]
    ['1,234,567', '0.1235', '20x24x24', 'yes', '', '-']
    """
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple):
        return "x".join(str(v) for v in value)
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return "-" if math.isnan(value) else f"{value:.4g}"
    return str(value)


def by_axis(values: tuple[Any, ...]) -> str:
    """Return one entry an axis, with pairs as before+after.

    >>> by_axis((1, -3)), by_axis(((1, 2), (0, 0)))
    ('1, -3', '1+2, 0+0')
    """
    return ", ".join(
        "+".join(map(str, value)) if isinstance(value, tuple) else str(value) for value in values
    )


def column(title: str, show: Callable[[Any], str] = show) -> dict[str, Any]:
    """Return the metadata of a row's field: its title and how it is shown."""
    return {"title": title, "show": show}


@dataclass(frozen=True)
class Table(Generic[Row]):
    """Rows of one kind, each a dataclass whose fields have the metadata of :func:`column`.

    >>> from dataclasses import dataclass, field
    >>> @dataclass(frozen=True)
    ... class Pet:
    ...     name: str = field(metadata=column("name"))
    ...     legs: int = field(metadata=column("legs"))
    >>> table = Table((Pet("snake", 0), Pet("millipede", 1306)))
    >>> print(table)
    name        legs
    snake          0
    millipede  1,306
    >>> table["legs"]
    [0, 1306]
    """

    rows: tuple[Row, ...]

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[Row]:
        return iter(self.rows)

    def __getitem__(self, name: str) -> list[Any]:
        """Return a column by the name of its field."""
        return [getattr(row, name) for row in self.rows]

    def cells(self) -> list[list[str]]:
        """Return the titles and then every row, as text."""
        if not self.rows:
            return []
        columns = fields(self.rows[0])  # type: ignore[arg-type]
        lines = [[each.metadata["title"] for each in columns]]
        for row in self.rows:
            lines.append([each.metadata["show"](getattr(row, each.name)) for each in columns])
        return lines

    def __str__(self) -> str:
        if not self.rows:
            return "(no rows)"
        # Numbers stand to the right.
        texts = [
            place
            for place, each in enumerate(fields(self.rows[0]))  # type: ignore[arg-type]
            if not all(isinstance(value, int | float | None) for value in self[each.name])
        ]
        return text_table(self.cells(), texts)

    def _repr_html_(self) -> str:
        """Return the table for a notebook."""
        head, *rows = self.cells() or [[]]
        return html_table(head, rows)

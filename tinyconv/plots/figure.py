"""A figure that shows itself in a notebook."""

import io
from collections.abc import Mapping
from typing import Any, TypeVar

import matplotlib.figure
from matplotlib.axes import Axes

from tinyconv.errors import ArgumentError, StateError
from tinyconv.messages import shown

#: Colours of what may be negative: blue below zero, red above, both told apart by the colour-blind.
DIVERGING = "RdBu_r"

T = TypeVar("T")


class Figure(matplotlib.figure.Figure):
    """matplotlib's figure, which Jupyter displays whether or not pyplot was imported.

    >>> Figure(figsize=(1, 1))._repr_png_()[1:4]
    b'PNG'
    """

    def _repr_png_(self) -> bytes:
        stream = io.BytesIO()
        self.savefig(stream, format="png", dpi=80)
        return stream.getvalue()


def named(op: str, kind: type[Any], one_or_several: T | Mapping[str, T]) -> Mapping[str, T]:
    """Return what has names as it is, and a single one under no name.

    Raises:
        ArgumentError: one is not of the kind; the text begins with ``op``.
        StateError: there is none.

    >>> named("demo", int, 3), named("demo", int, {"a": 3})
    ({'': 3}, {'a': 3})
    >>> named("demo", int, "a")
    Traceback (most recent call last):
    tinyconv.errors.ArgumentError: demo: 'a' is no int, expected one or a dictionary of them by name
    """
    several = one_or_several if isinstance(one_or_several, Mapping) else {"": one_or_several}
    for each in several.values():
        if not isinstance(each, kind):
            raise ArgumentError(
                f"{op}: {shown(each)} is no {kind.__name__}, expected one or a dictionary of them "
                "by name"
            )
    if not several:
        raise StateError(f"{op}: no {kind.__name__.lower()}, expected at least one")
    return several


def legend_beside(panel: Axes) -> None:
    """Put the legend to the right of a panel, where no curve can be, if a curve has a name."""
    if panel.get_legend_handles_labels()[1]:
        panel.legend(frameon=False, loc="center left", bbox_to_anchor=(1.02, 0.5))


def grid(figure: Any, count: int, columns: int) -> list[Axes]:
    """Return so many panels without ticks, row by row, of a figure or a part of one."""
    panels = figure.subplots(max(1, -(-count // columns)), columns, squeeze=False).ravel()
    for panel in panels[count:]:
        panel.remove()
    return [bare(panel) for panel in panels[:count]]


def bare(panel: Axes) -> Axes:
    """Return a panel after its ticks were taken away."""
    panel.set(xticks=[], yticks=[])
    return panel

"""Which elements of x an element of y is made of, along one axis: tables for the kernels.

Pooling, padding, cropping and interpolation treat the axes of an image alike and one by one:
element (p, q, r) of y is made of the elements (i, j, k) of x with i in the list of p, j in that
of q and k in that of r, each weighed by the product of three weights. So a table for each axis
describes window, stride, padding, dilation, ceil mode and whatever else there is, and the table
of the backward pass is the transposed one.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tinyconv.backend import Values
from tinyconv.geometry import Geometry

AXES, PARTS = ("d", "h", "w"), ("starts", "places", "weights")
#: The fields of a record that describe the tables of all three axes of an image.
FIELDS = tuple(f"{axis}_{part}" for axis in AXES for part in PARTS)


@dataclass(eq=False)
class Terms:
    """The table of one axis.

    >>> mean = Terms([[(0, 0.5), (1, 0.5)], [(2, 1.0)]], size=4)
    >>> mean.starts, mean.places, mean.transposed().starts
    (array([0, 2, 3]), array([0, 1, 2]), array([0, 1, 2, 3, 3]))
    """

    #: for each element of y the (place in x, weight) of its terms.
    lists: Sequence[Sequence[tuple[int, float]]]
    size: int  #: elements of x

    def __post_init__(self) -> None:
        lists = self.lists
        #: int64; the terms of element p are those from ``starts[p]`` to ``starts[p + 1]``.
        self.starts = np.cumsum([0, *map(len, lists)], dtype=np.int64)
        #: int64, in x.
        self.places = np.array([place for terms in lists for place, _ in terms], np.int64)
        #: float32.
        self.weights = np.array([weight for terms in lists for _, weight in terms], np.float32)

    @property
    def runs(self) -> Values:
        """For each element of y how many from there on are neighbours of x, one by one; int64.

        >>> Terms([[], [(0, 1.0)], [(1, 1.0)], [(2, 0.5)]], size=3).runs
        array([0, 2, 1, 0])
        """
        runs = np.zeros(len(self.lists) + 1, np.int64)
        for n, terms in reversed(list(enumerate(self.lists))):
            if len(terms) == 1 and terms[0][1] == 1:
                place, following = terms[0][0], self.lists[n + 1 : n + 2]
                goes_on = runs[n + 1] > 0 and following[0][0][0] == place + 1
                runs[n] = 1 + (runs[n + 1] if goes_on else 0)
        return runs[:-1]

    def transposed(self) -> "Terms":
        """Return the table from y to x; a term of weight 0 has no part in it."""
        lists: list[list[tuple[int, float]]] = [[] for _ in range(self.size)]
        for element, terms in enumerate(self.lists):
            for place, weight in terms:
                if weight:
                    lists[place].append((element, weight))
        return Terms(lists, len(self.lists))


def arguments_of(tables: Sequence[Terms]) -> dict[str, Any]:
    """Return the arguments of a kernel that are the tables of three axes."""
    parts = [getattr(table, part) for table in tables for part in PARTS]
    return dict(zip(FIELDS, parts, strict=True))


def transposed(tables: Sequence[Terms]) -> tuple[Terms, ...]:
    """Return the tables of the backward pass."""
    return tuple(table.transposed() for table in tables)


def over_three_axes(tables: Sequence[Terms]) -> tuple[Terms, ...]:
    """Put an axis of one element, which is copied, in the place of each of three that is missing.

    >>> [len(table.lists) for table in over_three_axes([Terms([[], []], 5)])]
    [1, 1, 2]
    """
    single = Terms([[(0, 1.0)]], 1)
    return (*[single] * (3 - len(tables)), *tables)


def window_terms(geometry: Geometry, axis: int) -> Terms:
    """Return the elements of the input that each window sees, each with the weight 1.

    >>> from tinyconv.geometry import sliding_window
    >>> window_terms(sliding_window("demo", (4,), (3,), 2, 1), 0).lists
    [[(0, 1.0), (1, 1.0)], [(1, 1.0), (2, 1.0), (3, 1.0)]]
    """
    size, (before, _) = geometry.size[axis], geometry.padding[axis]
    offsets = [k * geometry.dilation[axis] - before for k in range(geometry.kernel[axis])]
    starts = [p * geometry.stride[axis] for p in range(geometry.output[axis])]
    lists = [[(s + k, 1.0) for k in offsets if 0 <= s + k < size] for s in starts]
    return Terms(lists, size)

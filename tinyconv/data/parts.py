"""What the readers of data of one's own return, before it is numbered, split and scaled."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np


class Part(NamedTuple):
    """Samples (N, ...), uint8 or float32, and their labels.

    Those of classes are (N,), integers or strings; numbers to be predicted are (N, K), float32.
    """

    x: np.ndarray[Any, Any]
    labels: np.ndarray[Any, Any]


@dataclass(frozen=True)
class Parts:
    """A file or folder as it was read.

    Attributes:
        arrays: ``"train"`` and, where the data have parts of their own, ``"test"`` and
            ``"validation"``.
        kind: see :class:`tinyconv.data.DataSet`.
        class_names: what the labels number, where the data say it.
        like_mnist: whether digits are of MNIST's form: light on dark, centred.
        about: what was done with the data, for the report.
    """

    arrays: dict[str, Part]
    kind: str
    class_names: tuple[str, ...] | None = None
    like_mnist: bool = False
    about: str = ""

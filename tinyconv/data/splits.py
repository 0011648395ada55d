"""What every data set is loaded into: three splits of inputs and labels."""

from typing import Any, NamedTuple

import numpy as np

__all__ = ["DataSet", "Split"]


class Split(NamedTuple):
    """Inputs and labels, unpacked as ``x, y = split``.

    ``x`` is float32 of shape (N, 1, 28, 28) for digits and (N, 1, 40) for MNIST-1D; ``y`` holds
    the class of each, int64 of shape (N,).
    """

    x: np.ndarray[Any, np.dtype[np.float32]]
    y: np.ndarray[Any, np.dtype[np.int64]]

    @classmethod
    def from_bytes(
        cls,
        images: np.ndarray[Any, np.dtype[np.uint8]],
        labels: np.ndarray[Any, np.dtype[np.uint8]],
    ) -> "Split":
        """Scale images (N, 28, 28) of bytes to one channel of [0, 1], and widen the labels.

        >>> images = np.full((2, 28, 28), 51, dtype=np.uint8)
        >>> x, y = Split.from_bytes(images, np.array([3, 7], dtype=np.uint8))
        >>> x.shape, x.dtype.name, round(float(x.max()), 4), y.dtype.name
        ((2, 1, 28, 28), 'float32', 0.2, 'int64')
        """
        x = images[:, np.newaxis].astype(np.float32)
        x /= 255
        return cls(x, labels.astype(np.int64))


class DataSet(NamedTuple):
    """Three splits, by name or unpacked: ``(x, y), (xv, yv), (xt, yt) = data``."""

    train: Split
    validation: Split
    test: Split

"""The targets of a data set, with how often each sample counts: what an engine takes batches of."""

from typing import Any

import numpy as np

from tinyconv.backend import Array, Values, device_of, like, namespace


class Targets:
    """Targets of all samples.

    Args:
        y: (S, ...), class indices, probabilities or numbers, as the loss asks for.
        sample_weight: (S,), floating-point; None for 1.

    >>> targets = Targets(np.array([5, 6, 7]), np.array([1.0, 0.5, 2.0]))
    >>> targets.batch(np.array([2, 0]), np.zeros(1, np.float32))
    (array([7, 5]), array([2., 1.], dtype=float32))
    """

    def __init__(self, y: Array, sample_weight: Array | None = None) -> None:
        self.y = y
        self.sample_weight = sample_weight

    def __len__(self) -> int:
        return int(self.y.shape[0])

    def __getitem__(self, index: Values) -> "Targets":
        """Return those of some samples."""
        y = take(self.y, index, self.y)
        weight = self.sample_weight
        return Targets(y, None if weight is None else take(weight, index, weight))

    def batch(self, index: Values, of: Array) -> tuple[Array, Array | None]:
        """Return targets and weights of some samples, on the device of ``of``.

        Args:
            index: (N,), int64, which samples.
            of: an array of the network; the weights get its dtype.
        """
        y = take(self.y, index, of)
        if self.sample_weight is None:
            return y, None
        weight = take(self.sample_weight, index, of)
        return y, namespace("targets", of=of, weight=weight).astype(weight, of.dtype, copy=False)


def take(array: Array, index: Values, of: Array) -> Array:
    """Return ``array[index]`` on the device of ``of``."""
    part = array[index if device_of(array) == "cpu" else like(array, index)]
    return like(of, part) if isinstance(part, np.ndarray) else part


def beside(xp: Any, array: Array, ndim: int) -> Array:
    """Return the array with as many axes, for what has more of them behind."""
    return xp.reshape(array, (*array.shape, *[1] * (ndim - array.ndim)))

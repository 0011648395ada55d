"""Losses as thin objects over the operations: what ``fit(loss=...)`` takes."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

from tinyconv.backend import Array
from tinyconv.errors import FileError
from tinyconv.ops.softmax import softmax, softmax_log_likelihood, softmax_log_likelihood_backward

__all__ = ["LOSSES", "Loss", "SoftmaxLogLikelihood", "loss_from_name"]


class Loss(ABC):
    """The base of all losses: the mean over the batch of what each sample costs."""

    _saved: Any = None

    def config(self) -> dict[str, Any]:
        """Return the arguments that construct this loss again; JSON can hold them."""
        return {}

    @abstractmethod
    def forward(self, logits: Array, labels: Array) -> Array:
        """Return the loss, an array without axes, of (N, K) logits and (N,) class indices."""

    @abstractmethod
    def backward(self) -> Array:
        """Return its gradient with respect to the logits of the last forward pass."""

    @abstractmethod
    def probabilities(self, logits: Array) -> Array:
        """Return what the network says of each class, (N, K), of (N, K) logits."""

    def __repr__(self) -> str:
        arguments = ", ".join(f"{name}={value!r}" for name, value in self.config().items())
        return f"{type(self).__name__}({arguments})"


class SoftmaxLogLikelihood(Loss):
    """``-log softmax(logits)[label]``, the default.

    >>> import numpy as np
    >>> loss = SoftmaxLogLikelihood()
    >>> round(float(loss.forward(np.zeros((2, 10)), np.array([3, 4]))), 6)  # log 10
    2.302585
    >>> loss.backward().shape
    (2, 10)
    """

    def forward(self, logits: Array, labels: Array) -> Array:  # noqa: D102
        value, self._saved = softmax_log_likelihood(logits, labels)
        return value

    def backward(self) -> Array:  # noqa: D102
        return softmax_log_likelihood_backward(1.0, self._saved)

    def probabilities(self, logits: Array) -> Array:  # noqa: D102
        return softmax(logits)[0]


#: The losses that a file may name.
LOSSES: dict[str, type[Loss]] = {kind.__name__: kind for kind in (SoftmaxLogLikelihood,)}


def loss_from_name(name: str, config: Mapping[str, Any] | None = None) -> Loss:
    """Return a loss by the name of its class and what its ``config()`` gave.

    Raises:
        FileError: there is none of that name, or it does not take such arguments.

    >>> loss_from_name("SoftmaxLogLikelihood")
    SoftmaxLogLikelihood()
    >>> loss_from_name("Surprise")
    Traceback (most recent call last):
    tinyconv.errors.FileError: unknown loss 'Surprise'
    """
    if name not in LOSSES:
        raise FileError(f"unknown loss {name!r}")
    try:
        return LOSSES[name](**(config or {}))
    except (TypeError, ValueError) as error:
        raise FileError(f"loss {name} does not take {config!r}: {error}") from None

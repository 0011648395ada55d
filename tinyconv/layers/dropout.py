"""Dropout as a layer."""

from math import prod
from typing import Any

from tinyconv import random
from tinyconv.arguments import Share, checked
from tinyconv.backend import Array, namespace
from tinyconv.layers.base import Layer
from tinyconv.ops.dropout import dropout, dropout_backward

__all__ = ["Dropout"]


class Dropout(Layer):
    """Drop each element with probability p in training; drop none otherwise.

    The mask is a function of the network's seed, the layer's place in the network and the step.

    Args:
        p: probability of dropping an element, 0 <= p < 1.
        scale_at_test: what keeps the expectation the same. If False, what stays is scaled by
            1 / (1 - p) in training. If True, everything is scaled by 1 - p outside training, as
            in Nielsen's book and in Srivastava et al. (2014). The same rate then takes smaller
            steps: (1 - p)**2 times those of the other form, for the weights that follow.

    >>> import numpy as np
    >>> layer = Dropout(0.5)
    >>> x = np.ones((1, 6))
    >>> bool((layer.forward(x) == x).all())
    True
    >>> layer.forward(x, training=True, step=1)
    array([[...]])
    """

    @checked
    def __init__(self, p: Share = 0.5, *, scale_at_test: bool = False) -> None:
        self.p = p
        self.scale_at_test = scale_at_test

    def config(self) -> dict[str, Any]:  # noqa: D102
        return {"p": self.p} | ({"scale_at_test": True} if self.scale_at_test else {})

    @property
    def scales(self) -> tuple[float, float]:
        """What is kept is multiplied by, in training and outside it.

        >>> Dropout(0.75).scales, Dropout(0.75, scale_at_test=True).scales
        ((4.0, 1.0), (1.0, 0.25))
        """
        return (1.0, 1 - self.p) if self.scale_at_test else (1 / (1 - self.p), 1.0)

    def mask_key(self, step: int, size: int) -> int:
        """Return the key of the mask of this step, for :func:`tinyconv.random.uniform`.

        Args:
            step: number of the training step.
            size: numbers in a sample.
        """
        key = random.key(self.seed, "dropout", self.path, step)
        return random.later(key, self.first_sample * size)

    def compute(self, x: Array, training: bool, step: int) -> tuple[Array, Any]:  # noqa: D102
        if not training:
            return self._scaled(x), None
        shape, xp = tuple(x.shape), namespace("Dropout", x=x)
        key = self.mask_key(step, prod(shape[1:]))
        # Drawn where x is; every device draws the same mask.
        mask = random.uniform(key, prod(shape), xp, x.device) >= float(self.p)
        # The operation needs p for its scale alone, which is 1 if p is 0.
        return dropout(x, xp.reshape(mask, shape), 0.0 if self.scale_at_test else self.p)

    def compute_backward(self, dy: Array, saved: Any) -> tuple[Array, dict[str, Array]]:  # noqa: D102
        return (self._scaled(dy) if saved is None else dropout_backward(dy, saved)), {}

    def _scaled(self, x: Array) -> Array:
        """Return x as it is passed on outside training."""
        return x * self.scales[1] if self.scale_at_test else x

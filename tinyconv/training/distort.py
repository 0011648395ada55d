"""Training on images that are distorted anew in every epoch."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from tinyconv import random
from tinyconv.data.byte_images import ByteImages
from tinyconv.training.callbacks import Callback

if TYPE_CHECKING:
    from tinyconv.training.fit import Training

__all__ = ["DistortEachEpoch"]

Floats: TypeAlias = np.ndarray[Any, Any]

#: Images distorted at a time, which bounds the memory; a distortion depends on it.
PIECE = 1000


class DistortEachEpoch(Callback):
    """Replace the images that ``fit`` trains on by distorted copies before every epoch.

    The copies are a function of the seed and the number of the epoch, so that a resumed run sees
    the same ones.

    Args:
        images: what ``fit`` is handed as x; its bytes are overwritten.
        distort: maps a batch (N, C, H, W) in [0, 1] and a key of :mod:`tinyconv.random` to the
            distorted batch, as the functions of :mod:`tinyconv.data.augment` do.
        seed: fixes the distortions.

    >>> import tinyconv as tc
    >>> images = tc.data.ByteImages.from_floats(tc.data.load().train.x)
    >>> callback = DistortEachEpoch(images, lambda x, key: tc.data.augment.shift(x, 1, key))
    """

    def __init__(
        self, images: ByteImages, distort: Callable[[Floats, int], Floats], seed: int = 0
    ) -> None:
        self.images = images
        self.originals = ByteImages(images.pixels.copy())
        self.distort = distort
        self.seed = seed

    def on_epoch_begin(self, training: "Training") -> None:  # noqa: D102
        for first in range(0, len(self.originals), PIECE):
            piece = slice(first, first + PIECE)
            key = random.key(self.seed, "distort", training.position.epoch, first)
            x = np.clip(self.distort(self.originals[piece], key), 0, 1)
            self.images.pixels[piece] = ByteImages.from_floats(x).pixels

    def on_train_end(self, training: "Training") -> None:  # noqa: D102
        self.images.pixels[:] = self.originals.pixels

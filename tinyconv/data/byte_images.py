"""Images kept as bytes: a quarter of the memory of float32."""

from types import ModuleType
from typing import Annotated, Any

import array_api_compat.numpy as array_api_numpy
import numpy as np

from tinyconv.arguments import Kind, checked
from tinyconv.backend import Values
from tinyconv.errors import DataError, DtypeError, ShapeError

ARRAY = Kind(np.ndarray, "an array (N, ...)")


class ByteImages:
    """Images in bytes that look like float32 images in [0, 1]: what is taken out is divided by 255.

    ``fit``, ``predict`` and ``evaluate`` take one wherever they take an array of samples.

    Args:
        pixels: (N, ...), uint8.

    Attributes:
        pixels: the bytes themselves.

    Raises:
        DtypeError: the pixels are not bytes.
        ShapeError: they have no axes.

    >>> images = ByteImages(np.full((3, 1, 2, 2), 51, np.uint8))
    >>> images.shape, images.dtype.name
    ((3, 1, 2, 2), 'float32')
    >>> images[np.array([2, 0])][0, 0]
    array([[0.2, 0.2],
           [0.2, 0.2]], dtype=float32)
    """

    dtype = np.dtype(np.float32)
    device = "cpu"

    @checked
    def __init__(self, pixels: Annotated[Values, ARRAY]) -> None:
        if pixels.dtype != np.uint8:
            raise DtypeError(f"ByteImages: pixels has dtype {pixels.dtype}, expected uint8")
        if pixels.ndim == 0:
            raise ShapeError("ByteImages: pixels has shape (), expected (N, ...)")
        self.pixels = pixels

    @classmethod
    @checked
    def from_floats(cls, x: Annotated[Values, ARRAY]) -> "ByteImages":
        """Round images in [0, 1] to bytes; exact for what was bytes before.

        Raises:
            DataError: a value is outside [0, 1].

        >>> ByteImages.from_floats(np.full((1, 1, 1, 1), 0.2)).pixels.item()
        51
        """
        if x.size and not (x.min() >= 0 and x.max() <= 1):
            raise DataError(
                f"ByteImages: values from {x.min()} to {x.max()}, expected them in [0, 1]"
            )
        return cls(np.rint(x * 255).astype(np.uint8))

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, ...)."""
        return tuple(self.pixels.shape)

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return self.pixels.ndim

    def __array_namespace__(self, *, api_version: str | None = None) -> ModuleType:
        """Answer as NumPy arrays do, so that checks of arrays accept the images."""
        return array_api_numpy

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Values:
        if copy is False:
            raise ValueError("ByteImages: an array of floats is always a copy")
        return self[:].astype(dtype or self.dtype, copy=False)

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, index: Any) -> np.ndarray[Any, np.dtype[np.float32]]:
        x: np.ndarray[Any, np.dtype[np.float32]] = self.pixels[index].astype(np.float32)
        x /= 255
        return x

    def __repr__(self) -> str:
        return f"ByteImages of shape {self.shape}"

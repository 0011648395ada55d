"""A picture of one handwritten digit, brought into the form that MNIST's images have.

The steps are MNIST's own (LeCun, Bottou, Bengio and Haffner, "Gradient-based learning applied to
document recognition", Proceedings of the IEEE 86, 1998, section III A): the digit is scaled to fit
a box of 20 x 20 pixels with its proportions kept, antialiased, and laid into 28 x 28 pixels so
that its centre of mass is in the middle.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import numpy as np

from tinyconv.arguments import FilePath, checked
from tinyconv.data.pictures import opened
from tinyconv.errors import DataError

if TYPE_CHECKING:
    from PIL.Image import Image

Floats: TypeAlias = np.ndarray[Any, np.dtype[np.float64]]

SIZE = 28  # of an image of MNIST, in pixels
BOX = 20  # of the digit in it
MIDDLE = 14  # the centre of mass, in pixels counted from 0; measured on MNIST
ENOUGH = 1000  # pixels a side; what is larger, a photograph, is made smaller first

#: An image whose lightest and darkest grey differ less, of a range of 1, is blank.
LEAST_CONTRAST = 0.1
#: What is fainter, of the strongest ink, is paper, shadow or the noise of a JPEG.
FAINTEST_INK = 0.15


@checked
def read_digit(path: Annotated[str | Path, FilePath()]) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Read a PNG or JPEG of one digit, of any size, dark on light or light on dark.

    The background is the median grey along the border, and the digit is what differs from it.
    Transparent parts count as background.

    Returns:
        The digit as a net trained on MNIST expects it: float32 of shape (1, 28, 28) in [0, 1],
        0 for the background and 1 for the strongest ink.

    Raises:
        DataError: the file cannot be read, is no intact PNG or JPEG, or is blank.
    """
    from PIL import ImageOps

    with opened(path) as image:
        grey = _grey(ImageOps.exif_transpose(image))
    ink = _ink(grey)
    if ink.max() < LEAST_CONTRAST:
        raise DataError(f"{path}: no digit found: the image is blank")
    ink = np.where(ink < FAINTEST_INK * ink.max(), 0, ink)
    return _centred(_fitted(_cropped(ink)))[np.newaxis].astype(np.float32)


def _grey(image: "Image") -> Floats:
    """Return the brightness of each pixel in [0, 1], transparent pixels made background."""
    if image.mode.startswith("I"):  # 16 bits of grey, which Pillow's conversions would cut off
        image = image.convert("I")
        image.thumbnail((ENOUGH, ENOUGH))
        return np.asarray(image) / 65535
    image = image.convert("RGBA").convert("LA")
    image.thumbnail((ENOUGH, ENOUGH))
    pixels = np.asarray(image) / 255
    grey, opacity = pixels[..., 0], pixels[..., 1]
    if np.median(_border(opacity)) > 0.5:
        background = float(np.median(_border(grey)[_border(opacity) > 0.5]))
    else:  # ink on nothing: white paper below dark ink, a blackboard below light ink
        background = float(np.sum(grey * opacity) < 0.5 * np.sum(opacity))
    return grey * opacity + background * (1 - opacity)


def _border(pixels: Floats) -> Floats:
    """Return the outermost pixels of an image, as one row."""
    return np.concatenate([pixels[0], pixels[-1], pixels[1:-1, 0], pixels[1:-1, -1]])


def _ink(grey: Floats) -> Floats:
    """Return how far each pixel is from the background, in the direction of the digit."""
    difference = grey - np.median(_border(grey))
    darker = np.sum(difference * np.abs(difference)) < 0
    return np.maximum(-difference if darker else difference, 0)


def _cropped(ink: Floats) -> Floats:
    """Return the smallest rectangle that holds all the ink."""
    rows, columns = np.flatnonzero(ink.any(axis=1)), np.flatnonzero(ink.any(axis=0))
    return ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def _fitted(ink: Floats) -> Floats:
    """Return the ink scaled so that its longer side has 20 pixels and its maximum is 1."""
    from PIL import Image

    height, width = (max(1, round(BOX * side / max(ink.shape))) for side in ink.shape)
    image = Image.fromarray(ink.astype(np.float32))
    # Of Pillow's antialiasing filters the sharpest that does not overshoot at edges.
    resized = image.resize((width, height), Image.Resampling.HAMMING)
    fitted = np.array(resized, dtype=np.float64)
    fitted /= fitted.max()  # thin strokes came out pale
    return fitted


def _centred(ink: Floats) -> Floats:
    """Return 28 x 28 pixels with the centre of mass of the ink, to the nearest pixel, at 14, 14."""
    height, width = ink.shape
    row = np.arange(height) @ ink.sum(axis=1) / ink.sum()
    column = np.arange(width) @ ink.sum(axis=0) / ink.sum()
    top = min(max(round(MIDDLE - row), 0), SIZE - height)
    left = min(max(round(MIDDLE - column), 0), SIZE - width)
    field = np.zeros((SIZE, SIZE))
    field[top : top + height, left : left + width] = ink
    return field

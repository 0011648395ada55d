"""Pictures in folders, one a class: PNG or JPEG of any size, made equally large."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np

from tinyconv.arguments import FilePath, OneOf, checked
from tinyconv.data.splits import SPELLINGS, Part, Parts
from tinyconv.errors import DataError

if TYPE_CHECKING:
    from PIL.Image import Image

ENDS = (".png", ".jpg", ".jpeg")
#: What file managers leave in folders.
NOT_OURS = ("thumbs.db", "desktop.ini")
#: Names of folders that are parts, not classes.
PARTS = {name: part for part, names in SPELLINGS.items() for name in names}

DEFAULT_SIZE = 28  # of pictures that differ in size: what the named nets are made for
MOST_BYTES = 4 << 30  # of the pixels of all pictures
MOST_PIXELS = 50_000_000  # of one picture, which take 200 MB while it is read
ORIENTATION = 0x0112  # where EXIF says how the camera was held; from 5 to 8 it lay on its side
MOST_SIDE = 4096  # of the size asked for

Pixels = np.ndarray[Any, np.dtype[np.uint8]]


def read_pictures(
    folder: Path, size: int | tuple[int, int] | None = None, channels: int | None = None
) -> Parts:
    """Read all pictures of a folder of classes, or of its parts train, test and validation.

    The arguments are those of :func:`tinyconv.data.load`.

    Raises:
        DataError: the folder is not built so; a file is no intact PNG or JPEG; the pixels would
            take more than 4 GiB.
    """
    size = None if size is None else picture_size(size)
    if channels not in (None, 1, 3):
        raise DataError(f"channels is {channels!r}, expected 1 (grey) or 3 (colour)")
    found = _found(folder)
    if not any(found.values()):
        raise DataError(
            f"{folder}: holds neither IDX files nor a folder of PNG or JPEG pictures a class"
        )
    paths = [path for classes in found.values() for files in classes.values() for path in files]
    sizes, grey = set(), True
    for path in paths:  # the headers alone
        with opened(path) as image:
            sizes.add(_upright_size(image))
            grey = grey and image.mode.partition(";")[0] in ("1", "L", "LA", "I")
    if size is None:
        size = sizes.copy().pop() if len(sizes) == 1 else (DEFAULT_SIZE, DEFAULT_SIZE)
    channels = channels or (1 if grey else 3)
    shape = (channels, *size)
    if len(paths) * int(np.prod(shape)) > MOST_BYTES:
        raise DataError(
            f"{folder}: {len(paths):,} pictures of {_text(size)} pixels would take more than "
            f"{MOST_BYTES >> 30} GiB; choose a smaller size="
        )
    names = tuple(sorted({name for classes in found.values() for name in classes}))
    arrays = {}
    for part, classes in found.items():
        count = sum(map(len, classes.values()))
        x, y = np.empty((count, *shape), np.uint8), np.empty(count, np.int64)
        place = 0
        for name, files in classes.items():
            for path in files:
                x[place], y[place] = read_picture(path, size, channels), names.index(name)
                place += 1
        arrays[part] = Part(x, y)
    about = "" if sizes == {size} else f"{_range(sizes)} pixels, scaled to {_text(size)}"
    return Parts(arrays, "pictures", names, about=about)


@checked
def read_picture(
    path: Annotated[str | Path, FilePath()],
    size: int | tuple[int, int],
    channels: Annotated[int, OneOf(1, 3)],
) -> Pixels:
    """Read a PNG or JPEG, scaled to a size whatever its proportions.

    Transparent parts become white; a photograph is turned as its camera was held.

    Args:
        path: of the file.
        size: (H, W) in pixels, or one number for both.
        channels: 1 for grey, 3 for red, green and blue.

    Returns:
        (C, H, W), uint8.

    Raises:
        DataError: the file is no intact PNG or JPEG, or the size none.
    """
    from PIL import Image, ImageOps

    height, width = picture_size(size)
    mode = "L" if channels == 1 else "RGB"
    with opened(path) as image:
        image.draft(mode, (width, height))  # a large JPEG is made smaller while it is read
        image = ImageOps.exif_transpose(image)
        if image.mode.startswith("I"):  # 16 bits of grey, which Pillow's conversions would cut off
            grey = np.asarray(image)
            image = Image.fromarray((grey // 257).clip(0, 255).astype(np.uint8))
        if image.has_transparency_data:
            image = image.convert("RGBA")
            image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
        pixels = image.convert(mode).resize((width, height), Image.Resampling.BILINEAR)
        return np.asarray(pixels).reshape(height, width, channels).transpose(2, 0, 1)


def _upright_size(image: "Image") -> tuple[int, int]:
    """Return (H, W) of a picture that is turned as its camera was held, from its header."""
    noted = any("exif" in str(key) or "xmp" in str(key) for key in image.info)
    turned = noted and image.getexif().get(ORIENTATION) in range(5, 9)
    return (image.width, image.height) if turned else (image.height, image.width)


@contextmanager
def opened(path: str | Path) -> "Iterator[Image]":
    """Open a picture; whatever goes wrong with it, then or later, is a DataError."""
    from PIL import Image, UnidentifiedImageError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path, formats=("PNG", "JPEG")) as image:
                if image.width * image.height > MOST_PIXELS:
                    raise Image.DecompressionBombError
                yield image
    except UnidentifiedImageError:
        raise DataError(f"{path}: is no PNG or JPEG image") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise DataError(f"{path}: has more than {MOST_PIXELS:,} pixels") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from None
    except MemoryError:
        raise DataError(f"{path}: does not fit into memory") from None
    except Exception as error:  # a damaged picture raises whatever its bytes lead Pillow to
        raise DataError(f"{path}: cannot be read: {error}") from None


def _found(folder: Path) -> dict[str, dict[str, list[Path]]]:
    """Return the files by part and class."""
    inside = _folders(folder)
    parts = {path.name: PARTS[path.name.lower()] for path in inside if path.name.lower() in PARTS}
    if not parts:
        return {"train": {path.name: _files(path) for path in inside}}
    if len(parts) < len(inside) or len(set(parts.values())) < len(parts):
        raise DataError(
            f"{folder}: holds {', '.join(path.name for path in inside)}; expected folders of "
            "classes, or one train, one test and perhaps one validation"
        )
    if "train" not in parts.values():
        raise DataError(f"{folder}: has no folder train")
    return {
        part: {path.name: _files(path) for path in _folders(folder / name)}
        for name, part in parts.items()
    }


def _folders(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))


def _files(folder: Path) -> list[Path]:
    paths = [
        path
        for path in sorted(folder.iterdir())
        if not path.name.startswith(".") and path.name.lower() not in NOT_OURS
    ]
    for path in paths:
        if path.suffix.lower() not in ENDS or not path.is_file():
            raise DataError(f"{path}: is no PNG or JPEG file, in a folder of a class")
    if not paths:
        raise DataError(f"{folder}: is the folder of a class and holds no pictures")
    return paths


def picture_size(size: Any) -> tuple[int, int]:
    """Return (H, W) of ``size``, which may be one number for both.

    Raises:
        DataError: it is neither.

    >>> picture_size(32), picture_size((28, 40))
    ((32, 32), (28, 40))
    """
    both = (size, size) if isinstance(size, int | np.integer) else size
    try:
        height, width = (int(side) for side in both if side == int(side))
    except (TypeError, ValueError):
        height = width = 0
    if not (1 <= height <= MOST_SIDE and 1 <= width <= MOST_SIDE):
        raise DataError(
            f"size is {size!r}, expected pixels a side from 1 to {MOST_SIDE}, or (H, W)"
        )
    return height, width


def _text(size: tuple[int, int]) -> str:
    return f"{size[0]} x {size[1]}"


def _range(sizes: set[tuple[int, int]]) -> str:
    smallest, largest = (pick(sizes, key=lambda s: s[0] * s[1]) for pick in (min, max))
    return _text(smallest) + ("" if smallest == largest else f" to {_text(largest)}")

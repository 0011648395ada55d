"""Pictures of digits: whatever the size, place, colours and format, the MNIST image comes back."""

import struct
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from tinyconv import data
from tinyconv.data.images import read_digit
from tinyconv.errors import DataError


@pytest.fixture(scope="module")
def digits():
    """Two digits of each class, as bytes (20, 28, 28)."""
    x, y = data.load().test
    picked = np.concatenate([np.flatnonzero(y == digit)[:2] for digit in range(10)])
    return np.rint(x[picked, 0] * 255).astype(np.uint8)


def picture(digit, scale=1):
    return Image.fromarray(np.kron(digit, np.ones((scale, scale), np.uint8)))


def likeness(read, digit):
    """Correlation of two images, at the best of the shifts by up to a pixel.

    A centre of mass near the middle between two pixels is rounded to one or the other.
    """
    assert read.shape == (1, 28, 28)
    assert read.dtype == np.float32
    assert read.min() == 0
    assert read.max() == 1
    return max(
        np.corrcoef(np.roll(read[0], (dy, dx), axis=(0, 1)).ravel(), digit.ravel())[0, 1]
        for dy in (-1, 0, 1)
        for dx in (-1, 0, 1)
    )


def read(image, path, **options):
    image.save(path, **options)
    return read_digit(path)


@pytest.mark.parametrize("end", ["png", "jpg"])
@pytest.mark.parametrize("scale", [1, 3, 10])
@pytest.mark.parametrize("dark_on_light", [False, True])
def test_any_size_place_and_polarity(tmp_path, digits, end, scale, dark_on_light):
    random = np.random.default_rng(scale)
    for digit in digits:
        canvas = Image.new("L", (28 * scale + 60, 28 * scale + 20))
        canvas.paste(picture(digit, scale), (int(random.integers(60)), int(random.integers(20))))
        if dark_on_light:
            canvas = ImageOps.invert(canvas)
        assert likeness(read(canvas, tmp_path / f"digit.{end}"), digit) > 0.9


def test_an_image_of_mnist_itself_is_hardly_changed(tmp_path, digits):
    alike = [likeness(read(picture(digit), tmp_path / "digit.png"), digit) for digit in digits]
    assert min(alike) > 0.99


def test_pale_ink_on_grey_paper(tmp_path, digits):
    for digit in digits:
        pale = Image.fromarray((140 + digit * 0.3).astype(np.uint8))
        assert likeness(read(pale, tmp_path / "digit.png"), digit) > 0.98


def test_the_digit_fills_20_pixels_and_its_centre_of_mass_is_in_the_middle(tmp_path, digits):
    places = np.arange(28)
    for digit in digits:
        image = read(picture(digit, 4).resize((300, 100)), tmp_path / "digit.png")[0]
        rows, columns = np.flatnonzero(image.any(axis=1)), np.flatnonzero(image.any(axis=0))
        assert max(np.ptp(rows), np.ptp(columns)) + 1 == 20
        weights = image / image.sum()
        assert abs(weights.sum(axis=1) @ places - 14) <= 0.5
        assert abs(weights.sum(axis=0) @ places - 14) <= 0.5


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "LA", "I;16"])
def test_every_kind_of_png(tmp_path, digits, mode):
    for digit in digits[:4]:
        image = picture(digit, 2)
        if mode == "I;16":
            image = Image.fromarray(np.asarray(image).astype(np.uint16) * 257)
        else:
            image = image.convert(mode)
        assert likeness(read(image, tmp_path / "digit.png"), digit) > 0.9


def test_jpeg_for_print(tmp_path, digits):
    image = picture(digits[0], 4).convert("CMYK")
    assert likeness(read(image, tmp_path / "digit.jpg"), digits[0]) > 0.9


@pytest.mark.parametrize("ink", [0, 255])
@pytest.mark.parametrize("hidden", [0, 255])
def test_ink_on_a_transparent_ground(tmp_path, digits, ink, hidden):
    """What colour the transparent pixels have in the file must not matter."""
    for digit in digits[:4]:
        grey = np.where(digit > 0, ink, hidden).astype(np.uint8)
        image = Image.fromarray(np.stack([grey, digit], axis=-1))
        assert image.mode == "LA"
        assert likeness(read(image, tmp_path / "digit.png"), digit) > 0.9


def test_opaque_paper_with_transparent_corners(tmp_path, digits):
    opacity = np.full((28, 28), 255, np.uint8)
    opacity[:4, :4] = opacity[-4:, -4:] = 0
    image = Image.fromarray(np.stack([(255 - digits[0]) * (opacity > 0), opacity], axis=-1))
    assert likeness(read(image, tmp_path / "digit.png"), digits[0]) > 0.9


def test_a_photograph_is_turned_as_its_camera_was_held(tmp_path, digits):
    rotated = Image.fromarray(np.rot90(digits[0]).copy())
    exif = Image.Exif()
    exif[0x0112] = 6  # "turn by 90 degrees clockwise to look at it"
    assert likeness(read(rotated, tmp_path / "digit.jpg", exif=exif), digits[0]) > 0.9


def test_a_large_photograph(tmp_path, digits):
    image = ImageOps.invert(picture(digits[0], 100)).convert("RGB")
    assert likeness(read(image, tmp_path / "digit.jpg"), digits[0]) > 0.9


def test_a_dot_and_a_line(tmp_path):
    field = np.zeros((9, 9), np.uint8)
    field[4, 4] = 255
    assert read(Image.fromarray(field), tmp_path / "dot.png").sum() == 400
    field[1:8, 4] = 255
    # 7 x 1 pixels become 20 x 3.
    assert read(Image.fromarray(field), tmp_path / "line.png").sum() == pytest.approx(60)


@pytest.mark.parametrize("image", [
    Image.new("L", (30, 30), 255), Image.new("L", (30, 30)), Image.new("RGB", (1, 1), "red"),
    Image.new("RGBA", (30, 30)), Image.fromarray(np.arange(128, 144, dtype=np.uint8).reshape(4, 4)),
], ids=["white", "black", "one pixel", "transparent", "faint"])  # fmt: skip
def test_a_blank_image(tmp_path, image):
    path = tmp_path / "blank.png"
    with pytest.raises(DataError, match="no digit found: the image is blank") as caught:
        read(image, path)
    assert str(caught.value).startswith(f"{path}: ")


def empty_png(width, height):
    """A PNG that has no pixels behind its header."""
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    chunks = [header, b"IDAT"]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk))
        for chunk in chunks
    )


@pytest.mark.parametrize(("content", "message"), [
    (b"", "is no PNG or JPEG image"),
    (b"GIF89a and more", "is no PNG or JPEG image"),
    (b"\x1f\x8b\x08\x00", "is no PNG or JPEG image"),
    (empty_png(60_000, 60_000), "has more than 50,000,000 pixels"),
    (empty_png(10_000, 10_000), "has more than 50,000,000 pixels"),
    (empty_png(28, 28), "cannot be read: "),
], ids=["empty", "GIF", "gzip", "3.6 gigapixels", "100 megapixels", "no pixels"])  # fmt: skip
def test_a_file_that_is_no_picture(tmp_path, content, message):
    path = tmp_path / "digit.png"
    path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        read_digit(path)
    assert str(caught.value).startswith(f"{path}: {message}")


@pytest.mark.parametrize("end", ["png", "jpg"])
def test_a_truncated_picture(tmp_path, digits, end):
    path = tmp_path / f"digit.{end}"
    picture(digits[0], 10).save(path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(DataError, match=f"digit.{end}: cannot be read: .*truncated"):
        read_digit(path)


def test_a_path_that_is_not_there(tmp_path):
    with pytest.raises(DataError, match=r"nowhere\.png: cannot be read: No such file or directory"):
        read_digit(tmp_path / "nowhere.png")


def test_a_large_picture_of_16_bits_takes_little(tmp_path: Path) -> None:
    """40 million pixels that compress to a few kilobytes."""
    pixels = np.full((6000, 6600), 60_000, np.uint16)
    pixels[2000:4000, 3000:3300] = 2000
    Image.fromarray(pixels).save(tmp_path / "one.png", compress_level=1)
    tracemalloc.start()
    digit = read_digit(tmp_path / "one.png")
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 100e6  # of NumPy's; Pillow holds 4 bytes a pixel besides
    assert digit.max() == 1


def test_more_pixels_than_any_camera_makes(tmp_path: Path) -> None:
    Image.new("1", (10_000, 6000)).save(tmp_path / "large.png")
    with pytest.raises(DataError, match="has more than 50,000,000 pixels"):
        read_digit(tmp_path / "large.png")


def test_whatever_a_damaged_picture_leads_to_is_one_error(tmp_path: Path) -> None:
    """A broken colour profile, a broken orientation, a broken palette: Pillow's own errors."""
    for error in (IndexError("profile"), KeyError(3), MemoryError(), struct.error("exif")):
        with pytest.MonkeyPatch.context() as patched:

            def fail(image: object, error: Exception = error) -> None:
                raise error

            patched.setattr("PIL.ImageOps.exif_transpose", fail)
            Image.new("L", (30, 30)).save(tmp_path / "digit.png")
            with pytest.raises(DataError, match=r"digit\.png: "):
                read_digit(tmp_path / "digit.png")

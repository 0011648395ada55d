"""Data as other programs leave it: pandas' tables, cameras' pictures, files of systems."""

import struct

import numpy as np
import pytest
from PIL import Image

import tinyconv as tc
from tinyconv.errors import DataError


@pytest.mark.parametrize("names", [
    *("0,1,digit", "digit,0,1", "0,1,label", ",0,1,digit", "1,2,digit", "digit,1,2"),
    *("Label,1,2", "400.5,401,class", ",2019,2020,y"),
])  # fmt: skip
def test_a_header_of_numbers(tmp_path, names):
    """Columns are called 0, 1, 2, ... by a data frame, or by years, or by wavelengths."""
    cells = names.split(",")
    first, second = (cell for cell in cells if cell[:1].isdigit())
    rows = [{first: n, second: 2 * n, "": n} for n in range(40)]
    lines = [",".join(str(row.get(name, n % 2)) for name in cells) for n, row in enumerate(rows)]
    path = tmp_path / "d.csv"
    path.write_text("\n".join([names, *lines]))
    data = tc.data.load(path)
    assert data.class_names == ("0", "1")
    found = sorted((*x.tolist(), y) for s in data for x, y in zip(*s, strict=True))
    assert found == [(n, 2 * n, n % 2) for n in range(40)]
    assert data.about == ("a first column without a name left out" if "" in cells else "")
    word = next(name for name in cells if name.isalpha())
    assert tc.data.load(path, label=word).class_names == ("0", "1")
    place = cells.index(word)
    assert tc.data.load(path, label=place).class_names == ("0", "1")


@pytest.mark.parametrize("names", ["400.5,401,kind", "1,2,y"])
def test_a_header_with_the_label_that_is_asked_for(tmp_path, names):
    path, label = tmp_path / "d.csv", names.rpartition(",")[2]
    path.write_text(f"{names}\n" + "5,6,n\n7,8,y\n" * 20)
    data = tc.data.load(path, label=label)
    assert data.class_names == ("n", "y")
    assert sum(len(y) for _, y in data) == 40


def test_a_first_sample_that_counts(tmp_path):
    """0, 1 are its numbers and no names, because others have its label."""
    path = tmp_path / "d.csv"
    path.write_text("0,1,yes\n" + "5,6,no\n7,8,yes\n" * 20)
    data = tc.data.load(path)
    assert data.class_names == ("no", "yes")
    assert sum(len(y) for _, y in data) == 41
    assert any((x == (0, 1)).all(axis=1)[y == 1].any() for x, y in data)


def test_a_first_sample_that_counts_beside_a_word(tmp_path):
    path = tmp_path / "d.csv"
    path.write_text("yes,word,0\n" + "yes,1,2\nno,3,4\n" * 20)
    with pytest.raises(DataError, match=r"d\.csv: line 1 has 'word' for a number"):
        tc.data.load(path, label=0)


def test_truths_are_numbers_and_classes(tmp_path):
    x = np.random.default_rng(0).random((30, 4, 4)) > 0.5
    np.savez(tmp_path / "d.npz", x=x, y=x[:, 0, 0])
    data = tc.data.load(tmp_path / "d.npz")
    assert data.class_names == ("0", "1")
    for images, labels in data:
        assert images.dtype == np.float32
        np.testing.assert_array_equal(images[:, 0, 0, 0], labels)


def test_parts_in_bytes_and_in_floats(tmp_path):
    x, y = np.full((30, 4), 200), np.arange(30) % 2
    np.savez(tmp_path / "d.npz", x_train=x.astype("u1"), y_train=y, x_test=x, y_test=y)
    with pytest.raises(DataError, match="one part holds bytes, which are divided by 255"):
        tc.data.load(tmp_path / "d.npz")


def test_pictures_of_a_camera_on_its_side(tmp_path):
    """They are turned, and so is the size that all have."""
    exif = Image.Exif()
    exif[0x0112] = 6
    pixels = np.zeros((20, 30), np.uint8)
    pixels[:10] = 255  # the upper half becomes the right one
    for n in range(40):
        folder = tmp_path / "ab"[n % 2]
        folder.mkdir(exist_ok=True)
        Image.fromarray(pixels).save(folder / f"{n}.png", exif=exif)
    x = tc.data.load(tmp_path).train.x
    assert x.shape[1:] == (1, 30, 20)
    assert x[..., 10:].min() == 1
    assert x[..., :10].max() == 0


def test_pictures_turned_in_no_known_way_are_left(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 9
    for n in range(40):
        folder = tmp_path / "ab"[n % 2]
        folder.mkdir(exist_ok=True)
        Image.fromarray(np.zeros((20, 30), np.uint8)).save(folder / f"{n}.png", exif=exif)
    assert tc.data.load(tmp_path).train.x.shape[1:] == (1, 20, 30)


def test_what_a_system_leaves_beside_idx_files(tmp_path):
    for what, array in (("images", np.zeros((40, 3, 3))), ("labels", np.arange(40) % 2)):
        header = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
        content = header + array.astype(np.uint8).tobytes()
        (tmp_path / f"train-{what}-idx{array.ndim}-ubyte").write_bytes(content)
    (tmp_path / "._train-images-idx3-ubyte").write_bytes(b"\0\5\x16\7")
    (tmp_path / "old-ubyte").mkdir()
    assert tc.data.load(tmp_path).class_names == ("0", "1")

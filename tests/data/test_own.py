"""Data of one's own: every form is read to the same arrays, and what is wrong is one line."""

import gzip
import io
import struct
import tracemalloc
import zipfile

import numpy as np
import pytest
from PIL import Image

import tinyconv as tc
from tinyconv.data.pictures import read_picture
from tinyconv.data.splits import stratified
from tinyconv.errors import DataError

RNG = np.random.default_rng(0)
#: 30 grey pictures of 6 x 5 pixels in three classes.
X = RNG.integers(0, 256, (30, 6, 5)).astype(np.uint8)
Y = np.arange(30) % 3


def idx(array):
    header = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
    return header + array.astype(np.uint8).tobytes()


def write_idx(folder, compress=False, labels=Y):
    folder.mkdir(exist_ok=True)
    parts = {"train": slice(0, 21), "t10k": slice(21, 30)}
    for name, which in parts.items():
        for what, array in (("images-idx3", X[which]), ("labels-idx1", labels[which])):
            content = gzip.compress(idx(array)) if compress else idx(array)
            end = ".gz" if compress else ""
            (folder / f"{name}-{what}-ubyte{end}").write_bytes(content)
    return folder


def write_pictures(folder, suffix=".png", names=("ant", "bee", "cow"), which=slice(0, 30)):
    for number in range(30)[which]:
        (folder / names[Y[number]]).mkdir(parents=True, exist_ok=True)
        Image.fromarray(X[number]).save(folder / names[Y[number]] / f"{number:03}{suffix}")
    return folder


def write_npz(path, **arrays):
    np.savez_compressed(path, **arrays)
    return path


def write_csv(path, rows, header=None):
    lines = ([] if header is None else [header]) + [",".join(map(str, row)) for row in rows]
    path.write_text("\n".join(lines) + "\n")
    return path


def sorted_rows(split):
    """Samples and labels in an order that does not depend on how they were drawn."""
    rows = [(*sample.ravel().tolist(), int(label)) for sample, label in zip(*split, strict=True)]
    return sorted(rows)


def everything(data):
    return sorted(row for split in data for row in sorted_rows(split))


def rows_of(x, y):
    """Samples scaled to [0, 1], each with its label, sorted."""
    pairs = zip(x, y, strict=True)
    return sorted((*(pixels.ravel() / np.float32(255)).tolist(), int(k)) for pixels, k in pairs)


EXPECTED = rows_of(X, Y)


# What is read.


@pytest.mark.parametrize("compress", [False, True])
def test_a_folder_of_idx_files(tmp_path, compress):
    data = tc.data.load(write_idx(tmp_path, compress))
    assert everything(data) == EXPECTED
    assert np.array_equal(data.test.x, X[21:, None].astype(np.float32) / 255)
    assert data.test.y.tolist() == Y[21:].tolist()
    assert data.class_names == ("0", "1", "2")
    assert (data.kind, data.source) == ("pictures", str(tmp_path))
    assert [x.dtype.name for x, _ in data] == ["float32"] * 3
    assert [y.dtype.name for _, y in data] == ["int64"] * 3


def test_labels_that_do_not_start_at_0_are_numbered(tmp_path):
    data = tc.data.load(write_idx(tmp_path, labels=Y * 5 + 4))
    assert data.class_names == ("4", "9", "14")  # as numbers, not as words
    assert data.test.y.tolist() == Y[21:].tolist()


def test_a_folder_of_pictures_per_class(tmp_path):
    data = tc.data.load(write_pictures(tmp_path))
    assert everything(data) == EXPECTED
    assert data.class_names == ("ant", "bee", "cow")
    assert [np.bincount(y).tolist() for _, y in data] == [[7] * 3, [1] * 3, [2] * 3]
    assert (data.kind, data.about) == ("pictures", "")


def test_pictures_in_parts(tmp_path):
    write_pictures(tmp_path / "train", which=slice(0, 20))
    write_pictures(tmp_path / "val", which=slice(20, 24))
    write_pictures(tmp_path / "Test", which=slice(24, 30))
    (tmp_path / ".hidden").mkdir()
    (tmp_path / "train" / "ant" / ".DS_Store").write_text("not ours")
    (tmp_path / "train" / "ant" / "Thumbs.db").write_text("not ours")
    (tmp_path / "README.txt").write_text("beside the folders anything may lie")
    data = tc.data.load(tmp_path)
    for split, which in zip(data, (slice(0, 20), slice(20, 24), slice(24, 30)), strict=True):
        assert sorted_rows(split) == rows_of(X[which], Y[which])


@pytest.mark.parametrize(
    "arrays",
    [
        {"x": X, "y": Y},
        {"images": X[:, None], "labels": Y[:, None]},
        {"X": X[..., None], "y": np.array(["0", "1", "2"])[Y]},
        {"x_train": X[:20], "y_train": Y[:20], "x_test": X[20:], "y_test": Y[20:]},
        {
            "train_images": X[:20],
            "train_labels": Y[:20].astype(np.uint8),
            "val_images": X[20:25],
            "val_labels": Y[20:25].astype(np.uint8),
            "test_images": X[25:],
            "test_labels": Y[25:].astype(np.uint8),
        },
        {"data": (X.reshape(30, 30) / np.float32(255)), "target": Y},
    ],
    ids=lambda arrays: ", ".join(arrays),
)
def test_npz_files(tmp_path, arrays):
    data = tc.data.load(write_npz(tmp_path / "d.npz", **arrays))
    assert everything(data) == EXPECTED
    assert data.class_names == ("0", "1", "2")
    shape = (30,) if "target" in arrays else (1, 6, 5)
    assert data.train.x.shape[1:] == shape
    assert data.kind == ("numbers" if "target" in arrays else "pictures")


def test_npz_class_names_shape_channels_last_and_signals(tmp_path):
    names = np.array(["ant", "bee", "cow", "dog"])
    coloured = np.stack([X, 255 - X, X], axis=-1)
    path = write_npz(tmp_path / "d.npz", x=coloured, y=Y, class_names=names)
    data = tc.data.load(path)
    assert data.class_names == tuple(names)
    assert data.train.x.shape[1:] == (3, 6, 5)
    assert np.allclose(data.train.x[:, 0], 1 - data.train.x[:, 1])
    signal = write_npz(tmp_path / "s.npz", x=X.reshape(30, 1, 30), y=Y)
    assert tc.data.load(signal).train.x.shape[1:] == (1, 30)
    assert tc.data.load(signal, shape=(2, 3, 5)).train.x.shape[1:] == (2, 3, 5)


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_tables(tmp_path, first, delimiter):
    names = np.array(["ant", "bee", "cow"])[Y]
    flat = X.reshape(30, 30).tolist()
    rows = [[name, *x] if first else [*x, name] for name, x in zip(names, flat, strict=True)]
    columns = [f"c{n}" for n in range(30)]
    header = ["label", *columns] if first else [*columns, "species"]
    path = tmp_path / "d.csv"
    path.write_text("\n".join(delimiter.join(map(str, row)) for row in [header, *rows]))
    data = tc.data.load(path)
    assert data.class_names == ("ant", "bee", "cow")
    assert data.kind == "numbers"
    unscaled = [(*[v * 255 for v in row[:-1]], row[-1]) for row in EXPECTED]
    assert np.allclose(everything(data), unscaled)
    shaped = tc.data.load(path, shape=(1, 5, 6), label=header[0 if first else -1])
    assert shaped.train.x.shape[1:] == (1, 5, 6)
    assert everything(shaped) == everything(data)


@pytest.mark.parametrize("names", ["pixel{}", "{}x{}"])
def test_a_table_of_pixels_is_a_table_of_square_pictures(tmp_path, names):
    square = X[:, :5].reshape(30, 25)
    header = ",".join(["label", *(names.format(*divmod(n, 5)) if "x{" in names
                                  else names.format(n) for n in range(25))])  # fmt: skip
    rows = [[label, *x] for label, x in zip(Y, square.tolist(), strict=True)]
    data = tc.data.load(write_csv(tmp_path / "d.csv", rows, header))
    assert data.train.x.shape[1:] == (1, 5, 5)
    assert data.about == "columns read as pixels from 0 to 255"
    assert everything(data) == rows_of(square, Y)


def test_tables_of_numbers_to_be_predicted(tmp_path):
    flat = X.reshape(30, 30)[:, :3].tolist()
    rows = [[*x, label / 4 - 0.5] for label, x in zip(Y, flat, strict=True)]
    path = write_csv(tmp_path / "d.csv", rows, "a,b,c,target")
    data = tc.data.load(path)
    assert (data.class_names, data.kind, data.test.y.dtype) == ((), "numbers", np.float32)
    assert [y.shape for _, y in data] == [(21, 1), (3, 1), (6, 1)]
    found = sorted((*x.tolist(), y.item()) for s in data for x, y in zip(*s, strict=True))
    assert found == sorted(map(tuple, rows))
    assert repr(data).endswith("samples of (3,), numbers of (1,))")
    assert str(tc.data.report(data)).splitlines()[1:] == [
        "  samples  train  validation  test",
        "  all         21           3     6",
        f"values from {data.train.x.min():.4g} to {data.train.x.max():.4g}, "
        f"mean {data.train.x.mean():.4g}",
        "targets from -0.5 to 0, mean " + f"{data.train.y.mean():.4g}",
        f"warning: values from {data.train.x.min():.4g} to {data.train.x.max():.4g} are too large "
        "to learn from; bring them to about 0 to 1",
    ]
    assert tc.data.load(path, task="classification").class_names == ("-0.5", "-0.25", "0.0")


def test_whole_numbers_are_classes_unless_it_is_said(tmp_path):
    path = write_csv(tmp_path / "d.csv", [[n, 1000 * n] for n in range(30)], "a,target")
    data = tc.data.load(path, task="regression")
    assert sorted(y.item() for part in data for y in part.y) == [1000.0 * n for n in range(30)]
    assert "warning: targets from 0 to" in str(tc.data.report(data))
    assert "are too large to learn; bring them to about -1 to 1" in str(tc.data.report(data))
    words = write_csv(tmp_path / "w.csv", [[1, "ant"], [2, "bee"]], "a,target")
    refused(words, "the label 'ant' is no number", task="regression")


def test_more_numbers_than_there_may_be_classes(tmp_path, monkeypatch):
    monkeypatch.setattr("tinyconv.data.table.MOST_CLASSES", 20)
    path = write_csv(tmp_path / "d.csv", [[n, n + 0.5] for n in range(30)], "a,target")
    assert len(tc.data.load(path).train.y) == 21
    refused(path, "has more than 20 different labels", task="classification")


def test_npz_files_of_numbers_to_be_predicted(tmp_path):
    for y, task in ((np.stack([Y, Y / 2], 1), None), (Y, "regression")):
        path = write_npz(tmp_path / "d.npz", x=X, y=y)
        data = tc.data.load(path, task=task)
        assert data.train.y.shape == (21, y.size // 30)
        sums = [part.y.sum(axis=0) for part in data]
        np.testing.assert_allclose(np.sum(sums, axis=0), y.reshape(30, -1).sum(axis=0), rtol=1e-6)
    refused(path, "size= is for a folder of pictures", size=3)
    refused(write_npz(path, x=X, y=Y / 2), "y is float64 of shape", task="classification")


def test_a_table_without_a_header_and_labels_by_number(tmp_path):
    rows = [[*x[:3], label * 10] for label, x in zip(Y, X.reshape(30, 30).tolist(), strict=True)]
    path = write_csv(tmp_path / "d.csv", rows)
    with pytest.raises(DataError, match="which column holds the label"):
        tc.data.load(path)
    data = tc.data.load(path, label=3)
    assert data.class_names == ("0", "10", "20")
    assert data.train.x.shape[1:] == (3,)


# Pictures.


def picture(path, size, channels):
    return read_picture(path, size, channels).astype(int)


def test_pictures_are_scaled_and_kept_grey_or_coloured(tmp_path):
    red = Image.new("RGB", (40, 20), (255, 0, 0))
    red.save(tmp_path / "red.png")
    assert picture(tmp_path / "red.png", (3, 2), 3).tolist() == [
        [[255] * 2] * 3, [[0] * 2] * 3, [[0] * 2] * 3
    ]  # fmt: skip
    assert picture(tmp_path / "red.png", (3, 2), 1).tolist() == [[[76] * 2] * 3]  # 0.299 of 255
    red.resize((900, 700)).save(tmp_path / "red.jpg")
    assert np.abs(picture(tmp_path / "red.jpg", (4, 4), 3)[0] - 255).max() <= 2
    halves = np.zeros((10, 20), np.uint8)
    halves[:, 10:] = 200
    Image.fromarray(halves).save(tmp_path / "halves.png")
    assert picture(tmp_path / "halves.png", (5, 2), 1)[0, :, 0].max() < 30
    assert picture(tmp_path / "halves.png", (5, 2), 1)[0, :, 1].min() > 170


def test_transparency_16_bits_and_a_turned_camera(tmp_path):
    Image.new("RGBA", (8, 8), (9, 9, 9, 0)).save(tmp_path / "clear.png")
    assert (picture(tmp_path / "clear.png", (2, 2), 3) == 255).all()
    Image.fromarray(np.full((4, 4), 257 * 60, np.uint16)).save(tmp_path / "deep.png")
    assert (picture(tmp_path / "deep.png", (2, 2), 1) == 60).all()
    exif = Image.Exif()
    exif[0x0112] = 6  # "turn by 90 degrees clockwise to look at it"
    upper = np.zeros((8, 8), np.uint8)
    upper[:4] = 255
    Image.fromarray(np.rot90(upper).copy()).save(tmp_path / "turned.jpg", exif=exif)
    assert np.abs(picture(tmp_path / "turned.jpg", (8, 8), 1)[0] - upper).max() < 10


def test_the_size_of_pictures(tmp_path):
    for number, (name, size) in enumerate((n, (20 + 4 * n.count("e"), 10)) for n in ("bee", "cow")):
        (tmp_path / name).mkdir()
        for copy in range(9):
            Image.new("RGB", size, (number * 99, copy, 0)).save(tmp_path / name / f"{copy}.png")
    data = tc.data.load(tmp_path)
    assert data.train.x.shape[1:] == (3, 28, 28)
    assert data.about == "10 x 20 to 10 x 28 pixels, scaled to 28 x 28"
    assert tc.data.load(tmp_path, size=(6, 7)).train.x.shape[1:] == (3, 6, 7)
    assert tc.data.load(tmp_path, size=8, channels=1).train.x.shape[1:] == (1, 8, 8)
    with pytest.raises(DataError, match="size is 0, expected pixels a side from 1 to 4096"):
        tc.data.load(tmp_path, size=0)
    with pytest.raises(DataError, match="channels is 2"):
        tc.data.load(tmp_path, channels=2)


def test_pictures_that_would_take_too_much_are_refused_before_they_are_read(tmp_path, monkeypatch):
    write_pictures(tmp_path)
    monkeypatch.setattr("tinyconv.data.pictures.MOST_BYTES", 1 << 20)
    monkeypatch.setattr("tinyconv.data.pictures.read_picture", None)
    with pytest.raises(DataError, match=r"30 pictures of 200 x 200 pixels .* smaller size="):
        tc.data.load(tmp_path, size=200)


# How it is split.


def test_the_split_is_stratified_seeded_and_complete(tmp_path):
    y = np.repeat([0, 1, 2], [100, 50, 3])
    one, same, other = (stratified(y, {"validation": 0.1, "test": 0.2}, seed) for seed in (3, 3, 4))
    assert {name: np.bincount(y[which]).tolist() for name, which in one.items()} == {
        "validation": [10, 5, 0][:2], "test": [20, 10, 1], "train": [70, 35, 2]
    }  # fmt: skip
    assert sorted(np.concatenate([*one.values()]).tolist()) == list(range(153))
    assert all(np.array_equal(one[name], same[name]) for name in one)
    assert not np.array_equal(one["test"], other["test"])
    path = write_npz(tmp_path / "d.npz", x=X, y=Y)
    shares = tc.data.load(path, validation=0.2, test=0.3, seed=1)
    assert [len(y) for _, y in shares] == [15, 6, 9]
    for wrong in (0, 1, -0.1, float("nan"), "half", None):
        with pytest.raises(tc.ArgumentError, match="expected a number above 0 and below 1"):
            tc.data.load(path, test=wrong)
    for wrong in (0, 1.5, float("nan")):
        with pytest.raises(DataError, match="expected a share between 0 and 1"):
            stratified(y, {"test": wrong})
    with pytest.raises(DataError, match="leave no samples for training"):
        tc.data.load(path, validation=0.5, test=0.5)
    with pytest.raises(DataError, match="6 samples are too few: the validation part"):
        tc.data.load(write_npz(tmp_path / "few.npz", x=X[:6], y=Y[:6]))


# What is refused, by one line that starts with the path.


def refused(path, message, **options):
    with pytest.raises(DataError, match=message) as caught:
        tc.data.load(path, **options)
    assert len(str(caught.value).splitlines()) == 1
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: (f / "train-labels-idx1-ubyte").unlink(), "has no file of train labels"),
        (lambda f: (f / "t10k-images-idx3-ubyte").unlink(), "has no file of test images"),
        (lambda f: (f / "test-images-idx3-ubyte").write_bytes(idx(X)), "are both test images"),
        (lambda f: (f / "things-idx3-ubyte").write_bytes(idx(X)), "its name says not whether"),
        (lambda f: [p.unlink() for p in f.glob("train*")], "has no file of train images"),
        (lambda f: (f / "train-labels-idx1-ubyte").write_bytes(idx(X)), "labels of shape"),
        (lambda f: (f / "train-images-idx3-ubyte").write_bytes(idx(Y)), "images of shape"),
        (lambda f: (f / "train-images-idx3-ubyte").write_bytes(idx(X)), "30 samples and 21 lab"),
        (lambda f: (f / "train-images-idx3-ubyte").write_bytes(idx(X[:0])), "images of shape"),
        (lambda f: (f / "t10k-images-idx3-ubyte").write_bytes(idx(X[:9, :4])), "different shapes"),
        (lambda f: (f / "train-images-idx3-ubyte").write_bytes(b"\0\0\x08\x03"), "in its header"),
        (lambda f: (f / "train-images-idx3-ubyte").write_bytes(
            b"\0\0\x08\x03" + b"\xff" * 12), "claims .* bytes when unpacked"),
        (lambda f: (f / "train-images-idx3-ubyte").write_bytes(
            b"\0\0\x08\xff" + b"\0\0\0\1" * 255), "an array of rank 255"),
        (lambda f: (f / "train-labels-idx1-ubyte").write_bytes(idx(Y[:21] * 0)), "1 classes"),
    ],
)  # fmt: skip
def test_folders_of_idx_files_that_are_wrong(tmp_path, change, message):
    folder = write_idx(tmp_path)
    if "1 classes" in message:
        (folder / "t10k-labels-idx1-ubyte").write_bytes(idx(Y[21:] * 0))
    change(folder)
    refused(folder, message)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: (f / "ant" / "x.txt").write_text("a"), "is no PNG or JPEG file, in a folder"),
        (lambda f: (f / "ant" / "deeper.png").mkdir(), "is no PNG or JPEG file, in a folder"),
        (lambda f: (f / "ant" / "x.png").write_text("a"), "is no PNG or JPEG image"),
        (lambda f: (f / "ant" / "x.png").write_bytes(
            (f / "bee" / "001.png").read_bytes()[:-30]), "x.png: cannot be read"),
        (lambda f: (f / "dog").mkdir(), "is the folder of a class and holds no pictures"),
        (lambda f: (f / "train").mkdir(), "expected folders of classes, or one train"),
        (lambda f: (f / "ant").rename(f / "a\nt"), "which cannot be printed"),
    ],
)  # fmt: skip
def test_folders_of_pictures_that_are_wrong(tmp_path, change, message):
    change(write_pictures(tmp_path))
    with pytest.raises(DataError, match=message) as caught:
        tc.data.load(tmp_path)
    assert str(caught.value).startswith(str(tmp_path))
    assert len(str(caught.value).splitlines()) == 1


def test_folders_that_hold_nothing_or_no_training_part(tmp_path):
    refused(tmp_path, "holds neither IDX files nor a folder of PNG or JPEG pictures a class")
    write_pictures(tmp_path / "test")
    refused(tmp_path, "has no folder train")
    write_pictures(tmp_path / "train", names=("ant",) * 3)
    write_pictures(tmp_path / "Train")
    refused(tmp_path, "expected folders of classes, or one train")


def zipped(path, members, **options):
    with zipfile.ZipFile(path, "w", **options) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def npy(array, **changes):
    """An array's file, its header changed."""
    file = io.BytesIO()
    header = np.lib.format.header_data_from_array_1_0(array) | changes
    np.lib.format.write_array_header_1_0(file, header)
    return file.getvalue() + array.tobytes()


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({}, "holds nothing; expected x_train"),
        ({"a.npy": npy(X)}, "holds a; expected x_train"),
        ({"x.npy": npy(X), "y.npy": npy(Y), "z.npy": npy(Y)}, "z: neither samples nor labels"),
        ({"x.npy": npy(X)[:-1], "y.npy": npy(Y)}, "another number of bytes|more than it holds"),
        ({"x.npy": npy(X) + b"1", "y.npy": npy(Y)}, "another number of bytes"),
        ({"x.npy": npy(X, shape=(10**9, 10**9)), "y.npy": npy(Y)}, "more than it holds"),
        ({"x.npy": npy(X, shape=(-30, 6, 5)), "y.npy": npy(Y)}, "more than it holds|no header"),
        ({"x.npy": npy(X, shape=(1,) * 100), "y.npy": npy(Y)}, "more than it holds"),
        ({"x.npy": npy(X, descr="|O"), "y.npy": npy(Y)}, "an array of object, expected numbers"),
        ({"x.npy": npy(X, descr="<M8[s]"), "y.npy": npy(Y)}, "expected numbers"),
        ({"x.npy": npy(X, descr="so"), "y.npy": npy(Y)}, "no header of an array"),
        ({"x.npy": b"", "y.npy": npy(Y)}, "no header of an array"),
        ({"x.npy": b"\x93NUMPY\x01\0\xff\xff" + b"{" * 65535}, "no header of an array"),
        ({"x.npy": npy(X), "y.npy": npy(Y[:-1])}, "30 samples and 29 labels"),
        ({"x.npy": npy(X), "y.npy": npy((Y + 0.5)[:, None, None])}, r"y is float64 of .* \(N, K\)"),
        ({"x.npy": npy(X), "y.npy": npy(Y * 1e99)}, "its train part holds labels that are NaN or"),
        ({"x_train.npy": npy(X), "y_train.npy": npy(Y / 2), "x_test.npy": npy(X),
          "y_test.npy": npy(np.stack([Y / 2, Y], 1))}, r"labels of different widths: \[1, 2\]"),
        ({"x.npy": npy(X), "y.npy": npy(np.stack([Y, Y], 1))}, "y is int64 of shape"),
        ({"x.npy": npy(Y), "y.npy": npy(Y)}, "x is int64 of shape"),
        ({"x.npy": npy(X[:0]), "y.npy": npy(Y[:0])}, r"x is uint8 of shape \(0, 6, 5\)"),
        ({"x.npy": npy(X * np.float32(np.nan)), "y.npy": npy(Y)}, "NaN or infinite"),
        ({"x.npy": npy(X * 1e300), "y.npy": npy(Y)}, "NaN or infinite"),
        ({"x.npy": npy(X), "y.npy": npy(Y.astype(np.uint64) - 1)}, "which is no class"),
        ({"x.npy": npy(X), "y.npy": npy(Y), "class_names.npy": npy(np.array(["a", "b"]))},
         "labels from 0 to 2, expected 0 to 1 because there are 2 names"),
        ({"x.npy": npy(X), "y.npy": npy(Y), "class_names.npy": npy(np.array(["a", "b", "a"]))},
         "two classes have the same name"),
        ({"x.npy": npy(X), "y.npy": npy(Y), "class_names.npy": npy(Y)}, "is no list of strings"),
        ({"x.npy": npy(X), "y.npy": npy(np.array(list("abc"))[Y]),
          "class_names.npy": npy(np.array(["a", "b", "c"]))}, "class_names has no use"),
        ({"x_train.npy": npy(X), "y_train.npy": npy(Y), "x_test.npy": npy(X),
          "y_test.npy": npy(np.array(list("abc"))[Y])}, "of one part are of another kind"),
        ({"x.npy": npy(X), "y.npy": b"\x93NUMPY\x01\0\x76\0"
          + b"{'descr': '<U1', 'fortran_order': False, 'shape': (1,), }".ljust(117) + b"\n"
          + b"\xff" * 4}, "y.npy: holds strings that are none"),
    ],
)  # fmt: skip
def test_npz_files_that_are_wrong(tmp_path, members, message):
    refused(zipped(tmp_path / "d.npz", members), message)


def test_npz_bombs_and_broken_zips(tmp_path):
    huge = b"\0" * (80 << 20)
    path = zipped(tmp_path / "d.npz", {"x.npy": huge}, compression=zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 1 << 20
    refused(path, "claims 83,886,080 bytes when unpacked, expected at most")
    path.write_bytes(b"PK no zip")
    refused(path, "is no whole .npz file")
    content = write_npz(path, x=X, y=Y).read_bytes()
    for cut in (30, len(content) // 2, len(content) - 10):
        path.write_bytes(content[:cut])
        refused(path, "is no whole .npz file")
    refused(zipped(path, {"x.npy": npy(X)}, compression=zipfile.ZIP_BZIP2), "NumPy does not use")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x.npy", npy(X))
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr("x.npy", npy(X))
    refused(path, "two arrays of one name")


ROWS = "label,a,b\n" + "0,1,2\n1,3,4\n" * 20


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("label,a,b\n", "a header and no rows"),
        ("label\n1\n", "has 1 columns, expected 2 to"),
        (ROWS + "0,1\n", "line 42 has 2 columns, expected 3"),
        (ROWS + "0,1,2,3\n", "line 42 has 4 columns, expected 3"),
        (ROWS + "0,1,none\n", "line 42 has 'none' for a number"),
        (ROWS + "0,1,\n", "line 42 has '' for a number"),
        (ROWS + "0,1,nan\n", "NaN or infinite"),
        (ROWS + "0,1,1e99\n", "NaN or infinite"),
        (ROWS + '0,1,"2\n', "is no table"),
        (ROWS + ",1,2\n", "line 42 has the label '', which is none"),
        (ROWS + "NaN,1,2\n", "line 42 has the label 'NaN', which is none"),
        (ROWS + "\a,1,2\n", "which cannot be printed"),
        (",label\n" + "0,0\n1,1\n" * 20, "no columns beside its index and its label"),
        (ROWS.replace("label", "c"), "which column holds the label"),
        (ROWS.replace("a,b", "a,target"), "which column holds the label"),
        (ROWS.replace("\n1,", "\n0,"), "1 classes"),
        (ROWS + "0,1,\udcff\n", "is no text in UTF-8"),
        (ROWS + "0,1," + "9" * 140_000 + "\n", "is no table: field larger"),
    ],
)
def test_tables_that_are_wrong(tmp_path, text, message):
    path = tmp_path / "d.csv"
    path.write_text(text, errors="surrogateescape")
    refused(path, message)


def test_a_table_takes_no_more_memory_than_its_numbers_and_labels(tmp_path):
    path = tmp_path / "d.csv"
    long = "x" * 100_000  # as wide an entry for every row would be 4 GB
    path.write_text("label,a\n" + f"{long},1\n" + "ant,1\nbee,2\n" * 5000)
    tracemalloc.start()
    try:
        refused(path, "which cannot be printed")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 10 * path.stat().st_size + (1 << 20)
    path.write_text("label,a\n" + "".join(f"c{n},1\n" for n in range(10_001)))
    refused(path, "has more than 10,000 different labels")


def test_options_that_are_not_for_the_data(tmp_path):
    npz = write_npz(tmp_path / "d.npz", x=X, y=Y)
    refused(npz, "size= is for a folder of pictures, and this is none", size=28)
    refused(npz, "label= is for a CSV file", label="y")
    refused(write_idx(tmp_path / "i"), "task= is for a CSV or .npz file", task="regression")
    refused(npz, r"samples of shape \(6, 5\) do not make \(1, 28, 28\)", shape=(1, 28, 28))
    refused(write_idx(tmp_path / "idx"), "shape= is for a CSV or .npz file", shape=(1, 6, 5))
    table = write_csv(tmp_path / "d.csv", [[0, 1, 2], [1, 3, 4]], "label,a,b")
    refused(table, "has no column 'c' for the label; its columns: label, a, b", label="c")
    refused(table, "has no column 7", label=7)
    with pytest.raises(DataError, match="size= is for a folder of pictures, not for 'mnist-sample"):
        tc.data.load("mnist-sample", size=28)


@pytest.mark.parametrize("wrong", [
    {"source": None}, {"source": ""}, {"source": 3}, {"root": 1}, {"seed": 1.5}, {"shape": (0, 3)},
    {"shape": ("a",)}, {"validation": 2}, {"sizes": 28}, {"task": "regress"},
], ids=str)  # fmt: skip
def test_arguments_that_are_none(wrong):
    with pytest.raises(tc.ArgumentError, match=f"load: .*{next(iter(wrong))}"):
        tc.data.load(**wrong)


def test_paths_that_hold_no_data(tmp_path):
    refused(tmp_path / "nowhere", "no data set is named .* and no such file or folder is there")
    (tmp_path / "d.parquet").write_text("")
    refused(tmp_path / "d.parquet", "is no folder, and neither a .csv, a .tsv nor a .npz file")
    unreadable = write_npz(tmp_path / "d.npz", x=X, y=Y)
    unreadable.unlink()
    unreadable.mkdir()
    refused(unreadable, "holds neither IDX files nor")


def test_too_many_classes(tmp_path, monkeypatch):
    monkeypatch.setattr("tinyconv.data.own.MOST_CLASSES", 20)
    path = write_npz(tmp_path / "d.npz", x=X, y=np.arange(30))
    refused(path, r"30 classes \(0, 1, 2 …\), expected 2 to 20")

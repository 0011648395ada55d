"""The IDX reader: what it reads, and every way in which a file can be wrong."""

import gzip
import struct
import tempfile
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, strategies
from hypothesis.extra import numpy as arrays

from tinyconv.data.idx import read_idx
from tinyconv.errors import DataError


def idx(array, dtype=8):
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, dtype, array.ndim, *array.shape) + bytes(array)


IMAGES = idx(np.arange(12, dtype=np.uint8).reshape(3, 2, 2))
LABELS = idx(np.array([7, 2, 1], dtype=np.uint8))
PNG = bytes.fromhex("89504e470d0a1a0a0000000d49484452")
FOREIGN = "is no IDX file of bytes: it starts with"


def read(content, shape):
    """Read bytes as a file."""
    with tempfile.NamedTemporaryFile() as file:
        file.write(content)
        file.flush()
        return read_idx(file.name, shape)


def test_a_file_written_by_hand(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(bytes([0, 0, 8, 2, 0, 0, 0, 2, 0, 0, 0, 3, 1, 2, 3, 4, 5, 255]))
    array = read_idx(path, (2, 3))
    assert array.dtype == np.uint8
    assert array.tolist() == [[1, 2, 3], [4, 5, 255]]


@given(arrays.arrays(np.uint8, arrays.array_shapes(max_dims=4, min_side=0)), strategies.booleans())
def test_what_was_written_is_read(array, compress):
    content = gzip.compress(idx(array)) if compress else idx(array)
    assert np.array_equal(read(content, array.shape), array)


@pytest.mark.parametrize(
    ("content", "shape", "message"),
    [
        (b"", (3,), "is truncated: it has 0 bytes"),
        (LABELS[:3], (3,), "is truncated: it has 3 bytes"),
        (LABELS[:7], (3,), "is truncated: it ends in its header"),
        (LABELS[:-1], (3,), "is truncated: 2 bytes follow its header, expected 3"),
        (LABELS + b"\0", (3,), "is oversized: more than 3 bytes follow its header"),
        (IMAGES, (3,), "is mislabelled: it holds an array of rank 3, not 1"),
        (LABELS, (3, 2, 2), "is mislabelled: it holds an array of rank 1, not 3"),
        (LABELS, (4,), "its header claims an array of shape (3,), expected (4,)"),
        (PNG, (3,), rf"{FOREIGN} b'\x89PNG', expected b'\x00\x00\x08\x01'"),
        (b"<!DOCTYPE html>", (3,), f"{FOREIGN} b'<!DO'"),
        (idx(np.zeros(3, np.uint8), dtype=13), (3,), FOREIGN),
        (gzip.compress(LABELS)[:-4], (3,), "is truncated: its gzip stream has no end"),
        (gzip.compress(LABELS)[:15], (3,), "is truncated: its gzip stream has no end"),
        (gzip.compress(LABELS[:-1]), (3,), "is truncated: 2 bytes follow its header, expected 3"),
        (gzip.compress(LABELS + b"\0"), (3,), "is oversized: more than 3 bytes follow its header"),
        (gzip.compress(LABELS)[:-8] + bytes(8), (3,), "is a damaged gzip file: CRC check failed"),
        (b"\x1f\x8b" + PNG, (3,), "is a damaged gzip file: Unknown compression method"),
        (gzip.compress(LABELS)[:10] + b"\xff" * 20, (3,), "is a damaged gzip file: Error -3"),
        (gzip.compress(LABELS) + PNG, (3,), "is a damaged gzip file: Not a gzipped file"),
    ],
)  # fmt: skip
def test_a_wrong_file_is_named_with_what_is_wrong(tmp_path, content, shape, message):
    path = tmp_path / "labels"
    path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        read_idx(path, shape)
    assert str(caught.value).startswith(f"{path}: {message}")


def test_a_file_that_cannot_be_opened(tmp_path):
    with pytest.raises(DataError, match="nowhere: cannot be read: No such file or directory"):
        read_idx(tmp_path / "nowhere", (3,))
    with pytest.raises(DataError, match=r"cannot be read: "):
        read_idx(tmp_path, (3,))


@given(strategies.data())
def test_a_damaged_file_gives_an_error_or_an_array_of_the_shape(data):
    content = bytearray(data.draw(strategies.sampled_from([IMAGES, gzip.compress(IMAGES)])))
    for _ in range(data.draw(strategies.integers(1, 3))):
        content[data.draw(strategies.integers(0, len(content) - 1))] = data.draw(
            strategies.integers(0, 255)
        )
    content = content[: data.draw(strategies.integers(0, len(content)))]
    try:
        array = read(bytes(content), (3, 2, 2))
    except DataError as error:
        assert ": " in str(error)  # noqa: PT017
    else:
        assert array.shape == (3, 2, 2)


def bomb():
    """64 MB of zeros behind a header of three labels, in 64 kB."""
    return gzip.compress(LABELS[:8] + bytes(1 << 26), compresslevel=1)


@pytest.mark.parametrize(
    "content",
    [
        lambda: LABELS[:4] + struct.pack(">I", 0xFFFFFFFF),
        lambda: gzip.compress(LABELS[:4] + struct.pack(">I", 0xFFFFFFFF)),
        bomb,
    ],
    ids=["header claims 4 GB", "gzipped header claims 4 GB", "gzip bomb"],
)
def test_no_memory_is_spent_on_a_claim(content):
    file = content()
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match=r"claims|oversized"):
            read(file, (3,))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 1 << 20

"""The book's data files: what they hold is read, what they would execute is not."""

import gzip
import os
import pickle

import numpy as np
import pytest

from tinyconv.data.book_pickle import read_book_pickle
from tinyconv.errors import DataError

RNG = np.random.default_rng(0)


def part(n, x_type=np.float32, y_type=np.int64):
    return (RNG.random((n, 784)).astype(x_type), RNG.integers(0, 10, n).astype(y_type))


def written(path, content, protocol=2):
    with gzip.open(path, "wb") as file:
        file.write(content if isinstance(content, bytes) else pickle.dumps(content, protocol))
    return path


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_three_pairs_of_arrays_in_every_protocol(tmp_path, protocol):
    parts = part(5), part(3, np.float64, np.int32), part(2, np.float32, np.uint8)
    path = written(tmp_path / "mnist.pkl.gz", parts, protocol)
    for (x, y), (expected_x, expected_y) in zip(read_book_pickle(path), parts, strict=True):
        assert (x == expected_x.astype("f4")).all()
        assert (y == expected_y).all()
        assert (x.dtype, y.dtype) == (np.float32, np.int32)


def test_lists_of_rows_and_scalars_as_in_the_expanded_file(tmp_path):
    x, y = part(4)
    path = written(tmp_path / "mnist_expanded.pkl.gz", [[list(x), list(y)], part(1), part(1)])
    assert (read_book_pickle(path)[0][0] == x).all()
    assert (read_book_pickle(path)[0][1] == y).all()


def test_a_pickle_of_python_2(tmp_path):
    """Python 2 wrote bytes as text, in old NumPy's names, here with big-endian labels."""

    def array(shape, code, order, raw):
        text = raw.decode("latin1").encode("utf-8")
        return (
            b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntS'b'\ntR(I1\n("
            + b"".join(b"I%d\n" % n for n in shape)
            + b"tcnumpy\ndtype\n(S'"
            + code
            + b"'\nI0\nI1\ntR(I3\nS'"
            + order
            + b"'\nNNNI-1\nI-1\nI0\ntbI00\nX"
            + len(text).to_bytes(4, "little")
            + text
            + b"tb"
        )

    x, y = part(2)
    pair = b"(" + array((2, 784), b"f4", b"<", x.tobytes())
    pair += array((2,), b"i8", b">", y.astype(">i8").tobytes()) + b"t"
    path = written(tmp_path / "mnist.pkl.gz", b"(" + 3 * pair + b"t.")
    assert (read_book_pickle(path)[2][0] == x).all()
    assert (read_book_pickle(path)[2][1] == y).all()
    assert np.dtype("i8").isnative  # the file's byte order stayed the file's


class Executes:
    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize(
    ("function", "argument"),
    [(os.system, "touch {}"), (eval, "open({!r}, 'w')"), (np.savetxt, "{}")],
)
def test_a_pickle_that_would_execute_anything(tmp_path, function, argument):
    trace = tmp_path / "executed"
    evil = Executes(function, argument.format(str(trace)), *([[1]] * (function is np.savetxt)))
    path = written(tmp_path / "mnist.pkl.gz", [part(1), part(1), (evil, part(1)[1])])
    with pytest.raises(DataError, match=r"mnist.pkl.gz: refused, because it would execute \w+\."):
        read_book_pickle(path)
    assert not trace.exists()


def test_an_array_of_objects(tmp_path):
    path = written(tmp_path / "mnist.pkl.gz", [(np.array([{}]), 1), 2, 3])
    with pytest.raises(DataError, match=r"is no pickle of arrays: instruction b'}' at byte"):
        read_book_pickle(path)


WRONG = {
    "no three parts: training, validation and test data": [part(1), part(1)],
    "training data: no pair of images and labels": [1, 2, 3],
    r"validation data: images of shape \(2, 783\), expected \(N, 784\)": [
        part(1),
        (np.zeros((2, 783)), np.zeros(2, int)),
        part(1),
    ],
    r"test data: labels of shape \(3,\), expected \(2,\)": [
        part(1),
        part(1),
        (np.zeros((2, 784)), np.zeros(3, int)),
    ],
    "training data: labels of type float64, expected integers": [
        (np.zeros((2, 784)), np.zeros(2)),
        part(1),
        part(1),
    ],
    "training data: labels from 0 to 10, expected 0 to 9": [
        (np.zeros((2, 784)), np.array([0, 10])),
        part(1),
        part(1),
    ],
    r"training data: values from 0.0 to 255.0, expected them in \[0, 1\]": [
        (np.repeat([[0.0], [255.0]], 784, axis=1), np.zeros(2, int)),
        part(1),
        part(1),
    ],
    "training data: no arrays of numbers": [([[1, 2], [3]], [1, 2]), part(1), part(1)],
}


@pytest.mark.parametrize("message", WRONG)
def test_something_else_than_the_books_data(tmp_path, message):
    path = written(tmp_path / "mnist.pkl.gz", WRONG[message])
    with pytest.raises(DataError, match=f"mnist.pkl.gz: .*{message}"):
        read_book_pickle(path)


def test_files_that_are_damaged(tmp_path):
    whole = written(tmp_path / "whole.pkl.gz", [part(3), part(3), part(3)]).read_bytes()
    path = tmp_path / "mnist.pkl.gz"
    for content, message in (
        (b"", "is truncated"),
        (b"no gzip", "is no gzip file"),
        (whole[:-2000], "is truncated"),
        (whole[:500] + b"\0" * 50 + whole[550:], "is a damaged gzip file|is no pickle of arrays"),
        (gzip.compress(b"nonsense"), "is no pickle of arrays"),
    ):
        path.write_bytes(content)
        with pytest.raises(DataError, match=f"mnist.pkl.gz: {message}"):
            read_book_pickle(path)
    with pytest.raises(DataError, match="cannot be read: Is a directory"):
        read_book_pickle(tmp_path)


# Programs that would take the memory, the time or the process.

NDARRAY = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\0\x85C\x01b\x87R"


@pytest.mark.parametrize(
    ("program", "message"),
    [
        # a list of lists of lists, each ten times the one before
        (
            b"]" + b"".join(b"q%c(" % n + b"h%c" % n * 10 + b"l" for n in range(60)) + b".",
            "no three",
        ),
        # types that NumPy's own reconstruction believes
        (
            NDARRAY + b"(K\1J\xff\xff\xff\x7f\x85cnumpy\ndtype\nX\2\0\0\0O8\x85R\x89C\0tb.",
            "type .O8",
        ),
        (
            NDARRAY + b"(K\1J\xff\xff\xff\x7f\x85cnumpy\ndtype\nX\2\0\0\0f8\x85R\x89C\0tb.",
            "0 numbers",
        ),
        (b"g" + b"9" * 20 + b"\n.", "too large"),
        (b"cnumpy\ndtype\nX\2\0\0\0V9\x85R.", "an array of type 'V9'"),
        (b"cnumpy\ndtype\nX\2\0\0\0f8\x85R(K\3X\1\0\0\0<NNJ\xff\xff\xff\xfftb.", "no three parts"),
        (b"(" * 20_000, "more instructions than arrays need"),
        (b"]" * 2_000_000, "more instructions than arrays need"),
        (b"T\xff\xff\xff\xff.", "byte count < 0"),
        (b"X\xff\0\0\0.", "only 1 remain"),
        (b"]", "it ends too early"),
        (b"\x8e\xff\xff\xff\xff\xff\xff\xff\xff.", "byte count > sys.maxsize"),
        (b"h\7.", "Memo value not found at index 7"),
        (b"I" + b"9" * 100_000 + b"\n.", "Exceeds the limit"),
        (b"Nb.", "stack underflow"),
        (b"NK\1b.", "state is not a dictionary"),
        (b"cnumpy\ndtype\nK\1b.", "state is not a dictionary"),
        (b"NNR.", "argument list must be a tuple"),
        (b"cnumpy\nndarray\n)R.", "not callable"),
        (b"cnumpy\ndtype\n)R.", "missing 1 required"),
        (b"Nr\xff\xff\xff\x7f.", "a reference under 2147483647"),
        (b"t.", "could not find MARK"),
        (b"\x82\1.", "instruction b'.x82' at byte 0"),
    ],
)
def test_programs_that_arrays_do_not_need(tmp_path, program, message):
    path = written(tmp_path / "mnist.pkl.gz", program)
    with pytest.raises(DataError, match=message):
        read_book_pickle(path)


def test_a_row_that_is_repeated(tmp_path):
    """Ten bytes a row on the disk, three thousand in memory."""
    row, label = np.zeros(784, "u1"), 3
    path = written(tmp_path / "mnist.pkl.gz", [[[row] * 3000, [label] * 3000]] * 3)
    with pytest.raises(DataError, match=r"training data: .*a row is repeated"):
        read_book_pickle(path)


def test_a_file_that_unpacks_to_far_more(tmp_path):
    path = tmp_path / "mnist.pkl.gz"
    path.write_bytes(gzip.compress(b"(" * (65 << 20), 1))
    with pytest.raises(DataError, match="unpacks to more than 67,108,864 bytes"):
        read_book_pickle(path)


def test_texts_of_protocol_0_of_python_2(tmp_path):
    """Bytes with escapes, as its slow writer makes them."""
    x, y = part(1)

    def array(shape, code, raw):
        text = "".join(f"\\x{byte:02x}" for byte in raw).encode()
        return (
            b"cnumpy.core.multiarray\n_reconstruct\np0\n(cnumpy\nndarray\np1\n(I0\ntp2\nS'b'\np3\ntp4"
            b"\nRp5\n(I1\n(" + b"".join(b"L%dL\n" % n for n in shape)
            + b"tp6\ncnumpy\ndtype\np7\n(S'" + code
            + b"'\nI0\nI1\ntp8\nRp9\n(I3\nS'<'\nNNNI-1\nI-1\nI0\ntbI00\nS'" + text + b"'\ntb"
        )  # fmt: skip

    pair = b"(" + array((1, 784), b"f4", x.tobytes()) + array((1,), b"i8", y.tobytes()) + b"t"
    path = written(tmp_path / "mnist.pkl.gz", b"(lp99\n" + (pair + b"a") * 3 + b".")
    assert (read_book_pickle(path)[1][0] == x).all()

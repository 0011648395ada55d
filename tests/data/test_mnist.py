"""Where MNIST is looked for, what its files are checked for, and how they are downloaded."""

import gzip
import hashlib
import http.server
import os
import struct
import threading
from pathlib import Path

import numpy as np
import pooch
import pytest

from tinyconv import data
from tinyconv.data import mnist
from tinyconv.errors import DataError

FULL, SMALL = (60_000, 50_000, 10_000), (600, 500, 100)
NAMES = [
    f"{which}-{what}-ubyte"
    for which in ("train", "t10k")
    for what in ("images-idx3", "labels-idx1")
]
MARK = 255  # the first pixel of the training images tells which copy was read


def header(shape):
    return struct.pack(f">BBBB{len(shape)}I", 0, 0, 8, len(shape), *shape)


def set_sizes(patch: pytest.MonkeyPatch, sizes: tuple[int, int, int]) -> None:
    for name, size in zip(("IMAGES", "TRAIN", "TEST"), sizes, strict=True):
        patch.setattr(mnist, name, size)


@pytest.fixture(scope="module", autouse=True)
def small():
    """Files of fewer images, but for the tests that say otherwise."""
    with pytest.MonkeyPatch.context() as patch:
        set_sizes(patch, SMALL)
        yield


def write_set(folder: Path, mark: int = MARK, dots: bool = False) -> None:
    """Write four files of MNIST's form, all zero but for the first number of each."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in NAMES:
        shape = (mnist.IMAGES if "train" in name else mnist.TEST, 28, 28)
        shape = shape if "images" in name else shape[:1]
        with open(folder / (name.replace("-idx", ".idx") if dots else name), "wb") as file:
            file.write(header(shape) + bytes([mark if len(shape) == 3 else mark % 10]))
            file.truncate(len(header(shape)) + int(np.prod(shape)))


def mark_of(sets: data.DataSet) -> int:
    return round(float(sets.train.x[0, 0, 0, 0]) * 255)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """An empty cache, no ``TINYCONV_DATA`` and no mirror."""
    monkeypatch.setattr(pooch, "os_cache", lambda project: tmp_path / "cache" / project)
    monkeypatch.delenv("TINYCONV_DATA", raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(mnist, "MIRRORS", ())
    return tmp_path / "cache" / "tinyconv"


def test_the_splits(tmp_path, monkeypatch):
    set_sizes(monkeypatch, FULL)
    write_set(tmp_path)
    (x, y), (xv, yv), (xt, yt) = data.load("mnist", root=tmp_path)
    assert x.shape == (50_000, 1, 28, 28)
    assert xv.shape == xt.shape == (10_000, 1, 28, 28)
    assert y.shape == (50_000,)
    assert yv.shape == yt.shape == (10_000,)
    assert {a.dtype for a in (x, xv, xt)} == {np.dtype(np.float32)}
    assert {a.dtype for a in (y, yv, yt)} == {np.dtype(np.int64)}
    assert x[0, 0, 0, 0] == xt[0, 0, 0, 0] == 1
    assert x.sum() == xt.sum() == 1
    assert xv.sum() == 0
    assert y[0] == yt[0] == 5


@pytest.mark.parametrize("folder", [".", "mnist"])
@pytest.mark.parametrize("dots", [False, True])
@pytest.mark.parametrize("compress", [False, True])
def test_names_and_places(tmp_path, folder, dots, compress):
    write_set(tmp_path / folder, dots=dots)
    if compress:
        for path in list((tmp_path / folder).glob("*-ubyte")):
            path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes(), 1))
            path.unlink()
    assert mark_of(data.load("mnist", root=str(tmp_path))) == MARK


def test_root_comes_before_the_environment_and_that_before_the_cache(tmp_path, monkeypatch, cache):
    write_set(cache / "mnist", mark=1)
    assert mark_of(data.load("mnist")) == 1
    empty = tmp_path / "empty"
    empty.mkdir()
    monkeypatch.setenv("TINYCONV_DATA", str(empty))
    assert mark_of(data.load("mnist")) == 1
    write_set(tmp_path / "environment", mark=2)
    monkeypatch.setenv("TINYCONV_DATA", str(tmp_path / "environment"))
    assert mark_of(data.load("mnist")) == 2
    assert mark_of(data.load("mnist", root=empty)) == 2
    write_set(tmp_path / "root", mark=3)
    assert mark_of(data.load("mnist", root=tmp_path / "root")) == 3


def test_a_root_that_is_no_folder(tmp_path):
    with pytest.raises(DataError, match="typo: is no folder"):
        data.load("mnist", root=tmp_path / "typo")


def test_a_set_with_a_file_missing(tmp_path):
    write_set(tmp_path)
    (tmp_path / "t10k-labels-idx1-ubyte").unlink()
    message = "holds a part of MNIST only; missing: t10k-labels-idx1-ubyte$"
    with pytest.raises(DataError, match=message):
        data.load("mnist", root=tmp_path)


def test_images_under_the_name_of_labels(tmp_path):
    write_set(tmp_path)
    os.replace(tmp_path / "t10k-images-idx3-ubyte", tmp_path / "t10k-labels-idx1-ubyte")
    write_set(tmp_path / "other")
    os.replace(tmp_path / "other/t10k-images-idx3-ubyte", tmp_path / "t10k-images-idx3-ubyte")
    with pytest.raises(
        DataError, match=r"t10k-labels-idx1-ubyte: is mislabelled: .* rank 3, not 1"
    ):
        data.load("mnist", root=tmp_path)


def test_training_and_test_files_exchanged(tmp_path):
    write_set(tmp_path)
    os.replace(tmp_path / "t10k-labels-idx1-ubyte", tmp_path / "train-labels-idx1-ubyte")
    write_set(tmp_path / "other")
    os.replace(tmp_path / "other/t10k-labels-idx1-ubyte", tmp_path / "t10k-labels-idx1-ubyte")
    with pytest.raises(DataError, match=r"train-labels.* \(100,\), expected \(600,\)"):
        data.load("mnist", root=tmp_path)


def test_a_label_above_nine(tmp_path):
    write_set(tmp_path)
    with open(tmp_path / "t10k-labels-idx1-ubyte", "r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"\x0a")
    message = "t10k-labels-idx1-ubyte: is mislabelled: it holds the label 10, above 9"
    with pytest.raises(DataError, match=message):
        data.load("mnist", root=tmp_path)


# Downloads, from servers on this machine.


class Server:
    """Serves ``files`` by name, whatever the folder, and notes what was asked for."""

    def __init__(self, files):
        self.files, self.asked = files, []
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                name = self.path.rpartition("/")[2]
                outer.asked.append(name)
                content = outer.files.get(name)
                self.send_response(404 if content is None else 200)
                self.send_header("Content-Length", str(len(content or b"")))
                self.end_headers()
                self.wfile.write(content or b"")

            def log_message(self, *args):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/mnist/"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.01,))
        self.thread.start()

    def close(self):
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """The four gzipped files as a mirror sends them."""
    folder = tmp_path_factory.mktemp("published")
    write_set(folder)
    return {f"{name}.gz": gzip.compress((folder / name).read_bytes(), 1) for name in NAMES}


@pytest.fixture
def serve(monkeypatch, published):
    """Start one mirror for each dictionary of files, and make them the ones that are tried."""
    servers = []
    md5 = {name[:-3]: hashlib.md5(content).hexdigest() for name, content in published.items()}
    monkeypatch.setattr(mnist, "FILES", md5)

    def start(*mirrors):
        servers.extend(Server(files) for files in mirrors)
        monkeypatch.setattr(mnist, "MIRRORS", tuple(server.url for server in servers))
        return servers

    yield start
    for server in servers:
        server.close()


def names_in(folder: Path) -> set[str]:
    return {path.name for path in folder.rglob("*") if path.is_file()}


def test_the_first_mirror_serves_all_and_the_cache_serves_again(serve, published, cache):
    first, second = serve(published, published)
    assert mark_of(data.load("mnist")) == MARK
    assert first.asked == list(published)
    assert second.asked == []
    assert names_in(cache) == set(published)
    data.load("mnist")
    assert first.asked == list(published)


def test_the_second_mirror_serves_what_the_first_does_not_have(serve, published, cache):
    labels = {name: published[name] for name in published if "labels" in name}
    _, second = serve(labels, published)
    assert mark_of(data.load("mnist")) == MARK
    assert second.asked == [name for name in published if "images" in name]


def test_the_second_mirror_serves_when_the_first_is_down(serve, published, cache, monkeypatch):
    (server,) = serve(published)
    stopped = Server({})
    stopped.close()
    monkeypatch.setattr(mnist, "MIRRORS", (stopped.url, server.url))
    assert mark_of(data.load("mnist")) == MARK


def test_the_second_mirror_serves_what_the_first_has_damaged(serve, published, cache):
    damaged = {name: content[:-1] + b"?" for name, content in published.items()}
    _, second = serve(damaged, published)
    assert mark_of(data.load("mnist")) == MARK
    assert second.asked == list(published)


def test_an_interrupted_download_goes_on_with_the_missing_files(serve, published, cache):
    (server,) = serve(published)
    (cache / "mnist").mkdir(parents=True)
    for name in list(published)[:2]:
        (cache / "mnist" / name).write_bytes(published[name])
    data.load("mnist")
    assert server.asked == list(published)[2:]


def test_a_damaged_file_is_refused_and_nothing_is_left_behind(serve, published, cache):
    damaged = {name: content[:-1] + b"?" for name, content in published.items()}
    first, second = serve(damaged, damaged)
    with pytest.raises(DataError) as caught:
        data.load("mnist")
    assert f"{first.url} sent a damaged file; {second.url} sent a damaged file." in str(
        caught.value
    )
    assert names_in(cache) == set()


def test_without_network_and_data_the_message_names_the_three_ways(
    serve, cache, tmp_path, monkeypatch
):
    first, second = serve({}, {})
    first.close()
    monkeypatch.setenv("TINYCONV_DATA", str(tmp_path))
    with pytest.raises(DataError) as caught:
        data.load("mnist")
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(
        f"train-images-idx3-ubyte.gz: is not in {tmp_path}, {cache / 'mnist'}, "
        f"and could not be downloaded: {first.url} failed (ConnectionError); "
        f"{second.url} failed (HTTPError). "
    )
    for way in ("pass root=", "TINYCONV_DATA", "connect to the network"):
        assert way in message
    assert names_in(cache) == set()


def test_a_cache_that_cannot_be_written_to(serve, published, cache, monkeypatch):
    def refuse(*args, **options):
        raise PermissionError

    serve(published)
    monkeypatch.setattr(pooch, "retrieve", refuse)  # taking the right away does not stop root
    with pytest.raises(DataError, match=r"could not be downloaded: .*mnist cannot be written to\."):
        data.load("mnist")


@pytest.mark.parametrize("terminal", [True, False])
def test_the_progress_bar_is_for_terminals(serve, published, monkeypatch, capsys, terminal):
    serve(published)
    monkeypatch.setattr("sys.stderr.isatty", lambda: terminal, raising=False)
    data.load("mnist")
    printed = capsys.readouterr().err
    if terminal:
        assert all(f"{name}:" in printed for name in NAMES)
    else:
        assert printed == ""


REAL = Path(os.environ.get("TINYCONV_DATA", ""))


@pytest.mark.skipif(not (REAL / "mnist").is_dir(), reason="needs the real MNIST in TINYCONV_DATA")
def test_the_real_mnist(monkeypatch):
    set_sizes(monkeypatch, FULL)
    for name, md5 in mnist.FILES.items():
        content = (REAL / "mnist" / f"{name}.gz").read_bytes()
        assert hashlib.md5(content).hexdigest() == md5
    (x, y), (_, yv), (xt, yt) = data.load("mnist", root=REAL)
    assert y[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
    assert yt[:10].tolist() == [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]
    counts = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert (np.bincount(y) + np.bincount(yv)).tolist() == counts
    assert x.max() == xt.max() == 1
    assert round(float(xt.mean()), 4) == 0.1325  # 0.1307 over the 60,000

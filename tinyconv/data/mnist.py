"""MNIST: the sample that ships with the package, and the whole, of a folder or downloaded."""

import os
from pathlib import Path

import numpy as np

from tinyconv.data.idx import read_idx
from tinyconv.data.splits import DataSet, Split
from tinyconv.errors import DataError

#: MNIST's four files as they are published: the name, and the MD5 of its gzipped content.
FILES = {
    "train-images-idx3-ubyte": "f68b3c2dcbeaaa9fbdd348bbdeb94873",
    "train-labels-idx1-ubyte": "d53e105ee54ea40749a09fcbcd1e9432",
    "t10k-images-idx3-ubyte": "9fb629c4189551a2d022fa330f9573f3",
    "t10k-labels-idx1-ubyte": "ec29112dd5afa0611ce80d1b7f02629c",
}

#: Where they are downloaded from, tried in turn; the page that first held them is gone.
MIRRORS = (
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
)

#: A mirror that sends nothing for so many seconds is down.
TIMEOUT = 20

#: Images of the training files, how many of them are trained on (the others are for validation, as
#: in Nielsen's book), and images of the test files.
IMAGES, TRAIN, TEST = 60_000, 50_000, 10_000


#: The sample, 5,000 digits, 500 of each class; SAMPLE.md tells their source.
SAMPLE = Path(__file__).with_name("mnist_sample.npz")

#: Where it is cut: 3,500 images to train on, 500 to validate, 1,000 to test.
CUTS = (3500, 4000)


def load_sample() -> DataSet:
    """Return the sample: 3,500 / 500 / 1,000 images, every class a tenth of each split.

    >>> [len(y) for x, y in load_sample()]
    [3500, 500, 1000]
    """
    with np.load(SAMPLE) as arrays:
        images = np.split(arrays["images"], CUTS)
        labels = np.split(arrays["labels"], CUTS)
    train, validation, test = map(Split.from_bytes, images, labels)
    return DataSet(train, validation, test, source="mnist-sample")


def load_mnist(root: str | Path | None = None) -> DataSet:
    """Return MNIST split as Nielsen's book does: 50,000 / 10,000 / 10,000 images.

    The four files are looked for in ``root``, in the folder that the environment variable
    ``TINYCONV_DATA`` names and in the user's cache, in each of them directly and in its
    subfolder ``mnist``. They may be gzipped or not, and named ``train-images-idx3-ubyte`` or
    ``train-images.idx3-ubyte``. If they are nowhere, they are downloaded into the cache.

    Any files of MNIST's form serve: those of Fashion-MNIST, for one, have the same names.

    Raises:
        DataError: a file is missing, truncated, oversized, mislabelled or foreign, or the files
            are nowhere and cannot be downloaded.
    """
    train_images, train_labels, test_images, test_labels = _find(root)
    x = read_idx(train_images, (IMAGES, 28, 28))
    xt = read_idx(test_images, (TEST, 28, 28))
    y = read_idx(train_labels, (IMAGES,))
    yt = read_idx(test_labels, (TEST,))
    for path, labels in ((train_labels, y), (test_labels, yt)):
        if labels.max() > 9:
            raise DataError(f"{path}: is mislabelled: it holds the label {labels.max()}, above 9")
    return DataSet(
        train=Split.from_bytes(x[:TRAIN], y[:TRAIN]),
        validation=Split.from_bytes(x[TRAIN:], y[TRAIN:]),
        test=Split.from_bytes(xt, yt),
        source="mnist",
    )


def _find(root: str | Path | None) -> list[Path]:
    """Return the paths of the four files, in the order of ``FILES``; download them if need be."""
    places = [
        Path(place).expanduser() for place in (root, os.environ.get("TINYCONV_DATA")) if place
    ]
    for place in places:
        if not place.is_dir():
            raise DataError(f"{place}: is no folder, so MNIST cannot be looked for in it")
        for folder in (place, place / "mnist"):
            paths, missing = _files_in(folder)
            if paths and missing:
                raise DataError(f"{folder}: holds a part of MNIST only; missing: {missing}")
            if paths:
                return paths

    import pooch  # only here: it takes as long to import as NumPy

    cache = pooch.os_cache("tinyconv")
    for folder in (cache, cache / "mnist"):
        paths, missing = _files_in(folder)
        if paths and not missing:
            return paths
    return [_download(name, cache / "mnist", places) for name in FILES]


def _files_in(folder: Path) -> tuple[list[Path], str]:
    """Return those of the four files that ``folder`` holds, and the names of the others."""
    paths, missing = [], []
    for name in FILES:
        dotted = name.replace("-idx", ".idx")
        spellings = (folder / f"{base}{end}" for base in (name, dotted) for end in ("", ".gz"))
        path = next((path for path in spellings if path.is_file()), None)
        if path is None:
            missing.append(name)
        else:
            paths.append(path)
    return paths, ", ".join(missing)


def _download(name: str, folder: Path, places: list[Path]) -> Path:
    """Fetch a file into ``folder`` from the first mirror that has it intact."""
    failures = []
    for mirror in MIRRORS:
        try:
            return _fetch(mirror, name, folder)
        except PermissionError:
            failures.append(f"{folder} cannot be written to")
            break
        except OSError as error:  # every error of the network is one
            failures.append(f"{mirror} failed ({type(error).__name__})")
        except ValueError:
            failures.append(f"{mirror} sent a damaged file")
    looked = "".join(f"{place}, " for place in places)
    raise DataError(
        f"{name}.gz: is not in {looked}{folder}, and could not be downloaded: "
        f"{'; '.join(failures)}. There are three ways to get MNIST: pass root=, a folder with its "
        "four files; set the environment variable TINYCONV_DATA to one; or connect to the "
        'network and load it again. The data set "mnist-sample" needs none of them.'
    )


def _fetch(mirror: str, name: str, folder: Path) -> Path:
    """Download a file, with a progress bar if stderr is a terminal.

    Pooch writes to a temporary name, and renames it only if the MD5 is right. A file that is
    there already and intact, from a download that was interrupted later, is left as it is.
    """
    import pooch
    from tqdm import tqdm

    log = pooch.get_logger()
    level = log.level
    log.setLevel("WARNING")  # a failure is one message, and that is ours
    try:
        # Pooch takes only a bar whose total is not 0, and sets the total itself.
        with tqdm(desc=name, total=1, unit="B", unit_scale=True, leave=False, disable=None) as bar:
            path = pooch.retrieve(
                f"{mirror}{name}.gz",
                known_hash=f"md5:{FILES[name]}",
                fname=f"{name}.gz",
                path=folder,
                downloader=pooch.HTTPDownloader(bar, chunk_size=1 << 16, timeout=TIMEOUT),
            )
    finally:
        log.setLevel(level)
    return Path(path)

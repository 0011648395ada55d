"""The 5,000 digits that ship with the package, 500 of each class; SAMPLE.md tells their source."""

from pathlib import Path

import numpy as np

from tinyconv.data.splits import DataSet, Split

FILE = Path(__file__).with_name("mnist_sample.npz")

#: Where the file is cut: 3,500 images to train on, 500 to validate, 1,000 to test.
CUTS = (3500, 4000)


def load_sample() -> DataSet:
    """Return the sample: 3,500 / 500 / 1,000 images, every class a tenth of each split.

    >>> [len(y) for x, y in load_sample()]
    [3500, 500, 1000]
    """
    with np.load(FILE) as arrays:
        images = np.split(arrays["images"], CUTS)
        labels = np.split(arrays["labels"], CUTS)
    train, validation, test = map(Split.from_bytes, images, labels)
    return DataSet(train, validation, test, source="mnist-sample")

"""Where the batches of an epoch come from: arrays in an order of their own, or an iterable."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from inspect import isroutine
from itertools import chain
from typing import Any, Protocol, TypeAlias

import numpy as np

from tinyconv import random
from tinyconv.backend import Array, Values
from tinyconv.errors import ArgumentError, ShapeError
from tinyconv.losses import Targets
from tinyconv.losses.base import take
from tinyconv.messages import shown
from tinyconv.training.checks import as_array, check_input

#: Maps a batch (N, ...) and a key of :mod:`tinyconv.random` to a batch of the same shape.
Augment: TypeAlias = Callable[[Any, int], Any]

#: Samples, their targets, and which of them are the batch.
Batch: TypeAlias = tuple[Array, Targets, Values]


@dataclass(frozen=True)
class Batching:
    """How an epoch becomes batches."""

    batch_size: int  #: samples in a batch; the last one of an epoch may be shorter
    seed: int = 0  #: fixes the order and what ``augment`` draws
    shuffle: bool = True  #: whether each epoch has an order of its own
    drop_last: bool = False  #: leave a shorter last batch out
    #: what is done to each batch before it is trained on; None for nothing.
    augment: Augment | None = None

    def augmented(self, x: Array, epoch: int, number: int) -> Array:
        """Return the samples of a batch as they are trained on.

        Raises:
            ShapeError: they have another shape.
            DtypeError: they are not floating-point.
            DeviceError: they are no array.

        >>> Batching(2, augment=lambda x, key: x[:, :1]).augmented(np.zeros((2, 3)), 0, 0)
        Traceback (most recent call last):
        tinyconv.errors.ShapeError: fit: augment returned shape (2, 1) of a batch (2, 3), expected
        equal shapes
        """
        if self.augment is None:
            return x
        y = self.augment(x, random.key(self.seed, "augment", epoch, number))
        y = as_array("fit: augment", "what it returned", y)
        came = tuple(y.shape)
        if came != tuple(x.shape):
            raise ShapeError(
                f"fit: augment returned shape {came} of a batch {tuple(x.shape)}, expected equal "
                "shapes"
            )
        check_input("fit: augment", y, came[1:])
        return y


class Batches(Protocol):
    """Gives the batches of any epoch, always the same ones."""

    def __len__(self) -> int:
        """Return how many there are in an epoch; 0 before that is known, at its last batch."""

    def epoch(self, epoch: int, first: int) -> Iterator[Batch]:
        """Yield the batches of an epoch from number ``first``."""


@dataclass
class ArrayBatches:
    """Batches of arrays; the order of the samples is a function of the seed and the epoch.

    Raises:
        ArgumentError: there is no batch.

    >>> batches = ArrayBatches(np.eye(5), Targets(np.arange(5)), Batching(2, shuffle=False))
    >>> [index.tolist() for _, _, index in batches.epoch(0, 1)]
    [[2, 3], [4]]
    """

    x: Array  #: (S, ...), the samples
    targets: Targets  #: of the samples
    how: Batching  #: their batches are made

    def __post_init__(self) -> None:
        samples, size = len(self.targets), self.how.batch_size
        self._batches = samples // size if self.how.drop_last else -(-samples // size)
        if self._batches == 0:
            few = f"{samples} samples are no whole batch of {size}" if samples else "no samples"
            raise ArgumentError(f"fit: {few}, expected at least one")

    def __len__(self) -> int:
        return self._batches

    def epoch(self, epoch: int, first: int) -> Iterator[Batch]:  # noqa: D102
        how, order = self.how, np.arange(len(self.targets))
        if how.shuffle:
            order = random.permutation(random.key(how.seed, "shuffle", epoch), len(order))
        for number in range(first, self._batches):
            index = order[number * how.batch_size : (number + 1) * how.batch_size]
            if how.augment is None:
                yield self.x, self.targets, index
            else:
                x = how.augmented(self.x[index], epoch, number)
                yield x, self.targets[index], np.arange(len(index))


class IterableBatches:
    """Batches that an iterable gives: a list of them, a ``DataLoader``, a generator.

    Args:
        batches: gives (x, y) or (x, y, sample_weight) in every epoch anew, or is a function that
            yields or returns what does; or gives them once, for one epoch.
        accept: returns checked samples and targets for x, y and weights or None.
        how: they are transformed.

    Raises:
        ArgumentError: it is no iterable, or gives something else.

    >>> pairs = ((np.eye(2), np.array([0, 1])) for _ in range(3))
    >>> source = IterableBatches(pairs, lambda x, y, weight: (x, Targets(y)), Batching(1))
    >>> source.once, len(source), len(list(source.epoch(0, 0))), len(source)
    (True, 0, 3, 3)
    """

    def __init__(
        self,
        batches: Any,
        accept: Callable[[Any, Any, Any], tuple[Array, Targets]],
        how: Batching,
    ) -> None:
        self._begin: Callable[[], Iterator[Any]]
        if isroutine(batches) or isinstance(batches, partial):
            self._begin = lambda: iter(_batches("x()", batches()))
        else:
            self._begin = partial(iter, _batches("x", batches))
        self.accept, self.how = accept, how
        #: Whether there is one epoch of them.
        self.once = isinstance(batches, Iterator)
        self._keeps = isinstance(batches, list | tuple)
        try:
            self._length = len(batches)
        except TypeError:  # also of a DataLoader whose data set is a stream
            self._length = 0

    def __len__(self) -> int:
        return self._length

    def first(self) -> Batch:
        """Return the first batch, which is still the first one of the first epoch.

        Raises:
            ArgumentError: there is none.
        """
        batches = self._begin()
        for batch in batches:
            if self.once:
                self._begin = partial(chain, [batch], batches)
            return self._read(0, 0, batch)
        raise ArgumentError("fit: no batches, expected at least one")

    def epoch(self, epoch: int, first: int) -> Iterator[Batch]:  # noqa: D102
        number, batches = -1, enumerate(self._begin())
        following = next(batches, None)
        while following is not None:
            number, batch = following
            read = self._read(epoch, number, batch) if number >= first else None
            is_counting = self._length == 0
            if is_counting:
                following = next(batches, None)
                self._length = 0 if following else number + 1
            if read is not None:
                yield read
            if not is_counting:
                following = next(batches, None)
        if number + 1 != len(self):
            raise ArgumentError(
                f"fit: {number + 1} batches came in epoch {epoch + 1}, expected {len(self)}, the "
                "length of what gives them; an iterator gives them only once"
            )

    def _read(self, epoch: int, number: int, batch: Any) -> Batch:
        """Return a batch checked and transformed."""
        if not isinstance(batch, list | tuple) or len(batch) not in (2, 3):
            raise ArgumentError(
                f"fit: batch {number + 1} is {shown(batch)}, expected (x, y) or "
                "(x, y, sample_weight)"
            )
        x, targets = self.accept(*batch, *[None] * (3 - len(batch)))
        x, index = self.how.augmented(x, epoch, number), np.arange(len(targets))
        if not self._keeps:
            # The next batch may be written into the same arrays, which an engine would take for
            # the same samples, or while it may still have to do this step again.
            x, targets = take(x, index, x), targets[index]
        return x, targets, index


def _batches(name: str, given: Any) -> Any:
    """Return what gives batches; refuse what cannot be gone through."""
    if isinstance(given, Iterable) and not hasattr(given, "shape"):
        return given
    raise ArgumentError(
        f"fit: {name} is {shown(given)} and y is missing; expected x and y, or batches (x, y) in a "
        "list or in anything else that can be gone through"
    )


def as_pair(x: Any, y: Any, sample_weight: Any) -> tuple[Any, Any, Any] | None:
    """Return samples, targets and weights; None where x gives batches of them.

    >>> as_pair(([1.0], [0]), None, None) is None, as_pair((np.eye(2), np.arange(2)), None, None)[2]
    (True, None)
    """
    if y is not None:
        return x, y, sample_weight
    is_pair = isinstance(x, tuple | list) and len(x) in (2, 3)
    if is_pair and all(hasattr(part, "shape") for part in x):
        return (*x, *[sample_weight] * (3 - len(x)))
    return None


def split_off(
    share: float, seed: int, x: Array, targets: Targets
) -> tuple[tuple[Array, Targets], tuple[Array, Targets]]:
    """Return the samples to train on, and a share of all that is drawn at random to validate.

    Raises:
        ArgumentError: one of the two would be empty.

    >>> kept, (x, _) = split_off(0.25, 0, np.zeros((8, 3)), Targets(np.zeros(8, int)))
    >>> len(kept[0]), len(x)
    (6, 2)
    """
    samples = len(targets)
    count = round(share * samples)
    if not 0 < count < samples:
        raise ArgumentError(
            f"fit: validation_split is {share}, which leaves {samples - count} of {samples} "
            f"samples for training and {count} for validation; expected some for both"
        )
    order = random.permutation(random.key(seed, "validation"), samples)
    kept, split = np.sort(order[count:]), np.sort(order[:count])
    return (x[kept], targets[kept]), (x[split], targets[split])

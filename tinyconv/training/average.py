"""A moving average of the weights, which answers better than the weights of any one step."""

from typing import Annotated

import numpy as np

from tinyconv.arguments import Number, checked
from tinyconv.backend import Array, like
from tinyconv.files import check_tensors
from tinyconv.training.callbacks import Callback, Training, held


class AverageWeights(Callback):
    """Train the weights, but validate, and end, with their exponential moving average:

        average += share (weights - average)        share = max(1 - decay, 9 / (10 + steps))

    The running statistics of batch normalisations are averaged alike, so that they go with the
    weights. The larger share of the first steps lets the average forget where training began.

    From the last batch of an epoch to the first of the next one the network holds the average:
    validation, callbacks after the epoch and its checkpoint see that. Where training is stopped
    inside an epoch, the network ends with the average, too; a callback that then has other
    weights to give it, such as :class:`KeepBest`, stands before this one in the list.

    Args:
        decay: share of the average that a step keeps; 0.999 averages the last 1,000 steps or so.

    Raises:
        ArgumentError: decay is not from 0 to less than 1.
        FileError: (in ``fit``) the checkpoint to resume lacks an array of the average.

    Source: Polyak and Juditsky, "Acceleration of stochastic approximation by averaging" (1992);
    the warm-up is TensorFlow's ``ExponentialMovingAverage(num_updates=)``.

    >>> import numpy as np
    >>> import tinyconv as tc
    >>> net = tc.Sequential([tc.Linear(2, 2)], seed=0)
    >>> history = net.fit(np.eye(2), np.arange(2), epochs=5, verbose=False,
    ...                   callbacks=[tc.AverageWeights(decay=0.9)])
    """

    @checked
    def __init__(self, decay: Annotated[float, Number(least=0, below=1)] = 0.999) -> None:
        self.decay = decay
        self._restored: dict[str, Array] = {}

    def on_train_begin(self, training: Training) -> None:  # noqa: D102
        now, self._holds_average = _arrays(training), False
        #: What the network does not hold: the average in an epoch, the trained weights after it.
        self._other = {name: array.copy() for name, array in now.items()}
        if not self._restored:
            return
        shapes = {name: tuple(array.shape) for name, array in now.items()} | {_HOLDS: ()}
        check_tensors(f"{type(self).__name__} in the checkpoint", self._restored, shapes)
        self._holds_average = bool(self._restored[_HOLDS])
        for name, array in self._other.items():
            array[...] = like(array, self._restored[name])
        self._restored = {}

    def on_epoch_begin(self, training: Training) -> None:  # noqa: D102
        self._let_it_hold(False, training)

    def on_batch_end(self, training: Training) -> None:  # noqa: D102
        share = max(1 - self.decay, 9 / (10 + training.position.step))
        for name, array in _arrays(training).items():
            average = self._other[name]
            average += share * (array - average)
        self._let_it_hold(training.position.batch == training.batches, training)

    def on_train_end(self, training: Training) -> None:  # noqa: D102
        self._let_it_hold(True, training)

    def _let_it_hold(self, average: bool, training: Training) -> None:
        """Give the network the average, or the trained weights, if it holds the others."""
        if average == self._holds_average:
            return
        self._holds_average = average
        for name, array in _arrays(training).items():
            held = array.copy()
            array[...] = self._other[name]
            self._other[name] = held

    def state(self) -> dict[str, Array]:  # noqa: D102
        return {**self._other, _HOLDS: np.asarray(int(self._holds_average))}

    def restore(self, state: dict[str, Array]) -> None:  # noqa: D102
        self._restored = state


#: Name in a checkpoint of what says whether the network's weights there are the average.
_HOLDS = "holds_average"


def _arrays(training: Training) -> dict[str, Array]:
    """Return what is averaged: all but the counters of batches."""
    return {name: a for name, a in held(training).items() if "int" not in str(a.dtype)}

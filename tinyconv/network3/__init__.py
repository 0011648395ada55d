"""The program ``network3.py`` of Nielsen's book, with the book's interface, on this library.

After ``from tinyconv import network3`` the listings of chapter 6 run as they are printed. The
book's choices are kept where the rest of the library makes others:

- Pooling comes before the bias and the activation.
- Dropout acts on the input of a layer, unscaled; at test the input is scaled by 1 - p instead.
- The cost is the mean negative log-likelihood plus lambda / 2 times the sum of all squared
  weights, over the number of training batches.
- Batches are whole and come in the same order in every epoch; accuracies are over whole batches.
- Weights are Gaussian of standard deviation 1/sqrt(n_out), biases of 1; the softmax layer's are
  zero. They are drawn from NumPy's global generator, which ``numpy.random.seed`` sets.

Kernels are not flipped, as in the book's equation 125.

Source: Nielsen, "Neural Networks and Deep Learning", chapter 6.
"""

import sys
from collections.abc import Sequence
from itertools import pairwise
from math import prod
from pathlib import Path
from typing import Annotated, Any

import numpy as np

from tinyconv import data
from tinyconv.arguments import Count, Kind, NotNegative, Positive, checked
from tinyconv.backend import to_numpy
from tinyconv.data.book_pickle import read_book_pickle
from tinyconv.errors import ArgumentError, DataError, ShapeError, StateError
from tinyconv.layers import Flatten, Layer
from tinyconv.layers.base import Shape
from tinyconv.messages import shown
from tinyconv.network import Sequential
from tinyconv.network3 import layers
from tinyconv.network3.layers import *
from tinyconv.optimizers import SGD
from tinyconv.training.callbacks import Callback, Training

__all__ = ["Network", "load_data_shared"]
__all__ += layers.__all__

# The listings say "import network3" and "from network3 import ...", without the package.
sys.modules.setdefault("network3", sys.modules[__name__])

#: The book prints a line every so many batches.
BATCHES_A_LINE = 1000


def load_data_shared(filename: str | Path = "../data/mnist.pkl.gz") -> list[tuple[Shared, Shared]]:
    """Return training, validation and test data: images (N, 784) and labels (N,) of each.

    A file that is there is read; nothing in it is executed. Where there is none of the name
    ``mnist.pkl.gz`` or ``mnist_expanded.pkl.gz``, the same data is made from the library's MNIST,
    and a line says so. The book's own file holds bytes divided by 256, the library's MNIST bytes
    divided by 255. The expanded training data is made in bytes, a quarter of the memory.

    Raises:
        DataError: the file is damaged, would execute something, or holds something else; or it is
            not there and has neither of the two names, or MNIST cannot be found.
    """
    path = Path(filename)
    if path.exists():
        return [(Shared(x), Shared(y)) for x, y in read_book_pickle(path)]
    if path.name not in ("mnist.pkl.gz", "mnist_expanded.pkl.gz"):
        raise DataError(f"{path}: no such file")
    print(f"{path} is not there; its content is made from the library's MNIST.")
    x: Any
    (x, y), *others = data.load("mnist")
    if path.name == "mnist_expanded.pkl.gz":
        expanded, y = data.augment.expand(x, y)
        x = data.ByteImages(expanded.pixels.reshape(len(y), -1))
    else:
        x = x.reshape(len(y), -1)
    pairs = [(x, y)] + [(xs.reshape(len(ys), -1), ys) for xs, ys in others]
    return [(Shared(xs), Shared(ys.astype(np.int32))) for xs, ys in pairs]


class Network:
    """Layers one after the other, trained by :meth:`SGD`.

    Args:
        layers: from the input to a :class:`SoftmaxLayer`.
        mini_batch_size: images in a batch.

    Attributes:
        net: the same network as a :class:`tinyconv.Sequential`, with which it shares its
            parameters: ``net.net.predict_proba(x)``, ``net.net.save(path)``.

    Raises:
        ShapeError: a layer does not fit the one before it or the mini-batch size, or the last one
            is no softmax layer.
        StateError: a layer is part of another network already.
        ArgumentError: the mini-batch size is no integer of at least 1, or a layer is none of the
            book's.

    >>> net = Network([FullyConnectedLayer(n_in=784, n_out=100),
    ...                SoftmaxLayer(n_in=100, n_out=10)], 10)
    >>> [p.get_value().shape for p in net.params]
    [(784, 100), (100,), (100, 10), (10,)]
    """

    @checked
    def __init__(
        self,
        layers: Annotated[
            Sequence[ConvPoolLayer | FullyConnectedLayer], Kind(list | tuple, "a list of layers")
        ],
        mini_batch_size: Count,
    ) -> None:
        self.layers = list(layers)
        self.mini_batch_size = mini_batch_size
        _check_layers(self.layers, mini_batch_size)
        self.params = [param for layer in self.layers for param in layer.params]
        stacks: list[Layer] = []
        before: Shape = self.layers[0].input_shape
        for layer in self.layers:
            if len(before) > len(layer.input_shape):
                stacks.append(Flatten())
            stacks += layer.stack
            before = layer.output_shape
        if any(layer.is_bound for layer in stacks):
            raise StateError("Network: a layer is part of another network, expected one of its own")
        self.net = Sequential(stacks, input_shape=self.layers[0].input_shape)
        self._share()

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take what was pickled or copied, the network in layers of its own."""
        self.__dict__.update(state)
        self._share()

    def _share(self) -> None:
        """Make the arrays of the book's layers parts of the network's."""
        parts = (part for part in self.net.layers if not isinstance(part, Flatten))
        for layer in self.layers:
            layer.stack = [next(parts) for _ in layer.stack]
            own = next(part.params for part in layer.stack if part.params)
            weight = own["weight"].T if isinstance(layer, FullyConnectedLayer) else own["weight"]
            for shared, view in ((layer.w, weight), (layer.b, own["bias"])):
                view[...] = shared.value
                shared.value = view

    @checked
    def SGD(
        self,
        training_data: tuple[Any, Any],
        epochs: Count,
        mini_batch_size: Count,
        eta: Positive,
        validation_data: tuple[Any, Any],
        test_data: tuple[Any, Any] | None,
        lmbda: NotNegative = 0.0,
    ) -> None:
        """Train by stochastic gradient descent, and print what the book's program prints.

        Interrupted, it leaves the network as the last whole batch left it.

        Args:
            training_data: images (N, n) and labels (N,), as arrays or :class:`Shared`.
            epochs: how often to see every image.
            mini_batch_size: that of the network.
            eta: learning rate.
            validation_data: images and labels to evaluate after every epoch.
            test_data: those to evaluate whenever the validation accuracy is the best so far, or
                None.
            lmbda: regularization parameter.

        Raises:
            ShapeError: the mini-batch size is not that of the network, the images are of another
                size than the first layer takes, there is less than one whole batch, or a label is
                no class.
            DtypeError: the labels are not integers.
            ArgumentError: a number is out of range, or data is no pair of images and labels.
            NonFiniteError: the cost became infinite or NaN.
        """
        if mini_batch_size != self.mini_batch_size:
            raise ShapeError(
                f"SGD: mini_batch_size is {mini_batch_size}, expected {self.mini_batch_size}, "
                "which the network was made for"
            )
        x, y = self._whole_batches("training_data", training_data)
        validation = self._whole_batches("validation_data", validation_data)
        test = None if not test_data else self._whole_batches("test_data", test_data)
        if test is not None:
            self.net._samples("SGD: test_data", *test, None, self.net.loss)
        lines = _Lines(self.net, test)
        self.net.fit(
            x,
            y,
            epochs=epochs,
            batch_size=mini_batch_size,
            optimizer=SGD(lr=eta, weight_decay=lmbda / (len(y) // mini_batch_size)),
            validation_data=validation,
            shuffle=False,
            verbose=False,
            callbacks=[lines],
        )
        print("Finished training network.")
        print(
            f"Best validation accuracy of {lines.best:.2%} obtained at iteration "
            f"{lines.best_iteration}"
        )
        if test is not None:
            print(f"Corresponding test accuracy of {lines.test_accuracy:.2%}")

    def _whole_batches(self, name: str, pair: tuple[Any, Any]) -> tuple[Any, Any]:
        """Return images of the first layer's shape and their labels, cut to whole batches."""
        if not isinstance(pair, tuple | list) or len(pair) != 2:
            raise ArgumentError(f"SGD: {name} is {shown(pair)}, expected (images, labels)")
        x, y = (part.value if isinstance(part, Shared) else part for part in pair)
        x = x if isinstance(x, data.ByteImages) else to_numpy(x)
        y = to_numpy(y)
        shape = self.layers[0].input_shape
        if x.ndim < 2 or prod(x.shape[1:]) != prod(shape):
            raise ShapeError(f"SGD: {name} has shape {tuple(x.shape)}, expected (N, {prod(shape)})")
        if len(x) != len(y):
            raise ShapeError(f"SGD: {name} has {len(x)} images and {len(y)} labels")
        n = len(y) // self.mini_batch_size * self.mini_batch_size
        if n == 0:
            raise ShapeError(
                f"SGD: {name} has {len(y)} images, expected at least a batch of "
                f"{self.mini_batch_size}"
            )
        if isinstance(x, data.ByteImages):
            return data.ByteImages(x.pixels[:n].reshape(n, *shape)), y[:n]
        return x[:n].reshape(n, *shape), y[:n]


class _Lines(Callback):
    """Print the book's lines, and keep the figures of the last two."""

    def __init__(self, net: Sequential, test: tuple[Any, Any] | None) -> None:
        self.net = net
        self.test = test
        self.best = 0.0
        self.best_iteration = 0
        self.test_accuracy = float("nan")

    def on_train_begin(self, training: Training) -> None:
        self.first_step = training.position.step

    def on_epoch_begin(self, training: Training) -> None:
        self._announce(training)

    def on_batch_end(self, training: Training) -> None:
        if training.position.batch < training.batches:
            self._announce(training)

    def _announce(self, training: Training) -> None:
        iteration = training.position.step - self.first_step
        if iteration % BATCHES_A_LINE == 0:
            print(f"Training mini-batch number {iteration}", flush=True)

    def on_epoch_end(self, training: Training) -> None:
        accuracy = training.history.rows[-1]["val_accuracy"]
        print(f"Epoch {len(training.history) - 1}: validation accuracy {accuracy:.2%}", flush=True)
        if accuracy >= self.best:
            print("This is the best validation accuracy to date.")
            self.best = accuracy
            self.best_iteration = training.position.step - self.first_step - 1
            if self.test is not None:
                x, y = self.test
                self.test_accuracy = float(np.mean(self.net.predict(x) == y))
                print(f"The corresponding test accuracy is {self.test_accuracy:.2%}", flush=True)


def _check_layers(layers: list[ConvPoolLayer | FullyConnectedLayer], mini_batch_size: int) -> None:
    for layer in layers:
        if not isinstance(layer, ConvPoolLayer | FullyConnectedLayer):
            raise ArgumentError(f"Network: a layer is {shown(layer)}, expected one of this module")
    if not layers or not isinstance(layers[-1], SoftmaxLayer):
        raise ShapeError("Network: the last layer is no SoftmaxLayer, which the cost is made for")
    for place, layer in enumerate(layers):
        if isinstance(layer, ConvPoolLayer) and layer.image_shape[0] != mini_batch_size:
            raise ShapeError(
                f"Network: layer {place} has image_shape {layer.image_shape}, which begins with "
                f"{layer.image_shape[0]}, expected the mini-batch size, {mini_batch_size}"
            )
        if isinstance(layer, SoftmaxLayer) and place < len(layers) - 1:
            raise ShapeError(f"Network: layer {place} is a SoftmaxLayer, expected it only as last")
    for place, (before, layer) in enumerate(pairwise(layers), start=1):
        gives, takes = before.output_shape, layer.input_shape
        if gives != takes and not (len(takes) == 1 and prod(gives) == takes[0]):
            raise ShapeError(
                f"Network: layer {place} takes {takes}, but the one before gives {gives}"
            )

"""The book's program: its listings run, and it computes what the book's equations say."""

import copy
import gzip
import pickle

import numpy as np
import pytest

import tinyconv as tc
from tinyconv import network3, random
from tinyconv.data import ByteImages
from tinyconv.errors import ArgumentError, DataError, NonFiniteError, StateError
from tinyconv.network3 import (
    ConvPoolLayer,
    FullyConnectedLayer,
    Network,
    ReLU,
    SoftmaxLayer,
    linear,
    sigmoid,
    tanh,
)

# The semantics, against the book's equations in float64 and central differences of its cost.

BATCH, ETA, LMBDA, P = 4, 0.3, 0.7, 0.5
ACTIVATIONS = {
    sigmoid: lambda z: 1 / (1 + np.exp(-z)),
    tanh: np.tanh,
    ReLU: lambda z: np.maximum(z, 0),
    linear: lambda z: z,
}


def small_network(activation, p_dropout):
    np.random.seed(1)  # noqa: NPY002
    return Network(
        [
            ConvPoolLayer(
                image_shape=(BATCH, 1, 8, 8), filter_shape=(2, 1, 3, 3), activation_fn=activation
            ),
            FullyConnectedLayer(n_in=18, n_out=4, activation_fn=activation, p_dropout=p_dropout),
            SoftmaxLayer(n_in=4, n_out=3, p_dropout=p_dropout),
        ],
        BATCH,
    )


class Book:
    """The same network, written down from the chapter."""

    def __init__(self, net, activation, p_dropout):
        self.params = [p.get_value().astype(np.float64) for p in net.params]
        self.f, self.p = ACTIVATIONS[activation], p_dropout
        self.paths = [layer.path for layer in net.net.layers if isinstance(layer, tc.Dropout)]

    def output(self, params, x, step=None):
        """Return softmax outputs; ``step`` selects the masks of training, None is test."""
        w1, b1, w2, b2, w3, b3 = params
        x = x.reshape(-1, 8, 8)
        pooled = np.empty((len(x), 2, 3, 3))
        for o in range(2):
            convolved = np.zeros((len(x), 6, 6))
            for i in range(3):
                for j in range(3):
                    convolved += w1[o, 0, i, j] * x[:, i : i + 6, j : j + 6]
            pooled[:, o] = convolved.reshape(-1, 3, 2, 3, 2).max(axis=(2, 4))
        a = self.f(pooled + b1[:, None, None]).reshape(len(x), 18)
        a = self.f(self.kept(a, 0, step) @ w2 + b2)
        z = self.kept(a, 1, step) @ w3 + b3
        e = np.exp(z - z.max(axis=1, keepdims=True))
        return e / e.sum(axis=1, keepdims=True)

    def kept(self, a, which, step):
        if not self.p:
            return a
        if step is None:
            return a * (1 - self.p)
        key = random.key(0, "dropout", self.paths[which], step)
        return a * (random.uniform(key, a.size) >= self.p).reshape(a.shape)

    def cost(self, params, x, y, step, batches):
        out = self.output(params, x, step)
        weights = sum((w**2).sum() for w in params[::2])
        return -np.log(out[np.arange(len(y)), y]).mean() + 0.5 * LMBDA * weights / batches

    def train(self, x, y, epochs):
        batches, step = len(y) // BATCH, 0
        for _ in range(epochs):
            for k in range(batches):
                batch = slice(k * BATCH, (k + 1) * BATCH)
                grads = []
                for p in self.params:
                    grad = np.empty_like(p)
                    for at in np.ndindex(p.shape):
                        was, sides = p[at], []
                        for h in (1e-6, -1e-6):
                            p[at] = was + h
                            sides.append(self.cost(self.params, x[batch], y[batch], step, batches))
                        p[at] = was
                        grad[at] = (sides[0] - sides[1]) / 2e-6
                    grads.append(grad)
                for p, grad in zip(self.params, grads, strict=True):
                    p -= ETA * grad
                step += 1


def small_data(n, seed=0):
    rng = np.random.default_rng(seed)
    return rng.random((n, 64)).astype(np.float32), rng.integers(0, 3, n)


@pytest.mark.parametrize("p_dropout", [0.0, P])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_training_follows_the_equations_of_the_book(activation, p_dropout):
    net = small_network(activation, p_dropout)
    book = Book(net, activation, p_dropout)
    x, y = small_data(3 * BATCH + 1)  # the last image belongs to no whole batch
    validation = small_data(3 * BATCH + 3, seed=1)
    start = [p.get_value() for p in net.params]
    net.SGD((x, y), 2, BATCH, ETA, validation, None, lmbda=LMBDA)
    book.train(x, y, 2)
    for mine, expected, before in zip(net.params, book.params, start, strict=True):
        np.testing.assert_allclose(mine.get_value(), expected, atol=2e-5)
        assert np.abs(expected - before).max() > 1e-3
    whole = validation[0][: 3 * BATCH]
    logits = net.net.predict_proba(whole.reshape(-1, 1, 8, 8))
    np.testing.assert_allclose(logits, book.output(book.params, whole), atol=2e-5)


def test_accuracies_are_over_whole_batches(capsys):
    net = small_network(sigmoid, 0.0)
    x, y = small_data(3 * BATCH + 2)
    net.SGD((x, y), 1, BATCH, ETA, (x, y), (x, y))
    right = np.mean(net.net.predict(x[: 3 * BATCH].reshape(-1, 1, 8, 8)) == y[: 3 * BATCH])
    assert f"Epoch 0: validation accuracy {right:.2%}\n" in capsys.readouterr().out


def test_initial_values():
    layers = [
        ConvPoolLayer(image_shape=(1, 30, 10, 10), filter_shape=(40, 30, 5, 5)),
        FullyConnectedLayer(n_in=360, n_out=400),
        SoftmaxLayer(n_in=400, n_out=10),
    ]
    n_out = 40 * 25 / 4
    assert layers[0].w.get_value().std() == pytest.approx(n_out**-0.5, rel=0.03)
    assert layers[1].w.get_value().std() == pytest.approx(400**-0.5, rel=0.03)
    assert layers[1].b.get_value().std() == pytest.approx(1, rel=0.15)
    assert layers[0].b.get_value().std() == pytest.approx(1, rel=0.5)
    assert not layers[2].w.get_value().any()
    assert not layers[2].b.get_value().any()


def test_numpys_seed_sets_the_initial_values():
    first, again = small_network(ReLU, 0.0), small_network(ReLU, 0.0)
    other = Network(
        [
            FullyConnectedLayer(n_in=64, n_out=4, activation_fn=ReLU),
            SoftmaxLayer(n_in=4, n_out=3),
        ],
        BATCH,
    )
    for a, b in zip(first.params, again.params, strict=True):
        assert (a.get_value() == b.get_value()).all()
    assert (other.params[0].get_value()[0] != other.params[0].get_value()[1]).any()


def test_shared_arrays_are_the_networks_parameters():
    net = small_network(sigmoid, 0.0)
    layer = net.layers[1]
    assert layer.w.get_value().shape == (18, 4)
    copy = layer.w.eval()
    layer.w.set_value(np.zeros((18, 4)))
    assert copy.any()
    assert not net.net.state_dict()["4.weight"].any()
    assert np.shares_memory(layer.w.get_value(borrow=True), net.net.parameters.flat)


# The printed lines.


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda n: pickle.loads(pickle.dumps(n))])
def test_a_copy_has_arrays_of_its_own_and_trains_them(copied):
    original = small_network(sigmoid, P)
    before = [param.get_value() for param in original.params]
    net = copied(original)
    x, y = np.ones((8, 64), np.float32), np.arange(8) % 3
    net.SGD((x, y), 1, BATCH, ETA, (x, y), None)
    original.SGD((x, y), 1, BATCH, ETA, (x, y), None)
    for param, twin, old in zip(net.params, original.params, before, strict=True):
        assert (param.get_value() == twin.get_value()).all()
        assert (param.get_value() != old).any()
    net.params[0].set_value(np.zeros_like(before[0]))
    assert not net.net.layers[0].params["weight"].any()


def test_the_printed_lines(capsys):
    np.random.seed(0)  # noqa: NPY002
    net = Network([FullyConnectedLayer(n_in=2, n_out=2), SoftmaxLayer(n_in=2, n_out=2)], 1)
    x = np.zeros((700, 2), np.float32)
    y = np.array([0] * 350 + [1] * 350)  # ends an epoch saying 1, whatever it is shown
    validation = (x[:4], np.array([1, 1, 0, 1]))
    test = (x[:3], np.array([1, 1, 0]))
    net.SGD((x, y), 2, 1, 0.1, validation, test)
    assert capsys.readouterr().out == (
        "Training mini-batch number 0\n"
        "Epoch 0: validation accuracy 75.00%\n"
        "This is the best validation accuracy to date.\n"
        "The corresponding test accuracy is 66.67%\n"
        "Training mini-batch number 1000\n"
        "Epoch 1: validation accuracy 75.00%\n"
        "This is the best validation accuracy to date.\n"
        "The corresponding test accuracy is 66.67%\n"
        "Finished training network.\n"
        "Best validation accuracy of 75.00% obtained at iteration 1399\n"
        "Corresponding test accuracy of 66.67%\n"
    )


def test_a_worse_epoch_and_no_test_data(capsys):
    np.random.seed(0)  # noqa: NPY002
    net = Network([FullyConnectedLayer(n_in=2, n_out=2), SoftmaxLayer(n_in=2, n_out=2)], 1)
    zeros, ones = np.zeros(4, int), np.ones(4, int)
    x = np.zeros((4, 2), np.float32)
    net.SGD((x, ones), 1, 1, 1.0, (x, ones), None)
    first = capsys.readouterr().out
    assert "The corresponding test accuracy" not in first
    assert first.endswith("Best validation accuracy of 100.00% obtained at iteration 3\n")
    net.SGD((x, zeros), 3, 1, 0.001, (x, zeros), None)
    assert "This is the best" in capsys.readouterr().out  # 0 is no less than 0, as in the book


# The book's listings, on small data.


@pytest.fixture
def small_mnist(monkeypatch):
    sample = tc.data.load("mnist-sample")
    parts = [tc.data.Split(x[:n], y[:n]) for (x, y), n in zip(sample, (60, 20, 20), strict=True)]
    monkeypatch.setattr(tc.data, "load", lambda name: tc.data.DataSet(*parts))


def test_the_listings_run(small_mnist, capsys):
    """The chapter's calls, in its order and with its arguments, but for a single epoch each."""
    import network3
    from network3 import ConvPoolLayer, FullyConnectedLayer, Network, ReLU, SoftmaxLayer

    training_data, validation_data, test_data = network3.load_data_shared()
    mini_batch_size = 10
    epochs = 1
    net = Network(
        [FullyConnectedLayer(n_in=784, n_out=100), SoftmaxLayer(n_in=100, n_out=10)],
        mini_batch_size,
    )
    net.SGD(training_data, epochs, mini_batch_size, 0.1, validation_data, test_data)

    net = Network(
        [
            ConvPoolLayer(
                image_shape=(mini_batch_size, 1, 28, 28),
                filter_shape=(20, 1, 5, 5),
                poolsize=(2, 2),
            ),
            FullyConnectedLayer(n_in=20 * 12 * 12, n_out=100),
            SoftmaxLayer(n_in=100, n_out=10),
        ],
        mini_batch_size,
    )
    net.SGD(training_data, epochs, mini_batch_size, 0.1, validation_data, test_data)

    expanded_training_data, _, _ = network3.load_data_shared("../data/mnist_expanded.pkl.gz")
    net = Network(
        [
            ConvPoolLayer(
                image_shape=(mini_batch_size, 1, 28, 28),
                filter_shape=(20, 1, 5, 5),
                poolsize=(2, 2),
                activation_fn=ReLU,
            ),
            ConvPoolLayer(
                image_shape=(mini_batch_size, 20, 12, 12),
                filter_shape=(40, 20, 5, 5),
                poolsize=(2, 2),
                activation_fn=ReLU,
            ),
            FullyConnectedLayer(n_in=40 * 4 * 4, n_out=1000, activation_fn=ReLU, p_dropout=0.5),
            FullyConnectedLayer(n_in=1000, n_out=1000, activation_fn=ReLU, p_dropout=0.5),
            SoftmaxLayer(n_in=1000, n_out=10, p_dropout=0.5),
        ],
        mini_batch_size,
    )
    net.SGD(expanded_training_data, epochs, mini_batch_size, 0.03, validation_data, test_data)
    assert capsys.readouterr().out.count("Finished training network.") == 3


def test_data_made_from_the_librarys_mnist(small_mnist, capsys, tmp_path):
    plain = network3.load_data_shared(tmp_path / "mnist.pkl.gz")
    expanded = network3.load_data_shared(tmp_path / "mnist_expanded.pkl.gz")
    said = capsys.readouterr().out.splitlines()
    assert [line.partition(" is not there; ")[2] for line in said] == [
        "its content is made from the library's MNIST."
    ] * 2
    assert [tuple(x.get_value().shape) for x, _ in plain] == [(60, 784), (20, 784), (20, 784)]
    assert [y.eval().dtype for _, y in plain] == [np.int32] * 3
    assert expanded[0][0].get_value().shape == (300, 784)
    assert isinstance(expanded[0][0].value, ByteImages)
    originals = {image.tobytes() for image in plain[0][0].get_value()}
    assert originals <= {image.tobytes() for image in expanded[0][0].get_value()}
    assert (expanded[1][0].get_value() == plain[1][0].get_value()).all()


def test_a_file_that_is_there_is_read(tmp_path, capsys):
    parts = [(np.full((2, 784), 0.5), np.array([3, 9]))] * 3
    path = tmp_path / "mnist.pkl.gz"
    with gzip.open(path, "wb") as file:
        pickle.dump(parts, file, 2)
    for x, y in network3.load_data_shared(str(path)):
        assert (x.get_value() == 0.5).all()
        assert y.eval().tolist() == [3, 9]
    assert capsys.readouterr().out == ""


# Bad input.


def test_a_file_of_another_name_that_is_not_there(tmp_path):
    with pytest.raises(DataError, match=r"digits.pkl.gz: no such file"):
        network3.load_data_shared(tmp_path / "digits.pkl.gz")


def sgd(net=None, **changes):
    x, y = small_data(2 * BATCH)
    arguments = {
        "training_data": (x, y),
        "epochs": 1,
        "mini_batch_size": BATCH,
        "eta": 0.1,
        "validation_data": (x, y),
        "test_data": (x, y),
        **changes,
    }
    (net or small_network(sigmoid, 0.0)).SGD(**arguments)


X, Y = small_data(2 * BATCH)
BAD_RUNS = {
    "SGD: mini_batch_size is 5, expected 4, which the network was made for": {"mini_batch_size": 5},
    r"SGD: training_data has shape \(8, 63\), expected \(N, 64\)": {
        "training_data": (X[:, :63], Y)
    },
    "SGD: validation_data has 8 images and 7 labels": {"validation_data": (X, Y[:7])},
    "SGD: test_data has 3 images, expected at least a batch of 4": {"test_data": (X[:3], Y[:3])},
    "y runs from 10 to 10, expected 0 to 2": {"training_data": (X, Y * 0 + 10)},
    "y runs from -1 to -1, expected 0 to 2": {"validation_data": (X, Y * 0 - 1)},
    "SGD: test_data: y runs from 1 to 3, expected 0 to 2": {"test_data": (X, Y + 1)},
    r"validation_data is None, expected \(images, labels\)": {"validation_data": None},
    "training_data is an array of shape .*, expected .images": {"training_data": X},
    "epochs is 0": {"epochs": 0},
}


@pytest.mark.parametrize("message", BAD_RUNS)
def test_runs_that_cannot_be(message):
    with pytest.raises(ArgumentError, match=message):
        sgd(**BAD_RUNS[message])


@pytest.mark.filterwarnings("ignore:fit. the optimizer's lr")
def test_a_cost_that_explodes():
    net = small_network(linear, 0.0)
    with pytest.raises(NonFiniteError, match="epoch"):
        sgd(net, eta=1e30, epochs=20)


def conv(**changes):
    return ConvPoolLayer(**{"image_shape": (4, 1, 8, 8), "filter_shape": (2, 1, 3, 3), **changes})


BAD_NETWORKS = {
    r"layer 0 has image_shape \(9, 1, 8, 8\), which begins with 9, expected the mini-batch size, 4":
        lambda: [conv(image_shape=(9, 1, 8, 8)), SoftmaxLayer(18, 3)],
    "the last layer is no SoftmaxLayer": lambda: [FullyConnectedLayer(64, 3)],
    "the last layer is no SoftmaxLayer, ": list,
    "a layer is Linear.*, expected one of this module": lambda: [tc.Linear(64, 10)],
    "layers is .*SoftmaxLayer.*, expected a list of layers": lambda: SoftmaxLayer(64, 10),
    "layer 0 is a SoftmaxLayer, expected it only as last":
        lambda: [SoftmaxLayer(64, 10), SoftmaxLayer(10, 10)],
    r"layer 1 takes \(17,\), but the one before gives \(2, 3, 3\)":
        lambda: [conv(), SoftmaxLayer(17, 3)],
    r"layer 1 takes \(1, 8, 8\), but the one before gives \(64,\)":
        lambda: [FullyConnectedLayer(64, 64), conv(), SoftmaxLayer(18, 3)],
    r"filter_shape \(2, 3, 3, 3\) and image_shape \(4, 1, 8, 8\) differ":
        lambda: [conv(filter_shape=(2, 3, 3, 3))],
    r"poolsize is \(2,\), expected 2 numbers": lambda: [conv(poolsize=(2,))],
    "poolsize is 2, expected 2 numbers": lambda: [conv(poolsize=2)],
    "expected one of linear, ReLU, sigmoid, tanh": lambda: [conv(activation_fn=np.sin)],
    "p is 1.0, expected a number of at least 0 and below 1":
        lambda: [FullyConnectedLayer(4, 4, p_dropout=1.0)],
}  # fmt: skip


@pytest.mark.parametrize("message", BAD_NETWORKS)
def test_networks_that_cannot_be(message):
    with pytest.raises(ArgumentError, match=message):
        Network(BAD_NETWORKS[message](), BATCH)


def test_images_in_lists(capsys):
    sgd(training_data=(X.tolist(), Y.tolist()))
    assert "Finished training network." in capsys.readouterr().out


def test_a_layer_in_two_networks():
    layers = [conv(), SoftmaxLayer(18, 3)]
    Network(layers, BATCH)
    with pytest.raises(StateError, match="a layer is part of another network"):
        Network(layers, BATCH)


def test_an_interrupted_run_leaves_a_network_that_trains_on(monkeypatch, capsys):
    net = small_network(sigmoid, 0.0)

    def interrupt(self, training):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(network3._Lines, "on_batch_end", interrupt)
        with pytest.raises(KeyboardInterrupt):
            sgd(net)
    assert all(np.isfinite(p.get_value()).all() for p in net.params)
    capsys.readouterr()
    sgd(net)
    assert capsys.readouterr().out.startswith("Training mini-batch number 0\nEpoch 0: ")

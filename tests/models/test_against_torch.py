"""Every named net and its twin in PyTorch: outputs, loss and all gradients, in float64.

A twin is written from the paper, without a look at ours; weights are copied in order.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tinyconv as tc
from tinyconv import models

pytestmark = pytest.mark.oracle

#: Name -> function of ``torch.nn`` that makes the twin.
TWINS: dict[str, Callable[[Any], Any]] = {}


def twin(of: Callable[..., tc.Sequential]) -> Callable[[Callable[[Any], Any]], None]:
    def register(make: Callable[[Any], Any]) -> None:
        TWINS[of.__name__] = make

    return register


@twin(models.lenet5)
def lenet5(nn: Any) -> Any:
    return nn.Sequential(
        nn.ZeroPad2d(2),  # 28 x 28 to 32 x 32
        nn.Conv2d(1, 6, 5),
        nn.Tanh(),
        nn.AvgPool2d(2),
        nn.Conv2d(6, 16, 5),
        nn.Tanh(),
        nn.AvgPool2d(2),
        nn.Conv2d(16, 120, 5),  # the paper's C5, which sees all of S4
        nn.Flatten(),
        nn.Tanh(),
        nn.Linear(120, 84),
        nn.Tanh(),
        nn.Linear(84, 10),
    )


@twin(models.simard2003)
def simard2003(nn: Any) -> Any:
    return nn.Sequential(
        nn.ZeroPad2d((0, 1, 0, 1)),  # 28 x 28 to 29 x 29
        nn.Conv2d(1, 5, 5, stride=2),
        nn.Tanh(),
        nn.Conv2d(5, 50, 5, stride=2),
        nn.Tanh(),
        nn.Flatten(),
        nn.Linear(50 * 5 * 5, 100),
        nn.Tanh(),
        nn.Linear(100, 10),
    )


@twin(models.ciresan_mlp)
def ciresan_mlp(nn: Any) -> Any:
    class ScaledTanh(nn.Module):  # type: ignore[misc, name-defined]
        def forward(self, x: Any) -> Any:
            return 1.7159 * (2 / 3 * x).tanh()

    layers = [nn.ZeroPad2d((0, 1, 0, 1)), nn.Flatten()]
    for inputs, outputs in ((841, 2500), (2500, 2000), (2000, 1500), (1500, 1000), (1000, 500)):
        layers += [nn.Linear(inputs, outputs), ScaledTanh()]
    return nn.Sequential(*layers, nn.Linear(500, 10))


@twin(models.network_in_network)
def network_in_network(nn: Any) -> Any:
    def mlpconv(i: int, a: int, b: int, c: int, size: int) -> list[Any]:
        convs = [nn.Conv2d(i, a, size, padding="same"), nn.Conv2d(a, b, 1), nn.Conv2d(b, c, 1)]
        return [layer for conv in convs for layer in (conv, nn.ReLU())]

    return nn.Sequential(
        *mlpconv(1, 192, 160, 96, 5),
        nn.MaxPool2d(3, stride=2, padding=1),
        nn.Dropout(0.5),
        *mlpconv(96, 192, 192, 192, 5),
        nn.MaxPool2d(3, stride=2, padding=1),
        nn.Dropout(0.5),
        *mlpconv(192, 192, 192, 10, 3),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
    )


@twin(models.alexnet)
def alexnet(nn: Any) -> Any:
    return nn.Sequential(
        nn.Conv2d(3, 96, 11, stride=4),
        nn.ReLU(),
        nn.LocalResponseNorm(5, alpha=5 * 1e-4, beta=0.75, k=2),
        nn.MaxPool2d(3, 2),
        nn.Conv2d(96, 256, 5, padding="same", groups=2),
        nn.ReLU(),
        nn.LocalResponseNorm(5, alpha=5 * 1e-4, beta=0.75, k=2),
        nn.MaxPool2d(3, 2),
        nn.Conv2d(256, 384, 3, padding="same"),
        nn.ReLU(),
        nn.Conv2d(384, 384, 3, padding="same", groups=2),
        nn.ReLU(),
        nn.Conv2d(384, 256, 3, padding="same", groups=2),
        nn.ReLU(),
        nn.MaxPool2d(3, 2),
        nn.Flatten(),
        nn.Dropout(0.5),
        nn.Linear(9216, 4096),
        nn.ReLU(),
        nn.Dropout(0.5),
        nn.Linear(4096, 4096),
        nn.ReLU(),
        nn.Linear(4096, 1000),
    )


@twin(models.resnet20)
def resnet20(nn: Any) -> Any:
    class Block(nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self, inputs: int, outputs: int, stride: int) -> None:
            super().__init__()
            self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
            self.norm1 = nn.BatchNorm2d(outputs)
            self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
            self.norm2 = nn.BatchNorm2d(outputs)
            self.shortcut = nn.Identity()
            if inputs != outputs:
                conv = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
                self.shortcut = nn.Sequential(conv, nn.BatchNorm2d(outputs))

        def forward(self, x: Any) -> Any:
            inner = self.norm1(self.conv1(x)).relu()
            return (self.norm2(self.conv2(inner)) + self.shortcut(x)).relu()

    return nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1, bias=False),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        *(Block(16, 16, 1) for _ in range(3)),
        Block(16, 32, 2),
        *(Block(32, 32, 1) for _ in range(2)),
        Block(32, 64, 2),
        *(Block(64, 64, 1) for _ in range(2)),
        nn.AvgPool2d(8),
        nn.Flatten(),
        nn.Linear(64, 10),
    )


@twin(models.audio_conv1d)
def audio_conv1d(nn: Any) -> Any:
    return nn.Sequential(
        nn.Conv1d(1, 16, 2),
        nn.ReLU(),
        nn.Conv1d(16, 16, 2),
        nn.ReLU(),
        nn.MaxPool1d(2),
        nn.Flatten(),
        nn.Linear(16 * 63, 2),
    )


@twin(models.mnist1d_cnn)
def mnist1d_cnn(nn: Any) -> Any:
    return nn.Sequential(
        nn.Conv1d(1, 15, 3, stride=2, padding="valid"),
        nn.ReLU(),
        nn.Conv1d(15, 15, 3, stride=2, padding="valid"),
        nn.ReLU(),
        nn.Conv1d(15, 15, 3, stride=2, padding="valid"),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(60, 10),
    )


@twin(models.mnist1d_mlp)
def mnist1d_mlp(nn: Any) -> Any:
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(40, 285),
        nn.ReLU(),
        nn.Linear(285, 135),
        nn.ReLU(),
        nn.Linear(135, 60),
        nn.ReLU(),
        nn.Linear(60, 10),
    )


@twin(models.conv3d_small)
def conv3d_small(nn: Any) -> Any:
    return nn.Sequential(
        nn.Conv3d(1, 16, 5, stride=2),
        nn.LeakyReLU(0.1),
        nn.Conv3d(16, 16, 3),
        nn.LeakyReLU(0.1),
        nn.MaxPool3d(2),
        nn.Flatten(),
        nn.Linear(128, 64),
        nn.LeakyReLU(0.1),
        nn.Linear(64, 10),
    )


@twin(models.nielsen_fully_connected)
def nielsen_fully_connected(nn: Any) -> Any:
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 100), nn.Sigmoid(), nn.Linear(100, 10))


def conv_pool(nn: Any, i: int, o: int, activation: Any) -> list[Any]:
    return [nn.Conv2d(i, o, 5), nn.MaxPool2d(2), activation()]


@twin(models.nielsen_conv)
def nielsen_conv(nn: Any) -> Any:
    first = conv_pool(nn, 1, 20, nn.Sigmoid)
    return nn.Sequential(
        *first, nn.Flatten(), nn.Linear(20 * 12 * 12, 100), nn.Sigmoid(), nn.Linear(100, 10)
    )


@twin(models.nielsen_conv_softmax)
def nielsen_conv_softmax(nn: Any) -> Any:
    first = conv_pool(nn, 1, 20, nn.Sigmoid)
    return nn.Sequential(*first, nn.Flatten(), nn.Linear(20 * 12 * 12, 10))


def conv_conv(nn: Any, activation: Any) -> Any:
    return nn.Sequential(
        *conv_pool(nn, 1, 20, activation),
        *conv_pool(nn, 20, 40, activation),
        nn.Flatten(),
        nn.Linear(40 * 4 * 4, 100),
        activation(),
        nn.Linear(100, 10),
    )


@twin(models.nielsen_conv_conv)
def nielsen_conv_conv(nn: Any) -> Any:
    return conv_conv(nn, nn.Sigmoid)


@twin(models.nielsen_conv_conv_tanh)
def nielsen_conv_conv_tanh(nn: Any) -> Any:
    return conv_conv(nn, nn.Tanh)


@twin(models.nielsen_conv_conv_relu)
def nielsen_conv_conv_relu(nn: Any) -> Any:
    return conv_conv(nn, nn.ReLU)


@twin(models.nielsen_dropout)
def nielsen_dropout(nn: Any) -> Any:
    class AllAtHalf(nn.Module):  # type: ignore[misc, name-defined]
        """What the book does at test, where half of the inputs were dropped in training."""

        def forward(self, x: Any) -> Any:
            return x / 2

    return nn.Sequential(
        *conv_pool(nn, 1, 20, nn.ReLU),
        *conv_pool(nn, 20, 40, nn.ReLU),
        nn.Flatten(),
        AllAtHalf(),
        nn.Linear(640, 1000),
        nn.ReLU(),
        AllAtHalf(),
        nn.Linear(1000, 1000),
        nn.ReLU(),
        AllAtHalf(),
        nn.Linear(1000, 10),
    )


def test_every_net_has_a_twin() -> None:
    assert set(TWINS) == {name for name in models.__all__ if name.islower() and name != "named_net"}


def assert_equal(name: str, ours: np.ndarray, theirs: Any) -> None:
    theirs = theirs.detach().numpy()
    scale = max(float(np.abs(theirs).max()), 1e-30)
    np.testing.assert_allclose(ours / scale, theirs / scale, rtol=0, atol=1e-9, err_msg=name)


#: Training mode changes nothing but batch statistics, and dropout, whose masks are others there.
MODES = [*((name, False) for name in TWINS), ("resnet20", True)]


@pytest.mark.parametrize(("name", "training"), MODES)
def test_a_net_equals_its_twin(torch: Any, name: str, training: bool) -> None:
    ours = getattr(models, name)(seed=5, dtype="float64")
    theirs = TWINS[name](torch.nn).double().train(training)
    parameters = list(theirs.named_parameters())
    with torch.no_grad():
        for value, (_, parameter) in zip(ours.parameters.values.values(), parameters, strict=True):
            parameter[...] = torch.from_numpy(value.reshape(parameter.shape))

    rng = np.random.default_rng(0)
    n = 2 if name == "alexnet" else 5
    assert ours.input_shape is not None
    x = rng.normal(size=(n, *ours.input_shape))
    logits = ours.forward(x, training)
    labels = rng.integers(0, logits.shape[1], n)
    loss = ours.loss.forward(logits, labels)
    dx = ours.backward(ours.loss.backward())

    tx = torch.tensor(x, requires_grad=True)
    their_logits = theirs(tx)
    their_loss = torch.nn.functional.cross_entropy(their_logits, torch.tensor(labels))
    their_loss.backward()
    assert_equal("logits", logits, their_logits)
    assert float(loss) == pytest.approx(their_loss.item(), rel=1e-9)
    assert_equal("x", dx, tx.grad)
    grads = ours.parameters.grads
    for (our_name, grad), (_, parameter) in zip(grads.items(), parameters, strict=True):
        assert_equal(our_name, grad.reshape(parameter.shape), parameter.grad)

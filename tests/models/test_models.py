"""The named nets: their sizes, their twins in PyTorch, a training step of each."""

import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest

import tinyconv as tc
from tinyconv import models
from tinyconv.layers import Linear


@dataclass(frozen=True)
class Net:
    """A named net as the tests want it."""

    build: Callable[..., tc.Sequential]
    parameters: int
    shape: tuple[int, ...]
    classes: int = 10
    training: bool = True  # the twin is compared in training mode, where there is no dropout


NETS = {
    net.build.__name__: net
    for net in (
        Net(models.lenet5, 61_706, (1, 28, 28)),
        Net(models.simard2003, 132_540, (1, 28, 28)),
        Net(models.ciresan_mlp, 12_115_010, (1, 28, 28)),
        Net(models.network_in_network, 957_386, (1, 28, 28), training=False),
        Net(models.resnet20, 272_474, (3, 32, 32)),
        Net(models.audio_conv1d, 2_594, (1, 128), classes=2),
        Net(models.mnist1d_cnn, 2_050, (1, 40)),
        Net(models.mnist1d_mlp, 59_065, (1, 40)),
        Net(models.conv3d_small, 17_850, (1, 16, 16, 16)),
        Net(models.nielsen_fully_connected, 79_510, (1, 28, 28)),
        Net(models.nielsen_conv, 289_630, (1, 28, 28)),
        Net(models.nielsen_conv_softmax, 29_330, (1, 28, 28)),
        Net(models.nielsen_conv_conv, 85_670, (1, 28, 28)),
        Net(models.nielsen_conv_conv_tanh, 85_670, (1, 28, 28)),
        Net(models.nielsen_conv_conv_relu, 85_670, (1, 28, 28)),
        Net(models.nielsen_dropout, 1_672_570, (1, 28, 28), training=False),
        # With 1000 classes, and so large that its tests are its own.
        Net(models.alexnet, 60_965_224, (3, 227, 227), classes=1000, training=False),
    )
}
SMALL = {name: net for name, net in NETS.items() if name != "alexnet"}
every_net = pytest.mark.parametrize("net", SMALL.values(), ids=SMALL)


def batch(net: Net, n: int, dtype: str = "float32") -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(n, *net.shape)).astype(dtype)
    return x, rng.integers(0, net.classes, n)


def test_every_named_net_is_tested() -> None:
    builders = {name for name in models.__all__ if name not in ("NETS", "NamedNet", "named_net")}
    assert builders == set(NETS)
    assert {named.build for named in models.NETS.values()} <= {net.build for net in NETS.values()}


@every_net
def test_parameters_shapes_and_one_step(net: Net) -> None:
    built = net.build(seed=1)
    assert built.parameters.flat.size == net.parameters
    assert built.input_shape == net.shape
    assert built.output_shape(net.shape) == (net.classes,)
    x, y = batch(net, 6)
    before = {name: value.copy() for name, value in built.parameters.values.items()}
    history = built.fit(x, y, batch_size=6, optimizer=tc.SGD(1e-3), engine="eager", verbose=False)
    # At the start no class is known; the initial logits of the book's nets are larger.
    assert 0 < history["loss"][0] < 12 * np.log(net.classes)
    assert np.isfinite(built.parameters.flat).all()
    for name, value in before.items():  # every parameter learns
        assert (built.parameters.values[name] != value).any(), name


@every_net
def test_seed_and_dtype_are_passed_on(net: Net) -> None:
    if net.parameters > 1_000_000:
        pytest.skip("large")
    first, again, other = (net.build(seed=seed, dtype="float64") for seed in (3, 3, 4))
    assert first.parameters.flat.dtype == "float64"
    np.testing.assert_array_equal(first.parameters.flat, again.parameters.flat)
    assert (first.parameters.flat != other.parameters.flat).any()


@pytest.mark.parametrize("name", models.NETS)
def test_nets_of_the_command_line_take_digits(name: str) -> None:
    net = models.named_net(name).build()
    assert net.forward(np.zeros((2, 1, 28, 28), np.float32)).shape == (2, 10)


@pytest.mark.parametrize("name", models.NETS)
def test_nets_of_the_command_line_take_other_pictures(name: str) -> None:
    net = models.named_net(name).build(input_shape=(3, 40, 32), classes=4, seed=2)
    assert net.forward(np.zeros((2, 3, 40, 32), np.float32)).shape == (2, 4)


def test_arguments_of_the_builders() -> None:
    assert models.resnet20(input_shape=(1, 28, 28)).parameters.flat.size == 272_474 - 2 * 16 * 9
    assert models.network_in_network(input_shape=(3, 32, 32)).parameters.flat.size == 966_986
    last = models.audio_conv1d(input_shape=(1, 64), classes=3).layers[-1]
    assert isinstance(last, Linear)
    assert (last.in_features, last.out_features) == (31 * 16, 3)
    assert models.conv3d_small(classes=4).output_shape((1, 16, 16, 16)) == (4,)
    assert models.ciresan_mlp(hidden=(1000, 500)).parameters.flat.size == 1_347_510
    assert models.nielsen_dropout(units=100).parameters.flat.size < 200_000


ALEXNET_STEP = """
import resource
import numpy as np
import tinyconv as tc
net = tc.models.alexnet(seed=1)
assert net.parameters.flat.size == 60_965_224
assert net.output_shape((3, 227, 227)) == (1000,)
rng = np.random.default_rng(0)
x, y = rng.normal(size=(8, 3, 227, 227)).astype("float32"), rng.integers(0, 1000, 8)
history = net.fit(x, y, batch_size=8, optimizer=tc.SGD(1e-3), engine="eager", verbose=False)
assert 0 < history["loss"][0] < 50 and np.isfinite(net.parameters.flat).all()
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""


@pytest.mark.slow  # 6 seconds, for the memory of 61 million parameters
def test_alexnet_trains_on_eight_images_within_two_gigabytes() -> None:
    run = subprocess.run(
        [sys.executable, "-c", ALEXNET_STEP], capture_output=True, text=True, check=True
    )
    print(f"peak resident memory: {run.stdout.strip()} MiB")
    assert int(run.stdout) < 2048

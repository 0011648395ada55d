"""Networks to PyTorch and back, and our operations in its graphs."""

import tracemalloc
from typing import Any

import numpy as np
import pytest

import tinyconv as tc
from tinyconv import ops
from tinyconv.errors import ArgumentError, FileError
from tinyconv.interop import torch as ttorch
from tinyconv.models import NETS
from tinyconv.training.checks import as_array

from .onnx_cases import CASES, network, random_network

pytestmark = pytest.mark.oracle

#: What PyTorch has no layer for, and what its exporter says in ways that no layer computes.
NOT_IN_PYTORCH = {"subsample", "dropout", "avg dilated", "l2 dilated"}
NOT_TRACED = {"conv1d", "l2", "lp", "lp1d", "lp3d", "lrn", "lrn of rows", "pad and crop"}


def outputs(net: tc.Sequential, module: Any, torch: Any) -> tuple[Any, Any]:
    assert net.input_shape is not None
    x = np.random.default_rng(0).normal(size=(3, *net.input_shape)).astype(net.dtype)
    return net.forward(x), module(torch.from_numpy(x)).detach().numpy()


@pytest.mark.parametrize("name", [name for name in CASES if name not in NOT_IN_PYTORCH])
@pytest.mark.filterwarnings("ignore:Using padding='same'")
def test_every_layer_there_and_back(name: str, torch: Any) -> None:
    shape, layers = CASES[name]
    net = network(layers(), shape, seed=3)
    module = ttorch.to_module(net)
    ours, theirs = outputs(net, module, torch)
    np.testing.assert_allclose(theirs, ours, rtol=1e-4, atol=1e-5)
    if name not in NOT_TRACED:
        back = ttorch.from_module(module, shape)
        np.testing.assert_allclose(outputs(back, module, torch)[0], ours, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", sorted(NOT_IN_PYTORCH))
def test_what_pytorch_lacks_is_said(name: str) -> None:
    shape, layers = CASES[name]
    with pytest.raises(FileError, match="to_module: "):
        ttorch.to_module(network(layers(), shape, seed=3))


@pytest.mark.parametrize("name", sorted(NOT_TRACED))
def test_what_cannot_be_read_back_is_said(name: str) -> None:
    shape, layers = CASES[name]
    module = ttorch.to_module(network(layers(), shape, seed=3))
    with pytest.raises(FileError, match="from_module: "):
        ttorch.from_module(module, shape)


@pytest.mark.parametrize("kind", [tc.layers.Chain, tc.Residual, tc.Parallel])
def test_a_container_with_a_forward_pass_of_its_own_is_refused(kind: Any) -> None:
    class Doubled(kind):  # type: ignore[misc, valid-type]
        def compute(self, x: Any, training: bool, step: int) -> tuple[Any, Any]:
            y, saved = super().compute(x, training, step)
            return 2 * y, saved

    net = tc.Sequential(tc.layers.Chain([Doubled([tc.Linear(3, 3)])]), tc.Linear(3, 2))
    with pytest.raises(FileError, match=r"PyTorch has no layer 0\.0 \(Doubled\)"):
        ttorch.to_module(net)


def test_a_container_of_ones_own_that_computes_as_ours_does(torch: Any) -> None:
    class Block(tc.layers.Chain):
        def __init__(self, channels: int) -> None:
            self.channels = channels
            super().__init__([tc.Conv2d(None, channels, 3), tc.ReLU()])

        def config(self) -> dict[str, Any]:
            return {"channels": self.channels}

    class Skip(tc.Residual): ...

    net = network([Block(4), Skip([tc.Conv2d(4, 4, 3, padding=1)])], (1, 8, 8), seed=3)
    module = ttorch.to_module(net)
    assert list(module.state_dict()) == list(net.state_dict())
    ours, theirs = outputs(net, module, torch)
    np.testing.assert_allclose(theirs, ours, rtol=1e-4, atol=1e-5)


def test_doubles_stay_doubles(torch: Any) -> None:
    net = tc.Sequential([tc.Linear(None, 3), tc.Tanh()], dtype="float64", input_shape=(4,))
    ours, theirs = outputs(net, ttorch.to_module(net), torch)
    np.testing.assert_allclose(theirs, ours, rtol=1e-12)


@pytest.mark.parametrize("layer", [tc.L2Pool2d(2), tc.LPPool2d(3.0, 2)])
def test_the_root_of_a_window_of_zeros_has_no_slope(layer: tc.Layer, torch: Any) -> None:
    x = torch.zeros(1, 1, 2, 4)
    x[0, 0, 0, 2] = 2.0
    x.requires_grad_()
    ttorch.to_module(tc.Sequential([layer]))(x).sum().backward()
    assert x.grad.tolist() == [[[[0, 0, 1, 0], [0, 0, 0, 0]]]]


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.filterwarnings("ignore:Using padding='same'")
def test_random_networks(seed: int, torch: Any) -> None:
    net = random_network(seed)
    try:
        module = ttorch.to_module(net)
    except FileError as error:
        assert "scales at test" in str(error)  # noqa: PT017
        return
    ours, theirs = outputs(net, module, torch)
    assert np.abs(theirs - ours).max() <= 1e-5 * np.abs(ours).max()


@pytest.mark.parametrize("name", ["nielsen-conv-conv-relu", "lenet5"])
def test_named_networks_keep_their_names(name: str, torch: Any) -> None:
    net = NETS[name].build(seed=1)
    module = ttorch.to_module(net)
    assert list(module.state_dict()) == list(net.state_dict())
    ours, theirs = outputs(net, module, torch)
    np.testing.assert_allclose(theirs, ours, rtol=1e-4, atol=1e-5)


def test_the_mode_of_a_module_is_left_as_it_was(torch: Any) -> None:
    module = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.Dropout())
    ttorch.from_module(module.train(), (3,))
    assert module.training


def test_a_module_that_decides_by_numbers_is_warned_of(torch: Any) -> None:
    class Decides(torch.nn.Module):  # type: ignore[misc, name-defined]
        def forward(self, x: Any) -> Any:
            return torch.relu(x) if x.sum() > 0 else torch.tanh(x)

    with pytest.warns(torch.jit.TracerWarning, match="might cause the trace to be incorrect"):
        ttorch.from_module(torch.nn.Sequential(torch.nn.Linear(3, 2), Decides()), (3,))


@pytest.mark.parametrize(
    ("module", "shape", "message"),
    [
        (3, (3,), "module is 3, expected an nn.Module"),
        ("Linear", 3, "input_shape is 3, expected integers of at least 1"),
        ("Linear", (0, 3), "input_shape is .0, 3., expected integers of at least 1"),
    ],
)
def test_what_is_no_module_or_shape(torch: Any, module: Any, shape: Any, message: str) -> None:
    if module == "Linear":
        module = torch.nn.Linear(3, 2)
    with pytest.raises(ArgumentError, match=message):
        ttorch.from_module(module, shape)


@pytest.mark.parametrize(
    ("kind", "arguments", "message"),
    [
        ("Softsign", (), r"no layer computes Abs \(/0/Abs\)$"),
        ("RMSNorm", (5,), r"Exporting the operator 'aten::rms_norm' .* is not supported$"),
        ("AdaptiveAvgPool2d", (2,), r"Unsupported: ONNX export of operator adaptive_avg_pool2d.*$"),
    ],
)
def test_a_module_of_foreign_operators(
    torch: Any, kind: str, arguments: tuple[int, ...], message: str
) -> None:
    module = torch.nn.Sequential(getattr(torch.nn, kind)(*arguments))
    with pytest.raises(FileError, match=f"^from_module: {message}"):
        ttorch.from_module(module, (2, 5, 5))


def test_gradients_cross_an_operation_of_ours(torch: Any) -> None:
    rng = np.random.default_rng(0)
    x, w = (
        torch.tensor(rng.normal(size=shape), requires_grad=True)
        for shape in ((2, 3, 6, 5), (4, 3, 3, 2))
    )
    conv = ttorch.function(ops.conv2d, ops.conv2d_backward)
    found = torch.autograd.grad((conv(x, w, None, stride=2) ** 3).sum(), (x, w))
    expected = torch.autograd.grad((torch.nn.functional.conv2d(x, w, stride=2) ** 3).sum(), (x, w))
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs)
    pool = ttorch.function(ops.max_pool2d, ops.max_pool2d_backward)
    assert torch.autograd.gradcheck(lambda v: pool(conv(v, w.detach(), None), 2), (x,))


def test_tensors_enter_fit_without_a_copy(torch: Any) -> None:
    x, y = torch.rand(20_000, 100), torch.randint(0, 2, (20_000,))
    assert np.shares_memory(as_array("fit", "x", x), x.numpy())
    assert np.shares_memory(as_array("fit", "x", x.requires_grad_()), x.detach().numpy())
    net = tc.Sequential(tc.Linear(100, 2))
    net.fit(x, y, epochs=1, batch_size=100, verbose=False)  # compiles, and caches what it may
    tracemalloc.start()
    net.fit(x, y, epochs=1, batch_size=100, verbose=False)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < x.numel() * 4 / 2

"""Values and gradients of every op against PyTorch's, in float64, on drawn geometries."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinyconv import ops

from .helpers import DRAWN_FOR_ORACLE, random_like, windows

pytestmark = pytest.mark.oracle

Arrays = tuple[np.ndarray, ...]


@pytest.fixture(scope="module")
def torch() -> Any:
    return pytest.importorskip("torch", reason='needs pip install "tinyconv[oracle]"')


def agree(
    torch: Any,
    ours: tuple[Callable[..., Any], Callable[..., Any]],
    theirs: Callable[..., Any],
    inputs: Arrays,
) -> Any:
    """Check values and gradients with respect to ``inputs``; return what our forward saved."""
    forward, backward = ours
    y, saved = forward(*inputs)
    dy = random_like(y)
    gradients = backward(dy, saved)
    if type(gradients) is not tuple:
        gradients = (gradients,)

    tensors = [torch.tensor(a, requires_grad=True) for a in inputs]
    their_y = theirs(*tensors)
    their_y.backward(torch.tensor(dy))
    close = {"rtol": 1e-9, "atol": 1e-11}
    np.testing.assert_allclose(y, their_y.detach().numpy(), **close)
    for ours_, tensor in zip(gradients, tensors, strict=False):
        np.testing.assert_allclose(ours_, tensor.grad.numpy(), **close)
    assert all(g is None for g in gradients[len(tensors) :])
    return saved


@DRAWN_FOR_ORACLE
@given(
    g=windows(dilated=True),
    groups=st.sampled_from([1, 1, 2, 3]),
    channels=st.integers(1, 3),
    outputs=st.integers(1, 3),
    has_bias=st.booleans(),
)
def test_conv2d(
    torch: Any, g: dict[str, Any], groups: int, channels: int, outputs: int, has_bias: bool
) -> None:
    rng = np.random.default_rng(g["seed"])
    options = {name: g[name] for name in ("stride", "padding", "dilation")} | {"groups": groups}
    inputs = [
        rng.normal(size=(g["batch"], groups * channels, *g["size"])),
        rng.normal(size=(groups * outputs, channels, *g["kernel"])),
    ]
    if has_bias:
        inputs.append(rng.normal(size=groups * outputs))
    agree(
        torch,
        (lambda *a: ops.conv2d(*a, **options), ops.conv2d_backward),
        lambda *a: torch.nn.functional.conv2d(*a, **options),
        tuple(inputs),
    )


@DRAWN_FOR_ORACLE
@given(g=windows(pooling=True), channels=st.integers(1, 3), ties=st.booleans())
def test_max_pool2d(torch: Any, g: dict[str, Any], channels: int, ties: bool) -> None:
    x = np.random.default_rng(g["seed"]).normal(size=(g["batch"], channels, *g["size"]))
    x = np.round(x) if ties else x
    sizes = (g["kernel"], g["stride"], g["padding"])
    saved = agree(
        torch,
        (lambda x: ops.max_pool2d(x, *sizes), ops.max_pool2d_backward),
        lambda x: torch.nn.functional.max_pool2d(x, *sizes),
        (x,),
    )
    _, theirs = torch.nn.functional.max_pool2d(torch.tensor(x), *sizes, return_indices=True)
    np.testing.assert_array_equal(saved.argmax, theirs.numpy())


@DRAWN_FOR_ORACLE
@given(g=windows(pooling=True), channels=st.integers(1, 3))
def test_avg_pool2d(torch: Any, g: dict[str, Any], channels: int) -> None:
    x = np.random.default_rng(g["seed"]).normal(size=(g["batch"], channels, *g["size"]))
    sizes = (g["kernel"], g["stride"], g["padding"])
    agree(
        torch,
        (lambda x: ops.avg_pool2d(x, *sizes), ops.avg_pool2d_backward),
        lambda x: torch.nn.functional.avg_pool2d(x, *sizes),
        (x,),
    )


@DRAWN_FOR_ORACLE
@given(g=windows(pooling=True), channels=st.integers(1, 3))
def test_l2_pool2d(torch: Any, g: dict[str, Any], channels: int) -> None:
    x = np.random.default_rng(g["seed"]).normal(size=(g["batch"], channels, *g["size"]))
    sizes = (g["kernel"], g["stride"], g["padding"])

    def theirs(x: Any) -> Any:  # PyTorch's own lp_pool2d takes no padding
        padded = torch.nn.functional.pad(x, [p for p in g["padding"][::-1] for _ in range(2)])
        return torch.nn.functional.lp_pool2d(padded, 2, g["kernel"], g["stride"])

    agree(torch, (lambda x: ops.l2_pool2d(x, *sizes), ops.l2_pool2d_backward), theirs, (x,))


@pytest.mark.parametrize("has_bias", [False, True])
@pytest.mark.parametrize(("N", "inputs", "outputs"), [(1, 1, 1), (3, 4, 2), (5, 1, 7)])
def test_linear(torch: Any, N: int, inputs: int, outputs: int, has_bias: bool) -> None:
    rng = np.random.default_rng(0)
    arrays = (rng.normal(size=(N, inputs)), rng.normal(size=(outputs, inputs)))
    if has_bias:
        arrays = (*arrays, rng.normal(size=outputs))
    agree(torch, (ops.linear, ops.linear_backward), torch.nn.functional.linear, arrays)


@pytest.mark.parametrize("name", ["relu", "sigmoid", "tanh"])
def test_activation(torch: Any, name: str) -> None:
    x = np.concatenate([np.linspace(-30, 30, 61), np.random.default_rng(0).normal(size=40)])
    pair = (getattr(ops, name), getattr(ops, name + "_backward"))
    agree(torch, pair, getattr(torch.nn.functional, name), (x,))


@pytest.mark.parametrize(("N", "K"), [(1, 1), (1, 10), (7, 3)])
def test_softmax_and_its_loss(torch: Any, N: int, K: int) -> None:
    rng = np.random.default_rng(0)
    x, labels = 10 * rng.normal(size=(N, K)), rng.integers(0, K, size=N)
    functional = torch.nn.functional
    agree(torch, (ops.softmax, ops.softmax_backward), lambda x: functional.softmax(x, dim=1), (x,))
    agree(
        torch,
        (lambda x: ops.softmax_log_likelihood(x, labels), ops.softmax_log_likelihood_backward),
        lambda x: functional.cross_entropy(x, torch.tensor(labels)),
        (x,),
    )

"""Values and gradients of every op against PyTorch's, in float64, on drawn geometries."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from tinyconv import ops

from .helpers import DRAWN_FOR_ORACLE, random_like, windows

pytestmark = pytest.mark.oracle

Arrays = tuple[np.ndarray, ...]


@pytest.fixture(scope="module")
def torch() -> Iterator[Any]:
    torch = pytest.importorskip("torch", reason='needs pip install "tinyconv[oracle]"')
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # on arrays this small threads only wait for each other
    yield torch
    torch.set_num_threads(threads)


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


@pytest.mark.parametrize("axes", [1, 3])
@DRAWN_FOR_ORACLE
@given(data=st.data(), groups=st.sampled_from([1, 2]), channels=st.integers(1, 2))
def test_conv1d_and_conv3d(
    torch: Any, axes: int, data: st.DataObject, groups: int, channels: int
) -> None:
    g = data.draw(windows(axes, dilated=True))
    rng = np.random.default_rng(g["seed"])
    options = {name: g[name] for name in ("stride", "padding", "dilation")} | {"groups": groups}
    inputs = (
        rng.normal(size=(g["batch"], groups * channels, *g["size"])),
        rng.normal(size=(groups * 2, channels, *g["kernel"])),
        rng.normal(size=groups * 2),
    )
    name = f"conv{axes}d"
    agree(
        torch,
        (lambda *a: getattr(ops, name)(*a, **options), getattr(ops, name + "_backward")),
        lambda *a: getattr(torch.nn.functional, name)(*a, **options),
        inputs,
    )


@DRAWN_FOR_ORACLE
@given(
    g=windows(dilated=True),
    mode=st.sampled_from(["zeros", "reflect", "replicate", "circular"]),
    after=st.tuples(st.integers(0, 3), st.integers(0, 3)),
)
def test_conv2d_padding_modes(
    torch: Any, g: dict[str, Any], mode: str, after: tuple[int, int]
) -> None:
    size, before = g["size"], g["padding"]
    most = {"reflect": -1, "circular": 0}.get(mode, 9)
    pairs = tuple(
        (min(p, n + most), min(q, n + most)) for p, q, n in zip(before, after, size, strict=True)
    )
    covered = [d * (k - 1) + 1 for d, k in zip(g["dilation"], g["kernel"], strict=True)]
    assume(all(n + sum(p) >= c for n, p, c in zip(size, pairs, covered, strict=True)))
    rng = np.random.default_rng(g["seed"])
    options = {"stride": g["stride"], "dilation": g["dilation"]}
    inputs = (rng.normal(size=(g["batch"], 2, *size)), rng.normal(size=(3, 2, *g["kernel"])))
    functional = torch.nn.functional

    def theirs(x: Any, w: Any) -> Any:
        # PyTorch lists the pairs from the last axis to the first, and calls zeros constant.
        flat = [*pairs[1], *pairs[0]]
        padded = functional.pad(x, flat, mode="constant" if mode == "zeros" else mode)
        return functional.conv2d(padded, w, **options)

    agree(
        torch,
        (
            lambda *a: ops.conv2d(*a, padding=pairs, padding_mode=mode, **options),
            ops.conv2d_backward,
        ),
        theirs,
        inputs,
    )


@pytest.mark.filterwarnings("ignore:Using padding='same'")
@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize(("kernel", "dilation"), [((3, 4), (1, 1)), ((2, 3), (3, 2))])
def test_conv2d_named_padding(
    torch: Any, padding: str, kernel: tuple[int, int], dilation: tuple[int, int]
) -> None:
    rng = np.random.default_rng(0)
    options = {"padding": padding, "dilation": dilation}
    agree(
        torch,
        (lambda *a: ops.conv2d(*a, **options), ops.conv2d_backward),
        lambda *a: torch.nn.functional.conv2d(*a, **options),
        (rng.normal(size=(2, 2, 7, 6)), rng.normal(size=(3, 2, *kernel))),
    )


@pytest.mark.parametrize("axes", [1, 2, 3])
@DRAWN_FOR_ORACLE
@given(data=st.data(), groups=st.sampled_from([1, 2]), has_bias=st.booleans())
def test_conv_transpose(
    torch: Any, axes: int, data: st.DataObject, groups: int, has_bias: bool
) -> None:
    g = data.draw(windows(axes, dilated=True))
    spread_to = [
        (n - 1) * s + d * (k - 1) + 1
        for n, s, d, k in zip(g["size"], g["stride"], g["dilation"], g["kernel"], strict=True)
    ]
    options = {
        "stride": g["stride"],
        "padding": tuple(
            min(p, (n - 1) // 2) for p, n in zip(g["padding"], spread_to, strict=True)
        ),
        "output_padding": tuple(
            data.draw(st.integers(0, max(s, d) - 1))
            for s, d in zip(g["stride"], g["dilation"], strict=True)
        ),
        "groups": groups,
        "dilation": g["dilation"],
    }
    rng = np.random.default_rng(g["seed"])
    inputs = [
        rng.normal(size=(g["batch"], groups, *g["size"])),
        rng.normal(size=(groups, 2, *g["kernel"])),
    ]
    if has_bias:
        inputs.append(rng.normal(size=groups * 2))
    name = f"conv_transpose{axes}d"
    agree(
        torch,
        (lambda *a: getattr(ops, name)(*a, **options), getattr(ops, name + "_backward")),
        lambda *a: getattr(torch.nn.functional, name)(*a, **options),
        tuple(inputs),
    )


@pytest.mark.parametrize("axes", [1, 2, 3])
@DRAWN_FOR_ORACLE
@given(data=st.data(), channels=st.integers(1, 3), ties=st.booleans(), ceil_mode=st.booleans())
def test_max_pool(
    torch: Any, axes: int, data: st.DataObject, channels: int, ties: bool, ceil_mode: bool
) -> None:
    g = data.draw(windows(axes, dilated=True, pooling=True))
    x = np.random.default_rng(g["seed"]).normal(size=(g["batch"], channels, *g["size"]))
    x = np.round(x) if ties else x
    sizes = {"kernel_size": g["kernel"], "ceil_mode": ceil_mode}
    sizes |= {option: g[option] for option in ("stride", "padding", "dilation")}
    name = f"max_pool{axes}d"
    # Where a dilated window sees nothing but padding PyTorch's index points outside the plane.
    assume(getattr(ops, name)(x, **sizes)[1].argmax.min() >= 0)
    theirs = getattr(torch.nn.functional, name)
    saved = agree(
        torch,
        (lambda x: getattr(ops, name)(x, **sizes), getattr(ops, name + "_backward")),
        lambda x: theirs(x, **sizes),
        (x,),
    )
    _, indices = theirs(torch.tensor(x), **sizes, return_indices=True)
    np.testing.assert_array_equal(saved.argmax, indices.numpy())


@pytest.mark.parametrize("axes", [1, 2, 3])
@DRAWN_FOR_ORACLE
@given(
    data=st.data(),
    channels=st.integers(1, 3),
    ceil_mode=st.booleans(),
    count_include_pad=st.booleans(),
)
def test_avg_pool(
    torch: Any,
    axes: int,
    data: st.DataObject,
    channels: int,
    ceil_mode: bool,
    count_include_pad: bool,
) -> None:
    g = data.draw(windows(axes, pooling=True))
    x = np.random.default_rng(g["seed"]).normal(size=(g["batch"], channels, *g["size"]))
    # PyTorch's avg_pool3d does not admit a window larger than the input without its padding.
    assume(axes < 3 or all(n >= k for n, k in zip(g["size"], g["kernel"], strict=True)))
    sizes = {"kernel_size": g["kernel"], "stride": g["stride"], "padding": g["padding"]}
    sizes |= {"ceil_mode": ceil_mode, "count_include_pad": count_include_pad}
    name = f"avg_pool{axes}d"
    agree(
        torch,
        (lambda x: getattr(ops, name)(x, **sizes), getattr(ops, name + "_backward")),
        lambda x: getattr(torch.nn.functional, name)(x, **sizes),
        (x,),
    )


@DRAWN_FOR_ORACLE
@given(g=windows(pooling=True), p=st.sampled_from([1, 1.5, 2, 3, 4]))
def test_lp_pool2d(torch: Any, g: dict[str, Any], p: float) -> None:
    # PyTorch takes no bars around x, so x is positive here.
    x = np.random.default_rng(g["seed"]).uniform(0.1, 2, size=(g["batch"], 2, *g["size"]))
    functional = torch.nn.functional

    def theirs(x: Any) -> Any:
        padded = functional.pad(x, [q for q in g["padding"][::-1] for _ in range(2)])
        return functional.lp_pool2d(padded, p, g["kernel"], g["stride"])

    agree(
        torch,
        (
            lambda x: ops.lp_pool2d(x, p, g["kernel"], stride=g["stride"], padding=g["padding"]),
            ops.lp_pool2d_backward,
        ),
        theirs,
        (x,),
    )


@DRAWN_FOR_ORACLE
@given(g=windows(), channels=st.integers(1, 3))
def test_subsample2d(torch: Any, g: dict[str, Any], channels: int) -> None:
    size = tuple(n + 2 * p for n, p in zip(g["size"], g["padding"], strict=True))
    rng = np.random.default_rng(g["seed"])
    x = rng.normal(size=(g["batch"], channels, *size))
    functional = torch.nn.functional

    def theirs(x: Any, w: Any, b: Any) -> Any:  # a depthwise convolution with equal weights
        kernel = torch.ones((channels, 1, *g["kernel"]), dtype=torch.float64)
        weights = w.reshape(-1, 1, 1, 1) * kernel
        return functional.conv2d(x, weights, b, g["stride"], groups=channels)

    agree(
        torch,
        (
            lambda *a: ops.subsample2d(*a, kernel_size=g["kernel"], stride=g["stride"]),
            ops.subsample2d_backward,
        ),
        theirs,
        (x, rng.normal(size=channels), rng.normal(size=channels)),
    )


@pytest.mark.parametrize("axes", [1, 2, 3])
def test_global_pools(torch: Any, axes: int) -> None:
    x = np.random.default_rng(0).normal(size=(3, 2, 4, 5, 3)[: axes + 2])
    for name, theirs in [("max", "adaptive_max_pool"), ("avg", "adaptive_avg_pool")]:
        op = f"global_{name}_pool"
        agree(
            torch,
            (getattr(ops, op), getattr(ops, op + "_backward")),
            lambda x, theirs=theirs: getattr(torch.nn.functional, f"{theirs}{axes}d")(x, 1),
            (x,),
        )


SIZES = st.tuples(st.integers(1, 6), st.integers(1, 6))


@DRAWN_FOR_ORACLE
@given(size=SIZES, target=st.tuples(st.integers(1, 13), st.integers(1, 13)))
def test_upsample(torch: Any, size: tuple[int, int], target: tuple[int, int]) -> None:
    x = np.random.default_rng(0).normal(size=(2, 3, *size))
    interpolate = torch.nn.functional.interpolate
    agree(
        torch,
        (lambda x: ops.upsample_nearest2d(x, target), ops.upsample_nearest2d_backward),
        lambda x: interpolate(x, target, mode="nearest"),
        (x,),
    )
    for align in (False, True):
        agree(
            torch,
            (
                lambda x, align=align: ops.upsample_bilinear2d(x, target, align_corners=align),
                ops.upsample_bilinear2d_backward,
            ),
            lambda x, align=align: interpolate(x, target, mode="bilinear", align_corners=align),
            (x,),
        )


@DRAWN_FOR_ORACLE
@given(size=SIZES, factors=st.tuples(st.integers(1, 4), st.integers(1, 4)))
def test_upsample_by_a_factor(torch: Any, size: tuple[int, int], factors: tuple[int, int]) -> None:
    x = np.random.default_rng(0).normal(size=(2, 3, *size))
    interpolate = torch.nn.functional.interpolate
    for mode in ("nearest", "bilinear"):
        op = getattr(ops, f"upsample_{mode}2d")
        agree(
            torch,
            (
                lambda x, op=op: op(x, scale_factor=factors),
                getattr(ops, f"upsample_{mode}2d_backward"),
            ),
            lambda x, mode=mode: interpolate(x, scale_factor=factors, mode=mode),
            (x,),
        )


@DRAWN_FOR_ORACLE
@given(g=windows(pooling=True))
def test_max_unpool2d(torch: Any, g: dict[str, Any]) -> None:
    # Windows that do not overlap: where they do, PyTorch's result is undefined.
    stride = tuple(max(k, s) for k, s in zip(g["kernel"], g["stride"], strict=True))
    rng = np.random.default_rng(g["seed"])
    x = rng.normal(size=(g["batch"], 2, *g["size"]))
    y, saved = ops.max_pool2d(x, g["kernel"], stride=stride, padding=g["padding"])
    agree(
        torch,
        (lambda y: ops.max_unpool2d(y, *saved), ops.max_unpool2d_backward),
        lambda y: torch.nn.functional.max_unpool2d(
            y, torch.tensor(saved.argmax), g["kernel"], stride, g["padding"], g["size"]
        ),
        (rng.normal(size=y.shape),),
    )


@DRAWN_FOR_ORACLE
@given(g=windows(pooling=True), channels=st.integers(1, 3))
def test_l2_pool2d(torch: Any, g: dict[str, Any], channels: int) -> None:
    x = np.random.default_rng(g["seed"]).normal(size=(g["batch"], channels, *g["size"]))
    sizes = {"stride": g["stride"], "padding": g["padding"]}

    def theirs(x: Any) -> Any:  # PyTorch's own lp_pool2d takes no padding
        padded = torch.nn.functional.pad(x, [p for p in g["padding"][::-1] for _ in range(2)])
        return torch.nn.functional.lp_pool2d(padded, 2, g["kernel"], g["stride"])

    agree(
        torch,
        (lambda x: ops.l2_pool2d(x, g["kernel"], **sizes), ops.l2_pool2d_backward),
        theirs,
        (x,),
    )


@pytest.mark.parametrize("has_bias", [False, True])
@pytest.mark.parametrize(("N", "inputs", "outputs"), [(1, 1, 1), (3, 4, 2), (5, 1, 7)])
def test_linear(torch: Any, N: int, inputs: int, outputs: int, has_bias: bool) -> None:
    rng = np.random.default_rng(0)
    arrays = (rng.normal(size=(N, inputs)), rng.normal(size=(outputs, inputs)))
    if has_bias:
        arrays = (*arrays, rng.normal(size=outputs))
    agree(torch, (ops.linear, ops.linear_backward), torch.nn.functional.linear, arrays)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("relu", {}),
        ("sigmoid", {}),
        ("tanh", {}),
        ("leaky_relu", {"negative_slope": 0.2}),
        ("elu", {"alpha": 1.7}),
        ("gelu", {}),
        ("gelu", {"approximate": "tanh"}),
        ("silu", {}),
        ("softplus", {"beta": 0.5}),
    ],
)
def test_activation(torch: Any, name: str, options: dict[str, Any]) -> None:
    x = np.concatenate([np.linspace(-30, 30, 61), np.random.default_rng(0).normal(size=40)])
    agree(
        torch,
        (lambda x: getattr(ops, name)(x, **options), getattr(ops, name + "_backward")),
        lambda x: getattr(torch.nn.functional, name)(x, **options),
        (x,),
    )


@pytest.mark.parametrize("shape", [(4, 3), (2, 3, 5), (1, 2, 3, 4)])
@pytest.mark.parametrize("training", [True, False])
def test_batch_norm(torch: Any, shape: tuple[int, ...], training: bool) -> None:
    rng = np.random.default_rng(0)
    C = shape[1]
    inputs = (rng.normal(size=shape), rng.normal(size=C), rng.normal(size=C))
    statistics = (rng.normal(size=C), rng.uniform(0.5, 2, size=C))
    running = [torch.tensor(s) for s in statistics]
    saved = agree(
        torch,
        (
            lambda *a: ops.batch_norm(*a, *(() if training else statistics), eps=1e-3),
            ops.batch_norm_backward,
        ),
        lambda x, w, b: torch.nn.functional.batch_norm(
            x, *running, w, b, training=training, momentum=1.0, eps=1e-3
        ),
        inputs,
    )
    n = inputs[0].size / C
    unbiased = saved.var * (n / (n - 1)) if training else saved.var
    for ours, theirs in zip((saved.mean, unbiased), running, strict=True):
        np.testing.assert_allclose(ours, theirs.numpy(), rtol=1e-12)


@pytest.mark.parametrize("normalized_shape", [(4,), (3, 4)])
def test_layer_norm(torch: Any, normalized_shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    inputs = (rng.normal(size=(2, 3, 4)), *rng.normal(size=(2, *normalized_shape)))
    agree(
        torch,
        (lambda x, w, b: ops.layer_norm(x, normalized_shape, w, b), ops.layer_norm_backward),
        lambda x, w, b: torch.nn.functional.layer_norm(x, normalized_shape, w, b),
        inputs,
    )


@pytest.mark.parametrize("groups", [1, 2, 6])
@pytest.mark.parametrize("plane", [(), (5,), (2, 3)])
def test_group_norm(torch: Any, groups: int, plane: tuple[int, ...]) -> None:
    if groups == 6 and plane == ():
        plane = (2,)  # PyTorch refuses to normalise single elements
    rng = np.random.default_rng(0)
    agree(
        torch,
        (lambda x, w, b: ops.group_norm(x, groups, w, b), ops.group_norm_backward),
        lambda x, w, b: torch.nn.functional.group_norm(x, groups, w, b),
        (rng.normal(size=(3, 6, *plane)), rng.normal(size=6), rng.normal(size=6)),
    )


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 9])
def test_local_response_norm(torch: Any, size: int) -> None:
    options = {"alpha": 0.3, "beta": 0.6, "k": 1.5}
    agree(
        torch,
        (
            lambda x: ops.local_response_norm(x, size, **options),
            ops.local_response_norm_backward,
        ),
        lambda x: torch.nn.functional.local_response_norm(x, size, **options),
        (np.random.default_rng(0).normal(size=(2, 6, 3, 2)),),
    )


@pytest.mark.parametrize(("N", "K"), [(1, 1), (1, 10), (7, 3)])
def test_softmax_and_its_loss(torch: Any, N: int, K: int) -> None:
    rng = np.random.default_rng(0)
    x, labels = 10 * rng.normal(size=(N, K)), rng.integers(0, K, size=N)
    functional = torch.nn.functional
    agree(torch, (ops.softmax, ops.softmax_backward), lambda x: functional.softmax(x, dim=1), (x,))
    agree(
        torch,
        (lambda x: ops.cross_entropy(x, labels), ops.cross_entropy_backward),
        lambda x: functional.cross_entropy(x, torch.tensor(labels)),
        (x,),
    )


@pytest.mark.parametrize("smoothing", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("is_weighted", [False, True])
def test_softmax_loss_options(torch: Any, smoothing: float, is_weighted: bool) -> None:
    rng = np.random.default_rng(0)
    x, labels = rng.normal(size=(9, 4)), rng.integers(0, 4, size=9)
    weight = rng.uniform(0.5, 2, size=4) if is_weighted else None
    options = {"ignore_index": 2, "label_smoothing": smoothing}
    agree(
        torch,
        (
            lambda x: ops.cross_entropy(x, labels, weight, **options),
            ops.cross_entropy_backward,
        ),
        lambda x: torch.nn.functional.cross_entropy(
            x, torch.tensor(labels), None if weight is None else torch.tensor(weight), **options
        ),
        (x,),
    )


@pytest.mark.parametrize("is_weighted", [False, True])
def test_softmax_loss_of_probabilities_and_pixels(torch: Any, is_weighted: bool) -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(3, 4, 2, 5))
    weight = rng.uniform(0.5, 2, size=4) if is_weighted else None
    theirs = None if weight is None else torch.tensor(weight)
    probabilities = np.moveaxis(rng.dirichlet(np.ones(4), (3, 2, 5)), -1, 1)
    for targets in (rng.integers(0, 4, (3, 2, 5)), np.ascontiguousarray(probabilities)):
        agree(
            torch,
            (
                lambda x, t=targets: ops.cross_entropy(x, t, weight, label_smoothing=0.1),
                ops.cross_entropy_backward,
            ),
            lambda x, t=targets: torch.nn.functional.cross_entropy(
                x, torch.tensor(t), theirs, label_smoothing=0.1
            ),
            (x,),
        )


@pytest.mark.parametrize("shape", [(1, 1), (1, 6), (5, 3), (2, 3, 4)])
def test_losses(torch: Any, shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    functional = torch.nn.functional
    scores, targets = rng.normal(size=shape), rng.random(shape)
    labels = rng.integers(shape[1], size=shape[0])
    cases = [
        ("binary_cross_entropy_with_logits", scores, targets, {}),
        ("binary_cross_entropy", rng.random(shape), targets, {}),
        ("mse_loss", scores, targets, {}),
        ("l1_loss", scores, targets, {}),
        ("huber_loss", scores, targets, {"delta": 0.6}),
    ]
    if len(shape) == 2:
        cases.append(("multi_margin_loss", scores, labels, {"margin": 0.8}))
    for name, x, target, options in cases:
        agree(
            torch,
            (
                lambda x, name=name, t=target, options=options: getattr(ops, name)(x, t, **options),
                getattr(ops, name + "_backward"),
            ),
            lambda x, name=name, t=target, options=options: getattr(functional, name)(
                x, torch.tensor(t), **options
            ),
            (x,),
        )

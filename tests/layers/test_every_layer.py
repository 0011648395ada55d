"""Every layer by one table: it equals its operation, its gradients, its twin in PyTorch."""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

import tinyconv as tc
from tinyconv import ops
from tinyconv.errors import DtypeError, ShapeError, StateError
from tinyconv.layers import LAYERS, Layer, decode, encode
from tinyconv.testing import check_layer
from tinyconv.testing.examples import LAYER_EXAMPLES, layer_names

LINE, IMAGE, VOLUME = (3, 4, 9), (3, 4, 6, 5), (2, 2, 5, 4, 6)


@dataclass(frozen=True)
class Case:
    """A layer, the shape of its input, the operation that it stands for, its twin in PyTorch."""

    layer: Layer
    shape: tuple[int, ...]
    op: str
    options: dict[str, Any] = field(default_factory=dict)
    twin: Callable[[Any], Any] | None = None  # given torch.nn

    def __str__(self) -> str:
        return f"{self.layer}-{'x'.join(map(str, self.shape))}"

    def fresh(self) -> Layer:
        layer: Layer = decode(encode(self.layer))
        return layer


CASES = [
    # Convolution.
    Case(tc.Conv1d(4, 6, 3), LINE, "conv1d", {}, lambda nn: nn.Conv1d(4, 6, 3)),
    Case(
        tc.Conv1d(4, 6, 3, 2, 1, 2, 2, False, "circular"),
        LINE,
        "conv1d",
        {"stride": 2, "padding": 1, "dilation": 2, "groups": 2, "padding_mode": "circular"},
        lambda nn: nn.Conv1d(4, 6, 3, 2, 1, 2, 2, False, "circular"),
    ),
    Case(tc.Conv2d(4, 2, 3, padding=((2, 0), 1)), IMAGE, "conv2d", {"padding": ((2, 0), (1, 1))}),
    Case(tc.Conv3d(2, 3, (1, 2, 3)), VOLUME, "conv3d", {}, lambda nn: nn.Conv3d(2, 3, (1, 2, 3))),
    Case(
        tc.Conv3d(2, 4, 2, 2, 1, groups=2),
        VOLUME,
        "conv3d",
        {"stride": 2, "padding": 1, "groups": 2},
        lambda nn: nn.Conv3d(2, 4, 2, 2, 1, groups=2),
    ),
    Case(
        tc.ConvTranspose1d(4, 6, 3, 2, 1, 1),
        LINE,
        "conv_transpose1d",
        {"stride": 2, "padding": 1, "output_padding": 1},
        lambda nn: nn.ConvTranspose1d(4, 6, 3, 2, 1, 1),
    ),
    Case(
        tc.ConvTranspose2d(4, 6, 3, 2, 1, 1, 2, True, 2),
        IMAGE,
        "conv_transpose2d",
        {"stride": 2, "padding": 1, "output_padding": 1, "groups": 2, "dilation": 2},
        lambda nn: nn.ConvTranspose2d(4, 6, 3, 2, 1, 1, 2, True, 2),
    ),
    Case(
        tc.ConvTranspose3d(2, 3, 2, bias=False),
        VOLUME,
        "conv_transpose3d",
        {},
        lambda nn: nn.ConvTranspose3d(2, 3, 2, bias=False),
    ),
    # Pooling.
    Case(
        tc.MaxPool1d(3, 2, 1, 2, ceil_mode=True),
        LINE,
        "max_pool1d",
        {"kernel_size": 3, "stride": 2, "padding": 1, "dilation": 2, "ceil_mode": True},
        lambda nn: nn.MaxPool1d(3, 2, 1, 2, ceil_mode=True),
    ),
    Case(
        tc.MaxPool2d((2, 3), dilation=(2, 1)),
        IMAGE,
        "max_pool2d",
        {"kernel_size": (2, 3), "dilation": (2, 1)},
        lambda nn: nn.MaxPool2d((2, 3), dilation=(2, 1)),
    ),
    Case(
        tc.MaxPool2d(3, 2, ((1, 0), (0, 1))),
        IMAGE,
        "max_pool2d",
        {"kernel_size": 3, "stride": 2, "padding": ((1, 0), (0, 1))},
    ),
    Case(
        tc.MaxPool3d(2, 1, ceil_mode=True),
        VOLUME,
        "max_pool3d",
        {"kernel_size": 2, "stride": 1, "ceil_mode": True},
        lambda nn: nn.MaxPool3d(2, 1, ceil_mode=True),
    ),
    Case(
        tc.AvgPool1d(3, 2, 1, True, False),
        LINE,
        "avg_pool1d",
        {
            "kernel_size": 3,
            "stride": 2,
            "padding": 1,
            "ceil_mode": True,
            "count_include_pad": False,
        },
        lambda nn: nn.AvgPool1d(3, 2, 1, True, False),
    ),
    Case(
        tc.AvgPool2d((3, 2), 2, 1, ceil_mode=True),
        IMAGE,
        "avg_pool2d",
        {"kernel_size": (3, 2), "stride": 2, "padding": 1, "ceil_mode": True},
        lambda nn: nn.AvgPool2d((3, 2), 2, 1, ceil_mode=True),
    ),
    Case(
        tc.AvgPool3d(2, (1, 2, 2), 1, count_include_pad=False),
        VOLUME,
        "avg_pool3d",
        {"kernel_size": 2, "stride": (1, 2, 2), "padding": 1, "count_include_pad": False},
        lambda nn: nn.AvgPool3d(2, (1, 2, 2), 1, count_include_pad=False),
    ),
    Case(
        tc.L2Pool2d(3, 2, ceil_mode=True),
        IMAGE,
        "l2_pool2d",
        {"kernel_size": 3, "stride": 2, "ceil_mode": True},
    ),
    Case(
        tc.L2Pool2d(3, 2),
        IMAGE,
        "l2_pool2d",
        {"kernel_size": 3, "stride": 2},
        lambda nn: nn.LPPool2d(2, 3, 2),
    ),
    Case(
        tc.LPPool1d(2, 3, 2),
        LINE,
        "lp_pool1d",
        {"norm_type": 2, "kernel_size": 3, "stride": 2},
        lambda nn: nn.LPPool1d(2, 3, 2),
    ),
    Case(
        tc.LPPool3d(2, 2, 1, dilation=2),
        VOLUME,
        "lp_pool3d",
        {"norm_type": 2, "kernel_size": 2, "stride": 1, "dilation": 2},
    ),
    Case(
        tc.LPPool2d(4, (3, 2), 1),
        IMAGE,
        "lp_pool2d",
        {"norm_type": 4, "kernel_size": (3, 2), "stride": 1},
        lambda nn: nn.LPPool2d(4, (3, 2), 1),
    ),
    Case(
        tc.LPPool2d(1.5, 3, 2, True, 1),
        IMAGE,
        "lp_pool2d",
        {"norm_type": 1.5, "kernel_size": 3, "stride": 2, "ceil_mode": True, "padding": 1},
    ),
    Case(tc.Subsample2d(4, (3, 2), 2), IMAGE, "subsample2d", {"kernel_size": (3, 2), "stride": 2}),
    Case(tc.GlobalAvgPool(), LINE, "global_avg_pool", {}, lambda nn: nn.AdaptiveAvgPool1d(1)),
    Case(tc.GlobalAvgPool(), IMAGE, "global_avg_pool", {}, lambda nn: nn.AdaptiveAvgPool2d(1)),
    Case(tc.GlobalMaxPool(), IMAGE, "global_max_pool", {}, lambda nn: nn.AdaptiveMaxPool2d(1)),
    Case(tc.GlobalMaxPool(), VOLUME, "global_max_pool", {}, lambda nn: nn.AdaptiveMaxPool3d(1)),
    # Upsampling.
    Case(
        tc.Upsample(scale_factor=(2, 3)),
        IMAGE,
        "upsample_nearest2d",
        {"scale_factor": (2, 3)},
        lambda nn: nn.Upsample(scale_factor=(2, 3)),
    ),
    Case(
        tc.Upsample((7, 9), mode="bilinear"),
        IMAGE,
        "upsample_bilinear2d",
        {"size": (7, 9)},
        lambda nn: nn.Upsample((7, 9), mode="bilinear"),
    ),
    Case(
        tc.Upsample(None, 2, "bilinear", True),
        IMAGE,
        "upsample_bilinear2d",
        {"scale_factor": 2, "align_corners": True},
        lambda nn: nn.Upsample(None, 2, "bilinear", True),
    ),
    # Shape.
    Case(tc.Identity(), LINE, "identity", {}, lambda nn: nn.Identity()),
    Case(tc.Flatten(), IMAGE, "flatten", {}, lambda nn: nn.Flatten()),
    Case(
        tc.Reshape((2, -1)),
        LINE,
        "reshape",
        {"shape": (2, -1)},
        lambda nn: nn.Sequential(nn.Flatten(), nn.Unflatten(1, (2, 18))),
    ),
    Case(tc.Pad(2), IMAGE, "pad", {"padding": 2}, lambda nn: nn.ZeroPad2d(2)),
    Case(
        tc.Pad(((1, 2), (3, 0)), value=-1.5),
        IMAGE,
        "pad",
        {"padding": ((1, 2), (3, 0)), "value": -1.5},
        lambda nn: nn.ConstantPad2d((3, 0, 1, 2), -1.5),
    ),
    Case(
        tc.Pad((2,), "reflect"),
        LINE,
        "pad",
        {"padding": (2,), "mode": "reflect"},
        lambda nn: nn.ReflectionPad1d(2),
    ),
    Case(tc.Crop((1, (0, 2))), IMAGE, "crop", {"cropping": (1, (0, 2))}),
    # Normalisation.
    Case(tc.BatchNorm1d(4), (5, 4), "batch_norm", {}, lambda nn: nn.BatchNorm1d(4)),
    Case(
        tc.BatchNorm1d(4, 1e-3, None),
        LINE,
        "batch_norm",
        {"eps": 1e-3},
        lambda nn: nn.BatchNorm1d(4, 1e-3, None),
    ),
    Case(
        tc.BatchNorm2d(4, 1e-2, 0.3, affine=False),
        IMAGE,
        "batch_norm",
        {"eps": 1e-2},
        lambda nn: nn.BatchNorm2d(4, 1e-2, 0.3, affine=False),
    ),
    Case(
        tc.BatchNorm3d(2, track_running_stats=False),
        VOLUME,
        "batch_norm",
        {},
        lambda nn: nn.BatchNorm3d(2, track_running_stats=False),
    ),
    Case(
        tc.LayerNorm((6, 5), 1e-3),
        IMAGE,
        "layer_norm",
        {"normalized_shape": (6, 5), "eps": 1e-3},
        lambda nn: nn.LayerNorm((6, 5), 1e-3),
    ),
    Case(
        tc.LayerNorm(9, bias=False),
        LINE,
        "layer_norm",
        {"normalized_shape": 9},
        lambda nn: nn.LayerNorm(9, bias=False),
    ),
    Case(
        tc.LayerNorm(9, elementwise_affine=False),
        LINE,
        "layer_norm",
        {"normalized_shape": 9},
        lambda nn: nn.LayerNorm(9, elementwise_affine=False),
    ),
    Case(
        tc.GroupNorm(2, 4, 1e-3),
        IMAGE,
        "group_norm",
        {"num_groups": 2, "eps": 1e-3},
        lambda nn: nn.GroupNorm(2, 4, 1e-3),
    ),
    Case(
        tc.GroupNorm(1, 4, affine=False),
        LINE,
        "group_norm",
        {"num_groups": 1},
        lambda nn: nn.GroupNorm(1, 4, affine=False),
    ),
    Case(
        tc.LocalResponseNorm(3, 0.1, 0.6, 2.0),
        IMAGE,
        "local_response_norm",
        {"size": 3, "alpha": 0.1, "beta": 0.6, "k": 2.0},
        lambda nn: nn.LocalResponseNorm(3, 0.1, 0.6, 2.0),
    ),
    # Activations.
    Case(tc.LeakyReLU(), LINE, "leaky_relu", {}, lambda nn: nn.LeakyReLU()),
    Case(
        tc.LeakyReLU(0.2), LINE, "leaky_relu", {"negative_slope": 0.2}, lambda nn: nn.LeakyReLU(0.2)
    ),
    Case(tc.ELU(), LINE, "elu", {}, lambda nn: nn.ELU()),
    Case(tc.ELU(0.5), LINE, "elu", {"alpha": 0.5}, lambda nn: nn.ELU(0.5)),
    Case(tc.GELU(), LINE, "gelu", {}, lambda nn: nn.GELU()),
    Case(tc.GELU("tanh"), LINE, "gelu", {"approximate": "tanh"}, lambda nn: nn.GELU("tanh")),
    Case(tc.SiLU(), LINE, "silu", {}, lambda nn: nn.SiLU()),
    Case(tc.Softplus(), LINE, "softplus", {}, lambda nn: nn.Softplus()),
    Case(tc.Softplus(3.0), LINE, "softplus", {"beta": 3.0}, lambda nn: nn.Softplus(3.0)),
    Case(tc.ScaledTanh(), LINE, "scaled_tanh"),
]

#: Layers whose tests are elsewhere: made of others, random, or in ``test_layers_equal_ops.py``.
ELSEWHERE = {"Chain", "Dropout", "Linear", "Parallel", "ReLU", "Residual", "Sigmoid", "Tanh"}

every_case = pytest.mark.parametrize("case", CASES, ids=str)


def drawn(shape: tuple[int, ...], seed: int = 0, dtype: str = "float64") -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(dtype)


def with_drawn_parameters(layer: Layer) -> None:
    """Biases that are zero would hide a bias that is not added."""
    for place, value in enumerate(layer.params.values()):
        value[...] = drawn(value.shape, seed=100 + place)


def test_every_layer_has_a_case() -> None:
    covered = {type(case.layer).__name__ for case in CASES}
    assert covered | ELSEWHERE == set(LAYERS.built_in)
    assert covered | ELSEWHERE <= set(tc.__all__) | {"Chain"}
    assert covered <= set(tc.layers.__all__)
    assert set(layer_names()) == set(LAYER_EXAMPLES)


@every_case
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_forward_and_backward_are_those_of_the_operation(case: Case, dtype: str) -> None:
    if case.op == "identity":
        pytest.skip("no operation")
    layer, x = case.fresh(), drawn(case.shape, dtype=dtype)
    kept = x.copy()
    layer.forward(x)
    with_drawn_parameters(layer)
    y = layer.forward(x)
    arrays = {{"weight": "w", "bias": "b"}[name]: value for name, value in layer.params.items()}
    if "running_mean" in layer.state:
        arrays |= {"mean": layer.state["running_mean"], "var": layer.state["running_var"]}
    expected, saved = getattr(ops, case.op)(x, **case.options, **arrays)
    np.testing.assert_array_equal(y, expected)
    assert y.dtype == dtype
    assert layer.output_shape(case.shape[1:]) == y.shape[1:]

    dy = drawn(y.shape, seed=1, dtype=dtype)
    for grad in layer.grads.values():
        grad[...] = np.nan
    dx = layer.backward(dy)
    grads = getattr(ops, case.op + "_backward")(dy, saved)
    grads = [g for g in (grads if type(grads) is tuple else (grads,)) if g is not None]
    for ours, theirs in zip([dx, *layer.grads.values()], grads, strict=True):
        np.testing.assert_array_equal(ours, theirs)
        assert ours.dtype == dtype
    np.testing.assert_array_equal(x, kept)
    assert (layer.x is x, layer.y is y, layer.dy is dy, layer.dx is dx) == (True,) * 4


@every_case
@pytest.mark.parametrize("training", [False, True])
def test_gradients_are_those_of_the_forward_pass(case: Case, training: bool) -> None:
    layer, x = case.fresh(), drawn(case.shape)
    layer.forward(x)
    with_drawn_parameters(layer)
    report = check_layer(layer, x, training=training, samples=20)
    assert report.ok, str(report)


@every_case
def test_a_layer_returns_from_its_configuration(case: Case) -> None:
    layer = decode(json.loads(json.dumps(encode(case.layer))))
    assert type(layer) is type(case.layer)
    assert layer.config() == case.layer.config()
    assert repr(layer) == repr(case.layer)


@every_case
def test_an_empty_batch_passes_both_ways(case: Case) -> None:
    layer = case.fresh()
    y = layer.forward(np.zeros((0, *case.shape[1:])))
    assert y.shape == (0, *layer.output_shape(case.shape[1:]))
    assert layer.backward(y).shape == (0, *case.shape[1:])
    assert not any(grad.any() for grad in layer.grads.values())


@every_case
def test_nan_stays_in_its_sample_and_is_not_swallowed(case: Case) -> None:
    if type(case.layer) is tc.BatchNorm3d:
        pytest.skip("made without running statistics, so that samples do depend on each other")
    x = drawn(case.shape)
    expected = case.fresh().forward(x)
    x[0] = np.nan
    y = case.fresh().forward(x)
    assert np.isnan(y[0]).any()
    np.testing.assert_array_equal(y[1:], expected[1:])


@every_case
def test_integer_images_are_refused(case: Case) -> None:
    x = np.ones(case.shape, np.uint8)
    message = "x has dtype uint8, expected a floating-point type"
    with pytest.raises(DtypeError, match=f"{type(case.layer).__name__}: {message}"):
        case.fresh().forward(x)
    with pytest.raises(DtypeError, match=f"Sequential: {message}; pass x / 255"):
        tc.Sequential([case.fresh()], input_shape=case.shape[1:]).forward(x)


@every_case
def test_a_network_with_the_layer_is_trained_and_saved(case: Case, tmp_path: Any) -> None:
    layers = [case.fresh(), tc.Flatten(), tc.Linear(None, 3)]
    net = tc.Sequential(layers, input_shape=case.shape[1:])
    x, y = drawn((8, *case.shape[1:]), dtype="float32"), np.arange(8) % 3
    before = net.evaluate(x, y)["loss"]
    net.fit(x, y, epochs=5, batch_size=3, optimizer=tc.SGD(0.01), verbose=False)
    assert net.evaluate(x, y)["loss"] < before
    net.save(tmp_path / "net.safetensors")
    again = tc.load(tmp_path / "net.safetensors")
    np.testing.assert_array_equal(again.logits(x), net.logits(x))
    for name, array in net.state_dict().items():
        np.testing.assert_array_equal(again.state_dict()[name], array)


@every_case
def test_backward_needs_a_forward_and_its_shape(case: Case) -> None:
    layer, name = case.fresh(), type(case.layer).__name__
    with pytest.raises(StateError, match=f"{name}: backward was called before forward"):
        layer.backward(np.zeros(case.shape))
    y = layer.forward(np.zeros(case.shape))
    with pytest.raises(ShapeError, match=rf"{name}.backward: dy has shape .*, expected \("):
        layer.backward(np.zeros((1, *y.shape)))


@pytest.mark.parametrize(
    "make",
    [
        lambda n: tc.Conv1d(n, 3, 2),
        lambda n: tc.Conv3d(n, 3, 2),
        lambda n: tc.ConvTranspose2d(n, 3, 2),
        lambda n: tc.Subsample2d(n, 2),
        lambda n: tc.BatchNorm1d(n),
        lambda n: tc.BatchNorm2d(n),
        lambda n: tc.BatchNorm3d(n, affine=False),
        lambda n: tc.GroupNorm(2, n),
    ],
)
def test_channels_are_taken_from_the_first_batch(make: Callable[[int | None], Layer]) -> None:
    (axes,) = re.findall(r"[123](?=d)|$", type(make(2)).__name__)[:1]
    shape = {"1": LINE, "2": IMAGE, "3": VOLUME, "": IMAGE}[axes]
    given, inferred = make(shape[1]), make(None)
    assert inferred.parameter_count() is None
    assert inferred.parameter_count(shape[1:]) == given.parameter_count()
    inferred.forward(np.zeros(shape))
    assert inferred.config() == given.config()


# Errors.


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: tc.Conv1d(1, 2, (3, 3)), "Conv1d: kernel_size is (3, 3), expected an integer"),
        (lambda: tc.Conv3d(1, 2, -1), "Conv3d: kernel_size is -1, expected 3 integers of at least"),
        (lambda: tc.Conv2d(3, 4, 2, groups=2), "Conv2d: groups is 2, expected a divisor of the 3"),
        (lambda: tc.Conv2d(1, 1, 2, padding=-1), "Conv2d: padding is -1, expected 2"),
        (
            lambda: tc.Conv2d(1, 1, 2, padding_mode="mirror"),
            "Conv2d: padding_mode is 'mirror', expected 'zeros', 'reflect',",
        ),
        (
            lambda: tc.ConvTranspose1d(1, 1, 2, output_padding=1),
            "ConvTranspose1d: output_padding is 1, expected less than the stride 1",
        ),
        (lambda: tc.MaxPool1d(0), "MaxPool1d: kernel_size is 0, expected an integer of at least 1"),
        (lambda: tc.MaxPool2d(2, dilation=0), "MaxPool2d: dilation is 0, expected 2 integers of"),
        (lambda: tc.MaxPool2d(2, padding=-1), "MaxPool2d: padding is -1, expected 2 integers or"),
        (lambda: tc.AvgPool3d(2, (1, 2)), "AvgPool3d: stride is (1, 2), expected 3 integers of"),
        (
            lambda: tc.LPPool2d(0.5, 2),
            "LPPool2d: norm_type is 0.5, expected a number of",
        ),
        (lambda: tc.LPPool2d(float("inf"), 2), "LPPool2d: norm_type is inf, expected a number of"),
        (lambda: tc.Subsample2d(0, 2), "Subsample2d: num_features is 0, expected an integer"),
        (
            lambda: tc.Upsample(),
            "Upsample: size is None and scale_factor is None, expected one of them",
        ),
        (
            lambda: tc.Upsample(4, 2),
            "Upsample: size is 4 and scale_factor is 2, expected one of them",
        ),
        (
            lambda: tc.Upsample(scale_factor=1.5),
            "Upsample: scale_factor is 1.5, expected 2 integers of at least 1",
        ),
        (
            lambda: tc.Upsample(2, mode="bicubic"),
            "Upsample: mode is 'bicubic', expected 'nearest' or 'bilinear'",
        ),
        (
            lambda: tc.Upsample(2, align_corners=True),
            "Upsample: align_corners is given, expected None in mode 'nearest'",
        ),
        (lambda: tc.BatchNorm2d(0), "BatchNorm2d: num_features is 0, expected an integer of at"),
        (lambda: tc.BatchNorm1d(3, 0), "BatchNorm1d: eps is 0, expected a number above 0"),
        (lambda: tc.BatchNorm3d(3, momentum=2), "BatchNorm3d: momentum is 2, expected a number of"),
        (lambda: tc.LayerNorm(()), "LayerNorm: normalized_shape is (), expected an integer of at"),
        (
            lambda: tc.LayerNorm((3, 0)),
            "LayerNorm: normalized_shape is (3, 0), expected 2 integers",
        ),
        (lambda: tc.GroupNorm(0, 4), "GroupNorm: num_groups is 0, expected an integer of at least"),
        (lambda: tc.GroupNorm(2, 0), "GroupNorm: num_channels is 0, expected an integer of at"),
        (
            lambda: tc.GroupNorm(3, 4),
            "GroupNorm: num_groups is 3, expected a divisor of the 4 channels",
        ),
        (
            lambda: tc.LocalResponseNorm(0),
            "LocalResponseNorm: size is 0, expected an integer of at least 1",
        ),
        (
            lambda: tc.LocalResponseNorm(5, k=0),
            "LocalResponseNorm: k is 0, expected a number",
        ),
        (lambda: tc.GELU("erf"), "GELU: approximate is 'erf', expected 'none' or 'tanh'"),
        (lambda: tc.Softplus(0), "Softplus: beta is 0, expected a number above 0"),
        (lambda: tc.Reshape(12), "Reshape: shape is 12, expected a tuple of integers"),
        (lambda: tc.Pad(-1), "Pad: padding is -1, expected an integer or (before, after) pairs"),
        (lambda: tc.Pad(1, "mirror"), "Pad: mode is 'mirror', expected 'zeros', 'reflect'"),
    ],
)
def test_arguments_out_of_range(make: Callable[[], Layer], message: str) -> None:
    with pytest.raises(tc.ArgumentError, match=re.escape(message)):
        make()


@pytest.mark.parametrize(
    ("layer", "shape", "message"),
    [
        (tc.Conv1d(2, 3, 3), (2, 5, 5), "Conv1d: input of shape (2, 5, 5), expected (2, L)"),
        (tc.Conv3d(2, 3, 3), (1, 5, 5, 5), "Conv3d: input of shape (1, 5, 5, 5), expected (2, D,"),
        (tc.Conv1d(2, 3, 6, padding=1), (2, 3), "Conv1d: the window covers 6 elements of axis 0"),
        (
            tc.ConvTranspose1d(2, 3, 2, padding=2),
            (2, 2),
            "ConvTranspose1d: nothing is left of axis 0",
        ),
        (tc.MaxPool1d(2), (2, 5, 5), "MaxPool1d: input of shape (2, 5, 5), expected (C, L)"),
        (tc.AvgPool3d(2), (2, 5, 5), "AvgPool3d: input of shape (2, 5, 5), expected (C, D, H, W)"),
        (tc.MaxPool2d(2, dilation=4), (1, 4, 6), "MaxPool2d: the window covers 5 elements of axis"),
        (tc.AvgPool2d(2, padding=2), (1, 4, 4), "AvgPool2d: padding is (2, 2), expected less than"),
        (tc.Subsample2d(3, 2), (4, 4, 4), "Subsample2d: input of shape (4, 4, 4), expected (3,"),
        (tc.GlobalAvgPool(), (4,), "global_avg_pool: x has shape (0, 4), expected (N, C, *size)"),
        (
            tc.Upsample(4),
            (4, 4),
            "upsample_nearest2d: x has shape (0, 4, 4), expected (N, C, H, W)",
        ),
        (tc.Reshape((5, -1)), (12,), "reshape: shape is (5, -1), expected 12 elements because x"),
        (tc.Pad(4, "reflect"), (1, 4, 4), "pad: padding is 4 + 4 on axis 0, expected at most 3 on"),
        (tc.BatchNorm1d(3), (4,), "BatchNorm1d: input of shape (4,), expected (3,) or (3, L)"),
        (tc.BatchNorm2d(None), (4,), "BatchNorm2d: input of shape (4,), expected (C, H, W)"),
        (tc.BatchNorm3d(3), (3, 4, 4), "BatchNorm3d: input of shape (3, 4, 4), expected (3, D, H,"),
        (tc.LayerNorm((3, 4)), (4, 3), "LayerNorm: input of shape (4, 3), expected (..., 3, 4)"),
        (tc.GroupNorm(2, 4), (6, 5), "GroupNorm: input of shape (6, 5), expected (4, ...)"),
        (tc.GroupNorm(2, None), (5, 5), "group_norm: num_groups is 2, expected a divisor of C=5"),
        (tc.LocalResponseNorm(5), (), "local_response_norm: x has shape (0,), expected (N, C,"),
        (tc.Crop(2), (1, 5, 4), "crop: cropping takes 2 + 2 elements of axis 1, expected fewer"),
    ],
)
def test_shapes_that_do_not_fit(layer: Layer, shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(ShapeError, match=re.escape(message)):
        layer.output_shape(shape)
    with pytest.raises(ShapeError):
        layer.forward(np.zeros((2, *shape)))
    with pytest.raises(ShapeError, match=re.escape(f"layer 0: {message}")):
        tc.Sequential([layer], input_shape=shape)


# PyTorch.


@pytest.mark.oracle
@pytest.mark.parametrize("case", [case for case in CASES if case.twin], ids=str)
@pytest.mark.parametrize("training", [False, True])
def test_the_layer_equals_its_twin(torch: Any, case: Case, training: bool) -> None:
    assert case.twin is not None
    twin = case.twin(torch.nn).double()
    twin.train(training)
    layer, x = case.fresh(), drawn(case.shape)
    layer.forward(x)
    with_drawn_parameters(layer)
    with torch.no_grad():
        for name, parameter in twin.named_parameters():  # the names are PyTorch's
            parameter[...] = torch.tensor(layer.params[name])
    assert len(list(twin.parameters())) == len(layer.params)
    y = layer.forward(x, training)
    dy = drawn(y.shape, seed=1)
    dx = layer.backward(dy)
    tx = torch.tensor(x, requires_grad=True)
    ty = twin(tx)
    ty.backward(torch.tensor(dy))
    close = {"rtol": 1e-9, "atol": 1e-11}
    np.testing.assert_allclose(y, ty.detach().numpy(), **close)
    np.testing.assert_allclose(dx, tx.grad.numpy(), **close)
    for name, parameter in twin.named_parameters():
        np.testing.assert_allclose(layer.grads[name], parameter.grad.numpy(), **close)
    assert layer.state.keys() == dict(twin.named_buffers()).keys()
    for name, buffer in twin.named_buffers():
        np.testing.assert_allclose(layer.state[name], buffer.numpy(), **close)

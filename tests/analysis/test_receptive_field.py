"""The receptive field against the support of the gradient, and against literals."""

import itertools
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tinyconv as tc
from tinyconv.analysis import reach, receptive_field
from tinyconv.errors import ShapeError
from tinyconv.layers import LAYERS, Chain, Layer
from tinyconv.models import nielsen_conv_conv


def make_positive(net: Layer, shape: tuple[int, ...]) -> None:
    """Positive weights and inputs, so that no contributions cancel."""
    net.forward(np.ones((1, *shape)))
    rng = np.random.default_rng(0)
    for values in net.params.values():
        values[...] = rng.uniform(0.5, 1, size=values.shape)


def support(net: Layer, shape: tuple[int, ...], position: tuple[int, ...]) -> tuple[slice, ...]:
    """The smallest box around the input elements that the unit's gradient reaches."""
    y = net.forward(np.ones((1, *shape)))
    dy = np.zeros_like(y)
    dy[(slice(None), slice(None), *position)] = 1
    reached = np.abs(net.backward(dy)[0]).sum(axis=0) > 1e-9
    places = np.argwhere(reached)
    if len(places) == 0:
        return tuple(slice(0, 0) for _ in shape[1:])
    return tuple(
        slice(int(lo), int(hi) + 1) for lo, hi in zip(places.min(0), places.max(0), strict=True)
    )


def check_every_unit(net: Layer, shape: tuple[int, ...], exact: bool = True) -> None:
    make_positive(net, shape)
    field = receptive_field(net, shape)
    last = field.rows[-1]
    for position in itertools.product(*(range(n) for n in last.output[1:])):
        ours, measured = field.of(last.path, *position), support(net, shape, position)
        if exact:
            assert ours == measured, position
        else:
            for mine, theirs in zip(ours, measured, strict=True):
                is_empty = theirs.start == theirs.stop
                assert is_empty or mine.start <= theirs.start <= theirs.stop <= mine.stop, position


@st.composite
def one_axis(draw: st.DrawFn, gaps: bool) -> Layer:
    """A linear layer over one axis, of 2 channels; without gaps between elements or windows."""
    sizes: dict[str, Any] = {
        "kernel_size": draw(st.integers(1, 4)),
        "stride": draw(st.integers(1, 3)),
        "padding": draw(st.integers(0, 2)),
    }
    if not gaps:
        sizes["stride"] = min(sizes["stride"], sizes["kernel_size"])
    kind = draw(st.sampled_from(["conv", "conv", "transpose", "pool", "pad", "crop", "none"]))
    if kind == "conv":
        sizes["padding"] = ((sizes["padding"], draw(st.integers(0, 2))),)
        sizes["dilation"] = draw(st.integers(2, 3)) if gaps else 1
        return tc.Conv1d(2, 2, groups=draw(st.sampled_from([1, 2])), **sizes)
    if kind == "transpose":
        extra = draw(st.integers(0, sizes["stride"] - 1))
        return tc.ConvTranspose1d(2, 2, output_padding=extra, **sizes)
    if kind == "pool":
        return tc.AvgPool1d(sizes["kernel_size"], sizes["stride"], sizes["kernel_size"] // 2)
    if kind == "pad":
        return tc.Pad(((draw(st.integers(0, 2)), draw(st.integers(0, 2))),))
    if kind == "crop":
        return tc.Crop(((draw(st.integers(0, 1)), draw(st.integers(0, 1))),))
    return tc.Identity()


@given(data=st.data(), length=st.integers(1, 12), gaps=st.booleans())
@settings(max_examples=60)
def test_chains_of_layers(data: st.DataObject, length: int, gaps: bool) -> None:
    layers: list[Layer] = []
    shape: tuple[int, ...] = (2, length)
    for layer in data.draw(st.lists(one_axis(gaps), min_size=1, max_size=4)):
        try:
            given_shape = layer.output_shape(shape)
        except ShapeError:
            continue
        if given_shape[1] <= 40:
            layers.append(layer)
            shape = given_shape
    if layers:
        check_every_unit(Chain(layers), (2, length), exact=not gaps)


def two_convolutions(**how: Any) -> list[Layer]:
    return [tc.Conv2d(2, 2, 3, **how), tc.Conv2d(2, 2, (1, 3), **how)]


@pytest.mark.parametrize("mode", ["zeros", "reflect", "replicate", "circular"])
def test_padding_modes(mode: str) -> None:
    layer = tc.Conv2d(2, 2, (3, 4), stride=(1, 2), padding=((2, 1), (0, 3)), padding_mode=mode)
    check_every_unit(layer, (2, 5, 6))
    check_every_unit(tc.Pad(((2, 1), (0, 3)), mode), (2, 5, 6))


@pytest.mark.parametrize(
    "layers",
    [
        [tc.Residual(two_convolutions(padding="same"))],
        [
            tc.Conv2d(2, 2, 2, stride=2),
            tc.Residual(tc.Conv2d(2, 2, 3, padding=1), tc.Conv2d(2, 2, 1)),
        ],
        [tc.Parallel([tc.Conv2d(2, 3, 1), two_convolutions(padding="same"), tc.Identity()])],
        [tc.Parallel([tc.AvgPool2d(3, 2, 1), tc.Conv2d(2, 2, 5, 2, 2)], join="add")],
        [tc.Upsample(scale_factor=(2, 3)), tc.Conv2d(2, 2, 3)],
        [tc.Upsample(scale_factor=2, mode="bilinear"), tc.AvgPool2d(2)],
        [tc.Upsample((7, 9), mode="bilinear", align_corners=True)],
        [tc.ConvTranspose2d(2, 2, (2, 1), stride=3), tc.Conv2d(2, 2, 2)],
        [tc.Conv2d(2, 2, 2), tc.GlobalAvgPool()],
        [tc.Conv2d(2, 2, 2), tc.Flatten(), tc.Linear(None, 3)],
        [tc.Reshape((2, 6, 5)), tc.Conv2d(2, 2, 2)],
        [tc.AvgPool2d((2, 3), ceil_mode=True)],
        [tc.BatchNorm2d(2), tc.Conv2d(2, 2, 3)],
        [tc.Subsample2d(2, 2), tc.ELU()],
    ],
    ids=lambda layers: "-".join(type(layer).__name__ for layer in layers),
)
def test_branches_and_changes_of_size(layers: list[Layer]) -> None:
    exact = not isinstance(layers[0], tc.Reshape)
    check_every_unit(Chain(layers), (2, 5, 6), exact)


def test_three_axes() -> None:
    check_every_unit(
        Chain([tc.Conv3d(1, 1, (1, 2, 3), stride=(1, 2, 1)), tc.AvgPool3d(2)]), (1, 3, 6, 5)
    )


def test_every_layer_inside_has_its_row() -> None:
    net = tc.Sequential(
        [
            tc.Conv2d(1, 2, 3, 2),
            tc.Residual([tc.Conv2d(2, 2, 3, padding=1), tc.ReLU()]),
            tc.Flatten(),
        ],
        input_shape=(1, 9, 11),
    )
    field = receptive_field(net)
    assert [(row.path, row.layer, row.size) for row in field] == [
        ("", "input", (1, 1)),
        ("0", "Conv2d", (3, 3)),
        ("1.body.0", "Conv2d", (7, 7)),
        ("1.body.1", "ReLU", (7, 7)),
        ("1", "Residual", (7, 7)),
        ("2", "Flatten", (13, 15)),
    ]
    assert field.rows[4].stride == (2, 2)
    assert field.rows[4].offset == (-2, -2)
    assert field.rows[4].padding == ((2, 2), (2, 2))
    assert field.rows[5].stride == (0, 0)


def test_the_recurrence_of_the_lectures() -> None:
    """Kernel 3, stride 2, three times: 3, then 3 + 2 * 2, then 7 + 4 * 2."""
    net = Chain([tc.Conv1d(1, 1, 3, stride=2, padding=1) for _ in range(3)])
    field = receptive_field(net, (1, 40))
    assert field["size"] == [(1,), (3,), (7,), (15,)]
    assert field["stride"] == [(1,), (2,), (4,), (8,)]
    assert field["offset"] == [(0,), (-1,), (-3,), (-7,)]
    assert field["padding"] == [((0, 0),), ((1, 0),), ((3, 0),), ((7, 0),)]
    # The last unit of the last layer sees 40 - 8 + 1 - 7 - 1 ... beyond its centre, 32: 25 to 39.
    assert field.of("2", 4) == (slice(25, 40),)


def test_a_fraction_of_a_position() -> None:
    field = receptive_field(tc.ConvTranspose1d(1, 1, 4, stride=2, padding=1), (1, 5))
    assert field.rows[-1].stride == (Fraction(1, 2),)
    assert field.rows[-1].size == (2,)


def test_dilation_counts_its_gaps() -> None:
    field = receptive_field(Chain([tc.Conv1d(1, 1, 3, dilation=d) for d in (1, 2, 4)]), (1, 32))
    assert field["size"] == [(1,), (3,), (7,), (15,)]


@pytest.mark.parametrize(
    "kind",
    # Not those that other tests register, of which it depends on the worker whether they are there.
    [each for each in LAYERS.values() if each.__module__.startswith("tinyconv.")],
)
def test_every_layer_has_a_rule(kind: type[Layer]) -> None:
    assert reach.dispatch(kind) is not reach.dispatch(Layer)


def test_what_cannot_be_told() -> None:
    class Odd(tc.ReLU):
        pass

    class Unknown(Layer):
        def config(self) -> dict[str, Any]:
            return {}

        def output_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
            return shape

        def compute(self, x: Any, training: bool, step: int) -> Any:
            return x, None

        def compute_backward(self, dy: Any, saved: Any) -> Any:
            return dy, {}

    assert receptive_field(Odd(), (1, 4)).rows[-1].size == (1,)
    with pytest.raises(
        ShapeError, match=r"no rule for the layer Unknown; reach\.register adds one"
    ):
        receptive_field(Unknown(), (1, 4))
    with pytest.raises(ShapeError, match="the shape of a sample is not known, pass input_shape="):
        receptive_field(tc.ReLU())
    field = receptive_field(nielsen_conv_conv())
    with pytest.raises(ShapeError, match="no layer '17', expected one of"):
        field.of("17", 0, 0)
    for position in [(0,), (4, 0), (-1, 0)]:
        with pytest.raises(ShapeError, match=r"position .* of layer 4, whose output is \(4, 4\)"):
            field.of("4", *position)

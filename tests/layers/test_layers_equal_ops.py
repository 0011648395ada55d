"""A layer adds nothing to its operation but places to look at."""

from typing import Any

import numpy as np
import pytest

import tinyconv as tc
from tinyconv import ops, random
from tinyconv.errors import DeviceError, DtypeError, ShapeError, StateError
from tinyconv.layers import Chain, Layer, Place, decode, encode

IMAGE = (3, 2, 6, 5)

#: Layer, shape of x, operation, its options.
CASES: list[tuple[Layer, tuple[int, ...], str, dict[str, Any]]] = [
    (tc.Conv2d(2, 4, 3), IMAGE, "conv2d", {}),
    (
        tc.Conv2d(2, 4, (3, 2), (2, 1), (1, 2), (1, 2), 2),
        IMAGE,
        "conv2d",
        {"stride": (2, 1), "padding": (1, 2), "dilation": (1, 2), "groups": 2},
    ),
    (tc.Conv2d(2, 4, 3, bias=False), IMAGE, "conv2d", {}),
    (tc.Linear(7, 4), (3, 7), "linear", {}),
    (tc.Linear(7, 4, bias=False), (3, 7), "linear", {}),
    (tc.MaxPool2d(2), IMAGE, "max_pool2d", {"kernel_size": 2}),
    (
        tc.MaxPool2d((3, 2), (1, 2), 1),
        IMAGE,
        "max_pool2d",
        {"kernel_size": (3, 2), "stride": (1, 2), "padding": 1},
    ),
    (tc.AvgPool2d(2), IMAGE, "avg_pool2d", {"kernel_size": 2}),
    (
        tc.AvgPool2d(3, 2, 1),
        IMAGE,
        "avg_pool2d",
        {"kernel_size": 3, "stride": 2, "padding": 1},
    ),
    (tc.L2Pool2d(2), IMAGE, "l2_pool2d", {"kernel_size": 2}),
    (tc.L2Pool2d(3, 1, 1), IMAGE, "l2_pool2d", {"kernel_size": 3, "stride": 1, "padding": 1}),
    (tc.ReLU(), IMAGE, "relu", {}),
    (tc.Sigmoid(), (3, 7), "sigmoid", {}),
    (tc.Tanh(), (2, 3, 4), "tanh", {}),
]


def drawn(shape: tuple[int, ...], seed: int = 0, dtype: str = "float64") -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(dtype)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("layer", "shape", "op", "options"), CASES, ids=lambda v: str(v)[:60])
def test_forward_and_backward(
    layer: Layer, shape: tuple[int, ...], op: str, options: dict[str, Any], dtype: str
) -> None:
    layer = decode(encode(layer))  # a fresh one for each case
    x = drawn(shape, dtype=dtype)
    kept = x.copy()
    y = layer.forward(x)
    inputs = [x, *layer.params.values()]
    expected, saved = getattr(ops, op)(*inputs, **options)
    np.testing.assert_array_equal(y, expected)
    assert y.dtype == dtype
    assert layer.output_shape(shape[1:]) == y.shape[1:]

    dy = drawn(y.shape, seed=1, dtype=dtype)
    for grad in layer.grads.values():
        grad[...] = np.nan  # what is left of an earlier pass must not shine through
    dx = layer.backward(dy)
    grads = getattr(ops, op + "_backward")(dy, saved)
    grads = grads if type(grads) is tuple else (grads,)
    for ours, theirs in zip([dx, *layer.grads.values()], grads, strict=False):
        np.testing.assert_array_equal(ours, theirs)
        assert ours.dtype == dtype
    assert len([g for g in grads if g is not None]) == 1 + len(layer.params)

    # A student finds everything on the layer, and x is as it was.
    assert layer.x is x
    assert layer.y is y
    assert layer.dy is dy
    assert layer.dx is dx
    np.testing.assert_array_equal(x, kept)
    # Training mode makes no difference to any of these.
    np.testing.assert_array_equal(layer.forward(x, training=True, step=5), y)


@pytest.mark.parametrize("case", CASES, ids=lambda case: str(case[0])[:60])
def test_an_empty_batch_passes_both_ways(case: tuple[Any, ...]) -> None:
    layer, shape = decode(encode(case[0])), case[1]
    y = layer.forward(np.zeros((0, *shape[1:])))
    assert y.shape == (0, *layer.output_shape(shape[1:]))
    assert layer.backward(y).shape == (0, *shape[1:])
    assert not any(grad.any() for grad in layer.grads.values())


def test_flatten() -> None:
    layer, x = tc.Flatten(), drawn(IMAGE)
    y = layer.forward(x)
    np.testing.assert_array_equal(y, x.reshape(3, 60))
    dy = drawn(y.shape, seed=1)
    np.testing.assert_array_equal(layer.backward(dy), dy.reshape(IMAGE))
    assert layer.output_shape((2, 6, 5)) == (60,)


def test_conv2d_counts_its_multiplications() -> None:
    # 20 maps of 24 x 24, each a sum over 1 x 5 x 5; the book's first layer.
    assert tc.Conv2d(1, 20, 5).multiply_adds((1, 28, 28)) == 20 * 24 * 24 * 25
    assert tc.Conv2d(4, 8, 3, groups=4).multiply_adds((4, 5, 5)) == 8 * 3 * 3 * 9
    assert tc.Linear(640, 100).multiply_adds((640,)) == 64000
    assert tc.MaxPool2d(2).multiply_adds((1, 4, 4)) == 0
    assert tc.Conv2d(1, 20, 5).parameter_count() == 520
    assert tc.Linear(None, 3).parameter_count() is None
    assert tc.Linear(None, 3, bias=False).parameter_count((5,)) == 15


# Dropout.


def bound_dropout(p: float, seed: int, path: str) -> tc.Dropout:
    layer = tc.Dropout(p)
    layer._bind(Place(path, seed), {}, {})
    return layer


def test_dropout_equals_its_operation_with_the_mask_of_its_place() -> None:
    layer, x = bound_dropout(0.3, seed=5, path="7"), drawn((4, 30))
    u = random.uniform(random.key(5, "dropout", "7", 11), x.size).reshape(x.shape)
    expected, saved = ops.dropout(x, u >= np.float32(0.3), 0.3)
    np.testing.assert_array_equal(layer.forward(x, training=True, step=11), expected)
    dy = drawn(x.shape, seed=1)
    np.testing.assert_array_equal(layer.backward(dy), ops.dropout_backward(dy, saved))


def test_a_dropout_mask_is_a_function_of_seed_place_and_step() -> None:
    def mask(seed: int, path: str, step: int, before: int = 0) -> tuple[bool, ...]:
        layer = bound_dropout(0.5, seed, path)
        for earlier in range(before):
            layer.forward(np.ones((3, 8)), training=True, step=earlier)
        return tuple(layer.forward(np.ones((1, 64)), training=True, step=step)[0] > 0)

    masks = [mask(0, "3", 9), mask(1, "3", 9), mask(0, "4", 9), mask(0, "3", 10)]
    assert len(set(masks)) == 4
    assert mask(0, "3", 9, before=5) == masks[0]
    assert mask(0, "3", 9) == masks[0]


def test_dropout_keeps_the_expectation() -> None:
    layer = bound_dropout(0.3, 0, "0")
    y = layer.forward(np.ones((200, 500)), training=True)
    assert np.unique(y).tolist() == [0, 1 / 0.7]
    assert (y == 0).mean() == pytest.approx(0.3, abs=0.007)


def test_dropout_outside_training_is_the_identity() -> None:
    layer, x = tc.Dropout(0.5), drawn((2, 3))
    assert layer.forward(x) is x
    dy = drawn((2, 3), seed=1)
    assert layer.backward(dy) is dy
    np.testing.assert_array_equal(tc.Dropout(0).forward(x, training=True), x)


def test_dropout_that_scales_at_test() -> None:
    layer = tc.Dropout(0.75, scale_at_test=True)
    x, dy = np.array([[8.0, -4.0, 12.0]]), np.array([[1.0, 2.0, -4.0]])
    np.testing.assert_array_equal(layer.forward(x), [[2.0, -1.0, 3.0]])
    np.testing.assert_array_equal(layer.backward(dy), [[0.25, 0.5, -1.0]])
    ones = np.ones((200, 500))
    y = layer.forward(ones, training=True)
    assert np.unique(y).tolist() == [0, 1]
    assert y.mean() == pytest.approx(0.25, abs=0.007)
    np.testing.assert_array_equal(layer.backward(3 * ones), 3 * y)
    assert repr(layer) == "Dropout(p=0.75, scale_at_test=True)"


@pytest.mark.parametrize("p", [1, -0.1, 2, float("nan")])
def test_dropout_p_out_of_range(p: float) -> None:
    with pytest.raises(
        tc.ArgumentError, match=f"Dropout: p is {p}, expected a number of at least 0 and"
    ):
        tc.Dropout(p)


# Sizes that are not given.


def test_sizes_are_taken_from_the_first_batch() -> None:
    conv, linear = tc.Conv2d(None, 4, 3), tc.Linear(None, 5)
    assert conv.forward(drawn(IMAGE)).shape == (3, 4, 4, 3)
    assert conv.params["weight"].shape == (4, 2, 3, 3)
    assert linear.forward(drawn((3, 7))).shape == (3, 5)
    assert linear.params["weight"].shape == (5, 7)


@pytest.mark.parametrize(
    ("layer", "bad", "good"),
    [
        (tc.Linear(None, 5), (2, 3, 4), (2, 4)),
        (tc.Linear(None, 5), (4,), (2, 4)),
        (tc.Conv2d(None, 5, 3), (2, 9), (2, 3, 4, 4)),
        (tc.Conv2d(None, 5, 3), (2, 1, 2, 2), (2, 3, 4, 4)),
        (tc.Conv2d(None, 4, 3, groups=2), (2, 3, 4, 4), (2, 2, 4, 4)),
    ],
)
def test_a_first_batch_that_does_not_fit_settles_nothing(
    layer: Layer, bad: tuple[int, ...], good: tuple[int, ...]
) -> None:
    with pytest.raises(ShapeError):
        layer.forward(np.zeros(bad))
    with pytest.raises(DtypeError, match="x has dtype int64, expected a floating-point type"):
        layer.forward(np.zeros(good, np.int64))
    assert layer.forward(np.zeros(good)).shape[:2] == (2, layer.output_shape(good[1:])[0])


# Errors.


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: tc.Linear(0, 3), "Linear: in_features is 0, expected an integer of at least 1 or"),
        (lambda: tc.Linear(3, 1.5), "Linear: out_features is 1.5, expected"),
        (lambda: tc.Conv2d(0, 3, 1), "Conv2d: in_channels is 0, expected"),
        (lambda: tc.Conv2d(1, 0, 1), "Conv2d: out_channels is 0, expected"),
        (lambda: tc.Conv2d(1, 2, 0), "Conv2d: kernel_size is 0, expected 2 integers"),
        (lambda: tc.Conv2d(1, 2, (3, 3, 3)), r"Conv2d: kernel_size is \(3, 3, 3\), expected 2"),
        (lambda: tc.Conv2d(1, 2, 3, stride=0), "Conv2d: stride is 0, expected 2 integers"),
        (lambda: tc.Conv2d(1, 2, 3, dilation=0), "Conv2d: dilation is 0, expected 2 integers"),
        (
            lambda: tc.Conv2d(4, 6, 3, groups=4),
            "Conv2d: groups is 4, expected a divisor of the 4 input and 6 output channels",
        ),
        (lambda: tc.MaxPool2d(0), "MaxPool2d: kernel_size is 0, expected 2 integers"),
        (lambda: tc.AvgPool2d(2, 0), "AvgPool2d: stride is 0, expected 2 integers"),
    ],
)
def test_arguments_out_of_range(make: Any, message: str) -> None:
    with pytest.raises(tc.ArgumentError, match=message):
        make()


@pytest.mark.parametrize(
    ("layer", "shape", "message"),
    [
        (tc.Linear(4, 3), (5,), r"Linear: input of shape \(5,\), expected \(4,\)"),
        (tc.Linear(None, 3), (5, 2), r"Linear: input of shape \(5, 2\), expected \(I,\)"),
        (
            tc.Conv2d(1, 3, 3),
            (2, 5, 5),
            r"Conv2d: input of shape \(2, 5, 5\), expected \(1, H, W\)",
        ),
        (tc.Conv2d(1, 3, 3), (5, 5), r"Conv2d: input of shape \(5, 5\), expected \(1, H, W\)"),
        (tc.Conv2d(1, 3, 3), (1, 2, 5), "Conv2d: the window covers 3 elements of axis 0"),
        (tc.Conv2d(None, 4, 1, groups=2), (3, 5, 5), "Conv2d: groups is 2, expected a divisor"),
        (tc.MaxPool2d(2), (5,), r"MaxPool2d: input of shape \(5,\), expected \(C, H, W\)"),
        (tc.MaxPool2d(3), (1, 2, 2), "MaxPool2d: the window covers 3 elements of axis 0"),
        (tc.MaxPool2d(2, padding=2), (1, 4, 4), "MaxPool2d: padding is .*, expected less than"),
    ],
)
def test_shapes_that_do_not_fit(layer: Layer, shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(ShapeError, match=message):
        layer.output_shape(shape)


@pytest.mark.parametrize("case", CASES, ids=lambda case: str(case[0])[:60])
def test_backward_needs_a_forward_and_its_shape(case: tuple[Any, ...]) -> None:
    layer, shape = decode(encode(case[0])), case[1]
    name = type(layer).__name__
    with pytest.raises(StateError, match=f"{name}: backward was called before forward"):
        layer.backward(np.zeros(shape))
    y = layer.forward(np.zeros(shape))
    with pytest.raises(
        ShapeError, match=rf"{name}.backward: dy has shape .*, expected \({shape[0]},"
    ):
        layer.backward(np.zeros((1, *y.shape)))


@pytest.mark.parametrize("layer", [tc.Flatten(), tc.Dropout(0.5)])
def test_layers_without_an_operation_check_dy_too(layer: Layer) -> None:
    layer.forward(np.zeros((2, 3, 4)))
    with pytest.raises(ShapeError, match="dy has shape"):
        layer.backward(np.zeros((4, 3, 2)))


def test_lists_are_refused() -> None:
    with pytest.raises(DeviceError, match="Linear: x is a list, expected an array"):
        tc.Linear(2, 3).forward([[1.0, 2.0]])


# Plain data and back.


@pytest.mark.parametrize("case", CASES, ids=lambda case: str(case[0])[:60])
def test_a_layer_returns_from_its_configuration(case: tuple[Any, ...]) -> None:
    import json

    layer = decode(json.loads(json.dumps(encode(case[0]))))
    assert type(layer) is type(case[0])
    assert layer.config() == case[0].config()
    assert repr(layer) == repr(case[0])


def test_repr_is_how_to_make_the_layer() -> None:
    assert repr(tc.Linear(2, 3)).startswith("Linear(in_features=2, out_features=3, bias=True")
    assert repr(tc.Dropout(0.25)) == "Dropout(p=0.25)"
    assert repr(Chain([tc.ReLU(), tc.Tanh()])) == "Chain([ReLU(), Tanh()])"


def test_a_layer_belongs_to_one_network() -> None:
    layer = tc.Linear(2, 3)
    net = tc.Sequential([layer])
    with pytest.raises(StateError, match="Linear: the layer has parameters already, of another"):
        tc.Sequential([layer])
    assert net.layers[0].params["weight"] is layer.params["weight"]
    alone = tc.Linear(2, 3)
    alone.forward(np.zeros((1, 2)))
    with pytest.raises(StateError, match="make a new one"):
        tc.Sequential([tc.ReLU(), alone])

"""Mistakes that people make in backward passes, planted into the library's own operations.

Each bug is a backward function with the signature of a gradient check, ``(dy, *inputs)``, next
to what a checker should say about it. The operations themselves stay as they are.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from tinyconv import ops

Array = Any


@dataclass(frozen=True)
class Bug:
    """A mistaken backward function, and what a checker should say about it."""

    name: str
    forward: Callable[..., Array]
    make_backward: Callable[[], Callable[..., Any]]  #: a fresh one: some bugs have a memory
    inputs: tuple[Array, ...]
    names: tuple[str, ...]
    verdict: str
    hint: str  #: what the hint must contain, "" where none is expected


@dataclass(frozen=True)
class Case:
    """An operation at a point: forward, the right backward, and inputs."""

    forward: Callable[..., Array]
    backward: Callable[..., Any]
    inputs: tuple[Array, ...]
    names: tuple[str, ...] = ("x", "w", "b")


def _case(op: str, *inputs: Array, **options: Any) -> Case:
    forward, backward = getattr(ops, op), getattr(ops, f"{op}_backward")
    return Case(
        lambda *arrays: forward(*arrays, **options)[0],
        lambda dy, *arrays: backward(dy, forward(*arrays, **options)[1]),
        inputs,
    )


def _normal(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng([seed, *shape]).normal(size=shape)


def _with_hole() -> Array:
    x = _normal(2, 2, 4, 4)
    x[0, 1, 2:, :2] = 0
    return x


_mask = np.random.default_rng(5).random((4, 6)) < 0.5
_labels = np.array([0, 2, 1, 3, 1])

CONV = _case("conv2d", _normal(3, 2, 4, 5), _normal(4, 2, 3, 3), _normal(4), padding=1)
CONV_SQUARE = _case("conv2d", _normal(4, 3, 4, 4), _normal(4, 3, 3, 3), _normal(4))
CONV_STRIDED = _case("conv2d", _normal(1, 2, 7, 7), _normal(3, 2, 1, 1), _normal(3), stride=2)
CONV_DILATED = _case("conv2d", _normal(2, 1, 7, 7), _normal(2, 1, 3, 3), _normal(2), dilation=2)
CONV_GROUPED = _case("conv2d", _normal(2, 4, 4, 4), _normal(4, 2, 3, 3), _normal(4), groups=2)
LINEAR = _case("linear", _normal(4, 5), _normal(3, 5), _normal(3))
LINEAR_SQUARE = _case("linear", _normal(5, 5, seed=1), _normal(5, 5), _normal(5))
MAX_POOL = _case("max_pool2d", _normal(1, 2, 4, 6), kernel_size=2)
MAX_POOL_OVERLAPPING = _case("max_pool2d", _normal(1, 2, 7, 7), kernel_size=3, stride=2)
AVG_POOL = _case("avg_pool2d", _normal(1, 2, 6, 6), kernel_size=3)
AVG_POOL_OVERLAPPING = _case("avg_pool2d", _normal(2, 2, 5, 5), kernel_size=3, stride=2)
L2_POOL = _case("l2_pool2d", _normal(2, 2, 4, 4), kernel_size=2)
L2_POOL_HOLE = _case("l2_pool2d", _with_hole(), kernel_size=2)
RELU = _case("relu", _normal(4, 6))
SIGMOID = _case("sigmoid", _normal(4, 6))
SIGMOID_FAR = _case("sigmoid", np.array([-1000.0, -1.0, 0.5, 2.0]))
TANH = _case("tanh", _normal(4, 6))
DROPOUT = _case("dropout", _normal(4, 6), mask=_mask, p=0.4)
SOFTMAX = _case("softmax", _normal(5, 4))
LOSS = _case("cross_entropy", _normal(5, 4), _labels)

CASES = [value for value in list(globals().values()) if isinstance(value, Case)]
BUGS: list[Bug] = []


def bug(
    case: Case,
    verdict: str = "wrong",
    hint: str = "",
    forward: Any = None,
    memory: Callable[[], Any] | None = None,
    bank: list[Bug] = BUGS,
) -> Any:
    """Register a function ``(case, dy, *inputs)`` as a mistaken backward of ``case``.

    One with a ``memory`` is called as ``(case, memory(), dy, *inputs)``.
    """

    def register(function: Callable[..., Any]) -> Callable[..., Any]:
        def make_backward() -> Callable[..., Any]:
            return functools.partial(function, case, *([] if memory is None else [memory()]))

        names = ("x", "labels") if case is LOSS else case.names[: len(case.inputs)]
        bank.append(
            Bug(
                function.__name__.replace("_", " "),
                forward or case.forward,
                make_backward,
                case.inputs,
                names,
                verdict,
                hint,
            )
        )
        return function

    return register


# -- sign and factors ---------------------------------------------------------------------------


@bug(CONV, hint="sign is flipped")
def conv_bias_sign(case: Case, dy: Array, x: Array, w: Array, b: Array) -> Any:
    dx, dw, db = case.backward(dy, x, w, b)
    return dx, dw, -db


@bug(CONV, hint="factor 2 too much")
def conv_weights_doubled(case: Case, dy: Array, x: Array, w: Array, b: Array) -> Any:
    dx, dw, db = case.backward(dy, x, w, b)
    return dx, dw + dw, db


@bug(CONV, hint="axis 0 of x twice as long it is 0.5 times that: 1/3 is too much")
def conv_weights_averaged_over_the_batch(
    case: Case, dy: Array, x: Array, w: Array, b: Array
) -> Any:
    dx, dw, db = case.backward(dy, x, w, b)
    return dx, dw / x.shape[0], db


@bug(LINEAR, hint="axis 0 of x twice as long it is 0.5 times that: 1/4 is too much")
def linear_bias_averaged(case: Case, dy: Array, x: Array, w: Array, b: Array) -> Any:
    dx, dw, _ = case.backward(dy, x, w, b)
    return dx, dw, np.mean(dy, axis=0)


@bug(LOSS, hint="twice as long it is 2 times that: 1/5 is missing")
def loss_without_the_batch_mean(case: Case, dy: Array, x: Array, labels: Array) -> Any:
    return case.backward(dy, x, labels) * x.shape[0], None


@bug(LOSS, hint="sign is flipped")
def loss_maximised(case: Case, dy: Array, x: Array, labels: Array) -> Any:
    return -case.backward(dy, x, labels), None


@bug(AVG_POOL, hint="9 elements of x have a gradient from one output")
def avg_pool_without_the_mean(case: Case, dy: Array, x: Array) -> Any:
    return case.backward(dy, x) * 9


@bug(DROPOUT, hint="0.6 times what it should be")
def dropout_without_the_scale(case: Case, dy: Array, x: Array) -> Any:
    return np.where(_mask, dy, 0)


@bug(SIGMOID, hint="factor 2 is missing")
def sigmoid_halved(case: Case, dy: Array, x: Array) -> Any:
    y = 0.5 + 0.5 * np.tanh(x / 2)
    return dy * 0.5 * y * (1 - y)


# -- transposed, flipped, shifted ---------------------------------------------------------------


@bug(LINEAR_SQUARE, hint="it has w used transposed")
def linear_input_with_transposed_weights(
    case: Case, dy: Array, x: Array, w: Array, b: Array
) -> Any:
    _, dw, db = case.backward(dy, x, w, b)
    return dy @ w.T, dw, db


@bug(LINEAR_SQUARE, hint="transposed: axes (0, 1)")
def linear_weights_transposed(case: Case, dy: Array, x: Array, w: Array, b: Array) -> Any:
    dx, dw, db = case.backward(dy, x, w, b)
    return dx, dw.T, db


@bug(LINEAR, verdict="shape", hint="transposed")
def linear_weights_transposed_shape(case: Case, dy: Array, x: Array, w: Array, b: Array) -> Any:
    dx, dw, db = case.backward(dy, x, w, b)
    return dx, dw.T, db


@bug(LINEAR_SQUARE, hint="gradient of w")
def linear_gradients_in_the_wrong_order(case: Case, dy: Array, x: Array, w: Array, b: Array) -> Any:
    dx, dw, db = case.backward(dy, x, w, b)
    return dw, dx, db


@bug(CONV, hint="flipped: axes (2, 3)")
def conv_weights_flipped(case: Case, dy: Array, x: Array, w: Array, b: Array) -> Any:
    dx, dw, db = case.backward(dy, x, w, b)
    return dx, dw[:, :, ::-1, ::-1], db


@bug(CONV, hint="it has w used flipped")
def conv_input_with_flipped_kernel(case: Case, dy: Array, x: Array, w: Array, b: Array) -> Any:
    _, dw, db = case.backward(dy, x, w, b)
    return case.backward(dy, x, w[:, :, ::-1, ::-1], b)[0], dw, db


@bug(CONV, hint="transposed: axes (2, 3)")
def conv_kernel_axes_swapped(case: Case, dy: Array, x: Array, w: Array, b: Array) -> Any:
    dx, dw, db = case.backward(dy, x, w, b)
    return dx, dw.transpose(0, 1, 3, 2), db


@bug(CONV, hint="shifted by")
def conv_padding_off_by_one(case: Case, dy: Array, x: Array, w: Array, b: Array) -> Any:
    dx, dw, db = case.backward(dy, x, w, b)
    moved = np.zeros_like(dx)
    moved[:, :, 1:, 1:] = dx[:, :, :-1, :-1]
    return moved, dw, db


@bug(CONV, verdict="shape", hint="padding along axes (2, 3) cut off")
def conv_padding_not_cut_off(case: Case, dy: Array, x: Array, w: Array, b: Array) -> Any:
    dx, dw, db = case.backward(dy, x, w, b)
    return np.pad(dx, ((0, 0), (0, 0), (1, 1), (1, 1))), dw, db


# -- borders, strides, parts --------------------------------------------------------------------


@bug(CONV, hint="on the border")
def conv_input_in_the_unpadded_region_only(
    case: Case, dy: Array, x: Array, w: Array, b: Array
) -> Any:
    dx, dw, db = case.backward(dy, x, w, b)
    inner = np.zeros_like(dx)
    inner[:, :, 1:-1, 1:-1] = dx[:, :, 1:-1, 1:-1]
    return inner, dw, db


@bug(CONV_STRIDED, hint="wrong places")
def conv_stride_ignored(case: Case, dy: Array, x: Array, w: Array, b: Array) -> Any:
    dx, dw, db = case.backward(dy, x, w, b)
    dense = np.zeros_like(dx)
    dense[:, :, :4, :4] = dx[:, :, ::2, ::2]
    return dense, dw, db


@bug(CONV_DILATED)
def conv_dilation_ignored(case: Case, dy: Array, x: Array, w: Array, b: Array) -> Any:
    _, dw, db = case.backward(dy, x, w, b)
    near, saved = ops.conv2d(x[:, :, :5, :5], w, b)
    dx = np.zeros_like(x)
    dx[:, :, :5, :5] = ops.conv2d_backward(dy[:, :, : near.shape[2], : near.shape[3]], saved)[0]
    return dx, dw, db


@bug(CONV_GROUPED, hint="at index 2, 3 of axis 1")
def conv_second_group_uses_the_first(case: Case, dy: Array, x: Array, w: Array, b: Array) -> Any:
    _, dw, db = case.backward(dy, x, w, b)
    w = np.concatenate([w[:2], w[:2]])
    return case.backward(dy, x, w, b)[0], dw, db


@bug(CONV, hint="last index (3) of axis 0; it is zero there")
def conv_last_filter_forgotten(case: Case, dy: Array, x: Array, w: Array, b: Array) -> Any:
    dx, dw, db = case.backward(dy, x, w, b)
    dw[-1] = 0
    return dx, dw, db


@bug(CONV, hint="dy is left out at the last index (2) of axis 0")
def conv_weights_without_the_last_sample(
    case: Case, dy: Array, x: Array, w: Array, b: Array
) -> Any:
    dx, _, db = case.backward(dy, x, w, b)
    return dx, case.backward(dy[:-1], x[:-1], w, b)[1], db


@bug(CONV, hint="last index (2) of axis 0; it is zero there")
def conv_input_of_the_last_sample(case: Case, dy: Array, x: Array, w: Array, b: Array) -> Any:
    dx, dw, db = case.backward(dy, x, w, b)
    dx[-1] = 0
    return dx, dw, db


@bug(CONV, hint="dy is left out at the last index (4) of axis 3")
def conv_loop_stops_one_column_early(case: Case, dy: Array, x: Array, w: Array, b: Array) -> Any:
    dx, _, db = case.backward(dy, x, w, b)
    dy = dy.copy()
    dy[:, :, :, -1] = 0
    return dx, case.backward(dy, x, w, b)[1], db


@bug(CONV)
def conv_columns_overwritten(case: Case, dy: Array, x: Array, w: Array, b: Array) -> Any:
    _, dw, db = case.backward(dy, x, w, b)
    only = np.zeros_like(w)
    only[:, :, -1, -1] = w[:, :, -1, -1]
    return case.backward(dy, x, only, b)[0], dw, db


@bug(AVG_POOL_OVERLAPPING)
def avg_pool_overlap_overwritten(case: Case, dy: Array, x: Array) -> Any:
    dx = np.zeros_like(x)
    for p in range(dy.shape[2]):
        for q in range(dy.shape[3]):
            dx[:, :, 2 * p : 2 * p + 3, 2 * q : 2 * q + 3] = dy[:, :, p, q, None, None] / 9
    return dx


# -- the maximum --------------------------------------------------------------------------------


class _Stale:
    """Keeps what the first forward pass saved, for ever."""

    def __init__(self) -> None:
        self.saved: Any = None

    def backward(self, dy: Array, x: Array) -> Array:
        if self.saved is None:
            self.saved = ops.max_pool2d(x, 2)[1]
        return ops.max_pool2d_backward(dy, self.saved)


@bug(MAX_POOL, hint="stale", memory=_Stale)
def max_pool_stale_argmax(case: Case, stale: _Stale, dy: Array, x: Array) -> Any:
    return stale.backward(dy, x)


@bug(MAX_POOL, hint="wrong places")
def max_pool_argmax_off_by_one(case: Case, dy: Array, x: Array) -> Any:
    _, saved = ops.max_pool2d(x, 2)
    argmax = saved.argmax // 6 * 6 + (saved.argmax % 6) // 2 * 2 + (saved.argmax + 1) % 2
    return ops.max_pool2d_backward(dy, saved._replace(argmax=argmax))


@bug(MAX_POOL, hint="wrong places")
def max_pool_of_the_minimum(case: Case, dy: Array, x: Array) -> Any:
    return case.backward(dy, -x)


@bug(MAX_POOL, hint="elements that have none")
def max_pool_to_the_neighbour_too(case: Case, dy: Array, x: Array) -> Any:
    dx = case.backward(dy, x)
    return dx + np.roll(dx, 1, axis=3) * (np.arange(6) % 2)


@bug(MAX_POOL, hint="elements that have none")
def max_pool_spread_over_the_window(case: Case, dy: Array, x: Array) -> Any:
    return np.repeat(np.repeat(dy, 2, axis=2), 2, axis=3)


@bug(MAX_POOL_OVERLAPPING)
def max_pool_shared_maximum_counted_once(case: Case, dy: Array, x: Array) -> Any:
    argmax = ops.max_pool2d(x, 3, stride=2)[1].argmax
    dx = np.zeros_like(x)
    planes = dx.reshape(2, -1)
    np.put_along_axis(planes, argmax.reshape(2, -1), dy.reshape(2, -1), axis=1)
    return planes.reshape(dx.shape)


# -- biases -------------------------------------------------------------------------------------


@bug(CONV_SQUARE, hint="summed over axes (1, 2, 3), expected (0, 2, 3)")
def conv_bias_summed_over_channels(case: Case, dy: Array, x: Array, w: Array, b: Array) -> Any:
    dx, dw, _ = case.backward(dy, x, w, b)
    return dx, dw, dy.sum(axis=(1, 2, 3))


@bug(CONV, verdict="shape", hint="summed over axes (0, 1, 2)")
def conv_bias_summed_over_the_wrong_axes(
    case: Case, dy: Array, x: Array, w: Array, b: Array
) -> Any:
    dx, dw, _ = case.backward(dy, x, w, b)
    return dx, dw, dy.sum(axis=(0, 1, 2))


@bug(LINEAR, hint="only dy at index 0 of axis 0")
def linear_bias_of_the_first_sample(case: Case, dy: Array, x: Array, w: Array, b: Array) -> Any:
    dx, dw, _ = case.backward(dy, x, w, b)
    return dx, dw, dy[0]


@bug(LINEAR, verdict="shape", hint="axes of length 1")
def linear_bias_keeps_an_axis(case: Case, dy: Array, x: Array, w: Array, b: Array) -> Any:
    dx, dw, _ = case.backward(dy, x, w, b)
    return dx, dw, dy.sum(axis=0, keepdims=True)


@bug(LINEAR, verdict="shape", hint="right summed over axes (0,)")
def linear_bias_not_summed(case: Case, dy: Array, x: Array, w: Array, b: Array) -> Any:
    dx, dw, _ = case.backward(dy, x, w, b)
    return dx, dw, dy


# -- masks and local derivatives ----------------------------------------------------------------


@bug(
    DROPOUT,
    verdict="nondeterministic",
    hint="the mask of another call, or draws random numbers",
    memory=lambda: np.random.default_rng(7),
)
def dropout_mask_redrawn(case: Case, rng: np.random.Generator, dy: Array, x: Array) -> Any:
    return np.where(rng.random(x.shape) < 0.6, dy / 0.6, 0)


@bug(DROPOUT, hint="another mask")
def dropout_mask_of_another_seed(case: Case, dy: Array, x: Array) -> Any:
    mask = np.random.default_rng(6).random((4, 6)) < 0.5
    return np.where(mask, dy / 0.6, 0)


@bug(DROPOUT, hint="mask is missing")
def dropout_without_the_mask(case: Case, dy: Array, x: Array) -> Any:
    return dy / 0.6


@bug(RELU, hint="mask is missing")
def relu_without_the_mask(case: Case, dy: Array, x: Array) -> Any:
    return dy


@bug(RELU, hint="another mask")
def relu_masked_by_the_gradient(case: Case, dy: Array, x: Array) -> Any:
    return np.where(dy > 0, dy, 0)


@bug(RELU, hint="mask is too narrow")
def relu_threshold_at_half(case: Case, dy: Array, x: Array) -> Any:
    return np.where(x > 0.5, dy, 0)


@bug(SIGMOID, hint="factor 1 - y is missing")
def sigmoid_without_one_minus_y(case: Case, dy: Array, x: Array) -> Any:
    return dy * (0.5 + 0.5 * np.tanh(x / 2))


@bug(SIGMOID)
def sigmoid_of_the_input(case: Case, dy: Array, x: Array) -> Any:
    return dy * x * (1 - x)


@bug(TANH, hint="dy itself")
def tanh_without_its_derivative(case: Case, dy: Array, x: Array) -> Any:
    return dy


@bug(TANH, hint="-2 times y^2 dy more")
def tanh_with_plus(case: Case, dy: Array, x: Array) -> Any:
    return dy * (1 + np.tanh(x) ** 2)


@bug(SIGMOID, hint="does not depend on dy")
def sigmoid_as_if_dy_were_one(case: Case, dy: Array, x: Array) -> Any:
    y = 0.5 + 0.5 * np.tanh(x / 2)
    return y * (1 - y)


@bug(SOFTMAX, hint="the sum is missing")
def softmax_without_the_sum(case: Case, dy: Array, x: Array) -> Any:
    return case.forward(x) * dy


@bug(SOFTMAX, hint="dy * (y (1 - y))")
def softmax_diagonal_only(case: Case, dy: Array, x: Array) -> Any:
    y = case.forward(x)
    return y * (1 - y) * dy


@bug(LOSS, hint="at axis 1 = labels")
def loss_without_the_label(case: Case, dy: Array, x: Array, labels: Array) -> Any:
    dx = case.backward(dy, x, labels)
    dx[np.arange(5), labels] += dy / 5
    return dx, None


@bug(L2_POOL)
def l2_pool_without_the_root(case: Case, dy: Array, x: Array) -> Any:
    return 2 * x * np.repeat(np.repeat(dy, 2, axis=2), 2, axis=3)


@bug(L2_POOL, hint="factor x is missing")
def l2_pool_without_x(case: Case, dy: Array, x: Array) -> Any:
    return case.backward(dy, x) / x


# -- misbehaviour -------------------------------------------------------------------------------


@bug(L2_POOL_HOLE, verdict="nonfinite", hint="divides 0 by 0")
def l2_pool_nan_in_an_empty_window(case: Case, dy: Array, x: Array) -> Any:
    with np.errstate(divide="ignore", invalid="ignore"):
        share = dy / case.forward(x)
        return x * np.repeat(np.repeat(share, 2, axis=2), 2, axis=3)


@bug(SIGMOID_FAR, verdict="nonfinite", hint="overflows")
def sigmoid_overflows(case: Case, dy: Array, x: Array) -> Any:
    with np.errstate(over="ignore", invalid="ignore"):
        e = np.exp(-x)
        return dy * e / (1 + e) ** 2


@bug(RELU, verdict="mutates-input", hint="work on a copy")
def relu_damages_dy(case: Case, dy: Array, x: Array) -> Any:
    dy *= x > 0
    return dy


@bug(CONV, verdict="mutates-input", hint="work on a copy")
def conv_damages_the_weights(case: Case, dy: Array, x: Array, w: Array, b: Array) -> Any:
    gradients = case.backward(dy, x, w, b)
    w -= 0.1 * gradients[1]
    return gradients


def _relu_in_place(x: Array) -> Array:
    return np.maximum(x, 0, out=x)


@bug(RELU, verdict="mutates-input", hint="work on a copy", forward=_relu_in_place)
def relu_forward_in_place(case: Case, dy: Array, x: Array) -> Any:
    return case.backward(dy, x)


@bug(CONV, verdict="precision", hint="float32")
def conv_accumulates_in_float32(case: Case, dy: Array, x: Array, w: Array, b: Array) -> Any:
    dx, _, db = case.backward(dy, x, w, b)
    dw = case.backward(*(a.astype(np.float32) for a in (dy, x, w, b)))[1]
    return dx, dw.astype(np.float64), db


class _Accumulator:
    """Adds every gradient to the last one, as after a forgotten zero_grad."""

    def __init__(self) -> None:
        self.total: Any = 0.0

    def add(self, dw: Array) -> Array:
        self.total = self.total + dw
        return self.total


@bug(LINEAR, verdict="nondeterministic", hint="adds up from call to call", memory=_Accumulator)
def linear_gradient_accumulates(
    case: Case, total: _Accumulator, dy: Array, x: Array, w: Array, b: Array
) -> Any:
    dx, dw, db = case.backward(dy, x, w, b)
    return dx, total.add(dw), db


class _Previous:
    """Uses the input of the call before."""

    def __init__(self) -> None:
        self.x: Any = None

    def swap(self, x: Array) -> Array:
        before, self.x = (x if self.x is None else self.x), x.copy()
        return before


@bug(TANH, verdict="nondeterministic", hint="values of the call before", memory=_Previous)
def tanh_of_the_call_before(case: Case, previous: _Previous, dy: Array, x: Array) -> Any:
    return case.backward(dy, previous.swap(x))


@bug(LINEAR, verdict="shape", hint="")
def linear_returns_one_gradient_less(case: Case, dy: Array, x: Array, w: Array, b: Array) -> Any:
    return case.backward(dy, x, w, b)[:2]

"""Mistakes planted after the hints were written, in layers as other people write them.

No hint was made for any of them: they measure how the hints generalise. ``hint`` is what is a
right explanation, "" where the checker has none that it should give.
"""

import functools
from typing import Any

import numpy as np

from . import bugs
from .bugs import Array, Bug, Case, _normal

UNSEEN: list[Bug] = []
CASES: list[Case] = []
bug = functools.partial(bugs.bug, bank=UNSEEN)


def _case(forward: Any, backward: Any, inputs: tuple[Array, ...], names: str) -> Case:
    case = Case(forward, backward, inputs, tuple(names.split()))
    CASES.append(case)
    return case


def _sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


# -- attention ----------------------------------------------------------------------------------


def _softmax(x: Array, axis: int = -1) -> Array:
    e = np.exp(x - x.real.max(axis=axis, keepdims=True))
    return e / e.sum(axis=axis, keepdims=True)


def _heads(x: Array) -> Array:
    """(N, T, 2 d) -> (N, 2, T, d)."""
    n, t, d = x.shape
    return x.reshape(n, t, 2, d // 2).transpose(0, 2, 1, 3)


def _merged(x: Array) -> Array:
    n, h, t, d = x.shape
    return x.transpose(0, 2, 1, 3).reshape(n, t, h * d)


def _scores(q: Array, k: Array) -> Array:
    s = np.einsum("nhqd,nhkd->nhqk", q, k) / q.shape[-1] ** 0.5
    return np.where(np.tril(np.ones(s.shape[-2:], dtype=bool)), s, -1e9)


def _self_attention(q: Array, k: Array, v: Array) -> Array:
    return _merged(_softmax(_scores(_heads(q), _heads(k))) @ _heads(v))


def _self_attention_backward(
    dy: Array, q: Array, k: Array, v: Array, axis: int = -1, scale: float = 0.5
) -> Any:
    q, k, v, dy = (_heads(a) for a in (q, k, v, dy))
    p = _softmax(_scores(q, k))
    dp = dy @ np.swapaxes(v, 2, 3)
    ds = p * (dp - (p * dp).sum(axis=axis, keepdims=True)) / q.shape[-1] ** scale
    dq, dk, dv = ds @ k, np.swapaxes(ds, 2, 3) @ q, np.swapaxes(p, 2, 3) @ dy
    return _merged(dq), _merged(dk), _merged(dv)


ATTENTION = _case(
    _self_attention,
    _self_attention_backward,
    tuple(_normal(2, 3, 8, seed=k) for k in (1, 2, 3)),
    "q k v",
)


@bug(ATTENTION)
def self_attention_sum_over_the_queries(case: Case, dy: Array, q: Array, k: Array, v: Array) -> Any:
    dq, _, dv = case.backward(dy, q, k, v)
    return dq, case.backward(dy, q, k, v, axis=-2)[1], dv


@bug(ATTENTION, hint="the right values in the wrong places")
def heads_merged_without_transposing(case: Case, dy: Array, q: Array, k: Array, v: Array) -> Any:
    dq, dk, dv = case.backward(dy, q, k, v)
    return _heads(dq).reshape(dq.shape), dk, dv


@bug(ATTENTION, hint="0.707 times that: a factor that goes with the root")
def attention_divided_by_d(case: Case, dy: Array, q: Array, k: Array, v: Array) -> Any:
    return case.backward(dy, q, k, v, scale=1.0)


@bug(ATTENTION, hint="v: dy is used wrongly at every index but 2 of axis 1")
def causal_mask_forgotten_for_the_values(
    case: Case, dy: Array, q: Array, k: Array, v: Array
) -> Any:
    dq, dk, _ = case.backward(dy, q, k, v)
    s = np.einsum("nhqd,nhkd->nhqk", _heads(q), _heads(k)) / 2
    return dq, dk, _merged(np.swapaxes(_softmax(s), 2, 3) @ _heads(dy))


# -- einsum, bilinear forms, shared weights -------------------------------------------------------

OUTER = _case(
    lambda a, b: np.einsum("i,j->ij", a, b),
    lambda dy, a, b: (dy @ b, a @ dy),
    (_normal(4), _normal(4, seed=1)),
    "a b",
)
BILINEAR = _case(
    lambda x, a, z: np.einsum("ni,ij,nj->n", x, a, z),
    lambda dy, x, a, z: (
        dy[:, None] * (z @ a.T),
        np.einsum("n,ni,nj->ij", dy, x, z),
        dy[:, None] * (x @ a),
    ),
    (_normal(5, 3), _normal(3, 3), _normal(5, 3, seed=1)),
    "x a z",
)
TIED = _case(
    lambda x, w: np.tanh(x @ w) @ w.T,
    lambda dy, x, w: _tied_backward(dy, x, w),
    (_normal(4, 5), _normal(5, 3)),
    "x w",
)


def _tied_backward(dy: Array, x: Array, w: Array, decoder: float = 1.0) -> Any:
    h = np.tanh(x @ w)
    dz = (dy @ w) * (1 - h * h)
    return dz @ w.T, x.T @ dz + decoder * (dy.T @ h)


@bug(OUTER)
def outer_product_summed_over_the_other_axis(case: Case, dy: Array, a: Array, b: Array) -> Any:
    return b @ dy, a @ dy


@bug(BILINEAR, hint="transposed: axes (0, 1)")
def bilinear_form_transposed(case: Case, dy: Array, x: Array, a: Array, z: Array) -> Any:
    dx, da, dz = case.backward(dy, x, a, z)
    return dx, da.T, dz


@bug(BILINEAR, hint="it has a used transposed")
def bilinear_form_as_if_symmetric(case: Case, dy: Array, x: Array, a: Array, z: Array) -> Any:
    _, da, dz = case.backward(dy, x, a, z)
    return dy[:, None] * (z @ a), da, dz


@bug(TIED)
def tied_weights_counted_once(case: Case, dy: Array, x: Array, w: Array) -> Any:
    return _tied_backward(dy, x, w, decoder=0.0)


# -- look-up --------------------------------------------------------------------------------------

_index = np.array([[2, 0, 2], [1, 5, 0]])


def _lookup_backward(dy: Array, table: Array, index: Array, scale: float = 1.0) -> Any:
    d = np.zeros_like(table)
    np.add.at(d, index, dy * scale * table.shape[1] ** 0.5)
    return d, None


LOOKUP = _case(
    lambda table, index: table[index] * table.shape[1] ** 0.5,
    _lookup_backward,
    (_normal(6, 4), _index),
    "table index",
)


@bug(LOOKUP, hint="1/sqrt(4) is too much")
def lookup_without_its_scale(case: Case, dy: Array, table: Array, index: Array) -> Any:
    return case.backward(dy, table, index)[0] / table.shape[1] ** 0.5, None


@bug(LOOKUP, hint="wrong only for what occurs more than once in index")
def lookup_averaged_over_repeats(case: Case, dy: Array, table: Array, index: Array) -> Any:
    d = case.backward(dy, table, index)[0]
    counts = np.bincount(index.reshape(-1), minlength=len(table))
    return d / np.maximum(counts, 1)[:, None], None


@bug(LOOKUP, hint="wrong only at index 0, 2, 5 of axis 0")
def lookup_of_the_first_token_only(case: Case, dy: Array, table: Array, index: Array) -> Any:
    return case.backward(dy[:, :1], table, index[:, :1])[0], None


# -- linear algebra -------------------------------------------------------------------------------


def _upper_solve_backward(dy: Array, u: Array, b: Array) -> Any:
    upper = np.triu(u)
    db = np.linalg.solve(upper.T, dy)
    return -np.triu(db @ np.linalg.solve(upper, b).T), db


UPPER = _case(
    lambda u, b: np.linalg.solve(np.triu(u), b),
    _upper_solve_backward,
    (_normal(3, 3) + 3 * np.eye(3), _normal(3, 2)),
    "u b",
)
INVERSE = _case(
    np.linalg.inv,
    lambda dy, a: -np.linalg.inv(a).T @ dy @ np.linalg.inv(a).T,
    (_normal(3, 3) + 3 * np.eye(3),),
    "a",
)
LOG_DET = _case(
    lambda a: np.log(np.linalg.det(a)),
    lambda dy, a: dy * np.linalg.inv(a).T,
    (_normal(3, 3) + 4 * np.eye(3),),
    "a",
)


@bug(UPPER, hint="sign is flipped")
def upper_solve_minus_forgotten(case: Case, dy: Array, u: Array, b: Array) -> Any:
    du, db = case.backward(dy, u, b)
    return -du, db


@bug(UPPER)
def upper_solve_by_the_lower_triangle(case: Case, dy: Array, u: Array, b: Array) -> Any:
    db = case.backward(dy, u, b)[1]
    return -np.tril(db @ case.forward(u, b).T), db


@bug(INVERSE)
def inverse_not_transposed(case: Case, dy: Array, a: Array) -> Any:
    i = np.linalg.inv(a)
    return -i @ dy @ i


@bug(LOG_DET, hint="transposed: axes (0, 1)")
def log_det_not_transposed(case: Case, dy: Array, a: Array) -> Any:
    return dy * np.linalg.inv(a)


# -- recurrent cells ------------------------------------------------------------------------------


def _rnn(x: Array, h: Array, wx: Array, wh: Array) -> Array:
    """x (T, N, I), h (N, H) -> all states (T, N, H)."""
    states = []
    for t in range(len(x)):
        h = np.tanh(x[t] @ wx + h @ wh)
        states.append(h)
    return np.stack(states)


def _rnn_backward(
    dy: Array,
    x: Array,
    h: Array,
    wx: Array,
    wh: Array,
    through_time: bool = True,
    state: int = 0,
    square: bool = True,
) -> Any:
    states = np.concatenate([h[None], _rnn(x, h, wx, wh)])
    dx, dh, dwx, dwh = np.zeros_like(x), np.zeros_like(h), 0 * wx, 0 * wh
    for t in reversed(range(len(x))):
        y = states[t + 1]
        dz = (dy[t] + through_time * dh) * (1 - (y * y if square else y))
        dx[t], dh = dz @ wx.T, dz @ wh.T
        dwx, dwh = dwx + x[t].T @ dz, dwh + states[t + state].T @ dz
    return dx, dh, dwx, dwh


RNN = _case(
    _rnn,
    _rnn_backward,
    (_normal(3, 2, 4), _normal(2, 3), _normal(4, 3), _normal(3, 3)),
    "x h wx wh",
)


@bug(RNN, hint="h: dy is left out at every index but 0 of axis 0")
def rnn_without_the_gradient_through_time(case: Case, dy: Array, *inputs: Array) -> Any:
    return case.backward(dy, *inputs, through_time=False)


@bug(RNN)
def rnn_weights_by_the_next_state(case: Case, dy: Array, *inputs: Array) -> Any:
    dx, dh, dwx, _ = case.backward(dy, *inputs)
    return dx, dh, dwx, case.backward(dy, *inputs, state=1)[3]


@bug(RNN)
def rnn_tanh_without_the_square(case: Case, dy: Array, *inputs: Array) -> Any:
    return case.backward(dy, *inputs, square=False)


GATE = _case(
    lambda z, n, h: (1 - _sigmoid(z)) * n + _sigmoid(z) * h,
    lambda dy, z, n, h: (
        dy * (h - n) * _sigmoid(z) * (1 - _sigmoid(z)),
        dy * (1 - _sigmoid(z)),
        dy * _sigmoid(z),
    ),
    (_normal(3, 4), _normal(3, 4, seed=1), _normal(3, 4, seed=2)),
    "z n h",
)


@bug(GATE, hint="the order is off")
def gates_swapped(case: Case, dy: Array, z: Array, n: Array, h: Array) -> Any:
    dz, dn, dh = case.backward(dy, z, n, h)
    return dz, dh, dn


@bug(GATE)
def gate_of_one_branch_only(case: Case, dy: Array, z: Array, n: Array, h: Array) -> Any:
    _, dn, dh = case.backward(dy, z, n, h)
    return dy * h * _sigmoid(z) * (1 - _sigmoid(z)), dn, dh


# -- normalisation --------------------------------------------------------------------------------


def _grouped(x: Array) -> Array:
    return x.reshape(x.shape[0], 2, -1)


def _group_norm(x: Array, gamma: Array) -> Array:
    """x (N, 4, L) in 2 groups, gamma (4,)."""
    g = _grouped(x)
    z = g - g.mean(axis=2, keepdims=True)
    z = z / np.sqrt((z * z).mean(axis=2, keepdims=True) + 1e-5)
    return z.reshape(x.shape) * gamma[:, None]


def _group_norm_backward(dy: Array, x: Array, gamma: Array, mean: bool = True) -> Any:
    g = _grouped(x)
    c = g - g.mean(axis=2, keepdims=True)
    s = np.sqrt((c * c).mean(axis=2, keepdims=True) + 1e-5)
    z, dz = c / s, _grouped(dy * gamma[:, None])
    dx = dz - mean * dz.mean(axis=2, keepdims=True) - z * (dz * z).mean(axis=2, keepdims=True)
    return (dx / s).reshape(x.shape), (dy * z.reshape(x.shape)).sum(axis=(0, 2))


GROUP_NORM = _case(_group_norm, _group_norm_backward, (_normal(3, 4, 5), _normal(4)), "x gamma")
RMS_NORM = _case(
    lambda x, g: g * x / np.sqrt((x * x).mean(axis=1, keepdims=True)),
    lambda dy, x, g: _rms_backward(dy, x, g),
    (_normal(4, 5), _normal(5)),
    "x g",
)


def _rms_backward(dy: Array, x: Array, g: Array, length: bool = True) -> Any:
    s = np.sqrt((x * x).mean(axis=1, keepdims=True))
    dz = dy * g
    dx = dz / s - length * x * (dz * x).mean(axis=1, keepdims=True) / s**3
    return dx, (dy * x / s).sum(axis=0)


@bug(GROUP_NORM, hint="a number for each slice along axis 2, as from a sum over it")
def group_norm_without_the_mean_term(case: Case, dy: Array, x: Array, gamma: Array) -> Any:
    return case.backward(dy, x, gamma, mean=False)


@bug(GROUP_NORM, hint="1/5 is too much: a mean instead of a sum")
def group_norm_gamma_averaged_over_space(case: Case, dy: Array, x: Array, gamma: Array) -> Any:
    dx, dgamma = case.backward(dy, x, gamma)
    return dx, dgamma / x.shape[2]


@bug(GROUP_NORM)
def group_norm_gamma_forgotten(case: Case, dy: Array, x: Array, gamma: Array) -> Any:
    return case.backward(dy, x, 0 * gamma + 1)[0], case.backward(dy, x, gamma)[1]


@bug(RMS_NORM, hint="the term of the length is missing")
def rms_norm_without_its_length(case: Case, dy: Array, x: Array, g: Array) -> Any:
    return _rms_backward(dy, x, g, length=False)


# -- convolution transposed, upsampling, pooling --------------------------------------------------


def _conv_transposed(x: Array, w: Array) -> Array:
    """x (N, C, L), w (C, O, K), stride 2 -> (N, O, 2 L + K - 2)."""
    n, _, length = x.shape
    y = np.zeros((n, w.shape[1], 2 * length + w.shape[2] - 2), dtype=np.result_type(x, w))
    for k in range(w.shape[2]):
        y[:, :, k : k + 2 * length - 1 : 2] += np.einsum("ncl,co->nol", x, w[:, :, k])
    return y


def _conv_transposed_backward(
    dy: Array, x: Array, w: Array, step: int = 2, reverse: int = 1
) -> Any:
    dx, dw, length = np.zeros_like(x), np.zeros_like(w), x.shape[2]
    for k in range(w.shape[2]):
        part = dy[:, :, k : k + step * length - step + 1 : step]
        dx += np.einsum("nol,co->ncl", part, w[:, :, ::reverse][:, :, k])
        dw[:, :, k] = np.einsum("nol,ncl->co", part, x)
    return dx, dw


CONV_TRANSPOSED = _case(
    _conv_transposed, _conv_transposed_backward, (_normal(2, 3, 4), _normal(3, 2, 3)), "x w"
)
UPSAMPLE = _case(
    lambda x: np.repeat(x, 3, axis=1),
    lambda dy, x: dy.reshape(*x.shape, 3).sum(axis=2),
    (_normal(4, 5),),
    "x",
)
GLOBAL_MAX = _case(
    lambda x: np.take_along_axis(x, x.real.argmax(axis=1)[:, None], axis=1)[:, 0],
    lambda dy, x: (np.arange(x.shape[1]) == x.argmax(axis=1)[:, None]) * dy[:, None],
    (_normal(5, 5),),
    "x",
)


@bug(CONV_TRANSPOSED, hint="it has w used flipped")
def conv_transposed_with_the_kernel_flipped(case: Case, dy: Array, x: Array, w: Array) -> Any:
    return case.backward(dy, x, w, reverse=-1)[0], case.backward(dy, x, w)[1]


@bug(CONV_TRANSPOSED, hint="dy is used wrongly at every index but 0 of axis 2")
def conv_transposed_without_the_stride(case: Case, dy: Array, x: Array, w: Array) -> Any:
    return case.backward(dy, x, w)[0], case.backward(dy, x, w, step=1)[1]


@bug(UPSAMPLE, hint="0.333333 times what it should be")
def upsampling_averaged(case: Case, dy: Array, x: Array) -> Any:
    return case.backward(dy, x) / 3


@bug(UPSAMPLE, hint="dy is left out at index 1, 2, 4, 5")
def upsampling_takes_every_third(case: Case, dy: Array, x: Array) -> Any:
    return dy[:, ::3]


@bug(GLOBAL_MAX, hint="the right values in the wrong places")
def maximum_along_the_wrong_axis(case: Case, dy: Array, x: Array) -> Any:
    return (np.arange(5)[:, None] == x.argmax(axis=0)) * dy


# -- activations and losses -----------------------------------------------------------------------

SWISH = _case(
    lambda x: x * _sigmoid(x),
    lambda dy, x: dy * (_sigmoid(x) + x * _sigmoid(x) * (1 - _sigmoid(x))),
    (_normal(4, 5),),
    "x",
)
SOFTPLUS = _case(
    lambda x: np.log(1 + np.exp(x)), lambda dy, x: dy * _sigmoid(x), (_normal(4, 5),), "x"
)
PRELU = _case(
    lambda x, a: np.where(x.real > 0, x, a * x),
    lambda dy, x, a: (dy * np.where(x > 0, 1, a), (dy * x * (x < 0)).sum(axis=0)),
    (_normal(6, 4), _normal(4)),
    "x a",
)
_w = np.array([0.5, 2.0, 1.5, 1.0])
WEIGHTED_LOSS = _case(
    lambda x, labels: (
        -np.sum(_w[labels] * np.log(_softmax(x)[np.arange(len(labels)), labels]))
        / np.sum(_w[labels])
    ),
    lambda dy, x, labels: _weighted_backward(dy, x, labels, _w),
    (_normal(5, 4), np.array([0, 2, 1, 3, 1])),
    "x labels",
)
HUBER = _case(
    lambda x, t: np.where(
        np.abs((x - t).real) < 1, (x - t) ** 2 / 2, np.sign((x - t).real) * (x - t) - 0.5
    ),
    lambda dy, x, t: (dy * np.clip(x - t, -1, 1), -dy * np.clip(x - t, -1, 1)),
    (_normal(4, 5), 2 * _normal(4, 5, seed=1)),
    "x t",
)
COSINE = _case(
    lambda a, b: (a * b).sum(axis=1) / np.sqrt((a * a).sum(axis=1) * (b * b).sum(axis=1)),
    lambda dy, a, b: (_cosine_backward(dy, a, b), _cosine_backward(dy, b, a)),
    (_normal(4, 3), _normal(4, 3, seed=1)),
    "a b",
)
DISTANCES = _case(
    lambda x: ((x[:, None] - x[None]) ** 2).sum(axis=2),
    lambda dy, x: 2 * ((dy + dy.T)[:, :, None] * (x[:, None] - x[None])).sum(axis=1),
    (_normal(4, 3),),
    "x",
)


def _huber(e: Array) -> Array:
    return np.where(np.abs(e.real) < 1, e * e / 2, np.sign(e.real) * e - 0.5)


def _weighted_backward(dy: Array, x: Array, labels: Array, w: Array) -> Any:
    d = _softmax(x)
    d[np.arange(len(labels)), labels] -= 1
    return dy * d * w[labels][:, None] / w[labels].sum(), None


def _cosine_backward(dy: Array, a: Array, b: Array) -> Array:
    na, nb = (np.sqrt((v * v).sum(axis=1, keepdims=True)) for v in (a, b))
    c = (a * b).sum(axis=1, keepdims=True) / na / nb
    return dy[:, None] * (b / na / nb - c * a / na**2)


@bug(SWISH)
def swish_as_if_the_gate_were_constant(case: Case, dy: Array, x: Array) -> Any:
    return dy * _sigmoid(x)


@bug(SOFTPLUS)
def softplus_of_minus_x(case: Case, dy: Array, x: Array) -> Any:
    return dy * _sigmoid(-x)


@bug(PRELU)
def prelu_slope_not_masked(case: Case, dy: Array, x: Array, a: Array) -> Any:
    return case.backward(dy, x, a)[0], (dy * x).sum(axis=0)


@bug(WEIGHTED_LOSS)
def class_weights_forgotten(case: Case, dy: Array, x: Array, labels: Array) -> Any:
    return _weighted_backward(dy, x, labels, np.ones(4))


@bug(HUBER)
def huber_not_clipped(case: Case, dy: Array, x: Array, t: Array) -> Any:
    return dy * (x - t), case.backward(dy, x, t)[1]


@bug(COSINE, hint="the term of the length is missing")
def cosine_without_the_length(case: Case, dy: Array, a: Array, b: Array) -> Any:
    na, nb = (np.sqrt((v * v).sum(axis=1, keepdims=True)) for v in (a, b))
    return dy[:, None] * b / na / nb, case.backward(dy, a, b)[1]


@bug(DISTANCES)
def distances_of_one_side_only(case: Case, dy: Array, x: Array) -> Any:
    return 2 * (dy[:, :, None] * (x[:, None] - x[None])).sum(axis=1)

"""Mistakes in layers that this library does not have, written here in plain NumPy.

Importing this file adds them to :data:`bugs.BUGS`, and the right functions to :data:`bugs.CASES`.
"""

from typing import Any

import numpy as np

from .bugs import CASES, Array, Case, _normal, bug

EPS = 0.1  # so large that its place matters


def _case(forward: Any, backward: Any, inputs: tuple[Array, ...], names: str = "x w b") -> Case:
    case = Case(forward, backward, inputs, tuple(names.split()))
    CASES.append(case)
    return case


def _mean(a: Array, axis: int = -1) -> Array:
    return a.mean(axis=axis, keepdims=True)


# -- normalisation ------------------------------------------------------------------------------


def _standardise(x: Array, axis: int = -1) -> tuple[Array, Array]:
    centred = x - _mean(x, axis)
    s = np.sqrt(_mean(centred * centred, axis) + EPS)
    return centred / s, s


def _layer_norm(x: Array, gamma: Array, beta: Array) -> Array:
    return gamma * _standardise(x)[0] + beta


def _layer_norm_backward(
    dy: Array, x: Array, gamma: Array, beta: Array, mean: bool = True, var: bool = True
) -> Any:
    z, s = _standardise(x)
    dz = gamma * dy
    dx = (dz - mean * _mean(dz) - var * z * _mean(dz * z)) / s
    return dx, (dy * z).sum(axis=0), dy.sum(axis=0)


LAYER_NORM = _case(
    _layer_norm, _layer_norm_backward, (_normal(4, 6), _normal(6), _normal(6)), "x gamma beta"
)
PLAIN_NORM = _case(
    lambda x: _standardise(x)[0],
    lambda dy, x: _layer_norm_backward(dy, x, np.ones(6), np.zeros(6))[0],
    (_normal(4, 6, seed=3),),
)
BATCH_NORM = _case(
    lambda x: (x - _mean(x, 0)) / np.sqrt(_mean((x - _mean(x, 0)) ** 2, 0) + 1e-9),
    lambda dy, x: _batch_norm_backward(dy, x),
    (_normal(6, 4),),
)


def _batch_norm_backward(dy: Array, x: Array, mean: bool = True, var: bool = True) -> Array:
    centred = x - _mean(x, 0)
    s = np.sqrt(_mean(centred**2, 0) + 1e-9)
    z = centred / s
    return (dy - mean * _mean(dy, 0) - var * z * _mean(dy * z, 0)) / s


@bug(LAYER_NORM, hint="term of the mean is missing")
def layer_norm_without_the_mean_term(
    case: Case, dy: Array, x: Array, gamma: Array, b: Array
) -> Any:
    return _layer_norm_backward(dy, x, gamma, b, mean=False)


@bug(BATCH_NORM, hint="term of the variance is missing")
def batch_norm_without_the_variance_term(case: Case, dy: Array, x: Array) -> Any:
    return _batch_norm_backward(dy, x, var=False)


@bug(BATCH_NORM, hint="both are missing")
def batch_norm_with_constant_statistics(case: Case, dy: Array, x: Array) -> Any:
    return _batch_norm_backward(dy, x, mean=False, var=False)


@bug(BATCH_NORM, hint="")
def batch_norm_with_the_other_variance(case: Case, dy: Array, x: Array) -> Any:
    centred = x - _mean(x, 0)
    s = np.sqrt((centred**2).sum(axis=0, keepdims=True) / (len(x) - 1))
    z = centred / s
    return (dy - _mean(dy, 0) - z * _mean(dy * z, 0)) / s


@bug(PLAIN_NORM, hint="as an epsilon is")
def layer_norm_epsilon_beside_the_root(case: Case, dy: Array, x: Array) -> Any:
    centred = x - _mean(x)
    s = np.sqrt(_mean(centred**2)) + EPS
    z = centred / s
    return (dy - _mean(dy) - z * _mean(dy * z)) / s


@bug(LAYER_NORM, hint="factor gamma is missing")
def layer_norm_gamma_gradient_of_its_product(
    case: Case, dy: Array, x: Array, gamma: Array, b: Array
) -> Any:
    dx, dgamma, db = case.backward(dy, x, gamma, b)
    return dx, dgamma / gamma, db


@bug(PLAIN_NORM, hint="")
def layer_norm_over_the_wrong_axis(case: Case, dy: Array, x: Array) -> Any:
    z, s = _standardise(x, 0)
    return (dy - _mean(dy, 0) - z * _mean(dy * z, 0)) / s


UNIT = _case(
    lambda x: x / np.sqrt((x * x).sum(axis=1, keepdims=True)),
    lambda dy, x: _unit_backward(dy, x),
    (_normal(4, 5),),
)


def _unit_backward(dy: Array, x: Array) -> Array:
    n = np.sqrt((x * x).sum(axis=1, keepdims=True))
    return dy / n - x * (dy * x).sum(axis=1, keepdims=True) / n**3


@bug(UNIT, hint="term of the length is missing")
def unit_vectors_with_a_constant_length(case: Case, dy: Array, x: Array) -> Any:
    return dy / np.sqrt((x * x).sum(axis=1, keepdims=True))


# -- exponentials -------------------------------------------------------------------------------


def _softmax(x: Array, axis: int = -1) -> Array:
    e = np.exp(x - x.real.max(axis=axis, keepdims=True))
    return e / e.sum(axis=axis, keepdims=True)


def _softmax_backward(dy: Array, x: Array, axis: int = -1) -> Array:
    y = _softmax(x, axis)
    return y * (dy - (y * dy).sum(axis=axis, keepdims=True))


_masked = _normal(4, 5)
_masked[0, 1] = _masked[2, 3:] = -np.inf
MASKED_SOFTMAX = _case(_softmax, _softmax_backward, (_masked,))
SQUARE_SOFTMAX = _case(_softmax, _softmax_backward, (_normal(4, 4),))
LOG_SOFTMAX = _case(
    lambda x: x - _logsumexp(x)[..., None],
    lambda dy, x: dy - _softmax(x) * dy.sum(axis=-1, keepdims=True),
    (_normal(5, 4),),
)


def _logsumexp(x: Array) -> Array:
    top = x.real.max(axis=-1, keepdims=True)
    return np.log(np.exp(x - top).sum(axis=-1)) + top[..., 0]


LOGSUMEXP = _case(_logsumexp, lambda dy, x: dy[:, None] * _softmax(x), (_normal(5, 4),))


@bug(MASKED_SOFTMAX, hint="the sum is missing")
def masked_softmax_without_the_sum(case: Case, dy: Array, x: Array) -> Any:
    return _softmax(x) * dy


@bug(MASKED_SOFTMAX, verdict="nonfinite", hint="return 0, as for what is masked")
def masked_softmax_of_the_logits(case: Case, dy: Array, x: Array) -> Any:
    return _softmax_backward(dy, x) + 0 * x


@bug(SQUARE_SOFTMAX, hint="sum runs over axis 0, expected axis 1")
def softmax_sum_over_the_wrong_axis(case: Case, dy: Array, x: Array) -> Any:
    y = _softmax(x)
    return y * (dy - (y * dy).sum(axis=0, keepdims=True))


@bug(LOG_SOFTMAX, hint="the sum is missing")
def log_softmax_without_the_sum(case: Case, dy: Array, x: Array) -> Any:
    return dy


@bug(LOGSUMEXP, hint="")
def logsumexp_over_the_wrong_axis(case: Case, dy: Array, x: Array) -> Any:
    return dy[:, None] * _softmax(x, 0)


@bug(LOGSUMEXP, verdict="shape", hint="")
def logsumexp_not_broadcast(case: Case, dy: Array, x: Array) -> Any:
    return dy * _softmax(x).sum(axis=1)


# -- attention: softmax(q k^T / sqrt(d)) v --------------------------------------------------------


def _attention(q: Array, k: Array, v: Array) -> Array:
    return _softmax(q @ np.swapaxes(k, 1, 2) / q.shape[2] ** 0.5) @ v


def _attention_backward(dy: Array, q: Array, k: Array, v: Array, with_sum: bool = True) -> Any:
    scale = 1 / q.shape[2] ** 0.5
    p = _softmax(q @ np.swapaxes(k, 1, 2) * scale)
    dp = dy @ np.swapaxes(v, 1, 2)
    ds = p * (dp - with_sum * (dp * p).sum(axis=-1, keepdims=True)) * scale
    return ds @ k, np.swapaxes(ds, 1, 2) @ q, np.swapaxes(p, 1, 2) @ dy


ATTENTION = _case(
    _attention,
    _attention_backward,
    (_normal(2, 3, 4), _normal(2, 5, 4), _normal(2, 5, 3)),
    "q k v",
)


@bug(ATTENTION, hint="1/sqrt(4) is missing")
def attention_query_without_the_scale(case: Case, dy: Array, q: Array, k: Array, v: Array) -> Any:
    dq, dk, dv = case.backward(dy, q, k, v)
    return dq * q.shape[2] ** 0.5, dk, dv


@bug(ATTENTION, hint="1/sqrt(4) is too much")
def attention_key_scaled_twice(case: Case, dy: Array, q: Array, k: Array, v: Array) -> Any:
    dq, dk, dv = case.backward(dy, q, k, v)
    return dq, dk / q.shape[2] ** 0.5, dv


@bug(ATTENTION, hint="")
def attention_softmax_without_the_sum(case: Case, dy: Array, q: Array, k: Array, v: Array) -> Any:
    return _attention_backward(dy, q, k, v, with_sum=False)


@bug(ATTENTION, hint="")
def attention_values_by_the_scores(case: Case, dy: Array, q: Array, k: Array, v: Array) -> Any:
    dq, dk, _ = case.backward(dy, q, k, v)
    return dq, dk, k @ np.swapaxes(q, 1, 2) @ dy


# -- look-up, einsum, depthwise ------------------------------------------------------------------


def _embedding_backward(dy: Array, table: Array, index: Array) -> Any:
    dtable = np.zeros_like(table)
    np.add.at(dtable, index, dy)
    return dtable, None


EMBEDDING = _case(
    lambda table, index: table[index],
    _embedding_backward,
    (_normal(7, 3), np.array([1, 4, 1, 0, 5])),
    "table index",
)


@bug(EMBEDDING, hint="occurs more than once in index")
def embedding_repeated_rows_overwritten(case: Case, dy: Array, table: Array, index: Array) -> Any:
    dtable = np.zeros_like(table)
    dtable[index] = dy
    return dtable, None


@bug(EMBEDDING, hint="shifted by 1 along axis 0")
def embedding_off_by_one(case: Case, dy: Array, table: Array, index: Array) -> Any:
    return case.backward(dy, table, index + 1)


@bug(EMBEDDING, hint="first index (0) of axis 0; it is zero there")
def embedding_row_zero_as_padding(case: Case, dy: Array, table: Array, index: Array) -> Any:
    dtable, _ = case.backward(dy, table, index)
    dtable[0] = 0
    return dtable, None


EINSUM = _case(
    lambda a, b: np.einsum("bij,bjk->bik", a, b),
    lambda dy, a, b: (np.einsum("bik,bjk->bij", dy, b), np.einsum("bij,bik->bjk", a, dy)),
    (_normal(2, 3, 3), _normal(2, 3, 3, seed=1)),
    "a b",
)


@bug(EINSUM, hint="b used transposed")
def einsum_label_swapped(case: Case, dy: Array, a: Array, b: Array) -> Any:
    return np.einsum("bik,bkj->bij", dy, b), case.backward(dy, a, b)[1]


@bug(EINSUM, verdict="shape", hint="")
def einsum_label_summed(case: Case, dy: Array, a: Array, b: Array) -> Any:
    return np.einsum("bik,bjk->ij", dy, b), case.backward(dy, a, b)[1]


def _depthwise(x: Array, w: Array) -> Array:
    n = x.shape[2] - w.shape[1] + 1
    return sum(x[:, :, k : k + n] * w[:, k, None] for k in range(w.shape[1]))


def _depthwise_backward(dy: Array, x: Array, w: Array) -> Any:
    n = dy.shape[2]
    dx, dw = np.zeros_like(x), np.zeros_like(w)
    for k in range(w.shape[1]):
        dx[:, :, k : k + n] += dy * w[:, k, None]
        dw[:, k] = (dy * x[:, :, k : k + n]).sum(axis=(0, 2))
    return dx, dw


DEPTHWISE = _case(_depthwise, _depthwise_backward, (_normal(2, 3, 7), _normal(3, 3)))


@bug(DEPTHWISE, hint="flipped: axes (1,)")
def depthwise_kernel_flipped(case: Case, dy: Array, x: Array, w: Array) -> Any:
    dx, dw = case.backward(dy, x, w)
    return dx, dw[:, ::-1]


@bug(DEPTHWISE, hint="every index but 0 of axis 1")
def depthwise_first_kernel_for_all(case: Case, dy: Array, x: Array, w: Array) -> Any:
    return case.backward(dy, x, np.repeat(w[:1], 3, axis=0))[0], case.backward(dy, x, w)[1]


# -- linear algebra, broadcasting, reductions -----------------------------------------------------


def _solve_backward(dy: Array, a: Array, b: Array) -> Any:
    lower = np.tril(a)
    db = np.linalg.solve(lower.T, dy)
    return -np.tril(np.outer(db, np.linalg.solve(lower, b))), db


SOLVE = _case(
    lambda a, b: np.linalg.solve(np.tril(a), b),
    _solve_backward,
    (_normal(4, 4) + 4 * np.eye(4), _normal(4)),
    "a b",
)


@bug(SOLVE, hint="elements that have none")
def triangular_solve_gradient_above_the_diagonal(case: Case, dy: Array, a: Array, b: Array) -> Any:
    db = np.linalg.solve(np.tril(a).T, dy)
    return -np.outer(db, np.linalg.solve(np.tril(a), b)), db


@bug(SOLVE, hint="")
def triangular_solve_not_transposed(case: Case, dy: Array, a: Array, b: Array) -> Any:
    return case.backward(dy, a, b)[0], np.linalg.solve(np.tril(a), dy)


SCALE = _case(
    lambda x, w: x * w,
    lambda dy, x, w: (dy * w, (dy * x).sum(axis=0)),
    (_normal(4, 3), _normal(3)),
)
ROWS = _case(
    lambda x, w: x * w,
    lambda dy, x, w: (dy * w, (dy * x).sum(axis=1, keepdims=True)),
    (_normal(4, 4), _normal(4, 1)),
)


@bug(SCALE, verdict="shape", hint="broadcasting was not undone")
def scale_not_summed(case: Case, dy: Array, x: Array, w: Array) -> Any:
    return dy * w, dy * x


@bug(ROWS, hint="dy x summed over axes (0,), expected (1,)")
def rows_summed_over_the_wrong_axis(case: Case, dy: Array, x: Array, w: Array) -> Any:
    return dy * w, (dy * x).sum(axis=0)[:, None]


CUMSUM = _case(
    lambda x: np.cumsum(x, axis=1),
    lambda dy, x: np.cumsum(dy[:, ::-1], axis=1)[:, ::-1],
    (_normal(3, 5),),
)
RESIDUAL = _case(
    lambda x: x + np.tanh(x), lambda dy, x: dy * (2 - np.tanh(x) ** 2), (_normal(4, 5),)
)
COMPLEX = _case(
    lambda x, w: x * x * w,
    lambda dy, x, w: (dy * np.conj(2 * x * w), dy * np.conj(x * x)),
    (_normal(3, 2) + 1j * _normal(3, 2, seed=1), _normal(3, 2) + 1j * _normal(3, 2, seed=2)),
)


@bug(CUMSUM, hint="")
def cumsum_not_reversed(case: Case, dy: Array, x: Array) -> Any:
    return np.cumsum(dy, axis=1)


@bug(RESIDUAL, hint="1 times dy more")
def residual_branch_forgotten(case: Case, dy: Array, x: Array) -> Any:
    return dy * (1 - np.tanh(x) ** 2)


@bug(COMPLEX, hint="right for x conjugated: it has x used conjugated")
def complex_conjugate_forgotten(case: Case, dy: Array, x: Array, w: Array) -> Any:
    return dy * 2 * x * np.conj(w), case.backward(dy, x, w)[1]


@bug(SCALE, hint="wrong at (2, 1) alone")
def scale_one_element_wrong(case: Case, dy: Array, x: Array, w: Array) -> Any:
    dx, dw = case.backward(dy, x, w)
    dx[2, 1] *= 1.5
    return dx, dw


# -- memory ---------------------------------------------------------------------------------------


@bug(ROWS, hint="flipped: axes (0,) run backwards")
def rows_in_the_wrong_order(case: Case, dy: Array, x: Array, w: Array) -> Any:
    dx, dw = case.backward(dy, x, w)
    return dx[::-1], dw


SQUARES = _case(
    lambda x, w: x * x + 3 * w,
    lambda dy, x, w: (2 * x * dy, 3 * dy),
    (_normal(3, 4), _normal(3, 4, seed=1)),
)


@bug(SQUARES, hint="same memory as the gradient of w")
def one_buffer_for_two_gradients(case: Case, dy: Array, x: Array, w: Array) -> Any:
    buffer = 2 * x * dy
    dx = buffer
    np.multiply(dy, 3, out=buffer)
    return dx, buffer


class _Mask:
    """Drops elements by the mask that the call before has drawn."""

    def __init__(self) -> None:
        self.calls, self.mask = 0, np.ones((4, 6), dtype=bool)

    def swap(self) -> Array:
        before, self.calls = self.mask, self.calls + 1
        self.mask = np.random.default_rng(self.calls).random((4, 6)) < 0.5
        return before


DROP = _case(
    lambda x: np.where(np.random.default_rng(5).random((4, 6)) < 0.5, x, 0 * x),
    lambda dy, x: np.where(np.random.default_rng(5).random((4, 6)) < 0.5, dy, 0),
    (_normal(4, 6, seed=2),),
)


@bug(DROP, verdict="nondeterministic", hint="the mask of another call", memory=_Mask)
def dropout_mask_of_the_call_before(case: Case, mask: _Mask, dy: Array, x: Array) -> Any:
    return np.where(mask.swap(), dy, 0)

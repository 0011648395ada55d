"""Normalisations: literals worked out by hand, their invariances, and error messages."""

import re
from typing import Any

import numpy as np
import pytest

from tinyconv.errors import DtypeError, ShapeError
from tinyconv.ops import (
    batch_norm,
    batch_norm_backward,
    group_norm,
    group_norm_backward,
    layer_norm,
    layer_norm_backward,
    local_response_norm,
    local_response_norm_backward,
)


def test_batch_norm_by_hand() -> None:
    # Channel 0 holds 1 and 5: m = 3, v = 4, z = -1, 1. Channel 1 holds 2 and 2: z = 0, 0.
    x = np.array([[1.0, 2.0], [5.0, 2.0]])
    y, saved = batch_norm(x, np.array([3.0, 7.0]), np.array([10.0, 20.0]), eps=1e-300)
    np.testing.assert_array_equal(y, [[7, 20], [13, 20]])
    np.testing.assert_array_equal(saved.mean, [3, 2])
    np.testing.assert_array_equal(saved.var, [4, 0])


def test_batch_norm_backward_by_hand() -> None:
    # z = -1, 0, 1 times sqrt(3/2) with m = 2, v = 2/3. For dy = 0, 3, 0: mean(dz) = 1 and
    # mean(z dz) = 0, so dx = (-1, 2, -1) / sqrt(2/3).
    x = np.array([[1.0], [2.0], [3.0]])
    _, saved = batch_norm(x, b=np.array([0.0]), eps=0.0)
    dx, dw, db = batch_norm_backward(np.array([[0.0], [3.0], [0.0]]), saved)
    np.testing.assert_allclose(dx, np.array([[-1], [2], [-1]]) / np.sqrt(2 / 3), rtol=1e-15)
    assert dw is None
    np.testing.assert_array_equal(db, [3])


def test_batch_norm_by_given_statistics() -> None:
    x = np.array([[1.0, 2.0], [5.0, 2.0]])
    mean, var = np.array([1.0, 0.0]), np.array([4.0, 16.0])
    y, saved = batch_norm(x, np.array([3.0, 1.0]), None, mean, var, eps=0.0)
    np.testing.assert_array_equal(y, [[0, 0.5], [6, 0.5]])
    dx, dw, db = batch_norm_backward(np.array([[2.0, 8.0], [4.0, 0.0]]), saved)
    np.testing.assert_array_equal(dx, [[2 * 3 / 2, 8 / 4], [4 * 3 / 2, 0]])
    np.testing.assert_array_equal(dw, [2 * 0 + 4 * 2, 8 * 0.5])
    assert db is None


def test_given_the_statistics_of_the_batch_the_result_is_the_same() -> None:
    x = np.random.default_rng(0).normal(size=(5, 3, 4, 2))
    y, saved = batch_norm(x)
    np.testing.assert_allclose(batch_norm(x, mean=saved.mean, var=saved.var)[0], y, atol=1e-14)
    np.testing.assert_allclose(saved.mean, x.mean((0, 2, 3)), atol=1e-15)
    np.testing.assert_allclose(saved.var, x.var((0, 2, 3)), rtol=1e-14)


def test_layer_norm_by_hand() -> None:
    # Sample 0: m = 2, v = 1; sample 1: m = 0, v = 9.
    x = np.array([[1.0, 3.0], [-3.0, 3.0]])
    y, saved = layer_norm(x, 2, np.array([10.0, 1.0]), np.array([0.0, 5.0]), eps=0.0)
    np.testing.assert_array_equal(y, [[-10, 6], [-10, 6]])
    _, dw, db = layer_norm_backward(np.array([[1.0, 2.0], [4.0, 8.0]]), saved)
    np.testing.assert_array_equal(dw, [-1 - 4, 2 + 8])
    np.testing.assert_array_equal(db, [5, 10])


def test_group_norm_by_hand() -> None:
    # Group 0 is channels 0 and 1, 1 and 3: m = 2, v = 1; group 1 is -2, 6: m = 2, v = 16.
    x = np.array([[[1.0], [3.0], [-2.0], [6.0]]])
    w, b = np.array([1.0, 2.0, 3.0, 4.0]), np.array([0.0, 0.0, 10.0, 0.0])
    y, saved = group_norm(x, 2, w, b, eps=0.0)
    np.testing.assert_array_equal(y, [[[-1], [2], [7], [4]]])
    dx, dw, db = group_norm_backward(np.array([[[1.0], [1.0], [2.0], [4.0]]]), saved)
    np.testing.assert_array_equal(dw, [-1, 1, -2, 4])
    np.testing.assert_array_equal(db, [1, 1, 2, 4])
    # Two elements of a group are always -1 and 1 once normalised: nothing changes that.
    np.testing.assert_array_equal(dx, np.zeros_like(x))


def test_the_three_agree_where_they_meet() -> None:
    x = np.random.default_rng(0).normal(size=(2, 4, 3, 5))
    whole = group_norm(x, 1)[0]
    np.testing.assert_allclose(whole, layer_norm(x, (4, 3, 5))[0], atol=1e-14)
    # Instance normalisation of one sample is batch normalisation of a batch of one.
    np.testing.assert_allclose(group_norm(x[:1], 4)[0], batch_norm(x[:1])[0], atol=1e-14)


def test_local_response_norm_by_hand() -> None:
    # Squares 1 4 9 16, three channels a sum: 5, 14, 29, 25; base = 1 + 3/3 of that.
    x = np.array([[1.0, 2.0, 3.0, 4.0]])
    y, _ = local_response_norm(x, 3, alpha=3.0, beta=1.0)
    np.testing.assert_allclose(y, [[1 / 6, 2 / 15, 3 / 30, 4 / 26]], rtol=1e-15)
    # Two channels a sum, c - 1 and c: 1, 5, 13, 25.
    y, saved = local_response_norm(x, 2, alpha=2.0, beta=1.0)
    np.testing.assert_allclose(y, [[1 / 2, 2 / 6, 3 / 14, 4 / 26]], rtol=1e-15)
    # y_3 = x_3 / (1 + x_2^2 + x_3^2): its slopes are -2 x_2 x_3 / 26^2 and (26 - 2 x_3^2) / 26^2.
    dx = local_response_norm_backward(np.array([[0.0, 0.0, 0.0, 676.0]]), saved)
    np.testing.assert_allclose(dx, [[0, 0, -24, -6]], rtol=1e-13)


def bad(op: Any, message: str, *arguments: Any, **options: Any) -> None:
    with pytest.raises(ShapeError, match="^" + re.escape(f"{op.__name__}: {message}") + "$"):
        op(*arguments, **options)


def test_bad_batch_norm() -> None:
    x, three = np.zeros((2, 4, 5)), np.zeros(3)
    bad(batch_norm, "x has shape (2,), expected (N, C, *size)", np.zeros(2))
    for name in ("w", "b"):
        bad(batch_norm, f"{name} has shape (3,), expected (4,)", x, **{name: three})
    four = np.zeros(4)
    bad(batch_norm, "mean has shape (3,), expected (4,)", x, mean=three, var=four)
    bad(batch_norm, "var has shape (3,), expected (4,)", x, mean=four, var=three)
    bad(batch_norm, "mean is given and var is not, expected both or none", x, mean=four)
    bad(batch_norm, "var is given and mean is not, expected both or none", x, var=four)
    with pytest.raises(DtypeError, match=r"^batch_norm: w has dtype float32, expected float64"):
        batch_norm(x, four.astype("float32"))


@pytest.mark.parametrize("shape", [5, (2, 5), (), (1, 2, 4, 5), (5, 0)])
def test_bad_layer_norm_shape(shape: Any) -> None:
    bad(
        layer_norm,
        f"normalized_shape is {shape!r}, expected the last axes of x, which has shape (2, 4, 6)",
        np.zeros((2, 4, 6)),
        shape,
    )


def test_bad_layer_and_group_norm() -> None:
    x, three = np.zeros((2, 4, 5)), np.zeros(3)
    for name in ("w", "b"):
        bad(layer_norm, f"{name} has shape (3,), expected (5,)", x, 5, **{name: three})
        bad(group_norm, f"{name} has shape (3,), expected (4,)", x, 2, **{name: three})
    for groups in (3, 0, 2.0):
        bad(group_norm, f"num_groups is {groups}, expected a divisor of C=4", x, groups)
    for shape in [(2,), (2, 4, 0)]:
        message = f"x has shape {shape}, expected (N, C, *size) with elements"
        bad(group_norm, message, np.zeros(shape), 1)


def test_bad_local_response_norm() -> None:
    bad(local_response_norm, "x has shape (2,), expected (N, C, *size)", np.zeros(2), 3)
    message = "size is 0, expected an integer of at least 1"
    bad(local_response_norm, message, np.zeros((2, 3)), 0)

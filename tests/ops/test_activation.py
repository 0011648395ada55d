"""Activations at points worked out by hand and at the ends of the number line."""

import numpy as np

from tinyconv import ops


def test_relu_by_hand() -> None:
    y, saved = ops.relu(np.array([-2.0, -0.0, 0.0, 3.0]))
    np.testing.assert_array_equal(y, [0, 0, 0, 3])
    np.testing.assert_array_equal(
        ops.relu_backward(np.array([5.0, 6.0, 7.0, 8.0]), saved), [0, 0, 0, 8]
    )


def test_sigmoid_by_hand() -> None:
    # sigmoid(log 3) = 1 / (1 + 1/3) = 3/4, and its slope is 3/4 * 1/4 = 3/16.
    y, saved = ops.sigmoid(np.log([3.0, 1 / 3, 1.0]))
    np.testing.assert_allclose(y, [3 / 4, 1 / 4, 1 / 2], rtol=1e-15)
    dx = ops.sigmoid_backward(np.array([16.0, -16.0, 4.0]), saved)
    np.testing.assert_allclose(dx, [3, -3, 1], rtol=1e-15)


def test_tanh_by_hand() -> None:
    # tanh(log 2) = (2 - 1/2) / (2 + 1/2) = 3/5, and its slope is 1 - 9/25 = 16/25.
    y, saved = ops.tanh(np.log([2.0, 0.5]))
    np.testing.assert_allclose(y, [3 / 5, -3 / 5], rtol=1e-15)
    dx = ops.tanh_backward(np.array([25.0, 50.0]), saved)
    np.testing.assert_allclose(dx, [16, 32], rtol=1e-15)


def test_squashing_overflows_nowhere() -> None:
    far = np.array([-np.inf, -1e308, 1e308, np.inf])
    np.testing.assert_array_equal(ops.sigmoid(far)[0], [0, 0, 1, 1])
    np.testing.assert_array_equal(ops.tanh(far)[0], [-1, -1, 1, 1])

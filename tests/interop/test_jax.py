"""Our operations in JAX's programs."""

from typing import Any

import numpy as np
import pytest

from tinyconv import ops
from tinyconv.interop import jax as tjax

pytestmark = pytest.mark.oracle


@pytest.fixture(scope="module")
def jax() -> Any:
    return pytest.importorskip("jax")


def test_gradients_are_those_of_jaxs_own_convolution(jax: Any) -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, 3, 6, 5)).astype(np.float32)
    w = rng.normal(size=(4, 3, 3, 2)).astype(np.float32)
    conv = tjax.function(ops.conv2d, ops.conv2d_backward, stride=2)

    def theirs(x: Any, w: Any) -> Any:
        return jax.lax.conv(x, w, (2, 2), "VALID")

    for wrap in (lambda f: f, jax.jit):
        found = wrap(jax.grad(lambda x, w: (conv(x, w) ** 3).sum(), argnums=(0, 1)))(x, w)
        expected = jax.grad(lambda x, w: (theirs(x, w) ** 3).sum(), argnums=(0, 1))(x, w)
        for one, other in zip(found, expected, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-3)


def test_it_is_mapped_over_an_axis(jax: Any) -> None:
    x = np.random.default_rng(0).normal(size=(3, 2, 4)).astype(np.float32)
    relu = tjax.function(ops.relu, ops.relu_backward)
    np.testing.assert_array_equal(jax.vmap(relu)(x), np.maximum(x, 0))


@pytest.mark.parametrize("kind", ["labels", "probabilities"])
def test_what_has_no_gradient_stands_beside_what_has_one(jax: Any, kind: str) -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(5, 4)).astype(np.float32)
    soft = rng.dirichlet(np.ones(4), 5).astype(np.float32)
    targets = soft if kind == "probabilities" else np.argmax(soft, axis=1)
    ours = tjax.function(ops.cross_entropy, ops.cross_entropy_backward)
    taken = targets if kind == "probabilities" else np.eye(4)[targets]

    def theirs(x: Any) -> Any:
        return -(jax.nn.log_softmax(x) * taken).sum(axis=1).mean()

    for wrap in (lambda f: f, jax.jit):
        found = wrap(jax.grad(ours))(x, targets)
        np.testing.assert_allclose(found, jax.grad(theirs)(x), rtol=1e-5, atol=1e-7)
    if kind == "probabilities":  # asked for all the same, and not to be taken for 0
        assert np.isnan(
            jax.grad(tjax.function(ops.mse_loss, ops.mse_loss_backward), 1)(x, soft)
        ).all()
    else:
        mask = x > 0
        dropout = tjax.function(ops.dropout, ops.dropout_backward, p=0.5)
        np.testing.assert_array_equal(jax.grad(lambda x: dropout(x, mask).sum())(x), 2.0 * mask)

"""A step of a plan on the emulated GPU against the same step of the layers."""

from typing import Any

import numpy as np
import pytest
from emulator import Emulator, needs_compiler
from nets import NETS, started

import tinyconv as tc
from tinyconv import layers, optimizers
from tinyconv.engines.base import Totals
from tinyconv.engines.eager import EagerEngine
from tinyconv.engines.gpu.backend import GpuBackend, GpuTraining
from tinyconv.engines.gpu.update_rule import KERNELS
from tinyconv.engines.plan import Plan
from tinyconv.layers import LAYERS, Chain, Flatten, Linear, Pad
from tinyconv.losses import CrossEntropyLoss, Targets
from tinyconv.metrics import Accuracy
from tinyconv.testing.examples import LAYER_EXAMPLES

Array = np.ndarray[Any, Any]

pytestmark = needs_compiler

#: What runs by the layers' own methods.
WITHOUT_KERNELS = {"LocalHalf"}


def make(name: str, samples: int) -> tuple[tc.Sequential, tc.Sequential, Array, Array]:
    shape, make_layers = NETS[name]
    nets = [tc.Sequential(make_layers(), seed=3, input_shape=shape) for _ in range(2)]
    for net in nets:
        net.parameters.flat[...] = np.random.default_rng(4).normal(0, 0.2, net.parameters.flat.size)
    rng = np.random.default_rng(5)
    x = rng.normal(size=(samples, *shape)).astype(np.float32)
    K, *positions = nets[0].output_shape(shape)
    return nets[0], nets[1], x, rng.integers(0, K, (samples, *positions))


def training(net: tc.Sequential, order: int, batch: int, shape: Any) -> tuple[GpuTraining, Plan]:
    engine = started(net, tc.SGD(lr=1.0), [Accuracy()])  # so that the step is the gradient
    backend = GpuTraining(Emulator(order), engine, shape, batch)
    return backend, Plan(net, shape, backend)


@pytest.mark.parametrize(
    ("name", "order"),
    [
        pytest.param(name, order, marks=[pytest.mark.slow] if (place + order) % 2 else [])
        for place, name in enumerate(NETS)
        for order in (0, 3)
    ],
)
def test_a_full_and_a_short_batch(name: str, order: int) -> None:
    """From buffers and gradients full of NaN, with threads and blocks in either order.

    Every other net forwards, the rest backwards; with ``-m slow`` the other way around.
    """
    batch = 5
    net, other, x, labels = make(name, 2 * batch)
    y, shape = Targets(labels), x.shape[1:]
    backend, plan = training(net, order, batch, shape)
    eager = EagerEngine(other)
    eager.start_training(CrossEntropyLoss(), tc.SGD(lr=1.0), [Accuracy()])
    permuted = np.random.default_rng(6).permutation(2 * batch)
    for step, index in enumerate((permuted[:batch], permuted[: batch // 2 + 1])):
        before = net.parameters.flat.copy()
        other.parameters.flat[...] = before
        net.parameters.flat_grad[...] = np.nan
        eager.start_epoch(Totals())
        backend.set_sums(Totals())
        backend.poison()
        backend.program.run(backend.set_batch(x, y, index, step, 1.0))
        eager.train_step(x, y, index, step, 1.0)
        assert backend.first_refused() is None
        totals, expected = backend.sums(), eager.totals()
        assert totals.sums == pytest.approx(expected.sums, rel=1e-5, abs=1e-6)
        assert totals.samples == expected.samples
        assert totals.divisor == pytest.approx(expected.divisor)
        for key, value in other.state.items():
            np.testing.assert_allclose(net.state[key], value, rtol=1e-4, atol=1e-5, err_msg=key)
        for key, gradient in other.parameters.grads.items():
            scale = max(float(np.abs(gradient).max()), 0.05)
            np.testing.assert_allclose(
                net.parameters.grads[key], gradient, rtol=0, atol=1e-5 * scale, err_msg=key
            )
        np.testing.assert_array_equal(net.parameters.flat, before - net.parameters.flat_grad)
    own = [step.layer for step in plan.steps if step.unit.kind == "plain"]
    assert {type(layer).__name__ for layer in own} <= WITHOUT_KERNELS


@pytest.mark.parametrize("name", NETS)
def test_prediction(name: str) -> None:
    net, _, x, _ = make(name, 5)
    shape = x.shape[1:]
    backend = GpuBackend(Emulator(), net.parameters, shape, 5)
    Plan(net, shape, backend)
    for n in (5, 2, 2):
        backend.poison()
        out = backend.predict(x[:n])
        np.testing.assert_allclose(out, net.forward(x[:n]), rtol=1e-4, atol=1e-5)


def test_the_units_of_a_plan_can_be_listed() -> None:
    net, _, x, _ = make("layers without kernels among the others", 1)
    backend = GpuBackend(Emulator(), net.parameters, x.shape[1:], 1)
    plan = Plan(net, x.shape[1:], backend)
    assert str(plan).startswith("0 LocalHalf  (by its own methods)\n1 Conv2d + ReLU\n")
    assert not plan.is_compiled


@pytest.mark.parametrize("name", LAYER_EXAMPLES)
def test_every_exported_layer_has_kernels(name: str) -> None:
    arguments, (_, *shape) = LAYER_EXAMPLES[name]
    stack = [LAYERS.make(name, arguments), Flatten(), Linear(None, 3)]
    net = tc.Sequential(stack, input_shape=tuple(shape), seed=0)
    _, plan = training(net, 0, 2, tuple(shape))
    assert plan.is_compiled
    assert "by its own methods" not in str(plan)


def test_the_examples_are_all_exported_layers() -> None:
    # What holds other layers is in the nets above.
    holders = {"Layer", "Container", "Chain", "Residual", "Parallel"}
    assert set(layers.__all__) - holders == set(LAYER_EXAMPLES)


def test_every_exported_optimizer_has_a_kernel() -> None:
    kinds = {kind for kind in vars(optimizers).values() if isinstance(kind, type)}
    exported = {kind for kind in kinds if issubclass(kind, tc.Optimizer)}
    assert exported - {tc.Optimizer} == set(KERNELS)


def test_images_of_more_axes_than_kernels_know_are_padded_by_the_layer() -> None:
    net = tc.Sequential([Pad(1), Flatten(), Linear(None, 3)], input_shape=(1, 2, 2, 2, 2), seed=0)
    backend, plan = training(net, 0, 2, (1, 2, 2, 2, 2))
    assert str(plan).startswith("0 Pad  (by its own methods)\n")
    assert not backend.program.is_compiled


@pytest.mark.parametrize("name", NETS)
def test_frozen_layers_stay_as_they_are(name: str) -> None:
    """Every second layer that has parameters or statistics."""
    net, other, x, labels = make(name, 4)
    for each in (net, other):
        for leaf in [leaf for leaf in each.walk() if leaf.params or leaf.state][::2]:
            leaf.trainable = False
        each.refresh()
    if not net.parameters.flat.size:
        return
    backend, plan = training(net, 0, 4, x.shape[1:])
    eager = EagerEngine(other)
    eager.start_training(CrossEntropyLoss(), tc.SGD(lr=1.0), [])
    index, y = np.arange(4), Targets(labels)
    backend.poison()
    backend.program.run(backend.set_batch(x, y, index, 0, 1.0))
    eager.train_step(x, y, index, 0, 1.0)
    assert backend.first_refused() is None
    for key, value in other.state_dict().items():
        np.testing.assert_allclose(net.state_dict()[key], value, rtol=1e-4, atol=2e-5, err_msg=key)
    own = {type(step.layer).__name__ for step in plan.steps if step.unit.kind == "plain"}
    assert own <= WITHOUT_KERNELS


def test_gradients_of_a_users_chain_are_clipped_with_the_others() -> None:
    """A layer that runs by its own methods makes no sums of squares."""

    class OwnChain(Chain):
        pass

    net, other = (
        tc.Sequential([Linear(5, 4), OwnChain([Linear(4, 4)]), Linear(4, 3)], seed=1)
        for _ in range(2)
    )
    rule = tc.SGD(lr=1.0, clip_norm=0.01)
    backend = GpuTraining(Emulator(), started(net, rule), (5,), 4)
    Plan(net, (5,), backend)
    eager = started(other, rule)
    x, y = (
        np.random.default_rng(0).normal(size=(4, 5)).astype(np.float32),
        Targets(np.arange(4) % 3),
    )
    backend.program.run(backend.set_batch(x, y, np.arange(4), 0, 1.0))
    eager.train_step(x, y, np.arange(4), 0, 1.0)
    np.testing.assert_allclose(net.parameters.flat, other.parameters.flat, atol=1e-6)

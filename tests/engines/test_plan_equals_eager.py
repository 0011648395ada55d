"""A step of the plan against the same step of the layers, from buffers full of NaN."""

import ctypes
import mmap
import sys
from typing import Any

import numpy as np
import pytest
from nets import NETS, started

import tinyconv as tc
from tinyconv.engines.base import Totals
from tinyconv.engines.cpu import backend as cpu_backend
from tinyconv.engines.cpu import linear_step
from tinyconv.engines.cpu.backend import CpuBackend, CpuTraining
from tinyconv.engines.plan import Plan
from tinyconv.engines.plan_engine import PlanEngine
from tinyconv.layers import Layer
from tinyconv.losses import Targets
from tinyconv.metrics import Accuracy

Array = np.ndarray[Any, Any]


def make(name: str, samples: int) -> tuple[tc.Sequential, tc.Sequential, Array, Array]:
    shape, layers = NETS[name]
    nets = [tc.Sequential(layers(), seed=3, input_shape=shape) for _ in range(2)]
    rng = np.random.default_rng(4)
    for net in nets:
        net.parameters.flat[...] = rng.normal(0, 0.2, net.parameters.flat.size)
        rng = np.random.default_rng(4)
    x = np.random.default_rng(5).normal(size=(samples, *shape)).astype(np.float32)
    y = rng.integers(0, nets[0].output_shape(shape)[0], samples)
    return nets[0], nets[1], x, y


def compare(name: str, batch: int, threads: int, frozen: slice = slice(0)) -> None:
    net, other, x, labels = make(name, 2 * batch)
    for each in (net, other):
        for leaf in [leaf for leaf in each.walk() if leaf.params or leaf.state][frozen]:
            leaf.trainable = False
        each.refresh()
    p = net.parameters
    still = {key: array.copy() for key, array in p.values.items() if key not in p.grads}
    y = Targets(labels)
    rule = tc.SGD(lr=1.0)  # so that the step is the gradient
    shape = x.shape[1:]
    plan = CpuTraining(started(net, rule, [Accuracy()]), shape, batch, threads)
    Plan(net, shape, plan)
    eager = started(other, rule, [Accuracy()])
    index = np.random.default_rng(6).permutation(2 * batch)
    for step, picked in enumerate((index[:batch], index[: batch // 2 + 1])):
        before = net.parameters.flat.copy()
        other.parameters.flat[...] = before
        eager.start_epoch(Totals())
        plan.poison()
        assert plan.run(plan.set_batch(x, y, picked, step, 1.0))
        taken = plan.take_sums().sums
        eager.train_step(x, y, picked, step, 1.0)
        expected = eager.totals().sums
        assert taken["loss"] == pytest.approx(expected["loss"], rel=1e-5, abs=1e-6)
        assert taken["accuracy"] == pytest.approx(expected["accuracy"])
        for key, value in other.state.items():
            np.testing.assert_allclose(net.state[key], value, rtol=1e-4, atol=1e-5, err_msg=key)
        for parameter, gradient in other.parameters.grads.items():
            start = gradient.ctypes.data - other.parameters.flat_grad.ctypes.data
            where = slice(start // 4, start // 4 + gradient.size)
            step_taken = (before - net.parameters.flat)[where].reshape(gradient.shape)
            scale = max(float(np.abs(gradient).max()), 0.05)
            np.testing.assert_allclose(
                step_taken, gradient, rtol=0, atol=1e-5 * scale, err_msg=parameter
            )
        for parameter, value in still.items():
            np.testing.assert_array_equal(p.values[parameter], value)


@pytest.mark.parametrize("name", NETS)
def test_a_full_and_a_short_batch(name: str) -> None:
    compare(name, batch=7, threads=2)


@pytest.mark.parametrize("name", NETS)
def test_layers_between_trained_ones_are_frozen(name: str) -> None:
    """The first one is trained, so gradients pass through all others."""
    compare(name, batch=7, threads=2, frozen=slice(1, None, 2))


@pytest.mark.parametrize("name", ["mean before and after an activation", "in one dimension"])
@pytest.mark.parametrize("frozen", [slice(1), slice(-1), slice(-1, None)])
def test_the_first_or_last_layers_are_frozen(name: str, frozen: slice) -> None:
    compare(name, batch=7, threads=2, frozen=frozen)


@pytest.mark.parametrize("threads", [1, 3, 5])
@pytest.mark.parametrize("name", list(NETS)[:1] + list(NETS)[3:4])
def test_any_number_of_threads(name: str, threads: int) -> None:
    compare(name, batch=4, threads=threads)


@pytest.mark.parametrize("name", ["linear layers of odd sizes", "dropout of vectors and images"])
@pytest.mark.parametrize("batch", [1, 13, 150])
def test_linear_layers_shared_out_by_features(
    name: str, batch: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(linear_step, "SHARED_WEIGHT", 0)
    compare(name, batch=batch, threads=2)


@pytest.mark.parametrize("name", NETS)
def test_prediction(name: str) -> None:
    net, _, x, _ = make(name, 9)
    backend = CpuBackend(net.parameters, x.shape[1:], 9, 2)
    Plan(net, x.shape[1:], backend)
    for n in (9, 4):
        backend.poison()
        out = backend.predict(x[:n])
        np.testing.assert_allclose(out, net.forward(x[:n]), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", NETS)
def test_prediction_with_buffers_for_few_samples(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As for large images. Those that meet others of the batch need buffers for all."""
    monkeypatch.setattr(cpu_backend, "BLOCK_BYTES", 0)
    net, _, x, _ = make(name, 9)
    backend = CpuBackend(net.parameters, x.shape[1:], 9, 1)
    Plan(net, x.shape[1:], backend)
    at_once = backend.best_at_once
    assert at_once < 9 or not backend.program.is_by_samples
    backend = CpuBackend(net.parameters, x.shape[1:], 9, 1, at_once)
    Plan(net, x.shape[1:], backend)
    for n in (9, 4):
        backend.poison()
        net.parameters.flat *= 0.9
        out = backend.predict(x[:n])
        np.testing.assert_allclose(out, net.forward(x[:n]), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("is_tracked", [True, False])
def test_buffers_of_a_prediction_are_for_as_many_as_may_be_parted(is_tracked: bool) -> None:
    norm = tc.BatchNorm2d(8, track_running_stats=is_tracked)
    net = tc.Sequential([tc.Conv2d(1, 8, 3), tc.GlobalMaxPool(), norm], input_shape=(1, 200, 200))
    x = np.random.default_rng(0).normal(size=(6, 1, 200, 200)).astype(np.float32)
    engine = PlanEngine(net)
    np.testing.assert_allclose(engine.logits(x, 6), net.forward(x), rtol=1e-4, atol=1e-5)
    few = min(6, tc.get_num_threads())
    assert engine._plan.backend.context.batch == (few if is_tracked else 6)


def before_a_guard(x: Array) -> Array:
    """Return a copy of x behind which no number can be read: the process would end."""
    libc, page = ctypes.CDLL(None), mmap.PAGESIZE
    size = (x.nbytes + page - 1) // page * page
    memory = np.frombuffer(mmap.mmap(-1, size + page), np.uint8)
    assert libc.mprotect(ctypes.c_void_p(memory.ctypes.data + size), page, 0) == 0
    copy = memory[size - x.nbytes : size].view(x.dtype).reshape(x.shape)
    copy[...] = x
    return copy


@pytest.mark.skipif(sys.platform != "linux", reason="protects memory by Linux's function")
@pytest.mark.parametrize("samples", [1, 7, 40])
def test_a_prediction_reads_the_samples_and_nothing_else(
    samples: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(linear_step, "SHARED_WEIGHT", 0)
    net, _, x, _ = make("linear layers of odd sizes", samples)
    expected = net.forward(x)
    for threads in (1, 2):
        backend = CpuBackend(net.parameters, x.shape[1:], 40, threads)
        Plan(net, x.shape[1:], backend)
        out = backend.predict(before_a_guard(x))
        np.testing.assert_allclose(out, expected, rtol=1e-4, atol=1e-5)


def test_a_container_of_one_branch_is_its_branch() -> None:
    alone = tc.layers.Parallel([tc.Linear(4, 5)], join="concat")
    net = tc.Sequential([alone, tc.ReLU(), tc.layers.Parallel([[tc.Linear(5, 3)]])])
    x = np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32)
    plan = Plan(net, (4,), CpuBackend(net.parameters, (4,), 6, 1))
    assert str(plan) == "0.0 Linear + ReLU\n2.0.0 Linear"
    np.testing.assert_allclose(net.logits(x), net.forward(x), rtol=1e-5, atol=1e-6)


def test_the_first_of_equal_maxima_gets_the_gradient() -> None:
    """All weights equal and a constant image: every position of every window ties."""
    layers = [tc.Conv2d(1, 2, 3), tc.MaxPool2d(2), tc.Flatten(), tc.Linear(8, 2)]
    nets = [tc.Sequential(layers, seed=0, input_shape=(1, 6, 6))]
    nets.append(
        tc.Sequential(
            [tc.Conv2d(1, 2, 3), tc.MaxPool2d(2), tc.Flatten(), tc.Linear(8, 2)],
            seed=0,
            input_shape=(1, 6, 6),
        )
    )
    ramp = np.zeros((1, 1, 6, 6), np.float32)
    ramp[..., 0, :] = 1  # so that it matters which position of the first windows won
    for net in nets:
        net.parameters.values["0.weight"][...] = 0
        net.parameters.values["0.bias"][...] = 0.5
    for net, engine in zip(nets, ("plan", "eager"), strict=True):
        net.fit(ramp, np.array([0]), engine=engine, optimizer=tc.SGD(lr=1.0), verbose=False)
    plan, eager = (net.parameters.values["0.weight"] for net in nets)
    assert np.abs(eager).max() > 0.01
    np.testing.assert_allclose(plan, eager, atol=1e-6)


def test_l2_pooling_of_zeros_has_no_gradient() -> None:
    layers = [tc.Conv2d(1, 2, 3), tc.L2Pool2d(2), tc.Flatten(), tc.Linear(8, 2)]
    net = tc.Sequential(layers, seed=0, input_shape=(1, 6, 6))
    net.parameters.values["0.bias"][...] = 0
    before = net.parameters.values["0.weight"].copy()
    net.fit(np.zeros((2, 1, 6, 6), np.float32), np.array([0, 1]), verbose=False)
    np.testing.assert_array_equal(net.parameters.values["0.weight"], before)


def test_the_units_of_a_plan_can_be_listed() -> None:
    net, _, x, _ = make("layers without kernels among the others", 1)
    plan = Plan(net, x.shape[1:], CpuBackend(net.parameters, x.shape[1:], 1, 1))
    assert str(plan) == (
        "0 LocalHalf  (by its own methods)\n"
        "1 Conv2d + ReLU\n"
        "3.body.0 Conv2d + ReLU\n"
        "3 Residual\n"
        "4.0 Conv2d + ReLU\n"
        "5 Flatten\n"
        "6 Linear"
    )
    assert not plan.is_compiled


def test_a_refused_step_of_the_plan_leaves_running_statistics() -> None:
    net = tc.Sequential([tc.BatchNorm1d(3), tc.Linear(3, 2)], seed=0, input_shape=(3,))
    x, y = np.ones((4, 3), np.float32), np.array([0, 1, 1, 0])
    before = {name: value.copy() for name, value in net.state_dict().items()}
    x[2, 1] = np.nan
    shape = x.shape[1:]
    plan = CpuTraining(started(net, tc.SGD(lr=1.0)), shape, 4, 2)
    Plan(net, shape, plan)
    plan.run(plan.set_batch(x, Targets(y), np.arange(4), 0, 1.0))
    for name, value in net.state_dict().items():
        np.testing.assert_array_equal(value, before[name])


@pytest.mark.parametrize("engine", ["plan", "eager"])
def test_one_sample_has_no_statistics_in_training(engine: str) -> None:
    net = tc.Sequential([tc.BatchNorm1d(3), tc.Linear(3, 2)], seed=0, input_shape=(3,))
    with pytest.raises(tc.ShapeError, match="x has shape \\(1, 3\\), expected more than one"):
        net.fit(np.ones((1, 3), np.float32), np.array([0]), engine=engine, verbose=False)


@pytest.mark.parametrize("engine", ["plan", "eager"])
def test_a_lone_last_sample_has_no_statistics_of_its_own(engine: str) -> None:
    layers = [tc.BatchNorm1d(3, track_running_stats=False), tc.Linear(3, 2)]
    net = tc.Sequential(layers, seed=0, input_shape=(3,))
    x = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
    net.predict(x, batch_size=3)
    with pytest.raises(tc.ShapeError, match="expected more than one element a channel"):
        net.predict(x, batch_size=4)


@pytest.mark.parametrize(
    ("pool", "joined"),
    [
        (tc.MaxPool2d(3), True),
        (tc.MaxPool2d((5, 2)), False),
        (tc.AvgPool2d(4), True),
        (tc.AvgPool2d((17, 1)), False),
        (tc.MaxPool2d(2, stride=1), False),
        (tc.MaxPool2d(2, padding=1), False),
    ],
)
def test_a_convolution_takes_in_what_fits(pool: Layer, joined: bool) -> None:
    """Windows side by side, of 9 positions for a maximum and 16 numbers for a mean at most."""
    net = tc.Sequential([tc.Conv2d(1, 2, 3), pool], seed=0, input_shape=(1, 20, 20))
    assert len(Plan(net, (1, 20, 20), CpuBackend(net.parameters, (1, 20, 20), 1, 1)).steps) == (
        1 if joined else 2
    )


@pytest.mark.parametrize(("groups", "steps"), [(1, 1), (2, 1), (32, 2)])
def test_a_mean_is_not_joined_to_groups_of_few_channels(groups: int, steps: int) -> None:
    """They are one product without it."""
    shape, layers = (32, 6, 6), [tc.Conv2d(32, 32, 3, groups=groups), tc.AvgPool2d(2)]
    net = tc.Sequential(layers, seed=0, input_shape=shape)
    assert len(Plan(net, shape, CpuBackend(net.parameters, shape, 1, 1)).steps) == steps


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
@pytest.mark.parametrize(
    "layers",
    [
        lambda: [tc.Conv3d(16, 16, 3, padding=1), tc.ReLU()],
        lambda: [tc.Conv3d(16, 16, 3, padding=1, groups=2)],
        lambda: [tc.Conv3d(16, 16, 3, padding=1, groups=16)],
        lambda: [tc.Conv3d(16, 16, 3, padding=1), tc.MaxPool3d(2)],
    ],
)
def test_zeros_around_an_image_times_an_infinite_weight_are_nan(layers: Any, value: float) -> None:
    """A plan leaves out what falls on padding, if it can."""
    net = tc.Sequential(layers(), seed=0, input_shape=(16, 4, 4, 4))
    net.parameters.flat[[0, 3000 % net.parameters.flat.size]] = value
    x = np.random.default_rng(0).normal(size=(5, 16, 4, 4, 4)).astype(np.float32)
    with np.errstate(invalid="ignore"):
        expected = net.forward(x)
    assert np.isnan(expected).any()
    np.testing.assert_allclose(net.logits(x), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("value", [np.inf, np.nan])
@pytest.mark.parametrize("activations", [(), (tc.ReLU,)])
def test_what_a_mean_leaves_out_has_to_be_finite(activations: Any, value: float) -> None:
    """Behind a convolution: its weights' gradient is a sum of products with that and zeros."""
    x = np.random.default_rng(0).random((4, 1, 6, 5), np.float32)
    x[1, 0, 5, 4] = value
    for engine in ("plan", "eager"):
        layers = [tc.Conv2d(1, 3, 3, padding=1), *[make() for make in activations]]
        layers += [tc.AvgPool2d(3), tc.Flatten(), tc.Linear(3 * 2, 2)]
        net = tc.Sequential(layers, seed=0, input_shape=(1, 6, 5))
        with pytest.raises(tc.NonFiniteError, match="the loss is finite, and the gradient of 0"):
            net.fit(x, np.arange(4) % 2, batch_size=4, engine=engine, verbose=False)


def test_what_dropout_drops_may_be_nan_or_infinite() -> None:
    for layers, shape in (
        (lambda: [tc.Dropout(0.5), tc.Linear(8, 3)], (8,)),
        (lambda: [tc.Dropout(0.5), tc.Conv2d(2, 1, 1), tc.Flatten()], (2, 2, 3)),
    ):
        net, other = (tc.Sequential(layers(), seed=3, input_shape=shape) for _ in range(2))
        x = np.random.default_rng(5).normal(size=(6, *shape)).astype(np.float32)
        is_dropped = net.layers[0].forward(np.ones_like(x), training=True, step=4) == 0
        x[is_dropped] = np.resize([np.nan, np.inf], is_dropped.sum())
        y, rule = Targets(np.zeros(6, int)), tc.SGD(lr=1.0)
        plan = CpuTraining(started(net, rule), shape, 6, 2)
        Plan(net, shape, plan)
        assert plan.run(plan.set_batch(x, y, np.arange(6), 4, 1.0))
        eager = started(other, rule)
        eager.start_epoch(Totals())
        eager.train_step(x, y, np.arange(6), 4, 1.0)
        np.testing.assert_allclose(net.parameters.flat, other.parameters.flat, atol=1e-6)

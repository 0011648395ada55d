"""A step that cannot be taken leaves everything as it was, with one text for both engines."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from nets import started

import tinyconv as tc
from tinyconv.engines.choose import engine_for
from tinyconv.engines.cpu.backend import CpuTraining
from tinyconv.engines.plan import Plan
from tinyconv.layers import Place
from tinyconv.losses import CrossEntropyLoss, Targets

Array = np.ndarray[Any, Any]


class Tripled(tc.layers.Layer):
    """A layer of a user's that counts its training passes."""

    def config(self) -> dict[str, Any]:
        return {}

    def output_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return shape

    def state_values(self) -> dict[str, Array]:
        return {"passes": np.zeros((), np.int64)}

    def compute(self, x: Any, training: bool, step: int) -> tuple[Any, Any]:
        self.state["passes"][...] += training
        return 3 * x, None

    def compute_backward(self, dy: Any, saved: Any) -> tuple[Any, dict[str, Any]]:
        return 3 * dy, {}


def net_with_statistics() -> tc.Sequential:
    layers = [
        tc.Conv2d(1, 3, 3),
        tc.BatchNorm2d(3),
        tc.ReLU(),
        Tripled(),
        tc.Flatten(),
        tc.Linear(48, 3),
    ]
    return tc.Sequential(layers, seed=0, input_shape=(1, 6, 6))


def samples(count: int) -> tuple[Array, Array]:
    rng = np.random.default_rng(1)
    return rng.normal(size=(count, 1, 6, 6)).astype(np.float32), rng.integers(0, 3, count)


def fitted(net: tc.Sequential, engine: str, x: Array, y: Array, **options: Any) -> str:
    """The text of the error that fit raises."""
    with pytest.raises(tc.NonFiniteError) as error:
        net.fit(x, y, engine=engine, verbose=False, **options)
    return str(error.value)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("count", [2, 20])
def test_statistics_and_parameters_are_those_before_the_step(bad: float, count: int) -> None:
    """The second batch of two, or of the first epoch of more, holds the bad number."""
    x, y = samples(count)
    x[count // 2, 0, 3, 3] = bad
    batch = -(-count // 2)
    texts = []
    for engine in ("plan", "eager"):
        net, good = net_with_statistics(), net_with_statistics()
        if batch > 1:
            good.fit(x[:batch], y[:batch], engine=engine, verbose=False, shuffle=False,
                     batch_size=batch)  # fmt: skip
        texts.append(fitted(net, engine, x, y, shuffle=False, batch_size=batch if batch > 1 else 2))
        for name, array in good.state_dict().items():
            np.testing.assert_array_equal(net.state_dict()[name], array, err_msg=name)
    assert texts[0] == texts[1]
    assert "the input of the network holds values" in texts[0]


@pytest.mark.parametrize("engine", ["plan", "eager"])
@pytest.mark.parametrize("optimizer", [tc.Adam(lr=0.1), tc.SGD(lr=0.1, clip_norm=1.0)], ids=str)
def test_a_gradient_that_is_not_finite_is_refused_before_the_update(
    engine: str, optimizer: Any
) -> None:
    """The loss is 1e20; the gradient of the first weight is 1e20 times the input, 1e30."""
    net = tc.Sequential([tc.Linear(1, 1, bias=False), tc.Linear(1, 2, bias=False)], seed=0)
    net.parameters.flat[...] = [1e-30, 1e20, -1e20]
    before = net.parameters.flat.copy()
    executing = engine_for(net, engine)
    executing.start_training(CrossEntropyLoss(), optimizer)
    state = {name: array.copy() for name, array in executing.optimizer_state.items()}
    x, y = np.full((2, 1), 1e30, np.float32), np.array([1, 1])
    with pytest.raises(tc.NonFiniteError, match=r"finite, and the gradient of 0.weight is not$"):
        executing.train_step(x, Targets(y), np.arange(2), 0, 0.1)
    np.testing.assert_array_equal(net.parameters.flat, before)
    for name, array in state.items():
        np.testing.assert_array_equal(executing.optimizer_state[name], array)
    assert executing.totals().samples == 0


@pytest.mark.parametrize(
    ("make", "shape"),
    [
        (lambda: tc.Linear(2, 2), (2,)),
        (lambda: tc.LayerNorm(2), (2,)),
        (lambda: tc.LayerNorm((2, 2, 2)), (2, 2, 2)),
    ],
    ids=["linear", "norm", "norm of images"],
)
def test_a_gradient_counts_behind_the_slope_of_the_activation(
    make: Callable[[], tc.Layer], shape: tuple[int, ...]
) -> None:
    """1e20 comes to units that are dead, and goes no further."""
    layers = [make(), tc.ReLU(), tc.Flatten(), tc.Linear(None, 2)]
    net = tc.Sequential(layers, seed=0, input_shape=shape)
    net[0].params["bias"][...] = -10
    net[3].params["weight"][...] = [[1e20], [-1e20]]
    plan = CpuTraining(started(net, tc.SGD(lr=0.1)), shape, 3, 2)
    Plan(net, shape, plan)
    x = np.random.default_rng(0).normal(size=(3, *shape)).astype(np.float32)
    assert plan.run(plan.set_batch(x, Targets(np.array([0, 1, 1])), np.arange(3), 0, 0.1))


def test_the_reach_by_hand() -> None:
    """Behind a LeakyReLU logits of ln 3 and 0, and of -ln 3 and 0, one of each label."""
    layers = [tc.Linear(1, 1, bias=False), tc.LeakyReLU(10.0), tc.Linear(1, 2, bias=False)]
    net = tc.Sequential(layers, seed=0, input_shape=(1,))
    net.parameters.flat[...] = [1, np.log(3), 0]
    plan = CpuTraining(started(net, tc.SGD(lr=0.1)), (1,), 2, 1)
    Plan(net, (1,), plan)
    x, y = np.array([[1], [-0.1]], np.float32), Targets(np.array([0, 0]))
    assert plan.run(plan.set_batch(x, y, np.arange(2), 0, 0.1))
    # Of the mean over two samples dlogits are -1/8 and 1/8, then -3/8 and 3/8, and dz behind the
    # slopes of 1 and 10.
    of_last = (1 + 1) * 2 / 8 + (1 + 1) * 6 / 8
    of_first = (1 + 1) * np.log(3) / 8 + (1 + 0.1) * 10 * np.log(3) * 3 / 8
    assert plan.sums[0, 1] == pytest.approx(of_last + of_first, rel=1e-5)


@pytest.mark.parametrize("engine", ["plan", "eager"])
def test_the_next_step_is_as_if_the_refused_one_had_not_been(engine: str) -> None:
    x, y = samples(4)
    net, other = net_with_statistics(), net_with_statistics()
    executing = [engine_for(each, engine) for each in (net, other)]
    for each in executing:
        each.start_training(CrossEntropyLoss(), tc.Adam(lr=0.01))
    broken = x.copy()
    broken[2] = np.nan
    with pytest.raises(tc.NonFiniteError):
        executing[0].train_step(broken, Targets(y), np.arange(4), 0, 0.01)
    for each in executing:
        each.train_step(x, Targets(y), np.arange(4), 0, 0.01)
    for name, array in other.state_dict().items():
        np.testing.assert_array_equal(net.state_dict()[name], array, err_msg=name)
    assert executing[0].totals() == executing[1].totals()


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e25])
def test_large_and_dropped_values_train_in_both_engines_alike(value: float) -> None:
    """What dropout drops reaches nothing; 1e25 is more than the kernels vouch for."""
    x = np.ones((6, 40), np.float32)
    x[:, ::2] = value
    nets = [tc.Sequential([tc.Dropout(0.5), tc.Linear(40, 3)], seed=2) for _ in range(2)]
    kept = tc.Dropout(0.5)
    kept._bind(Place("0", 2), {}, {})
    x = np.where(kept.forward(np.ones_like(x), True, 0) > 0, np.float32(1), x)
    for net, engine in zip(nets, ("plan", "eager"), strict=True):
        net.fit(x, np.arange(6) % 3, engine=engine, verbose=False, shuffle=False)
    np.testing.assert_allclose(nets[0].parameters.flat, nets[1].parameters.flat, rtol=1e-5)


def test_profiling_does_not_hide_the_error() -> None:
    x, y = samples(4)
    assert "epoch 1, batch 1" in fitted(net_with_statistics(), "plan", x * np.nan, y, profile=True)


@pytest.mark.parametrize(
    "optimizer",
    [tc.SGD(lr=0.1, momentum=0.9), tc.Adam(lr=0.1), tc.AdamW(lr=0.1), tc.RMSProp(lr=0.1),
     tc.Adagrad(lr=0.1)],
    ids=str,
)  # fmt: skip
def test_a_net_of_one_parameter(optimizer: Any) -> None:
    """The arrays that an optimizer counts steps in are of the size of its other arrays."""
    x, y = np.ones((3, 1), np.float32), np.full((3, 1), 2, np.float32)
    nets = [tc.Sequential([tc.Linear(1, 1, bias=False)], seed=0) for _ in range(2)]
    for net, engine in zip(nets, ("plan", "eager"), strict=True):
        net.fit(x, y, engine=engine, optimizer=optimizer, loss="mse", verbose=False)
    np.testing.assert_allclose(nets[0].parameters.flat, nets[1].parameters.flat, rtol=1e-6)


@pytest.mark.parametrize("dtype", [np.int64, np.int32, np.uint8])
def test_labels_count_as_they_are_when_a_batch_begins(dtype: Any) -> None:
    x = np.random.default_rng(0).normal(size=(20, 4)).astype(np.float32)

    class Relabel(tc.training.Callback):
        def __init__(self, y: Array) -> None:
            self.y = y

        def on_batch_end(self, training: Any) -> None:
            self.y[...] = 2

    nets, histories = [], []
    for engine in ("plan", "eager"):
        y = np.zeros(20, dtype)
        nets.append(tc.Sequential([tc.Linear(4, 3)], seed=0))
        histories.append(
            nets[-1].fit(x, y, engine=engine, verbose=False, callbacks=[Relabel(y)], epochs=2)
        )
    np.testing.assert_allclose(nets[0].parameters.flat, nets[1].parameters.flat, atol=1e-6)
    assert histories[0]["loss"] == pytest.approx(histories[1]["loss"], rel=1e-5)
    assert histories[0]["accuracy"] == histories[1]["accuracy"]


@pytest.mark.parametrize("engine", ["plan", "eager"])
def test_the_sums_that_an_engine_gives_are_a_copy(engine: str) -> None:
    net = tc.Sequential([tc.Linear(4, 3)], seed=0)
    executing = engine_for(net, engine)
    executing.start_training(CrossEntropyLoss(), tc.SGD(lr=0.1))
    x, y = np.ones((4, 4), np.float32), np.zeros(4, int)
    executing.train_step(x, Targets(y), np.arange(2), 0, 0.1)
    first = executing.totals()
    executing.train_step(x, Targets(y), np.arange(4), 1, 0.1)
    assert (first.samples, executing.totals().samples) == (2, 6)


class Own(tc.layers.Chain):
    """A chain of a user's: no plan looks inside."""


@pytest.mark.parametrize("engine", ["plan", "eager"])
def test_the_first_layer_that_cannot_take_a_batch_is_the_one_that_is_named(engine: str) -> None:
    """The second batch is one sample, which no batch norm takes; the layer before it has run."""
    layers = [Tripled(), Own([tc.BatchNorm1d(2)]), tc.Linear(2, 3), tc.BatchNorm1d(3)]
    net = tc.Sequential(layers, seed=0, input_shape=(2,))
    x = np.random.default_rng(0).normal(size=(3, 2)).astype(np.float32)
    with pytest.raises(tc.ShapeError, match=r"BatchNorm1d: x has shape \(1, 2\)"):
        net.fit(x, np.arange(3), batch_size=2, engine=engine, verbose=False)
    state = net.state_dict()
    counts = [state["0.passes"], state["1.0.num_batches_tracked"], state["3.num_batches_tracked"]]
    assert counts == [1, 1, 1]


def test_so_it_is_in_a_prediction() -> None:
    norms = [tc.BatchNorm1d(size, track_running_stats=False) for size in (2, 3)]
    layers = [Own([norms[0]]), tc.Linear(2, 3), norms[1]]
    net = tc.Sequential(layers, seed=0, input_shape=(2,))
    with pytest.raises(tc.ShapeError, match=r"BatchNorm1d: x has shape \(1, 2\)"):
        net.predict(np.ones((1, 2), np.float32))

"""Training and prediction through the engine of the GPU, on the emulator, against the layers."""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from emulator import Emulator, needs_compiler
from nets import started

import tinyconv as tc
from tinyconv.data import ByteImages
from tinyconv.engines.base import Totals
from tinyconv.engines.eager import EagerEngine
from tinyconv.engines.gpu import loss_step
from tinyconv.engines.gpu.backend import GpuTraining
from tinyconv.engines.gpu.engine import GpuEngine
from tinyconv.engines.plan import Plan
from tinyconv.layers import Layer
from tinyconv.losses import Loss, Targets
from tinyconv.metrics import (
    Accuracy,
    FromFunction,
    MeanAbsoluteError,
    MeanSquaredError,
    Metric,
    TopK,
)
from tinyconv.random import key, permutation

Array = np.ndarray[Any, Any]

pytestmark = needs_compiler
GPU_PAGE = Path(__file__).parents[2] / "benchmarks" / "GPU.md"


def small_net(seed: int = 1, image: int = 8) -> tc.Sequential:
    side = (image - 2) // 2
    layers: list[Layer] = [
        tc.Conv2d(1, 4, 3),
        tc.MaxPool2d(2),
        tc.ReLU(),
        tc.Dropout(0.25),
        tc.Flatten(),
        tc.Linear(4 * side * side, 12),
        tc.Tanh(),
        tc.Dropout(0.5),
        tc.Linear(12, 3),
    ]
    return tc.Sequential(layers, seed=seed, input_shape=(1, image, image))


def samples(count: int, image: int = 8) -> tuple[Array, Array]:
    rng = np.random.default_rng(2)
    return rng.random((count, 1, image, image), np.float32), rng.integers(0, 3, count)


def trained(
    engine: Any,
    x: Any,
    y: Targets,
    steps: int,
    loss: Loss,
    rule: tc.Optimizer,
    metrics: Sequence[Metric] = (),
    batch: int = 5,
    sharing: Any = None,
) -> Totals:
    """Epochs over x in an order of their own, the last batch of each of which is short."""
    engine.sharing = sharing
    engine.start_training(loss, rule, metrics)
    engine.start_epoch(Totals())
    step, S = 0, len(y)
    while step < steps:
        order = np.random.default_rng(step).permutation(S)
        for first in range(0, S, batch):
            engine.train_step(x, y, order[first : first + batch], step, rule.lr)
            step += 1
    return engine.totals()


def compare(
    nets: list[tc.Sequential],
    x: Any,
    y: Targets,
    loss: Loss,
    rule: tc.Optimizer,
    metrics: Sequence[Metric] = (),
    steps: int = 20,
) -> Emulator:
    launcher = Emulator()
    gpu = trained(GpuEngine(nets[0], launcher), x, y, steps, loss, rule, metrics)
    eager = trained(EagerEngine(nets[1]), x, y, steps, loss, rule, metrics)
    assert gpu.samples == pytest.approx(eager.samples)
    assert list(gpu.sums) == list(eager.sums)
    assert gpu.means() == pytest.approx(eager.means(), rel=1e-4)
    for name, value in nets[1].state_dict().items():
        np.testing.assert_allclose(
            nets[0].state_dict()[name], value, rtol=0, atol=2e-5 * np.abs(value).max() + 1e-6
        )
    return launcher


RULES = [
    tc.SGD(lr=0.05),
    tc.SGD(lr=0.03, momentum=0.9, nesterov=True, weight_decay=1e-2),
    tc.SGD(lr=0.05, momentum=0.5, clip_norm=0.1),
    tc.Adam(lr=0.003, weight_decay=1e-2, eps=1e-3),
    tc.AdamW(lr=0.003, weight_decay=0.1, eps=1e-3),
    tc.Adagrad(lr=0.02, eps=1e-3),
    tc.RMSProp(lr=0.001, eps=1e-3),
    tc.RMSProp(lr=0.001, momentum=0.5, centered=True, weight_decay=1e-3, eps=1e-3),
]


@pytest.mark.parametrize("rule", RULES, ids=repr)
def test_twenty_steps_of_every_optimizer_with_dropout(rule: tc.Optimizer) -> None:
    x, y = samples(18)
    compare([small_net(), small_net()], x, Targets(y), tc.CrossEntropyLoss(), rule, [Accuracy()])


WEIGHTED = tc.CrossEntropyLoss([0.5, 2.0, 1.0], ignore_index=1, label_smoothing=0.1)
LOSSES: list[tuple[Loss, list[str]]] = [
    (WEIGHTED, ["labels", "weighted", "soft", "pixels", "weighted pixels"]),
    (tc.CrossEntropyLoss(ignore_index=-100), ["labels"]),
    (tc.CrossEntropyLoss(), ["labels", "weighted", "soft weighted", "soft pixels"]),
    (tc.losses.MultiMarginLoss(0.7), ["labels", "weighted", "pixels", "weighted pixels"]),
    (tc.losses.SigmoidCrossEntropy(), ["labels", "weighted", "soft", "pixels"]),
    (tc.losses.Quadratic(), ["labels", "soft weighted", "weighted pixels"]),
    (tc.losses.Quadratic(output="linear"), ["labels", "soft pixels"]),
    (tc.MSELoss(), ["numbers", "weighted numbers", "numbers pixels"]),
    (tc.losses.L1Loss(), ["numbers", "weighted numbers"]),
    (tc.losses.HuberLoss(0.3), ["numbers", "weighted numbers pixels"]),
    (tc.losses.BCEWithLogitsLoss(), ["numbers", "weighted numbers"]),
]


def test_every_loss_is_in_the_table() -> None:
    exported = {
        kind
        for kind in vars(tc.losses).values()
        if isinstance(kind, type) and issubclass(kind, Loss) and kind is not Loss
    }
    assert exported == {type(loss) for loss, _ in LOSSES} == set(loss_step.KERNELS)


@pytest.mark.parametrize(
    ("loss", "kind"),
    [(loss, kind) for loss, kinds in LOSSES for kind in kinds],
    ids=str,
)
def test_every_loss_and_metric(loss: Loss, kind: str) -> None:
    """Of vectors and of images, with labels, probabilities or numbers, with weights or without."""
    nets = [small_net(), small_net()]
    if "pixels" in kind:
        nets = [
            tc.Sequential([tc.Conv2d(1, 3, 3), tc.Tanh(), tc.Conv2d(3, 3, 3)], seed=1)
            for _ in range(2)
        ]
        for net in nets:
            net.forward(np.zeros((1, 1, 8, 8), np.float32))
    x, labels = samples(13)
    rng = np.random.default_rng(3)
    positions = (4, 4) if "pixels" in kind else ()
    y = rng.random((13, 3, *positions))
    if "soft" in kind:
        y /= y.sum(axis=1, keepdims=True)
    elif "numbers" not in kind:
        y = rng.integers(0, 3, (13, *positions)) if positions else labels
    weight = rng.random(13) if "weighted" in kind else None
    metrics: list[Metric] = [TopK(2), Accuracy(), TopK(1)]
    if not loss.one_class:
        metrics = [MeanAbsoluteError(), MeanSquaredError()]
        metrics += [Accuracy()] if "accuracy" in loss.metrics else []
    launcher = compare(nets, x, Targets(y, weight), loss, tc.SGD(lr=0.1), metrics, steps=4)
    assert launcher.replays > 0
    assert launcher.is_whole


def test_what_does_not_count_may_have_any_logits() -> None:
    nets = [tc.Sequential([tc.Linear(2, 2, bias=False)], seed=0) for _ in range(2)]
    for net in nets:
        net.forward(np.zeros((1, 2), np.float32))
        net.parameters.flat[...] = [1e30, -1e30, 1e30, 1e30]
    x = np.float32([[1e-30, 0], [1e30, 1e30], [0, 1e-30]])  # the second has logits NaN and inf
    y = Targets(np.array([0, -1, 1]))
    compare(nets, x, y, tc.CrossEntropyLoss(ignore_index=-1), tc.SGD(lr=0.1), steps=2)


class Half(tc.losses.Loss):
    """A loss of a user's: half the mean of squares."""

    def forward(self, outputs: Array, targets: Array, sample_weight: Array | None = None) -> Array:
        self.away = outputs - targets.astype(outputs.dtype)
        often = 1 if sample_weight is None else sample_weight[:, None]
        return (often * self.away**2).mean() / 2

    def backward(self) -> Array:
        return self.away / np.float32(self.away.size)


def test_a_loss_and_metrics_without_kernels() -> None:
    x, labels = samples(13)
    numbers = np.random.default_rng(3).random((13, 3))
    cases: list[tuple[Loss, Any, Metric]] = [
        (Half(), numbers, MeanAbsoluteError()),
        (tc.CrossEntropyLoss(), labels, FromFunction(lambda y, predicted: (y == predicted).mean())),
    ]
    for loss, y, metric in cases:
        nets = [small_net(), small_net()]
        compare(nets, x, Targets(y), loss, tc.SGD(lr=0.1), [metric], steps=8)


def test_dropout_masks_are_those_of_the_layers_to_the_bit() -> None:
    net, other = (tc.Sequential([tc.Dropout(0.3), tc.Linear(40, 2)], seed=5) for _ in range(2))
    engine = GpuEngine(net, Emulator())
    x = np.ones((6, 40), np.float32)
    engine.start_training(tc.CrossEntropyLoss(), tc.SGD(lr=0.1))
    for step in (0, 1, 2, 255, 256, 1000):  # also beyond the keys that lie on the device
        engine.train_step(x, Targets(np.zeros(6, int)), np.arange(6), step, 0.1)
        other.forward(x, training=True, step=step)
        assert engine._training is not None
        np.testing.assert_array_equal(engine._training.steps[0].y, other.layers[0].y)


@pytest.mark.parametrize("order", [1, 2, 3])
def test_reruns_give_the_same_bits_whatever_runs_first(order: int) -> None:
    nets, (x, y) = [small_net(), small_net()], samples(18)
    for net, launcher in zip(nets, (Emulator(), Emulator(order)), strict=True):
        engine = GpuEngine(net, launcher)
        trained(engine, x, Targets(y), 8, tc.CrossEntropyLoss(), tc.Adam(lr=0.01))
    np.testing.assert_array_equal(nets[0].parameters.flat, nets[1].parameters.flat)


def test_a_step_is_one_graph_and_the_host_neither_writes_nor_reads() -> None:
    net, (x, y) = small_net(), samples(23)
    launcher = Emulator()
    engine = GpuEngine(net, launcher)
    engine.start_training(tc.CrossEntropyLoss(), tc.Adam(lr=0.01), [Accuracy()])
    engine.start_epoch(Totals())
    targets, order = Targets(y), np.random.default_rng(0).permutation(23)
    engine.train_step(x, targets, order[:5], 0, 0.01)
    before = launcher.counts()
    for step in range(1, 4):
        engine.train_step(x, targets, order[5 * step : 5 * step + 5], step, 0.01)
    engine.train_step(x, targets, order[20:], 4, 0.01)  # the short one, launched call by call
    after = launcher.counts()
    assert after["replays"] - before["replays"] == 3
    for what in ("uploads", "writes", "reads"):
        assert after[what] == before[what], what
    engine.totals()
    assert launcher.counts()["reads"] == before["reads"] + 2
    # The next epoch: one order, and where it begins.
    engine.start_epoch(Totals())
    order, before = order[::-1].copy(), launcher.counts()
    for step in range(5, 10):
        engine.train_step(x, targets, order[5 * step - 25 : 5 * step - 20], step, 0.01)
    after = launcher.counts()
    assert after["replays"] - before["replays"] == 5
    assert after["uploads"] - before["uploads"] == 1
    assert after["writes"] - before["writes"] <= 3


@pytest.mark.parametrize(
    ("model", "launches"),
    [
        (tc.models.nielsen_fully_connected, 6),
        (tc.models.nielsen_conv, 8),
        (tc.models.nielsen_conv_conv, 10),
        (tc.models.nielsen_conv_conv_relu, 10),
        (tc.models.nielsen_dropout, 18),
        (tc.models.lenet5, 16),
        (tc.models.resnet20, 109),
    ],
    ids=lambda value: getattr(value, "__name__", str(value)),
)
def test_how_many_launches_a_step_is(model: Any, launches: int) -> None:
    """Those of ``benchmarks/GPU.md``: one a layer and direction, the loss, and the update."""
    net, launcher = model(), Emulator()
    shape = net.input_shape
    backend = GpuTraining(launcher, started(net, tc.Adam()), shape, 10)
    assert Plan(net, shape, backend).is_compiled
    assert len(backend.program) == launches
    assert f"| {model.__name__} | {launches} |" in GPU_PAGE.read_text()


class Doubled:
    """Stands for the other processes of a batch."""

    def __init__(self, gradient: np.ndarray[Any, Any]) -> None:
        self.gradient, self.factor = gradient, 2.0

    def __call__(self, dw: np.ndarray[Any, Any], refused: bool = False) -> bool:
        dw *= self.factor
        return True


def test_processes_that_share_a_batch_add_up_gradients_before_anything_looks_at_them() -> None:
    nets, (x, y) = [small_net(), small_net()], samples(10)
    engines = [GpuEngine(net, Emulator()) for net in nets]
    others = Doubled(nets[0].parameters.flat_grad)
    for engine, lr, sharing in zip(engines, (0.1, 0.2), (others, None), strict=True):
        trained(engine, x, Targets(y), 4, tc.CrossEntropyLoss(), tc.SGD(lr=lr), sharing=sharing)
    np.testing.assert_allclose(nets[0].parameters.flat, nets[1].parameters.flat, atol=1e-6)
    assert engines[0].totals().means() == pytest.approx(engines[1].totals().means(), rel=1e-5)
    # What comes from another process may not be finite: then the step is refused.
    before, others.factor = nets[0].parameters.flat.copy(), np.nan
    backend = engines[0]._training
    assert backend is not None
    backend.program.run(backend.set_batch(x, Targets(y), np.arange(5), 4, 0.1))
    assert backend.first_refused() == 4
    np.testing.assert_array_equal(nets[0].parameters.flat, before)


def test_a_batch_of_more_numbers_than_kernels_count_is_refused() -> None:
    x = np.broadcast_to(np.float32(0), (2**20, 2**11))
    net = tc.Sequential([tc.Linear(2**11, 2)], seed=0)
    with pytest.raises(tc.ArgumentError, match=r"has 2,147,483,648 numbers \(2048,\) in a layer"):
        GpuEngine(net, Emulator()).logits(x, 2**20)


def test_bytes_stay_bytes_on_the_device() -> None:
    x, y = samples(13)
    images = ByteImages.from_floats(x)
    compare([small_net(), small_net()], images, Targets(y), tc.CrossEntropyLoss(), tc.SGD(lr=0.1))


def test_data_that_do_not_fit_come_batch_by_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Emulator, "free_bytes", 1000)
    x, y = samples(13)
    for data in (x, x.astype(np.float64), ByteImages.from_floats(x)):
        nets = [small_net(), small_net()]
        launcher = compare(nets, data, Targets(y), tc.CrossEntropyLoss(), tc.SGD(lr=0.1), steps=6)
        assert launcher.largest_upload <= 4 * 5 * 64


@pytest.fixture
def emulated(monkeypatch: pytest.MonkeyPatch) -> Emulator:
    """``fit`` and ``predict`` take the emulated GPU."""
    launcher = Emulator()
    monkeypatch.setattr(tc.network, "engine_for", lambda net, name="auto": GpuEngine(net, launcher))
    return launcher


def fitted(x: Any, y: Any, engine: str = "auto", **options: Any) -> tuple[tc.Sequential, Any]:
    net = small_net()
    history = net.fit(x, y, engine=engine, verbose=False, batch_size=6, **options)
    return net, history


def test_fit_and_predict(emulated: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = samples(40)
    options = {"epochs": 2, "optimizer": "adam", "validation_split": 0.25}
    net, history = fitted(x, y, **options)
    assert emulated.replays > 0
    predicted = net.predict_proba(x, batch_size=16)
    monkeypatch.setattr(tc.network, "engine_for", lambda net, name="auto": EagerEngine(net))
    other, expected = fitted(x, y, **options)
    for name in ("loss", "accuracy", "val_loss", "val_accuracy"):
        assert history[name] == pytest.approx(expected[name], rel=1e-4), name
    np.testing.assert_allclose(net.parameters.flat, other.parameters.flat, atol=1e-4)
    np.testing.assert_allclose(predicted, other.predict_proba(x), atol=1e-4)


class Reader:
    """Gives batches of 6 that are all written into the same arrays."""

    def __init__(self, x: Array, y: Array) -> None:
        self.x, self.y = x, y

    def __len__(self) -> int:
        return len(self.y) // 6

    def __iter__(self) -> Any:
        x, y = np.empty_like(self.x[:6]), np.empty_like(self.y[:6])
        for first in range(0, len(self.y), 6):
            x[:], y[:] = self.x[first : first + 6], self.y[first : first + 6]
            yield x, y


def test_batches_that_are_all_written_into_the_same_arrays(emulated: Emulator) -> None:
    x, y = samples(30)
    expected, _ = fitted(x, y, shuffle=False, epochs=2)
    net = small_net()
    net.fit(Reader(x, y), epochs=2, verbose=False)
    np.testing.assert_array_equal(net.parameters.flat, expected.parameters.flat)


def test_a_resumed_run_ends_with_the_same_bits(emulated: Emulator, tmp_path: Any) -> None:
    x, y = samples(33)
    options = {"optimizer": "adam", "epochs": 2}
    net, history = fitted(x, y, **options)
    fitted(x, y, checkpoint=tmp_path, **(options | {"epochs": 1}))
    again, second = fitted(x, y, checkpoint=tmp_path, resume=True, **options)
    np.testing.assert_array_equal(again.parameters.flat, net.parameters.flat)
    assert second["loss"] == history["loss"]


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_refused_step_found_later_has_changed_nothing(emulated: Emulator, bad: float) -> None:
    """The third batch of the second epoch holds the number; six more batches follow it."""
    x, y = samples(48)
    good, _ = fitted(x, y, shuffle=False)
    x[15, 0, 2, 2] = bad
    net = small_net()
    net.fit(x[:12], y[:12], verbose=False, batch_size=6, shuffle=False)
    before = {name: value.copy() for name, value in net.state_dict().items()}
    with pytest.raises(tc.NonFiniteError) as error:
        net.fit(x, y, verbose=False, batch_size=6, shuffle=False)
    assert str(error.value) == (
        "fit: epoch 2, batch 3: the input of the network holds values that are not finite"
    )
    # Two good steps of the second run were taken.
    other = small_net()
    for _ in range(2):
        other.fit(x[:12], y[:12], verbose=False, batch_size=6, shuffle=False)
    assert net.position.step == 4
    assert any((before[name] != value).any() for name, value in net.state_dict().items())
    for name, value in other.state_dict().items():
        np.testing.assert_array_equal(net.state_dict()[name], value)
    assert good.position.step == 8


def test_steps_behind_one_that_only_the_kernels_refused_are_done_again() -> None:
    """A gradient is made NaN on the device alone; the layers take the step, and all go on."""
    nets, (x, y) = [small_net(), small_net()], samples(30)
    launcher = Emulator()
    engine, eager = GpuEngine(nets[0], launcher), EagerEngine(nets[1])
    rule, targets = tc.Adam(lr=0.01), Targets(y)
    for each in (engine, eager):
        each.start_training(tc.CrossEntropyLoss(), rule, [Accuracy()])
        each.start_epoch(Totals())
    order = np.arange(30)
    for step in range(6):
        index = order[5 * step : 5 * step + 5]
        if step == 2:
            assert engine._training is not None
            engine._training._counters[3] = 2  # as if the kernel had seen something
        engine.train_step(x, targets, index, step, 0.01)
        eager.train_step(x, targets, index, step, 0.01)
    assert engine.totals().means() == pytest.approx(eager.totals().means(), rel=1e-4)
    np.testing.assert_allclose(nets[0].parameters.flat, nets[1].parameters.flat, atol=1e-5)
    np.testing.assert_array_equal(engine.optimizer_state["steps"], [6])


def test_a_step_by_hand_sees_what_became_of_its_data(emulated: Emulator) -> None:
    """One buffer, filled anew before every step, as loops by hand have it."""
    x, y = samples(12)
    losses: list[list[float]] = []
    for engine in (GpuEngine, EagerEngine):
        net, buffer, labels = small_net(), np.empty_like(x[:6]), np.empty_like(y[:6])
        net.start_training()
        if engine is EagerEngine:
            net._stepper = EagerEngine(net)
            net._stepper.start_training(net.loss, tc.SGD(lr=0.1))
        losses.append([])
        for step in range(4):
            half = slice(6 * (step % 2), 6 * (step % 2) + 6)
            buffer[...], labels[...] = x[half], y[half]
            losses[-1].append(net.train_step(buffer, labels))
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    net = small_net()
    with pytest.raises(tc.NonFiniteError, match="the input of the network holds"):
        net.train_step(x + np.float32(np.nan), y)
    assert net.position.step == 0


def test_batches_of_an_iterable_and_of_many_sizes(emulated: Emulator) -> None:
    x, y = samples(60)
    sizes = np.cumsum([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10])
    batches = [(x[a:b], y[a:b]) for a, b in pairwise(sizes)]
    net, other = small_net(), small_net()
    net.fit(batches, epochs=3, verbose=False)
    layers = EagerEngine(other)
    layers.start_training(tc.CrossEntropyLoss(), tc.SGD(lr=0.1))
    for step in range(30):
        xs, ys = batches[step % 10]
        layers.train_step(xs, Targets(ys), np.arange(len(ys)), step, 0.1)
    np.testing.assert_allclose(net.parameters.flat, other.parameters.flat, atol=1e-5)


def test_a_schedule_of_rates_and_a_profile(emulated: Emulator) -> None:
    x, y = samples(18)
    nets = [small_net(), small_net()]
    halved = tc.Schedule(lambda t, rows: 0.5**t, per="step")
    nets[0].fit(x, y, batch_size=6, verbose=False, callbacks=[halved])
    layers = EagerEngine(nets[1])
    layers.start_training(tc.CrossEntropyLoss(), tc.SGD(lr=0.1))
    order = permutation(key(1, "shuffle", 0), 18)
    for step in range(3):
        index = order[6 * step : 6 * step + 6]
        layers.train_step(x, Targets(y), index, step, 0.1 * 0.5**step)
    np.testing.assert_allclose(nets[0].parameters.flat, nets[1].parameters.flat, atol=1e-6)
    history = small_net().fit(x, y, verbose=False, profile=True)
    assert {"loss", "optimizer"} <= set(history.profile)
    assert all(seconds > 0 for seconds in history.profile.values())


class Squares(tc.Optimizer):
    """A rule of a user's, without a kernel."""

    def move(self, w: Array, g: Array, state: dict[str, Array], lr: float) -> None:
        w -= lr * g * np.abs(g)


def test_an_optimizer_without_a_kernel() -> None:
    x, y = samples(13)
    nets = [small_net(), small_net()]
    compare(nets, x, Targets(y), tc.CrossEntropyLoss(), Squares(lr=0.5), [Accuracy()])
    x[3] = np.nan
    engine, before = GpuEngine(nets[0], Emulator()), nets[0].parameters.flat.copy()
    engine.start_training(tc.CrossEntropyLoss(), Squares(lr=0.5))
    with pytest.raises(tc.NonFiniteError):
        engine.train_step(x, Targets(y), np.arange(5), 0, 0.5)
    np.testing.assert_array_equal(nets[0].parameters.flat, before)


def test_what_was_replaced_in_a_network_is_used(emulated: Emulator) -> None:
    x, y = samples(12)
    net = small_net()
    net.fit(x, y, verbose=False)
    first = net.logits(x)
    net.layers[6] = tc.Sigmoid()
    second = net.logits(x)
    assert np.abs(first - second).max() > 1e-3
    np.testing.assert_allclose(second, net.forward(x), atol=1e-5)


class Own(tc.layers.Chain):
    """A chain of a user's: no plan looks inside."""


def test_the_first_layer_that_cannot_take_a_batch_is_the_one_that_is_named() -> None:
    """One sample, which no batch norm takes."""
    norms = [tc.BatchNorm1d(size, track_running_stats=False) for size in (2, 3)]
    net = tc.Sequential([Own([norms[0]]), tc.Linear(2, 3), norms[1]], input_shape=(2,))
    engine = GpuEngine(net, Emulator())
    x = np.ones((1, 2), np.float32)
    with pytest.raises(tc.ShapeError, match=r"BatchNorm1d: x has shape \(1, 2\)"):
        trained(engine, x, Targets(np.array([1])), 1, tc.CrossEntropyLoss(), tc.SGD(lr=0.1))
    with pytest.raises(tc.ShapeError, match=r"BatchNorm1d: x has shape \(1, 2\)"):
        engine.logits(x, 4)

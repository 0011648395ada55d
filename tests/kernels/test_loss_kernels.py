"""Every loss by its kernel against its own methods, from outputs and gradients full of NaN."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinyconv import Linear, Sequential
from tinyconv.engines.cpu.loss_step import LossStep, has_kernels
from tinyconv.engines.cpu.program import Program
from tinyconv.engines.cpu.step import Context
from tinyconv.losses import (
    BCEWithLogitsLoss,
    CrossEntropyLoss,
    HuberLoss,
    L1Loss,
    Loss,
    MSELoss,
    MultiMarginLoss,
    Quadratic,
    SigmoidCrossEntropy,
    Targets,
)
from tinyconv.metrics import Metric, figures, metrics_of

Array = np.ndarray[Any, Any]

K = 11
OF_CLASSES = [
    CrossEntropyLoss(),
    CrossEntropyLoss([0.0, *[0.5] * 5, *[2.0] * 5]),
    CrossEntropyLoss(ignore_index=-1),
    CrossEntropyLoss([1.0, *[0.0] * 5, *[2.0] * 5], ignore_index=3, label_smoothing=0.1),
    MultiMarginLoss(0.7),
    SigmoidCrossEntropy(),
    Quadratic(),
    Quadratic("linear"),
]
OF_ELEMENTS = [MSELoss(), L1Loss(), HuberLoss(0.8), BCEWithLogitsLoss()]


NO_BORDER = ((0, 0), (0, 0), (0, 0))


def compare(
    loss: Loss,
    shape: tuple[int, ...],
    outputs: Array,
    targets: Array,
    often: Array | None = None,
    metrics: Sequence[Any] | None = None,
    border: Any = NO_BORDER,
) -> None:
    """Two batches, the second one shorter, of samples in any order.

    With a gradient, and without, where all figures have kernels.
    """
    measured = metrics_of("fit", metrics, loss, shape)
    for has_gradient in (True, False)[: 1 + has_kernels(loss, measured, shape)]:
        compare_once(loss, shape, outputs, targets, often, measured, border, has_gradient)


def compare_once(
    loss: Loss,
    shape: tuple[int, ...],
    outputs: Array,
    targets: Array,
    often: Array | None,
    metrics: Sequence[Metric],
    border: Any,
    has_gradient: bool,
) -> None:
    N = len(outputs)
    context = Context(N, 2, True, np.zeros(1, np.float32), np.zeros(1, np.float32))
    sums, program = np.zeros((2, 8)), Program(2)
    step = LossStep(loss, metrics, Targets(targets, often), context, sums)
    logits, gradient = (context.arena.image(N, shape, each) for each in (NO_BORDER, border))
    step.forward(program, logits, gradient if has_gradient else None, shape)
    assert step.has_kernel
    program.freeze(6)
    for n in (N, N // 2):
        index = np.random.default_rng(3).permutation(N)[:n]
        for image in (logits, gradient):
            image.channels_first(N)[...] = np.nan
        inside = logits.channels_first(n)
        inside[...] = outputs[index].reshape(inside.shape)
        sums[...] = 0
        step.set_batch(Targets(targets, often), index)
        program.run(n)
        batch = (targets[index], None if often is None else often[index].astype(np.float32))
        expected = figures(metrics, loss, outputs[index], *batch)
        step.totals()
        taken = step.take_sums()
        assert taken.samples == pytest.approx(loss.samples(*batch))
        assert taken.divisor == pytest.approx(loss.divisor(*batch))
        assert set(taken.sums) == set(expected)
        for name, mean in expected.items():
            counted = taken.divisor if name == "loss" else taken.samples
            assert taken.sums[name] == pytest.approx(mean * counted, rel=1e-5, abs=1e-6)
        got = gradient.channels_first(n).reshape(n, *shape)
        if has_gradient:
            np.testing.assert_allclose(got, loss.backward(), rtol=1e-4, atol=1e-6)
        else:
            assert np.isnan(got).all()


def by_kernel(loss: Loss, outputs: Array, targets: Array) -> tuple[float, Array]:
    """The sum of the losses of all samples, and the gradient of their mean."""
    N = len(outputs)
    context = Context(N, 1, True, np.zeros(1, np.float32), np.zeros(1, np.float32))
    sums, program = np.zeros((1, 8)), Program(1)
    step = LossStep(loss, [], Targets(targets), context, sums)
    logits, gradient = (context.arena.image(N, outputs.shape[1:]) for _ in range(2))
    step.forward(program, logits, gradient, outputs.shape[1:])
    assert step.has_kernel
    program.freeze(6)
    inside = logits.channels_first(N)
    inside[...] = outputs.reshape(inside.shape)
    step.set_batch(Targets(targets), np.arange(N))
    program.run(N)
    return float(sums[0, 0]), gradient.channels_first(N).reshape(outputs.shape)


@pytest.mark.parametrize("loss", OF_CLASSES, ids=repr)
@pytest.mark.parametrize("dtype", [np.int64, np.uint8])
def test_losses_of_classes(loss: Loss, dtype: type) -> None:
    rng = np.random.default_rng(0)
    outputs = rng.normal(0, 4, (9, K)).astype(np.float32)
    labels: Array = rng.integers(0, K, 9).astype(dtype)
    labels[:3] = 3
    if loss.ignore_index == -1 and dtype is np.int64:
        labels[::2] = -1
    compare(loss, (K,), outputs, labels)


def test_nothing_counts_where_all_labels_are_ignored() -> None:
    outputs = np.ones((4, K), np.float32)
    compare(CrossEntropyLoss(ignore_index=2), (K,), outputs, np.full(4, 2))


@pytest.mark.parametrize(
    "loss",
    [CrossEntropyLoss(ignore_index=2), CrossEntropyLoss([1, 1, 0] + [1] * (K - 3))],
    ids=repr,
)
def test_what_does_not_count_has_no_gradient_whatever_its_logits(loss: Loss) -> None:
    outputs = np.ones((4, K), np.float32)
    outputs[1] = np.nan
    compare(loss, (K,), outputs, np.array([0, 2, 1, 2]))


@pytest.mark.parametrize("weight", [None, [1.0] * (K - 1) + [0.0]])
def test_a_class_that_does_not_count_may_be_impossible(weight: list[float] | None) -> None:
    outputs = np.zeros((4, K), np.float32)
    outputs[:, -1] = -np.inf
    compare(CrossEntropyLoss(weight), (K,), outputs, np.array([0, 1, 2, 3]))


@pytest.mark.parametrize("loss", OF_ELEMENTS, ids=repr)
@pytest.mark.parametrize("shape", [(1,), (K,), (3, 2, 5)])
def test_losses_of_elements(loss: Loss, shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    outputs = rng.normal(0, 3, (7, *shape)).astype(np.float32)
    targets = rng.integers(0, 2, (7, *shape)).astype(np.float64)
    outputs[0] = targets[0]  # where they are equal
    compare(loss, shape, outputs, targets)


@pytest.mark.parametrize("loss", [*OF_CLASSES[:1], MultiMarginLoss(), *OF_ELEMENTS], ids=repr)
@pytest.mark.parametrize("value", [np.nan, np.inf])
@np.errstate(invalid="ignore", over="ignore")
def test_what_is_not_finite_makes_the_loss_so(loss: Loss, value: float) -> None:
    outputs = np.zeros((2, K), np.float32)
    outputs[1, 4] = value
    targets = np.array([1, 2]) if loss.one_class else np.zeros((2, K))
    expected = float(loss.forward(outputs, targets))
    assert np.isfinite(by_kernel(loss, outputs, targets)[0]) == np.isfinite(expected)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_sums_over_many_classes_are_right_to_some_units_in_the_last_place(smoothing: float) -> None:
    """The gradient of a label is the difference of two numbers of size 1 over the batch's."""
    rng, N = np.random.default_rng(0), 20
    outputs = rng.normal(0, 3, (N, 10_000)).astype(np.float32)
    labels = rng.integers(0, 10_000, N)
    loss = CrossEntropyLoss(label_smoothing=smoothing)
    expected = float(loss.forward(outputs.astype(np.float64), labels))
    cost, gradient = by_kernel(loss, outputs, labels)
    assert cost / N == pytest.approx(expected, rel=2e-7)
    size = np.abs(loss.backward())
    size[np.arange(N), labels] = 1 / N
    if smoothing:
        size += smoothing / 10_000 / N
    np.testing.assert_array_less(np.abs(gradient - loss.backward()), 3e-6 * size)


@st.composite
def cases(draw: st.DrawFn) -> tuple[Any, ...]:
    """Losses with outputs, targets, weights of samples, figures and a border of the gradient."""
    loss = draw(st.sampled_from([*OF_CLASSES, CrossEntropyLoss(label_smoothing=0.2), *OF_ELEMENTS]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    weight = getattr(loss, "weight", None)
    classes = st.just(K) if weight else st.integers(1 + loss.one_class, 40)
    shape = (draw(classes), *draw(st.lists(st.integers(1, 6), max_size=3)))
    N = draw(st.integers(2, 9))
    outputs = rng.normal(0, 3, (N, *shape)).astype(np.float32)
    dtype = draw(st.sampled_from([np.float64, np.float32]))
    if not loss.one_class:
        targets: Array = rng.integers(0, 2, (N, *shape)).astype(
            draw(st.sampled_from([bool, dtype]))
        )
    elif draw(st.booleans()) or isinstance(loss, MultiMarginLoss):
        kinds = st.sampled_from([np.int64, np.int32, np.uint8])
        targets = rng.integers(0, shape[0], (N, *shape[1:])).astype(draw(kinds))
        if loss.ignore_index is not None:
            ignored = np.asarray(loss.ignore_index).astype(targets.dtype)
            if ignored == loss.ignore_index:
                targets[rng.random(targets.shape) < 0.3] = ignored
    else:
        targets = rng.dirichlet(np.ones(shape[0]), (N, *shape[1:])).astype(dtype)
        targets = np.moveaxis(targets, -1, 1)
    often = rng.choice([0.0, 0.5, 1, 3], N).astype(dtype) if draw(st.booleans()) else None
    metrics: list[Any] = [*loss.metrics, "top_2"] if loss.one_class else [*loss.metrics]
    metrics = metrics or ["mae", "mse"]

    def own(targets: Array, predictions: Array) -> float:
        return float(predictions.mean() + targets.mean())

    metrics = draw(st.permutations(metrics))[: draw(st.integers(0, 3))]
    metrics += [own] * draw(st.booleans())
    border = tuple((1, 2) if len(shape) > 3 - axis else (0, 0) for axis in range(3))
    return loss, shape, outputs, targets, often, metrics, draw(st.sampled_from([NO_BORDER, border]))


@given(cases())
@settings(max_examples=60)
def test_any_targets(case: tuple[Any, ...]) -> None:
    compare(*case)


def test_more_figures_than_the_sums_have_room_for() -> None:
    rng = np.random.default_rng(0)
    outputs, labels = rng.normal(size=(9, K)).astype(np.float32), rng.integers(0, K, 9)
    metrics = [f"top_{k}" for k in range(1, 10)]
    compare(CrossEntropyLoss(), (K,), outputs, labels, metrics=metrics)


def test_other_targets_ask_for_another_step() -> None:
    context = Context(4, 1, True, np.zeros(1, np.float32), np.zeros(1, np.float32))
    labels, probabilities = Targets(np.zeros(4, int)), Targets(np.ones((4, 1)))
    step = LossStep(CrossEntropyLoss(), [], labels, context, np.zeros((1, 8)))
    assert step.has_kernel
    assert step.takes(Targets(np.zeros(4, np.uint8), np.ones(4)))
    assert not step.takes(probabilities)


def test_what_is_not_of_here_is_its_own() -> None:
    class Mine(MSELoss):
        pass

    context = Context(4, 1, True, np.zeros(1, np.float32), np.zeros(1, np.float32))
    step = LossStep(Mine(), [], None, context, np.zeros((1, 8)))
    assert not step.has_kernel
    assert step.takes(Targets(np.zeros((4, 1))))


def test_weights_of_a_batch_are_forgotten_behind_a_shorter_one() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.random((6, 3)).astype(np.float32), np.arange(6) % 2
    batches = [(x, y, np.arange(6.0)), (x[:2], y[:2]), (x, y)]
    nets = [Sequential(Linear(3, 2), seed=0) for _ in range(2)]
    for net, engine in zip(nets, ("eager", "plan"), strict=True):
        net.fit(batches, engine=engine, verbose=False)
    got, expected = (net.parameters.flat for net in nets)
    np.testing.assert_allclose(got, expected, rtol=1e-5)


def test_a_figure_of_any_name_is_its_own() -> None:
    def reach(targets: Array, predictions: Array) -> float:
        return 7.0

    x, y = np.ones((6, 3), np.float32), np.arange(6) % 2
    history = Sequential(Linear(3, 2), seed=0).fit(x, y, metrics=[reach, "top_1"], verbose=False)
    assert history["reach"] == [7.0]

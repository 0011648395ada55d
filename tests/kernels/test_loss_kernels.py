"""Every loss by its kernel against its own methods, from outputs and gradients full of NaN."""

from typing import Any

import numpy as np
import pytest

from tinyconv.engines.cpu.loss_step import LossStep
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
from tinyconv.metrics import figures, metrics_of

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


def compare(loss: Loss, shape: tuple[int, ...], outputs: Array, targets: Array) -> None:
    """Two batches, the second one shorter, of samples in any order."""
    N = len(outputs)
    context = Context(N, 2, True, np.zeros(1, np.float32), np.zeros(1, np.float32))
    sums, program = np.zeros((2, 8)), Program(2)
    metrics = metrics_of("fit", None, loss, shape)
    step = LossStep(loss, metrics, Targets(targets), context, sums)
    logits, gradient = (context.arena.image(N, shape) for _ in range(2))
    step.forward(program, logits, gradient, shape)
    assert step.has_kernel
    program.freeze(6)
    for n in (N, N // 2):
        index = np.random.default_rng(3).permutation(N)[:n]
        for image in (logits, gradient):
            image.channels_first(N)[...] = np.nan
        inside = logits.channels_first(n)
        inside[...] = outputs[index].reshape(inside.shape)
        sums[...] = 0
        step.set_batch(Targets(targets), index)
        program.run(n)
        expected = figures(metrics, loss, outputs[index], targets[index])
        samples = loss.samples(targets[index])
        step.totals()
        taken = step.take_sums()
        assert taken.samples == samples
        assert taken.divisor == pytest.approx(loss.divisor(targets[index]))
        assert set(taken.sums) == set(expected)
        for name, mean in expected.items():
            counted = taken.divisor if name == "loss" else taken.samples
            assert taken.sums[name] == pytest.approx(mean * counted, rel=1e-5, abs=1e-6)
        got = gradient.channels_first(n).reshape(n, *shape)
        np.testing.assert_allclose(got, loss.backward(), rtol=1e-4, atol=1e-6)


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


def test_targets_beyond_a_kernel_go_to_the_loss_itself() -> None:
    context = Context(4, 1, True, np.zeros(1, np.float32), np.zeros(1, np.float32))
    labels, weighted = Targets(np.zeros(4, int)), Targets(np.zeros(4, int), np.ones(4))
    sums = np.zeros((1, 8))
    step = LossStep(CrossEntropyLoss(), [], labels, context, sums)
    assert step.has_kernel
    assert step.takes(labels)
    assert not step.takes(weighted)
    other = LossStep(CrossEntropyLoss(), [], weighted, context, sums)
    assert not other.has_kernel
    assert other.takes(labels)

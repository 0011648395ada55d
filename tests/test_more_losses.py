"""Losses of classes: literals, gradients, PyTorch, files, training."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tinyconv as tc
from tinyconv.errors import ArgumentError, FileError, ShapeError
from tinyconv.losses import LOSSES, SHORT_NAMES, Loss

MAKERS: list[Callable[[], Loss]] = [
    tc.CrossEntropyLoss,
    lambda: tc.CrossEntropyLoss([0.5, 2.0, 1.0, 0.0]),
    lambda: tc.CrossEntropyLoss(ignore_index=2),
    lambda: tc.CrossEntropyLoss(label_smoothing=0.1),
    lambda: tc.CrossEntropyLoss([0.5, 2.0, 1.0, 3.0], ignore_index=-100, label_smoothing=0.3),
    tc.SigmoidCrossEntropy,
    tc.Quadratic,
    lambda: tc.Quadratic(output="linear"),
    tc.MultiMarginLoss,
    lambda: tc.MultiMarginLoss(margin=0.25),
]
NUMBER_MAKERS: list[Callable[[], Loss]] = [
    tc.MSELoss,
    tc.L1Loss,
    lambda: tc.HuberLoss(delta=0.5),
    tc.BCEWithLogitsLoss,
]
every_loss = pytest.mark.parametrize("make", MAKERS, ids=lambda make: repr(make()))


def drawn(n: int = 5, dtype: str = "float64") -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return 2 * rng.normal(size=(n, 4)).astype(dtype), np.array([3, 0, 2, 2, 1])[:n]


def test_every_loss_is_tested() -> None:
    tested = {type(make()) for make in [*MAKERS, *NUMBER_MAKERS]}
    assert tested == set(LOSSES.values()) == set(SHORT_NAMES.values())
    assert set(LOSSES) <= set(tc.__all__)


@every_loss
def test_gradient_against_numeric_derivatives(make: Callable[[], Loss]) -> None:
    logits, labels = drawn()
    loss = make()
    loss.forward(logits, labels)
    dx = loss.backward()
    for place in np.ndindex(logits.shape):
        h = np.zeros_like(logits)
        h[place] = 1e-6
        slope = (loss.forward(logits + h, labels) - loss.forward(logits - h, labels)) / 2e-6
        assert dx[place] == pytest.approx(float(slope), rel=1e-6, abs=1e-9)


@every_loss
def test_dtype_shape_and_mean_over_the_batch(make: Callable[[], Loss]) -> None:
    logits, labels = drawn(dtype="float32")
    loss = make()
    value = loss.forward(logits, labels)
    assert (value.shape, value.dtype, loss.backward().dtype) == ((), "float32", "float32")
    assert loss.probabilities(logits).shape == (5, 4)
    # The mean over a batch does not change if the batch is repeated.
    twice = loss.forward(np.concatenate([logits] * 2), np.concatenate([labels] * 2))
    assert float(twice) == pytest.approx(float(value), rel=1e-6)


@every_loss
def test_an_empty_batch_costs_nothing(make: Callable[[], Loss]) -> None:
    loss = make()
    assert loss.forward(np.zeros((0, 4)), np.zeros(0, int)) == 0
    assert loss.backward().shape == (0, 4)


@every_loss
def test_huge_logits_do_not_overflow(make: Callable[[], Loss]) -> None:
    loss, (_, labels) = make(), drawn()
    logits = np.where(np.eye(4)[labels] > 0, -1e4, 1e4).astype("float32")  # as wrong as can be
    assert np.isfinite(loss.forward(logits, labels))
    assert np.isfinite(loss.backward()).all()


@every_loss
def test_a_loss_is_made_again_from_its_name_and_arguments(make: Callable[[], Loss]) -> None:
    loss = make()
    config = json.loads(json.dumps(loss.config()))
    again = LOSSES.make(type(loss).__name__, config)
    assert repr(again) == repr(loss)
    logits, labels = drawn()
    assert again.forward(logits, labels) == loss.forward(logits, labels)


@every_loss
@pytest.mark.parametrize("engine", ["plan", "eager"])
def test_a_network_learns_by_it_and_its_file_names_it(
    make: Callable[[], Loss], engine: str, tmp_path: Path
) -> None:
    rng = np.random.default_rng(1)
    y = np.arange(80) % 4
    x = (np.eye(4)[y] @ rng.normal(size=(4, 6)) + 0.1 * rng.normal(size=(80, 6))).astype("float32")
    net = tc.Sequential([tc.Linear(6, 4)])
    history = net.fit(
        x, y, epochs=60, loss=make(), optimizer=tc.SGD(0.3), engine=engine, verbose=False
    )
    assert history["loss"][-1] < 0.9 * history["loss"][0]
    weighed = y < 3 if net.loss.config().get("weight", [1])[-1] == 0 else y >= 0
    assert (net.predict(x)[weighed] == y[weighed]).mean() > 0.7
    net.save(tmp_path / "net.safetensors")
    again = tc.load(tmp_path / "net.safetensors")
    assert repr(again.loss) == repr(net.loss)
    assert again.evaluate(x, y) == net.evaluate(x, y)
    np.testing.assert_array_equal(again.predict_proba(x), net.predict_proba(x))


@every_loss
def test_plan_and_eager_take_the_same_steps(make: Callable[[], Loss]) -> None:
    (logits, labels), nets = drawn(dtype="float32"), []
    for engine in ("plan", "eager"):
        net = tc.Sequential([tc.Linear(4, 4)], seed=1)
        net.fit(logits, labels, epochs=3, batch_size=2, loss=make(), engine=engine, verbose=False)
        nets.append(net.parameters.flat)
    np.testing.assert_allclose(nets[0], nets[1], rtol=1e-4, atol=1e-5)


# By hand.


def test_class_weights_by_hand() -> None:
    loss = tc.CrossEntropyLoss([3.0, 1.0])
    logits = np.log(np.array([[0.25, 0.75], [0.5, 0.5]]))
    # (3 log 4 + 1 log 2) / (3 + 1)
    assert loss.forward(logits, np.array([0, 1])) == pytest.approx(7 / 4 * np.log(2), rel=1e-14)
    np.testing.assert_allclose(loss.backward(), [[-2.25 / 4, 2.25 / 4], [0.5 / 4, -0.5 / 4]])


def test_smoothed_labels_by_hand() -> None:
    loss = tc.CrossEntropyLoss(label_smoothing=0.5)
    # The target is (3/4, 1/4): 3/4 log 4 + 1/4 log 4/3.
    value = loss.forward(np.log([[0.25, 0.75]]), np.array([0]))
    assert value == pytest.approx(np.log(4) - 0.25 * np.log(3), rel=1e-14)
    np.testing.assert_allclose(loss.backward(), [[-0.5, 0.5]], rtol=1e-14)


def test_ignored_labels_by_hand() -> None:
    loss = tc.CrossEntropyLoss(ignore_index=-1)
    logits = np.log(np.array([[0.25, 0.75], [0.5, 0.5]]))
    assert loss.forward(logits, np.array([0, -1])) == pytest.approx(np.log(4), rel=1e-14)
    np.testing.assert_allclose(loss.backward(), [[-0.75, 0.75], [0, 0]], rtol=1e-14)
    assert loss.forward(logits, np.array([-1, -1])) == 0
    np.testing.assert_array_equal(loss.backward(), np.zeros((2, 2)))


def test_sigmoid_cross_entropy_by_hand() -> None:
    loss = tc.SigmoidCrossEntropy()
    logits = np.log(np.array([[3.0, 1 / 3], [1.0, 1.0]]))  # sigmoids 3/4, 1/4 and 1/2, 1/2
    value = loss.forward(logits, np.array([0, 1]))
    assert value == pytest.approx((2 * np.log(4 / 3) + 2 * np.log(2)) / 2, rel=1e-14)
    np.testing.assert_allclose(loss.backward(), [[-1 / 8, 1 / 8], [1 / 4, -1 / 4]], rtol=1e-14)
    np.testing.assert_allclose(loss.probabilities(logits), [[0.75, 0.25], [0.5, 0.5]], rtol=1e-14)


def test_quadratic_by_hand() -> None:
    loss, logits = tc.Quadratic(), np.log(np.array([[3.0, 1 / 3]]))
    assert loss.forward(logits, np.array([1])) == pytest.approx(2 * 0.75**2 / 2, rel=1e-14)
    # (a - t) a (1 - a)
    np.testing.assert_allclose(loss.backward(), [[0.75 * 3 / 16, -0.75 * 3 / 16]], rtol=1e-14)
    linear = tc.Quadratic("linear")
    assert linear.forward(np.array([[2.0, 3.0]]), np.array([1])) == (4 + 4) / 2
    np.testing.assert_array_equal(linear.backward(), [[2.0, 2.0]])


def test_hinge_by_hand() -> None:
    loss = tc.MultiMarginLoss(margin=2.0)
    scores = np.array([[3.0, 2.0, 1.5], [0.0, 9.0, 5.0]])
    assert loss.forward(scores, np.array([0, 1])) == pytest.approx((1.0 + 0.5) / 6, rel=1e-15)
    np.testing.assert_allclose(6 * loss.backward(), [[-2.0, 1.0, 1.0], [0, 0, 0]], rtol=1e-15)
    np.testing.assert_array_equal(loss.probabilities(scores).argmax(axis=1), [0, 1])


# A label that is ignored, in a network.


@pytest.mark.parametrize("dtype", ["float32", "float64"])  # the plan, and layer by layer
@pytest.mark.parametrize("ignored", [0, 7])  # a class, and a number that is none
def test_running_figures_are_those_of_the_samples_that_count(dtype: str, ignored: int) -> None:
    rng = np.random.default_rng(3)
    x, y = rng.normal(size=(20, 4)).astype(dtype), rng.integers(1, 3, 20)
    y[[0, 1, 2, 3, 9, 11]] = ignored  # one batch of four is ignored
    loss = tc.CrossEntropyLoss(ignore_index=ignored)
    net = tc.Sequential([tc.Linear(4, 3)], seed=0, dtype=dtype)
    history = net.fit(
        x,
        y,
        batch_size=4,
        shuffle=False,
        loss=loss,
        optimizer=tc.SGD(lr=1e-12),
        verbose=False,
    )
    figures = net.evaluate(x, y)
    assert history["accuracy"] == [figures["accuracy"]]
    assert history["loss"] == [pytest.approx(figures["loss"], rel=1e-5)]


def test_ignored_samples_do_not_count() -> None:
    net = tc.Sequential([tc.Linear(2, 2, bias=False)], dtype="float64")
    net.parameters.flat[...] = [1, 0, 0, 1]  # the identity
    net.loss = tc.CrossEntropyLoss(ignore_index=9)
    x, y = np.array([[1.0, 0], [0, 1], [0, 1]]), np.array([0, 1, 9])
    assert net.evaluate(x, y) == net.evaluate(x[:2], y[:2])
    assert net.evaluate(x, y)["accuracy"] == 1
    message = "y runs from 0 to 9, expected 0 to 1"
    with pytest.raises(ArgumentError, match=message):
        net.fit(x, y, loss=tc.CrossEntropyLoss(), verbose=False)
    history = net.fit(x, y, loss=tc.CrossEntropyLoss(ignore_index=9), verbose=False)
    assert history["accuracy"] == [1]
    assert history["loss"] == [pytest.approx(np.log1p(np.exp(-1)))]  # of two alike, before the step
    with pytest.raises(ArgumentError, match="y runs from 0 to 8, expected 0 to 1"):
        net.evaluate(x, np.array([0, 8, 9]))


# Errors.


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: tc.CrossEntropyLoss([1.0, -1.0]), r"weight is \[1.0, -1.0\], expected "),
        (lambda: tc.CrossEntropyLoss(label_smoothing=1.5), "label_smoothing is 1.5, expected"),
        (lambda: tc.Quadratic("tanh"), "Quadratic: output is 'tanh', expected 'sigmoid' or 'lin"),
        (lambda: tc.HuberLoss(0), "HuberLoss: delta is 0, expected "),
        (lambda: tc.MultiMarginLoss(0), "MultiMarginLoss: margin is 0, expected "),
    ],
)
def test_arguments_out_of_range(make: Callable[[], Loss], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        make()


def test_a_file_with_wrong_arguments_is_refused() -> None:
    with pytest.raises(FileError, match="MultiMarginLoss: margin is 0, expected a number above 0"):
        LOSSES.make("MultiMarginLoss", {"margin": 0})
    with pytest.raises(FileError, match="loss SigmoidCrossEntropy does not take"):
        LOSSES.make("SigmoidCrossEntropy", {"margin": 1})


@pytest.mark.parametrize(
    "make", [tc.SigmoidCrossEntropy, tc.Quadratic, tc.MultiMarginLoss, tc.CrossEntropyLoss]
)
def test_labels_that_do_not_fit(make: Callable[[], Loss]) -> None:
    with pytest.raises(ArgumentError, match="labels run from 0 to 4, expected 0 to 3 because"):
        make().forward(np.zeros((2, 4)), np.array([0, 4]))
    with pytest.raises(ShapeError, match=r"labels has shape \(3,\), expected \(2,\)"):
        make().forward(np.zeros((2, 4)), np.array([0, 1, 2]))


def test_weights_that_do_not_fit() -> None:
    with pytest.raises(ShapeError, match=r"weight has shape \(2,\), expected \(4,\)"):
        tc.CrossEntropyLoss([1.0, 2.0]).forward(np.zeros((2, 4)), np.array([0, 1]))


# PyTorch.


@pytest.mark.oracle
@pytest.mark.parametrize("weight", [None, [0.5, 2.0, 1.0, 3.0]])
@pytest.mark.parametrize("ignored", [None, 2])
@pytest.mark.parametrize("smoothing", [0.0, 0.25, 1.0])
def test_cross_entropy_equals_pytorchs(
    torch: Any, weight: list[float] | None, ignored: int | None, smoothing: float
) -> None:
    theirs = torch.nn.CrossEntropyLoss(
        None if weight is None else torch.tensor(weight, dtype=torch.float64),
        ignore_index=-100 if ignored is None else ignored,
        label_smoothing=smoothing,
    )
    ours = tc.CrossEntropyLoss(weight, ignore_index=ignored, label_smoothing=smoothing)
    compare(torch, ours, theirs)


@pytest.mark.oracle
def test_the_others_equal_pytorchs(torch: Any) -> None:
    nn = torch.nn.functional

    def one_hot(t: Any) -> Any:
        return nn.one_hot(t, 4).double()

    def bce(x: Any, t: Any) -> Any:
        return 4 * nn.binary_cross_entropy_with_logits(x, one_hot(t))

    compare(torch, tc.SigmoidCrossEntropy(), bce)
    compare(torch, tc.Quadratic("linear"), lambda x, t: 2 * nn.mse_loss(x, one_hot(t)))
    compare(torch, tc.Quadratic(), lambda x, t: 2 * nn.mse_loss(x.sigmoid(), one_hot(t)))
    compare(torch, tc.MultiMarginLoss(0.7), lambda x, t: nn.multi_margin_loss(x, t, margin=0.7))


def compare(torch: Any, ours: Loss, theirs: Callable[[Any, Any], Any]) -> None:
    logits, labels = drawn()
    x = torch.tensor(logits, requires_grad=True)
    value = theirs(x, torch.tensor(labels))
    value.backward()
    assert float(ours.forward(logits, labels)) == pytest.approx(value.item(), rel=1e-12)
    np.testing.assert_allclose(ours.backward(), x.grad.numpy(), rtol=1e-10, atol=1e-13)

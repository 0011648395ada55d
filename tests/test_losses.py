import numpy as np
import pytest

import tinyconv as tc
from tinyconv.errors import ArgumentError, FileError, ShapeError
from tinyconv.losses import LOSSES


def test_by_hand() -> None:
    # Probabilities 1/4, 3/4 and 1/2, 1/2: the loss is the mean of log 4 and log 2.
    loss = tc.CrossEntropyLoss()
    logits = np.log(np.array([[0.25, 0.75], [0.5, 0.5]]))
    value = loss.forward(logits, np.array([0, 1]))
    assert value == pytest.approx(1.5 * np.log(2), rel=1e-15)
    np.testing.assert_allclose(loss.backward(), [[-0.375, 0.375], [0.25, -0.25]], rtol=1e-15)
    np.testing.assert_allclose(loss.probabilities(logits), [[0.25, 0.75], [0.5, 0.5]], rtol=1e-15)


def test_gradient_against_numeric_derivatives() -> None:
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(size=(4, 5)) * 3, np.array([0, 4, 2, 2])
    loss = tc.CrossEntropyLoss()
    loss.forward(logits, labels)
    dx = loss.backward()
    for place in np.ndindex(logits.shape):
        h = np.zeros_like(logits)
        h[place] = 1e-5
        slope = (loss.forward(logits + h, labels) - loss.forward(logits - h, labels)) / 2e-5
        assert dx[place] == pytest.approx(float(slope), rel=1e-7, abs=1e-10)


def test_huge_logits_do_not_overflow() -> None:
    loss = tc.CrossEntropyLoss()
    logits = np.array([[1e30, 0.0], [0.0, -1e30]], np.float32)
    assert loss.forward(logits, np.array([0, 0])) == 0
    assert loss.forward(logits, np.array([1, 0])) == np.float32(5e29)
    assert np.isfinite(loss.backward()).all()


def test_repr_names_the_class_and_the_name_leads_back() -> None:
    assert tc.SoftmaxLogLikelihood is tc.CrossEntropyLoss  # the book's name
    assert repr(tc.CrossEntropyLoss()) == "CrossEntropyLoss()"
    assert type(LOSSES.make("CrossEntropyLoss", {})) is tc.CrossEntropyLoss
    with pytest.raises(FileError, match="unknown loss 'Surprise'"):
        LOSSES.make("Surprise", {})


def test_errors() -> None:
    loss = tc.CrossEntropyLoss()
    x = np.zeros((2, 3))
    with pytest.raises(ArgumentError, match="labels run from 0 to 3, expected 0 to 2 because"):
        loss.forward(x, np.array([0, 3]))
    with pytest.raises(ShapeError, match=r"labels has shape \(3,\), expected \(2,\)"):
        loss.forward(x, np.array([0, 1, 2]))
    with pytest.raises(ShapeError, match=r"targets has shape \(2,\), expected \(2, 3\)"):
        loss.forward(x, np.zeros(2))

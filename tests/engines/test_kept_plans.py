"""Predictions of other sizes in turns have plans of their own, each made once."""

from typing import Any

import numpy as np
import pytest

import tinyconv as tc
from tinyconv.engines import plan_engine
from tinyconv.engines.plan import Plan

Made = list[int]


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Made:
    """Samples of the plans that are made; each four samples take another thread."""
    plans: Made = []

    class Noted(Plan):
        def __init__(self, net: Any, shape: Any, backend: Any) -> None:
            plans.append(backend.batch)
            super().__init__(net, shape, backend)

    monkeypatch.setattr(plan_engine, "Plan", Noted)
    monkeypatch.setattr(
        plan_engine.PlanEngine, "_threads", lambda self, shape, batch: 1 + batch // 4
    )
    return plans


@pytest.mark.parametrize(
    ("asked", "expected"),
    [((1, 6, 2, 5, 1, 6), [1, 6, 2]), ((1, 6, 1, 11, 1, 6), [1, 6, 11, 6])],
    ids=["few and many", "of three the one asked for longest ago goes"],
)
def test_predictions_in_turns(made: Made, asked: tuple[int, ...], expected: Made) -> None:
    net = tc.Sequential([tc.ReLU()], seed=0)
    x = np.random.default_rng(0).normal(size=(11, 3)).astype(np.float32)
    for count in asked:
        np.testing.assert_array_equal(net.logits(x[:count]), np.maximum(x[:count], 0))
    assert made == expected


def test_a_changed_network_has_other_plans(made: Made) -> None:
    net = tc.Sequential([tc.ReLU()], seed=0)
    x = np.float32([[-1, 2]])
    net.logits(x)
    net.layers[0] = tc.LeakyReLU(0.5)
    assert net.logits(x).tolist() == [[-0.5, 2]]
    assert made == [1, 1]

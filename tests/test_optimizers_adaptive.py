"""Adagrad, RMSProp, Adam, AdamW and what all rules share: clipping, weight decay, errors."""

from pathlib import Path
from typing import Any

import array_api_strict
import numpy as np
import pytest

import tinyconv as tc
from tinyconv.optimizers import Optimizer

#: Every rule with each of its branches; the comparison with PyTorch takes the same constants.
RULES: list[tuple[str, dict[str, Any]]] = [
    ("SGD", {"lr": 0.1}),
    ("SGD", {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.05}),
    ("SGD", {"lr": 0.1, "momentum": 0.8, "nesterov": True}),
    ("Adagrad", {}),
    ("Adagrad", {"lr": 0.1, "weight_decay": 0.05, "initial_accumulator_value": 0.5, "eps": 1e-3}),
    ("RMSProp", {}),
    ("RMSProp", {"lr": 0.02, "alpha": 0.9, "eps": 1e-3, "weight_decay": 0.05}),
    ("RMSProp", {"momentum": 0.9}),
    ("RMSProp", {"centered": True, "momentum": 0.5}),
    ("Adam", {}),
    ("Adam", {"lr": 0.02, "betas": (0.8, 0.95), "eps": 1e-3, "weight_decay": 0.05}),
    ("AdamW", {}),
    ("AdamW", {"lr": 0.02, "betas": (0.8, 0.95), "eps": 1e-3, "weight_decay": 0.5}),
]
IDS = [f"{name}-{','.join(f'{k}={v}' for k, v in options.items())}" for name, options in RULES]


def make(name: str, options: dict[str, Any]) -> Optimizer:
    rule: Optimizer = getattr(tc, name)(**options)
    return rule


def steps(rule: Optimizer, w: list[float], *gradients: list[float], decay: Any = None) -> Any:
    """The parameters after each step."""
    at = np.array(w)
    state = rule.init(at)
    visited = []
    for dw in gradients:
        rule.update(at, np.array(dw), state, np.ones(len(w)) if decay is None else np.array(decay))
        visited.append(at.copy())
    return np.array(visited)


# The first two steps, worked out by hand.


def test_adagrad_divides_by_the_root_of_all_squares() -> None:
    visited = steps(tc.Adagrad(lr=2.0, eps=1.0), [1.0, 0.0], [3.0, -5.0], [4.0, 12.0])
    first = [1 - 2 * 3 / (3 + 1), 2 * 5 / (5 + 1)]
    second = [first[0] - 2 * 4 / (5 + 1), first[1] - 2 * 12 / (13 + 1)]
    np.testing.assert_allclose(visited, [first, second], rtol=1e-15)


def test_adagrad_starts_at_the_initial_accumulator_value() -> None:
    rule = tc.Adagrad(lr=1.0, initial_accumulator_value=16.0)
    np.testing.assert_allclose(steps(rule, [0.0], [3.0]), [[-3 / 5]], rtol=1e-9)


def test_rmsprop_with_momentum() -> None:
    # s = 4 after either step, so the divisor is 2 + eps = 4; r = 1, then 1/2; v = 1, then 1.
    rule = tc.RMSProp(lr=2.0, alpha=0.75, eps=2.0, momentum=0.5)
    np.testing.assert_allclose(steps(rule, [10.0], [4.0], [2.0]), [[8.0], [6.0]], rtol=1e-15)


def test_rmsprop_centered() -> None:
    # Step 1: s = 8, a = 2, variance 4. Step 2: s = 4 + 72, a = 1 + 6, variance 27.
    rule = tc.RMSProp(lr=1.0, alpha=0.5, eps=2.0, centered=True)
    expected = [[-4 / (2 + 2)], [-1 - 12 / (27**0.5 + 2)]]
    np.testing.assert_allclose(steps(rule, [0.0], [4.0], [12.0]), expected, rtol=1e-15)


def test_adam_corrects_both_running_means() -> None:
    # Step 1: m / (1/2) = 2, v / (1/4) = 4. Step 2: m = 1/2 - 1 over 3/4, v = 7/4 over 7/16.
    rule = tc.Adam(lr=1.0, betas=(0.5, 0.75), eps=2.0)
    expected = [[4 - 2 / (2 + 2)], [3.5 + (2 / 3) / (2 + 2)]]
    np.testing.assert_allclose(steps(rule, [4.0], [2.0], [-2.0]), expected, rtol=1e-15)


def test_adam_adds_weight_decay_to_the_gradient_of_weights_alone() -> None:
    rule = tc.Adam(lr=1.0, betas=(0.5, 0.75), eps=2.0, weight_decay=0.5)
    # 0 + 0.5 * 4 and -3.75 + 0.5 * 3.5 are the 2 and the -2 of the second parameter, a bias.
    visited = steps(rule, [4.0, 4.0], [0.0, 2.0], [-3.75, -2.0], decay=[1.0, 0.0])
    np.testing.assert_allclose(visited, [[3.5, 3.5], [3.5 + 1 / 6] * 2], rtol=1e-15)


def test_adamw_shrinks_weights_before_the_step() -> None:
    rule = tc.AdamW(lr=1.0, betas=(0.5, 0.75), eps=2.0, weight_decay=0.5)
    visited = steps(rule, [8.0, 8.0], [2.0, 2.0], [-2.0, -2.0], decay=[1.0, 0.0])
    np.testing.assert_allclose(
        visited, [[4 - 0.5, 8 - 0.5], [1.75 + 1 / 6, 7.5 + 1 / 6]], rtol=1e-15
    )


# What all rules share.


def test_clipping_bounds_the_length_of_the_whole_gradient() -> None:
    visited = steps(tc.SGD(lr=1.0, clip_norm=1.0), [0.0, 0.0], [3.0, -4.0])
    np.testing.assert_allclose(visited, [[-0.6, 0.8]], rtol=1e-6)


def test_clipping_leaves_a_short_gradient_as_it_is() -> None:
    rule = tc.SGD(lr=1.0, clip_norm=5.5)
    np.testing.assert_array_equal(steps(rule, [0.0, 0.0], [3.0, -4.0]), [[-3.0, 4.0]])
    np.testing.assert_array_equal(steps(rule, [2.0], [0.0]), [[2.0]])


def test_clipping_comes_before_weight_decay() -> None:
    rule = tc.SGD(lr=1.0, weight_decay=0.5, clip_norm=1.0)
    np.testing.assert_allclose(steps(rule, [8.0], [100.0]), [[8 - 1 - 4]], rtol=1e-6)


@pytest.mark.parametrize(("name", "options"), RULES, ids=IDS)
@pytest.mark.parametrize("clip_norm", [None, 0.5])
def test_update_keeps_the_gradient_and_the_dtype(
    name: str, options: dict[str, Any], clip_norm: float | None
) -> None:
    rule = make(name, {**options, "clip_norm": clip_norm})
    w = np.array([1.0, -2.0], np.float32)
    dw = np.array([3.0, 4.0], np.float32)
    state = rule.init(w)
    before = {key: array.dtype for key, array in state.items()}
    rule.update(w, dw, state, np.array([1.0, 0.0], np.float32))
    np.testing.assert_array_equal(dw, [3.0, 4.0])
    assert w.dtype == np.float32
    assert {key: array.dtype for key, array in state.items()} == before


@pytest.mark.parametrize(("name", "options"), RULES, ids=IDS)
def test_the_rate_and_the_number_of_the_step_come_from_the_caller(
    name: str, options: dict[str, Any]
) -> None:
    """The network's step number does not matter: a rule starts afresh in every run."""
    rule, twin = make(name, options), make(name, {**options, "lr": 0.25})
    a, b = np.array([1.0, -2.0]), np.array([1.0, -2.0])
    state_a, state_b = rule.init(a), twin.init(b)
    for number in range(3):
        dw = np.array([0.5, 1.0 - number])
        rule.update(a, dw, state_a, np.ones(2), lr=0.25, step=1000 + number)
        twin.update(b, dw, state_b, np.ones(2))
    np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(("name", "options"), RULES, ids=IDS)
def test_any_array_library(name: str, options: dict[str, Any]) -> None:
    rng = np.random.default_rng(0)
    rule = make(name, {**options, "clip_norm": 2.0})
    w, decay = rng.normal(size=6), np.array([1.0, 1.0, 0.0, 1.0, 0.0, 1.0])
    theirs = array_api_strict.asarray(w.copy())
    state, their_state = rule.init(w), rule.init(theirs)
    for _ in range(3):
        dw = rng.normal(size=6)
        rule.update(w, dw, state, decay)
        their_dw, their_decay = array_api_strict.asarray(dw), array_api_strict.asarray(decay)
        rule.update(theirs, their_dw, their_state, their_decay)
    np.testing.assert_allclose(np.asarray(theirs), w, rtol=1e-12)


def test_a_resumed_run_continues_bit_for_bit(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(40, 4)).astype(np.float32), rng.integers(0, 3, 40)

    def train(epochs: int, **how: Any) -> Any:
        net = tc.Sequential([tc.Linear(4, 5), tc.Tanh(), tc.Linear(5, 3)], seed=1)
        rule = tc.Adam(lr=0.05, clip_norm=0.3)
        net.fit(x, y, epochs=epochs, optimizer=rule, verbose=False, **how)
        return net.parameters.flat

    train(2, checkpoint=tmp_path / "run")
    resumed = train(4, checkpoint=tmp_path / "run", resume=True)
    np.testing.assert_array_equal(resumed, train(4))


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("SGD", {"lr": 0.0}, "SGD: lr is 0.0, expected a number above 0"),
        ("SGD", {"lr": float("nan")}, "SGD: lr is nan, expected a number above 0"),
        ("SGD", {"momentum": 1.0}, "SGD: momentum is 1.0, expected a number"),
        ("SGD", {"weight_decay": -1}, "SGD: weight_decay is -1, expected a number"),
        ("SGD", {"nesterov": True}, "SGD: nesterov is True, expected momentum greater than 0"),
        ("SGD", {"clip_norm": 0.0}, "SGD: clip_norm is 0.0, expected a number above 0 or None"),
        ("Adagrad", {"eps": 0.0}, "Adagrad: eps is 0.0, expected a number above 0"),
        (
            "Adagrad",
            {"initial_accumulator_value": -1.0},
            "Adagrad: initial_accumulator_value is -1.0, expected a number",
        ),
        ("RMSProp", {"alpha": 1.0}, "RMSProp: alpha is 1.0, expected a number"),
        ("RMSProp", {"eps": -1.0}, "RMSProp: eps is -1.0, expected a number above 0"),
        ("RMSProp", {"momentum": -0.1}, "RMSProp: momentum is -0.1, expected a number"),
        ("Adam", {"betas": (0.9, 1.0)}, r"Adam: betas is \(0.9, 1.0\), expected two numbers"),
        ("Adam", {"betas": (0.9,)}, r"Adam: betas is \(0.9,\), expected two numbers"),
        ("AdamW", {"eps": 0.0}, "AdamW: eps is 0.0, expected a number above 0"),
    ],
)
def test_constants_out_of_range(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(tc.ArgumentError, match=message):
        make(name, {"lr": 0.1, **options})


# PyTorch.


@pytest.mark.oracle
@pytest.mark.parametrize(("name", "options"), RULES, ids=IDS)
@pytest.mark.parametrize("clip_norm", [None, 0.7])
@pytest.mark.parametrize(("dtype", "close"), [("float64", 1e-12), ("float32", 1e-6)])
def test_a_hundred_steps_are_those_of_pytorch(
    name: str, options: dict[str, Any], clip_norm: float | None, dtype: str, close: float
) -> None:
    """On a noisy quadratic: gradients follow from the parameters, so that errors would grow."""
    torch = pytest.importorskip("torch", reason='needs pip install "tinyconv[oracle]"')
    rng = np.random.default_rng(3)
    noise = rng.normal(size=(100, 20)).astype(dtype)
    scale = np.logspace(-2, 0, 20).astype(dtype)
    w = rng.normal(size=20).astype(dtype)
    theirs = torch.nn.Parameter(torch.tensor(w))
    their_rule = getattr(torch.optim, {"RMSProp": "RMSprop"}.get(name, name))([theirs], **options)
    rule = make(name, {**options, "clip_norm": clip_norm})
    state = rule.init(w)
    for number in range(100):
        rule.update(w, scale * (w + noise[number]), state, np.ones_like(w), step=number)
        theirs.grad = torch.tensor(scale) * (theirs.detach() + torch.tensor(noise[number]))
        if clip_norm is not None:
            torch.nn.utils.clip_grad_norm_([theirs], clip_norm)
        their_rule.step()
    np.testing.assert_allclose(w, theirs.detach().numpy(), rtol=close, atol=close)

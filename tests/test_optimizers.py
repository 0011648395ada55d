from typing import Any

import numpy as np
import pytest

import tinyconv as tc
from tinyconv.errors import ArgumentError


def steps(sgd: tc.SGD, w: float, grads: list[float], decay: float = 1.0) -> list[float]:
    """The values of one parameter after each step."""
    flat, places = np.array([w]), np.array([decay])
    state, values = sgd.init(flat), []
    for step, grad in enumerate(grads):
        sgd.update(flat, np.array([grad]), state, places, step=step)
        values.append(float(flat[0]))
    return values


def test_plain() -> None:
    assert steps(tc.SGD(lr=0.5), 1.0, [2.0, -4.0]) == [0.0, 2.0]


def test_momentum() -> None:
    # v: 2, then 0.5 * 2 + 4 = 5.
    assert steps(tc.SGD(lr=0.5, momentum=0.5), 1.0, [2.0, 4.0]) == [0.0, -2.5]


def test_nesterov() -> None:
    # v: 2, 5; the steps are g + v / 2: 2 + 1 and 4 + 2.5.
    sgd = tc.SGD(lr=0.5, momentum=0.5, nesterov=True)
    assert steps(sgd, 1.0, [2.0, 4.0]) == [-0.5, -3.75]


def test_weight_decay() -> None:
    sgd = tc.SGD(lr=0.5, weight_decay=0.25)
    assert steps(sgd, 8.0, [2.0]) == [6.0]  # 8 - (2 + 8 / 4) / 2
    assert steps(sgd, 8.0, [2.0], decay=0.0) == [7.0]


def test_the_rate_of_a_step_overrides() -> None:
    w, sgd = np.array([1.0]), tc.SGD(lr=100.0)
    sgd.update(w, np.array([2.0]), {}, np.ones(1), lr=0.25)
    assert w.tolist() == [0.5]


@pytest.mark.parametrize("nesterov", [False, True])
def test_gradients_stay_and_types_stay(nesterov: bool) -> None:
    sgd = tc.SGD(lr=0.1, momentum=0.9, nesterov=nesterov, weight_decay=0.1)
    w, dw = np.ones(4, np.float32), np.full(4, 2, np.float32)
    state = sgd.init(w)
    for _ in range(2):
        sgd.update(w, dw, state, np.ones(4, np.float32))
    assert (dw == 2).all()
    assert w.dtype == np.float32
    assert [(name, v.dtype, v.shape) for name, v in state.items()] == [
        ("velocity", np.float32, (4,))
    ]
    assert not np.shares_memory(state["velocity"], w)


def test_nothing_is_remembered_without_momentum() -> None:
    assert tc.SGD(lr=0.1).init(np.ones(3)) == {}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"lr": 0}, "SGD: lr is 0, expected a number above 0"),
        ({"lr": -0.1}, "SGD: lr is -0.1, expected"),
        ({"lr": float("nan")}, "SGD: lr is nan, expected"),
        ({"lr": 1, "momentum": 1}, "SGD: momentum is 1, expected a number"),
        ({"lr": 1, "momentum": -0.1}, "SGD: momentum is -0.1, expected"),
        ({"lr": 1, "momentum": float("nan")}, "SGD: momentum is nan, expected"),
        ({"lr": 1, "weight_decay": -1}, "SGD: weight_decay is -1, expected a number"),
        ({"lr": 1, "weight_decay": float("nan")}, "SGD: weight_decay is nan, expected a number"),
        ({"lr": 1, "nesterov": True}, "SGD: nesterov is True, expected momentum greater than 0"),
    ],
)
def test_constants_out_of_range(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        tc.SGD(**arguments)


@pytest.mark.oracle
@pytest.mark.parametrize(
    "constants",
    [
        {},
        {"momentum": 0.9},
        {"momentum": 0.8, "nesterov": True},
        {"weight_decay": 0.05},
        {"momentum": 0.9, "weight_decay": 0.05},
        {"momentum": 0.7, "nesterov": True, "weight_decay": 0.05},
    ],
)
def test_equals_torch_over_100_steps(torch: Any, constants: dict[str, Any]) -> None:
    """A network of ours and its twin see the same batches; weights decay, biases do not."""
    rng = np.random.default_rng(0)
    net = tc.Sequential(
        [tc.Linear(6, 8, bias_init="normal"), tc.Tanh(), tc.Linear(8, 3)], seed=1, dtype="float64"
    )
    twin = torch.nn.Sequential(torch.nn.Linear(6, 8), torch.nn.Tanh(), torch.nn.Linear(8, 3))
    twin = twin.double()
    twin.load_state_dict({name: torch.from_numpy(w) for name, w in net.state_dict().items()})
    weights = [p for name, p in twin.named_parameters() if name.endswith("weight")]
    biases = [p for name, p in twin.named_parameters() if name.endswith("bias")]
    theirs = torch.optim.SGD(
        [{"params": weights}, {"params": biases, "weight_decay": 0.0}], lr=0.1, **constants
    )
    ours = tc.SGD(lr=0.1, **constants)
    state = ours.init(net.parameters.flat)
    for step in range(100):
        x, y = rng.normal(size=(5, 6)), rng.integers(0, 3, 5)
        net.loss_and_grads(x, y)
        own = net.parameters
        ours.update(own.flat, own.flat_grad, state, own.decay, step=step)
        theirs.zero_grad()
        loss = torch.nn.functional.cross_entropy(twin(torch.from_numpy(x)), torch.from_numpy(y))
        loss.backward()
        theirs.step()
    for name, w in twin.state_dict().items():
        np.testing.assert_allclose(net.state_dict()[name], w.numpy(), rtol=1e-6, atol=1e-9)

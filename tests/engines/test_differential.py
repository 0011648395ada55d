"""Any network, drawn by number, under both engines: the same results, or the same error."""

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import pytest
from drawn import Case, case
from stochastic import EPS, Rounded, round_by_chance

import tinyconv as tc
from tinyconv.engines.eager import EagerEngine

Array = np.ndarray[Any, Any]

#: How far the plan may be from the layers run one by one, in units of how far these are from
#: themselves with every operation rounded by chance.
FACTOR = 5
#: Runs rounded by chance, at most; most nets need none.
RUNS = 40


def outcome(drawn: Case, engine: str, seed: int | None = None) -> dict[str, Any]:
    """Everything that training leaves behind: arrays, figures, or the text of the error.

    Args:
        drawn: the network and its data.
        engine: what trains it.
        seed: of the eager engine with every operation rounded by chance.
    """
    net, optimizer = drawn.net("float32" if seed is None else "float64"), drawn.optimizer()
    if seed is not None:
        net.build(tuple(drawn.x.shape[1:]))
        round_by_chance(net, optimizer, seed)
    found: dict[str, Any] = {"error": ""}
    names = ["loss", *drawn.metrics]
    with np.errstate(all="ignore"):
        try:
            history = net.fit(
                drawn.x,
                drawn.y,
                epochs=2,
                batch_size=drawn.batch_size,
                engine=engine,
                loss=drawn.loss(),
                optimizer=optimizer,
                sample_weight=drawn.often,
                metrics=drawn.metrics,
                verbose=False,
            )
            found |= {f"history {name}": np.array(history[name]) for name in names}
        except (tc.NonFiniteError, tc.ShapeError) as error:
            found["error"] = str(error)
        found.update(net.state_dict())
        try:
            if engine == "plan":
                found["logits"] = net.logits(drawn.x, 4)
            else:
                x = np.asarray(drawn.x[np.arange(len(drawn.x))], net.dtype)
                pieces = [np.asarray(net.forward(x[k : k + 4])) for k in range(0, len(x), 4)]
                found["logits"] = np.concatenate(pieces)
            if engine != "plan":
                net._engine = EagerEngine(net)
            figures = net.evaluate(
                *(drawn.x, drawn.y),
                metrics=drawn.metrics,
                sample_weight=drawn.often,
                batch_size=4,
            )
            found["evaluation"] = np.array([*figures.values()])
        except tc.NonFiniteError:
            found["evaluation"] = np.full(len(names), np.nan)
        except tc.ShapeError as error:
            found["prediction"] = str(error)
    return found


def kinds(x: Array) -> Array:
    """What the numbers are: 0 for finite ones, 1 and -1 for infinity, 2 for NaN."""
    return np.where(np.isnan(x), 2, np.where(np.isfinite(x), 0, np.sign(x)))


def differs(got: Array, expected: Array, others: Iterable[Array]) -> str:
    """Say how far a result is from another one that is equal but for rounding, if it is too far.

    Args:
        got: the result.
        expected: the other one.
        others: what may stand in its place as well; asked for one by one until they explain it.
    """
    kind = kinds(got)
    same = kind == kinds(expected)
    finite = np.isfinite(got) & np.isfinite(expected)
    expected, got = (np.where(finite, x, 0.0).astype(np.float64) for x in (expected, got))
    worst, scale = (np.abs(x).max(initial=0.0) for x in (got - expected, expected))
    rounding, many = 0.0, iter(others)
    while True:
        allowed = FACTOR * rounding + 2e-5 * scale + 1e-6
        if same.all() and worst <= allowed:
            return ""
        other = next(many, None)
        if other is None:
            return f"off by {worst}, {allowed} expected; {int((~same).sum())} of another kind"
        same |= kinds(other) == kind
        both = finite & np.isfinite(other)
        rounding = max(rounding, np.abs(expected - other)[both].max(initial=0.0))


def check(number: int) -> None:
    """Compare the engines; runs rounded by chance say how far they may be apart."""
    drawn = case(number)
    tc.set_num_threads(drawn.threads)
    try:
        plan, eager = outcome(drawn, "plan"), outcome(drawn, "eager")
    finally:
        tc.set_num_threads(None)
    made: list[dict[str, Any]] = []

    def others(name: str) -> Iterator[Array]:
        """The array as it is with other rounding; made when the first one asks."""
        for seed in range(RUNS):
            if seed == len(made):
                made.append(outcome(drawn, "eager", seed))
            if made[seed]["error"] == eager["error"] and name in made[seed]:
                yield made[seed][name]

    text = f"case {number}: {drawn.net()!r} on {drawn.x.shape}"
    assert plan.keys() == eager.keys(), text
    for name, expected in eager.items():
        if isinstance(expected, str):
            assert plan[name] == expected, text
        else:
            fault = differs(plan[name], expected, others(name))
            assert not fault, f"{text}\n{name}: {fault}"


#: Nets whose kernels those of ``nets.py`` have, too; of every other one some layers are frozen.
FEW = (78, 98, 200, 213, 230, 256, 332, 342, 356, 374, 583)
#: Biases alone reach an output; a rule squares a gradient of 1e24; a gradient that is 0 but for
#: rounding moves a bias; one sample where a user's chain holds a batch norm; products that overflow
#: with both signs; a gradient that is NaN inside of a container without a kernel; a near-tie of
#: GELUs far below 0.
FOUND = (795, 876, 3535, 4222, 5005, 11278, 1014772)


@pytest.mark.parametrize("number", [*FEW, *FOUND])
def test_both_engines_do_the_same(number: int) -> None:
    check(number)


@pytest.mark.slow
@pytest.mark.parametrize("hundred", range(22))
def test_both_engines_do_the_same_with_two_thousand_nets(hundred: int) -> None:
    for number in range(100 * hundred, 100 + 100 * hundred):
        check(number)


def test_a_difference_would_be_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights that differ by a thousandth, and an error in one engine alone."""
    real = outcome

    def bent(drawn: Case, engine: str, seed: int | None = None) -> dict[str, Any]:
        found = real(drawn, engine, seed)
        if engine == "plan":
            name = next(name for name in found if name.endswith("weight"))
            found[name] = found[name] * np.float32(1.001)
        return found

    monkeypatch.setitem(globals(), "outcome", bent)
    with pytest.raises(AssertionError, match="case 200: "):
        check(200)


def test_a_difference_is_measured_by_what_rounding_makes() -> None:
    one, others = np.float32([1.0]), [np.array([1.0 + 1e-3]), np.array([np.nan])]
    assert differs(one, one + np.float32(1e-5), []) == ""
    assert differs(one * np.float32(1.004), one, others) == ""
    assert differs(one * np.float32(1.006), one, others).startswith("off by 0.006")
    assert differs(one * np.nan, one, others) == ""
    assert differs(one * np.inf, one, others).endswith("1 of another kind")


def test_rounding_by_chance() -> None:
    """Between two numbers of float32, the nearer one is more frequent; exact ones stay."""
    Rounded.rng = np.random.default_rng(0)
    x = np.ones(1000).view(Rounded)
    assert set(np.asarray(x * 3)) == {3.0}
    quarter = np.asarray(x + EPS / 4)
    assert set(quarter) == {1.0, 1.0 + EPS}
    assert np.mean(quarter) == pytest.approx(1 + EPS / 4, abs=EPS / 20)


def test_sums_by_chance() -> None:
    """A sum of terms that cancel is rounding; of those that overflow with both signs, anything."""
    Rounded.rng = np.random.default_rng(0)
    ones = np.tile([1.0, -1.0], (50, 4)).view(Rounded)
    assert 0 < np.abs(np.sum(ones, axis=1)).max() < 8 * EPS
    huge = 3e38 * ones
    with np.errstate(all="ignore"):
        found = kinds(np.asarray(np.matmul(huge, np.ones(8))))
        assert set(kinds(np.asarray(np.sum(np.abs(huge), axis=1)))) == {1}
    assert set(found) == {-1, 0, 1, 2}

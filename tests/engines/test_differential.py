"""Any network, drawn by number, under both engines: the same results, or the same error."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from drawn import Case, case

import tinyconv as tc

Array = np.ndarray[Any, Any]

#: How often float32 rounding may be as large as it was in the layers run one by one.
FACTOR = 30


def outcome(
    drawn: Case, engine: str, dtype: str = "float32", nudge: int | None = None
) -> dict[str, Any]:
    """Everything that training leaves behind: arrays, figures, or the text of the error.

    Args:
        drawn: the network and its data.
        engine: what trains it.
        dtype: of the network.
        nudge: moves each initial weight to a number beside it, drawn by this seed.
    """
    net = drawn.net(dtype)
    if nudge is not None:
        net.build(tuple(drawn.x.shape[1:]))
        flat = net.parameters.flat
        up = np.random.default_rng(nudge).integers(0, 2, flat.size, bool)
        flat[...] = np.nextafter(flat, np.where(up, np.inf, -np.inf).astype(flat.dtype))
    found: dict[str, Any] = {"error": ""}
    with np.errstate(all="ignore"):
        try:
            history = net.fit(
                drawn.x,
                drawn.y,
                epochs=2,
                batch_size=drawn.batch_size,
                engine=engine,
                loss=drawn.loss(),
                optimizer=drawn.optimizer(),
                verbose=False,
            )
            found["history loss"] = np.array(history["loss"])
        except (tc.NonFiniteError, tc.ShapeError) as error:
            found["error"] = str(error)
        found.update(net.state_dict())
        try:
            if engine == "plan":
                found["logits"] = net.logits(drawn.x, 4)
            else:
                x = np.asarray(drawn.x[np.arange(len(drawn.x))], dtype)
                pieces = [net.forward(x[k : k + 4]) for k in range(0, len(x), 4)]
                found["logits"] = np.concatenate(pieces)
        except tc.ShapeError as error:
            found["prediction"] = str(error)
    return found


def check(number: int) -> None:
    """Compare the engines; float64, and weights that differ by rounding, say how large that is."""
    drawn = case(number)
    tc.set_num_threads(drawn.threads)
    try:
        plan, eager = outcome(drawn, "plan"), outcome(drawn, "eager")
    finally:
        tc.set_num_threads(None)
    made: list[dict[str, Any]] = []

    def others() -> Iterator[dict[str, Any]]:
        """What eager training gives with other rounding; made when the first array asks."""
        for number in range(4):
            if number == len(made):
                changed = {"dtype": "float64"} if number == 0 else {"nudge": number}
                made.append(outcome(drawn, "eager", **changed))
            yield made[number]

    text = f"case {number}: {drawn.net()!r} on {drawn.x.shape}"
    assert plan.keys() == eager.keys(), text
    for name, expected in eager.items():
        got = plan[name]
        if isinstance(expected, str):
            assert got == expected, text
            continue
        with np.errstate(all="ignore"):
            np.testing.assert_array_equal(np.isnan(got), np.isnan(expected), err_msg=text)
            kept = np.isfinite(expected) & np.isfinite(got)
            np.testing.assert_array_equal(got[~kept], expected[~kept], err_msg=text)
            if not kept.any():
                continue
            scale = float(np.abs(expected[kept]).max())
            worst = float(np.abs(got[kept].astype(np.float64) - expected[kept]).max())
            rounding = 0.0
            for other in others():
                if worst <= FACTOR * rounding + 2e-5 * scale + 1e-6:
                    break
                if other["error"] == eager["error"] and name in other:
                    both = kept & np.isfinite(other[name])
                    apart = np.abs(expected - other[name])[both].max(initial=0.0)
                    rounding = max(rounding, float(apart))
        assert worst <= FACTOR * rounding + 2e-5 * scale + 1e-6, f"{text}\n{name}: {worst}"


#: Those of the first nets that need few kernels compiled which no other test does.
FEW = (1, 2, 3, 4, 5, 6, 9, 12, 13, 15)
#: Biases alone reach an output; a rule squares a gradient of 1e24.
FOUND = (795, 876)


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

    def bent(drawn: Case, engine: str, **changed: Any) -> dict[str, Any]:
        found = real(drawn, engine, **changed)
        if engine == "plan":
            name = next(name for name in found if name.endswith("weight"))
            found[name] = found[name] * np.float32(1.001)
        return found

    monkeypatch.setitem(globals(), "outcome", bent)
    with pytest.raises(AssertionError, match="case 1: "):
        check(1)

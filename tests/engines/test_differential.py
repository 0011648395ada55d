"""Any network, drawn by number, under both engines: the same results, or the same error."""

from typing import Any

import numpy as np
import pytest
from drawn import Case, case

import tinyconv as tc

Array = np.ndarray[Any, Any]

#: How often float32 rounding may be as large as it was in the layers run one by one.
FACTOR = 30


def outcome(drawn: Case, engine: str, dtype: str = "float32") -> dict[str, Any]:
    """Everything that training leaves behind: arrays, figures, or the text of the error."""
    net = drawn.net(dtype)
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
    """Compare the engines; float64 says how large rounding is."""
    drawn = case(number)
    tc.set_num_threads(drawn.threads)
    try:
        plan, eager = outcome(drawn, "plan"), outcome(drawn, "eager")
    finally:
        tc.set_num_threads(None)
    exact = outcome(drawn, "eager", "float64")
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
            rounding = 0.0
            if exact["error"] == eager["error"] and name in exact:
                both = kept & np.isfinite(exact[name])
                rounding = float(np.abs(expected - exact[name])[both].max(initial=0.0))
            worst = float(np.abs(got[kept].astype(np.float64) - expected[kept]).max())
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

    def bent(drawn: Case, engine: str, dtype: str = "float32") -> dict[str, Any]:
        found = real(drawn, engine, dtype)
        if engine == "plan":
            name = next(name for name in found if name.endswith("weight"))
            found[name] = found[name] * np.float32(1.001)
        return found

    monkeypatch.setitem(globals(), "outcome", bent)
    with pytest.raises(AssertionError, match="case 1: "):
        check(1)

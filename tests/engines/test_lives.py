"""The life of a network, drawn by number: the plan and the layers stay together all along it.

Twins are trained, asked, changed, copied and saved in one order, one under the plan, one under the
layers. After every event they have the same parameters and running statistics, or had the same
error; then one takes over those of the other, so that rounding does not add up.
"""

import copy
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from drawn import Case, Doubled, Draw, Halved, case

import tinyconv as tc
from tinyconv import layers as L
from tinyconv.layers import LAYERS

Array = np.ndarray[Any, Any]
Event = Callable[[tc.Sequential, str], Any]
REFUSALS = (tc.NonFiniteError, tc.ShapeError, tc.StateError, tc.ArgumentError)
#: Of the largest number, that rounding may make in one event.
TOLERANCE = 1e-2


@pytest.fixture(autouse=True)
def known(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let files name the layers of a user's, here alone: other tests have some of these names."""
    for kind in (Halved, Doubled):
        monkeypatch.setitem(LAYERS, kind.__name__, kind)


def fitted(drawn: Case, draw: Draw) -> Event:
    """One or two epochs, with any of the things that a run can have."""
    options: dict[str, Any] = {"epochs": draw.of([1, 2]), "batch_size": draw.of([1, 2, 4, 9])}
    options["shuffle"] = draw.chance()
    if draw.chance(0.3):
        options["sample_weight"] = draw.rng.random(len(drawn.x)) + 0.1
    has_rule, averages = draw.chance(), draw.chance(0.3)

    def event(net: tc.Sequential, engine: str) -> Any:
        return net.fit(
            drawn.x,
            drawn.y,
            engine=engine,
            loss=drawn.loss(),
            optimizer=drawn.optimizer() if has_rule else None,
            callbacks=[tc.AverageWeights(0.5)] if averages else [],
            verbose=False,
            **options,
        )["loss"]

    return event


def asked(drawn: Case, draw: Draw) -> Event:
    """A prediction of few or many samples."""
    shape = draw.of([1, 5, 40]), *drawn.x.shape[1:]
    x, size = draw.rng.normal(size=shape).astype(np.float32), draw.of([1, 7, 64])

    def event(net: tc.Sequential, engine: str) -> Any:
        if engine == "plan":
            return net.logits(x, size)
        return np.concatenate([net.forward(x[k : k + size]) for k in range(0, len(x), size)])

    return event


def stepped(drawn: Case, draw: Draw) -> Event:
    """Steps by hand."""
    n, steps = int(draw.rng.integers(1, len(drawn.x) + 1)), draw.of([1, 3])
    x = np.asarray(drawn.x[np.arange(n)], np.float32)

    def event(net: tc.Sequential, engine: str) -> Any:
        net.start_training(loss=drawn.loss(), optimizer=drawn.optimizer(), engine=engine)
        return [net.train_step(x, drawn.y[:n]) for _ in range(steps)]

    return event


def changed(drawn: Case, draw: Draw) -> Event:
    """Another option, other values, another layer, a frozen one."""
    seed = int(draw.rng.integers(1 << 30))

    def event(net: tc.Sequential, engine: str) -> None:
        again = Draw(seed)
        leaf = again.of([*net.walk()])
        what = again.of(["option", "values", "array", "flat", "layer", "frozen"])
        if what == "option" and isinstance(leaf, L.Dropout):
            leaf.p = again.of([0.0, 0.4])
        elif what == "option" and hasattr(leaf, "eps"):
            leaf.eps = 1e-2
        elif what in ("values", "array") and leaf.params:
            name = again.of(list(leaf.params))
            array = again.rng.normal(size=leaf.params[name].shape).astype(np.float32) / 4
            if what == "array":
                leaf.params[name] = array
            leaf.params[name][...] = array
        elif what == "flat":
            net.parameters.flat[...] *= np.float32(0.9)
        elif what == "layer":
            place = int(again.rng.integers(len(net.layers)))
            net.layers.insert(place, again.of([again.activation(), Halved(), L.Dropout(0.3)]))
        elif (
            what == "frozen"
            and leaf.params
            and any(other.trainable for other in net.walk() if other.params and other is not leaf)
        ):
            leaf.trainable = not leaf.trainable

    return event


def kept(net: tc.Sequential, how: str, folder: Path) -> tc.Sequential:
    """What comes back from a copy or a file, frozen where the network is: no file says that."""
    if how == "pickle":
        back = pickle.loads(pickle.dumps(net))
    elif how == "copy":
        back = copy.deepcopy(net)
    else:
        net.save(folder / "net.safetensors")
        back = tc.load(folder / "net.safetensors")
    for ours, theirs in zip(net.walk(), back.walk(), strict=True):
        theirs.trainable = ours.trainable
    return back


def assert_close(got: Any, expected: Any, what: str) -> None:
    got, expected = np.asarray(got, np.float64), np.asarray(expected, np.float64)
    scale = max(1e-2, np.abs(expected).max(initial=0))
    np.testing.assert_allclose(got / scale, expected / scale, 0, TOLERANCE, err_msg=what)


def live(number: int, folder: Path) -> None:
    """Lead one life."""
    drawn, draw = case(number), Draw(number)
    if drawn.is_bad:
        return
    twins, told = [drawn.net(), drawn.net()], []
    for _ in range(8):
        how = draw.of([fitted, fitted, asked, stepped, changed, changed, "copy", "pickle", "file"])
        told.append(getattr(how, "__name__", how))
        what = f"{number}: {', '.join(told)}"
        if isinstance(how, str):
            twins = [kept(net, how, folder) for net in twins]
            continue
        event, found = how(drawn, draw), []
        for net, engine in zip(twins, ("plan", "eager"), strict=True):
            try:
                found.append(("", event(net, engine)))
            except REFUSALS as error:
                found.append((type(error).__name__, None))
        assert found[0][0] == found[1][0], what
        if found[0][1] is not None:
            assert_close(found[0][1], found[1][1], what)
        plan, eager = (net.state_dict() for net in twins)
        assert list(plan) == list(eager), what
        if max((np.abs(array).max(initial=0) for array in plan.values()), default=0) > 1e4:
            return  # it diverges, and with it the twins
        for name, array in plan.items():
            assert_close(array, eager[name], f"{what}: {name}")
        assert twins[0].position == twins[1].position, what
        twins[1].load_state_dict(plan)


#: Nets whose kernels those of ``nets.py`` have, too.
FEW = (78, 98, 200, 213, 230, 256, 332, 342, 356, 374, 583)


@pytest.mark.parametrize("number", FEW)
def test_a_life_is_the_same_in_both_engines(number: int, tmp_path: Path) -> None:
    live(number, tmp_path)


def test_a_difference_would_be_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps of the plan that begin with a weight a tenth larger than it is."""
    real = tc.Sequential.start_training

    def bent(net: tc.Sequential, *, engine: str, **options: Any) -> None:
        real(net, engine=engine, **options)
        net.parameters.flat[...] *= np.float32(1.1 if engine == "plan" else 1)

    monkeypatch.setattr(tc.Sequential, "start_training", bent)

    def all_of_them() -> None:
        for number in FEW:
            live(number, tmp_path)

    with pytest.raises(AssertionError):
        all_of_them()


@pytest.mark.slow
@pytest.mark.parametrize("hundred", range(5))
def test_five_hundred_lives(hundred: int, tmp_path: Path) -> None:
    for number in range(100 * hundred, 100 * hundred + 100):
        live(number, tmp_path)

"""Batch normalisation over all ranks is that of one process: drawn nets, both engines."""

import copy
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import Phase, given, settings
from thread_comm import Ended, on_ranks

import tinyconv as tc

RNG = np.random.default_rng(7)
X = RNG.random((13, 2, 4, 4), dtype=np.float32)
Y = RNG.integers(0, 3, 13)


@pytest.fixture(autouse=True)
def _one_thread():
    before = tc.get_num_threads()
    tc.set_num_threads(1)
    yield
    tc.set_num_threads(before)


@st.composite
def norms(draw: st.DrawFn, kind: Any, channels: int) -> Any:
    """What makes a batch normalisation."""
    arguments = {
        "momentum": draw(st.sampled_from([0.1, None])),
        "affine": draw(st.booleans()),
        "track_running_stats": draw(st.booleans()),
        "eps": draw(st.sampled_from([1e-5, 0.1])),
    }
    return lambda: kind(channels, **arguments)


@st.composite
def nets(draw: st.DrawFn) -> Any:
    """What makes a net with two to four batch normalisations."""
    first = draw(st.booleans())
    block = draw(st.sampled_from(["none", "residual", "parallel"]))
    activation = draw(st.sampled_from([tc.ReLU, tc.GELU, tc.Tanh]))
    one, two, three, four = (
        draw(norms(tc.BatchNorm2d if place < 3 else tc.BatchNorm1d, channels))
        for place, channels in enumerate([2, 3, 3, 6])
    )
    is_frozen = draw(st.sampled_from([False, False, True]))
    of_three = draw(st.booleans())  # a dense layer's features (N, C), or one more plane

    def made(dtype: str) -> tc.Sequential:
        layers: list[Any] = [one()] if first else []
        layers += [tc.Conv2d(2, 3, 3, padding=1), two(), activation()]
        layers[-2].trainable = not is_frozen
        if block == "residual":
            layers += [tc.Residual([tc.Conv2d(3, 3, 3, padding=1), three()]), tc.ReLU()]
        elif block == "parallel":
            layers += [tc.Parallel([[tc.Conv2d(3, 3, 1), three()], [tc.Conv2d(3, 2, 1)]])]
        channels = 5 if block == "parallel" else 3
        layers += [tc.AvgPool2d(2), tc.Flatten(), tc.Linear(4 * channels, 6)]
        layers += [four(), activation()] if of_three else []
        return tc.Sequential(*layers, tc.Linear(6, 3), seed=1, dtype=dtype)

    return made


def trained(made: Any, dtype: str, comm: Any = None, **arguments: Any) -> dict[str, Any]:
    net = made(dtype)
    arguments = copy.deepcopy(arguments)  # a loss keeps its last pass
    net.fit(
        X.astype(dtype),
        Y,
        epochs=2,
        optimizer=tc.SGD(lr=0.05, momentum=0.5),
        verbose=False,
        comm=comm,
        sync_batch_norm=comm is not None,
        **arguments,
    )
    return net.state_dict()


def check_equal(size: int, made: Any, dtype: str, tolerance: float, **arguments: Any) -> None:
    alone = trained(made, dtype, **arguments)
    for together in on_ranks(size, lambda comm: trained(made, dtype, comm, **arguments)):
        assert isinstance(together, dict), together
        for name, values in alone.items():
            np.testing.assert_allclose(together[name], values, tolerance, tolerance, err_msg=name)


#: The last batch of 13 samples has 4, 3 and 6 of them.
SIZES, BATCHES = st.sampled_from([2, 4]), st.sampled_from([9, 5, 7])
LOSSES = st.sampled_from([tc.CrossEntropyLoss(), tc.CrossEntropyLoss([3.0, 0.0, 1.0])])


#: Failing nets are small as they are, and slow to run.
PHASES = (Phase.explicit, Phase.reuse, Phase.generate)


@settings(max_examples=25, phases=PHASES)
@given(size=SIZES, made=nets(), batch_size=BATCHES, loss=LOSSES)
def test_layers_one_by_one(size: int, made: Any, batch_size: int, loss: tc.Loss) -> None:
    check_equal(size, made, "float64", 1e-8, batch_size=batch_size, loss=loss, engine="eager")


@settings(max_examples=6, phases=PHASES)
@given(size=SIZES, made=nets(), batch_size=BATCHES, loss=LOSSES)
def test_plan(size: int, made: Any, batch_size: int, loss: tc.Loss) -> None:
    check_equal(size, made, "float32", 1e-3, batch_size=batch_size, loss=loss, engine="plan")


@pytest.mark.slow
@settings(max_examples=150, phases=PHASES)
@given(size=SIZES, made=nets(), batch_size=BATCHES, loss=LOSSES)
def test_plan_many_nets(size: int, made: Any, batch_size: int, loss: tc.Loss) -> None:
    check_equal(size, made, "float32", 1e-3, batch_size=batch_size, loss=loss, engine="plan")


def norm_alone(dtype: str) -> tc.Sequential:
    return tc.Sequential(tc.Flatten(), tc.BatchNorm1d(32), tc.Linear(32, 3), seed=0, dtype=dtype)


@pytest.mark.parametrize("engine", ["eager", "plan"])
def test_statistics_of_a_part_are_others(engine: str) -> None:
    """Without the argument, so that the tests above cannot pass by chance."""
    alone = trained(norm_alone, "float32", batch_size=13, engine=engine)

    def work(comm: Any) -> tc.Sequential:
        net = norm_alone("float32")
        net.fit(X, Y, epochs=2, batch_size=13, verbose=False, comm=comm, engine=engine)
        return net

    first, other = on_ranks(2, work)
    np.testing.assert_array_equal(first.parameters.flat, other.parameters.flat)
    assert np.abs(first.state_dict()["1.weight"] - alone["1.weight"]).max() > 1e-4


@pytest.mark.parametrize("engine", ["eager", "plan"])
def test_one_sample_a_rank_has_a_variance_in_the_batch(engine: str) -> None:
    check_equal(2, norm_alone, "float32", 1e-3, batch_size=2, engine=engine, drop_last=True)
    net = norm_alone("float32")
    with pytest.raises(tc.ShapeError, match="expected more than one element a channel"):
        net.fit(X, Y, batch_size=1, verbose=False, engine=engine)


def test_it_is_refused_where_nobody_shares_the_batch() -> None:
    with pytest.raises(tc.ArgumentError, match="sync_batch_norm is True and comm is None"):
        norm_alone("float32").fit(X, Y, verbose=False, sync_batch_norm=True)


class Explodes(tc.Callback):
    """Makes the loss of one rank NaN behind the first batch."""

    def on_batch_end(self, training: Any) -> None:
        training.parameters.flat[:] = np.nan


@pytest.mark.parametrize("engine", ["eager", "plan"])
def test_what_one_rank_refuses_ends_all_and_changes_no_running_statistics(engine: str) -> None:
    kept: list[Any] = [None, None]

    def work(comm: Any) -> None:
        rank = comm.Get_rank()
        net = norm_alone("float32")
        kept[rank] = net
        hung = [Explodes()] if rank == 1 else []
        net.fit(
            *(X, Y),
            batch_size=6,
            verbose=False,
            callbacks=hung,
            comm=comm,
            engine=engine,
            sync_batch_norm=True,
        )

    other, failed = on_ranks(2, work)
    assert isinstance(failed, tc.NonFiniteError)
    assert isinstance(other, Ended)
    for net in kept:
        assert int(net.state_dict()["1.num_batches_tracked"]) == 1
        assert np.isfinite(net.state_dict()["1.running_mean"]).all()

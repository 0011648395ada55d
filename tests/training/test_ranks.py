"""Processes that share each batch: threads play the ranks here, MPI itself is in tests/cli."""

import copy
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings
from thread_comm import Ended, ThreadComm, on_ranks

import tinyconv as tc
from tinyconv.engines.ranks import Ranks

RNG = np.random.default_rng(5)
X = RNG.random((26, 1, 8, 8), dtype=np.float32)
Y = RNG.integers(0, 4, 26)
WEIGHTS = RNG.random(26, dtype=np.float32) + 0.1


@pytest.fixture(autouse=True)
def _one_thread():
    before = tc.get_num_threads()
    tc.set_num_threads(1)
    yield
    tc.set_num_threads(before)


def net(seed: int = 0) -> tc.Sequential:
    return tc.Sequential(
        tc.Conv2d(1, 3, 3),
        tc.ReLU(),
        tc.MaxPool2d(2),
        tc.Flatten(),
        tc.Dropout(0.4),
        tc.Linear(27, 4),
        seed=seed,
    )


def trained(comm: Any = None, **arguments: Any) -> tuple[tc.Sequential, tc.History]:
    made = net()
    arguments = {"epochs": 2, "batch_size": 8, "verbose": False} | arguments
    history = made.fit(X, Y, comm=comm, **arguments)
    return made, history


def figures(history: tc.History) -> np.ndarray[Any, Any]:
    return np.array([[row[k] for k in row if "second" not in k] for row in history.rows])


@settings(max_examples=8)
@given(
    size=st.integers(2, 4),
    engine=st.sampled_from(["eager", "plan"]),
    batch_size=st.sampled_from([3, 8, 26]),  # last batches of 2 samples, 2 samples and none
    loss=st.sampled_from(
        [
            tc.CrossEntropyLoss(),
            tc.CrossEntropyLoss([1.0, 0.0, 3.0, 0.5]),
            tc.CrossEntropyLoss(ignore_index=2),
            tc.MultiMarginLoss(),
        ]
    ),
    optimizer=st.sampled_from(
        [
            tc.SGD(lr=0.2, momentum=0.9, weight_decay=0.01, clip_norm=0.5),
            tc.RMSProp(lr=0.01, eps=1e-3),
        ]
    ),
    is_weighted=st.booleans(),
    callbacks=st.sampled_from(
        [
            [],
            [tc.AverageWeights(0.5)],
            [tc.KeepBest("val_loss"), tc.Schedule(tc.schedules.Exponential(0.5))],
            [tc.EarlyStopping(monitor="val_loss", patience=1), tc.AverageWeights(0.5)],
        ]
    ),
)
def test_ranks_train_as_one_process_does(
    size: int,
    engine: str,
    batch_size: int,
    loss: Any,
    optimizer: Any,
    is_weighted: bool,
    callbacks: Any,
) -> None:
    arguments: dict[str, Any] = {
        "callbacks": callbacks,
        "engine": engine,
        "batch_size": batch_size,
        "loss": loss,
        "optimizer": optimizer,
        "validation_data": (X[:5], Y[:5]),
    }
    if is_weighted:
        arguments["sample_weight"] = WEIGHTS
    alone, history = trained(**copy.deepcopy(arguments))
    results = on_ranks(size, lambda comm: trained(comm, **copy.deepcopy(arguments)))
    for together, its_history in results:
        np.testing.assert_array_equal(together.parameters.flat, results[0][0].parameters.flat)
        np.testing.assert_allclose(
            together.parameters.flat, alone.parameters.flat, rtol=2e-4, atol=2e-5
        )
        np.testing.assert_allclose(figures(its_history), figures(history), rtol=2e-4, atol=2e-5)


def test_dropout_masks_of_parts_are_those_of_the_batch() -> None:
    layer = tc.Dropout(0.5)
    x = np.ones((6, 5))
    whole = layer.forward(x, training=True, step=3)
    layer.first_sample = 4
    np.testing.assert_array_equal(layer.forward(x[4:], training=True, step=3), whole[4:])


def test_a_run_goes_on_with_another_number_of_ranks(tmp_path) -> None:
    def part(comm: Any = None, epochs: int = 3, **more: Any) -> Any:
        return trained(comm, epochs=epochs, callbacks=[tc.AverageWeights(0.8)], **more)

    whole, _ = part()
    part(epochs=1, checkpoint=tmp_path)
    with pytest.warns(UserWarning, match="began with ranks 1 and goes on with 2"):
        results = on_ranks(2, lambda comm: part(comm, checkpoint=tmp_path, resume=True))
    for together, history in results:
        assert len(history) == 3
        np.testing.assert_allclose(
            together.parameters.flat, whole.parameters.flat, rtol=2e-4, atol=2e-5
        )


def test_the_first_rank_logs(tmp_path) -> None:
    class Kept(tc.Logger):
        def __init__(self) -> None:
            self.epochs: list[int] = []

        def log(self, figures: dict[str, float], epoch: int) -> None:
            self.epochs.append(epoch)

    def work(comm: ThreadComm) -> list[int]:
        kept = Kept()
        trained(comm, callbacks=[kept, tc.CSVLogger(tmp_path / f"{comm.Get_rank()}.csv")])
        return kept.epochs

    assert on_ranks(2, work) == [[1, 2], []]
    assert [path.name for path in tmp_path.iterdir()] == ["0.csv"]


def test_what_one_rank_adds_no_other_can_monitor() -> None:
    class Adds(tc.Callback):
        first_rank_only = True
        adds = ("extra",)

        def on_epoch_end(self, training: Any) -> None:
            training.history.rows[-1]["extra"] = 1.0

    def work(comm: Any = None) -> Any:
        return trained(comm, callbacks=[Adds(), tc.KeepBest("extra")])[1]["extra"]

    assert work() == [1.0, 1.0]
    for error in on_ranks(2, work):
        assert isinstance(error, tc.ArgumentError)
        assert str(error).startswith("KeepBest: monitor is 'extra', expected ")


def test_a_callback_may_be_used_again() -> None:
    """What it remembers of the run before is no state to begin with."""

    def twice(comm: Any = None) -> np.ndarray:
        averaging = tc.AverageWeights(0.8)
        trained(comm, callbacks=[averaging])
        return trained(comm, callbacks=[averaging])[0].parameters.flat

    alone = twice()
    for flat in on_ranks(2, twice):
        np.testing.assert_allclose(flat, alone, rtol=2e-4, atol=2e-5)


class StopAt(tc.Callback):
    """Wants to stop after a batch."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_batch_end(self, training: Any) -> None:
        if training.position.step == self.step:
            training.stop = "enough"


def test_what_one_rank_stops_all_stop_after_the_same_batch(tmp_path) -> None:
    def work(comm: ThreadComm) -> int:
        hung = [StopAt(3 if comm.Get_rank() == 1 else 99)]
        made, _ = trained(comm, callbacks=hung, checkpoint=tmp_path)
        return made.position.step

    assert on_ranks(3, work) == [3, 3, 3]
    assert (tmp_path / "checkpoint.safetensors").is_file()


class FailAt(StopAt):
    """Fails there."""

    def on_batch_end(self, training: Any) -> None:
        if training.position.step == self.step:
            raise RuntimeError("no more paper")


def test_an_exception_of_one_rank_ends_all_with_its_text(capsys) -> None:
    def work(comm: ThreadComm) -> None:
        trained(comm, callbacks=[FailAt(2)] if comm.Get_rank() == 0 else [])

    first, other = on_ranks(2, work)
    assert str(first) == "no more paper"
    assert isinstance(other, Ended)
    assert "rank 0 ends all ranks: RuntimeError('no more paper')" in capsys.readouterr().err


def test_ranks_with_other_data_are_refused() -> None:
    def work(comm: ThreadComm) -> None:
        net().fit(X + comm.Get_rank(), Y, comm=comm, verbose=False)

    _, error = on_ranks(2, work)
    assert isinstance(error, tc.ArgumentError)
    assert str(error).startswith("fit: rank 1 has x (fingerprint) ")
    assert str(error).endswith("expected the same arguments and data on all ranks")


def test_what_is_no_communicator_is_refused() -> None:
    expected = "fit: comm has no Get_rank, expected a communicator such as mpi4py's MPI.COMM_WORLD"
    with pytest.raises(tc.ArgumentError, match=f"^{expected}$"):
        trained(comm=4)


def test_every_sample_is_one_rank_s() -> None:
    for n in (0, 1, 7):
        parts = on_ranks(3, lambda comm, n=n: range(n)[Ranks(comm).part(n)])
        assert [number for part in parts for number in part] == [*range(n)]


def test_what_comes_after_a_shared_fit_draws_the_masks_of_one_process() -> None:
    """Each rank trains on alone, layer by layer, from the same weights."""

    def work(comm: ThreadComm) -> np.ndarray[Any, Any]:
        made, _ = trained(comm)
        made.fit(X, Y, epochs=1, batch_size=8, verbose=False, engine="eager")
        return made.parameters.flat.copy()

    first, *others = on_ranks(3, work)
    for other in others:
        np.testing.assert_array_equal(other, first)

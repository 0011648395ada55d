"""Ranks with a GPU each: threads, emulated GPUs and a communicator that stands in for NCCL's.

None of it has run on GPUs. What is known of CuPy's bindings is that they have these names and take
these arguments.
"""

import ctypes
import inspect
import itertools
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from emulator import Emulator, needs_compiler

import tinyconv as tc
from tinyconv.backend import use_gpu
from tinyconv.engines.gpu.engine import GpuEngine
from tinyconv.engines.gradient_sum import DeviceSum
from tinyconv.engines.ranks import Ranks
from tinyconv.kernels.gpu.nccl import NcclSum

sys.path.append(str(Path(__file__).parents[1] / "training"))
from thread_comm import Ended, on_ranks

RNG = np.random.default_rng(3)
X = RNG.random((14, 1, 6, 6), dtype=np.float32)
Y = RNG.integers(0, 3, 14)


class StandIn:
    """What is used of the module ``cupy.cuda.nccl``; its communicators join threads."""

    NCCL_FLOAT32, NCCL_FLOAT64, NCCL_SUM = 7, 8, 0
    worlds: dict[bytes, Any] = {}  # noqa: RUF012
    numbers = itertools.count()
    lock = threading.Lock()

    @classmethod
    def get_unique_id(cls) -> bytes:
        return b"%d" % next(cls.numbers)

    class NcclCommunicator:
        def __init__(self, ndev: int, commId: bytes, rank: int) -> None:
            with StandIn.lock:
                new = threading.Barrier(ndev, timeout=60), [None] * ndev
                self.barrier, self.shared = StandIn.worlds.setdefault(commId, new)
            self.rank = rank

        def allReduce(
            self, sendbuf: int, recvbuf: int, count: int, datatype: int, op: int, stream: int
        ) -> None:
            assert (op, stream) == (StandIn.NCCL_SUM, 77)
            kind: Any = ctypes.c_float if datatype == StandIn.NCCL_FLOAT32 else ctypes.c_double
            sent, got = (
                np.ctypeslib.as_array((kind * count).from_address(a)) for a in (sendbuf, recvbuf)
            )
            self.shared[self.rank] = sent.copy()
            try:
                self.barrier.wait()
                total = np.sum(self.shared, axis=0)
                self.barrier.wait()
            except threading.BrokenBarrierError:
                raise Ended from None
            got[:] = total


class Device(Emulator):
    """Sizes of kernels are the process's, so one rank launches at a time."""

    lock = threading.Lock()

    def launch(self, *arguments: Any) -> None:
        with self.lock:
            super().launch(*arguments)


@pytest.fixture
def _gpus(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """``fit`` takes emulated GPUs, and their sums."""

    def sum_for(net: Any, ranks: Ranks, stops: Callable[[], str | None]) -> DeviceSum:
        device = Device()
        add = NcclSum(StandIn, ranks.size, ranks.rank, ranks.from_first, device.address, lambda: 77)
        return DeviceSum(ranks, net.parameters.flat_grad, stops, add)

    monkeypatch.setattr(tc.network, "engine_for", lambda net, name="auto": GpuEngine(net, Device()))
    monkeypatch.setattr(tc.network, "sum_for", sum_for)
    yield
    StandIn.worlds.clear()


def trained(comm: Any = None, **arguments: Any) -> tuple[dict[str, Any], list[float]]:
    net = tc.Sequential(
        *(tc.Conv2d(1, 3, 3), tc.BatchNorm2d(3), tc.ReLU(), tc.MaxPool2d(2), tc.Flatten()),
        *(tc.Dropout(0.3), tc.Linear(12, 3)),
        seed=0,
    )
    arguments = {"loss": tc.CrossEntropyLoss(), "batch_size": 6, "epochs": 2} | arguments
    history = net.fit(
        *(X, Y),
        optimizer=tc.SGD(lr=0.1, momentum=0.9),
        verbose=False,
        comm=comm,
        sync_batch_norm=comm is not None,
        **arguments,
    )
    return net.state_dict(), history["loss"]


@needs_compiler
@pytest.mark.usefixtures("_gpus")
@pytest.mark.parametrize(
    ("size", "loss"),
    [
        (2, tc.CrossEntropyLoss),
        (4, tc.CrossEntropyLoss),  # the last batch has two samples
        (2, lambda: tc.CrossEntropyLoss([1.0, 0.0, 2.0])),
    ],
)
def test_ranks_with_a_gpu_each_train_as_one_does(size: int, loss: Callable[[], tc.Loss]) -> None:
    alone, losses = trained(loss=loss())
    for together in on_ranks(size, lambda comm: trained(comm, loss=loss())):
        assert isinstance(together, tuple), together
        for name, values in alone.items():
            np.testing.assert_allclose(together[0][name], values, 1e-3, 1e-4, err_msg=name)
        np.testing.assert_allclose(together[1], losses, 1e-3)


class Explodes(tc.Callback):
    """Makes the weights of one rank NaN behind the first batch."""

    def on_batch_end(self, training: Any) -> None:
        training.parameters.flat[:] = np.nan


class Stops(tc.Callback):
    """Wants to stop after the third batch."""

    def on_batch_end(self, training: Any) -> None:
        training.stop = "enough" if training.position.step == 3 else training.stop


@needs_compiler
@pytest.mark.usefixtures("_gpus")
def test_what_one_rank_refuses_all_refuse() -> None:
    def work(comm: Any) -> Any:
        return trained(comm, callbacks=[Explodes()] if comm.Get_rank() == 1 else [])

    other, failed = on_ranks(2, work)
    assert isinstance(failed, tc.NonFiniteError)
    assert isinstance(other, tc.NonFiniteError | Ended)


@needs_compiler
@pytest.mark.usefixtures("_gpus")
def test_what_one_rank_stops_all_stop_after_the_same_batch() -> None:
    def work(comm: Any) -> int:
        state, _ = trained(comm, epochs=3, callbacks=[Stops()] if comm.Get_rank() == 1 else [])
        return int(state["1.num_batches_tracked"])

    assert on_ranks(2, work) == [3, 3]


def test_a_sum_knows_both_dtypes() -> None:
    def work(comm: Any) -> list[Any]:
        add = NcclSum(
            *(StandIn, 2, comm.Get_rank(), comm.bcast),
            *(lambda array: array.ctypes.data, lambda: 77),
        )
        return [add(np.full(3, comm.Get_rank() + 1.5, kind)) for kind in (np.float32, np.float64)]

    for single, double in on_ranks(2, work):
        np.testing.assert_array_equal(single, np.full(3, 4, np.float32))
        np.testing.assert_array_equal(double, np.full(3, 4.0))


def test_the_stand_in_has_the_names_of_cupy() -> None:
    """CuPy is imported without a GPU."""
    pytest.importorskip("cupy")
    nccl = pytest.importorskip("cupy.cuda.nccl")
    if not nccl.available:
        pytest.skip("needs NCCL")
    for name in ("NCCL_FLOAT32", "NCCL_FLOAT64", "NCCL_SUM"):
        assert getattr(nccl, name) == getattr(StandIn, name)
    identity = nccl.get_unique_id()
    kind = nccl.NcclCommunicator
    named = dict.fromkeys(["sendbuf", "recvbuf", "count", "datatype", "op", "stream"], 0)
    assert list(inspect.signature(StandIn.NcclCommunicator.allReduce).parameters)[1:] == [*named]
    # They take these arguments, and only then find that there is no GPU.
    with pytest.raises(nccl.NcclError):
        kind(ndev=1, commId=identity, rank=0)
    with pytest.raises(nccl.NcclError):
        kind.__new__(kind).allReduce(**named)


def test_processes_without_a_gpu_each_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    used: list[int] = []
    runtime = SimpleNamespace(getDeviceCount=lambda: 2)
    device = lambda place: SimpleNamespace(use=lambda: used.append(place))  # noqa: E731
    cuda = SimpleNamespace(runtime=runtime, Device=device)
    monkeypatch.setitem(sys.modules, "cupy", SimpleNamespace(cuda=cuda))
    use_gpu(1, 2)
    assert used == [1]
    expected = "device 'gpu': 3 processes on a machine with 2 GPUs, expected one each"
    with pytest.raises(tc.DeviceError, match=f"^{expected}$"):
        use_gpu(1, 3)

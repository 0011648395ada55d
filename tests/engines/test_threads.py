"""Threads, forked and spawned processes, and two nets at once."""

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from test_fit_through_the_plan import samples, small_net

import tinyconv as tc
from tinyconv.engines import thread_count
from tinyconv.kernels.cpu import threads

Array = np.ndarray[Any, Any]


@pytest.fixture(autouse=True)
def all_threads() -> Iterator[None]:
    yield
    tc.set_num_threads(None)


def trained(threads: int | None = None) -> Array:
    if threads:
        tc.set_num_threads(threads)
    x, y = samples(40)
    net = small_net()
    net.fit(x, y, epochs=2, verbose=False)
    return net.parameters.flat


def in_child(start: str) -> Array:
    context = multiprocessing.get_context(start)
    with context.Pool(1) as pool:
        return pool.apply_async(trained, (2,)).get(timeout=120)


@pytest.mark.parametrize("n", [0, -1, 1.5, True, "two", 10**6])
def test_numbers_of_threads_that_are_none(n: Any) -> None:
    with pytest.raises(tc.ArgumentError, match="expected an integer of at least 1"):
        tc.set_num_threads(n)


def test_the_number_of_threads_changes_results_by_rounding_only() -> None:
    results = [trained(threads) for threads in (1, 2, 3, 7)]
    for result in results[1:]:
        np.testing.assert_allclose(result, results[0], atol=1e-5)
    np.testing.assert_array_equal(trained(3), results[2])


def test_the_bits_follow_from_the_number_asked_for_and_not_from_the_cores_at_work(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shared_out = trained(3)
    monkeypatch.setattr(threads._Threads, "must_be_serial", True)
    np.testing.assert_array_equal(trained(3), shared_out)


def test_the_number_may_change_within_an_epoch() -> None:
    class Change(tc.Callback):
        def on_batch_end(self, training: Any) -> None:
            tc.set_num_threads(1 + training.position.step % 3)

    x, y = samples(45)
    net = small_net()
    history = net.fit(x, y, verbose=False, callbacks=[Change()])
    tc.set_num_threads(2)
    steady = small_net().fit(x, y, verbose=False)
    assert history["loss"][0] == pytest.approx(steady["loss"][0], rel=1e-4)
    assert history["accuracy"][0] == pytest.approx(steady["accuracy"][0], abs=1 / 45)


@pytest.mark.skipif(not hasattr(__import__("os"), "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of forking a process with threads
def test_a_forked_child_trains_after_the_parent_did() -> None:
    parent = trained(2)
    np.testing.assert_array_equal(in_child("fork"), parent)
    np.testing.assert_array_equal(trained(2), parent)  # and the parent goes on


def test_a_spawned_child_trains() -> None:
    np.testing.assert_array_equal(in_child("spawn"), trained(2))


def test_two_nets_in_two_threads() -> None:
    alone = trained(2)
    results: list[Array] = []
    workers = [threading.Thread(target=lambda: results.append(trained())) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    for result in results:
        np.testing.assert_array_equal(result, alone)


def test_without_openmp_it_trains_and_says_so() -> None:
    code = (
        "import sys, warnings; sys.modules['numba.np.ufunc.omppool'] = None\n"
        "import sys; sys.path.insert(0, 'tests/engines')\n"
        "from test_threads import trained\n"
        "with warnings.catch_warnings(record=True) as seen:\n"
        "    warnings.simplefilter('always'); result = trained(2)\n"
        "import numba; print(numba.threading_layer(), float(abs(result).sum()))\n"
        "print([str(w.message) for w in seen if 'libgomp' in str(w.message)])\n"
    )
    out = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True
    ).stdout
    layer_and_sum, notes = out.strip().splitlines()
    layer, total = layer_and_sum.split()
    assert layer == "workqueue"
    assert float(total) == pytest.approx(float(np.abs(trained(2)).sum()), rel=1e-6)
    assert "starting threads takes longer" in notes


def test_the_environment_is_left_as_it_was() -> None:
    code = (
        "import os, sys; sys.path.insert(0, 'tests/engines'); before = dict(os.environ)\n"
        "from test_threads import trained\n"
        "trained(2); import numba\n"
        "print(dict(os.environ) == before, numba.config.THREADING_LAYER, numba.threading_layer())"
    )
    out = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True
    ).stdout
    assert out.split()[:2] == ["True", "default"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_child_forked_while_another_thread_predicts() -> None:
    net, (x, _) = small_net(), samples(40)
    expected, stop = net.logits(x), threading.Event()

    def predict() -> None:
        while not stop.is_set():
            net.logits(x)

    thread = threading.Thread(target=predict)
    thread.start()
    try:
        for _ in range(10):
            child = os.fork()
            if child == 0:
                os._exit(int(not np.allclose(net.logits(x), expected, atol=1e-5)))
            deadline = time.monotonic() + 30
            while (ended := os.waitpid(child, os.WNOHANG)) == (0, 0):
                if time.monotonic() > deadline:
                    os.kill(child, signal.SIGKILL)
                    os.waitpid(child, 0)
                    pytest.fail("the child waits for a thread that it does not have")
                time.sleep(0.001)
            assert ended[1] == 0
    finally:
        stop.set()
        thread.join()


@pytest.mark.skipif(not hasattr(signal, "SIGALRM"), reason="needs SIGALRM")
def test_a_signal_handler_predicts_in_the_middle_of_a_prediction() -> None:
    net, (x, _) = small_net(), samples(40)
    expected, seen = net.logits(x), []

    class Interrupting(np.ndarray):
        def __getitem__(self, item: Any) -> Any:
            if not seen:
                signal.raise_signal(signal.SIGALRM)
            return super().__getitem__(item).view(np.ndarray)

    before = signal.signal(signal.SIGALRM, lambda number, frame: seen.append(net.logits(x)))
    try:
        np.testing.assert_array_equal(net.logits(x.view(Interrupting)), expected)
    finally:
        signal.signal(signal.SIGALRM, before)
    np.testing.assert_array_equal(seen[0], expected)


def test_the_environment_may_name_the_number_of_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    for text, expected in (("3", 3), ("2,1", 2), ("0", None), ("many", None), ("", None)):
        monkeypatch.setenv("OMP_NUM_THREADS", text)
        assert tc.get_num_threads() == (expected or thread_count.available())
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    tc.set_num_threads(2)
    assert tc.get_num_threads() == 2

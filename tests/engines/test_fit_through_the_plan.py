"""What a user sees of the plan: ``fit`` and ``predict``, the same as through the layers."""

import tracemalloc
from typing import Any

import numpy as np
import pytest
from nets import started
from threadpoolctl import threadpool_info, threadpool_limits

import tinyconv as tc
from tinyconv.engines import blas
from tinyconv.engines.blas import single_blas_thread
from tinyconv.engines.cpu.backend import CpuTraining
from tinyconv.engines.cpu.program import Program
from tinyconv.engines.plan import Plan
from tinyconv.losses import Targets

Array = np.ndarray[Any, Any]


def small_net(dtype: str = "float32", seed: int = 1) -> tc.Sequential:
    layers = [
        tc.Conv2d(1, 6, 3),
        tc.MaxPool2d(2),
        tc.ReLU(),
        tc.Flatten(),
        tc.Dropout(0.3),
        tc.Linear(150, 20),
        tc.Tanh(),
        tc.Dropout(0.5),
        tc.Linear(20, 4),
    ]
    return tc.Sequential(layers, seed=seed, dtype=dtype, input_shape=(1, 12, 12))


def samples(count: int, dtype: str = "float32") -> tuple[Array, Array]:
    """Images with one bright quarter, which is the class, in noise."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, 4, count)
    x = rng.random((count, 1, 12, 12)) * 0.6
    for n, (row, column) in enumerate(zip(y // 2, y % 2, strict=True)):
        x[n, 0, 6 * row : 6 * row + 6, 6 * column : 6 * column + 6] += 0.3
    return x.astype(dtype), y


@pytest.mark.parametrize(
    "optimizer",
    [
        tc.SGD(lr=0.05),
        tc.SGD(lr=0.03, momentum=0.9, nesterov=True, weight_decay=1e-3),
        tc.SGD(lr=0.03, momentum=0.5),
        tc.SGD(lr=0.05, weight_decay=1e-2, clip_norm=0.5),
        tc.Adam(lr=0.003, weight_decay=1e-3),
        tc.AdamW(lr=0.003),
        tc.Adam(lr=0.003, clip_norm=1.0),
        tc.Adagrad(lr=0.02, weight_decay=1e-3),
        tc.RMSProp(lr=0.001),
        tc.RMSProp(lr=0.001, momentum=0.5, centered=True, weight_decay=1e-3),
    ],
    ids=str,
)
def test_a_hundred_steps_with_dropout(optimizer: Any) -> None:
    """10 epochs of 10 steps, the last of them short."""
    x, y = samples(95)
    histories = [
        small_net().fit(
            x,
            y,
            epochs=10,
            batch_size=10,
            optimizer=optimizer,
            engine=engine,
            verbose=False,
            validation_data=(x[:50], y[:50]),
        )
        for engine in ("plan", "eager")
    ]
    plan, eager = histories
    np.testing.assert_allclose(plan["loss"], eager["loss"], rtol=2e-4)
    np.testing.assert_allclose(plan["val_loss"], eager["val_loss"], rtol=2e-3)
    assert np.abs(np.subtract(plan["accuracy"], eager["accuracy"])).max() <= 1 / 95
    assert plan["loss"][-1] < plan["loss"][0]  # something was learned


def test_samples_of_another_dtype_or_order() -> None:
    x, y = samples(40)
    nets = [small_net() for _ in range(3)]
    nets[0].fit(x, y, verbose=False)
    nets[1].fit(x.astype(np.float64), y.astype(np.uint8), verbose=False)
    nets[2].fit(np.asfortranarray(x), y, verbose=False)
    for net in nets[1:]:
        np.testing.assert_array_equal(net.parameters.flat, nets[0].parameters.flat)
        np.testing.assert_array_equal(net.predict(x), nets[0].predict(np.asfortranarray(x)))


def test_images_as_bytes() -> None:
    x, y = samples(40)
    images = tc.data.ByteImages.from_floats(np.clip(x, 0, 1))
    nets = [small_net(), small_net()]
    nets[0].fit(images, y, verbose=False)
    nets[1].fit(images[np.arange(40)], y, verbose=False)
    np.testing.assert_array_equal(nets[0].parameters.flat, nets[1].parameters.flat)
    np.testing.assert_array_equal(nets[0].logits(images), nets[0].logits(images[np.arange(40)]))


def test_float64_runs_the_layers() -> None:
    x, y = samples(30, "float64")
    nets = [small_net("float64"), small_net("float64")]
    for net, engine in zip(nets, ("auto", "eager"), strict=True):
        net.fit(x, y, engine=engine, verbose=False)
    np.testing.assert_array_equal(nets[0].parameters.flat, nets[1].parameters.flat)
    before = nets[0].parameters.flat.copy()
    with pytest.raises(tc.StateError, match="'plan', which serves float32, and"):
        nets[0].fit(x, y, engine="plan", verbose=False)
    np.testing.assert_array_equal(nets[0].parameters.flat, before)


def test_an_unknown_engine_is_refused() -> None:
    x, y = samples(4)
    with pytest.raises(tc.ArgumentError, match="engine is 'fast', expected 'auto', 'plan' or"):
        small_net().fit(x, y, engine="fast", verbose=False)


def test_prediction_of_any_number_of_samples() -> None:
    x, _ = samples(23)
    net = small_net()
    expected = net.forward(x)
    for batch_size in (5, 23, 100):
        logits = net.logits(x, batch_size)
        np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-5)
    assert net.logits(x[:0]).shape == (0, 4)
    net.parameters.flat[...] *= 2  # predictions follow the parameters
    np.testing.assert_allclose(net.logits(x), net.forward(x), rtol=1e-4, atol=1e-5)


def growth(training: CpuTraining, x: Array, targets: Targets, batch: int = 16) -> int:
    """The most bytes that steps behind the first one ask for, of whole and of shorter batches."""
    index = np.arange(batch)
    assert training.run(training.set_batch(x, targets, index, 0, 0.01))
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        tracemalloc.reset_peak()
        for step in range(1, 20):
            part = index[: batch if step % 2 else 7]
            training.run(training.set_batch(x, targets, part, step, 0.01))
        return tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()


def test_no_array_is_allocated_after_the_first_step() -> None:
    x, y = samples(64)
    targets = Targets(y)
    net = small_net()
    shape = (1, 12, 12)
    plan = CpuTraining(started(net, tc.SGD(lr=0.01, momentum=0.9)), shape, 16, 2)
    Plan(net, shape, plan)
    # Views and numbers; the smallest activation of the batch has more bytes.
    assert growth(plan, x, targets) < 4096


@pytest.mark.parametrize(
    "kind", ["int32", "uint8", "ignored", "weighted", "soft", "numbers", "float64"]
)
def test_no_array_is_allocated_whatever_the_targets(kind: str) -> None:
    rng, N, K = np.random.default_rng(0), 16, 5
    x, y = rng.random((N, 1, 32, 32), np.float32), rng.integers(0, K, (N, 32, 32))
    loss: tc.Loss = tc.CrossEntropyLoss()
    if kind in ("int32", "uint8"):
        y, loss = y.astype(kind), tc.losses.Quadratic()
    elif kind in ("ignored", "weighted"):
        weight = [1.0] * K if kind == "weighted" else None
        loss = tc.CrossEntropyLoss(weight, ignore_index=0)
    elif kind == "soft":
        y = rng.dirichlet(np.ones(32), (N, K, 32))
    elif kind == "numbers":
        y, loss = rng.random((N, K, 32, 32), np.float32), tc.losses.MSELoss()
    else:
        x = x.astype(kind)
    net = tc.Sequential([tc.Conv2d(1, K, 3, padding=1)], seed=0, input_shape=(1, 32, 32))
    engine, targets = started(net, tc.SGD(lr=0.01), loss=loss), Targets(y, rng.random(N))
    training = CpuTraining(engine, (1, 32, 32), N, 1, targets)
    Plan(net, (1, 32, 32), training)
    # Views, numbers and NumPy's own buffers; a byte for each pixel of a batch would be more.
    assert growth(training, x, targets) < N * 32 * 32


def test_a_loss_that_is_not_finite_leaves_the_parameters() -> None:
    x, y = samples(20)
    x[13] = np.nan
    net = small_net()
    before = net.parameters.flat.copy()
    with pytest.raises(tc.NonFiniteError, match="epoch 1, batch 1: the input of the network"):
        net.fit(x, y, batch_size=20, verbose=False)
    np.testing.assert_array_equal(net.parameters.flat, before)


def test_profile() -> None:
    x, y = samples(20)
    history = small_net().fit(x, y, profile=True, verbose=False)
    assert history.profile["0 Conv2d + MaxPool2d + ReLU"] > 0
    assert history.profile["5 Linear + Tanh: update"] > 0
    assert small_net().fit(x, y, verbose=False).profile == {}


def test_profiled_training_is_training() -> None:
    x, y = samples(20)
    nets = [small_net(), small_net()]
    nets[0].fit(x, y, profile=True, verbose=False)
    nets[1].fit(x, y, verbose=False)
    np.testing.assert_array_equal(nets[0].parameters.flat, nets[1].parameters.flat)


def test_a_resumed_run_is_bit_for_bit_the_same(tmp_path: Any) -> None:
    x, y = samples(50)
    rule = tc.Adam(lr=0.01)
    whole, first, second = small_net(), small_net(), small_net()
    whole.fit(x, y, epochs=4, verbose=False, optimizer=rule)
    first.fit(x, y, epochs=2, verbose=False, optimizer=rule, checkpoint=tmp_path)
    second.fit(x, y, epochs=4, verbose=False, optimizer=rule, checkpoint=tmp_path, resume=True)
    np.testing.assert_array_equal(second.parameters.flat, whole.parameters.flat)


def test_the_pools_of_threads_are_left_as_they_were() -> None:
    import numba

    x, y = samples(20)
    pools = {library["filepath"]: library["num_threads"] for library in threadpool_info()}
    numba_threads = numba.get_num_threads()
    layers = [
        tc.Conv2d(1, 4, 3, groups=1),
        tc.ReLU(),
        tc.Conv2d(4, 4, 3, groups=2),
        tc.Flatten(),
        tc.Linear(256, 4),
    ]
    tc.Sequential(layers, input_shape=(1, 12, 12)).fit(x, y, verbose=False)
    now = {library["filepath"]: library["num_threads"] for library in threadpool_info()}
    assert {path: now[path] for path in pools} == pools  # others may have come since
    assert numba.get_num_threads() == numba_threads


def test_blas_gets_its_threads_back_when_the_last_one_has_left() -> None:
    def threads() -> list[int]:
        return [pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"]

    blas._libraries.cache_clear()  # a test before may have loaded another one since
    with threadpool_limits(2):
        before = threads()
        first, second = single_blas_thread(), single_blas_thread()
        first.__enter__()
        second.__enter__()
        first.__exit__(None, None, None)
        assert set(threads()) <= {1}
        second.__exit__(None, None, None)
        assert threads() == before


@pytest.mark.parametrize(("dtype", "engine"), [("float32", "eager"), ("float64", "auto")])
def test_the_layers_one_by_one_use_one_blas_thread(dtype: str, engine: str) -> None:
    seen = []

    class Look(tc.Identity):
        def compute(self, x: Array, training: bool, step: int) -> tuple[Array, Any]:
            seen.append((training, threads()))
            return x, None

    def threads() -> list[int]:
        return [pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"]

    x, y = samples(4, dtype)
    layers = [tc.Flatten(), Look(), tc.Linear(144, 4)]
    net = tc.Sequential(layers, input_shape=(1, 12, 12), dtype=dtype)
    net.fit(x, y, engine=engine, verbose=False)  # loads what is loaded late
    blas._libraries.cache_clear()  # likewise
    seen.clear()
    with threadpool_limits(2):
        before = threads()
        net.fit(x, y, engine=engine, verbose=False)
        net.predict(x)
        assert threads() == before
    assert {training for training, _ in seen} == {True, False}
    assert all(set(count) == {1} for _, count in seen)


def test_a_layer_derived_from_dropout_is_not_left_out_of_predictions() -> None:
    class Halved(tc.Dropout):
        def compute(self, x: Array, training: bool, step: int) -> tuple[Array, Any]:
            return x / 2, None

    x, _ = samples(6)
    net = tc.Sequential([tc.Flatten(), Halved(0.5), tc.Linear(144, 4)], input_shape=(1, 12, 12))
    np.testing.assert_allclose(net.logits(x), net.forward(x), rtol=1e-5, atol=1e-6)


def test_a_first_compilation_is_announced(capsys: pytest.CaptureFixture[str]) -> None:
    from tinyconv.kernels.cpu import kernel

    calls = []
    with kernel.when_compiling(lambda: calls.append(1)):

        @kernel.kernel(kernel.record("n"))
        def nothing(a, thread, first, last):  # type: ignore[no-untyped-def]
            pass

        nothing.compile()
        uncached = nothing.cache_hits == 0
    assert len(calls) == uncached


def test_a_program_runs_python_functions_in_their_place() -> None:
    seen = []
    program = Program(1)
    program.python("first", lambda n: seen.append(("first", n)))
    program.python("second", lambda n: seen.append(("second", n)))
    program.freeze(3)
    program.run(3)
    assert seen == [("first", 3), ("second", 3)]


def test_no_array_is_allocated_whatever_the_layers() -> None:
    """After the first step, with every kind of step that the plan has kernels for."""
    x, y = samples(32)
    layers = [
        tc.Conv2d(1, 4, 3, padding=1, bias=False),
        tc.BatchNorm2d(4),
        tc.ReLU(),
        tc.Residual([tc.Conv2d(4, 4, 3, padding=1, groups=4), tc.GELU()]),
        tc.Parallel([tc.Conv2d(4, 4, 1), tc.MaxPool2d(3, 1, 1)]),
        tc.GroupNorm(2, 8),
        tc.ConvTranspose2d(8, 4, 2, 2),
        tc.LeakyReLU(),
        tc.AvgPool2d(3, 2, 1),
        tc.LocalResponseNorm(3),
        tc.Upsample(scale_factor=2),
        tc.Dropout(0.2),
        tc.GlobalAvgPool(),
        tc.Flatten(),
        tc.Linear(4, 8),
        tc.LayerNorm(8),
        tc.SiLU(),
        tc.Linear(8, 4),
    ]
    net = tc.Sequential(layers, seed=0, input_shape=(1, 12, 12))
    training = CpuTraining(started(net, tc.Adam(lr=0.01)), (1, 12, 12), 16, 1)
    plan = Plan(net, (1, 12, 12), training)
    assert plan.is_compiled, str(plan)
    # Views and numbers; the smallest image of the batch has 9216 bytes.
    assert growth(training, x, Targets(y)) < 8192

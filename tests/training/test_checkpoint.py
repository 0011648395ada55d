"""A run that was stopped, killed or broken off continues as if it had not been."""

import json
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_run import BATCHES, EPOCHS, data, network, run

import tinyconv as tc
from tinyconv import files
from tinyconv.errors import FileError
from tinyconv.layers import Layer
from tinyconv.training import checkpoint as checkpoints

ENGINES = pytest.mark.parametrize("engine", [{}, {"engine": "eager"}], ids=["default", "eager"])
FILE = "checkpoint.safetensors"
SECONDS = ("seconds", "samples_per_second")


class StopAfter(tc.Callback):
    def __init__(self, step: int) -> None:
        self.step = step

    def on_batch_end(self, training: Any) -> None:
        if training.position.step >= self.step:
            training.stop = "enough"


def rows(history: tc.History) -> list[dict[str, float]]:
    """What must be equal: everything but how long it took."""
    return [{k: v for k, v in row.items() if k not in SECONDS} for row in history]


def arrays(folder: Path) -> dict[str, bytes]:
    """Parameters and velocity in a checkpoint, bit for bit."""
    tensors, _ = checkpoints.read_state(folder)
    return {name: array.tobytes() for name, array in tensors.items()}


@pytest.fixture(scope="module", params=[{}, {"engine": "eager"}], ids=["default", "eager"])
def whole(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[dict[str, str], tc.Sequential, tc.History, Path]:
    """A run that nothing interrupts, with its engine and its checkpoint."""
    folder = tmp_path_factory.mktemp("whole")
    net = network()
    return request.param, net, run(net, checkpoint=folder, **request.param), folder


# As if it had not stopped.


@pytest.mark.parametrize("step", [1, 4, BATCHES - 1, BATCHES, BATCHES + 1, 3 * BATCHES + 5])
def test_stopped_after_any_batch_and_resumed(whole: Any, step: int, tmp_path: Path) -> None:
    engine, net, history, folder = whole
    before = run(network(), checkpoint=tmp_path, callbacks=[StopAfter(step)], **engine)
    assert len(before) == step // BATCHES
    again = network()
    after = run(again, checkpoint=tmp_path, resume=True, **engine)
    assert rows(after) == rows(history)
    np.testing.assert_array_equal(again.parameters.flat, net.parameters.flat)
    assert again.position == net.position
    assert arrays(tmp_path) == arrays(folder)


def test_stopped_and_resumed_again_and_again(whole: Any, tmp_path: Path) -> None:
    engine, _, history, folder = whole
    for step in range(5, EPOCHS * BATCHES, 5):
        stop = [StopAfter(step)]
        run(network(), checkpoint=tmp_path, resume=True, callbacks=stop, **engine)
    again = network()
    after = run(again, checkpoint=tmp_path, resume=True, **engine)
    assert rows(after) == rows(history)
    assert arrays(tmp_path) == arrays(folder)


@pytest.mark.parametrize("epochs", [1, 3])
def test_continued_from_the_checkpoint_of_an_epoch(whole: Any, epochs: int, tmp_path: Path) -> None:
    engine, net, history, folder = whole
    run(network(), epochs=epochs, checkpoint=tmp_path, **engine)
    again = network()
    after = run(again, checkpoint=tmp_path, resume=True, **engine)
    assert rows(after) == rows(history)
    np.testing.assert_array_equal(again.parameters.flat, net.parameters.flat)
    assert arrays(tmp_path) == arrays(folder)


def test_a_finished_run_has_nothing_left_to_do(whole: Any) -> None:
    engine, net, history, folder = whole
    again = network()
    after = run(again, checkpoint=folder, resume=True, **engine)
    assert after.rows == history.rows
    np.testing.assert_array_equal(again.parameters.flat, net.parameters.flat)


def test_a_run_without_a_checkpoint_to_resume_begins(tmp_path: Path) -> None:
    net, plain = network(), network()
    run(net, checkpoint=tmp_path / "a" / "b", resume=True)
    run(plain)
    np.testing.assert_array_equal(net.parameters.flat, plain.parameters.flat)
    assert [path.name for path in (tmp_path / "a" / "b").iterdir()] == [FILE]


def test_sizes_that_the_first_batch_told_are_known_when_resuming(tmp_path: Path) -> None:
    def net() -> tc.Sequential:
        return tc.Sequential([tc.Flatten(), tc.Linear(None, 4)])

    run(net(), epochs=1, checkpoint=tmp_path)
    again, plain = net(), net()
    run(again, epochs=2, checkpoint=tmp_path, resume=True)
    run(plain, epochs=2)
    np.testing.assert_array_equal(again.parameters.flat, plain.parameters.flat)


@ENGINES
def test_a_trained_network_trains_on_and_that_run_is_resumed(
    engine: dict[str, str], tmp_path: Path
) -> None:
    """``epochs`` counts those of the run, not what the network had seen before."""

    def trained() -> tc.Sequential:
        net = network()
        run(net, epochs=2, **engine)
        return net

    plain, again = trained(), trained()
    whole = run(plain, epochs=3, **engine)
    stop = [StopAfter(2 * BATCHES + 8)]
    run(trained(), epochs=3, checkpoint=tmp_path, callbacks=stop, **engine)
    after = run(again, epochs=3, checkpoint=tmp_path, resume=True, **engine)
    assert again.position.epoch == 5
    assert rows(after) == rows(whole)
    np.testing.assert_array_equal(again.parameters.flat, plain.parameters.flat)


def test_a_schedule_goes_on(tmp_path: Path) -> None:
    class Halve(tc.Callback):
        def on_epoch_end(self, training: Any) -> None:
            training.lr = np.float32(training.lr / 2)

    plain, again = network(), network()
    whole = run(plain, callbacks=[Halve()])
    run(network(), checkpoint=tmp_path, callbacks=[Halve(), StopAfter(2 * BATCHES + 3)])
    after = run(again, checkpoint=tmp_path, resume=True, callbacks=[Halve()])
    assert rows(after) == rows(whole)
    np.testing.assert_array_equal(again.parameters.flat, plain.parameters.flat)


# Callbacks that remember.


class Figure(tc.Callback):
    """Puts a given figure into the row of each epoch, and keeps the weights it had."""

    adds = ("figure",)

    def __init__(self, *figures: float) -> None:
        self.figures = figures
        self.weights: dict[int, np.ndarray] = {}

    def on_epoch_end(self, training: Any) -> None:
        row = training.history.rows[-1]
        row["figure"] = self.figures[training.position.epoch - 1]
        self.weights[training.position.epoch] = training.parameters.flat.copy()


@ENGINES
@pytest.mark.parametrize("best", [1, 2, 4])
@pytest.mark.parametrize("step", [3, 2 * BATCHES, 2 * BATCHES + 3, 4 * BATCHES])
def test_the_best_epoch_is_kept_across_a_stop(
    engine: dict[str, str], best: int, step: int, tmp_path: Path
) -> None:
    figure = Figure(*(float(epoch == best) for epoch in range(1, EPOCHS + 1)))
    plain, again = network(), network()
    run(plain, callbacks=[figure, tc.KeepBest("figure")], **engine)
    np.testing.assert_array_equal(plain.parameters.flat, figure.weights[best])

    kept = [figure, tc.KeepBest("figure"), StopAfter(step)]
    run(network(), checkpoint=tmp_path, callbacks=kept, **engine)
    run(
        again,
        checkpoint=tmp_path,
        resume=True,
        verbose=step == 3,  # a progress bar more or less does not matter
        callbacks=[figure, tc.KeepBest("figure")],
        **engine,
    )
    np.testing.assert_array_equal(again.parameters.flat, plain.parameters.flat)


def test_a_checkpoint_without_an_array_of_the_best_epoch(tmp_path: Path) -> None:
    how: dict[str, Any] = {"engine": "eager", "checkpoint": tmp_path}
    run(network(), epochs=1, callbacks=[tc.KeepBest()], **how)
    tensors, about = checkpoints.read_state(tmp_path)
    tensors["callback.KeepBest.0.x"] = tensors.pop("callback.KeepBest.0.parameters")
    files.write_tensors(tmp_path / FILE, tensors, about)
    with pytest.raises(FileError, match="KeepBest in the checkpoint: tensors missing: parameters"):
        run(network(), epochs=2, resume=True, callbacks=[tc.KeepBest()], **how)


@tc.register
class Count(Layer):
    """Counts the batches it was trained on, as a layer with running statistics does."""

    def config(self) -> dict[str, Any]:
        return {}

    def output_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return shape

    def state_values(self) -> dict[str, Any]:
        return {"batches": np.zeros((), np.int64)}

    def compute(self, x: Any, training: bool, step: int) -> tuple[Any, Any]:
        self.state["batches"] += training
        return x, None

    def compute_backward(self, dy: Any, saved: Any) -> tuple[Any, dict[str, Any]]:
        return dy, {}


def test_running_statistics_are_saved_and_kept_too(tmp_path: Path) -> None:
    def net() -> tc.Sequential:
        return tc.Sequential([Count(), tc.Flatten(), tc.Linear(64, 4)])

    stopped, again = net(), net()
    run(stopped, engine="eager", checkpoint=tmp_path, callbacks=[StopAfter(2 * BATCHES + 3)])
    assert stopped.state_dict()["0.batches"] == 2 * BATCHES + 3
    run(again, engine="eager", checkpoint=tmp_path, resume=True)
    assert again.state_dict()["0.batches"] == 4 * BATCHES
    best, figure = net(), Figure(0, 0, 1, 0)
    run(best, engine="eager", callbacks=[figure, tc.KeepBest("figure")])
    assert best.state_dict()["0.batches"] == 3 * BATCHES
    np.testing.assert_array_equal(best.parameters.flat, figure.weights[3])


def test_the_checkpoint_holds_the_last_weights_and_the_network_the_best(tmp_path: Path) -> None:
    figure, net = Figure(0, 1, 0, 0), network()
    run(
        net,
        checkpoint=tmp_path,
        callbacks=[figure, tc.KeepBest("figure"), tc.EarlyStopping("figure", patience=1)],
    )
    np.testing.assert_array_equal(net.parameters.flat, figure.weights[2])
    tensors, state = checkpoints.read_state(tmp_path)
    assert state["position"]["epoch"] == 3
    saved = [tensors[f"network.{name}"].ravel() for name in net.state_dict()]
    np.testing.assert_array_equal(np.concatenate(saved), figure.weights[3])


def test_a_run_that_ended_early_stays_ended(tmp_path: Path) -> None:
    figure, net, again = Figure(0, 1, 0, 0), network(), network()

    def callbacks() -> list[tc.Callback]:
        return [figure, tc.KeepBest("figure"), tc.EarlyStopping("figure", patience=1)]

    before = run(net, checkpoint=tmp_path, callbacks=callbacks())
    after = run(again, checkpoint=tmp_path, resume=True, callbacks=callbacks())
    assert after.rows == before.rows
    np.testing.assert_array_equal(again.parameters.flat, net.parameters.flat)


# Ctrl-C.


class Interrupt(tc.Callback):
    """Presses Ctrl-C during the given steps."""

    def __init__(self, *steps: int) -> None:
        self.steps = steps

    def on_batch_end(self, training: Any) -> None:
        for step in self.steps:
            if step == training.position.step:
                signal.raise_signal(signal.SIGINT)


def test_ctrl_c_stops_after_the_batch_and_the_run_can_be_resumed(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGINT)
    caught, net, plain = tc.StopOnInterrupt(), network(), network()
    history = run(net, checkpoint=tmp_path, callbacks=[caught, Interrupt(BATCHES + 2)])
    assert caught.interrupted
    assert (net.position.epoch, net.position.batch) == (1, 2)
    assert len(history) == 1
    assert signal.getsignal(signal.SIGINT) is before
    again = run(net, checkpoint=tmp_path, resume=True, callbacks=[caught])
    assert not caught.interrupted
    assert rows(again) == rows(run(plain))
    np.testing.assert_array_equal(net.parameters.flat, plain.parameters.flat)


def test_ctrl_c_during_the_last_batch_of_an_epoch_ends_the_epoch() -> None:
    net = network()
    history = run(net, callbacks=[tc.StopOnInterrupt(), Interrupt(BATCHES)])
    assert len(history) == 1
    assert (net.position.epoch, net.position.batch) == (1, 0)


def test_a_second_ctrl_c_breaks_off_at_once_and_saves_no_half_step(tmp_path: Path) -> None:
    """The second one comes in the middle of a step, when the sums are ahead of the weights."""
    before = signal.getsignal(signal.SIGINT)

    class Impatient(tc.CrossEntropyLoss):
        calls = 0

        def backward(self) -> Any:
            self.calls += 1
            if self.calls == BATCHES + 3:
                signal.raise_signal(signal.SIGINT)
                signal.raise_signal(signal.SIGINT)
            return super().backward()

    with pytest.raises(KeyboardInterrupt):
        run(
            network(),
            loss=Impatient(),
            engine="eager",
            checkpoint=tmp_path,
            callbacks=[tc.StopOnInterrupt()],
        )
    assert signal.getsignal(signal.SIGINT) is before
    _, state = checkpoints.read_state(tmp_path)
    assert state["position"] == {"epoch": 1, "batch": 0, "step": BATCHES}


# Killed.


def test_killed_at_any_moment_at_most_an_epoch_is_lost(tmp_path: Path) -> None:
    """A process that trains without end is killed time and again, and each one resumes."""
    program = Path(__file__).with_name("small_run.py")
    rng = np.random.default_rng(0)
    epoch = 0
    for _ in range(4):
        process = subprocess.Popen(
            [sys.executable, program, "0", tmp_path], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        first, second = (int(process.stdout.readline()) for _ in range(2))
        assert first >= epoch  # it went on where the one before it was, not at 0
        time.sleep(rng.uniform(0, 0.1))
        process.kill()
        begun = [first, second, *map(int, process.stdout.read().split())]
        process.wait()
        process.stdout.close()
        # A file is there, whole; only the epoch that ran may be missing.
        if begun[-1] > 0:
            _, state = checkpoints.read_state(tmp_path)
            epoch = state["position"]["epoch"]
            assert begun[-1] <= epoch <= begun[-1] + 1
    assert epoch > 0
    net, plain = network(), network()
    after = run(net, epochs=epoch + 1, checkpoint=tmp_path, resume=True)
    assert rows(after) == rows(run(plain, epochs=epoch + 1))
    np.testing.assert_array_equal(net.parameters.flat, plain.parameters.flat)
    assert [path.name for path in tmp_path.iterdir()] == [FILE]


def test_what_a_killed_process_was_writing_is_removed(tmp_path: Path) -> None:
    run(network(), epochs=1, checkpoint=tmp_path)
    (tmp_path / f".{FILE}.4711-1").write_bytes(b"half")
    run(network(), checkpoint=tmp_path, resume=True)
    assert [path.name for path in tmp_path.iterdir()] == [FILE]


def test_a_full_disk_leaves_the_checkpoint_before_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(network(), epochs=1, checkpoint=tmp_path)
    kept = (tmp_path / FILE).read_bytes()

    def fail(*arguments: Any) -> None:
        raise OSError("disk full")

    with monkeypatch.context() as patched:
        patched.setattr("os.fsync", fail)
        with pytest.raises(OSError, match="disk full"):
            run(network(), checkpoint=tmp_path, resume=True)
    assert [path.name for path in tmp_path.iterdir()] == [FILE]
    assert (tmp_path / FILE).read_bytes() == kept


# What is refused.


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    run(network(), epochs=2, checkpoint=tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"batch_size": 9}, "made with batch_size 8, this run has 9"),
        ({"shuffle": False}, "made with shuffle True, this run has False"),
        ({"optimizer": tc.SGD(lr=0.1)}, r"made with optimizer 'SGD\(lr=0.05, .*this run has"),
        ({"seed": 1}, "made with seed 0, this run has 1"),
        ({"dropout": 0.3}, r"made with layers.3.config.p 0.2, this run has 0.3"),
        ({"samples": 40}, "made with samples 46, this run has 40"),
    ],
)
def test_other_settings(folder: Path, change: dict[str, Any], message: str) -> None:
    net = network(**{k: change.pop(k) for k in ("seed", "dropout") if k in change})
    before = net.parameters.flat.copy()
    x, y = data(change.pop("samples", 46))
    optimizer = tc.SGD(lr=0.05, momentum=0.9, weight_decay=0.01)
    how = {"batch_size": 8, "optimizer": optimizer, "verbose": False, **change}
    with pytest.raises(FileError, match=message) as caught:
        net.fit(x, y, checkpoint=folder, resume=True, **how)
    assert str(folder) in str(caught.value)
    np.testing.assert_array_equal(net.parameters.flat, before)
    assert net.position.step == 0


def test_a_lost_optimizer_state(folder: Path) -> None:
    rewrite(folder / FILE, lambda header, state: header.pop("optimizer.velocity"), drop=True)
    resume_is_refused(folder, "not a whole safetensors file|tensors missing: optimizer.velocity")


def rewrite(
    path: Path, change: Callable[[dict[str, Any], dict[str, Any]], Any], drop: bool = False
) -> None:
    """Change the header or the description in a checkpoint."""
    blob = path.read_bytes()
    (length,) = struct.unpack("<Q", blob[:8])
    header, tensors = json.loads(blob[8 : 8 + length]), blob[8 + length :]
    tensors_, state = files.read_tensors(path, "checkpoint")
    replaced = change(header, state)
    if isinstance(replaced, list):
        state = replaced
    else:
        state["checksum"] = files._checksum(tensors_, state)
    header["__metadata__"]["tinyconv"] = json.dumps(state)
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + tensors)


def resume_is_refused(folder: Path, message: str) -> None:
    net = network()
    before = net.parameters.flat.copy()
    with pytest.raises(FileError, match=message) as caught:
        run(net, checkpoint=folder, resume=True)
    assert str(folder) in str(caught.value)
    np.testing.assert_array_equal(net.parameters.flat, before)


def test_a_corrupt_checkpoint(folder: Path) -> None:
    blob = (folder / FILE).read_bytes()
    for broken in (b"", blob[:100], blob[:-1], b"\x89PNG\r\n\x1a\n" + blob):
        (folder / FILE).write_bytes(broken)
        resume_is_refused(folder, "not a whole safetensors file")


def test_a_network_is_no_checkpoint(folder: Path) -> None:
    network().save(folder / FILE)
    resume_is_refused(folder, "a safetensors file, but not a checkpoint of tinyconv")


@pytest.mark.parametrize(
    "change",
    [
        lambda header, state: state.pop("position"),
        lambda header, state: state.pop("network"),
        lambda header, state: state["position"].update(surprise=1),
        lambda header, state: state.update(network=7),
        lambda header, state: state.update(history=7),
        lambda header, state: state.update(lr=None),
        lambda header, state: state.update(lr="fast"),
        lambda header, state: [1],
    ],
)
def test_a_damaged_description(folder: Path, change: Callable[..., Any]) -> None:
    rewrite(folder / FILE, change)
    resume_is_refused(folder, "its description is damaged")


def test_read_state_where_there_is_none(tmp_path: Path) -> None:
    assert not checkpoints.exists(tmp_path)
    with pytest.raises(FileError, match="no such file"):
        checkpoints.read_state(tmp_path)


def test_tensors_keep_shape_and_type(tmp_path: Path) -> None:
    """Also an array without axes, and one that is not contiguous."""
    tensors = {
        "scalar": np.array(3, np.int64),
        "empty": np.zeros((0, 2), np.float32),
        "transposed": np.arange(6.0).reshape(2, 3).T,
    }
    files.write_tensors(tmp_path / "t", tensors, {"format": "b"})
    back, about = files.read_tensors(tmp_path / "t", "b")
    assert about == {"format": "b", "version": files.FORMAT_VERSION}
    for name, array in tensors.items():
        np.testing.assert_array_equal(back[name], array)
        assert (back[name].shape, back[name].dtype) == (array.shape, array.dtype)

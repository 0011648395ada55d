"""Early stopping, keeping the best, Ctrl-C and progress. Resuming them is in test_checkpoint.py."""

import io
import os
import re
import signal
import struct
import sys
import threading
import types
from pathlib import Path
from typing import Any, TextIO
from unittest.mock import Mock

import numpy as np
import pytest
from small_run import BATCHES, network, run

import tinyconv as tc
from tinyconv.errors import ArgumentError

try:
    import fcntl
    import pty
    import termios
except ImportError:  # no pseudo-terminals on Windows
    fcntl = None  # type: ignore[assignment]


class Figure(tc.Callback):
    """Puts a given figure into the row of each epoch, and keeps the weights it had."""

    def __init__(self, *figures: float, name: str = "figure") -> None:
        self.figures = figures
        self.name = name
        self.adds = (name,)
        self.weights: list[np.ndarray] = []

    def on_epoch_end(self, training: Any) -> None:
        training.history.rows[-1][self.name] = self.figures[len(self.weights)]
        self.weights.append(training.parameters.flat.copy())


class Reason(tc.Callback):
    stop: str | None = None

    def on_train_end(self, training: Any) -> None:
        self.stop = training.stop


# Early stopping.


@pytest.mark.parametrize(
    ("name", "figures", "patience", "epochs", "stops"),
    [
        ("score", (1, 2, 3, 4, 5, 6), 1, 6, False),  # it never gets worse
        ("score", (1, 1, 1, 1, 1, 1), 1, 2, True),  # no improvement is none
        ("score", (1, 1, 1, 1, 1, 1), 3, 4, True),
        ("score", (1, 3, 2, 2, 4, 1), 2, 4, True),
        ("score", (1, 3, 2, 4, 2, 1), 2, 6, True),
        ("score", (1, 3, 2, 4, 2, 1), 3, 6, False),
        ("val_loss", (5, 4, 3, 2, 1, 0), 1, 6, False),
        ("val_loss", (5, 4, 4, 3, 4, 5), 2, 6, True),
        ("val_loss", (5, 4, 4, 4, 3, 5), 2, 4, True),
    ],
)
def test_early_stopping(
    name: str, figures: tuple[float, ...], patience: int, epochs: int, stops: bool
) -> None:
    reason = Reason()
    callbacks = [Figure(*figures, name=name), tc.EarlyStopping(name, patience), reason]
    assert len(run(network(), epochs=6, callbacks=callbacks)) == epochs
    expected = f"{name} has not improved for {patience} epochs"
    assert reason.stop == (expected if stops else None)


def test_early_stopping_refuses_no_patience() -> None:
    with pytest.raises(ArgumentError, match="EarlyStopping: patience is 0, expected an int"):
        tc.EarlyStopping(patience=0)


@pytest.mark.parametrize("callback", [tc.EarlyStopping(), tc.KeepBest()])
def test_what_is_monitored_must_be_in_the_history(callback: tc.Callback) -> None:
    with pytest.raises(ArgumentError, match=r"is 'val_accuracy', expected .*; val_... needs vali"):
        run(network(), validation_data=None, callbacks=[callback])


# Keeping the best.


@pytest.mark.parametrize(
    ("name", "figures", "best"),
    [
        ("score", (0.1, 0.9, 0.5, 0.9), 1),  # the first of equal ones
        ("score", (0.9, 0.1, 0.5, 0.2), 0),
        ("score", (0.1, 0.2, 0.3, 0.4), 3),
        ("val_loss", (0.4, 0.1, 0.5, 0.2), 1),
    ],
)
def test_keep_best(name: str, figures: tuple[float, ...], best: int) -> None:
    net, figure = network(), Figure(*figures, name=name)
    run(net, callbacks=[figure, tc.KeepBest(name)])
    np.testing.assert_array_equal(net.parameters.flat, figure.weights[best])
    for name, values in net.parameters.values.items():
        assert np.shares_memory(values, net.parameters.flat), name


def test_keep_best_when_the_run_breaks_off() -> None:
    class Break(tc.Callback):
        def on_batch_end(self, training: Any) -> None:
            if training.position.step == 2 * BATCHES + 2:
                raise RuntimeError("power cut")

    net, figure = network(), Figure(2, 1, 0, 0)
    with pytest.raises(RuntimeError, match="power cut"):
        run(net, callbacks=[figure, tc.KeepBest("figure"), Break()])
    np.testing.assert_array_equal(net.parameters.flat, figure.weights[0])


def test_keep_best_starts_afresh_in_every_run() -> None:
    """Even where the second run, of another network, does not reach the end of an epoch."""

    class StopAtOnce(tc.Callback):
        def on_batch_end(self, training: Any) -> None:
            training.stop = "enough"

    keep, plain = tc.KeepBest("figure"), network(1)
    run(network(0), callbacks=[Figure(1, 2, 3, 4), keep])
    other = network(1)
    run(other, callbacks=[Figure(), keep, StopAtOnce()])
    run(plain, callbacks=[StopAtOnce()])
    np.testing.assert_array_equal(other.parameters.flat, plain.parameters.flat)


def test_two_that_keep_different_figures(tmp_path: Any) -> None:
    """The first in the list has the last word, since the ends come in reverse."""
    loss = Figure(3, 1, 2, 4, name="val_loss")
    score = Figure(1, 2, 4, 3, name="score")
    net = network()
    callbacks = [loss, score, tc.KeepBest("val_loss"), tc.KeepBest("score")]
    run(net, epochs=4, checkpoint=tmp_path, callbacks=callbacks)
    np.testing.assert_array_equal(net.parameters.flat, loss.weights[1])
    again = network()
    resumed = [score, tc.KeepBest("val_loss"), tc.KeepBest("score")]
    run(again, epochs=4, checkpoint=tmp_path, resume=True, callbacks=resumed)
    np.testing.assert_array_equal(again.parameters.flat, loss.weights[1])


# Ctrl-C.


def test_the_handler_of_ctrl_c_is_restored_even_after_an_error() -> None:
    class Break(tc.Callback):
        def on_batch_end(self, training: Any) -> None:
            raise RuntimeError("broken")

    pressed = []
    before = signal.signal(signal.SIGINT, lambda *arguments: pressed.append(1))
    try:
        ours = signal.getsignal(signal.SIGINT)
        for callbacks in ([tc.StopOnInterrupt(), Break()], [Break(), tc.StopOnInterrupt()]):
            with pytest.raises(RuntimeError, match="broken"):
                run(network(), callbacks=callbacks)
            assert signal.getsignal(signal.SIGINT) is ours
        caught = tc.StopOnInterrupt()
        run(network(), epochs=1, callbacks=[caught])
        assert not caught.interrupted
        assert signal.getsignal(signal.SIGINT) is ours
        assert not pressed
    finally:
        signal.signal(signal.SIGINT, before)


def test_ctrl_c_says_why_the_run_stopped() -> None:
    class Press(tc.Callback):
        def on_batch_end(self, training: Any) -> None:
            signal.raise_signal(signal.SIGINT)

    reason, net = Reason(), network()
    run(net, callbacks=[reason, tc.StopOnInterrupt(), Press()])
    assert reason.stop == "interrupted"
    assert net.position.step == 1


# Progress.


def test_plain_lines_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    run(network(), epochs=2, verbose=True)
    out, err = capsys.readouterr()
    assert out == ""
    assert "\r" not in err
    lines = err.splitlines()
    assert len(lines) == 2
    number = r"\d+\.\d{4}"
    for epoch, line in enumerate(lines, start=1):
        assert re.fullmatch(
            rf"epoch {epoch}/2  loss {number}  accuracy \d+\.\d\d%"
            rf"  validation loss {number}  validation accuracy \d+\.\d\d%"
            r"  \d+\.\d s  [\d,]+ samples/s",
            line,
        )
    run(network(), epochs=1, verbose=True, validation_data=None)
    assert "validation" not in capsys.readouterr().err


def test_silence(capfd: pytest.CaptureFixture[str]) -> None:
    run(network(), epochs=1, verbose=False)
    assert capfd.readouterr() == ("", "")


class Terminal:
    """A pseudo-terminal of so many columns; ``text`` is all that was written to it."""

    def __init__(self, columns: int) -> None:
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        self.file: TextIO = os.fdopen(slave, "w", buffering=1)
        self._parts: list[bytes] = []
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        while True:
            try:
                part = os.read(self._master, 4096)
            except OSError:  # how Linux says that the other end was closed
                return
            if not part:
                return
            self._parts.append(part)

    def close(self) -> str:
        self.file.close()
        self._reader.join()
        os.close(self._master)
        return b"".join(self._parts).decode()


@pytest.mark.skipif(fcntl is None, reason="needs pseudo-terminals")
def test_a_bar_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tc.ProgressBar, "INTERVAL", 0.0)
    terminal = Terminal(columns=150)
    try:
        history = run(network(), epochs=30, callbacks=[tc.ProgressBar(terminal.file)])
    finally:
        text = terminal.close()
    assert "\r" in text
    # One line that lasts for every epoch, above the bar.
    for row in history:
        assert f"epoch {row['epoch']}/30  loss {row['loss']:.4f}" in text
    bar = r"epoch \d+/30 .* \d+/180 batches \[\S+ left, loss \S+, accuracy \S+%, [\d,]+ samples/s\]"
    assert re.search(bar, text)
    assert "180/180 batches" in text


@pytest.mark.skipif(fcntl is None, reason="needs pseudo-terminals")
def test_the_bar_of_a_resumed_run_counts_what_is_left(tmp_path: Any) -> None:
    class StopAfter(tc.Callback):
        def on_batch_end(self, training: Any) -> None:
            if training.position.step == BATCHES + 2:
                training.stop = "enough"

    run(network(), epochs=3, checkpoint=tmp_path, callbacks=[StopAfter()])
    terminal = Terminal(columns=150)
    try:
        how = {"checkpoint": tmp_path, "resume": True}
        run(network(), epochs=3, callbacks=[tc.ProgressBar(terminal.file)], **how)
    finally:
        text = terminal.close()
    assert f"/{2 * BATCHES - 2} batches" in text
    assert "epoch 2/3" in text
    assert "epoch 1/3" not in text


def test_the_bar_of_a_notebook(monkeypatch: pytest.MonkeyPatch) -> None:
    """The stream of a kernel is no terminal; lines of epochs go there, the bar into the cell."""
    stream = type("OutStream", (io.StringIO,), {"__module__": "ipykernel.iostream"})()
    module = types.ModuleType("IPython.display")
    module.display = Mock()  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "IPython", types.ModuleType("IPython"))
    monkeypatch.setitem(sys.modules, "IPython.display", module)
    monkeypatch.setattr(sys, "stderr", stream)
    run(network(), epochs=2, callbacks=[tc.ProgressBar()])
    assert module.display.call_count == 1
    (last,) = module.display.return_value.update.call_args.args
    assert f"epoch 2/2 ██████████ {2 * BATCHES}/{2 * BATCHES} batches" in last["text/plain"]
    assert [line[:9] for line in stream.getvalue().splitlines()] == ["epoch 1/2", "epoch 2/2"]


def test_the_bar_can_be_sent_to_any_file(capsys: pytest.CaptureFixture[str]) -> None:
    file = io.StringIO()
    run(network(), epochs=1, callbacks=[tc.ProgressBar(file)])
    assert file.getvalue().startswith("epoch 1/1  loss ")
    assert capsys.readouterr().err == ""


def test_training_goes_on_where_the_progress_cannot_be_written() -> None:
    class Full(io.StringIO):
        def write(self, text: str) -> int:
            raise OSError(28, "No space left on device")

    assert len(run(network(), epochs=2, callbacks=[tc.ProgressBar(Full())])) == 2


# Loggers.


def test_a_logger_gets_the_figures_and_the_epoch() -> None:
    class Kept(tc.Logger):
        def __init__(self) -> None:
            self.seen: list[tuple[int, list[str]]] = []

        def log(self, figures: dict[str, float], epoch: int) -> None:
            self.seen.append((epoch, list(figures)))

    kept = Kept()
    history = run(network(), epochs=2, callbacks=[Figure(7, 8), kept])
    names = [name for name in history.rows[0] if name != "epoch"]
    assert "figure" in names
    assert kept.seen == [(1, names), (2, names)]
    with pytest.raises(NotImplementedError, match=r"^Logger does not define log"):
        run(network(), epochs=1, callbacks=[tc.Logger()])


def test_the_table_is_whole_after_every_epoch(tmp_path: Path) -> None:
    path, lines = tmp_path / "history.csv", []

    class Read(tc.Callback):
        def on_epoch_end(self, training: Any) -> None:
            lines.append(len(path.read_text().splitlines()))

    history = run(network(), epochs=3, callbacks=[tc.CSVLogger(path), Read()])
    assert lines == [2, 3, 4]
    assert tc.History.from_csv(path.read_text()).rows == history.rows


@pytest.mark.oracle
def test_tensorboard_reads_the_figures(tmp_path: Path) -> None:
    """The file as its format has it: length, its checksum, an event, its checksum."""
    pytest.importorskip("tensorboardX")
    from tensorboardX.proto.event_pb2 import Event

    history = run(network(), epochs=2, callbacks=[tc.interop.tensorboard.TensorBoard(tmp_path)])
    (file,) = tmp_path.iterdir()
    data, found = file.read_bytes(), {}
    while data:
        (length,) = struct.unpack("<Q", data[:8])
        event = Event.FromString(data[12 : 12 + length])
        for value in event.summary.value:
            found[event.step, value.tag] = value.simple_value
        data = data[16 + length :]
    expected = {
        (row["epoch"], name): value
        for row in history.rows
        for name, value in row.items()
        if name != "epoch"
    }
    assert found == pytest.approx(expected, rel=1e-6)

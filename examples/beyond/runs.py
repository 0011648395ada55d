"""Runs rows of the table: nets from seeds, each trained to its end, then tested once.

A run that was stopped, by Ctrl-C, kill -9 or a power cut, continues when it is started again with
the same arguments. What it has cost is counted in seconds of CPU, of all threads together, since
the machine may have other things to do.
"""

import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

import tinyconv as tc

HERE = Path(__file__).parent
sys.path.append(str(HERE.parent / "book"))
from experiment import keep, machine, parser, write  # noqa: E402, F401
from make_table import read  # noqa: E402

#: What a run is told on the command line.
PARSER = parser("runs/beyond")
PARSER.add_argument("--seeds", type=int, nargs="+", help="another choice of seeds")
PARSER.add_argument("--threads", type=int, help="default: one a core")


class CpuTime(tc.Callback):
    """Adds to each epoch's row the seconds of CPU that it took, and stops after so many hours."""

    adds = ("cpu_seconds",)

    def __init__(self, hours: float = float("inf")) -> None:
        self.hours = hours
        self._before = 0.0  # the part of the epoch that ran before the run was stopped
        self._begun = time.process_time()

    def on_train_begin(self, training) -> None:
        """Stop again what had used up its hours."""
        self._begun = time.process_time()
        self._look(training)

    def on_epoch_end(self, training) -> None:
        """Write what the epoch took, with its validation."""
        training.history.rows[-1]["cpu_seconds"] = round(self._spent(), 3)
        self._before, self._begun = 0.0, time.process_time()
        self._look(training)

    def _spent(self) -> float:
        return self._before + time.process_time() - self._begun

    def _look(self, training) -> None:
        if sum(row["cpu_seconds"] for row in training.history) >= 3600 * self.hours:
            training.stop = f"{self.hours:g} hours of CPU are over"

    def state(self):
        """Return what the running epoch has taken so far."""
        return {"seconds": np.asarray(self._spent())}

    def restore(self, state) -> None:
        """Go on from there."""
        self._before = float(state["seconds"])


def accuracy(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Return the share of the labels (N,) that are the most probable of the classes (N, K)."""
    return float((probabilities.argmax(axis=1) == labels).mean())


def run(
    name: str,
    *,
    build: Callable[..., tc.Sequential],
    optimizer: tc.Optimizer,
    epochs: int,
    batch_size: int,
    augment: Callable[..., np.ndarray],
    callbacks: Callable[[int, int], Sequence[tc.Callback]],
    loss: tc.losses.Loss | None = None,
    seeds: int = 1,
    all_digits: bool = False,
    tested: bool = True,
    voting: bool = False,
    look: Callable[[tc.Sequential, np.ndarray], np.ndarray] = tc.Sequential.predict_proba,
    hours: float = float("inf"),
) -> None:
    """Train the nets of a row and write what came out; those that have a result are left alone.

    Args:
        name: of the row; its files are called so.
        build: makes the network from a seed.
        optimizer: the update rule.
        epochs: how often to see every digit.
        batch_size: digits in a step.
        augment: maps digits and a key to distorted ones, in every epoch others.
        callbacks: makes them from the number of epochs and of steps in one.
        loss: what to minimise; cross-entropy if None.
        seeds: how many nets, with the seeds 0, 1, ...
        all_digits: whether to train on all 60,000, the last epoch being the result; else on
            50,000, the result being the epoch that is best for the other 10,000.
        tested: whether the test digits are looked at.
        voting: whether what it says of the test digits is kept, for a vote with other nets.
        look: asks a finished net for the probabilities of the classes.
        hours: of CPU after which a net has to do with the epochs that it has had.
    """
    options = PARSER.parse_args()
    if options.threads:
        tc.set_num_threads(options.threads)
    epochs = options.epochs or epochs
    results = options.results or options.out / "results"
    data = tc.data.load(options.data)
    x, y = data.train
    if all_digits:
        x, y = (np.concatenate(pair) for pair in zip(data.train, data.validation, strict=True))
    for seed in range(seeds) if options.seeds is None else options.seeds:
        if any((r["seed"], r["planned"]) == (seed, epochs) for r in read(results, name)):
            print(f"{name}, seed {seed}: has its result")
            continue
        net, folder = build(seed=seed), options.out / f"{name}-{seed}"
        clock, interrupt = CpuTime(hours), tc.StopOnInterrupt()
        hung = [*callbacks(epochs, -(-len(y) // batch_size)), clock, interrupt]
        print(f"{name}, seed {seed}: {len(y):,} digits, {epochs} epochs, to {folder}/", flush=True)
        history = net.fit(
            x,
            y,
            epochs=epochs,
            batch_size=batch_size,
            optimizer=optimizer,
            loss=loss,
            validation_data=None if all_digits else data.validation,
            augment=augment,
            callbacks=hung if all_digits else [*hung, tc.KeepBest()],
            checkpoint=folder,
            resume=True,
        )
        if interrupt.interrupted:
            print("stopped; start it again to continue")
            sys.exit(130)
        net.save(folder / "model.safetensors")
        result = {
            "experiment": name,
            "seed": seed,
            "epochs": len(history),
            "planned": epochs,
            "cpu_minutes": round(sum(row["cpu_seconds"] for row in history) / 60, 1),
            "weights": net.parameters.flat.size,
            "multiply_adds": net.multiply_adds(x.shape[1:]),
            "machine": machine(),
            "version": tc.__version__,
        }
        if not all_digits:
            seen = look(net, np.asarray(data.validation.x))
            result["validation"] = accuracy(seen, data.validation.y)
        if tested:
            seen = look(net, np.asarray(data.test.x))
            result["test"] = accuracy(seen, data.test.y)
            if voting:
                results.mkdir(parents=True, exist_ok=True)
                np.savez_compressed(results / f"{name}-{seed}.npz", test=seen.astype(np.float16))
        keep(results, result, history)
        print(result, flush=True)

"""Two ranks with a thread each against one with two threads, and a model of more ranks.

    python benchmarks/ranks.py

Needs mpi4py and an ``mpiexec``, such as that of ``pip install mpich``. Starts itself under it, in
turn with the other side, and prints the median time of a training step in the fastest round, what
one step sends through the sums over all ranks and how long they take; then what the model makes of
more ranks. Nothing else may run meanwhile: two ranks wait for the slower of two cores.
"""

import argparse
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from report import table, write

import tinyconv as tc

NETS = {
    "conv-conv-ReLU": "nielsen-conv-conv-relu",
    "784-100-10": "nielsen-fully-connected",
}
BATCHES = (128, 1024)

#: What the model takes for machines of their own: seconds until the first byte of a message over
#: 10 Gbit Ethernet with TCP is there, and bytes a second after that.
LATENCY, BANDWIDTH = 25e-6, 1.1e9

#: Seconds of work that a sum might hide behind.
OF_WORK = 200e-6


class Watched:
    """A communicator that counts what the sums over all ranks take."""

    def __init__(self, comm: Any) -> None:
        self.comm = comm
        self.seconds, self.bytes = 0.0, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.comm, name)

    def Allreduce(self, sendbuf: Any, recvbuf: Any) -> None:
        """Sum, and look at the clock."""
        started = time.perf_counter()
        self.comm.Allreduce(sendbuf, recvbuf)
        self.seconds += time.perf_counter() - started
        self.bytes += sendbuf.nbytes


class Clock(tc.Callback):
    """Notes the time of every batch."""

    def on_train_begin(self, training: Any) -> None:  # noqa: D102
        self.times = [time.perf_counter()]

    def on_batch_end(self, training: Any) -> None:  # noqa: D102
        self.times.append(time.perf_counter())


def work(net: str, batch: int, steps: int) -> dict[str, float] | None:
    """Train as one of the ranks, and return what one step took."""
    from mpi4py import MPI

    world = MPI.COMM_WORLD
    tc.set_num_threads(2 // world.size)
    comm = Watched(world)
    rng = np.random.default_rng(0)
    x = rng.random((batch * steps, 1, 28, 28), dtype=np.float32)
    y = rng.integers(0, 10, len(x))
    made = tc.models.named_net(net).build(seed=0)
    clock = Clock()
    arguments: dict[str, Any] = {
        "batch_size": batch,
        "optimizer": tc.SGD(lr=0.03),
        "verbose": False,
        "comm": comm,
    }
    made.fit(x[: 2 * batch], y[: 2 * batch], **arguments)  # compiles
    comm.seconds, comm.bytes = 0.0, 0
    made.fit(x, y, callbacks=[clock], **arguments)
    latency = reduced(world, 1)
    bandwidth = 4e6 / (reduced(world, 1_000_000) - latency)
    behind, before = overlapped(world, made.parameters.flat.size)
    if world.rank:
        return None
    return {
        "latency": latency,
        "bandwidth": bandwidth,
        "behind": behind,
        "before": before,
        "step": median(np.diff(clock.times)[1:].tolist()),
        "sums": comm.seconds / steps,
        "bytes": comm.bytes / steps,
    }


def reduced(comm: Any, n: int) -> float:
    """Return the time of a sum of n float32 numbers over all ranks."""
    sent, times = np.ones(n, np.float32), []
    for _ in range(30):
        comm.Barrier()
        started = time.perf_counter()
        comm.Allreduce(sent, np.empty_like(sent))
        times.append(time.perf_counter() - started)
    return median(times)


def overlapped(comm: Any, n: int) -> tuple[float, float]:
    """Return what a sum of n numbers adds to 200 us of work: behind it, and begun before it."""
    sent, after, before = np.ones(n, np.float32), [], []
    out = np.empty_like(sent)

    def work() -> None:
        end = time.perf_counter() + OF_WORK
        while time.perf_counter() < end:
            pass

    for _ in range(100):
        comm.Barrier()
        started = time.perf_counter()
        work()
        comm.Allreduce(sent, out)
        after.append(time.perf_counter() - started)
        comm.Barrier()
        started = time.perf_counter()
        request = comm.Iallreduce(sent, out)
        work()
        request.Wait()
        before.append(time.perf_counter() - started)
    return median(after) - OF_WORK, median(before) - OF_WORK


def started(ranks: int, net: str, batch: int, steps: int) -> dict[str, float]:
    """Return what so many ranks measure."""
    beside = Path(sys.executable).parent / "mpiexec"
    mpiexec = str(beside) if beside.exists() else shutil.which("mpiexec")
    if mpiexec is None:
        sys.exit("no mpiexec found: pip install mpich mpi4py")
    command = [mpiexec, "-n", str(ranks), sys.executable, __file__]
    command += ["--worker", net, "--batch", str(batch), "--steps", str(steps)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    result: dict[str, float] = json.loads(done.stdout)
    return result


def efficiency(
    compute: float,
    sent: float,
    ranks: int,
    *,
    batch_grows: bool,
    latency: float = LATENCY,
    bandwidth: float = BANDWIDTH,
) -> float:
    """Return the share of ``ranks`` times the speed of one rank that is left.

    A step of one rank on its batch takes ``compute``. Where the batch is shared, each rank has a
    part of that; where it grows with the ranks, all of it. A sum of B bytes by a ring takes

        2 (R - 1) latency + 2 (R - 1) / R B / bandwidth

    or, where that is less, by halving and doubling, 2 log2(R) latency and the same second term. A
    step has one of them.
    """
    own = compute if batch_grows else compute / ranks
    hops = 2 * min(ranks - 1, np.log2(ranks))
    reduce = hops * latency + 2 * (ranks - 1) / ranks * sent / bandwidth
    return float(own / (own + reduce))


def main() -> None:
    """Measure, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--worker")
    parser.add_argument("--batch", type=int)
    parser.add_argument("--steps", type=int, default=40)
    options = parser.parse_args()
    if options.worker:
        result = work(options.worker, options.batch, options.steps)
        if result is not None:
            print(json.dumps(result))
        return
    rows, measured = [], {}
    for name, net in NETS.items():
        for batch in BATCHES:
            steps = max(10, 5000 // batch)
            rounds = [
                [started(ranks, net, batch, steps) for ranks in (1, 2)]
                for _ in range(options.rounds)
            ]
            # Other work only ever makes a step longer.
            one, two = (
                min((pair[side] for pair in rounds), key=lambda result: result["step"])
                for side in (0, 1)
            )
            ratio = one["step"] / two["step"]
            measured[name, batch] = one["step"], two["bytes"]
            # A sum over two ranks of one machine goes through its memory once: a time that was
            # measured as a whole, not a way there and back.
            modelled = efficiency(
                2 * one["step"],
                two["bytes"],
                2,
                batch_grows=False,
                latency=two["latency"] / 2,
                bandwidth=two["bandwidth"],
            )
            rows.append(
                [
                    f"{name}, {batch:,}",
                    *(f"{side['step'] * 1e3:.2f}" for side in (one, two)),
                    *(f"{ratio:.2f}", f"{modelled:.2f}"),
                    *(f"{two['sums'] * 1e3:.2f}", f"{two['bytes'] / 1e3:.0f}"),
                    f"{two['behind'] * 1e6:.0f} / {two['before'] * 1e6:.0f}",
                ]
            )
            print(*rows[-1], sep=" | ", flush=True)
    more = (8, 64, 512)
    shares = [
        [
            f"{name}, {batch:,}",
            *(
                " / ".join(
                    f"{efficiency(step, sent, ranks, batch_grows=grows):.2f}"
                    for grows in (False, True)
                )
                for ranks in more
            ),
        ]
        for (name, batch), (step, sent) in measured.items()
    ]
    head = ["net, batch", "1 rank, 2 threads, ms", "2 ranks, 1 thread, ms", "efficiency"]
    write(
        "Two ranks",
        f"A step of one rank on two threads and of two ranks with a thread each, medians in "
        f"the fastest of {options.rounds} rounds; efficiency is the ratio, then what the model "
        "makes of the sums' latency and bandwidth here. The last column: what the sum adds to "
        f"{OF_WORK * 1e6:.0f} us of work, behind it / begun before it and waited for behind it.\n\n"
        + table([*head, "model", "sums, ms", "sent, kB", "overlap, us"], rows)
        + f"\n\nThe model for machines of their own, {LATENCY * 1e6:.0f} us to the first byte and "
        f"{BANDWIDTH / 1e9:.1f} GB/s after it, not measured: the share of the ideal speed that is "
        "left where the batch is shared / where each rank has such a batch.\n\n"
        + table(["net, batch", *(f"{ranks} ranks" for ranks in more)], shares),
    )


if __name__ == "__main__":
    main()

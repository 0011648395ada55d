"""Each kernel of a step beside sgemm's peak of the same run: ``python benchmarks/kernels.py``.

The work of a call is what the equation asks for, dense, so the backward pass of a max-pool, which
needs a fraction of it, may show more than the machine can do; what a kernel skips is its merit.
Calls that move data have no such figure.
"""

from statistics import median
from time import perf_counter

import numpy as np
from nets import NETS
from report import table, write

import tinyconv as tc

NET, BATCH = "conv-conv-ReLU", 128

#: Multiply-adds a sample of the layers of the net, forward.
WORK = {"0": 24 * 24 * 20 * 25, "3": 8 * 8 * 40 * 500, "7": 640 * 100, "9": 100 * 10}

#: Share of the dense work that is left where gradient comes through a 2x2 max-pool, at most.
WINNERS = 0.25

#: What keeps the calls of a layer slow, where they are.
WHY = {
    "0": "The first convolution fills 20 of 32 lanes; its gradient has runs of 5 numbers for "
    "vectors of 8, and unaligned loads.",
    "3": "The second one's gradient goes from winner to winner of the pooling: runs of 100 numbers "
    "in scattered places, each loaded for one product and one sum a number.",
    "9": "The last layer has 10 outputs of 100 numbers: sums across lanes, half-empty vectors.",
}


def sgemm_peak() -> float:
    """Return the GFLOP/s of NumPy's product of two large matrices on one thread."""
    from threadpoolctl import threadpool_limits

    n = 1024
    a = np.random.default_rng(0).random((n, n), np.float32)
    out = np.empty_like(a)
    best = np.inf
    with threadpool_limits(1):
        for _ in range(15):
            start = perf_counter()
            np.matmul(a, a, out=out)
            best = min(best, perf_counter() - start)
    return float(2 * n**3 / best / 1e9)


def work_of(call: str) -> float:
    """Return the floating-point operations of a call for one sample; 0 where it has none."""
    layer, _, what = call.partition(" ")
    per_pass = 2.0 * WORK.get(layer, 0)
    if any(word in what for word in ("pack", "activation", "Flatten", "reach")):
        return 0.0
    if "Conv" in what:
        if "update" in what:
            return 0.0
        return per_pass * (1 if "backward" not in what else 1 if layer == "0" else 2)
    return per_pass


def done(row: list[str]) -> float:
    """Return the GFLOP/s of a call, of the work that its winners need."""
    return float(row[2]) * (WINNERS if "MaxPool2d + ReLU: backward" in row[0] else 1)


def main() -> None:
    tc.set_num_threads(1)
    x, y = NETS[NET].data(20 * BATCH)
    net = NETS[NET].build()
    profiles, peaks = [], []
    for _ in range(7):
        history = net.fit(
            x, y, batch_size=BATCH, optimizer=tc.SGD(lr=0.01), profile=True, verbose=False
        )
        profiles.append(history.profile)
        peaks.append(sgemm_peak())
    peak = max(peaks)
    rows = []
    for call in profiles[0]:
        seconds = min(profile[call] for profile in profiles)
        rate = work_of(call) * BATCH / seconds / 1e9
        rows.append(
            [
                call,
                f"{1e6 * seconds:.0f}",
                f"{rate:.0f}" if rate else "",
                f"{rate / peak:.2f}" if rate else "",
            ]
        )
    dense = [row for row in rows if row[2] and "MaxPool2d + ReLU: backward" not in row[0]]
    fastest = max(float(row[2]) for row in dense)
    slow = [row[0] for row in rows if row[3] and done(row) < 0.5 * fastest]
    reasons = " ".join(WHY[layer] for layer in WHY if any(c.startswith(layer) for c in slow))
    total = median(sum(profile.values()) for profile in profiles)
    write(
        "Kernels",
        f"{NET}, batch {BATCH}, one thread; sgemm of NumPy in the same run: {peak:.0f} GFLOP/s. "
        f"All calls together: {1e3 * total:.2f} ms (median).\n\n"
        + f"Below half of {fastest:.0f} GFLOP/s, the rate of the fastest dense kernel here, where "
        "a backward pass of a max-pool counts for the quarter that it has to do at most: "
        + f"{', '.join(slow)}. {reasons}\n\n"
        + table(["call", "µs", "GFLOP/s, dense", "of sgemm"], rows),
    )


if __name__ == "__main__":
    main()

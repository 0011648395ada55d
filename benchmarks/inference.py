"""Prediction against ONNX Runtime: ``python benchmarks/inference.py`` (needs onnx, onnxruntime).

The net is conv-conv-ReLU, with the same weights on both sides. Each side is a process of its own
that spins its own threads, so they take turns as in ``step.py``.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import numpy as np
from nets import data, of_tinyconv
from report import table, write

NET = "conv-conv-ReLU"
GOAL = 1.5


def tinyconv_call(batch: int, threads: int) -> Callable[[], Any]:
    import tinyconv as tc

    tc.set_num_threads(threads)
    net, (x, _) = of_tinyconv(NET), data(NET, batch)
    return lambda: net.logits(x, batch)


def onnx_call(batch: int, threads: int) -> Callable[[], Any]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    model = onnx_model().SerializeToString()
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    x, _ = data(NET, batch)
    return lambda: session.run(None, {"x": x})[0]


def onnx_model() -> Any:
    """Return the net as an ONNX graph."""
    from onnx import TensorProto, helper, numpy_helper

    w = of_tinyconv(NET).state_dict()
    nodes: list[Any] = []
    source = "x"
    for place, kind in enumerate(
        ["Conv", "MaxPool", "Relu", "Conv", "MaxPool", "Relu", "Flatten", "Gemm", "Relu", "Gemm"]
    ):
        inputs = [source]
        options: dict[str, Any] = {}
        if kind in ("Conv", "Gemm"):
            inputs += [f"{place}.weight", f"{place}.bias"]
        if kind == "Gemm":
            options = {"transB": 1}
        if kind == "MaxPool":
            options = {"kernel_shape": [2, 2], "strides": [2, 2]}
        source = f"y{place}"
        nodes.append(helper.make_node(kind, inputs, [source], **options))
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 1, 28, 28])],
        [helper.make_tensor_value_info(source, TensorProto.FLOAT, ["N", 10])],
        [numpy_helper.from_array(value, name) for name, value in w.items()],
    )
    opsets = [helper.make_opsetid("", 17)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def time_of(call: Callable[[], Any], seconds: float) -> float:
    times, end = [], time.perf_counter() + seconds
    while time.perf_counter() < end:
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return median(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=0.3)
    parser.add_argument("--side", nargs=3)
    arguments = parser.parse_args()
    if arguments.side:
        library, batch, threads = arguments.side
        make = {"tinyconv": tinyconv_call, "ONNX Runtime": onnx_call}[library]
        call = make(int(batch), int(threads))
        print(json.dumps(np.round(call()[0].astype(float), 4).tolist()), flush=True)
        for line in sys.stdin:
            print(time_of(call, float(line)), flush=True)
        return

    rows = []
    for batch in (10, 128, 1000):
        sides = {
            (library, threads): subprocess.Popen(
                [sys.executable, __file__, "--side", library, str(batch), str(threads)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            for library in ("tinyconv", "ONNX Runtime")
            for threads in (1, 2)
        }
        first = [np.array(eval(s.stdout.readline())) for s in sides.values()]  # type: ignore[union-attr]
        for logits in first:
            np.testing.assert_allclose(logits, first[0], atol=1e-3)
        ratios, own, other = [], [], []
        for _ in range(arguments.rounds):
            times: dict[str, float] = {}
            for (library, _threads), side in sides.items():
                assert side.stdin is not None
                assert side.stdout is not None
                side.stdin.write(f"{arguments.seconds}\n")
                side.stdin.flush()
                seconds = float(side.stdout.readline())
                times[library] = min(seconds, times.get(library, seconds))
            own.append(times["tinyconv"])
            other.append(times["ONNX Runtime"])
            ratios.append(other[-1] / own[-1])
        for side in sides.values():
            side.communicate()
        rows.append(
            [
                str(batch),
                f"{1e3 * median(own):.3f}",
                f"{1e3 * median(other):.3f}",
                f"**{median(ratios):.1f}** ({min(ratios):.1f} to {max(ratios):.1f})",
                f"{GOAL:g}",
            ]
        )
        print(" | ".join(rows[-1]), flush=True)
    import onnxruntime

    write(
        "Prediction",
        f"{NET} against ONNX Runtime {onnxruntime.__version__}, {arguments.rounds} rounds, each "
        "side on 1 or 2 threads as is faster: median (range).\n\n"
        + table(["batch", "tinyconv ms", "ONNX Runtime ms", "ratio", "goal"], rows),
    )


if __name__ == "__main__":
    main()

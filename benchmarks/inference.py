"""Prediction against PyTorch and ONNX Runtime: ``python benchmarks/inference.py [--isa avx2]``.

Each library predicts in a process of its own with the same weights, and they take turns as in
``step.py``. ONNX Runtime (needs onnx, onnxruntime) gets the book's net alone. Some nets are
evaluated as well: the mean loss and the accuracy of a batch.
"""

import tempfile
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from nets import NETS
from report import table, write
from sides import Side, measured, parser, restart_with, serve, torch_variants

ONNX_NET, ONNX_GOALS = "conv-conv-ReLU", {1: 1.5, 10: 1.5, 128: 1.5, 1000: 1.5}
#: Nets that are evaluated, with their batch.
EVALUATED = {"conv-conv-ReLU": 128, "784-100-10, sigmoid": 128, "U-Net, 21 classes a pixel": 8}
EVALUATION, EVALUATION_GOAL = ", evaluation", 0.9


def tinyconv_call(net: Any, x: Any, variant: str, threads: int) -> Callable[[], Any]:
    import tinyconv as tc

    tc.set_num_threads(threads)
    return lambda: net.logits(x, len(x))


def torch_call(net: Any, x: Any, variant: str, threads: int) -> Callable[[], Any]:
    import torch

    torch.set_num_threads(threads)
    module, prepare = torch_variants(net, variant)
    module.eval()
    tensor = prepare(torch.from_numpy(x))

    def call() -> Any:
        with torch.no_grad():
            return module(tensor).numpy()

    return call


def onnx_call(net: Any, x: Any, variant: str, threads: int) -> Callable[[], Any]:
    import onnxruntime

    from tinyconv.interop.onnx import export

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "net.onnx"
        export(net, path)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    (source,) = session.get_inputs()
    return lambda: session.run(["logits"], {source.name: x})[0]


def labels(net: Any, x: Any) -> Any:
    classes, *positions = net.output_shape(x.shape[1:])
    return np.random.default_rng(1).integers(0, classes, (len(x), *positions))


def tinyconv_evaluation(net: Any, x: Any, variant: str, threads: int) -> Callable[[], Any]:
    import tinyconv as tc

    tc.set_num_threads(threads)
    y = labels(net, x)

    def call() -> Any:
        found = net.evaluate(x, y, batch_size=len(x))
        return [found["loss"], found["accuracy"]]

    return call


def torch_evaluation(net: Any, x: Any, variant: str, threads: int) -> Callable[[], Any]:
    import torch

    torch.set_num_threads(threads)
    module, prepare = torch_variants(net, variant)
    module.eval()
    tensor, y = prepare(torch.from_numpy(x)), torch.from_numpy(labels(net, x))
    loss = torch.nn.CrossEntropyLoss()

    def call() -> Any:
        with torch.no_grad():
            logits = module(tensor)
            return [loss(logits, y).item(), (logits.argmax(1) == y).float().mean().item()]

    return call


CALLS = {
    "tinyconv": tinyconv_call,
    "PyTorch": torch_call,
    "ONNX Runtime": onnx_call,
    "tinyconv" + EVALUATION: tinyconv_evaluation,
    "PyTorch" + EVALUATION: torch_evaluation,
}
VARIANTS = {library: [""] for library in CALLS}
VARIANTS["PyTorch"] = VARIANTS["PyTorch" + EVALUATION] = ["eager", "channels-last"]


def run_side(library: str, name: str, batch: int) -> None:
    net = NETS[name].build()
    x = NETS[name].data(batch)[0]
    prepare = CALLS[library]

    def make(variant: str, threads: int) -> Callable[[float], float]:
        call = prepare(net, x, variant, threads)

        def measure(seconds: float) -> float:
            if library.startswith("tinyconv"):
                import tinyconv as tc

                tc.set_num_threads(threads)
            elif library.startswith("PyTorch"):
                import torch

                torch.set_num_threads(threads)
            return measured(call, seconds)

        return measure

    first = prepare(net, x, VARIANTS[library][0], 1)()
    serve(make, np.ravel(first)[:20].astype(float).tolist())


def main() -> None:
    arguments = parser(__doc__, rounds=5, seconds=0.2).parse_args()
    restart_with(arguments.isa)
    if arguments.side:
        library, name, batch = arguments.side
        run_side(library, name, int(batch))
        return
    against = [
        *((name, "PyTorch", batch, goal) for name in NETS for batch, goal in
          NETS[name].predictions.items()),
        *((ONNX_NET, "ONNX Runtime", batch, goal) for batch, goal in ONNX_GOALS.items()),
        *((name, "PyTorch" + EVALUATION, batch, EVALUATION_GOAL)
          for name, batch in EVALUATED.items()),
    ]  # fmt: skip
    rows = []
    for name, library, batch, goal in against:
        if arguments.only not in name:
            continue
        own_name = "tinyconv" + (EVALUATION if library.endswith(EVALUATION) else "")
        ours, other = (Side(__file__, side, name, batch) for side in (own_name, library))
        np.testing.assert_allclose(ours.answer(), other.answer(), rtol=1e-3, atol=1e-3)
        own: list[float] = []
        best: list[float] = []
        for _ in range(arguments.rounds):
            for side, times in ((ours, own), (other, best)):
                times.append(
                    min(
                        side.measure(variant, threads, arguments.seconds)
                        for variant in VARIANTS[side.library]
                        for threads in (1, 2)
                    )
                )
        ratios = [b / a for a, b in zip(own, best, strict=True)]
        ours.close()
        other.close()
        rows.append(
            [
                name,
                library,
                str(batch),
                f"{1e3 * median(own):.3f}",
                f"{1e3 * median(best):.3f}",
                f"**{median(ratios):.2f}** ({min(ratios):.2f} to {max(ratios):.2f})",
                f"{goal:g}",
            ]
        )
        print(" | ".join(rows[-1]), flush=True)
    if arguments.only:
        return
    import onnxruntime
    import torch

    write(
        "Prediction" + (", restricted to AVX2" if arguments.isa == "avx2" else ""),
        f"Against PyTorch {torch.__version__} (no_grad, eagerly and with the channels last) and "
        f"ONNX Runtime {onnxruntime.__version__} (whose own kernels cannot be restricted), "
        f"{arguments.rounds} rounds, each on 1 or 2 threads as is faster: median (range).\n\n"
        + table(["net", "against", "batch", "tinyconv ms", "its ms", "ratio", "goal"], rows),
    )


if __name__ == "__main__":
    main()

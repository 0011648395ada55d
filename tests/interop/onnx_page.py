"""ONNX's own tests of its operators, run by the backend and by the reader; writes docs/onnx.md.

python -m tests.interop.onnx_page
"""

import warnings
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from textwrap import fill
from typing import Any

import numpy as np

from tinyconv.errors import FileError

PAGE = Path(__file__).parents[2] / "docs" / "onnx.md"


@dataclass
class Tally:
    """What came of the tests of one operator."""

    tests: int = 0
    right: int = 0
    read: int = 0


def cases() -> Iterator[Any]:
    """Return ONNX's tests of single operators that our operations compute."""
    from onnx.backend.test.loader import load_model_tests

    from tinyconv.interop.onnx.compute import BETWEEN, OPERATORS

    ours = OPERATORS - BETWEEN - {"Constant"}

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the values that ONNX's tests are made of
        loaded = load_model_tests(kind="node")
    for case in loaded:
        nodes = case.model.graph.node
        if "_expanded" not in case.name and len(nodes) == 1 and nodes[0].op_type in ours:
            yield case


def values(data: Any) -> list[Any]:
    from onnx import TensorProto, numpy_helper

    return [numpy_helper.to_array(v) if isinstance(v, TensorProto) else v for v in data]


def read(model: Any, inputs: list[Any]) -> Any:
    """Map the first input by the layers that the reader makes of the node and the other inputs."""
    from tinyconv.interop.onnx.backend import prepare
    from tinyconv.interop.onnx.compute import layers_of
    from tinyconv.interop.onnx.read_layers import OPERATORS

    (node,) = prepare(model).nodes
    if node.op not in OPERATORS:
        raise FileError(f"no layer computes {node}")
    given = dict(zip([value.name for value in model.graph.input], inputs, strict=True))
    x, *others = [given.get(name) for name in node.inputs]
    return layers_of(node, x, others).forward(x)


def tally() -> dict[str, Tally]:
    """Run all tests, of which each is right, else it raises."""
    from onnx.backend.test import BackendTest

    from tinyconv.interop.onnx import backend

    found: dict[str, Tally] = defaultdict(Tally)
    for case in cases():
        own = found[case.model.graph.node[0].op_type]
        own.tests += 1
        for inputs, outputs in case.data_sets:
            given, expected = values(inputs), values(outputs)
            tolerance = {"rtol": case.rtol, "atol": case.atol}
            made = backend.prepare(case.model).run(given)
            BackendTest.assert_similar_outputs(expected, made, **tolerance)
            own.right += 1
            try:
                y = read(case.model, given)
                np.testing.assert_allclose(y, expected[0], **tolerance, err_msg=case.name)
                own.read += 1
            except (FileError, ValueError):
                pass
    return dict(sorted(found.items()))


def page() -> str:
    """Return the text of docs/onnx.md."""
    import onnx

    from tinyconv.interop.onnx.compute import BETWEEN

    found = tally()
    right, tests = (sum(getattr(t, what) for t in found.values()) for what in ("right", "tests"))
    lines = [
        "# ONNX's own tests",
        "",
        "`tinyconv.interop.onnx.backend` runs any graph of the operators below node by node, by",
        "the operations of `tinyconv.ops`; it offers what `onnx.backend.base` names (`prepare`,",
        "`run_model`, `run_node`, `supports_device`).",
        "",
        f"onnx {onnx.__version__}: {right} of {tests} are right. The last column counts those that",
        "`tinyconv.interop.onnx.import_` reads as layers, with all inputs but the first constant.",
        "",
        "`python -m tests.interop.onnx_page` writes this page.",
    ]
    lines += ["", "| operator | tests | right | read as layers |", "|---|---:|---:|---:|"]
    lines += [f"| {op} | {t.tests} | {t.right} | {t.read or ''} |" for op, t in found.items()]
    between = ", ".join(sorted(BETWEEN | {"Constant"}))
    lines += [
        "",
        fill(f"Between them may stand {between}, which ONNX's own reference computes.", 90),
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page())

"""ONNX's own tests of its operators, run by the backend and by the reader; writes docs/onnx.md.

python -m tests.interop.onnx_page
"""

import warnings
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tinyconv.errors import FileError

PAGE = Path(__file__).parents[2] / "docs" / "onnx.md"

#: Operators that are data's way through a graph rather than a part of a network.
GLUE = frozenset(
    {
        *("Add", "Cast", "Concat", "Constant", "ConstantOfShape", "Div", "Erf", "Gather"),
        *("Greater", "Identity", "Mul", "Neg", "ReduceMax", "ReduceMean", "Shape", "Slice"),
        *("Sqrt", "Squeeze", "Sub", "Sum", "Transpose", "Unsqueeze", "Where"),
    }
)


@dataclass
class Tally:
    """What came of the tests of one operator."""

    tests: int = 0
    right: int = 0
    read: int = 0
    refused: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))


def cases() -> Iterator[Any]:
    """Return ONNX's tests of single operators that the backend knows."""
    from onnx.backend.test.loader import load_model_tests

    from tinyconv.interop.onnx.compute import OPERATORS

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the values that ONNX's tests are made of
        loaded = load_model_tests(kind="node")
    for case in loaded:
        nodes = case.model.graph.node
        if "_expanded" not in case.name and len(nodes) == 1 and nodes[0].op_type in OPERATORS:
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
    # A cast to half precision is read as nothing: a network computes in one format throughout.
    if node.op not in OPERATORS or node.op == "Cast" or isinstance(inputs[0], list):
        raise FileError(f"no layer computes {node}")
    given = dict(zip([value.name for value in model.graph.input], inputs, strict=True))
    x, *others = [given.get(name) for name in node.inputs]
    return layers_of(node, x, others).forward(x)


def tally() -> dict[str, Tally]:
    """Run all tests; each is right, or refused with a reason. A wrong result raises."""
    from onnx.backend.test import BackendTest

    from tinyconv.interop.onnx import backend

    found: dict[str, Tally] = defaultdict(Tally)
    for case in cases():
        own = found[case.model.graph.node[0].op_type]
        own.tests += 1
        for inputs, outputs in case.data_sets:
            given, expected = values(inputs), values(outputs)
            tolerance = {"rtol": case.rtol, "atol": case.atol}
            try:
                made = backend.prepare(case.model).run(given)
                BackendTest.assert_similar_outputs(expected, made, **tolerance)
                own.right += 1
            except FileError as error:
                own.refused[_reason(str(error))].append(case.name)
            try:
                y = read(case.model, given)
                np.testing.assert_allclose(y, expected[0], **tolerance, err_msg=case.name)
                own.read += 1
            except (FileError, ValueError):
                pass
    return dict(sorted(found.items()))


def _reason(text: str) -> str:
    """Return what an error says, without the name of the node."""
    if "of type" in text:
        return "numbers of 8, 4 or 2 bits that NumPy does not have"
    return text.partition(": ")[2] or text


def page() -> str:
    """Return the text of docs/onnx.md."""
    import onnx

    found = tally()
    right, tests = (sum(getattr(t, what) for t in found.values()) for what in ("right", "tests"))
    lines = [
        "# ONNX's own tests",
        "",
        "`tinyconv.interop.onnx.backend` runs any graph of the operators below node by node, by",
        "the operations of `tinyconv.ops`; it offers what `onnx.backend.base` names (`prepare`,",
        "`run_model`, `run_node`, `supports_device`). Each of ONNX's tests of these operators is",
        "right, or refused with the reason at the end; none gives something else.",
        "",
        f"onnx {onnx.__version__}: {right} of {tests} are right. The last column counts those that",
        "`tinyconv.interop.onnx.import_` reads as layers, with all inputs but the first constant.",
        "",
        "`python -m tests.interop.onnx_page` writes this page.",
    ]
    for title, is_glue in (("Of networks", False), ("Between them", True)):
        lines += ["", f"## {title}", "", "| operator | tests | right | read as layers |"]
        lines += ["|---|---:|---:|---:|"]
        lines += [
            f"| {op} | {own.tests} | {own.right} | {own.read or ''} |"
            for op, own in found.items()
            if (op in GLUE) == is_glue
        ]
    lines += ["", "## Refused", ""]
    lines += [
        f"- {op}: {len(names)}, {reason}"
        for op, own in found.items()
        for reason, names in own.refused.items()
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page())

"""ONNX's own tests of its operators, run through the reader: right or refused, never different.

All inputs but the first are constants to the reader, and the layer that it makes maps the first.
"""

import warnings
from collections import Counter
from typing import Any

import numpy as np
import pytest

from tinyconv.errors import FileError

pytestmark = pytest.mark.oracle

#: Operator -> how many of ONNX's tests of it must be right.
RIGHT = {
    "AveragePool": 12,
    "BatchNormalization": 2,
    "Conv": 6,
    "ConvTranspose": 8,
    "Dropout": 6,
    "Elu": 3,
    "Flatten": 2,
    "Gelu": 4,
    "Gemm": 7,
    "GlobalAveragePool": 2,
    "GlobalMaxPool": 2,
    "GroupNormalization": 2,
    "InstanceNormalization": 2,
    "LRN": 2,
    "LayerNormalization": 13,
    "LeakyRelu": 3,
    "LpPool": 4,
    "MatMul": 1,
    "MaxPool": 16,
    "Pad": 3,
    "Relu": 1,
    "Reshape": 6,
    "Resize": 5,
    "Sigmoid": 2,
    "Softplus": 2,
    "Squeeze": 1,
    "Tanh": 2,
    "Unsqueeze": 6,
    "Upsample": 1,
}


def cases() -> list[Any]:
    """Return ONNX's tests of single operators that the reader knows."""
    from onnx.backend.test.loader import load_model_tests

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the values that ONNX's tests are made of
        loaded = load_model_tests(kind="node")
    return [
        case
        for case in loaded
        if "_expanded" not in case.name
        and len(case.model.graph.node) == 1
        and case.model.graph.node[0].op_type in RIGHT
    ]


def values(data: Any) -> list[Any]:
    from onnx import TensorProto, numpy_helper

    return [numpy_helper.to_array(v) if isinstance(v, TensorProto) else v for v in data]


def run(model: Any, inputs: list[Any]) -> Any:
    """Map the first input by the layers that the reader makes of the only node."""
    import onnx

    from tinyconv.interop.onnx.file import Model, nodes_of
    from tinyconv.interop.onnx.read_layers import OPERATORS, Source
    from tinyconv.layers import Chain, Identity

    names = [value.name for value in model.graph.input]
    (node,) = nodes_of("model", onnx, model.graph, set(names), 1 << 30)  # type: ignore[arg-type]
    x, *_ = inputs
    constants = dict(zip(names[1:], inputs[1:], strict=True))
    if x.dtype.kind != "f" or x.ndim < 1:
        raise FileError("layers compute with floating-point arrays")
    source = Source(Model([node], constants, names[0], x.shape[1:], list(node.outputs), {}))
    made = OPERATORS[node.op](source, node, x.shape[1:])
    chain = Chain((made if isinstance(made, list) else [made]) or [Identity()])
    chain.forward(np.zeros((1, *x.shape[1:]), x.dtype))  # makes the parameters
    for layer, tensors in source.tensors:
        for name, value in tensors.items():
            (layer.params | layer.state)[name][...] = value
    return chain.forward(x)


def test_every_operator_is_right_or_refused() -> None:
    right: Counter[str] = Counter()
    for case in cases():
        op = case.model.graph.node[0].op_type
        for inputs, outputs in case.data_sets:
            try:
                found = run(case.model, values(inputs))
            except (FileError, ValueError):
                continue
            expected = values(outputs)[0]
            assert found.shape == expected.shape, case.name
            np.testing.assert_allclose(
                found, expected, rtol=case.rtol, atol=case.atol, err_msg=case.name
            )
            right[op] += 1
    assert right == RIGHT

"""The backend as a caller sees it: whole graphs, and what it refuses."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tinyconv as tc
from tinyconv.errors import FileError

from .onnx_cases import random_network

pytestmark = pytest.mark.oracle


@pytest.fixture(scope="module")
def backend() -> Any:
    pytest.importorskip("onnx")
    from tinyconv.interop.onnx import backend

    return backend


def model_of(nodes: list[Any], inputs: str = "x", outputs: str = "y", *weights: Any) -> Any:
    from onnx import TensorProto, helper

    def described(names: str) -> list[Any]:
        return [helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in names.split()]

    graph = helper.make_graph(nodes, "test", described(inputs), described(outputs), list(weights))
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)])


def node(op: str, inputs: str, outputs: str = "y", **attributes: Any) -> Any:
    from onnx import helper

    return helper.make_node(op, inputs.split(), outputs.split(), **attributes)


@pytest.mark.parametrize("seed", range(8))
def test_networks_that_are_exported_run_node_by_node(
    seed: int, backend: Any, tmp_path: Path
) -> None:
    import onnx

    net = random_network(seed)
    assert net.input_shape is not None
    tc.interop.onnx.export(net, tmp_path / "net.onnx")
    model = onnx.load(tmp_path / "net.onnx")
    assert backend.is_compatible(model)
    x = np.random.default_rng(seed).normal(size=(2, *net.input_shape)).astype(np.float32)
    logits, *_ = backend.run_model(model, [x])
    expected = net.forward(x)
    np.testing.assert_allclose(logits, expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max())


def test_a_value_that_is_used_twice_and_a_weight(backend: Any) -> None:
    from onnx import numpy_helper

    weight = numpy_helper.from_array(np.full((2, 2), 2, np.float32), "w")
    nodes = [node("MatMul", "x w", "a"), node("Mul", "a a", "b"), node("Sub", "b a", "y")]
    (y,) = backend.run_model(model_of(nodes, "x", "y", weight), np.ones((1, 2), np.float32))
    np.testing.assert_array_equal(y, [[12, 12]])


def test_one_node(backend: Any) -> None:
    x = np.array([[1.0, 3.0]], np.float16)
    (y,) = backend.run_node(node("Softmax", "x"), [x])
    assert y.dtype == np.float16
    np.testing.assert_allclose(y, [[0.1192, 0.8808]], atol=1e-3)
    # Before opset 13 the axes from the named one on are one.
    (y,) = backend.run_node(node("Softmax", "x"), [np.zeros((1, 2, 2))], opset_version=11)
    np.testing.assert_array_equal(y, np.full((1, 2, 2), 0.25))


def test_devices(backend: Any) -> None:
    assert backend.supports_device("CPU")
    assert not backend.supports_device("CUDA")
    with pytest.raises(FileError, match="device is 'CUDA:0', expected 'CPU'"):
        backend.prepare(model_of([node("Relu", "x")]), "CUDA:0")


def test_what_it_refuses(backend: Any) -> None:
    strange = model_of([node("Det", "x", "a"), node("Foo", "a", domain="my")])
    assert not backend.is_compatible(strange)
    with pytest.raises(FileError, match=r"no operation computes Det, my\.Foo"):
        backend.prepare(strange)
    with pytest.raises(FileError, match="nothing makes z"):
        backend.prepare(model_of([node("Relu", "x")], "x", "z"))
    ready = backend.prepare(model_of([node("Add", "x z")], "x z"))
    x = np.ones((1, 2), np.float32)
    with pytest.raises(FileError, match="1 inputs, z is missing"):
        ready.run([x])
    with pytest.raises(FileError, match="3 inputs, expected x, z"):
        ready.run([x, x, x])
    with pytest.raises(FileError, match="input 0 is left out"):
        backend.run_node(node("Relu", ""), [])
    with pytest.raises(FileError, match="sequences of tensors are not known"):
        backend.run_node(node("Identity", "x"), [[x, x]])
    with pytest.raises(FileError, match=r"int64 of shape .* layers take floating-point batches"):
        backend.run_node(node("Relu", "x"), [np.ones((1, 2), np.int64)])


def test_weights_outside_the_model(backend: Any) -> None:
    from onnx import TensorProto, numpy_helper

    weight = numpy_helper.from_array(np.ones((2, 2), np.float32), "w")
    weight.data_location = TensorProto.EXTERNAL
    with pytest.raises(FileError, match="weights lie outside the model"):
        backend.prepare(model_of([node("MatMul", "x w")], "x", "y", weight))

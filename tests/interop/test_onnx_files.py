"""ONNX files of others: PyTorch's, hand-made ones that must be refused, and damaged ones."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tinyconv as tc
from tinyconv.errors import FileError
from tinyconv.interop import onnx as tonnx

from .onnx_cases import modules, runtime_outputs

pytestmark = pytest.mark.oracle


@pytest.mark.parametrize("name", ["lenet", "autoencoder", "reflected", "residual"])
@pytest.mark.filterwarnings("ignore")
def test_networks_that_pytorch_writes(name: str, torch: Any, tmp_path: Path) -> None:
    module, shape = modules(torch)[name]
    module.eval()
    path, x = tmp_path / "net.onnx", torch.randn(4, *shape)
    options = {"input_names": ["x"], "dynamic_axes": {"x": {0: "N"}}, "dynamo": False}
    torch.onnx.export(module, (x,), str(path), **options)
    net = tonnx.import_(path)
    expected = module(x).detach().numpy()
    np.testing.assert_allclose(net.forward(x.numpy()), expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(net.logits(x.numpy()), expected, rtol=1e-4, atol=1e-5)
    assert "total" in str(net)


@pytest.mark.parametrize("name", ["lenet", "autoencoder", "reflected", "residual"])
@pytest.mark.filterwarnings("ignore")
def test_networks_that_pytorchs_other_exporter_writes(
    name: str, torch: Any, tmp_path: Path
) -> None:
    module, shape = modules(torch)[name]
    module.eval()
    path, x = tmp_path / "net.onnx", torch.randn(4, *shape)
    batch = torch.export.Dim("N")
    argument = "x" if name == "residual" else "input"
    torch.onnx.export(module, (x,), str(path), dynamic_shapes={argument: {0: batch}}, verbose=False)
    net = tonnx.import_(path)
    np.testing.assert_allclose(
        net.forward(x.numpy()), module(x).detach().numpy(), rtol=1e-4, atol=1e-5
    )


def save(
    path: Path,
    nodes: list[Any],
    *initializers: Any,
    shape: Any = ("N", 2, 4, 4),
    opset: int = 17,
) -> Path:
    """Write a model of these nodes from x to y."""
    import onnx
    from onnx import helper

    x, y = (
        helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, dims)
        for name, dims in (("x", shape), ("y", None))
    )
    graph = helper.make_graph(nodes, "test", [x], [y], list(initializers))
    opsets = [helper.make_opsetid("", opset)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), path)
    return path


def node(op: str, inputs: str, output: str = "y", **attributes: Any) -> Any:
    from onnx import helper

    return helper.make_node(op, inputs.split(), output.split(), **attributes)


def constant(name: str, value: Any) -> Any:
    from onnx import numpy_helper

    return numpy_helper.from_array(np.asarray(value), name)


def test_unsupported_operators_are_listed_all_at_once(tmp_path: Path) -> None:
    path = save(
        tmp_path / "net.onnx",
        [node("Det", "x", "a"), node("Relu", "a", "b"), node("Einsum", "b", equation="nchw->nc")],
    )
    with pytest.raises(FileError, match=r"no layer computes Det \(a\), Einsum \(y\)"):
        tonnx.import_(path)


def test_branches_that_share_a_part(tmp_path: Path) -> None:
    nodes = [
        node("Relu", "x", "a"),
        node("Tanh", "x", "b"),
        node("Add", "a b", "c"),
        node("Mul", "a c", "y"),
    ]
    with pytest.raises(FileError, match=r"part of several branches|no layer computes Mul"):
        tonnx.import_(save(tmp_path / "net.onnx", nodes))


@pytest.mark.parametrize(
    ("nodes", "message"),
    [
        ([("MaxPool", "x", "a m", {"kernel_shape": [1, 1]}), ("Cast", "m", "y", {"to": 1})], "'m'"),
        ([("Dropout", "x", "a m", {}), ("Cast", "m", "y", {"to": 1})], "another output of Dropout"),
        ([("Concat", "x c x", "y", {"axis": 1})], "branches and constants"),
        ([("Sum", "x c x", "y", {})], "branches and constants"),
        ([("Reshape", "x one", "y", {})], "makes a batch of 1 of any"),
        ([("Softmax", "x", "y", {"axis": 3})], "no layer computes Softmax"),
        ([("Softmax", "x", "y", {})], "no layer computes Softmax"),
        (
            [("Flatten", "x", "a", {"axis": 1}), ("Gemm", "a w b", "y", {})],
            r"bias of shape \(2, 1\)",
        ),
        ([("Relu", "x", "a", {}), ("Tanh", "a", "y", {}), ("Tanh", "x", "z", {})], "2 outputs"),
        ([("MatMul", "x square", "y", {})], "no layer computes MatMul"),
    ],
)
def test_what_would_be_other_numbers(nodes: Any, message: str, tmp_path: Path) -> None:
    """Files that ONNX Runtime runs and that no network here gives the numbers of."""
    import onnx

    constants = {
        "c": np.ones((2, 2, 4, 4), np.float32),
        "one": np.array([1, -1]),
        "w": np.ones((32, 2), np.float32),
        "b": np.ones((2, 1), np.float32),
        "square": np.ones((4, 4), np.float32),
    }
    made = [node(op, ins, outs, **how) for op, ins, outs, how in nodes]
    path = save(tmp_path / "net.onnx", made, *(constant(*item) for item in constants.items()))
    if "2 outputs" in message:
        model = onnx.load(path)
        model.graph.output.add().name = "z"
        onnx.save(model, path)
    runtime_outputs(path, np.ones((2, 2, 4, 4), np.float32))
    with pytest.raises(FileError, match=message):
        tonnx.import_(path)


EDGE = ("Pad", "x pads", "a", {"mode": "edge"})
CONV = ("Conv", "x h", "y", {})
JOINED = ("Concat", "n rest", "s", {"axis": 0})


@pytest.mark.parametrize(
    ("version", "nodes"),
    [
        (17, [("Flatten", "x", "y", {"axis": -3})]),
        (17, [("Flatten", "x", "a", {}), ("Gemm", "a w b", "y", {"alpha": 0.5, "beta": 3.0})]),
        (17, [EDGE, ("Conv", "a k", "y", {"auto_pad": "SAME_UPPER"})]),
        (17, [EDGE, ("Conv", "a k b", "y", {"group": 2})]),
        (9, [("Slice", "x", "y", {"starts": [1, 0], "ends": [9, -1], "axes": [2, 3]})]),
        (17, [("Shape", "x", "n", {"end": 1}), JOINED, ("Reshape", "x s", "y", {})]),
        (17, [("Conv", "x full nan", "y", {})]),
        (9, [("Unsqueeze", "f", "g", {"axes": [2]}), ("Unsqueeze", "g", "h", {"axes": [3]}), CONV]),
        (11, [("GlobalMaxPool", "x", "a", {}), ("Squeeze", "a", "y", {})]),
    ],
)
def test_what_other_files_say(version: int, nodes: Any, tmp_path: Path) -> None:
    """Attributes that few exporters write."""
    rng = np.random.default_rng(0)
    constants = {
        "w": rng.normal(size=(32, 3)),
        "b": rng.normal(size=(1, 3) if nodes[-1][0] == "Gemm" else 2),
        "pads": np.array([0, 0, 1, 1, 0, 0, 1, 1]),
        "k": np.ones((2, 1 if "group" in nodes[-1][3] else 2, 3, 3)),
        "f": rng.normal(size=(2, 2)),
        "full": rng.normal(size=(2, 2, 1, 1)),
        "nan": np.array([1.0, np.nan]),
        "rest": np.array([-1]),
    }
    arrays = {k: v.astype(np.float32) if v.dtype.kind == "f" else v for k, v in constants.items()}
    made = [node(op, ins, outs, **how) for op, ins, outs, how in nodes]
    path = save(
        tmp_path / "net.onnx", made, *(constant(*item) for item in arrays.items()), opset=version
    )
    x = rng.normal(size=(3, 2, 4, 4)).astype(np.float32)
    found = tonnx.import_(path).forward(x)
    np.testing.assert_allclose(found, runtime_outputs(path, x)["y"], rtol=1e-4, atol=1e-5)


def test_a_graph_in_a_circle(tmp_path: Path) -> None:
    nodes = [node("Relu", "b", "a"), node("Relu", "a", "b"), node("Add", "x b")]
    with pytest.raises(FileError, match="before anything makes it"):
        tonnx.import_(save(tmp_path / "net.onnx", nodes))


def test_sizes_of_the_input_must_be_known(tmp_path: Path) -> None:
    path = save(tmp_path / "net.onnx", [node("Relu", "x")], shape=("N", 2, "H", 4))
    with pytest.raises(FileError, match="known sizes"):
        tonnx.import_(path)


def test_a_constant_that_only_claims_to_be_large(tmp_path: Path) -> None:
    shape = constant("shape", np.array([1 << 20, 1 << 20], np.int64))
    nodes = [node("ConstantOfShape", "shape", "c"), node("Add", "x c")]
    with pytest.raises(FileError, match="too many numbers"):
        tonnx.import_(save(tmp_path / "net.onnx", nodes, shape))


def test_a_weight_that_only_claims_to_be_large(tmp_path: Path) -> None:
    weight = constant("w", np.ones((1, 2), np.float32))
    weight.dims[:] = [1 << 30, 1 << 10]
    with pytest.raises(FileError, match="more than the file holds"):
        tonnx.import_(save(tmp_path / "net.onnx", [node("MatMul", "x w")], weight))


def test_weights_outside_the_folder(tmp_path: Path) -> None:
    from onnx import TensorProto

    (tmp_path / "secret").write_bytes(bytes(64))
    (tmp_path / "inside").mkdir()
    weight = constant("w", np.ones((1, 2), np.float32))
    weight.ClearField("raw_data")
    weight.data_location = TensorProto.EXTERNAL
    entry = weight.external_data.add()
    entry.key, entry.value = "location", "../secret"
    path = tmp_path / "inside" / "net.onnx"
    with pytest.raises(FileError, match="no file beside the model"):
        tonnx.import_(save(path, [node("MatMul", "x w")], weight))
    entry.value = "short"
    (tmp_path / "inside" / "short").write_bytes(bytes(3))
    with pytest.raises(FileError, match="beyond the end of short"):
        tonnx.import_(save(path, [node("MatMul", "x w")], weight))


def test_a_link_out_of_the_folder(tmp_path: Path) -> None:
    from onnx import TensorProto

    (tmp_path / "secret").write_bytes(bytes(64))
    (tmp_path / "inside").mkdir()
    (tmp_path / "inside" / "weights").symlink_to(tmp_path / "secret")
    weight = constant("w", np.ones((1, 2), np.float32))
    weight.ClearField("raw_data")
    weight.data_location = TensorProto.EXTERNAL
    entry = weight.external_data.add()
    entry.key, entry.value = "location", "weights"
    with pytest.raises(FileError, match="no file beside the model"):
        tonnx.import_(save(tmp_path / "inside" / "net.onnx", [node("MatMul", "x w")], weight))
    entry.value = str(tmp_path / "secret")
    with pytest.raises(FileError, match="no file beside the model"):
        tonnx.import_(save(tmp_path / "inside" / "net.onnx", [node("MatMul", "x w")], weight))


def test_a_constant_that_doubles_and_doubles(tmp_path: Path) -> None:
    nodes = [node("Concat", f"c{n} c{n}", f"c{n + 1}", axis=0) for n in range(40)]
    nodes += [node("Add", "x c40")]
    c0 = constant("c0", np.ones(4, np.float32))
    with pytest.raises(FileError, match="too many numbers"):
        tonnx.import_(save(tmp_path / "net.onnx", nodes, c0))


def test_branches_that_double_the_channels(tmp_path: Path) -> None:
    nodes = [node("Concat", f"{a} {a}", b, axis=1) for a, b in doubling(40)]
    with pytest.raises(FileError, match="gives a sample the shape"):
        tonnx.import_(save(tmp_path / "net.onnx", nodes))


def doubling(count: int) -> list[tuple[str, str]]:
    names = ["x", *(f"c{n}" for n in range(count - 1)), "y"]
    return list(pairwise(names))


def test_parameters_that_the_file_does_not_hold(tmp_path: Path) -> None:
    """Numbers for each group are repeated for channels, of which the input merely claims many."""
    one = [constant(name, np.ones(2, np.float32)) for name in "wb"]
    nodes = [node("GroupNormalization", "x w b", num_groups=1)]
    with pytest.raises(FileError, match="2 and 2 numbers for 1 groups"):
        tonnx.import_(save(tmp_path / "net.onnx", nodes, *one, shape=("N", 1 << 26, 1)))
    nodes = [node("LayerNormalization", "x w", axis=1)]
    with pytest.raises(FileError, match=r"cannot reshape array|more than the file holds"):
        tonnx.import_(save(tmp_path / "net.onnx", nodes, one[0], shape=("N", 1 << 26, 1)))


def test_very_many_nodes(tmp_path: Path) -> None:
    nodes = [node("Relu", a, b) for a, b in doubling(3000)]
    assert len(tonnx.import_(save(tmp_path / "net.onnx", nodes)).layers) == 3000
    nodes = [node("Relu", a, b) for a, b in doubling(10_001)]
    with pytest.raises(FileError, match="10001 nodes, expected at most 10000"):
        tonnx.import_(save(tmp_path / "net.onnx", nodes))


@pytest.mark.parametrize("op", ["Add", "Concat"])
def test_branches_that_do_not_fit_are_named(op: str, tmp_path: Path) -> None:
    axis = {"axis": 1} if op == "Concat" else {}
    nodes = [node("Relu", "x", "a"), node("GlobalAveragePool", "x", "b"), node(op, "a b", **axis)]
    message = rf"no layer computes {op} \(y\) \((Residual|Parallel): .* expected "
    with pytest.raises(FileError, match=message):
        tonnx.import_(save(tmp_path / "net.onnx", nodes))


def test_a_value_that_is_made_twice(tmp_path: Path) -> None:
    nodes = [node("Relu", "x", "a"), node("Tanh", "a", "x"), node("Add", "x a")]
    with pytest.raises(FileError, match="makes what is there already"):
        tonnx.import_(save(tmp_path / "net.onnx", nodes))


def test_descriptions_without_end(tmp_path: Path) -> None:
    import onnx

    path = save(tmp_path / "net.onnx", [node("Relu", "x")])
    model = onnx.load(path)
    onnx.helper.set_model_props(model, {"loss": "[" * 100_000})
    onnx.save(model, path)
    with pytest.raises(FileError, match="do not fit together"):
        tonnx.import_(path)


@pytest.mark.parametrize("data", [b"", b"\x00" * 50, b"no model", b"\x08\x08"])
def test_what_is_no_onnx_file(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    path.write_bytes(data)
    with pytest.raises(FileError, match="not an ONNX file"):
        tonnx.import_(path)
    with pytest.raises(FileError, match="cannot be read"):
        tonnx.import_(tmp_path / "none.onnx")
    with pytest.raises(FileError, match="folder or a device"):
        tonnx.import_(tmp_path)


@pytest.mark.parametrize(
    "seed", [0, *(pytest.param(n, marks=pytest.mark.slow) for n in range(1, 20))]
)
def test_damaged_files_are_read_or_refused(seed: int, tmp_path: Path) -> None:
    """Bytes of a small file changed at random, and the file cut anywhere."""
    net = tc.Sequential(
        [
            tc.Residual([tc.Conv2d(1, 1, 3, padding=1), tc.BatchNorm2d(1)]),
            *(tc.SiLU(), tc.MaxPool2d(2), tc.Flatten(), tc.Linear(None, 2)),
        ],
        input_shape=(1, 4, 4),
    )
    path = tmp_path / "net.onnx"
    tonnx.export(net, path)
    whole = path.read_bytes()
    rng = np.random.default_rng(seed)
    read = refused = 0
    for case in range(1500):
        data = bytearray(whole)
        if case % 3:
            for place in rng.integers(0, len(data), rng.integers(1, 4)):
                data[place] = rng.integers(256)
        else:
            del data[rng.integers(len(data)) :]
        path.write_bytes(bytes(data))
        try:
            tonnx.import_(path)
            read += 1
        except FileError:
            refused += 1
    assert read > 50
    assert refused > 50

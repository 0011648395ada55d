"""An ONNX graph while it is written: nodes in their order, and constants, under unique names."""

from typing import Any

import numpy as np

from tinyconv.interop import require


class Graph:
    """What the exporters of layers add to.

    Args:
        dtype: of all numbers of the network, ``"float32"`` or ``"float64"``.
        opset: version of ONNX's operators that the nodes are of.

    Attributes:
        path: of the layer that is being added, with which names begin.
    """

    def __init__(self, dtype: str, opset: int) -> None:
        self.dtype = dtype
        self.opset = opset
        self.path = ""
        self.nodes: list[Any] = []
        self.initializers: dict[str, Any] = {}
        self._helper = require("onnx", "onnx").helper
        self._numpy = require("onnx.numpy_helper", "onnx")
        self._names: set[str] = set()

    def constant(self, name: str, value: Any) -> str:
        """Add an array, of its own dtype if that is an integer one; return the name it has.

        Args:
            name: that is wished for behind the path of the layer, such as ``"weight"``.
            value: an array or numbers.
        """
        array = np.asarray(value)
        if array.dtype.kind == "f":
            array = array.astype(self.dtype)
        name = self._unique(f"{self.path}.{name}")
        self.initializers[name] = self._numpy.from_array(array.copy(order="C"), name)
        return name

    def node(self, op: str, *inputs: str, **attributes: Any) -> str:
        """Add a node with one output; return the output's name.

        Args:
            op: the operator, such as ``"Conv"``.
            inputs: names of values; "" for one that is left out.
            attributes: of the operator.
        """
        output = self._unique(f"{self.path}/{op}")
        node = self._helper.make_node(op, list(inputs), [output], name=output, **attributes)
        self.nodes.append(node)
        return output

    def _unique(self, name: str) -> str:
        wished, count = name, 1
        while name in self._names:
            count += 1
            name = f"{wished}.{count}"
        self._names.add(name)
        return name


def newest_opset() -> tuple[int, int]:
    """Return the newest opset, and its file format, that onnx and ONNX Runtime both take.

    ONNX Runtime does not say what it takes, so it is given an empty network of each, newest first.
    """
    onnx = require("onnx", "onnx")
    runtime = require("onnxruntime", "onnx")
    helper, one = onnx.helper, onnx.TensorProto.FLOAT
    options = runtime.SessionOptions()
    options.log_severity_level = 4
    for opset in range(onnx.defs.onnx_opset_version(), 16, -1):
        version = helper.find_min_ir_version_for([helper.make_opsetid("", opset)])
        x, y = (helper.make_tensor_value_info(name, one, [1]) for name in "xy")
        graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "probe", [x], [y])
        model = helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=version
        )
        try:
            runtime.InferenceSession(
                model.SerializeToString(), options, providers=["CPUExecutionProvider"]
            )
        except Exception:  # its classes have no base of their own
            continue
        return opset, version
    raise ImportError('onnxruntime is too old: pip install -U "tinyconv[onnx]"')

"""ONNX's backend interface: any graph of the operators that our operations compute.

``onnx.backend`` names what a library offers that runs models; ONNX's own tests of its operators run
against it. A network for prediction or training is rather read by
:func:`tinyconv.interop.onnx.import_`; this runs what is no network of layers too, node by node.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tinyconv.backend import Values
from tinyconv.errors import FileError
from tinyconv.interop import require
from tinyconv.interop.onnx.compute import OPERATORS, compute
from tinyconv.interop.onnx.file import Node, nodes_of, opset_of, tensor_of

onnx = require("onnx", "onnx")
require("onnx.backend.base", "onnx")

#: What messages call a model that is not in a file.
NAME = Path("model")


@dataclass
class Prepared(onnx.backend.base.BackendRep):  # type: ignore[misc, name-defined]
    """A model ready to run."""

    nodes: Sequence[Node]  #: in an order in which each one's inputs are there
    constants: Mapping[str, Values]  #: the weights by name
    inputs: Sequence[str]  #: names of what :meth:`run` is given, in order
    outputs: Sequence[str]  #: names of what it returns

    def run(self, inputs: Any, **kwargs: Any) -> tuple[Values, ...]:
        """Run the model.

        Args:
            inputs: an array for each input, or one array alone.
            kwargs: no options are known; what ONNX's interface allows to pass is left unread.

        Returns:
            The outputs.

        Raises:
            FileError: not as many arrays as inputs, or a node that our operations do not compute.
        """
        given = [inputs] if isinstance(inputs, np.ndarray) else list(inputs)
        if len(given) > len(self.inputs):
            raise FileError(f"run: {len(given)} inputs, expected {', '.join(self.inputs)}")
        values = {**self.constants, **dict(zip(self.inputs, given, strict=False))}
        for node in self.nodes:
            missing = [name for name in node.inputs if name and name not in values]
            if missing:
                raise FileError(f"run: {len(given)} inputs, {', '.join(missing)} is missing")
            made = compute(node, [values[name] if name else None for name in node.inputs])
            values.update(zip(node.outputs, made, strict=False))
        return tuple(values[name] for name in self.outputs)


class Backend(onnx.backend.base.Backend):  # type: ignore[misc, name-defined]
    """Runs models of ONNX on the CPU by the operations of :mod:`tinyconv.ops`.

    >>> from onnx import TensorProto, helper
    >>> x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, [None]) for n in "xy")
    >>> relu = helper.make_node("Relu", ["x"], ["y"])
    >>> model = helper.make_model(helper.make_graph([relu], "demo", [x], [y]))
    >>> run_model(model, [np.array([-1.0, 2.0], np.float32)])
    (array([0., 2.], dtype=float32),)
    """

    @classmethod
    def is_compatible(cls, model: Any, device: str = "CPU", **kwargs: Any) -> bool:
        """Whether all operators of a model are known; some may have options that are not."""
        try:
            cls.prepare(model, device)
        except FileError:
            return False
        return True

    @classmethod
    def prepare(cls, model: Any, device: str = "CPU", **kwargs: Any) -> Prepared:
        """Make a ``ModelProto`` ready to run.

        Raises:
            FileError: another device than the CPU, operators that nothing here computes (all are
                named), weights outside the model, or a graph that does not hold together.
        """
        if not cls.supports_device(device):
            raise FileError(f"prepare: device is {device!r}, expected 'CPU'")
        graph, size = model.graph, model.ByteSize()
        if any(t.data_location == onnx.TensorProto.EXTERNAL for t in graph.initializer):
            raise FileError("prepare: weights lie outside the model; load them into it before")
        constants = {t.name: tensor_of(NAME, onnx, t, size) for t in graph.initializer}
        inputs = [value.name for value in graph.input]
        known = {*inputs, *constants}
        nodes = nodes_of(NAME, onnx, graph, known, size, opset_of(model))
        _refuse_unknown(graph.node)
        absent = sorted({value.name for value in graph.output} - known)
        if absent:
            raise FileError(f"prepare: nothing makes {', '.join(absent)}")
        wanted = [name for name in inputs if name not in constants]
        return Prepared(nodes, constants, wanted, [value.name for value in graph.output])

    @classmethod
    def run_node(
        cls, node: Any, inputs: Any, device: str = "CPU", outputs_info: Any = None, **kwargs: Any
    ) -> tuple[Values, ...]:
        """Run a ``NodeProto`` of the newest operators, or of those of ``opset_version``."""
        _refuse_unknown([node])
        graph = onnx.helper.make_graph([node], "node", [], [])
        opset = kwargs.get("opset_version") or onnx.defs.onnx_opset_version()
        names = [name for name in node.input if name]
        nodes = nodes_of(NAME, onnx, graph, set(names), node.ByteSize(), opset)
        return Prepared(nodes, {}, names, [name for name in node.output if name]).run(inputs)

    @classmethod
    def supports_device(cls, device: str) -> bool:
        """Whether a device is the CPU, in the words of ONNX."""
        return bool(device.upper().partition(":")[0] == "CPU")


def _refuse_unknown(nodes: Any) -> None:
    unknown = sorted(
        {
            f"{node.domain}.{node.op_type}".removeprefix("ai.onnx").lstrip(".")
            for node in nodes
            if node.domain not in ("", "ai.onnx") or node.op_type not in OPERATORS
        }
    )
    if unknown:
        raise FileError(f"prepare: no operation computes {', '.join(unknown)}")


is_compatible = Backend.is_compatible
prepare = Backend.prepare
run_model = Backend.run_model
run_node = Backend.run_node
supports_device = Backend.supports_device

"""What a network costs: floating-point operations and bytes, layer by layer."""

from collections.abc import Sequence
from dataclasses import astuple, dataclass, field, fields
from math import prod

import numpy as np

from tinyconv.analysis.probe import input_shape_of, leaves
from tinyconv.analysis.table import Table, column
from tinyconv.arguments import checked
from tinyconv.layers import Conv1d, Conv2d, Conv3d, Flatten, Identity, Layer, Reshape
from tinyconv.layers.base import Shape


@dataclass(frozen=True)
class FlopsRow:
    """Floating-point operations of one layer for one sample.

    Attributes:
        path: place in the network; ``"total"`` in the last row.
        layer: its kind.
        output: shape of its output.
        forward: two for each multiplication of an input with a weight: it and the addition.
        backward: twice the forward ones, for the gradient of the weights and for that of the
            input.
    """

    path: str = field(metadata=column(""))
    layer: str = field(metadata=column("layer"))
    output: Shape | None = field(metadata=column("output"))
    forward: int = field(metadata=column("forward"))
    backward: int = field(metadata=column("backward"))


@dataclass(frozen=True)
class MemoryRow:
    """Bytes that training holds for one layer.

    Attributes:
        path: as of :class:`FlopsRow`, and so for layer and output.
        parameters: of the layer; a gradient of the same size belongs to each.
        gradients: of the parameters.
        outputs: of the batch; nothing for a layer that only changes the shape.
        output_gradients: of the batch, in the backward pass.
        columns: what the convolutions of :mod:`tinyconv.ops` keep, their input with every element
            copied into each window that covers it.
    """

    path: str = field(metadata=column(""))
    layer: str = field(metadata=column("layer"))
    output: Shape | None = field(metadata=column("output"))
    parameters: int = field(metadata=column("parameters"))
    gradients: int = field(metadata=column("gradients"))
    outputs: int = field(metadata=column("outputs"))
    output_gradients: int = field(metadata=column("output gradients"))
    columns: int = field(metadata=column("columns"))


@checked
def flops(net: Layer, input_shape: Shape | None = None) -> Table[FlopsRow]:
    """Count the floating-point operations of one sample, forward and backward.

    Products with weights are counted, as is the custom; activations and pooling are not.

    Args:
        net: a network or layer.
        input_shape: of one sample; what the network knows if None.

    Raises:
        ShapeError: the input shape is not known or does not fit.

    >>> from tinyconv.models import nielsen_conv_softmax
    >>> print(flops(nielsen_conv_softmax()))
           layer      output    forward   backward
    0      Conv2d     20x24x24  576,000  1,152,000
    1      MaxPool2d  20x12x12        0          0
    2      Sigmoid    20x12x12        0          0
    3      Flatten    2880            0          0
    4      Linear     10         57,600    115,200
    total                       633,600  1,267,200
    """
    rows = []
    for path, layer, shape in leaves(net, input_shape_of("flops", net, input_shape)):
        count = 2 * layer.multiply_adds(shape)
        name, output = type(layer).__name__, layer.output_shape(shape)
        rows.append(FlopsRow(path, name, output, count, 2 * count))
    return Table((*rows, FlopsRow("total", "", None, *_sums(rows))))


@checked
def memory(net: Layer, batch: int, input_shape: Shape | None = None) -> Table[MemoryRow]:
    """Count the bytes that a network needs to train on batches of this size.

    What the optimizer remembers comes on top: as much as the parameters for SGD with momentum,
    twice as much for Adam.

    Args:
        net: as of :func:`flops`, and so for input_shape and the errors.
        batch: samples.

    >>> from tinyconv.models import nielsen_fully_connected
    >>> print(memory(nielsen_fully_connected(), batch=10))
           layer    output  parameters  gradients  outputs  output gradients  columns
    0      Flatten  784              0          0        0                 0        0
    1      Linear   100        314,000    314,000    4,000             4,000        0
    2      Sigmoid  100              0          0    4,000             4,000        0
    3      Linear   10           4,040      4,040      400               400        0
    total                      318,040    318,040    8,400             8,400        0
    """
    size = np.dtype(getattr(net, "dtype", "float32")).itemsize
    rows = []
    for path, layer, shape in leaves(net, input_shape_of("memory", net, input_shape)):
        output = layer.output_shape(shape)
        parameters = size * (layer.parameter_count(shape) or 0)
        outputs = (
            0 if isinstance(layer, Flatten | Identity | Reshape) else size * batch * prod(output)
        )
        columns = 0
        if isinstance(layer, Conv1d | Conv2d | Conv3d):
            window = layer.window(shape[1:])
            if not window.is_pointwise:
                columns = size * batch * shape[0] * prod(window.kernel) * prod(window.output)
        name = type(layer).__name__
        rows.append(
            MemoryRow(path, name, output, parameters, parameters, outputs, outputs, columns)
        )
    return Table((*rows, MemoryRow("total", "", None, *_sums(rows))))


def _sums(rows: Sequence[FlopsRow] | Sequence[MemoryRow]) -> list[int]:
    """Return the sum of every column of numbers, which are those after the third."""
    return [sum(astuple(row)[place] for row in rows) for place in range(3, len(fields(rows[0])))]

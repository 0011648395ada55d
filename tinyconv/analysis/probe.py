"""Running layers only to look at them: their own last pass stays as it was."""

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tinyconv.backend import Values, like, to_numpy
from tinyconv.errors import ShapeError
from tinyconv.geometry import sample_shape
from tinyconv.layers import Container, Layer
from tinyconv.layers.base import Shape
from tinyconv.layers.snapshot import descendants

#: Maps a NumPy batch to a NumPy batch.
Function = Callable[[Values], Values]


@contextmanager
def probe(layer: Layer) -> Iterator[Function]:
    """Give the forward pass as a function of NumPy arrays, and undo what running it leaves behind.

    A layer without parameters yet is copied, so that it still takes its sizes from its first batch.

    >>> import numpy as np
    >>> from tinyconv.layers import ReLU
    >>> relu = ReLU()
    >>> with probe(relu) as f:
    ...     print(f(np.array([[-1.0, 2.0]])))
    [[0. 2.]]
    >>> relu.y is None
    True
    """
    run = layer if layer.is_bound else copy.deepcopy(layer)
    parameter = next(iter(run.params.values()), None)
    before = [(each, dict(vars(each))) for each in (run, *descendants(run))]

    def forward(x: Values) -> Values:
        if parameter is not None:
            x = like(parameter, x.astype(str(parameter.dtype), copy=False))
        return to_numpy(run.forward(x))

    try:
        yield forward
    finally:
        for each, attributes in before:
            vars(each).clear()
            vars(each).update(attributes)


def input_shape_of(op: str, net: Layer, input_shape: Shape | None) -> Shape:
    """Return the shape of one sample: what was passed, or what the network knows.

    Raises:
        ShapeError: neither is there, or it is no shape.
    """
    shape = getattr(net, "input_shape", None) if input_shape is None else input_shape
    if shape is None:
        raise ShapeError(
            f"{op}: the shape of a sample is not known, pass input_shape=, such as (1, 28, 28)"
        )
    return sample_shape(op, shape)


def leaves(layer: Layer, shape: Shape, path: str = "") -> Iterator[tuple[str, Layer, Shape]]:
    """Yield the layers that compute, with path and input shape; no container.

    Raises:
        ShapeError: a layer does not take its input.
    """
    if not isinstance(layer, Container):
        yield path, layer, shape
        return
    for name, child, given in layer.child_inputs(shape):
        yield from leaves(child, given, f"{path}.{name}" if path else name)

"""One forward and backward pass, layer by layer: what comes out, what comes back, how long."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tinyconv.analysis.table import Table, column
from tinyconv.arguments import checked
from tinyconv.backend import Array, device_of, like, to_numpy
from tinyconv.layers import Layer
from tinyconv.layers.base import Shape
from tinyconv.network import Sequential
from tinyconv.training.checks import as_array, check_targets

#: What each kind of layer computes; of others the first line of their docstring is shown.
EQUATIONS = {
    **{f"Conv{n}d": "y[o] = b[o] + sum_c w[o,c] * x[c]" for n in (1, 2, 3)},
    **{f"ConvTranspose{n}d": "y = b + A^T x, with A of a convolution" for n in (1, 2, 3)},
    "Linear": "y = x w^T + b",
    "MaxPool2d": "y = max x over each window",
    "AvgPool2d": "y = mean x over each window",
    "L2Pool2d": "y = sqrt(sum x^2 over each window)",
    "ReLU": "y = max(x, 0)",
    "Sigmoid": "y = 1 / (1 + exp(-x))",
    "Tanh": "y = tanh(x)",
    "Flatten": "y = x, in one axis",
    "Dropout": "y = x, or in training x mask / (1 - p), unless it scales at test",
}


@dataclass(frozen=True)
class TraceRow:
    """One layer in one pass.

    Attributes:
        path: place in the network.
        layer: its kind.
        equation: what it computes.
        x: shape of its input, with the batch.
        y: shape of its output, with the batch.
        lowest: smallest element of the output.
        highest: largest element of the output.
        gradient: length (Euclidean norm) of the gradient of the loss with respect to the output.
        zeros: share of zeros in that gradient.
        weight_gradient: length of the gradient with respect to the layer's parameters; None where
            it has none.
        forward: seconds of the forward pass.
        backward: seconds of the backward pass.
    """

    path: str = field(metadata=column(""))
    layer: str = field(metadata=column("layer"))
    equation: str = field(metadata=column("equation"))
    x: Shape = field(metadata=column("x"))
    y: Shape = field(metadata=column("y"))
    lowest: float = field(metadata=column("min y"))
    highest: float = field(metadata=column("max y"))
    gradient: float = field(metadata=column("|dy|"))
    zeros: float = field(metadata=column("zeros in dy", lambda value: f"{value:.1%}"))
    weight_gradient: float | None = field(metadata=column("|dw|"))
    forward: float = field(metadata=column("forward", lambda value: f"{1e3 * value:.3f} ms"))
    backward: float = field(metadata=column("backward", lambda value: f"{1e3 * value:.3f} ms"))


@dataclass(frozen=True)
class Trace(Table[TraceRow]):
    """A row for each layer, in the order of the forward pass, and the loss; see :func:`trace`."""

    loss: float

    def __str__(self) -> str:
        return f"{super().__str__()}\nloss {self.loss:.6g}"

    def _repr_html_(self) -> str:
        """Return the table and the loss for a notebook."""
        return f"{super()._repr_html_()}<p>loss {self.loss:.6g}</p>"


@checked
def trace(net: Sequential, x: Array, y: Array, training: bool = False) -> Trace:
    """Run one forward and one backward pass and return what each layer saw and did.

    Vanishing gradients show as lengths that shrink from the last row to the first, exploding ones
    as lengths that grow; dead units as zeros. The layers keep the arrays of the pass.

    Args:
        net: the network; its loss is the one of its last ``fit``.
        x: (N, ...), samples.
        y: targets as the loss of the network takes them, such as class indices (N,).
        training: whether dropout drops and statistics are updated.

    Raises:
        ShapeError: x or y does not fit.

    >>> import tinyconv as tc
    >>> net = tc.Sequential([tc.Linear(3, 2), tc.ReLU(), tc.Linear(2, 2)], seed=0)
    >>> result = trace(net, np.ones((4, 3)), np.array([0, 1, 1, 0]))
    >>> result["equation"]
    ['y = x w^T + b', 'y = max(x, 0)', 'y = x w^T + b']
    >>> result["y"]
    [(4, 2), (4, 2), (4, 2)]
    """
    parameters = net.parameters.flat
    x, y = as_array("trace", "x", x), as_array("trace", "y", y)
    if isinstance(x, np.ndarray) and x.dtype.kind in "biuf":
        x = like(parameters, x.astype(net.dtype, copy=False))
    net._accept(x, "trace")
    check_targets("trace", x, y, None, net.loss, net.output_shape(tuple(x.shape[1:])))
    if isinstance(y, np.ndarray):
        y = like(parameters, y)
    layers = [*net.walk()]
    net.forward(x)  # what is allocated or compiled once is not timed
    with _timed(layers, parameters) as seconds:
        loss = net.loss.forward(net.forward(x, training), y)
        net.backward(net.loss.backward())
    return Trace(tuple(_row(layer, seconds) for layer in layers), float(loss))


def _row(layer: Layer, seconds: dict[tuple[int, str], float]) -> TraceRow:
    y, dy = to_numpy(layer.y), to_numpy(layer.dy)
    name = type(layer).__name__
    about = (type(layer).__doc__ or "").partition("\n")[0].replace("``", "")
    squares = [
        float((to_numpy(grad).astype(np.float64) ** 2).sum()) for grad in layer.grads.values()
    ]
    return TraceRow(
        path=layer.path,
        layer=name,
        equation=EQUATIONS.get(name, about),
        x=tuple(layer.x.shape) if layer.x is not None else (),
        y=tuple(y.shape),
        lowest=float(y.min()) if y.size else float("nan"),
        highest=float(y.max()) if y.size else float("nan"),
        gradient=float(np.linalg.norm(dy.astype(np.float64))),
        zeros=float(np.mean(dy == 0)) if dy.size else float("nan"),
        weight_gradient=sum(squares) ** 0.5 if squares else None,
        forward=seconds[id(layer), "forward"],
        backward=seconds[id(layer), "backward"],
    )


@contextmanager
def _timed(layers: list[Layer], parameters: Array) -> Iterator[dict[tuple[int, str], float]]:
    """Take the time of each layer's two passes.

    The methods are wrapped on the objects, not on their classes, so that nothing else notices.
    """
    seconds: dict[tuple[int, str], float] = {}

    def wait() -> None:
        if device_of(parameters) == "gpu":
            to_numpy(parameters[:1])  # a download waits for all work before it

    def timed(key: tuple[int, str], method: Callable[..., Any]) -> Callable[..., Any]:
        def run(*arguments: Any) -> Any:
            wait()
            started = time.perf_counter()
            result = method(*arguments)
            wait()
            seconds[key] = time.perf_counter() - started
            return result

        return run

    try:
        for layer in layers:
            for name in ("forward", "backward"):
                vars(layer)[name] = timed((id(layer), name), getattr(layer, name))
        yield seconds
    finally:
        for layer in layers:
            for name in ("forward", "backward"):
                vars(layer).pop(name, None)

"""The checker applied to what this library consists of."""

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tinyconv import ops
from tinyconv.arguments import checked
from tinyconv.backend import Array
from tinyconv.gradcheck import Report, check
from tinyconv.layers import LAYERS, Layer
from tinyconv.network import Sequential
from tinyconv.ops.checks import check_shape
from tinyconv.tables import text_table
from tinyconv.testing.examples import LAYER_EXAMPLES, OP_EXAMPLES, draw, layer_names, op_names
from tinyconv.testing.stack import Stack


def check_op(
    name: str,
    inputs: Sequence[Array] | None = None,
    options: Mapping[str, Any] | None = None,
    **settings: Any,
) -> Report:
    """Check the backward of an operation of :mod:`tinyconv.ops`.

    Args:
        name: such as ``"conv2d"``; ``conv2d_backward`` must be there too.
        inputs: the arrays it takes first; the built-in examples of the operation if None.
        options: its other arguments, by name.
        settings: more arguments of :func:`tinyconv.gradcheck.check`.

    Returns:
        The report; of several examples the first that is not ok, else the last.

    Raises:
        ValueError: there is no such operation, or no example of it.

    >>> check_op("conv2d").ok
    True
    >>> import numpy as np
    >>> check_op("relu", [np.zeros(2)]).verdict
    'kink'
    """
    if name not in op_names():
        raise ValueError(f"check_op: no operation {name!r}; there are {', '.join(op_names())}")
    if inputs is not None:
        return _check_op(name, inputs, dict(options or {}), settings)
    if name not in OP_EXAMPLES:
        raise ValueError(f"check_op: no example of {name!r}; pass inputs")
    seed = settings.get("seed", 0)
    rng = np.random.default_rng(seed)
    report = None
    for arguments, example_options in OP_EXAMPLES[name]:
        drawn = [draw(a, rng) for a in arguments]
        all_options = example_options | dict(options or {})
        code = f"from tinyconv.testing import check_op\nprint(check_op({name!r}, seed={seed}))"
        report = _check_op(name, drawn, all_options, {"reproduce": code} | settings)
        if not report.ok:
            break
    assert report is not None
    return report


def _check_op(
    name: str, inputs: Sequence[Array], options: dict[str, Any], settings: dict[str, Any]
) -> Report:
    op, op_backward = getattr(ops, name), getattr(ops, f"{name}_backward")

    def forward(*arrays: Array) -> Array:
        return op(*arrays, **options)[0]

    def backward(dy: Array, *arrays: Array) -> list[Array | None]:
        gradients = op_backward(dy, op(*arrays, **options)[1])
        gradients = gradients if isinstance(gradients, tuple) else (gradients,)
        # One gradient a floating-point argument: of no array where an argument was left out.
        return [*gradients, *[None] * len(arrays)][: len(arrays)]

    names = list(inspect.signature(op).parameters)[: len(inputs)]
    return check(forward, backward, inputs, **{"names": names} | settings)


@checked
def check_layer(
    layer: Layer, x: Array, *, training: bool = False, step: int = 0, **settings: Any
) -> Report:
    """Check the backward of a layer: dx, and the gradient of each of its parameters.

    The layer's parameters, gradients and state are left as they were.

    Args:
        layer: any layer; one without parameters yet gets them, for x.
        x: (N, ...). In float32 the mathematics is checked in float64, see
            :func:`tinyconv.gradcheck.check`.
        training: checks it as it is in training: dropout drops, statistics are of the batch.
        step: number of the training step, which selects dropout masks.
        settings: more arguments of :func:`tinyconv.gradcheck.check`.

    Raises:
        ShapeError: its ``output_shape`` says another shape than ``compute`` returns.

    >>> import numpy as np
    >>> from tinyconv import Linear
    >>> report = check_layer(Linear(4, 3), np.random.default_rng(0).normal(size=(5, 4)))
    >>> report.ok, [row.name for row in report.tensors]
    (True, ['x', 'weight', 'bias'])
    """
    y = layer.forward(x, training, step)
    op = f"{type(layer).__name__}.output_shape"
    check_shape(op, (len(x), *layer.output_shape(tuple(x.shape[1:]))), y=y)
    stack = Stack([layer], training, step)
    inputs = [x, *stack.parameters]
    names = ["x", *stack.names]
    return check(stack.forward, stack.backward, inputs, **{"names": names} | settings)


@checked
def check_network(net: Sequential, x: Array, y: Array, **settings: Any) -> Report:
    """Check the gradient of a network's loss with respect to every parameter and the batch.

    With ``samples="all"`` every element of every parameter is compared. That costs one forward
    pass each, but only through the layers from the parameter's own upwards.

    Args:
        net: a network; its parameters are left as they were.
        x: (N, ...), of the network's dtype.
        y: (N,), class indices.
        settings: more arguments of :func:`tinyconv.gradcheck.check`.

    >>> import numpy as np
    >>> import tinyconv as tc
    >>> net = tc.Sequential([tc.Linear(4, 3), tc.Tanh(), tc.Linear(3, 3)], dtype="float64")
    >>> x = np.random.default_rng(0).normal(size=(5, 4))
    >>> check_network(net, x, np.array([0, 1, 2, 0, 1])).ok
    True
    """
    if net.parameter_count() is None:
        net.forward(x)  # makes the parameters, whose sizes follow from the batch
    stack = Stack(net.layers, training=False, step=0, loss=net.loss, labels=y)
    inputs, names = [x, *stack.parameters], ["x", *stack.names]
    return check(stack.forward, stack.backward, inputs, **{"names": names} | settings)


def check_everything(seed: int = 0, samples: Any = "all") -> dict[str, Report]:
    """Check every operation and every layer, each by its examples.

    Args:
        seed: of the inputs and of the checks.
        samples: elements of each tensor to compare one by one.

    Returns:
        ``"ops.conv2d"`` or ``"layers.Conv2d"`` -> report.
    """
    reports = {}
    for name in op_names():
        reports[f"ops.{name}"] = check_op(name, seed=seed, samples=samples)
    for name in layer_names():
        arguments, shape = LAYER_EXAMPLES[name]
        layer = LAYERS[name](**arguments)
        x = np.random.default_rng(seed).normal(size=shape)
        report = check_layer(layer, x, training=True, seed=seed, samples=samples)
        reports[f"layers.{name}"] = report
    return reports


def format_checks(reports: Mapping[str, Report]) -> str:
    """Return a table of reports, one line each, and in full those that are not ok.

    >>> print(format_checks({"ops.relu": check_op("relu")}))
    checked   verdict  elements  largest error  method
    ops.relu  ok              4        0.0e+00  complex step
    """
    rows = [("checked", "verdict", "elements", "largest error", "method")]
    for name, report in reports.items():
        error = max((row.relative_error for row in report.tensors), default=0.0)
        count = sum(row.checked for row in report.tensors)
        rows.append((name, report.verdict, str(count), f"{error:.1e}", report.method))
    lines = [text_table(rows, left=(0, 1, 4))]
    for name, report in reports.items():
        if not report.ok:
            lines += ["", f"{name}: {report}"]
    return "\n".join(lines)

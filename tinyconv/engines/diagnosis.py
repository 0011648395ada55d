"""Where the first value that is not finite appeared in the pass that the layers have just made."""

from tinyconv.backend import Array, namespace
from tinyconv.engines.base import Net
from tinyconv.parameters import Parameters


def fault_of_outputs(net: Net, x: Array) -> str | None:
    """Say where the forward pass of ``x`` came to a value that is not finite, if it did.

    >>> import numpy as np
    >>> from tinyconv.layers import Chain, Linear, ReLU
    >>> net = Chain([Linear(2, 2), ReLU()])
    >>> x = np.array([[1.0, float("nan")]])
    >>> _ = net.forward(x)
    >>> fault_of_outputs(net, x)
    'the input of the network holds values that are not finite'
    >>> x = np.array([[1.0, 2.0]])
    >>> _ = net.forward(x)
    >>> fault_of_outputs(net, x) is None
    True
    """
    xp = namespace("fault_of_outputs", x=x)
    if not bool(xp.all(xp.isfinite(x))):
        return "the input of the network holds values that are not finite"
    for layer in net.walk():
        where = f"layer {layer.path} ({type(layer).__name__})"
        for name, values in layer.params.items():
            if not bool(xp.all(xp.isfinite(values))):
                return f"{where} has a {name} that is not finite"
        if not bool(xp.all(xp.isfinite(layer.y))):
            return f"{where} is the first whose output is not finite"
    return None


def fault_of_gradients(parameters: Parameters) -> str:
    """Say which parameter, of the last one first, has a gradient that is not finite.

    >>> import numpy as np
    >>> from tinyconv.parameters import ParameterSpec
    >>> parameters = Parameters({"0.weight": ParameterSpec((2,), "zeros")}, "float32", "cpu")
    >>> parameters.grads["0.weight"][1] = np.inf
    >>> fault_of_gradients(parameters)
    'the loss is finite, and the gradient of 0.weight is not'
    """
    xp = namespace("fault_of_gradients", flat=parameters.flat)
    faults = (
        name
        for name, gradient in reversed(parameters.grads.items())
        if not bool(xp.all(xp.isfinite(gradient)))
    )
    return f"the loss is finite, and the gradient of {next(faults)} is not"

"""All parameters of a network in one flat array, all gradients in a second one.

A layer holds views into them under PyTorch's names; what is frozen lies behind what is trained.
So an optimizer is a few lines over two vectors, and a checkpoint is one array.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod

import numpy as np

from tinyconv.backend import Array, from_numpy

#: Bytes to which the flat arrays are aligned: a cache line, and the widest vector register.
ALIGNMENT = 64


@dataclass(frozen=True)
class ParameterSpec:
    """What a layer asks for: the shape and the initial values of one parameter.

    Attributes:
        shape: of the parameter.
        initializer: a name of :mod:`tinyconv.initializers`.
        fan_in: inputs of one output unit.
        fan_out: outputs that one input unit feeds.
        decay: whether weight decay applies to it (weights yes, biases no).
        trainable: whether it is trained; the layer's attribute of this name decides.
    """

    shape: tuple[int, ...]
    initializer: str
    fan_in: int = 1
    fan_out: int = 1
    decay: bool = True
    trainable: bool = True


class Parameters:
    """Parameters and gradients of a network, flat and as named views.

    Attributes:
        flat: the parameters that are trained, one after the other in the order of ``specs``.
        flat_grad: their gradients, in the same places.
        decay: 1 where weight decay applies, 0 elsewhere; of the dtype of ``flat``.
        values: name -> view of ``flat``, or of the memory behind it for what is frozen, in the
            parameter's shape; in the order of ``specs``.
        grads: name -> view of ``flat_grad``, of what is trained.

    >>> p = Parameters({"0.weight": ParameterSpec((2, 3), "zeros"),
    ...                 "0.bias": ParameterSpec((2,), "zeros", decay=False)}, "float32", "cpu")
    >>> p.values["0.bias"][:] = 7
    >>> p.flat.tolist(), p.decay.tolist()
    ([0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 7.0, 7.0], [1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.0, 0.0])
    """

    def __init__(self, specs: Mapping[str, ParameterSpec], dtype: str, device: str) -> None:
        sizes = {name: prod(spec.shape) for name, spec in specs.items()}
        trained = sum(sizes[name] for name, spec in specs.items() if spec.trainable)
        self.specs = dict(specs)
        memory = from_numpy(_aligned_zeros(sum(sizes.values()), dtype), device)
        self.flat = memory[:trained]
        self.flat_grad = from_numpy(_aligned_zeros(trained, dtype), device)
        decay = np.zeros(trained, dtype)
        values: dict[str, Array] = {}
        self.grads: dict[str, Array] = {}
        start = 0
        for name in sorted(specs, key=lambda name: not specs[name].trainable):
            spec, stop = specs[name], start + sizes[name]
            values[name] = memory[start:stop].reshape(spec.shape)
            if spec.trainable:
                self.grads[name] = self.flat_grad[start:stop].reshape(spec.shape)
                decay[start:stop] = spec.decay
            start = stop
        self.values = {name: values[name] for name in specs}
        self.decay = from_numpy(decay, device)

    def __call__(self) -> None:
        """Say how optimizers come by the parameters here, where another library asks for them."""
        raise TypeError(
            "parameters is no method: fit and optimizer.step(net, state) hand them to the "
            "optimizer, SGD(lr=...); by name they are parameters.values"
        )


def _aligned_zeros(size: int, dtype: str) -> Array:
    itemsize = np.dtype(dtype).itemsize
    raw = np.zeros(size * itemsize + ALIGNMENT, np.uint8)
    first = -raw.ctypes.data % ALIGNMENT
    return raw[first : first + size * itemsize].view(dtype)

"""Networks to PyTorch and from it, and our operations in its graphs."""

import inspect
import tempfile
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeAlias

import numpy as np

from tinyconv import layers as L
from tinyconv.arguments import Numbers, checked
from tinyconv.engines.units import AVG, BATCH_NORMS, CONVS, MAX, NORM_POOLS, POOLS, TRANSPOSED
from tinyconv.errors import ArgumentError, FileError
from tinyconv.geometry import spread_pairs
from tinyconv.interop import require
from tinyconv.layers.base import Layer
from tinyconv.layers.snapshot import descendants
from tinyconv.messages import shown
from tinyconv.network import Sequential

#: Makes PyTorch's layer of the module ``torch`` and ours.
Maker: TypeAlias = Callable[[Any, Any], Any]


def function(
    forward: Callable[..., tuple[Any, Any]], backward: Callable[[Any, Any], Any]
) -> Callable[..., Any]:
    """Make a function of tensors of a pair of operations; gradients go through the backward one.

    Args:
        forward: as of :func:`tinyconv.interop.jax.function`.
        backward: likewise.

    Returns:
        ``f(*tensors, **options) -> tensor``; what is no tensor is handed on as it is. Tensors on
        the CPU share their memory with the arrays.

    >>> import torch
    >>> from tinyconv import ops
    >>> relu = function(ops.relu, ops.relu_backward)
    >>> x = torch.tensor([-1.0, 2.0], requires_grad=True)
    >>> relu(x).sum().backward()
    >>> x.grad
    tensor([0., 1.])
    """
    torch = require("torch", "torch")

    class Operation(torch.autograd.Function):  # type: ignore[misc, name-defined]
        @staticmethod
        def forward(ctx: Any, options: dict[str, Any], *inputs: Any) -> Any:
            values = [x.detach().numpy() if torch.is_tensor(x) else x for x in inputs]
            y, ctx.saved = forward(*values, **options)
            ctx.are_tensors = [torch.is_tensor(x) for x in inputs]
            return torch.from_numpy(np.asarray(y))

        @staticmethod
        def backward(ctx: Any, dy: Any) -> Any:
            found = backward(dy.contiguous().numpy(), ctx.saved)
            gradients = iter(found if isinstance(found, tuple) else (found,))
            given = [next(gradients, None) if is_one else None for is_one in ctx.are_tensors]
            return None, *(None if g is None else torch.from_numpy(np.asarray(g)) for g in given)

    def call(*inputs: Any, **options: Any) -> Any:
        return Operation.apply(options, *inputs)

    return call


@checked
def from_module(
    module: Any, input_shape: Annotated[Sequence[int], Numbers(whole=True, least=1)]
) -> Sequential:
    """Return the network that a PyTorch module computes in evaluation mode, with its weights.

    The module is traced by PyTorch's own exporter and read as
    :func:`tinyconv.interop.onnx.import_` reads a file.

    Args:
        module: an ``nn.Module`` of one input whose layers lie one after the other, with residual
            sums and branches. PyTorch warns of one that decides by numbers, which a trace cannot.
        input_shape: of one sample, such as (1, 28, 28).

    Raises:
        ArgumentError: it is no module, or the shape none.
        FileError: the module does something that no layer computes.

    >>> import torch.nn as nn
    >>> net = from_module(nn.Sequential(nn.Linear(4, 3), nn.ReLU()), (4,))
    >>> print(net.layers)
    [Linear(in_features=4, out_features=3, ...), ReLU()]
    """
    torch = require("torch", "torch")
    require("onnx", "onnx")
    from tinyconv.interop.onnx import import_

    if not isinstance(module, torch.nn.Module):
        raise ArgumentError(f"from_module: module is {shown(module)}, expected an nn.Module")
    was_training, kind = module.training, next(iter(module.parameters()), torch.zeros(1)).dtype
    module.eval()
    try:
        with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the exporter's, of its own future
            warnings.simplefilter("default", torch.jit.TracerWarning)
            path = Path(folder) / "module.onnx"
            sample = torch.zeros(2, *input_shape, dtype=kind)
            torch.onnx.export(module, (sample,), str(path), dynamo=False)
            return import_(path)
    except FileError as error:
        raise FileError(f"from_module: {str(error).partition(': ')[2]}") from None
    except torch.onnx.errors.OnnxExporterError as error:
        raise FileError(f"from_module: {str(error).splitlines()[0]}") from None
    finally:
        module.train(was_training)


@checked
def to_module(net: Sequential) -> Any:
    """Return an ``nn.Sequential`` that computes what a network does, with copies of its weights.

    Names of parameters are the same on both sides. The module is in evaluation mode.

    Args:
        net: with parameters.

    Raises:
        FileError: PyTorch has no such layers; all are named.

    >>> import tinyconv as tc
    >>> to_module(tc.Sequential([tc.Linear(4, 3), tc.ReLU()]))
    Sequential(
      (0): Linear(in_features=4, out_features=3, bias=True)
      (1): ReLU()
    )
    """
    torch = require("torch", "torch")
    unknown = [
        f"{layer.path} ({type(layer).__name__})"
        for layer in descendants(net)
        if _kind(layer) not in MODULES
    ]
    if unknown:
        raise FileError(f"to_module: PyTorch has no layer {', '.join(unknown)}")
    module = _chain(torch, net).to(getattr(torch, net.dtype))
    state = {name: torch.from_numpy(value) for name, value in net.state_dict().items()}
    module.load_state_dict(state)
    return module.eval()


def _kind(layer: Layer) -> type[Layer]:
    """Return the kind of layer that says what a layer becomes.

    A container of somebody's own is made as the one of ours whose forward pass it has.
    """
    kind = type(layer)
    if isinstance(layer, L.Container):
        base = next((each for each in kind.__mro__ if each in MODULES), kind)
        if (kind.forward, kind.compute) == (base.forward, base.compute):
            kind = base
    return kind


def _module(torch: Any, layer: Layer) -> Any:
    return MODULES[_kind(layer)](torch, layer)


def _chain(torch: Any, chain: Any) -> Any:
    return torch.nn.Sequential(*(_module(torch, layer) for layer in chain.layers))


def _branches(torch: Any, layer: L.Residual | L.Parallel) -> Any:
    """Return a module of branches whose children have the names that ours have."""

    class Branches(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            for name, child in layer.children().items():
                self.add_module(name, _module(torch, child))

        def forward(self, x: Any) -> Any:
            parts = [child(x) for child in self.children()]
            if layer.join == "concat":
                return torch.cat(parts, 1)
            return sum([*parts[1:], x] if layer.adds_input else parts[1:], parts[0])

    return Branches()


def _padding(layer: Any) -> tuple[int, ...]:
    """Return padding as PyTorch's layers take it: the same on both sides, half a pool at most."""
    axes, pairs = len(layer.kernel_size), None
    if layer.padding != "same":
        said = 0 if layer.padding == "valid" else layer.padding
        pairs = spread_pairs("to_module", "padding", said, axes)
    if pairs is None or any(before != after for before, after in pairs):
        raise FileError(
            f"to_module: layer {layer.path} has the padding {layer.padding}, PyTorch's has the "
            "same number on both sides"
        )
    padding = tuple(before for before, _ in pairs)
    is_wide = any(2 * p > k for p, k in zip(padding, layer.kernel_size, strict=True))
    is_dilated = type(layer) not in MAX and set(layer.dilation) != {1}
    if type(layer) in POOLS and (is_wide or is_dilated):
        raise FileError(
            f"to_module: layer {layer.path} is {layer!r}; PyTorch's is padded by half a window at "
            "most, and only its maximum is dilated"
        )
    return padding


def _same(torch: Any, layer: Any, **changed: Any) -> Any:
    """Return PyTorch's layer of the same name, with the arguments that ours shares with it."""
    kind = getattr(torch.nn, type(layer).__name__)
    taken = inspect.signature(kind).parameters
    ours = {name: getattr(layer, name) for name in layer.config() if name in taken}
    return kind(**(ours | changed))


def _conv(torch: Any, layer: Any) -> Any:
    """Return PyTorch's convolution; one that pads by itself where both sides differ."""
    try:
        return _same(torch, layer, padding=_padding(layer))
    except FileError:
        mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
    kind = getattr(torch.nn, type(layer).__name__)

    class Padded(kind):  # type: ignore[misc, valid-type]
        def forward(self, x: Any) -> Any:
            window = layer.window(tuple(x.shape[2:]))
            sides = [n for pair in reversed(window.padding) for n in pair]
            return super().forward(torch.nn.functional.pad(x, sides, mode))

    Padded.__name__ = kind.__name__
    sizes = (layer.in_channels, layer.out_channels, layer.kernel_size, layer.stride)
    return Padded(*sizes, 0, layer.dilation, layer.groups, layer.bias)


def _function(compute: Callable[[Any, Any, Any], Any]) -> Callable[[Any, Any], Any]:
    """Return the maker of a module without parameters: a function of torch, our layer and x."""

    def make(torch: Any, layer: Any) -> Any:
        class Computed(torch.nn.Module):  # type: ignore[misc]
            def forward(self, x: Any) -> Any:
                return compute(torch, layer, x)

        Computed.__name__ = type(layer).__name__
        return Computed()

    return make


def _norm_pool(torch: Any, layer: Any) -> Any:
    """The root of sums of powers: PyTorch's own leaves out the sign and scales at the rim."""
    p, size, stride = getattr(layer, "norm_type", 2), layer.kernel_size, layer.stride
    padding = _padding(layer)
    is_row = len(size) == 1  # over one axis a mean knows no divisor: a row is a flat plane
    if is_row:
        size, stride, padding = (1, *size), (1, *stride), (0, *padding)
    mean = getattr(torch.nn.functional, f"avg_pool{len(size)}d")

    def compute(torch: Any, layer: Any, x: Any) -> Any:
        powers = (x.unsqueeze(2) if is_row else x).abs() ** p
        sums = mean(powers, size, stride, padding, layer.ceil_mode, divisor_override=1)
        sums = sums.squeeze(2) if is_row else sums
        # Of a window of zeros the root has the slope 0 here, and none in PyTorch.
        return torch.where(sums == 0, 0, torch.where(sums == 0, 1, sums) ** (1 / p))

    return _function(compute)(torch, layer)


def _whole(name: str) -> Callable[[Any, Any], Any]:
    return _function(
        lambda torch, layer, x: getattr(x, name)(dim=tuple(range(2, x.ndim)), keepdim=True)
    )


def _crop(torch: Any, layer: Any, x: Any) -> Any:
    pairs = spread_pairs("to_module", "cropping", layer.cropping, x.ndim - 2)
    return x[:, :, *(slice(a, n - b) for (a, b), n in zip(pairs, x.shape[2:], strict=True))]


def _pad(torch: Any, layer: Any, x: Any) -> Any:
    pairs = spread_pairs("to_module", "padding", layer.padding, x.ndim - 2)
    sides = tuple(n for pair in reversed(pairs) for n in pair)  # PyTorch begins at the last axis
    names = {"zeros": "Constant", "reflect": "Reflection", "replicate": "Replication"}
    kind = getattr(torch.nn, f"{names.get(layer.mode, 'Circular')}Pad{len(pairs)}d")
    return kind(sides, *[layer.value] * (layer.mode == "zeros"))(x)


def _upsample(torch: Any, layer: Any) -> Any:
    factor = None if layer.scale_factor is None else tuple(map(float, layer.scale_factor))
    return torch.nn.Upsample(layer.size, factor, layer.mode, layer.align_corners)


def _dropout(torch: Any, layer: Any) -> Any:
    if layer.scale_at_test:
        raise FileError(f"to_module: layer {layer.path} scales at test, PyTorch's in training")
    return torch.nn.Dropout(layer.p)


#: Kind of layer -> what makes PyTorch's.
MODULES: dict[type[Layer], Maker] = {
    L.Chain: _chain,
    **dict.fromkeys((L.Residual, L.Parallel), _branches),
    **dict.fromkeys(CONVS, _conv),
    **dict.fromkeys(
        (*TRANSPOSED, *MAX, *AVG), lambda torch, layer: _same(torch, layer, padding=_padding(layer))
    ),
    **dict.fromkeys(BATCH_NORMS, _same),
    **dict.fromkeys(NORM_POOLS, _norm_pool),
    **dict.fromkeys((L.Linear, L.LayerNorm, L.GroupNorm, L.LocalResponseNorm, L.Flatten), _same),
    **dict.fromkeys((L.ReLU, L.LeakyReLU, L.ELU, L.GELU, L.SiLU, L.Softplus), _same),
    **dict.fromkeys((L.Sigmoid, L.Tanh, L.Identity), _same),
    L.ScaledTanh: _function(lambda torch, layer, x: 1.7159 * torch.tanh(2 / 3 * x)),
    L.Dropout: _dropout,
    L.Reshape: _function(lambda torch, layer, x: x.reshape(len(x), *layer.shape)),
    L.Crop: _function(_crop),
    L.Pad: _function(_pad),
    L.Upsample: _upsample,
    L.GlobalAvgPool: _whole("mean"),
    L.GlobalMaxPool: _whole("amax"),
}

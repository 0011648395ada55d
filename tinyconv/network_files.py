"""What the file of a network says, checked before anything is made of it, and what it may name."""

from pathlib import Path
from typing import Any, TypeVar

from tinyconv import files
from tinyconv.arguments import Number, OneOf
from tinyconv.backend import Values
from tinyconv.data.report import CLASS_NAMES, PIXELS
from tinyconv.errors import ArgumentError
from tinyconv.layers import LAYERS, Chain, Layer, decode
from tinyconv.losses import LOSSES
from tinyconv.messages import shown
from tinyconv.optimizers import OPTIMIZERS
from tinyconv.registry import Registry

Kind = TypeVar("Kind", bound=type[Any])

_COUNT = Number(whole=True, least=0)

#: What the JSON in the file is.
ABOUT = {
    "format": str,
    "version": _COUNT,
    "layers": [dict],
    "input_shape": (None, [Number(whole=True, least=1)]),
    "seed": int,
    "dtype": OneOf("float32", "float64"),
    "loss": str,
    "loss_config": dict,
    "epochs": _COUNT,
    "steps": _COUNT,
    "class_names": CLASS_NAMES,
    "pixels": PIXELS,
}


def read_network(
    path: str | Path,
) -> tuple[Path, list[Layer], dict[str, Values], dict[str, Any]]:
    """Return where the file is, the layers without parameters, the arrays and the description.

    Args:
        path: as of :func:`tinyconv.load`, and so for the errors.
    """
    path = Path(path)
    if (path / "model.safetensors").is_file():
        path /= "model.safetensors"
    tensors, about = files.read_tensors(path, "network")
    files.check_json(path, about, ABOUT)
    with files.naming(path):
        shape = None if about["input_shape"] is None else tuple(about["input_shape"])
        layers: list[Layer] = decode(about["layers"])
        # Shapes are compared before anything of a size that the file merely claims is allocated.
        chain = Chain(layers)
        shapes = {name: spec.shape for name, spec in (chain.specs(shape) or {}).items()}
        shapes |= {name: value.shape for name, value in chain.state_values().items()}
        files.check_tensors(str(path), tensors, shapes)
    return path, layers, tensors, about | {"input_shape": shape}


def register(kind: Kind) -> Kind:
    """Let files name a layer or a loss of your own: ``save`` writes its name, ``load`` finds it.

    The class must be registered wherever its files are loaded; a file never brings code. A loss or
    an optimizer is also what ``fit(loss="Name")`` and ``fit(optimizer="Name")`` mean.

    Args:
        kind: a subclass of :class:`Layer`, :class:`Loss` or :class:`Optimizer`.

    Returns:
        The class, so that this can be a decorator.

    Raises:
        ArgumentError: it is none of them, or its name is that of another one.

    >>> import tinyconv as tc
    >>> @tc.register
    ... class Double(tc.Layer):
    ...     def compute(self, x, training, step):
    ...         return 2 * x, None
    ...     def compute_backward(self, dy, saved):
    ...         return 2 * dy, {}
    >>> tc.Sequential([Double()])
    Sequential([Double()])
    """
    registries: tuple[Registry[Any], ...] = (LAYERS, LOSSES, OPTIMIZERS)
    for registry in registries:
        if isinstance(kind, type) and issubclass(kind, registry.base):
            registry.add(kind)
            return kind
    raise ArgumentError(f"register: {shown(kind)} is no subclass of Layer, Loss or Optimizer")

"""Classes of one's own made known by their names, to files and to ``fit``."""

from typing import Any, TypeVar

from tinyconv.errors import ArgumentError
from tinyconv.layers import LAYERS
from tinyconv.losses import LOSSES
from tinyconv.messages import shown
from tinyconv.optimizers import OPTIMIZERS
from tinyconv.registry import Registry

Kind = TypeVar("Kind", bound=type[Any])


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

"""Classes of one's own made known to files."""

from typing import Any, TypeVar

from tinyconv.arguments import shown
from tinyconv.errors import ArgumentError
from tinyconv.layers import LAYERS, Layer
from tinyconv.losses import LOSSES, Loss

__all__ = ["register"]

Kind = TypeVar("Kind", bound=type[Any])


def register(kind: Kind) -> Kind:
    """Let files name a layer or a loss of your own: ``save`` writes its name, ``load`` finds it.

    The class must be registered wherever its files are loaded; a file never brings code.

    Args:
        kind: a subclass of :class:`Layer` or :class:`Loss`.

    Returns:
        The class, so that this can be a decorator.

    Raises:
        ArgumentError: it is neither, or its name is that of another one.

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
    if isinstance(kind, type) and issubclass(kind, Layer):
        LAYERS.add(kind)
    elif isinstance(kind, type) and issubclass(kind, Loss):
        LOSSES.add(kind)
    else:
        raise ArgumentError(
            f"register: {shown(kind)} is no subclass of Layer or Loss, and files name no others"
        )
    return kind

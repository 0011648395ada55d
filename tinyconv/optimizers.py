"""Update rules over the flat vector of all parameters.

An optimizer is a set of constants. What it remembers from step to step is a dictionary of flat
arrays that its caller keeps, saves and restores.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass

from tinyconv.backend import Array, namespace
from tinyconv.errors import ShapeError

__all__ = ["SGD", "Optimizer"]


@dataclass(frozen=True)
class Optimizer(ABC):
    """The base of all update rules.

    Attributes:
        lr: learning rate, greater than 0.
    """

    lr: float

    def __post_init__(self) -> None:
        if not self.lr > 0:
            raise ShapeError(f"{type(self).__name__}: lr is {self.lr!r}, expected more than 0")

    @abstractmethod
    def init(self, w: Array) -> dict[str, Array]:
        """Return what the rule remembers, before the first step: arrays of the shape of w."""

    @abstractmethod
    def update(
        self,
        w: Array,
        dw: Array,
        state: dict[str, Array],
        decay: Array,
        lr: float | None = None,
        step: int = 0,
    ) -> None:
        """Change w and the state in place.

        Args:
            w: (P,), all parameters.
            dw: (P,), their gradient.
            state: from :meth:`init`.
            decay: (P,), 1 where weight decay applies and 0 elsewhere.
            lr: the rate of this step, where a schedule sets one.
            step: steps taken before this one.
        """


@dataclass(frozen=True)
class SGD(Optimizer):
    """Stochastic gradient descent with momentum, as in PyTorch.

        g = dw + weight_decay decay w
        v = momentum v + g                      (v starts at 0)
        w = w - lr v                            or, with Nesterov: w - lr (g + momentum v)

    Args:
        lr: learning rate.
        momentum: share of the last velocity that stays, 0 <= momentum < 1.
        nesterov: look ahead along the velocity (Sutskever et al., 2013).
        weight_decay: L2 coefficient of one step, on weights and not on biases.

    Raises:
        ShapeError: a constant is out of range, or Nesterov was asked for without momentum.

    >>> import numpy as np
    >>> w, dw = np.array([1.0]), np.array([2.0])
    >>> sgd = SGD(lr=0.1, momentum=0.5)
    >>> state = sgd.init(w)
    >>> for _ in range(2):
    ...     sgd.update(w, dw, state, decay=np.ones(1))
    >>> w  # 1 - 0.1 * 2 - 0.1 * (0.5 * 2 + 2)
    array([0.5])
    """

    momentum: float = 0.0
    nesterov: bool = False
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.momentum < 1:
            raise ShapeError(f"SGD: momentum is {self.momentum!r}, expected 0 <= momentum < 1")
        if self.weight_decay < 0:
            raise ShapeError(f"SGD: weight_decay is {self.weight_decay!r}, expected 0 or more")
        if self.nesterov and not self.momentum:
            raise ShapeError("SGD: nesterov is True, expected momentum greater than 0 with it")

    def init(self, w: Array) -> dict[str, Array]:  # noqa: D102
        return {"velocity": namespace("SGD", w=w).zeros_like(w)} if self.momentum else {}

    def update(  # noqa: D102
        self,
        w: Array,
        dw: Array,
        state: dict[str, Array],
        decay: Array,
        lr: float | None = None,
        step: int = 0,
    ) -> None:
        g = dw + self.weight_decay * decay * w if self.weight_decay else dw
        if self.momentum:
            v = state["velocity"]
            v *= self.momentum
            v += g
            g = g + self.momentum * v if self.nesterov else v
        w -= (self.lr if lr is None else lr) * g

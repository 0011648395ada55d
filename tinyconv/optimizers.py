"""Update rules over the flat vector of all parameters.

An optimizer is a set of constants: ``lr``, ``weight_decay`` and ``clip_norm``, see
:class:`Optimizer`, ``eps``, which keeps a quotient finite, and others of its own. What it remembers
from step to step is a dictionary of flat arrays that its caller keeps, saves and restores. Rules,
constants and their order are PyTorch's.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Protocol

from tinyconv.arguments import NotNegative, Positive, Share, check_fields, checked
from tinyconv.backend import Array, namespace
from tinyconv.errors import ArgumentError
from tinyconv.messages import shown
from tinyconv.parameters import Parameters
from tinyconv.registry import Registry


class Network(Protocol):
    """What has parameters to update."""

    @property
    def parameters(self) -> Parameters:
        """All parameters and gradients, flat."""


@dataclass(frozen=True)
class Optimizer(ABC):
    """The base of all update rules, also of your own, with what comes before each of them:

        g = dw min(1, clip_norm / (|dw| + 1e-6))      where clip_norm is set
        g = g + weight_decay decay w                  not in AdamW

    Clipping keeps the direction of the gradient of all parameters together and bounds its length
    (Pascanu, Mikolov and Bengio, "On the difficulty of training recurrent neural networks", 2013).

    Args:
        lr: learning rate, greater than 0.
        weight_decay: L2 coefficient of one step, on weights and not on biases; 0 or more.
        clip_norm: the largest Euclidean length of the gradient, greater than 0; None for any.

    Raises:
        ArgumentError: a constant is out of range.

    >>> import numpy as np
    >>> @dataclass(frozen=True)
    ... class SignSGD(Optimizer):
    ...     def move(self, w, g, state, lr):
    ...         w -= lr * np.sign(g)
    >>> w = np.array([1.0, 2.0])
    >>> SignSGD(lr=0.5).update(w, np.array([3.0, -4.0]), {}, decay=np.ones(2))
    >>> w
    array([0.5, 2.5])
    >>> SignSGD(lr=0.5, clip_norm=-1.0)
    Traceback (most recent call last):
    tinyconv.errors.ArgumentError: SignSGD: clip_norm is -1.0, expected a number above 0 or None
    """

    lr: Positive
    weight_decay: NotNegative = field(default=0.0, kw_only=True)
    clip_norm: Positive | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        check_fields(self)

    def _require(self, good: bool, name: str, expected: str) -> None:
        if not good:
            value = shown(getattr(self, name))
            raise ArgumentError(f"{type(self).__name__}: {name} is {value}, expected {expected}")

    def init(self, w: Array) -> dict[str, Array]:
        """Return what the rule remembers, before the first step: name -> flat array.

        Nothing, unless overridden.
        """
        return {}

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
            dw: (P,), their gradient; it stays as it is.
            state: from :meth:`init`.
            decay: (P,), 1 where weight decay applies and 0 elsewhere.
            lr: the rate of this step, where a schedule sets one.
            step: steps taken since the network was made. A rule that counts its own steps, since
                it starts afresh in every run, keeps their number in its state.
        """
        lr = self.lr if lr is None else lr
        g = dw
        if self.clip_norm is not None:
            xp = namespace("update", dw=dw)
            length = xp.sqrt(xp.vecdot(dw, dw))
            g = dw * xp.minimum(self.clip_norm / (length + 1e-6), xp.ones_like(length))
        if self.weight_decay:
            g = self.decayed(w, g, decay, lr)
        self.move(w, g, state, lr)

    def step(self, net: "Network", state: dict[str, Array], lr: float | None = None) -> None:
        """Update a network by the gradients of its last backward pass: a loop by hand.

        Args:
            net: a :class:`tinyconv.Sequential`, or anything with such ``parameters``.
            state: from :meth:`init` of ``net.parameters.flat``; updated in place.
            lr: the rate of this step, where a schedule sets one.
        """
        p = net.parameters
        self.update(p.flat, p.flat_grad, state, p.decay, lr)

    def decayed(self, w: Array, g: Array, decay: Array, lr: float) -> Array:
        """Return the gradient with weight decay added."""
        return g + self.weight_decay * decay * w

    @abstractmethod
    def move(self, w: Array, g: Array, state: dict[str, Array], lr: float) -> None:
        """Change w and the state in place by the rule's own equation.

        The arguments are those of :meth:`update`, with g (P,) for dw: clipped and with weight
        decay; it stays as it is.
        """


@checked
@dataclass(frozen=True)
class SGD(Optimizer):
    """Stochastic gradient descent with momentum.

        v = momentum v + g                      (v starts at 0)
        w = w - lr v                            or, with Nesterov: w - lr (g + momentum v)

    with g of :class:`Optimizer`.

    Args:
        momentum: share of the last velocity that stays, 0 <= momentum < 1.
        nesterov: look ahead along the velocity (Sutskever et al., 2013).

    Raises:
        ArgumentError: a constant is out of range, or Nesterov was asked for without momentum.

    >>> import numpy as np
    >>> w, dw = np.array([1.0]), np.array([2.0])
    >>> sgd = SGD(lr=0.1, momentum=0.5)
    >>> state = sgd.init(w)
    >>> for _ in range(2):
    ...     sgd.update(w, dw, state, decay=np.ones(1))
    >>> w  # 1 - 0.1 * 2 - 0.1 * (0.5 * 2 + 2)
    array([0.5])
    """

    momentum: Share = 0.0
    nesterov: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require(
            not self.nesterov or self.momentum > 0, "nesterov", "momentum greater than 0 with it"
        )

    def init(self, w: Array) -> dict[str, Array]:  # noqa: D102
        return {"velocity": namespace("SGD", w=w).zeros_like(w)} if self.momentum else {}

    def move(self, w: Array, g: Array, state: dict[str, Array], lr: float) -> None:  # noqa: D102
        if self.momentum:
            v = state["velocity"]
            v *= self.momentum
            v += g
            g = g + self.momentum * v if self.nesterov else v
        w -= lr * g


@checked
@dataclass(frozen=True)
class Adagrad(Optimizer):
    """Adagrad: each parameter is slowed down by all the gradients it has seen.

        s = s + g^2                             (s starts at initial_accumulator_value)
        w = w - lr g / (sqrt(s) + eps)

    with g of :class:`Optimizer`. PyTorch's ``lr_decay`` is a schedule here
    (:mod:`tinyconv.schedules`).

    Source: Duchi, Hazan and Singer, "Adaptive subgradient methods for online learning and
    stochastic optimization", 2011.

    Args:
        initial_accumulator_value: what s starts at, 0 or more.

    >>> import numpy as np
    >>> w, adagrad = np.array([1.0]), Adagrad(lr=0.5)
    >>> adagrad.update(w, np.array([3.0]), adagrad.init(w), decay=np.ones(1))
    >>> w.round(6)  # the first step has the length lr
    array([0.5])
    """

    lr: Positive = 0.01
    initial_accumulator_value: NotNegative = 0.0
    eps: Positive = 1e-10

    def init(self, w: Array) -> dict[str, Array]:  # noqa: D102
        return {"sum": namespace("Adagrad", w=w).full_like(w, self.initial_accumulator_value)}

    def move(self, w: Array, g: Array, state: dict[str, Array], lr: float) -> None:  # noqa: D102
        s = state["sum"]
        s += g * g
        root = namespace("Adagrad", w=w).sqrt(s)
        root += self.eps
        w -= lr * g / root


@checked
@dataclass(frozen=True)
class RMSProp(Optimizer):
    """RMSProp: each parameter is slowed down by the gradients it has seen lately.

        s = alpha s + (1 - alpha) g^2           (s, a and v start at 0)
        a = alpha a + (1 - alpha) g             where centered
        r = g / (sqrt(s) + eps)                 or, centered: g / (sqrt(s - a^2) + eps)
        v = momentum v + r
        w = w - lr v

    with g of :class:`Optimizer`.

    Source: Tieleman and Hinton, lecture 6.5 of "Neural networks for machine learning", 2012;
    centered: Graves, "Generating sequences with recurrent neural networks", 2013.

    Args:
        alpha: share of the mean square that stays, 0 <= alpha < 1.
        momentum: share of the last velocity that stays, 0 <= momentum < 1.
        centered: divide by the standard deviation instead of the root mean square.

    >>> import numpy as np
    >>> w, rmsprop = np.array([1.0]), RMSProp(lr=0.05)
    >>> rmsprop.update(w, np.array([3.0]), rmsprop.init(w), decay=np.ones(1))
    >>> w.round(6)  # 1 - 0.05 / sqrt(1 - 0.99)
    array([0.5])
    """

    lr: Positive = 0.01
    alpha: Share = 0.99
    eps: Positive = 1e-8
    momentum: Share = 0.0
    centered: bool = False

    def init(self, w: Array) -> dict[str, Array]:  # noqa: D102
        names = ["square"]
        names += ["mean"] if self.centered else []
        names += ["velocity"] if self.momentum else []
        return {name: namespace("RMSProp", w=w).zeros_like(w) for name in names}

    def move(self, w: Array, g: Array, state: dict[str, Array], lr: float) -> None:  # noqa: D102
        xp = namespace("RMSProp", w=w)
        s = state["square"]
        s *= self.alpha
        s += (1 - self.alpha) * g * g
        if self.centered:
            a = state["mean"]
            a *= self.alpha
            a += (1 - self.alpha) * g
            # Rounding may leave a variance of 0 just below it.
            root = xp.sqrt(xp.maximum(s - a * a, xp.zeros_like(s)))
        else:
            root = xp.sqrt(s)
        root += self.eps
        r = g / root
        if self.momentum:
            v = state["velocity"]
            v *= self.momentum
            v += r
            r = v
        w -= lr * r


@checked
@dataclass(frozen=True)
class Adam(Optimizer):
    """Adam: a running mean of the gradient over the root of a running mean of its square.

        t = t + 1                               (t, m and v start at 0)
        m = beta1 m + (1 - beta1) g
        v = beta2 v + (1 - beta2) g^2
        w = w - lr m / (1 - beta1^t) / (sqrt(v / (1 - beta2^t)) + eps)

    with g of :class:`Optimizer`. The two divisions by 1 - beta^t undo the start at 0.

    Source: Kingma and Ba, "Adam: a method for stochastic optimization", 2015, algorithm 1.

    Args:
        betas: beta1 and beta2, shares of the running means that stay, each in [0, 1).

    >>> import numpy as np
    >>> w, adam = np.array([1.0]), Adam(lr=0.5)
    >>> adam.update(w, np.array([3.0]), adam.init(w), decay=np.ones(1))
    >>> w.round(6)  # the first step has the length lr
    array([0.5])
    """

    lr: Positive = 1e-3
    betas: tuple[float, float] = (0.9, 0.999)
    eps: Positive = 1e-8

    def __post_init__(self) -> None:
        super().__post_init__()
        betas = self.betas if isinstance(self.betas, tuple | list) else ()
        good = len(betas) == 2 and all(isinstance(b, int | float) and 0 <= b < 1 for b in betas)
        self._require(good, "betas", "two numbers of at least 0 and below 1")

    def init(self, w: Array) -> dict[str, Array]:  # noqa: D102
        xp = namespace("Adam", w=w)
        # float64, because 1 - beta2^t has four digits left in float32 at t = 1; an array, so that
        # no step waits for a GPU.
        steps = xp.zeros((1,), dtype=xp.float64, device=w.device)
        return {"mean": xp.zeros_like(w), "square": xp.zeros_like(w), "steps": steps}

    def move(self, w: Array, g: Array, state: dict[str, Array], lr: float) -> None:  # noqa: D102
        xp = namespace("Adam", w=w)
        (beta1, beta2), m, v, t = self.betas, state["mean"], state["square"], state["steps"]
        t += 1.0
        m *= beta1
        m += (1 - beta1) * g
        v *= beta2
        v += (1 - beta2) * g * g
        root = xp.sqrt(v)
        root /= xp.astype(xp.sqrt(1 - beta2**t), w.dtype)
        root += self.eps
        w -= xp.astype(lr / (1 - beta1**t), w.dtype) * m / root


@checked
@dataclass(frozen=True)
class AdamW(Adam):
    """Adam with a weight decay that the running means do not see:

        w = w - lr weight_decay decay w

    before each step of :class:`Adam`, whose g is then the (clipped) gradient alone.

    Source: Loshchilov and Hutter, "Decoupled weight decay regularization", 2019, with PyTorch's
    reading: the decay is multiplied by the learning rate.

    >>> import numpy as np
    >>> w, adamw = np.array([2.0]), AdamW(lr=0.5, weight_decay=0.5)
    >>> adamw.update(w, np.array([3.0]), adamw.init(w), decay=np.ones(1))
    >>> w.round(6)  # 2 - 0.5 * 0.5 * 2 - 0.5
    array([1.])
    """

    weight_decay: NotNegative = field(default=0.01, kw_only=True)

    def decayed(self, w: Array, g: Array, decay: Array, lr: float) -> Array:  # noqa: D102
        w -= lr * self.weight_decay * decay * w
        return g


#: The rules by the names of their classes, with those of one's own that were registered; short
#: names have PyTorch's constants, and SGD the rate of ``fit``.
OPTIMIZERS: Registry[Optimizer] = Registry(
    Optimizer,
    (SGD, Adagrad, Adam, AdamW, RMSProp),
    {
        "sgd": lambda: SGD(lr=0.1),
        **{kind.__name__.lower(): kind for kind in (Adagrad, Adam, AdamW, RMSProp)},
    },
    such_as="SGD(lr=0.1)",
)

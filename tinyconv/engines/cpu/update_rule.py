"""The update rules of a plan: which kernel, with which constants."""

from typing import Any

import numpy as np

from tinyconv.engines.cpu.tiling import compiled
from tinyconv.kernels.cpu import update
from tinyconv.kernels.cpu.kernel import address_of
from tinyconv.kernels.cpu.simd import LANES
from tinyconv.optimizers import SGD, Adagrad, Adam, AdamW, Optimizer, RMSProp
from tinyconv.parameters import Parameters

__all__ = ["UpdateRule"]

Array = np.ndarray[Any, Any]

#: What a rule remembers -> its place in the kernel's arguments.
PLACES = {"velocity": "velocity", "mean": "mean", "square": "square", "sum": "square"}


class UpdateRule:
    """An optimizer as a kernel over stretches of the flat vector of parameters.

    A rule without a kernel, and one that needs the length of the whole gradient first, gets a
    kernel that keeps the gradient, and works on it after all others.

    Args:
        optimizer: the rule.
        parameters: flat and float32; changed in place.
        state: what the rule remembers; changed in place.

    Attributes:
        has_kernel: whether the kernel is all; else :meth:`update` comes after it.
    """

    def __init__(
        self, optimizer: Optimizer, parameters: Parameters, state: dict[str, Array]
    ) -> None:
        self.optimizer, self.parameters, self.state = optimizer, parameters, state
        name, *constants = _kernel_of(optimizer) or ("keep",)
        self.has_kernel = name != "keep"
        self._kernel = compiled(getattr(update, name), LANES, *constants)
        args = self._args = np.zeros(1, update.ARGS)
        args["w"], args["decay"] = address_of(parameters.flat), address_of(parameters.decay)
        args["grad"] = address_of(parameters.flat_grad)
        for part, array in state.items():
            if part in PLACES and self.has_kernel:
                args[PLACES[part]] = address_of(array)
        beta1, beta2 = getattr(optimizer, "betas", (0.0, getattr(optimizer, "alpha", 0.0)))
        args["beta1"], args["one_minus_beta1"] = beta1, 1 - beta1
        args["beta2"], args["one_minus_beta2"] = beta2, 1 - beta2
        for part in ("weight_decay", "momentum", "eps"):
            args[part] = getattr(optimizer, part, 0.0)
        self._lr, self._rate, self._root_scale = args["lr"], args["rate"], args["root_scale"]

    @property
    def call(self) -> tuple[int, int]:
        """Address of the kernel and of its arguments."""
        return self._kernel.address, address_of(self._args)

    def start(self, lr: float, step: int) -> None:
        """Set what depends on the step."""
        self._lr[0] = lr
        self._step = step
        if isinstance(self.optimizer, Adam) and self.has_kernel:
            t = float(self.state["steps"][0]) + 1
            beta1, beta2 = self.optimizer.betas
            self._rate[0] = lr / (1 - beta1**t)
            self._root_scale[0] = 1 / (1 - beta2**t) ** 0.5

    def finish(self) -> None:
        """Count the step, where the kernel has taken it."""
        if isinstance(self.optimizer, Adam) and self.has_kernel:
            self.state["steps"] += 1

    def update(self) -> None:
        """Take the step that the kernel has only gathered the gradient for."""
        p, lr = self.parameters, float(self._lr[0])
        self.optimizer.update(p.flat, p.flat_grad, self.state, p.decay, lr, self._step)


def _kernel_of(rule: Optimizer) -> tuple[Any, ...] | None:
    """Return the name of the kernel and the terms that it has; None if there is no kernel."""
    if rule.clip_norm is not None:
        return None
    decays = rule.weight_decay > 0
    if type(rule) is SGD:
        return "sgd", decays, rule.momentum > 0, rule.nesterov
    if type(rule) is Adam:
        return "adam", decays, False
    if type(rule) is AdamW:
        return "adam", decays, True
    if type(rule) is Adagrad:
        return "adagrad", decays
    if type(rule) is RMSProp:
        return "rmsprop", decays, rule.centered, rule.momentum > 0
    return None

"""The update rule of a plan: which kernel, with which constants."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from tinyconv.backend import Values
from tinyconv.engines.base import Sharing
from tinyconv.engines.cpu.program import Program
from tinyconv.engines.cpu.tiling import compiled
from tinyconv.kernels.cpu import update
from tinyconv.kernels.cpu.kernel import address_of
from tinyconv.kernels.cpu.simd import LANES
from tinyconv.optimizers import SGD, Adagrad, Adam, AdamW, Optimizer, RMSProp
from tinyconv.parameters import Parameters


@dataclass(frozen=True)
class _Kernel:
    """What the kernel of an optimizer is made of and takes.

    Attributes:
        make: of the number of lanes, of whether there is weight decay, and of ``terms``.
        terms: which terms of the equation there are.
        numbers: the constants, by their names in ``update.ARGS``.
        of_step: likewise, of the optimizer, the learning rate and the number of the step from 1.
        memory: name of what the optimizer remembers -> its name there.
    """

    make: Callable[..., Any]
    terms: Callable[[Any], tuple[bool, ...]] = lambda rule: ()
    numbers: Callable[[Any], dict[str, float]] = lambda rule: {}
    of_step: Callable[[Any, float, float], dict[str, float]] = lambda rule, lr, t: {}
    memory: tuple[tuple[str, str], ...] = ()


def _numbers_of_adam(rule: Adam) -> dict[str, float]:
    beta1, beta2 = rule.betas
    rest = {"one_minus_beta1": 1 - beta1, "one_minus_beta2": 1 - beta2}
    return {"beta1": beta1, "beta2": beta2, "eps": rule.eps} | rest


def _step_of_adam(rule: Adam, lr: float, t: float) -> dict[str, float]:
    beta1, beta2 = rule.betas
    return {"rate": lr / (1 - beta1**t), "root_scale": 1 / (1 - beta2**t) ** 0.5}


def _numbers_of_rmsprop(rule: RMSProp) -> dict[str, float]:
    mean = {"beta2": rule.alpha, "one_minus_beta2": 1 - rule.alpha}
    return mean | {"eps": rule.eps, "momentum": rule.momentum}


_MOMENTS = (("mean", "mean"), ("square", "square"))

KERNELS: dict[type[Optimizer], _Kernel] = {
    SGD: _Kernel(
        update.sgd,
        lambda rule: (rule.momentum > 0, rule.nesterov),
        lambda rule: {"momentum": rule.momentum},
        memory=(("velocity", "velocity"),),
    ),
    Adagrad: _Kernel(
        update.adagrad, numbers=lambda rule: {"eps": rule.eps}, memory=(("sum", "square"),)
    ),
    RMSProp: _Kernel(
        update.rmsprop,
        lambda rule: (rule.centered, rule.momentum > 0),
        _numbers_of_rmsprop,
        memory=(*_MOMENTS, ("velocity", "velocity")),
    ),
    Adam: _Kernel(
        update.adam, lambda rule: (False,), _numbers_of_adam, _step_of_adam, memory=_MOMENTS
    ),
    AdamW: _Kernel(
        update.adam, lambda rule: (True,), _numbers_of_adam, _step_of_adam, memory=_MOMENTS
    ),
}


class UpdateRule:
    """An optimizer as a kernel over stretches of the flat vector of parameters.

    Where the whole gradient is needed first, for its length or for other processes, or the
    optimizer has no kernel, a kernel keeps it instead, and :meth:`add_rest` comes after all others.

    Args:
        optimizer: the rule.
        parameters: flat and float32; changed in place.
        state: what the rule remembers; changed in place.
        sharing: what comes between the backward pass and the update.

    Attributes:
        gradient: what the rule takes, if it was kept.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        parameters: Parameters,
        state: dict[str, Values],
        sharing: Sharing | None = None,
    ) -> None:
        self.optimizer, self.parameters, self.state = optimizer, parameters, state
        self.sharing = sharing
        self.gradient = parameters.flat_grad if sharing is None else sharing.gradient
        self._found = KERNELS.get(type(optimizer))
        args = self._args = np.zeros(1, update.ARGS)
        args["w"], args["decay"] = address_of(parameters.flat), address_of(parameters.decay)
        args["grad"] = address_of(parameters.flat_grad)
        args["weight_decay"] = optimizer.weight_decay
        if self._found is None:
            self._kernel = compiled(update.keep, LANES)
        else:
            terms = self._found.terms(optimizer)
            self._kernel = compiled(self._found.make, LANES, optimizer.weight_decay > 0, *terms)
            self._set(self._found.numbers(optimizer))
            for name, place in self._found.memory:
                if name in state:
                    args[place] = address_of(state[name])

    def _set(self, values: dict[str, float]) -> None:
        for name, value in values.items():
            self._args[name] = value

    @property
    def call(self) -> dict[str, Any]:
        """The arguments of a kernel that are the one that gets the gradients, and its own."""
        keeps = self.optimizer.clip_norm is not None or self.sharing is not None
        kernel = compiled(update.keep, LANES) if keeps else self._kernel
        return {"function": kernel, "function_args": self._args}

    def start(self, lr: float, step: int) -> None:
        """Set what depends on the step."""
        self._lr, self._step = lr, step
        self._args["lr"] = lr
        if self._found is not None:
            steps = self.state.get("steps")
            t = 1.0 if steps is None else float(steps[0]) + 1
            self._set(self._found.of_step(self.optimizer, lr, t))

    def add_rest(
        self, program: Program, was_taken: Callable[[], bool], refuse: Callable[[], None]
    ) -> None:
        """Add what is to be done with the gradients that were kept.

        Args:
            program: of the plan.
            was_taken: whether the step goes on.
            refuse: lets it not go on.
        """
        sharing, clip, P = self.sharing, self.optimizer.clip_norm, self.parameters.flat.size

        def share(n: int) -> None:
            assert sharing is not None
            if not sharing(self.parameters.flat_grad, refused=not was_taken()):
                refuse()

        if sharing is not None:
            program.python("sum over ranks", share)
        values: dict[str, Any] = {"function": self._kernel, "function_args": self._args}
        values |= {"items": P, "grain": 16 * LANES}
        if self._found is None:
            program.python("optimizer", lambda n: self._update() if was_taken() else None)
        elif clip is not None and P > 0:
            values |= {"squares": np.zeros((program.threads, 8)), "threads": program.threads}
            values |= {"grad": self.gradient, "clip": clip}
            for name, maker in (("length", update.length), ("clipped", update.clipped)):
                program.meet()
                program.call(f"optimizer: {name}", compiled(maker, LANES), **values)
        elif sharing is not None and P > 0:
            program.call("optimizer", compiled(update.flat), dw=self.gradient, **values)

    def finish(self) -> None:
        """Count the step, where a kernel has taken it."""
        if self._found is not None and "steps" in self.state:
            self.state["steps"] += 1

    def _update(self) -> None:
        """Take the step that the kernel has only gathered the gradient for."""
        p = self.parameters
        self.optimizer.update(p.flat, self.gradient, self.state, p.decay, self._lr, self._step)

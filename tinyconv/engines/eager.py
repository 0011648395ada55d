"""The layers run one by one: the readable engine, for every device and dtype."""

from copy import copy

import numpy as np

from tinyconv.backend import Array, Values, like, namespace, one_read, read, require, to_numpy
from tinyconv.engines.base import Engine, Net, Totals
from tinyconv.engines.blas import single_blas_thread
from tinyconv.errors import NonFiniteError, StateError
from tinyconv.losses import Targets, take
from tinyconv.metrics import figures
from tinyconv.parameters import Parameters

REPLACED = (
    "fit: a layer or an array of parameters was replaced, or a layer frozen, during training; "
    "expected new values in the arrays that are there"
)


class EagerEngine(Engine):
    """Runs the layers one by one."""

    def __init__(self, net: Net) -> None:
        self.net = net

    def _begin(self) -> None:
        self.optimizer_state = self.optimizer.init(self.net.parameters.flat)
        self._parameters = self.net.parameters
        self._totals = Totals()

    def start_epoch(self, totals: Totals) -> None:  # noqa: D102
        self._totals = totals.copy()

    def train_step(self, x: Array, y: Targets, index: Values, step: int, lr: float) -> None:  # noqa: D102
        self.net.refresh()
        if self.net.parameters is not self._parameters:
            raise StateError(REPLACED)
        state = self.net.state
        before = {name: copy(array) for name, array in state.items()}
        try:
            # What overflows is found and named.
            quiet = np.errstate(over="ignore", invalid="ignore")
            with single_blas_thread(), quiet, one_read():
                self._step(x, y, index, step, lr)
        except Exception as error:
            for name, array in before.items():
                state[name][...] = array
            if isinstance(error, NonFiniteError):
                error.step = step
            raise

    def _step(self, x: Array, y: Targets, index: Values, step: int, lr: float) -> None:
        p = self.net.parameters
        xb = take(x, index, p.flat).astype(p.flat.dtype, copy=False)
        targets, weight = y.batch(index, p.flat)
        outputs = self.net.forward(xb, True, step)
        means = figures(self.metrics, self.loss, outputs, targets, weight)
        loss = means["loss"]

        def fault_of_loss() -> NonFiniteError:
            place = fault_of_outputs(self.net, xb)
            return NonFiniteError(place or f"the loss is {float(loss)}")

        require(loss - loss == 0, fault_of_loss)  # NaN, where it is not finite
        self.net.backward(self.loss.backward())
        xp = namespace("fit", flat=p.flat)
        is_finite = xp.all(xp.isfinite(p.flat_grad))
        require(is_finite, lambda: NonFiniteError(fault_of_gradients(p)))
        counts = (measure(targets, weight) for measure in (self.loss.samples, self.loss.divisor))
        samples, divisor, *figured = read(*counts, *means.values())
        gradient = p.flat_grad
        if self.sharing is not None:
            self.sharing(gradient)
            gradient = self.sharing.gradient
        self.optimizer.update(p.flat, gradient, self.optimizer_state, p.decay, lr, step)
        sums = {name: mean * samples for name, mean in zip(means, figured, strict=True)}
        self._totals.add(Totals(sums | {"loss": figured[0] * divisor}, samples, divisor))

    def totals(self) -> Totals:  # noqa: D102
        return self._totals.copy()

    def logits(self, x: Array, batch_size: int) -> Values:  # noqa: D102
        flat, parts = self.net.parameters.flat, []
        for first in range(0, max(len(x), 1), batch_size):
            batch = x[first : first + batch_size].astype(self.net.dtype, copy=False)
            if isinstance(batch, np.ndarray):
                batch = like(flat, batch)
            with single_blas_thread():
                parts.append(to_numpy(self.net.forward(batch)))
        return np.concatenate(parts)


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

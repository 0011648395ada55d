"""What an engine is: it executes training steps and predictions, and nothing above it asks how."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from tinyconv.backend import Array, Values
from tinyconv.layers.base import Layer
from tinyconv.losses import Loss, Targets
from tinyconv.metrics import Metric
from tinyconv.optimizers import Optimizer
from tinyconv.parameters import Parameters


@dataclass
class Totals:
    """Sums over the samples that an epoch has seen so far, in training mode, without ignored ones.

    >>> totals = Totals()
    >>> totals.add(Totals({"loss": 4.0, "accuracy": 1.0}, 2, 2))
    >>> totals.add(Totals({"loss": 6.0, "accuracy": 6.0}, 6, 3))
    >>> totals.means()
    {'loss': 2.0, 'accuracy': 0.875}
    """

    #: accuracy and so on by name, each times the samples that it is the mean of, and the loss,
    #: times its divisor.
    sums: dict[str, float] = field(default_factory=dict)
    samples: float = 0  #: how many those were; with weights of samples, their sum
    #: of the loss, :meth:`tinyconv.Loss.divisor`; with weights of classes, their sum.
    divisor: float = 0

    def add(self, more: "Totals") -> None:
        """Add the sums over other samples."""
        for name, value in more.sums.items():
            self.sums[name] = self.sums.get(name, 0.0) + value
        self.samples += more.samples
        self.divisor += more.divisor

    def means(self) -> dict[str, float]:
        """Return what the figures of all samples at once would be; NaN where none counted."""
        return {
            name: value / ((self.divisor if name == "loss" else self.samples) or float("nan"))
            for name, value in self.sums.items()
        }

    def copy(self) -> "Totals":
        """Return one that further additions leave alone."""
        return Totals(dict(self.sums), self.samples, self.divisor)


class Net(Protocol):
    """What an engine needs of a network."""

    layers: list[Layer]  #: one after the other
    dtype: str  #: ``"float32"`` or ``"float64"``
    device: str  #: ``"cpu"`` or ``"gpu"``
    state: dict[str, Array]  #: running statistics by name
    version: int  #: counts how often :meth:`refresh` found a change

    def refresh(self) -> int:
        """Take in what was replaced in the network since the last call; return the version."""

    @property
    def parameters(self) -> Parameters:
        """All parameters and gradients."""

    def walk(self) -> Any:
        """Yield the layers that are no containers."""

    def forward(self, x: Array, training: bool = False, step: int = 0) -> Array:
        """Map a batch layer by layer."""

    def backward(self, dy: Array) -> Array:
        """Send a gradient back layer by layer."""

    def output_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return the shape of the output of a sample."""

    def multiply_adds(self, shape: tuple[int, ...]) -> int:
        """Return the multiply-adds of one pass for a sample."""


class Sharing(Protocol):
    """What comes between the backward pass and the update where processes share a batch."""

    gradient: Array  #: (P,), of the whole batch, after a call; always the same array

    def __call__(self, dw: Array, refused: bool = False) -> bool:
        """Make :attr:`gradient`; return whether all processes can take the step.

        Args:
            dw: (P,), the gradient of this process's part of the batch.
            refused: whether this process cannot take the step, so that dw has no meaning.

        Raises:
            Stopped: a process wants to stop.
        """


class Engine(ABC):
    """Executes training steps (gather, forward, loss, backward, update) and predictions.

    Loss, optimizer and metrics are those of :meth:`start_training`.
    """

    net: Net
    #: makes the gradient of a batch of that of this process's part; None where it has all of it.
    #: Set before :meth:`start_training`.
    sharing: Sharing | None = None
    #: what it remembers, name -> flat array; saved with a checkpoint.
    optimizer_state: dict[str, Array]

    def start_training(
        self,
        loss: Loss,
        optimizer: Optimizer,
        metrics: Sequence[Metric] = (),
        *,
        verbose: bool = False,
        profile: bool = False,
    ) -> None:
        """Take what the following training steps minimise and by which rule; it starts afresh.

        Args:
            loss: what is minimised.
            optimizer: the update rule.
            metrics: what is measured beside the loss.
            verbose: whether to say on standard error what takes long before the first step.
            profile: whether to measure the time of each part of a step, if the engine can.
        """
        self.loss, self.optimizer, self.metrics = loss, optimizer, metrics
        self._verbose, self._is_profiling = verbose, profile
        self._seconds: dict[str, float] = {}  # of all steps, by part
        self._steps = 0
        self._begin()

    @abstractmethod
    def _begin(self) -> None:
        """Do what there is to do before the first step."""

    @abstractmethod
    def start_epoch(self, totals: Totals) -> None:
        """Let the sums begin at ``totals``, which are zero unless an epoch is resumed."""

    @abstractmethod
    def train_step(self, x: Array, y: Targets, index: Values, step: int, lr: float) -> None:
        """Train on the samples ``x[index]`` and their targets, both as they are now.

        Args:
            x: (S, ...), all samples, in host memory or on the network's device.
            y: of all samples.
            index: (N,), int64, the batch.
            step: number of the step since the network was made, which selects dropout masks.
            lr: learning rate of this step.

        Raises:
            NonFiniteError: the loss or a gradient is not finite; nothing was changed.
        """

    @abstractmethod
    def totals(self) -> Totals:
        """Return a copy of the sums since the epoch started."""

    @abstractmethod
    def logits(self, x: Array, batch_size: int) -> Values:
        """Return the outputs of the last layer, (N, ...), computed ``batch_size`` at a time.

        Args:
            x: (N, ...), floating-point; an array or what gives arrays when it is sliced.
            batch_size: samples in memory at a time.
        """

    def measure(
        self,
        x: Array,
        targets: Targets,
        part: slice,
        loss: Loss,
        metrics: Sequence[Metric],
        batch_size: int,
    ) -> Totals | None:
        """Return the sums of a loss and figures over some samples, in inference mode.

        Args:
            x: (N, ...), floating-point, as of :meth:`logits`.
            targets: of all N.
            part: which samples.
            loss: what is measured first.
            metrics: what is measured beside it.
            batch_size: samples in memory at a time.

        Returns:
            The sums; None where it takes all outputs at once to tell.
        """
        return None

    @property
    def profile(self) -> dict[str, float]:
        """Seconds a training step of each of its parts by name, if they were measured."""
        return {name: seconds / max(self._steps, 1) for name, seconds in self._seconds.items()}

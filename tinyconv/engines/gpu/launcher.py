"""What the engine asks of a device. Nothing else of it knows what runs the kernels."""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np

from tinyconv.backend import Array, Values
from tinyconv.kernels.gpu.source import Instance, Launch


class Launcher(Protocol):
    """A device with memory, on which things happen in the order in which they are asked for.

    Attributes:
        free_bytes: of its memory.
    """

    @property
    def free_bytes(self) -> int:
        """Bytes that an array could take."""

    def empty(self, shape: Sequence[int], dtype: Any = np.float32) -> Array:
        """Return an array of the device, of any values."""

    def upload(self, values: Values) -> Array:
        """Return a copy on the device."""

    def write(self, array: Array, values: Any) -> None:
        """Write values of the host or of the device to an array, in turn with the launches."""

    def read(self, array: Array) -> Values:
        """Return a copy in the host's memory, when all that was launched before has ended."""

    def address(self, array: Array) -> int:
        """Return where an array begins in the device's memory."""

    def load(self, instances: Sequence[Instance]) -> Launch:
        """Compile families of kernels."""

    def run(self, function: Callable[[], None]) -> None:
        """Call a function that uses the arrays in turn with the launches."""

    def capture(self, function: Callable[[], None]) -> Callable[[], None]:
        """Return what makes the launches that a function makes, all at once; none is made now."""

"""Where the samples, the targets and the order of an epoch lie on the device."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from tinyconv.backend import Array, device_of
from tinyconv.engines.gpu.program import Launcher
from tinyconv.losses import Targets


def holds_bytes(x: Any) -> bool:
    """Whether samples are bytes that look like floats: :class:`tinyconv.data.ByteImages`."""
    return hasattr(x, "pixels")


@dataclass
class Sources:
    """Data sets on the device: uploaded once, and the order of an epoch once an epoch."""

    launcher: Launcher
    batch: int  #: samples at most

    def __post_init__(self) -> None:
        #: (4,) uint64 on the device: of samples, targets, order and weights of samples, 0 for none.
        #: Kernels look there, so that a graph serves any data.
        self.addresses = self.launcher.empty((4,), np.uint64)
        self._written: list[int] = []
        self.forget()

    def forget(self) -> None:
        """Upload data anew at the next batch: their owner may have changed them."""
        self._x: Any = None
        self._targets: Targets | None = None
        self._order: Any = None

    def place(self, x: Any, y: Targets, index: Array, targets: Any) -> int:
        """Have the samples ``x[index]`` and their targets on the device.

        Args:
            x: (S, ...), all samples.
            y: all targets.
            index: (N,), which of them are the batch.
            targets: the type as which kernels read targets; None if no kernel does.

        Returns:
            Where in the order on the device the batch begins.
        """
        if x is not self._x:
            self._x, self._order = x, None
            values = x.pixels if holds_bytes(x) else x
            is_far = device_of(values) == "gpu"
            self._is_staged = not is_far and values.nbytes > self.launcher.free_bytes // 2
            if not self._is_staged:
                self._samples = self._on_device(values, _type_of(x))
        if y is not self._targets:
            self._targets, self._order = y, None
            if targets is not None:
                self._set_targets(y, targets)
        if self._is_staged:
            return self._stage(x, y, index, targets)
        # The batches of an epoch are slices of one array, which is uploaded as a whole; any other
        # index is an order of one batch.
        base = index.base
        if not isinstance(base, np.ndarray) or base.dtype != np.int64 or base.ndim != 1:
            base = index = np.ascontiguousarray(index, np.int64)
        elif not base.flags.c_contiguous or not index.flags.c_contiguous:
            base = index = index.copy()
        if base is not self._order:
            self._order = base
            self._indices = self.launcher.upload(base)
            self._write(targets)
        return int(index.ctypes.data - base.ctypes.data) // 8

    def _stage(self, x: Any, y: Targets, index: Array, targets: Any) -> int:
        """Upload one batch of data that are too large for the device."""
        values = x.pixels[index] if holds_bytes(x) else x[index]
        self._samples = self._on_device(values, _type_of(x))
        if targets is not None:
            self._set_targets(y[index], targets)
        self._indices = self.launcher.upload(np.arange(len(index)))
        self._write(targets)
        return 0

    def _set_targets(self, y: Targets, dtype: Any) -> None:
        self._labels, self._weights = self._on_device(y.y, dtype), None
        if y.sample_weight is not None:
            self._weights = self._on_device(y.sample_weight, np.float32)

    def _on_device(self, values: Any, dtype: Any) -> Array:
        """Return samples or targets as the kernels read them."""
        if device_of(values) == "gpu":
            return values.astype(dtype, order="C", copy=False)
        return self.launcher.upload(np.ascontiguousarray(values, dtype))

    def _write(self, targets: Any) -> None:
        """Tell the kernels where things lie now."""
        labels = self._samples if targets is None else self._labels
        arrays = [self._samples, labels, self._indices]
        arrays += [] if targets is None or self._weights is None else [self._weights]
        addresses = [self.launcher.address(array) for array in arrays]
        addresses += [0] * (4 - len(addresses))
        if addresses != self._written:
            self._written = addresses
            self.launcher.write(self.addresses, np.array(addresses, np.uint64))


def _type_of(x: Any) -> Any:
    return np.uint8 if holds_bytes(x) else np.float32

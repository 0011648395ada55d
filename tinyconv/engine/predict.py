"""Prediction through a plan that is kept from call to call."""

import threading
from typing import Any

import numpy as np

from tinyconv.backend import Array
from tinyconv.engine.plan import ForwardPlan
from tinyconv.engine.thread_count import get_num_threads
from tinyconv.layers.container import Chain
from tinyconv.parameters import Parameters

__all__ = ["Predictor"]


class Predictor:
    """Maps any number of samples to logits, as ``net.forward`` would; float32 on the CPU.

    Args:
        net: the layers.
        parameters: of the layers, float32; read anew in every call.
    """

    def __init__(self, net: Chain, parameters: Parameters) -> None:
        self.net = net
        self.parameters = parameters
        self._plan: ForwardPlan | None = None
        self._output_shape: tuple[int, ...] = ()
        self._lock = threading.Lock()  # the buffers serve one call at a time

    def logits(self, x: Array, batch_size: int) -> np.ndarray[Any, Any]:
        """Return the outputs of the last layer, (N, ...), computed ``batch_size`` at a time.

        Args:
            x: (N, ...), floating-point; an array or what gives arrays when it is sliced.
            batch_size: samples in memory at a time.
        """
        N, shape = len(x), tuple(x.shape[1:])
        with self._lock:
            plan = self._plan
            batch, threads = max(1, min(batch_size, N)), get_num_threads()
            fits = plan is not None and plan.batch >= batch and plan.threads == threads
            if plan is None or not fits or plan.shape != shape:
                plan = ForwardPlan(self.net.layers, shape, self.parameters, batch, threads)
                self._plan, self._output_shape = plan, self.net.output_shape(shape)
            out = np.empty((N, *self._output_shape), np.float32)
            for first in range(0, N, batch_size):
                piece = np.ascontiguousarray(x[first : first + batch_size], np.float32)
                plan.run(piece, out[first : first + batch_size])
        return out

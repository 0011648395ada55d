"""What the tests of the op floor share: cases, numeric gradients, drawn geometries."""

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import array_api_strict
import numpy as np
from hypothesis import settings
from hypothesis import strategies as st

from tinyconv import ops

# Settings of every test that draws its geometries.
DRAWN = settings(deadline=None, max_examples=50, derandomize="CI" in os.environ)
DRAWN_FOR_ORACLE = settings(DRAWN, max_examples=200)


@dataclass(frozen=True)
class Case:
    """One op on one set of inputs.

    ``inputs`` are the arguments that are arrays; the gradients with respect to the first
    ``grads`` of them are what the backward function returns.
    """

    op: str
    inputs: tuple[np.ndarray, ...]
    options: dict[str, Any] = field(default_factory=dict)
    grads: int = 1
    analytic: bool = True  # the complex step applies
    per_sample: bool = True  # y[n] follows from x[n] alone
    names: tuple[str, ...] = ()  # of the inputs behind the first, where they go by keyword
    spreads: bool = True  # every element of y[n] depends on x[n], not on constants alone

    def __str__(self) -> str:
        shapes = "-".join("x".join(map(str, a.shape)) for a in self.inputs)
        options = ",".join(f"{k}={v}" for k, v in self.options.items() if k != "geometry")
        return f"{self.op}-{shapes}-{options}"

    def forward(self, *inputs: Any) -> tuple[Any, Any]:
        inputs = inputs or self.inputs
        if self.names:
            named = dict(zip(self.names, inputs[1:], strict=True))
            return getattr(ops, self.op)(inputs[0], **named, **self.options)
        return getattr(ops, self.op)(*inputs, **self.options)

    def backward(self, dy: Any, saved: Any) -> tuple[Any, ...]:
        """The gradients that are not None, always as a tuple."""
        result = getattr(ops, self.op + "_backward")(dy, saved)
        # A NamedTuple is no result of a backward; a plain tuple holds one gradient an input.
        return tuple(g for g in result if g is not None) if type(result) is tuple else (result,)


#: A device that stands in for a GPU: nothing on it becomes a NumPy array by itself, and nothing
#: made without ``device=`` goes with it.
FAR = array_api_strict.Device("device1")


def to_strict(array: np.ndarray, device: Any = None) -> Any:
    return array_api_strict.asarray(array.copy(), device=device)


def from_strict(array: Any) -> np.ndarray:
    return np.asarray(array.to_device(array_api_strict.Device("CPU_DEVICE")))


def random_like(y: Any, seed: int = 7) -> np.ndarray:
    """A random dy of the shape and dtype of y; never ones, which would hide transpositions."""
    y = np.asarray(y)
    return np.asarray(np.random.default_rng(seed).normal(size=y.shape), dtype=y.dtype)


def numeric_gradients(
    f: Callable[..., np.ndarray],
    inputs: tuple[np.ndarray, ...],
    dy: np.ndarray,
    grads: int,
    step: float = 1e-6,
) -> list[np.ndarray]:
    """Central differences of sum(dy * f(*inputs)) with respect to the first ``grads`` inputs."""
    result = []
    for which in range(grads):
        moved = [np.array(a) for a in inputs]
        gradient = np.zeros_like(inputs[which])
        for index in np.ndindex(gradient.shape):
            value = inputs[which][index]
            moved[which][index] = value + step
            above = np.array(f(*moved))  # flatten gives a view of what moves
            moved[which][index] = value - step
            below = np.array(f(*moved))
            moved[which][index] = value
            gradient[index] = np.sum((above - below) * dy) / (2 * step)
        result.append(gradient)
    return result


@st.composite
def windows(
    draw: st.DrawFn, axes: int = 2, dilated: bool = False, pooling: bool = False
) -> dict[str, Any]:
    """Draw sizes that fit each other: kernel, stride, padding, dilation, and the input's size.

    The pad of a pooling is at most half the kernel. Windows need not divide the input.
    """
    kernel, stride, padding, dilation, size = [], [], [], [], []
    for _ in range(axes):
        k = draw(st.integers(1, 4 if axes < 3 else 3))
        d = draw(st.integers(1, 3 if axes < 3 else 2)) if dilated else 1
        p = draw(st.integers(0, k // 2 if pooling else 3))
        covered = d * (k - 1) + 1
        least = max(1, covered - 2 * p)
        kernel.append(k)
        dilation.append(d)
        padding.append(p)
        stride.append(draw(st.integers(1, 4)))
        size.append(draw(st.integers(least, least + 6)))
    result = {
        "size": tuple(size),
        "kernel": tuple(kernel),
        "stride": tuple(stride),
        "padding": tuple(padding),
        "batch": draw(st.integers(1, 3)),
        "seed": draw(st.integers(0, 2**32 - 1)),
    }
    if dilated:
        result["dilation"] = tuple(dilation)
    return result

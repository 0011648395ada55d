"""Doors to other libraries. Each needs an extra of its own and imports it when it is used.

Where it is missing, that is an ImportError, whose text names the command to run.
"""

from importlib import import_module
from typing import Any

__all__ = ["jax", "keras", "onnx", "sklearn", "tensorboard", "torch"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        return import_module(f"tinyconv.interop.{name}")
    raise AttributeError(f"module 'tinyconv.interop' has no attribute {name!r}")

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


def require(module: str, extra: str) -> Any:
    """Import a module that an extra of the package installs.

    Args:
        module: its full name.
        extra: the extra that installs it.

    Raises:
        ImportError: it is not installed; the text names the command that installs it.

    >>> require("no_such_module", "onnx")
    Traceback (most recent call last):
    ImportError: no_such_module is not installed: pip install "tinyconv[onnx]"
    """
    try:
        return import_module(module)
    except ImportError as error:
        if error.name is None or not module.startswith(error.name):
            raise
        raise ImportError(f'{module} is not installed: pip install "tinyconv[{extra}]"') from None

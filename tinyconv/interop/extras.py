"""Packages that only one feature needs, and what to say where they are missing."""

from importlib import import_module
from typing import Any


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

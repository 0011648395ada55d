"""Docstrings as the site shows them: examples as code, names of other functions as code."""

import re
from importlib import import_module
from typing import Any

import griffe

__all__ = ["Docstrings", "tidy"]


def tidy(text: str) -> str:
    """Return a docstring with its examples in fences and without the roles of Sphinx."""
    text = re.sub(r":(?:func|mod|class|meth|data):`~?([^`]*)`", r"`\1`", text)
    # An example begins with a prompt and ends at an empty line.
    return re.sub(
        r"^( *)(>>> .*?)(?=\n[ ]*\n|\Z)",
        lambda match: f"{match[1]}```pycon\n{match[1]}{match[2].rstrip()}\n{match[1]}```",
        text,
        flags=re.MULTILINE | re.DOTALL,
    )


class Docstrings(griffe.Extension):
    """Tidies every docstring before the site renders it."""

    def on_object(self, *, obj: griffe.Object, **options: Any) -> None:
        """Tidy one, of whatever it is; those of operations are completed when they are imported."""
        if obj.docstring is None:
            return
        text = obj.docstring.value
        module = "" if obj.parent is None else obj.parent.path
        is_operation = obj.is_function and module.startswith("tinyconv.ops.")
        if is_operation and obj.parent is not None and obj.parent.is_module:
            made = getattr(import_module(module), obj.name.replace("_nd", "2d"), None)
            text = getattr(made, "__doc__", None) or text
        obj.docstring.value = tidy(text)

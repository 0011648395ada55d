"""Docstrings as the site shows them: examples as code, names of other functions as code."""

import re
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
        """Tidy one, of whatever it is."""
        if obj.docstring is not None:
            obj.docstring.value = tidy(obj.docstring.value)

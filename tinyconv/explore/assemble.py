"""One HTML file that needs nothing but itself: the template, the style, the modules, the data."""

import json
import re
from collections.abc import Sequence
from importlib.resources import files
from typing import Any

import numpy as np

from tinyconv.backend import Values
from tinyconv.explore.example import EXAMPLE, numbers
from tinyconv.explore.trained import pack
from tinyconv.network import Sequential

#: The modules in the order in which they need each other.
MODULES = tuple(
    f"{name}.mjs"
    for name in (
        *("ops", "chain", "notation", "colours", "places", "explain", "state", "steps"),
        *("morph", "panel", "hand", "layers", "trained", "check", "main"),
    )
)


def page(
    net: Sequential | None = None,
    x: Values | None = None,
    y: Sequence[int] = (),
    *,
    version: str = "",
) -> str:
    """Return the page as HTML.

    Args:
        net: a trained network to show beside the example that is worked out by hand.
        x: (N, C, H, W), images in [0, 1] to start from; needed with a network.
        y: (N,), their classes.
        version: said at the foot of the page.

    Raises:
        ArgumentError: the page cannot show a layer of the network.
        ShapeError: the images do not fit the network.

    >>> page().startswith("<!doctype html>")
    True
    """
    data: dict[str, Any] = {"example": EXAMPLE, "reference": numbers(EXAMPLE), "net": None}
    if net is not None:
        data["net"] = pack(net, np.zeros((0, 1, 1, 1)) if x is None else x, y)
    # In a script element only "</" would end the data early.
    text = json.dumps(data, separators=(",", ":")).replace("</", "<\\/")
    parts = {
        "/*{{style}}*/": _asset("style.css"),
        "{{version}}": version,
        "{{data}}": text,
        "{{script}}": "\n".join(_alone(name) for name in MODULES),
    }
    pattern = "|".join(map(re.escape, parts))
    return re.sub(pattern, lambda match: parts[match.group()], _asset("index.html"))


def _asset(name: str) -> str:
    return (files("tinyconv.explore") / "assets" / name).read_text(encoding="utf-8")


def _alone(name: str) -> str:
    """Return a module as a block that takes from the blocks before it, and gives to those after.

    A file opened from a disk cannot import others, so each module becomes a function in one script.
    """
    source = _asset(name)
    exported = re.findall(r"^export (?:const|function|class) (\w+)", source, re.MULTILINE)
    source = re.sub(r"^export (?=const|function|class)", "", source, flags=re.MULTILINE)
    import_ = r'^import (?:\* as (\w+)|(\{[^}]*\})) from "\./(\w+)\.mjs";'
    source = re.sub(import_, r"const \1\2 = module_\3;", source, flags=re.MULTILINE)
    stem = name.removesuffix(".mjs")
    return f"const module_{stem} = (() => {{\n{source}\nreturn {{ {', '.join(exported)} }};\n}})();"

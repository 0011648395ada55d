"""What all operations have in common, said once.

A docstring says what is particular to its operation. :func:`complete` adds, where they are not
there, the arguments that mean the same everywhere, what is returned, and the errors.
"""

import inspect
import re
from collections.abc import Callable
from typing import Any, get_args

from tinyconv.backend import Array

#: Arguments by name.
ARGUMENTS = {
    "dy": "of the shape of y.",
    "saved": "from the forward pass.",
    "y": "from the forward pass.",
    "shape": "of x, from the forward pass.",
    "x": "any shape, floating-point.",
    "kernel_size": "of the window, for all axes or for each.",
    "stride": "step between two windows, for all axes or for each; the kernel size if None.",
    "padding": "zeros on each side, less than the window: an integer, one for each axis, or a "
    "(before, after) pair for each.",
    "dilation": "distance between two elements of a window.",
    "ceil_mode": "round the output size up; the last windows may then reach beyond the padding.",
    "groups": "number of separate blocks of channels.",
    "eps": "keeps the divisor away from 0.",
    "targets": "of the shape and dtype of x.",
    "sample_weight": "(N,), w, of the dtype of x, not negative; None for 1.",
}
#: Errors by name.
ERRORS = {
    "ShapeError": "the shapes do not fit.",
    "ArgumentError": "a weight is negative.",
    "DtypeError": "an array is not floating-point, or not of the dtype of the others.",
    "DeviceError": "the arrays are not of one library.",
}
#: What differs in the forward pass of a pooling.
OF_POOL = {
    "x": "(N, C, H, W), floating-point.",
    "ShapeError": "x does not have four axes, or the window does not fit.",
}
#: What differs in the backward pass of a loss, whose dy may be a Python number.
OF_LOSS = {
    "dy": "the gradient with respect to the loss, without axes.",
    "ShapeError": "dy has axes.",
    "DeviceError": "dy is an array of another library than x was.",
}


def complete(function: Callable[..., Any]) -> None:
    """Add to the docstring of an operation what it shares with others.

    >>> def halve(x: Array) -> Array:
    ...     '''Return ``x / 2``.
    ...
    ...     >>> halve(4)
    ...     2.0
    ...     '''
    >>> complete(halve)
    >>> print(halve.__doc__.partition(">>>")[0])
    Return ``x / 2``.
    <BLANKLINE>
    Args:
        x: any shape, floating-point.
    <BLANKLINE>
    Returns:
        y, of the shape of x, and what :func:`halve_backward` needs.
    <BLANKLINE>
    Raises:
        DtypeError: an array is not floating-point, or not of the dtype of the others.
    <BLANKLINE>
    <BLANKLINE>
    """
    if function.__doc__ is None:  # python -OO
        return
    text = inspect.cleandoc(function.__doc__)
    found = {name: _section(text, name) for name in ("Args", "Returns", "Raises")}
    for section in found.values():
        text = text.replace(section, "").replace("\n\n\n\n", "\n\n")
    parameters = inspect.signature(function).parameters
    is_backward = function.__name__.endswith("_backward")
    is_pool, is_loss = "kernel_size" in parameters, "sample_weight" in parameters
    words = ARGUMENTS | ERRORS | (OF_POOL if is_pool else {})
    if is_loss:
        words["x"] = "(N, ...), floating-point."
    if is_backward and float in get_args(parameters["dy"].annotation):
        words |= OF_LOSS
    elif is_backward:
        words["ShapeError"] = "dy does not have the shape of y."
    arrays = [name for name, each in parameters.items() if each.annotation in (Array, Array | None)]
    raised = ["ShapeError"] if is_backward else ["DtypeError"]
    if is_loss:
        raised = ["ShapeError", "ArgumentError", "DtypeError"]
    if is_pool:
        raised = ["ShapeError", "DtypeError"]
    if len(arrays) > 1 or words["DeviceError"] != ERRORS["DeviceError"]:
        raised.append("DeviceError")
    returned = "dx, of the shape of x."
    if not is_backward:
        y = "y (N, C, OH, OW)" if is_pool else "y, of the shape of x"
        y = "The loss, an array without axes (0 for an empty batch)" if is_loss else y
        returned = f"{y}, and what :func:`{function.__name__}_backward` needs."
    parts = (
        _filled(found["Args"], "Args", list(parameters), words),
        found["Returns"] or f"Returns:\n    {returned}",
        _filled(found["Raises"], "Raises", raised, words),
    )
    before, examples = re.match(r"(.*?)(\n\n>>> .*)?\Z", text.rstrip(), re.DOTALL).groups()  # type: ignore[union-attr]
    before, *source = before.rstrip().partition("\n\nSource: ")
    sections = "\n\n".join(part.rstrip() for part in parts)
    function.__doc__ = f"{before}\n\n{sections}{''.join(source)}{examples or ''}\n"


def _section(text: str, name: str) -> str:
    """Return a section with its heading; nothing if there is none."""
    match = re.search(rf"^{name}:\n(?:    .*\n?|\n(?=    ))*", text, re.MULTILINE)
    return match[0] if match else ""


def _filled(section: str, heading: str, names: list[str], words: dict[str, str]) -> str:
    """Return a section with an entry for each name: its own, or else the common one."""
    entries = dict(re.findall(r"^    (\w+): ((?:.*\n?)(?:        .*\n?)*)", section, re.MULTILINE))
    common = {name: words[name] for name in names if name in words}
    order = [*names, *(name for name in entries if name not in names)]
    chosen = common | entries
    lines = (f"    {name}: {chosen[name].rstrip()}" for name in order if name in chosen)
    return "\n".join([f"{heading}:", *lines])

"""How messages show a value, and which known name they think was meant."""

import difflib
import inspect
import reprlib
from collections.abc import Iterable, Mapping
from typing import Any

from tinyconv.spellings import OTHER_ARGUMENTS, OTHER_VALUES

#: Writes values whose full text would be long, or without end.
_SHORT = reprlib.Repr()
_SHORT.maxlevel, _SHORT.maxlist, _SHORT.maxtuple, _SHORT.maxdict = 3, 8, 8, 4
_SHORT.maxstring, _SHORT.maxlong, _SHORT.maxother = 60, 40, 80


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Return the known name that ``name`` was probably meant to be; None if none is near.

    >>> nearest("Relu", ["ReLU", "Tanh"]), nearest("transformer", ["ReLU", "Tanh"])
    ('ReLU', None)
    >>> nearest("mean_squared_error", ["l1", "mse"])
    'mse'
    """
    by_lower = {each.lower(): each for each in known}
    written = str(name).lower()
    for ours in OTHER_VALUES.get(written, ()):
        if ours in by_lower:
            return by_lower[ours]
    near = difflib.get_close_matches(written, by_lower, 1)
    if not near:  # an abbreviation, theirs or ours, of three letters or more
        near = [n for n in by_lower if n.startswith(written) or written.startswith(n)]
        near = [n for n in near if min(len(n), len(written)) > 2]
    return by_lower[near[0]] if near else None


def hint(value: Any, known: Iterable[str]) -> str:
    """Return the end of a message about a value that is none of the known names.

    >>> hint("Adem", ["sgd", "adam"]), hint(0.1, ["sgd", "adam"]), hint(dict, [])
    ("; the nearest is 'adam'", '', '; pass an object: dict(...)')
    """
    if isinstance(value, type):
        return f"; pass an object: {value.__name__}(...)"
    near = nearest(value, known) if isinstance(value, str) else None
    return f"; the nearest is {near!r}" if near else ""


def missing(owner: str, name: str, others: Mapping[str, str], known: Iterable[str]) -> str:
    """Return the message for a name that ``owner`` does not have.

    >>> missing("tinyconv", "Dense", {"Dense": "Linear(in_features, out_features)"}, [])
    "tinyconv has no attribute 'Dense'; instead: Linear(in_features, out_features)"
    >>> missing("tinyconv", "Relu", {}, ["ReLU"])
    "tinyconv has no attribute 'Relu'; the nearest is 'ReLU'"
    """
    text = f"{owner} has no attribute {name!r}"
    if name in others:
        return f"{text}; instead: {others[name]}"
    return text + hint(name, [each for each in known if not each.startswith("_")])


def shown(value: Any) -> str:
    """Return a value as a message shows it, which is short.

    >>> import numpy as np
    >>> shown("zeros"), shown(np.zeros((2, 3))), shown([0] * 100)
    ("'zeros'", 'an array of shape (2, 3)', '[0, 0, 0, 0, 0, 0, 0, 0, ...]')
    """
    shape = getattr(value, "shape", None)
    if isinstance(shape, tuple) and shape:
        return f"an array of shape {tuple(shape)}"
    if isinstance(value, type):
        return f"the class {value.__name__}"
    if inspect.isroutine(value):
        return f"the function {value.__name__}"
    try:
        text = _SHORT.repr(value)
        return f"a {type(value).__name__}" if " object at 0x" in text else text
    except Exception:  # a foreign object's; the message is about another mistake
        return f"a {type(value).__name__}"


def unfitting(signature: inspect.Signature, args: Any, kwargs: Mapping[str, Any]) -> str:
    """Say in a sentence why arguments do not fit a signature."""
    given = list(signature.parameters.values())
    is_method = bool(given) and given[0].name in ("self", "cls")
    takes_all = any(p.kind is p.VAR_KEYWORD for p in given)
    parameters = {
        p.name: p for p in given[is_method:] if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
    }
    names = list(parameters)
    for name in kwargs:
        if name not in parameters and not takes_all:
            return f"there is no argument {name!r}; {_instead(name, names)}"
    args = args[is_method:]
    places = [name for name, p in parameters.items() if p.kind is not p.KEYWORD_ONLY]
    if len(args) > len(places):
        rest = [name for name in names if name not in places]
        by_name = f"; by name only: {', '.join(rest)}" if rest else ""
        return f"{len(args)} arguments came, expected {', '.join(places) or 'none'}{by_name}"
    for name in kwargs:
        if name in places[: len(args)]:
            return f"{name} came twice, at its place and by name"
    absent = [
        name
        for name, p in parameters.items()
        if p.default is p.empty and name not in kwargs and name not in places[: len(args)]
    ]
    more = ""
    if args and names[0].startswith("in_"):
        more = f"; for {names[0]}, None takes it from the first input"
    return f"{' and '.join(absent)} missing; the arguments are {', '.join(names)}{more}"


def _instead(name: str, names: list[str]) -> str:
    other = OTHER_ARGUMENTS.get(name)
    for each in other or ():
        if each in names:
            return f"it is called {each!r} here"
        if " " in each:
            return each
    near = nearest(name, names)
    if near:
        return f"the nearest is {near!r}"
    return f"the arguments are {', '.join(names)}" if names else "it takes none"

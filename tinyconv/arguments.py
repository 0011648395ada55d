"""What an argument may be: said in the signature, checked where it comes in.

A function, a constructor or a dataclass that is :func:`checked` states the type and the range of
its arguments by their annotations, and has nothing to check itself:

>>> @checked
... def drop(p: Share = 0.5, *, mode: Annotated[str, OneOf("zero", "mean")] = "zero") -> float:
...     return p
>>> drop(np.float32(0.25))
0.25
>>> drop(1.5)
Traceback (most recent call last):
tinyconv.errors.ArgumentError: drop: p is 1.5, expected a number of at least 0 and below 1
>>> drop(mode="means")
Traceback (most recent call last):
tinyconv.errors.ArgumentError: drop: mode is 'means', expected 'zero' or 'mean'; the nearest is
'mean'
>>> drop(rate=0.5)
Traceback (most recent call last):
tinyconv.errors.ArgumentError: drop: there is no argument 'rate'; it is called 'p' here

``bool``, ``int`` and ``float`` say their type; :class:`Number`, :class:`OneOf`, :class:`Kind` and
:class:`FilePath` in an ``Annotated`` say more. NumPy's numbers are taken for Python's, and become
them. Any other annotation is left to the function: shapes, for one, to :mod:`tinyconv.geometry`.
"""

import difflib
import functools
import inspect
import operator
import os
import reprlib
import types
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from math import inf, isfinite
from typing import Annotated, Any, Protocol, TypeVar, Union, get_args, get_origin

import numpy as np

from tinyconv.errors import ArgumentError
from tinyconv.spellings import OTHER_ARGUMENTS, OTHER_VALUES

__all__ = [
    "Count",
    "FilePath",
    "Fraction",
    "Kind",
    "Natural",
    "NotNegative",
    "Number",
    "Numbers",
    "OneOf",
    "Positive",
    "Share",
    "check_fields",
    "checked",
    "hint",
    "integer",
    "missing",
    "nearest",
    "shown",
]

T = TypeVar("T", bound=Callable[..., Any])


class Rule(Protocol):
    """What is asked of an argument."""

    @property
    def expected(self) -> str:
        """What is asked, to stand after "expected"."""

    def take(self, value: Any) -> Any:
        """Return what the function is to get for ``value``.

        Raises:
            ValueError: it is not what is asked. A text adds to the message.
        """


@dataclass(frozen=True)
class Number:
    """A finite number in a range; ``whole`` for an integer."""

    whole: bool = False
    least: float = -inf
    above: float = -inf
    most: float = inf
    below: float = inf

    @property
    def expected(self) -> str:  # noqa: D102
        bounds = [
            f"{words} {bound:g}"
            for words, bound in (
                ("of at least", self.least),
                ("above", self.above),
                ("at most", self.most),
                ("below", self.below),
            )
            if isfinite(bound)
        ]
        kind = "an integer" if self.whole else "a number"
        return f"{kind} {' and '.join(bounds)}".strip()

    def take(self, value: Any) -> Any:  # noqa: D102
        number = integer(value) if self.whole else _real(value)
        if number is None or not isfinite(number):
            raise ValueError
        if not (self.least <= number <= self.most and self.above < number < self.below):
            raise ValueError
        return number


@dataclass(frozen=True)
class Numbers(Number):
    """A list, a tuple or an array of such numbers; what comes is a list."""

    @property
    def expected(self) -> str:  # noqa: D102
        return super().expected.replace("a number", "numbers").replace("an integer", "integers")

    def take(self, value: Any) -> Any:  # noqa: D102
        if not isinstance(value, list | tuple | np.ndarray) or np.ndim(value) != 1:
            raise ValueError
        return [super(Numbers, self).take(each) for each in value]


@dataclass(frozen=True, init=False)
class OneOf:
    """One of some names."""

    names: tuple[str, ...]

    def __init__(self, *names: str) -> None:
        object.__setattr__(self, "names", names)

    @property
    def expected(self) -> str:  # noqa: D102
        *first, last = map(repr, self.names)
        return f"{', '.join(first)} or {last}" if first else last

    def take(self, value: Any) -> Any:  # noqa: D102
        if not isinstance(value, str):
            raise ValueError
        if value not in self.names:
            raise ValueError(hint(value, self.names))
        return value


@dataclass(frozen=True)
class Kind:
    """An object of a class."""

    type: type
    expected: str

    def take(self, value: Any) -> Any:  # noqa: D102
        if not isinstance(value, self.type):
            raise ValueError
        return value


@dataclass(frozen=True)
class FilePath:
    """A path, as text or an object; not the empty one, which is the current folder."""

    expected: str = "a path"

    def take(self, value: Any) -> Any:  # noqa: D102
        if not isinstance(value, str | os.PathLike) or not os.fspath(value) or "\0" in str(value):
            raise ValueError
        return value


class _Flag:
    """True or False; no other number stands for them."""

    expected = "True or False"

    def take(self, value: Any) -> Any:
        if not isinstance(value, bool | np.bool_):
            raise ValueError
        return bool(value)


Count = Annotated[int, Number(whole=True, least=1)]
Natural = Annotated[int, Number(whole=True, least=0)]
Positive = Annotated[float, Number(above=0)]
NotNegative = Annotated[float, Number(least=0)]
#: A share that must not be all: 0 <= p < 1.
Share = Annotated[float, Number(least=0, below=1)]
Fraction = Annotated[float, Number(least=0, most=1)]

_PLAIN: dict[Any, Rule] = {
    bool: _Flag(),
    int: Number(whole=True),
    float: Number(),
    str: Kind(str, "a text"),
}


#: Writes values whose full text would be long, or without end.
_SHORT = reprlib.Repr()
_SHORT.maxlevel, _SHORT.maxlist, _SHORT.maxtuple, _SHORT.maxdict = 3, 8, 8, 4
_SHORT.maxstring, _SHORT.maxlong, _SHORT.maxother = 60, 40, 80


def integer(value: Any) -> int | None:
    """Return a Python integer for one of Python's or NumPy's; None for anything else.

    >>> integer(np.int64(3)), integer(True), integer(3.0)
    (3, None, None)
    """
    if isinstance(value, bool | np.bool_ | np.ndarray):
        return None
    try:
        return operator.index(value)
    except TypeError:
        return None


def _real(value: Any) -> float | None:
    if isinstance(value, bool | np.bool_) or not isinstance(
        value, int | float | np.integer | np.floating
    ):
        return None
    try:
        return float(value)
    except OverflowError:
        return inf


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

    >>> hint("Adem", ["sgd", "adam"]), hint(0.1, ["sgd", "adam"])
    ("; the nearest is 'adam'", '')
    """
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
    return text + hint(name, known)


def shown(value: Any) -> str:
    """Return a value as a message shows it, which is short.

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


def checked(target: T) -> T:
    """Check the arguments of every call against the annotations of ``target``.

    Args:
        target: a function, a method, or a class, whose constructor is meant.

    Raises:
        ArgumentError: (in the calls) an argument is not what its annotation says, is missing, or
            is not known.
    """
    if isinstance(target, type):
        constructor: Callable[..., None] = vars(target).get("__init__", object.__init__)
        setattr(target, "__init__", checked(constructor))  # noqa: B010
        return target
    signature = inspect.signature(target)
    rules = {
        name: rule
        for name, parameter in signature.parameters.items()
        if (rule := _rule(parameter.annotation)) is not None
    }

    kinds = {parameter.kind for parameter in signature.parameters.values()}
    names = list(signature.parameters)
    places = names[: sum(p.kind is p.POSITIONAL_OR_KEYWORD for p in signature.parameters.values())]
    is_plain = kinds <= {inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY}
    known = frozenset(names) if is_plain else frozenset()
    needed = {n for n, p in signature.parameters.items() if p.default is inspect.Parameter.empty}

    def named(args: Any, kwargs: Any) -> dict[str, Any] | None:
        """Return the arguments by name, None where Python's own rules must be asked."""
        given = dict(zip(places, args, strict=False)) | kwargs
        fits = len(given) == len(args) + len(kwargs) and needed <= given.keys() <= known
        return given if fits else None

    def take(args: Any, kwargs: Any) -> Any:
        op = type(args[0]).__name__ if target.__name__ == "__init__" else target.__name__
        given = named(args, kwargs)  # a tenth of the time of ``bind``
        bound: Any = None
        if given is None:
            try:
                bound = signature.bind(*args, **kwargs)
            except TypeError:
                raise ArgumentError(f"{op}: {_unbound(signature, args, kwargs)}") from None
            given = bound.arguments
        for name, value in given.items():
            if name in rules:
                given[name] = _taken(op, name, value, *rules[name])
        return ((), given) if bound is None else (bound.args, bound.kwargs)

    def call(*args: Any, **kwargs: Any) -> Any:
        positional, by_name = take(args, kwargs)
        return target(*positional, **by_name)

    # With the globals of the target, of which ``call`` needs none: doctest skips a function whose
    # globals are another module's.
    own = types.FunctionType(call.__code__, target.__globals__, closure=call.__closure__)
    return functools.update_wrapper(own, target)  # type: ignore[return-value]


def check_fields(thing: Any) -> None:
    """Check the fields of a dataclass against their annotations, from its ``__post_init__``.

    So the constants are checked of a class that a user derives, whoever writes its constructor.

    Raises:
        ArgumentError: one is not what its annotation says.

    >>> @dataclass(frozen=True)
    ... class Noise:
    ...     scale: Positive
    ...     def __post_init__(self):
    ...         check_fields(self)
    >>> Noise(-1)
    Traceback (most recent call last):
    tinyconv.errors.ArgumentError: Noise: scale is -1, expected a number above 0
    """
    op = type(thing).__name__
    for field in fields(thing):
        rule = _rule(field.type)
        if rule is not None:
            value = _taken(op, field.name, getattr(thing, field.name), *rule)
            object.__setattr__(thing, field.name, value)


def _taken(op: str, name: str, value: Any, rule: Rule, optional: bool) -> Any:
    if value is None and optional:
        return value
    try:
        return rule.take(value)
    except ValueError as more:
        raise ArgumentError(
            f"{op}: {name} is {shown(value)}, expected {rule.expected}{' or None' * optional}{more}"
        ) from None


def _rule(annotation: Any) -> tuple[Rule, bool] | None:
    """Return the rule of an annotation and whether None is taken too; None for no rule."""
    if get_origin(annotation) in (Union, types.UnionType):
        given = get_args(annotation)
        others = [each for each in given if each is not type(None)]
        rule = _rule(others[0]) if len(others) == 1 else None
        return None if rule is None else (rule[0], len(others) < len(given))
    if get_origin(annotation) is Annotated:
        inner, *marks = get_args(annotation)
        optional = type(None) in get_args(inner)
        for mark in marks:
            if hasattr(mark, "take"):
                return mark, optional
    plain = _PLAIN.get(annotation)
    return None if plain is None else (plain, False)


def _unbound(signature: inspect.Signature, args: Any, kwargs: Mapping[str, Any]) -> str:
    """Say in a sentence why arguments do not fit a signature."""
    parameters = {
        name: p
        for name, p in signature.parameters.items()
        if name != "self" and p.kind is not p.VAR_POSITIONAL
    }
    names = list(parameters)
    for name in kwargs:
        if name not in parameters:
            return f"there is no argument {name!r}; {_instead(name, names)}"
    args = args["self" in signature.parameters :]
    places = [name for name, p in parameters.items() if p.kind is not p.KEYWORD_ONLY]
    if len(args) > len(places):
        rest = [name for name in names if name not in places]
        by_name = f"; by name only: {', '.join(rest)}" if rest else ""
        return f"{len(args)} arguments came, expected {', '.join(places) or 'none'}{by_name}"
    for name in kwargs:
        if name in places[: len(args)]:
            return f"{name} came twice, at its place and by name"
    missing = [
        name
        for name, p in parameters.items()
        if p.default is p.empty and name not in kwargs and name not in places[: len(args)]
    ]
    hint = ""
    first = names[0]
    if args and first.startswith("in_"):
        hint = f"; for {first}, None takes it from the first input"
    return f"{' and '.join(missing)} missing; the arguments are {', '.join(names)}{hint}"


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

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
:class:`FilePath` in an ``Annotated`` say more, and so does a class of this library. NumPy's numbers
are taken for Python's, and become them. Any other annotation is left to the function: shapes, for
one, to :mod:`tinyconv.geometry`.
"""

import functools
import inspect
import operator
import os
import types
from collections.abc import Callable
from dataclasses import dataclass, fields
from math import inf, isfinite
from typing import Annotated, Any, Protocol, TypeVar, Union, get_args, get_origin

import numpy as np

from tinyconv.errors import ArgumentError
from tinyconv.messages import hint, shown, unfitting

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
    """A list, a tuple, a range or an array of such numbers; what comes is a list."""

    @property
    def expected(self) -> str:  # noqa: D102
        return super().expected.replace("a number", "numbers").replace("an integer", "integers")

    def take(self, value: Any) -> Any:  # noqa: D102
        if not isinstance(value, list | tuple | range | np.ndarray) or np.ndim(value) != 1:
            raise ValueError
        return [super(Numbers, self).take(each) for each in value]


class OneOf:
    """One of some names or integers."""

    def __init__(self, *names: str | int) -> None:
        self.names: tuple[Any, ...] = names

    @property
    def expected(self) -> str:  # noqa: D102
        *first, last = map(repr, self.names)
        return f"{', '.join(first)} or {last}" if first else last

    def take(self, value: Any) -> Any:  # noqa: D102
        taken = value if isinstance(value, str) else integer(value)
        if taken not in self.names:
            raise ValueError(hint(value, map(str, self.names)))
        return taken


@dataclass(frozen=True)
class Fitting:
    """What a function finds good; ``become`` makes of it what is taken."""

    expected: str
    fits: Callable[[Any], bool]
    become: Callable[[Any], Any] = lambda value: value

    def take(self, value: Any) -> Any:  # noqa: D102
        if not self.fits(value):
            raise ValueError
        return self.become(value)


def Kind(kind: type | types.UnionType, expected: str) -> Rule:
    """An object of a class."""
    return Fitting(expected, lambda value: isinstance(value, kind))


def Switch() -> Rule:
    """True or False; also 0, 1 or 2, by which other libraries say how much is to be printed."""
    kinds = int | np.integer | np.bool_
    return Fitting("True or False", lambda v: isinstance(v, kinds) and v in (0, 1, 2), bool)


def FilePath(expected: str = "a path") -> Rule:
    """A path, as text or an object; not the empty one, which is the current folder."""

    def fits(value: Any) -> bool:
        is_path = isinstance(value, str | os.PathLike) and bool(os.fspath(value))
        return is_path and "\0" not in str(value)

    return Fitting(expected, fits)


def Printable() -> Rule:
    """A text without control characters."""
    return Fitting("a text that can be printed", lambda v: isinstance(v, str) and v.isprintable())


class Function:
    """A function that can be called with so many arguments, whatever it calls them."""

    def __init__(self, *arguments: str, such_as: str = "") -> None:
        self.arguments, self.such_as = arguments, such_as

    @property
    def expected(self) -> str:  # noqa: D102
        start = f"one such as {self.such_as}, or another" if self.such_as else "a"
        return f"{start} function of ({', '.join(self.arguments)})"

    def take(self, value: Any) -> Any:  # noqa: D102
        if isinstance(value, type) or not callable(value):
            raise ValueError
        try:
            signature = inspect.signature(value)
        except ValueError:  # of a function in C, which does not say
            return value
        try:
            signature.bind(*self.arguments)
        except TypeError:
            raise ValueError(f"; it takes {signature}") from None
        return value


Count = Annotated[int, Number(whole=True, least=1)]
Natural = Annotated[int, Number(whole=True, least=0)]
Positive = Annotated[float, Number(above=0)]
NotNegative = Annotated[float, Number(least=0)]
#: A share that must not be all: 0 <= p < 1.
Share = Annotated[float, Number(least=0, below=1)]
Fraction = Annotated[float, Number(least=0, most=1)]

_PLAIN: dict[Any, Rule] = {
    bool: Fitting("True or False", lambda v: isinstance(v, bool | np.bool_), bool),
    int: Number(whole=True),
    float: Number(),
    str: Kind(str, "a text"),
}


def integer(value: Any) -> int | None:
    """Return a Python integer for one of Python's or NumPy's; None for anything else.

    >>> integer(np.int64(3)), integer(True), integer(3.0)
    (3, None, None)
    """
    if type(value) is int:
        return value
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
        if parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
        and (rule := _rule(parameter.annotation)) is not None
    }

    kinds = {parameter.kind for parameter in signature.parameters.values()}
    names = list(signature.parameters)
    places = names[: sum(p.kind is p.POSITIONAL_OR_KEYWORD for p in signature.parameters.values())]
    is_plain = kinds <= {inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY}
    needed = {n for n, p in signature.parameters.items() if p.default is inspect.Parameter.empty}
    is_constructor = target.__name__ == "__init__"
    #: What is checked of a call with so many arguments by place and these by name, which takes a
    #: tenth of the time of ``bind``: where it stands, its name, its rule, and the number that was
    #: good last, at first ``rules``, which nobody passes.
    forms: dict[tuple[Any, ...], list[Any]] = {}

    def learn(form: tuple[Any, ...]) -> bool:
        """Keep the form of a call; return False where Python's own rules must be asked."""
        count, *by_name = form
        given = [*places[:count], *by_name]
        fits = is_plain and count + len(by_name) == len(given) == len(set(given))
        if not (fits and needed <= set(given) <= set(names)):
            return False
        spots = enumerate(given)
        forms[form] = [[i if i < count else n, n, *rules[n], rules] for i, n in spots if n in rules]
        return True

    def take(args: Any, kwargs: Any) -> Any:
        op = type(args[0]).__name__ if is_constructor else target.__name__
        form = len(args), *kwargs
        if form in forms or learn(form):
            given = args
            for known in forms[form]:
                spot, name, rule, optional, good = known
                values = kwargs if isinstance(spot, str) else given
                if values[spot] is good:
                    continue
                taken = _taken(op, name, values[spot], rule, optional)
                if type(taken) is int:  # which nobody can change
                    known[-1] = taken
                if taken is not values[spot]:
                    if values is args:
                        values = given = list(args)
                    values[spot] = taken
            return given, kwargs
        try:
            bound = signature.bind(*args, **kwargs)
        except TypeError:
            raise ArgumentError(f"{op}: {unfitting(signature, args, kwargs)}") from None
        for name in rules:
            if name in bound.arguments:
                bound.arguments[name] = _taken(op, name, bound.arguments[name], *rules[name])
        return bound.args, bound.kwargs

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
    is_class = isinstance(annotation, type) and not getattr(annotation, "_is_protocol", False)
    if is_class and annotation.__module__.startswith("tinyconv."):
        article = "an" if annotation.__name__[0] in "AEIOU" else "a"
        return Kind(annotation, f"{article} {annotation.__name__}"), False
    plain = _PLAIN.get(annotation)
    return None if plain is None else (plain, False)

"""Classes that a file may name, and objects as a name with arguments."""

import inspect
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from typing import Any, Generic, TypeVar

from tinyconv.errors import ArgumentError, FileError, StateError
from tinyconv.messages import hint, shown

T = TypeVar("T")


class Registry(dict[str, type[T]], Generic[T]):
    """Name -> class: nothing else is ever constructed from a file.

    Args:
        base: of all the classes.
        kinds: those that the library brings.
        short_names: what an argument may be in place of an object, and what makes one of it.
        such_as: an object, as it is written.

    Attributes:
        built_in: the names of those that the library brings.

    >>> kinds = Registry(int, [bool], {"no": bool}, such_as="bool(1)")
    >>> kinds.make("bool", {}), kinds.name_of(True), kinds.of("demo", "no")
    (False, 'bool', False)
    >>> kinds.make("Fraction", {})
    Traceback (most recent call last):
    tinyconv.errors.FileError: unknown int 'Fraction'; if it is a class of your own, import it
    and decorate it with @tinyconv.register before loading
    >>> kinds.of("demo", "not")
    Traceback (most recent call last):
    tinyconv.errors.ArgumentError: demo: int is 'not', expected an object such as bool(1) or one of
    'no'; the nearest is 'no'
    """

    def __init__(
        self,
        base: Any,
        kinds: Iterable[type[T]],
        short_names: Mapping[str, Callable[[], T]] | None = None,
        such_as: str = "",
    ) -> None:
        super().__init__({kind.__name__: kind for kind in kinds})
        self.base, self.what, self.built_in = base, base.__name__.lower(), tuple(self)
        self.short_names, self.such_as = dict(short_names or {}), such_as

    def add(self, kind: type[T]) -> None:
        """Let files name a class; again after its source was run again, in a notebook say.

        Raises:
            ArgumentError: the name is taken, or it is of a class inside a function.
        """
        name = kind.__name__
        known = self.get(name)
        if name in self.built_in and known is not kind:
            raise ArgumentError(
                f"register: {name} is the name of a {self.what} of the library; name yours "
                "otherwise, since files name it"
            )
        if known not in (None, kind) and _place(known) != _place(kind):
            raise ArgumentError(
                f"register: there is a {self.what} {name} of {_place(known)} already, "
                f"and this one is of {_place(kind)}"
            )
        self[name] = kind

    def of(self, op: str, given: T | str) -> T:
        """Return what an argument of ``op`` means: an object, or one by its name.

        Raises:
            ArgumentError: there is none of that name, it needs arguments, or it is no such object.
        """
        if isinstance(given, self.base):
            found: T = given
            return found
        known: dict[Any, Callable[[], T]] = {**self, **self.short_names}
        if not isinstance(given, str) or given not in known:
            near = hint(given, self.short_names) or hint(given, self)
            raise ArgumentError(
                f"{op}: {self.what} is {shown(given)}, expected an object such as {self.such_as} "
                f"or one of {', '.join(map(repr, self.short_names))}{near}"
            )
        try:
            return known[given]()
        except TypeError:
            arguments = self.such_as.partition("(")[2]
            raise ArgumentError(
                f"{op}: {given} needs arguments; expected an object, such as {given}({arguments}"
            ) from None

    def name_of(self, thing: T) -> str:
        """Return the name under which a file may hold an object.

        Raises:
            StateError: its class was not registered.
        """
        name = type(thing).__name__
        if self.get(name) is not type(thing):
            raise StateError(
                f"save: the {self.what} {name} is not registered, so its file could not be loaded; "
                f"decorate the class with @tinyconv.register, or call tinyconv.register({name})"
            )
        return name

    def make(self, name: str, config: Mapping[str, Any]) -> T:
        """Construct an object from its name and arguments.

        Raises:
            FileError: there is none of that name, or it does not take such arguments.
        """
        if name not in self:
            raise FileError(
                f"unknown {self.what} {name!r}; if it is a class of your own, import it and "
                "decorate it with @tinyconv.register before loading"
            )
        try:
            return self[name](**config)
        except (TypeError, ValueError) as error:
            raise FileError(f"{self.what} {name} does not take {shown(config)}: {error}") from None


def _place(kind: Any) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


def arguments_of(thing: Any) -> dict[str, Any]:
    """Return the arguments that construct an object again: attributes of the same names.

    Raises:
        StateError: an argument of the constructor is no attribute.

    >>> class Scale:
    ...     def __init__(self, factor, bias=0):
    ...         self.factor, self.bias = factor, bias
    >>> arguments_of(Scale(3))
    {'factor': 3, 'bias': 0}
    """
    found = {}
    for argument in names_of_arguments(type(thing).__init__):
        if not hasattr(thing, argument):
            raise StateError(
                f"{type(thing).__name__}: the argument {argument!r} of its constructor is kept in "
                f"no attribute of that name; keep it, or override config()"
            )
        found[argument] = getattr(thing, argument)
    return found


class Described:
    """What layers and losses share: the arguments that construct one again."""

    def config(self) -> dict[str, Any]:
        """Return the arguments that construct it again; JSON, and of layers layers, can hold them.

        Those of the constructor, from attributes of the same names, unless overridden.
        """
        return arguments_of(self)

    def __repr__(self) -> str:
        arguments = ", ".join(f"{name}={value!r}" for name, value in self.config().items())
        return f"{type(self).__name__}({arguments})"


@cache
def names_of_arguments(constructor: Any) -> tuple[str, ...]:
    """Return the names of a constructor's arguments, but for ``*args`` and ``**kwargs``."""
    if constructor is object.__init__:
        return ()
    _, *parameters = inspect.signature(constructor).parameters.values()
    return tuple(p.name for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD))

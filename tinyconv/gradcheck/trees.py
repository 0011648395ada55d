"""Nests of tuples, lists and dicts: taken apart into leaves with names, and put together again."""

from collections.abc import Iterable, Iterator
from typing import Any

__all__ = ["leaves_like", "leaves_of", "rebuild"]


def leaves_of(tree: Any, name: str = "") -> list[tuple[str, Any]]:
    """Return the leaves of a nest, each with its name, which is an expression of Python.

    >>> leaves_of({"w": 1, "b": (2, 3)}, "p")
    [("p['w']", 1), ("p['b'][0]", 2), ("p['b'][1]", 3)]
    """
    if isinstance(tree, dict):
        parts: Iterable[tuple[Any, Any]] = tree.items()
    elif isinstance(tree, (tuple, list)):
        parts = enumerate(tree)
    else:
        return [(name, tree)]
    return [leaf for key, part in parts for leaf in leaves_of(part, f"{name}[{key!r}]")]


def rebuild(tree: Any, leaves: Iterator[Any]) -> Any:
    """Return a nest like ``tree`` of other leaves.

    >>> rebuild({"w": 1, "b": (2, 3)}, iter("abc"))
    {'w': 'a', 'b': ('b', 'c')}
    """
    if isinstance(tree, dict):
        return {key: rebuild(part, leaves) for key, part in tree.items()}
    if isinstance(tree, (tuple, list)):
        parts = [rebuild(part, leaves) for part in tree]
        return type(tree)(*parts) if hasattr(tree, "_fields") else type(tree)(parts)
    return next(leaves)


def leaves_like(tree: Any, other: Any) -> list[Any]:
    """Return the leaves of ``other`` in the places of those of ``tree``, None for what it lacks.

    Raises:
        ValueError: ``other`` has another structure.

    >>> leaves_like({"w": 1, "b": (2, 3)}, {"b": ("x", "y")})
    [None, 'x', 'y']
    """
    if other is None:
        return [None for _ in leaves_of(tree)]
    if isinstance(tree, dict):
        if not isinstance(other, dict) or not other.keys() <= tree.keys():
            raise ValueError(f"{_kind(other)}, expected {_kind(tree)}")
        return [leaf for k, part in tree.items() for leaf in leaves_like(part, other.get(k))]
    if isinstance(tree, (tuple, list)):
        if not isinstance(other, (tuple, list)) or len(other) != len(tree):
            raise ValueError(f"{_kind(other)}, expected {_kind(tree)}")
        pairs = zip(tree, other, strict=True)
        return [leaf for part, o in pairs for leaf in leaves_like(part, o)]
    if isinstance(other, (dict, tuple, list)):
        raise ValueError(f"{_kind(other)}, expected an array")
    return [other]


def _kind(tree: Any) -> str:
    if isinstance(tree, dict):
        return f"a dict of {', '.join(map(repr, tree)) or 'nothing'}"
    if isinstance(tree, (tuple, list)):
        return f"a {type(tree).__name__} of {len(tree)}"
    return f"a {type(tree).__name__}"

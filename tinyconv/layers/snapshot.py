"""What a network looked like at one moment: layers, their options and their arrays."""

from collections.abc import Iterator
from operator import attrgetter, itemgetter
from typing import Any

from tinyconv.layers.base import Layer
from tinyconv.layers.container import Container
from tinyconv.registry import Described, names_of_arguments


class Snapshot:
    """Notices whether a layer, an option of one or an array of parameters was replaced since.

    What changes *in* an array is not looked at: whoever holds the array sees it.

    Args:
        thing: the network or part of one; or a loss, for its options.

    >>> from tinyconv.layers import Chain, Dropout, ReLU
    >>> net = Chain([Dropout(0.5), ReLU()])
    >>> before = Snapshot(net)
    >>> net.layers[0].p = 0.25
    >>> before.holds()
    False
    """

    def __init__(self, thing: Described) -> None:
        self._looks: list[tuple[Any, Any]] = []
        for each in (thing, *descendants(thing)):
            # What config() leaves out because nobody has set it may be set later.
            options = {**each.config(), **dict.fromkeys(names_of_arguments(type(each).__init__))}
            names = [name for name in options if hasattr(each, name)]
            if isinstance(each, Layer):
                names.append("path")
            if isinstance(each, Layer) and not isinstance(each, Container):
                names += [name for name in ("params", "state") if getattr(each, name)]
                names.append("_trainable")  # the property takes longer than all the others
            own = [name for name in names if name in vars(each)]
            others = [name for name in names if name not in own]
            if own:  # a third of the time that it takes to ask the layer
                self._looks.append((itemgetter(*_two(own)), vars(each)))
            if others:
                self._looks.append((attrgetter(*_two(others)), each))
        # Of lists and dictionaries a copy, since they may change in place.
        self._seen = [
            tuple(v.copy() if isinstance(v, list | dict) else v for v in look(place))
            for look, place in self._looks
        ]

    def holds(self) -> bool:
        """Whether all is as it was."""
        try:
            # Python compares by identity first, so no array is looked into that is still the same.
            return [look(place) for look, place in self._looks] == self._seen
        except (KeyError, ValueError):  # an option is gone, or two arrays were compared, so one
            return False  # has taken the place of the other


def _two(names: list[str]) -> list[str]:
    """Return at least two names, of which a getter returns a tuple."""
    return names if len(names) > 1 else names * 2


def descendants(layer: Any) -> Iterator[Layer]:
    """Yield all layers inside a container, containers too; none of any other layer.

    >>> from tinyconv.layers import Chain, ReLU, Residual
    >>> [type(layer).__name__ for layer in descendants(Chain([Residual(ReLU())]))]
    ['Residual', 'ReLU']
    """
    for child in layer.children().values() if isinstance(layer, Container) else ():
        yield child
        yield from descendants(child)

"""What a network looked like at one moment: its layers, their options and their arrays."""

from collections.abc import Iterator
from operator import attrgetter, itemgetter
from typing import Any

from tinyconv.layers.base import Layer
from tinyconv.layers.container import Container


class Snapshot:
    """Notices whether a layer, an option of one or an array of parameters was replaced since.

    What changes *in* an array is not looked at: whoever holds the array sees it.

    Args:
        net: the network or part of one.

    >>> from tinyconv.layers import Chain, Dropout, ReLU
    >>> net = Chain([Dropout(0.5), ReLU()])
    >>> before = Snapshot(net)
    >>> net.layers[0].p = 0.25
    >>> before.holds()
    False
    """

    def __init__(self, net: Container) -> None:
        self._looks: list[tuple[Any, Any]] = []
        for layer in (net, *descendants(net)):
            names = [name for name in layer.config() if hasattr(layer, name)]
            if not isinstance(layer, Container):
                names += [name for name in ("params", "state") if getattr(layer, name)]
                names.append("_trainable")  # the property takes longer than all the others
            own = [name for name in names if name in vars(layer)]
            others = [name for name in names if name not in own]
            if own:  # a third of the time that it takes to ask the layer
                self._looks.append((itemgetter(*own, "path"), vars(layer)))
            if others:
                self._looks.append((attrgetter(*others, "path"), layer))
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


def descendants(layer: Layer) -> Iterator[Layer]:
    """Yield all layers inside a container, containers too; none of any other layer.

    >>> from tinyconv.layers import Chain, ReLU, Residual
    >>> [type(layer).__name__ for layer in descendants(Chain([Residual(ReLU())]))]
    ['Residual', 'ReLU']
    """
    for child in layer.children().values() if isinstance(layer, Container) else ():
        yield child
        yield from descendants(child)

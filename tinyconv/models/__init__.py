"""Named networks, each a function that builds it: ``tc.models.nielsen_conv_conv_relu(seed=3)``.

``NETS`` is the list that the command line offers, with the rate that each trains well at: those
that classify digits of 28 x 28 pixels.
"""

from collections.abc import Callable
from dataclasses import dataclass

from tinyconv.errors import ArgumentError
from tinyconv.messages import hint, shown
from tinyconv.models import nielsen, published
from tinyconv.models.nielsen import *
from tinyconv.models.published import *
from tinyconv.network import Sequential

__all__ = ["NETS", "NamedNet", "named_net"]
__all__ += nielsen.__all__
__all__ += published.__all__


@dataclass(frozen=True)
class NamedNet:
    """A network that the command line can train.

    Attributes:
        build: makes it; takes ``input_shape`` and ``classes``, those of digits if they are not
            given, ``seed``, ``dtype`` and ``device``.
        lr: learning rate at batch size 10.
    """

    build: Callable[..., Sequential]
    lr: float

    @property
    def about(self) -> str:
        """First line of the builder's docstring."""
        return (self.build.__doc__ or "").partition("\n")[0]


NETS: dict[str, NamedNet] = {
    net.build.__name__.replace("_", "-"): net
    for net in (
        NamedNet(nielsen_conv_conv_relu, 0.03),
        NamedNet(nielsen_fully_connected, 0.1),
        NamedNet(nielsen_conv, 0.1),
        NamedNet(nielsen_conv_softmax, 0.1),
        NamedNet(nielsen_conv_conv, 0.1),
        NamedNet(nielsen_conv_conv_tanh, 0.03),
        NamedNet(nielsen_dropout, 0.03),
        NamedNet(lenet5, 0.1),
        NamedNet(simard2003, 0.1),
        NamedNet(ciresan_mlp, 0.01),
    )
}


def named_net(name: str) -> NamedNet:
    """Return a network of the list by its name.

    Raises:
        ArgumentError: there is none of that name.

    >>> named_net("nielsen-conv").lr
    0.1
    >>> named_net("nielsen-transformer")
    Traceback (most recent call last):
    tinyconv.errors.ArgumentError: no net 'nielsen-transformer', expected one of
    nielsen-conv-conv-relu, ...
    """
    if name not in NETS:
        raise ArgumentError(
            f"no net {shown(name)}, expected one of {', '.join(NETS)}{hint(name, NETS)}"
        )
    return NETS[name]

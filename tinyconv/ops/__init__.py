"""The equations: every operation as a forward and a backward function, adjacent in one file.

``op(x, ...)`` returns ``y, saved``; ``op_backward(dy, saved)`` returns the gradients in the order
of the forward's inputs. ``x`` and ``dy`` are never changed. What an argument means wherever it
occurs, and the errors that all raise, stand in :mod:`tinyconv.ops.contract`.
"""

from inspect import isfunction

from tinyconv.ops.activation import *
from tinyconv.ops.contract import complete as _complete
from tinyconv.ops.conv import *
from tinyconv.ops.conv_direct import *
from tinyconv.ops.conv_transpose import *
from tinyconv.ops.dropout import *
from tinyconv.ops.linear import *
from tinyconv.ops.loss import *
from tinyconv.ops.norm import *
from tinyconv.ops.pool import *
from tinyconv.ops.pool_global import *
from tinyconv.ops.resize import *
from tinyconv.ops.shape import *
from tinyconv.ops.softmax import *
from tinyconv.ops.subsample import *
from tinyconv.ops.upsample import *


def _is_public(name: str) -> bool:
    """Whether a name is an operation's: a function whose backward stands beside it."""
    op = name.removesuffix("_backward")
    pair = (globals().get(op), globals().get(f"{op}_backward"))
    return all(map(isfunction, pair)) and not op.endswith("_nd")


__all__ = sorted(["im2col", "col2im", *filter(_is_public, globals())])


def __dir__() -> list[str]:
    return __all__


for _name in __all__:
    # Those over one axis and three, and by plain loops, refer to those over two.
    if not _name.removesuffix("_backward").endswith(("1d", "3d", "direct", "im2col", "col2im")):
        _complete(globals()[_name])

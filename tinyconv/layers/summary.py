"""What layers one after the other cost: a row a layer."""

from collections.abc import Sequence

from tinyconv.layers.base import Layer, Shape

#: What stands in the columns of a row.
HEAD = ("", "layer", "output", "parameters", "multiply-adds")


def summary_rows(layers: Sequence[Layer], shape: Shape | None) -> list[tuple[str, ...]]:
    """Return place, kind, output shape, parameters and multiply-adds of each layer, and the total.

    The last row has the parameters that are frozen, if there are any.

    Args:
        layers: one after the other.
        shape: of one sample; None while it is not known, and then a ``?`` stands for what follows.

    >>> from tinyconv.layers import Linear, ReLU
    >>> summary_rows([Linear(4, 8), ReLU()], (4,))[-1]
    ('', 'total', '', '40', '32')
    """
    rows, parameters, frozen, multiply_adds = [], 0, 0, 0
    total_cost = "?" if shape is None else ""
    for place, layer in enumerate(layers):
        count = layer.parameter_count(shape)
        still = [leaf for leaf in layer.walk() if not leaf.trainable]
        frozen += sum(leaf.parameter_count(shape if leaf is layer else None) or 0 for leaf in still)
        cost = None if shape is None else layer.multiply_adds(shape)
        shape = None if shape is None else layer.output_shape(shape)
        output = "?" if shape is None else "x".join(map(str, shape))
        numbers = ["?" if number is None else f"{number:,}" for number in (count, cost)]
        rows.append((str(place), type(layer).__name__, output, *numbers))
        parameters += count or 0
        multiply_adds += cost or 0
    rows.append(("", "total", "", f"{parameters:,}", total_cost or f"{multiply_adds:,}"))
    if frozen:
        rows.append(("", "frozen", "", f"{frozen:,}", ""))
    return rows

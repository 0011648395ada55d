"""Weights of Keras 3 by file: channels-last kernels transposed to ours."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tinyconv import layers as L
from tinyconv.arguments import checked
from tinyconv.backend import Values
from tinyconv.engines.units import BATCH_NORMS, CONVS, TRANSPOSED
from tinyconv.errors import DAMAGED, FileError, StateError
from tinyconv.files import check_tensors, copy_tensors
from tinyconv.interop import require
from tinyconv.layers.base import Layer, Shape
from tinyconv.layers.container import in_a_row
from tinyconv.network import Sequential

#: Kind of layer -> what Keras calls its group in a file; the second of a kind ends in _1.
GROUPS: dict[type[Layer], str] = {
    **{kind: f"conv{n}d" for n, kind in enumerate(CONVS, 1)},
    **{kind: f"conv{n}d_transpose" for n, kind in enumerate(TRANSPOSED, 1)},
    L.Linear: "dense",
    **dict.fromkeys(BATCH_NORMS, "batch_normalization"),
    L.LayerNorm: "layer_normalization",
    L.GroupNorm: "group_normalization",
}

#: The order in which Keras numbers what a layer holds, by our names.
ORDER = ("weight", "bias", "running_mean", "running_var")


class Entry(NamedTuple):
    """One array of the file and what it becomes."""

    theirs: str  #: such as "conv2d/vars/0"
    shape: Shape  #: that it must have
    ours: str  #: such as "0.weight"
    change: Callable[[Values], Values]


@checked
def load_weights(net: Sequential, path: str | Path) -> None:
    """Set the weights of a network from a ``.weights.h5`` file of Keras 3.

    Keras' model must have the same layers; those of one kind are taken in their order. Kernels are
    transposed, and what stands behind a flattened image is put in the order channels, rows,
    columns. Options such as the ``epsilon`` of a normalisation, which is 1e-3 in Keras, are not in
    the file.

    Args:
        net: with a known input shape.
        path: of what ``model.save_weights("net.weights.h5")`` wrote.

    Raises:
        StateError: the network's input shape is not known yet.
        FileError: the file is damaged, or its layers are not those of the network; all that is
            missing, unknown or of another shape is listed, and nothing is changed.
    """
    h5py = require("h5py", "keras")
    if net.input_shape is None:
        raise StateError("load_weights: the input shape is not known; call build() or predict()")
    held = {**net.parameters.values, **net.state}
    into = {name: a for name, a in held.items() if name.rpartition(".")[2] in ORDER}
    try:
        with h5py.File(path, "r") as file:
            stored = dict(_stored(h5py, file))
            entries = list(_entries(net.layers, net.input_shape, stored))
            check_tensors(str(path), stored, {entry.theirs: entry.shape for entry in entries})
            arrays = {entry.ours: entry.change(stored[entry.theirs][()]) for entry in entries}
    except FileError:
        raise
    except (OSError, *DAMAGED) as error:
        raise FileError(f"{path}: not a file of weights of Keras ({error})") from None
    copy_tensors(str(path), arrays, into)


def _stored(h5py: Any, file: Any) -> Iterator[tuple[str, Any]]:
    """Yield the data sets of a file by name; none is read, and none that lies in another file."""
    for name, group in file["layers"].items():
        variables = group.get("vars")
        for number in variables or ():
            data = variables.get(number)
            is_here = isinstance(variables.get(number, getlink=True), h5py.HardLink)
            is_array = is_here and isinstance(data, h5py.Dataset)
            if not is_array or data.external or data.is_virtual:
                raise FileError(f"{file.filename}: {name}/{number} is no array of this file")
            yield f"{name}/vars/{number}", data


def _entries(layers: Sequence[Layer], shape: Shape, stored: Any) -> Iterator[Entry]:
    """Yield what each layer takes of the file, in the order of the layers."""
    seen: Counter[str] = Counter()
    for layer, planes in _walk(layers, shape):
        names = [name for name in ORDER if name in layer.params or name in layer.state]
        if not names:
            continue
        if type(layer) not in GROUPS:
            raise FileError(
                f"load_weights: Keras has no layer {layer.path} ({type(layer).__name__})"
            )
        group = GROUPS[type(layer)]
        by_channel = f"depthwise_{group}"
        is_single = isinstance(layer, L.Conv1d | L.Conv2d) and layer.groups == layer.in_channels
        if is_single and f"{_numbered(by_channel, seen)}/vars/0" in stored:
            group = by_channel
        place = _numbered(group, seen)
        seen[group] += 1
        for number, name in enumerate(names):
            own = tuple((layer.params | layer.state)[name].shape)
            change, its_shape = _change(layer, name, own, planes, group)
            yield Entry(f"{place}/vars/{number}", its_shape, f"{layer.path}.{name}", change)


def _numbered(group: str, seen: Counter[str]) -> str:
    return f"{group}_{seen[group]}" if seen[group] else group


def _walk(layers: Sequence[Layer], shape: Shape) -> Iterator[tuple[Layer, Shape | None]]:
    """Yield the layers, and for what follows a flattened image the shape of that."""
    planes: Shape | None = None
    for layer in in_a_row(layers):
        if isinstance(layer, L.Residual | L.Parallel):
            for branch in layer.children().values():
                yield from _walk([branch], shape)
        else:
            yield layer, planes
        if isinstance(layer, L.Flatten) and len(shape) > 1:
            planes = shape
        elif isinstance(layer, L.Linear):
            planes = None
        shape = layer.output_shape(shape)


def _change(
    layer: Layer, name: str, shape: Shape, planes: Shape | None, group: str
) -> tuple[Callable[[Values], Values], Shape]:
    """Return how an array of Keras becomes ours of this shape, and the shape that it has there."""
    if name == "weight" and isinstance(layer, L.Linear):
        if planes is None:
            return lambda a: a.T, shape[::-1]
        # Keras flattens rows, columns, channels: the last axis to the front, sample by sample.
        last = (*planes[1:], planes[0])
        return lambda a: np.moveaxis(a.T.reshape(-1, *last), -1, 1).reshape(shape), shape[::-1]
    if planes is not None and shape[-1:] == (int(np.prod(planes)),):
        last = (*planes[1:], planes[0])
        return lambda a: np.moveaxis(a.reshape(last), -1, 0).reshape(shape), shape
    if name != "weight" or len(shape) < 3 or isinstance(layer, L.LayerNorm):
        return lambda a: a, shape
    if group.startswith("depthwise"):  # (KH, KW, C, M), and output c M + m is m of channel c
        C = layer.in_channels  # type: ignore[attr-defined]
        theirs = (*shape[2:], C, shape[0] // C)
        return lambda a: np.moveaxis(a, (-2, -1), (0, 1)).reshape(shape), theirs
    return lambda a: np.moveaxis(a, (-1, -2), (0, 1)), (*shape[2:], shape[1], shape[0])

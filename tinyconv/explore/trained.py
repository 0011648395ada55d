"""A trained network as the page holds it: layers, parameters, sample images, and the library's
own answers to them, with which the page compares its arithmetic."""

import base64
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from tinyconv import layers as L
from tinyconv.backend import Values, to_numpy
from tinyconv.errors import ArgumentError, ShapeError
from tinyconv.layers.container import in_a_row
from tinyconv.losses import CrossEntropyLoss
from tinyconv.network import Sequential
from tinyconv.ops import avg_pool2d

Shape = tuple[int, ...]

_POOLS: dict[type[L.Layer], tuple[str, str]] = {
    L.MaxPool2d: ("max", r"y = \max_{(j,k) \in R} x_{jk}"),
    L.AvgPool2d: ("average", r"y = \frac{1}{D} \sum_{(j,k) \in R} x_{jk}"),
    L.L2Pool2d: ("l2", r"y = \sqrt{\sum_{(j,k) \in R} x_{jk}^2}"),
}
_ACTIVATIONS: dict[type[L.Layer], tuple[str, str, str]] = {
    L.ReLU: ("relu", "", r"y = \max(x, 0)"),
    L.Sigmoid: ("sigmoid", "", r"y = \frac{1}{1 + e^{-x}}"),
    L.Tanh: ("tanh", "", r"y = \tanh x"),
    L.LeakyReLU: ("leaky_relu", "negative_slope", r"y = \max(x, \alpha x)"),
    L.ELU: ("elu", "alpha", r"y = x~\text{or}~\alpha (e^x - 1)"),
}


def pack(net: Sequential, x: Values, y: Sequence[int]) -> dict[str, Any]:
    """Return what the page needs of a network, as JSON takes it.

    Args:
        net: of convolutions, pools, activations, batch normalisation, dropout and fully connected
            layers, one after the other, from an image of one or three channels to logits.
        x: (N, C, H, W), sample images in [0, 1], at least one.
        y: (N,), their classes.

    Raises:
        ArgumentError: the page cannot show such a layer, or there is no sample.
        ShapeError: the samples or what the network gives do not fit.

    >>> import tinyconv as tc
    >>> net = tc.Sequential([tc.Conv2d(1, 2, 3), tc.ReLU(), tc.Flatten(), tc.Linear(None, 4)])
    >>> packed = pack(net, np.zeros((1, 1, 6, 6)), [3])
    >>> [layer["kind"] for layer in packed["layers"]]
    ['conv', 'activation', 'reshape', 'linear']
    """
    if not len(x) or x.ndim != 4 or x.shape[1] not in (1, 3) or len(x) != len(y):
        raise ShapeError(
            f"explore: x has shape {x.shape} and y {len(y)} labels, expected (N, 1 or 3, H, W) and "
            "a label each"
        )
    shape = x.shape[1:]
    if net.input_shape is None:
        net.build(shape)
    layers = []
    for layer in in_a_row(net.layers):
        packed = {"title": type(layer).__name__, "before": list(shape), **_packed(layer, shape)}
        shape = layer.output_shape(shape)
        layers.append({**packed, "shape": list(shape)})
    if len(shape) != 1:
        raise ShapeError(f"explore: the network gives {shape} of an image, expected its logits")
    names = net.class_names or [str(number) for number in range(shape[0])]
    inputs = np.asarray(x, net.dtype)
    logits = [to_numpy(net.forward(image[None]))[0].tolist() for image in inputs]
    loss = CrossEntropyLoss()
    loss.forward(net.forward(inputs[:1]), np.array([y[0]]))
    net.backward(loss.backward())
    return {
        "input": list(x.shape[1:]),
        "classes": list(names),
        "layers": layers,
        "samples": [
            {"label": int(label), "image": _base64(image)}
            for image, label in zip(inputs, y, strict=True)
        ],
        "reference": {"logits": logits, "dx": np.ravel(to_numpy(net.layers[0].dx)).tolist()},
    }


def _packed(layer: L.Layer, shape: Shape) -> dict[str, Any]:
    kind = type(layer)
    parameters = {
        short: _tensor(to_numpy(layer.params[name]))
        for short, name in (("w", "weight"), ("b", "bias"))
        if name in layer.params
    }
    if isinstance(layer, L.Conv2d) and layer.padding_mode == "zeros":
        geometry = asdict(layer.window(shape[1:]))
        equation = r"y_{o;pq} = b_o + \sum_{c,i,j} w_{o;cij} x_{c;~p+i,~q+j}"
        if geometry["stride"] != (1, 1) or geometry["dilation"] != (1, 1):
            equation = equation.replace("p+i", "sp+di").replace("q+j", "sq+dj")
        return {
            "kind": "conv",
            "geometry": geometry,
            "groups": layer.groups,
            "equation": equation,
            **parameters,
        }
    if kind in _POOLS and isinstance(layer, L.MaxPool2d | L.AvgPool2d | L.L2Pool2d):
        name, equation = _POOLS[kind]
        geometry = asdict(layer.window(shape[1:]))
        if isinstance(layer, L.AvgPool2d):
            _, saved = avg_pool2d(np.zeros((1, *shape)), **layer.config())
            divisor = np.broadcast_to(saved.divisor, saved.shape[2:])
            geometry["divisor"] = divisor.ravel().astype(float).tolist()
        return {"kind": name, "geometry": geometry, "equation": equation}
    if kind in _ACTIVATIONS:
        name, option, equation = _ACTIVATIONS[kind]
        value = getattr(layer, option) if option else None
        return {"kind": "activation", "name": name, "option": value, "equation": equation}
    if isinstance(layer, L.Linear):
        equation = r"y_k = b_k + \sum_n w_{kn} x_n"
        return {"kind": "linear", "equation": equation, **parameters}
    if isinstance(layer, L.BatchNorm1d | L.BatchNorm2d) and layer.track_running_stats:
        return {"kind": "affine", "equation": r"y_c = w_c x_c + b_c", **_affine(layer)}
    if kind in (L.Flatten, L.Dropout, L.Identity):
        return {"kind": "reshape", "hidden": True}
    raise ArgumentError(f"explore: the page cannot show the layer {layer!r}")


def _affine(layer: L.BatchNorm1d | L.BatchNorm2d) -> dict[str, Any]:
    """Return the scale and the shift that a trained batch normalisation is."""
    mean, var = (to_numpy(layer.state[name]) for name in ("running_mean", "running_var"))
    weight, bias = layer.params.get("weight", np.ones(())), layer.params.get("bias", np.zeros(()))
    scale = to_numpy(weight) / np.sqrt(var + layer.eps)
    return {"w": _tensor(scale), "b": _tensor(to_numpy(bias) - mean * scale)}


def _tensor(values: Values) -> dict[str, Any]:
    return {"shape": list(values.shape), "base64": _base64(values)}


def _base64(values: Values) -> str:
    return base64.b64encode(np.ascontiguousarray(values, "<f4").tobytes()).decode()

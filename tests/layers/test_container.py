"""Layers made of layers: their backward against numeric gradients, names, files, errors."""

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tinyconv as tc
from tinyconv.errors import ArgumentError, FileError, NonFiniteError, ShapeError, StateError
from tinyconv.layers import Chain, Layer, decode, encode

IMAGE = (3, 2, 6, 5)


def drawn(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape)


def conv(i: int | None, o: int, stride: int = 1) -> tc.Conv2d:
    return tc.Conv2d(i, o, 3, stride, 1, bias_init="normal")


#: Functions that make a container, and the shape of its input.
GRAPHS: dict[str, tuple[Callable[[], Layer], tuple[int, ...]]] = {
    "chain": (lambda: Chain([conv(2, 3), tc.Tanh(), tc.Flatten(), tc.Linear(None, 4)]), IMAGE),
    "identity": (lambda: tc.Residual([conv(2, 2), tc.Tanh()]), IMAGE),
    "one layer": (lambda: tc.Residual(tc.Linear(4, 4)), (3, 4)),
    "projection": (
        lambda: tc.Residual(
            [conv(2, 4, stride=2), tc.Sigmoid(), conv(4, 4)], tc.Conv2d(2, 4, 1, 2, bias=False)
        ),
        IMAGE,
    ),
    "shortcut of two": (
        lambda: tc.Residual([conv(2, 3), tc.AvgPool2d(2)], [tc.AvgPool2d(2), conv(2, 3)]),
        IMAGE,
    ),
    "concat": (lambda: tc.Parallel([conv(2, 3), [conv(2, 1), tc.Tanh()], tc.Tanh()]), IMAGE),
    "concat of rows": (lambda: tc.Parallel([tc.Linear(4, 3), tc.Linear(4, 2)]), (3, 4)),
    "add": (lambda: tc.Parallel([conv(2, 2), conv(2, 2), tc.Sigmoid()], join="add"), IMAGE),
    "one branch": (lambda: tc.Parallel([conv(2, 3)]), IMAGE),
    "nested": (
        lambda: Chain(
            [
                tc.Residual(
                    tc.Parallel([conv(2, 1), tc.Residual([conv(2, 1)], conv(2, 1))]),
                    [conv(2, 2), tc.Tanh()],
                ),
                tc.Parallel([tc.Residual(conv(2, 2)), Chain([Chain([tc.Tanh()])])], join="add"),
                tc.Flatten(),
                tc.Residual([tc.Linear(60, 2), tc.Tanh()], tc.Linear(60, 2)),
            ]
        ),
        IMAGE,
    ),
}

every_graph = pytest.mark.parametrize(("make", "shape"), GRAPHS.values(), ids=GRAPHS)


def slope(f: Callable[[], np.ndarray], array: np.ndarray, dy: np.ndarray) -> np.ndarray:
    """Central differences of sum(dy * f()) with respect to every element of ``array``."""
    gradient, h = np.zeros_like(array), 1e-6
    for place in np.ndindex(array.shape):
        kept = array[place]
        array[place] = kept + h
        above = f()
        array[place] = kept - h
        below = f()
        array[place] = kept
        gradient[place] = np.sum((above - below) * dy) / (2 * h)
    return gradient


@every_graph
def test_backward_equals_numeric_gradients(
    make: Callable[[], Layer], shape: tuple[int, ...]
) -> None:
    layer, x = make(), drawn(*shape)
    y = layer.forward(x)
    assert y.shape[1:] == layer.output_shape(shape[1:])
    dy = drawn(*y.shape, seed=1)
    kept = x.copy(), dy.copy()
    for grad in layer.grads.values():
        grad[...] = np.nan
    dx = layer.backward(dy)
    np.testing.assert_array_equal(x, kept[0])
    np.testing.assert_array_equal(dy, kept[1])

    def forward() -> np.ndarray:
        return layer.forward(x)

    np.testing.assert_allclose(dx, slope(forward, x, dy), rtol=1e-6, atol=1e-8)
    for name, value in layer.params.items():
        expected = slope(forward, value, dy)
        np.testing.assert_allclose(layer.grads[name], expected, rtol=1e-6, atol=1e-8, err_msg=name)


def test_a_residual_by_hand() -> None:
    layer, x, dy = tc.Residual(tc.Linear(2, 2, bias=False)), np.ones((1, 2)), np.array([[1.0, 10]])
    layer.forward(x)
    layer.params["body.weight"][...] = [[1, 2], [3, 4]]
    np.testing.assert_array_equal(layer.forward(x), [[1 + 2 + 1, 3 + 4 + 1]])
    np.testing.assert_array_equal(layer.backward(dy), [[1 + 30 + 1, 2 + 40 + 10]])
    np.testing.assert_array_equal(layer.grads["body.weight"], [[1, 1], [10, 10]])


def test_parallel_branches_by_hand() -> None:
    x = np.array([[-1.0, 2.0]])
    concat, add = (tc.Parallel([tc.ReLU(), Chain([tc.ReLU()])], join) for join in ("concat", "add"))
    np.testing.assert_array_equal(concat.forward(x), [[0, 2, 0, 2]])
    np.testing.assert_array_equal(concat.backward(np.array([[1.0, 2, 4, 8]])), [[0, 2 + 8]])
    np.testing.assert_array_equal(add.forward(x), [[0, 4]])
    np.testing.assert_array_equal(add.backward(np.array([[1.0, 2]])), [[0, 2 + 2]])


@every_graph
def test_a_container_returns_from_its_configuration(
    make: Callable[[], Layer], shape: tuple[int, ...]
) -> None:
    layer = make()
    again = decode(json.loads(json.dumps(encode(layer))))
    assert type(again) is type(layer)
    assert encode(again) == encode(layer)
    assert repr(again) == repr(layer)
    assert again.output_shape(shape[1:]) == layer.output_shape(shape[1:])


@every_graph
def test_an_empty_batch_passes_both_ways(make: Callable[[], Layer], shape: tuple[int, ...]) -> None:
    layer = make()
    y = layer.forward(np.zeros((0, *shape[1:])))
    assert y.shape == (0, *layer.output_shape(shape[1:]))
    assert layer.backward(y).shape == (0, *shape[1:])
    assert not any(grad.any() for grad in layer.grads.values())


def classifier(make: Callable[[], Layer], shape: tuple[int, ...], seed: int = 0) -> tc.Sequential:
    layers = [make(), tc.Flatten(), tc.Dropout(0.2), tc.Linear(None, 3)]
    return tc.Sequential(layers, seed=seed, input_shape=shape[1:])


@every_graph
def test_a_network_with_a_container_is_saved_and_trained(
    make: Callable[[], Layer], shape: tuple[int, ...], tmp_path: Any
) -> None:
    net = classifier(make, shape, seed=3)
    x, y = drawn(12, *shape[1:]).astype(np.float32), np.arange(12) % 3
    history = net.fit(x, y, epochs=30, batch_size=4, optimizer=tc.SGD(0.05), verbose=False)
    assert history["loss"][-1] < 0.7 * history["loss"][0]
    net.save(tmp_path / "net.safetensors")
    again = tc.load(tmp_path / "net.safetensors")
    np.testing.assert_array_equal(again.logits(x), net.logits(x))
    assert list(again.state_dict()) == list(net.state_dict())


def test_names_are_paths_through_the_containers() -> None:
    net = tc.Sequential(
        [
            tc.Residual([tc.Linear(4, 4), tc.ReLU(), tc.Linear(4, 4)], tc.Linear(4, 4, bias=False)),
            tc.Parallel([tc.Linear(4, 2), [tc.ReLU(), tc.Linear(4, 1)]]),
        ]
    )
    assert list(net.state_dict()) == [
        "0.body.0.weight",
        "0.body.0.bias",
        "0.body.2.weight",
        "0.body.2.bias",
        "0.shortcut.weight",
        "1.0.weight",
        "1.0.bias",
        "1.1.1.weight",
        "1.1.1.bias",
    ]
    assert [leaf.path for leaf in net.walk()] == [
        "0.body.0",
        "0.body.1",
        "0.body.2",
        "0.shortcut",
        "1.0",
        "1.1.0",
        "1.1.1",
    ]
    # What a layer holds, what its container holds and the flat array are the same memory.
    flat, inner = net.parameters.flat, net.layers[0].body.layers[2]
    assert np.shares_memory(inner.params["weight"], flat)
    assert inner.params["weight"] is net.layers[0].params["body.2.weight"]
    assert np.shares_memory(inner.grads["weight"], net.parameters.flat_grad)


def test_sizes_are_inferred_inside_branches() -> None:
    layer = Chain([tc.Parallel([conv(None, 3), conv(None, 2)]), tc.Residual(conv(None, 5))])
    assert layer.parameter_count() is None
    assert layer.parameter_count((2, 6, 5)) == (2 * 9 + 1) * 5 + (5 * 9 + 1) * 5
    assert layer.forward(drawn(*IMAGE)).shape == (3, 5, 6, 5)


def test_multiplications_add_up() -> None:
    shape = (2, 6, 5)
    body, shortcut = conv(2, 4), tc.Conv2d(2, 4, 1)
    expected = body.multiply_adds(shape) + shortcut.multiply_adds(shape)
    assert expected == 4 * 30 * (2 * 9 + 2)
    assert tc.Residual(body, shortcut).multiply_adds(shape) == expected
    assert tc.Parallel([conv(2, 4), tc.Conv2d(2, 4, 1)]).multiply_adds(shape) == expected
    assert Chain([conv(2, 4), tc.Conv2d(4, 2, 1)]).multiply_adds(shape) == 4 * 30 * (18 + 2)


def test_training_mode_and_step_reach_the_layers_inside() -> None:
    layer, x = tc.Parallel([tc.Dropout(0.5), [tc.Dropout(0.5)]]), np.ones((1, 64))
    np.testing.assert_array_equal(layer.forward(x), np.ones((1, 128)))
    first = layer.forward(x, training=True, step=1)
    assert (first[:, :64] != first[:, 64:]).any()  # a mask of its own at each place
    assert (layer.forward(x, training=True, step=2) != first).any()
    np.testing.assert_array_equal(layer.forward(x, training=True, step=1), first)
    np.testing.assert_array_equal(layer.backward(np.ones((1, 128))), first[:, :64] + first[:, 64:])


def test_a_sequential_inside_becomes_a_chain() -> None:
    layer = tc.Residual(tc.Sequential([tc.ReLU()]))
    assert type(layer.body) is Chain
    with pytest.raises(ArgumentError, match="Sequential: a layer is a Sequential"):
        tc.Sequential([tc.Sequential([tc.ReLU()])])


# Errors.


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Chain([]), "Chain: no layers, expected at least one"),
        (lambda: tc.Residual([]), "Chain: no layers, expected at least one"),
        (lambda: tc.Parallel([]), "Parallel: no branches, expected at least one"),
        (lambda: Chain([tc.ReLU(), 3]), "Chain: element 1 is 3, expected a layer"),
        (lambda: tc.Residual(3), "Residual: body is 3, expected a layer or a list of layers"),
        (lambda: tc.Residual(tc.ReLU(), "no"), "Residual: shortcut is 'no', expected a layer"),
        (
            lambda: tc.Parallel([tc.ReLU]),
            "Parallel: branch 0 is the class ReLU, expected a layer or",
        ),
        (
            lambda: tc.Parallel([tc.ReLU()], join="multiply"),
            "Parallel: join is 'multiply', expected 'concat' or 'add'",
        ),
    ],
)
def test_arguments_that_make_no_container(make: Callable[[], Layer], message: str) -> None:
    with pytest.raises(tc.ArgumentError, match=message):
        make()


def twice(kind: str) -> Layer:
    layer = tc.ReLU()
    makers: dict[str, Callable[[], Layer]] = {
        "Chain": lambda: Chain([layer, layer]),
        "Residual": lambda: tc.Residual([layer], layer),
        "Parallel": lambda: tc.Parallel([layer, [tc.Tanh(), layer]]),
    }
    return makers[kind]()


@pytest.mark.parametrize("kind", ["Chain", "Residual", "Parallel"])
def test_a_layer_stands_in_one_place(kind: str) -> None:
    # It keeps the arrays of one pass, so in two places its gradients would be wrong.
    with pytest.raises(ShapeError, match=f"{kind}: the same layer object stands in two places"):
        twice(kind)


@pytest.mark.parametrize(
    ("layer", "shape", "message"),
    [
        (
            tc.Residual(conv(2, 3)),
            IMAGE,
            r"Residual: body gives \(3, 6, 5\) and shortcut \(2, 6, 5\), expected equal shapes",
        ),
        (
            tc.Residual(conv(2, 3), conv(2, 4)),
            IMAGE,
            r"Residual: body gives \(3, 6, 5\) and shortcut \(4, 6, 5\), expected equal shapes",
        ),
        (
            tc.Parallel([conv(2, 3), conv(2, 3, stride=2)]),
            IMAGE,
            r"Parallel: branches give \[\(3, 6, 5\), \(3, 3, 3\)\], expected shapes that differ in",
        ),
        (
            tc.Parallel([conv(2, 3), conv(2, 2)], join="add"),
            IMAGE,
            r"Parallel: branches give \[\(3, 6, 5\), \(2, 6, 5\)\], expected equal shapes",
        ),
        (
            Chain([tc.ReLU(), tc.Residual([tc.ReLU(), conv(5, 2)])]),
            IMAGE,
            "layer 1: layer body: layer 1: Conv2d: input of shape",
        ),
        (
            Chain([tc.Parallel([tc.ReLU(), tc.Residual(tc.ReLU(), tc.Linear(3, 3))])]),
            IMAGE,
            "layer 0: layer 1: layer shortcut: Linear: input of shape",
        ),
    ],
)
def test_shapes_that_do_not_fit(layer: Layer, shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(ShapeError, match=message):
        layer.output_shape(shape[1:])
    with pytest.raises(ShapeError, match=message):
        layer.forward(np.zeros(shape))
    with pytest.raises(ShapeError, match=message):
        tc.Sequential([layer], input_shape=shape[1:])


@every_graph
def test_backward_needs_a_forward_and_its_shape(
    make: Callable[[], Layer], shape: tuple[int, ...]
) -> None:
    layer = make()
    name = type(layer).__name__
    with pytest.raises(StateError, match=f"{name}: backward was called before forward"):
        layer.backward(np.zeros(shape))
    y = layer.forward(np.zeros(shape))
    with pytest.raises(
        ShapeError, match=rf"{name}.backward: dy has shape .*, expected \({shape[0]},"
    ):
        layer.backward(np.zeros((1, *y.shape)))


def test_a_layer_inside_belongs_to_one_network() -> None:
    layer = tc.Residual(tc.Linear(2, 2))
    tc.Sequential([layer])
    with pytest.raises(StateError, match="Residual: the layer has parameters already"):
        tc.Sequential([layer])
    with pytest.raises(StateError, match="Linear: the layer has parameters already"):
        tc.Sequential([tc.Parallel([layer.body])])


def test_a_file_with_a_wrong_container_is_refused() -> None:
    wrong = {"layer": "Parallel", "config": {"branches": [encode(tc.ReLU())], "join": "multiply"}}
    with pytest.raises(FileError, match="Parallel: join is 'multiply'"):
        decode(wrong)
    with pytest.raises(FileError, match="layer Residual does not take"):
        decode({"layer": "Residual", "config": {"body": 3, "shortcut": None}})


def deep_net() -> tc.Sequential:
    layers = [
        conv(2, 2),
        tc.Residual([tc.ReLU(), conv(2, 2)], tc.Parallel([conv(2, 1), [conv(2, 1), tc.Tanh()]])),
        tc.Flatten(),
        tc.Linear(None, 3),
    ]
    return tc.Sequential(layers, input_shape=IMAGE[1:])


@pytest.mark.parametrize("engine", ["plan", "eager"])
@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        (None, np.nan, "the input of the network holds values that are not finite"),
        ("1.body.1.weight", np.nan, r"layer 1.body.1 \(Conv2d\) has a weight that is not finite"),
        ("1.shortcut.0.bias", np.inf, r"layer 1.shortcut.0 \(Conv2d\) has a bias that is not"),
        ("1.shortcut.0.bias", 3e38, r"layer 3 \(Linear\) is the first whose output is not finite"),
    ],
)
def test_fit_names_the_layer_and_batch_of_the_first_value_that_is_not_finite(
    engine: str, name: str | None, value: float, message: str
) -> None:
    net = deep_net()
    x, y = drawn(6, *IMAGE[1:]).astype(np.float32), np.arange(6) % 3
    if name is None:
        x[3, 0, 2, 2] = value
    else:
        net.parameters.values[name][...] = value
        if value == 3e38:
            net.parameters.values["3.weight"][...] = 10
    batch = 2 if name is None else 1
    with pytest.raises(NonFiniteError, match=f"fit: epoch 1, batch {batch}: {message}"):
        net.fit(x, y, batch_size=2, shuffle=False, engine=engine, verbose=False)


# PyTorch.


@pytest.mark.oracle
def test_a_residual_block_equals_its_twin(torch: Any) -> None:
    nn = torch.nn

    class Block(nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Sequential(nn.Conv2d(2, 4, 3, 2, 1), nn.Tanh(), nn.Conv2d(4, 4, 3, 1, 1))
            self.shortcut = nn.Conv2d(2, 4, 1, 2, bias=False)

        def forward(self, x: Any) -> Any:
            return torch.relu(self.body(x) + self.shortcut(x))

    twin = Block().double()
    ours = Chain(
        [
            tc.Residual(
                [tc.Conv2d(2, 4, 3, 2, 1), tc.Tanh(), tc.Conv2d(4, 4, 3, 1, 1)],
                tc.Conv2d(2, 4, 1, 2, bias=False),
            ),
            tc.ReLU(),
        ]
    )
    x = drawn(*IMAGE)
    ours.forward(x)
    for name, value in twin.state_dict().items():  # the names are PyTorch's
        ours.params[f"0.{name}"][...] = value.numpy()
    y = ours.forward(x)
    dy = drawn(*y.shape, seed=1)
    dx = ours.backward(dy)

    tx = torch.tensor(x, requires_grad=True)
    ty = twin(tx)
    ty.backward(torch.tensor(dy))
    np.testing.assert_allclose(y, ty.detach().numpy(), rtol=1e-9, atol=1e-11)
    np.testing.assert_allclose(dx, tx.grad.numpy(), rtol=1e-9, atol=1e-11)
    for name, parameter in twin.named_parameters():
        np.testing.assert_allclose(
            ours.grads[f"0.{name}"], parameter.grad.numpy(), rtol=1e-9, atol=1e-11
        )


@pytest.mark.parametrize("layer", [tc.Linear(2, 3), tc.Chain([tc.Linear(2, 3)])])
def test_what_is_trainable_is_true_or_false(layer: tc.Layer) -> None:
    with pytest.raises(
        tc.ArgumentError, match=r"^Linear: trainable is 'no', expected True or False"
    ):
        layer.trainable = "no"
    assert layer.trainable
    layer.trainable = np.False_
    assert not layer.trainable

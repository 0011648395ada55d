"""Layers, losses and optimizers of one's own: they train, are copied, saved, loaded and refused."""

import copy
import pickle
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tinyconv as tc
from tinyconv.errors import ArgumentError, FileError, ShapeError, StateError
from tinyconv.layers import LAYERS, decode
from tinyconv.losses import LOSSES
from tinyconv.optimizers import OPTIMIZERS
from tinyconv.testing import check_layer


class Stretch(tc.Layer):
    """Multiplies channels by learned numbers, and all by a fixed one."""

    def __init__(self, times: float = 1.0) -> None:
        super().__init__()
        self.times = times

    def specs(self, shape: Any) -> Any:
        return None if shape is None else {"weight": tc.ParameterSpec(shape[:1], "ones")}

    def compute(self, x: Any, training: bool, step: int) -> Any:
        return self.times * x * self.params["weight"], x

    def compute_backward(self, dy: Any, x: Any) -> Any:
        dw = self.times * (dy * x).sum(axis=0)
        return self.times * dy * self.params["weight"], {"weight": dw}


class Halved(tc.Chain):
    def __init__(self, features: int) -> None:
        super().__init__([tc.Linear(features, features), tc.Tanh()])
        self.features = features

    def forward(self, x: Any, training: bool = False, step: int = 0) -> Any:
        return super().forward(x, training, step) / 2

    def backward(self, dy: Any) -> Any:
        return super().backward(dy / 2)


class Quartic(tc.Loss):
    def forward(self, outputs: Any, targets: Any) -> Any:  # type: ignore[override]
        self.difference = outputs - targets
        return (self.difference**4).mean()

    def backward(self) -> Any:
        return 4 * self.difference**3 / self.difference.size


@dataclass(frozen=True)
class Signs(tc.Optimizer):
    beta: float = 0.5

    def init(self, w: Any) -> Any:
        return {"mean": np.zeros_like(w)}

    def move(self, w: Any, g: Any, state: Any, lr: float) -> None:
        state["mean"] += self.beta * (g - state["mean"])
        w -= lr * np.sign(state["mean"])


@pytest.fixture(autouse=True)
def registries() -> Iterator[None]:
    kept = [(registry, dict(registry)) for registry in (LAYERS, LOSSES, OPTIMIZERS)]
    yield
    for registry, before in kept:
        registry.clear()
        registry.update(before)  # type: ignore[arg-type]


def network() -> tc.Sequential:
    layers = [tc.Linear(3, 4), tc.Residual(Halved(4)), Stretch(0.5), tc.Linear(4, 2)]
    return tc.Sequential(layers, seed=1)


def data() -> tuple[np.ndarray, np.ndarray]:
    x = np.random.default_rng(0).normal(size=(20, 3)).astype("f")
    return x, np.cos(x[:, :2])


def test_they_train_in_the_plan_as_layer_by_layer() -> None:
    x, y = data()
    nets = []
    for engine in ("plan", "eager"):
        net = network()
        options: dict[str, Any] = {"engine": engine, "verbose": False, "batch_size": 8}
        net.fit(x, y, epochs=3, loss=Quartic(), optimizer=tc.SGD(0.05), **options)
        net.fit(x, y, epochs=2, loss=Quartic(), optimizer=Signs(0.001), **options)
        nets.append(net)
    for name, w in nets[0].state_dict().items():
        np.testing.assert_allclose(w, nets[1].state_dict()[name], rtol=1e-4, atol=1e-5)
        assert not np.array_equal(w, network().build((3,)) or 0)


class Shaped(tc.Layer):
    """Has parameters of all shapes, of which it uses the number."""

    def specs(self, shape: Any) -> Any:
        shapes = {"none": (0, 3), "number": (), "many": (2, 1, 3)}
        return {name: tc.ParameterSpec(shape, "ones") for name, shape in shapes.items()}

    def compute(self, x: Any, training: bool, step: int) -> Any:
        return x * self.params["number"], x

    def compute_backward(self, dy: Any, x: Any) -> Any:
        grads = {name: np.zeros_like(w) for name, w in self.params.items()}
        return dy * self.params["number"], grads | {"number": (dy * x).sum()}


@pytest.mark.parametrize("batch_size", [3, 20])
@pytest.mark.parametrize(
    "optimizer", [tc.SGD(0.05, weight_decay=0.1), tc.SGD(0.05, clip_norm=0.1), tc.Adam(0.01)]
)
def test_parameters_of_any_shape_also_none(optimizer: Any, batch_size: int) -> None:
    x, y = data()
    options: dict[str, Any] = {"loss": "mse", "verbose": False, "batch_size": batch_size}
    nets = []
    for engine in ("plan", "eager"):
        layers = [tc.Linear(3, 4), Shaped(), tc.Residual(Shaped()), tc.Linear(4, 2)]
        nets.append(tc.Sequential(layers, seed=1))
        nets[-1].fit(x, y, epochs=3, optimizer=optimizer, engine=engine, **options)
    np.testing.assert_allclose(nets[0].parameters.flat, nets[1].parameters.flat, atol=1e-5)


def test_a_chain_inside_a_residual_keeps_its_own_forward() -> None:
    x = np.ones((2, 4))
    alone = Halved(4)
    layer = tc.Residual(alone)
    assert layer.body is alone
    np.testing.assert_allclose(layer.forward(x), x + alone.forward(x))
    plain = tc.Chain(alone.layers)
    plain.is_bound = True
    np.testing.assert_allclose(layer.forward(x), x + plain.forward(x) / 2)


@pytest.mark.parametrize("layer", [Stretch(3.0), Halved(4), tc.Residual(Halved(4))], ids=repr)
def test_gradients_are_checked(layer: tc.Layer) -> None:
    assert check_layer(layer, np.random.default_rng(0).normal(size=(5, 4))).ok


@pytest.mark.parametrize("copier", [copy.deepcopy, lambda net: pickle.loads(pickle.dumps(net))])
def test_copies_need_no_registration(copier: Any) -> None:
    x, y = data()
    net = network()
    net.fit(x, y, loss=Quartic(), verbose=False)
    again = copier(net)
    np.testing.assert_array_equal(again.predict(x), net.predict(x))
    assert repr(again) == repr(net)
    again.parameters.flat[...] = 0
    assert net.predict(x).any()


class Window(tc.Layer):
    def __init__(self, sizes: Any, options: Any) -> None:
        self.sizes, self.options = sizes, options

    def compute(self, x: Any, training: bool, step: int) -> Any:
        return x * np.sqrt(np.float64(2)), None  # float64, whatever x is

    def compute_backward(self, dy: Any, saved: Any) -> Any:
        return dy * np.sqrt(np.float64(2)), {}


def through_a_file(net: tc.Sequential) -> tc.Sequential:
    with tempfile.TemporaryDirectory() as folder:
        net.save(f"{folder}/net")
        return tc.load(f"{folder}/net")


@pytest.mark.parametrize(
    "copier", [copy.deepcopy, lambda net: pickle.loads(pickle.dumps(net)), through_a_file]
)
def test_copies_keep_lists_and_tuples_apart(copier: Any) -> None:
    tc.register(Window)
    given = tc.Sequential(Window([1, 2], {"a": (3, [4])}), Window((1, [2]), []), input_shape=(3,))
    net = copier(given)
    assert [net[0].sizes, net[0].options] == [[1, 2], {"a": (3, [4])}]
    assert [net[1].sizes, net[1].options] == [(1, [2]), []]


def test_a_dictionary_that_a_file_has_for_a_list() -> None:
    tc.register(Window)
    net = tc.Sequential(Window(1, {"list": [1]}), input_shape=(3,))
    assert copy.deepcopy(net)[0].options == {"list": [1]}
    with pytest.raises(StateError, match=r"Window: options is .*which a file cannot hold"):
        through_a_file(net)
    with pytest.raises(FileError, match="a list is 3"):
        decode({"layer": "Window", "config": {"sizes": {"list": 3}, "options": None}})


@pytest.mark.parametrize("engine", ["eager", "plan"])
def test_numbers_of_numpy_do_not_change_the_dtype(engine: str) -> None:
    x, y = np.ones((4, 3), np.float32), np.array([0, 1, 1, 0])
    net = tc.Sequential(tc.Linear(3, 3), Window(1, None), tc.Linear(3, 2))
    net.fit(x, y, engine=engine, verbose=False)
    layers = net.layers
    net.backward(np.ones_like(net.forward(x)))
    assert layers[1].y.dtype == layers[1].dx.dtype == np.float32


@pytest.mark.parametrize(
    ("method", "result", "message"),
    [
        (
            "compute",
            lambda x, s: x,
            r"compute: an array of shape \(5, 3\) was returned, expected y",
        ),
        (
            "compute",
            lambda x, s: (x.tolist(), x),
            r"compute: a tuple \(list, ndarray\) was returned",
        ),
        ("compute_backward", lambda dy, x: dy, "expected dx and a dictionary of gradients"),
        ("compute_backward", lambda dy, x: (None, {}), r"a tuple \(NoneType, dict\) was returned"),
        (
            "compute_backward",
            lambda dy, x: (dy, {}),
            r"gradients of \[\] were returned, expected of \['weight'\]",
        ),
        ("compute_backward", lambda dy, x: (dy, {"weight": 1, "w": 2}), r"of \['weight', 'w'\]"),
        ("compute_backward", lambda dy, x: (dy, [dy]), r"gradients of \[\] were returned"),
        (
            "compute_backward",
            lambda dy, x: (dy, {"weight": dy}),
            r"compute_backward: weight has shape \(5, 3\), expected \(3,\)",
        ),
        (
            "compute_backward",
            lambda dy, x: (dy[:1], {"weight": dy[0]}),
            r"compute_backward: dx has shape \(1, 3\), expected \(5, 3\)",
        ),
        (
            "output_shape",
            lambda shape: (7,),
            r"output_shape: y has shape \(5, 3\), expected \(5, 7",
        ),
    ],
)
def test_what_a_method_returns_is_checked(method: str, result: Any, message: str) -> None:
    layer = Stretch()
    setattr(layer, method, lambda *arguments: result(*arguments[:2]))
    with pytest.raises((ArgumentError, ShapeError), match=message):
        check_layer(layer, np.ones((5, 3)))


def test_arguments_that_a_file_can_hold(tmp_path: Path) -> None:
    tc.register(Window)
    given = {"a": np.int64(3), "b": [np.float32(0.5), True], "c": None}
    net = tc.Sequential(Window("text", given), input_shape=(3,))
    net.save(tmp_path / "net")
    loaded = tc.load(tmp_path / "net")[0]
    assert (loaded.sizes, loaded.options) == ("text", {"a": 3, "b": [0.5, True], "c": None})


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        (np.ones(2), "Window: options: a is an array of shape"),
        (len, "Window: options: a is the function len, which a file cannot hold; keep numbers"),
        (1j, "Window: options: a is 1j"),
        ({1: 2}, "Window: options: a is {1: 2}"),
    ],
)
def test_arguments_that_a_file_cannot_hold(argument: Any, message: str, tmp_path: Path) -> None:
    tc.register(Window)
    net = tc.Sequential(Window(1, {"a": argument}), input_shape=(3,))
    with pytest.raises(StateError, match=message):
        net.save(tmp_path / "net")
    assert not list(tmp_path.iterdir())


def test_what_is_frozen_has_no_wrong_gradient() -> None:
    layer = tc.Linear(3, 2)
    layer.trainable = False
    report = check_layer(layer, np.random.default_rng(0).normal(size=(5, 3)))
    assert report.ok, str(report)
    assert [row.name for row in report.tensors] == ["x"]


def test_a_file_brings_them_back_if_they_are_registered(tmp_path: Path) -> None:
    x, y = data()
    net = network()
    net.fit(x, y, loss=Quartic(), verbose=False)
    with pytest.raises(StateError, match="save: the layer Halved is not registered, so its file"):
        net.save(tmp_path / "net")
    assert tc.register(Halved) is Halved
    tc.register(Stretch)
    with pytest.raises(StateError, match=r"the loss Quartic is not .* call tinyconv.register\(Qua"):
        net.save(tmp_path / "net")
    tc.register(Quartic)
    net.save(tmp_path / "net")
    again = tc.load(tmp_path / "net")
    np.testing.assert_array_equal(again.predict(x), net.predict(x))
    assert type(again.loss) is Quartic
    for registry, name in ((LAYERS, "Stretch"), (LOSSES, "Quartic")):
        kind = registry.pop(name)
        with pytest.raises(FileError, match=f"unknown {registry.what} '{name}'; if it is a"):
            tc.load(tmp_path / "net")
        tc.register(kind)


def test_fit_knows_a_registered_optimizer_by_name() -> None:
    x, y = data()

    @tc.register
    @dataclass(frozen=True)
    class Slow(Signs):
        lr: float = 0.001

    nets = network(), network()
    for net, rule in zip(nets, ("Slow", Slow()), strict=True):
        net.fit(x, y, loss="mse", optimizer=rule, verbose=False)
    np.testing.assert_array_equal(nets[0].predict(x), nets[1].predict(x))
    with pytest.raises(ArgumentError, match="optimizer is 'Signs', expected an object such as SGD"):
        network().fit(x, y, loss="mse", optimizer="Signs")
    tc.register(Signs)
    message = r"fit: Signs needs arguments; expected an object, such as Signs\(lr=0.1\)"
    with pytest.raises(ArgumentError, match=message):
        network().fit(x, y, loss="mse", optimizer="Signs")


def test_what_cannot_be_registered() -> None:
    class ReLU(tc.ReLU):
        pass

    class MSELoss(tc.MSELoss):
        pass

    class Adam(tc.Adam):
        pass

    for kind, what in ((ReLU, "layer"), (MSELoss, "loss"), (Adam, "optimizer")):
        message = f"register: {kind.__name__} is the name of a {what} of the library; name yours"
        with pytest.raises(ArgumentError, match=message):
            tc.register(kind)
    with pytest.raises(StateError, match="the layer ReLU is not registered"):
        tc.Sequential([ReLU()])._about()
    for other in (tc.Callback, 5):
        with pytest.raises(ArgumentError, match="is no subclass of Layer, Loss or Optimizer"):
            tc.register(other)  # type: ignore[type-var]
    tc.register(Stretch)
    tc.register(Stretch)

    def another() -> type:
        class Stretch(tc.ReLU):
            pass

        return Stretch

    with pytest.raises(ArgumentError, match=r"there is a layer Stretch of .*Stretch already, and"):
        tc.register(another())
    tc.register(tc.ReLU)  # it is known already


def test_a_class_may_be_defined_again() -> None:
    def define() -> type[tc.Layer]:
        class Again(tc.ReLU):
            pass

        return Again

    first, second = define(), define()
    tc.register(first)
    tc.register(second)
    assert LAYERS["Again"] is second


def test_an_argument_that_is_kept_nowhere() -> None:
    class Forgetful(tc.ReLU):
        def __init__(self, much: int) -> None:
            super().__init__()

        config = tc.Layer.config

    with pytest.raises(StateError, match="Forgetful: the argument 'much' of its constructor is"):
        tc.Sequential([Forgetful(3)]).layers[0].config()


def test_layers_by_place_and_path() -> None:
    net = tc.Sequential(tc.Linear(3, 4), tc.Residual([tc.ReLU(), tc.Linear(4, 4)]), tc.Tanh())
    x = data()[0]
    assert len(net) == 3
    assert net[0] is net["0"] is next(iter(net))
    assert net["1.body.1"].path == "1.body.1"
    np.testing.assert_array_equal(net(x), net.forward(x))
    np.testing.assert_array_equal(net[2](net[:2](x)), net(x))
    first = net[:2]
    assert list(first.params) == ["0.weight", "0.bias", "1.body.1.weight", "1.body.1.bias"]
    assert first.params["0.bias"] is net[0].params["bias"]
    with pytest.raises(KeyError, match=r"no layer '1\.other': 1 holds body"):
        net["1.other"]
    with pytest.raises(IndexError):
        net[3]

"""What passes between host and device while layers train one by one: counted on a stand-in."""

import functools
import operator
import sys
from collections import Counter
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import array_api_compat
import array_api_compat.numpy
import numpy as np
import pytest

import tinyconv as tc
from tinyconv import backend
from tinyconv.engines.base import Totals
from tinyconv.engines.eager import EagerEngine
from tinyconv.layers import LAYERS
from tinyconv.losses import MultiMarginLoss, Targets
from tinyconv.metrics import FromFunction, TopK
from tinyconv.testing.examples import LAYER_EXAMPLES

NUMPY: Any = array_api_compat.numpy
#: How often the host uploaded and read something.
counted: Counter[str] = Counter()


class Far:
    """An array that mixes with no NumPy array, as CuPy's; every look at its numbers counts."""

    __array_ufunc__ = None

    def __init__(self, values: Any) -> None:
        self.values = values

    def __array__(self, *arguments: Any, **options: Any) -> Any:
        raise TypeError("no implicit conversion")

    def __array_namespace__(self, api_version: str | None = None) -> Any:
        return FAR

    def __getattr__(self, name: str) -> Any:
        return wrapped(getattr(self.values, name))

    def get(self) -> Any:
        counted["reads"] += 1
        return self.values.copy()

    def __copy__(self) -> "Far":
        return Far(self.values.copy())

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, key: Any) -> Any:
        return wrapped(self.values[self._key(key)])

    def __setitem__(self, key: Any, values: Any) -> None:
        self.values[self._key(key)] = bare(values)

    def _key(self, key: Any) -> Any:
        for each in key if isinstance(key, tuple) else (key,):
            if isinstance(each, Far) and each.values.dtype == bool:
                counted["reads"] += 1  # how many elements it chooses
        return bare(key)


def _look(kind: Any) -> Any:
    def look(self: Far) -> Any:
        counted["reads"] += 1
        return kind(self.values)

    return look


for kind in (float, int, bool):
    setattr(Far, f"__{kind.__name__}__", _look(kind))
Far.item = Far.tolist = _look(np.ndarray.tolist)  # type: ignore[attr-defined]
Far.__index__ = _look(operator.index)  # type: ignore[attr-defined]


def _operator(name: str) -> Any:
    def apply(self: Far, *others: Any) -> Any:
        result = getattr(self.values, name)(*map(bare, others))
        if name.startswith("__i") and name != "__invert__":
            self.values = result
            return self
        return wrapped(result)

    return apply


BOTH = ("add", "sub", "mul", "truediv", "pow", "matmul", "and", "or", "xor", "rshift", "floordiv")
for stem in BOTH:
    for name in (f"__{stem}__", f"__r{stem}__", f"__i{stem}__"):
        setattr(Far, name, _operator(name))
for stem in ("eq", "ne", "lt", "le", "gt", "ge", "neg", "invert", "abs"):
    setattr(Far, f"__{stem}__", _operator(f"__{stem}__"))


def bare(value: Any) -> Any:
    """The value with NumPy's arrays for those of the stand-in, of which alone it may consist."""
    if isinstance(value, Far):
        return value.values
    if isinstance(value, tuple | list):
        return type(value)(map(bare, value))
    if isinstance(value, np.ndarray):
        raise TypeError("an array of NumPy among those of a device")
    return value


def wrapped(value: Any) -> Any:
    if isinstance(value, np.ndarray | np.generic):
        return Far(np.asarray(value))
    if callable(value) and not isinstance(value, type):
        return lambda *args, **options: wrapped(
            value(*map(bare, args), **{name: bare(each) for name, each in options.items()})
        )
    return value


def asarray(values: Any, device: Any = None, **options: Any) -> Far:
    if not isinstance(values, Far):
        counted["uploads"] += 1
        return Far(np.array(values, **options))
    copied: Far = wrapped(NUMPY.asarray(values.values, **options))
    return copied


class Namespace:
    """NumPy's functions, for arrays of the stand-in."""

    def __getattr__(self, name: str) -> Any:
        value = getattr(NUMPY, name)
        return value if name in ("isdtype", "finfo", "iinfo") else wrapped(value)


FAR: Any = Namespace()
FAR.asarray = asarray


@pytest.fixture(autouse=True)
def _device(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    runtime = SimpleNamespace(getDeviceCount=lambda: 1, CUDARuntimeError=RuntimeError)
    ndarray = type("ndarray", (), {})  # which array_api_compat asks for
    cuda = SimpleNamespace(runtime=runtime)
    cupy = SimpleNamespace(asarray=asarray, cuda=cuda, ndarray=ndarray)
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    compat = SimpleNamespace(**vars(array_api_compat))
    compat.is_cupy_array = lambda x: isinstance(x, Far)
    monkeypatch.setattr(backend, "array_api_compat", compat)
    backend._tables.clear()
    counted.clear()
    yield
    backend._tables.clear()


def network(device: str, dtype: str = "float64") -> tc.Sequential:
    """A network of what has tables, masks, running statistics or a look at its numbers."""
    net = tc.Sequential(
        tc.Conv2d(1, 3, 3, padding=1, padding_mode="reflect"),
        tc.BatchNorm2d(3, momentum=None),
        tc.ReLU(),
        tc.MaxPool2d(2, padding=1),
        tc.Upsample(scale_factor=2, mode="bilinear"),
        tc.AvgPool2d(3, 2, padding=1, count_include_pad=False),
        tc.Dropout(0.5),
        tc.Flatten(),
        tc.Linear(None, 4),
        dtype=dtype,
        device=device,
        seed=0,
    )
    net.build((1, 6, 6))
    return net


WEIGHTS = [1.0, 2.0, 0.5, 1.5]
RULES = {
    "sgd": tc.SGD(lr=0.05, momentum=0.9, weight_decay=1e-3, clip_norm=0.5),
    "adam": tc.AdamW(lr=0.01, clip_norm=0.5),
}
LOSSES = {
    "classes": tc.CrossEntropyLoss(WEIGHTS, ignore_index=3, label_smoothing=0.1),
    "margin": MultiMarginLoss(),
    "numbers": tc.MSELoss(),
}


@pytest.mark.parametrize("where", ["host", "device"])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(("loss", "rule"), [(loss, rule) for loss in LOSSES for rule in RULES])
def test_a_step_uploads_its_batch_and_reads_once(
    loss: str, rule: str, weighted: bool, where: str
) -> None:
    rng = np.random.default_rng(0)
    x = rng.random((6, 1, 6, 6))
    y: Any = rng.random((6, 4)) if loss == "numbers" else rng.integers(0, 4, 6)
    weight = rng.random(6) if weighted else None
    nets, means = [network("gpu"), network("cpu")], []
    metrics = [TopK(2)] if loss != "numbers" else []
    for net in nets:
        put = asarray if net.device == "gpu" and where == "device" else np.asarray
        data = Targets(put(y), None if weight is None else put(weight))
        engine = EagerEngine(net)
        engine.start_training(LOSSES[loss], RULES[rule], metrics)
        engine.start_epoch(Totals())
        for step in range(4):
            counted.clear()
            engine.train_step(put(x), data, np.arange(step, step + 3), step, 0.05)
            if step and net.device == "gpu":
                uploads = counted["uploads"] - (put is asarray)  # the test's own
                assert uploads == (3 if weighted else 2)
                assert counted["reads"] == 1
        means.append(engine.totals().means())
    assert means[0] == pytest.approx(means[1])
    for name, value in nets[1].state_dict().items():
        np.testing.assert_allclose(nets[0].state_dict()[name], value, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", LAYER_EXAMPLES)
def test_no_layer_uploads_or_reads_from_its_second_pass_on(name: str) -> None:
    arguments, shape = LAYER_EXAMPLES[name]
    net = tc.Sequential(LAYERS.make(name, arguments), dtype="float64", device="gpu")
    net.build(shape[1:])
    rng = np.random.default_rng(0)
    x = asarray(rng.normal(size=shape))
    dy = asarray(rng.normal(size=net.forward(x).shape))
    for step in range(2):
        counted.clear()
        net.forward(x, True, step)
        net.backward(dy)
    assert not counted


@pytest.mark.parametrize("fault", ["sample", "label", "weight"])
def test_what_is_wrong_is_said_and_leaves_everything_as_on_the_cpu(fault: str) -> None:
    """Errors that wait for the one read: the first of them, in the order of the layers."""
    texts = []
    for net in (network("gpu", "float32"), network("cpu", "float32")):
        x, y, weight = np.ones((4, 1, 6, 6)), np.arange(4), np.ones(4)
        x[0] = np.nan if fault == "sample" else 0
        y[1] = 7 if fault == "label" else 1
        weight[2] = -1 if fault == "weight" else 1
        before = net.state_dict()
        engine = EagerEngine(net)
        engine.start_training(tc.CrossEntropyLoss(WEIGHTS), RULES["sgd"])
        with pytest.raises((tc.NonFiniteError, tc.ArgumentError)) as error:
            engine.train_step(x, Targets(y, weight), np.arange(4), 0, 0.05)
        texts.append(str(error.value))
        for name, value in net.state_dict().items():
            np.testing.assert_array_equal(value, before[name])
    assert texts[0] == texts[1]


def test_a_function_of_ones_own_is_handed_what_was_read() -> None:
    net = network("gpu")
    engine = EagerEngine(net)
    ours = FromFunction(lambda targets, predictions: np.mean(targets == predictions))
    engine.start_training(tc.CrossEntropyLoss(), RULES["sgd"], [ours])
    engine.start_epoch(Totals())
    counted.clear()
    engine.train_step(np.ones((4, 1, 6, 6)), Targets(np.arange(4)), np.arange(4), 0, 0.05)
    assert counted["reads"] == 3  # targets, predictions and everything else


def test_a_gradient_that_is_not_finite_is_named() -> None:
    net = tc.Sequential(tc.Linear(1, 1), device="gpu", seed=0)
    net.parameters.flat[...] = 0
    engine = EagerEngine(net)
    engine.start_training(tc.MSELoss(), RULES["sgd"])
    x, y = np.full((1, 1), 1e25, np.float32), np.full((1, 1), 1e15, np.float32)
    with pytest.raises(
        tc.NonFiniteError, match=r"the loss is finite, and the gradient of 0\.weight"
    ):
        engine.train_step(x, Targets(y), np.arange(1), 0, 0.05)
    assert net.state_dict()["0.weight"] == 0


def test_masks_are_those_of_the_cpu_bit_by_bit() -> None:
    key = tc.random.key(3, "dropout", "1", 17)
    drawn = tc.random.uniform(key, 1000, FAR)
    assert isinstance(drawn, Far)
    np.testing.assert_array_equal(drawn.values, tc.random.uniform(key, 1000))
    assert counted["uploads"] == 0


def made(n: int) -> list[int]:
    return [n]


def test_a_table_is_found_by_its_function_which_must_last() -> None:
    kept = backend.table(np.zeros(1), made, 3)
    assert backend.table(np.zeros(1), made, 3) is kept
    for make in (lambda n: [n], functools.partial(made)):
        with pytest.raises(tc.ArgumentError, match="expected a function of a module"):
            backend.table(np.zeros(1), make, 3)
    assert len(backend._tables) == 1

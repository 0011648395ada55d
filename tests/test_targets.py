"""Whatever a loss takes, a network is trained on: by the plan as layer by layer, and checked."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tinyconv as tc
from tinyconv.errors import ArgumentError, DtypeError, NonFiniteError, ShapeError, StateError
from tinyconv.metrics import figures, metrics_of

S = 21


def row_net(outputs: int, dtype: str = "float32") -> tc.Sequential:
    return tc.Sequential([tc.Linear(5, 7), tc.Tanh(), tc.Linear(7, outputs)], seed=1, dtype=dtype)


def image_net(channels: int, dtype: str = "float32") -> tc.Sequential:
    layers = [tc.Conv2d(1, 3, 3, padding=1), tc.ReLU(), tc.Conv2d(3, channels, 3, padding=1)]
    return tc.Sequential(layers, seed=1, dtype=dtype, input_shape=(1, 4, 5))


def task(name: str, dtype: str = "float32") -> tuple[tc.Sequential, np.ndarray, np.ndarray]:
    """A network with samples and targets of a kind."""
    rng = np.random.default_rng(3)
    rows = rng.normal(size=(S, 5)).astype(dtype)
    images = rng.random((S, 1, 4, 5)).astype(dtype)
    match name:
        case "classes":
            return row_net(3, dtype), rows, rng.integers(0, 3, S)
        case "probabilities":
            return row_net(3, dtype), rows, rng.dirichlet(np.ones(3), S)
        case "pixels":
            return image_net(3, dtype), images, rng.integers(0, 3, (S, 4, 5))
        case "pixel probabilities":
            shares = np.moveaxis(rng.dirichlet(np.ones(3), (S, 4, 5)), -1, 1)
            return image_net(3, dtype), images, np.ascontiguousarray(shares)
        case "numbers":
            return row_net(2, dtype), rows, rng.normal(size=(S, 2))
        case "whole numbers":
            return row_net(1, dtype), rows, rng.integers(-3, 4, (S, 1))
        case "images":
            return image_net(1, dtype), images, images
        case "labels that coincide":
            return row_net(4, dtype), rows, rng.integers(0, 2, (S, 4))
        case _:
            raise ValueError(name)


CLASSES = ("classes", "probabilities", "pixels", "pixel probabilities")
NUMBERS = ("numbers", "whole numbers", "images")
FIT: dict[str, tuple[str, ...]] = {
    "cross_entropy": CLASSES,
    "quadratic": CLASSES,
    "sigmoid_cross_entropy": CLASSES,
    "hinge": ("classes", "pixels"),
    "mse": NUMBERS,
    "l1": NUMBERS,
    "huber": NUMBERS,
    "bce_with_logits": ("labels that coincide", "images"),
}


@settings(max_examples=25)
@given(draw=st.data())
def test_plan_and_eager_take_the_same_steps_and_see_the_same_figures(draw: st.DataObject) -> None:
    loss = draw.draw(st.sampled_from(sorted(FIT)))
    kind = draw.draw(st.sampled_from(FIT[loss]))
    is_weighted = draw.draw(st.booleans())
    batch_size = draw.draw(st.sampled_from([4, S]))
    weight = np.random.default_rng(0).integers(0, 3, S).astype(float) if is_weighted else None
    results = []
    for engine in ("plan", "eager"):
        net, x, y = task(kind)
        history = net.fit(
            x,
            y,
            epochs=2,
            batch_size=batch_size,
            loss=loss,
            sample_weight=weight,
            optimizer=tc.SGD(lr=0.01),
            validation_data=(x, y),
            engine=engine,
            verbose=False,
        )
        results.append((net.parameters.flat, history))
    (plan, of_plan), (eager, of_eager) = results
    np.testing.assert_allclose(plan, eager, rtol=1e-4, atol=1e-5)
    figures = {"loss", "val_loss"} | (
        {"accuracy", "val_accuracy"} if kind not in NUMBERS else set()
    )
    if loss == "bce_with_logits":
        figures |= {"accuracy", "val_accuracy"}
    times = {"epoch", "lr", "seconds", "samples_per_second"}
    for one, other in zip(of_plan, of_eager, strict=True):
        assert set(one) == figures | times
        assert {k: one[k] for k in figures} == pytest.approx(
            {k: other[k] for k in figures}, rel=1e-4
        )


@pytest.mark.parametrize("engine", ["plan", "eager"])
@pytest.mark.parametrize(("loss", "kind"), [("cross_entropy", "classes"), ("mse", "numbers")])
def test_a_weight_is_how_often_a_sample_counts(engine: str, loss: str, kind: str) -> None:
    often = np.random.default_rng(1).integers(0, 3, S)
    (net, x, y), (other, *_) = task(kind), task(kind)
    options: dict[str, Any] = {"batch_size": 100, "loss": loss, "engine": engine, "verbose": False}
    history = net.fit(x, y, sample_weight=often, **options)
    repeated = other.fit(x.repeat(often, 0), y.repeat(often, 0), **options)
    np.testing.assert_allclose(net.parameters.flat, other.parameters.flat, rtol=1e-5, atol=1e-6)
    assert history["loss"] == pytest.approx(repeated["loss"], rel=1e-5)
    assert net.evaluate(x, y, sample_weight=often) == pytest.approx(
        other.evaluate(x.repeat(often, 0), y.repeat(often, 0)), rel=1e-4
    )
    many = net.fit(x, y, sample_weight=often, validation_data=(x, y, often), **options)
    again = net.evaluate(x, y, sample_weight=often)
    assert many["val_loss"] == pytest.approx([again["loss"]])


def test_figures_by_hand() -> None:
    net = tc.Sequential([tc.Linear(2, 2, bias=False)], dtype="float64")
    net.parameters.flat[...] = [1, 0, 0, 1]  # the identity
    x = np.array([[3.0, -1.0], [0.5, 2.0]])
    net.loss = tc.BCEWithLogitsLoss()
    figures = net.evaluate(x, np.array([[1, 0], [1, 0]]))
    assert figures["accuracy"] == 0.75
    np.testing.assert_array_equal(net.predict(x), [[1, 0], [1, 1]])
    np.testing.assert_allclose(net.predict_proba(x), 1 / (1 + np.exp(-x)))
    net.loss = tc.MSELoss()
    np.testing.assert_array_equal(net.predict(x), x)
    assert net.evaluate(x, x + 2, metrics=["mae"]) == {"loss": 4.0, "mae": 2.0}
    with pytest.raises(StateError, match="predict_proba: MSELoss knows no probabilities; use logi"):
        net.predict_proba(x)
    net.loss = tc.CrossEntropyLoss()
    assert net.evaluate(x, np.array([[0.9, 0.1], [1.0, 0.0]]))["accuracy"] == 0.5


def test_pixels_are_predicted_one_by_one() -> None:
    net, x, y = task("pixels")
    assert net.predict(x).shape == y.shape
    assert net.predict_proba(x).shape == (S, 3, 4, 5)
    np.testing.assert_allclose(net.predict_proba(x).sum(axis=1), 1, rtol=1e-5)
    assert net.evaluate(x, y)["accuracy"] == np.mean(net.predict(x) == y)
    top_2 = net.evaluate(x, y, metrics=["top_2"])["top_2"]
    worst = net.logits(x).argmin(axis=1)
    assert top_2 == pytest.approx(np.mean(worst != y))
    y[:, 0] = 255
    ignoring = tc.CrossEntropyLoss(ignore_index=255)
    history = net.fit(x, y, loss=ignoring, optimizer=tc.SGD(1e-9), batch_size=6, verbose=False)
    figures = net.evaluate(x, y)
    assert figures["accuracy"] == np.mean(net.predict(x)[:, 1:] == y[:, 1:])
    assert history["accuracy"] == pytest.approx([figures["accuracy"]])
    assert history["loss"] == pytest.approx([figures["loss"]], rel=1e-5)


@pytest.mark.parametrize("engine", ["plan", "eager"])
@pytest.mark.parametrize("loss", ["bce_with_logits", "cross_entropy"])
def test_targets_that_float32_does_not_tell_apart(engine: str, loss: str) -> None:
    net = tc.Sequential([tc.Linear(2, 2)], seed=0)
    x = np.array([[1.0, 1.0]], np.float32)
    net.layers[0].params["weight"][...] = [[1, 1], [2, 2]]
    y = np.array([[0.5 - 1e-12, 0.5 + 1e-12]])  # as float32 two halves, none above 1/2
    expected = {"accuracy": 0.0}
    history = net.fit(x, y, loss=loss, engine=engine, optimizer=tc.SGD(lr=1e-9), verbose=False)
    assert {"accuracy": history["accuracy"][0]} == expected
    assert net.evaluate(x, y, metrics=["accuracy"])["accuracy"] == expected["accuracy"]


def test_functions_as_figures() -> None:
    net, x, y = task("numbers")

    def largest_error(targets: np.ndarray, predictions: np.ndarray) -> float:
        return float(np.abs(targets - predictions).max())

    history = net.fit(
        x, y, loss="mse", metrics=["mae", largest_error], validation_data=(x, y), verbose=False
    )
    expected = np.abs(net.predict(x) - y)
    assert history["val_largest_error"] == [pytest.approx(expected.max())]
    assert history["val_mae"] == [pytest.approx(expected.mean(), rel=1e-5)]
    assert {"largest_error", "mae"} <= set(history.rows[0])


def test_names_are_objects() -> None:
    nets = []
    for loss, optimizer in (("huber", "adam"), (tc.HuberLoss(), tc.Adam())):
        net, x, y = task("numbers")
        net.fit(x, y, loss=loss, optimizer=optimizer, verbose=False)
        nets.append(net)
    np.testing.assert_array_equal(nets[0].parameters.flat, nets[1].parameters.flat)


def test_an_autoencoder_learns_and_comes_back(tmp_path: Path) -> None:
    x = np.random.default_rng(0).random((64, 1, 4, 4)).astype("f").round()
    net = tc.Sequential(
        [
            tc.Conv2d(1, 8, 2, stride=2),
            tc.Tanh(),
            tc.ConvTranspose2d(8, 8, 2, stride=2),
            tc.ReLU(),
            tc.Conv2d(8, 1, 1),
        ]
    )
    history = net.fit(x, x, epochs=30, loss="mse", optimizer="adam", batch_size=8, verbose=False)
    assert history["loss"][-1] < 0.6 * history["loss"][0]
    net.save(tmp_path / "net")
    again = tc.load(tmp_path / "net")
    np.testing.assert_array_equal(again.predict(x), net.predict(x))
    assert again.predict(x).shape == x.shape


def test_loss_and_grads_of_any_target() -> None:
    for name, loss in [("pixels", tc.CrossEntropyLoss()), ("numbers", tc.MSELoss())]:
        net, x, y = task(name, "float64")
        net.loss = loss
        value, grads = net.loss_and_grads(x, y)
        assert value == pytest.approx(net.evaluate(x, y)["loss"])
        assert all(np.abs(g).max() > 0 for g in grads.values())
        halves, _ = net.loss_and_grads(x, y, sample_weight=np.arange(S) < 7)
        assert halves == pytest.approx(net.evaluate(x[:7], y[:7])["loss"])
        listed, _ = net.loss_and_grads(x.astype("f").tolist(), y.tolist())
        assert listed == pytest.approx(value, rel=1e-5)


# What is refused, and the line that mends it.


def refused(
    net: tc.Sequential, x: Any, y: Any, error: type[Exception], text: str, **k: Any
) -> None:
    with pytest.raises(error) as raised:
        net.fit(x, y, verbose=False, **k)
    assert str(raised.value) == f"fit: {text}"
    assert net.position.step == 0


@pytest.mark.parametrize(
    ("name", "loss", "change", "error", "text"),
    [
        (
            "classes",
            "cross_entropy",
            lambda y: np.eye(3, dtype=int)[y],
            ShapeError,
            "y has shape (21, 3), expected (21,) with class indices; pass y.argmax(axis=1)",
        ),
        (
            "classes",
            "cross_entropy",
            lambda y: y[:, None],
            ShapeError,
            "y has shape (21, 1), expected (21,) with class indices; pass y[..., 0]",
        ),
        (
            "classes",
            "hinge",
            lambda y: y.astype(float),
            DtypeError,
            "y has dtype float64, expected integer class indices; pass y.astype(int)",
        ),
        (
            "classes",
            "cross_entropy",
            lambda y: y + 0.5,
            DtypeError,
            "y has dtype float64, expected integer class indices; for numbers to be met use "
            'loss="mse"',
        ),
        (
            "classes",
            "cross_entropy",
            lambda y: np.array(["cat", "dog", "eel"])[y],
            DtypeError,
            "y has dtype <U3, expected integer class indices; pass "
            "np.unique(y, return_inverse=True)[1]",
        ),
        (
            "classes",
            "cross_entropy",
            lambda y: np.array(["cat", "dog", "eel"], dtype=np.dtypes.StringDType())[y],
            DtypeError,
            "y has dtype object, expected integer class indices; pass "
            "np.unique(y, return_inverse=True)[1]",
        ),
        (
            "classes",
            "cross_entropy",
            lambda y: np.rec.fromarrays([y, y]),
            DtypeError,
            "y has dtype object, expected integer class indices; pass "
            "np.unique(y, return_inverse=True)[1]",
        ),
        (
            "classes",
            "cross_entropy",
            lambda y: y + 1,
            ArgumentError,
            "y runs from 1 to 3, expected 0 to 2 because the network has 3 outputs; pass y - 1",
        ),
        (
            "classes",
            "mse",
            lambda y: y,
            ShapeError,
            "y has shape (21,), expected (21, 3) like the outputs; for class indices use "
            'loss="cross_entropy" or pass np.eye(3)[y]',
        ),
        (
            "probabilities",
            "cross_entropy",
            lambda y: y * 2,
            ArgumentError,
            None,
        ),
        (
            "labels that coincide",
            "cross_entropy",
            lambda y: np.where([True, True, False, False], np.ones((S, 4)), 0),
            ArgumentError,
            "the probabilities of a sample in y add up to 2.0, expected 1; for labels that do not "
            'exclude each other use loss="bce_with_logits"',
        ),
        (
            "whole numbers",
            "mse",
            lambda y: y[:, 0].astype(float),
            ShapeError,
            "y has shape (21,), expected (21, 1) like the outputs; pass y[:, None]",
        ),
        (
            "numbers",
            "mse",
            lambda y: np.where(np.arange(S)[:, None] == 4, np.nan, y),
            ArgumentError,
            "y holds values that are not finite",
        ),
        (
            "numbers",
            "l1",
            lambda y: y * 1j,
            DtypeError,
            "y has dtype complex128, expected real numbers",
        ),
        (
            "images",
            "mse",
            lambda y: y.transpose(0, 2, 3, 1),
            ShapeError,
            "y has shape (21, 4, 5, 1), expected (21, 1, 4, 5) like the outputs; pass "
            "y.transpose(0, 3, 1, 2)",
        ),
        (
            "images",
            "mse",
            lambda y: y.reshape(S, 20),
            ShapeError,
            "y has shape (21, 20), expected (21, 1, 4, 5) like the outputs; pass "
            "y.reshape(-1, 1, 4, 5)",
        ),
        (
            "images",
            "bce_with_logits",
            lambda y: np.full(y.shape, 255, np.uint8),
            ArgumentError,
            "y runs from 255.0 to 255.0, expected 0 to 1; pass y / 255",
        ),
        (
            "images",
            "bce_with_logits",
            lambda y: np.where(y > 0.5, 2.0, 0.0),
            ArgumentError,
            "y runs from 0.0 to 2.0, expected 0 to 1; pass y / 2",
        ),
        (
            "images",
            "bce_with_logits",
            lambda y: np.arange(y.size).reshape(y.shape) % 4,
            ArgumentError,
            'y runs from 0.0 to 3.0, expected 0 to 1; for numbers to be met use loss="mse"',
        ),
        (
            "images",
            "bce_with_logits",
            lambda y: np.arange(y.size).reshape(y.shape) % 200,
            ArgumentError,
            "y runs from 0.0 to 199.0, expected 0 to 1; pass y / 255",
        ),
    ],
)
def test_targets_that_do_not_fit(
    name: str, loss: str, change: Any, error: type[Exception], text: str | None
) -> None:
    net, x, y = task(name)
    if text is None:
        with pytest.raises(error, match=r"^fit: y runs from .* to 1\.\d*, expected 0 to 1"):
            net.fit(x, change(y), loss=loss, verbose=False)
    else:
        refused(net, x, change(y), error, text, loss=loss)


@pytest.mark.parametrize(
    ("change", "error", "text"),
    [
        (
            lambda x: x.transpose(0, 2, 3, 1),
            ShapeError,
            "x has shape (21, 4, 5, 1), expected (N, 1, 4, 5); pass x.transpose(0, 3, 1, 2)",
        ),
        (
            lambda x: x[:, 0],
            ShapeError,
            "x has shape (21, 4, 5), expected (N, 1, 4, 5); pass x[:, None]",
        ),
        (
            lambda x: x.reshape(S, 20),
            ShapeError,
            "x has shape (21, 20), expected (N, 1, 4, 5); pass x.reshape(-1, 1, 4, 5)",
        ),
        (
            lambda x: (255 * x).astype(np.uint8),
            DtypeError,
            "x has dtype uint8, expected a floating-point type; pass x / 255",
        ),
        (
            lambda x: x.astype(int),
            DtypeError,
            'x has dtype int64, expected a floating-point type; pass x.astype("float32")',
        ),
    ],
)
def test_samples_that_do_not_fit(change: Any, error: type[Exception], text: str) -> None:
    net, x, y = task("pixels")
    refused(net, change(x), y, error, text)


@pytest.mark.parametrize(
    ("weight", "error", "text"),
    [
        (np.ones(3), ShapeError, "sample_weight has shape (3,), expected (21,)"),
        (
            np.arange(S) - 1,
            ArgumentError,
            "sample_weight holds -1.0 to 19.0, expected numbers of at least 0, and one above",
        ),
        (
            np.zeros(S),
            ArgumentError,
            "sample_weight holds 0.0 to 0.0, expected numbers of at least 0, and one above",
        ),
    ],
)
def test_weights_that_do_not_fit(weight: Any, error: type[Exception], text: str) -> None:
    net, x, y = task("classes")
    refused(net, x, y, error, text, sample_weight=weight)


def test_a_loss_that_takes_no_weights() -> None:
    class Plain(tc.MSELoss):
        def forward(self, outputs: Any, targets: Any) -> Any:  # type: ignore[override]
            return super().forward(outputs, targets)

    net, x, y = task("numbers")
    text = "the forward method of Plain takes no sample_weight"
    refused(net, x, y, ArgumentError, text, loss=Plain(), sample_weight=np.ones(S))
    net.fit(x, y, loss=Plain(), verbose=False)


def test_figures_that_make_no_sense() -> None:
    net, x, y = task("numbers")
    for metric, why in [
        ("accuracy", "MSELoss asks for numbers, which are not right or wrong; try 'mae'"),
        ("top_2", "MSELoss does not ask for one class a sample"),
    ]:
        text = f"the metric {metric!r} makes no sense: {why}"
        refused(net, x, y, ArgumentError, text, loss="mse", metrics=[metric])


def test_class_weights_are_as_many_as_outputs() -> None:
    net, x, y = task("classes")
    text = "the loss has weights of 2 classes, the network 3 outputs"
    refused(net, x, y, ArgumentError, text, loss=tc.CrossEntropyLoss([1.0, 2.0]))


@pytest.mark.oracle
@pytest.mark.parametrize("name", ["pixels", "probabilities", "labels that coincide", "images"])
def test_a_training_run_equals_pytorchs(torch: Any, name: str) -> None:
    losses = {
        "labels that coincide": ("bce_with_logits", torch.nn.BCEWithLogitsLoss()),
        "images": ("huber", torch.nn.HuberLoss()),
    }
    loss, theirs = losses.get(name, ("cross_entropy", torch.nn.CrossEntropyLoss()))
    net, x, y = task(name)
    parts = [
        torch.nn.Conv2d(1, 3, 3, padding=1) if x.ndim == 4 else torch.nn.Linear(5, 7),
        torch.nn.ReLU() if x.ndim == 4 else torch.nn.Tanh(),
    ]
    outputs = net.parameters.values["2.bias"].size
    last = torch.nn.Conv2d(3, outputs, 3, padding=1) if x.ndim == 4 else torch.nn.Linear(7, outputs)
    twin = torch.nn.Sequential(*parts, last)
    twin.load_state_dict({k: torch.tensor(v) for k, v in net.state_dict().items()})
    sgd = torch.optim.SGD(twin.parameters(), lr=0.1)
    values = []
    for _ in range(5):
        sgd.zero_grad()
        t = torch.tensor(y)
        value = theirs(
            twin(torch.tensor(x)), t if t.dtype == torch.int64 and loss[0] == "c" else t.float()
        )
        value.backward()
        sgd.step()
        values.append(value.item())
    history = net.fit(
        x, y, epochs=5, batch_size=S, loss=loss, optimizer=tc.SGD(lr=0.1), verbose=False
    )
    assert history["loss"] == pytest.approx(values, rel=1e-4)


def test_a_function_gets_the_weights_that_it_asks_for() -> None:
    def share(targets: Any, predictions: Any, sample_weight: Any = None) -> float:
        return float(np.average(targets == predictions, weights=sample_weight))

    rng = np.random.default_rng(0)
    x, y, weight = rng.normal(size=(30, 4)).astype("f4"), rng.integers(0, 3, 30), rng.random(30)
    net = tc.Sequential(tc.Linear(4, 3))
    for weights in (None, weight):
        found = net.evaluate(x, y, sample_weight=weights, metrics=["accuracy", share])
        assert found["share"] == pytest.approx(found["accuracy"])
    row = net.fit(
        x, y, sample_weight=weight, validation_data=(x, y, weight), metrics=["accuracy", share],
        batch_size=30, verbose=False,
    ).rows[0]  # fmt: skip
    assert row["share"] == pytest.approx(row["accuracy"])
    assert row["val_share"] == pytest.approx(row["val_accuracy"])


def test_logits_of_labels_are_no_numbers_to_be_met() -> None:
    net = tc.Sequential(tc.Linear(4, 3))
    x, y = np.ones((2, 4), "f4"), np.ones((2, 3), "f4")
    with pytest.raises(ArgumentError, match="the metric 'mae' makes no sense: the targets are cl"):
        net.fit(x, y, loss="bce_with_logits", metrics=["mae"], verbose=False)


@settings(max_examples=25)
@given(draw=st.data())
def test_evaluate_finds_what_the_outputs_say(draw: st.DataObject) -> None:
    loss = draw.draw(st.sampled_from(sorted(FIT)))
    kind = draw.draw(st.sampled_from(FIT[loss]))
    net, x, y = task(kind)
    net.start_training(loss=loss)
    names = [*net.loss.metrics, *(["mse", "mae"] if loss in ("mse", "l1", "huber") else [])]
    names += ["top_2"] if kind in CLASSES else []
    weight = np.random.default_rng(0).integers(0, 3, S).astype("f")
    weights = [weight] if draw.draw(st.booleans()) else []
    outputs = net.logits(x)
    measured = metrics_of("evaluate", names, net.loss, outputs.shape[1:])
    expected = figures(measured, net.loss, outputs, y, *weights)
    batch_size = draw.draw(st.sampled_from([1, 5, S]))
    tc.set_num_threads(draw.draw(st.sampled_from([1, 2])))
    try:
        found = net.evaluate((x, y, *weights), metrics=names, batch_size=batch_size)
    finally:
        tc.set_num_threads(None)
    assert list(found) == list(expected)
    assert found == pytest.approx(expected, rel=1e-4)


def test_evaluate_of_large_images_in_pieces() -> None:
    net = tc.Sequential([tc.Conv2d(3, 24, 3, padding=1), tc.ReLU(), tc.Conv2d(24, 5, 1)], seed=0)
    rng = np.random.default_rng(0)
    x, y = rng.random((37, 3, 64, 64), np.float32), rng.integers(0, 5, (37, 64, 64))
    outputs, weight = net.logits(x), rng.random(37, np.float32)
    measured = metrics_of("evaluate", ["accuracy"], net.loss, outputs.shape[1:])
    expected = figures(measured, net.loss, outputs, y, weight)
    assert net.evaluate(x, y, sample_weight=weight) == pytest.approx(expected, rel=1e-5)
    assert net._engine._meter.context.batch < 37


def test_evaluate_sees_what_has_changed() -> None:
    net, x, y = task("classes")
    loss = net.loss = tc.CrossEntropyLoss()
    first = net.evaluate(x, y)
    loss.label_smoothing = 0.5
    assert net.evaluate(x, y)["loss"] != first["loss"]
    net.loss = tc.CrossEntropyLoss()
    assert net.evaluate(x, y) == first
    loss, equal = (tc.CrossEntropyLoss([1.0, 2.0, 3.0]) for _ in range(2))
    net.loss = loss
    weighted = net.evaluate(x, y)
    loss.weight, net.loss = [5.0, 5.0, 5.0], equal
    assert net.evaluate(x, y) == weighted
    net.loss = tc.CrossEntropyLoss()
    net.parameters.flat[...] = 0
    assert net.evaluate(x, y)["loss"] == pytest.approx(np.log(3))
    net.layers[2].params["bias"][...] = [9, 0, 0]
    assert net.evaluate(x, y)["accuracy"] == np.mean(y == 0)
    assert net.evaluate(x[:3], y[:3])["accuracy"] == np.mean(y[:3] == 0)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_evaluate_asks_nothing_of_what_does_not_count(dtype: str) -> None:
    net, x, y = task("classes", dtype)
    net.loss = tc.CrossEntropyLoss(ignore_index=9)
    expected = net.evaluate(x[1:], y[1:])
    x[0], y[0] = np.nan, 9
    assert net.evaluate(x, y) == pytest.approx(expected)
    y[0] = 0
    with pytest.raises(NonFiniteError, match="evaluate: the output for sample 0 is NaN"):
        net.evaluate(x, y)

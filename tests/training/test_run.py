"""What ``fit`` takes: pairs, batches, lists and frames, shares, transforms; what it continues."""

from functools import partial
from typing import Any

import numpy as np
import pytest

import tinyconv as tc
from tinyconv.errors import ArgumentError, DeviceError, ShapeError


def data(n: int = 20) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.normal(size=(n, 3)).astype("f"), rng.integers(0, 2, n)


def network() -> tc.Sequential:
    return tc.Sequential(tc.Linear(3, 4), tc.Tanh(), tc.Linear(4, 2), seed=1)


def fitted(*arguments: Any, **options: Any) -> np.ndarray:
    net = network()
    net.fit(*arguments, **({"verbose": False, "engine": "eager"} | options))
    return net.parameters.flat


def test_the_same_data_in_other_clothes() -> None:
    x, y = data()
    expected = fitted(x, y)
    np.testing.assert_array_equal(fitted((x, y)), expected)
    np.testing.assert_array_equal(fitted([x, y]), expected)
    np.testing.assert_array_equal(fitted(x.tolist(), y.tolist()), expected)
    np.testing.assert_array_equal(fitted(tc.data.Split(x, y)), expected)


@pytest.mark.oracle
def test_frames_and_tensors(torch: Any) -> None:
    pandas = pytest.importorskip("pandas")
    x, y = data()
    expected = fitted(x, y)
    frame = pandas.DataFrame(x)
    np.testing.assert_array_equal(fitted(frame, pandas.Series(y)), expected)
    np.testing.assert_array_equal(fitted(torch.tensor(x), torch.tensor(y)), expected)
    loader = torch.utils.data.DataLoader(
        torch.utils.data.TensorDataset(torch.tensor(x), torch.tensor(y)), batch_size=10
    )
    np.testing.assert_array_equal(fitted(loader), fitted(x, y, shuffle=False))


@pytest.mark.oracle
def test_bfloat16(torch: Any) -> None:
    """Of which NumPy knows nothing."""
    x, y = data()
    half = torch.tensor(x).bfloat16()
    np.testing.assert_array_equal(fitted(half, y), fitted(half.float().numpy(), y))


@pytest.mark.parametrize("engine", ["plan", "eager"])
def test_batches_of_ones_own(engine: str) -> None:
    x, y = data()
    batches = [(x[:8], y[:8]), (x[8:15], y[8:15]), (x[15:], y[15:])]
    net, by_hand = network(), network()
    history = net.fit(batches, epochs=2, validation_data=(x, y), engine=engine, verbose=False)
    assert net.position.step == 6
    by_hand.start_training(engine=engine)
    losses = [by_hand.train_step(*batch) for _ in range(2) for batch in batches]
    np.testing.assert_array_equal(net.parameters.flat, by_hand.parameters.flat)
    sizes = [len(batch[1]) for batch in batches]
    assert history["loss"][0] == pytest.approx(np.average(losses[:3], weights=sizes), rel=1e-6)
    weighed = [(*batch, np.ones(len(batch[1]))) for batch in batches]
    np.testing.assert_allclose(
        fitted(weighed, epochs=2, engine=engine), net.parameters.flat, rtol=1e-5
    )


@pytest.mark.parametrize("engine", ["plan", "eager"])
@pytest.mark.parametrize("length", ["known", "unknown"])
def test_batches_that_are_all_written_into_the_same_arrays(engine: str, length: str) -> None:
    x, y = data()

    class Reader(Stream):
        def __iter__(self) -> Any:
            samples, labels = np.empty((5, 3), "f"), np.empty(5, np.int64)
            for first in range(0, 20, 5):
                samples[:], labels[:] = x[first : first + 5], y[first : first + 5]
                yield samples, labels

    class Sized(Reader):
        def __len__(self) -> int:
            return 4

    expected = fitted(x, y, batch_size=5, shuffle=False, epochs=2, engine=engine)
    reader = (Sized if length == "known" else Reader)(None)
    np.testing.assert_array_equal(fitted(reader, epochs=2, engine=engine), expected)
    once = fitted(x, y, batch_size=5, shuffle=False, engine=engine)
    np.testing.assert_array_equal(fitted(iter(reader), engine=engine), once)


class Stream:
    """Gives batches again and again, and does not say how many."""

    def __init__(self, batches: Any) -> None:
        self.batches = batches

    def __iter__(self) -> Any:
        return iter(self.batches)


def test_batches_whose_number_nobody_knows() -> None:
    x, y = data()
    batches = [(x[:8], y[:8]), (x[8:15], y[8:15]), (x[15:], y[15:])]
    numbers: list[int] = []

    class Count(tc.Callback):
        def on_batch_end(self, training: Any) -> None:
            numbers.append(training.batches)

    def generate() -> Any:
        yield from batches

    def rates(source: Any) -> Any:
        net = network()
        falling = tc.Schedule(lambda t, rows: 1 / (1 + t), per="step")
        history = net.fit(source, epochs=2, callbacks=[falling, Count()], verbose=False)
        return net.parameters.flat, history["lr"], net.position

    expected = rates(batches)
    assert numbers == [3] * 6
    for source in (Stream(batches), generate, lambda: iter(batches), partial(iter, batches)):
        numbers.clear()
        found = rates(source)
        assert numbers == [0, 0, 3, 3, 3, 3]
        np.testing.assert_array_equal(found[0], expected[0])
        assert found[1:] == expected[1:]
    np.testing.assert_array_equal(fitted(generate()), fitted(batches))
    np.testing.assert_array_equal(fitted(iter(batches)), fitted(batches))


def test_a_stop_within_the_first_epoch_of_a_stream() -> None:
    class Stop(tc.Callback):
        def on_batch_end(self, training: Any) -> None:
            training.stop = "enough"

    net = network()
    history = net.fit(Stream([(X, Y)] * 3), callbacks=[Stop()], verbose=False)
    assert (len(history), net.position.batch, net.position.step) == (0, 1, 1)


class Capsule:
    """What another library hands over by DLPack, and by nothing else."""

    def __init__(self, array: np.ndarray) -> None:
        self.array = array

    def __dlpack__(self, **options: Any) -> Any:
        return self.array.__dlpack__(**options)

    def __dlpack_device__(self) -> Any:
        return self.array.__dlpack_device__()


def test_arrays_of_any_library_that_follows_the_standard() -> None:
    xs = pytest.importorskip("array_api_strict")
    x, y = np.eye(4, 3, dtype=np.float32), np.arange(4) % 2
    weight = np.ones(4)
    given, expected = tc.Sequential(tc.Linear(3, 2)), tc.Sequential(tc.Linear(3, 2))
    for net, own in ((given, xs.asarray), (expected, np.asarray)):
        pair, weights = (own(x), own(y)), own(weight)
        net.fit(*pair, sample_weight=weights, validation_data=pair, epochs=2, verbose=False)
        net.fit([pair], verbose=False)
        net.train_step(*pair)
    assert (given.parameters.flat == expected.parameters.flat).all()
    assert (given.predict(xs.asarray(x)) == expected.predict(x)).all()


def test_objects_of_the_package_that_are_no_arrays_are_refused_by_name() -> None:
    x, y = data()
    net, split = network(), tc.data.Split(x, y)
    found = tc.data.DataSet(split, split, split)
    for given, message in (
        (found, "x is a DataSet, expected an array"),
        (split, "x cannot become a NumPy array"),
        (net, "x is a Sequential, expected an array"),
    ):
        with pytest.raises(tc.DeviceError, match=f"predict: {message}"):
            net.predict(given)


def test_arrays_by_dlpack_alone() -> None:
    x, y = data()
    np.testing.assert_array_equal(fitted(Capsule(x), Capsule(y)), fitted(x, y))
    net = network()
    np.testing.assert_array_equal(net.predict(Capsule(x)), net.predict(x))

    class Elsewhere(Capsule):
        def __dlpack__(self, **options: Any) -> Any:
            raise BufferError("it is on another device")

    with pytest.raises(DeviceError, match="fit: x cannot become a NumPy array: it is on another"):
        net.fit(Elsewhere(x), y)


def test_the_last_batch_may_be_dropped() -> None:
    x, y = data(23)
    net = network()
    net.fit(x, y, batch_size=10, drop_last=True, epochs=2, verbose=False)
    assert net.position.step == 4
    np.testing.assert_array_equal(
        fitted(x, y, batch_size=10, drop_last=True, shuffle=False),
        fitted(x[:20], y[:20], batch_size=10, shuffle=False),
    )


def test_a_share_is_kept_for_validation() -> None:
    x, y = data(40)
    seen: list[np.ndarray] = []

    def watch(batch: np.ndarray, key: int) -> np.ndarray:
        seen.append(batch)
        return batch

    net = network()
    history = net.fit(x, y, validation_split=0.25, augment=watch, verbose=False)
    trained = {tuple(row) for row in np.concatenate(seen)}
    held = np.array([tuple(row) not in trained for row in x])
    assert (len(trained), held.sum()) == (30, 10)
    assert history["val_loss"] == [pytest.approx(net.evaluate(x[held], y[held])["loss"])]


@pytest.mark.parametrize("engine", ["plan", "eager"])
def test_a_transform_of_every_batch(engine: str) -> None:
    x, y = data()
    before = x.copy()
    keys: list[int] = []

    def negate(batch: np.ndarray, key: int) -> np.ndarray:
        keys.append(key)
        return -batch

    flipped = fitted(x, y, epochs=2, augment=negate, engine=engine)
    np.testing.assert_array_equal(flipped, fitted(-x, y, epochs=2, engine=engine))
    np.testing.assert_array_equal(x, before)
    assert len(set(keys)) == 4  # one a batch and epoch
    again: list[int] = []
    fitted(x, y, epochs=2, augment=lambda b, key: (again.append(key), b)[1], engine=engine)
    assert again == keys


def test_images_are_distorted() -> None:
    x = np.random.default_rng(0).random((12, 1, 8, 8)).astype("f")
    net = tc.Sequential(tc.Flatten(), tc.Linear(64, 2))
    shift = tc.data.augment.shift
    net.fit(x, np.arange(12) % 2, augment=lambda x, key: shift(x, 1, key), verbose=False)
    assert net.position.step == 2


def test_a_second_fit_continues_the_optimizer() -> None:
    x, y = data()
    adam = tc.Adam(lr=0.01)
    whole, parts, afresh = network(), network(), network()
    options: dict[str, Any] = {"shuffle": False, "verbose": False, "engine": "eager"}
    whole.fit(x, y, epochs=4, optimizer=adam, **options)
    parts.fit(x, y, epochs=2, optimizer=adam, **options)
    parts.fit(x, y, epochs=2, **options)
    np.testing.assert_array_equal(whole.parameters.flat, parts.parameters.flat)
    for _ in range(2):
        afresh.fit(x, y, epochs=2, optimizer=adam, **options)
    assert not np.array_equal(whole.parameters.flat, afresh.parameters.flat)


def test_a_step_by_hand_takes_a_rate_and_weights() -> None:
    x, y = data()
    net, other = network(), network()
    net.train_step(x, y, lr=0.5)
    other.start_training(optimizer=tc.SGD(lr=0.5))
    other.train_step(x, y)
    np.testing.assert_array_equal(net.parameters.flat, other.parameters.flat)
    value = other.train_step(x, y, sample_weight=np.arange(20) < 5)
    net.train_step(x[:5], y[:5], lr=0.5)
    np.testing.assert_allclose(net.parameters.flat, other.parameters.flat, rtol=1e-5, atol=1e-7)
    assert value > 0


X, Y = data()


@pytest.mark.parametrize(
    ("arguments", "options", "text"),
    [
        ((X,), {}, "fit: x is an array of shape (20, 3) and y is missing; expected x and y, or"),
        (([X],), {}, "fit: batch 1 is an array of shape (20, 3), expected (x, y) or (x, y, sam"),
        ((lambda: 5,), {}, "fit: x() is 5 and y is missing; expected x and y, or batches"),
        ((5,), {}, "fit: x is 5 and y is missing; expected x and y, or batches (x, y) in a list"),
        (
            (iter([(X, Y)]),),
            {"epochs": 2},
            "which gives its batches once, and epochs is 2",
        ),
        ((iter([(X, Y)]),), {"checkpoint": "no"}, "whose number of batches nobody knows, so a che"),
        ((iter([]),), {}, "fit: no batches, expected at least one"),
        (([],), {}, "fit: no batches, expected at least one"),
        (([(X, Y), 5],), {}, "fit: batch 2 is 5, expected (x, y) or (x, y, sample_weight)"),
        (([(X, Y)],), {"validation_split": 0.5}, "which go with neither validation_split nor sam"),
        ((X, Y), {"validation_split": 0.01}, "leaves 20 of 20 samples for training and 0 for"),
        ((X, Y), {"validation_split": 1.5}, "validation_split is 1.5, expected a number of at lea"),
        ((X, Y), {"validation_split": 0.5, "validation_data": (X, Y)}, "expected one of them"),
        ((X, Y), {"drop_last": True, "batch_size": 50}, "fit: 20 samples are no whole batch of 50"),
        ((X, Y), {"callbacks": tc.KeepBest()}, "fit: callbacks is no list, expected one such as"),
        (
            (X, Y),
            {"callbacks": [print]},
            "a callback is the function print, expected a tinyconv",
        ),
        (
            (X, Y),
            {"callbacks": [tc.KeepBest()]},
            "KeepBest: monitor is 'val_accuracy', expected 'loss' or 'accuracy'; val_... needs "
            "validation_data or validation_split",
        ),
        (
            (X, Y),
            {"callbacks": [tc.EarlyStopping("top_5")], "validation_data": (X, Y)},
            "EarlyStopping: monitor is 'top_5', expected 'loss', 'accuracy', 'val_loss' or",
        ),
        (
            (X, Y),
            {"callbacks": [tc.Schedule(tc.schedules.OnPlateau("val_loss"))]},
            "OnPlateau: monitor is 'val_loss', expected 'loss' or 'accuracy'; val_... needs",
        ),
    ],
)
def test_what_is_refused_before_the_first_epoch(arguments: Any, options: Any, text: str) -> None:
    net = network()
    with pytest.raises(ArgumentError) as raised:
        net.fit(*arguments, verbose=False, **options)
    assert text in str(raised.value)


def test_batches_that_come_only_once() -> None:
    class Once:
        def __init__(self) -> None:
            self.left = [(X, Y)]

        def __len__(self) -> int:
            return 1

        def __iter__(self) -> Any:
            while self.left:
                yield self.left.pop()

    with pytest.raises(ArgumentError, match="0 batches came in epoch 1, expected 1, the length of"):
        network().fit(Once(), verbose=False)


def test_a_transform_that_changes_the_shape() -> None:
    message = r"fit: augment returned shape \(10, 2\) of a batch \(10, 3\), expected equal shapes"
    with pytest.raises(ShapeError, match=message):
        network().fit(X, Y, augment=lambda x, key: x[:, :2], verbose=False)


def test_early_stopping_restores_the_best() -> None:
    class Spoil(tc.Callback):
        def __init__(self, net: tc.Sequential) -> None:
            self.net, self.kept = net, []  # type: ignore[var-annotated]

        def on_epoch_begin(self, training: Any) -> None:
            self.net.parameters.flat[...] *= 3

        def on_batch_end(self, training: Any) -> None:
            self.kept.append(self.net.parameters.flat.copy())

    net = network()
    spoil = Spoil(net)
    stopping = tc.EarlyStopping("val_loss", patience=2, restore_best=True)
    history = net.fit(
        X,
        Y,
        epochs=50,
        batch_size=20,
        validation_data=(X, Y),
        optimizer=tc.SGD(1e-9),
        callbacks=[spoil, stopping],
        verbose=False,
    )
    assert len(history) == 3
    np.testing.assert_array_equal(net.parameters.flat, spoil.kept[0])


def test_score_and_pictures_of_a_notebook() -> None:
    net = network()
    history = net.fit(X, Y, epochs=2, verbose=False)
    assert net.score(X, Y) == net.evaluate(X, Y)["accuracy"]
    assert net._repr_html_().startswith("<table><tr><th></th><th>layer</th>")
    assert "<td>Linear</td>" in net._repr_html_()
    assert history._repr_html_().count("<tr>") == 3
    assert len(history.plot().axes) == 2
    net.fit(X, X[:, :2], loss="mse", verbose=False)
    assert net.score(X, X[:, :2]) == net.evaluate(X, X[:, :2])["loss"]


def test_a_missing_figure_is_named_alike_everywhere() -> None:
    history = tc.History([{"epoch": 1, "loss": 0.5}])
    message = "no row of the history has 'val_loss'; there are epoch, loss"
    for look in (lambda: history["val_loss"], lambda: history.best("val_loss")):
        with pytest.raises(KeyError, match=message):
            look()
    with pytest.raises(KeyError, match=message):
        tc.schedules.OnPlateau("val_loss")(1, history.rows)


def test_verbose_by_number(capsys: pytest.CaptureFixture[str]) -> None:
    fitted(X, Y, verbose=0)
    assert capsys.readouterr().err == ""
    fitted(X, Y, verbose=2)
    assert capsys.readouterr().err.startswith("epoch 1/1  loss")

"""The estimators: scikit-learn's own checks, and what they are used in."""

import pickle
from typing import Any

import numpy as np
import pytest

import tinyconv as tc

pytestmark = [pytest.mark.oracle, pytest.mark.filterwarnings("ignore")]


@pytest.fixture(scope="module")
def sklearn() -> Any:
    pytest.importorskip("sklearn")
    from tinyconv.interop import sklearn

    return sklearn


@pytest.fixture(scope="module")
def digits() -> tuple[Any, Any]:
    from sklearn.datasets import load_digits

    X, y = load_digits(return_X_y=True)
    return X[:300] / 16, y[:300]


def classifier(sklearn: Any, **options: Any) -> Any:
    """A small net that trains in a moment."""
    settings = {"net": small, "image_shape": (1, 8, 8), "epochs": 15, "random_state": 0}
    return sklearn.ConvNetClassifier(**{**settings, **options})


def small(shape: tuple[int, ...], classes: int) -> list[tc.layers.Layer]:
    return [tc.Conv2d(1, 8, 3), tc.ReLU(), tc.Flatten(), tc.Linear(None, classes)]


#: Batches drawn at random hold a sample that is repeated several times, one that weighs more once,
#: as in scikit-learn's own estimators of this kind; a step over all samples knows no difference.
IN_BATCHES = {
    "check_sample_weight_equivalence_on_dense_data": "weights are copies in the mean over batches"
}


@pytest.mark.parametrize("name", ["ConvNetClassifier", "ConvNetRegressor"])
@pytest.mark.parametrize(
    ("options", "differs"),
    [({}, IN_BATCHES), ({"batch_size": None, "dtype": "float64", "epochs": 300}, {})],
)
def test_scikit_learns_own_checks(
    name: str, options: dict[str, Any], differs: dict[str, str], sklearn: Any
) -> None:
    from sklearn.utils.estimator_checks import check_estimator

    estimator = getattr(sklearn, name)(engine="eager", random_state=0, **options)
    results = check_estimator(estimator, expected_failed_checks=differs, on_fail=None, on_skip=None)
    failed = [(r["check_name"], r["exception"]) for r in results if r["status"] == "failed"]
    assert failed == []
    assert sum(r["status"] == "passed" for r in results) >= 55


def test_labels_of_any_type(sklearn: Any, digits: tuple[Any, Any]) -> None:
    X, y = digits
    names = np.array(
        ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
    )
    model = classifier(sklearn).fit(X, names[y])
    assert sorted(names) == list(model.classes_)
    assert model.score(X, names[y]) > 0.9
    assert np.allclose(model.predict_proba(X[:5]).sum(axis=1), 1)
    images = X.reshape(-1, 1, 8, 8)
    assert (model.predict(images) == model.predict(X)).all()


def test_pickles_clones_and_continues(sklearn: Any, digits: tuple[Any, Any]) -> None:
    from sklearn.base import clone

    X, y = digits
    model = classifier(sklearn, warm_start=True, epochs=2).fit(X, y)
    again = pickle.loads(pickle.dumps(model))
    assert (again.predict(X) == model.predict(X)).all()
    assert (clone(model).fit(X, y).predict(X) == model.predict(X)).all()
    before = model.loss_
    assert model.fit(X, y).loss_ < before
    assert model.n_iter_ == 4


def test_partial_fit_names_its_classes_once(sklearn: Any, digits: tuple[Any, Any]) -> None:
    X, y = digits
    model = classifier(sklearn)
    with pytest.raises(ValueError, match="classes must be passed on the first call"):
        model.partial_fit(X, y)
    for _ in range(10):
        model.partial_fit(X, y, classes=np.arange(10))
    assert model.score(X, y) > 0.8
    with pytest.raises(ValueError, match="not among the classes"):
        model.partial_fit(X, y + 1)
    with pytest.raises(ValueError, match="classes are"):
        model.partial_fit(X, y, classes=np.arange(9))


def test_early_stopping_keeps_the_best_epoch(sklearn: Any, digits: tuple[Any, Any]) -> None:
    X, y = digits
    model = classifier(sklearn, early_stopping=True, epochs=200, patience=2).fit(X, y)
    assert model.n_iter_ < 200
    assert "val_loss" in model.history_[0]


def test_weights_of_classes_and_samples(sklearn: Any, digits: tuple[Any, Any]) -> None:
    X, y = digits
    rare = np.r_[np.flatnonzero(y == 0)[:4], np.flatnonzero(y == 8)]
    plain = classifier(sklearn, epochs=3).fit(X[rare], y[rare])
    balanced = classifier(sklearn, epochs=3, class_weight="balanced").fit(X[rare], y[rare])
    is_rare = y == 0
    assert (
        balanced.predict_proba(X[is_rare])[:, 0].mean()
        > plain.predict_proba(X[is_rare])[:, 0].mean()
    )
    only = classifier(sklearn).fit(X, y, sample_weight=(y < 5).astype(float))
    assert set(only.predict(X)) <= set(range(5))


def test_it_works_in_what_scikit_learn_builds(sklearn: Any, digits: tuple[Any, Any]) -> None:
    from sklearn.calibration import CalibratedClassifierCV
    from sklearn.ensemble import VotingClassifier
    from sklearn.model_selection import GridSearchCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import MinMaxScaler

    X, y = digits
    steps = make_pipeline(MinMaxScaler(), classifier(sklearn, epochs=3))
    search = GridSearchCV(steps, {"convnetclassifier__batch_size": [16, 64]}, cv=2, n_jobs=2)
    assert search.fit(X, y).best_score_ > 0.4
    vote = VotingClassifier(
        [(str(s), classifier(sklearn, random_state=s)) for s in range(2)], voting="soft"
    )
    assert vote.fit(X, y).score(X, y) > 0.9
    calibrated = CalibratedClassifierCV(classifier(sklearn), cv=2)
    assert calibrated.fit(X, y).score(X, y) > 0.8


@pytest.mark.parametrize(
    "net", ["nielsen-fully-connected", [tc.Flatten(), tc.Linear(None, 10)], None]
)
def test_nets_by_name_as_layers_and_of_its_own(
    net: Any, sklearn: Any, digits: tuple[Any, Any]
) -> None:
    X, y = digits
    model = classifier(sklearn, net=net, epochs=2).fit(X, y)
    assert model.predict(X[:3]).shape == (3,)


def test_layers_are_taken_as_they_are_and_left_alone(sklearn: Any, digits: tuple[Any, Any]) -> None:
    X, y = digits
    body = [tc.Flatten(), tc.Residual(tc.Linear(64, 64)), tc.Linear(64, 10)]
    body[1].trainable = False
    net = tc.Sequential(body, input_shape=(1, 8, 8))  # its layers have their place
    for given in (body, net, lambda shape, classes: net):
        model = sklearn.ConvNetClassifier(given, image_shape=(1, 8, 8), epochs=1, engine="eager")
        model.fit(X, np.array(list("abcdefghij"))[y])
        assert [layer.trainable for layer in model.net_] == [True, False, True]
        assert model.net_.class_names == list("abcdefghij")


@pytest.mark.parametrize(
    ("arguments", "weight", "message"),
    [
        ({"net": 3}, None, "net is 3, expected layers, a function or a name"),
        ({"net": tc.Linear(64, 10)}, None, "expected layers, a function or a name"),
        ({"batch_size": 0}, None, "batch_size is 0, expected an integer of at least 1"),
        ({}, -1, "Negative values in data passed to `sample_weight`"),
    ],
)
def test_arguments_are_checked(
    sklearn: Any, digits: tuple[Any, Any], arguments: Any, weight: Any, message: str
) -> None:
    X, y = digits
    weights = weight and np.full(len(y), weight)
    for kind in (sklearn.ConvNetClassifier, sklearn.ConvNetRegressor):
        with pytest.raises(ValueError, match=message):
            kind(**arguments, epochs=1).fit(X, y, sample_weight=weights)


def test_what_does_not_fit_is_said(sklearn: Any, digits: tuple[Any, Any]) -> None:
    X, y = digits
    with pytest.raises(ValueError, match="X has 64 features, expected 49"):
        classifier(sklearn, image_shape=(1, 7, 7)).fit(X, y)
    for wrong in (64.0, (8, 8.0), (-1, 64), "8x8"):
        for kind in (sklearn.ConvNetClassifier, sklearn.ConvNetRegressor):
            with pytest.raises(ValueError, match=f"{kind.__name__}: image_shape is .*, such as"):
                kind(image_shape=wrong).fit(X, y)
    with pytest.raises(ValueError, match=r"net gives \(3,\) for a sample, expected \(10,\)"):
        classifier(sklearn, net=[tc.Flatten(), tc.Linear(None, 3)]).fit(X, y)
    with pytest.raises(ValueError, match="one class only"):
        classifier(sklearn).fit(X, np.zeros(len(X)))


def test_regression_of_several_targets(sklearn: Any) -> None:
    rng = np.random.default_rng(0)
    X = rng.uniform(-1, 1, (300, 2))
    y = np.stack([100 + 50 * X[:, 0] * X[:, 1], X[:, 0] ** 2], axis=1)
    model = sklearn.ConvNetRegressor(epochs=100, random_state=0).fit(X, y)
    assert model.predict(X).shape == (300, 2)
    assert model.score(X, y) > 0.95
    flat = sklearn.ConvNetRegressor(epochs=1, random_state=0)
    for _ in range(60):
        flat.partial_fit(X, y[:, 1])
    assert flat.predict(X).shape == (300,)
    assert flat.score(X, y[:, 1]) > 0.9


def test_targets_of_another_number_are_not_broadcast(sklearn: Any) -> None:
    X = np.random.default_rng(0).normal(size=(20, 3))
    three, one = X @ np.eye(3), X[:, 0]
    model = sklearn.ConvNetRegressor(net=lambda shape, n: [tc.Linear(3, n)], epochs=1)
    with pytest.raises(ValueError, match="y has 1 targets a sample, expected 3 as in the fit"):
        model.partial_fit(X, three).partial_fit(X, one)
    with pytest.raises(ValueError, match="y has 3 targets a sample, expected 1 as in the fit"):
        model.set_params(warm_start=False).fit(X, one).partial_fit(X, three)


@pytest.mark.parametrize("size", [1e-200, 1e-30, 1e200])
def test_targets_of_any_size_are_learned_alike(sklearn: Any, size: float) -> None:
    X = np.random.default_rng(0).normal(size=(40, 3))
    settings: dict[str, Any] = {"net": lambda shape, n: [tc.Linear(3, n)], "dtype": "float64"}
    model = sklearn.ConvNetRegressor(**settings, epochs=2, random_state=0)
    expected = model.fit(X, X[:, 0]).predict(X)
    found = model.fit(X, X[:, 0] * size).predict(X)
    np.testing.assert_allclose(found / size, expected, rtol=1e-6)

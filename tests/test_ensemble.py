"""Votes by hand, and members that are what they would be alone."""

import sys

import numpy as np
import pytest

import tinyconv as tc
from tinyconv.errors import ArgumentError, ShapeError


class Says:
    """Stands for a network: answers with what it was made with."""

    def __init__(self, *rows, loss=None):
        self.rows, self.loss = np.array(rows), loss or tc.CrossEntropyLoss()

    def predict_proba(self, x, batch_size):
        return self.rows

    predict = predict_proba


X = np.zeros((1, 4), np.float32)


@pytest.mark.parametrize(
    ("rows", "vote", "mean"),
    [
        # Two of three say 0, though the third is surer of 1.
        (([0.6, 0.4, 0.0], [0.6, 0.4, 0.0], [0.0, 1.0, 0.0]), 0, 1),
        # A vote each for 0 and 1: 1 has the higher mean.
        (([0.6, 0.4, 0.0], [0.1, 0.9, 0.0]), 1, 1),
        # A vote each for 0 and 2; 1 has the highest mean but no vote, and 2 more than 0.
        (([0.5, 0.48, 0.02], [0.0, 0.49, 0.51]), 2, 1),
        (([0.2, 0.3, 0.5],), 2, 2),
    ],
)
def test_votes_and_means(rows, vote, mean):
    ensemble = tc.Ensemble([Says(row) for row in rows])
    assert ensemble.predict(X).tolist() == [vote]
    assert ensemble.predict(X, how="mean").tolist() == [mean]
    np.testing.assert_allclose(ensemble.predict_proba(X)[0], np.mean(rows, axis=0))
    assert ensemble.evaluate(X, np.array([vote])) == {"accuracy": 1.0}
    assert ensemble.evaluate(X, np.array([mean]), how="mean") == {"accuracy": 1.0}


def test_a_vote_weighs_more_than_any_probability():
    ensemble = tc.Ensemble([Says([0.51, 0.49]), Says([0.51, 0.49]), Says([0.0, 1.0])])
    assert ensemble.predict(X).tolist() == [0]


@pytest.mark.parametrize(
    ("y", "message"),
    [
        ([1, 3], "evaluate: y runs from 1 to 3, expected 0 to 2"),
        ([1], "evaluate: "),
        ([0.5, 1.5], "evaluate: y has dtype float64, expected integer class indices"),
    ],
)
def test_targets_that_are_none_of_the_members(y, message):
    ensemble = tc.Ensemble(tc.Sequential(tc.Linear(4, 3)))
    with pytest.raises(TypeError if "dtype" in message else ArgumentError, match=message):
        ensemble.evaluate(np.zeros((2, 4), np.float32), y)


def test_votes_on_every_pixel():
    # (N, K, W): of two pixels the first goes to 0 by two votes, the second to 1.
    first = [[[0.6, 0.1], [0.4, 0.9]]]
    ensemble = tc.Ensemble(Says(*first), Says(*first), Says([[0.0, 0.2], [1.0, 0.8]]))
    assert ensemble.predict(X).tolist() == [[0, 1]]
    assert ensemble.predict(X, how="mean").tolist() == [[1, 1]]
    assert ensemble.evaluate(X, np.array([[0, 0]])) == {"accuracy": 0.5}
    for member in ensemble.nets:
        member.loss = tc.CrossEntropyLoss(ignore_index=9)
    assert ensemble.evaluate(X, np.array([[0, 9]])) == {"accuracy": 1.0}


def test_votes_on_labels_that_coincide():
    # Two of three give the first label; the third one has a vote of three and a mean above half.
    rows = ([0.6, 0.3, 0.4], [0.6, 0.3, 0.9], [0.0, 0.3, 0.4])
    ensemble = tc.Ensemble([Says(row, loss=tc.BCEWithLogitsLoss()) for row in rows])
    assert ensemble.predict(X).tolist() == [[1, 0, 0]]
    assert ensemble.predict(X, how="mean").tolist() == [[0, 0, 1]]
    assert ensemble.evaluate(X, np.array([[1, 0, 1]])) == {"accuracy": pytest.approx(2 / 3)}


def test_numbers_are_averaged():
    ensemble = tc.Ensemble([Says([number], loss=tc.MSELoss()) for number in (1.0, 4.0)])
    assert ensemble.predict(X).tolist() == [[2.5]]
    assert ensemble.evaluate(X, np.array([[2.0]])) == {"loss": 0.25}
    with pytest.raises(ArgumentError, match=r"how is 'vote', and the members of MSELoss\(\) "):
        ensemble.predict(X, how="vote")
    mixed = tc.Ensemble(Says([1.0]), Says([1.0], loss=tc.MSELoss()))
    with pytest.raises(ArgumentError, match="whose answers cannot be put together; expected equal"):
        mixed.predict(X)


def nets(seeds=(3, 4, 5)):
    return [
        tc.Sequential(
            [tc.Flatten(), tc.Linear(None, 8), tc.ReLU(), tc.Dropout(0.2), tc.Linear(8, 10)],
            seed=seed,
        )
        for seed in seeds
    ]


@pytest.fixture(scope="module")
def digits():
    (x, y), *_ = tc.data.load()
    return x[:100], y[:100]


ARGUMENTS = {"epochs": 2, "optimizer": tc.SGD(lr=0.1), "verbose": False}


@pytest.mark.parametrize("processes", [1, 2])
def test_members_are_what_they_would_be_alone(processes, digits, tmp_path):
    ensemble = tc.Ensemble(nets())
    histories = ensemble.fit(
        *digits, processes=processes, checkpoint=tmp_path, validation_data=digits, **ARGUMENTS
    )
    assert [len(history) for history in histories] == [2, 2, 2]
    for number, (member, alone) in enumerate(zip(ensemble.nets, nets(), strict=True)):
        history = alone.fit(*digits, validation_data=digits, **ARGUMENTS)
        assert (member.parameters.flat == alone.parameters.flat).all()
        assert histories[number]["val_accuracy"] == history["val_accuracy"]
        assert member.position == alone.position
        assert (tmp_path / str(number) / "checkpoint.safetensors").is_file()
    more = ensemble.fit(*digits, processes=1, **ARGUMENTS)
    assert more[0]["epoch"] == [3, 4]


def test_members_in_threads_share_neither_callbacks_nor_the_loss(digits):
    joblib = pytest.importorskip("joblib")

    def arguments():
        hung = [tc.KeepBest("loss"), tc.AverageWeights(0.9)]
        more = {"callbacks": hung, "loss": tc.CrossEntropyLoss(), "engine": "eager"}
        return ARGUMENTS | more

    ensemble = tc.Ensemble(nets())
    with joblib.parallel_config(backend="threading", n_jobs=3):
        ensemble.fit(*digits, **arguments())
    for member, alone in zip(ensemble.nets, nets(), strict=True):
        alone.fit(*digits, **arguments())
        assert (member.parameters.flat == alone.parameters.flat).all()


@pytest.mark.parametrize("processes", [1, 2])
def test_members_go_on_with_what_their_optimizers_remember(processes, digits):
    ensemble, alone = tc.Ensemble(nets()), nets()
    for optimizer in (tc.Adam(), None):
        ensemble.fit(*digits, processes=processes, optimizer=optimizer, verbose=False)
        for net in alone:
            net.fit(*digits, optimizer=optimizer, verbose=False)
    for member, net in zip(ensemble.nets, alone, strict=True):
        np.testing.assert_array_equal(member.parameters.flat, net.parameters.flat)


@pytest.mark.parametrize("processes", [1, 2])
def test_members_take_what_a_network_takes(processes, digits):
    x, y = digits
    expected = tc.Ensemble(nets())
    expected.fit(x, y, processes=1, **ARGUMENTS)
    for given in ((x.tolist(), y.tolist()), (digits,), (tc.data.Split(x, y),)):
        ensemble = tc.Ensemble(nets())
        ensemble.fit(*given, processes=processes, **ARGUMENTS)
        for one, other in zip(ensemble.nets, expected.nets, strict=True):
            np.testing.assert_array_equal(one.parameters.flat, other.parameters.flat)


def test_batches_that_come_once_are_not_for_several(digits):
    one = tc.Ensemble(nets((1,)))
    assert len(one.fit(iter([digits]), epochs=1, verbose=False)[0]) == 1
    ensemble = tc.Ensemble(nets())
    with pytest.raises(ArgumentError, match="gives its batches once, for one member of 3; expect"):
        ensemble.fit(iter([digits]), epochs=1, processes=1, verbose=False)
    assert ensemble.nets[0].position.step == 0


def test_bytes_reach_the_processes(digits):
    x, y = digits
    ensemble, alone = tc.Ensemble(nets((1, 2))), nets((1,))[0]
    ensemble.fit(tc.data.ByteImages.from_floats(x), y, processes=2, **ARGUMENTS)
    alone.fit(x, y, **ARGUMENTS)
    assert (ensemble.nets[0].parameters.flat == alone.parameters.flat).all()


def test_an_error_in_a_process_is_this_ones(digits):
    x, y = digits
    with pytest.raises(ArgumentError, match="y runs from 0 to 19, expected 0 to 9"):
        tc.Ensemble(nets()).fit(x, y + 10 * (y > 0), processes=2, **ARGUMENTS)


def test_without_joblib(digits, monkeypatch):
    monkeypatch.setitem(sys.modules, "joblib", None)
    with pytest.raises(ImportError, match=r'needs joblib: pip install "tinyconv\[parallel\]"'):
        tc.Ensemble(nets()).fit(*digits, processes=2, **ARGUMENTS)
    tc.Ensemble(nets()).fit(*digits, processes=1, **ARGUMENTS)


def test_what_is_no_ensemble(digits):
    one, two, _ = nets()
    for message, members in (("no networks", []), ("a network is in the list twice", [one, one])):
        with pytest.raises(ArgumentError, match=f"Ensemble: {message}"):
            tc.Ensemble(members)
    ensemble = tc.Ensemble([one, two])
    with pytest.raises(ArgumentError, match="how is 'median', expected 'vote' or 'mean'"):
        ensemble.predict(digits[0], how="median")
    with pytest.raises(ArgumentError, match="processes is 0, expected an integer of at least 1"):
        ensemble.fit(*digits, processes=0)
    other = tc.Sequential([tc.Flatten(), tc.Linear(784, 7)])
    with pytest.raises(ShapeError, match=r"the members answer with \(100, 10\), \(100, 7\), exp"):
        tc.Ensemble([one, other]).predict(digits[0])


def test_a_member_that_fails_is_named_and_the_others_are_trained(digits):
    x, y = digits
    ensemble = tc.Ensemble(nets((3, 4)))
    ensemble.nets[0].build((1, 28, 28))
    ensemble.nets[0].parameters.flat[:] = np.nan
    alone = nets((4,))[0]
    alone.fit(x, y, **ARGUMENTS)
    with pytest.raises(tc.NonFiniteError) as caught:
        ensemble.fit(x, y, processes=1, **ARGUMENTS)
    assert caught.value.__notes__ == [
        "of the members those with seeds 3 failed; the others are trained"
    ]
    np.testing.assert_array_equal(ensemble.nets[1].parameters.flat, alone.parameters.flat)

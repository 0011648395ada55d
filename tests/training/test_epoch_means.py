"""The figures of an epoch are those of all its samples at once."""

import itertools

import numpy as np
import pytest

import tinyconv as tc

ENGINES = list(itertools.product(("float32", "float64"), ("auto", "eager")))


@pytest.mark.parametrize(("dtype", "engine"), ENGINES)
@pytest.mark.parametrize("weight", [None, [0.2, 1.0, 5.0], [0.0, 1.0, 3.0]])
@pytest.mark.parametrize("ignored", [None, 1])
@pytest.mark.parametrize("is_weighted", [False, True])
def test_batches_count_as_the_mean_over_all_samples_does(
    dtype, engine, weight, ignored, is_weighted
):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(23, 4)).astype(dtype), np.sort(rng.integers(0, 3, 23))
    of_sample = rng.uniform(0, 3, 23).astype(dtype) if is_weighted else None
    net = tc.Sequential([tc.Linear(4, 3)], dtype=dtype, seed=1)
    history = net.fit(
        x,
        y,
        sample_weight=of_sample,
        loss=tc.CrossEntropyLoss(weight, ignore_index=ignored),
        optimizer=tc.SGD(lr=1e-12),  # nothing changes
        epochs=1,
        batch_size=5,
        engine=engine,
        shuffle=False,  # sorted: batches differ in what they weigh
        verbose=0,
    )
    logits = net.forward(x).astype(np.float64)
    losses = np.log(np.exp(logits).sum(1)) - logits[np.arange(23), y]
    often = np.where(y == ignored, 0.0, 1.0 if of_sample is None else of_sample)
    of_class = 1.0 if weight is None else np.array(weight)[y]
    expected = (losses * often * of_class).sum() / (often * of_class).sum()
    right = (logits.argmax(1) == y) * often
    assert history["loss"][-1] == pytest.approx(expected, rel=1e-5)
    assert history["accuracy"][-1] == pytest.approx(right.sum() / often.sum(), rel=1e-5)
    evaluated = net.evaluate(x, y, sample_weight=of_sample)
    assert evaluated["loss"] == pytest.approx(expected, rel=1e-5)

import numpy as np
import pytest

import tinyconv as tc
from tinyconv import initializers

FAN_IN, FAN_OUT = 50, 200


def draw(name: str) -> np.ndarray:
    rng = np.random.default_rng(0)
    return initializers.initializer(name)(rng, (FAN_OUT, FAN_IN, 4), FAN_IN, FAN_OUT)


@pytest.mark.parametrize(
    ("name", "variance"),
    [
        ("normal", 1.0),
        ("inverse_sqrt", 1 / 50),
        ("he", 2 / 50),
        ("glorot", 2 / (50 + 200)),
    ],
)
def test_mean_and_variance(name: str, variance: float) -> None:
    values = draw(name)
    assert values.shape == (FAN_OUT, FAN_IN, 4)
    assert values.dtype == np.float64
    # 40,000 draws: four standard errors are 2 % of a deviation and 3 % of a variance.
    assert abs(values.mean()) < 0.02 * variance**0.5
    assert values.var() == pytest.approx(variance, rel=0.03)


def test_glorot_is_uniform_within_its_limit() -> None:
    limit = (6 / (FAN_IN + FAN_OUT)) ** 0.5
    values = draw("glorot")
    assert abs(values).max() <= limit
    assert np.histogram(values, bins=4, range=(-limit, limit))[0].min() > 9500


def test_zeros_are_zero() -> None:
    assert not draw("zeros").any()


@pytest.mark.parametrize(
    ("layer", "fan_in"),
    [
        (tc.Conv2d(8, 64, 5, weight_init="inverse_sqrt"), 8 * 25),
        (tc.Conv2d(8, 64, (5, 3), groups=4, weight_init="inverse_sqrt"), 2 * 15),
        (tc.Linear(400, 64, weight_init="inverse_sqrt"), 400),
    ],
)
def test_a_layer_counts_the_inputs_of_one_unit(layer: tc.Conv2d | tc.Linear, fan_in: int) -> None:
    net = tc.Sequential([layer])
    deviation = net.parameters.values["0.weight"].std()
    assert deviation == pytest.approx(fan_in**-0.5, rel=0.1)
    assert not net.parameters.values["0.bias"].any()


def test_nielsens_biases() -> None:
    net = tc.Sequential([tc.Linear(3, 5000, bias_init="normal")])
    assert net.parameters.values["0.bias"].std() == pytest.approx(1, rel=0.05)


def test_values_depend_on_seed_and_name_alone() -> None:
    def bias_free(seed: int, *before: object) -> np.ndarray:
        net = tc.Sequential([tc.Linear(4, 4), tc.Linear(4, 3, bias=False)], seed=seed)
        return net.state_dict()["1.weight"]

    with_other_neighbour = tc.Sequential(
        [tc.Linear(7, 4, weight_init="glorot"), tc.Linear(4, 3)], seed=0
    )
    assert (bias_free(0) == bias_free(0)).all()
    assert (bias_free(0) == with_other_neighbour.state_dict()["1.weight"]).all()
    assert (bias_free(0) != bias_free(1)).all()


def test_float32_values_are_the_rounded_float64_ones() -> None:
    double = tc.Sequential([tc.Linear(4, 3)], dtype="float64").state_dict()["0.weight"]
    single = tc.Sequential([tc.Linear(4, 3)], dtype="float32").state_dict()["0.weight"]
    assert (single == double.astype(np.float32)).all()


def test_unknown_names() -> None:
    with pytest.raises(tc.ArgumentError, match="name is 'xavier', expected 'glorot', 'he', "):
        initializers.initializer("xavier")
    with pytest.raises(tc.ArgumentError, match="weight_init is 'xavier'"):
        tc.Sequential([tc.Linear(4, 3, weight_init="xavier")])

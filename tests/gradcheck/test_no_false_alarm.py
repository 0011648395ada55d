"""Right gradients at random points, kinks and ties and saturation included, never fail a check.

``pytest -m slow tests/gradcheck`` draws 10,000 cases; the plain suite a share of them.
"""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import tinyconv as tc
from tinyconv.gradcheck import check
from tinyconv.testing import check_network, check_op, conv_geometries, networks, pool_geometries

from .right_cases import KINDS, case_of, draw_array


@st.composite
def reports(draw):
    """Check one thing at one point; return what it was and the report."""
    what = draw(
        st.sampled_from(["conv", "pool", "elementwise", "softmax", "loss", "linear", "net"])
    )
    kind = draw(st.sampled_from(KINDS))
    seed = draw(st.integers(0, 2**32 - 1))
    dtype = draw(st.sampled_from(["float64", "float64", "float64", "float32"]))
    how = {"seed": seed, "method": draw(st.sampled_from(["auto", "central"]))}

    def array(*shape, k=0):
        return draw_array(kind, shape, [seed, k]).astype(dtype)

    rows, columns = draw(st.integers(1, 4)), draw(st.integers(1, 5))
    if what == "conv":
        g = draw(conv_geometries())
        inputs = [array(*g.x_shape), array(*g.w_shape, k=1), array(g.w_shape[0], k=2)]
        report = check_op("conv2d", inputs, g.options, **how)
    elif what == "pool":
        g = draw(pool_geometries())
        op = draw(st.sampled_from(["max_pool2d", "avg_pool2d", "l2_pool2d"]))
        report = check_op(op, [array(*g.x_shape)], g.options, **how)
    elif what == "elementwise":
        op = draw(st.sampled_from(["relu", "sigmoid", "tanh"]))
        report = check_op(op, [array(rows, columns)], **how)
    elif what == "softmax":
        report = check_op("softmax", [array(rows, columns)], **how)
    elif what == "loss":
        labels = np.random.default_rng(seed).integers(0, columns, rows)
        report = check_op("cross_entropy", [array(rows, columns), labels], **how)
    elif what == "linear":
        inputs = [array(rows, columns), array(3, columns, k=1), array(3, k=2)]
        report = check_op("linear", inputs, **how)
    else:
        net, x, labels = draw(networks(dtype=dtype))
        report = check_network(net, array(*x.shape), labels, **how)
    return f"{what}, {kind}, {dtype}, {how}", report


@pytest.mark.parametrize("method", ["auto", "central"])
@pytest.mark.parametrize("seed", [35, 38])
def test_a_tie_that_decides_another_tie_is_no_wrong_gradient(method, seed):
    layers = [tc.MaxPool2d(2), tc.Conv2d(1, 3, 1, padding=1), tc.MaxPool2d(2), tc.Flatten()]
    net = tc.Sequential([*layers, tc.Linear(12, 4)], seed=seed, dtype="float64")
    report = check_network(net, np.zeros((1, 1, 4, 4)), np.array([0]), method=method)
    assert report.verdict == "kink", str(report)


@pytest.mark.parametrize("method", ["auto", "central"])
@pytest.mark.parametrize(
    ("seed", "shape", "stride"), [(10511, (1, 1, 4, 6), (1, 3)), (6210, (2, 3, 4, 4), (3, 2))]
)
def test_kinks_close_together_are_no_wrong_gradients(method, seed, shape, stride):
    x = draw_array("near ties", shape, [seed, 0])
    options = {"kernel_size": 1, "stride": stride}
    report = check_op("l2_pool2d", [x], options, seed=seed, method=method)
    assert report.verdict == "kink", str(report)


@pytest.mark.parametrize("method", ["auto", "central"])
def test_the_log_of_a_number_close_to_one_is_no_wrong_gradient(method):
    # The loss is 4e-7, but as coarse as numbers next to 1; equal steps are rounded alike.
    x = draw_array("mixed", (1, 3), [4938302, 0])
    report = check_op("cross_entropy", [x, np.array([1])], seed=4938302, method=method)
    assert report.verdict == "ok", str(report)


def test_kinks_that_only_a_step_of_all_elements_crosses_are_no_wrong_gradient():
    # ReLUs of 3e-5 beside inputs of 3,000: every element is right within its bar.
    layers = [tc.ReLU(), tc.ReLU(), tc.ReLU(), tc.Flatten(), tc.Linear(25, 4)]
    net = tc.Sequential(layers, seed=1, dtype="float64")
    x = draw_array("mixed", (1, 1, 5, 5), [369, 0])
    report = check_network(net, x, np.array([0]), seed=369, method="central")
    assert report.verdict == "ok", str(report)


COMMON = settings(
    deadline=None, suppress_health_check=list(HealthCheck), derandomize=True, database=None
)


@settings(COMMON, max_examples=120)
@given(reports())
def test_a_right_gradient_never_fails(case):
    name, report = case
    assert not report.failed, f"{name}\n{report}"


@pytest.mark.slow
@settings(COMMON, max_examples=10_000, derandomize=False)
@given(reports())
def test_a_right_gradient_never_fails_in_10000_cases(case):
    name, report = case
    assert not report.failed, f"{name}\n{report}"


@pytest.mark.parametrize("start", range(0, 200, 100))
def test_right_functions_of_other_people_never_fail(start):
    for seed in range(start, start + 100):
        name, family, inputs = case_of(seed)
        report = check(family.case.forward, family.case.backward, inputs, seed=seed)
        assert not report.failed, f"{seed}: {name}\n{report}"

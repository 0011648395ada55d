"""The page's equations, run in node, are those of the operations."""

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

import tinyconv as tc
from tinyconv.explore import EXAMPLE, numbers, pack

ASSETS = Path(tc.__file__).parent / "explore" / "assets"
HARNESS = Path(__file__).with_name("harness.mjs")
NODE = shutil.which("node")

pytestmark = pytest.mark.skipif(NODE is None, reason="needs node")


def run(*calls):
    """Return the results of (function, argument, ...) in the page's modules."""
    done = subprocess.run(
        [str(NODE), str(HARNESS), str(ASSETS)],
        input=json.dumps([[name, arguments] for name, *arguments in calls]),
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def drawn_states(count):
    """Return states with drawn settings and parameters, all of which fit."""
    rng = np.random.default_rng(0)
    states = []
    while len(states) < count:
        state = {
            **EXAMPLE,
            "size": int(rng.integers(4, 9)),
            "kernel": int(rng.integers(1, 4)),
            "maps": int(rng.integers(1, 4)),
            "stride": int(rng.integers(1, 4)),
            "padding": int(rng.integers(0, 3)),
            "dilation": int(rng.integers(1, 3)),
            "window": int(rng.integers(1, 4)),
            "poolStride": int(rng.integers(1, 4)),
            "pool": ("max", "average", "l2")[len(states) % 3],
            "activation": ("relu", "sigmoid", "tanh")[len(states) // 3 % 3],
            "label": int(rng.integers(3)),
        }
        reach = state["dilation"] * (state["kernel"] - 1) + 1
        conv = (state["size"] + 2 * state["padding"] - reach) // state["stride"] + 1
        pooled = (conv - state["window"]) // state["poolStride"] + 1
        if conv < 1 or pooled < 1:
            continue
        shapes = {
            "x": state["size"] ** 2,
            "w": state["maps"] * state["kernel"] ** 2,
            "b": state["maps"],
            "W": 3 * state["maps"] * pooled**2,
            "B": 3,
        }
        for name, size in shapes.items():
            state[name] = rng.normal(size=size).round(3).tolist()
        # Whole windows of zeros, and ties of a maximum.
        state["x"][: 2 * state["size"]] = [0] * (2 * state["size"])
        state["b"] = [0.0] * state["maps"]
        states.append(state)
    return states


def test_every_number_by_hand_is_that_of_the_operations():
    states = [EXAMPLE, *drawn_states(54)]
    for state, found in zip(states, run(*(("numbers", state) for state in states)), strict=True):
        for name, expected in numbers(state).items():
            np.testing.assert_allclose(found[name], expected, rtol=1e-12, atol=1e-13, err_msg=name)


def test_every_cell_is_explained_by_what_it_is():
    states = [EXAMPLE, *drawn_states(18)]
    for said in run(*(("explanations", state) for state in states)):
        assert {each["cell"].split(".")[0] for each in said} >= set("xwbzpaWBuy") | {"dx", "dW"}
        for each in said:
            assert each["missing"] == [], each
            if "total" in each:
                assert each["total"] == pytest.approx(each["value"], abs=1e-13), each
                if each["sum"] is None and not each.get("put"):
                    assert each["value"] == 0, each  # it fed nothing
            if each["sum"] is not None:
                assert each["sum"] == pytest.approx(each["value"], abs=1e-12), each


def test_the_example_is_asymmetric():
    for kernel in np.reshape(EXAMPLE["w"], (2, 3, 3)):
        assert (kernel != kernel.T).any()
        assert (kernel != kernel[::-1, ::-1]).any()
    result = numbers(EXAMPLE)
    assert min(result["p"]) < 0  # a ReLU that is shut


def test_an_address_holds_the_state():
    states = [EXAMPLE, *drawn_states(6)]
    states = [
        {**state, "mode": "hand", "step": 7, "cell": "z.0.0.0", "sample": "0", "image": "",
         "off": "", "unit": "", "target": ""}
        for state in states
    ]  # fmt: skip
    for state, back in zip(
        states, run(*(("roundTrip", state, EXAMPLE) for state in states)), strict=True
    ):
        assert back == state


@pytest.mark.parametrize(
    "address",
    ["#size=99", "#x=1_2", "#step=-1", "#step=99", "#size=4&kernel=3&dilation=2", "#cell=<b>"],
)
def test_what_an_address_says_wrongly_is_left_out(address):
    (state,) = run(("fromAddress", address, EXAMPLE))
    assert {name: state[name] for name in EXAMPLE} == EXAMPLE
    assert (state["step"], state["cell"]) == (0, "")


def test_another_size_keeps_what_has_a_place():
    larger, smaller, refused = run(
        ("changed", EXAMPLE, {"size": 8}),
        ("changed", EXAMPLE, {"kernel": 2}),
        ("changed", EXAMPLE, {"size": 4, "window": 3}),
    )
    assert (np.reshape(larger["x"], (8, 8))[:6, :6] == np.reshape(EXAMPLE["x"], (6, 6))).all()
    kept = np.reshape(EXAMPLE["w"], (2, 3, 3))[:, :2, :2]
    assert (np.reshape(smaller["w"], (2, 2, 2)) == kept).all()
    assert refused == "The pooling window has 3 rows, the convolution's output 2."


def test_numbers_are_written_short():
    values = [0, 1, -0.5, 0.25, -1.684, 12.34, 123.4, 0.0162, -0.0001, 1e-9]
    texts = ["0", "1", "−.5", ".25", "−1.68", "12.3", "123", ".016", "≈0", "≈0"]
    assert run(*(("short", value) for value in values)) == texts
    assert run(("long", -0.16829), ("long", 0.00001)) == ["−0.1683", "1.0e-5"]


def test_equations_become_mathml():
    (text,) = run(("math", r"z_{f;pq} = \sum_{i} w_i^2 - \frac{1}{2}"))
    assert "<msub><mi>z</mi>" in text
    assert "<munder>" in text
    assert "<msubsup>" in text
    assert "<mfrac>" in text
    assert "<mo>−</mo>" in text


def layers_of(name):
    """Return layers of every kind that the page shows, in nets of three names."""
    if name == "first run":
        return [
            tc.Conv2d(1, 3, 3), tc.MaxPool2d(2), tc.ReLU(), tc.Flatten(), tc.Linear(None, 4),
        ]  # fmt: skip
    if name == "windows":
        return [
            tc.Conv2d(1, 4, (3, 2), stride=(2, 1), padding=((1, 0), (2, 1)), dilation=(1, 2)),
            tc.LeakyReLU(0.2), tc.AvgPool2d(3, stride=2, padding=1, ceil_mode=True), tc.ELU(0.7),
            tc.Conv2d(4, 4, 2, groups=2, bias=False), tc.Tanh(), tc.Flatten(), tc.Linear(None, 3),
        ]  # fmt: skip
    return [
        tc.Conv2d(1, 2, 3, padding="same"), tc.BatchNorm2d(2), tc.Sigmoid(),
        tc.L2Pool2d(3, stride=2), tc.AvgPool2d(2, stride=1, padding=1, count_include_pad=False),
        tc.Dropout(0.5), tc.Chain(tc.Flatten(), tc.Linear(None, 3, bias=False)),
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["first run", "windows", "rest"])
def test_a_trained_net_gives_the_numbers_of_its_layers(name):
    rng = np.random.default_rng(1)
    x = rng.random((2, 1, 10, 10)).astype(np.float32)
    net = tc.Sequential(layers_of(name), seed=0, input_shape=(1, 10, 10))
    net.forward(x, training=True)  # statistics of the batch normalisation
    packed = json.loads(json.dumps(pack(net, x, [2, 0])))
    (found,) = run(("net", packed, [], 2))
    for n, each in enumerate(found):
        loss = tc.CrossEntropyLoss()
        loss.forward(net.forward(x[n : n + 1]), np.array([2]))
        net.backward(loss.backward())
        layers = [layer for layer in net.walk() if type(layer) is not tc.Chain]
        assert len(layers) == len(each["values"])
        for place, layer in enumerate(layers):
            np.testing.assert_allclose(each["values"][place], layer.y.ravel(), atol=2e-5)
            np.testing.assert_allclose(each["gradients"][place], layer.dx.ravel(), atol=2e-5)


def test_a_filter_that_is_off_is_one_without_weights():
    net = tc.Sequential(layers_of("first run"), seed=0, input_shape=(1, 10, 10))
    x = np.random.default_rng(2).random((1, 1, 10, 10)).astype(np.float32)
    (found,) = run(("net", pack(net, x, [0]), ["0.1"], 0))
    net.layers[0].params["weight"][1] = 0
    net.layers[0].params["bias"][1] = 0
    np.testing.assert_allclose(found[0]["values"][-1], net.forward(x)[0], atol=2e-5)
    loss = tc.CrossEntropyLoss()
    loss.forward(net.forward(x), np.array([0]))
    np.testing.assert_allclose(
        found[0]["gradients"][0], net.backward(loss.backward()).ravel(), atol=2e-5
    )


def test_a_unit_sees_what_its_gradient_reaches():
    def windows():
        return [
            tc.Conv2d(1, 1, (3, 2), stride=(2, 1), padding=((1, 0), (2, 1)), dilation=(1, 2)),
            tc.AvgPool2d(3, stride=2, padding=1, ceil_mode=True),
        ]

    net = tc.Sequential(windows(), dtype="float64", seed=0, input_shape=(1, 10, 10))
    whole = tc.Sequential([*windows(), tc.Flatten(), tc.Linear(None, 3)], input_shape=(1, 10, 10))
    x = np.random.default_rng(3).normal(size=(1, 1, 10, 10))
    packed = pack(whole, x.astype(np.float32), [0])
    y = net.forward(x)
    places = list(np.ndindex(y.shape[2:]))
    assert len(places) > 8
    for place, found in zip(places, run(*(("field", packed, 1, p) for p in places)), strict=True):
        dy = np.zeros(y.shape)
        dy[0, 0, *place] = 1
        rows, columns = np.nonzero(net.backward(dy)[0, 0])
        assert found == [[rows.min(), rows.max()], [columns.min(), columns.max()]]
    assert run(("field", packed, 3, [0])) == [[[0, 9], [0, 9]]]

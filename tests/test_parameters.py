from math import prod

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinyconv as tc
from tinyconv.parameters import ALIGNMENT, Parameters, ParameterSpec

SHAPES = st.lists(st.lists(st.integers(0, 4), max_size=4).map(tuple), max_size=5)


@given(SHAPES, st.sampled_from(["float32", "float64"]))
def test_views_cover_the_flat_arrays_in_order(shapes: list[tuple[int, ...]], dtype: str) -> None:
    specs = {
        f"{i}": ParameterSpec(shape, "zeros", decay=i % 2 == 0) for i, shape in enumerate(shapes)
    }
    own = Parameters(specs, dtype, "cpu")
    size = sum(map(prod, shapes))
    for flat, views in ((own.flat, own.values), (own.flat_grad, own.grads)):
        assert flat.shape == (size,)
        assert flat.dtype == dtype
        assert not flat.any()
        flat[...] = np.arange(size)
        seen = [view.ravel() for view in views.values()]
        assert np.concatenate([*seen, np.empty(0)]).tolist() == list(range(size))
        for name, view in views.items():
            assert view.shape == specs[name].shape
            view[...] = -1
        assert (flat == -1).all()  # what is written into a view stands in the flat array
    decay = [float(i % 2 == 0) for i, shape in enumerate(shapes) for _ in range(prod(shape))]
    assert own.decay.tolist() == decay


@pytest.mark.parametrize("size", [1, 3, 17, 1000])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_flat_arrays_are_aligned(size: int, dtype: str) -> None:
    kept = [Parameters({"w": ParameterSpec((size,), "zeros")}, dtype, "cpu") for _ in range(5)]
    for own in kept:
        assert own.flat.ctypes.data % ALIGNMENT == 0
        assert own.flat_grad.ctypes.data % ALIGNMENT == 0


def test_parameters_and_gradients_do_not_overlap() -> None:
    own = Parameters({"w": ParameterSpec((5,), "zeros")}, "float32", "cpu")
    assert not np.shares_memory(own.flat, own.flat_grad)


def test_layers_of_a_network_hold_views() -> None:
    net = tc.Sequential(
        [tc.Conv2d(1, 2, 3), tc.Flatten(), tc.Linear(None, 3)], input_shape=(1, 5, 5)
    )
    conv, _, linear = net.layers
    flat = net.parameters.flat
    for layer in (conv, linear):
        for values in layer.params.values():
            assert np.shares_memory(values, flat)
        for grads in layer.grads.values():
            assert np.shares_memory(grads, net.parameters.flat_grad)
    flat[...] = 0
    linear.params["bias"][...] = 5
    assert flat[-3:].tolist() == [5, 5, 5]
    assert not flat[:-3].any()
    assert net.state_dict()["2.bias"].tolist() == [5, 5, 5]
    assert not np.shares_memory(net.state_dict()["2.bias"], flat)


def test_biases_do_not_decay() -> None:
    net = tc.Sequential([tc.Linear(2, 3), tc.Linear(3, 1)])
    assert net.parameters.decay.tolist() == [1.0] * 6 + [0.0] * 3 + [1.0] * 3 + [0.0]


def test_they_are_no_method_as_in_pytorch() -> None:
    net = tc.Sequential(tc.Linear(2, 3))
    with pytest.raises(TypeError, match=r"parameters is no method: fit and optimizer\.step"):
        tc.SGD(net.parameters(), lr=0.1)  # type: ignore[arg-type, func-returns-value]

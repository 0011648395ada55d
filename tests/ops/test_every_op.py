"""What holds for every op alike: gradients, other array libraries, nothing changed, bad input."""

import inspect
import re
from typing import Any

import array_api_strict
import numpy as np
import pytest

from tinyconv import ops
from tinyconv.errors import DeviceError, DtypeError, ShapeError

from .cases import CASES
from .helpers import FAR, Case, from_strict, numeric_gradients, random_like, to_strict

every_case = pytest.mark.parametrize("case", CASES, ids=str)

# Not pairs of forward and backward; they have tests of their own.
PLAIN_FUNCTIONS = {"im2col", "col2im"}


def first_case_of_each_op() -> list[Case]:
    return list({case.op: case for case in reversed(CASES)}.values())


every_op = pytest.mark.parametrize("case", first_case_of_each_op(), ids=lambda case: case.op)


def test_every_public_op_has_a_case() -> None:
    covered = {case.op for case in CASES}
    assert set(ops.__all__) == PLAIN_FUNCTIONS | covered | {op + "_backward" for op in covered}
    assert ops.__all__ == sorted(ops.__all__)


def test_options_are_by_name_only() -> None:
    """What has a default is an array, the size that an op is about, or by name only."""
    for name in {case.op for case in CASES}:
        for argument in inspect.signature(getattr(ops, name)).parameters.values():
            if argument.default is argument.empty or argument.kind is argument.KEYWORD_ONLY:
                continue
            is_array = argument.annotation in ("Array | None", Any | None)
            assert is_array or argument.name == "size", f"{name}: {argument}"


@every_case
def test_gradients_equal_numeric_ones(case: Case) -> None:
    y, saved = case.forward()
    dy = random_like(y)
    gradients = case.backward(dy, saved)
    expected = numeric_gradients(lambda *a: case.forward(*a)[0], case.inputs, dy, case.grads)
    assert len(gradients) == case.grads
    for gradient, numeric in zip(gradients, expected, strict=True):
        np.testing.assert_allclose(gradient, numeric, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("case", [case for case in CASES if case.analytic], ids=str)
def test_gradients_equal_the_complex_step(case: Case) -> None:
    # d/dt f(x + i t d) at t = 0 is the imaginary part over t, with no subtraction that cancels.
    y, saved = case.forward()
    dy = random_like(y)
    gradients = case.backward(dy, saved)
    direction = [random_like(a, seed=11) for a in case.inputs[: case.grads]]
    moved = [
        a + 1e-30j * d for a, d in zip(case.inputs[: case.grads], direction, strict=True)
    ] + list(case.inputs[case.grads :])
    others = [a.astype(complex) if a.dtype.kind == "f" else a for a in moved[case.grads :]]
    y_moved, _ = case.forward(*moved[: case.grads], *others)
    slope = np.sum(dy * np.imag(y_moved)) / 1e-30
    expected = sum(np.sum(g * d) for g, d in zip(gradients, direction, strict=True))
    np.testing.assert_allclose(slope, expected, rtol=1e-11, atol=1e-13)


@every_case
def test_runs_on_any_array_library_and_device(case: Case) -> None:
    y, saved = case.forward()
    dy = random_like(y)
    gradients = case.backward(dy, saved)

    inputs = [to_strict(array, FAR) for array in case.inputs]
    strict_y, strict_saved = case.forward(*inputs)
    strict_gradients = case.backward(to_strict(dy, FAR), strict_saved)
    for strict, plain in zip([strict_y, *strict_gradients], [y, *gradients], strict=True):
        assert isinstance(strict, type(to_strict(np.zeros(1))))
        assert strict.device == FAR
        np.testing.assert_array_equal(from_strict(strict), plain)


@every_case
def test_inputs_and_dy_are_never_changed(case: Case) -> None:
    inputs = tuple(a.copy() for a in case.inputs)
    for a in inputs:
        a.flags.writeable = False
    y, saved = case.forward(*inputs)
    y_before = np.array(y)
    dy = random_like(y)
    dy.flags.writeable = False
    first = case.backward(dy, saved)
    second = case.backward(dy, saved)
    np.testing.assert_array_equal(y, y_before)  # nor what the forward pass returned
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a, b)


@every_case
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_dtype_is_kept(case: Case, dtype: str) -> None:
    inputs = [a.astype(dtype) if a.dtype.kind == "f" else a for a in case.inputs]
    y, saved = case.forward(*inputs)
    gradients = case.backward(random_like(y), saved)
    assert y.dtype == dtype
    for a, gradient in zip(inputs[: case.grads], gradients, strict=True):
        assert (gradient.dtype, gradient.shape) == (a.dtype, a.shape)


@every_case
def test_empty_batch_gives_empty_results_and_zero_gradients(case: Case) -> None:
    batch = case.inputs[0].shape[0]
    inputs = [
        a[:0] if i == 0 or belongs_to_batch(case, i) else a for i, a in enumerate(case.inputs)
    ]
    y, saved = case.forward(*inputs)
    gradients = case.backward(random_like(y), saved)
    full, _ = case.forward()
    if full.ndim:
        assert full.shape[0] == batch
        assert y.shape == (0, *full.shape[1:])
    else:
        assert y == 0
    for a, gradient in zip(inputs[: case.grads], gradients, strict=True):
        assert gradient.shape == a.shape
        np.testing.assert_array_equal(gradient, np.zeros(a.shape))


def belongs_to_batch(case: Case, which: int) -> bool:
    """Whether input ``which`` has one entry a sample, as masks, labels and targets have."""
    return which >= case.grads and case.inputs[which].shape[:1] == case.inputs[0].shape[:1]


@every_case
def test_nan_propagates_and_stays_in_its_sample(case: Case) -> None:
    x = case.inputs[0].copy()
    x[0, ...] = np.nan
    y, _ = case.forward(x, *case.inputs[1:])
    if y.ndim == 0:
        assert np.isnan(y)
        return
    kept = case.inputs[1][0] if case.op == "dropout" else np.full(y[0].shape, True)
    is_nan = np.isnan(y[0][kept])
    assert is_nan.all() if case.spreads else is_nan.any()
    if case.per_sample:
        np.testing.assert_array_equal(y[1:], case.forward()[0][1:])


@every_op
def test_integers_are_refused(case: Case) -> None:
    x = np.ones(case.inputs[0].shape, dtype=np.int64)
    message = f"^{case.op}: [a-z]+ has dtype int64, expected a floating-point type$"
    with pytest.raises(DtypeError, match=message):
        case.forward(x, *case.inputs[1:])


@every_op
def test_wrong_dy_is_refused(case: Case) -> None:
    y, saved = case.forward()
    if y.ndim == 0:
        wrong_shapes = [case.inputs[0].shape]
    else:
        wrong_shapes = [(*y.shape[:-1], y.shape[-1] + 1), (y.shape[0] + 1, *y.shape[1:])]
    for shape in wrong_shapes:
        message = f"{case.op}_backward: dy has shape {shape}, expected {y.shape}"
        with pytest.raises(ShapeError, match=f"^{re.escape(message)}$"):
            case.backward(np.zeros(shape), saved)


@every_op
def test_mixed_arrays_are_refused(case: Case) -> None:
    for which in range(len(case.inputs)):
        if len(case.inputs) == 1:
            break
        inputs = list(case.inputs)
        inputs[which] = to_strict(inputs[which])
        with pytest.raises(DeviceError, match=f"^{case.op}: arrays of one library expected, got "):
            case.forward(*inputs)
    with pytest.raises(DeviceError, match=f"^{case.op}: [a-z]+ is a list, expected an array$"):
        case.forward(case.inputs[0].tolist(), *case.inputs[1:])


@every_op
def test_mixed_dy_is_refused(case: Case) -> None:
    y, saved = case.forward(*map(to_strict, case.inputs))
    if not any(
        isinstance(s, type(array_api_strict.ones(1)))
        for s in (saved if isinstance(saved, tuple) else (saved,))
    ):
        pytest.skip("nothing but sizes is saved")
    message = f"^{case.op}_backward: arrays of one library expected, got "
    with pytest.raises(DeviceError, match=message):
        case.backward(random_like(y), saved)


@every_op
def test_the_order_of_bytes_does_not_matter(case: Case) -> None:
    y, saved = case.forward()
    dy = random_like(y)
    swapped = [a.astype(a.dtype.newbyteorder(">")) for a in case.inputs]
    other_y, other_saved = case.forward(swapped[0], *case.inputs[1:])
    for a, b in zip(
        [y, *case.backward(dy, saved)], [other_y, *case.backward(dy, other_saved)], strict=True
    ):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-14)
    case.forward(*swapped)

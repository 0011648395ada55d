"""From the pattern of an error to the mistake that makes such patterns.

Each function of the table looks for one family of mistakes in an :class:`Evidence` and yields the
sentences that fit. A sentence is said only if it fits a second draw as well: other inputs, another
dy. The first family with such a sentence has the word.
"""

import itertools
import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from tinyconv.gradcheck.evidence import Evidence
from tinyconv.gradcheck.numbers import largest
from tinyconv.gradcheck.parts import broad_part, dy_part, narrow_part, places, selected
from tinyconv.gradcheck.problem import FloatArray
from tinyconv.gradcheck.shapes import axis_sets

__all__ = ["Follow", "explain"]

#: ratio -> what the ratio follows when lengths of axes change, "" if nothing
Follow = Callable[[float], str]


def explain(evidence: Evidence, draw_again: Callable[[], Evidence | None], follow: Follow) -> str:
    """Return what the pattern suggests, "" if nothing fits both draws."""
    if not np.any(evidence.wrong) or np.median(evidence.tolerance) > 0.01 * evidence.size:
        return ""  # within wide bars anything fits
    second: Evidence | None = None
    for look in TABLE:
        sentences = _fitting(look, evidence)
        second = second or (draw_again() if sentences else None)
        again = _fitting(look, second) if sentences and second else sentences
        for sentence in (each for each in sentences if each in again):
            if second is None:
                sentence += " (at these inputs: no second draw was possible)"
            elif look is _constant_ratio:
                sentence += follow(evidence.ratio(np.ones_like(evidence.wrong)) or 0.0)
            return f"{evidence.name}: {sentence}"
    return ""


def _fitting(look: Callable[[Evidence], Iterator[str]], evidence: Evidence) -> list[str]:
    with np.errstate(all="ignore"):  # infinite inputs, and quotients of what may be 0
        return list(look(evidence))


# -- the whole gradient ---------------------------------------------------------------------------


def _not_linear_in_dy(e: Evidence) -> Iterator[str]:
    """A gradient is linear in dy: doubling dy doubles it."""
    doubled = e.vjp(2 * e.dy, {})
    if np.all(np.abs(doubled - 2 * e.analytic) <= 1e-9 * largest(doubled)):
        return
    if np.all(np.abs(doubled - e.analytic) <= 1e-9 * largest(doubled)):
        yield "the gradient does not depend on dy: multiply by what comes from above"
    else:
        yield "the gradient is not linear in dy"


def _shared_memory(e: Evidence) -> Iterator[str]:
    for name in e.shared:
        yield f"it lies in the same memory as the gradient of {name}: one array is used for both"


def _constant_ratio(e: Evidence) -> Iterator[str]:
    if not np.any(e.analytic):
        yield "the gradient is zero everywhere: it is never computed"
    ratio = e.ratio(np.ones_like(e.wrong))
    if ratio is not None and abs(ratio) > 1e-9:
        yield f"the gradient is {ratio:.6g} times what it should be"


def _conjugated(e: Evidence) -> Iterator[str]:
    sign = np.array([1.0, -1.0])
    if e.name in e.pairs and e.matches(e.analytic * sign):
        yield "the gradient is conjugated: a conjugate is missing or too much"
    for name in e.pairs:
        if e.matches(e.vjp(e.dy, {name: e.inputs[name] * sign})):
            yield f"backward is right for {name} conjugated: its conjugate is missing"


def _order(e: Evidence) -> Iterator[str]:
    """Gradients returned in another order than the inputs."""
    for name, other in e.others.items():
        if other.shape == e.analytic.shape and e.matches(other):
            yield f"this is not its gradient, but the gradient of {name} would be: the order is off"


def _rearranged(e: Evidence) -> Iterator[str]:
    """The right numbers, with axes swapped, flipped or shifted."""
    shape = e.analytic.shape[: -1 if e.name in e.pairs else None]
    axes = range(len(shape))
    rest = range(len(shape), e.analytic.ndim)
    for order in itertools.permutations(axes) if len(shape) <= 4 else ():
        if order == tuple(axes) or tuple(shape[k] for k in order) != shape:
            continue
        if e.matches(np.transpose(e.analytic, (*order, *rest))):
            swapped = tuple(k for k in axes if order[k] != k)
            yield f"the gradient is transposed: axes {swapped} are swapped"
    for count in range(1, len(shape) + 1):
        for flipped in itertools.combinations(axes, count):
            if e.matches(np.flip(e.analytic, flipped)):
                yield f"the gradient is flipped: axes {flipped} run backwards"
    for axis, by in itertools.product(axes, (1, -1, 2, -2)):
        if shape[axis] > abs(by) and _is_shift(e, {axis: by}):
            yield f"the gradient is shifted by {-by} along {e.axis(axis)}: an offset or the padding"
    for by in (1, -1, 2, -2) if len(shape) >= 2 else ():
        if _is_shift(e, {len(shape) - 2: by, len(shape) - 1: by}):
            yield f"the gradient is shifted by {-by} along both last axes: the padding"


def _is_shift(e: Evidence, shifts: dict[int, int]) -> bool:
    """Tell whether the gradient moved by ``shifts`` is right, where the two overlap."""
    shape = e.analytic.shape
    moved = e.at(np.roll(e.analytic, list(shifts.values()), list(shifts)))
    index = np.unravel_index(e.flat, shape)
    inside = np.ones(e.flat.shape, dtype=bool)
    for axis, by in shifts.items():
        inside &= (index[axis] >= by) & (index[axis] < shape[axis] + min(by, 0))
    if np.sum(inside & (np.abs(e.numeric) > 1e-6 * e.size)) < 2 or not np.any(inside & e.wrong):
        return False
    return bool(np.all(e.close(moved)[inside]))


def _input_rearranged(e: Evidence) -> Iterator[str]:
    """Right if another input were transposed or flipped, so backward uses it like that."""
    for name, x in e.inputs.items():
        if name == e.name or x.ndim < 2 or x.dtype.kind != "f":
            continue
        for how, moved in _rearrangements(x):
            if e.matches(e.vjp(e.dy, {name: moved})):
                yield f"backward is right for {name} {how}: it has {name} used {how}"


def _rearrangements(x: Any) -> Iterator[tuple[str, Any]]:
    last = (x.ndim - 2, x.ndim - 1)
    if x.shape[-1] == x.shape[-2]:
        yield "transposed", np.swapaxes(x, *last)
    if x.ndim > 2 and x.shape[0] == x.shape[1]:
        yield "transposed", np.swapaxes(x, 0, 1)
    yield "flipped", np.flip(x, last)
    yield "flipped along its last axis", np.flip(x, -1)


# -- elementwise functions: what dy is multiplied by ----------------------------------------------


def _local_derivative(e: Evidence) -> Iterator[str]:
    yield from _factor(e, e.same_shape)
    if e.analytic.shape != e.dy.shape:
        return
    if e.is_got(e.dy):
        if np.all(e.zero | e.close(e.at(e.dy))):
            yield "dy is passed on where the derivative is zero: the mask is missing"
        else:
            yield "the gradient is dy itself: the derivative of the function is missing"
        return
    yield from _factor(e, _functions_of_y(e))


def _factor(e: Evidence, factors: dict[str, FloatArray]) -> Iterator[str]:
    for name, values in factors.items():
        if np.all(e.close(e.got * e.at(values))):
            yield f"the factor {name} is missing"
        elif np.all(e.close(e.got, e.numeric * e.at(values))):
            yield f"the factor {name} is too much"


def _functions_of_y(e: Evidence) -> dict[str, FloatArray]:
    y = e.y
    with np.errstate(all="ignore"):
        return {"y": y, "1 - y": 1 - y, "1 - y^2": 1 - y * y, "y (1 - y)": y * (1 - y)}


def _other_mask(e: Evidence) -> Iterator[str]:
    if e.analytic.shape != e.dy.shape:
        return
    ratio = e.ratio((np.abs(e.got) > 0) & ~e.zero)
    if ratio is None or abs(ratio - 1) > 1e-6:
        return
    lost, extra = np.any((e.got == 0) & e.wrong), np.any(e.zero & e.wrong)
    # What is passed on must be dy, times what forward scales it by.
    passed = (np.abs(e.got) > 0) & e.wrong
    if extra and not np.all(e.close(e.got, _scale(e) * e.at(e.dy))[passed]):
        return
    if lost and extra:
        yield "zeros are in the wrong places: another mask than that of forward"
    elif extra:
        yield "dy is passed on where the derivative is zero: the mask is missing or too wide"
    else:
        yield "the gradient is zero where it should not be: the mask is too narrow"


def _scale(e: Evidence) -> float:
    right = ~e.zero
    return float(np.median(e.numeric[right] / e.at(e.dy)[right])) if np.any(right) else 1.0


def _dy_times(e: Evidence) -> Iterator[str]:
    if e.analytic.shape == e.dy.shape:
        for name, factor in (e.same_shape | _functions_of_y(e)).items():
            if e.is_got(e.dy * factor):
                yield f"the gradient is dy * ({name}), which is not the derivative"


# -- sums and means -------------------------------------------------------------------------------


def _mean(a: Any, axes: tuple[int, ...]) -> Any:
    return np.mean(a, axis=axes, keepdims=True)


def _over(e: Evidence, axes: tuple[int, ...]) -> str:
    if len(axes) == 1:
        return e.axis(axes[0])
    return f"axes {axes}"


def _normalisation(e: Evidence) -> Iterator[str]:
    """Of ``(x - mean) / std`` the gradient is a projection: its terms hold the parts together."""
    g = e.analytic
    forms = e.same_shape | ({"y": e.y} if e.y.shape == g.shape else {})
    for axes in axis_sets(g):
        if math.prod(g.shape[k] for k in axes) < 2:
            continue
        where = _over(e, axes)
        without_mean = g - _mean(g, axes)
        if e.matches(without_mean):
            yield f"right with its mean over {where} subtracted: the term of the mean is missing"
        x = e.same_shape.get(e.name)
        if x is not None:
            with np.errstate(all="ignore"):
                z = x - _mean(x, axes)
                z = z / np.sqrt(_mean(z * z, axes))
            if not np.all(np.isfinite(z)):
                continue
            along = z * _mean(g * z, axes)
            if _is_less(e, g, along, axes):
                yield (
                    f"right with its part along the normalised {e.name} over {where} subtracted: "
                    "the term of the variance is missing"
                )
            if _is_less(e, without_mean, along, axes):
                yield (
                    f"right with the terms of the mean and the variance over {where} subtracted: "
                    "both are missing"
                )
        for name, form in forms.items():
            with np.errstate(all="ignore"):
                square = np.sum(form * form, axis=axes, keepdims=True)
                along = form * np.sum(g * form, axis=axes, keepdims=True) / square
            if np.all(np.isfinite(along)) and _is_less(e, g, along, axes):
                yield (
                    f"right with its part along {name} over {where} subtracted: "
                    "the term of the length is missing"
                )


def _is_less(e: Evidence, g: FloatArray, along: FloatArray, axes: tuple[int, ...]) -> bool:
    """Tell whether g is right less ``along``, or less a share of it in each slice.

    An epsilon beside the variance makes the share less than all.
    """
    rest, part = e.at(g) - e.numeric, e.at(along)
    group = _slices(e, axes)
    dot, square = np.bincount(group, rest * part), np.bincount(group, part * part)
    share = np.divide(dot, square, out=np.ones_like(dot), where=square > 1e-18 * e.size**2)
    if np.bincount(group).max(initial=0) < 3 or np.any((share < 0.3) | (share > 1 + 1e-6)):
        return False
    return bool(np.all(e.close(e.at(g) - share[group] * part)))


def _slices(e: Evidence, axes: tuple[int, ...]) -> Any:
    """Return the number of the slice along ``axes`` in which each known element is."""
    shape = e.analytic.shape
    index = np.unravel_index(e.flat, shape)
    rest = [k for k in range(len(shape)) if k not in axes]
    if not rest:
        return np.zeros(len(e.flat), dtype=int)
    return np.ravel_multi_index([index[k] for k in rest], [shape[k] for k in rest])


def _softmax(e: Evidence) -> Iterator[str]:
    """dx = y (dy - sum(y dy)), and dx = dy - exp(y) sum(dy) of its logarithm."""
    g, y, dy = e.analytic, e.y, e.dy
    if not y.shape == g.shape == dy.shape:
        return
    with np.errstate(all="ignore"):
        p = np.exp(y)
    softmax = {k: y * (dy - np.sum(y * dy, k, keepdims=True)) for k in range(g.ndim)}
    logarithm = {k: dy - p * np.sum(dy, k, keepdims=True) for k in range(g.ndim)}
    for axis in range(g.ndim):
        if g.shape[axis] < 2:
            continue
        if e.matches(g - y * np.sum(g, axis, keepdims=True)):
            yield f"right with y sum(y dy) over {e.axis(axis)} subtracted: the sum is missing"
        if e.matches(g - p * np.sum(g, axis, keepdims=True)):
            yield f"right with exp(y) sum(dy) over {e.axis(axis)} subtracted: the sum is missing"
        for forms in (softmax, logarithm):
            for other in range(g.ndim):
                if other != axis and e.matches(forms[axis]) and e.is_got(forms[other]):
                    wrong, right = e.axis(other), e.axis(axis)
                    yield f"its sum runs over {wrong}, expected {right}: the wrong axis"


def _sum_of_dy(e: Evidence) -> Iterator[str]:
    """Of what was broadcast, the gradient is a sum over the axes along which it was."""
    products = {"dy": e.dy}
    for name, x in e.inputs.items():
        if x.shape == e.dy.shape and x.dtype.kind == "f":
            products[f"dy {name}"] = e.dy * x
    for name, product in products.items():
        sums = {axes: product.sum(axis=axes, keepdims=True) for axes in axis_sets(product)}
        fitting = {
            axes: total.reshape(e.analytic.shape)
            for axes, total in sums.items()
            if total.size == e.analytic.size
        }
        right = next((axes for axes, total in fitting.items() if e.matches(total)), None)
        if right is None:
            continue
        for axes, total in fitting.items():
            if e.is_got(total):
                yield f"the gradient is {name} summed over axes {axes}, expected {right}"
        for axis in right:
            for k in range(e.dy.shape[axis]):
                taken = np.take(product, [k], axis=axis).sum(axis=right).reshape(e.analytic.shape)
                where = f"{name} at index {k} of {e.axis(axis, 'y')}"
                if e.is_got(taken):
                    yield f"only {where} is counted: sum over it"
                if e.is_got(fitting[right] - taken):
                    yield f"{where}, of {e.dy.shape[axis]}, is left out"


def _missing_term(e: Evidence) -> Iterator[str]:
    """The difference to the numeric gradient is something simple."""
    missing = e.numeric - e.got
    shape = e.analytic.shape
    terms = {name: e.at(x) for name, x in e.same_shape.items()}
    if e.y.shape == shape == e.dy.shape:
        y, dy = e.at(e.y), e.at(e.dy)
        terms |= {"dy": dy, "y": y, "y dy": y * dy, "y^2 dy": y * y * dy}
    for name, values in terms.items():
        factor = _multiple(e, missing, values, np.zeros_like(e.flat))
        if factor is not None:
            yield f"a term is missing: the derivative has {factor:.4g} times {name} more"
    terms["1"] = np.ones_like(missing)
    for axis in range(len(shape) if len(shape) > 1 else 0):
        group = _slices(e, (axis,))
        for name, values in terms.items():
            if shape[axis] > 2 and _multiple(e, missing, values, group) is not None:
                yield (
                    f"a term is missing: {name} times a number for each slice along "
                    f"{e.axis(axis)}, as from a sum over it"
                )


def _multiple(e: Evidence, missing: FloatArray, values: FloatArray, group: Any) -> float | None:
    """Return the number of the first group if ``missing`` is ``values`` times one a group."""
    _, group, counts = np.unique(group, return_inverse=True, return_counts=True)
    if not counts.size or np.max(counts) < 3:
        return None
    dot = np.bincount(group, missing * values)
    square = np.bincount(group, values * values)
    factor = np.divide(dot, square, out=np.zeros_like(dot), where=square > 0)
    return float(factor[0]) if np.all(e.close(missing, factor[group] * values)) else None


def _constant_beside_inputs(e: Evidence) -> Iterator[str]:
    """What is right for large inputs and ever more wrong for small ones has a constant in it."""
    large, here, small = (e.scaled_error(factor) for factor in (1e4, 1.0, 0.1))
    if large is None or here is None or small is None:
        return
    if large < 1e-3 * here and small > 1.5 * here:
        yield (
            "right for inputs 10,000 times as large, worse for smaller ones: a constant beside "
            "them is in the wrong place, as an epsilon is"
        )


#: From the most specific to the most general.
TABLE: tuple[Callable[[Evidence], Iterator[str]], ...] = (
    _not_linear_in_dy,
    _shared_memory,
    _constant_ratio,
    _conjugated,
    _order,
    _rearranged,
    _input_rearranged,
    _softmax,
    _normalisation,
    _sum_of_dy,
    selected,
    narrow_part,
    _local_derivative,
    _other_mask,
    dy_part,
    places,
    _missing_term,
    _dy_times,
    broad_part,
    _constant_beside_inputs,
)

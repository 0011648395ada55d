"""From the pattern of an error to the mistake that makes such patterns.

Each function of the table looks for one family of mistakes in an :class:`Evidence` and yields
hypotheses: whether one holds, and the sentence to say if it does. A sentence is said only if it
holds at a second draw as well: other inputs, another dy. The first family with such a sentence has
the word.
"""

import itertools
import math
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np

from tinyconv.gradcheck.evidence import Evidence
from tinyconv.gradcheck.numbers import largest
from tinyconv.gradcheck.parts import Hypotheses, broad_part, dy_part, narrow_part, places, selected
from tinyconv.gradcheck.problem import FloatArray
from tinyconv.gradcheck.shapes import axis_sets

__all__ = ["Follow", "explain"]

#: ratio -> what the ratio follows when lengths of axes change, "" if nothing
Follow: TypeAlias = Callable[[float], str]


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


def _fitting(look: Callable[[Evidence], Hypotheses], evidence: Evidence) -> list[str]:
    with np.errstate(all="ignore"):  # infinite inputs, and quotients of what may be 0
        return [sentence for holds, sentence in look(evidence) if holds]


# -- the whole gradient ---------------------------------------------------------------------------


def _not_linear_in_dy(e: Evidence) -> Hypotheses:
    """A gradient is linear in dy: doubling dy doubles it."""
    doubled = e.vjp(2 * e.dy)
    slack = 1e-9 * largest(doubled)
    is_linear = np.all(np.abs(doubled - 2 * e.analytic) <= slack)
    is_constant = not is_linear and np.all(np.abs(doubled - e.analytic) <= slack)
    yield is_constant, "the gradient does not depend on dy: multiply by what comes from above"
    yield not is_linear and not is_constant, "the gradient is not linear in dy"


def _shared_memory(e: Evidence) -> Hypotheses:
    for name in e.shared:
        text = f"it lies in the same memory as the gradient of {name}: one array is used for both"
        yield True, text


def _constant_ratio(e: Evidence) -> Hypotheses:
    yield not np.any(e.analytic), "the gradient is zero everywhere: it is never computed"
    ratio = e.ratio(np.ones_like(e.wrong)) or 0.0
    yield abs(ratio) > 1e-9, f"the gradient is {ratio:.6g} times what it should be"


def _conjugated(e: Evidence) -> Hypotheses:
    sign = np.array([1.0, -1.0])
    if e.name in e.pairs:
        conjugated = e.matches(e.analytic * sign)
        yield conjugated, "the gradient is conjugated: a conjugate is missing or too much"
    for name in e.pairs:
        right = e.matches(e.vjp(e.dy, {name: e.inputs[name] * sign}))
        yield right, f"backward is right for {name} conjugated: its conjugate is missing"


def _order(e: Evidence) -> Hypotheses:
    """Gradients returned in another order than the inputs."""
    for name, other in e.others.items():
        is_other = other.shape == e.analytic.shape and e.matches(other)
        yield (
            is_other,
            f"this is not its gradient, but the gradient of {name} would be: the order is off",
        )


def _rearranged(e: Evidence) -> Hypotheses:
    """The right numbers, with axes swapped, flipped or shifted."""
    shape = e.analytic.shape[: -1 if e.name in e.pairs else None]
    axes = range(len(shape))
    rest = range(len(shape), e.analytic.ndim)
    for order in itertools.permutations(axes) if len(shape) <= 4 else ():
        if order != tuple(axes) and tuple(shape[k] for k in order) == shape:
            swapped = tuple(k for k in axes if order[k] != k)
            right = e.matches(np.transpose(e.analytic, (*order, *rest)))
            yield right, f"the gradient is transposed: axes {swapped} are swapped"
    for count in range(1, len(shape) + 1):
        for flipped in itertools.combinations(axes, count):
            right = e.matches(np.flip(e.analytic, flipped))
            yield right, f"the gradient is flipped: axes {flipped} run backwards"
    for axis, by in itertools.product(axes, (1, -1, 2, -2)):
        where = f"along {e.axis(axis)}: an offset or the padding"
        yield _is_shift(e, {axis: by}), f"the gradient is shifted by {-by} {where}"
    for by in (1, -1, 2, -2) if len(shape) >= 2 else ():
        right = _is_shift(e, {len(shape) - 2: by, len(shape) - 1: by})
        yield right, f"the gradient is shifted by {-by} along both last axes: the padding"


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


def _input_rearranged(e: Evidence) -> Hypotheses:
    """Right if another input were transposed or flipped, so backward uses it like that."""
    for name, x in e.inputs.items():
        if name == e.name or x.ndim < 2 or x.dtype.kind != "f":
            continue
        pairs = [(-2, -1), (0, 1)] if x.ndim > 2 else [(-2, -1)]
        swaps = [pair for pair in pairs if x.shape[pair[0]] == x.shape[pair[1]]]
        ways = [("transposed", np.swapaxes(x, *pair)) for pair in swaps]
        ways += [("flipped", np.flip(x, (-2, -1)))]
        ways += [("flipped along its last axis", np.flip(x, -1))]
        for how, moved in ways:
            right = e.matches(e.vjp(e.dy, {name: moved}))
            yield right, f"backward is right for {name} {how}: it has {name} used {how}"


# -- elementwise functions: what dy is multiplied by ----------------------------------------------


def _local_derivative(e: Evidence) -> Hypotheses:
    yield from _factor(e, e.same_shape)
    if e.analytic.shape != e.dy.shape:
        return
    if e.is_got(e.dy):
        masked = np.all(e.zero | e.close(e.at(e.dy)))
        yield masked, "dy is passed on where the derivative is zero: the mask is missing"
        yield not masked, "the gradient is dy itself: the derivative of the function is missing"
        return
    yield from _factor(e, _functions_of_y(e))


def _factor(e: Evidence, factors: dict[str, FloatArray]) -> Hypotheses:
    for name, values in factors.items():
        is_missing = np.all(e.close(e.got * e.at(values)))
        yield is_missing, f"the factor {name} is missing"
        is_extra = not is_missing and np.all(e.close(e.got, e.numeric * e.at(values)))
        yield is_extra, f"the factor {name} is too much"


def _functions_of_y(e: Evidence) -> dict[str, FloatArray]:
    y = e.y
    return {"y": y, "1 - y": 1 - y, "1 - y^2": 1 - y * y, "y (1 - y)": y * (1 - y)}


def _other_mask(e: Evidence) -> Hypotheses:
    if e.analytic.shape != e.dy.shape:
        return
    ratio = e.ratio((np.abs(e.got) > 0) & ~e.zero)
    if ratio is None or abs(ratio - 1) > 1e-6:
        return
    lost, extra = np.any((e.got == 0) & e.wrong), np.any(e.zero & e.wrong)
    # What is passed on must be dy, times what forward scales it by.
    right = ~e.zero
    scale = float(np.median(e.numeric[right] / e.at(e.dy)[right])) if np.any(right) else 1.0
    passed = (np.abs(e.got) > 0) & e.wrong
    if extra and not np.all(e.close(e.got, scale * e.at(e.dy))[passed]):
        return
    passed_on = "dy is passed on where the derivative is zero: the mask is missing or too wide"
    yield lost and extra, "zeros are in the wrong places: another mask than that of forward"
    yield extra and not lost, passed_on
    yield not extra, "the gradient is zero where it should not be: the mask is too narrow"


def _dy_times(e: Evidence) -> Hypotheses:
    if e.analytic.shape == e.dy.shape:
        for name, factor in (e.same_shape | _functions_of_y(e)).items():
            got = e.is_got(e.dy * factor)
            yield got, f"the gradient is dy * ({name}), which is not the derivative"


# -- sums and means -------------------------------------------------------------------------------


def _mean(a: Any, axes: tuple[int, ...]) -> Any:
    return np.mean(a, axis=axes, keepdims=True)


def _normalisation(e: Evidence) -> Hypotheses:
    """Of ``(x - mean) / std`` the gradient is a projection: its terms hold the parts together."""
    g, x = e.analytic, e.same_shape.get(e.name)
    forms = e.same_shape | ({"y": e.y} if e.y.shape == g.shape else {})
    for axes in axis_sets(g):
        if math.prod(g.shape[k] for k in axes) < 2:
            continue
        where = f"over {e.axis(axes[0]) if len(axes) == 1 else f'axes {axes}'} subtracted"
        less = g - _mean(g, axes)
        yield e.matches(less), f"right with its mean {where}: the term of the mean is missing"
        if x is not None:
            z = x - _mean(x, axes)
            z = z / np.sqrt(_mean(z * z, axes))
            if not np.all(np.isfinite(z)):
                continue
            along = z * _mean(g * z, axes)
            what = f"right with its part along the normalised {e.name} {where}"
            yield _is_less(e, g, along, axes), f"{what}: the term of the variance is missing"
            what = f"right with the terms of the mean and the variance {where}"
            yield _is_less(e, less, along, axes), f"{what}: both are missing"
        for name, form in forms.items():
            square = np.sum(form * form, axis=axes, keepdims=True)
            along = form * np.sum(g * form, axis=axes, keepdims=True) / square
            right = np.all(np.isfinite(along)) and _is_less(e, g, along, axes)
            what = f"right with its part along {name} {where}"
            yield right, f"{what}: the term of the length is missing"


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


def _softmax(e: Evidence) -> Hypotheses:
    """dx = y (dy - sum(y dy)), and dx = dy - exp(y) sum(dy) of its logarithm."""
    g, y, dy = e.analytic, e.y, e.dy
    if not y.shape == g.shape == dy.shape:
        return
    p = np.exp(y)
    softmax = [y * (dy - np.sum(y * dy, k, keepdims=True)) for k in range(g.ndim)]
    logarithm = [dy - p * np.sum(dy, k, keepdims=True) for k in range(g.ndim)]
    for axis in (k for k in range(g.ndim) if g.shape[k] > 1):
        total, end = np.sum(g, axis, keepdims=True), "subtracted: the sum is missing"
        yield e.matches(g - y * total), f"right with y sum(y dy) over {e.axis(axis)} {end}"
        yield e.matches(g - p * total), f"right with exp(y) sum(dy) over {e.axis(axis)} {end}"
        for forms, other in itertools.product((softmax, logarithm), range(g.ndim)):
            swapped = other != axis and e.matches(forms[axis]) and e.is_got(forms[other])
            wrong, right = e.axis(other), e.axis(axis)
            yield swapped, f"its sum runs over {wrong}, expected {right}: the wrong axis"


def _sum_of_dy(e: Evidence) -> Hypotheses:
    """Of what was broadcast, the gradient is a sum over the axes along which it was."""
    shape, products = e.analytic.shape, {"dy": e.dy}
    for name, x in e.inputs.items():
        if x.shape == e.dy.shape and x.dtype.kind == "f":
            products[f"dy {name}"] = e.dy * x
    for name, product in products.items():
        sums = {axes: product.sum(axis=axes) for axes in axis_sets(product)}
        fitting = {k: s.reshape(shape) for k, s in sums.items() if s.size == e.analytic.size}
        right = next((axes for axes, total in fitting.items() if e.matches(total)), None)
        if right is None:
            continue
        for axes, total in fitting.items():
            what = f"the gradient is {name} summed over axes {axes}, expected {right}"
            yield e.is_got(total), what
        for axis in right:
            for k in range(e.dy.shape[axis]):
                taken = np.take(product, [k], axis=axis).sum(axis=right).reshape(shape)
                rest, where = fitting[right] - taken, f"{name} at index {k} of {e.axis(axis, 'y')}"
                yield e.is_got(taken), f"only {where} is counted: sum over it"
                yield e.is_got(rest), f"{where}, of {e.dy.shape[axis]}, is left out"


def _missing_term(e: Evidence) -> Hypotheses:
    """The difference to the numeric gradient is something simple."""
    missing, shape = e.numeric - e.got, e.analytic.shape
    terms = {name: e.at(x) for name, x in e.same_shape.items()}
    if e.y.shape == shape == e.dy.shape:
        y, dy = e.at(e.y), e.at(e.dy)
        terms |= {"dy": dy, "y": y, "y dy": y * dy, "y^2 dy": y * y * dy}
    for name, values in terms.items():
        factor = _multiple(e, missing, values, np.zeros_like(e.flat))
        if factor is not None:
            yield True, f"a term is missing: the derivative has {factor:.4g} times {name} more"
    terms["1"] = np.ones_like(missing)
    for axis in range(len(shape) if len(shape) > 1 else 0):
        group, where = _slices(e, (axis,)), f"along {e.axis(axis)}, as from a sum over it"
        for name, values in terms.items():
            fits = shape[axis] > 2 and _multiple(e, missing, values, group) is not None
            yield fits, f"a term is missing: {name} times a number for each slice {where}"


def _multiple(e: Evidence, missing: FloatArray, values: FloatArray, group: Any) -> float | None:
    """Return the number of the first group if ``missing`` is ``values`` times one a group."""
    _, group, counts = np.unique(group, return_inverse=True, return_counts=True)
    if not counts.size or np.max(counts) < 3:
        return None
    dot, square = np.bincount(group, missing * values), np.bincount(group, values * values)
    factor = np.divide(dot, square, out=np.zeros_like(dot), where=square > 0)
    return float(factor[0]) if np.all(e.close(missing, factor[group] * values)) else None


def _constant_beside_inputs(e: Evidence) -> Hypotheses:
    """What is right for large inputs and ever more wrong for small ones has a constant in it."""
    large, here, small = (e.scaled_error(factor) for factor in (1e4, 1.0, 0.1))
    known = large is not None and here is not None and small is not None
    yield (
        known and large < 1e-3 * here and small > 1.5 * here,  # type: ignore[operator]
        "right for inputs 10,000 times as large, worse for smaller ones: a constant beside "
        "them is in the wrong place, as an epsilon is",
    )


#: From the most specific to the most general.
TABLE: tuple[Callable[[Evidence], Hypotheses], ...] = (
    *(_not_linear_in_dy, _shared_memory, _constant_ratio, _conjugated, _order, _rearranged),
    *(_input_rearranged, _softmax, _normalisation, _sum_of_dy, selected, narrow_part),
    *(_local_derivative, _other_mask, dy_part, places, _missing_term, _dy_times, broad_part),
    _constant_beside_inputs,
)

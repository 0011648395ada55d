"""From the pattern of an error to the mistake that makes such patterns.

Each function of the table looks for one family of mistakes in an :class:`Evidence` and yields
hypotheses: what must hold, and the sentence to say then. What must hold is a truth value, or the
gradient put right, which must be the numeric one. A sentence is said only if it holds at a second
draw as well: other inputs, another dy. The first family with such a sentence has the word.
"""

import itertools
import math
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import numpy as np

from tinyconv.gradcheck.calls import elsewhere, is_stale
from tinyconv.gradcheck.comparison import WORK, Comparison
from tinyconv.gradcheck.evidence import Axes, Evidence
from tinyconv.gradcheck.factors import follow
from tinyconv.gradcheck.numbers import axis_orders, axis_sets, largest
from tinyconv.gradcheck.parts import broad_part, dy_part, narrow_part, places, selected
from tinyconv.gradcheck.problem import FloatArray, Leaf

__all__ = ["say_why"]

Hypotheses: TypeAlias = Iterator[tuple[Any, str]]
#: So many wrong elements, and so many others, are compared at a second draw at most.
AGAIN = 256


def say_why(comparison: Comparison, leaf: Leaf, axes: Axes) -> str:
    """Return what the pattern suggests, "" if nothing fits both draws."""
    e, problem = Evidence(comparison, leaf, axes), comparison.called.problem
    if comparison.is_cut:
        return ""  # what is known of it is a part, and patterns of a part deceive
    if is_stale(comparison.called, leaf):
        what = "the gradient is that of an earlier call with other inputs: saved values are stale"
        return f"{leaf.name}: {what}"
    if not np.any(e.wrong) or np.median(e.tolerance) > 0.01 * e.size:
        return ""  # within wide bars anything fits
    second, is_drawn = None, False
    for family in TABLE:
        sentences = _fitting(family, e)
        if sentences and not is_drawn:
            total, seed = sum(a.size for a in comparison.called.checked), comparison.options.seed
            most, is_drawn = max(4, min(AGAIN, WORK // total // 4)), True
            near = problem.moved(comparison.called.checked, 0.25, [seed + 1, 6])
            second = e.again(elsewhere(problem), most) or e.again(near, most)
        again = _fitting(family, second) if sentences and second else sentences
        for sentence in (each for each in sentences if each in again):
            if second is None:
                sentence += " (at these inputs: no second draw was possible)"
            elif family is _constant_ratio:
                sentence += follow(e, e.ratio(e.everywhere) or 0.0)
            return f"{leaf.name}: {sentence}"
    return ""


def _fitting(family: Callable[[Evidence], Hypotheses], e: Evidence) -> list[str]:
    with np.errstate(all="ignore"):  # infinite inputs, and quotients of what may be 0
        found = ((e.matches(a) if np.ndim(a) else bool(a), text) for a, text in family(e))
        return [text for holds, text in found if holds]


# -- the whole gradient ---------------------------------------------------------------------------


def _not_linear_in_dy(e: Evidence) -> Hypotheses:
    """A gradient is linear in dy: doubling dy doubles it."""
    doubled = e.at(e.vjp(2 * e.dy))
    slack = 1e-9 * largest(doubled)
    is_linear = np.all(np.abs(doubled - 2 * e.got) <= slack)
    is_constant = not is_linear and np.all(np.abs(doubled - e.got) <= slack)
    yield is_constant, "the gradient does not depend on dy: multiply by what comes from above"
    yield not is_linear and not is_constant, "the gradient is not linear in dy"


def _shared_memory(e: Evidence) -> Hypotheses:
    for both in (both for both in e.comparison.called.problem.shared if e.name in both):
        (name,) = both - {e.name}
        text = f"it lies in the same memory as the gradient of {name}: one array is used for both"
        yield True, text


def _constant_ratio(e: Evidence) -> Hypotheses:
    yield not np.any(e.got), "the gradient is zero everywhere: it is never computed"
    ratio = e.ratio(e.everywhere) or 0.0
    yield abs(ratio) > 1e-9, f"the gradient is {ratio:.6g} times what it should be"


def _conjugated(e: Evidence) -> Hypotheses:
    sign = np.array([1.0, -1.0])
    if e.name in e.pairs:
        yield e.analytic * sign, "the gradient is conjugated: a conjugate is missing or too much"
    for name in e.pairs:
        text = f"backward is right for {name} conjugated: its conjugate is missing"
        yield e.vjp(e.dy, {name: e.inputs[name] * sign}), text


def _order(e: Evidence) -> Hypotheses:
    """Gradients returned in another order than the inputs."""
    for name, other in e.others.items():
        text = f"this is not its gradient, but the gradient of {name} would be: the order is off"
        yield other.shape == e.analytic.shape and e.matches(other), text


def _rearranged(e: Evidence) -> Hypotheses:
    """The right numbers, with axes swapped, flipped or shifted."""
    g = e.analytic[..., 0] if e.name in e.pairs else e.analytic
    for order in axis_orders(g):
        if tuple(g.shape[k] for k in order) == g.shape:
            swapped = tuple(k for k in range(g.ndim) if order[k] != k)
            right = np.transpose(e.analytic, (*order, *range(g.ndim, e.analytic.ndim)))
            yield right, f"the gradient is transposed: axes {swapped} are swapped"
    for axes in axis_sets(g):
        text = f"the gradient is flipped: axes {axes} run backwards"
        yield np.flip(e.analytic, axes), text
    last = (g.ndim - 2, g.ndim - 1)
    for axes, by in itertools.product([(k,) for k in range(g.ndim)], (1, -1, 2, -2)):
        text = f"the gradient is shifted by {-by} along {e.axis(*axes)}: an offset or the padding"
        yield _is_shift(e, axes, by), text
    for by in (1, -1, 2, -2) if g.ndim >= 2 else ():
        text = f"the gradient is shifted by {-by} along both last axes: the padding"
        yield _is_shift(e, last, by), text


def _is_shift(e: Evidence, axes: tuple[int, ...], by: int) -> bool:
    """Tell whether the gradient moved along ``axes`` is right, where the two overlap."""
    shape, inside = e.analytic.shape, e.everywhere.copy()
    moved = e.at(np.roll(e.analytic, [by] * len(axes), axes))
    for axis in axes:
        inside &= (e.index[axis] >= by) & (e.index[axis] < shape[axis] + min(by, 0))
    if np.sum(inside & (np.abs(e.numeric) > 1e-6 * e.size)) < 2 or not np.any(inside & e.wrong):
        return False
    return bool(np.all(e.close(moved)[inside]))


def _input_rearranged(e: Evidence) -> Hypotheses:
    """Right if another input were transposed or flipped, so backward uses it like that."""
    for name, x in e.inputs.items():
        if name == e.name or x.ndim < 2 or x.dtype.kind != "f":
            continue
        swaps = [(a, b) for a, b in ((-2, -1), (0, 1)) if x.shape[a] == x.shape[b]]
        ways = [("transposed", np.swapaxes(x, *swap)) for swap in swaps]
        ways += [("flipped", np.flip(x, (-2, -1)))]
        ways += [("flipped along its last axis", np.flip(x, -1))]
        for how, moved in ways:
            text = f"backward is right for {name} {how}: it has {name} used {how}"
            yield e.vjp(e.dy, {name: moved}), text


# -- elementwise functions: what dy is multiplied by ----------------------------------------------


def _local_derivative(e: Evidence) -> Hypotheses:
    y, factors = e.y, dict(e.alike)
    is_elementwise = e.analytic.shape == e.dy.shape
    if is_elementwise:
        factors |= {"y": y, "1 - y": 1 - y, "1 - y^2": 1 - y * y, "y (1 - y)": y * (1 - y)}
    if is_elementwise and e.is_got(e.dy):
        is_masked = np.all(e.zero | e.close(e.at(e.dy)))
        yield is_masked, "dy is passed on where the derivative is zero: the mask is missing"
        yield True, "the gradient is dy itself: the derivative of the function is missing"
        return
    for name, values in factors.items():
        yield e.analytic * values, f"the factor {name} is missing"
        is_extra = np.all(e.close(e.got, e.numeric * e.at(values)))
        yield is_extra, f"the factor {name} is too much"
    for name, values in factors.items() if is_elementwise else ():
        text = f"the gradient is dy * ({name}), which is not the derivative"
        yield e.is_got(e.dy * values), text


def _other_mask(e: Evidence) -> Hypotheses:
    passed = np.abs(e.got) > 0
    ratio = e.ratio(passed & ~e.zero) if e.analytic.shape == e.dy.shape else None
    if ratio is None or abs(ratio - 1) > 1e-6:
        return
    lost, extra = np.any(~passed & e.wrong), np.any(e.zero & e.wrong)
    # What is passed on must be dy, times what forward scales it by.
    right = ~e.zero
    scale = float(np.median(e.numeric[right] / e.at(e.dy)[right])) if np.any(right) else 1.0
    if extra and not np.all(e.close(e.got, scale * e.at(e.dy))[passed & e.wrong]):
        return
    yield lost and extra, "zeros are in the wrong places: another mask than that of forward"
    text = "dy is passed on where the derivative is zero: the mask is missing or too wide"
    yield extra and not lost, text
    yield not extra, "the gradient is zero where it should not be: the mask is too narrow"


# -- sums and means: a term is missing -----------------------------------------------------------


def _mean(a: Any, axes: tuple[int, ...]) -> Any:
    return np.mean(a, axis=axes, keepdims=True)


def _normalisation(e: Evidence) -> Hypotheses:
    """Of ``(x - mean) / std`` the gradient is a projection: its terms hold the parts together."""
    g, x = e.analytic, e.alike.get(e.name)
    forms = e.alike | ({"y": e.y} if e.y.shape == g.shape else {})
    for axes in axis_sets(g):
        if math.prod(g.shape[k] for k in axes) < 2:
            continue
        where = f"over {e.axis(axes[0]) if len(axes) == 1 else f'axes {axes}'} subtracted"
        less = g - _mean(g, axes)
        yield less, f"right with its mean {where}: the term of the mean is missing"
        if x is not None:
            z = x - _mean(x, axes)
            what = f"right with its part along the normalised {e.name} {where}"
            yield _less(e, g, z, axes), f"{what}: the term of the variance is missing"
            what = f"right with the terms of the mean and the variance {where}"
            yield _less(e, less, z, axes), f"{what}: both are missing"
        for name, form in forms.items():
            what = f"right with its part along {name} {where}"
            yield _less(e, g, form, axes), f"{what}: the term of the length is missing"


def _less(e: Evidence, g: FloatArray, form: FloatArray, axes: tuple[int, ...]) -> Any:
    """Return g less its part along a form in each slice, or a share of it; False for no share.

    An epsilon beside the variance makes the share less than all.
    """
    along = form * np.sum(g * form, axes, keepdims=True) / np.sum(form * form, axes, keepdims=True)
    share = _shares(e, e.at(g) - e.numeric, e.at(along), axes)
    if share is None or np.any((share < 0.3) | (share > 1 + 1e-6)):
        return False
    return bool(np.all(e.close(e.at(g) - share * e.at(along))))


def _shares(e: Evidence, rest: FloatArray, form: FloatArray, axes: tuple[int, ...]) -> Any:
    """Return, for each known element, how often its slice of ``rest`` holds that of ``form``."""
    keys = [k for axis, k in enumerate(e.index) if axis not in axes]
    keys = [*keys, np.zeros_like(e.flat)]
    _, group = np.unique(np.stack(keys), axis=1, return_inverse=True)
    group = group.reshape(-1)
    dot, square = np.bincount(group, rest * form), np.bincount(group, form * form)
    if not np.all(np.isfinite(square)) or np.max(np.bincount(group), initial=0) < 3:
        return None
    share = np.divide(dot, square, out=np.ones_like(dot), where=square > 1e-18 * e.size**2)
    return share[group]


def _softmax(e: Evidence) -> Hypotheses:
    """dx = y (dy - sum(y dy)), and dx = dy - exp(y) sum(dy) of its logarithm."""
    g, y, dy, p = e.analytic, e.y, e.dy, np.exp(e.y)
    axes = [k for k in range(g.ndim) if g.shape[k] > 1] if e.is_elementwise else []
    for axis in axes:
        total, end = np.sum(g, axis, keepdims=True), "subtracted: the sum is missing"
        yield g - y * total, f"right with y sum(y dy) over {e.axis(axis)} {end}"
        yield g - p * total, f"right with exp(y) sum(dy) over {e.axis(axis)} {end}"
    for right, wrong in itertools.permutations(axes, 2):
        text = f"its sum runs over {e.axis(wrong)}, expected {e.axis(right)}: the wrong axis"
        for inner, factor in ((y * dy, y), (dy, p)):  # of the softmax, and of its logarithm
            sums = (np.sum(inner, k, keepdims=True) for k in (right, wrong))
            one, other = (inner - factor * total for total in sums)
            yield e.matches(one) and e.is_got(other), text


def _sum_of_dy(e: Evidence) -> Hypotheses:
    """Of what was broadcast, the gradient is a sum over the axes along which it was."""
    shape, products = e.analytic.shape, {"dy": e.dy}
    for name, x in e.inputs.items():
        if x.shape == e.dy.shape and x.dtype.kind == "f":
            products[f"dy {name}"] = e.dy * x
    for name, product in products.items():
        sums = {axes: product.sum(axis=axes) for axes in axis_sets(product)}
        fitting = {k: s.reshape(shape) for k, s in sums.items() if s.size == e.analytic.size}
        right = next((axes for axes, total in fitting.items() if e.matches(total)), ())
        for axes, total in fitting.items() if right else ():
            text = f"the gradient is {name} summed over axes {axes}, expected {right}"
            yield e.is_got(total), text
        for axis in right:
            for k in range(e.dy.shape[axis]):
                taken = np.take(product, [k], axis=axis).sum(axis=right).reshape(shape)
                where = f"{name} at index {k} of {e.axis(axis, 'y')}"
                yield e.is_got(taken), f"only {where} is counted: sum over it"
                text = f"{where}, of {e.dy.shape[axis]}, is left out"
                yield e.is_got(fitting[right] - taken), text


def _missing_term(e: Evidence) -> Hypotheses:
    """The difference to the numeric gradient is something simple."""
    missing, every = e.numeric - e.got, tuple(range(e.analytic.ndim))
    terms = {name: e.at(x) for name, x in e.alike.items()}
    if e.is_elementwise:
        y, dy = e.at(e.y), e.at(e.dy)
        terms |= {"dy": dy, "y": y, "y dy": y * dy, "y^2 dy": y * y * dy}
    for axes in (every, *((k,) for k in every if len(every) > 1 and e.analytic.shape[k] > 2)):
        for name, values in (terms if axes == every else terms | {"1": missing * 0 + 1}).items():
            shares = _shares(e, missing, values, axes)
            if shares is None or not np.all(e.close(missing, shares * values)):
                continue
            what = f"the derivative has {shares[0]:.4g} times {name} more"
            if axes != every:
                where = f"along {e.axis(axes[0])}, as from a sum over it"
                what = f"{name} times a number for each slice {where}"
            yield True, f"a term is missing: {what}"


def _constant_beside_inputs(e: Evidence) -> Hypotheses:
    """What is right for large inputs and ever more wrong for small ones has a constant in it."""
    errors = []
    for factor in (1e4, 1.0, 0.1):
        near = e.comparison.called.problem
        x = near.x.copy()
        x[e.leaf.part] *= factor
        other = e.again(near.at(x), 32)
        known = other is not None and other.size > 0
        errors += [largest(other.got - other.numeric) / other.size] if other and known else []
    if len(errors) == 3:
        yield (
            errors[0] < 1e-3 * errors[1] and errors[2] > 1.5 * errors[1],
            "right for inputs 10,000 times as large, worse for smaller ones: a constant beside "
            "them is in the wrong place, as an epsilon is",
        )


#: From the most specific to the most general.
TABLE: tuple[Callable[[Evidence], Hypotheses], ...] = (
    *(_not_linear_in_dy, _shared_memory, _constant_ratio, _conjugated, _order, _rearranged),
    *(_input_rearranged, _softmax, _normalisation, _sum_of_dy, selected, narrow_part),
    *(_local_derivative, _other_mask, dy_part, places, _missing_term, broad_part),
    _constant_beside_inputs,
)

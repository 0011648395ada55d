"""From the pattern of an error to the mistake that makes such patterns.

Each function of the table looks for one family of mistakes in an :class:`Evidence` and yields
hypotheses: what must hold, and the sentence to say then. What must hold is a truth value, or the
gradient put right, which must be the numeric one. A sentence is said only if it holds at a second
draw as well: other inputs, another dy. The first family with such a sentence has the word.
"""

import itertools
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import numpy as np

from tinyconv.gradcheck.calls import elsewhere, is_stale
from tinyconv.gradcheck.comparison import WORK, Comparison
from tinyconv.gradcheck.evidence import Evidence
from tinyconv.gradcheck.factors import follow
from tinyconv.gradcheck.nests import FloatArray, Leaf
from tinyconv.gradcheck.numbers import axis_orders, axis_sets, largest
from tinyconv.gradcheck.parts import broad_part, dy_part, narrow_part, selected

__all__ = ["say_why"]

Hypotheses: TypeAlias = Iterator[tuple[Any, str]]
#: So many wrong elements, and so many others, are compared at a second draw at most.
AGAIN = 256


def say_why(comparison: Comparison, leaf: Leaf) -> str:
    """Return what the pattern suggests, "" if nothing fits both draws."""
    e, called = Evidence(comparison, leaf), comparison.called
    if comparison.is_cut:
        return ""  # what is known of it is a part, and patterns of a part deceive
    if is_stale(called, leaf):
        what = "the gradient is that of an earlier call with other inputs: saved values are stale"
        return f"{leaf.name}: {what}"
    if not np.any(e.wrong) or np.median(e.tolerance) > 0.01 * e.size:
        return ""  # within wide bars anything fits
    second: list[Evidence | None] = []
    for family in TABLE:
        sentences = _fitting(family, e)
        if sentences and not second:
            total = sum(a.size for a in called.checked)
            most, seed = max(4, min(AGAIN, WORK // total // 4)), comparison.options.seed + 1
            near = called.problem.moved(called.checked, 0.25, [seed, 6])
            second = [e.again(elsewhere(called.problem), most) or e.again(near, most)]
        again = _fitting(family, second[0]) if sentences and second[0] else sentences
        for sentence in (each for each in sentences if each in again):
            if second[0] is None:
                sentence += " (at these inputs: no second draw was possible)"
            elif family is _constant_ratio:
                sentence += follow(e, e.ratio() or 0.0)
            return f"{leaf.name}: {sentence}"
    return ""


def _fitting(family: Callable[[Evidence], Hypotheses], e: Evidence) -> list[str]:
    with np.errstate(all="ignore"):  # infinite inputs, and quotients of what may be 0
        found = ((e.matches(a) if np.ndim(a) else bool(a), text) for a, text in family(e))
        return [text for holds, text in found if holds]


# -- the whole gradient ---------------------------------------------------------------------------


def _not_linear_in_dy(e: Evidence) -> Hypotheses:
    """Doubling dy must double it; and what two inputs share, one of them has lost."""
    doubled = e.at(e.vjp(2 * e.dy))
    slack = 1e-9 * largest(doubled)
    is_linear = np.all(np.abs(doubled - 2 * e.got) <= slack)
    is_constant = not is_linear and np.all(np.abs(doubled - e.got) <= slack)
    yield is_constant, "the gradient does not depend on dy: multiply by what comes from above"
    yield not is_linear and not is_constant, "the gradient is not linear in dy"


def _shared_memory(e: Evidence) -> Hypotheses:
    arrays = {n: a for n, a in e.called.problem.returned.items() if isinstance(a, np.ndarray)}
    mine = arrays.pop(e.name, np.zeros(0))
    for name, a in arrays.items():
        text = f"it lies in the same memory as the gradient of {name}: one array is used for both"
        is_both = a.shape == mine.shape and a.flags.writeable and mine.flags.writeable
        yield is_both and np.may_share_memory(a, mine), text


def _constant_ratio(e: Evidence) -> Hypotheses:
    yield not np.any(e.got), "the gradient is zero everywhere: it is never computed"
    ratio = e.ratio() or 0.0
    yield abs(ratio) > 1e-9, f"the gradient is {ratio:.6g} times what it should be"


def _conjugated(e: Evidence) -> Hypotheses:
    sign = np.array([1.0, -1.0])
    if e.name in e.pairs:
        yield e.analytic * sign, "the gradient is conjugated: a conjugate is missing or too much"
    for name in e.pairs:
        text = f"backward is right for {name} conjugated: its conjugate is missing"
        yield e.vjp(e.dy, {name: e.inputs[name] * sign}), text


def _rearranged(e: Evidence) -> Hypotheses:
    """The right numbers, of another input, or with axes swapped, flipped or shifted."""
    for leaf in (leaf for leaf in e.called.checked if leaf is not e.leaf):
        text = f"this is not its gradient, but the gradient of {leaf.name} would be: "
        yield leaf.shape == e.leaf.shape and e.matches(e.known(leaf)), text + "the order is off"
    g = e.analytic[..., 0] if e.name in e.pairs else e.analytic
    for order in axis_orders(g):
        if tuple(g.shape[k] for k in order) == g.shape:
            swapped = tuple(k for k in range(g.ndim) if order[k] != k)
            right = np.transpose(e.analytic, (*order, *range(g.ndim, e.analytic.ndim)))
            yield right, f"the gradient is transposed: axes {swapped} are swapped"
    for axes in axis_sets(g):
        yield np.flip(e.analytic, axes), f"the gradient is flipped: axes {axes} run backwards"
    ways = [((k,), f"{e.axis(k)}: an offset or the padding") for k in range(g.ndim)]
    ways += [((g.ndim - 2, g.ndim - 1), "both last axes: the padding")] if g.ndim > 1 else []
    for (axes, where), by in itertools.product(ways, (1, -1, 2, -2)):
        yield _is_shift(e, axes, by), f"the gradient is shifted by {-by} along {where}"


def _is_shift(e: Evidence, axes: tuple[int, ...], by: int) -> bool:
    """Tell whether the gradient moved along ``axes`` is right, where the two overlap."""
    shape, inside = e.analytic.shape, np.ones_like(e.wrong)
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
    if e.is_elementwise:
        factors |= {"y": y, "1 - y": 1 - y, "1 - y^2": 1 - y * y, "y (1 - y)": y * (1 - y)}
    if e.is_got(e.dy):
        is_masked = np.all(e.zero | e.close(e.at(e.dy)))
        yield is_masked, "dy is passed on where the derivative is zero: the mask is missing"
        yield True, "the gradient is dy itself: the derivative of the function is missing"
        return
    for name, values in factors.items():
        yield e.analytic * values, f"the factor {name} is missing"
    for name, values in factors.items() if e.is_elementwise else ():
        text = f"the gradient is dy * ({name}), which is not the derivative"
        yield e.is_got(e.dy * values), text


def _other_mask(e: Evidence) -> Hypotheses:
    passed, right = np.abs(e.got) > 0, ~e.zero
    ratio = e.ratio(passed & right) if e.is_elementwise else None
    if ratio is None or abs(ratio - 1) > 1e-6:
        return
    lost, extra = np.any(~passed & e.wrong), np.any(e.zero & e.wrong)
    # What is passed on must be dy, times what forward scales it by.
    scale = float(np.median(e.numeric[right] / e.at(e.dy)[right])) if np.any(right) else 1.0
    if extra and not np.all(e.close(e.got, scale * e.at(e.dy))[passed & e.wrong]):
        return
    yield lost and extra, "zeros are in the wrong places: another mask than that of forward"
    text = "dy is passed on where the derivative is zero: the mask is missing or too wide"
    yield extra and not lost, text
    yield not extra, "the gradient is zero where it should not be: the mask is too narrow"


def _places(e: Evidence) -> Hypotheses:
    """Zeros and values at the wrong indices: an argmax, a mask, a stride."""
    none = np.abs(e.got) <= 1e-9 * e.size
    got, numeric = np.sort(e.got), np.sort(e.numeric)
    same = np.allclose(got, numeric, rtol=1e-6, atol=1e-9 * e.size)
    same = same and bool(np.any(e.zero)) and len(e.flat) == e.analytic.size
    yield same, "the right values in the wrong places: an index, an argmax or a stride"
    is_extra = not same and np.all(e.zero[e.wrong])
    yield is_extra, "gradient goes to elements that have none, and is right elsewhere"
    is_lost = not same and not is_extra and np.all(none[e.wrong])
    yield is_lost, "zero where there is a gradient, and right elsewhere: elements are left out"


# -- sums and means: a term is missing -----------------------------------------------------------


def _normalisation(e: Evidence) -> Hypotheses:
    """Of ``(x - mean) / std`` the gradient is a projection: its terms hold the parts together."""
    g, x = e.analytic, e.alike.get(e.name)
    forms = e.alike | ({"y": e.y} if e.y.shape == g.shape else {})
    for axes in (axes for axes in axis_sets(g) if np.prod([g.shape[k] for k in axes]) > 1):
        where = f"over {e.axis(axes[0]) if len(axes) == 1 else f'axes {axes}'} subtracted"
        less = g - np.mean(g, axes, keepdims=True)
        yield less, f"right with its mean {where}: the term of the mean is missing"
        if x is not None:
            z = x - np.mean(x, axes, keepdims=True)
            what = f"right with its part along the normalised {e.name} {where}"
            yield _less(e, g, z, axes), f"{what}: the term of the variance is missing"
            what = f"right with the terms of the mean and the variance {where}"
            yield _less(e, less, z, axes), f"{what}: both are missing"
        for name, form in forms.items():
            what = f"right with its part along {name} {where}"
            yield _less(e, g, form, axes), f"{what}: the term of the length is missing"


def _less(e: Evidence, g: FloatArray, form: FloatArray, axes: tuple[int, ...]) -> bool:
    """Tell whether g is right less its part along a form in each slice, or a share of that.

    An epsilon beside the variance makes the share less than all.
    """
    along = form * np.sum(g * form, axes, keepdims=True) / np.sum(form * form, axes, keepdims=True)
    share = _shares(e, e.at(g) - e.numeric, e.at(along), axes)
    if share is None or np.any((share < 0.3) | (share > 1 + 1e-6)):
        return False
    return bool(np.all(e.close(e.at(g) - share * e.at(along))))


def _shares(e: Evidence, rest: FloatArray, form: FloatArray, axes: tuple[int, ...]) -> Any:
    """Return, for each known element, how often its slice of ``rest`` holds that of ``form``."""
    keys = [np.zeros_like(e.flat)] + [k for axis, k in enumerate(e.index) if axis not in axes]
    group = np.unique(np.stack(keys), axis=1, return_inverse=True)[1].reshape(-1)
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
            one, other = (inner - factor * np.sum(inner, k, keepdims=True) for k in (right, wrong))
            yield e.matches(one) and e.is_got(other), text


def _sum_of_dy(e: Evidence) -> Hypotheses:
    """Of what was broadcast, the gradient is a sum over the axes along which it was."""
    shape, products = e.analytic.shape, {"dy": e.dy}
    floats = {n: x for n, x in e.inputs.items() if x.shape == e.dy.shape and x.dtype.kind == "f"}
    for name, product in (products | {f"dy {n}": e.dy * x for n, x in floats.items()}).items():
        sums = {axes: product.sum(axis=axes) for axes in axis_sets(product)}
        fitting = {k: s.reshape(shape) for k, s in sums.items() if s.size == e.analytic.size}
        right = next((axes for axes, total in fitting.items() if e.matches(total)), ())
        for axes, total in fitting.items() if right else ():
            text = f"the gradient is {name} summed over axes {axes}, expected {right}"
            yield e.is_got(total), text
        for j, k in ((j, k) for j in right for k in range(e.dy.shape[j])):
            taken = np.take(product, [k], axis=j).sum(axis=right).reshape(shape)
            where = f"{name} at index {k} of {e.axis(j, 'y')}"
            yield e.is_got(taken), f"only {where} is counted: sum over it"


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
    errors, near = list[float](), e.called.problem
    for factor in (1e4, 1.0, 0.1):
        x = near.x.copy()
        x[e.leaf.part] *= factor
        other = e.again(near.at(x), 32)
        errors += [largest(other.got - other.numeric) / (other.size or 1)] if other else []
    if len(errors) == 3:
        text = "right for inputs 10,000 times as large, worse for smaller ones: a constant beside "
        text += "them is in the wrong place, as an epsilon is"
        yield errors[0] < 1e-3 * errors[1] and errors[2] > 1.5 * errors[1], text


#: From the most specific to the most general.
TABLE: tuple[Callable[[Evidence], Hypotheses], ...] = (
    *(_not_linear_in_dy, _shared_memory, _constant_ratio, _conjugated, _rearranged),
    *(_input_rearranged, _softmax, _normalisation, _sum_of_dy, selected, narrow_part),
    *(_local_derivative, _other_mask, dy_part, _places, _missing_term, broad_part),
    _constant_beside_inputs,
)

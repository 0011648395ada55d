"""From the pattern of an error to the mistake that makes such patterns.

Each function of the table looks for one family of mistakes in an :class:`Evidence` and yields
hypotheses: what must hold, and the sentence to say then. What must hold is a truth value, or the
gradient put right, which must be the numeric one. A sentence is said only if it holds at a second
draw as well: other inputs, another dy. The first family with such a sentence has the word.
"""

import itertools
import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from tinyconv.gradcheck.calls import axis_orders, axis_sets, is_stale
from tinyconv.gradcheck.comparison import Comparison
from tinyconv.gradcheck.evidence import Evidence, Hypotheses
from tinyconv.gradcheck.hints_of_parts import part, part_of_dy
from tinyconv.gradcheck.nests import FloatArray, Leaf, largest


def say_why(comparison: Comparison, leaf: Leaf) -> str:
    """Return what the pattern suggests, "" if nothing fits both draws."""
    e = Evidence(comparison, leaf)
    if comparison.is_cut or not np.any(e.wrong) or np.median(e.tolerance) > 0.01 * e.size:
        return ""  # patterns of a part deceive, and within wide bars anything fits
    if is_stale(comparison.called, leaf):
        what = "the gradient is that of an earlier call with other inputs: saved values are stale"
        return f"{leaf.name}: {what}"
    for family in TABLE:
        sentences = _fitting(family, e)
        again = _fitting(family, e.second) if sentences and e.second else sentences
        for sentence in (each for each in sentences if each in again):
            if e.second is None:
                sentence += " (at these inputs: no second draw was possible)"
            elif family is _constant_ratio and (ratio := e.ratio()):
                sentence += _origin(e, ratio)
            return f"{leaf.name}: {sentence}"
    return ""


def _fitting(family: Callable[[Evidence], Hypotheses], e: Evidence) -> list[str]:
    found = ((e.matches(a) if np.ndim(a) else bool(a), text) for a, text in family(e))
    return [text for holds, text in found if holds]


# -- the whole gradient ---------------------------------------------------------------------------


def _linear_and_alone(e: Evidence) -> Hypotheses:
    """Doubling dy must double it, and it must lie in memory of its own."""
    doubled = e.at(e.vjp(2 * e.dy))
    slack = 1e-9 * largest(doubled)
    is_linear = np.all(np.abs(doubled - 2 * e.got) <= slack)
    is_constant = not is_linear and np.all(np.abs(doubled - e.got) <= slack)
    yield is_constant, "the gradient does not depend on dy: multiply by what comes from above"
    yield not is_linear and not is_constant, "the gradient is not linear in dy"
    returned = e.called.problem.returned
    arrays = {leaf: a for leaf, a in returned.items() if isinstance(a, np.ndarray)}
    mine = arrays.pop(e.leaf, np.zeros(0))
    for leaf, a in arrays.items():
        text = f"it lies in the same memory as the gradient of {leaf.name}: one array for both"
        is_both = a.shape == mine.shape and a.flags.writeable and mine.flags.writeable
        yield is_both and np.may_share_memory(a, mine), text


def _constant_ratio(e: Evidence) -> Hypotheses:
    is_zero = not np.any(np.nan_to_num(e.analytic))
    yield is_zero, "the gradient is zero everywhere: it is never computed"
    ratio = e.ratio() or 0.0
    yield abs(ratio) > 1e-9, f"the gradient is {ratio:.6g} times what it should be"


def _origin(e: Evidence, ratio: float) -> str:
    """Return what the ratio depends on when axes are doubled in length, or what it may be."""
    if abs(ratio + 1) < 1e-6:
        return ": the sign is flipped"
    powers = [(n, axes, math.log2(abs(r / ratio))) for n, axes, r in e.ratios() if r]
    known = itertools.product(powers, (1, -1, 0.5, -0.5, 2, -2))
    followed = [(n, axes, p) for (n, axes, power), p in known if abs(power - p) < 1e-3]
    if not powers:
        return "; no other shape could be tried"
    if len({p for _, _, p in followed}) > 1:
        return ""
    if followed:
        p, size = followed[0][2], math.prod(n for n, _, _ in followed)
        names = " and ".join(dict.fromkeys(axes for _, axes, _ in followed))
        number = f"sqrt({size})" if abs(p) == 0.5 else str(size) + "^2" * (abs(p) == 2)
        what = f"1/{number} is {'missing' if p > 0 else 'too much'}"
        if abs(p) == 1:
            what += ": a sum instead of a mean" if p > 0 else ": a mean instead of a sum"
        if abs(abs(ratio) - size**p) > 1e-6 * abs(ratio):  # of a part of that length, say
            word = {0.5: "the root of ", 1: "", 2: "the square of "}[abs(p)]
            what = f"a factor that goes with {word}a length of these is wrong"
        return f"; with {names} twice as long it is {2**p:.3g} times that: {what}"
    one = np.zeros_like(e.dy)
    one.flat[one.size // 2] = 1.0
    window, larger = int(np.sum(np.nan_to_num(e.vjp(one)) != 0)), max(abs(ratio), 1 / abs(ratio))
    what = ": a constant factor"
    if window > 2 and abs(larger - window) < 1e-6 * larger:
        what = f"; {window} elements of {e.name} have a gradient from one output: a sum and a mean"
        what += " over these are mistaken for each other"
    elif abs(larger - 2) < 1e-6:
        too_much = "too much, as of a square, or added twice"
        what = f": a factor 2 {too_much if abs(ratio) > 1 else 'is missing, as of a square'}"
    return f", whatever the lengths of axes{what}"


def _rearranged(e: Evidence) -> Hypotheses:
    """The right numbers, but of another input, conjugated, with axes swapped or shifted."""
    for leaf in (leaf for leaf in e.called.checked if leaf is not e.leaf):
        text = f"this is not its gradient, but the gradient of {leaf.name} would be: "
        others = e.comparison.elements[leaf]  # of equal inputs the other gradient is right, too
        is_right = bool(others) and not any(element.is_wrong for element in others)
        could_be = leaf.shape == e.leaf.shape and not is_right
        yield could_be and e.matches(e.known(leaf)), text + "the order is off"
    for how, right in _ways(e.analytic, e.name in e.pairs):
        yield right, f"the gradient is {how}"
    g = e.analytic[..., 0] if e.name in e.pairs else e.analytic
    ways: list[Any] = [((k,), f"{e.axis(k)}: an offset or the padding") for k in range(g.ndim)]
    ways += [((g.ndim - 2, g.ndim - 1), "both last axes: the padding")] if g.ndim > 1 else []
    for (axes, where), by in itertools.product(ways, (1, -1, 2, -2)):
        yield _is_shift(e, axes, by), f"the gradient is shifted by {-by} along {where}"
    for name, x in e.inputs.items():  # right if an input were, so backward uses it like that
        for how, moved in _ways(x, name in e.pairs) if x.dtype.kind == "f" else ():
            if name != e.name or how.startswith("conjugated"):
                text = f"backward is right for {name} {how.split(':')[0]}: it has {name} used {how}"
                yield e.vjp(e.dy, name, moved), text


def _ways(a: FloatArray, pairs: bool) -> Iterator[tuple[str, FloatArray]]:
    """Yield how an array may be rearranged, and the array after that."""
    if pairs:
        yield "conjugated: a conjugate is missing or too much", a * np.array([1.0, -1.0])
    for order in axis_orders(a[..., 0] if pairs else a):
        if tuple(a.shape[k] for k in order) == a.shape[: len(order)]:
            swapped = tuple(k for k in range(len(order)) if order[k] != k)
            moved = np.transpose(a, (*order, *range(len(order), a.ndim)))
            yield f"transposed: axes {swapped} are swapped", moved
    for axes in axis_sets(a[..., 0] if pairs else a):
        yield f"flipped: axes {axes} run backwards", np.flip(a, axes)


def _is_shift(e: Evidence, axes: tuple[int, ...], by: int) -> bool:
    """Tell whether the gradient moved along ``axes`` is right, where the two overlap."""
    shape, inside = e.analytic.shape, np.ones_like(e.wrong)
    moved = e.at(np.roll(e.analytic, [by] * len(axes), axes))
    for axis in axes:
        inside &= (e.index[axis] >= by) & (e.index[axis] < shape[axis] + min(by, 0))
    enough = np.sum(inside & (np.abs(e.numeric) > 1e-6 * e.size)) > 1 and np.any(inside & e.wrong)
    return bool(enough and np.all(e.close(moved)[inside]))


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
    yield from ((e.analytic * f, f"the factor {name} is missing") for name, f in factors.items())
    for name, factor in factors.items() if e.is_elementwise else ():
        text = f"the gradient is dy * ({name}), which is not the derivative"
        yield e.is_got(e.dy * factor), text


def _other_mask(e: Evidence) -> Hypotheses:
    extra, lost = e.wrong & e.zero, e.wrong & (np.abs(e.got) <= 1e-9 * e.size)
    if not e.is_elementwise or np.any(e.wrong & ~extra & ~lost):
        return
    # What a mask passes on is dy, times what forward scales it by.
    scaled = e.at(e.dy) * np.median((e.numeric / e.at(e.dy))[~e.zero])
    if np.all(e.close(e.got, scaled)[extra]):
        text = "zeros are in the wrong places: another mask than that of forward"
        yield np.any(extra) and np.any(lost), text
        text = "dy is passed on where the derivative is zero: the mask is missing or too wide"
        yield not np.any(lost), text
        yield (
            not np.any(extra),
            "the gradient is zero where it should not be: the mask is too narrow",
        )


def _places(e: Evidence) -> Hypotheses:
    """Zeros and values at the wrong indices: an argmax, a mask, a stride."""
    got, numeric = np.sort(e.got), np.sort(e.numeric)
    same = np.allclose(got, numeric, rtol=1e-6, atol=1e-9 * e.size)
    if same and np.any(e.zero) and len(e.flat) == e.analytic.size:
        yield True, "the right values in the wrong places: an index, an argmax or a stride"
        return
    is_extra, is_lost = np.all(e.zero[e.wrong]), np.all(np.abs(e.got[e.wrong]) <= 1e-9 * e.size)
    yield is_extra, "gradient goes to elements that have none, and is right elsewhere"
    text = "zero where there is a gradient, and right elsewhere: elements are left out"
    yield is_lost and not is_extra, text


# -- sums and means: a term is missing -----------------------------------------------------------


def _normalisation(e: Evidence) -> Hypotheses:
    """Of ``(x - mean) / std`` the gradient is a projection: its terms hold the parts together."""
    g, x = e.analytic, e.alike.get(e.name)
    forms = e.alike | ({"y": e.y} if e.y.shape == g.shape else {})
    for axes in (axes for axes in axis_sets(g) if math.prod(g.shape[k] for k in axes) > 1):
        where = f"over {e.axis(axes[0]) if len(axes) == 1 else f'axes {axes}'} subtracted"
        less = g - np.mean(g, axes, keepdims=True)
        yield less, f"right with its mean {where}: the term of the mean is missing"
        if x is not None:
            z = x - np.mean(x, axes, keepdims=True)
            what = f"right with its part along the normalised {e.name} {where}"
            yield _is_less(e, g, z, axes), f"{what}: the term of the variance is missing"
            what = f"right with the terms of the mean and the variance {where}"
            yield _is_less(e, less, z, axes), f"{what}: both are missing"
        for name, form in forms.items():
            what = f"right with its part along {name} {where}"
            yield _is_less(e, g, form, axes), f"{what}: the term of the length is missing"


def _is_less(e: Evidence, g: FloatArray, form: FloatArray, axes: tuple[int, ...]) -> bool:
    """Tell whether g is right less its part along a form in each slice, or a share of that.

    An epsilon beside the variance makes the share less than all.
    """
    along = form * np.sum(g * form, axes, keepdims=True) / np.sum(form * form, axes, keepdims=True)
    shares = _shares(e, e.at(g) - e.numeric, e.at(along), axes)
    is_share = shares is not None and np.all((shares >= 0.3) & (shares <= 1 + 1e-6))
    return bool(is_share and np.all(e.close(e.at(g) - shares * e.at(along))))


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
    g, forms = e.analytic, [("y sum(y dy)", e.y * e.dy, e.y), ("exp(y) sum(dy)", e.dy, np.exp(e.y))]
    axes = [k for k in range(g.ndim) if g.shape[k] > 1] if e.is_elementwise else []
    for (name, _, factor), k in itertools.product(forms, axes):
        text = f"right with {name} over {e.axis(k)} subtracted: the sum is missing"
        yield g - factor * np.sum(g, k, keepdims=True), text
    for (_, inner, factor), (right, k) in itertools.product(forms, itertools.permutations(axes, 2)):
        text = f"its sum runs over {e.axis(k)}, expected {e.axis(right)}: the wrong axis"
        one, other = (inner - factor * np.sum(inner, a, keepdims=True) for a in (right, k))
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
        for axis in right:
            for k in range(e.dy.shape[axis]):
                taken = np.take(product, [k], axis=axis).sum(axis=right).reshape(shape)
                where = f"{name} at index {k} of {e.axis(axis, 'y')}"
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
            if shares is not None and np.all(e.close(missing, shares * values)):
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
    *(_linear_and_alone, _constant_ratio, _rearranged, _softmax),
    *(_normalisation, _sum_of_dy, part, _local_derivative, _other_mask, part_of_dy, _places),
    *(_missing_term, _constant_beside_inputs),
)

"""Functions of PyTorch: of tensors, ``autograd.Function`` and ``nn.Module``.

What is checked is their backward pass as autograd runs it, with PyTorch on both sides.
"""

import warnings
from collections.abc import Callable, Sequence
from typing import Any

from tinyconv.gradcheck.check import check as check_functions
from tinyconv.gradcheck.report import Report
from tinyconv.gradcheck.nests import leaves_like, leaves_of, rebuild

__all__ = ["check"]


def check(
    function: Any,
    inputs: Sequence[Any],
    *,
    forward_mode: bool = False,
    second_order: bool = False,
    **settings: Any,
) -> Report:
    """Check what ``torch.autograd`` returns for a function.

    Args:
        function: of tensors; a subclass of ``torch.autograd.Function``; or a module, whose
            parameters are checked too, by their names. A module's buffers are left as they are,
            and random numbers are the same in every call.
        inputs: nests of tensors and numbers. If any tensor requires grad, those that do are
            checked, else all with floating-point or complex numbers.
        forward_mode: whether to check ``torch.autograd.forward_ad`` as well.
        second_order: whether to check the gradient of the gradient as well.
        settings: more arguments of :func:`tinyconv.gradcheck.check`.
    """
    import torch

    is_module, count = isinstance(function, torch.nn.Module), len(inputs)
    names = list(settings.pop("names", None) or [f"inputs[{k}]" for k in range(count)])
    parameters = dict(function.named_parameters()) if is_module else {}
    given = [*inputs, *parameters.values()]
    some = any(torch.is_tensor(a) and a.requires_grad for a in _leaves(inputs))
    own = len(_leaves(inputs))

    def has_numbers(a: Any) -> bool:
        return torch.is_tensor(a) and (a.dtype.is_floating_point or a.dtype.is_complex)

    is_checked = [
        has_numbers(a) and (a.requires_grad or (not some and k < own))
        for k, a in enumerate(_leaves(given))
    ]

    def run(*nests: Any) -> Any:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            if isinstance(function, type) and issubclass(function, torch.autograd.Function):
                apply: Any = function.apply
                return apply(*nests)
            if not is_module:
                return function(*nests)
            state = dict(zip(parameters, nests[count:], strict=True))
            dtype = next((p.dtype for p in state.values()), torch.get_default_dtype())
            for name, b in function.named_buffers():
                state[name] = b.to(dtype, copy=True) if b.is_floating_point() else b.clone()
            return torch.func.functional_call(function, state, nests[:count])

    def vjp(of: Callable[..., Any], nests: Sequence[Any], which: list[bool], dy: Any) -> Any:
        """Return the gradients of some leaves, zeros where y does not depend on one."""
        leaves = [
            a.detach().requires_grad_() if checked and not a.requires_grad else a
            for a, checked in zip(_leaves(nests), which, strict=True)
        ]
        with torch.enable_grad():
            y = of(*rebuild(list(nests), iter(leaves)))
            wanted = [a for a, checked in zip(leaves, which, strict=True) if checked]
            pairs = zip(_leaves(y), leaves_like(y, dy), strict=True)
            kept = [
                (a, d) for a, d in pairs if has_numbers(a) and a.requires_grad and d is not None
            ]
            found: Any = [None] * len(wanted)
            if kept:
                outputs, dys = zip(*kept, strict=True)
                options: Any = {"allow_unused": True, "create_graph": True}
                found = torch.autograd.grad(outputs, wanted, dys, **options)
        both = zip(found, wanted, strict=True)
        gradients = iter([torch.zeros_like(a) if g is None else g for g, a in both])
        return rebuild(list(nests), iter(next(gradients) if c else None for c in which))

    def backward(dy: Any, *nests: Any) -> Any:
        return vjp(run, nests, is_checked, dy)

    def double_backward(dg: Any, dy: Any, *nests: Any) -> Any:
        which = [*map(has_numbers, _leaves(dy)), *is_checked]
        return _detached(vjp(backward, (dy, *nests), which, dg))

    def jvp(tangents: Any, *nests: Any) -> Any:
        ad: Any = torch.autograd.forward_ad
        pairs = zip(_leaves(nests), leaves_like(nests, tangents), is_checked, strict=True)
        with warnings.catch_warnings(), ad.dual_level():
            warnings.simplefilter("ignore", DeprecationWarning)  # PyTorch's own, in its first use
            duals = [ad.make_dual(a, t) if checked else a for a, t, checked in pairs]
            y = run(*rebuild(list(nests), iter(duals)))
            out = [ad.unpack_dual(a) if torch.is_tensor(a) else None for a in _leaves(y)]
            none = (d and (d.primal * 0 if d.tangent is None else d.tangent) for d in out)
            return rebuild(y, none)

    return check_functions(
        torch.no_grad()(run),
        lambda dy, *nests: _detached(backward(dy, *nests)),
        _detached(given),
        names=[*names, *parameters],
        jvp=jvp if forward_mode else None,
        double_backward=double_backward if second_order else None,
        **settings,
    )


def _leaves(tree: Any) -> list[Any]:
    return [leaf for _, leaf in leaves_of(tree)]


def _detached(tree: Any) -> Any:
    leaves = (a.detach() if hasattr(a, "detach") else a for a in _leaves(tree))
    return rebuild(tree, leaves)

"""Functions of PyTorch: of tensors, ``autograd.Function`` and ``nn.Module``.

What is checked is their backward pass as autograd runs it, with PyTorch on both sides.
"""

import warnings
from collections.abc import Iterable, Sequence
from typing import Any

from tinyconv.gradcheck.check import check as check_functions
from tinyconv.gradcheck.report import Report
from tinyconv.gradcheck.trees import leaves_like, leaves_of, rebuild

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

    inputs, count = list(inputs), len(inputs)
    names = list(settings.pop("names", None) or [f"inputs[{k}]" for k in range(count)])
    own = _leaves(inputs)
    parameters = dict(function.named_parameters()) if isinstance(function, torch.nn.Module) else {}
    names, inputs = [*names, *parameters], [*inputs, *parameters.values()]
    some = any(torch.is_tensor(a) and a.requires_grad for a in own)
    is_checked = [
        torch.is_tensor(a)
        and (a.dtype.is_floating_point or a.dtype.is_complex)
        and (a.requires_grad or (not some and k < len(own)))
        for k, a in enumerate(_leaves(inputs))
    ]

    def call(*values: Any) -> Any:
        if isinstance(function, type) and issubclass(function, torch.autograd.Function):
            apply: Any = function.apply
            return apply(*values)
        if not isinstance(function, torch.nn.Module):
            return function(*values)
        state = dict(zip(parameters, values[count:], strict=True))
        dtype = next((p.dtype for p in state.values()), torch.get_default_dtype())
        for name, b in function.named_buffers():
            state[name] = b.to(dtype, copy=True) if b.is_floating_point() else b.clone()
        return torch.func.functional_call(function, state, values[:count])

    def run(leaves: Iterable[Any]) -> Any:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return call(*rebuild(inputs, iter(leaves)))

    def tracked(leaves: list[Any], which: list[bool]) -> list[Any]:
        pairs = zip(leaves, which, strict=True)
        return [a.detach().requires_grad_() if c else a for a, c in pairs]

    def only_checked(leaves: list[Any]) -> list[Any]:
        return [a for a, c in zip(leaves, is_checked, strict=True) if c]

    def nest(gradients: Iterable[Any]) -> Any:
        found = iter(gradients)
        return rebuild(inputs, iter(next(found) if c else None for c in is_checked))

    def gradients(y: Any, dy: Any, wanted: list[Any], create_graph: bool = False) -> list[Any]:
        """Return the gradients of the tensors ``wanted``, zeros where y does not depend on one."""
        pairs = [
            (a, d)
            for a, d in zip(_leaves(y), leaves_like(y, dy), strict=True)
            if torch.is_tensor(a) and a.requires_grad and d is not None
        ]
        found: Any = [None] * len(wanted)
        if pairs:
            outputs, dys = zip(*pairs, strict=True)
            options: Any = {"allow_unused": True, "create_graph": create_graph}
            found = torch.autograd.grad(outputs, wanted, dys, **options)
        both = zip(found, wanted, strict=True)
        return [torch.zeros_like(a) if g is None else g for g, a in both]

    def forward(*nests: Any) -> Any:
        with torch.no_grad():
            return run(_leaves(list(nests)))

    def backward(dy: Any, *nests: Any) -> Any:
        leaves = tracked(_leaves(list(nests)), is_checked)
        with torch.enable_grad():
            return nest(gradients(run(leaves), dy, only_checked(leaves)))

    def double_backward(dg: Any, dy: Any, *nests: Any) -> Any:
        dys = _leaves(dy)
        dys = tracked(dys, [torch.is_tensor(a) for a in dys])
        leaves = tracked(_leaves(list(nests)), is_checked)
        with torch.enable_grad():
            y, wanted = run(leaves), only_checked(leaves)
            first = nest(gradients(y, rebuild(dy, iter(dys)), wanted, create_graph=True))
            count = sum(map(torch.is_tensor, dys))
            second = gradients(first, dg, [*filter(torch.is_tensor, dys), *wanted])
        found = iter(second[:count])
        of_dy = rebuild(dy, iter(next(found) if torch.is_tensor(d) else None for d in dys))
        return [of_dy, *nest(second[count:])]

    def jvp(tangents: Any, *nests: Any) -> Any:
        ad: Any = torch.autograd.forward_ad
        nest_of = list(nests)
        triples = zip(
            _leaves(nest_of), leaves_like(nest_of, list(tangents)), is_checked, strict=True
        )
        with warnings.catch_warnings(), ad.dual_level():
            warnings.simplefilter("ignore", DeprecationWarning)  # PyTorch's own, in its first use
            y = run(ad.make_dual(a, t) if c else a for a, t, c in triples)
            out = [ad.unpack_dual(a) if torch.is_tensor(a) else None for a in _leaves(y)]
            out = [d and (torch.zeros_like(d.primal) if d.tangent is None else d.tangent)
                   for d in out]  # fmt: skip
            return rebuild(y, iter(out))

    return check_functions(
        forward,
        backward,
        rebuild(inputs, iter(a.detach() if torch.is_tensor(a) else a for a in _leaves(inputs))),
        names=names,
        jvp=jvp if forward_mode else None,
        double_backward=double_backward if second_order else None,
        **settings,
    )


def _leaves(tree: Any) -> list[Any]:
    return [leaf for _, leaf in leaves_of(tree)]

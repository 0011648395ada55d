"""Functions of PyTorch: of tensors, ``autograd.Function`` and ``nn.Module``.

What is checked is their backward pass as autograd runs it, with PyTorch on both sides.
"""

import warnings
from collections.abc import Callable, Sequence
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

    inputs = list(inputs)
    call: Callable[..., Any] = function
    if isinstance(function, type) and issubclass(function, torch.autograd.Function):
        call = function.apply
    count = len(inputs)
    names = list(settings.pop("names", None) or [f"inputs[{k}]" for k in range(len(inputs))])
    if isinstance(function, torch.nn.Module):
        buffers = dict(function.named_buffers())
        arguments = dict(function.named_parameters())
        names += list(arguments)
        inputs += arguments.values()

        def call(*values: Any) -> Any:
            own = dict(zip(arguments, values[count:], strict=True))
            dtype = next(iter(own.values())).dtype if own else torch.get_default_dtype()
            state = own | {
                name: b.to(dtype, copy=True) if b.is_floating_point() else b.clone()
                for name, b in buffers.items()
            }
            return torch.func.functional_call(function, state, values[:count])

    given = [leaf for _, leaf in leaves_of(inputs)]
    own_inputs = [leaf for _, leaf in leaves_of(inputs[:count])]
    some = any(torch.is_tensor(a) and a.requires_grad for a in own_inputs)
    is_checked = [
        torch.is_tensor(a)
        and (a.dtype.is_floating_point or a.dtype.is_complex)
        and (a.requires_grad or (not some and k < len(own_inputs)))
        for k, a in enumerate(given)
    ]

    def run(leaves: Sequence[Any]) -> Any:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return call(*rebuild(inputs, iter(leaves)))

    def forward(*nests: Any) -> Any:
        with torch.no_grad():
            return run([leaf for _, leaf in leaves_of(list(nests))])

    def differentiate(dy: Any, nests: Any, create_graph: bool = False) -> tuple[list[Any], Any]:
        """Return the leaves, and the gradient of each that is checked."""
        leaves = [leaf for _, leaf in leaves_of(list(nests))]
        if not create_graph:
            leaves = [a.detach().requires_grad_() if c else a for a, c in zip(leaves, is_checked,
                      strict=True)]  # fmt: skip
        with torch.enable_grad():
            y = run(leaves)
            pairs = [
                (a, d)
                for (_, a), d in zip(leaves_of(y), leaves_like(y, dy), strict=True)
                if torch.is_tensor(a) and a.requires_grad and d is not None
            ]
            wanted = [a for a, c in zip(leaves, is_checked, strict=True) if c]
            found: Any = [None] * len(wanted)
            if pairs:
                outputs, dys = zip(*pairs, strict=True)
                options: Any = {"allow_unused": True, "create_graph": create_graph}
                found = torch.autograd.grad(outputs, wanted, dys, **options)
            gradients = iter(
                torch.zeros_like(a) if g is None else g for g, a in zip(found, wanted, strict=True)
            )
        return leaves, rebuild(inputs, iter(next(gradients) if c else None for c in is_checked))

    def backward(dy: Any, *nests: Any) -> Any:
        return differentiate(dy, nests)[1]

    def double_backward(dg: Any, dy: Any, *nests: Any) -> Any:
        both = [dy, *nests]
        leaves = [leaf for _, leaf in leaves_of(both)]
        count = len(leaves) - len(is_checked)
        which = [torch.is_tensor(a) for a in leaves[:count]] + is_checked
        leaves = [a.detach().requires_grad_() if c else a for a, c in zip(leaves, which,
                  strict=True)]  # fmt: skip
        again = rebuild(both, iter(leaves))
        _, gradients = differentiate(again[0], again[1:], create_graph=True)
        pairs = [
            (g, d)
            for (_, g), d in zip(leaves_of(gradients), leaves_like(gradients, dg), strict=True)
            if g is not None and g.requires_grad and d is not None
        ]
        wanted = [a for a, c in zip(leaves, which, strict=True) if c]
        found: Any = [None] * len(wanted)
        if pairs:
            outputs, dgs = zip(*pairs, strict=True)
            found = torch.autograd.grad(outputs, wanted, dgs, allow_unused=True)
        second = iter(
            torch.zeros_like(a) if g is None else g for g, a in zip(found, wanted, strict=True)
        )
        return rebuild(both, iter(next(second) if c else None for c in which))

    def jvp(tangents: Any, *nests: Any) -> Any:
        forward_ad: Any = torch.autograd.forward_ad
        with warnings.catch_warnings(), forward_ad.dual_level():
            warnings.simplefilter("ignore", DeprecationWarning)  # PyTorch's own, in its first use
            dual = [
                forward_ad.make_dual(a, t) if c else a
                for (_, a), t, c in zip(
                    leaves_of(list(nests)),
                    leaves_like(list(nests), list(tangents)),
                    is_checked,
                    strict=True,
                )
            ]
            y = run(dual)
            out = []
            for _, a in leaves_of(y):
                t = forward_ad.unpack_dual(a).tangent if torch.is_tensor(a) else None
                out.append(torch.zeros_like(a) if t is None and torch.is_tensor(a) else t)
            return rebuild(y, iter(out))

    plain = [a.detach() if torch.is_tensor(a) else a for a in given]
    return check_functions(
        forward,
        backward,
        rebuild(inputs, iter(plain)),
        names=names,
        jvp=jvp if forward_mode else None,
        double_backward=double_backward if second_order else None,
        **settings,
    )

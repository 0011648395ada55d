"""Functions of PyTorch: of tensors, ``autograd.Function`` and ``nn.Module``.

What is checked is their backward pass as autograd runs it, with PyTorch on both sides.
"""

import warnings
from collections.abc import Sequence
from typing import Any

from tinyconv.gradcheck.check import check_derivatives
from tinyconv.gradcheck.nests import leaves_like, leaves_of, rebuild
from tinyconv.gradcheck.report import Report


def check(function: Any, inputs: Sequence[Any], **settings: Any) -> Report:
    """Check what ``torch.autograd`` returns for a function.

    Args:
        function: of tensors; a subclass of ``torch.autograd.Function``; or a module, whose
            parameters are checked too, by their names. A module's buffers are left as they are,
            and random numbers are the same in every call.
        inputs: nests of tensors and numbers. If any tensor requires grad, those that do are
            checked, else all with floating-point or complex numbers.
        settings: ``forward_mode=True`` to check ``torch.autograd.forward_ad`` as well,
            ``second_order=True`` for the gradient of the gradient, and more arguments of
            :func:`tinyconv.gradcheck.check`.
    """
    import torch

    is_module, count = isinstance(function, torch.nn.Module), len(inputs)
    parameters = dict(function.named_parameters()) if is_module else {}
    names = [*(settings.pop("names", None) or (f"inputs[{k}]" for k in range(count))), *parameters]
    given, own = [*inputs, *parameters.values()], _leaves(inputs)
    asked = [getattr(a, "requires_grad", False) for a in own]
    asked = asked if any(asked) else [True] * len(own)
    asked += [p.requires_grad for p in parameters.values()]

    def run(*nests: Any) -> Any:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            if not is_module:  # an autograd.Function is applied
                return getattr(function, "apply", function)(*nests)
            state = dict(zip(parameters, nests[count:], strict=True))
            dtype = next((p.dtype for p in state.values()), torch.get_default_dtype())
            for name, b in function.named_buffers():
                state[name] = b.to(dtype, copy=True) if b.is_floating_point() else b.clone()
            return torch.func.functional_call(function, state, nests[:count])

    def has_numbers(a: Any) -> bool:
        return torch.is_tensor(a) and (a.dtype.is_floating_point or a.dtype.is_complex)

    def vjp(of: Any, nests: Sequence[Any], dy: Any) -> Any:
        """Return the gradients of what was asked for, zeros where y does not depend on it."""
        leaves, first = _leaves(nests), len(_leaves(nests)) - len(asked)  # in second order after dy
        wanted = []
        for k, a in enumerate(leaves):
            leaves[k] = a.detach().requires_grad_() if has_numbers(a) and not a.requires_grad else a
            wanted += [k] if has_numbers(a) and (k < first or asked[k - first]) else []
        with torch.enable_grad():
            y = of(*rebuild(list(nests), iter(leaves)))
            pairs = zip(_leaves(y), leaves_like(y, dy), strict=True)
            kept = [(a, d) for a, d in pairs if d is not None and a.requires_grad]
            some = [leaves[k] for k in wanted]
            found: Any = [torch.zeros_like(a) for a in some]
            if kept:
                options: Any = {"create_graph": True, "materialize_grads": True}
                outputs, dys = zip(*kept, strict=True)
                found = torch.autograd.grad(outputs, some, dys, **options)
        gradients = dict(zip(wanted, found, strict=True))
        return rebuild(list(nests), (gradients.get(k) for k in range(len(leaves))))

    def jvp(of: Any, nests: Sequence[Any], tangents: Any) -> Any:
        ad: Any = torch.autograd.forward_ad
        pairs = zip(_leaves(nests), leaves_like(nests, tangents), strict=True)
        with warnings.catch_warnings(), ad.dual_level():
            warnings.simplefilter("ignore", DeprecationWarning)  # PyTorch's own, in its first use
            duals = (a if t is None else ad.make_dual(a, t) for a, t in pairs)
            y = of(*rebuild(list(nests), duals))
            out = [ad.unpack_dual(a) if torch.is_tensor(a) else None for a in _leaves(y)]
            none = (d and (d.primal * 0 if d.tangent is None else d.tangent) for d in out)
            return rebuild(y, none)

    def detached(of: Any) -> Any:
        return torch.no_grad()(lambda *nests: _detached(of(*nests)))

    return check_derivatives(detached, run, vjp, jvp, _detached(given), names=names, **settings)


def _leaves(tree: Any) -> list[Any]:
    return [leaf for _, leaf in leaves_of(tree)]


def _detached(tree: Any) -> Any:
    leaves = (a.detach() if hasattr(a, "detach") else a for a in _leaves(tree))
    return rebuild(tree, leaves)

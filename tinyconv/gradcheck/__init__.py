"""Gradient checking for any function: reverse mode, forward mode, second order.

For functions of PyTorch and JAX, whose derivatives those take, there is a ``check`` of each:
:mod:`tinyconv.gradcheck.torch`, :mod:`tinyconv.gradcheck.jax`.

>>> import numpy as np
>>> from tinyconv.gradcheck import check
>>> def forward(x, w):
...     return x @ w
>>> def backward(dy, x, w):
...     return dy @ w.T, dy.T @ x
>>> rng = np.random.default_rng(0)
>>> report = check(forward, backward, [rng.normal(size=(4, 3)), rng.normal(size=(3, 3))])
>>> report.verdict, report.hint
('wrong', 'inputs[1]: the gradient is transposed: axes (0, 1) are swapped')
"""

from tinyconv.gradcheck.calls import draw_dy
from tinyconv.gradcheck.check import assert_gradients, check, check_adjoint
from tinyconv.gradcheck.report import KinkWarning, Report, TensorReport, Verdict

__all__ = [
    "KinkWarning",
    "Report",
    "TensorReport",
    "Verdict",
    "assert_gradients",
    "check",
    "check_adjoint",
    "draw_dy",
]

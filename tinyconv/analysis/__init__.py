"""What a network is and does, measured: for teachers, who otherwise draw it by hand.

    receptive_field   what each layer sees of the input
    as_matrix         the matrix that a linear layer is
    equivariance      whether a shift of the input shifts the output
    invariance        whether a shift of the input leaves the output alone
    trace             one forward and backward pass, layer by layer
    flops, memory     what a network costs

Each returns a table, which prints as text, shows as HTML in a notebook and gives its columns by
name. :mod:`tinyconv.plots` draws them.
"""

from tinyconv.analysis.costs import FlopsRow, MemoryRow, flops, memory
from tinyconv.analysis.matrix import as_matrix
from tinyconv.analysis.reach import FieldRow, ReceptiveField, reach, receptive_field
from tinyconv.analysis.shifts import (
    Equivariance,
    EquivarianceRow,
    InvarianceRow,
    equivariance,
    invariance,
)
from tinyconv.analysis.table import Table
from tinyconv.analysis.tracing import Trace, TraceRow, trace

__all__ = [
    "Equivariance",
    "EquivarianceRow",
    "FieldRow",
    "FlopsRow",
    "InvarianceRow",
    "MemoryRow",
    "ReceptiveField",
    "Table",
    "Trace",
    "TraceRow",
    "as_matrix",
    "equivariance",
    "flops",
    "invariance",
    "memory",
    "reach",
    "receptive_field",
    "trace",
]

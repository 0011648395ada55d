"""Every operation and every layer in one table, as ``tinyconv gradcheck`` prints it."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from tinyconv.gradcheck import Report
from tinyconv.layers import LAYERS
from tinyconv.tables import text_table
from tinyconv.testing.checks import check_layer, check_op
from tinyconv.testing.examples import LAYER_EXAMPLES, layer_names, op_names


def check_everything(seed: int = 0, samples: Any = "all") -> dict[str, Report]:
    """Check every operation and every layer, each by its examples.

    Args:
        seed: of the inputs and of the checks.
        samples: elements of each tensor to compare one by one.

    Returns:
        ``"ops.conv2d"`` or ``"layers.Conv2d"`` -> report.
    """
    reports = {}
    for name in op_names():
        reports[f"ops.{name}"] = check_op(name, seed=seed, samples=samples)
    for name in layer_names():
        arguments, shape = LAYER_EXAMPLES[name]
        layer = LAYERS[name](**arguments)
        x = np.random.default_rng(seed).normal(size=shape)
        report = check_layer(layer, x, training=True, seed=seed, samples=samples)
        reports[f"layers.{name}"] = report
    return reports


def format_checks(reports: Mapping[str, Report]) -> str:
    """Return a table of reports, one line each, and in full those that are not ok.

    >>> print(format_checks({"ops.relu": check_op("relu")}))
    checked   verdict  elements  largest error  method
    ops.relu  ok              4        0.0e+00  complex step
    """
    rows = [("checked", "verdict", "elements", "largest error", "method")]
    for name, report in reports.items():
        error = max((row.relative_error for row in report.tensors), default=0.0)
        count = sum(row.checked for row in report.tensors)
        rows.append((name, report.verdict, str(count), f"{error:.1e}", report.method))
    lines = [text_table(rows, left=(0, 1, 4))]
    for name, report in reports.items():
        if not report.ok:
            lines += ["", f"{name}: {report}"]
    return "\n".join(lines)

"""What a check found: one verdict, a hint, and a row for every tensor."""

import json
import math
from dataclasses import asdict, dataclass, field
from html import escape
from typing import Literal, TypeAlias

#: What each means is said in the table of the README.
_Compared: TypeAlias = Literal["ok", "wrong", "kink", "precision", "timeout"]
_Stopped: TypeAlias = Literal["nondeterministic", "nonfinite", "mutates-input", "shape"]
Verdict: TypeAlias = Literal[_Compared, _Stopped]


class KinkWarning(UserWarning):
    """A gradient could not be checked everywhere: the function has kinks at the inputs."""


@dataclass(frozen=True)
class TensorReport:
    """The gradient of one input. ``index`` is where its error is largest, relative to its bar."""

    name: str
    shape: tuple[int, ...]
    verdict: str
    checked: int = 0  #: elements compared one by one, beyond the projection, which holds all
    wrong: int = 0
    kinks: int = 0
    absolute_error: float = 0.0  #: the largest over the checked elements
    relative_error: float = 0.0  #: the same, divided by the largest element of the gradient
    index: tuple[int, ...] | None = None
    analytic: float = math.nan
    numeric: float = math.nan
    bar: float = math.nan  #: error bar of ``numeric``
    kink_index: tuple[int, ...] | None = None
    left: float = math.nan  #: slope of the loss on the left of ``kink_index``
    right: float = math.nan

    def cells(self) -> list[str]:
        """Return its row of the report's table."""
        counts = [f"{self.checked}/{math.prod(self.shape)}", str(self.wrong), str(self.kinks)]
        numbers = [""] * 5
        if self.index is not None:
            numbers = [f"{self.absolute_error:.1e}", f"{self.relative_error:.1e}", str(self.index)]
            numbers += [f"{self.analytic:.10g}", f"{self.numeric:.10g} ± {self.bar:.0e}"]
        elif self.kink_index is not None:
            slopes = f"slopes {self.left:.4g}, {self.right:.4g}"
            numbers = ["", "", str(self.kink_index), "", slopes]
        return [self.name, str(self.shape), self.verdict, *counts, *numbers]


@dataclass(frozen=True)
class Report:
    """The result of :func:`tinyconv.gradcheck.check`."""

    verdict: str
    message: str = ""  #: what was seen, in one sentence
    hint: str = ""  #: what the pattern of the error suggests, "" if nothing
    tensors: tuple[TensorReport, ...] = ()
    seed: int = 0
    method: str = ""  #: "complex step" or "central differences"
    projection: tuple[float, float, float] | None = None  #: analytic, numeric, error bar
    redrawn: int = 0  #: how often the inputs were moved away from kinks
    evaluations: int = 0  #: calls of forward for the numeric side
    scope: str = ""  #: how much was checked
    order: int = 1  #: 2 if this is about the gradient of the gradient
    reproduce: str = field(default="", repr=False)  #: code that shows the failure again

    @property
    def ok(self) -> bool:
        """True if the verdict is ``ok``."""
        return self.verdict == "ok"

    @property
    def failed(self) -> bool:
        """True unless the verdict is ``ok`` or ``kink``: a kink is no fault of the gradient."""
        return self.verdict not in ("ok", "kink")

    def __str__(self) -> str:
        lines = [f"{self.verdict}: {self.message}" if self.message else self.verdict]
        lines += [f"hint: {self.hint}"] * bool(self.hint)
        head = (
            "tensor|shape|verdict|checked|wrong|kinks|abs error|rel error|at|analytic|numeric ± bar"
        )
        rows = [head.split("|"), *(t.cells() for t in self.tensors)] if self.tensors else []
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        rows = [[c.ljust(w) for c, w in zip(row, widths, strict=True)] for row in rows]
        lines += ["  ".join(row).rstrip() for row in rows]
        if self.projection is not None:
            analytic, numeric, bar = self.projection
            numbers = f"{analytic:.12g}, numeric {numeric:.12g} ± {bar:.1e}"
            moved = f", moved off kinks {self.redrawn} times" * bool(self.redrawn)
            lines.append(f"projection of all gradients: {numbers}")
            lines.append(f"{self.method}, {self.evaluations} evaluations, seed {self.seed}{moved}")
        lines += [f"checked: {'second order; ' * (self.order == 2)}{self.scope}"] * bool(self.scope)
        if self.failed and self.reproduce:
            lines += ["reproduce:", *("    " + line for line in self.reproduce.splitlines())]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        """Return the same text for a notebook, where its columns stand below each other."""
        return f"<pre>{escape(str(self))}</pre>"

    def to_json(self) -> str:
        """Return the report as a JSON object; numbers that are not finite become null.

        >>> json.loads(Report("ok", seed=3).to_json())["seed"]
        3
        """
        content = {**asdict(self), "ok": self.ok, "failed": self.failed}
        numbers = json.loads(json.dumps(content), parse_constant=lambda name: None)
        return json.dumps(numbers, indent=2)

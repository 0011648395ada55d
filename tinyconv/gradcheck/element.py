"""What the user asked for, and one element compared."""

import math
import time
from dataclasses import dataclass, field

from tinyconv.gradcheck.slopes import Slope

__all__ = ["Element", "Options"]


@dataclass(frozen=True)
class Options:
    """What the user asked for, see :func:`tinyconv.gradcheck.check`."""

    seed: int = 0
    method: str = "auto"
    samples: int | str = 4
    limit: int = 2048
    seconds: float = math.inf
    progress: bool | None = None
    start: float = field(default_factory=time.monotonic)

    @property
    def is_over(self) -> bool:
        """Tell whether the time is up."""
        return time.monotonic() - self.start > self.seconds


@dataclass(frozen=True)
class Element:
    """One element compared: its flat index, and what both sides say."""

    flat: int
    analytic: float
    numeric: float
    bar: float  #: of the numeric value alone
    tolerance: float  #: of the comparison
    slope: Slope

    @property
    def error(self) -> float:
        """Return the absolute error."""
        return abs(self.analytic - self.numeric)

    @property
    def is_wrong(self) -> bool:
        """Tell whether the error is larger than its tolerance, at a point without a kink."""
        return not self.slope.kink and not self.error <= self.tolerance

    @property
    def severity(self) -> float:
        """Return the error in units of its tolerance."""
        return self.error / self.tolerance if self.tolerance > 0 else self.error

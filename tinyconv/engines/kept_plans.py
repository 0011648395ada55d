"""The plans of the last predictions, for the next ones like them."""

from collections.abc import Callable
from typing import Any

from tinyconv.engines.plan import Plan

#: One for few samples and one for many, say, which different numbers of threads make. Two is what
#: memory has to hold in any case while one takes the place of another.
MOST = 2


class KeptPlans:
    """Plans by what they are for, such as the shape of a sample; those asked for longest ago go.

    Args:
        make: returns a plan for so many samples at most, and for the rest of what it is for.
    """

    def __init__(self, make: Callable[..., Plan]) -> None:
        self._make = make
        self._plans: dict[tuple[Any, ...], Plan] = {}
        self._version = -1

    def find(self, version: int, batch: int, *key: Any) -> Plan:
        """Return a plan for so many samples of the network in this version."""
        if version != self._version:
            self._plans.clear()
            self._version = version
        plan = self._plans.pop(key, None)
        if plan is None or batch > plan.backend.batch:
            while len(self._plans) >= MOST:
                del self._plans[next(iter(self._plans))]
            plan = self._make(batch, *key)
        self._plans[key] = plan  # behind the others
        return plan

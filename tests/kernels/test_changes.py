"""What is compared with what it was."""

from typing import Any

import numpy as np

from tinyconv.engines.cpu.program import Program
from tinyconv.engines.cpu.tiling import compiled
from tinyconv.kernels.cpu import batch, changes

FLOAT = np.float32


def test_calls_run_again_only_after_a_change() -> None:
    """A change of one bit anywhere, NaN and the sign of a zero included; for each share."""
    sources = [np.zeros(n, FLOAT) for n in (3, changes.BLOCK, 0, 2 * changes.BLOCK + 1)]
    product, factor, one = np.zeros(1, FLOAT), np.full(1, 2, FLOAT), np.ones(1, FLOAT)
    program = Program(threads=2)
    sizes = dict.fromkeys(["C", "D", "H", "W", "factor_sample"], 1)
    values: dict[str, Any] = {"x": one, "y": product, "factor": factor}
    program.call("product", compiled(batch.multiply), items=1, **values, **sizes)
    program.only_after_changes(sources)
    program.freeze(block=1)

    def runs() -> bool:
        product[0] = np.nan
        program.run(1)
        return bool(product[0] == 2)

    assert runs()
    assert not runs()
    for source in sources:
        for place in (0, -1)[: len(source)]:
            for value in (1.0, np.nan, 0.0, -0.0):
                source[place] = value
                assert runs()
                assert not runs()


def test_calls_without_sources_always_run() -> None:
    program = Program(threads=1)
    program.only_after_changes([])
    product, one = np.zeros(1, FLOAT), np.ones(1, FLOAT)
    sizes = dict.fromkeys(["C", "D", "H", "W", "factor_sample"], 1)
    values: dict[str, Any] = {"x": one, "y": product, "factor": one}
    program.call("product", compiled(batch.multiply), items=1, **values, **sizes)
    program.only_after_changes([])
    program.freeze(block=1)
    for _ in range(2):
        product[0] = 0
        program.run(1)
        assert product[0] == 1

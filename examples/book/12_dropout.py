"""Two layers of 1,000 units (also 300) with dropout, 40 epochs; 99.60 % in the book."""

from experiment import run

import tinyconv as tc

for units in (1000, 300):
    run(
        f"dropout-{units}",
        build=lambda seed, units=units: tc.models.nielsen_dropout(units=units, seed=seed),
        optimizer=tc.SGD(lr=0.03),
        epochs=40,
        expanded=True,
    )

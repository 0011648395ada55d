"""The settings that were tried for the small net: a few epochs of 50,000 digits, by the others.

That is enough to tell what learns faster, and no more. The test digits are not looked at.
"""

from dataclasses import replace

from small_net import Settings, look

#: A net of two pairs of convolutions and a hidden layer, a wide one and a slim one of three pairs.
TWO = Settings((32, 64), 0, 128, smoothing=0.1, degrees=10, pixels=2, alpha=24)
WIDE = replace(TWO, channels=(32, 64, 128), padding=1, hidden=0)
SLIM = replace(WIDE, channels=(24, 48, 96))

TRIED = {
    "two": TWO,
    "two-without-smoothing": replace(TWO, smoothing=0),
    "two-without-elastic": replace(TWO, alpha=0),
    "two-distorted-less": replace(TWO, degrees=7, factors=0.07, slopes=0.07, pixels=1),
    "two-rate-0.3": replace(TWO, rate=0.3),
    "wide": WIDE,
    "slim": SLIM,
    "slim-without-smoothing": replace(SLIM, smoothing=0),
    "slim-without-elastic": replace(SLIM, alpha=0),
    "slim-without-either": replace(SLIM, smoothing=0, alpha=0),
    "slim-chosen": replace(SLIM, smoothing=0, alpha=15),
}

if __name__ == "__main__":
    for name, settings in TRIED.items():
        settings.train(f"settings-{name}", epochs=3, tested=False)
    Settings().train("settings-wide-chosen", epochs=12, tested=False, look=look)

"""Make explore.webp, the animation of the README: one pass through the page, photographed.

Needs ``pip install "tinyconv[explore-test]"`` and Chromium::

    python examples/make_explore_animation.py
"""

import io
import shutil
import tempfile
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

import tinyconv as tc
from tinyconv.explore import page

OUT = Path(__file__).with_name("explore.webp")
SIZE = (1280, 900)
WIDTH = 1000  # of the animation

#: What the address of the page says, and for how many milliseconds it is shown.
SHOWN = [
    ("#", 1400),
    *((f"#step=1&cell=z.0.{p}.{q}", 350) for p in range(2) for q in range(4)),
    *((f"#step=2&cell=p.0.{p}.{q}", 500) for p in range(2) for q in range(2)),
    ("#step=3&cell=a.0.0.1", 900),
    ("#step=4&cell=u.0", 900),
    ("#step=5&cell=y.0", 1200),
    ("#step=6&cell=du.0", 1200),
    ("#step=7&cell=dW.0.1", 900),
    ("#step=8&cell=da.0.0.1", 900),
    ("#step=9&cell=dp.0.0.1", 900),
    ("#step=10&cell=dz.0.0.3", 1200),
    *((f"#step=11&cell=dw.0.0.{i}.{j}", 500) for i in range(2) for j in range(3)),
    *((f"#step=12&cell=dx.0.2.{w}", 600) for w in range(1, 6)),
    ("#step=13", 2500),
]

FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-sync "
    "--disable-background-networking --disable-component-update"
)


def main() -> None:
    """Photograph the page at each address, and write the animation."""
    frames = []
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        path = Path(folder) / "explore.html"
        path.write_text(page(version=tc.__version__), encoding="utf-8")
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=FLAGS.split()
        )
        tab = browser.new_page(viewport={"width": SIZE[0], "height": SIZE[1]})
        tab.goto(path.as_uri())
        for address, _ in SHOWN:
            tab.evaluate("address => { location.hash = address }", address)
            tab.wait_for_timeout(250)  # cells fade
            photograph = Image.open(io.BytesIO(tab.screenshot())).convert("RGB")
            height = SIZE[1] * WIDTH // SIZE[0]
            frames.append(photograph.resize((WIDTH, height), Image.Resampling.LANCZOS))
        browser.close()
    frames[0].save(
        OUT,
        save_all=True,
        append_images=frames[1:],
        duration=[milliseconds for _, milliseconds in SHOWN],
        loop=0,
        quality=60,
        method=6,
    )
    print(f"{OUT}: {len(frames)} pictures, {OUT.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()

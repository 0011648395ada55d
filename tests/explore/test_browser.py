"""The page in Chromium, as a student uses it: every control, both views, and its numbers."""

import os
import shutil

import numpy as np
import pytest

import tinyconv as tc
from tinyconv.explore import EXAMPLE, numbers, page

pytestmark = pytest.mark.browser

FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-sync "
    "--disable-background-networking --disable-component-update"
)


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api")
    path = os.environ.get("CHROMIUM") or shutil.which("chromium")
    if path is None:
        pytest.skip("needs Chromium")
    with playwright.sync_playwright() as started:
        opened = started.chromium.launch(executable_path=path, args=FLAGS.split())
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def net():
    layers = [tc.Conv2d(1, 3, 5), tc.MaxPool2d(4), tc.ReLU(), tc.Flatten(), tc.Linear(None, 10)]
    return tc.Sequential(layers, seed=0, input_shape=(1, 28, 28))


@pytest.fixture(scope="module")
def address(net, tmp_path_factory):
    x = np.random.default_rng(0).random((2, 1, 28, 28)).astype(np.float32)
    path = tmp_path_factory.mktemp("page") / "explore.html"
    path.write_text(page(net, x, [3, 4]), encoding="utf-8")
    return path.as_uri()


@pytest.fixture
def open_page(browser, address):
    """Open the page at an address; what fails in it fails the test."""
    faults, contexts = [], []

    def opened(state="", width=1280, **options):
        contexts.append(browser.new_context(viewport={"width": width, "height": 900}, **options))
        tab = contexts[-1].new_page()
        tab.on("pageerror", lambda error: faults.append(str(error)))
        tab.on("console", lambda said: faults.append(said.text) if said.type == "error" else None)
        tab.on("request", lambda asked: faults.append(asked.url) if "file:" not in asked.url else 0)
        tab.goto(address + state)
        return tab

    yield opened
    for context in contexts:
        context.close()
    assert faults == []


def shown(tab, name):
    """Return the numbers of an array as the labels of its cells say them."""
    labels = tab.eval_on_selector_all(
        f'[data-cell^="{name}."]', "cells => cells.map(cell => cell.ariaLabel)"
    )
    return [float(label.partition(": ")[2].replace("−", "-")) for label in labels]


def assert_numbers(tab, state):
    expected = numbers(state)
    for name in ("z", "p", "a", "u", "y", "du", "dW", "dB", "da", "dp", "dz", "dw", "db", "dx"):
        np.testing.assert_allclose(shown(tab, name), expected[name], atol=6e-5, err_msg=name)
    cost = float(tab.inner_text("[data-cell=C]").split(" = ")[1])
    assert cost == pytest.approx(expected["C"][0], abs=6e-5)


def words(tab):
    return tab.inner_text("main:not([hidden]) .words")


def test_the_page_finds_its_own_numbers_right(open_page):
    text = open_page().inner_text(".check")
    by_hand, trained = text.split("by hand ")[1].rstrip(".").split(", trained net ")
    assert float(by_hand) < 1e-12
    assert float(trained) < 1e-4


def test_numbers_follow_the_settings_and_edits(open_page):
    tab = open_page("#step=13")
    assert_numbers(tab, EXAMPLE)
    state = dict(EXAMPLE)
    for name, value in {"pool": "l2", "activation": "tanh", "label": 2}.items():
        tab.select_option(f"[name={name}]", str(value))
        state[name] = value
        assert_numbers(tab, state)
    tab.click('[data-cell="x.0.1.1"]')  # 0 becomes 0.5
    state["x"] = [0.5 if n == 7 else value for n, value in enumerate(EXAMPLE["x"])]
    assert_numbers(tab, state)
    tab.keyboard.type("-1.5")  # into the field of the cell that has the focus
    tab.keyboard.press("Enter")
    state["x"] = [-1.5 if n == 7 else value for n, value in enumerate(EXAMPLE["x"])]
    assert_numbers(tab, state)
    tab.click('[data-cell="w.1.0.0.2"]')  # 2 is the most: round to -2
    state["w"] = [-2 if n == 11 else value for n, value in enumerate(EXAMPLE["w"])]
    assert_numbers(tab, state)
    again = open_page(tab.evaluate("location.hash"))
    assert_numbers(again, state)


def test_windows_that_do_not_fit_are_refused_in_words(open_page):
    tab = open_page()
    tab.select_option("[name=size]", "4")
    tab.select_option("[name=window]", "3")
    assert "has 3 rows" in tab.inner_text(".fault")
    assert tab.input_value("[name=window]") == "2"


@pytest.mark.parametrize(
    "preset",
    ["Overlapping maxima", "Stride 2, padding 1", "Dilated kernel", "One small kernel"],
)
def test_the_examples_open(open_page, preset):
    tab = open_page("#step=13")
    tab.select_option("[name=preset]", preset)
    assert tab.inner_text(".fault") == ""
    assert tab.input_value("[name=preset]") == preset
    assert np.isfinite(shown(tab, "dx")).all()


def test_hovering_explains(open_page):
    tab = open_page("#step=13")
    tab.hover('[data-cell="z.0.0.3"]')
    assert tab.locator(".cell.part").count() == 9 + 9 + 1
    assert "= 2.5" in words(tab).replace("\n", " ")
    assert tab.locator(".words math").count() == 1
    tab.hover('[data-cell="dx.0.2.3"]')
    assert "flipped" in words(tab)
    assert "BP2" in words(tab)
    tab.hover('[data-cell="dw.0.0.1.1"]')
    assert "BP4" in words(tab)
    assert "16 places" in words(tab)
    tab.hover('[data-cell="db.1"]')
    assert "BP3" in words(tab)
    tab.hover('[data-cell="du.0"]')
    assert "BP1" in words(tab)
    tab.hover("h1")
    assert "One update" in words(tab)


def test_the_keyboard_reaches_every_cell(open_page):
    tab = open_page("#step=5")
    tab.focus('[data-cell="z.0.0.0"]')
    for key in ("ArrowDown", "ArrowRight", "ArrowRight", "ArrowUp"):
        tab.keyboard.press(key)
    assert tab.evaluate("document.activeElement.dataset.cell") == "z.0.0.2"
    assert "Output 0, 2 of map 0" in words(tab)
    assert "cell=z.0.0.2" in tab.evaluate("location.hash")
    tab.keyboard.press("Tab")
    assert tab.evaluate("document.activeElement.dataset.cell") == "z.1.0.0"


def test_steps_show_one_layer_after_the_other(open_page):
    tab = open_page()
    assert tab.locator('.later[data-cell^="z."]').count() == 32
    tab.click("[data-act=step]")
    assert tab.locator('.later[data-cell^="z."]').count() == 0
    assert tab.locator('.later[data-cell^="p."]').count() == 8
    tab.click("[data-act=forward]")
    assert "5. Softmax and cost" in tab.inner_text(".now")
    tab.click("[data-act=backward]")
    assert tab.locator(".later").count() == 0
    tab.click("[data-act=back]")
    tab.click('[data-step="7"]')
    assert tab.evaluate("location.hash") == "#step=7"
    assert "7. BP3, BP4" in tab.inner_text(".now")


def test_an_update_lowers_the_cost(open_page):
    tab = open_page("#step=13")
    after = f"{numbers(EXAMPLE)['C_after'][0]:.4f}".rstrip("0")
    assert f"makes it {after}" in words(tab)
    tab.click("[data-act=update]")
    assert tab.inner_text("[data-cell=C]") == f"C = {after}"
    assert "→" in tab.inner_text(".history")
    tab.click("[data-act=reset]")
    assert tab.evaluate("location.hash") in ("", "#")


def test_playing_fills_cells_and_pauses(open_page):
    tab = open_page("#step=1")
    tab.click("[data-act=play]")
    tab.wait_for_function("document.querySelectorAll('[data-cell^=\"z.\"]:not(.later)').length > 1")
    assert tab.locator('.later[data-cell^="z."]').count() > 0
    tab.click("[data-act=play]")
    assert tab.locator('.later[data-cell^="z."]').count() == 0


def probabilities(tab):
    texts = tab.eval_on_selector_all(".number", "all => all.map(each => each.innerText)")
    return [float(text.rstrip(" %")) for text in texts]


def test_a_drawing_is_classified_at_once(open_page):
    tab = open_page("#mode=net")
    before = probabilities(tab)
    assert sum(before) == pytest.approx(100, abs=1)
    tab.click("[data-act=clear]")
    empty = probabilities(tab)
    box = tab.locator(".draw").bounding_box()
    tab.mouse.move(box["x"] + 140, box["y"] + 40)
    tab.mouse.down()
    tab.mouse.move(box["x"] + 140, box["y"] + 240, steps=5)
    tab.mouse.up()
    assert probabilities(tab) != empty
    assert "image=" in tab.evaluate("location.hash")
    drawn = probabilities(tab)
    assert probabilities(open_page(tab.evaluate("location.hash"))) == drawn


def test_moving_and_switching_off_are_compared_with_before(open_page, net):
    tab = open_page("#mode=net")
    assert tab.locator(".before:visible").count() == 0
    tab.click("[data-act=left]")
    assert tab.locator(".before:visible").count() == 10
    tab.click("[data-sample='1']")
    before = probabilities(tab)
    tab.click('[data-unit="0.1"][data-kind=values]')
    tab.click("[data-act=off]")
    assert "off=0.1" in tab.evaluate("location.hash")
    assert probabilities(tab) != before
    tab.click("[data-act=off]")
    assert probabilities(tab) == before


def test_a_unit_tells_what_it_sees(open_page):
    tab = open_page("#mode=net&unit=1.2.1.0")
    assert "rows 4 to 11 and columns 0 to 7 of the image: 8 × 8" in words(tab)
    frame = tab.locator(".field").bounding_box()
    paper = tab.locator(".draw").bounding_box()
    assert frame["width"] / paper["width"] == pytest.approx(8 / 28, abs=0.02)
    tab.focus('[data-unit="1.2"][data-kind=values]')
    tab.keyboard.press("ArrowDown")
    assert "rows 8 to 15" in words(tab)


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("mode", ["hand", "net"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_sticks_out(open_page, width, mode, scheme):
    tab = open_page(f"#mode={mode}&step=12", width, color_scheme=scheme)
    assert tab.evaluate("document.documentElement.scrollWidth") <= width


def test_fingers_do_what_the_mouse_does(open_page):
    tab = open_page("#step=13", 390, has_touch=True, is_mobile=True)
    tab.tap('[data-cell="dx.0.2.3"]')
    assert "Gradient of pixel x[2, 3]" in words(tab)
    tab.tap('[data-cell="x.0.0.0"]')
    tab.fill("[name=value]", "0.75")
    tab.keyboard.press("Enter")
    assert shown(tab, "x")[0] == 0.75

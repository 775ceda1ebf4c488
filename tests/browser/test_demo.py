"""The demo page as a person uses it, in headless Chromium. What is clicked is in browser.mjs."""

from __future__ import annotations

import os
import pathlib
import re

import pytest
from chromium import HERE, Browser
from serving import Server

pytestmark = pytest.mark.timeout(240)

SCREENSHOT = HERE.parents[1] / "docs" / "demo.png"


def test_everything_on_the_page_works(browser: Browser, demo: Server, tmp_path: pathlib.Path) -> None:
    # The picture of the README is written anew only on request: it differs from run to run.
    screenshot = SCREENSHOT if os.environ.get("UMBEL_SCREENSHOT") else tmp_path / "demo.png"
    found = browser("demo", demo.url("/", "http"), screenshot=str(screenshot))
    assert found["complaints"] == []
    assert found["sources"] >= 4, "one card for each source: processor, memory, network, disks"
    assert re.search(r"\d", found["lateness"])
    assert found["fast"] > 2 * found["slow"], "the slider should change the rate"
    assert found["crowdDelivered"] > 20 * max(found["aloneDelivered"], 1), (
        "a thousand subscribers should be seen"
    )
    assert found["publishedWhileSlow"] > 0
    assert found["batchesAfterSlow"] > 0
    assert found["recovered"] > 0
    assert found["violations"] == 0
    assert len(found["answer"]) > 20
    assert screenshot.stat().st_size > 10_000


def test_two_windows_change_a_task_while_one_is_cut_off(browser: Browser, demo: Server) -> None:
    found = browser("board", demo.url("/", "http"))
    assert found["complaints"] == []
    ann, ben = found["names"]
    assert found["kept"] == "Kept here. It is sent when the connection is back."
    begin = f"{ann} and {ben} have changed it at the same time. Resolved by merge:"
    anns, bens = f"{ann}\u2019s", f"{ben}\u2019s"
    same = f"{begin}Title: {bens} “B” takes the place of “A”Status: {anns} “doing” stays"
    different = f"{begin}Title: {anns} “changed” staysStatus: {bens} “done” takes the place of “to do”"
    # Both sides of both windows say how it was decided.
    assert found["same"] == [same] * 4
    assert found["different"] == [different] * 4
    assert found["draft"] == "half-written"
    assert found["there"] == 2


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_fits(
    browser: Browser, demo: Server, tmp_path: pathlib.Path, scheme: str, width: int
) -> None:
    viewport = {"width": width, "height": 844}
    picture = str(tmp_path / "look.png")
    found = browser("look", demo.url("/", "http"), scheme=scheme, viewport=viewport, screenshot=picture)
    assert found["complaints"] == []
    assert found["overflow"] <= 0, f"wider than the window: {found['wide']}"
    background = found["background"] if "0)" not in found["background"][-3:] else found["root"]
    assert luminance(background) > 0.5 if scheme == "light" else luminance(background) < 0.2
    assert contrast(background, found["color"]) >= 4.5


@pytest.mark.parametrize("width", [360, 390])
def test_the_figures_of_a_slow_reader_stay_in_their_places(
    browser: Browser, demo: Server, width: int
) -> None:
    viewport = {"width": width, "height": 844}
    found = browser("look", demo.url("/", "http"), scheme="light", viewport=viewport, slow=True)
    assert found["complaints"] == []
    assert (found["outside"], found["wide"]) == ([], [])


def luminance(color: str) -> float:
    """Relative luminance of ``rgb(…)`` as WCAG 2 defines it."""
    parts = [float(part) / 255 for part in re.findall(r"[\d.]+", color)[:3]]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)

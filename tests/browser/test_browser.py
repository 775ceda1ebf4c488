"""Chromium's own WebSocket against the fan-out example. What the page does is in browser.mjs."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from chromium import Browser
from serving import Server, example, running

pytestmark = pytest.mark.timeout(180)


@pytest.fixture(scope="module")
def fanout() -> Iterator[Server]:
    with running(example("fanout")) as server:
        yield server


def test_a_page_subscribes_and_publishes_with_deflate(browser: Browser, fanout: Server) -> None:
    page = fanout.url("/healthz", "http")  # any page of the server's own origin
    found = browser("roundtrip", fanout.url(), page=page, channel="browser", count=300)
    assert found["protocol"] == "umbel.v1"
    assert found["extensions"].startswith("permessage-deflate")
    assert found["headers"]["sec-websocket-extensions"].startswith("permessage-deflate")
    assert found["numbers"] == list(range(300))
    assert (found["code"], found["wasClean"]) == (1000, True)

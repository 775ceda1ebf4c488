"""How large the request may be that opens a connection."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hostile import Peer, handshake
from umbel import Request, Server, Umbel


def status(server: Server, lines: list[str], path: str = "/ws") -> int:
    host, _, port = server.url.removeprefix("http://").rpartition(":")
    with Peer((host, int(port))) as peer:
        peer.send(handshake(path, add=lines))
        return peer.response().status


async def ask(server: Server, *lines: str, path: str = "/ws") -> int:
    return await asyncio.to_thread(status, server, list(lines), path)


COOKIE_OF_40_KIB = "Cookie: a=" + "x" * (40 << 10)
HEADERS_200 = [f"X-{number}: 1" for number in range(200)]


@pytest.mark.parametrize(
    ("settings", "lines", "path", "expected", "setting"),
    [
        ({}, [COOKIE_OF_40_KIB], "/ws", 431, "max_head_bytes"),
        ({"max_head_bytes": 65_536}, [COOKIE_OF_40_KIB], "/ws", 101, None),
        ({}, [], "/ws?token=" + "x" * 9000, 414, "max_head_bytes"),
        ({"max_head_bytes": 32_768}, [], "/ws?token=" + "x" * 9000, 101, None),
        ({"max_head_bytes": 1024}, ["Cookie: a=" + "x" * 1024], "/ws", 431, "max_head_bytes"),
        ({}, HEADERS_200, "/ws", 431, "max_headers"),
        ({"max_headers": 300}, HEADERS_200, "/ws", 101, None),
        ({"max_headers": 16}, HEADERS_200[:12], "/ws", 431, "max_headers"),
    ],
)
async def test_a_request_may_be_as_large_as_is_set_and_the_log_names_the_setting(
    settings: dict[str, Any],
    lines: list[str],
    path: str,
    expected: int,
    setting: str | None,
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with Umbel(port=0, shards=1, **settings).serve() as server:
        assert await ask(server, *lines, path=path) == expected
    refused = [record.getMessage() for record in caplog.records if "refused" in record.getMessage()]
    assert [f"(setting {setting})" in line for line in refused] == [True] * (setting is not None)


async def test_a_large_request_reaches_the_application_whole() -> None:
    app, seen = Umbel(port=0, max_head_bytes=65_536, max_headers=300), list[Request]()

    @app.authenticate
    def who(request: Request) -> str:
        seen.append(request)
        return "ann"

    async with app.serve() as server:
        assert await ask(server, COOKIE_OF_40_KIB, *HEADERS_200) == 101
    assert len(seen[0].cookies["a"]) == 40 << 10
    assert seen[0].headers["x-199"] == "1"

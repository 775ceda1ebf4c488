"""Requests in forms that browsers do not send, and what a browser gets to download."""

from __future__ import annotations

import asyncio
import gzip
import urllib.request
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from looping import on_loops
from umbel import Server, Umbel, WebSocket
from websockets.asyncio.client import connect

UPGRADE = (
    "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)


async def ask(server: Server, target: str, host: str, fields: str = "Connection: close\r\n") -> bytes:
    """Send a request and return the head of the answer, and what follows if the server closes."""
    parts = urlsplit(server.url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    writer.write(f"GET {target} HTTP/1.1\r\nHost: {host}\r\n{fields}\r\n".encode())
    async with asyncio.timeout(10):
        answer = await (reader.readuntil(b"\r\n\r\n") if "Upgrade" in fields else reader.read())
    writer.close()
    return answer


@on_loops
async def test_requests_in_absolute_form_are_served_for_the_host_of_their_target(app: Umbel) -> None:
    seen: list[Any] = []
    app.authenticate(lambda request: seen.append((request.headers["host"], request.path)) or "ann")  # type: ignore[func-returns-value]
    app.page("/", "<p>hello")
    async with app.serve(port=0) as server:
        ours = urlsplit(server.url).netloc
        assert (await ask(server, f"http://{ours}", "elsewhere.example")).endswith(b"<p>hello")
        assert (await ask(server, "http://elsewhere.example/healthz?x", ours)).endswith(b"ok\n")
        assert (await ask(server, "ftp://a/", ours)).startswith(b"HTTP/1.1 400 ")
        page = f"{UPGRADE}Origin: http://{ours}\r\n"
        answer = await ask(server, f"http://{ours}/ws?a=b", "elsewhere.example", page)
        assert answer.startswith(b"HTTP/1.1 101 ")
        assert seen == [(ours, "/ws")]
        answer = await ask(server, "http://elsewhere.example/ws", ours, page)
        assert answer.startswith(b"HTTP/1.1 403 "), "the page is not of the host that the target names"
        assert len(seen) == 1


@on_loops
async def test_an_escaped_slash_stays_inside_its_parameter(app: Umbel) -> None:
    seen: list[Any] = []

    @app.websocket("/files/{name}")
    async def one(websocket: WebSocket, name: str) -> None:
        seen.append(("one", name, websocket.request.path))

    @app.websocket("/files/{name}/{part:path}")
    async def two(websocket: WebSocket, name: str, part: str) -> None:
        seen.append(("two", name, part))

    app.page("/docs/intro", "<p>hello")
    async with app.serve(port=0) as server:
        for target in ("a%2Fb", "a%2fb/c%2Fd/e", "%2F", "a%252Fb"):
            async with connect(server.url.replace("http", "ws", 1) + f"/files/{target}", proxy=None) as it:
                await it.wait_closed()
        assert seen == [
            ("one", "a/b", "/files/a/b"),
            ("two", "a/b", "c/d/e"),
            ("one", "/", "/files//"),
            ("one", "a%2Fb", "/files/a%2Fb"),
        ]
        host = urlsplit(server.url).netloc
        assert (await ask(server, "/docs/intro", host)).startswith(b"HTTP/1.1 200 ")
        for target in ("/docs%2Fintro", "/files/a%2F..%2Fb", "/files/a%2Fb%01"):
            assert (await ask(server, target, host))[:12] in (b"HTTP/1.1 404", b"HTTP/1.1 400"), target


@on_loops
async def test_a_packed_file_arrives_as_the_file(app: Umbel, tmp_path: Path) -> None:
    packed = gzip.compress(b"a,b\n1,2\n")
    (tmp_path / "report.csv.gz").write_bytes(packed)
    app.page("/report.csv.gz", tmp_path / "report.csv.gz")
    async with app.serve(port=0) as server:

        def download() -> tuple[bytes, Any]:
            with urllib.request.urlopen(f"{server.url}/report.csv.gz") as answer:
                return answer.read(), answer.headers

        body, headers = await asyncio.to_thread(download)
        assert (body, headers["Content-Type"]) == (packed, "application/gzip")
        assert headers["Content-Encoding"] is None

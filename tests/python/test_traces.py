"""What the log and the counters say about connections: those that are refused, and the life of the others."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import orjson
import pytest
from looping import on_loops
from umbel import Refused, Request, Umbel
from umbel._serving.server import Server

pytestmark = pytest.mark.timeout(60)

UPGRADE = (
    "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{more}\r\n"
)


def upgrade(path: str = "/ws", more: str = "") -> str:
    return UPGRADE.format(path=path, more=more)


@asynccontextmanager
async def stream(server: Server) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    host, port = server.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        yield reader, writer
    finally:
        writer.close()


async def say(server: Server, text: str) -> None:
    """Send a text, and wait until the server has nothing more to say."""
    async with stream(server) as (reader, writer):
        writer.write(text.encode())
        try:
            heard = b""
            while b"\x88" not in heard and (chunk := await reader.read(4096)):
                heard += chunk
        except ConnectionError:
            pass


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.02)


def nobody(app: Umbel) -> None:
    app.authenticate(lambda request: None)


def locked(app: Umbel) -> None:
    @app.authenticate
    def who(request: Request) -> None:
        raise Refused(4500, "locked\nfor ever")


def broken(app: Umbel) -> None:
    @app.authenticate
    def who(request: Request) -> None:
        raise ZeroDivisionError


def slow(app: Umbel) -> None:
    @app.authenticate
    async def who(request: Request) -> None:
        await asyncio.sleep(30)


EVIL = "Origin: https://evil.example\r\n"

Settings = dict[str, Any]
Declare = Callable[[Umbel], None]

CASES: list[tuple[str, str, str | None, Declare | None, Settings]] = [
    (
        "origin",
        upgrade(more=EVIL),
        r'by a page of "https://evil.example", with 403: .* \(setting origins\)',
        None,
        {},
    ),
    ("not_found", "GET /nowhere HTTP/1.1\r\nHost: a\r\n\r\n", r'for "/nowhere", with 404', None, {}),
    ("not_found", upgrade("/sw"), r'for "/sw", with 404', None, {}),
    ("bad_request", "what?\r\n\r\n", "with 400", None, {}),
    ("bad_request", upgrade(more="Sec-WebSocket-Key: x\r\n"), 'for "/ws", with 400', None, {}),
    ("wrong_use", "GET /ws HTTP/1.1\r\nHost: a\r\n\r\n", "with 426", None, {}),
    ("too_long", "GET / HTTP/1.1\r\nX: " + "x" * 20_000, "with 431", None, {}),
    ("unsupported", "BREW / HTTP/1.1\r\nHost: a\r\n\r\n", "with 501", None, {}),
    ("late", "GET /ws", r"with 408: .* \(setting handshake_timeout\)", None, {"handshake_timeout": 0.2}),
    ("late", "", r'"silent" \(setting handshake_timeout\)', None, {"handshake_timeout": 0.2}),
    ("unauthenticated", upgrade(), 'with 4401: "authentication required"', nobody, {}),
    ("not_allowed", upgrade(), r'with 4500: "locked\\nfor ever"', locked, {}),
    ("failed", upgrade(), None, broken, {}),
    ("undecided", upgrade(), "with 1013", slow, {"handshake_timeout": 0.2, "close_timeout": 0.1}),
]


@pytest.mark.parametrize(("label", "text", "line", "declare", "settings"), CASES)
def test_a_refusal_is_counted_and_has_one_line(
    app: Umbel,
    caplog: pytest.LogCaptureFixture,
    label: str,
    text: str,
    line: str | None,
    declare: Declare | None,
    settings: Settings,
) -> None:
    async def work() -> None:
        async with app.serve(port=0, shards=2, **settings) as server:
            await asyncio.gather(*(say(server, text) for _ in range(6)))
            await until(lambda: server.stats().refused == 6)
            counts = {name: count for name, count in server.stats().refused_by.items() if count}
            assert counts == {label: 6}
            await asyncio.sleep(0.05)

    if declare:
        declare(app)
    caplog.set_level(logging.INFO)
    asyncio.run(work())
    lines = [record.message for record in caplog.records if "refused" in record.message]
    if line is None:
        assert lines == []
        assert caplog.text.count("authenticate failed") == 1, "its line is that of the failure"
    else:
        assert len(lines) == 1
        assert re.search(line, lines[0])
        assert re.match(r"requests refused: 1, the last one from 127\.0\.0\.1:\d+", lines[0])
        others = [record for record in caplog.records if record.levelno > logging.INFO]
        assert [record.message for record in others] in ([], lines)


@pytest.mark.parametrize(
    ("label", "settings", "setting"),
    [
        ("full", {"max_connections": 1}, "max_connections"),
        ("address", {"max_connections_per_address": 1}, "max_connections_per_address"),
        ("identity", {"max_connections_per_identity": 1}, "max_connections_per_identity"),
    ],
)
def test_who_comes_too_many_is_counted_and_has_one_line(
    app: Umbel, caplog: pytest.LogCaptureFixture, label: str, settings: Settings, setting: str
) -> None:
    async def work() -> None:
        async with app.serve(port=0, shards=2, **settings) as server, stream(server) as (reader, writer):
            writer.write(upgrade().encode())
            await reader.readuntil(b"connection_established")
            await asyncio.gather(*(say(server, upgrade()) for _ in range(5)))
            await until(lambda: server.stats().refused == 5)
            assert server.stats().refused_by[label] == 5

    app.authenticate(lambda request: "ann")
    asyncio.run(work())
    lines = [record.message for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(lines) == 1
    assert f"({setting})" in lines[0].replace("setting ", "")


@on_loops
async def test_a_client_that_leaves_before_it_is_let_in_is_counted_and_not_logged(
    app: Umbel, caplog: pytest.LogCaptureFixture
) -> None:
    slow(app)
    async with app.serve(port=0, shards=1, drain=0.1) as server:
        async with stream(server) as (reader, writer):
            writer.write(upgrade().encode())
            await reader.readuntil(b"\r\n\r\n")
        await until(lambda: server.stats().refused_by["gone"] == 1)
        assert server.stats().closed_by["ended"] == 1
    assert "refused" not in caplog.text


def masked(message: dict[str, Any]) -> bytes:
    text = orjson.dumps(message)
    assert len(text) < 126
    return bytes([0x81, 0x80 | len(text), 0, 0, 0, 0]) + text


async def live(server: Server) -> None:
    """Live the life of a client."""
    async with stream(server) as (reader, writer):
        writer.write(upgrade("/ws?user=1").encode())
        await reader.readuntil(b"connection_established")
        writer.write(masked({"type": "subscribe_updates", "channel": "news:a"}))
        await reader.readuntil(b"subscription_established")
        writer.write(bytes([0x88, 0x84, 0, 0, 0, 0]) + (4000).to_bytes(2) + b"\n!")
        await reader.read(4096)


@on_loops
async def test_with_debug_the_log_shows_the_life_of_a_connection(
    app: Umbel, caplog: pytest.LogCaptureFixture
) -> None:
    app.channel("news:{topic}", open=True)
    app.authenticate(lambda request: "ann\u202e")
    caplog.set_level(logging.DEBUG, "umbel")
    async with app.serve(port=0, shards=1) as server:
        await live(server)
        await until(lambda: "closed with" in caplog.text)
    lines = [record.message for record in caplog.records if record.levelno == logging.DEBUG]
    lines = [line for line in lines if line.startswith("client ")]
    (client,) = {line.split(":")[0] for line in lines}
    assert re.fullmatch("client [0-9a-f]{16}", client)
    opened, *rest = (line.removeprefix(f"{client}: ") for line in lines)
    assert re.fullmatch(r'opened from 127\.0\.0\.1:\d+ for "/ws"', opened)
    assert rest == [
        r'let in as "ann\u{202e}"',
        'subscribed to "news:a"',
        r'closed with 4000: "\n!"',
    ]


@on_loops
async def test_debug_can_be_switched_while_the_server_runs(
    app: Umbel, caplog: pytest.LogCaptureFixture
) -> None:
    app.channel("news:{topic}", open=True)
    caplog.set_level(logging.INFO, "umbel")
    async with app.serve(port=0, shards=1) as server:
        await live(server)
        await until(lambda: server.stats().closed_by["client"] == 1)
        caplog.set_level(logging.DEBUG, "umbel")
        await asyncio.sleep(1.2)
        assert "client " not in caplog.text
        await live(server)
        await until(lambda: "closed with 4000" in caplog.text)


@on_loops
async def test_a_publication_that_nobody_can_ask_for_is_warned_of(
    app: Umbel, caplog: pytest.LogCaptureFixture
) -> None:
    app.channel("news:{topic}", open=True)

    @app.on_connect
    def connected(client: Any) -> None:
        client.subscribe("given")
        client.send("hello")

    async with app.serve(port=0, shards=1) as server:
        async with stream(server) as (reader, writer):
            writer.write(upgrade().encode())
            await reader.readuntil(b"hello")
            app.publish("given", 1)
            app.publish("news:a", 1)
            await asyncio.sleep(0.1)
            assert "no pattern" not in caplog.text
            for name in ("nwes:a", "nwes:b", "nwes:a"):
                app.publish(name, 1)
            await until(lambda: "no pattern" in caplog.text)
            await asyncio.sleep(0.1)
        (line,) = [record.message for record in caplog.records if "no pattern" in record.message]
        assert line.startswith('published to channels that no pattern fits: 1, the last one "nwes:a"')

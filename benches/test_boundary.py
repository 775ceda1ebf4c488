"""What crossing between Python and the core costs. Run with ``pytest benches/test_boundary.py``.

Each figure is for one call or one event, on the thread of the event loop, with the core's threads running
beside it.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from umbel import Server, Umbel

DATA = {
    "type": "task_update",
    "taskId": 4711,
    "title": "Write the figures down",
    "done": False,
    "progress": 0.25,
}

SUBSCRIBERS = [0, 1, 1000]


class Serving:
    """A server on an event loop that the benchmark turns by hand."""

    def __init__(self, app: Umbel) -> None:
        self.runner = asyncio.Runner()
        self.server: Server = app.serve(port=0, shards=1, tick=0.016, max_connections=5000)
        self.runner.run(self.server.__aenter__())
        self.sockets: list[socket.socket] = []

    def turn(self, until: Callable[[], bool]) -> None:
        """Let the loop run until a condition holds."""

        async def wait() -> None:
            async with asyncio.timeout(30):
                while not until():
                    await asyncio.sleep(0.001)

        self.runner.run(wait())

    def connect(self, count: int, channel: str | None) -> None:
        """Open connections that subscribe and then read nothing but what the kernel holds for them."""
        host, port = self.server.url.removeprefix("http://").rsplit(":", 1)
        for _ in range(count):
            connection = socket.create_connection((host, int(port)))
            connection.sendall(UPGRADE)
            if channel:
                connection.sendall(masked(f'{{"type":"subscribe_updates","channel":"{channel}"}}'.encode()))
            self.sockets.append(connection)
        wanted = count if channel else 0
        self.turn(
            lambda: self.server.stats().subscriptions >= wanted and self.server.stats().connections >= count
        )

    def close(self) -> None:
        for connection in self.sockets:
            connection.close()
        self.server.stop(within=0)
        self.runner.run(self.server.wait_closed())
        self.runner.close()


def masked(text: bytes) -> bytes:
    """A text frame with the mask 0, which leaves the payload as it is."""
    assert len(text) < 126
    return bytes((0x81, 0x80 | len(text), 0, 0, 0, 0)) + text


UPGRADE = (
    b"GET /ws HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


@contextlib.contextmanager
def serving(app: Umbel) -> Iterator[Serving]:
    it = Serving(app)
    try:
        yield it
    finally:
        it.close()


@pytest.mark.parametrize("subscribers", SUBSCRIBERS)
def test_publish(benchmark: Any, subscribers: int) -> None:
    """One ``app.publish`` of 100 bytes of JSON. The goal is < 1.5 µs, whatever the number of subscribers."""
    app = Umbel()
    app.channel("all", open=True)
    with serving(app) as it:
        it.connect(subscribers, "all")
        assert it.server.stats().subscriptions == subscribers
        before = it.server.stats().published
        benchmark(app.publish, "all", DATA)
        assert it.server.stats().published > before


def test_publish_with_a_key(benchmark: Any) -> None:
    app = Umbel()
    app.channel("all", open=True, mode="latest")
    with serving(app):
        benchmark(app.publish, "all", DATA, "key")


def test_send_to_one_client(benchmark: Any) -> None:
    """One ``client.send``."""
    app = Umbel()
    clients = []
    app.on_connect(clients.append)
    with serving(app) as it:
        it.connect(1, None)
        it.turn(lambda: bool(clients))
        assert benchmark(clients[0].send, DATA) is not None


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_message_to_handler(benchmark: Any, kind: str) -> None:
    """A thousand messages from sockets to a handler; the figure divided by a thousand is the cost of one."""
    app = Umbel()
    handled = 0

    def count(client: Any, message: Any) -> None:
        nonlocal handled
        handled += 1

    async def count_async(client: Any, message: Any) -> None:
        count(client, message)

    app.on("x")(count if kind == "sync" else count_async)
    frames = masked(b'{"type":"x","data":{"n":1}}') * 1000
    with serving(app) as it:
        it.connect(1, None)

        async def reach(goal: int) -> None:
            while handled < goal:
                await asyncio.sleep(0)

        def thousand() -> None:
            goal = handled + 1000
            it.sockets[0].sendall(frames)
            it.runner.run(reach(goal))

        benchmark.pedantic(thousand, rounds=20, warmup_rounds=2)
        assert handled % 1000 == 0 < handled

"""A core in memory: events are put in by the test, and what Python tells it is written down."""

from __future__ import annotations

import contextlib
import os
from collections import deque
from dataclasses import dataclass, field
from typing import Any

import orjson
from umbel import _core


@dataclass(frozen=True)
class FakePosition:
    epoch: str
    offset: int


@dataclass
class FakeHandshake:
    path: str = "/ws"
    query: str = ""
    headers: list[tuple[str, str]] = field(default_factory=list)
    peer: str = "127.0.0.1:5000"
    secure: bool = False
    route: int | None = None
    params: tuple[str, ...] = ()
    client_id: str = "c1"


class FakeCore:
    """Has the methods of Core. `calls` lists what was called; publish, send and reply have their own."""

    made: FakeCore | None = None

    def __init__(self, config: bytes = b"{}", pages: dict[str, tuple[str, bytes]] | None = None) -> None:
        FakeCore.made = self
        self.config = orjson.loads(config)
        self.pages = pages
        self.calls: list[tuple[Any, ...]] = []
        self.published: list[tuple[str, Any, str | None]] = []
        self.replies: list[tuple[int, Any]] = []
        self.sent: list[tuple[int, Any]] = []
        self.events: deque[tuple[Any, ...]] = deque()
        self.gone: set[int] = set()
        self.waiting = 0
        self.stops = True
        self._reader, self._writer = os.pipe()
        self._tickets = 0

    # What the test does

    def put(self, *event: Any) -> None:
        if not self.events:
            os.write(self._writer, b"!")
        self.events.append(event)

    def open(self, key: int = 1, **fields: Any) -> None:
        self.put(_core.OPEN, key, FakeHandshake(**{"client_id": f"c{key}"} | fields))

    def message(self, key: int, type: str, id: Any = None, **fields: Any) -> None:
        text = orjson.dumps({"type": type, **({} if id is None else {"id": id}), **fields})
        self.put(_core.MESSAGE, key, type, None if id is None else orjson.dumps(id), text)

    def subscribe_wish(self, key: int, rule: int, channel: str, *params: str) -> int:
        self._tickets += 1
        self.put(_core.SUBSCRIBE, key, self._tickets, rule, channel, params)
        return self._tickets

    def publish_wish(self, key: int, rule: int, channel: str, *params: str, data: Any = None) -> int:
        self._tickets += 1
        self.put(_core.PUBLISH, key, self._tickets, rule, channel, params, orjson.dumps(data), None)
        return self._tickets

    def closed(self, key: int, code: int = 1001, reason: str = "") -> None:
        self.gone.add(key)
        self.put(_core.CLOSED, key, code, reason)

    def named(self, name: str) -> list[tuple[Any, ...]]:
        """The arguments of all calls of one method."""
        return [call[1:] for call in self.calls if call[0] == name]

    def of_type(self, type: str) -> list[Any]:
        """The publications of one type."""
        return [data for _, data, _ in self.published if data["type"] == type]

    # What Python does

    def start(self) -> list[str]:
        self.calls.append(("start",))
        return ["http://127.0.0.1:8000"]

    def fileno(self) -> int:
        return self._reader

    def drain(self, limit: int) -> list[tuple[Any, ...]]:
        batch = [self.events.popleft() for _ in range(min(limit, len(self.events)))]
        if not self.events:
            os.set_blocking(self._reader, False)
            with contextlib.suppress(BlockingIOError):
                os.read(self._reader, 4096)
        return batch

    def publish(self, channel: str, data: bytes, key: str | None = None) -> FakePosition:
        self.published.append((channel, orjson.loads(data), key))
        return FakePosition("e", len(self.published))

    def send(self, client: int, data: bytes, key: str | None = None) -> FakePosition | None:
        if client in self.gone:
            return None
        self.sent.append((client, orjson.loads(data)))
        return FakePosition("p", len(self.sent))

    def reply(self, client: int, message: bytes) -> bool:
        self.replies.append((client, orjson.loads(message)))
        return client not in self.gone

    def fault(self, client: int, message: bytes) -> bool:
        return self.reply(client, message)

    def send_text(self, client: int, text: str) -> int | None:
        self.calls.append(("send_text", client, text))
        return None if client in self.gone else self.waiting

    def send_binary(self, client: int, data: bytes) -> int | None:
        self.calls.append(("send_binary", client, data))
        return None if client in self.gone else self.waiting

    def __getattr__(self, name: str) -> Any:
        if name not in ("admit", "close", "subscribe", "unsubscribe", "answer", "pause", "resume"):
            raise AttributeError(name)

        def call(client: int, *arguments: Any) -> bool:
            self.calls.append((name, client, *arguments))
            return client not in self.gone

        return call

    def stats(self, log_lines_dropped: int) -> str:
        return "stats"

    def stop(self, within: float) -> None:
        self.calls.append(("stop", within))
        if self.stops and len(self.named("stop")) == 1:
            self.put(_core.STOPPED)

    def join(self, timeout: float) -> bool:
        self.calls.append(("join", timeout))
        return True

"""A client of event streams for tests. It reads chunks and events as strictly as the standards allow."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import orjson
from umbel import Server

PATH = "/api/v1/stream"


@dataclass
class Event:
    """One event. `name` is `message` when the event has none, `data` is decoded."""

    name: str
    id: str | None
    data: Any


@dataclass
class Parser:
    """Makes events of the text of a stream (HTML standard, 9.2.6), which may come in any parts."""

    events: list[Event] = field(default_factory=list)
    comments: int = 0
    retry: int | None = None
    last_id: str = ""
    _rest: str = ""
    _fields: dict[str, str] = field(default_factory=dict)

    def feed(self, text: str) -> list[Event]:
        """The events that are whole now."""
        lines = (self._rest + text).split("\n")
        self._rest = lines.pop()
        made = []
        for line in lines:
            assert not set("\r\0") & set(line), repr(line)
            if not line:
                made += self._dispatch()
            elif line.startswith(":"):
                self.comments += 1
            else:
                name, _, value = line.partition(": ")
                assert name in ("event", "id", "data", "retry"), line
                assert name not in self._fields, "one line for each field"
                self._fields[name] = value
        self.events += made
        return made

    def _dispatch(self) -> list[Event]:
        fields, self._fields = self._fields, {}
        if "retry" in fields:
            self.retry = int(fields["retry"])
        if "data" not in fields:
            assert "id" not in fields, "an id stands with the event that moves it"
            return []
        self.last_id = fields.get("id", self.last_id)
        return [Event(fields.get("event", "message"), fields.get("id"), orjson.loads(fields["data"]))]


class EventStream:
    """One response. `body` takes the chunks apart, and ends with the last one."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self.status = 0
        self.headers: dict[str, str] = {}
        self.parser = Parser()
        self.patience = 10.0  # seconds in which something has to come
        self.ended = False
        self._waiting: list[Event] = []

    async def read_head(self) -> None:
        async with asyncio.timeout(10):
            head = (await self._reader.readuntil(b"\r\n\r\n")).decode()
        first, *lines = head.strip().split("\r\n")
        self.status = int(first.split(" ")[1])
        self.headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}

    async def _read(self) -> bytes:
        """The next part of the body; nothing at its end."""
        async with asyncio.timeout(self.patience):
            if self.headers.get("transfer-encoding") != "chunked":
                return await self._reader.read(65536)
            length = int(await self._reader.readuntil(b"\r\n"), 16)
            chunk = await self._reader.readexactly(length + 2)
            assert chunk.endswith(b"\r\n")
            if length == 0:
                assert await self._reader.read() == b"", "nothing comes after the last chunk"
            return chunk[:-2]

    async def body(self) -> bytes:
        """All that is left."""
        parts = [part async for part in aiter_until(self._read, b"")]
        return b"".join(parts)

    async def hear(self, name: str | None = None) -> Event:
        """The next event, of a name if one is given. Fails at the end of the stream."""
        while True:
            while self._waiting:
                event = self._waiting.pop(0)
                if name is None or event.name == name:
                    return event
            part = await self._read()
            assert part, f"the stream has ended, without {name}: {self.parser.events[-5:]}"
            self._waiting += self.parser.feed(part.decode())

    def put_back(self, events: list[Event]) -> None:
        """Let them be heard once more, before all that has come since."""
        self._waiting[:0] = events

    async def updates(self, count: int) -> list[Any]:
        """So many updates, out of their batches."""
        found: list[Any] = []
        while len(found) < count:
            found += (await self.hear("message")).data["updates"]
        assert len(found) == count, found
        return found

    async def end(self) -> list[Event]:
        """The events up to the end of the stream."""
        while part := await self._read():
            self._waiting += self.parser.feed(part.decode())
        self.ended = True
        return self._waiting

    def cut(self) -> None:
        """Break the connection off."""
        self._writer.transport.abort()

    async def send(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()


async def aiter_until(read: Any, last: bytes) -> AsyncIterator[bytes]:
    while (part := await read()) != last:
        yield part


def request_of(
    target: str, headers: dict[str, str] | None = None, method: str = "GET", version: str = "1.1"
) -> bytes:
    lines = [f"{method} {target} HTTP/{version}"]
    lines += [f"{name}: {value}" for name, value in {"Host": "localhost", **(headers or {})}.items()]
    return "\r\n".join([*lines, "", ""]).encode()


@asynccontextmanager
async def stream(
    server: Server | tuple[str, int],
    target: str,
    headers: dict[str, str] | None = None,
    *,
    last_id: str | None = None,
    **options: str,
) -> AsyncIterator[EventStream]:
    """Ask for a stream, and read the head of the response. A target may leave the usual path out."""
    if isinstance(server, tuple):
        address = server
    else:
        host, _, port = server.url.removeprefix("http://").rpartition(":")
        address = (host, int(port))
    headers = dict(headers or {}) | ({} if last_id is None else {"Last-Event-ID": last_id})
    if not target.startswith("/"):
        target = f"{PATH}{target}" if target.startswith("?") else f"{PATH}/{target}"
    reader, writer = await asyncio.open_connection(*address, limit=1 << 24)
    try:
        writer.write(request_of(target, headers, **options))
        it = EventStream(reader, writer)
        await it.read_head()
        yield it
    finally:
        writer.transport.abort()

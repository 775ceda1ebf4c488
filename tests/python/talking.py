"""A client whose session is on a stream: it reads one response, and posts lists on another connection."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import orjson
from calling import Program, Response, program
from streams import Event, EventStream
from umbel import Server
from wire import Wire

SESSION = "/api/v1/session"
MESSAGES = f"{SESSION}/messages"
JSON = {"Content-Type": "application/json"}


class Talk:
    """One stream, with what is posted to it."""

    def __init__(self, events: EventStream, first: dict[str, Any]) -> None:
        self.events, self.first = events, first
        self.caller: Program | None = None
        self.greeting: Any = None
        self.token = ""
        self.attempt = self.number = 0
        self._updates: list[Any] = []

    def _message(self, event: Event) -> Any:
        """The message of an event, whose name says its type."""
        message = event.data
        usual = {"batched_updates": "message", "error": "server_error"}
        assert event.name == usual.get(message["type"], message["type"])
        assert event.id is None
        return message

    async def hear(self, type: str | None = None) -> Any:
        """The next message, of a type if one is given. Batches come update by update, as type `update`."""
        while True:
            while self._updates:
                update = self._updates.pop(0)
                if type in (None, "update"):
                    return update
            message = self._message(await self.events.hear())
            if message["type"] == "batched_updates":
                assert message["count"] == len(message["updates"])
                self._updates = [{"type": "update", **update} for update in message["updates"]]
            elif type in (None, message["type"]):
                return message

    async def hear_greeting(self) -> None:
        self.greeting = await self.hear()
        assert self.greeting["type"] == "connection_established"
        self.token = self.greeting["session"]["token"]
        self.attempt = self.first["attempt"] if self.greeting.get("resumed") else 0

    async def say(self, type: str, **fields: Any) -> None:
        """Post a list of one message, and expect that it is taken."""
        await self.say_all({"type": type, **fields})

    async def say_all(self, *messages: Any) -> None:
        """Post a list of messages, and expect that it is taken."""
        response = await self.post(*messages)
        assert (response.status, response.body) == (202, b""), response
        assert response.kept

    async def post(self, *messages: Any, **fields: Any) -> Response:
        """Post the next list on the connection for that, or one with these fields."""
        assert self.caller
        if "number" not in fields:
            self.number += 1
        return await post(self.caller, self.token, self.list_of(*messages, **fields))

    async def body(self) -> bytes:
        """The body of a response that is no stream."""
        async with asyncio.timeout(10):
            return await self.events._reader.readexactly(int(self.events.headers["content-length"]))

    def list_of(self, *messages: Any, **fields: Any) -> dict[str, Any]:
        """The body of the newest list, or of one with these fields."""
        return {"attempt": self.attempt, "number": self.number, "messages": messages, **fields}

    async def part(self) -> list[Any]:
        """The messages of a part, up to its end."""
        messages = [self._message(event) for event in await self.events.end()]
        assert messages.pop() == {"type": "part_ended"}, messages
        return messages

    async def closed(self) -> tuple[int, bool]:
        """The code of the last event, after which the stream ends, and whether to come back."""
        last = (await self.events.end())[-1]
        message = self._message(last)
        assert set(message) == {"type", "code", "reason", "reconnect"}
        assert message["type"] == "closed"
        return message["code"], message["reconnect"]


async def post(caller: Program, token: str, body: Any, **headers: str) -> Response:
    """Post a list of messages, or bytes in place of one."""
    return await caller.post(body, MESSAGES, Authorization=f"Umbel-Session {token}", **headers)


@asynccontextmanager
async def asked(
    server: Server | tuple[str, int],
    first: Any,
    headers: dict[str, str] | None = None,
    version: str = "1.1",
) -> AsyncIterator[Talk]:
    """Ask for a stream with a first message, or bytes in its place, and read the head of the response."""
    if isinstance(server, tuple):
        address = server
    else:
        host, _, port = server.url.removeprefix("http://").rpartition(":")
        address = (host, int(port))
    body = first if isinstance(first, bytes) else orjson.dumps(first)
    headers = {"Host": "127.0.0.1", **JSON, "Content-Length": str(len(body)), **(headers or {})}
    lines = [f"POST {SESSION} HTTP/{version}", *(f"{name}: {value}" for name, value in headers.items())]
    reader, writer = await asyncio.open_connection(*address, limit=1 << 24)
    try:
        writer.write("\r\n".join([*lines, "", ""]).encode() + body)
        events = EventStream(reader, writer)
        await events.read_head()
        yield Talk(events, {} if isinstance(first, bytes) else first)
    finally:
        writer.transport.abort()


@asynccontextmanager
async def talk(server: Server, first: Any, headers: dict[str, str] | None = None) -> AsyncIterator[Talk]:
    """A client that is let in, and has a connection on which it posts."""
    async with AsyncExitStack() as stack:
        it = await stack.enter_async_context(asked(server, first, headers))
        assert it.events.status == 200
        await it.hear_greeting()
        it.caller = await stack.enter_async_context(program(server))
        yield it


@asynccontextmanager
async def begun(server: Server, headers: dict[str, str] | None = None, **fields: Any) -> AsyncIterator[Talk]:
    """A new session."""
    async with talk(server, {"type": "authenticate", **fields}, headers) as it:
        yield it


@asynccontextmanager
async def resumed(
    server: Server, of: Talk | Wire, attempt: int, headers: dict[str, str] | None = None, **fields: Any
) -> AsyncIterator[Talk]:
    """A stream that asks for the session of another connection."""
    async with talk(server, again(of, attempt, **fields), headers) as it:
        yield it


def again(of: Talk | Wire, attempt: int, **fields: Any) -> dict[str, Any]:
    """The first message of a client that comes back."""
    session = of.greeting["session"]["token"]
    return {"type": "resume", "session": session, "attempt": attempt, "positions": {}, **fields}


async def refusal(server: Server, first: Any, headers: dict[str, str] | None = None) -> tuple[int, Any]:
    """Status and message of a response that is no stream."""
    async with asked(server, first, headers) as it:
        assert it.events.headers["content-type"] == "application/json"
        return it.events.status, orjson.loads(await it.body())


async def refused(server: Server, first: Any, headers: dict[str, str] | None = None) -> tuple[int, str, int]:
    """Status, code of the error (or nothing), and close code of a stream that is refused."""
    async with asked(server, first, headers) as it:
        assert it.events.headers["content-type"] == "text/event-stream"
        code, _ = await it.closed()
        errors = [event.data["code"] for event in it.events.parser.events if event.name == "server_error"]
        return it.events.status, " ".join(errors), code

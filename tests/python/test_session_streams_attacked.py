"""Clients of sessions on streams that do what nobody should, and others that must not notice."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import orjson
import pytest
from calling import Program, program
from streams import EventStream
from umbel import Client, Message, Server, Umbel

SESSION = "/api/v1/session"
MESSAGES = f"{SESSION}/messages"
JSON = {"Content-Type": "application/json"}
KIB = 1 << 10

HELD_UP: list[Any] = [{"type": "ask", "id": number} for number in range(100)]
"""More than a client may have under way."""


class Application:
    """Answers nothing before it is let."""

    def __init__(self, **settings: Any) -> None:
        self.app = Umbel(**settings)
        self.gate, self.asked = asyncio.Event(), 0
        self.clients: list[Client] = []
        self.gone: list[int] = []
        self.app.on("ask")(self.ask)
        self.app.on_connect(self.clients.append)
        self.app.on_disconnect(lambda client, code, reason: self.gone.append(code))

    async def ask(self, client: Client, message: Message) -> None:
        self.asked += 1
        await self.gate.wait()

    @asynccontextmanager
    async def serve(self, **options: Any) -> AsyncIterator[Server]:
        async with self.app.serve(port=0, **options) as server:
            yield server
            self.gate.set()


class Session:
    """A session, and its stream."""

    def __init__(self, events: EventStream) -> None:
        self.events, self.token = events, ""

    def next_part(self, part: int) -> dict[str, Any]:
        return {"type": "resume", "session": self.token, "attempt": 0, "part": part, "positions": {}}

    def send(self, caller: Program, body: Any, **headers: str) -> None:
        """Post a list, or the beginning of one as bytes, whose length is then to be named."""
        data = body if isinstance(body, bytes) else orjson.dumps({"attempt": 0, "number": 1, **body})
        shown = {"Content-Length": str(len(data)), "Authorization": f"Umbel-Session {self.token}"}
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        caller.send(f"POST {MESSAGES}", JSON | shown | named, data)

    async def post(self, caller: Program, body: Any, **headers: str) -> int:
        """Post a list; returns the status."""
        self.send(caller, body, **headers)
        return (await caller.hear()).status


@asynccontextmanager
async def asked(server: Server, first: Any, version: str = "1.1", **headers: str) -> AsyncIterator[Session]:
    """Ask for a stream."""
    host, _, port = server.url.removeprefix("http://").rpartition(":")
    body = orjson.dumps(first)
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    fields = {"Host": "127.0.0.1", **JSON, "Content-Length": str(len(body)), **named}
    lines = [f"POST {SESSION} HTTP/{version}", *(f"{name}: {value}" for name, value in fields.items())]
    reader, writer = await asyncio.open_connection(host, int(port), limit=1 << 24)
    try:
        writer.write("\r\n".join([*lines, "", ""]).encode() + body)
        events = EventStream(reader, writer)
        await events.read_head()
        yield Session(events)
    finally:
        writer.transport.abort()


@asynccontextmanager
async def begun(server: Server, part: int | None = None, **headers: str) -> AsyncIterator[Session]:
    """A new session. If it comes in parts, its first one has ended."""
    first = {"type": "authenticate"} | ({} if part is None else {"part": part})
    async with asked(server, first, **headers) as it:
        assert it.events.status == 200
        it.token = (await it.events.hear("connection_established")).data["session"]["token"]
        if part is not None:
            assert (await it.events.end())[-1].name == "part_ended"
        yield it


async def until(holds: Any) -> None:
    async with asyncio.timeout(10):
        while not holds():
            await asyncio.sleep(0.01)


# Copies of a request


async def test_the_connection_of_a_copy_that_gives_way_takes_the_next_request() -> None:
    async with Application().serve() as server, begun(server) as it, AsyncExitStack() as stack:
        copies = [await stack.enter_async_context(program(server)) for _ in range(4)]
        for caller in copies:
            it.send(caller, {"messages": HELD_UP})
            await asyncio.sleep(0.5)
        response = await copies[0].hear()
        assert (response.status, response.kept) == (503, True)
        assert await it.post(copies[0], {"number": 3, "messages": []}) == 409


async def test_a_copy_whose_client_is_gone_is_noticed_and_nobody_in_its_place_gives_way() -> None:
    application = Application()
    async with application.serve(shards=1) as server, begun(server) as it, begun(server) as other:
        async with program(server) as caller:
            it.send(caller, {"messages": HELD_UP})
            await until(lambda: application.asked)
            before = server.stats().connections
        # Nothing says so but its socket.
        await until(lambda: server.stats().connections < before)
        async with program(server) as successor, AsyncExitStack() as stack:
            body = orjson.dumps({"attempt": 0, "number": 1, "messages": []})
            other.send(successor, body[:5], Content_Length=str(len(body)))
            await asyncio.sleep(0.1)
            for _ in range(3):
                it.send(await stack.enter_async_context(program(server)), {"messages": HELD_UP})
                await asyncio.sleep(0.1)
            successor.writer.write(body[5:])
            assert (await successor.hear()).status == 202


# Room


async def test_those_who_fill_the_room_for_what_waits_do_not_keep_others_out() -> None:
    limits = {"max_message": 256 * KIB, "max_held_bytes": 640 * KIB}
    application = Application(**limits)
    long = [{"type": "ask", "id": number, "data": "x" * 2 * KIB} for number in range(110)]
    async with application.serve() as server, begun(server) as it, AsyncExitStack() as stack:
        for number in range(3):
            hog = await stack.enter_async_context(begun(server))
            hog.send(await stack.enter_async_context(program(server)), {"messages": long})
            await until(lambda number=number: application.asked > number)
        caller = await stack.enter_async_context(program(server))
        little = [{"type": "heartbeat", "id": number} for number in range(9)]
        assert await it.post(caller, {"messages": little}) == 202
        one = [{"type": "heartbeat", "more": "x" * 100 * KIB}]
        assert await it.post(caller, {"number": 2, "messages": one}) == 202
        it.send(caller, {"number": 3, "messages": one * 2})
        application.gate.set()
        assert (await caller.hear()).status == 202


async def test_a_long_list_goes_on_when_functions_have_ended_that_had_all_room() -> None:
    application = Application(max_message=256 * KIB, max_held_bytes=640 * KIB)
    async with application.serve() as server, begun(server) as it, AsyncExitStack() as stack:
        full = False
        while not full:
            other = await stack.enter_async_context(begun(server))
            caller = await stack.enter_async_context(program(server))
            other.send(caller, {"messages": [{"type": "ask", "data": "x" * 20 * KIB}]})
            try:
                async with asyncio.timeout(1):
                    await caller.hear()
            except TimeoutError:
                full = True
        caller = await stack.enter_async_context(program(server))
        it.send(caller, {"messages": [{"type": "heartbeat", "more": "x" * 100 * KIB}]})
        await asyncio.sleep(0.2)
        application.gate.set()
        async with asyncio.timeout(5):
            assert (await caller.hear()).status == 202


# Limits of connections


async def test_parts_do_not_get_round_the_limit_of_an_address() -> None:
    application = Application(max_connections_per_address=2)
    async with application.serve() as server, AsyncExitStack() as stack:
        it = await stack.enter_async_context(begun(server, part=1))
        async with program(server) as other:
            # With this one there are as many as may be.
            other.writer.write(b"GET ")
            await until(lambda: server.stats().connections == 2)
            following = await stack.enter_async_context(asked(server, it.next_part(2)))
            assert following.events.status == 200
        await until(lambda: server.stats().connections == 1)
        await stack.enter_async_context(begun(server))
        async with asked(server, {"type": "authenticate"}) as refused:
            assert refused.events.status == 429


@pytest.mark.parametrize("part", [None, 1])
async def test_an_address_that_has_all_its_connections_goes_on_behind_a_proxy(part: int | None) -> None:
    application = Application(max_connections_per_address=1, trusted_proxies=["127.0.0.1"])
    client = {"X_Forwarded_For": "203.0.113.9"}
    async with application.serve() as server, begun(server, part, **client) as it, AsyncExitStack() as stack:
        if part:
            following = await stack.enter_async_context(asked(server, it.next_part(2), **client))
            assert following.events.status == 200
        else:
            # The proxy keeps the connection, and brings requests of others on it.
            caller = await stack.enter_async_context(program(server))
            assert await it.post(caller, {"messages": []}, X_Forwarded_For="203.0.113.8") == 202
            await asyncio.sleep(1.5)
            assert await it.post(caller, {"number": 2, "messages": []}, **client) == 202
        async with asked(server, {"type": "authenticate"}, **client) as refused:
            assert refused.events.status == 429


@pytest.mark.parametrize("shards", [1, 2])
async def test_a_request_without_a_place_of_its_own_does_not_wait_for_long(shards: int) -> None:
    application = Application(max_connections=1)
    async with application.serve(shards=shards) as server, begun(server) as it:
        async with program(server) as one, program(server) as other:
            for caller in (one, other):
                it.send(caller, {"messages": HELD_UP})
            for caller in (one, other):
                assert (await caller.hear()).status == 503
        assert application.asked


# Parts


async def test_the_next_part_is_of_the_same_version_of_http() -> None:
    async with Application().serve() as server, begun(server, part=1) as it:
        async with asked(server, it.next_part(2), version="1.0") as other:
            assert other.events.status == 409
        async with asked(server, it.next_part(2)) as following:
            assert following.events.status == 200


async def test_a_client_ends_its_session_between_two_parts_whatever_waits_for_it() -> None:
    application = Application()
    async with application.serve() as server, begun(server, part=1) as it, program(server) as caller:
        application.clients[0].send("hello")
        await asyncio.sleep(0.2)
        assert await it.post(caller, {"number": 0, "end": True}) == 202
        await until(lambda: application.gone == [1000])
        await until(lambda: server.stats().connections == 1)


async def test_a_server_that_stops_does_not_wait_for_those_who_ask_for_no_part() -> None:
    application = Application(drain=60)
    async with asyncio.timeout(9), AsyncExitStack() as stack:
        server = await stack.enter_async_context(application.serve())
        it = await stack.enter_async_context(begun(server, part=1))
        closed = await stack.enter_async_context(begun(server, part=1))
        for client in application.clients:
            if client.id == closed.token.partition(".")[0]:
                client.close(4500, "enough")
        other = await stack.enter_async_context(begun(server, part=1))
        async with asked(server, other.next_part(2)) as following:
            stop = asyncio.create_task(stack.pop_all().aclose())
            last = (await following.events.end())[-1]
            assert (last.name, last.data["code"]) == ("closed", 1012)
        await stop
    assert sorted(application.gone) == [1012, 1012, 4500]
    assert it.token


# Strangers


@pytest.mark.parametrize("what", ["lists", "parts", "sessions", "other methods"])
async def test_strangers_do_not_stay_in_a_full_server(what: str) -> None:
    application = Application(max_connections=2)
    async with application.serve() as server, begun(server) as it, AsyncExitStack() as stack:
        await stack.enter_async_context(begun(server))
        it.token = f"{'0' * 16}.{'0' * 32}"
        for _ in range(20):
            caller = await stack.enter_async_context(program(server))
            if what == "lists":
                assert await it.post(caller, {"messages": []}) == 404
            elif what == "other methods":
                assert (await caller.get(SESSION)).status == 405
            else:
                first = it.next_part(2) if what == "parts" else {"type": "authenticate"}
                assert (await caller.post(first, SESSION)).status == (404 if what == "parts" else 429)
            await until(lambda: server.stats().connections == 2)


@pytest.mark.parametrize("shards", [1, 2])
async def test_nobody_sends_a_long_body_without_a_session(shards: int) -> None:
    async with Application().serve(shards=shards) as server, begun(server) as it, AsyncExitStack() as stack:
        right = it.token
        client_id = right.partition(".")[0]
        for token in ("", "x", f"{'0' * 16}.{'0' * 32}", f"{client_id}.{'0' * 32}"):
            it.token = token
            for _ in range(shards):
                caller = await stack.enter_async_context(program(server))
                it.send(caller, b"{", Content_Length="100000", Expect="100-continue")
                response = await caller.hear()
                assert (response.status, response.kept) == (404, False)
        it.token = right
        for _ in range(shards):
            caller = await stack.enter_async_context(program(server))
            it.send(caller, b"", Content_Length="43", Expect="100-continue")
            assert await caller.hear_continue() == "HTTP/1.1 100 Continue"
            await stack.enter_async_context(program(server))

"""Streams of sessions that come in parts, for proxies that pass a response on only when it has ended."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import coming_back
import pytest
from calling import Program, program
from coming_back import until
from looping import on_loops
from talking import Talk, again, asked, begun, post, refusal, resumed
from test_session_stream_ends import END, Life
from test_session_stream_lists import ASKS, Asked
from umbel import Server, Umbel


class Parted:
    """A client whose stream comes in parts: it asks for one after another."""

    def __init__(self, server: Server, caller: Program, first: dict[str, Any]) -> None:
        self.server, self.caller, self.first = server, caller, first
        self.greeting: Any = None
        self.token = ""
        self.attempt = self.number = 0
        self.part = 0
        self.comments = 0

    def wants(self, part: int | None = None, attempt: int | None = None) -> dict[str, Any]:
        """What asks for the next part, or for another one."""
        attempt = self.attempt if attempt is None else attempt
        return again(self, attempt, part=self.part + 1 if part is None else part)  # type: ignore[arg-type]

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Talk]:
        """The next part, while it is not over."""
        async with asked(self.server, self.first if self.part == 0 else self.wants()) as it:
            assert it.events.status == 200
            assert it.events.headers["content-type"] == "text/event-stream"
            self.part += 1
            yield it
        self.comments += it.events.parser.comments

    async def next(self) -> list[Any]:
        """All of the next part. Updates are taken out of their batches."""
        async with self.open() as it:
            messages = await it.part()
        if self.part == 1:
            self.greeting = messages.pop(0)
            assert self.greeting["type"] == "connection_established"
            self.token = self.greeting["session"]["token"]
            self.attempt = self.first["attempt"] if self.greeting.get("resumed") else 0
        found = []
        for message in messages:
            updates = message.get("updates", [message])
            found += [{"type": "update", **it} if it is not message else it for it in updates]
        return found

    async def hear(self, kind: str, count: int = 1) -> list[Any]:
        """So many messages of a type, out of as many parts as they take."""
        found: list[Any] = []
        while len(found) < count:
            found += [message for message in await self.next() if message["type"] == kind]
        assert len(found) == count
        return found

    async def say(self, *messages: Any) -> None:
        self.number += 1
        body = {"attempt": self.attempt, "number": self.number, "messages": messages}
        assert (await post(self.caller, self.token, body)).status == 202


@asynccontextmanager
async def parted(server: Server, first: dict[str, Any] | None = None) -> AsyncIterator[Parted]:
    """A client that has heard the first part. It ends its session at last."""
    async with program(server) as caller:
        it = Parted(server, caller, {"part": 1, **(first or {"type": "authenticate"})})
        await it.next()
        yield it
    with contextlib.suppress(OSError, asyncio.IncompleteReadError):
        async with program(server) as caller:
            assert (await post(caller, it.token, {"attempt": it.attempt, "end": True})).status < 500


@on_loops
async def test_what_is_said_between_two_parts_is_in_the_next_one() -> None:
    asked = Asked()
    life = Life(asked.app)
    async with asked.app.serve(port=0) as server, parted(server) as it:
        said = asyncio.create_task(
            it.say({"type": "subscribe_updates", "channel": "room:a", "id": 1}, *ASKS[:3])
        )
        await asyncio.sleep(0.05)
        kinds = [message["type"] for message in await it.next()]
        assert kinds == ["subscription_established", *["ask_result"] * 3]
        await said
        for turn in range(5):
            for number in range(20):
                asked.app.publish("room:a", [turn, number])
            life.clients[0].send(turn)
            heard = await it.hear("update", 21)
            assert [at["data"] for at in heard if at["channel"] == "room:a"] == [[turn, n] for n in range(20)]
            assert [at["data"] for at in heard if at["channel"] != "room:a"] == [turn]
        async with it.open() as later:
            await it.say(ASKS[3])
            assert (await later.hear("ask_result"))["data"] == [3], "it is written at once"
            assert await later.part() == [], "and the part ends soon"
        assert not life.noted
        assert (await post(it.caller, it.token, END)).status == 202
        await until(lambda: life.noted)
        assert life.noted == ["disconnect 1000"]


@pytest.mark.parametrize("shards", [1, 3])
async def test_parts_are_taken_in_their_order_and_once(shards: int) -> None:
    asked = Asked()
    async with asked.app.serve(port=0, shards=shards) as server, parted(server) as it:
        for turn in range(4):
            for part in (it.part, it.part + 2, 2**53 - 1):
                if part > 1:
                    status, error = await refusal(server, it.wants(part))
                    assert (status, error["code"], error["details"]) == (409, "superseded", {"attempt": 0})
            status, error = await refusal(server, it.wants(attempt=3))
            assert (status, error["details"]) == (409, {"attempt": 0})
            async with it.open() as open_part:
                status, error = await refusal(server, it.wants())
                assert (status, error["details"]) == (409, {"attempt": 0}), "this one is not over"
                await it.say({"type": "heartbeat", "id": turn})
                assert (await open_part.hear("heartbeat_ack"))["id"] == turn
                assert await open_part.part() == []


async def test_there_are_no_parts_of_another_stream() -> None:
    asked_for = Asked()
    clients: list[Any] = []
    asked_for.app.on_connect(clients.append)
    async with asked_for.app.serve(port=0) as server:
        async with begun(server) as whole:
            for part in (2, 3):
                status, error = await refusal(server, again(whole, 0, part=part))
                assert (status, error["details"]) == (409, {"attempt": 0})
            await whole.say("heartbeat", id=1)
            assert (await whole.hear("heartbeat_ack"))["id"] == 1
        async with coming_back.begun(server) as socket:
            status, error = await refusal(server, again(socket, 0, part=2))
            assert (status, error["details"]) == (409, {"attempt": 0})
            await socket.say("heartbeat", id=2)
            assert (await socket.hear("heartbeat_ack"))["id"] == 2
        count = len(clients)
        for token in ("nobody", whole.token[:-4] + "AAAA", ""):
            first = {"type": "resume", "session": token, "attempt": 1, "part": 2, "positions": {}}
            assert (await refusal(server, first))[0] == 404, "and no new session begins"
        async with asked(server, {"type": "authenticate", "part": 2}) as refused:
            assert refused.events.status == 400
        assert len(clients) == count


async def test_a_session_goes_on_when_a_part_breaks_off_or_is_not_asked_for() -> None:
    asked = Asked()
    life = Life(asked.app)
    async with asked.app.serve(port=0) as server, parted(server) as it:
        async with it.open():
            pass
        await until(lambda: life.noted == ["away 1006"])
        status, error = await refusal(server, it.wants())
        assert (status, error["details"]) == (409, {"attempt": 0})
        async with parted(server, again(it, 1)) as later:  # type: ignore[arg-type]
            assert later.greeting["resumed"] is True
            await later.say(ASKS[0])
            assert (await later.hear("ask_result"))[0]["data"] == [0]
            server._core.advance_clock(9)
            await later.say(ASKS[1])
            await later.hear("ask_result")
            life.noted.clear()
            server._core.advance_clock(11)
            await until(lambda: life.noted == ["away 1006"])
            body = {"attempt": 1, "number": 3, "messages": []}
            assert (await post(later.caller, later.token, body)).body["details"] == {"attempt": 1}
            status, error = await refusal(server, later.wants())
            assert (status, error["details"]) == (409, {"attempt": 1}), "ten seconds are over"
            async with resumed(server, later, 2) as whole:  # type: ignore[arg-type]
                assert whole.greeting["resumed"] is True
                await whole.say_all(ASKS[2])
                assert (await whole.hear("ask_result"))["data"] == [2]


async def test_a_part_without_anything_to_say_ends_after_a_while() -> None:
    asked = Asked()
    async with asked.app.serve(port=0) as server, parted(server) as it:
        async with it.open() as silent:
            ended = asyncio.create_task(silent.part())
            await asyncio.sleep(0.3)
            assert not ended.done()
            server._core.advance_clock(15)
            assert await ended == []
        async with program(server) as it.caller:
            await it.say(ASKS[0])
        assert (await it.hear("ask_result"))[0]["data"] == [0]


@pytest.mark.parametrize("shards", [1, 3])
async def test_what_closes_a_client_between_two_parts_is_said_in_the_next_one(shards: int) -> None:
    app = Umbel()
    life = Life(app)
    async with app.serve(port=0, shards=shards) as server:
        for code, back in ((4500, False), (4100, True)):
            life.noted.clear()
            async with parted(server) as it:
                await until(lambda: life.clients)
                life.clients.pop().close(code, "enough")
                await until(lambda: life.noted)
                assert life.noted == [f"disconnect {code}"]
                async with it.open() as last:
                    assert await last.closed() == (code, back)
                assert (await refusal(server, it.wants()))[0] == 404


@pytest.mark.parametrize("shards", [1, 3])
async def test_another_connection_takes_the_session_between_two_parts(shards: int) -> None:
    asked = Asked()
    async with (
        asked.app.serve(port=0, shards=shards) as server,
        parted(server) as it,
        coming_back.resumed(server, it, 6) as socket,  # type: ignore[arg-type]
    ):
        assert socket.greeting["resumed"] is True
        status, error = await refusal(server, it.wants())
        assert (status, error["details"]) == (409, {"attempt": 6})
        async with parted(server, again(it, 7)) as other:  # type: ignore[arg-type]
            assert (await coming_back.closed(socket))[0] == 4502
            for _ in range(2):
                status, error = await refusal(server, it.wants())
                assert (status, error["details"]) == (409, {"attempt": 7})
            async with other.open():
                status, error = await refusal(server, it.wants())
                assert (status, error["details"]) == (409, {"attempt": 7}), "its part is open"


async def test_a_part_that_is_open_is_told_that_another_connection_has_the_session() -> None:
    asked = Asked()
    async with (
        asked.app.serve(port=0) as server,
        parted(server) as it,
        it.open() as part,
        resumed(server, it, 1),  # type: ignore[arg-type]
    ):
        assert await part.closed() == (4502, False)


async def test_a_client_that_is_refused_hears_it_in_the_first_part() -> None:
    app = Umbel()

    @app.authenticate
    def who(request: Any) -> str | None:
        return None

    async with app.serve(port=0) as server, asked(server, {"type": "authenticate", "part": 1}) as it:
        assert it.events.status == 401
        assert await it.closed() == (4401, True)


async def test_a_server_that_stops_says_so_in_a_part() -> None:
    asked = Asked()
    server = asked.app.serve(port=0, drain=1)
    async with server, parted(server) as it, parted(server) as away, it.open() as part:
        server.stop()
        assert (await part.hear("reconnect"))["type"] == "reconnect"
        last = (await part.events.end())[-1].data
        assert last["type"] in ("part_ended", "closed")
        del away


async def test_a_client_that_is_between_two_parts_holds_up_no_stop() -> None:
    app = Umbel()
    clients: list[Any] = []
    app.on_connect(clients.append)
    async with asyncio.timeout(5):
        server = app.serve(port=0, drain=60)
        async with server:
            for ends in (False, True):
                async with asked(server, {"type": "authenticate", "part": 1}) as it:
                    await it.part()
                if ends:
                    await until(lambda: len(clients) == 2)
                    clients[1].close(4500, "its last words wait for nobody")


async def test_the_version_of_http_is_that_of_the_first_part() -> None:
    asked_for = Asked()
    async with asked_for.app.serve(port=0) as server:
        for first, other in (("1.1", "1.0"), ("1.0", "1.1")):
            async with asked(server, {"type": "authenticate", "part": 1}, version=first) as it:
                greeting = (await it.part())[0]
            wanted = {
                "type": "resume",
                "session": greeting["session"]["token"],
                "attempt": 0,
                "positions": {},
            }
            async with asked(server, {**wanted, "part": 2}, version=first) as it, program(server) as caller:
                assert it.events.status == 200
                body = {"attempt": 0, "number": 1, "messages": ASKS[:1]}
                assert (await post(caller, wanted["session"], body)).status == 202
                assert [message["data"] for message in await it.part()] == [[0]]
            async with asked(server, {**wanted, "part": 3}, version=other) as it:
                assert it.events.status == 409, "the client comes back with another attempt"
            async with asked(server, {**wanted, "attempt": 1, "part": 1}, version=other) as it:
                assert (await it.part())[0]["resumed"] is True

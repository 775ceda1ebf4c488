"""Sessions on streams end, wait, and go from one connection to another."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import Any

import coming_back
import pytest
from calling import program
from coming_back import until
from looping import on_loops
from talking import Talk, begun, post, resumed
from test_session_stream_lists import ASKS, WAITS, Asked, answers
from umbel import Client, Server, Umbel

END = {"attempt": 0, "end": True}


class Life:
    """Notes what an application is told of its clients."""

    def __init__(self, app: Umbel) -> None:
        self.noted: list[str] = []
        self.clients: list[Client] = []
        app.on_connect(self.clients.append)
        app.on_away(lambda client, code, reason: self.noted.append(f"away {code}"))
        app.on_back(lambda client: self.noted.append("back"))
        app.on_disconnect(lambda client, code, reason: self.noted.append(f"disconnect {code}"))


@on_loops
async def test_a_client_ends_its_session() -> None:
    asked = Asked()
    life = Life(asked.app)
    async with asked.app.serve(port=0) as server, begun(server) as it, program(server) as other:
        await it.say_all(*ASKS[:3])
        response = await post(other, it.token, END)
        assert (response.status, response.body) == (202, b"")
        rest = await it.events.end()
        assert rest[-1].name in ("ask_result", "closed")
        await until(lambda: life.noted)
        assert life.noted == ["disconnect 1000"]
        for body in (END, it.list_of(*ASKS[:3]), it.list_of(number=2)):
            response = await post(other, it.token, body)
            assert (response.status, response.body["code"]) == (404, "session_lost")
        async with resumed(server, it, 1) as anew:
            assert (anew.greeting["resumed"], anew.greeting["reason"]) == (False, "unknown")


@on_loops
async def test_an_end_waits_for_nothing() -> None:
    asked = Asked(max_running=2)
    life = Life(asked.app)
    async with asked.app.serve(port=0) as server, begun(server) as it, program(server) as other:
        sent = asyncio.create_task(it.post(*WAITS))
        await until(lambda: asked.order)
        await asyncio.sleep(0.1)
        assert (await post(other, it.token, END)).status == 202
        assert (await sent).status in (404, 409)
        await it.events.end()
        assert len(asked.order) < 100, "what was not acted on is dropped"
        asked.may_answer.set()
        await until(lambda: life.noted)
        assert life.noted == ["disconnect 1000"]


@pytest.mark.parametrize("shards", [1, 3])
async def test_an_end_counts_when_its_stream_has_just_ended_and_none_of_a_former_attempt_does(
    shards: int,
) -> None:
    app = Umbel()
    life = Life(app)
    async with app.serve(port=0, shards=shards) as server, begun(server) as it:
        async with resumed(server, it, 1) as later, program(server) as caller:
            response = await post(caller, it.token, END)
            assert (response.status, response.body["details"]) == (409, {"attempt": 1})
            await later.say("heartbeat", id=1)
            await later.hear("heartbeat_ack")
        async with coming_back.resumed(server, it, 2) as socket:  # type: ignore[arg-type]
            for attempt in (0, 1, 2):
                async with program(server) as caller:
                    response = await post(caller, it.token, {"attempt": attempt, "end": True})
                    assert (response.status, response.body["details"]) == (409, {"attempt": 2}), "a WebSocket"
            await socket.say("heartbeat", id=2)
            await socket.hear("heartbeat_ack")
            async with resumed(server, it, 3) as last:
                assert last.greeting["resumed"] is True
                life.noted.clear()
        await until(lambda: life.noted == ["away 1006"])
        async with program(server) as caller:
            assert (await post(caller, it.token, {"attempt": 2, "end": True})).status == 409
            assert (await post(caller, it.token, {"attempt": 3, "end": True})).status == 202
            await until(lambda: life.noted[1:] == ["disconnect 1000"])
            assert (await post(caller, it.token, {"attempt": 3, "end": True})).status == 404


@pytest.mark.parametrize("shards", [1, 3])
async def test_a_session_goes_between_websockets_and_streams(shards: int) -> None:
    asked = Asked()
    life = Life(asked.app)
    async with asked.app.serve(port=0, shards=shards) as server, AsyncExitStack() as stack:
        it: Any = await stack.enter_async_context(coming_back.begun(server))
        await it.say("subscribe_updates", channel="room:a")
        position = await it.hear("subscription_established")
        first, at = it, {"epoch": position["epoch"], "offset": 0}
        client = life.clients[0]
        for attempt in range(1, 13):
            asked.app.publish("room:a", attempt)
            client.send(attempt)
            await it.say("ask", data=attempt, id=attempt)
            assert (await it.hear("ask_result"))["id"] == attempt
            positions = {"positions": {"room:a": at, f"@{client.id}": None}}
            kind = resumed if attempt % 3 else coming_back.resumed
            former = it
            it = await stack.enter_async_context(kind(server, first, attempt, **positions))
            assert it.greeting["resumed"] is True
            assert it.greeting["clientId"] == client.id
            if isinstance(former, Talk):
                assert await former.closed() == (4502, False)
                response = await former.post({"type": "ask", "data": "late", "id": "late"})
                assert (response.status, response.body["details"]) == (409, {"attempt": attempt})
            else:
                assert (await coming_back.closed(former))[0] == 4502
            updates = [await it.hear("update") for _ in range(1 + attempt)]
            assert [update["data"] for update in updates if update["channel"] == "room:a"] == [attempt]
            direct = [update["data"] for update in updates if update["channel"] != "room:a"]
            assert direct == list(range(1, attempt + 1))
            at = {**at, "offset": attempt}
    assert asked.times == dict.fromkeys(range(1, 13), 1)
    assert len(life.clients) == 1


@pytest.mark.parametrize("shards", [1, 3])
async def test_lists_find_their_session_wherever_they_arrive(shards: int) -> None:
    asked = Asked()
    async with asked.app.serve(port=0, shards=shards) as server, AsyncExitStack() as stack:
        talks = [await stack.enter_async_context(begun(server)) for _ in range(6)]
        callers = [await stack.enter_async_context(program(server)) for _ in range(6)]
        for turn in range(6):
            for place, it in enumerate(talks):
                it.caller = callers[(turn + place) % len(callers)]
                await it.say("ask", data=f"{place} {turn}", id=turn)
                with_header = await post(it.caller, it.token, it.list_of(number=it.number + 5))
                assert with_header.body["details"] == {"expected": it.number + 1}
        for it in talks:
            assert await answers(it, 6) == list(range(6))

        # Many at once on one connection after another.
        async def one(it: Talk) -> None:
            async with program(server) as caller:
                it.number += 1
                assert (await post(caller, it.token, it.list_of(*ASKS[10:20]))).status == 202
                assert await answers(it, 10) == list(range(10, 20))

        await asyncio.gather(*map(one, talks))


@pytest.mark.parametrize("shards", [1, 3])
async def test_a_list_that_is_held_up_is_answered_when_another_connection_has_the_session(
    shards: int,
) -> None:
    asked = Asked(max_running=2)
    async with asked.app.serve(port=0, shards=shards) as server, begun(server) as it:
        sent = asyncio.create_task(it.post(*WAITS))
        await until(lambda: asked.order)
        async with coming_back.resumed(server, it, 1):  # type: ignore[arg-type]
            response = await sent
            assert (response.status, response.body["details"]) == (409, {"attempt": 1})
        asked.may_answer.set()


async def test_a_list_that_is_held_up_is_answered_when_its_stream_breaks_off() -> None:
    asked = Asked(max_running=2)
    async with asked.app.serve(port=0) as server, begun(server) as it:
        sent = asyncio.create_task(it.post(*WAITS))
        await until(lambda: asked.order)
        await asyncio.sleep(0.1)
        it.events.cut()
        response = await sent
        assert (response.status, response.body["code"]) == (409, "superseded")
        assert response.body["details"] == {"attempt": 0}
        asked.may_answer.set()


@on_loops
async def test_requests_that_were_cut_off_are_repeated_and_done_once() -> None:
    asked = Asked()
    async with asked.app.serve(port=0) as server, AsyncExitStack() as stack:
        it = await stack.enter_async_context(begun(server))
        heard: set[Any] = set()
        for attempt in range(1, 11):
            missing = [message for message in ASKS if message["id"] not in heard]
            for start in range(0, len(missing), 30):
                await it.say_all(*missing[start : start + 30])
            if attempt % 2:
                heard |= set(await answers(it, attempt))
            it.events.cut()
            it = await stack.enter_async_context(resumed(server, it, attempt))
            assert it.greeting["resumed"] is True
        missing = [message for message in ASKS if message["id"] not in heard]
        await it.say_all(*missing)
        while len(heard) < len(ASKS):
            heard |= set(await answers(it, 1))
    assert set(asked.times.values()) == {1} and len(asked.times) == 100


async def test_the_application_closes_a_client_and_the_stream_says_so() -> None:
    app = Umbel()
    life = Life(app)
    async with app.serve(port=0) as server:
        for code, back in ((4500, False), (1000, False), (4100, True), (4700, False)):
            async with begun(server) as it:
                await until(lambda: life.clients)
                life.clients.pop().close(code, "a\r\n\ndata: reason")
                last = (await it.events.end())[-1]
                assert last.data == {
                    "type": "closed",
                    "code": code,
                    "reason": "a\r\n\ndata: reason",
                    "reconnect": back,
                }
                response = await it.post(ASKS[0])
                assert (response.status, response.body["code"]) == (404, "session_lost")


async def test_a_server_that_stops_tells_its_streams_and_answers_what_waits() -> None:
    asked = Asked(max_running=2)
    life = Life(asked.app)
    server = asked.app.serve(port=0, drain=1, reconnect_window=0.5)
    async with server, begun(server) as it, begun(server) as quiet, program(server) as other:
        await quiet.say("heartbeat")
        await quiet.hear("heartbeat_ack")
        sent = asyncio.create_task(it.post(*WAITS))
        await until(lambda: asked.order)
        server.stop()
        assert (await quiet.hear("reconnect"))["within"] == 500
        assert await quiet.closed() == (1012, True)
        response = await sent
        assert response.status in (202, 404, 409, 503)
        del other
        asked.may_answer.set()
        assert await it.closed() == (1012, True)
    assert len(life.clients) == 2


async def test_a_client_that_does_not_come_back_is_gone() -> None:
    app = Umbel()
    life = Life(app)
    async with app.serve(port=0, session_ttl=0.2) as server:
        async with begun(server) as it:
            pass
        await until(lambda: len(life.noted) == 2)
        assert life.noted == ["away 1006", "disconnect 1006"]
        response = await refusal_of_list(server, it)
        assert response == (404, "session_lost")


async def refusal_of_list(server: Server, it: Talk) -> tuple[int, str]:
    async with program(server) as caller:
        response = await post(caller, it.token, it.list_of(number=1))
        return response.status, response.body["code"]

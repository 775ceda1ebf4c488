"""What is posted to a session on a stream: each list once, in order, and only to its stream."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import coming_back
import orjson
import pytest
from calling import program
from coming_back import until
from looping import on_loops
from talking import MESSAGES, Talk, begun, post, resumed
from umbel import Client, Message, Umbel

ASKS = [{"type": "ask", "data": n, "id": n} for n in range(100)]
WAITS = [{"type": "wait", "data": f"w{n}", "id": f"w{n}"} for n in range(100)]
ALL = {it["id"] for it in WAITS}
END = {"attempt": 0, "end": True}


class Asked:
    """An application that counts what it is asked, and answers when it may."""

    def __init__(self, **settings: Any) -> None:
        self.app = Umbel(**settings)
        self.app.channel("room:{x}", open=True, publish=True)
        self.times: Counter[Any] = Counter()
        self.order: list[Any] = []
        self.may_answer = asyncio.Event()
        self.app.on("ask")(self.ask)
        self.app.on("wait")(self.wait)

    async def ask(self, client: Client, message: Message) -> Any:
        self.times[message.data] += 1
        self.order.append(message.data)
        return [message.data]

    async def wait(self, client: Client, message: Message) -> Any:
        self.times[message.data] += 1
        self.order.append(message.data)
        await self.may_answer.wait()
        return [message.data]


async def answers(it: Talk, count: int, kind: str = "ask_result") -> list[Any]:
    return [(await it.hear(kind))["id"] for _ in range(count)]


@on_loops
async def test_lists_are_acted_on_in_their_order_and_answered_on_the_stream() -> None:
    asked = Asked()
    async with asked.app.serve(port=0) as server, begun(server) as it:
        assert it.caller
        await it.say_all(*ASKS[:10])
        await it.say_all()
        for message in ASKS[10:20]:
            await it.say_all(message)
        assert await answers(it, 20) == list(range(20))
        await it.say_all(
            {"type": "subscribe_updates", "channel": "room:a", "id": "s"},
            {"type": "publish", "channel": "room:a", "data": 1},
            {"type": "unsubscribe_updates", "channel": "room:a"},
            {"type": "publish", "channel": "room:a", "data": 2},
        )
        assert (await it.hear("update"))["data"] == 1, "what it asks for about one channel is done in order"
        assert (await it.hear("subscription_ended"))["channel"] == "room:a"
    assert asked.order == list(range(20))


@on_loops
async def test_a_number_counts_once_and_none_may_be_skipped() -> None:
    asked = Asked()
    async with asked.app.serve(port=0) as server, begun(server) as it, program(server) as caller:
        await it.say_all(*ASKS[:2])
        for body in (it.list_of(*ASKS[:2]), it.list_of(ASKS[5]), it.list_of()):
            response = await post(caller, it.token, body)
            assert (response.status, response.kept) == (202, True), "it was seen before"
        for number in (3, 4, 2**53):
            response = await it.post(ASKS[3], number=number)
            assert response.status == 409
            assert response.body["type"] == "error"
            assert (response.body["code"], response.body["details"]) == ("out_of_order", {"expected": 2})
        await it.say_all(ASKS[3])
        assert await answers(it, 3) == [0, 1, 3]
    assert asked.order == [0, 1, 3]


async def test_numbers_begin_anew_with_each_attempt_and_old_lists_have_no_effect() -> None:
    asked = Asked()
    async with asked.app.serve(port=0) as server, begun(server) as it, program(server) as late:
        for message in ASKS[:3]:
            await it.say_all(message)
        assert await answers(it, 3) == [0, 1, 2]
        async with resumed(server, it, 4) as fourth:
            for body in (it.list_of(ASKS[9], number=4), it.list_of(ASKS[9], number=1), END):
                response = await post(late, it.token, body)
                assert (response.status, response.body["code"]) == (409, "superseded")
                assert response.body["details"] == {"attempt": 4}
            for attempt in (3, 5):
                response = await fourth.post(ASKS[9], attempt=attempt, number=1)
                assert (response.status, response.body["details"]) == (409, {"attempt": 4})
            await fourth.say_all(ASKS[3])
            assert await answers(fourth, 1) == [3]
        async with resumed(server, it, 5) as fifth:
            assert fifth.greeting["resumed"] is True
            await fifth.say_all(ASKS[4])
    assert asked.order == [0, 1, 2, 3, 4]


async def test_a_list_after_the_end_of_its_stream_is_refused() -> None:
    asked = Asked()
    noted: list[int] = []
    asked.app.on_away(lambda client, code, reason: noted.append(code))
    async with asked.app.serve(port=0, session_ttl=0.3) as server, begun(server) as it:
        it.events.cut()
        await until(lambda: noted)
        response = await it.post(ASKS[0])
        assert (response.status, response.body["code"]) == (409, "superseded")
        assert response.body["details"] == {"attempt": 0}, "it comes back with the next one"
        await asyncio.sleep(0.5)
        response = await it.post(ASKS[0])
        assert (response.status, response.body["code"]) == (404, "session_lost")
    assert not asked.order


async def test_nobody_speaks_for_a_session_without_its_token() -> None:
    asked = Asked()
    async with asked.app.serve(port=0) as server, begun(server) as it, begun(server) as other:
        body = it.list_of(ASKS[0], number=1)
        middle = len(it.token) // 2
        wrong = it.token[:middle] + ("A" if it.token[middle] != "A" else "B") + it.token[middle + 1 :]
        for shown in ("", "x", wrong, it.token[1:], f"{it.token}{it.token}"):
            async with program(server) as caller:
                response = await post(caller, shown, body)
                assert (response.status, response.body["code"]) == (404, "session_lost"), shown
        for header in ({}, {"Authorization": f"Bearer {it.token}"}, {"Authorization": "Umbel-Session"}):
            async with program(server) as caller:
                response = await caller.post(body, MESSAGES, **header)
                assert (response.status, response.body["code"]) == (404, "session_lost"), header
        async with program(server) as caller:
            response = await caller.post(body, MESSAGES, Authorization=f"umbel-SESSION   {it.token} ")
            assert response.status == 202, "RFC 9110 §11.1: the scheme has no case"
        await other.say_all(ASKS[1])
        assert await answers(other, 1) == [1], "what is heard goes to the client that has asked"
        assert await answers(it, 1) == [0]


BAD: list[Any] = [
    b"",
    b"{",
    b"\xff",
    b"[]",
    b"1",
    {},
    {"number": 1, "messages": []},
    {"attempt": 0, "messages": []},
    {"attempt": 0, "number": 1},
    {"attempt": 0, "number": 0, "messages": []},
    {"attempt": 0, "number": -1, "messages": []},
    {"attempt": 0, "number": 1.5, "messages": []},
    {"attempt": 0, "number": "1", "messages": []},
    {"attempt": -1, "number": 1, "messages": []},
    {"attempt": None, "number": 1, "messages": []},
    {"attempt": 0, "number": 1, "messages": {}},
    {"attempt": 0, "number": 1, "messages": None},
    {"attempt": 0, "number": 1, "messages": [], "end": 1},
    {"attempt": 0, "number": 1, "messages": [], "end": True},
    {"attempt": 0, "messages": [], "end": True},
    {"attempt": 0, "end": False},
    {"end": True},
    b'{"attempt":0,"number":1,"number":1,"messages":[]}',
    b'{"attempt":0,"number":1,"messages":[]} x',
    b'{"attempt":0,"number":1,"messages":[{"type":"ask"},]}',
    b'{"attempt":0,"number":1,"messages":[{"type":"ask"} {"type":"ask"}]}',
    b'{"attempt":0,"number":1,"messages":[{"type":"ask"}',
]


async def test_a_body_that_is_no_list_is_refused_and_its_number_is_not_seen() -> None:
    asked = Asked()
    async with asked.app.serve(port=0) as server, begun(server) as it:
        assert it.caller
        for body in BAD:
            response = await post(it.caller, it.token, body)
            assert (response.status, response.body["code"]) == (400, "bad_message"), body
            assert response.kept, body
        await it.say_all(ASKS[0])
        assert await answers(it, 1) == [0]
    assert asked.order == [0]


async def test_a_message_that_is_wrong_in_itself_gets_its_error_on_the_stream() -> None:
    asked = Asked()
    async with asked.app.serve(port=0) as server, begun(server) as it:
        await it.say_all(
            ASKS[0], 7, [], "x", {"type": 1}, {"a": 1, "id": "mine"}, None, {**ASKS[0], "id": {}}, ASKS[1]
        )
        heard = [await it.hear() for _ in range(9)]
        kinds = Counter(message["type"] for message in heard)
        assert kinds == {"ask_result": 2, "error": 7}
        assert {message["code"] for message in heard if message["type"] == "error"} == {"bad_message"}
        assert "mine" in [message.get("id") for message in heard]
        await it.say("heartbeat", id=1)
        assert (await it.hear("heartbeat_ack"))["id"] == 1


async def test_after_too_many_errors_the_client_is_closed_as_on_a_websocket() -> None:
    asked = Asked()
    async with asked.app.serve(port=0) as server, begun(server) as it:
        response = await it.post(*[7] * 30)
        assert response.status == 409, "what was not acted on is dropped"
        assert await it.closed() == (1008, True)
        async with resumed(server, it, 1) as again:
            assert again.greeting["resumed"] is True


@on_loops
async def test_a_list_waits_for_the_brakes_of_its_session_and_so_does_its_answer() -> None:
    asked = Asked(max_running=2)
    async with asked.app.serve(port=0) as server, begun(server) as it, program(server) as other:
        sent = asyncio.create_task(it.post(*WAITS))
        await until(lambda: asked.order)
        await asyncio.sleep(0.2)
        assert not sent.done()
        # Somebody sends it again, and another one gives up.
        again = asyncio.create_task(post(other, it.token, it.list_of(*WAITS)))
        async with program(server) as gone:
            gone.send(
                f"POST {MESSAGES}",
                {
                    "Content-Type": "application/json",
                    "Authorization": f"Umbel-Session {it.token}",
                    "Content-Length": str(len(orjson.dumps(it.list_of(*WAITS)))),
                },
                orjson.dumps(it.list_of(*WAITS)),
            )
            await asyncio.sleep(0.1)
        assert len(asked.order) < 100
        asked.may_answer.set()
        assert set(await answers(it, 100, "wait_result")) == ALL
        assert [task.status for task in await asyncio.gather(sent, again)].count(202) >= 1
        async with program(server) as later:
            assert (await post(later, it.token, it.list_of(*WAITS))).status == 202
        await it.say_all(ASKS[0])
        assert await answers(it, 1) == [0]
    assert set(asked.times.values()) == {1}


@on_loops
async def test_a_list_goes_on_without_the_connection_that_has_brought_it() -> None:
    asked = Asked(max_running=2)
    async with asked.app.serve(port=0) as server, begun(server) as it:
        assert it.caller
        sent = asyncio.create_task(it.post(*WAITS))
        await until(lambda: asked.order)
        it.caller.writer.transport.abort()
        with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
            await sent
        asked.may_answer.set()
        assert set(await answers(it, 100, "wait_result")) == ALL
        async with program(server) as it.caller:
            assert (await post(it.caller, it.token, it.list_of(*WAITS))).status == 202
            await it.say_all(ASKS[0])
            assert await answers(it, 1) == [0]


async def test_a_list_under_way_is_dropped_with_its_stream_and_the_client_repeats_it() -> None:
    asked = Asked(max_running=2)
    async with asked.app.serve(port=0) as server, begun(server) as it:
        sent = asyncio.create_task(it.post(*WAITS))
        await until(lambda: asked.order)
        await asyncio.sleep(0.1)
        async with resumed(server, it, 1) as again:
            response = await sent
            assert (response.status, response.body["code"]) == (409, "superseded")
            assert response.body["details"] == {"attempt": 1}
            begun_before = len(asked.order)
            assert begun_before < 100
            # Another order, and another spelling of the list: what counts is the text of each message.
            body = b'{"attempt" : 1,\n "messages":[ %s ],"number":1}' % b" ,\t".join(map(orjson.dumps, WAITS))
            assert again.caller
            sent = asyncio.create_task(post(again.caller, again.token, body))
            await asyncio.sleep(0.1)
            asked.may_answer.set()
            # What was answered before it is heard again is answered again.
            heard: set[str] = set()
            while heard != ALL:
                heard |= set(await answers(again, 1, "wait_result"))
            assert (await sent).status == 202
    assert set(asked.times.values()) == {1}


@on_loops
async def test_requests_are_done_once_whatever_carries_them() -> None:
    asked = Asked()
    text = '{"type":"ask","data":1,"id":1}'
    async with asked.app.serve(port=0) as server, coming_back.begun(server) as socket:
        await socket.connection.send(text)
        answer = await socket.hear("ask_result")
        async with resumed(server, socket, 1) as it:
            await it.say_all(orjson.loads(text))
            assert (await it.hear("ask_result"))["timestamp"] == answer["timestamp"]
            assert it.caller
            it.number += 1
            spaced = b'{"attempt":1,"number":2,"messages":[{"type":"ask", "data":1,"id":1}]}'
            assert (await post(it.caller, it.token, spaced)).status == 202
            assert (await it.hear("error"))["code"] == "id_reused", (
                "the text of a message is as it is in the list"
            )
            await it.say("publish", channel="room:a", data=1, id=2)
            assert (await it.hear("published"))["offset"] == 1
            async with coming_back.resumed(server, socket, 2) as last:
                await last.connection.send('{"type":"publish","channel":"room:a","data":1,"id":2}')
                assert (await last.hear("published"))["offset"] == 1
    assert asked.times == {1: 1}


async def test_a_list_may_be_as_long_as_a_message() -> None:
    asked = Asked(max_message=10_000)
    async with asked.app.serve(port=0) as server, begun(server) as it:
        message = {"type": "ask", "data": "x" * 9000, "id": 1}
        await it.say_all(message)
        assert await answers(it, 1) == [1]
        async with program(server) as caller:
            response = await post(caller, it.token, it.list_of(*[message] * 2, number=2))
            assert response.status == 413
        await it.say_all(ASKS[2])
        assert await answers(it, 1) == [2]

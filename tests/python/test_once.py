"""Requests with an `id` are done once, and each has one answer, whatever becomes of its function."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import pytest
from looping import on_loops
from umbel import Client, Message, Refused, Rejected, Run, Umbel
from wire import Wire, wire

DONE: dict[str, Any] = {
    "add": {"type": "add_result", "data": 3},
    "nothing": {"type": "nothing_result", "data": None},
    "waits": {"type": "waits_result", "data": "done"},
    "thread": {"type": "thread_result", "data": "done"},
    "fails": {"code": "internal"},
    "refuses": {"code": "not_allowed"},
    "rejects": {"code": "conflict"},
    "no_json": {"code": "internal"},
    "cancels": {"code": "internal"},
    "hangs": {"code": "timeout"},
    "stubborn": {"code": "timeout"},
    "unknown": {"code": "unknown_type"},
    "ai_cancel": {"type": "ai_cancel_result", "data": {"cancelled": False}},
}


def declare(app: Umbel) -> Counter[str]:
    """Functions that end in every way there is, and how often each was called."""
    calls: Counter[str] = Counter()

    @app.stream("run")
    async def run(run: Run, message: Message) -> AsyncIterator[str]:
        yield "so that there is ai_cancel"

    @app.on("add")
    def add(client: Client, message: Message) -> Any:
        calls["add"] += 1
        return sum(message.data)

    @app.on("nothing")
    def nothing(client: Client, message: Message) -> None:
        calls["nothing"] += 1

    @app.on("waits")
    async def waits(client: Client, message: Message) -> str:
        calls["waits"] += 1
        await asyncio.sleep(0.05)
        return "done"

    @app.on("thread", thread=True)
    def thread(client: Client, message: Message) -> str:
        calls["thread"] += 1
        return "done"

    @app.on("fails")
    async def fails(client: Client, message: Message) -> None:
        calls["fails"] += 1
        raise ValueError

    @app.on("refuses")
    def refuses(client: Client, message: Message) -> None:
        calls["refuses"] += 1
        raise Refused(4500, "no")

    @app.on("rejects")
    async def rejects(client: Client, message: Message) -> None:
        calls["rejects"] += 1
        raise Rejected("conflict")

    @app.on("no_json")
    def no_json(client: Client, message: Message) -> object:
        calls["no_json"] += 1
        return object()

    @app.on("cancels")
    async def cancels(client: Client, message: Message) -> None:
        calls["cancels"] += 1
        await asyncio.sleep(0)
        raise asyncio.CancelledError

    @app.on("hangs")
    async def hangs(client: Client, message: Message) -> None:
        calls["hangs"] += 1
        await asyncio.Event().wait()

    @app.on("stubborn")
    async def stubborn(client: Client, message: Message) -> str:
        calls["stubborn"] += 1
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            await asyncio.sleep(0)
        return "too late"

    return calls


async def silence(client: Wire) -> None:
    """Take what has come, up to the answer to a request of now."""
    await client.say("heartbeat", id="silence")
    while (await client.hear()).get("id") != "silence":
        pass


@on_loops
async def test_each_request_has_one_answer_however_its_function_ends(app: Umbel) -> None:
    calls = declare(app)
    async with app.serve(port=0, handler_timeout=0.2) as server, wire(server) as client:
        fields = {"data": [1, 2], "runId": "none"}
        for _ in range(2):  # the second one comes before the first is done
            for kind in DONE:
                await client.say(kind, id=kind, **fields)
        answers: dict[str, Any] = {}
        while len(answers) < len(DONE):
            answer = await client.hear()
            kind = answer.pop("id")
            # What was done at once is answered twice.
            assert answers.setdefault(kind, answer) == answer
        for kind, expected in DONE.items():
            assert {name: answers[kind].get(name) for name in expected} == expected
        await asyncio.sleep(0.1)  # what is stubborn has ended
        await silence(client)
        for kind in DONE:
            await client.say(kind, id=kind, **fields)
            again = await client.hear()
            assert again.pop("id") == kind
            assert again == answers[kind]
        assert set(calls.values()) == {1}
        await client.say("add", id="last", data=[])
        assert (await client.hear())["id"] == "last", "nothing else was said"


@on_loops
async def test_a_repeated_request_leads_to_its_run_as_it_is_now(app: Umbel) -> None:
    begun: list[str] = []
    go_on = asyncio.Event()

    @app.stream("ask")
    async def answer(run: Run, message: Message) -> AsyncIterator[str]:
        begun.append(run.id)
        yield "hello"
        await go_on.wait()

    async with app.serve(port=0, max_runs=1) as server, wire(server) as client:
        await client.say("ask", id="a", data={})
        first = await client.hear("subscription_established")
        while (await client.hear("update"))["data"]["type"] != "ai_response_chunk":
            pass
        await client.say("ask", id="a", data={})
        present = await client.hear("subscription_established")
        assert (present["channel"], present["id"], present["offset"]) == (first["channel"], "a", 2)
        await client.say("unsubscribe_updates", channel=first["channel"])
        await client.hear("subscription_ended")
        go_on.set()
        for _ in range(2):
            await client.say("ask", id="a", data={})
            assert (await client.hear("subscription_established"))["offset"] == 0
            kinds = [(await client.hear("update"))["data"]["type"] for _ in range(3)]
            assert kinds == ["ai_response_start", "ai_response_chunk", "ai_response_end"]
            await client.hear("subscription_ended")
        assert len(begun) == 1


@on_loops
async def test_a_run_that_is_forgotten_is_not_begun_again(
    app: Umbel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("umbel._dispatching.runs.MOST_ENDED", 0)
    begun: list[str] = []

    @app.stream("ask")
    async def answer(run: Run, message: Message) -> AsyncIterator[str]:
        begun.append(run.id)
        yield "hello"

    async with app.serve(port=0) as server, wire(server) as client:
        await client.say("ask", id="a", data={})
        await client.hear("subscription_ended")
        for _ in range(2):
            await client.say("ask", id="a", data={})
            assert (await client.hear())["code"] == "answer_lost"
        assert (len(begun), server.stats().subscriptions) == (1, 0)


@on_loops
async def test_with_too_many_unanswered_requests_pings_and_the_close_are_still_read(app: Umbel) -> None:
    release = asyncio.Event()
    running: list[Any] = []

    @app.on("slow")
    async def slow(client: Client, message: Message) -> None:
        running.append(message.data)
        await release.wait()

    most = 256
    async with app.serve(port=0, max_running=1000) as server:
        async with wire(server, ping_interval=None, close_timeout=0.5) as client:
            assert client.greeting["maxUnanswered"] == most
            for number in range(most + 10):
                await client.say("slow", id=number, data=number)
            for _ in range(3):
                async with asyncio.timeout(5):
                    await (await client.connection.ping())
            assert len(running) == most
            release.set()
            assert [(await client.hear())["id"] for _ in range(most + 10)] == list(range(most + 10))
            release.clear()
            for number in range(most + 10):
                await client.say("slow", id=-1 - number, data=number)
        async with asyncio.timeout(5):
            while server.stats().connections:
                await asyncio.sleep(0.01)
        release.set()


@on_loops
async def test_answers_are_remembered_within_a_budget_and_the_oldest_are_forgotten(app: Umbel) -> None:
    @app.on("long")
    def long(client: Client, message: Message) -> str:
        return "x" * 60_000

    async def ask(client: Wire) -> str:
        await client.say("long", id=1)
        answer = await client.hear()
        return str(answer.get("code", answer["type"]))

    small = {"max_message": 64 << 10, "max_held_bytes": 1 << 20}  # room for four such answers
    async with app.serve(port=0, **small) as server, AsyncExitStack() as clients:
        all_clients = [await clients.enter_async_context(wire(server)) for _ in range(8)]
        for client in all_clients:
            assert await ask(client) == "long_result"
        await asyncio.sleep(0.1)
        expected = ["answer_lost"] * 4 + ["long_result"] * 4
        assert [await ask(client) for client in all_clients] == expected
        for client in all_clients[4:]:
            await client.connection.close()
        async with asyncio.timeout(5):
            while server.stats().connections > 4:
                await asyncio.sleep(0.01)
        await all_clients[0].say("long", id=2)
        await all_clients[0].hear()
        await all_clients[0].say("long", id=2)
        assert (await all_clients[0].hear())["type"] == "long_result", "what has ended takes no room"

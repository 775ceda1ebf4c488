"""The client for Python programs: what a subscription gives."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import pytest
from connecting import cut, nothing_is_left, through, until
from umbel import Client, Message, Position, Umbel
from umbel.client import (
    Limits,
    RequestFailed,
    State,
    SubscriptionFailed,
    connect,
)
from umbel.client._inbox import Inbox


async def test_three_lines_follow_a_channel(app: Umbel) -> None:
    app.channel("task:{x}", open=True, publish=True, replay="start")
    async with app.serve(port=0) as server:
        async with connect(server.url) as umbel:
            assert await umbel.publish("task:1", {"n": 1}) == ("task:1", 1)
            app.publish("task:1", {"n": 2})
            seen = []
            async for update in umbel.subscribe("task:1"):
                seen.append(update["data"]["n"])
                if len(seen) == 2:
                    break
            assert seen == [1, 2]
            await until(lambda: app.subscribers("task:1") == 0)  # `break` suffices
            assert umbel.client_id
            assert umbel.subject is None
        assert nothing_is_left()
        assert umbel.state == State("closed", 1000, "closed by the application")
        with pytest.raises(RequestFailed, match="closed"):
            await umbel.request("x")
        assert [update async for update in umbel.subscribe("task:1")] == []


async def test_it_comes_back_to_its_session(app: Umbel) -> None:
    connected = []
    app.on_connect(connected.append)
    app.channel("task:{x}", open=True)

    @app.on("double")
    async def double(client: Client, message: Message) -> Any:
        await asyncio.sleep(0.05)
        return message.data * 2

    states: list[State] = []
    async with (
        app.serve(port=0, reconnect_window=0.02) as server,
        through(server, on_state=states.append) as (umbel, network),
    ):
        updates = umbel.subscribe("task:1")
        begin = await updates.ready()
        direct = umbel.subscribe("@")
        for number in range(20):
            app.publish("task:1", number)
            connected[0].send(-number)
            asking = asyncio.create_task(umbel.request("double", number))
            await asyncio.sleep(0.01)
            cut(network)
            assert (await anext(updates))["data"] == number
            assert (await anext(direct))["data"] == -number
            assert await asking == 2 * number
        assert updates.position == Position(begin.epoch, begin.offset + 20)
        assert len(connected) == 1
        waiting = [state for state in states if state.name == "waiting"]
        assert waiting
        assert {state.code for state in waiting} == {1006}
        assert all(state.retry_in is not None for state in waiting)
        # A program that is started again goes on from the position that it has stored.
        app.publish("task:1", "later")
        position = Position(begin.epoch, begin.offset + 19)
        again = umbel.subscribe("task:1", position)
        assert [(await anext(again))["data"] for _ in range(2)] == [19, "later"]


async def test_a_gap_is_in_the_stream(app: Umbel) -> None:
    app.channel("task:{x}", open=True, history=2)
    async with app.serve(port=0, reconnect_window=0.02) as server, through(server) as (umbel, network):
        updates = umbel.subscribe("task:1")
        begin = await updates.ready()
        port, network.port = network.port, 1  # nobody is there
        cut(network)
        await until(lambda: umbel.state.failing)
        for number in range(5):
            app.publish("task:1", number)
        network.port = port
        missed = await anext(updates)
        assert missed["gap"] == {"reason": "trimmed", "epoch": begin.epoch, "from": 0, "to": 3}
        assert updates.position == Position(begin.epoch, 3)
        with pytest.raises(KeyError, match="look for update"):
            missed["data"]
        assert [(await anext(updates))["data"] for _ in range(2)] == [3, 4]


async def test_a_slow_reader_costs_little_and_misses_nothing(app: Umbel) -> None:
    app.channel("task:{x}", open=True, history=10_000, history_bytes=64 << 20)
    async with app.serve(port=0) as server:
        limits = Limits(buffer=64 << 10)
        async with connect(server.url, limits=limits) as umbel:
            slow, quick = umbel.subscribe("task:1"), umbel.subscribe("task:1")
            await slow.ready()
            await quick.ready()
            kept = []
            for number in range(3000):
                app.publish("task:1", [number, "x" * 200])
                if number % 10 == 0:
                    await asyncio.sleep(0)
                    kept.append(slow._inbox._size)
            assert [(await anext(quick))["data"][0] for _ in range(3000)] == list(range(3000))
            assert max(kept) <= 64 << 10
            assert [(await anext(slow))["data"][0] for _ in range(3000)] == list(range(3000))
            app.publish("task:1", "after")
            assert (await anext(slow))["data"] == "after"


async def test_updates_come_in_lists_too(app: Umbel) -> None:
    app.channel("task:{x}", open=True)
    async with app.serve(port=0) as server, connect(server.url) as umbel:
        updates = umbel.subscribe("task:1")
        await updates.ready()
        for number in range(100):
            app.publish("task:1", number)
        seen: list[Any] = []
        async for batch in updates.batches():
            seen += [update["data"] for update in batch]
            assert updates.position == Position(updates.position.epoch, len(seen))  # type: ignore[union-attr]
            if len(seen) == 100:
                updates.close()
        assert seen == list(range(100))


async def test_what_the_server_says_no_to(app: Umbel) -> None:
    app.channel("task:{x}", open=True)
    async with app.serve(port=0) as server, connect(server.url) as umbel:
        with pytest.raises(SubscriptionFailed, match="unknown_channel") as refused:
            await umbel.subscribe("nothing").ready()
        assert refused.value.code == "unknown_channel"
        with pytest.raises(SubscriptionFailed, match="bad_channel"):
            await anext(umbel.subscribe(""))
        with pytest.raises(RequestFailed) as failed:
            await umbel.request("nothing")
        assert failed.value.code == "unknown_type"
        with pytest.raises(RequestFailed, match="not_allowed"):
            await umbel.publish("task:1", 1)
        with pytest.raises(TypeError):
            await umbel.request("x", object())
        with pytest.raises(TypeError, match="a channel is a str"):
            umbel.subscribe(1)  # type: ignore[arg-type]


async def test_the_server_ends_a_subscription(app: Umbel) -> None:
    app.channel("task:{x}", open=True)
    clients: list[Client] = []
    app.on_connect(clients.append)
    async with app.serve(port=0) as server, connect(server.url) as umbel:
        updates = umbel.subscribe("task:1")
        await updates.ready()
        app.publish("task:1", "last")
        clients[0].unsubscribe("task:1", "the task is done")
        assert [update["data"] async for update in updates] == ["last"]
        assert updates.reason == "the task is done"


async def test_a_subscription_may_be_dropped_in_another_thread(app: Umbel) -> None:
    app.channel("task:{x}", open=True)
    async with app.serve(port=0) as server, connect(server.url) as umbel:
        held = [umbel.subscribe("task:1")]
        await held[0].ready()
        await asyncio.to_thread(held.clear)
        gc.collect()
        await until(lambda: app.subscribers("task:1") == 0)


async def test_a_defect_of_the_client_is_logged_and_costs_the_connection_only(
    app: Umbel, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    app.channel("task:{x}", open=True)

    def fail(inbox: Inbox, updates: list[Any], size: int) -> bool:
        monkeypatch.setattr(Inbox, "put", real)
        raise RuntimeError("expected")

    async with app.serve(port=0, reconnect_window=0.02) as server, through(server) as (umbel, _):
        updates = umbel.subscribe("task:1")
        await updates.ready()
        real = Inbox.put
        monkeypatch.setattr(Inbox, "put", fail)
        app.publish("task:1", 1)
        await until(lambda: "the client has failed" in caplog.text)
        await until(lambda: umbel.state.name == "connected")


async def test_close_ends_the_iteration_at_once(app: Umbel) -> None:
    app.channel("task:{x}", open=True)
    async with app.serve(port=0) as server, connect(server.url) as umbel:
        updates = umbel.subscribe("task:1")
        await updates.ready()
        for number in range(10):
            app.publish("task:1", number)
        seen = []
        async for update in updates:
            seen.append(update["data"])
            updates.close()
            updates.close()
        assert seen[0] == 0
        await until(lambda: not app.subscribers("task:1"))


async def test_waiting_in_vain_leaves_nothing_behind(app: Umbel) -> None:
    app.channel("task:{x}", open=True)
    async with app.serve(port=0) as server, connect(server.url) as umbel:
        updates = umbel.subscribe("task:1")
        await updates.ready()
        for _ in range(100):
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(anext(updates), 0.001)
        assert len(updates._inbox._waiting) <= 1
        app.publish("task:1", 1)
        assert (await anext(updates))["data"] == 1

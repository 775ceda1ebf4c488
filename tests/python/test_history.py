"""What an application finds out about its channels: their history, and how many subscribe to them."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
from looping import on_loops
from orjson import Fragment
from umbel import Client, History, Message, Position, Umbel
from wire import wire


def data(history: History) -> list[object]:
    return [publication.data for publication in history.publications]


@on_loops
async def test_a_history_gives_what_the_channel_has_the_oldest_first(app: Umbel) -> None:
    app.channel("a:{x}", open=True, publish=True, sender=True, history=5)
    async with app.serve(port=0) as server, wire(server) as client:
        for number in range(4):
            app.publish("a:1", {"n": number, "sender": "me"}, key=f"k{number}")
        before = datetime.now(UTC)
        await client.say("publish", channel="a:1", data=["from a client"])
        await client.hear("published")
        history = await app.history("a:1")
        assert data(history) == [*({"n": n, "sender": "me"} for n in range(4)), ["from a client"]]
        assert [it.key for it in history.publications] == ["k0", "k1", "k2", "k3", None]
        assert [it.position.offset for it in history.publications] == [1, 2, 3, 4, 5]
        assert not history.gap
        last = history.publications[-1]
        assert last.sender == {"clientId": client.greeting["clientId"], "subject": None}
        assert history.publications[0].sender is None
        assert abs(last.timestamp - before) < timedelta(seconds=2)
        assert last.timestamp.tzinfo is UTC
        await client.say("subscribe_updates", channel="a:1")
        established = await client.hear("subscription_established")
        assert last.position == Position(established["epoch"], established["offset"])


@on_loops
async def test_a_history_goes_on_after_a_position_and_says_when_that_is_gone(app: Umbel) -> None:
    app.channel("a", open=True, history=10)
    async with app.serve(port=0):
        positions = [await app.publish("a", number) for number in range(30)]
        assert data(await app.history("a", limit=3)) == [27, 28, 29]
        page = await app.history("a", after=positions[21], limit=3)
        assert (data(page), page.gap) == ([22, 23, 24], False)
        page = await app.history("a", after=page.publications[-1].position)
        assert (data(page), page.gap) == ([25, 26, 27, 28, 29], False)
        assert await app.history("a", after=positions[-1]) == History((), gap=False)
        edge = await app.history("a", after=positions[19])
        assert (data(edge), edge.gap) == (list(range(20, 30)), False)
        lost = await app.history("a", after=positions[18], limit=2)
        assert (data(lost), lost.gap) == ([20, 21], True)
        other = await app.history("a", after=Position("0123456789abcdef", 25), limit=1)
        assert (data(other), other.gap) == ([20], True)
        ahead = await app.history("a", after=Position(positions[0].epoch, 31), limit=1)
        assert (data(ahead), ahead.gap) == ([20], True)


@on_loops
async def test_of_the_latest_values_a_history_has_one_for_each_key(app: Umbel) -> None:
    app.channel("a", open=True, mode="latest")
    async with app.serve(port=0):
        first = await app.publish("a", "old", key="x")
        app.publish("a", "y", key="y")
        app.publish("a", "new", key="x")
        assert data(await app.history("a")) == ["y", "new"]
        after = await app.history("a", after=first)
        assert (data(after), after.gap) == (["y", "new"], False)


@on_loops
async def test_asking_makes_no_channel(app: Umbel) -> None:
    app.channel("a:{x}", open=True)
    async with app.serve(port=0) as server:
        assert await app.history("a:1") == History((), gap=False)
        assert await app.history("a:1", after=Position("0123456789abcdef", 1)) == History((), gap=True)
        assert app.subscribers("a:1") == 0
        assert server.stats().channels == 0


@on_loops
async def test_what_can_not_be_asked_is_said(app: Umbel) -> None:
    with pytest.raises(RuntimeError, match="not being served"):
        await app.history("a")
    with pytest.raises(RuntimeError, match="not being served"):
        app.subscribers("a")
    async with app.serve(port=0):
        for channel in ("", "@private", "$server", "x" * 256):
            with pytest.raises(ValueError):
                await app.history(channel)
            with pytest.raises(ValueError):
                app.subscribers(channel)
        for limit in (0, -1, 10_001):
            with pytest.raises(ValueError, match="1 to 10000"):
                await app.history("a", limit=limit)
        with pytest.raises(TypeError):
            await app.history("a", after=3)  # type: ignore[arg-type]
        app.publish("a", Fragment("[ 1,\n2]"))
        assert data(await app.history("a")) == [[1, 2]]
    for epoch in ("", "0123456789ABCDEF", "0123456789abcde", "x" * 16):
        with pytest.raises(ValueError, match="16 lower-case hexadecimal digits"):
            Position(epoch, 1)
    with pytest.raises(OverflowError):
        Position("0123456789abcdef", -1)


@on_loops
async def test_a_history_can_be_asked_for_in_any_thread_and_sent_to_a_client(app: Umbel) -> None:
    @app.on("latest", thread=True)
    def latest(client: Client, message: Message) -> list[object]:
        found = asyncio.run(app.history("a", limit=1)).publications[0]
        return [found.key, found.data, found.timestamp, app.subscribers("a")]

    app.channel("a", open=True)
    async with app.serve(port=0) as server, wire(server) as client:
        app.publish("a", "x", key="k")
        await client.say("latest")
        key, value, timestamp, subscribers = (await client.hear("latest_result"))["data"]
        assert (key, value, subscribers) == ("k", "x", 0)
        assert abs(datetime.fromisoformat(timestamp) - datetime.now(UTC)) < timedelta(seconds=5)


@on_loops
async def test_subscribers_of_all_shards_count_until_they_are_gone(app: Umbel) -> None:
    app.channel("a:{x}", open=True)
    async with app.serve(port=0, shards=3) as server:
        clients = [wire(server) for _ in range(8)]
        wires = [await client.__aenter__() for client in clients]
        for number, client in enumerate(wires, 1):
            await client.say("subscribe_updates", channels=["a:1", "a:2"] if number % 2 else ["a:1"])
            await client.hear("subscription_established")
        while app.subscribers("a:2") < 4:
            await asyncio.sleep(0.01)
        assert (app.subscribers("a:1"), app.subscribers("a:2"), app.subscribers("a:3")) == (8, 4, 0)
        await wires[0].say("unsubscribe_updates", channel="a:1")
        await wires[0].hear("subscription_ended")
        await wires[0].say("subscribe_updates", channel="a:2")  # again
        await wires[0].hear("subscription_established")
        assert (app.subscribers("a:1"), app.subscribers("a:2")) == (7, 4)
        for client in clients:
            await client.__aexit__(None, None, None)
        async with asyncio.timeout(5):
            while app.subscribers("a:1") or app.subscribers("a:2"):
                await asyncio.sleep(0.01)

"""More at once than a history holds: whoever keeps up gets all of it, and producers can wait."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest
from looping import on_loops
from umbel import Client, Message, Run, Umbel
from wire import Wire, wire


async def offsets(client: Wire, count: int) -> list[int]:
    """Hear so many updates, and nothing else."""
    heard = []
    while len(heard) < count:
        message = await client.hear()
        assert message["type"] == "update", message
        heard.append(message["offset"])
    return heard


async def text_of(client: Wire, run_id: str | None = None) -> tuple[str, Any]:
    """Hear a run to its end: its text, and its end."""
    pieces = []
    while True:
        message = await client.hear("update")
        data = message["data"]
        match data["type"]:
            case "ai_response_chunk":
                assert len(data["chunk"].encode()) <= 32 * 1024
                pieces.append(data["chunk"])
            case "ai_response_end":
                return "".join(pieces), data


@on_loops
async def test_a_burst_in_one_loop_reaches_every_subscriber(app: Umbel) -> None:
    app.channel("room:{x}", open=True, history=10)
    async with app.serve(port=0) as server, wire(server) as one, wire(server) as two:
        for client in (one, two):
            await client.say("subscribe_updates", channel="room:a")
            await client.hear("subscription_established")
        for number in range(5000):
            app.publish("room:a", {"n": number, "x": "x" * 100})
        for client in (one, two):
            assert await offsets(client, 5000) == list(range(1, 5001))
        stats = server.stats()
        assert (stats.gaps, stats.lost) == (0, 0)


@pytest.mark.parametrize(("count", "size"), [(3000, 10), (8, 300_000)])
@on_loops
async def test_all_that_is_sent_to_a_client_at_once_arrives(app: Umbel, count: int, size: int) -> None:
    @app.on("go")
    def go(client: Client, message: Message) -> None:
        for number in range(count):
            client.send({"n": number, "x": "x" * size})

    async with app.serve(port=0) as server, wire(server) as client:
        await client.say("go")
        await client.hear("subscription_established")
        assert await offsets(client, count) == list(range(1, count + 1))


@pytest.mark.parametrize("size", [1_100_000, 40_000_000])
@on_loops
async def test_a_text_that_is_yielded_at_once_arrives_whole(app: Umbel, size: int) -> None:
    text = "".join(chr(97 + number % 26) for number in range(1000)) * (size // 1000)

    @app.stream("ask")
    async def answer(run: Run, message: Message) -> Any:
        yield text

    async with app.serve(port=0, deflate=False) as server, wire(server, compression=None) as client:
        await client.say("ask", data={})
        arrived, end = await text_of(client)
        assert end["status"] == "complete"
        assert arrived == text


@on_loops
async def test_what_a_run_publishes_comes_after_the_text_before_it(app: Umbel) -> None:
    @app.stream("ask")
    async def answer(run: Run, message: Message) -> Any:
        yield "1 "
        yield "2 "
        assert run.publish({"type": "tool"}) is not None
        yield "3"
        runs.append(run)

    runs: list[Run] = []
    async with app.serve(port=0) as server, wire(server) as client:
        await client.say("ask", data={})
        order = []
        while not order or order[-1] != "ai_response_end":
            data = (await client.hear("update"))["data"]
            order.append(data.get("chunk", data["type"]))
        text = "|".join(order)
        assert text.replace("|", "").index("1 2 tool3") > 0, text
        assert runs[0].publish({"type": "late"}) is None


@on_loops
async def test_a_viewer_that_does_not_read_slows_no_run(app: Umbel) -> None:
    app.channel("run:{id}", open=True)
    total = 30_000_000

    @app.stream("ask")
    async def answer(run: Run, message: Message) -> Any:
        started.set_result(run.channel)
        await go.wait()
        for _ in range(total // 10_000):
            yield "x" * 10_000

    started: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    go = asyncio.Event()
    async with (
        app.serve(port=0, deflate=False) as server,
        wire(server, compression=None) as client,
        wire(server, compression=None, max_queue=1) as deaf,
    ):
        await client.say("ask", data={})
        channel = await started
        await deaf.say("subscribe_updates", channel=channel)
        await deaf.hear("subscription_established")
        deaf.connection.transport.pause_reading()
        go.set()
        text, end = await asyncio.wait_for(text_of(client), 20)
        assert (len(text), end["status"]) == (total, "complete")
        deaf.connection.transport.abort()


@on_loops
async def test_a_producer_waits_for_its_subscribers(app: Umbel) -> None:
    app.channel("room:{x}", open=True)
    async with app.serve(port=0, deflate=False) as server, wire(server, compression=None) as client:
        await app.wait_room("room:a")  # nobody reads
        await client.say("subscribe_updates", channel="room:a")
        await client.hear("subscription_established")
        reading = asyncio.create_task(offsets(client, 600))
        for _ in range(600):
            app.publish("room:a", "x" * 100_000)
            await app.wait_room("room:a")
        assert await reading == list(range(1, 601))
        assert server.stats().gaps == 0
        with pytest.raises(ValueError, match="channel name"):
            await app.wait_room("")
    with pytest.raises(RuntimeError, match="not being served"):
        await app.wait_room("room:a")


@on_loops
async def test_a_slow_client_loses_nothing_of_what_a_patient_function_sends(app: Umbel) -> None:
    @app.on("export")
    async def export(client: Client, message: Message) -> None:
        for number in range(200):
            client.send({"n": number, "x": "x" * 20_000})
            await client.wait_room()

    async with (
        app.serve(port=0, deflate=False, shards=1) as server,
        wire(server, compression=None, max_queue=1) as client,
    ):
        await client.say("export")
        await client.hear("subscription_established")
        client.connection.transport.pause_reading()
        await asyncio.sleep(2.5)  # it is late by now
        client.connection.transport.resume_reading()
        assert await offsets(client, 200) == list(range(1, 201))
        assert server.stats().gaps == 0


@on_loops
async def test_nobody_waits_for_a_client_that_is_gone_or_a_server_that_has_stopped(app: Umbel) -> None:
    app.channel("room:{x}", open=True)

    @app.on("export")
    async def export(client: Client, message: Message) -> None:
        for _ in range(300):
            client.send("x" * 20_000)
        waiting.set()
        await client.wait_room()
        ended.append(client.id)

    ended: list[str] = []
    waiting = asyncio.Event()
    async with app.serve(port=0, deflate=False) as server:
        async with wire(server, compression=None, max_queue=1) as client:
            client.connection.transport.pause_reading()
            await client.say("export")
            await waiting.wait()
            await asyncio.sleep(0.2)
            assert not ended
            client.connection.transport.abort()
        async with asyncio.timeout(5):
            while not ended:
                await asyncio.sleep(0.01)
        async with wire(server, compression=None, max_queue=1) as client:
            await client.say("subscribe_updates", channel="room:a")
            await client.hear("subscription_established")
            client.connection.transport.pause_reading()
            for _ in range(160):
                app.publish("room:a", "x" * 100_000)
            last = asyncio.create_task(app.wait_room("room:a"))
            await asyncio.sleep(0.05)
            assert not last.done(), "nothing was taken"
            server.stop(within=0)
            await asyncio.wait_for(last, 5)
            client.connection.transport.abort()


async def test_another_loop_may_wait(app: Umbel) -> None:
    app.channel("room:{x}", open=True)

    def produce(done: Callable[[], None]) -> None:
        async def publish() -> None:
            for _ in range(200):
                app.publish("room:a", "x" * 100_000)
                await app.wait_room("room:a")

        asyncio.run(publish())
        done()

    async with app.serve(port=0, deflate=False) as server, wire(server, compression=None) as client:
        await client.say("subscribe_updates", channel="room:a")
        await client.hear("subscription_established")
        ended = asyncio.Event()
        loop = asyncio.get_running_loop()
        thread = threading.Thread(target=produce, args=[lambda: loop.call_soon_threadsafe(ended.set)])
        thread.start()
        assert await offsets(client, 200) == list(range(1, 201))
        await asyncio.wait_for(ended.wait(), 5)
        thread.join()


@on_loops
async def test_a_burst_that_is_too_large_says_which_setting_bounds_it(
    app: Umbel, caplog: pytest.LogCaptureFixture
) -> None:
    app.channel("room:{x}", open=True)
    async with app.serve(port=0, burst_bytes=1 << 20, deflate=False) as server, wire(server) as client:
        await client.say("subscribe_updates", channel="room:a")
        await client.hear("subscription_established")
        for _ in range(300):
            app.publish("room:a", "x" * 10_000)
        gap = await client.hear("gap")
        assert gap["reason"] == "burst"
        async with asyncio.timeout(5):
            # What a client has got is counted a moment later.
            while "burst_bytes" not in caplog.text or not server.stats().gaps_burst:
                await asyncio.sleep(0.01)
        stats = server.stats()
        # On a busy machine it takes several ticks to publish that much, and each may have its gap.
        assert (stats.gaps_overrun, stats.gaps_memory) == (0, 0)
        assert stats.gaps >= stats.gaps_burst >= 1
        assert 'gaps that clients were told of: 1, the last one in channel "room:a"' in caplog.text


@on_loops
async def test_a_run_that_has_ended_takes_no_subscription(app: Umbel) -> None:
    @app.stream("ask")
    async def answer(run: Run, message: Message) -> Any:
        yield "hello"

    async with app.serve(port=0, max_subscriptions=2) as server, wire(server) as client:
        for number in range(10):
            await client.say("ask", id=number, data={})
            assert (await client.hear("subscription_established"))["id"] == number
            assert (await text_of(client))[0] == "hello"
            await client.hear("subscription_ended")
        assert server.stats().subscriptions == 0
        # Its starter may still read it.
        await client.say("ask", data={})
        channel = (await client.hear("subscription_established"))["channel"]
        await client.hear("subscription_ended")
        epoch, start = client.epochs[channel], 0
        await client.say("subscribe_updates", channel=channel, epoch=epoch, offset=start)
        assert (await client.hear("subscription_established"))["recovered"]
        assert (await text_of(client))[0] == "hello"
        await client.hear("subscription_ended")


@on_loops
async def test_a_run_whose_starter_has_too_many_subscriptions_is_not_produced(app: Umbel) -> None:
    app.channel("room:{x}", open=True)
    produced: list[str] = []

    @app.stream("ask")
    async def answer(run: Run, message: Message) -> Any:
        produced.append(run.id)
        yield "x"

    async with app.serve(port=0, max_subscriptions=1) as server, wire(server) as client:
        await client.say("subscribe_updates", channel="room:a")
        await client.hear("subscription_established")
        for number in range(20):
            await client.say("ask", id=number, data={})
            assert (await client.hear("error"))["code"] == "limit_exceeded"
        assert produced == []


@on_loops
async def test_nothing_is_kept_for_clients_that_can_not_come_back(app: Umbel) -> None:
    @app.on_connect
    def greet(client: Client) -> None:
        client.send("x" * 1000)

    async with app.serve(port=0) as server:
        for _ in range(5):
            async with wire(server) as client:
                await client.hear("update")
                assert server.stats().channels == 1
        async with asyncio.timeout(5):
            while server.stats().channels:
                await asyncio.sleep(0.01)


@on_loops
async def test_a_producer_that_always_finds_room_does_not_hold_up_the_loop(app: Umbel) -> None:
    app.channel("room:{name}", open=True)
    turns = 0
    ended = False

    @app.on("flood")
    async def flood(client: Client, message: Message) -> None:
        nonlocal ended
        try:
            while True:  # without end: when the client is gone, nothing waits
                client.send("x")
                await client.wait_room()
        finally:
            ended = True

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async with app.serve(port=0, drain=0.1) as server:
        task = asyncio.create_task(others())
        for number in range(1000):
            app.publish("room:a", number)
            await app.wait_room("room:a")  # nobody reads
        assert turns >= 20
        task.cancel()
        async with wire(server) as client:
            await client.say("flood")
            await client.hear("update")
        async with asyncio.timeout(10):
            while server.stats().connections:
                await asyncio.sleep(0.02)
    assert ended


@on_loops
async def test_without_a_burst_there_is_only_the_history_and_nobody_waits_for_ever(app: Umbel) -> None:
    app.channel("a", open=True, history=10)
    async with app.serve(port=0, burst_bytes=0) as server, wire(server) as client:
        await client.say("subscribe_updates", channel="a")
        await client.hear("subscription_established")
        for number in range(30):
            app.publish("a", number)
        heard: list[int] = []
        missed = 0
        while 29 not in heard:
            message = await client.hear()
            if message["type"] == "update":
                heard.append(message["data"])
            else:
                assert (message["type"], message["reason"]) == ("gap", "burst")
                missed += message["to"] - message["from"]
        assert missed > 0
        assert heard[-10:] == list(range(20, 30))
        assert heard == sorted(heard)
        assert missed + len(heard) == 30
        async with asyncio.timeout(5):
            await app.wait_room("a")
    async with app.serve(port=0, burst_bytes=1 << 40) as server, wire(server) as client:
        await client.say("subscribe_updates", channel="a")
        await client.hear("subscription_established")
        for number in range(30):
            app.publish("a", number)
        assert [(await client.hear("update"))["data"] for _ in range(30)] == list(range(30))

"""What clients say while the application is busy: bounded in bytes, and no reason to give up."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest
from hostile import BINARY, CLOSE, TEXT, Peer, frame
from looping import on_loops
from umbel import Client, Message, Run, Server, Umbel, WebSocket
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed as PeerClosed
from wire import wire

MIB = 1 << 20
LISTS = b'{"type": "slow", "data": [' + b"[]," * 300_000 + b"[]]}"
"""A kilobyte on the wire, and 19 MiB of Python objects."""


async def until(condition: object) -> None:
    async with asyncio.timeout(10):
        while not condition():  # type: ignore[operator]
            await asyncio.sleep(0.01)


async def is_quiet(server: Server, least: int = 0) -> int:
    """Wait until the server has read so many messages, and reads no more. Returns how many it has read."""
    await until(lambda: server.stats().received >= least)
    received = -1
    while received != server.stats().received:
        received = server.stats().received
        await asyncio.sleep(0.3)
    return received


@on_loops
async def test_pings_are_answered_while_messages_wait_for_slow_functions(app: Umbel) -> None:
    release = asyncio.Event()

    @app.on("slow")
    async def slow(client: Client, message: Message) -> object:
        await release.wait()
        return message.data

    async with app.serve(port=0, max_running=1) as server, wire(server, ping_interval=None) as client:
        for number in range(20):
            await client.say("slow", id=number, data="x" * 1000)
        for _ in range(3):
            async with asyncio.timeout(5):
                await (await client.connection.ping())
        await client.say("slow", id=20)
        last = await client.connection.ping()
        async with asyncio.timeout(5):
            await last
        release.set()
        assert [(await client.hear("slow_result"))["id"] for _ in range(21)] == list(range(21))
        async with asyncio.timeout(5):
            await (await client.connection.ping())


@on_loops
async def test_pings_are_answered_while_a_path_does_not_receive(app: Umbel) -> None:
    release = asyncio.Event()
    taken: list[object] = []

    @app.websocket("/slow")
    async def slow(websocket: WebSocket) -> None:
        await release.wait()
        while True:
            taken.append(await websocket.receive())

    async with app.serve(port=0) as server:
        url = server.url.replace("http", "ws", 1) + "/slow"
        async with connect(url, proxy=None, ping_interval=None, compression=None) as client:
            for number in range(100):
                await client.send(f"{number} " + "x" * 1000)
            for _ in range(3):
                async with asyncio.timeout(5):
                    await (await client.ping())
            assert await is_quiet(server) < 100, "the rest waits"
            release.set()
            await client.send("last")
            await until(lambda: "last" in taken)
    assert len(taken) == 101


@on_loops
async def test_messages_are_bounded_by_what_they_take_and_nobody_is_closed(app: Umbel) -> None:
    release = asyncio.Event()
    begun = 0

    @app.on("slow")
    async def slow(client: Client, message: Message) -> int:
        nonlocal begun
        begun += 1
        await release.wait()
        assert isinstance(message.data, list)
        return len(message.data)

    async with app.serve(port=0, shards=1, max_held_bytes=8 * MIB) as server, AsyncExitStack() as clients:
        said = [await clients.enter_async_context(wire(server, ping_interval=None)) for _ in range(5)]
        for client in said:
            for _ in range(3):
                await client.connection.send(LISTS, text=True)
        await until(lambda: begun)
        assert await is_quiet(server) == begun == 1, "the first one alone is more than 8 MiB"
        release.set()
        for client in said:
            for _ in range(3):
                assert (await client.hear("slow_result"))["data"] == 300_001


@on_loops
async def test_a_client_has_an_eighth_of_the_bytes_and_others_go_on(app: Umbel) -> None:
    release = asyncio.Event()

    @app.on("slow")
    async def slow(client: Client, message: Message) -> None:
        await release.wait()

    @app.on("quick")
    async def quick(client: Client, message: Message) -> None: ...

    async with (
        app.serve(port=0, max_held_bytes=16 * MIB) as server,
        wire(server, ping_interval=None) as greedy,
        wire(server) as modest,
    ):
        for number in range(10):
            await greedy.say("slow", id=number, data="x" * 900_000)
        assert await is_quiet(server, 3) == 3, "2 MiB, and the message that passes it"
        await modest.say("quick", id=1)
        await modest.hear("quick_result")
        release.set()
        assert [(await greedy.hear("slow_result"))["id"] for _ in range(10)] == list(range(10))


@on_loops
async def test_publications_that_wait_for_a_decision_are_bounded(app: Umbel) -> None:
    release = asyncio.Event()

    async def may_publish(client: Client, name: str, data: object) -> bool:
        await release.wait()
        return True

    app.channel("room:{name}", open=True, publish=may_publish)
    async with app.serve(port=0, shards=1, max_held_bytes=8 * MIB) as server, AsyncExitStack() as clients:
        said = [await clients.enter_async_context(wire(server, ping_interval=None)) for _ in range(4)]
        for client in said:
            for number in range(6):  # the same channel: those after the first wait for it, too
                await client.say("publish", id=number, channel="room:a", data="x" * 900_000)
        assert await is_quiet(server) <= 9, "8 MiB, and one"
        release.set()
        for client in said:
            assert [(await client.hear("published"))["id"] for _ in range(6)] == list(range(6))


@on_loops
async def test_text_counts_as_python_holds_it(app: Umbel) -> None:
    release = asyncio.Event()
    taken: list[object] = []

    @app.websocket("/slow")
    async def slow(websocket: WebSocket) -> None:
        await release.wait()
        while True:
            taken.append(await websocket.receive())

    async with app.serve(port=0) as server:
        url = server.url.replace("http", "ws", 1) + "/slow"
        async with connect(url, proxy=None, ping_interval=None) as client:
            for _ in range(20):
                await client.send("x" * 40_000 + "😀")
            # 40 KB that are 160 KB in Python: more than the 128 KiB that a client may have under way.
            assert await is_quiet(server, 1) == 1
            release.set()
            await until(lambda: len(taken) == 20)


async def test_a_message_about_many_channels_counts_as_many(app: Umbel) -> None:
    app.channel("room:{name}", open=True)
    names = [f"room:{number}" for number in range(128)]
    async with app.serve(port=0, max_messages_per_second=100) as server, wire(server) as client:
        for _ in range(3):  # 384 of the 500 that may come at once
            await client.say("subscribe_updates", channels=names)
        await client.say("heartbeat")
        await client.hear("heartbeat_ack")
        with pytest.raises(PeerClosed) as closed:
            for _ in range(3):
                await client.say("subscribe_updates", channels=names)
            while True:
                await client.hear()
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 4429


@on_loops
async def test_a_fault_among_messages_that_waited_closes_for_what_it_is(
    app: Umbel, caplog: pytest.LogCaptureFixture
) -> None:
    @app.on("slow")
    async def slow(client: Client, message: Message) -> None:
        await asyncio.sleep(0.01)

    def visit(address: tuple[str, int]) -> int | None:
        with Peer(address) as peer:
            peer.upgrade()
            message = frame(TEXT, b'{"type": "slow", "data": "' + b"x" * 500 + b'"}')
            peer.send(message * 6 + frame(BINARY, b"not here") + message * 40)
            while (received := peer.read_frame()).opcode != CLOSE:
                pass
            return received.close_code

    async with app.serve(port=0, max_running=1) as server:
        host, _, port = server.url.removeprefix("http://").rpartition(":")
        assert await asyncio.to_thread(visit, (host, int(port))) == 1003
    assert "panicked" not in caplog.text


@on_loops
async def test_the_end_of_a_client_is_noticed_while_the_application_has_no_room(app: Umbel) -> None:
    release = asyncio.Event()

    @app.on("slow")
    async def slow(client: Client, message: Message) -> None:
        await release.wait()

    def visit(address: tuple[str, int]) -> None:
        with Peer(address) as peer:
            peer.upgrade()
            # More than is read ahead of one client: the end behind it waits in the kernel.
            peer.send_until_blocked(frame(TEXT, b'{"type": "heartbeat"}') * 100, most=100_000)

    async with app.serve(port=0, shards=1, max_held_bytes=8 * MIB) as server, wire(server) as filler:
        await filler.connection.send(LISTS, text=True)
        await until(lambda: server.stats().received == 1)
        host, _, port = server.url.removeprefix("http://").rpartition(":")
        await asyncio.to_thread(visit, (host, int(port)))
        await until(lambda: server.stats().connections == 1)
        release.set()


@on_loops
async def test_paths_whose_functions_receive_nothing_do_not_keep_others_out(
    app: Umbel, caplog: pytest.LogCaptureFixture
) -> None:
    @app.websocket("/push")
    async def push(websocket: WebSocket) -> None:
        await asyncio.Event().wait()

    @app.on("quick")
    async def quick(client: Client, message: Message) -> None: ...

    async with (
        app.serve(port=0, max_held_bytes=8 * MIB, close_timeout=0.2) as server,
        AsyncExitStack() as clients,
    ):
        url = server.url.replace("http", "ws", 1) + "/push"
        for _ in range(4):
            filler = await clients.enter_async_context(
                connect(url, proxy=None, ping_interval=None, close_timeout=0.1)
            )
            await filler.send("x" * 900_000 + "😀")  # 3.6 MB in Python
        await is_quiet(server)
        async with wire(server) as modest:
            for number in range(3):
                await modest.say("quick", id=number)
                await modest.hear("quick_result")
        assert (
            "that functions of websocket paths have not received take half of max_held_bytes" in caplog.text
        )


@on_loops
async def test_a_close_is_answered_while_the_application_is_busy(app: Umbel) -> None:
    release = asyncio.Event()
    left: list[int] = []

    @app.on("slow")
    async def slow(client: Client, message: Message) -> None:
        await release.wait()

    @app.on_disconnect
    async def disconnect(client: Client, code: int, reason: str) -> None:
        left.append(code)

    async with app.serve(port=0, max_running=1) as server:
        async with wire(server, ping_interval=None, close_timeout=30) as client:
            for _ in range(2):  # as many as may be under way
                await client.say("slow")
            await is_quiet(server)
            async with asyncio.timeout(3):
                await (await client.connection.ping())
                await client.connection.close(3000)
        assert client.connection.close_code == 3000
        release.set()
        await until(lambda: left == [3000])


@on_loops
async def test_runs_do_not_keep_their_cancelling_from_being_read(app: Umbel) -> None:
    @app.stream("ai_chat_request")
    async def answer(run: Run, message: Message) -> AsyncIterator[str]:
        yield "it goes on"
        await asyncio.Event().wait()

    async with app.serve(port=0, max_running=1, max_runs=8) as server, wire(server) as client:
        for number in range(8):
            await client.say("ai_chat_request", id=number)
        begun = [await client.hear("subscription_established") for _ in range(8)]
        await client.say("ai_cancel", runId=begun[0]["channel"].removeprefix("run:"))
        assert (await client.hear("ai_cancel_result"))["data"] == {"cancelled": True}

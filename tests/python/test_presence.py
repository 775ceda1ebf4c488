"""Who is there, and how an application sends them away."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from looping import on_loops
from umbel import Client, Message, Request, Umbel, WebSocket
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed
from wire import Wire, wire


def guarded(app: Umbel) -> None:
    app.authenticate(lambda request: request.query.get("user"))


async def end_of(client: Wire) -> tuple[int, str]:
    with pytest.raises(ConnectionClosed) as closed:
        await client.hear("nothing")
    assert closed.value.rcvd is not None
    return closed.value.rcvd.code, closed.value.rcvd.reason


async def until(condition: Any) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.01)


@on_loops
async def test_clients_are_there_from_the_end_of_on_connect_until_they_have_left(app: Umbel) -> None:
    guarded(app)
    entered, go_on = asyncio.Event(), asyncio.Event()

    @app.on_connect
    async def connected(client: Client) -> None:
        if client.identity.subject == "slow":
            entered.set()
            await go_on.wait()

    async with app.serve(port=0) as server:
        assert app.clients() == []
        async with wire(server, "/ws?user=ann") as ann, wire(server, "/ws?user=ben") as ben:
            async with wire(server, "/ws?user=ann") as second:
                await until(lambda: len(app.clients()) == 3)
                ids = [it.greeting["clientId"] for it in (ann, ben, second)]
                assert [client.id for client in app.clients()] == ids
                assert [client.id for client in app.clients("ann")] == [ids[0], ids[2]]
                assert app.clients("nobody") == app.clients("") == []
                assert await asyncio.to_thread(app.clients, "ben") == app.clients("ben") != []
            await until(lambda: len(app.clients("ann")) == 1)
            slow = asyncio.create_task(wire(server, "/ws?user=slow").__aenter__())
            await entered.wait()
            assert app.clients("slow") == []
            go_on.set()
            await slow
            await until(lambda: app.clients("slow"))
            app.clients("slow")[0].close()
            assert app.clients("slow") == []
    with pytest.raises(RuntimeError, match="not being served"):
        app.clients()


@on_loops
async def test_a_subject_is_disconnected_everywhere_and_told_not_to_come_back(app: Umbel) -> None:
    guarded(app)
    running = asyncio.Event()

    @app.websocket("/own")
    async def own(websocket: WebSocket) -> None:
        running.set()
        await websocket.wait_closed()

    @app.on("ban", thread=True)
    def ban(client: Client, message: Message) -> int:
        client.send("before")
        return app.disconnect(message.data)

    async with (
        app.serve(port=0, shards=2) as server,
        wire(server, "/ws?user=ann") as one,
        wire(server, "/ws?user=ann") as two,
        wire(server, "/ws?user=ben") as ben,
        connect(server.url.replace("http", "ws", 1) + "/own?user=ann", proxy=None) as path,
    ):
        await running.wait()
        await ben.say("ban", data="ann")
        assert (await ben.hear("ban_result"))["data"] == 3
        assert await end_of(one) == await end_of(two) == (4500, "not allowed")
        with pytest.raises(ConnectionClosed) as closed:
            await path.recv()
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 4500
        await until(lambda: app.disconnect("ann") == 0)
        assert [client.identity.subject for client in app.clients()] == ["ben"]
        assert app.disconnect("ben", 4401, "sign in again") == 1
        assert await end_of(ben) == (4401, "sign in again")
        async with wire(server, "/ws?user=ann"):  # that is for `authenticate` to refuse
            await until(lambda: len(app.clients()) == 1)


@on_loops
async def test_who_is_being_authenticated_meanwhile_is_refused(app: Umbel) -> None:
    deciding: list[Request] = []
    decide = asyncio.Event()

    @app.authenticate
    async def who(request: Request) -> str:
        deciding.append(request)
        if request.query["user"] != "quick":
            await decide.wait()
        return "ann" if request.query["user"] == "quick" else request.query["user"]

    @app.websocket("/own")
    async def own(websocket: WebSocket) -> None:
        raise AssertionError("it was never let in")

    async with app.serve(port=0) as server:
        base = server.url.replace("http", "ws", 1)
        async with (
            connect(base + "/ws?user=ann", proxy=None) as early,
            connect(base + "/own?user=ann", proxy=None) as path,
            connect(base + "/ws?user=ben", proxy=None) as other,
        ):
            await until(lambda: len(deciding) == 3)
            assert app.disconnect("ann", reason="banned") == 0
            async with wire(server, "/ws?user=quick") as late:
                decide.set()
                with pytest.raises(ConnectionClosed) as closed:
                    while True:
                        await early.recv()
                assert closed.value.rcvd is not None
                assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (4500, "banned")
                with pytest.raises(ConnectionClosed) as closed:
                    await path.recv()
                assert closed.value.rcvd is not None
                assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (4500, "banned")
                assert b"connection_established" in (await other.recv(decode=False))
                assert {client.identity.subject for client in app.clients()} == {"ann", "ben"}
                await late.say("heartbeat")
                await late.hear("heartbeat_ack")


@on_loops
async def test_who_is_being_welcomed_meanwhile_is_disconnected(app: Umbel) -> None:
    guarded(app)
    entered = asyncio.Event()

    @app.on_connect
    async def connected(client: Client) -> None:
        entered.set()
        await asyncio.sleep(60)

    async with app.serve(port=0, drain=0.1) as server, wire(server, "/ws?user=ann") as client:
        await entered.wait()
        assert app.disconnect("ann") == 1
        assert await end_of(client) == (4500, "not allowed")


@on_loops
async def test_what_makes_no_sense_is_said(app: Umbel) -> None:
    app.channel("a", open=True)
    with pytest.raises(RuntimeError, match="not being served"):
        app.disconnect("ann")
    async with app.serve(port=0):
        with pytest.raises(RuntimeError, match="no function that is about clients"):
            app.clients()
        with pytest.raises(ValueError, match="anonymous"):
            app.disconnect("")
        for code in (999, 1006, 4502, 5000):
            with pytest.raises(ValueError):
                app.disconnect("ann", code)
        with pytest.raises(ValueError, match="123 bytes"):
            app.disconnect("ann", reason="x" * 124)
        assert app.disconnect("ann") == 0

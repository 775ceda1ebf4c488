"""What is left of a session's connection that has ended, and what of the session when it can't come back."""

import asyncio
from contextvars import ContextVar
from typing import Any

import pytest
from coming_back import begun, cut, resumed, until
from hostile import CLOSE, Peer
from umbel import Client, Message, Request, Server, Umbel


def connected(server: Server, **first: Any) -> tuple[Peer, dict[str, Any]]:
    """A connection that can be closed by halves, and what it was told first."""
    host, port = server.url.removeprefix("http://").split(":")
    peer = Peer((host, int(port)))
    peer.upgrade(headers=["Sec-WebSocket-Protocol: umbel.v1.first, umbel.v1"])
    peer.send_json(first)
    return peer, peer.read_json("connection_established")


def hear(peer: Peer, *kinds: str) -> None:
    """Read until a message of each of these types has come."""
    missing = set(kinds)
    while missing:
        missing.discard(peer.read_json()["type"])


@pytest.mark.parametrize("shards", [1, 2])
async def test_a_socket_that_stays_open_after_its_close_takes_nothing_from_the_session(
    app: Umbel, shards: int
) -> None:
    goes_on = asyncio.Event()
    clients: list[Client] = []

    @app.on("ask")
    async def ask(client: Client, message: Message) -> int:
        clients.append(client)
        await goes_on.wait()
        return 1

    @app.channel("room:{x}")
    async def room(client: Client, x: str) -> bool:
        clients.append(client)
        await goes_on.wait()
        return True

    async with app.serve(port=0, shards=shards) as server:
        former, greeting = await asyncio.to_thread(connected, server, type="authenticate")
        former.send_json({"type": "ask", "id": 1})
        former.send_json({"type": "subscribe_updates", "channel": "room:a"})
        await until(lambda: len(clients) == 2)
        former.send_frame(CLOSE, (1001).to_bytes(2, "big"))
        await until(lambda: not clients[0].connected)
        token = greeting["session"]["token"]
        peers = [former]
        for attempt in range(1, 4):
            peer, greeting = await asyncio.to_thread(
                connected, server, type="resume", session=token, attempt=attempt, positions={"room:a": None}
            )
            peers.append(peer)
            assert greeting["resumed"] is True, attempt
            goes_on.set()
            peer.send_json({"type": "ask", "id": 1})
            await asyncio.to_thread(hear, peer, "ask_result", "subscription_established")
        clients[0].send("hello")
        await asyncio.to_thread(hear, peers[-1], "batched_updates")
        for peer in peers:
            peer.socket.close()
    assert len(clients) == 2, "each was done once"


async def test_a_session_that_nobody_can_have_again_ends_with_its_connection(app: Umbel) -> None:
    noted: list[str] = []
    app.on_away(lambda client, code, reason: noted.append(f"away {code}"))
    app.on_disconnect(lambda client, code, reason: noted.append(f"disconnect {code}"))
    async with app.serve(port=0, session_ttl=0.1, session_lifetime=0.2) as server, begun(server) as it:
        await asyncio.sleep(0.3)
        await cut(it)
        await until(lambda: noted)
    assert noted == ["disconnect 1006"]


WHO: ContextVar[str | None] = ContextVar("WHO")
PLACE: ContextVar[str] = ContextVar("PLACE")


async def test_what_on_connect_has_set_stays_when_the_client_is_asked_who_it_is(app: Umbel) -> None:
    @app.authenticate
    def who(request: Request) -> str:
        WHO.set(request.token)
        return "ann"

    @app.on_connect
    def connect(client: Client) -> None:
        PLACE.set("here")

    app.on("ask")(lambda client, message: [WHO.get(), PLACE.get()])
    async with app.serve(port=0) as server:
        async with begun(server, token="1") as it:
            await cut(it)
        for attempt, token in enumerate(["1", "2", "3", "3"], 1):
            async with resumed(server, it, attempt, token=token) as back:
                assert back.greeting["resumed"] is True
                await back.say("ask", id=attempt)
                assert (await back.hear("ask_result"))["data"] == [token, "here"]
                await cut(back)

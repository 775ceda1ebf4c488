"""How connections end, through a socket.

What was said and published before arrives, nothing comes behind the close frame, and a client that vanishes
in the middle of its own message is nobody else's problem.
"""

from __future__ import annotations

import signal
import socket
from collections.abc import Iterator

import orjson
import pytest
from hostile import CLOSE, TEXT, Canary, Ended, Frame, Ledger, Peer, Subscriber, frame
from looping import on_loops
from serving import Server, running, served
from websockets.exceptions import ConnectionClosed as PeerClosed
from wire import wire

KIB = 1 << 10
MIB = 1 << 20


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with running(served(shards=1)) as process:
        yield process


def message(**fields: object) -> bytes:
    return frame(TEXT, orjson.dumps(fields))


def frames(peer: Peer) -> list[Frame]:
    """Read to the end of the connection. The close frame is answered."""
    seen: list[Frame] = []
    try:
        while True:
            seen.append(peer.read_frame())
            if seen[-1].opcode == CLOSE:
                peer.send_frame(CLOSE, seen[-1].payload[:2])
    except Ended:
        return seen


# -------------------------------------------------------------------------------------- what was said before


@on_loops
async def test_close_comes_after_what_was_sent_before(app):
    @app.on("bye")
    def bye(client, message):
        for number in range(3):
            client.send({"number": number})
        client.close(4500, "as asked")

    async with app.serve(port=0) as server, wire(server) as client:
        await client.say("bye")
        assert [(await client.hear("update"))["data"]["number"] for _ in range(3)] == [0, 1, 2]
        with pytest.raises(PeerClosed) as caught:
            await client.hear()
        assert (caught.value.rcvd.code, caught.value.rcvd.reason) == (4500, "as asked")


@on_loops
async def test_close_comes_after_what_was_published_before_to_any_channel(app):
    @app.on("bye")
    def bye(client, message):
        for channel in ("news:a", "news:b", "news:a", "news:b"):
            app.publish(channel, channel)
        client.close(4500)

    app.channel("news:{topic}", open=True)
    async with app.serve(port=0) as server, wire(server) as client:
        for channel in ("news:a", "news:b"):
            await client.say("subscribe_updates", channel=channel)
            await client.hear("subscription_established")
        await client.say("bye")
        seen = sorted([(await client.hear("update"))["channel"] for _ in range(4)])
        assert seen == ["news:a", "news:a", "news:b", "news:b"]
        with pytest.raises(PeerClosed):
            await client.hear()


@on_loops
async def test_a_subscription_ends_after_what_was_published_before(app):
    @app.on("leave")
    def leave(client, message):
        for channel in ("news:a", "news:b"):
            app.publish(channel, 1)
        client.unsubscribe("news:a")

    app.channel("news:{topic}", open=True)
    async with app.serve(port=0) as server, wire(server) as client:
        for channel in ("news:a", "news:b"):
            await client.say("subscribe_updates", channel=channel)
            await client.hear("subscription_established")
        await client.say("leave")
        first, second, third = [await client.hear() for _ in range(3)]
        assert sorted([first["channel"], second["channel"]]) == ["news:a", "news:b"]
        assert (third["type"], third["channel"]) == ("subscription_ended", "news:a")


def test_a_graceful_stop_gives_a_reader_that_had_stalled_all_of_it() -> None:
    ledger = Ledger()
    server = served(shards=1).wait_ready()
    try:
        reader = Subscriber(server.address, ["a", "b"], ledger, "stalled", receive_buffer=4 * KIB)
        with Subscriber(server.address, [], ledger, "writer") as writer:
            for number in range(40):
                for channel in ("a", "b"):
                    last = writer.publish(channel, f"{number}".zfill(40_000))
            server.process.send_signal(signal.SIGTERM)
            assert writer.read_json("reconnect")
            while (update := reader.read_json())["type"] != "reconnect":
                reader.apply(update)
            for channel in ("a", "b"):
                reader.read_until(channel, last)
            assert reader.expect_close(1012)
            writer.expect_close(1012)
    finally:
        status = server.stop()
    assert status == 0
    assert ledger.first_difference() is None


# ------------------------------------------------------------------------------- nothing behind the last word


def test_nothing_follows_the_close_frame_of_a_client_with_too_many_errors(server: Server) -> None:
    with Peer(server.address) as peer:
        peer.upgrade()
        peer.read_json("connection_established")
        peer.send(
            frame(TEXT, b"[]") * 25
            + message(type="subscribe_updates", channels=[f"channel:{number}" for number in range(25)])
            + message(type="heartbeat")
            + message(type="publish", channel="x", data=1, id=1)
        )
        seen = frames(peer)
    assert [it.opcode for it in seen] == [TEXT] * 21 + [CLOSE]
    assert seen[-1].close_code == 1008
    assert {orjson.loads(it.payload)["type"] for it in seen[:-1]} == {"error"}


def test_the_close_frame_of_a_client_is_found_after_what_it_sent_before(server: Server) -> None:
    with Peer(server.address) as peer:
        peer.upgrade()
        peer.read_json("connection_established")
        # The message that is one too many comes with the rest of the client's life.
        peer.send(frame(TEXT, b"[]") * 25 + message(type="heartbeat") * 10 + frame(CLOSE, b"\x03\xe8"))
        seen: list[Frame] = []
        with pytest.raises(Ended):
            while True:
                seen.append(peer.read_frame())
    assert [it.close_code for it in seen if it.opcode == CLOSE] == [1008]


# ------------------------------------------------------------------------------------------ who vanishes


@pytest.mark.parametrize(
    "last_words",
    [
        pytest.param(message(type="unsubscribe_updates", channels=["a", "b"]), id="unsubscribe"),
        pytest.param(
            message(type="unsubscribe_updates", channels=[f"none:{number}" for number in range(30)]),
            id="errors",
        ),
        pytest.param(
            message(type="subscribe_updates", channels=[f"@{number}" for number in range(30)]), id="names"
        ),
        pytest.param(
            message(type="publish", channel="a", data=1, id=1) * 50
            + message(type="unsubscribe_updates", channels=["b", "a", "c"]),
            id="publish",
        ),
    ],
)
def test_a_client_that_vanishes_in_its_own_message_is_nobody_elses_problem(
    server: Server, last_words: bytes
) -> None:
    with Canary(server.address) as canary:
        for _ in range(30):
            peer = Subscriber(server.address, ["a", "b"])
            peer.send(last_words)
            peer.reset()
        canary.wait_beats(5)
    assert "panicked" not in server.output


def test_a_client_that_vanishes_before_its_answers_are_written(server: Server) -> None:
    with Canary(server.address) as canary:
        for _ in range(30):
            peer = Subscriber(server.address, ["a", "b"])
            peer.socket.shutdown(socket.SHUT_RD)
            peer.send(message(type="heartbeat") * 200)
            peer.send(message(type="unsubscribe_updates", channels=["a", "b"]))
            peer.reset()
        canary.wait_beats(5)
    assert "panicked" not in server.output

"""Connections beyond a cap, and what one may hold before it is let in, through a socket."""

from __future__ import annotations

import contextlib
import pathlib
import threading
from collections import Counter
from collections.abc import Iterator

import pytest
from hostile import BINARY, TEXT, Ended, Peer, Response, frame, handshake
from serving import Server, http_status, running, served, wait_until
from umbel import Umbel
from websockets.asyncio.client import unix_connect

pytestmark = pytest.mark.timeout(90)

KIB = 1 << 10
MIB = 1 << 20

ANN, BEN = "127.0.0.2", "127.0.0.3"
"""Addresses of clients; neither is where the fixtures ask whether the server is ready."""


def knock(server: Server, source: str | None = None, request: bytes | None = None) -> tuple[Peer, Response]:
    """Return a peer and the answer to its request."""
    peer = Peer(server.address, source=source)
    with contextlib.suppress(Ended):  # refused before it has said anything
        peer.send(request or handshake("/echo"))
    return peer, peer.response()


def accepted(server: Server, source: str) -> Peer | None:
    """Return a peer whose connection was upgraded, or ``None``."""
    peer, response = knock(server, source)
    if response.status == 101:
        return peer
    peer.socket.close()
    return None


# -------------------------------------------------------------------------------------------- per address


@pytest.fixture(scope="module", params=[False, True], ids=["one listener", "a listener per shard"])
def capped(request: pytest.FixtureRequest) -> Iterator[Server]:
    settings = {"shards": 2, "reuse_port": request.param, "handshake_timeout": 1.0, "close_timeout": 0.5}
    with running(served(max_connections_per_address=3, **settings)) as process:
        yield process


def assert_has_three_places(server: Server, source: str) -> None:
    """The address has all of its places, and not one more."""
    peers: list[Peer] = []

    def fill() -> bool:
        peer = accepted(server, source)
        if peer:
            peers.append(peer)
        return len(peers) == 3

    wait_until(fill, "three of one address are let in")
    assert accepted(server, source) is None
    for peer in peers:
        peer.socket.close()


def test_a_connection_too_many_of_one_address_gets_429_and_others_are_let_in(capped: Server) -> None:
    with contextlib.ExitStack() as peers:
        for _ in range(3):
            peer, response = knock(capped, ANN)
            peers.enter_context(peer)
            assert response.status == 101
        refused, response = knock(capped, ANN)
        peers.enter_context(refused)
        assert (response.status, response.headers["retry-after"]) == (429, "10")
        refused.expect_end()
        other, response = knock(capped, BEN)
        peers.enter_context(other)
        assert response.status == 101
    assert_has_three_places(capped, ANN)


def test_of_a_storm_from_one_address_exactly_so_many_are_let_in(capped: Server) -> None:
    with contextlib.ExitStack() as open_peers:
        storm = [open_peers.enter_context(Peer(capped.address, source=BEN)) for _ in range(60)]
        for peer in storm:
            with contextlib.suppress(Ended):
                peer.send(handshake("/echo"))
        assert Counter(peer.response().status for peer in storm) == {101: 3, 429: 57}
    assert_has_three_places(capped, BEN)


def test_a_place_is_free_again_however_its_connection_ended(capped: Server) -> None:
    def vanish() -> None:
        Peer(capped.address, source=ANN).reset()

    def stay_silent() -> None:
        with Peer(capped.address, source=ANN) as peer:
            peer.expect_end(10)

    def break_off_in_the_request() -> None:
        with Peer(capped.address, source=ANN) as peer:
            peer.send(handshake("/echo")[:50])

    def be_wrong() -> None:
        knock(capped, ANN, b"what?\r\n\r\n")[0].expect_end()

    def read_a_page() -> None:
        knock(capped, ANN, b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n")[0].expect_end()

    def break_the_protocol() -> None:
        peer = accepted(capped, ANN)
        if peer:
            peer.send(b"\xff\xff")
            peer.expect_close(1002)

    def reset_in_the_middle() -> None:
        peer = accepted(capped, ANN)
        if peer:
            peer.send_frame(BINARY, b"begun", fin=False)
            peer.reset()

    for end in (
        vanish,
        stay_silent,
        break_off_in_the_request,
        be_wrong,
        read_a_page,
        break_the_protocol,
        reset_in_the_middle,
    ):
        end()
        assert_has_three_places(capped, ANN)


async def test_clients_of_a_unix_socket_have_no_address_to_be_counted_by(
    tmp_path: pathlib.Path,
) -> None:
    path = str(tmp_path / "socket")
    async with (
        Umbel(unix_socket=path, max_connections_per_address=1).serve(),
        unix_connect(path, "ws://localhost/ws"),
        unix_connect(path, "ws://localhost/ws") as second,
    ):
        assert "connection_established" in str(await second.recv())


# ------------------------------------------------------------------------------------------- per identity


def test_a_connection_too_many_of_one_identity_is_told_and_closed_with_4429() -> None:
    with (
        running(served(authenticate=True, max_connections_per_identity=2)) as server,
        come(server, "ann"),
        come(server, "ann", "/echo") as leaving,
        come(server, "ben"),
    ):
        for path in ("/ws", "/echo"):
            with Peer(server.address) as refused:
                refused.upgrade(f"{path}?user=ann")
                if path == "/ws":
                    error = refused.read_json()
                    assert (error["type"], error["code"]) == ("error", "limit_exceeded")
                assert "as many connections as it may have" in refused.expect_close(4429)
        leaving.socket.close()

        def returns() -> bool:
            with Peer(server.address) as peer:
                peer.upgrade("/ws?user=ann")
                return bool(peer.read_json()["type"] == "connection_established")

        wait_until(returns, "the place of who left is free")


def come(server: Server, user: str, path: str = "/ws", more: str = "") -> Peer:
    """Return a peer that has been let in."""
    peer = Peer(server.address)
    peer.upgrade(f"{path}?user={user}{more}")
    if path == "/ws":
        peer.read_json("connection_established")
    else:
        peer.send_frame(TEXT, b"in")
        assert peer.read_message() == b"in"
    return peer


# ---------------------------------------------------------------------------------- a server that is full


def test_in_a_full_server_a_connection_without_a_request_makes_room_for_others() -> None:
    settings = {"max_connections": 10, "handshake_timeout": 60, "shards": 1}
    with running(served(**settings)) as server, contextlib.ExitStack() as peers:
        let_in = [peers.enter_context(Peer(server.address)) for _ in range(5)]
        for peer in let_in:
            peer.upgrade("/echo")
        wait_until(lambda: is_full(server, peers), "the server is full")
        wait_until(lambda: http_status(server.address, "/healthz") == 200, "there is room for a newcomer")
        for peer in let_in:
            peer.send_frame(TEXT, b"still here")
            assert peer.read_message() == b"still here"


def is_full(server: Server, peers: contextlib.ExitStack) -> bool:
    """Add a peer that says nothing, and say whether another one is refused."""
    peers.enter_context(Peer(server.address))
    return http_status(server.address, "/healthz") == 503


# ------------------------------------------------------------------------------------ before it is let in


@pytest.mark.parametrize("path", ["/ws", "/echo"])
def test_messages_sent_before_a_client_was_let_in_are_handled_in_order(path: str) -> None:
    def message(number: int) -> bytes:
        return b'{"type": "heartbeat", "id": %d, "pad": "%s"}' % (number, b"x" * KIB)

    count = MIB // len(message(0))
    early = b"".join(frame(TEXT, message(number)) for number in range(count))
    with running(served(authenticate=True)) as server, Peer(server.address) as peer:
        sending = threading.Thread(
            target=peer.send, args=(handshake(f"{path}?user=ann&knock=1") + early,), daemon=True
        )
        sending.start()
        come(server, "ann", "/ws", "&count=1&open=1").socket.close()
        assert peer.response().status == 101
        for number in range(count):
            if path == "/ws":
                assert peer.read_json("heartbeat_ack")["id"] == number
            else:
                assert peer.read_message() == message(number)
        sending.join()


def test_clients_that_are_not_let_in_hold_little_whatever_they_send() -> None:
    crowd = 300
    early = frame(BINARY, b"early" * (20 * KIB))
    settings = {"max_message": MIB, "handshake_timeout": 60, "shards": 1, "drain": 0.5}
    with running(served(authenticate=True, **settings)) as server, contextlib.ExitStack() as open_peers:
        with Peer(server.address) as peer:  # what the first of all costs, nobody else pays
            peer.upgrade("/echo?user=ann", early=early)
            peer.read_message()
        server.forget_peak()
        before = server.peak()
        for _ in range(crowd):
            peer = open_peers.enter_context(Peer(server.address))
            peer.socket.setblocking(False)  # what the kernel takes is more than enough
            assert peer.socket.send(handshake("/echo?user=ann&knock=1") + early) > 64 * KIB
            peer.socket.setblocking(True)
        come(server, "ann", "/ws", f"&count={crowd}").socket.close()
        assert server.peak() - before < crowd * 32 * KIB

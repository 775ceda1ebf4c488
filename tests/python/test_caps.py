"""What a connection may hold before it is let in, through a socket.

A letter and a number in a comment is the row of the checklist of hostile input: F abuse.
"""

from __future__ import annotations

import contextlib
import threading

import pytest
from hostile import BINARY, TEXT, Peer, frame, handshake
from serving import Server, running, served

pytestmark = pytest.mark.timeout(90)

KIB = 1 << 10
MIB = 1 << 20


@pytest.mark.parametrize("path", ["/ws", "/echo"])
def test_what_came_before_a_client_was_let_in_is_handled_in_order(path: str) -> None:  # F9
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


def test_clients_that_are_not_let_in_hold_little_whatever_they_send() -> None:  # F9
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

"""Clients that refer to their earlier messages when they compress."""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Iterator

import pytest
from hostile import CONTINUATION, TEXT, Peer
from serving import Server, running, served

pytestmark = pytest.mark.timeout(60)

OFFER = ["Sec-WebSocket-Extensions: permessage-deflate"]
SMALL = {"max_message": 64 << 10, "max_held_bytes": 256 << 10}


class Keeper(Peer):
    """Keeps its window, whatever is answered. So does Safari 15."""

    def __init__(self, server: Server, path: str = "/echo") -> None:
        super().__init__(server.address)
        self.answered = self.upgrade(path, headers=OFFER).headers["sec-websocket-extensions"]
        self._deflater = zlib.compressobj(6, zlib.DEFLATED, -15)

    def deflated(self, data: bytes) -> bytes:
        compressed = self._deflater.compress(data) + self._deflater.flush(zlib.Z_SYNC_FLUSH)
        return compressed.removesuffix(b"\x00\x00\xff\xff")

    def say(self, data: bytes) -> int:
        """Send a text message; return its compressed size."""
        payload = self.deflated(data)
        self.send_frame(TEXT, payload, rsv=4)
        return len(payload)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with running(served(shards=1, client_context_takeover=True, **SMALL)) as process:
        yield process


@pytest.fixture(scope="module")
def strict() -> Iterator[Server]:
    with running(served(shards=1)) as process:
        yield process


def test_by_default_a_client_that_keeps_its_window_is_closed(strict: Server) -> None:
    with Keeper(strict) as peer:
        assert "client_no_context_takeover" in peer.answered
        text = b"the same words, the same words " * 3
        peer.say(text)
        assert peer.read_message() == text
        peer.say(text)
        peer.expect_close(1002)


def test_a_client_may_keep_its_window(server: Server) -> None:
    with Keeper(server) as peer:
        assert peer.answered == "permessage-deflate; server_no_context_takeover"
        text = os.urandom(5000).hex().encode()
        first, second = peer.say(text), peer.say(text)
        assert second < first / 20, "the second refers to the first"
        assert [peer.read_message() for _ in range(2)] == [text] * 2
        peer.send_frame(TEXT, b"plain")  # which is not in the window
        assert peer.say(text) < first / 20
        assert [peer.read_message() for _ in range(2)] == [b"plain", text]


def test_messages_larger_than_the_window_and_in_pieces_keep_it(server: Server) -> None:
    with Keeper(server) as peer:
        for size in (40 << 10, 10, 60 << 10, 3):
            text = os.urandom(size // 2).hex().encode()
            payload = peer.deflated(text)
            third = len(payload) // 3
            peer.send_frame(TEXT, payload[:third], fin=False, rsv=4)
            peer.send_frame(CONTINUATION, payload[third : 2 * third], fin=False)
            peer.send_frame(CONTINUATION, payload[2 * third :])
            assert peer.read_message() == text
            assert peer.say(text[-1000:]) < 100 or size < 1000
            assert peer.read_message() == text[-1000:]


def test_a_session_may_keep_its_window_too(server: Server) -> None:
    with Keeper(server, "/ws") as peer:
        for number in range(50):
            peer.say(json.dumps({"type": "heartbeat", "id": number}).encode())
            assert peer.read_json("heartbeat_ack")["id"] == number


def test_the_limit_of_a_message_stays_in_force(server: Server) -> None:
    with Keeper(server) as peer:
        peer.say(b"x" * (32 << 10))
        peer.read_message()
        assert peer.say(b"x" * (1 << 20)) < 2000
        peer.expect_close(1009)


def test_a_client_that_offers_not_to_keep_it_holds_nothing(server: Server) -> None:
    with Peer(server.address) as peer:
        response = peer.upgrade("/echo", headers=[f"{OFFER[0]}; client_no_context_takeover"])
        assert "client_no_context_takeover" in response.headers["sec-websocket-extensions"]


def test_nobody_is_closed_for_windows_of_more_than_all_may_hold(server: Server) -> None:
    text = os.urandom(16 << 10).hex().encode()
    peers = [Keeper(server) for _ in range(40)]  # 1.25 MiB of windows, and 256 KiB that may be held
    try:
        for _ in range(2):
            for peer in peers:
                peer.say(text)
                assert peer.read_message() == text
    finally:
        for peer in peers:
            peer.socket.close()

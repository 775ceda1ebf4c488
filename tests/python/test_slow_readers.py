"""Clients that read slowly, or nothing: the former get what they were answered, the latter cost little."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator

import pytest
from hostile import CLOSE, TEXT, Ended, Peer, frame
from serving import Server, running, served, wait_until

KIB, MIB = 1 << 10, 1 << 20
PAUSE = 0.02


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """A server without patience after its last word."""
    with running(served(close_timeout=0.3)) as process:
        yield process


def ask(server: Server, count: int, size: int) -> Peer:
    """Return a peer that has asked for so many answers of a size, and reads nothing yet."""
    peer = Peer(server.address, receive_buffer=32 * KIB)
    peer.upgrade("/ws")
    peer.read_json("connection_established")
    asked = [{"type": "answer_at_length", "id": number, "size": size} for number in range(count)]
    peer.send(b"".join(frame(TEXT, json.dumps(message).encode()) for message in asked))
    return peer


def test_who_reads_slowly_gets_all_answers(server: Server) -> None:
    with ask(server, 16, 200 * KIB) as peer:
        for number in range(16):
            time.sleep(PAUSE)
            assert peer.read_json("answer_at_length_result")["id"] == number


def test_a_page_is_read_to_its_end_however_slowly(server: Server) -> None:
    with Peer(server.address, receive_buffer=32 * KIB) as peer:
        peer.send(b"GET /long HTTP/1.1\r\nHost: test\r\n\r\n")
        length, began = 0, time.monotonic()
        # Longer than the server waits for a client that does nothing.
        while part := peer.socket.recv(64 * KIB):
            length += len(part)
            if time.monotonic() - began < 1:
                time.sleep(PAUSE)
        assert length > 3 * MIB


def test_of_too_many_unread_answers_the_oldest_give_way() -> None:
    room_for_two = served(max_message=900 * KIB, max_held_bytes=8 * MIB)
    with running(room_for_two) as server, contextlib.ExitStack() as peers:
        before = server.descriptors()
        asked = [peers.enter_context(ask(server, 5, 850 * KIB)) for _ in range(4)]
        wait_until(lambda: server.descriptors() == before + 2, "the oldest have no connection any more")
        for peer in asked[:2]:
            with pytest.raises((Ended, ConnectionError)):
                while peer.read_frame().opcode != CLOSE:
                    pass
        assert [asked[-1].read_json("answer_at_length_result")["id"] for _ in range(5)] == list(range(5))

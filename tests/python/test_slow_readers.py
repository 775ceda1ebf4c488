"""Clients that read slowly, or nothing: the former get what they were answered, the latter cost little."""

from __future__ import annotations

import contextlib
import json
import resource
import time
from collections.abc import Callable, Iterator

import pytest
from hostile import BINARY, CLOSE, PATIENCE, TEXT, Ended, Peer, frame
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


def test_a_client_that_reads_slowly_gets_all_replies(server: Server) -> None:
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


def echo(server: Server, size: int) -> Peer:
    """Return a peer that has sent a message to a route that sends it back, and reads nothing yet."""
    peer = Peer(server.address, receive_buffer=32 * KIB)
    peer.upgrade("/echo")
    peer.send_frame(BINARY, bytes(size))
    return peer


@pytest.mark.parametrize(
    "begin", [lambda server, size: ask(server, 1, size), echo], ids=["protocol", "route"]
)
def test_of_too_many_unread_answers_the_oldest_give_way(begin: Callable[[Server, int], Peer]) -> None:
    room_for_two = served(shards=1, max_message=4 * MIB, max_held_bytes=10 * MIB)
    with running(room_for_two) as server, contextlib.ExitStack() as peers:
        asked = []
        for _ in range(4):
            asked.append(peers.enter_context(begin(server, 4 * MIB)))
            # One shard, and an answer before the next client asks: so the ages are in the order of this list.
            assert asked[-1].readable(PATIENCE)
        wait_until(lambda: server.connections() == 2, "the oldest have no connection any more")
        for peer in asked[:2]:
            with pytest.raises((Ended, ConnectionError)):
                while peer.read_frame().opcode != CLOSE:
                    pass
        for peer in asked[2:]:
            assert len(peer.read_message()) >= 4 * MIB


def test_a_server_lives_within_little_memory_whatever_is_not_read() -> None:
    small = served(shards=1, max_message=4 * MIB, max_held_bytes=10 * MIB)
    with running(small) as server, contextlib.ExitStack() as peers:
        # What one client after the other lets wait is many times the room there is.
        used = server.address_space()
        resource.prlimit(server.pid, resource.RLIMIT_AS, (used + 128 * MIB, used + 128 * MIB))
        for _ in range(80):
            assert peers.enter_context(ask(server, 1, 4 * MIB)).readable(PATIENCE)
        with ask(server, 1, 1 * KIB) as reader:
            assert len(reader.read_json("answer_at_length_result")["data"]) == 1 * KIB
        assert server.connections() <= 4

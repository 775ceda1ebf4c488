"""What hostile and broken clients meet, through a socket: one test per rule for the wiring.

The rules themselves are tested without sockets, beside the codecs.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import select
import socket
import time
from collections.abc import Iterator

import pytest
from hostile import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    Canary,
    Ended,
    Ledger,
    Peer,
    Subscriber,
    bomb,
    deflated,
    frame,
    handshake,
)
from serving import Server, http_status, running, served, wait_until

pytestmark = pytest.mark.timeout(90)

KIB = 1 << 10
MIB = 1 << 20

NOISE = 1 * MIB
LATE = 1.5
"""Seconds after which a reader that takes nothing does not keep up."""
"""Growth of a process that no single connection explains: allocator pages, the interpreter's own."""

DEFLATE = ["Sec-WebSocket-Extensions: permessage-deflate"]


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """A server with default limits but the message limit, which is that of the echo example."""
    with running(served(max_message=16 * MIB)) as process:
        yield process


@pytest.fixture(scope="module")
def strict() -> Iterator[Server]:
    """A server with small limits and short deadlines."""
    limits = {"max_message": 64 * KIB, "handshake_timeout": 0.3, "write_timeout": 1.0, "close_timeout": 0.5}
    with running(served(**limits)) as process:
        yield process


@pytest.fixture(scope="module")
def paced() -> Iterator[Server]:
    """A server that takes 100 messages per second from a client."""
    with running(served(max_messages_per_second=100)) as process:
        yield process


def connect(server: Server, path: str = "/echo", *, deflate: bool = False, early: bytes = b"") -> Peer:
    """Return a peer that has shaken hands; on /ws it has read connection_established."""
    peer = Peer(server.address)
    response = peer.upgrade(path, headers=DEFLATE if deflate else (), early=early)
    assert ("sec-websocket-extensions" in response.headers) == deflate
    if path == "/ws":
        peer.read_json("connection_established")
    return peer


def assert_alive(peer: Peer) -> None:
    """The connection still answers."""
    peer.send_frame(PING, b"alive?")
    while (received := peer.read_frame()).opcode != PONG:
        assert received.opcode != CLOSE, received
    assert received.payload == b"alive?"


# --------------------------------------------------------------------------------------- A: handshake, HTTP


def test_silence_before_the_request_is_closed_at_the_deadline(strict: Server) -> None:
    before = strict.descriptors()
    began = time.monotonic()
    silent = [Peer(strict.address) for _ in range(100)]
    for peer in silent:
        assert peer.expect_end(5) == b""
    assert 0.2 < time.monotonic() - began < 3
    wait_until(lambda: strict.descriptors() <= before + 2, "all descriptors are free again")


def test_silence_of_many_does_not_slow_a_healthy_client(strict: Server) -> None:
    with Canary(strict.address) as canary:
        silent = [Peer(strict.address) for _ in range(200)]
        canary.wait_beats(20)
        for peer in silent:
            peer.expect_end(5)
    assert canary.quantile(0.5) < 0.1


def test_silence_costs_no_buffer(server: Server) -> None:
    before = server.resident()
    with contextlib.ExitStack() as silent:
        for _ in range(1000):
            silent.enter_context(Peer(server.address))
        wait_until(lambda: server.descriptors() > 1000, "all are accepted")
        assert server.resident() - before < 1000 * 2 * KIB + NOISE


def test_a_storm_of_connects_is_served_and_slows_nobody(server: Server) -> None:
    with contextlib.ExitStack() as open_peers, Canary(server.address) as canary:
        canary.wait_beats(20)
        storm = [open_peers.enter_context(Peer(server.address)) for _ in range(400)]
        for peer in storm:
            peer.send(handshake("/ws"))
        for peer in storm:
            assert peer.response().status == 101
            peer.read_json("connection_established")
        canary.wait_beats(20)
    assert canary.quantile(0.5) < 0.1


def test_clients_that_come_and_go_leave_nothing_behind(server: Server) -> None:
    def come_and_go(times: int) -> None:
        for _ in range(times):
            with connect(server, "/ws") as peer:
                peer.send_json({"type": "subscribe_updates", "channel": "churn"})
                peer.read_json("subscription_established")

    come_and_go(500)
    descriptors, before = server.descriptors(), server.resident()
    come_and_go(1500)
    wait_until(lambda: server.descriptors() <= descriptors + 2, "the last ones are gone")
    assert server.resident() - before < 1500 * 1024


def test_a_slow_request_ends_at_the_deadline_whatever_trickles_in(strict: Server) -> None:
    with Peer(strict.address) as peer:
        began = time.monotonic()
        for byte in handshake("/ws"):
            if peer.readable(0.02):
                break
            try:
                peer.send(bytes([byte]))
            except Ended:
                break
        else:
            raise AssertionError("the request was read to its end")
        assert 0.2 < time.monotonic() - began < 3
        assert peer.response().status == 408
        peer.expect_end()


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        pytest.param(handshake(add=["X-Long: " + "x" * 100 * KIB]), 431, id="header of 100 KiB"),
        pytest.param(handshake(add=[f"X-{n}: 1" for n in range(5000)]), 431, id="5000 headers"),
        pytest.param(handshake("/" + "x" * 64 * KIB), 414, id="path of 64 KiB"),
    ],
)
def test_an_oversized_request_is_refused_with_the_reason(
    server: Server, request_bytes: bytes, status: int
) -> None:
    with Canary(server.address) as canary, Peer(server.address) as peer:
        with contextlib.suppress(Ended):  # refused while it was still being sent
            peer.send(request_bytes)
        assert peer.response().status == status
        peer.expect_end()
        canary.wait_beats(5)


def test_frames_in_the_packet_of_the_request_are_not_lost(server: Server) -> None:
    with connect(server, early=frame(TEXT, b"early") + frame(TEXT, b"bird")) as peer:
        assert [peer.read_message(), peer.read_message()] == [b"early", b"bird"]


def test_a_request_may_be_cut_anywhere(server: Server) -> None:
    whole = handshake("/echo") + frame(TEXT, b"early")
    for cut in range(1, len(whole), 7):
        with Peer(server.address) as peer:
            peer.send(whole[:cut])
            peer.send(whole[cut:])
            assert peer.response().status == 101
            assert peer.read_message() == b"early"


@pytest.mark.parametrize(
    "headers",
    [
        ["Upgrade: WebSocket"],
        ["Upgrade: websocket, h2c"],
        ["Connection: keep-alive, Upgrade"],
        ["Connection: upgrade"],
    ],
    ids=str,
)
def test_upgrade_and_connection_are_lists_without_case(server: Server, headers: list[str]) -> None:
    with Peer(server.address) as peer:
        peer.send(handshake("/echo", add=headers))
        assert peer.response().status == 101


@pytest.mark.parametrize(
    ("request_bytes", "statuses"),
    [
        pytest.param(handshake(add=["Sec-WebSocket-Version: 12"]), {426}, id="version 12"),
        pytest.param(handshake(without=["Sec-WebSocket-Version"]), {400, 426}, id="no version"),
        pytest.param(handshake(without=["Sec-WebSocket-Key"]), {400}, id="no key"),
        pytest.param(
            handshake(add=["Sec-WebSocket-Key: " + "AAAAAAAAAAAAAAAAAAAAAA=="] * 2), {400}, id="two keys"
        ),
        pytest.param(handshake(add=["Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAA"]), {400}, id="key of 15 bytes"),
        pytest.param(
            handshake(add=["Sec-WebSocket-Key: !!!!!!!!!!!!!!!!!!!!!!=="]), {400}, id="key not base64"
        ),
        pytest.param(handshake(method="POST", add=["Content-Length: 0"]), {400, 405}, id="POST"),
        pytest.param(handshake(version="HTTP/1.0"), {400, 426, 505}, id="HTTP/1.0"),
        pytest.param(handshake(add=["Content-Length: 30"]) + b"x" * 30, {400}, id="body by length"),
        pytest.param(
            handshake(add=["Transfer-Encoding: chunked"]) + b"0\r\n\r\n", {400}, id="body in chunks"
        ),
        pytest.param(handshake().replace(b"\r\n", b"\n"), {400}, id="bare LF"),
        pytest.param(handshake(add=["X-Folded: a\r\n b"]), {400}, id="folded header"),
        pytest.param(handshake(add=["X-Space : a"]), {400}, id="space before the colon"),
        pytest.param(handshake(add=["X-Nul: a\0b"]), {400}, id="NUL in a value"),
        pytest.param(handshake(without=["Host"]), {400}, id="no host"),
        pytest.param(handshake(add=["Host: a", "Host: b"]), {400}, id="two hosts"),
        pytest.param(handshake(add=["Host: a/b"]), {400}, id="host with a path"),
        pytest.param(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", {400, 505}, id="HTTP/2 preface"),
    ],
)
def test_a_wrong_handshake_is_answered_with_its_status(
    server: Server, request_bytes: bytes, statuses: set[int]
) -> None:
    with Peer(server.address) as peer:
        peer.send(request_bytes)
        response = peer.response()
        assert response.status in statuses
        if response.status == 426:
            assert response.headers["sec-websocket-version"] == "13"
        peer.expect_end()


def test_a_body_of_an_upgrade_is_never_read_as_a_request(server: Server) -> None:
    smuggled = b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n"
    with Peer(server.address) as peer:
        peer.send(handshake(add=[f"Content-Length: {len(smuggled)}"]) + smuggled)
        assert peer.response().status == 400
        assert peer.expect_end() == b""


def test_h2c_is_not_upgraded_to(server: Server) -> None:
    with Peer(server.address) as peer:
        peer.send(
            b"GET /healthz HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"
        )
        peer.send(b"HTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n")
        assert peer.response().status != 101


# ------------------------------------------------------------------------------------------------ B: frames


ILLEGAL = {
    "unmasked text": frame(TEXT, b"x", mask=None),
    "unmasked ping": frame(PING, b"x", mask=None),
    "unmasked close": frame(CLOSE, b"\x03\xe8", mask=None),
    "unmasked in the middle": frame(TEXT, b"x", fin=False) + frame(CONTINUATION, b"y", mask=None),
    "RSV2": frame(TEXT, b"x", rsv=2),
    "RSV3": frame(TEXT, b"x", rsv=1),
    "RSV1 without deflate": frame(TEXT, b"x", rsv=4),
    "opcode 3": frame(3),
    "opcode 15": frame(15),
    "fragmented ping": frame(PING, fin=False),
    "ping of 126 bytes": frame(PING, b"x" * 126),
    "continuation of nothing": frame(CONTINUATION, b"x"),
    "text inside a message": frame(TEXT, b"x", fin=False) + frame(TEXT, b"y"),
    "5 bytes in the form of 16 bits": frame(TEXT, b"hello", form=2),
    "300 bytes in the form of 64 bits": frame(TEXT, b"x" * 300, form=8),
    "length with the top bit": frame(TEXT, declare=1 << 63),
    "close of one byte": frame(CLOSE, b"\x03"),
}


@pytest.mark.parametrize("path", ["/echo", "/ws"])
@pytest.mark.parametrize("data", ILLEGAL.values(), ids=ILLEGAL)
def test_an_illegal_frame_closes_with_1002(server: Server, data: bytes, path: str) -> None:
    with connect(server, path) as peer:
        peer.send(data)
        assert peer.expect_close(1002), "the reason should say what was wrong"


@pytest.mark.parametrize(
    "data", [b"\xff", b"\xc0\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"ok\xe2\x82"], ids=repr
)
def test_invalid_utf8_closes_with_1007(server: Server, data: bytes) -> None:
    with connect(server) as peer:
        peer.send_frame(TEXT, data)
        peer.expect_close(1007)


def test_invalid_utf8_is_found_before_the_message_ends(server: Server) -> None:
    with connect(server) as peer:
        peer.send_frame(TEXT, b"\xf4", fin=False)
        peer.send_frame(CONTINUATION, b"\x90", fin=False)
        peer.expect_close(1007)


@pytest.mark.parametrize("length", [1 << 31, 1 << 32, 1 << 62])
def test_a_huge_declared_length_costs_nothing(server: Server, length: int) -> None:
    server.forget_peak()
    before = server.resident()
    with connect(server) as peer:
        peer.send_frame(BINARY, b"", declare=length)
        peer.expect_close(1009)
    assert server.peak() - before < NOISE


def test_the_message_limit_is_exact(strict: Server) -> None:
    with connect(strict) as peer:
        peer.send_frame(BINARY, b"x" * 64 * KIB)
        assert len(peer.read_message()) == 64 * KIB
        peer.send_frame(BINARY, b"", declare=64 * KIB + 1)
        peer.expect_close(1009)


def test_fragments_that_pass_the_limit_together_close_with_1009(strict: Server) -> None:
    with connect(strict) as peer:
        peer.send_frame(BINARY, b"x" * 40 * KIB, fin=False)
        peer.send_frame(CONTINUATION, b"x" * 40 * KIB, fin=False)
        peer.expect_close(1009)


def test_a_message_in_tiny_fragments_is_put_together(server: Server) -> None:
    payload = os.urandom(4 * MIB)
    with connect(server) as peer:
        parts = [frame(BINARY, payload[:64], fin=False)]
        parts += [frame(CONTINUATION, payload[at : at + 64], fin=False) for at in range(64, len(payload), 64)]
        peer.send(b"".join(parts) + frame(CONTINUATION))
        assert peer.read_message() == payload


def test_an_unfinished_message_holds_its_bytes_and_no_more(server: Server) -> None:
    count = 1_000_000
    with connect(server) as warm:
        warm.send_frame(TEXT, b"warm")
        warm.read_message()
    server.forget_peak()
    before = server.resident()
    with connect(server) as peer:
        peer.send_frame(TEXT, b"", fin=False)
        peer.send(frame(CONTINUATION, b"x", fin=False) * count)
        assert_alive(peer)
        assert server.peak() - before < count * 1.25 + 64 * KIB + NOISE


def test_of_too_many_unfinished_messages_the_oldest_give_way() -> None:
    small = served(shards=2, max_message=100 * KIB, max_held_bytes=328 * KIB)
    with running(small) as server, contextlib.ExitStack() as peers:
        old, *younger = [peers.enter_context(connect(server)) for _ in range(4)]
        for peer in (old, *younger[:2]):
            peer.send_frame(BINARY, b"x" * 90 * KIB, fin=False)
            assert_alive(peer)
        younger[2].send_frame(BINARY, b"x" * 90 * KIB, fin=False)
        old.expect_close(1013)
        for peer in younger:
            peer.send_frame(CONTINUATION)
            assert len(peer.read_message()) == 90 * KIB


def test_a_million_empty_fragments_do_not_slow_a_healthy_client(server: Server) -> None:
    with Canary(server.address) as canary, connect(server) as peer:
        canary.wait_beats(20)
        calm = canary.quantile(0.5)
        canary.latencies.clear()
        peer.send_frame(TEXT, b"", fin=False)
        for _ in range(100):
            peer.send(frame(CONTINUATION, fin=False) * 10_000)
        assert_alive(peer)
        canary.wait_beats(5)
        assert canary.quantile(0.5) < 10 * calm + 0.05


def test_a_ping_flood_that_reads_nothing_is_stopped_and_closed(strict: Server) -> None:
    with Canary(strict.address) as canary:
        strict.forget_peak()
        before = strict.resident()
        with Peer(strict.address, receive_buffer=4 * KIB) as peer:
            peer.upgrade("/echo")
            taken = peer.send_until_blocked(frame(PING, b"x" * 125) * 500, most=64 * MIB)
            assert taken < 64 * MIB, "the server should stop reading from a client that reads nothing"
            canary.wait_beats(20)
            assert strict.peak() - before < 64 * KIB + NOISE
            wait_until(lambda: ended(peer), "the stalled connection is closed after write_timeout", 5)


def test_a_ping_flood_that_reads_is_answered_at_most_once_each(server: Server) -> None:
    with connect(server) as peer:
        peer.send(b"".join(frame(PING, str(number).encode()) for number in range(1000)))
        seen: list[int] = []
        while not seen or seen[-1] != 999:
            seen.append(int(peer.read_frame().payload))
        assert seen == sorted(set(seen)), (
            "pongs may be skipped (RFC 6455 §5.5.3), not doubled or out of order"
        )


def ended(peer: Peer) -> bool:
    """Say whether the other end has hung up, without reading what it sent before."""
    poll = select.poll()
    poll.register(peer.socket, select.POLLRDHUP | select.POLLHUP | select.POLLERR)
    return bool(poll.poll(0))


@pytest.mark.parametrize("code", [0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535])
def test_a_close_code_that_may_not_be_sent_closes_with_1002(server: Server, code: int) -> None:
    with connect(server) as peer:
        peer.send_frame(CLOSE, code.to_bytes(2, "big"))
        peer.expect_close(1002, answer=False)


def test_a_close_reason_that_is_not_utf8_closes_with_1007(server: Server) -> None:
    with connect(server) as peer:
        peer.send_frame(CLOSE, b"\x03\xe8\xff")
        peer.expect_close(1007, answer=False)


@pytest.mark.parametrize(
    "code", [1000, 1001, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999]
)
def test_a_legal_close_code_comes_back(server: Server, code: int) -> None:
    with connect(server) as peer:
        peer.send_frame(CLOSE, code.to_bytes(2, "big") + "Grüße".encode())
        peer.expect_close(code, answer=False)


def test_nothing_after_a_close_frame_is_looked_at(server: Server) -> None:
    with connect(server) as peer:
        peer.send(frame(CLOSE, b"\x03\xe8") + frame(TEXT, b"late") + frame(3) + frame(CLOSE, b"\x03\xe9"))
        peer.expect_close(1000, answer=False)


def test_a_connection_that_ends_without_a_close_frame_is_forgotten(strict: Server) -> None:
    wait_until(lambda: http_status(strict.address, "/healthz") == 200, "the server is idle")
    before = strict.descriptors()
    peers = [connect(strict, path) for path in ("/echo", "/ws") * 5]
    for peer in peers[:5]:
        peer.socket.shutdown(socket.SHUT_WR)
        peer.expect_end(5)
    for peer in peers[5:]:
        peer.reset()
    wait_until(lambda: strict.descriptors() <= before, "all descriptors are free again")


def test_a_close_frame_that_is_never_answered_is_not_waited_for_long(strict: Server) -> None:
    with connect(strict, "/ws") as peer:
        peer.send_json({"type": "close_me"})
        while peer.read_frame().opcode != CLOSE:
            pass
        peer.expect_end(5)


def test_close_inside_a_fragmented_message_is_answered(server: Server) -> None:
    with connect(server) as peer:
        peer.send(frame(TEXT, b"begun", fin=False) + frame(CLOSE, b"\x03\xe8"))
        peer.expect_close(1000, answer=False)


@pytest.mark.parametrize(
    "text",
    [
        '{"type":"publish","channel":"a","data":' + "[" * 100_000 + "]" * 100_000 + "}",
        '{"type":"publish","channel":"a","data":NaN}',
        '{"type":"publish","channel":"a","data":1',
        '"text"',
        "[]",
        "",
    ],
    ids=["deep", "NaN", "cut", "string", "array", "empty"],
)
def test_bad_json_gets_an_error_and_the_connection_stays(server: Server, text: str) -> None:
    with connect(server, "/ws") as peer:
        peer.send_frame(TEXT, text.encode())
        assert peer.read_json()["code"] == "bad_message"
        assert_alive(peer)


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ({"type": "no_such_thing", "id": 7}, "unknown_type"),
        ({"id": 7}, "bad_message"),
        ({"type": 7, "id": 7}, "bad_message"),
        ({"type": "subscribe_updates", "id": 7}, "bad_message"),
        ({"type": "subscribe_updates", "channel": ["a"], "id": 7}, "bad_message"),
        ({"type": "publish", "channel": "a", "id": 7}, "bad_message"),
    ],
    ids=str,
)
def test_a_bad_message_gets_an_error_with_its_id(
    server: Server, message: dict[str, object], code: str
) -> None:
    with connect(server, "/ws") as peer:
        peer.send_json(message)
        answer = peer.read_json()
        assert (answer["type"], answer["code"], answer["id"]) == ("error", code, 7)
        assert answer["message"]
        assert_alive(peer)


def test_an_id_that_is_no_id_is_not_sent_back(server: Server) -> None:
    with connect(server, "/ws") as peer:
        peer.send_json({"type": "heartbeat", "id": {"a": 1}})
        answer = peer.read_json()
        assert answer["code"] == "bad_message"
        assert answer.get("id") is None


def test_a_client_that_is_wrong_all_the_time_is_closed(server: Server) -> None:
    with connect(server, "/ws") as peer:
        for _ in range(20):
            peer.send_frame(TEXT, b"{")
            assert peer.read_json()["code"] == "bad_message"
        assert_alive(peer)
        peer.send_frame(TEXT, b"{")
        peer.expect_close(1008)


def test_a_client_that_asks_for_what_is_not_there_all_the_time_is_slowed_down(server: Server) -> None:
    with connect(server, "/ws") as peer:
        began = time.monotonic()
        for _ in range(26):
            peer.send_json({"type": "no_such_type"})
            assert peer.read_json()["code"] == "unknown_type"
        assert time.monotonic() - began > 2
        # It has everything else, in its turn.
        peer.send_json(
            {"type": "subscribe_updates", "channels": [f"@{number}" for number in range(60)] + ["a"]}
        )
        for _ in range(60):
            assert peer.read_json()["code"] == "bad_channel"
        assert peer.read_json()["type"] == "subscription_established"


def test_a_client_that_talks_nonsense_all_the_time_is_closed(server: Server) -> None:
    with connect(server, "/ws") as peer:
        for _ in range(21):
            peer.send_json([])
            assert peer.read_json()["code"] == "bad_message"
        peer.expect_close(1008)


def test_binary_is_refused_on_the_text_protocol(server: Server) -> None:
    with connect(server, "/ws") as peer:
        peer.send_frame(BINARY, b"{}")
        peer.expect_close(1003)


# ------------------------------------------------------------------------------------------- C: compression


@pytest.mark.parametrize("shape", ["one frame", "fragments"])
def test_a_bomb_is_stopped_at_the_limit(strict: Server, shape: str) -> None:
    payload = bomb(64 * MIB)
    with connect(strict, deflate=True) as peer, Canary(strict.address) as canary:
        strict.forget_peak()
        before = strict.resident()
        cpu = strict.cpu_seconds()
        try:
            if (
                shape == "one frame"
            ):  # 1000 times smaller on the wire than its content, so the declared length is legal
                peer.send_frame(TEXT, payload, rsv=4)
            else:
                peer.send_frame(TEXT, payload[:16], rsv=4, fin=False)
                for at in range(16, len(payload), KIB):
                    peer.send_frame(PING, b"between")
                    peer.send_frame(CONTINUATION, payload[at : at + KIB], fin=at + KIB >= len(payload))
        except Ended:
            pass
        peer.expect_close(1009)
        assert strict.peak() - before < 64 * KIB + NOISE
        assert strict.cpu_seconds() - cpu < 0.5
        canary.wait_beats(5)


@pytest.mark.parametrize(
    ("offer", "accepted"),
    [
        ("permessage-deflate; client_max_window_bits", True),
        ("permessage-deflate; client_max_window_bits=9", True),
        ("permessage-deflate; server_max_window_bits=15; server_no_context_takeover", True),
        ("permessage-deflate; client_max_window_bits=7", False),
        ("permessage-deflate; client_max_window_bits=16", False),
        ("permessage-deflate; server_max_window_bits=abc", False),
        ("permessage-deflate; server_max_window_bits=08", False),
        ("permessage-deflate; server_no_context_takeover; server_no_context_takeover", False),
        ("permessage-deflate; unknown", False),
        ("permessage-deflate; unknown, permessage-deflate", True),
        ("permessage-bzip2, permessage-deflate", True),
    ],
)
def test_each_offer_is_accepted_or_declined_never_an_error(
    server: Server, offer: str, accepted: bool
) -> None:
    with Peer(server.address) as peer:
        response = peer.upgrade("/echo", headers=[f"Sec-WebSocket-Extensions: {offer}"])
        assert ("sec-websocket-extensions" in response.headers) == accepted
        text = b"deflate me " * 100
        peer.send_frame(TEXT, deflated(text, 9) if accepted else text, rsv=4 if accepted else 0)
        assert peer.read_message() == text


@pytest.mark.parametrize(
    "data", [b"\xff\xff\xff", deflated(b"x" * 1000)[:-3] + b"\xff\x07", b"\x06"], ids=repr
)
def test_a_broken_deflate_stream_closes_the_connection(server: Server, data: bytes) -> None:
    with connect(server, deflate=True) as peer:
        peer.send_frame(TEXT, data, rsv=4)
        peer.expect_close(1002, 1007)


def test_compressed_and_plain_messages_may_share_a_packet(server: Server) -> None:
    with connect(server, deflate=True) as peer:
        peer.send(
            frame(TEXT, deflated(b"first"), rsv=4)
            + frame(TEXT, b"second")
            + frame(TEXT, deflated(b"third"), rsv=4)
        )
        assert [peer.read_message() for _ in range(3)] == [b"first", b"second", b"third"]


def test_rsv1_is_only_for_the_first_frame_of_a_message(server: Server) -> None:
    compressed = deflated(b"first" * 10)
    with connect(server, deflate=True) as peer:
        peer.send(frame(TEXT, compressed[:4], fin=False, rsv=4) + frame(CONTINUATION, compressed[4:], rsv=4))
        peer.expect_close(1002)


def test_plain_and_compressed_readers_of_one_channel_get_the_same(server: Server) -> None:
    text = "the same for all " * 500
    with connect(server, "/ws", deflate=True) as packed, connect(server, "/ws") as plain:
        for peer in (packed, plain):
            peer.send_json({"type": "subscribe_updates", "channel": "mixed"})
            peer.read_json("subscription_established")
        plain.send_json({"type": "publish", "channel": "mixed", "data": text})
        received = packed.read_frame()
        assert received.rsv == 4
        assert len(received.payload) < len(text) / 4
        assert json.loads(packed.inflate(received.payload))["updates"][0]["data"] == text
        assert plain.read_json("batched_updates")["updates"][0]["data"] == text


def test_messages_of_the_server_itself_are_never_compressed(server: Server) -> None:
    long = "n" * 250  # what holds it is longer than what is worth compressing
    with Peer(server.address) as peer:
        peer.upgrade("/ws", headers=DEFLATE)
        frames = [peer.read_frame()]
        for message in (
            {"type": "subscribe_updates", "channel": long},
            {"type": "take_time", "id": 1, "data": long * 10},
            {"type": "heartbeat", "id": "h" * 100},
            {"type": "unsubscribe_updates", "channel": long},
            {"type": "unsubscribe_updates", "channel": long},
            {"type": "publish", "channel": long, "data": long},
        ):
            peer.send_json(message)
            frames.append(peer.read_frame())
    kinds = [json.loads(received.payload)["type"] for received in frames if received.rsv == 0]
    assert kinds == [
        "connection_established",
        "subscription_established",
        "take_time_result",
        "heartbeat_ack",
        "subscription_ended",
        "error",
        "published",
    ]


def test_memory_for_large_compressed_messages_is_given_back(server: Server) -> None:
    message = deflated(json.dumps({"type": "heartbeat", "pad": "x" * MIB}).encode())
    with contextlib.ExitStack() as open_peers:
        peers = [open_peers.enter_context(connect(server, "/ws", deflate=True)) for _ in range(200)]
        before = server.resident()
        for peer in peers:
            peer.send_frame(TEXT, message, rsv=4)
        for peer in peers:
            peer.read_json("heartbeat_ack")
        assert server.resident() - before < 200 * 4 * KIB + 4 * MIB


# --------------------------------------------------------------------------------- F: slow readers and floods


def test_a_reader_that_falls_behind_is_told_every_gap(server: Server) -> None:
    ledger = Ledger()
    data = "x" * 2 * KIB
    count = 5000  # far more than the log's 1000 entries and what the kernel holds
    with (
        Subscriber(server.address, ["feed"], ledger, "slow", receive_buffer=4 * KIB) as slow,
        Subscriber(server.address, ["feed"], ledger, "healthy") as healthy,
        Canary(server.address, channel="elsewhere") as canary,
    ):
        canary.wait_beats(20)
        calm = canary.quantile(0.5)
        before = server.resident()
        canary.latencies.clear()
        for number in range(count):
            if number == 1000:
                time.sleep(LATE)
            last = healthy.publish("feed", [number, data])
        healthy.read_until("feed", last)
        assert canary.quantile(0.5) < 10 * calm + 0.05
        log = 1000 * 3 * KIB
        assert server.resident() - before < log + 256 * KIB + NOISE
        slow.read_until("feed", last, 20)
        assert ledger.first_difference() is None
        assert ledger.lost("healthy", "feed") == 0
        assert 0 < ledger.lost("slow", "feed") < count


def test_a_reader_that_falls_behind_in_a_strict_channel_is_closed_with_4413(server: Server) -> None:
    channel = "strict:feed"
    with (
        Subscriber(server.address, [channel], name="slow", receive_buffer=4 * KIB) as slow,
        Subscriber(server.address, [channel], name="healthy") as healthy,
    ):
        for number in range(3000):  # far more than the log's 1000 entries and what the kernel holds
            if number == 1000:
                time.sleep(LATE)
            last = healthy.publish(channel, [number, "x" * 2 * KIB])
        healthy.read_until(channel, last)
        slow.expect_close(4413)


def test_many_slow_readers_cost_little_and_harm_nobody(server: Server) -> None:
    with contextlib.ExitStack() as open_peers:
        for _ in range(300):
            slow = open_peers.enter_context(Peer(server.address, receive_buffer=2 * KIB))
            slow.upgrade("/ws")
            slow.send_json({"type": "subscribe_updates", "channel": "many"})
            slow.read_json("subscription_established")
        ledger = Ledger()
        healthy = open_peers.enter_context(Subscriber(server.address, ["many"], ledger, "healthy"))
        before = server.resident()
        for number in range(1000):
            last = healthy.publish("many", [number, "x" * 2 * KIB])
        healthy.read_until("many", last)
        assert ledger.first_difference() is None
        assert ledger.lost("healthy", "many") == 0
        log = 1000 * 3 * KIB
        assert server.resident() - before < log + 300 * 32 * KIB + 4 * MIB


def test_a_large_publication_exists_once_however_many_get_it(server: Server) -> None:
    with contextlib.ExitStack() as open_peers:
        readers = [
            open_peers.enter_context(Subscriber(server.address, ["large"], name=str(number)))
            for number in range(200)
        ]
        publisher = open_peers.enter_context(Subscriber(server.address, []))
        canary = open_peers.enter_context(Canary(server.address))
        server.forget_peak()
        before = server.resident()
        publisher.publish("large", "x" * MIB)
        canary.wait_beats(5)
        for reader in readers:
            reader.read_until("large", 1)
        assert server.peak() - before < 16 * MIB


def test_subscriptions_beyond_the_limit_are_errors() -> None:
    with running(served(max_subscriptions=3)) as server, connect(server, "/ws") as peer:
        for name in "abc":
            peer.send_json({"type": "subscribe_updates", "channel": name})
            peer.read_json("subscription_established")
        peer.send_json({"type": "subscribe_updates", "channel": "d", "id": 4})
        answer = peer.read_json()
        assert (answer["type"], answer["code"], answer["id"]) == ("error", "limit_exceeded", 4)
        peer.send_json({"type": "unsubscribe_updates", "channel": "a"})
        peer.read_json("subscription_ended")
        peer.send_json({"type": "subscribe_updates", "channel": "d"})
        assert peer.read_json("subscription_established")["channel"] == "d"


@pytest.mark.parametrize(
    "message",
    [
        frame(TEXT, b'{"type":"heartbeat"}'),
        frame(TEXT, b'{"type":"subscribe_updates","channel":"a"}'),
        frame(TEXT, b'{"type":"publish","channel":"a","data":1}'),
        frame(TEXT, b'{"type":"take_time"}'),
        frame(PING),
    ],
    ids=["heartbeat", "subscribe", "publish", "application", "ping"],
)
def test_a_client_that_floods_is_closed_with_4429_and_an_eager_one_is_not(
    paced: Server, message: bytes
) -> None:
    with connect(paced, "/ws") as eager, connect(paced, "/ws") as flooding:
        eager.send(message * 400 + frame(PING, b"done"))
        while (received := eager.read_frame()).payload != b"done":
            assert received.opcode != CLOSE
        flooding.send(message * 2000)
        flooding.expect_close(4429)


def test_a_websocket_path_is_not_held_to_the_pace_of_the_protocol() -> None:
    with running(served(max_messages_per_second=1)) as server, connect(server) as peer:
        peer.send(frame(TEXT, b"again") * 100)
        assert [peer.read_message() for _ in range(100)] == [b"again"] * 100


def test_slow_handlers_of_one_client_stop_its_reading_and_nobody_elses(server: Server) -> None:
    slow = json.dumps({"type": "take_time", "seconds": 2, "pad": "x" * KIB}).encode()
    with connect(server, "/ws") as flooding, connect(server, "/ws") as other:
        server.forget_peak()
        before = server.resident()
        taken = flooding.send_until_blocked(frame(TEXT, slow), most=64 * MIB)
        assert taken < 64 * MIB, "the server should stop reading from a client whose handlers are slow"
        other.send_json({"type": "take_time", "id": 1})
        assert other.read_json("take_time_result")["id"] == 1
        assert server.peak() - before < 8 * MIB


def test_a_reader_that_wakes_in_time_misses_nothing(server: Server) -> None:
    ledger = Ledger()
    with (
        Subscriber(server.address, ["kept"], ledger, "slow", receive_buffer=4 * KIB) as slow,
        Subscriber(server.address, [], ledger, "publisher") as publisher,
    ):
        for number in range(900):  # the log holds 1000
            last = publisher.publish("kept", [number, "x" * 4 * KIB])
        slow.read_until("kept", last, 20)
        assert ledger.first_difference() is None
        assert ledger.lost("slow", "kept") == 0


def test_echo_stops_reading_from_a_client_that_does_not_read(server: Server) -> None:
    server.forget_peak()
    before = server.resident()
    with Peer(server.address, receive_buffer=4 * KIB) as peer, Canary(server.address) as canary:
        peer.upgrade("/echo")
        taken = peer.send_until_blocked(frame(BINARY, b"x" * 64 * KIB), most=256 * MIB)
        assert taken < 256 * MIB, "the server should stop reading from a client that reads nothing"
        canary.wait_beats(20)
    assert server.peak() - before < 4 * MIB


# -------------------------------------------------------------------------------------------------- I: host


def test_running_out_of_descriptors_is_survived() -> None:
    with running(served()) as server, Canary(server.address) as canary:
        soft, hard = resource.prlimit(server.pid, resource.RLIMIT_NOFILE)
        resource.prlimit(server.pid, resource.RLIMIT_NOFILE, (server.descriptors() + 4, hard))
        crowd = [Peer(server.address) for _ in range(30)]
        canary.wait_beats(20)
        began, cpu = time.monotonic(), server.cpu_seconds()
        canary.latencies.clear()
        wait_until(lambda: time.monotonic() - began > 1, "a second to measure in")
        beats = len(canary.latencies)
        used = server.cpu_seconds() - cpu
        assert beats > 20, "existing clients go on"
        assert used < 0.1 + beats * 0.002, f"{used:.2f} s of CPU in a second: the accept loop spins"
        said = [line for line in server.lines if "descriptor" in line.lower()]
        assert len(said) in (1, 2), f"one line in ten seconds should say so:\n{server.output}"
        newcomer = crowd.pop()
        newcomer.send(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n")
        assert newcomer.response().status == 503, "connections that wait are refused, one after the other"
        newcomer.socket.close()
        resource.prlimit(server.pid, resource.RLIMIT_NOFILE, (soft, hard))
        wait_until(
            lambda: http_status(server.address, "/healthz") == 200, "new connections are served again", 1
        )
        for peer in crowd:
            peer.socket.close()


def test_connections_are_accepted_again_when_descriptors_are_free() -> None:
    with running(served()) as server:
        soft, hard = resource.prlimit(server.pid, resource.RLIMIT_NOFILE)
        limit = server.descriptors() + 3
        resource.prlimit(server.pid, resource.RLIMIT_NOFILE, (limit, hard))
        crowd = []  # takes the last descriptors, and then nobody waits

        def full() -> bool:
            if server.descriptors() < limit:
                crowd.append(Peer(server.address))
            return server.descriptors() >= limit

        wait_until(full, "no descriptor is left")
        resource.prlimit(server.pid, resource.RLIMIT_NOFILE, (soft, hard))
        assert http_status(server.address, "/healthz") == 200
        for peer in crowd:
            peer.socket.close()


def test_a_port_in_use_is_named_in_the_error(server: Server) -> None:
    second = served(port=server.port)
    second.wait_line(rf"\b{server.port}\b")
    second.process.wait(20)
    assert second.stop() != 0


def test_ipv6_is_listened_on_when_asked() -> None:
    with running(served(host="::1")) as server:
        assert server.host == "::1"
        with connect(server) as peer:
            peer.send_frame(TEXT, b"six")
            assert peer.read_message() == b"six"


def test_a_server_after_all_this_still_serves(server: Server) -> None:
    with Canary(server.address) as canary:
        canary.wait_beats(50)
    assert "panicked" not in server.output
    assert "Traceback" not in server.output

"""Clients that keep to every limit and mean no good: a program that the rows of `attacks.py` start.

    python attacker.py PORT ATTACK SECONDS

It prints ``ready`` when its connections are open, and begins with the next line on stdin.
"""

from __future__ import annotations

import json
import select
import socket
import sys
import time
import zlib
from collections.abc import Callable, Iterator

CLIENTS = 100
LISTS = b"[" + b"[]," * 340_000 + b"[]]"
OBJECTS = b"[" + b"{}," * 340_000 + b"{}]"


def frame(payload: bytes, first: int = 0x81) -> bytes:
    """A frame of a client, masked with zeros."""
    size = len(payload)
    if size < 126:
        length = bytes([0x80 | size])
    elif size < 65_536:
        length = b"\xfe" + size.to_bytes(2, "big")
    else:
        length = b"\xff" + size.to_bytes(8, "big")
    return bytes([first]) + length + bytes(4) + payload


def deflated(payload: bytes) -> bytes:
    engine = zlib.compressobj(9, zlib.DEFLATED, -15)
    return frame((engine.compress(payload) + engine.flush(zlib.Z_SYNC_FLUSH))[:-4], 0xC1)


def say(kind: str, **fields: object) -> bytes:
    return json.dumps({"type": kind, **fields}).encode()


def connect(port: int, path: str = "/ws") -> socket.socket:
    """A connection that was upgraded. What the server says after that is not read here."""
    peer = socket.create_connection(("127.0.0.1", port))
    peer.sendall(
        f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
        "Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n".encode()
    )
    head = b""
    while b"\r\n\r\n" not in head:
        head += peer.recv(1)
    if not head.startswith(b"HTTP/1.1 101"):
        raise SystemExit(head.decode())
    return peer


def flood(port: int, message: bytes, path: str = "/ws") -> Iterator[None]:
    """Sends one message again and again on all connections, as fast as they take it, and reads answers."""
    peers = [connect(port, path) for _ in range(CLIENTS)]
    waiting = {peer: memoryview(b"") for peer in peers}
    for peer in peers:
        peer.setblocking(False)
    poller = select.epoll()
    by_number = {peer.fileno(): peer for peer in peers}
    for number in by_number:
        poller.register(number, select.EPOLLIN | select.EPOLLOUT)
    while True:
        yield
        for number, events in poller.poll(0.1):
            peer = by_number[number]
            if events & select.EPOLLIN:
                peer.recv(1 << 16)
            if events & select.EPOLLOUT:
                rest = waiting[peer] or memoryview(message)
                waiting[peer] = rest[peer.send(rest) :]


def visits(port: int, *messages: bytes) -> Iterator[None]:
    """Comes, says something, and goes."""
    yield
    while True:
        peer = connect(port)
        peer.sendall(b"".join(map(frame, messages)))
        peer.recv(1 << 16)
        peer.close()
        yield


def keys(port: int) -> Iterator[None]:
    """Fills a channel of latest values with keys."""
    peer = connect(port)
    yield
    for number in range(10**9):
        peer.sendall(frame(say("publish", channel="latest:a", data=0, key=f"{number:0200}")))
        if number % 100 == 0:
            while select.select([peer], [], [], 0)[0]:
                peer.recv(1 << 16)
            yield


def readers(port: int) -> Iterator[None]:
    """Readers of two channels that do not read."""
    peers = [connect(port) for _ in range(2 * CLIENTS)]
    for peer in peers:
        peer.sendall(frame(say("subscribe_updates", channels=["open:a", "open:b"])))
    while True:
        time.sleep(0.1)
        yield


def queries(port: int) -> Iterator[None]:
    """Requests with thousands of fields, before login."""
    yield
    request = (
        f"GET /ws?{'a&' * 4000} HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    ).encode()
    while True:
        with socket.create_connection(("127.0.0.1", port)) as peer:
            peer.sendall(request)
            peer.recv(1 << 16)
        time.sleep(0.01)
        yield


def text_of(kind: str, value: bytes) -> bytes:
    return deflated(b'{"type": "%s", "id": 1, "channel": "asked:a", "data": %s}' % (kind.encode(), value))


ATTACKS: dict[str, Callable[[int], Iterator[None]]] = {
    # Work: `Attacks` that a bystander must not notice.
    "elements": lambda port: flood(port, text_of("heartbeat", OBJECTS)),
    "channels": lambda port: flood(
        port, frame(say("subscribe_updates", channels=[f"open:{number}" for number in range(128)]))
    ),
    "queries": queries,
    "conversations": lambda port: flood(port, frame(say("ask", conversationId="x" * 1100))),
    # Memory.
    "runs": lambda port: flood(port, frame(say("ask"))),
    "mail": lambda port: visits(port, say("mail")),
    "keys": keys,
    "connects": lambda port: visits(port, say("heartbeat")),
    "readers": readers,
    "messages": lambda port: flood(port, text_of("slow", LISTS)),
    "publications": lambda port: flood(port, text_of("publish", b'"%s"' % (b"x" * 900_000))),
    "texts": lambda port: flood(port, deflated(b"x" * 1_000_000 + "😀".encode()), "/deaf"),
    "ahead": lambda port: flood(port, frame(say("slow", data="x" * 10_000))),
}


def main() -> None:
    port, attack, seconds = sys.argv[1:4]
    steps = ATTACKS[attack](int(port))
    next(steps)
    print("ready", flush=True)
    sys.stdin.readline()
    end = time.monotonic() + float(seconds)
    while time.monotonic() < end:
        try:
            next(steps)
        except OSError:  # closed for too much
            steps = ATTACKS[attack](int(port))
    print("over", flush=True)
    sys.stdin.readline()  # its connections stay until the memory was measured


if __name__ == "__main__":
    main()

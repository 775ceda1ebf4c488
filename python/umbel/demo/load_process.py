"""Simulated subscribers: ``python -m umbel.demo.load_process --count 1000 --url http://127.0.0.1:8000``.

A process of its own that holds many connections, subscribes each of them, reads everything, and counts. It
negotiates compression as a browser does. The frames that a server shares between connections are the same
bytes, so each is looked at once and recognised afterwards.

It writes one JSON object per line and half second to its standard output, and ends when its standard input
does, so that it never outlives the program that started it.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import re
import selectors
import socket
import sys
import time
import zlib
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Final
from urllib.parse import urlsplit


@dataclass(slots=True)
class Totals:
    """What all subscribers of this process have got.

    Attributes:
        connected: connections that are subscribed now.
        failed: connections that could not be made, or that were closed.
        frames: frames that carried updates.
        messages: updates in those frames.
        gaps: gaps that were announced.
        lost: updates that those gaps stand for.
        bytes: bytes received, compressed as they were.
    """

    connected: int = 0
    failed: int = 0
    frames: int = 0
    messages: int = 0
    gaps: int = 0
    lost: int = 0
    bytes: int = 0


@dataclass(frozen=True, slots=True)
class Found:
    """What a piece of input contains."""

    frames: int = 0
    messages: int = 0
    gaps: int = 0
    lost: int = 0
    taken: int = 0
    pings: tuple[bytes, ...] = ()
    closed: bool = False


class Subscriber:
    """One connection."""

    __slots__ = ("established", "rest", "socket")

    def __init__(self, connection: socket.socket) -> None:
        self.socket = connection
        self.established = False
        self.rest = b""


class Subscribers:
    """All connections of this process, on one selector."""

    def __init__(self, host: str, port: int, channels: Sequence[str]) -> None:
        self.totals = Totals()
        self._address = host, port
        self._request = upgrade(host, port)
        subscription = {"type": "subscribe_updates", "channels": list(channels)}
        self._subscription = masked(0x81, json.dumps(subscription).encode())
        self._selector = selectors.DefaultSelector()
        self._subscribers: set[Subscriber] = set()
        self._known: dict[bytes, Found] = {}

    def connect(self) -> None:
        """Add one subscriber.

        Raises:
            OSError: if the server does not accept, or this process has no descriptor left.
        """
        connection = socket.create_connection(self._address, timeout=CONNECT_TIME)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.sendall(self._request)
        connection.setblocking(False)
        subscriber = Subscriber(connection)
        self._subscribers.add(subscriber)
        self._selector.register(connection, selectors.EVENT_READ, subscriber)

    def watch(self, descriptor: int) -> None:
        """Let `serve` return ``False`` when a descriptor comes to its end.

        Raises:
            PermissionError: if it is a file, which never becomes readable.
        """
        self._selector.register(descriptor, selectors.EVENT_READ, None)

    def serve(self, seconds: float) -> bool:
        """Read what has come, waiting for it so long; says whether to go on."""
        for key, _ in self._selector.select(seconds):
            if key.data is None:
                if not os.read(key.fd, 4096):
                    return False
            else:
                self._read(key.data)
        return True

    def close(self) -> None:
        """Leave."""
        for subscriber in list(self._subscribers):
            self._drop(subscriber)
        self._selector.close()

    def _read(self, subscriber: Subscriber) -> None:
        try:
            chunk = subscriber.socket.recv(READ)
        except BlockingIOError:
            return
        except OSError:
            chunk = b""
        if not chunk:
            self.totals.failed += 1
            self._drop(subscriber)
            return
        self.totals.bytes += len(chunk)
        if not subscriber.established:
            chunk = self._greet(subscriber, subscriber.rest + chunk)
        elif subscriber.rest:
            chunk = subscriber.rest + chunk
        if chunk:
            self._take(subscriber, chunk)

    def _greet(self, subscriber: Subscriber, chunk: bytes) -> bytes:
        """Wait for the end of the answer to the handshake, then subscribe; return what follows it."""
        head, end, rest = chunk.partition(b"\r\n\r\n")
        if not end:
            subscriber.rest = chunk
            return b""
        subscriber.rest = b""
        if not head.startswith(b"HTTP/1.1 101"):
            self.totals.failed += 1
            self._drop(subscriber)
            return b""
        subscriber.established = True
        self.totals.connected += 1
        self._say(subscriber, self._subscription)
        return rest

    def _take(self, subscriber: Subscriber, chunk: bytes) -> None:
        found = self._known.get(chunk)
        if found is None:
            found = examine(chunk)
            if found.frames and found.taken == len(chunk) and not found.pings and len(chunk) <= KNOWN_BYTES:
                if len(self._known) >= KNOWN:
                    self._known.clear()
                self._known[chunk] = found
        subscriber.rest = chunk[found.taken :]
        totals = self.totals
        totals.frames += found.frames
        totals.messages += found.messages
        totals.gaps += found.gaps
        totals.lost += found.lost
        for payload in found.pings:
            self._say(subscriber, masked(0x8A, payload))
        if found.closed:
            totals.failed += 1
            self._drop(subscriber)

    def _say(self, subscriber: Subscriber, frame: bytes) -> None:
        try:
            subscriber.socket.send(frame)
        except OSError:
            # Full or broken: a short frame that does not fit means that nobody reads at the other end.
            self.totals.failed += 1
            self._drop(subscriber)

    def _drop(self, subscriber: Subscriber) -> None:
        if subscriber in self._subscribers:
            self._subscribers.remove(subscriber)
            self._selector.unregister(subscriber.socket)
            subscriber.socket.close()
            self.totals.connected -= subscriber.established


def upgrade(host: str, port: int, *, protocol: str = "umbel.v1", deflate: bool = True) -> bytes:
    """Return the request that opens a connection."""
    lines = [
        "GET /ws HTTP/1.1",
        f"Host: {f'[{host}]' if ':' in host else host}:{port}",
        "Upgrade: websocket",
        "Connection: Upgrade",
        f"Sec-WebSocket-Key: {base64.b64encode(os.urandom(16)).decode()}",
        "Sec-WebSocket-Version: 13",
        f"Sec-WebSocket-Protocol: {protocol}",
    ]
    if deflate:
        lines.append("Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover")
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def masked(first: int, payload: bytes) -> bytes:
    """Return a frame as a client sends it (RFC 6455 §5.2)."""
    size = len(payload)
    if size < 126:
        head = bytes((first, 0x80 | size))
    elif size < 1 << 16:
        head = bytes((first, 0xFE)) + size.to_bytes(2, "big")
    else:
        head = bytes((first, 0xFF)) + size.to_bytes(8, "big")
    mask = os.urandom(4)
    stream = (mask * (size // 4 + 1))[:size]
    body = int.from_bytes(payload, "big") ^ int.from_bytes(stream, "big")
    return head + mask + body.to_bytes(size, "big")


def next_frame(chunk: bytes, at: int = 0) -> tuple[int, bytes, int] | None:
    """Read one frame of a server: its first byte, its payload, and where the next one begins.

    ``None`` when it is not complete.
    """
    if len(chunk) < at + 2:
        return None
    size, body = chunk[at + 1] & 0x7F, at + 2
    if size >= 126:
        width = 2 if size == 126 else 8
        if len(chunk) < body + width:
            return None
        size, body = int.from_bytes(chunk[body : body + width], "big"), body + width
    if len(chunk) < body + size:
        return None
    return chunk[at], chunk[body : body + size], body + size


def examine(chunk: bytes) -> Found:
    """Count what all complete frames of a chunk carry."""
    at = frames = messages = gaps = lost = 0
    pings: list[bytes] = []
    while (frame := next_frame(chunk, at)) is not None:
        first, payload, at = frame
        opcode = first & 0x0F
        if opcode == 0x9:
            pings.append(payload)
        elif opcode == 0x8:
            return Found(frames, messages, gaps, lost, at, tuple(pings), closed=True)
        elif opcode == 0x1:
            text = inflate(payload) if first & 0x40 else payload
            if text.startswith(BATCH):
                frames += 1
                count = COUNT.search(text, max(0, len(text) - TAIL))
                messages += int(count[1]) if count else 0
            elif text.startswith(GAP):
                gap = json.loads(text)
                gaps += 1
                lost += gap["to"] - gap["from"]
    return Found(frames, messages, gaps, lost, at, tuple(pings))


def inflate(payload: bytes) -> bytes:
    """Decompress one message (RFC 7692 §7.2.2)."""
    return zlib.decompressobj(-15).decompress(payload + b"\x00\x00\xff\xff")


def raise_descriptors(count: int) -> None:
    """Let this process open so many connections, as far as the system allows."""
    try:
        import resource
    except ImportError:  # not on Windows
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = count + 64
    if hard != resource.RLIM_INFINITY:
        wanted = min(wanted, hard)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def main(arguments: Sequence[str] | None = None) -> int:
    """Hold subscribers until the standard input ends or none is left."""
    parser = argparse.ArgumentParser(prog="umbel.demo.load_process", description="Simulated subscribers.")
    parser.add_argument("--count", type=int, default=1000, help="how many")
    parser.add_argument("--url", default="http://127.0.0.1:8000", help="the server")
    parser.add_argument("--channels", nargs="+", default=["demo:load"], help="what to subscribe to")
    parsed = parser.parse_args(arguments)
    address = urlsplit(parsed.url)
    raise_descriptors(parsed.count)
    subscribers = Subscribers(address.hostname or "127.0.0.1", address.port or 80, parsed.channels)
    try:
        return follow(subscribers, parsed.count)
    except (KeyboardInterrupt, BrokenPipeError):
        return 0
    finally:
        subscribers.close()


def follow(subscribers: Subscribers, wanted: int) -> int:
    """Connect, read and report."""
    with suppress(PermissionError, ValueError):  # a file, or none: then the end of the connections is the end
        subscribers.watch(sys.stdin.fileno())
    made, due = 0, time.monotonic()
    while True:
        for _ in range(min(AT_ONCE, wanted - made)):
            try:
                subscribers.connect()
            except OSError as error:
                sys.stderr.write(f"umbel.demo.load_process: stays at {made} of {wanted}: {error}\n")
                subscribers.totals.failed += wanted - made
                wanted = made
                break
            made += 1
        if not subscribers.serve(0.0 if made < wanted else PAUSE):
            return 0
        now = time.monotonic()
        if now >= due:
            due = now + REPORT
            report = asdict(subscribers.totals) | {"cpu": round(time.process_time(), 3)}
            sys.stdout.write(json.dumps(report) + "\n")
            sys.stdout.flush()
            if made == wanted and not subscribers._subscribers:
                return 1


BATCH: Final = b'{"type":"batched_updates"'
GAP: Final = b'{"type":"gap"'
COUNT: Final = re.compile(rb'\],"count":(\d+)')

TAIL: Final = 96
"""Bytes at the end of a batch that hold its count: the count and a timestamp follow the updates."""

READ: Final = 1 << 15
"""Bytes per read: more than a frame of one tick."""

KNOWN: Final = 128
"""Frames that are recognised; when full, it begins anew. Connections read a frame within a few ticks."""

KNOWN_BYTES: Final = 1 << 15

AT_ONCE: Final = 20
"""Connections made between two rounds of reading."""

CONNECT_TIME: Final = 10.0
PAUSE: Final = 0.5
REPORT: Final = 0.5

if __name__ == "__main__":
    sys.exit(main())

"""A WebSocket client that can break every rule, a healthy one that notices, and a book of what was delivered.

- `Peer`: a raw socket that sends any bytes and any frame and reads frames strictly. Standard library only.
- `Canary`: a healthy client that publishes and receives while others misbehave; it keeps order and latency.
- `Ledger`: every publication that was acknowledged, every one that a client got, every gap; it names the
  first difference.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import socket
import struct
import threading
import time
import zlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final, Self

TEXT: Final = 0x1
BINARY: Final = 0x2
CONTINUATION: Final = 0x0
CLOSE: Final = 0x8
PING: Final = 0x9
PONG: Final = 0xA

PATIENCE: Final = 10.0
"""Seconds that a peer waits for anything, on a machine that is busy with other things."""

LINGER: Final = 2.0
"""Seconds from a close frame to the end of the TCP connection, at most."""


class Ended(Exception):
    """The other end closed or reset the TCP connection."""


@dataclass(frozen=True, slots=True)
class Frame:
    """A frame as it was on the wire."""

    opcode: int
    payload: bytes
    fin: bool = True
    rsv: int = 0

    @property
    def close_code(self) -> int | None:
        return int.from_bytes(self.payload[:2], "big") if self.opcode == CLOSE and self.payload else None


@dataclass(frozen=True, slots=True)
class Response:
    """The head of an HTTP response."""

    status: int
    headers: dict[str, str]


class Peer:
    """One TCP connection to a server, at first without any protocol."""

    def __init__(
        self, address: tuple[str, int], *, receive_buffer: int | None = None, source: str | None = None
    ) -> None:
        family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        self.socket = socket.socket(family, socket.SOCK_STREAM)
        if receive_buffer is not None:  # before connect, so that the window never opens wider
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.settimeout(PATIENCE)
        if source is not None:
            self.socket.bind((source, 0))
        self.socket.connect(address)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._buffer = bytearray()
        self._inflater: Any = None
        self._inflate_takeover = True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    # ------------------------------------------------------------------------------------------------ bytes

    def send(self, data: bytes) -> None:
        """Send bytes as they are.

        Raises:
            Ended: if the other end has closed.
        """
        try:
            self.socket.sendall(data)
        except (ConnectionError, BrokenPipeError) as error:
            raise Ended(str(error)) from error

    def send_until_blocked(self, data: bytes, *, most: int, quiet: float = 0.5) -> int:
        """Send the data over and over until nothing was taken for ``quiet`` seconds, or the connection ended.

        Returns:
            The number of bytes the kernel took, at most about ``most``.
        """
        sent = 0
        self.socket.settimeout(quiet)
        try:
            while sent < most:
                sent += self.socket.send(data[sent % len(data) :])
        except OSError:  # the time is over, or the other end has closed
            pass
        finally:
            self.socket.settimeout(PATIENCE)
        return sent

    def _fill(self) -> None:
        try:
            data = self.socket.recv(1 << 18)
        except ConnectionError as error:
            raise Ended(str(error)) from error
        if not data:
            raise Ended
        self._buffer += data

    def read(self, count: int) -> bytes:
        while len(self._buffer) < count:
            self._fill()
        data = bytes(self._buffer[:count])
        del self._buffer[:count]
        return data

    def expect_end(self, seconds: float = LINGER) -> bytes:
        """Read until the other end closes, and close; return what came before. A reset is an end, too."""
        deadline = time.monotonic() + seconds
        try:
            while (left := deadline - time.monotonic()) > 0:
                self.socket.settimeout(left)
                self._fill()
        except Ended:
            self.socket.close()
            rest = bytes(self._buffer)
            self._buffer.clear()
            return rest
        except TimeoutError:
            pass
        raise AssertionError(f"the connection is still open after {seconds} s")

    @property
    def buffered(self) -> int:
        """Bytes that were received and not looked at."""
        return len(self._buffer)

    def readable(self, seconds: float) -> bool:
        """Say whether something (or the end) can be read within so many seconds."""
        if self._buffer:
            return True
        self.socket.settimeout(seconds)
        try:
            self._fill()
        except TimeoutError:
            return False
        except Ended:
            return True
        finally:
            self.socket.settimeout(PATIENCE)
        return True

    # ------------------------------------------------------------------------------------------------- HTTP

    def response(self) -> Response:
        """Read the head of a response (and its body where Content-Length tells the size)."""
        while b"\r\n\r\n" not in self._buffer:
            self._fill()
        head, _, rest = bytes(self._buffer).partition(b"\r\n\r\n")
        self._buffer[:] = rest
        first, *lines = head.decode("latin-1").split("\r\n")
        headers: dict[str, str] = {}
        for line in lines:
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        response = Response(int(first.split()[1]), headers)
        if response.status != 101:
            self.read(int(headers.get("content-length", "0")))
        return response

    def upgrade(self, path: str = "/ws", *, headers: Iterable[str] = (), early: bytes = b"") -> Response:
        """Shake hands; ``early`` travels in the same packet as the request."""
        self.send(handshake(path, add=headers) + early)
        response = self.response()
        assert response.status == 101, f"the upgrade was answered with {response}"
        extensions = response.headers.get("sec-websocket-extensions", "")
        if "permessage-deflate" in extensions:
            self._inflater = zlib.decompressobj(-15)
            self._inflate_takeover = "server_no_context_takeover" not in extensions
        return response

    # ----------------------------------------------------------------------------------------------- frames

    def send_frame(self, opcode: int, payload: bytes = b"", **bits: Any) -> None:
        """Send one frame; `frame` says what can be bent."""
        self.send(frame(opcode, payload, **bits))

    def send_json(self, message: object) -> None:
        self.send_frame(TEXT, json.dumps(message).encode())

    def read_frame(self) -> Frame:
        """Read one frame as it is; a server's frame must not be masked."""
        first, second = self.read(2)
        assert not second & 0x80, "a server must not mask"
        length = second & 0x7F
        if length == 126:
            length = int.from_bytes(self.read(2), "big")
            assert length > 125, "the length is not in its shortest form"
        elif length == 127:
            length = int.from_bytes(self.read(8), "big")
            assert length > 0xFFFF, "the length is not in its shortest form"
        received = Frame(first & 0xF, self.read(length), bool(first & 0x80), first >> 4 & 7)
        assert received.opcode < CLOSE or (received.fin and length < 126), (
            f"not a legal control frame: {received}"
        )
        return received

    def read_message(self) -> bytes:
        """Read one data message, with its fragments put together and inflated. Pongs are skipped.

        Raises:
            Ended: if a close frame or the end comes instead.
        """
        payload, compressed = b"", False
        while True:
            received = self.read_frame()
            if received.opcode == CLOSE:
                raise Ended(f"closed with {received.close_code}")
            if received.opcode >= CLOSE:
                continue
            if received.opcode != CONTINUATION:
                payload, compressed = b"", bool(received.rsv & 4)
            payload += received.payload
            if received.fin:
                return self.inflate(payload) if compressed else payload

    def inflate(self, payload: bytes) -> bytes:
        """Decompress the payload of a message, with what was negotiated."""
        assert self._inflater is not None, "compressed, but that was not negotiated"
        if not self._inflate_takeover:
            self._inflater = zlib.decompressobj(-15)
        data: bytes = self._inflater.decompress(payload + b"\x00\x00\xff\xff")
        return data

    def read_json(self, kind: str | None = None) -> dict[str, Any]:
        """Read messages until one has this type (any, when ``None``)."""
        while True:
            message: dict[str, Any] = json.loads(self.read_message())
            if kind in (None, message["type"]):
                return message

    def expect_close(self, *codes: int, seconds: float = PATIENCE, answer: bool = True) -> str:
        """Read until the close frame, check its code, answer it, and expect the end of the connection.

        Returns:
            The reason.
        """
        deadline = time.monotonic() + seconds
        while True:
            assert time.monotonic() < deadline, f"no close frame within {seconds} s"
            try:
                received = self.read_frame()
            except Ended as error:
                raise AssertionError(
                    f"the connection ended without a close frame; expected {codes}"
                ) from error
            if received.opcode == CLOSE:
                break
        assert received.close_code in codes, (
            f"closed with {received.close_code} {received.payload[2:]!r}, not {codes}"
        )
        if answer:
            with contextlib.suppress(Ended):
                self.send_frame(CLOSE, received.payload[:2])
        self.expect_end()
        return received.payload[2:].decode()

    def reset(self) -> None:
        """Vanish with a TCP reset."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()


def handshake(
    path: str = "/ws",
    *,
    method: str = "GET",
    version: str = "HTTP/1.1",
    add: Iterable[str] = (),
    without: Iterable[str] = (),
) -> bytes:
    """Return an upgrade request with header lines added, replaced (same name) or left out."""
    key = base64.b64encode(os.urandom(16)).decode()
    lines = {
        "host": "Host: 127.0.0.1",
        "upgrade": "Upgrade: websocket",
        "connection": "Connection: Upgrade",
        "sec-websocket-version": "Sec-WebSocket-Version: 13",
        "sec-websocket-key": f"Sec-WebSocket-Key: {key}",
    }
    for name in without:
        del lines[name.lower()]
    extra = list(add)
    for line in extra:
        lines.pop(line.partition(":")[0].lower(), None)
    return "\r\n".join([f"{method} {path} {version}", *lines.values(), *extra, "", ""]).encode("latin-1")


def frame(
    opcode: int,
    payload: bytes = b"",
    *,
    fin: bool = True,
    rsv: int = 0,
    mask: bytes | None = b"\x37\xfa\x21\x3d",
    declare: int | None = None,
    form: int | None = None,
) -> bytes:
    """Return the bytes of one client frame.

    Args:
        opcode: 0 to 15.
        payload: what is sent, masked with ``mask``.
        fin: the FIN bit.
        rsv: the three reserved bits: 4 is RSV1, 2 RSV2, 1 RSV3.
        mask: four bytes, or ``None`` for no mask.
        declare: the length to write in place of the true one.
        form: bytes of extended length (0, 2 or 8) in place of the shortest.
    """
    length = len(payload) if declare is None else declare
    if form is None:
        form = 0 if length < 126 else 2 if length <= 0xFFFF else 8
    short = {0: length, 2: 126, 8: 127}[form]
    head = bytes([fin << 7 | rsv << 4 | opcode, (mask is not None) << 7 | short]) + (
        length.to_bytes(form, "big") if form else b""
    )
    return head + (payload if mask is None else mask + masked(payload, mask))


def masked(payload: bytes, mask: bytes) -> bytes:
    size = len(payload)
    pad = mask * (size // 4 + 1)
    return (int.from_bytes(payload, "big") ^ int.from_bytes(pad[:size], "big")).to_bytes(size, "big")


def deflated(data: bytes, window: int = 15) -> bytes:
    """Return the payload of a compressed message (RFC 7692 §7.2.1)."""
    compressor = zlib.compressobj(9, zlib.DEFLATED, -window)
    compressed = compressor.compress(data) + compressor.flush(zlib.Z_SYNC_FLUSH)
    return compressed.removesuffix(b"\x00\x00\xff\xff")


def bomb(size: int) -> bytes:
    """Return the payload of a compressed message of so many zero bytes, without ever holding them."""
    compressor = zlib.compressobj(9, zlib.DEFLATED, -15)
    block = bytes(1 << 20)
    parts = [compressor.compress(block) for _ in range(size >> 20)]
    return b"".join([*parts, compressor.flush(zlib.Z_SYNC_FLUSH)]).removesuffix(b"\x00\x00\xff\xff")


class Subscriber(Peer):
    """A well-behaved client of the Umbel protocol that writes into a ledger what it gets."""

    def __init__(
        self,
        address: tuple[str, int],
        channels: Iterable[str],
        ledger: Ledger | None = None,
        name: str = "subscriber",
        *,
        receive_buffer: int | None = None,
        deflate: bool = False,
    ) -> None:
        super().__init__(address, receive_buffer=receive_buffer)
        self.ledger, self.name = ledger, name
        offer = ["Sec-WebSocket-Extensions: permessage-deflate"] if deflate else []
        self.upgrade(headers=["Sec-WebSocket-Protocol: umbel.v1", *offer])
        self.established = self.read_json("connection_established")
        self.positions: dict[str, int] = {}
        self.gaps: list[int] = []
        for channel in channels:
            self.send_json({"type": "subscribe_updates", "channel": channel})
            while (answer := self.read_json())["type"] != "subscription_established":
                self.apply(answer)  # of a channel that it has already
            self.positions[channel] = answer["offset"]
            if ledger:
                ledger.subscribed(name, channel, answer["offset"])

    def publish(self, channel: str, data: object, **fields: object) -> int:
        """Publish and return the offset; batches that come in between are applied."""
        self.send_json({"type": "publish", "channel": channel, "data": data, **fields})
        while (message := self.read_json())["type"] != "published":
            self.apply(message)
        offset: int = message["offset"]
        if self.ledger:
            self.ledger.published(channel, offset, data)
        return offset

    def apply(self, message: dict[str, Any]) -> list[dict[str, Any]]:
        """Check a message and write it down; return its updates."""
        if message["type"] == "gap":
            channel, start, end = message["channel"], message["from"], message["to"]
            assert start == self.positions[channel] < end, f"{message} at {self.positions[channel]}"
            self.positions[channel] = end
            self.gaps.append(end - start)
            if self.ledger:
                self.ledger.gap(self.name, channel, start, end)
            return []
        assert message["type"] == "batched_updates", message
        updates: list[dict[str, Any]] = message["updates"]
        assert message["count"] == len(updates) > 0
        for update in updates:
            channel, offset = update["channel"], update["offset"]
            start = update.get("from", offset - 1)
            assert start == self.positions[channel], f"{update} does not follow {self.positions[channel]}"
            self.positions[channel] = offset
            if self.ledger:
                self.ledger.applied(self.name, channel, start, offset, update["data"])
        return updates

    def read_until(self, channel: str, offset: int, seconds: float = PATIENCE) -> None:
        """Apply what comes until the channel has been read up to the offset."""
        deadline = time.monotonic() + seconds
        while self.positions[channel] < offset:
            assert time.monotonic() < deadline, f"at {self.positions[channel]} of {offset} after {seconds} s"
            self.apply(self.read_json())


class Answering(Subscriber):
    """A subscriber that answers pings whenever it reads."""

    pings = 0

    def read_frame(self) -> Frame:
        received = super().read_frame()
        if received.opcode == PING:
            self.pings += 1
            self.send_frame(PONG, received.payload)
        return received


class Canary:
    """A healthy client: publishes to its own channel at a steady rate and times the way back.

    Use it as a context manager around the abuse; on leaving, it has checked order and completeness, and
    ``latencies`` (seconds) can be judged.
    """

    def __init__(self, address: tuple[str, int], *, every: float = 0.005, channel: str = "canary") -> None:
        self.address, self.every, self.channel = address, every, channel
        self.latencies: list[float] = []
        self.errors: list[BaseException] = []
        self.ledger = Ledger()
        self._stop = threading.Event()
        self._beats = threading.Condition()
        self._thread = threading.Thread(target=self._live, daemon=True)

    def _live(self) -> None:
        try:
            with (
                Subscriber(self.address, [self.channel], self.ledger, "canary") as reader,
                Peer(self.address) as writer,
            ):
                writer.upgrade()
                writer.read_json("connection_established")
                while not self._stop.wait(self.every):
                    sent = time.perf_counter()
                    writer.send_json({"type": "publish", "channel": self.channel, "data": sent})
                    offset = writer.read_json("published")["offset"]
                    self.ledger.published(self.channel, offset, sent)
                    reader.read_until(self.channel, offset)
                    with self._beats:
                        self.latencies.append(time.perf_counter() - sent)
                        self._beats.notify_all()
        except BaseException as error:
            self.errors.append(error)

    def wait_beats(self, count: int, seconds: float = PATIENCE) -> None:
        """Wait until so many more publications have come back."""
        with self._beats:
            target = len(self.latencies) + count
            alive = self._beats.wait_for(lambda: len(self.latencies) >= target or self.errors, seconds)
        assert alive and not self.errors, (
            f"the canary stopped after {len(self.latencies)} beats: {self.errors}"
        )

    def quantile(self, part: float) -> float:
        ordered = sorted(self.latencies)
        return ordered[min(len(ordered) - 1, int(part * len(ordered)))]

    def __enter__(self) -> Canary:
        self._thread.start()
        self.wait_beats(5)
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        self._stop.set()
        self._thread.join(PATIENCE)
        if kind is None:
            assert not self.errors, f"the canary died: {self.errors[0]!r}"
            assert not self._thread.is_alive(), "the canary waits for a publication that does not come back"
            assert self.ledger.first_difference() is None
            assert self.ledger.lost("canary", self.channel) == 0


@dataclass
class Ledger:
    """Who published what and who got what. Claims about loss rest on it, not on the server's counters."""

    publications: dict[str, dict[int, str]] = field(default_factory=dict)
    starts: dict[tuple[str, str], int] = field(default_factory=dict)
    deliveries: dict[tuple[str, str], list[tuple[int, int, str | None]]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def published(self, channel: str, offset: int, data: object) -> None:
        with self._lock:
            self.publications.setdefault(channel, {})[offset] = json.dumps(data, sort_keys=True)

    def subscribed(self, client: str, channel: str, offset: int) -> None:
        with self._lock:
            self.starts[client, channel] = offset
            self.deliveries.setdefault((client, channel), [])

    def applied(self, client: str, channel: str, start: int, offset: int, data: object) -> None:
        """A client got an update that covers ``(start, offset]``."""
        with self._lock:
            self.deliveries[client, channel].append((start, offset, json.dumps(data, sort_keys=True)))

    def gap(self, client: str, channel: str, start: int, end: int) -> None:
        """A client was told that the publications ``(start, end]`` will not come."""
        with self._lock:
            self.deliveries[client, channel].append((start, end, None))

    def lost(self, client: str, channel: str) -> int:
        """Number of publications that this client was told it will not get."""
        return sum(end - start for start, end, data in self.deliveries[client, channel] if data is None)

    def first_difference(self) -> str | None:
        """Compare what was published with what each client got; describe the first difference."""
        for (client, channel), entries in self.deliveries.items():
            position = self.starts[client, channel]
            log = self.publications.get(channel, {})
            for start, offset, data in entries:
                what = f"{client} on {channel}: ({start}, {offset}]"
                if start != position:
                    return f"{what} does not follow {position}"
                if offset <= start:
                    return f"{what} covers nothing"
                if data is not None and offset in log and log[offset] != data:
                    return f"{what} got {data[:80]}, published was {log[offset][:80]}"
                position = offset
            if log and position < max(log):
                return f"{client} on {channel}: is at {position}, published were {max(log)}"
        return None

"""The settings of a server: one frozen class, the source of constructor arguments, command-line options and
core config.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Final, Literal, TypedDict, Unpack, final, get_type_hints

import orjson

from umbel._core import is_reserved_path


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """Everything about a server that is a number, a name or a switch.

    Times are seconds, sizes are bytes. The defaults suit one server with 10,000 clients on the open internet.

    Attributes:
        host: address to listen on. ``0.0.0.0`` or ``::`` for every interface; the default is reachable from
            this machine only.
        port: TCP port to listen on; 0 lets the system choose a free one.
        unix_socket: path of a Unix socket to listen on instead of host and port, for a proxy on the same
            machine.
        shards: threads that serve connections; 0 for one per core. More than cores never helps.
        reuse_port: give each shard a listening socket of its own (SO_REUSEPORT) instead of one acceptor that
            chooses the shard with the fewest connections. Faster accepts, less even shards.
        backlog: connections that the kernel holds until they are accepted; the system may lower it.
        tls_cert: path of a PEM file with the certificate chain; with it the server speaks TLS only.
        tls_key: path of a PEM file with the certificate's private key.
        websocket_path: path of the Umbel protocol.
        origins: web pages that may connect. ``None``: those served from the host they connect to; ``"*"``:
            all; a list: exactly these, as in ``["https://example.org"]``. Programs that send no ``Origin``
            may always connect.
        tick: seconds between two deliveries to one connection. Longer saves CPU and bytes, shorter saves
            latency while there is much to deliver; 0 delivers as soon as possible.
        heartbeat: seconds of silence after which a client is pinged; after two of them it is closed with
            4408. Shorter notices dead clients sooner and wakes mobile devices more often.
        deflate: offer permessage-deflate. Saves most of the bytes for little CPU, as a batch is compressed
            once.
        deflate_level: 1 (fast) to 9 (small).
        deflate_window: 9 to 15, base-two logarithm of the window. Larger is smaller on the wire for large
            batches only.
        max_connections: connections at a time; more are told to try later. Each needs a file descriptor.
        max_connections_per_address: connections that one address may have at a time, of IPv6 one network of
            64 bits; more get status 429, on a TLS port an alert. 0 for no limit, as behind a proxy, where all
            come from one address. Those on a Unix socket are not counted.
        max_connections_per_identity: connections that one identity, as named by ``authenticate``, may have at
            a time; more are closed with 4429. 0 for no limit. One that broke off is counted until the server
            notices, so leave room for some.
        max_message: bytes of one message from a client, after decompression; longer ones close with 1009.
        max_subscriptions: channels that one client may be subscribed to at a time, beside its private one.
        max_messages_per_second: messages and pings that one client may send in a second, and five times as
            many at once; more close with 4429. 0 for no limit. On websocket paths there is none: their
            function sets the pace.
        max_held_bytes: bytes of unfinished messages, and of answers and messages of websocket paths that
            wait to be read, that may be held for all clients together; beyond it, those for whom they have
            been held longest are closed.
        max_log_bytes: bytes that the histories of all channels may have together, and names without readers;
            beyond it, the channels that were published to least recently lose their history, oldest
            publications first. Readers that still wanted them get a ``gap``; ``stats().trimmed`` counts.
        handshake_timeout: seconds from accept until the client is let in, ``authenticate`` included.
        message_timeout: seconds from the first to the last byte of a message.
        write_timeout: seconds that a connection may take nothing of what waits for it before it is closed.
        close_timeout: seconds to wait for the other end's close frame.
        send_buffer: bytes the kernel may hold per connection (SO_SNDBUF); ``None`` for 128 KiB.
        event_queue: events that wait for Python at most; when it is full, reading from the sockets stops.
        drain: seconds that a graceful stop may take.
        handler_timeout: seconds that a function of the application may take for one message; then the client
            gets an ``error`` ``timeout`` and the function is cancelled. ``None`` for no limit. Streams have
            none.
        max_running: functions that run for one client at a time; above that, reading from this client stops.
        max_runs: unfinished runs that one client may have; above that, it gets an ``error``
            ``limit_exceeded``.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    unix_socket: str | None = None
    shards: int = 0
    reuse_port: bool = False
    backlog: int = 4096
    tls_cert: str | None = None
    tls_key: str | None = None
    websocket_path: str = "/ws"
    origins: Sequence[str] | Literal["*"] | None = None
    tick: float = 0.016
    heartbeat: float = 30.0
    deflate: bool = True
    deflate_level: int = 1
    deflate_window: int = 12
    max_connections: int = 20_000
    max_connections_per_address: int = 0
    max_connections_per_identity: int = 0
    max_message: int = 1 << 20
    max_subscriptions: int = 128
    max_messages_per_second: int = 10_000
    max_held_bytes: int = 256 << 20
    max_log_bytes: int = 1 << 30
    handshake_timeout: float = 10.0
    message_timeout: float = 60.0
    write_timeout: float = 30.0
    close_timeout: float = 5.0
    send_buffer: int | None = None
    event_queue: int = 4096
    drain: float = 10.0
    handler_timeout: float | None = 30.0
    max_running: int = 16
    max_runs: int = 16

    def __post_init__(self) -> None:
        """Check types and signs; the core checks the ranges of what it uses.

        Raises:
            TypeError: if a value has the wrong type.
            ValueError: if a number is out of range, an origin is none, or settings contradict each other.
        """
        for name, kind in KINDS.items():
            check(name, kind, getattr(self, name))
        for name in ("max_running", "max_runs"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1")
        if self.handler_timeout == 0:
            raise ValueError("handler_timeout must be more than 0 seconds; use None for no limit")
        if is_reserved_path(self.websocket_path):
            raise ValueError(f"websocket_path {self.websocket_path!r} belongs to Umbel itself")
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ValueError("tls_cert and tls_key belong together: give both or neither")
        if isinstance(self.origins, str) and self.origins != "*":
            raise ValueError(
                f'origins must be None, "*" or a list of origins; write origins=["{self.origins}"]'
            )
        for origin in self.origins or ():
            if not ORIGIN.fullmatch(origin) and self.origins != "*":
                raise ValueError(
                    f"origins: {origin!r} can never match: browsers send scheme and host, and a port that is "
                    "not the scheme's own, as in 'https://example.org' or 'http://localhost:3000'"
                )

    def replace(self, **options: Unpack[Options]) -> Settings:
        """Return settings that differ in the given fields."""
        return replace(self, **options)

    def to_json(self, **structure: Any) -> bytes:
        """Encode the configuration of the core: these settings, and the structure of the application."""
        config = {name: value for name, value in asdict(self).items() if name not in PYTHON_ONLY}
        if self.origins is not None and self.origins != "*":
            config["origins"] = list(self.origins)
        return orjson.dumps(config | structure)


# As types, so that they can be read without this module.
Settings.__annotations__ = get_type_hints(Settings)


class Options(TypedDict, total=False):
    """The fields of `Settings` as keyword arguments. A test compares the two."""

    host: str
    port: int
    unix_socket: str | None
    shards: int
    reuse_port: bool
    backlog: int
    tls_cert: str | None
    tls_key: str | None
    websocket_path: str
    origins: Sequence[str] | Literal["*"] | None
    tick: float
    heartbeat: float
    deflate: bool
    deflate_level: int
    deflate_window: int
    max_connections: int
    max_connections_per_address: int
    max_connections_per_identity: int
    max_message: int
    max_subscriptions: int
    max_messages_per_second: int
    max_held_bytes: int
    max_log_bytes: int
    handshake_timeout: float
    message_timeout: float
    write_timeout: float
    close_timeout: float
    send_buffer: int | None
    event_queue: int
    drain: float
    handler_timeout: float | None
    max_running: int
    max_runs: int


def check(name: str, kind: str, value: object) -> None:
    """Check one value against the annotation of its field, as text."""
    if value is None and "None" in kind:
        return
    base = kind.removesuffix(" | None")
    if base == "bool":
        good = isinstance(value, bool)
    elif base == "int":
        good = isinstance(value, int) and not isinstance(value, bool)
    elif base == "float":
        good = isinstance(value, int | float) and not isinstance(value, bool)
    elif base == "str":
        good = isinstance(value, str)
    else:
        good = isinstance(value, str) or (
            isinstance(value, Sequence) and all(isinstance(item, str) for item in value)
        )
    if not good:
        raise TypeError(f"{name} must be {kind}, not {type(value).__name__}")
    if isinstance(value, int | float):
        if not (math.isfinite(value) and value >= 0):
            raise ValueError(f"{name} must be a finite number of at least 0, not {value}")
        least, most = RANGES.get(name, (0, LONGEST if base == "float" else LARGEST))
        if not least <= value <= most:
            raise ValueError(f"{name} must be {least} to {most}, not {value}")


KINDS: Final = {field.name: str(field.type) for field in fields(Settings)}
"""Each field's annotation, as text."""

RANGES: Final = {
    "port": (0, 65_535),
    "backlog": (1, (1 << 31) - 1),
    "deflate_window": (9, 15),
    "max_messages_per_second": (0, (1 << 32) - 1),
}
"""What the core's types hold; it says itself what else it can't do."""

LARGEST: Final = (1 << 63) - 1
LONGEST: Final = 1_000_000_000
"""Seconds: thirty years, within what clocks can add."""

ORIGIN: Final = re.compile(r"null|[a-z][a-z0-9+.-]*://[!-.0->@-~]+", re.IGNORECASE)
"""ASCII without a path or a query; sandboxed pages send ``null``."""

PYTHON_ONLY: Final = frozenset(
    {"drain", "handler_timeout", "max_connections_per_identity", "max_running", "max_runs"}
)
"""Fields that the core knows nothing about."""

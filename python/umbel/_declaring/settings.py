"""The settings of a server.

Constructor arguments, options of the command line and the configuration of the core all come from one class.
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
    """The settings of a server. Immutable.

    Times are seconds, sizes are bytes. The defaults suit one server with 10,000 clients on the open internet.

    Attributes:
        host: address to listen on. The default can be reached from this machine only. ``0.0.0.0`` or ``::``
            listens on every interface.
        port: TCP port to listen on; 0 for any free port.
        unix_socket: path of a Unix socket to listen on, instead of host and port. For a proxy on the same
            machine.
        shards: threads that serve connections; 0 for one per CPU core. More threads than cores never help.
        reuse_port: let every shard accept connections from a socket of its own (SO_REUSEPORT). Accepting is
            faster, but connections are spread less evenly. By default one thread accepts, and gives each
            connection to the shard with the fewest.
        backlog: connections that the kernel holds until the server accepts them. The system may lower it.
        tls_cert: path of a PEM file with the certificate chain. With it, the server accepts TLS only.
        tls_key: path of a PEM file with the private key of the certificate.
        websocket_path: path at which clients connect with the Umbel protocol.
        origins: web pages that may connect. ``None`` for pages from the host that they connect to, ``"*"``
            for all pages, or a list of origins, as in ``["https://example.org"]``. Programs that send no
            ``Origin`` may always connect.
        tick: seconds between two deliveries to one connection. A longer tick saves CPU and bytes. A shorter
            one lowers latency while much is published. 0 delivers as soon as possible.
        heartbeat: seconds of silence after which the server pings a client. After as long again without a
            sign of life the client is closed with 4408. A shorter time finds dead clients sooner, and wakes
            mobile devices more often.
        deflate: offer compression (permessage-deflate). It saves most of the bytes and costs little CPU,
            because a batch is compressed once for all its readers.
        deflate_level: compression level, 1 (fast) to 9 (small).
        deflate_window: 9 to 15, the base-two logarithm of the compression window in bytes. A larger window
            makes only large batches smaller.
        max_connections: connections at the same time. Further ones get HTTP status 503. Each connection needs
            a file descriptor.
        max_connections_per_address: connections from one address at the same time; 0 for no limit. Further
            ones get HTTP status 429, or an alert on a TLS port. An IPv6 network of 64 bits is one address.
            Use 0 behind a proxy, because all connections come from its address. Connections on a Unix socket
            are not counted.
        max_connections_per_identity: connections of one identity at the same time; 0 for no limit. Further
            ones are closed with 4429. ``authenticate`` names the identity. A connection that broke off counts
            until the server notices, so allow for some more.
        max_message: bytes of one message from a client, after decompression. A longer one closes with 1009.
        max_subscriptions: channels to which one client may be subscribed, its private channel not counted.
        max_messages_per_second: messages and pings of one client per second; 0 for no limit. A burst may have
            five times as many. A client that sends more is closed with 4429. Websocket paths have no limit:
            their function decides how fast messages are read.
        max_held_bytes: bytes held for all clients together while messages are unfinished or replies are
            unread; messages of websocket paths count, too. Above that, the connections that have held theirs
            longest are closed.
        max_log_bytes: bytes of all channel histories together. Above that, the channels that were published
            to least recently lose their oldest publications. Readers that still needed them get a ``gap``,
            and ``stats().trimmed`` counts them. A channel without readers and publications counts a few
            hundred bytes, for its name.
        handshake_timeout: seconds from the accept until the client is let in, ``authenticate`` included.
        message_timeout: seconds from the first to the last byte of a message.
        write_timeout: seconds for which a connection may take none of the bytes that wait for it. Then it is
            closed.
        close_timeout: seconds to wait for the close frame of the other end.
        send_buffer: bytes that the kernel may hold for each connection (SO_SNDBUF); ``None`` for 128 KiB.
        event_queue: events that may wait for Python. When the queue is full, the server stops reading from
            its sockets.
        drain: seconds that a graceful stop may take.
        handler_timeout: seconds that a function of the application may take for one message; ``None`` for no
            limit. Then the client gets an ``error`` with code ``timeout``, and the function is cancelled.
            Streams and websocket functions have no limit.
        max_running: functions that run for one client at the same time. When as many run, the server stops
            reading from this client.
        max_runs: unfinished runs of one client. A message that would start another gets an ``error`` with
            code ``limit_exceeded``.
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
        """Check types and signs. The core checks the ranges of what it uses.

        Raises:
            TypeError: if a value has the wrong type.
            ValueError: if a number is out of range, an origin can't match, a path belongs to Umbel, or
                settings contradict each other.
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
            raise ValueError("tls_cert and tls_key belong together: set both or neither")
        if isinstance(self.origins, str) and self.origins != "*":
            raise ValueError(
                f'origins must be None, "*" or a list of origins; write origins=["{self.origins}"]'
            )
        for origin in self.origins or ():
            if not ORIGIN.fullmatch(origin) and self.origins != "*":
                raise ValueError(
                    f"origins: {origin!r} can never match. Browsers send a scheme, a host, and a port unless "
                    "it is the default, as in 'https://example.org' or 'http://localhost:3000'"
                )

    def replace(self, **options: Unpack[Options]) -> Settings:
        """Return settings that differ in the given fields.

        Raises:
            TypeError: if a setting does not exist or has the wrong type.
            ValueError: if a setting is out of range.
        """
        return replace(self, **options)

    def to_json(self, **structure: Any) -> bytes:
        """Encode the configuration of the core: these settings and the structure of the application."""
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
"""What the types of the core can hold. The core refuses itself what else it can't do."""

LARGEST: Final = (1 << 63) - 1
LONGEST: Final = 1_000_000_000
"""Seconds: thirty years. Clocks can add that."""

ORIGIN: Final = re.compile(r"null|[a-z][a-z0-9+.-]*://[!-.0->@-~]+", re.IGNORECASE)
"""ASCII without a path or a query. Sandboxed pages send ``null``."""

PYTHON_ONLY: Final = frozenset(
    {"drain", "handler_timeout", "max_connections_per_identity", "max_running", "max_runs"}
)
"""Fields that the core does not know."""

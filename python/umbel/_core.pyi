"""The Rust core as Python sees it. Private: applications use the names that ``umbel`` exports."""

from collections.abc import Generator
from typing import Any, Final, final

__version__: Final[str]

ALLOWANCE: Final[int]
"""Bytes of messages of one websocket path's client that may wait for the application before reading stops."""

HIGH_WATER: Final[int]
"""Bytes on their way to a socket at which a sender on a websocket path waits for WRITABLE."""

LONGEST_REASON: Final[int]
"""Bytes of UTF-8 that the reason in a close frame may have."""

NAME_BYTES: Final[int]
"""Bytes of UTF-8 that a channel name may have."""

SUBPROTOCOL: Final[str]
"""Name of the WebSocket subprotocol that the server speaks."""

CLOSE_CODES: Final[list[tuple[int, str, str, bool]]]
"""Code, name, meaning, and whether to come back, of every close code that the core sends."""

CLOSE_REASONS: Final[list[tuple[int | None, str, str]]]
"""Code, if there is a close frame, text, and who causes it, of every reason for which the core ends a connection."""

ERROR_CODES: Final[list[tuple[str, str, bool]]]
"""Name, meaning, and whether it is the client's fault, of every code of an ``error`` message."""

def is_reserved_path(path: str, /) -> bool:
    """Whether a path is the server's own: no page and no WebSocket of an application is served there."""

# Kinds of events, the first element of each tuple that Core.drain() returns.
OPEN: Final[int]  # (OPEN, client, Handshake)
MESSAGE: Final[int]  # (MESSAGE, client, type: str, id: bytes | None, text: bytes)
SUBSCRIBE: Final[int]  # (SUBSCRIBE, client, question: int, rule: int, channel: str, params: tuple[str, ...])
PUBLISH: Final[int]  # (PUBLISH, client, question: int, rule: int, channel: str, params, data: bytes, key: str | None)
TEXT: Final[int]  # (TEXT, client, text: str): a message of a websocket path
BINARY: Final[int]  # (BINARY, client, data: bytes): a message of a websocket path
WRITABLE: Final[int]  # (WRITABLE, client): buffered output of a websocket path fell to the low mark
CLOSED: Final[int]  # (CLOSED, client, code: int, reason: str): the last event of this client
LOG: Final[int]  # (LOG, level: int, text: str): a line for the logger, level as in logging
STOPPED: Final[int]  # (STOPPED,): every shard has ended
ENDED: Final[int]  # (ENDED, client, code: int, reason: str): no more messages on a websocket path; close() says goodbye

@final
class Position:
    """A place in a channel's log: the log's epoch, and an offset in it.

    Immutable, hashable, comparable for equality; ordered within one epoch only, so it has no ``<``.
    """

    @property
    def epoch(self) -> str:
        """Random id of this life of the log."""
    @property
    def offset(self) -> int:
        """1 for the first publication of the epoch, then 2, 3, …; 0 before the first."""
    def __eq__(self, other: object, /) -> bool: ...
    def __hash__(self) -> int: ...

@final
class Receipt:
    """What became of a publication. `Umbel.publish` and `Client.send` return one at once.

    The publication is on its way, whether or not anybody looks at its receipt. The broker in memory
    confirms it at once: its ``position`` is known when the call returns. A broker elsewhere answers
    later; ``await`` works with both.

    Publications of one thread are in a channel in the order of the calls, however late their receipts
    become known.

    Example:
        >>> from umbel import Umbel
        >>> app = Umbel()
        >>> @app.on("measure")
        ... async def measure(client, message):
        ...     position = await app.publish("measurements", message.data)
        ...     return {"offset": position.offset}
    """

    @property
    def position(self) -> Position | None:
        """The position in the channel's log; ``None`` until it is confirmed, and when it has failed."""
    def __await__(self) -> Generator[Any, None, Position]:
        """Wait for the position, on asyncio or uvloop.

        May be awaited more than once and by several tasks. When one of them is cancelled, the others and
        the publication are not.

        Raises:
            NotPublished: if the publication failed for certain: nobody gets it.
            MaybePublished: if nobody can tell what became of it.
        """
    def wait(self, timeout: float | None = None) -> Position:
        """Wait for the position, on a thread without an event loop.

        Args:
            timeout: seconds; ``None`` waits until the broker answers, or its own time limit is over.

        Raises:
            NotPublished: if the publication failed for certain: nobody gets it.
            MaybePublished: if nobody can tell what became of it.
            TimeoutError: if the broker has not answered in time. The publication goes on.
            RuntimeError: if this thread runs an event loop, which the call would block. This is so also
                when the answer is known: a program must not work in memory and hang with another broker.
            ValueError: if the timeout is negative.
        """

@final
class Handshake:
    """The HTTP request that opened a connection."""

    @property
    def path(self) -> str:
        """Percent-decoded path, without the query."""
    @property
    def query(self) -> str:
        """Query string as sent, without the question mark; empty when there is none."""
    @property
    def headers(self) -> list[tuple[str, str]]:
        """Header fields in the order they came; names in lower case, values decoded as Latin-1."""
    @property
    def peer(self) -> str:
        """Address of the other end, ``"127.0.0.1:51234"`` or ``"unix"``."""
    @property
    def secure(self) -> bool:
        """Whether this connection is TLS."""
    @property
    def route(self) -> int | None:
        """Index of the websocket path that matched; ``None`` for the Umbel protocol."""
    @property
    def params(self) -> tuple[str, ...]:
        """Values of the parameters of that websocket path, in their order."""
    @property
    def client_id(self) -> str:
        """The public id of this client, as ``connection_established`` tells it."""

@final
class Stats:
    """Counters of one server since its start, and gauges of this moment. An immutable snapshot."""

    @property
    def connections(self) -> int:
        """Connections that are open now, those that have not sent their request yet included."""
    @property
    def accepted(self) -> int:
        """Connections that were accepted since the start."""
    @property
    def refused(self) -> int:
        """Connections since the start that were turned away or ended before they were let in: the
        server or the address had too many, the request was wrong or too late, or the application
        refused the client.
        """
    @property
    def subscriptions(self) -> int:
        """Subscriptions of all clients now. A client's private channel counts once it is used."""
    @property
    def blocked(self) -> int:
        """Clients now whose socket does not take what waits for them."""
    @property
    def received(self) -> int:
        """Messages that were received since the start, on websocket paths too. Pings are not counted.
        """
    @property
    def frames(self) -> int:
        """Frames with publications that were written since the start. A frame to ten clients counts ten
        times.
        """
    @property
    def delivered(self) -> int:
        """Updates in those frames. A publication that ten clients get counts ten times."""
    @property
    def bytes_sent(self) -> int:
        """Bytes that sockets took since the start, TLS included."""
    @property
    def gaps(self) -> int:
        """Gaps that clients were told of since the start: each says that publications of one channel
        will not come.
        """
    @property
    def lost(self) -> int:
        """Publications in those gaps. One that ten clients miss counts ten times."""
    @property
    def panics(self) -> int:
        """Bugs of the server since the start that ended one connection each."""
    @property
    def channels(self) -> int:
        """Channels that have a log now. A channel without publications and readers loses it after a
        minute or two.
        """
    @property
    def published(self) -> int:
        """Publications since the start, those to private channels included."""
    @property
    def trimmed(self) -> int:
        """Publications that were dropped since the start because all channels together kept more than
        ``max_log_bytes``.
        """
    @property
    def log_lines_dropped(self) -> int:
        """Log lines that were dropped since the start, because the event loop was blocked, or because
        nobody read stderr or the disk was full.
        """
    @property
    def lateness_buckets(self) -> list[int]:
        """How often each delay occurred, from ``publish`` to the write of the frame: one entry for each
        channel in each frame, for its oldest publication. Four buckets for each power of two of
        microseconds: bucket ``i`` ends before ``(5 + i % 4) << (i // 4)`` µs, the first begins at 0.
        """
    def lateness(self, quantile: float, /, since: Stats | None = None) -> float:
        """Seconds from publish to the write of the frame, at a quantile between 0 and 1, weighted by frames written.

        With ``since``, an earlier snapshot, only what came after it counts.
        """

@final
class Core:
    """Logs, shards and sockets of one server.

    Every method may be called from any thread and returns without waiting, unless it says otherwise. A method that
    takes a client returns ``False`` (or ``None``) when that client is gone: that is an outcome, not an error.
    """

    def __new__(cls, config: bytes, pages: dict[str, tuple[str, bytes]]) -> Core:
        """Check the configuration and make the broker.

        Args:
            config: JSON of the settings, as ``umbel.Settings.to_json`` writes it.
            pages: fixed answers to ``GET``: path → (content type, body).

        Raises:
            ValueError: if a setting is out of range; the message says which and why.
        """
    def start(self) -> list[str]:
        """Bind, start the shards, and return the addresses (``http://127.0.0.1:8000``, ``unix:/run/umbel.sock``).

        Raises:
            OSError: if the address can't be bound.
            ValueError: if certificate or key can't be used.
            RuntimeError: if it was started before.
        """
    def fileno(self) -> int:
        """A descriptor that becomes readable when events wait; the event loop watches it."""
    def drain(self, limit: int, /) -> list[tuple[object, ...]]:
        """Take at most ``limit`` events in order. When more wait, the descriptor stays readable."""
    def publish(self, channel: str, data: bytes, key: str | None = None, /) -> Receipt:
        """Append ``data`` (one JSON text) to the channel's log. Cost does not depend on the number of subscribers.

        Raises:
            ValueError: if the channel name is empty, too long (255 bytes), or private to a client (starts with "@"); if
                the data have more than 16 MiB.
        """
    def send(self, client: int, data: bytes, key: str | None = None, /) -> Receipt | None:
        """Append ``data`` (one JSON text) to the private channel of a client."""
    def reply(self, client: int, message: bytes, /) -> bool:
        """Send one control message (a JSON text) past the logs: a result or an error."""
    def reply_error(self, client: int, message: bytes, /) -> bool:
        """Send an error that the client caused; after 20 in ten seconds it is closed with 1008."""
    def send_text(self, client: int, text: str, /) -> int | None:
        """Send a text message on a websocket path; returns the bytes now waiting for the socket."""
    def send_binary(self, client: int, data: bytes, /) -> int | None:
        """Send a binary message on a websocket path; returns the bytes now waiting for the socket."""
    def admit(self, client: int, /) -> bool:
        """Let a client in whose OPEN event asked for it: ``connection_established`` goes out, reading starts."""
    def close(self, client: int, code: int, reason: str, /) -> bool:
        """Close with a code and a reason, after what was sent before.

        Raises:
            ValueError: if the code may not be sent, or the reason is longer than 123 bytes of UTF-8.
        """
    def subscribe(self, client: int, channel: str, message_id: bytes | None = None, /) -> bool:
        """Subscribe a client without asking anyone. It gets ``subscription_established``, with the id of the message
        that asked for it (a JSON text), if there is one.
        """
    def unsubscribe(self, client: int, channel: str, reason: str, /) -> bool:
        """End a subscription; tells the client ``subscription_ended`` with the reason."""
    def decide(self, client: int, question: int, allowed: bool, code: str, message: str, /) -> bool:
        """Decide the question of a SUBSCRIBE or PUBLISH event.

        When allowed, the client is subscribed, or its data are published as they came. When not, ``code`` and
        ``message`` go into the ``error`` that the client gets.
        """
    def pause_reading(self, client: int, /) -> bool:
        """Stop reading from a client."""
    def resume_reading(self, client: int, /) -> bool:
        """Read again from a paused client."""
    def stats(self, log_lines_dropped: int, /) -> Stats:
        """Return a snapshot of counters and gauges. The log lines that Python dropped are added to those of the core."""
    def stop(self, within: float, /) -> None:
        """Begin the graceful stop: stop accepting, tell everyone ``reconnect``, deliver what waits, close with 1012.

        Takes at most ``within`` seconds; a second call hastens it. Returns at once; STOPPED is the last event.
        """
    def join(self, timeout: float, /) -> bool:
        """Wait until every shard has ended; ``False`` if that takes longer than ``timeout`` seconds. Releases the GIL."""

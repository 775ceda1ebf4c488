"""The Rust core as Python sees it. Private: applications use the names that ``umbel`` exports."""

from collections.abc import Generator
from typing import Any, Final, final

__version__: Final[str]

HIGH_WATER: Final[int]
"""Bytes on their way to a socket at which a sender on a websocket path waits for WRITABLE."""

LONGEST_REASON: Final[int]
"""Bytes of UTF-8 that the reason in a close frame may have."""

NAME_BYTES: Final[int]
"""Bytes of UTF-8 that a channel name may have."""

SUBPROTOCOLS: Final[list[str]]
"""Names of the WebSocket subprotocols that the server speaks, the preferred one first."""

CLOSE_CODES: Final[list[tuple[int, str, str, bool]]]
"""Code, name, meaning, and whether to come back, of every close code that the core sends."""

CLOSE_REASONS: Final[list[tuple[int | None, str, str]]]
"""Code, if there is a close frame, text, and who causes it, of every reason for which the core ends a connection."""

ERROR_CODES: Final[list[tuple[str, str, bool]]]
"""Name, meaning, and whether it is the client's fault, of every code of an ``error`` message."""

TOKEN_ERRORS: Final[list[tuple[str, str, int]]]
"""Name, text and close code of every reason for which a token is refused."""

def check_config(config: bytes, /) -> None:
    """Raise ValueError if a core could not be made of this configuration."""

def check_json(text: bytes, /) -> None:
    """Raise ValueError if a text is not JSON as the protocol reads it: strict, so that no two readers disagree about it."""

def is_reserved_path(path: str, /) -> bool:
    """Whether a path is the server's own: no page and no WebSocket of an application is served there."""

# Kinds of events, the first element of each tuple that Core.drain() returns.
OPEN: Final[int]  # (OPEN, client, Handshake)
# The Credit of each of these is given back when it is dropped.
MESSAGE: Final[int]  # (MESSAGE, client, Credit, type: str, id: bytes | None, text: bytes)
SUBSCRIBE: Final[int]  # (SUBSCRIBE, client, Credit, question: int, rule: int, channel: str, params: tuple[str, ...])
PUBLISH: Final[int]  # (PUBLISH, client, Credit, question, rule, channel, params, data: bytes, key: str | None, op: str)
RESOLVE: Final[int]
# (RESOLVE, client, Credit, question, rule, channel, params, key: str,
#  (version: Position | None, value: bytes | None, sender: bytes | None),
#  (proposed value: bytes | None, base: bytes | None, nothing was expected: bool)); None for bytes: there is no entry
PRESENCE: Final[int]  # (PRESENCE, client, Credit, number: int, rule: int, channel: str): who is it for others?
TEXT: Final[int]  # (TEXT, client, Credit, text: str): a message of a websocket path
BINARY: Final[int]  # (BINARY, client, Credit, data: bytes): a message of a websocket path
WRITABLE: Final[int]  # (WRITABLE, client): buffered output of a websocket path fell to the low mark
BEGUN: Final[int]  # (BEGUN, client): a client with Handshake.other_credential, which was let in, is one of its own
MERGED: Final[int]  # (MERGED, client, into: int): it is another one, which has come back; the last event of the former
RENEWED: Final[int]  # (RENEWED, client, (subject, claims, expires)): the client has shown another token on its connection
AWAY: Final[int]  # (AWAY, client, code: int, reason: str): the client has lost its connection, and may come back
BACK: Final[int]  # (BACK, client, Handshake): the client has come back
STAYS: Final[int]  # (STAYS, client): it does not give way, because it has come back
CLOSED: Final[int]  # (CLOSED, client, code: int, reason: str): the last event of this client
# Who came and who left: id, subject, whether it came, whether it left, whether it is there now.
GATHERED: Final[int]  # (GATHERED, rule: int, channel: str, params: tuple[str, ...], list[tuple[str, str, bool, bool, bool]])
# A line for the logger, level as in logging. Where it is about a client: its public id, and the number of its connection, or 0.
LOG: Final[int]  # (LOG, level: int, text: str, about: tuple[str, int] | None)
STOPPED: Final[int]  # (STOPPED,): every shard has ended
SUBSCRIBED: Final[int]  # (SUBSCRIBED, number: int, subscribed: bool): what became of subscribe() with a number
ROOM: Final[int]  # (ROOM, number: int): there is room where when_room() or when_client_room() said that there is none
ENDED: Final[int]  # (ENDED, client, code: int, reason: str): no more messages on a websocket path; close() says goodbye

@final
class Position:
    """A place in a channel's log: the log's epoch, and an offset in it.

    Immutable, hashable, comparable for equality; ordered within one epoch only, so it has no ``<``.
    """

    def __new__(cls, epoch: str, offset: int) -> Position:
        """Make a position from its parts: those that an application has stored, or a client has sent.

        Raises:
            OverflowError: if the offset is negative or beyond 64 bits.
            ValueError: if the epoch is not 16 lower-case hexadecimal digits.
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
    def token(self) -> str | None:
        """What the client names itself by in its first message; ``None`` when it does not."""
    @property
    def identity(self) -> tuple[str, bytes, float | None] | None:
        """Subject, claims as JSON text, and the end in seconds of Unix time, of a token that was verified; ``None`` otherwise."""
    @property
    def other_credential(self) -> bool:
        """Whether this may be the client of a session that began with another token. BEGUN or MERGED follows."""
    @property
    def is_caller(self) -> bool:
        """Whether it is a program that makes calls over HTTP."""
    @property
    def client_id(self) -> str:
        """The public id of this client, as ``connection_established`` tells it."""
    @property
    def connection(self) -> int:
        """The number of this connection, for the log: no other connection to the server has it."""

@final
class Verifier:
    """Says whether tokens count: keys and rules, which are never shown."""

    def __new__(
        cls, options: bytes, keys: list[tuple[str | None, bytes]] | None, jwks: bytes | None, /
    ) -> Verifier:
        """Check the options and the keys. With neither keys nor set, ``replace_keys`` gives them later.

        Args:
            options: JSON with ``algorithms``, ``audience``, ``issuer``, ``leeway``, ``max_lifetime`` and ``cookie``.
            keys: secrets and public keys in PEM, with their names.
            jwks: a JWK Set.

        Raises:
            ValueError: if they can't be used; the message says what to do.
        """
    def verify(self, token: str, now: float, /) -> tuple[str, bytes, float | None]:
        """Return subject, claims as JSON text, and the end of a token.

        Raises:
            ValueError: if the token does not count at this time, in seconds of Unix time; the message says why.
        """
    def revoke(self, subject: str, now: float, /) -> None:
        """Refuse the tokens of a subject that were issued until now, in seconds of Unix time.

        Raises:
            RuntimeError: if no more subjects can be remembered; nothing has changed.
        """

    def needs_keys(self, token: str, now: float, /) -> bool:
        """Whether the key of a token is not known here."""
    def replace_keys(self, jwks: bytes, now: float, /) -> None:
        """Take the keys of a JWK Set, which count for a day, in place of those before.

        Raises:
            ValueError: if it can't be used; nothing has changed.
        """
    def has_keys(self, now: float, /) -> bool:
        """Whether there are keys that count at this time."""
    def keys_come(self) -> None:
        """Let clients wait for keys, because they come soon. Ends ``wait_wanted``."""
    def keys_settled(self) -> None:
        """Let no client wait for keys before the next ``wait_wanted``."""
    def wait_wanted(self, at_most: float, /) -> None:
        """Wait until a client needs a key that is not known, at most so many seconds, without the interpreter lock."""

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
    def recovered(self) -> int:
        """Subscriptions since the start with which clients came back and lost nothing."""
    @property
    def unrecovered(self) -> int:
        """Subscriptions since the start with which clients came back, and something was lost or may have been."""
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
    def bytes_received(self) -> int:
        """Bytes that sockets gave since the start, TLS included."""
    @property
    def payload_sent(self) -> int:
        """Bytes of the updates that were delivered since the start, as JSON text before compression."""
    @property
    def payload_received(self) -> int:
        """Bytes of the messages that were received since the start, after decompression."""
    @property
    def gaps(self) -> int:
        """Gaps that clients were told of since the start: each says that publications of one channel
        will not come.
        """
    @property
    def gaps_overrun(self) -> int:
        """Those of these gaps whose client was late: more than a second behind, and further than the
        channel's history.
        """
    @property
    def gaps_burst(self) -> int:
        """Those of these gaps in which more was published at once than ``burst_bytes``."""
    @property
    def gaps_memory(self) -> int:
        """Those of these gaps in which all channels together kept more than ``max_log_bytes``."""
    @property
    def lost(self) -> int:
        """Publications in all gaps. One that ten clients miss counts ten times."""
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
    def log_bytes(self) -> int:
        """Bytes that all channels keep now, their names and bookkeeping included. ``max_log_bytes`` bounds
        them.
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
    @property
    def refused_by(self) -> dict[str, int]:
        """Those of ``refused`` by their reason, such as ``origin`` or ``full``."""
    @property
    def closed_by(self) -> dict[str, int]:
        """Connections that were accepted and have ended since the start, by the reason, such as ``client``
        or ``not_reading``.
        """
    def lateness(self, quantile: float, /, since: Stats | None = None) -> float:
        """Seconds from publish to the write of the frame, at a quantile between 0 and 1, weighted by frames written.

        With ``since``, an earlier snapshot, only what came after it counts.
        """
    def as_dict(self) -> dict[str, Any]:
        """Return everything as a new dict that JSON can hold: the properties by their names."""
    def __repr__(self) -> str:
        """Return the numbers that are not 0, and the lateness at two quantiles, in milliseconds."""

@final
class Credit:
    """What a message takes of the bytes and messages that its client may have under way. Given back when this is dropped."""

    def give_place_back(self) -> None:
        """Count no longer as a message: it goes on for long, and another limit bounds such messages. Its bytes still count."""

@final
class Load:
    """A load: connections to a server, and what they find. It is run once."""

    def __new__(cls, config: str, /) -> Load:
        """Take the configuration, a JSON text.

        Raises:
            ValueError: if it can't be used.
        """
    def run(self) -> str:
        """Do all of it on this thread, without the interpreter. Returns what was measured, as JSON text.

        Raises:
            RuntimeError: if this machine can't do it; the message says what it lacks.
        """
    def go(self) -> None:
        """Let a load go on that waits with all its connections open. From any thread."""
    def stop(self) -> None:
        """End it soon. From any thread."""
    def progress(self, known: int, /) -> str:
        """How far it is, as JSON text: ``stage``, ``rows`` with one object for each second, without the first ones,
        which are known, and ``conversation``, which is told once. From any thread.
        """

@final
class Members:
    """Who is in which channel. Every method may be called from any thread and returns without waiting."""

    def know(self, client: int, channel: str, number: int, subject: str | None, /) -> None:
        """Answer a PRESENCE event: who the client is for others, or ``None`` to hide it.

        An answer that comes too late has no effect.
        """
    def present(
        self, channel: str, /
    ) -> list[tuple[str, str, bool, bool, int, bytes | None, bytes | None]] | None:
        """Return the members of a channel that others see: id, subject, active, typing, milliseconds since 1970, JSON of task
        and data. ``None`` when the channel tells nobody who is in it.

        Raises:
            ValueError: if there can be no such channel.
        """

@final
class Core:
    """Logs, shards and sockets of one server.

    Every method may be called from any thread and returns without waiting, unless it says otherwise. A method that
    takes a client returns ``False`` (or ``None``) when that client is gone: that is an outcome, not an error.
    """

    def __new__(
        cls,
        config: bytes,
        pages: dict[str, tuple[list[tuple[str, str]], bytes, bytes | None]],
        verifier: Verifier | None = None,
        /,
    ) -> Core:
        """Check the configuration and make the broker.

        Args:
            config: JSON of the settings, as ``umbel.Settings.to_json`` writes it.
            pages: fixed answers to ``GET``: path → (headers, body, body for clients that accept gzip).
            verifier: lets clients in by their tokens. Then an OPEN event asks for nothing.

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
    def publish(
        self, channel: str, data: bytes, key: str | None = None, event: str | None = None, /
    ) -> Receipt:
        """Append ``data`` (one JSON text) to the channel's log. Cost does not depend on the number of subscribers.

        Raises:
            ValueError: if the channel name is empty, too long (255 bytes), or begins with "@" or "$"; if the data have
                more than 16 MiB, or the key more than 255 bytes; if the event has no legal name.
            StateFull: if the channel has a state without room for it.
        """
    def change_state(
        self,
        channel: str,
        key: str,
        data: bytes | None,
        event: str | None,
        version: Position | int | None,
        is_patch: bool,
        /,
    ) -> Receipt:
        """Set a key of a state to ``data`` (one JSON text), patch it with that, or remove it. Cost depends neither on the
        number of subscribers nor on that of the keys.

        Raises:
            ValueError: as for ``publish``; if the channel has no state; if the entry would have more than 64 KiB; if a patch
                is no object; if a version is an int other than 0.
            Conflict: if the entry is in another version, or not there.
            StateFull: if there is no room for it.
        """
    def entries(
        self, channel: str, key: str | None = None, /
    ) -> list[tuple[Position, str | None, bytes | None, int, bytes | None]]:
        """Return the entry of a key of a state, if it is there, or all entries as they are at one moment, those that were
        changed last at the end. Each is as in ``history``. Linear in what is returned; locks are held for short steps.

        Raises:
            ValueError: if the channel has no state.
        """
    def history(
        self, channel: str, after: Position | None, limit: int, /
    ) -> tuple[bool, list[tuple[Position, str | None, bytes | None, int, bytes | None]]]:
        """Return what a channel has after a position, or its newest publications, and first whether there is a gap.

        A publication is its position, key, data (``None`` for a removal), milliseconds since 1970, and sender; the oldest
        is first. Linear in what is returned. Makes no channel.

        Raises:
            ValueError: if there can be no such channel.
        """
    def position(self, channel: str, /) -> Position:
        """Return where a channel's log stands: the position of its newest publication. Makes the channel.

        Raises:
            ValueError: if there can be no such channel.
        """
    def subscribers(self, channel: str, /) -> int:
        """Return how many clients are subscribed to a channel. Makes no channel.

        Raises:
            ValueError: if there can be no such channel.
        """
    def send(self, client: int, data: bytes, key: str | None = None, /) -> Receipt | None:
        """Append ``data`` (one JSON text) to the private channel of a client."""
    def members(self) -> Members:
        """Return what knows who is in which channel."""
    def when_room(self, channel: str, number: int, /) -> bool:
        """Whether less than half of ``burst_bytes`` waits for the readers that keep up. If not, a ROOM event with this
        number comes when it is so.

        Raises:
            ValueError: as `publish`.
        """
    def when_client_room(self, client: int, number: int, /) -> bool:
        """As `when_room`, when at most half of its history waits in the private channel. ``True`` when the client is
        gone; when it goes later, ROOM comes.
        """
    def reply(self, client: int, message_type: str, message_id: bytes | None, data: bytes, /) -> bool:
        """Answer a message past the logs with ``<message_type>_result``. ``data`` is one JSON text."""
    def reply_error(
        self,
        client: int,
        code: str,
        message: str,
        message_id: bytes | None = None,
        details: bytes | None = None,
        is_fault: bool = False,
        /,
    ) -> bool:
        """Send an error past the logs. After 20 that are its fault in ten seconds the client is read more slowly."""
    def send_text(self, client: int, text: str, /) -> int | None:
        """Send a text message on a websocket path; returns the bytes now waiting for the socket."""
    def send_binary(self, client: int, data: bytes, /) -> int | None:
        """Send a binary message on a websocket path; returns the bytes now waiting for the socket."""
    def admit(self, client: int, subject: str, expires: int | None, claims: bytes | None = None, /) -> bool:
        """Let a client in whose OPEN event asked for it: ``connection_established`` goes out, reading starts. The subject is
        for updates that name their sender, for sessions, and for the log. The client comes back to its session without an OPEN
        event until ``expires``, in milliseconds of Unix time. Then it is closed. ``claims`` is a JSON object with what it may
        do in channels that are declared with claims, and with all claims of a client that may ask for a ticket.

        Raises:
            ValueError: if these claims have another form.
        """
    def end_subject(self, subject: str, code: int, reason: str, /) -> None:
        """Close the connections of a subject, and end its tickets and its sessions that are away."""
    def ticket(self, subject: str, claims: bytes, expires: int | None, origin: str | None, /) -> str:
        """Give a ticket for one event stream to somebody until ``expires``, in milliseconds of Unix time. ``claims`` is a JSON
        object, ``origin`` that of the page.

        Raises:
            ValueError: if there can be no ticket for this identity.
            RuntimeError: if there is no room for it.
        """
    def advance_clock(self, seconds: float, /) -> None:
        """Move the clock forward, for a test.

        What is over then (histories, sessions that are away) is gone when this returns, or soon after.

        Raises:
            ValueError: if that is no number of seconds.
        """
    def close(self, client: int, code: int, reason: str, /) -> bool:
        """Close with a code and a reason, after what was sent before.

        Raises:
            ValueError: if the code may not be sent, or the reason is longer than 123 bytes of UTF-8.
        """
    def give_way(self, client: int, /) -> bool:
        """End the session of a client if it is away. CLOSED or STAYS follows."""
    def subscribe(
        self, client: int, channel: str, message_id: bytes | None = None, number: int | None = None, /
    ) -> bool:
        """Subscribe a client without asking anyone. It gets ``subscription_established``, with the id of the message
        that asked for it (a JSON text), if there is one. With a number, a SUBSCRIBED event tells what became of it.
        """
    def finish(self, channel: str, /) -> None:
        """Say that nothing more comes in a channel. Its readers get ``subscription_ended`` when they have all of it."""
    def forget(self, channel: str, /) -> None:
        """Drop a channel and all that it keeps."""
    def unsubscribe(self, client: int, channel: str, reason: str, /) -> bool:
        """End a subscription; tells the client ``subscription_ended`` with the reason.

        Raises:
            ValueError: if the name is none of a channel.
        """
    def allow(
        self,
        client: int,
        question: int,
        data: bytes | None = None,
        version: Position | None = None,
        conflict: str | None = None,
        /,
    ) -> bool:
        """Decide the question of a SUBSCRIBE or PUBLISH event: yes. Or that of a RESOLVE event.

        The client is subscribed, or its data are published: as they came, or the JSON text that is given. With ``conflict``,
        a JSON text that is told with the update, an entry gets the data, or is removed, if it is still in the version that
        the RESOLVE event named. Otherwise there may be another such event.

        Raises:
            ValueError: if the text has more than 16 MiB.
        """
    def deny(
        self, client: int, question: int, code: str, message: str, details: bytes | None = None, /
    ) -> bool:
        """Decide the question of a SUBSCRIBE or PUBLISH event: no.

        ``code``, ``message`` and ``details`` (a JSON text) go into the ``error`` that the client gets. A code that is
        not one of the protocol is the application's own, and counts as nobody's fault.
        """
    def begin_reading(self, client: int, /) -> bool:
        """Read from a client that was let in, where the configuration says ``await_connect``."""
    def stats(self, log_lines_dropped: int, /) -> Stats:
        """Return a snapshot of counters and gauges. The log lines that Python dropped are added to those of the core."""
    def reread_certificate(self) -> bool:
        """Read certificate and key again, for new connections, and log the outcome; ``False`` without TLS. Blocks on files."""
    def admin_url(self) -> str | None:
        """Where the listener for operators is, without a path; ``None`` before the start, or without one."""
    def note_load(
        self,
        running: int,
        called: int,
        called_for: float,
        busy: float,
        log_lines_dropped: int,
        functions: tuple[int, list[tuple[str, int, float, float]]] | None = None,
        /,
    ) -> bool:
        """Say that a batch of events was handled, and what the metrics tell of Python, all since the start.

        What was said to clients in the batch is carried out now, and not before unless the batch takes long.

        Args:
            running: functions that are being awaited now.
            called: functions that have ended.
            called_for: seconds from the calls of these to their ends.
            busy: seconds in which events were handled.
            log_lines_dropped: lines of the log that Python dropped.
            functions: for the dashboard: how many runs there are, and of the slowest functions since somebody began to look
                the name, how often each has ended, the seconds of that, and those of the longest.

        Returns:
            Whether somebody looks at the dashboard.
        """
    def keys_settled(self) -> None:
        """Judge the clients that wait for keys. May be called from any thread."""
    def set_debug(self, wanted: bool, /) -> None:
        """Say whether LOG events of level DEBUG are wanted: the life of each connection."""
    def stop(self, within: float, /) -> None:
        """Begin the graceful stop: stop accepting, tell everyone ``reconnect``, deliver what waits, close with 1012.

        Takes at most ``within`` seconds; a second call hastens it. Returns at once; STOPPED is the last event.
        """
    def join(self, timeout: float, /) -> bool:
        """Wait until every shard has ended; ``False`` if that takes longer than ``timeout`` seconds. Releases the GIL."""

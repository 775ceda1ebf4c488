"""The settings of a server.

Constructor arguments, options of the command line and the configuration of the core all come from one class.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, Final, Literal, Unpack, final, get_type_hints

import orjson

from umbel._core import check_config, is_reserved_path

from .names import OWN_PATHS, PATH, host_problem, origin_problem
from .options import Options
from .setting_values import check


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
        unix_socket_mode: permissions of the Unix socket, as in ``0o660`` (``660`` on the command line);
            ``None`` for those that the umask of the process leaves. A proxy that runs as another user has to
            be allowed to write.
        shards: threads that serve connections; 0 for one per CPU core. More threads than cores never help.
        reuse_port: let every shard accept connections from a socket of its own (SO_REUSEPORT). Accepting is
            faster, but connections are spread less evenly. By default one thread accepts, and gives each
            connection to the shard with the fewest. Two servers can't share a port: the second one fails to
            start. Not with ``unix_socket``.
        backlog: connections that the kernel holds until the server accepts them. The system may lower it.
        tls_cert: path of a PEM file with the certificate chain. With it, the server accepts TLS only. After a
            change of this file or of ``tls_key`` both are read again within a few seconds, and at once on
            SIGHUP (``app.run`` and ``umbel run``). New connections get the new certificate. If it can't be
            used, the one before is kept, and the log says why.
        tls_key: path of a PEM file with the private key of the certificate.
        websocket_path: path at which clients connect with the Umbel protocol.
        stream_path: path of event streams (Server-Sent Events). One channel may be named below it.
        session_path: path where clients that can't open a WebSocket have a session on an event stream, with
            ``POST``; what they say is posted below it. ``None`` for none.
        publish_path: path where programs publish with ``POST``, as in ``"/api/v1/publish"``. ``None`` for
            none. Who may is decided as for other clients.
        history_path: path below which programs read what a channel still has with ``GET``, as in
            ``"/api/v1/history"``. ``None`` for none.
        ticket_path: path where pages get tickets for event streams with ``POST``, as in ``"/api/v1/ticket"``.
            ``None`` for none.
        stream_seconds: seconds after which an event stream ends and its client opens another, so that clients
            spread again over servers that were added; 0 for no limit.
        origins: web pages that may connect. ``None`` for pages from the host that they connect to, ``"*"``
            for all pages, or a list of origins, as in ``["https://example.org"]``. Programs that send no
            ``Origin`` may always connect.
        allowed_hosts: names of this server, as in ``["example.org", "*.example.org"]``. While ``origins`` is
            ``None``, a page may connect only if its host has one of these names, is a name of this machine
            (``localhost``, ``127.0.0.1``, ``[::1]``), or is an IP address and the server listens on a
            network. So a page can't connect by letting a name of its own point at this server (DNS
            rebinding). Programs that send no ``Origin`` may always connect. On a Unix socket all names are
            known, because the proxy checks them. With ``origins`` this setting has no effect.
        trusted_proxies: proxies that are believed when they say where their clients are: addresses and
            networks, as in ``["127.0.0.1", "10.0.0.0/8"]``, or ``"unix"`` for the Unix socket. Limits per
            address, the log and ``request.peer`` then have the client's address. It is the last one in
            ``proxy_header`` that is not itself in this list. Name proxies only: whoever is named can claim
            every address.
        proxy_header: header in which they say it: ``"x-forwarded-for"``, or ``"forwarded"`` (RFC 7239). The
            proxy has to append to it, or to replace it. One that can't be read counts as none, and the log
            says so once.
        serve_client: answer ``GET /umbel/client.js`` with the JavaScript client, for web pages of every
            origin. Without it, pages bring the client along: the npm package ``umbel``.
        tick: seconds between two deliveries to one connection. A longer tick saves CPU and bytes. A shorter
            one lowers latency while much is published. 0 delivers as soon as possible.
        heartbeat: seconds of silence, from the client or to it, after which the server pings the client. When
            nothing comes from the client for twice as long, it is closed with 4408. A shorter time finds dead
            clients sooner, and wakes mobile devices more often. An event stream gets a comment after as much
            silence, at most 15 seconds. Behind a proxy, keep it below the time after which that cuts silent
            connections: nginx does after 60 seconds in which nothing went either way, others when nothing
            went to the client.
        reconnect_window: seconds within which clients that lose their connections are asked to come back.
            Each chooses a random moment, so that not all come at once. ``connection_established`` tells
            clients this time, for connections that break off; ``reconnect`` tells it again when the server
            stops. A longer time spreads the load of many clients.
        deflate: offer compression (permessage-deflate). It saves most of the bytes and costs little CPU,
            because a batch is compressed once for all its readers.
        deflate_level: compression level, 1 (fast) to 9 (small).
        deflate_window: 9 to 15, the base-two logarithm of the compression window in bytes. A larger window
            makes only large batches smaller.
        client_context_takeover: let clients refer to their earlier messages when they compress. Some do so
            whatever is agreed (Safari 15), and without this setting their second message closes with 1002.
            It costs up to 32 KiB for each client that has sent a compressed message, as long as it is
            connected. That does not count in ``max_held_bytes``: 20,000 clients may take 640 MiB. Needs
            ``deflate``.
        admin: address and port of a second listener, for operators: ``127.0.0.1:8001``. It answers ``GET
            /metrics`` in the text format of Prometheus, also while Python is blocked. On a loopback address
            it answers only requests whose ``Host`` names this machine or is in ``allowed_hosts``. ``None``
            for no such listener.
        admin_token: requests to that listener need ``Authorization: Bearer`` with this token. Required where
            ``admin`` can be reached from a network.
        dashboard: serve a page at ``/dashboard`` of that listener that shows what the server does, also while
            Python is blocked. The page asks for ``admin_token`` if there is one. Needs ``admin``.
        max_connections: connections at the same time. Further ones get HTTP status 503, and event streams a
            stream that ends and asks to come back. Each connection needs a file descriptor; allow for 64 more
            that are told so.
        max_connections_per_address: connections from one address at the same time; 0 for no limit. Further
            ones get HTTP status 429 (event streams as above), or an alert on a TLS port. An IPv6 network of
            64 bits is one address. Behind a proxy, name it in ``trusted_proxies``: otherwise all connections
            come from its address. Connections on a Unix socket are counted only then.
        max_connections_per_identity: connections of one identity at the same time; 0 for no limit. Further
            ones are closed with 4429 before they are let in. A client that is away counts, until it gives way
            to a newcomer. An identity is the subject of a token, or the one that ``authenticate`` returned;
            anonymous clients are not counted. A connection that broke off counts until the server notices, so
            allow for some more.
        ticket_key: a secret of at least 32 bytes, with which tickets of event streams outlive a restart. In
            the first ten minutes after its start, a server lets streams come back that another one with this
            key had opened, if their tickets are not older than ``session_lifetime``. Without it their pages
            need new tickets then.
        max_tickets_per_identity: tickets of one identity at the same time; 0 for no limit. When an identity
            has so many, the one gives way that would be forgotten soonest. Those whose streams are open stay:
            if all are, there is no further ticket. Of all identities together there are at most twice as many
            tickets as ``max_connections``, or 1,000.
        max_head_bytes: bytes of the request that opens a connection: request line and headers, cookies
            included. 1024 to 65536. A longer one gets HTTP status 431, or 414 when path and query are longer
            than half of it.
        max_headers: header lines of that request, 16 to 1024. With more of them it gets HTTP status 431.
        max_message: bytes of one message from a client, after decompression. A longer one closes with 1009.
        max_subscriptions: channels to which one client may be subscribed, its private channel not counted.
        max_messages_per_second: messages and pings of one client per second; 0 for no limit. A burst may have
            five times as many. A message about several channels counts once for each. A client that sends
            more is closed with 4429. Websocket paths have no limit: their function decides how fast messages
            are read.
        max_held_bytes: bytes held for all clients together while messages are unfinished or replies are
            unread. Above that, the connections that have held theirs longest are closed. Messages whose
            functions have not ended may take as many bytes again, counted as Python holds them: 64 for each
            value of JSON, and one, two or four for each character. When these are used up, the server reads
            no more messages until functions end, and closes nobody. One client may use an eighth of them, or
            one message that is longer. Messages of websocket paths that were not received are counted apart,
            and may take half as many bytes. Half as many bytes may be read ahead, to find the pings of
            clients whose messages wait. A quarter as many may be answers that are remembered for requests
            that are repeated; above that, those that were remembered longest are forgotten.
        max_log_bytes: bytes of all channel histories together. Above that, the channels that were used least
            recently lose their oldest publications first. Publications that were not offered to all clients
            that keep up are dropped last. Clients that still needed what is dropped get a ``gap``, and
            ``stats().trimmed`` counts it. A channel without readers and publications counts a few hundred
            bytes, for its name. What was sent to clients that are away may have a quarter of these bytes;
            those that are away for longest lose it first.
        max_state_bytes: bytes of all states together, which count in ``max_log_bytes``, too; by default a
            quarter of that. States never lose a key for want of room, so a change beyond it is refused.
        state_idle_seconds: seconds after which a state is dropped that nobody has read or written, at the
            latest after twice as long; 0 for never. Subscribers read it as long as they are subscribed. At
            least ``session_ttl``: clients that come back in time find the states that they had.
        burst_bytes: bytes that a channel may have in all, when clients that keep up need more of it than its
            history. A client keeps up while nothing that waits for it is older than a second. So a burst of
            publications that is larger than the history costs such a client nothing. With 0 there is only the
            history. Counts as at most ``max_log_bytes``.
        session_ttl: seconds for which a client may be away and have its session again when it comes back. A
            longer time helps devices that sleep, and keeps more in memory. With 0 sessions end with their
            connections.
        presence_grace: seconds for which others see a client in a channel with ``presence=`` that has lost
            its connection. After two of them they see it as not active. It is gone earlier if its session
            ends.
        presence_interval: seconds between two times that readers are told who is in such a channel. With
            more than a hundred readers it is a millisecond for each, and at most a second.
        presence_limit: members of such a channel that are told one by one, at most 10,000. Of more, and where
            states have no room for them (``max_state_bytes``), readers are told how many there are.
        max_away: sessions that may wait for their clients; by default as many as ``max_connections``. Beyond
            that, the one gives way that waits longest of the identity that has most of them, or of the
            address, for clients without an identity.
        session_lifetime: seconds after which a session can't be had again, however often its client came
            back: a bound for a token that was stolen.
        resume: what a client must show that comes back to its session: ``"token"``, the secret token of the
            session alone, so that 10,000 come back without a call of the application; or ``"authenticate"``,
            which also calls ``authenticate`` each time, and gives the session only to the same subject.
        handshake_timeout: seconds from the accept until the client is let in, ``authenticate`` included.
        message_timeout: seconds from the first to the last byte of a message.
        write_timeout: seconds for which a connection may take none of the bytes that wait for it. Then it is
            closed.
        close_timeout: seconds to wait for the close frame of the other end. The function of a websocket path
            is cancelled this long after its connection has ended.
        send_buffer: bytes that the kernel may hold for each connection (SO_SNDBUF); ``None`` for 128 KiB.
        event_queue: clients and messages that may wait for Python. When the queue is full, the server stops
            reading from its sockets, and lets in only clients that come back to their sessions.
        drain: seconds that a graceful stop may take.
        handler_timeout: seconds that a function of the application may take for one message; ``None`` for no
            limit. When the time is over, the client gets an ``error`` with code ``timeout``, and the function
            is cancelled. Streams and websocket functions have no limit.
        max_running: functions that run for one client at the same time. As many messages again may wait for
            them. When these are waiting, the server reads only pings of this client. At most 256 requests
            with an ``id`` are under way, whatever this setting says.
        max_threads: functions declared with ``thread=True`` that run at the same time. Further ones wait.
        max_runs: unfinished runs of one identity, on all of its connections, or of one client without an
            identity. A message that would start another gets an ``error`` with code ``limit_exceeded``.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    unix_socket: str | None = None
    unix_socket_mode: int | None = None
    shards: int = 0
    reuse_port: bool = False
    backlog: int = 4096
    tls_cert: str | None = None
    tls_key: str | None = None
    websocket_path: str = "/ws"
    stream_path: str = "/api/v1/stream"
    session_path: str | None = "/api/v1/session"
    publish_path: str | None = None
    history_path: str | None = None
    ticket_path: str | None = None
    stream_seconds: float = 0.0
    origins: Sequence[str] | Literal["*"] | None = None
    allowed_hosts: Sequence[str] = ()
    trusted_proxies: Sequence[str] = ()
    proxy_header: str = "x-forwarded-for"
    serve_client: bool = True
    tick: float = 0.016
    heartbeat: float = 30.0
    reconnect_window: float = 1.0
    deflate: bool = True
    deflate_level: int = 1
    deflate_window: int = 12
    client_context_takeover: bool = False
    admin: str | None = None
    admin_token: str | None = field(default=None, repr=False)
    dashboard: bool = False
    max_connections: int = 20_000
    max_connections_per_address: int = 0
    max_connections_per_identity: int = 0
    ticket_key: str | None = field(default=None, repr=False)
    max_tickets_per_identity: int = 64
    max_head_bytes: int = 16 << 10
    max_headers: int = 64
    max_message: int = 1 << 20
    max_subscriptions: int = 128
    max_messages_per_second: int = 10_000
    max_held_bytes: int = 256 << 20
    max_log_bytes: int = 1 << 30
    max_state_bytes: int | None = None
    state_idle_seconds: float = 0.0
    burst_bytes: int = 16 << 20
    session_ttl: float = 120.0
    presence_grace: float = 10.0
    presence_interval: float = 0.1
    presence_limit: int = 1000
    max_away: int | None = None
    session_lifetime: float = 86_400.0
    resume: str = "token"
    handshake_timeout: float = 10.0
    message_timeout: float = 60.0
    write_timeout: float = 30.0
    close_timeout: float = 5.0
    send_buffer: int | None = None
    event_queue: int = 4096
    drain: float = 10.0
    handler_timeout: float | None = 30.0
    max_running: int = 16
    max_threads: int = 16
    max_runs: int = 16

    def __post_init__(self) -> None:
        """Check types and values. The core checks what it uses.

        Raises:
            TypeError: if a value has the wrong type.
            ValueError: if a number is out of range, an origin or a host can't match, a path belongs to Umbel,
                or settings contradict each other.
        """
        for name, kind in KINDS.items():
            check(name, kind, getattr(self, name))
        for name in ("max_threads", "max_runs"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1")
        if self.handler_timeout == 0:
            raise ValueError("handler_timeout must be more than 0 seconds; use None for no limit")
        for name in OWN_PATHS:
            path = getattr(self, name)
            if path is not None and not PATH.fullmatch(path):
                raise ValueError(
                    f"{name} {path!r} matches no request: it is one path as in '/ws', without parameters, "
                    "a query, or characters that browsers encode"
                )
        if is_reserved_path(self.websocket_path):
            raise ValueError(f"websocket_path {self.websocket_path!r} belongs to Umbel itself")
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ValueError("tls_cert and tls_key belong together: set both or neither")
        if self.dashboard and self.admin is None:
            raise ValueError(
                "dashboard is served by the listener for operators: set admin, too, "
                'as in admin="127.0.0.1:8001"'
            )
        if self.resume not in ("token", "authenticate"):
            raise ValueError(f'resume must be "token" or "authenticate", not {self.resume!r}')
        if self.proxy_header not in PROXY_HEADERS:
            raise ValueError(f"proxy_header must be {' or '.join(PROXY_HEADERS)}, not {self.proxy_header!r}")
        if isinstance(self.origins, str) and self.origins != "*":
            raise ValueError(
                f'origins must be None, "*" or a list of origins; write origins=["{self.origins}"]'
            )
        for origin in self.origins or () if self.origins != "*" else ():
            if problem := origin_problem(origin):
                raise ValueError(f"origins: {origin!r} can never match: {problem}")
        for host in self.allowed_hosts:
            if problem := host_problem(host):
                raise ValueError(f"allowed_hosts: {host!r} can never match: {problem}")
        check_config(self.to_json())

    def replace(self, **options: Unpack[Options]) -> Settings:
        """Return settings that differ in the given fields.

        Raises:
            TypeError: if a setting does not exist or has the wrong type.
            ValueError: if a setting is out of range.
        """
        check_names(options)
        return replace(self, **options)

    def to_json(self, **structure: Any) -> bytes:
        """Encode the configuration of the core: these settings and the structure of the application."""
        config = {name: getattr(self, name) for name in KINDS if name not in PYTHON_ONLY}
        if self.origins is not None and self.origins != "*":
            config["origins"] = list(self.origins)
        config["allowed_hosts"] = list(self.allowed_hosts)
        config["trusted_proxies"] = list(self.trusted_proxies)
        return orjson.dumps(config | structure)


# As types, so that they can be read without this module.
Settings.__annotations__ = get_type_hints(Settings)


def check_names(options: Iterable[str]) -> None:
    """Check the names of settings.

    Raises:
        TypeError: if one does not exist. The message has those that are meant, perhaps.
    """
    for name in options:
        if name not in KINDS:
            near = difflib.get_close_matches(name, KINDS, n=2)
            meant = f". Did you mean {' or '.join(near)}?" if near else ": see umbel.Settings"
            raise TypeError(f"there is no setting {name!r}{meant}")


KINDS: Final = {field.name: str(field.type) for field in fields(Settings)}
"""Each field's annotation, as text."""

PROXY_HEADERS: Final = ("x-forwarded-for", "forwarded")

PYTHON_ONLY: Final = frozenset(
    {"drain", "handler_timeout", "max_threads", "max_runs", "serve_client", "dashboard"}
)
"""Fields that the core does not know."""

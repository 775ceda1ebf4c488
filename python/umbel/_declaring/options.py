"""The settings as keyword arguments."""

from collections.abc import Sequence
from typing import Literal, TypedDict


class Options(TypedDict, total=False):
    """The fields of `Settings` as keyword arguments. A test compares the two."""

    host: str
    port: int
    unix_socket: str | None
    unix_socket_mode: int | None
    shards: int
    reuse_port: bool
    backlog: int
    tls_cert: str | None
    tls_key: str | None
    websocket_path: str
    stream_path: str
    session_path: str | None
    publish_path: str | None
    history_path: str | None
    ticket_path: str | None
    stream_seconds: float
    origins: Sequence[str] | Literal["*"] | None
    allowed_hosts: Sequence[str]
    trusted_proxies: Sequence[str]
    proxy_header: str
    serve_client: bool
    tick: float
    heartbeat: float
    reconnect_window: float
    deflate: bool
    deflate_level: int
    deflate_window: int
    client_context_takeover: bool
    admin: str | None
    admin_token: str | None
    dashboard: bool
    max_connections: int
    max_connections_per_address: int
    max_connections_per_identity: int
    ticket_key: str | None
    max_tickets_per_identity: int
    max_head_bytes: int
    max_headers: int
    max_message: int
    max_subscriptions: int
    max_messages_per_second: int
    max_held_bytes: int
    max_log_bytes: int
    max_state_bytes: int | None
    state_idle_seconds: float
    burst_bytes: int
    session_ttl: float
    presence_grace: float
    presence_interval: float
    presence_limit: int
    max_away: int | None
    session_lifetime: float
    resume: str
    handshake_timeout: float
    message_timeout: float
    write_timeout: float
    close_timeout: float
    send_buffer: int | None
    event_queue: int
    drain: float
    handler_timeout: float | None
    max_running: int
    max_threads: int
    max_runs: int

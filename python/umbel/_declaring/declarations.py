"""What an application has declared."""

from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any, Concatenate, Final

from umbel._clients.client import Client, Message
from umbel._clients.identity import Identity
from umbel._clients.request import Request
from umbel._clients.run import Run
from umbel._clients.websocket import WebSocket
from umbel._core import is_reserved_path
from umbel.exceptions import ConfigurationError

from .jwt import JWT
from .names import OWN_PATHS
from .patterns import covers
from .rules import RUNS, ChannelRule, Guard, nobody, run_rule
from .settings import Settings

AuthenticateResult = Identity | str | Mapping[str, Any] | None
Authenticate = Callable[[Request], AuthenticateResult | Awaitable[AuthenticateResult]]
Connect = Callable[[Client], object]
Disconnect = Callable[[Client, int, str], object]
Back = Callable[[Client], object]
Told = Callable[..., object]
Handler = Callable[[Client, Message], object]
Stream = Callable[[Run, Message], AsyncIterator[str]]
WebSocketHandler = Callable[Concatenate[WebSocket, ...], Coroutine[Any, Any, None]]
Background = Callable[[], Coroutine[Any, Any, None]]


@dataclass(slots=True)
class StreamRule:
    """The generator that answers messages of a type with runs."""

    function: Stream
    cancel_on_disconnect: bool


@dataclass(slots=True)
class WebSocketRoute:
    """A websocket path and its function."""

    pattern: str
    function: WebSocketHandler
    names: tuple[str, ...]


@dataclass(slots=True)
class Declarations:
    """All declarations of one application. They do not change while it is served."""

    channels: list[ChannelRule] = field(default_factory=list)
    handlers: dict[str, Handler] = field(default_factory=dict)
    streams: dict[str, StreamRule] = field(default_factory=dict)
    websockets: list[WebSocketRoute] = field(default_factory=list)
    pages: dict[str, tuple[str, bytes]] = field(default_factory=dict)
    backgrounds: list[Background] = field(default_factory=list)
    auth: JWT | None = None
    authenticate: Authenticate | None = None
    connect: Connect | None = None
    disconnect: Disconnect | None = None
    away: Disconnect | None = None
    back: Back | None = None
    served: bool = False

    def check(self, taken: object = None, name: str = "") -> None:
        """Check that something may be declared.

        Raises:
            ConfigurationError: if the only function of its kind is declared already.
            RuntimeError: if the application is being served.
        """
        if taken is not None:
            raise ConfigurationError(f"the application already has a function for {name}")
        if self.served:
            raise RuntimeError("the application is being served: declare everything before that")

    def claim_type(self, message_type: str) -> None:
        """Check that a type of message is free.

        Raises:
            ConfigurationError: if it belongs to the protocol or has a function.
        """
        if not message_type:
            raise ConfigurationError("a type of message can't be empty")
        if message_type in RESERVED:
            raise ConfigurationError(f"messages of type {message_type!r} are answered by Umbel itself")
        if message_type == "ai_cancel" and self.streams:
            raise ConfigurationError("messages of type 'ai_cancel' belong to streams")
        if message_type in self.handlers or message_type in self.streams:
            raise ConfigurationError(f"messages of type {message_type!r} already have a function")

    def claim_path(self, path: str, websocket_path: str) -> None:
        """Check that a path is free.

        Raises:
            ConfigurationError: if it is taken or the server's own, or does not start with a slash.
        """
        if not path.startswith("/"):
            raise ConfigurationError(f"path {path!r} must start with a slash")
        if is_reserved_path(path):
            raise ConfigurationError(f"path {path!r} belongs to Umbel itself; choose another")
        if path == websocket_path or self.has_path(path):
            raise ConfigurationError(f"path {path!r} is already in use")

    def add_channel(self, rule: ChannelRule) -> None:
        """Add a rule for channels, after those before.

        Raises:
            ConfigurationError: if a rule before it matches all that this one does: nobody would ask it.
        """
        for before in self.channels:
            if covers(before.pattern, rule.pattern, ":"):
                raise ConfigurationError(
                    f"channel {rule.pattern!r} can never be reached: {before.pattern!r}, which is declared "
                    "before it, matches every such name. Declare the narrower pattern first"
                )
        self.channels.append(rule)

    def channel(self, pattern: str) -> ChannelRule:
        """Return the rule of this pattern.

        Raises:
            ConfigurationError: if there is none.
        """
        for rule in self.channels:
            if rule.pattern == pattern:
                return rule
        raise ConfigurationError(
            f"there is no channel {pattern!r}: declare it first, with app.channel({pattern!r}, presence=True)"
        )

    def add_websocket(self, route: WebSocketRoute) -> None:
        """Add a websocket path, after those before.

        Raises:
            ConfigurationError: if a path before it matches all that this one does.
        """
        for before in self.websockets:
            if covers(before.pattern, route.pattern, "/"):
                raise ConfigurationError(
                    f"websocket path {route.pattern!r} can never be reached: {before.pattern!r}, which is "
                    "declared before it, matches every such path. Declare the narrower pattern first"
                )
        self.websockets.append(route)

    def has_path(self, path: str) -> bool:
        """Whether a path is a page or a websocket path."""
        return path in self.pages or any(path == route.pattern for route in self.websockets)

    def check_paths(self, settings: Settings) -> None:
        """Check that no page and no websocket path is where the server has its own.

        Raises:
            ConfigurationError: if one is.
        """
        for setting in OWN_PATHS:
            own = getattr(settings, setting)
            has_more = setting in ("stream_path", "session_path", "history_path")
            for path in [*self.pages, *(route.pattern for route in self.websockets)]:
                if path == own or (has_more and path.startswith(f"{own}/")):
                    raise ConfigurationError(
                        f"path {path!r} belongs to the {setting} of this server and is declared, too; "
                        "change one"
                    )

    def rules(self, may_read_run: Guard = nobody) -> list[ChannelRule]:
        """Return the rules in the order in which they are tried.

        Args:
            may_read_run: decides about the channels of runs, if the application does not declare them.
        """
        if not self.streams or any(RUNS.fullmatch(rule.pattern) for rule in self.channels):
            return list(self.channels)
        # Before all rules that could match a run, so that a catch-all rule never opens the runs of one client
        # to another. A channel of the application with a fixed name, such as "run:stats", is not a run.
        own: list[ChannelRule] = []
        others: list[ChannelRule] = []
        for rule in self.channels:
            (own if rule.pattern.startswith("run:") and not rule.names else others).append(rule)
        return [*own, run_rule(may_read_run), *others]

    def config(self) -> dict[str, object]:
        """Return the structure of the application as the core reads it.

        Raises:
            ConfigurationError: if a declaration is incomplete.
        """
        rules = self.rules()
        return {
            "authenticate": self.authenticate is not None,
            "notify_connect": self.needs_clients(rules),
            "await_connect": self.connect is not None,
            "websocket_routes": [route.pattern for route in self.websockets],
            "channels": [rule.config() for rule in rules],
        }

    def needs_clients(self, rules: list[ChannelRule]) -> bool:
        """Whether any function gets a client. Then Python must know every client from the start.

        The clients of a server that only broadcasts come and go without Python.
        """
        asked = (
            rule.guard or callable(rule.publish) or rule.resolve or callable(rule.presence) for rule in rules
        )
        asks = any(asked)
        told = self.connect or self.disconnect or self.away or self.back
        return asks or bool(self.handlers or self.streams or told)

    def knows_clients(self) -> bool:
        """Whether Python is told of every client."""
        return self.authenticate is not None or self.needs_clients(self.rules())


RESERVED: Final = frozenset(
    (
        *("subscribe_updates", "unsubscribe_updates", "publish", "heartbeat", "error"),
        *("state_set", "state_patch", "state_delete"),
        *("authenticate", "resume", "presence_update"),
        *("authenticated", "token_expiring"),
        "snapshot",  # of a later version
    )
)
"""Types of messages that the protocol gives a meaning."""

"""What an application has declared: who may do what, and which function answers."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any, Concatenate, Final, Literal

from umbel._clients.client import Client, Message
from umbel._clients.request import Identity, Request
from umbel._clients.websocket import WebSocket
from umbel._dispatching.runs import Run
from umbel.exceptions import ConfigurationError

from .functions import check_function
from .patterns import parameters

Answer = Identity | str | Mapping[str, Any] | None
Authenticate = Callable[[Request], Answer | Awaitable[Answer]]
Connect = Callable[[Client], object]
Disconnect = Callable[[Client, int, str], object]
Guard = Callable[..., bool | Awaitable[bool]]
Handler = Callable[[Client, Message], object]
Stream = Callable[[Run, Message], AsyncIterator[str]]
WebSocketHandler = Callable[Concatenate[WebSocket, ...], Coroutine[Any, Any, None]]
Background = Callable[[], Coroutine[Any, Any, None]]


@dataclass(slots=True, kw_only=True)
class ChannelRule:
    """How the channels of one pattern behave. A call on it makes a function the one that says who may
    subscribe.
    """

    pattern: str
    open: bool
    publish: bool | Guard
    history: int
    history_bytes: int
    history_seconds: float
    mode: Literal["all", "latest"]
    overrun: Literal["gap", "close"]
    compress: bool
    guard: Guard | None = None
    names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        self.names = parameters(self.pattern)
        if self.pattern.startswith("@"):
            raise ConfigurationError(
                f'channel {self.pattern!r}: names that start with "@" are private to a client'
            )
        if "client" in self.names or "data" in self.names:
            raise ConfigurationError(f"channel {self.pattern!r}: a parameter can't be called client or data")
        for name, value, allowed in (("mode", self.mode, MODES), ("overrun", self.overrun, OVERRUNS)):
            if value not in allowed:
                raise ConfigurationError(
                    f"channel {self.pattern!r}: {name} must be one of {allowed}, not {value!r}"
                )
        for name, least in (("history", 1), ("history_bytes", 1), ("history_seconds", 1)):
            if not least <= getattr(self, name) < float("inf"):
                raise ConfigurationError(
                    f"channel {self.pattern!r}: {name} must be a finite number of at least {least}: "
                    f"a reader that is served a few ticks late would lose what is not kept any more"
                )
        for name in ("open", "compress"):
            if not isinstance(getattr(self, name), bool):
                raise ConfigurationError(f"channel {self.pattern!r}: {name} must be True or False")
        if not isinstance(self.publish, bool):
            role = f"the publish function of channel {self.pattern!r}"
            check_function(self.publish, role, ("client",), (*self.names, "data"))

    def decide(self, guard: Guard) -> None:
        """Make a function the one that says who may subscribe."""
        if self.guard is not None:
            raise ConfigurationError(
                f"channel {self.pattern!r} already has a function that says who may subscribe"
            )
        if self.open:
            raise ConfigurationError(
                f"channel {self.pattern!r} is open to all, so no function is asked: drop open=True"
            )
        check_function(guard, f"the function of channel {self.pattern!r}", ("client",), self.names)
        self.guard = guard

    def config(self) -> dict[str, object]:
        """Return this rule as the core reads it.

        Raises:
            ConfigurationError: if nothing says who may subscribe.
        """
        if not self.open and self.guard is None:
            raise ConfigurationError(
                f"channel {self.pattern!r}: nothing says who may subscribe. "
                f"Decorate a function that returns True or False, or declare it with open=True."
            )
        publish = "ask" if callable(self.publish) else "open" if self.publish else "no"
        return {
            "pattern": self.pattern,
            "subscribe": "open" if self.open else "ask",
            "publish": publish,
            "history": self.history,
            "history_bytes": self.history_bytes,
            "history_seconds": float(self.history_seconds),
            "mode": self.mode,
            "overrun": self.overrun,
            "compress": self.compress,
        }


@dataclass(slots=True)
class StreamRoute:
    """The generator that answers a type of message with a run."""

    function: Stream
    cancel_on_disconnect: bool


@dataclass(slots=True)
class WebSocketRoute:
    """A path for a protocol of the application's own."""

    pattern: str
    function: WebSocketHandler
    names: tuple[str, ...]


@dataclass(slots=True)
class Routes:
    """All declarations of one application. Filled before the server starts, read-only afterwards."""

    channels: list[ChannelRule] = field(default_factory=list)
    handlers: dict[str, Handler] = field(default_factory=dict)
    streams: dict[str, StreamRoute] = field(default_factory=dict)
    websockets: list[WebSocketRoute] = field(default_factory=list)
    pages: dict[str, tuple[str, bytes]] = field(default_factory=dict)
    backgrounds: list[Background] = field(default_factory=list)
    authenticate: Authenticate | None = None
    connect: Connect | None = None
    disconnect: Disconnect | None = None

    def claim_type(self, message_type: str) -> None:
        """Check that a type of message is free.

        Raises:
            ConfigurationError: if the protocol or another function answers it.
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
            ConfigurationError: if it is taken, or does not start with a slash.
        """
        if not path.startswith("/"):
            raise ConfigurationError(f"path {path!r} must start with a slash")
        if (
            path == websocket_path
            or path in self.pages
            or any(path == route.pattern for route in self.websockets)
        ):
            raise ConfigurationError(f"path {path!r} is already in use")

    def rules(self) -> list[ChannelRule]:
        """Return the rules in the order in which they are tried."""
        if not self.streams or any(RUNS.fullmatch(rule.pattern) for rule in self.channels):
            return list(self.channels)
        # Before all that could fit a run, so that a catch-all rule never opens the answers of one client to
        # another. A name of the application's own, as "run:stats", is none.
        own: list[ChannelRule] = []
        others: list[ChannelRule] = []
        for rule in self.channels:
            (own if rule.pattern.startswith("run:") and not rule.names else others).append(rule)
        return [*own, RUN_RULE, *others]

    def config(self) -> dict[str, object]:
        """Return the structure of the application as the core reads it.

        Raises:
            ConfigurationError: if a declaration is incomplete.
        """
        rules = self.rules()
        return {
            "authenticate": self.authenticate is not None,
            "notify_connect": self.connect is not None or self.needs_clients(rules),
            "await_connect": self.connect is not None,
            "websocket_routes": [route.pattern for route in self.websockets],
            "channels": [rule.config() for rule in rules],
        }

    def needs_clients(self, rules: list[ChannelRule]) -> bool:
        """Whether any function is given a client, so that Python must know the request of each from the
        start.

        A server that only broadcasts has none: its clients come and go without Python.
        """
        asks = any(rule.guard is not None or callable(rule.publish) for rule in rules)
        return asks or bool(self.handlers or self.streams or self.disconnect)


def run_owner(client: Client, run_id: str) -> bool:
    """Say whether a client may read a run: who started it may, on every connection of the same subject."""
    return client._dispatcher.runs.owned(run_id, client)


MODES: Final = ("all", "latest")
OVERRUNS: Final = ("gap", "close")

RESERVED: Final = frozenset(
    {"authenticate", "resume", "subscribe_updates", "unsubscribe_updates", "publish", "heartbeat", "error"}
)
"""Types of messages from clients that the protocol gives a meaning."""

RUNS: Final = re.compile(r"run:\{[^{}]*\}")
"""Patterns with which an application says itself who may read runs."""

RUN_RULE: Final = ChannelRule(
    pattern="run:{run_id}",
    open=False,
    publish=False,
    history=10_000,
    history_bytes=1 << 20,
    history_seconds=300.0,
    mode="all",
    overrun="gap",
    compress=True,
    guard=run_owner,
)
"""Channels of runs, where the application declares nothing else for them."""

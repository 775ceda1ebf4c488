"""How the channels of one pattern behave, and who may subscribe and publish."""

import re
from collections.abc import Awaitable, Callable
from copy import copy
from dataclasses import dataclass
from typing import Any, Final, Literal, Self

from umbel.exceptions import ConfigurationError

from .functions import accepts, check_function, in_thread
from .patterns import parameters

MAX_KEYS: Final = 10_000
STATE_BYTES: Final = 16 << 20
HISTORY_BYTES: Final = 1 << 20

Guard = Callable[..., bool | Awaitable[bool]]
Verdict = bool | dict[str, Any] | list[Any]
PublishGuard = Callable[..., Verdict | Awaitable[Verdict]]
SeenAs = Callable[..., str | Awaitable[str | None] | None]
Presence = bool | Literal["count"] | SeenAs


@dataclass(slots=True, kw_only=True)
class ChannelRule:
    """How the channels of one pattern behave, and the function that says who may subscribe."""

    pattern: str
    history: int
    history_bytes: int = HISTORY_BYTES
    history_seconds: float = 300.0
    open: bool = False
    publish: bool | PublishGuard = False
    mode: Literal["all", "latest", "state"] = "all"
    overrun: Literal["gap", "close"] = "gap"
    compress: bool = True
    sender: bool = False
    replay: Literal["head", "start"] = "head"
    recheck: bool = False
    claims: bool = False
    versions: bool = False
    resolve: Callable[..., Any] | None = None
    max_keys: int = MAX_KEYS
    state_bytes: int = STATE_BYTES
    presence: Presence = False
    thread: bool = False
    guard: Guard | None = None
    names: tuple[str, ...] = ()
    resolution: str = ""
    publish_sees: tuple[str, ...] = ("data",)
    told: Callable[..., object] | None = None

    def __post_init__(self) -> None:
        self.names = parameters(self.pattern)
        for first, owner in OWNERS.items():
            if self.pattern.startswith(first):
                raise self._error(f'names that start with "{first}" are {owner}')
        if {"client", *PUBLISHED} & set(self.names):
            raise self._error("a parameter can't be called client, data, key or op")
        for name, allowed in CHOICES.items():
            if (value := getattr(self, name)) not in allowed:
                raise self._error(f"{name} must be one of {allowed}, not {value!r}")
        self._check_state()
        self._check_presence()
        for name in ("history", "history_bytes", "history_seconds"):
            if not 1 <= getattr(self, name) < float("inf"):
                raise self._error(
                    f"{name} must be a finite number of at least 1: "
                    "a reader that is served a few ticks late would lose publications"
                )
        for name in ("open", "compress", "sender", "recheck", "claims", "versions", "thread"):
            if not isinstance(getattr(self, name), bool):
                raise self._error(f"{name} must be True or False")
        if self.recheck and self.open:
            raise self._error("it is open to all, so there is no function to ask again: drop recheck=True")
        if self.claims and self.open and self.publish is True:
            raise self._error("it is open to all, so claims have nothing to allow: drop claims=True")
        if self.sender and self.publish is False and not self.claims:
            raise self._error("sender=True needs publish=: updates name the client that published them")
        if not isinstance(self.publish, bool):
            role = f"the publish function of channel {self.pattern!r}"
            optional = (name for name in PUBLISHED[1:] if accepts(self.publish, name))
            self.publish_sees = (PUBLISHED[0], *optional)
            check_function(self.publish, role, ("client",), (*self.names, *self.publish_sees))
            if self.mode != "all" and "key" not in self.publish_sees:
                raise self._error(
                    f"the publish function must have a parameter `key`: with mode={self.mode!r} a client "
                    "that may publish replaces what has the same key"
                )
            if self.mode == "state" and "op" not in self.publish_sees:
                raise self._error(
                    "the publish function must have a parameter `op`: a client that may publish sets "
                    '("set"), patches ("patch") and deletes ("delete") entries'
                )
            if self.thread:
                self.publish = in_thread(self.publish, role)

    def _check_state(self) -> None:
        for name, default in (("max_keys", MAX_KEYS), ("state_bytes", STATE_BYTES)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise self._error(f"{name} must be an int of at least 1")
            if self.mode != "state" and value != default:
                raise self._error(f"{name} is for channels with mode='state'")
        if self.versions and (self.mode != "state" or (self.publish is False and not self.claims)):
            raise self._error("versions=True is for channels with mode='state' that clients may change")
        if self.mode == "state" and self.replay != "head":
            raise self._error("a state is always read from its beginning: drop replay=")
        if self.mode == "state" and self.history_bytes != HISTORY_BYTES:
            raise self._error("max_keys and state_bytes bound what a state keeps: drop history_bytes=")

    def _check_presence(self) -> None:
        if not isinstance(self.presence, bool) and self.presence != "count":
            role = f"the presence function of channel {self.pattern!r}"
            if not callable(self.presence):
                raise self._error('presence must be True, False, "count" or a function')
            check_function(self.presence, role, ("client",))
            self.presence = in_thread(self.presence, role) if self.thread else self.presence

    def tell(self, function: Callable[..., object], *, thread: bool) -> None:
        """Let a function hear who comes and who leaves.

        Raises:
            ConfigurationError: if there is one already, the channels have no presence, or the function does
                not fit.
        """
        if self.presence is False:
            raise self._error("it is declared without presence=, so nobody is told who comes and who leaves")
        if self.told is not None:
            raise self._error("it already has an on_presence function")
        role = f"the on_presence function of channel {self.pattern!r}"
        check_function(function, role, ("change",), self.names)
        self.told = in_thread(function, role) if thread else function

    def decide(self, guard: Guard) -> None:
        """Let a function say who may subscribe.

        Raises:
            ConfigurationError: if that is decided already, or the function does not fit.
        """
        if self.guard is not None:
            raise self._error("it already has a function that says who may subscribe")
        if self.open:
            raise self._error("it is open to all, so no function is asked: drop open=True")
        role = f"the function of channel {self.pattern!r}"
        check_function(guard, role, ("client",), self.names)
        self.guard = in_thread(guard, role) if self.thread else guard

    def resolve_by(self, function: Callable[..., Any]) -> None:
        """Let a function resolve conflicts.

        Raises:
            ConfigurationError: if there is one already, there can be no conflicts, or it does not fit.
        """
        if self.resolve is not None:
            raise self._error("it already has a function that resolves conflicts")
        if self.mode != "state" or (self.publish is False and not self.claims):
            raise self._error("conflicts are resolved in channels with mode='state' that clients may change")
        role = f"the resolve function of channel {self.pattern!r}"
        check_function(function, role, ("proposal",))
        self.resolution = getattr(function, "__name__", type(function).__name__)
        self.resolve = in_thread(function, role) if self.thread else function

    def bound(self, bind: Callable[[Callable[..., Any]], Callable[..., Any]]) -> Self:
        """Return this rule with functions that were passed through ``bind``."""
        rule = copy(self)
        if rule.guard is not None:
            rule.guard = bind(rule.guard)
        if callable(rule.publish):
            rule.publish = bind(rule.publish)
        if callable(rule.presence):
            rule.presence = bind(rule.presence)
        if rule.told is not None:
            rule.told = bind(rule.told)
        if rule.resolve is not None:
            rule.resolve = bind(rule.resolve)
        return rule

    def config(self) -> dict[str, object]:
        """Return this rule as the core reads it.

        Raises:
            ConfigurationError: if nothing says who may subscribe.
        """
        if not self.open and self.guard is None and not self.claims:
            raise self._error(
                "nothing says who may subscribe. "
                "Decorate a function that returns True or False, or declare it with open=True or claims=True."
            )
        if self.recheck and self.guard is None:
            raise self._error("it has no function that could be asked again: drop recheck=True")
        same = ("pattern", "history", "history_bytes", "compress", "sender", "recheck", "claims")
        bounds = ("versions", "max_keys", "state_bytes")
        return {name: getattr(self, name) for name in (*same, *bounds, *CHOICES)} | {
            "resolves": self.resolve is not None,
            "history_seconds": float(self.history_seconds),
            "subscribe": "open" if self.open else "ask" if self.guard else "no",
            "presence": "count" if self.presence == "count" else "list" if self.presence else "no",
            "presence_asks": callable(self.presence),
            "presence_told": self.told is not None,
            "publish": "ask" if callable(self.publish) else "open" if self.publish else "no",
        }

    def _error(self, text: str) -> ConfigurationError:
        return ConfigurationError(f"channel {self.pattern!r}: {text}")


def nobody(client: object, run_id: str) -> bool:
    """Say that a client may not read a run."""
    return False


def run_rule(guard: Guard) -> ChannelRule:
    """Return the rule for the channels of runs, for an application that does not declare them."""
    return ChannelRule(pattern="run:{run_id}", history=10_000, guard=guard)


PUBLISHED: Final = ("data", "key", "op")
"""Parameters that a publish function may have beside those of the name: what a client wants to publish, its
key, and what is done to a state. It must have the first.
"""

CHOICES: Final = {
    "mode": ("all", "latest", "state"),
    "overrun": ("gap", "close"),
    "replay": ("head", "start"),
}
"""Arguments that are one of some words."""

OWNERS: Final = {"@": "private to a client", "$": "the server's own"}
"""Names that no application can declare, by their first character."""

RUNS: Final = re.compile(r"run:\{[^{}]*\}")
"""Patterns of an application that declares the channels of runs itself."""

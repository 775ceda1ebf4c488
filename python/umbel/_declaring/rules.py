"""How the channels of one pattern behave, and who may subscribe and publish."""

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, Literal

from umbel.exceptions import ConfigurationError

from .functions import check_function
from .patterns import parameters

Guard = Callable[..., bool | Awaitable[bool]]


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


def nobody(client: object, run_id: str) -> bool:
    """Say that a client may not read a run."""
    return False


def run_rule(guard: Guard) -> ChannelRule:
    """Return the rule for runs, for applications that declare none."""
    return ChannelRule(
        pattern="run:{run_id}",
        open=False,
        publish=False,
        history=10_000,
        history_bytes=1 << 20,
        history_seconds=300.0,
        mode="all",
        overrun="gap",
        compress=True,
        guard=guard,
    )


MODES: Final = ("all", "latest")
OVERRUNS: Final = ("gap", "close")

RUNS: Final = re.compile(r"run:\{[^{}]*\}")
"""Patterns with which an application says itself who may read runs."""

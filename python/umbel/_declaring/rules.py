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
    """How the channels of one pattern behave, and the function that says who may subscribe."""

    pattern: str
    history: int
    history_bytes: int = 1 << 20
    history_seconds: float = 300.0
    open: bool = False
    publish: bool | Guard = False
    mode: Literal["all", "latest"] = "all"
    overrun: Literal["gap", "close"] = "gap"
    compress: bool = True
    guard: Guard | None = None
    names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        self.names = parameters(self.pattern)
        for first, owner in OWNERS.items():
            if self.pattern.startswith(first):
                raise self._error(f'names that start with "{first}" are {owner}')
        if "client" in self.names or "data" in self.names:
            raise self._error("a parameter can't be called client or data")
        for name, value, allowed in (("mode", self.mode, MODES), ("overrun", self.overrun, OVERRUNS)):
            if value not in allowed:
                raise self._error(f"{name} must be one of {allowed}, not {value!r}")
        for name in ("history", "history_bytes", "history_seconds"):
            if not 1 <= getattr(self, name) < float("inf"):
                raise self._error(
                    f"{name} must be a finite number of at least 1: "
                    "a reader that is served a few ticks late would lose publications"
                )
        for name in ("open", "compress"):
            if not isinstance(getattr(self, name), bool):
                raise self._error(f"{name} must be True or False")
        if not isinstance(self.publish, bool):
            role = f"the publish function of channel {self.pattern!r}"
            check_function(self.publish, role, ("client",), (*self.names, "data"))

    def decide(self, guard: Guard) -> None:
        """Let a function say who may subscribe.

        Raises:
            ConfigurationError: if that is decided already, or the function does not fit.
        """
        if self.guard is not None:
            raise self._error("it already has a function that says who may subscribe")
        if self.open:
            raise self._error("it is open to all, so no function is asked: drop open=True")
        check_function(guard, f"the function of channel {self.pattern!r}", ("client",), self.names)
        self.guard = guard

    def config(self) -> dict[str, object]:
        """Return this rule as the core reads it.

        Raises:
            ConfigurationError: if nothing says who may subscribe.
        """
        if not self.open and self.guard is None:
            raise self._error(
                "nothing says who may subscribe. "
                "Decorate a function that returns True or False, or declare it with open=True."
            )
        same = ("pattern", "history", "history_bytes", "mode", "overrun", "compress")
        return {name: getattr(self, name) for name in same} | {
            "history_seconds": float(self.history_seconds),
            "subscribe": "open" if self.open else "ask",
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


MODES: Final = ("all", "latest")
OVERRUNS: Final = ("gap", "close")

OWNERS: Final = {"@": "private to a client", "$": "the server's own"}
"""Names that no application can declare, by their first character."""

RUNS: Final = re.compile(r"run:\{[^{}]*\}")
"""Patterns of an application that declares the channels of runs itself."""

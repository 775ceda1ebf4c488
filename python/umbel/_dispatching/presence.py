"""Calls the functions that say who a client is for others, and those that hear who comes and goes."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from umbel._declaring.rules import ChannelRule
from umbel.presence import PresenceChange, Turn

from .caller import Caller
from .jobs import Job, MessageJob


@dataclass(slots=True, eq=False)
class PresenceJob(MessageJob):
    """The question who a client is for others, for the presence function of the channel's rule."""

    number: int
    rule: ChannelRule
    channel: str

    @property
    def name(self) -> str:
        return f"presence function of channel {self.rule.pattern!r}"

    def call(self) -> object:
        assert callable(self.rule.presence)
        return self.rule.presence(self.slot.client)

    def done(self, value: object) -> None:
        if value is not None and not isinstance(value, str):
            raise TypeError(
                f"the {self.name} must return a str, or None to hide the client; it returned "
                f"{type(value).__name__}"
            )
        if value is not None and (length := len(value.encode())) > LONGEST_SUBJECT:
            raise ValueError(
                f"the {self.name} must return at most {LONGEST_SUBJECT} bytes; it returned {length}"
            )
        self._tell(value)

    def fail(self, code: str, message: str, incident: str | None = None, close: int = 1011) -> None:
        self._tell(None)  # who can't be named is not shown

    def _tell(self, subject: str | None) -> None:
        self.slot.slots.core.members().know(self.slot.number, self.channel, self.number, subject)


@dataclass(slots=True, eq=False)
class GatheredJob(Job):
    """The call of an ``on_presence`` function. Nobody waits for it, so only the log is told of a failure."""

    rule: ChannelRule
    channel: str
    parameters: tuple[str, ...]
    turns: dict[str, Turn]
    over: Callable[[str], None]

    @property
    def name(self) -> str:
        return f"on_presence function of channel {self.rule.pattern!r}"

    @property
    def origin(self) -> object:
        return self.channel

    def call(self) -> object:
        assert self.rule.told is not None
        named = dict(zip(self.rule.names, self.parameters, strict=True))
        return self.rule.told(PresenceChange.of(self.channel, self.turns.values()), **named)

    def ended(self) -> None:
        self.over(self.channel)


class Gatherings:
    """Calls ``on_presence`` functions, for one channel one after another. Meanwhile it gathers."""

    def __init__(self, caller: Caller, rules: list[ChannelRule]) -> None:
        self._caller = caller
        self._rules = rules
        self._stopped = False
        self._next: dict[str, GatheredJob | None] = {}
        """Of the channels for which a function runs: what is called after it."""

    def gathered(self, rule: int, channel: str, parameters: tuple[str, ...], turns: list[Turn]) -> None:
        """Some clients came to a channel, or left it."""
        if self._stopped or self._rules[rule].told is None:
            return
        by_client = {turn[0]: turn for turn in turns}
        if channel not in self._next:
            self._next[channel] = None
            self._caller.start(
                GatheredJob(None, self._rules[rule], channel, parameters, by_client, self._over)
            )
        elif waiting := self._next[channel]:
            for client, turn in by_client.items():
                waiting.turns[client] = merged(waiting.turns.get(client), turn)
        else:
            self._next[channel] = GatheredJob(
                None, self._rules[rule], channel, parameters, by_client, self._over
            )

    def stop(self) -> None:
        """Call nothing any more."""
        self._stopped = True
        self._next.clear()

    def _over(self, channel: str) -> None:
        job = self._next.pop(channel, None)
        if job is not None and not self._stopped:
            self._next[channel] = None
            self._caller.loop.call_soon(self._caller.start, job)


LONGEST_SUBJECT: Final = 1024
"""Bytes that the core shows of a subject: it hides who has a longer one."""


def merged(before: Turn | None, turn: Turn) -> Turn:
    """Return what two turns of one client are together."""
    if before is None:
        return turn
    client, subject, came, left, here = turn
    return client, subject, came or before[2], left or before[3], here

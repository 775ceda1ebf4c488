"""Who is in a channel: what `Umbel.presence` and ``@app.on_presence`` give.

::

    from umbel.presence import PresenceChange

    @app.on_presence("room:{id}")
    def changed(change: PresenceChange, id: str) -> None: ...
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Self, final

from orjson import loads

from umbel._clients.history import START

__all__ = ["Member", "PresenceChange", "Present"]

Turn = tuple[str, str, bool, bool, bool]
"""A client that came or left, as the core gives it: id, subject, whether it came, whether it left, whether it
is there now.
"""

Seen = tuple[str, str, bool, bool, int, bytes | None, bytes | None]
"""A client as others see it, as the core gives it: id, subject, whether it is active, whether it types,
milliseconds since 1970, task, data.
"""


@final
@dataclass(frozen=True, slots=True)
class Present:
    """A client that is in a channel, as others see it. `Umbel.presence` gives it.

    Attributes:
        client_id: as `Client.id`.
        subject: who it is for others. Empty for an anonymous client.
        active: the client says so, and is connected.
        typing: the client has said within six seconds that it types.
        last_seen: when the client changed something of this last, or lost its connection. In UTC.
        current_task: what the client says that it works at; ``None`` for nothing.
        data: what else it says; ``None`` for nothing.
    """

    client_id: str
    subject: str
    active: bool
    typing: bool
    last_seen: datetime
    current_task: str | int | float | None
    data: Any

    @classmethod
    def of(cls, seen: Seen) -> Self:
        """Decode what the core gives."""
        client_id, subject, active, typing, millis, task, data = seen
        last_seen = START + timedelta(milliseconds=millis)
        return cls(
            client_id,
            subject,
            active,
            typing,
            last_seen,
            None if task is None else loads(task),
            None if data is None else loads(data),
        )


@final
@dataclass(frozen=True, slots=True)
class Member:
    """A client that came to a channel or left it.

    Attributes:
        client_id: as `Client.id`.
        subject: who it is for others. Empty for an anonymous client.
        here: whether it is in the channel now. One that came and left within a moment is in both lists of a
            `PresenceChange`.
    """

    client_id: str
    subject: str
    here: bool


@final
@dataclass(frozen=True, slots=True)
class PresenceChange:
    """Who came to a channel and who left it within a moment: what an ``@app.on_presence`` function gets.

    Attributes:
        channel: the name of the channel.
        joined: who came.
        left: who left.
    """

    channel: str
    joined: tuple[Member, ...]
    left: tuple[Member, ...]

    @classmethod
    def of(cls, channel: str, turns: Iterable[Turn]) -> Self:
        """Decode what the core gives."""
        joined, left = [], []
        for client_id, subject, came, went, here in turns:
            member = Member(client_id, subject, here)
            if came:
                joined.append(member)
            if went:
                left.append(member)
        return cls(channel, tuple(joined), tuple(left))

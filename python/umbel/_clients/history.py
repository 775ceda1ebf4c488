"""What a channel still has."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Self, final

from orjson import loads

from umbel._core import Position

Entry = tuple[Position, str | None, bytes | None, int, bytes | None]
"""A publication as the core gives it: position, key, data, milliseconds since 1970, sender. A removal has no
data.
"""


@final
@dataclass(frozen=True, slots=True)
class Publication:
    """One publication of a channel, as `Umbel.history` gives it.

    Attributes:
        position: its place in the log of the channel.
        key: its key, if it was published with one.
        data: its data. What is JSON only looks as it did in Python: a tuple has become a list. ``None`` when
            it removes its key from a state.
        timestamp: when it was published, in UTC, exact to the millisecond.
        sender: the client that published it, as ``{"clientId": …, "subject": …}``; ``None`` when the
            application did, or the channel is declared without ``sender=True``.
        removed: whether it removes its key from a state.
    """

    position: Position
    key: str | None
    data: Any
    timestamp: datetime
    sender: dict[str, Any] | None
    removed: bool = False

    @classmethod
    def of(cls, entry: Entry) -> Self:
        """Decode an entry of the core."""
        position, key, data, millis, sender = entry
        timestamp = START + timedelta(milliseconds=millis)
        value = None if data is None else loads(data)
        known = None if sender is None else loads(sender)
        return cls(position, key, value, timestamp, known, data is None)


@final
@dataclass(frozen=True, slots=True)
class History:
    """What `Umbel.history` found in a channel.

    Attributes:
        publications: the oldest first.
        gap: the channel does not have everything after the position that was asked for: it has dropped
            publications, or is another log since then. The publications are those that are left. It is what a
            ``gap`` tells a client.
    """

    publications: tuple[Publication, ...]
    gap: bool


START = datetime(1970, 1, 1, tzinfo=UTC)

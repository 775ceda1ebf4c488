"""A change of a key of a state, and what it makes of a value."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, Literal, NamedTuple

import orjson

from ._merge_patch import merge_patch

Kind = Literal["set", "patch", "delete", "update"]


class Absent:
    """What there is where there is nothing. ``None`` is a value."""

    def __repr__(self) -> str:
        return "ABSENT"


ABSENT: Final = Absent()


class Entry(NamedTuple):
    """What a state has for a key: the offset of its last change, 0 if there is none, and the value."""

    version: int = 0
    value: Any = ABSENT


class Base(NamedTuple):
    """The entry that a change is made on top of. Where a channel has nothing, there is no epoch."""

    epoch: str | None
    version: int
    value: Any


@dataclass(slots=True, eq=False)
class Change:
    """A change of a key.

    Attributes:
        state: ``confirmed`` until the entries of the server have it, then ``read``; ``failed`` if it was
            rejected.
        before: the change of the same key that it was made on top of, until it is sent.
        seen: what its user has seen.
        base: the same without changes before; after a conflict, what there is.
        value: what it makes of the entry: the patch of a ``patch``.
        apply: the function of an update, and `applied` whether it was called, last with `start`.
        round: how often an update was tried again.
        since: when it was refused first.
        at: when it was sent last, or is to be sent again.
        epoch, offset: where it is in the log, once it is confirmed.
        resolved: the application has made something else of it.
    """

    number: int
    kind: Kind
    key: str
    seen: Any
    value: Any = ABSENT
    apply: Callable[[Any], Any] | None = None
    applied: bool = False
    start: Any = None
    state: Literal["queued", "sent", "confirmed", "read", "failed"] = "queued"
    before: "Change | None" = None
    base: Base | None = None
    round: int = 0
    since: float = 0.0
    at: float = 0.0
    epoch: str = ""
    offset: int = 0
    resolved: bool = False

    def fill(self, value: Any) -> None:
        """Call the function of an update, if it was not called with this value. What it raises is raised."""
        if self.apply and not (self.applied and same(self.start, value)):
            self.value = plain(self.apply(None if value is ABSENT else plain(value)))
            self.start, self.applied = value, True

    def on(self, value: Any) -> Any:
        """What it makes of a value, as far as can be said."""
        if self.kind == "patch":
            return merge_patch(value, self.value)
        if self.state == "queued" and self.base is None:
            with suppress(Exception):  # it raises again when it is to be sent
                self.fill(value)
        return self.value


def plain(value: Any) -> Any:
    """What JSON makes of a value.

    Raises:
        TypeError: if it can't be JSON.
    """
    return orjson.loads(orjson.dumps(value))


def same(one: Any, other: Any) -> bool:
    """Whether two values are the same as JSON: ``1`` and ``True`` are not."""
    if one is other:
        return True
    if one is ABSENT or other is ABSENT or one != other:
        return False
    return orjson.dumps(one, option=orjson.OPT_SORT_KEYS) == orjson.dumps(other, option=orjson.OPT_SORT_KEYS)

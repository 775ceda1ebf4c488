"""A change of a state that met another one, as the function sees it that resolves it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, final

from orjson import OPT_SORT_KEYS, dumps, loads

from .client import Client
from .removed import REMOVED


@final
@dataclass(frozen=True, slots=True)
class Proposal:
    """What a client proposes for an entry that somebody else has changed meanwhile.

    A value is what JSON makes of it. `REMOVED` takes the place of a value where there is none.

    Attributes:
        channel: the name of the channel.
        key: the key of the entry.
        base: the value that the client has changed; ``None`` if it is not known any more: of the values that
            were replaced, a channel keeps the last ``history`` (1,000) for ``history_seconds`` (300), up to
            1 MiB, and fewer when all channels together need more than ``max_log_bytes``.
        current: the value that is there.
        proposed: the value that the client wants.
        client: who proposes it.
        writer: who has set the current value, as ``{"clientId": …, "subject": …}``; ``None`` when the
            application did, nothing is there, or the channel is declared without ``sender=True``.
    """

    channel: str
    key: str
    base: Any
    current: Any
    proposed: Any
    client: Client
    writer: Mapping[str, Any] | None


Current = tuple[object, bytes | None, bytes | None]
"""What is there: its version, its value, and who has set it."""

Wanted = tuple[bytes | None, bytes | None, bool]
"""What the client wants, the value that it has changed, and whether there was none."""


def proposal(client: Client, channel: str, key: str, current: Current, wanted: Wanted) -> Proposal:
    """Decode what the core tells of a conflict."""

    def value(text: bytes | None) -> Any:
        return REMOVED if text is None else loads(text)

    _, data, sender = current
    proposed, base, began_with_nothing = wanted
    known = None if base is None else loads(base)
    return Proposal(
        channel,
        key,
        REMOVED if began_with_nothing else known,
        value(data),
        value(proposed),
        client,
        None if sender is None else loads(sender),
    )


def differs(name: str, one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Return whether two objects have different members of a name.

    They are compared as JSON, where ``1`` and ``true`` are different.
    """
    if name not in one or name not in other:
        return name in one or name in other
    return dumps(one[name], option=OPT_SORT_KEYS) != dumps(other[name], option=OPT_SORT_KEYS)


def differences(it: Proposal) -> list[dict[str, Any]]:
    """Return the members of the two objects that differ, for the readers of the channel.

    Values are left out when they are long together, and names beyond a number or a length of all.
    """
    pair = {"current": it.current, "proposed": it.proposed}
    if all(isinstance(value, dict) for value in pair.values()):
        members = [
            {"field": name} | {side: value[name] for side, value in pair.items() if name in value}
            for name in {**it.current, **it.proposed}
            if differs(name, it.current, it.proposed)
        ]
    else:
        members = [{"field": None} | {side: value for side, value in pair.items() if value is not REMOVED}]
    if len(members) > MOST_MEMBERS or len(dumps(members)) > MOST_BYTES:
        members = [{"field": member["field"]} for member in members[:MOST_MEMBERS]]
    while len(dumps(members)) > MOST_BYTES:
        members.pop()
    return members


MOST_MEMBERS: Final = 64
"""Members that readers are told of a conflict."""

MOST_BYTES: Final = 16 * 1024
"""Bytes of all this. A value may have 64 KiB beside it."""

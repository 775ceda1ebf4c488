"""Where a connection is, and where a publication is."""

from dataclasses import dataclass
from typing import Literal, NamedTuple


@dataclass(frozen=True, slots=True)
class State:
    """Where a connection is.

    Attributes:
        name: ``idle``, ``connecting``, ``connected``, ``waiting`` (for the next attempt) or ``closed`` (for
            good).
        code: while ``waiting`` and ``closed``, the close code of the last connection; 1006 when there was
            none.
        reason: the text that came with it, or why there was no connection.
        retry_in: while ``waiting``, the seconds until the next attempt, when the state began.
        failing: several attempts in a row have failed (``Limits.failing``). They go on.
    """

    name: Literal["idle", "connecting", "connected", "waiting", "closed"] = "idle"
    code: int | None = None
    reason: str = ""
    retry_in: float | None = None
    failing: bool = False


class Published(NamedTuple):
    """Where a publication is. Its update has the same channel and offset, and may come before or after
    this.
    """

    channel: str
    offset: int

"""What has come for one subscription, and was not read yet."""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any, Final, NotRequired, TypedDict


class Sender(TypedDict):
    """The client that published an update, in channels that tell it."""

    clientId: str
    subject: str | None


Gap = TypedDict("Gap", {"reason": str, "epoch": str, "from": int | None, "to": int, "top": NotRequired[int]})
Gap.__doc__ = """Publications that will not come: load the state of the channel again.

``reason`` is one of the protocol's (``overrun``, ``burst``, ``memory``, ``reset``, ``trimmed``, ``epoch``,
``ahead``), ``new`` when a state comes anew because one more subscription of this client has begun,
``subject`` when the client is somebody else now, or ``session_lost`` for direct messages. Reading goes on
after the offset ``to`` of ``epoch``. ``from`` was the last offset before it. It is ``None`` when it can't be
compared with ``to``: then nobody knows how much is missing. With ``top``, it is a state that comes anew:
forget what you have of it. It is whole again when your position has come to this offset.
"""

Update = TypedDict(
    "Update",
    {
        "channel": str,
        "offset": int,
        "data": Any,
        "removed": NotRequired[bool],
        "top": NotRequired[int],
        "from": NotRequired[int],
        "key": NotRequired[str],
        "event": NotRequired[str],
        "sender": NotRequired[Sender],
        "conflict": NotRequired[dict[str, Any]],
        "gap": NotRequired[Gap],
    },
)
Update.__doc__ = """One publication, as the server sent it, or a gap.

Look for ``gap`` first: an update that has it says that publications are missing at this place, and has no
``data``. Neither has one that is ``removed``: it removes its ``key`` from a state.
"""


class Missed(dict[str, Any]):
    """An update that is a gap. Who reads its data has forgotten that there are gaps."""

    def __missing__(self, key: str) -> Any:
        raise KeyError(
            f"{key!r}: this is a gap, publications are missing here: look for update.get('gap') first"
        )


class Inbox:
    """The updates of one subscription, in the order in which they came.

    Attributes:
        key: the number of the subscription in the machine; ``None`` while there is none.
        begun: what the server said when the subscription began.
        end: why it is over.
        paused: nothing is kept any more, because the reader is too far behind.
        epoch, offset: the position of what came last.
    """

    def __init__(self, channel: str, limit: int, go_on: Callable[["Inbox"], None]) -> None:
        self.channel = channel
        self.key: int | None = None
        self.begun: dict[str, Any] | None = None
        self.end: dict[str, Any] | None = None
        self.paused = False
        self.epoch, self.offset = "", 0
        self._waiting: list[asyncio.Future[None]] = []
        self._limit = limit
        self._go_on = go_on
        self._chunks: deque[tuple[list[Update], str, int]] = deque()
        self._size = 0

    def wait(self) -> asyncio.Future[None]:
        """Wait until something has changed."""
        future = asyncio.get_running_loop().create_future()
        self._waiting = [it for it in self._waiting if not it.done()]  # those that were cancelled go
        self._waiting.append(future)
        return future

    def wake(self) -> None:
        """Something has changed."""
        if self._waiting:
            for future in self._waiting:
                if not future.done():
                    future.set_result(None)
            self._waiting.clear()

    def begin(self, detail: dict[str, Any]) -> None:
        """The server has said where the subscription begins, or that it goes on."""
        if self.begun is None or detail.get("recovered"):
            self.epoch, self.offset = detail["position"]["epoch"], detail["position"]["offset"]
        self.begun = self.begun or detail
        self.wake()

    def put(self, updates: list[Update], size: int) -> bool:
        """Keep updates of the present epoch. Returns ``False`` if there is no room for all: then for no
        more.
        """
        count = len(updates)
        size += count * UPDATE
        if self._size + size > self._limit:
            self.paused = True
            room = int((self._limit - self._size) / size * count)
            updates = updates[: max(room, 0 if self._chunks else 1)]
            size = size * len(updates) // count
        if updates:
            self._chunks.append((updates, self.epoch, size))
            self._size += size
            self.offset = updates[-1]["offset"]
            self.wake()
        return not self.paused

    def put_gap(self, gap: dict[str, Any]) -> None:
        self.epoch, self.offset = gap["epoch"], gap["to"]
        if gap["reason"] != "turn":  # of which only the position is news
            missed: Any = Missed(channel=self.channel, offset=self.offset, gap=gap)
            self._chunks.append(([missed], self.epoch, UPDATE))
            self._size += UPDATE
        self.wake()

    def finish(self, end: dict[str, Any]) -> None:
        """Nothing more comes."""
        self.end = end
        self.wake()

    def close(self) -> None:
        """Nobody reads any more."""
        self.end = {"reason": "closed by the application"}
        self._chunks.clear()
        self._size = 0
        self.wake()

    def take(self) -> tuple[list[Update], str] | None:
        """What came first, with its epoch."""
        if not self._chunks:
            return None
        updates, epoch, size = self._chunks.popleft()
        self._size -= size
        if self.paused and not self._chunks:
            self.paused = False
            self._go_on(self)
        return updates, epoch


UPDATE: Final = 400
"""Bytes that an update takes in memory besides its text."""

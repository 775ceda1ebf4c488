"""A subscription, as the application reads it."""

from collections.abc import AsyncIterator, Callable
from typing import Any

from umbel import Position
from umbel.exceptions import ConnectionClosed

from ._errors import SubscriptionFailed
from ._inbox import Inbox, Update


class Subscription:
    """The updates of one channel: ``async for update in subscription``. `Connection.subscribe` makes them.

    Each publication comes once and in order, whatever happens to the connection. Where some are missing,
    there is an update with ``gap`` in their place. A reader may be slower than the channel: what it has not
    read yet is bounded (``Limits.buffer``), and when there is more, the client asks the server for it again
    later.

    The iteration ends when the server ends the subscription, when `close` is called, or at the end of the
    connection's own block. The subscription is given up when nobody refers to it any more, so ``break``
    suffices. One task reads it.

    Attributes:
        channel: the name that was subscribed to.
        reason: why the server has ended it; empty before.
    """

    def __init__(self, inbox: Inbox, leave: Callable[[Inbox], None], drop: Callable[[Inbox], None]) -> None:
        self.channel = inbox.channel
        self.reason = ""
        self._inbox = inbox
        self._leave = leave
        self._drop = drop
        self._updates: list[Update] = []
        self._epoch = ""
        self._next = 0

    async def ready(self) -> Position:
        """Wait until the server has said where the subscription begins.

        An application that loads the state of a channel does so afterwards: then nothing falls in between.

        Returns:
            the position before the first update.

        Raises:
            SubscriptionFailed: if the channel can't be had.
            ConnectionClosed: if the connection is over.
        """
        while self._inbox.begun is None and self._inbox.end is None:
            await self._inbox.wait()
        if self._inbox.begun is None:
            self._raise_end()
            raise SubscriptionFailed(self.channel, "ended", self.reason)
        return Position(**self._inbox.begun["position"])

    @property
    def position(self) -> Position | None:
        """The position of the update that was read last, or where the subscription begins; ``None`` before
        that.

        An application that stores it with its state gives it to `Connection.subscribe` when it is started
        again.
        """
        if self._next:
            return Position(self._epoch, self._updates[self._next - 1]["offset"])
        return Position(**self._inbox.begun["position"]) if self._inbox.begun else None

    def close(self) -> None:
        """Give the subscription up. The iteration ends at once. Calling it again does nothing."""
        if self._inbox.end is None:
            self._inbox.close()
            self._leave(self._inbox)

    def __aiter__(self) -> AsyncIterator[Update]:
        return self

    async def __anext__(self) -> Update:
        """Wait for the next update.

        Raises:
            SubscriptionFailed: if the channel can't be had.
            ConnectionClosed: if the server, or a refusal, has ended the connection for good.
        """
        if self._next >= len(self._updates):
            await self._take()
        self._next += 1
        return self._updates[self._next - 1]

    async def batches(self) -> AsyncIterator[list[Update]]:
        """The updates in lists, as they came: cheaper than one at a time. Use this or the iteration.

        Raises:
            SubscriptionFailed, ConnectionClosed: as the iteration does.
        """
        while True:
            if taken := self._inbox.take():
                self._updates, self._epoch = taken
            else:
                try:
                    await self._take()
                except StopAsyncIteration:
                    return
            self._next = len(self._updates)
            yield self._updates

    async def _take(self) -> None:
        while (taken := self._inbox.take()) is None:
            if self._inbox.end is not None:
                self._raise_end()
                raise StopAsyncIteration
            await self._inbox.wait()
        self._updates, self._epoch = taken
        self._next = 0

    def _raise_end(self) -> None:
        end: dict[str, Any] = self._inbox.end or {}
        code = end.get("code")
        self.reason = end["reason"]
        if code == "closed" and end.get("close_code") is not None:
            raise ConnectionClosed(end["close_code"], end["reason"])
        if code is not None and code != "closed":
            raise SubscriptionFailed(self.channel, code, end["reason"])

    def __del__(self) -> None:
        if self._inbox.end is None:
            self._drop(self._inbox)

"""A run, as the application reads it: the text of an answer while it is produced."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from typing import Any, Literal

from umbel import Position

from ._errors import OutcomeUnknown, RequestFailed, SubscriptionFailed
from ._subscription import Subscription


class Run:
    """The answer to a request that arrives piece by piece: ``async for text in run``. `Connection.run` makes
    them.

    The pieces come once and in order, whatever happens to the connection. The iteration always ends; `status`
    says how. A reader that leaves the loop does not stop the run: `cancel` does.

    Attributes:
        status: ``waiting`` until it has begun, ``running``, and at the end ``complete``, ``cancelled``,
            ``error``, or ``lost``: the server, or its memory of the run, is gone, or a part of the text.
        incident: after ``error``, a number that the server's log has, too.
    """

    def __init__(
        self, start: Callable[[], Awaitable[Subscription]], cancel: Callable[["Run"], Awaitable[bool]]
    ) -> None:
        self.status: Literal["waiting", "running", "complete", "cancelled", "error", "lost"] = "waiting"
        self.incident = ""
        self._start = start
        self._cancel = cancel
        self._updates: Subscription | None = None
        self._cancelled = False  # before it had begun

    async def ready(self) -> Position:
        """Wait until the run has begun.

        Returns:
            where its text begins. With it and `channel`, `Connection.attach` reads the run again.

        Raises:
            RequestFailed: if it was refused.
            OutcomeUnknown: if the session was lost before the answer came.
        """
        updates = await self._begin()
        return await updates.ready()

    @property
    def channel(self) -> str:
        """The name of its channel, ``run:`` and its id; empty until it has begun."""
        return self._updates.channel if self._updates else ""

    async def cancel(self) -> bool:
        """Stop the run, also before it has begun. The text so far stays.

        Returns:
            whether there was something to stop.

        Raises:
            RequestFailed: if the server says no.
            OutcomeUnknown: if the session was lost before the answer came.
        """
        if self.status not in ("waiting", "running"):
            return False
        self._cancelled = self._updates is None
        stopped = await self._cancel(self)
        if self._updates is None:
            self.status = "cancelled"
        return stopped

    def __aiter__(self) -> AsyncIterator[str]:
        return self

    async def __anext__(self) -> str:
        """Wait for the next piece of text.

        Raises:
            RequestFailed: if the run was refused.
            OutcomeUnknown: if the session was lost before the answer came.
            ConnectionClosed: if the server, or a refusal, has ended the connection for good.
        """
        if self.status not in ("waiting", "running"):
            raise StopAsyncIteration
        try:
            updates = await self._begin()
        except RequestFailed as error:
            if error.code == "cancelled" and self._cancelled:
                raise StopAsyncIteration from None
            raise
        with suppress(SubscriptionFailed):  # another server does not know it
            async for update in updates:
                if "gap" in update:
                    break
                data: dict[str, Any] = update["data"] if isinstance(update["data"], dict) else {}
                if data.get("type") == "ai_response_chunk":
                    return str(data["chunk"])
                if data.get("type") == "ai_response_end":
                    self.status, self.incident = data["status"], data.get("incident", "")
                    updates.close()
                    raise StopAsyncIteration
        self.status = "lost"
        updates.close()
        raise StopAsyncIteration

    async def _begin(self) -> Subscription:
        if self._updates is None:
            try:
                self._updates = await self._start()
            except RequestFailed as error:
                if not self._cancelled:
                    self.status = "lost" if isinstance(error, OutcomeUnknown) else "error"
                raise
            self.status = "running"
        return self._updates

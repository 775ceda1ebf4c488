"""One connection of a websocket path."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from typing import Final, final

from umbel._core import HIGH_WATER, Credit, Handshake
from umbel._printable import printable
from umbel.exceptions import ConnectionClosed, Refused, check_close_code

from .identity import ANONYMOUS, Identity
from .port import Port
from .request import Request


@final
class WebSocket:
    """One connection of a websocket path. Use it on the event loop only.

    ``async for message in websocket`` gives messages until the connection ends: ``str`` for text, ``bytes``
    for binary. When the function is slower than the other end, the server stops reading from this connection.
    Messages are never dropped.

    Attributes:
        identity: what ``authenticate`` returned. Anonymous when the application has no such function.
        request: the HTTP request that opened the connection.
    """

    __slots__ = (
        "__weakref__",
        "_closing",
        "_end",
        "_ended",
        "_exhausted",
        "_loop",
        "_messages",
        "_number",
        "_port",
        "_wake",
        "_writable",
        "identity",
        "request",
    )

    def __init__(
        self, port: Port, loop: asyncio.AbstractEventLoop, number: int, handshake: Handshake
    ) -> None:
        self.request: Final = Request(handshake)
        self.identity: Identity = ANONYMOUS
        self._port = port
        self._loop = loop
        self._number = number
        # Bound by their credits: the core stops reading at 64 messages or 128 KiB.
        self._messages: deque[tuple[str | bytes, Credit]] = deque()
        self._wake: asyncio.Future[None] | None = None
        self._writable: asyncio.Future[None] | None = None
        self._closing: ConnectionClosed | None = None
        self._end: ConnectionClosed | None = None
        self._exhausted: ConnectionClosed | None = None
        self._ended: asyncio.Future[None] | None = None

    @property
    def closed(self) -> bool:
        """Whether the connection has ended. Messages that arrived before may still wait to be received."""
        return self._end is not None

    @property
    def close_code(self) -> int | None:
        """The code that ended the connection; ``None`` while it is open."""
        return None if self._end is None else self._end.code

    @property
    def close_reason(self) -> str | None:
        """The reason that came with the code; ``None`` while it is open."""
        return None if self._end is None else self._end.reason

    async def receive(self) -> str | bytes:
        """Wait for the next message.

        Raises:
            ConnectionClosed: if the connection has ended and all its messages were received.
            RuntimeError: if another task is waiting for a message.
        """
        while not self._messages:
            if end := self._exhausted or self._end:
                raise ConnectionClosed(end.code, end.reason)
            if self._wake is not None:
                raise RuntimeError("another task is receiving from this websocket already")
            self._wake = self._loop.create_future()
            try:
                await self._wake
            finally:
                self._wake = None
        message, _ = self._messages.popleft()
        if self._exhausted and not self._messages:
            self._loop.call_later(CLOSE_ANSWER, self._answer_close)
        return message

    async def __aiter__(self) -> AsyncIterator[str | bytes]:
        """Iterate over messages until the connection ends, whatever the close code."""
        while True:
            try:
                message = await self.receive()
            except ConnectionClosed:
                return
            yield message

    async def send(self, message: str | bytes | bytearray | memoryview) -> None:
        """Send one message: a text message for ``str``, otherwise a binary one.

        Returns at once while the other end reads fast enough. When more than 64 KiB wait for the socket, the
        call waits until most of that is sent. So a loop around ``send`` runs no faster than the other end
        reads. Messages are sent in the order of the calls.

        Raises:
            ConnectionClosed: if the connection has ended, or ``close`` was called.
            TypeError: if the message is neither text nor bytes.
        """
        if end := self._end or self._closing:
            raise ConnectionClosed(end.code, end.reason)
        if isinstance(message, str):
            waiting = self._port.core.send_text(self._number, message)
        elif isinstance(message, bytes):
            waiting = self._port.core.send_binary(self._number, message)
        elif isinstance(message, bytearray | memoryview):
            waiting = self._port.core.send_binary(self._number, bytes(message))
        else:
            raise TypeError(f"a websocket message is str or bytes, not {type(message).__name__}")
        if waiting is None:
            self._closing = ConnectionClosed()
            raise ConnectionClosed
        if waiting >= HIGH_WATER:
            if self._writable is None:
                self._writable = self._loop.create_future()
            await asyncio.shield(self._writable)

    def close(self, code: int = 1000, reason: str = "") -> bool:
        """Close the connection, after what was sent before. Returns at once.

        Args:
            code: 1000 to 1003, 1007 to 1014, or 3000 to 4999, except 4501 to 4503, which are reserved.
            reason: at most 123 bytes of UTF-8.

        Returns:
            ``False`` when the connection has ended already. Closing twice is harmless: the first code counts.

        Raises:
            ValueError: if the code may not be sent, or the reason is too long.
        """
        check_close_code(code)
        return self._close(code, reason)

    def _close(self, code: int, reason: str) -> bool:
        begun = self._port.core.close(self._number, code, reason)
        if begun and self._closing is None:
            self._closing = ConnectionClosed(code, reason)
        return begun

    async def wait_closed(self) -> None:
        """Wait until the connection has ended."""
        if self._end is None:
            if self._ended is None:
                self._ended = self._loop.create_future()
            await asyncio.shield(self._ended)

    # What follows is called by the dispatcher, once per event.

    def _over(self) -> bool:
        """Whether a `ConnectionClosed` can be about this connection. One about another is a failure."""
        return (self._end or self._exhausted or self._closing) is not None

    def _received(self, message: str | bytes, credit: Credit) -> None:
        self._messages.append((message, credit))
        wake(self._wake)

    def _drained(self) -> None:
        wake(self._writable)
        self._writable = None

    def _input_ended(self, code: int, reason: str) -> None:
        """The other end sends no more. It still gets what is sent to it."""
        self._exhausted = ConnectionClosed(code, reason)
        if not self._messages:
            self._loop.call_later(CLOSE_ANSWER, self._answer_close)
        wake(self._wake)

    def _answer_close(self) -> None:
        """Answer the close of the other end, although the function goes on. It has taken all messages."""
        if self._end is None and self._closing is None:
            self._port.core.close(self._number, 1000, "")

    def _closed(self, code: int, reason: str) -> None:
        self._end = ConnectionClosed(code, reason)
        self._drained()
        wake(self._wake)
        wake(self._ended)

    def __repr__(self) -> str:
        return f"<WebSocket {printable(self.request.path)} from {self.request.peer}>"


def outcome(error: BaseException) -> ConnectionClosed | Refused | None:
    """Return the end of the connection that a function's error means, or ``None`` if the function failed.

    The tasks of a group, for example a reader and a writer, end with a group of errors. In it a refusal
    counts first.
    """
    if isinstance(error, ConnectionClosed | Refused):
        return error
    if not isinstance(error, BaseExceptionGroup):
        return None
    found = [outcome(part) for part in error.exceptions]
    if None in found:
        return None
    return next((part for part in found if isinstance(part, Refused)), found[0])


def wake(future: asyncio.Future[None] | None) -> None:
    """Wake the task that waits, if there is one."""
    if future is not None and not future.done():
        future.set_result(None)


CLOSE_ANSWER: Final = 0.25
"""Seconds after which the close of the other end is answered, when its messages were taken and the function
goes on. A function that ends or closes answers sooner.
"""

"""One attempt: a WebSocket of the library `websockets`, from opening to its end."""

import asyncio
import contextlib
import ssl
from collections import deque
from typing import Any, Final, Protocol

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import (
    ConnectionClosed,
    InvalidHandshake,
    InvalidMessage,
    InvalidStatus,
    NegotiationError,
)
from websockets.typing import Subprotocol


class Events(Protocol):
    """What a socket tells."""

    def opened(self, attempt: int, protocol: str) -> None: ...
    def received(self, attempt: int, data: bytes) -> int: ...
    def closed(self, attempt: int, code: int, reason: str) -> None: ...
    def failed(self, attempt: int, error: Exception, fatal: bool) -> None: ...


class Socket:
    """A task that opens a WebSocket and reads it, and one that writes. Both end with it."""

    def __init__(self, attempt: int, url: str, options: dict[str, Any], events: Events, first: bool) -> None:
        self.attempt = attempt
        self._url = url
        self._options = options
        self._events = events
        self._first = first
        self._texts: deque[str] = deque()
        self._waiting = asyncio.Event()
        self._close: int | None = None
        self._connection: ClientConnection | None = None
        self.task = asyncio.get_running_loop().create_task(self._run(), name="umbel client")

    def send(self, text: str) -> None:
        """Send a message, after those that wait already. The machine bounds how many there are."""
        self._texts.append(text)
        self._waiting.set()

    def close(self, code: int) -> None:
        """End it: with 1000 in order, after what waits, and otherwise at once, so that the session stays."""
        if code == 1000 and self._connection is not None:
            self._close = code
            self._waiting.set()
        else:
            self.abort()

    def abort(self) -> None:
        if self._connection is not None:
            self._connection.transport.abort()
        self.task.cancel()

    async def _run(self) -> None:
        try:
            connection = self._connection = await connect(self._url, **{**OPTIONS, **self._options})
        except Exception as error:
            self._events.failed(self.attempt, error, can_not_pass(error, self._first))
            return
        writer = asyncio.get_running_loop().create_task(self._write(connection), name="umbel client writes")
        try:
            self._events.opened(self.attempt, connection.subprotocol or "")
            await self._read(connection)
        finally:
            writer.cancel()
            connection.transport.abort()
            with contextlib.suppress(asyncio.CancelledError):
                await writer

    async def _read(self, connection: ClientConnection) -> None:
        decoded = 0
        try:
            while True:
                decoded += self._events.received(self.attempt, await connection.recv(decode=False))
                if decoded > AHEAD:
                    decoded = 0
                    await asyncio.sleep(0)
        except ConnectionClosed:
            code = connection.close_code or 1006
            self._events.closed(self.attempt, code, connection.close_reason or "")

    async def _write(self, connection: ClientConnection) -> None:
        with contextlib.suppress(ConnectionClosed):  # the reader says so
            while True:
                while self._texts:
                    await connection.send(self._texts.popleft())
                if self._close is not None:
                    await connection.close(self._close)
                    return
                self._waiting.clear()
                await self._waiting.wait()


def can_not_pass(error: Exception, first: bool) -> bool:
    """Whether waiting is of no use.

    Args:
        error: why a WebSocket could not be opened.
        first: whether the server has never let this client in. Later on, a path that is missing for a while,
            or a wrong certificate, is what happens while a server is replaced.
    """
    if isinstance(error, InvalidStatus):
        status = error.response.status_code
        return status in (401, 403) or (first and 400 <= status < 500 and status not in PASSING)
    if isinstance(error, ssl.SSLCertVerificationError):
        return first
    if isinstance(error, NegotiationError):
        return True
    return not isinstance(error, OSError | InvalidHandshake | InvalidMessage | EOFError)


def reason_of(error: Exception) -> str:
    """Why a WebSocket could not be opened, for people."""
    if isinstance(error, InvalidStatus):
        status = error.response.status_code
        path = ": is this the path of its websocket?" if status == 404 else ""
        return f"the server answered with HTTP status {status}{path}"
    return str(error) or type(error).__name__


OPTIONS: Final[dict[str, Any]] = {
    "subprotocols": [Subprotocol("umbel.v1.first"), Subprotocol("umbel.v1")],
    "open_timeout": None,  # the machine bounds an attempt, and looks after a silent server
    "ping_interval": None,
    "close_timeout": 2.0,
    "max_size": 64 << 20,
}

AHEAD: Final = 200
"""Updates that are decoded before they are read. With more, each costs twice as much, because the collector
of garbage looks at them. With fewer, the turns of the event loop cost more than the updates.
"""

PASSING: Final = (408, 425, 429)
"""Statuses of a fault of the client that pass by waiting."""

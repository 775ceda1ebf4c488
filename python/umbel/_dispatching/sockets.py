"""Connections on websocket paths, and their functions."""

import asyncio
from dataclasses import dataclass
from typing import Final

from umbel._clients.identity import Identity
from umbel._clients.websocket import WebSocket, outcome
from umbel._core import Credit, Handshake
from umbel._declaring.declarations import WebSocketRoute
from umbel._declaring.settings import Settings
from umbel.exceptions import Refused

from .caller import Caller
from .deadlines import Deadlines
from .entrance import Entrance


@dataclass(slots=True, eq=False)
class Call:
    """The call of a websocket's function."""

    task: asyncio.Task[None]

    def expire(self) -> None:
        """Cancel it: its connection has ended, and it had the time to notice."""
        self.task.cancel()


class Sockets:
    """The websockets of one server. One function call serves one websocket."""

    def __init__(self, caller: Caller, entrance: Entrance, settings: Settings) -> None:
        self._caller = caller
        self._entrance = entrance
        self._sockets: dict[int, WebSocket] = {}
        self._calls: dict[WebSocket, Call] = {}
        # Of calls that outlive their connections. One that waits for something else would never end.
        self._deadlines = Deadlines(caller.loop, settings.close_timeout)

    def opened(self, number: int, handshake: Handshake, route: WebSocketRoute) -> None:
        """A websocket has connected."""
        socket = self._sockets[number] = WebSocket(self._caller.slots, self._caller.loop, number, handshake)

        def enter(identity: Identity) -> None:
            socket.identity = identity
            if not socket.closed:
                self._entrance.admit(number, identity, begin)

        def begin() -> None:
            parameters = dict(zip(route.names, handshake.params, strict=True))
            task = self._caller.spawn(self._run(socket, route, parameters))
            self._calls[socket] = Call(task)
            task.add_done_callback(lambda _: self._deadlines.discard(self._calls.pop(socket)))

        self._entrance.ask(number, socket.request, enter)

    def message(self, number: int, credit: Credit, message: str | bytes) -> None:
        """A message has arrived."""
        if socket := self._sockets.get(number):
            socket._received(message, credit)

    def input_ended(self, number: int, code: int, reason: str) -> None:
        """The other end sends no more."""
        if socket := self._sockets.get(number):
            socket._input_ended(code, reason)

    def writable(self, number: int) -> None:
        """The other end has read most of what waited for it."""
        if socket := self._sockets.get(number):
            socket._drained()

    def closed(self, number: int, code: int, reason: str) -> None:
        """The connection has ended."""
        if socket := self._sockets.pop(number, None):
            socket._closed(code, reason)
            if call := self._calls.get(socket):
                self._deadlines.add(call)

    def disconnect(self, subject: str, code: int, reason: str) -> int:
        """Close the websockets of a subject. Returns how many. Any thread may call it."""
        sockets = [socket for socket in list(self._sockets.values()) if socket.identity.subject == subject]
        return sum(socket._close(code, reason) for socket in sockets)

    async def stop(self) -> None:
        """All connections have ended: end their functions, too."""
        if self._calls:
            await asyncio.wait([call.task for call in self._calls.values()], timeout=LAST_TURN)
        self._deadlines.clear()
        for call in self._calls.values():
            call.task.cancel()

    async def _run(self, socket: WebSocket, route: WebSocketRoute, parameters: dict[str, str]) -> None:
        try:
            await route.function(socket, **parameters)
            socket.close(1000)
        except GeneratorExit:
            raise
        except asyncio.CancelledError:
            socket.close(1012)
        except BaseException as error:
            end = outcome(error)
            if isinstance(end, Refused):
                socket.close(end.code, end.reason)
            elif end is not None and socket._over():
                socket.close(1000)
            else:
                incident = self._caller.failed(error, "websocket %r failed for %r", route.pattern, socket)
                socket.close(1011, f"incident {incident}")


LAST_TURN: Final = 0.25
"""Seconds that the functions of websocket paths get at the stop, after their connections have ended."""

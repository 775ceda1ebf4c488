"""Connections on websocket paths, and their functions."""

import asyncio

from umbel._clients.identity import Identity
from umbel._clients.websocket import WebSocket, outcome
from umbel._core import Handshake
from umbel._declaring.declarations import WebSocketRoute
from umbel.exceptions import Refused

from .caller import Caller
from .entrance import Entrance


class Sockets:
    """The websockets of one server. One function call serves one websocket."""

    def __init__(self, caller: Caller, entrance: Entrance) -> None:
        self._caller = caller
        self._entrance = entrance
        self._sockets: dict[int, WebSocket] = {}

    def opened(self, number: int, handshake: Handshake, route: WebSocketRoute) -> None:
        """A websocket has connected."""
        socket = self._sockets[number] = WebSocket(self._caller.slots, self._caller.loop, number, handshake)

        def enter(identity: Identity) -> None:
            socket.identity = identity
            if not socket.closed and self._entrance.admit(number, identity):
                parameters = dict(zip(route.names, handshake.params, strict=True))
                self._caller.spawn(self._run(socket, route, parameters))

        self._entrance.ask(number, socket.request, enter)

    def message(self, number: int, message: str | bytes) -> None:
        """A message has arrived."""
        if socket := self._sockets.get(number):
            socket._received(message)

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

"""The life of a client: it is let in, ``on_connect`` is called, it leaves, ``on_disconnect`` is called."""

from collections.abc import Callable
from contextvars import copy_context
from dataclasses import dataclass

from umbel._clients.identity import Identity
from umbel._clients.request import Request
from umbel._core import Handshake
from umbel._declaring.declarations import Connect, Declarations, Disconnect

from . import replies
from .caller import Caller
from .entrance import Entrance
from .jobs import ClientJob, shortened
from .slots import Slot


@dataclass(slots=True, eq=False)
class ConnectJob(ClientJob):
    """The call of ``on_connect``. The messages of the client wait for its end."""

    name = "on_connect"

    function: Connect
    connected: Callable[[Slot, bool], None]

    def call(self) -> object:
        return self.function(self.slot.client)

    def done(self, value: object) -> None:
        self.connected(self.slot, True)

    def fail(self, code: str, message: str, incident: str | None = None, close: int = 1011) -> None:
        core, number = self.slot.slots.core, self.slot.number
        core.reply(number, replies.error(code, message, None, incident))
        core.close(number, close, shortened(message))
        self.connected(self.slot, False)


@dataclass(slots=True, eq=False)
class DisconnectJob(ClientJob):
    """The call of ``on_disconnect``. The client has left, so only the log is told of a failure."""

    name = "on_disconnect"

    function: Disconnect
    code: int
    reason: str

    def call(self) -> object:
        return self.function(self.slot.client, self.code, self.reason)


class Clients:
    """Lets clients in, and handles that they leave."""

    def __init__(self, caller: Caller, entrance: Entrance, declared: Declarations) -> None:
        self._slots = caller.slots
        self._caller = caller
        self._entrance = entrance
        self._connect = declared.connect
        self._disconnect = declared.disconnect
        self._connecting: set[Slot] = set()

    def opened(self, number: int, handshake: Handshake) -> None:
        """A client has connected."""
        slot = self._slots.add(number, handshake, self._caller.context)
        # Not the client's: it would keep what `authenticate` has decoded, which is most of what a client
        # holds.
        self._entrance.ask(number, Request(handshake), lambda identity: self._enter(slot, identity))

    def closed(self, slot: Slot, code: int, reason: str) -> None:
        """A client has left. Messages that it sent are still handled, then ``on_disconnect`` is called."""
        del self._slots.by_number[slot.number]
        slot.gone = True
        if slot.opening and slot not in self._connecting:
            self._caller.drop(slot)  # it was never let in
        elif self._disconnect is not None:
            self._caller.submit_last(slot, DisconnectJob(slot, self._disconnect, code, reason))

    def _enter(self, slot: Slot, identity: Identity) -> None:
        slot.client.identity = identity
        if self._entrance.authenticate is not None:
            slot.context = copy_context()
        if slot.gone or not self._entrance.admit(slot.number, identity):
            return
        if self._connect is None:
            self._connected(slot, True)
        else:
            self._connecting.add(slot)
            self._caller.start(ConnectJob(slot, self._connect, self._connected))

    def _connected(self, slot: Slot, let_in: bool) -> None:
        """Go on after ``on_connect``, with the messages of the client or with ``on_disconnect``."""
        self._connecting.discard(slot)
        if not let_in:
            self._caller.drop(slot)
            return
        slot.opening = False
        if self._connect is not None:
            slot.context = copy_context()
            if not slot.gone:
                self._slots.core.resume_reading(slot.number)
        self._caller.advance(slot)

"""The life of a client: it is let in, ``on_connect`` is called, it leaves, ``on_disconnect`` is called."""

from collections.abc import Callable
from contextvars import Context, copy_context
from dataclasses import dataclass
from functools import partial

from umbel._clients.client import Client
from umbel._clients.identity import Identity
from umbel._clients.request import Request
from umbel._core import Handshake
from umbel._declaring.declarations import Back, Connect, Declarations, Disconnect
from umbel._declaring.jwt import Named, named_identity

from .caller import Caller
from .entrance import Entrance
from .jobs import ClientJob, incident_details, shortened
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
        core.reply_error(number, code, message, None, incident_details(incident))
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


@dataclass(slots=True, eq=False)
class AwayJob(DisconnectJob):
    """The call of ``on_away``."""

    name = "on_away"


@dataclass(slots=True, eq=False)
class BackJob(ClientJob):
    """The call of ``on_back``."""

    name = "on_back"

    function: Back

    def call(self) -> object:
        return self.function(self.slot.client)


class Clients:
    """Lets clients in, and handles that they leave."""

    def __init__(self, caller: Caller, entrance: Entrance, declared: Declarations) -> None:
        self._slots = caller.slots
        self._caller = caller
        self._entrance = entrance
        self._connect = declared.connect
        self._disconnect = declared.disconnect
        self._away = declared.away
        self._back = declared.back
        self._known = declared.knows_clients()
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
        slot.client.connected = False
        if slot.is_caller or (slot.opening and slot not in self._connecting):
            self._caller.drop(slot)  # it was never let in, or is a program
        elif self._disconnect is not None:
            self._caller.submit_last(slot, DisconnectJob(slot, self._disconnect, code, reason))

    def begun(self, number: int) -> None:
        """A client that was let in is one of its own."""
        if slot := self._slots.by_number.get(number):
            self._entrance.count(number, slot.client.identity.subject, partial(self._begin, slot))

    def merged(self, number: int, into: int) -> None:
        """A client that was let in is another one, which has come back."""
        slot = self._slots.by_number.pop(number)
        slot.gone = True
        self._entrance.leave(number)
        self._caller.drop(slot)
        if other := self._slots.by_number.get(into):
            other.client.identity = slot.client.identity
            other.context = renewed(other.context, slot.context, self._caller.context)
            self.back(into, slot.client._handshake)

    def renewed(self, number: int, named: Named) -> None:
        """A client has shown other credentials."""
        if slot := self._slots.by_number.get(number):
            slot.client.identity = named_identity(named)

    def away(self, number: int, code: int, reason: str) -> None:
        """A client has lost its connection, and may come back."""
        if slot := self._slots.by_number.get(number):
            slot.client.connected = False
            self._entrance.away(number)
            # Otherwise a client that comes and goes would fill the queue.
            unnoticed = self._caller.withdraw(slot, BackJob)
            if self._away is not None and not unnoticed:
                self._caller.submit(slot, AwayJob(slot, self._away, code, reason))

    def back(self, number: int, handshake: Handshake) -> None:
        """A client has come back, or has another connection."""
        if slot := self._slots.by_number.get(number):
            was_away = not slot.client.connected
            slot.client._came_back(handshake)
            if (named := handshake.identity) is not None:
                slot.client.identity = named_identity(named)
            self._entrance.back(number)
            unnoticed = was_away and self._caller.withdraw(slot, AwayJob)
            if was_away and self._back is not None and not unnoticed:
                self._caller.submit(slot, BackJob(slot, self._back))

    def present(self, subject: str | None) -> list[Client]:
        """Return the clients that are let in and not closed, all or those of one subject.

        Any thread may call it: the slots are copied at once.

        Raises:
            RuntimeError: if the core tells of no clients.
        """
        if not self._known:
            raise RuntimeError(
                "this application has no function that is about clients, so that the server does not tell "
                "Python of them; declare one, for example an on_connect function that does nothing"
            )
        return [slot.client for slot in self._of(subject) if not slot.opening and not slot.is_caller]

    def disconnect(self, subject: str, code: int, reason: str) -> int:
        """Close the clients of a subject, those whose ``on_connect`` runs, too. Returns how many."""
        return sum(self._slots.close(slot.number, code, reason) for slot in self._of(subject))

    def _of(self, subject: str | None) -> list[Slot]:
        slots = list(self._slots.by_number.values())
        return [
            slot
            for slot in slots
            if not slot.closed_here and (subject is None or slot.client.identity.subject == subject)
        ]

    def _enter(self, slot: Slot, identity: Identity) -> None:
        slot.client.identity = identity
        if self._entrance.authenticate is not None:
            slot.context = copy_context()
        if slot.is_caller:
            # A program that makes calls does not connect, and is not counted as a connection of its identity.
            self._entrance.admit(slot.number, identity, None)
            slot.opening = False
            self._caller.advance(slot)
        elif not slot.gone:
            is_own = not slot.client._handshake.other_credential
            self._entrance.admit(slot.number, identity, partial(self._begin, slot) if is_own else None)

    def _begin(self, slot: Slot) -> None:
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
                self._slots.core.begin_reading(slot.number)
        self._caller.advance(slot)


def renewed(context: Context, latest: Context, beginning: Context) -> Context:
    """Return what a client's functions had, with what ``authenticate`` has set since the beginning.

    What ``on_connect`` has set stays: it is not called again.
    """
    context = context.copy()
    for variable, value in latest.items():
        if beginning.get(variable) is not value:
            context.run(variable.set, value)
    return context

"""What the dispatcher knows of each client."""

from contextvars import Context
from dataclasses import dataclass
from functools import partial

from umbel._clients.client import Client
from umbel._clients.run import Run
from umbel._core import Core, Handshake

from .rooms import Rooms


@dataclass(slots=True, eq=False)
class Slot:
    """One client, and its state in the dispatcher.

    Attributes:
        slots: all slots, and the way to the core.
        number: the core's number of this client.
        client: the object that functions of the application get.
        context: each function of this client runs in a copy. It has what ``authenticate`` and ``on_connect``
            set.
        running: functions that run.
        opening: it is not let in yet, or ``on_connect`` runs: its messages wait.
        closed_here: the application has closed it: its messages are dropped.
        gone: the connection has ended.
        is_caller: it is a program that makes calls over HTTP, and does not connect otherwise.
        runs: its unfinished runs, and for each whether it ends with the connection.
    """

    slots: "Slots"
    number: int
    client: Client
    context: Context
    running: int = 0
    opening: bool = True
    closed_here: bool = False
    gone: bool = False
    runs: dict[Run, bool] | None = None
    is_caller: bool = False


class Slots:
    """The clients of one server by their numbers, and the way to its core."""

    def __init__(self, core: Core) -> None:
        self.core = core
        self.rooms = Rooms()
        self.by_number: dict[int, Slot] = {}

    def add(self, number: int, handshake: Handshake, context: Context) -> Slot:
        """Add a client that has connected."""
        slot = Slot(self, number, Client(self, number, handshake), context, is_caller=handshake.is_caller)
        self.by_number[number] = slot
        return slot

    async def wait_room(self, number: int) -> None:
        """Wait until a client has taken most of what was sent to it, or is gone."""
        await self.rooms.wait(partial(self.core.when_client_room, number))

    def close(self, number: int, code: int, reason: str) -> bool:
        """Close a client, and drop its messages that wait for their turn; ``False`` when it is gone."""
        slot = self.by_number.get(number)
        closes = self.core.close(number, code, reason)
        if closes and slot is not None:
            slot.closed_here = True
        return closes

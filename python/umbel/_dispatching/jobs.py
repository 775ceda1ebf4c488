"""A job: one call of a function of the application, and what is done with its result or failure."""

import asyncio
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import ClassVar

from orjson import dumps

from umbel._core import LONGEST_REASON, Credit
from umbel.exceptions import NOT_ALLOWED, Rejected

from .repeated import Repeated
from .slots import Slot


class ClientError(Exception):
    """Ends a job with an ``error`` of the given code."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(slots=True, eq=False)
class Job(ABC):
    """One call of a function. Exactly one of ``done`` and ``fail`` is called, once.

    Attributes:
        slot: that of the client; ``None`` when there is no client yet.
        task: the task that runs the function, if it must be awaited.
        began: when the function was called, in seconds of ``time.perf_counter``.
        expired: its time is over, the client was told, and the function is cancelled.
        awaits: the function is known to be a coroutine function, so that a task calls it.
    """

    awaits: ClassVar[bool] = False

    slot: Slot | None
    task: asyncio.Task[None] | None = field(default=None, init=False)
    began: float = field(default=0.0, init=False)
    expired: bool = field(default=False, init=False)

    @property
    @abstractmethod
    def name(self) -> str:
        """The function, as the log names it."""

    @property
    def origin(self) -> object:
        """The client or request for which it is called, as the log names it."""
        return self.slot and self.slot.client

    @property
    def failures(self) -> Repeated | None:
        """What counts failures that strangers can cause as often as they like. Not each has a traceback."""
        return None

    @abstractmethod
    def call(self) -> object:
        """Call the function. What it returns may have to be awaited."""

    def done(self, value: object) -> None:  # noqa: B027 - there may be nothing to do
        """Act on the result, in the context in which the function ran."""

    def fail(self, code: str, message: str, incident: str | None = None, close: int = 1011) -> None:  # noqa: B027
        """Tell the client. Jobs that let a client in close it, with the code ``close``."""

    def reject(self, outcome: Rejected) -> None:
        """Tell the client in the application's own words, where the protocol has a place for them."""
        self.fail("not_allowed", outcome.message, close=NOT_ALLOWED)

    def ended(self) -> None:  # noqa: B027 - as for `done`
        """Give back what is held for the function: it has ended."""

    def expire(self) -> None:
        """End the job because its time is over: tell the client now, and cancel the function."""
        if self.task is not None and not self.task.done():
            self.expired = True
            self.fail("timeout", "this took longer than the server allows")
            self.task.cancel()


@dataclass(slots=True, eq=False)
class ClientJob(Job):
    """A job for a client."""

    slot: Slot


@dataclass(slots=True, eq=False)
class MessageJob(ClientJob):
    """A job for a message of a client.

    Attributes:
        credit: counts the bytes of the message until the function has ended.
    """

    credit: Credit | None

    def ended(self) -> None:
        self.credit = None


def incident_details(incident: str | None) -> bytes | None:
    """Put the incident into the ``details`` of an error."""
    return None if incident is None else dumps({"incident": incident})


def explained(message: str, incident: str | None) -> str:
    """Put the incident into the text. For errors that the core writes."""
    return f"{message} (incident {incident})" if incident else message


def shortened(reason: str) -> str:
    """Cut a reason to the length that a close frame holds, never inside a character."""
    return reason.encode()[:LONGEST_REASON].decode(errors="ignore")

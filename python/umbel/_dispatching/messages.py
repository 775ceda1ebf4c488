"""Messages of clients, for handlers and streams."""

from dataclasses import dataclass

from umbel._clients.client import Message
from umbel._declaring.declarations import Handler, StreamRule
from umbel._json import encode
from umbel.exceptions import Rejected

from .jobs import ClientError, MessageJob, incident_details
from .runs import Runs


@dataclass(slots=True, eq=False)
class TypeJob(MessageJob):
    """A message of a client, for the function of its type."""

    type: str
    message_id: bytes | None
    text: bytes

    @property
    def name(self) -> str:
        return f"handler of {self.type!r}"

    def message(self) -> Message:
        """Decode the message, once.

        Raises:
            ClientError: if it can't be decoded.
        """
        try:
            message = Message(self.type, self.message_id, self.text)
        except ValueError as error:
            raise ClientError("bad_message", f"this is not JSON that the server reads: {error}") from None
        self.text = b""
        return message

    def fail(self, code: str, message: str, incident: str | None = None, close: int = 1011) -> None:
        core, details = self.slot.slots.core, incident_details(incident)
        core.reply_error(self.slot.number, code, message, self.message_id, details)

    def reject(self, outcome: Rejected) -> None:
        details = None if outcome.details is None else encode(outcome.details)
        core = self.slot.slots.core
        core.reply_error(self.slot.number, outcome.code, outcome.message, self.message_id, details)


@dataclass(slots=True, eq=False)
class HandlerJob(TypeJob):
    """A message for a handler. Its result is the reply."""

    handler: Handler

    def call(self) -> object:
        return self.handler(self.slot.client, self.message())

    def done(self, value: object) -> None:
        """Send the result. When the client has left, it is lost."""
        if value is not None or self.message_id is not None:
            self.slot.slots.core.reply(self.slot.number, self.type, self.message_id, encode(value))


@dataclass(slots=True, eq=False)
class CoroutineJob(HandlerJob):
    """A message for a handler that is a coroutine function."""

    awaits = True


@dataclass(slots=True, eq=False)
class StreamJob(TypeJob):
    """A message for a stream. The subscription to the channel of the run is the reply."""

    runs: Runs
    stream: StreamRule

    def call(self) -> None:
        self.runs.start(self.slot, self.message(), self.message_id, self.stream, self.credit)

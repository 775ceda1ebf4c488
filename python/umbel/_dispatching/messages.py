"""Messages of clients, for handlers and streams."""

from dataclasses import dataclass

from umbel._clients.client import Message
from umbel._declaring.declarations import Handler, StreamRule

from . import replies
from .jobs import ClientJob, Rejected
from .runs import Runs


@dataclass(slots=True, eq=False)
class MessageJob(ClientJob):
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
            Rejected: if it can't be decoded.
        """
        try:
            message = Message(self.type, self.message_id, self.text)
        except ValueError as error:
            raise Rejected("bad_message", f"this is not JSON that the server reads: {error}") from None
        self.text = b""
        return message

    def fail(self, code: str, message: str, incident: str | None = None, close: int = 1011) -> None:
        self.reply(replies.error(code, message, self.message_id, incident))

    def reply(self, message: bytes) -> None:
        """Send a reply. When the client has left, it is lost."""
        self.slot.slots.core.reply(self.slot.number, message)


@dataclass(slots=True, eq=False)
class HandlerJob(MessageJob):
    """A message for a handler. Its result is the reply."""

    handler: Handler

    def call(self) -> object:
        return self.handler(self.slot.client, self.message())

    def done(self, value: object) -> None:
        if value is not None or self.message_id is not None:
            self.reply(replies.result(self.type, self.message_id, value))


@dataclass(slots=True, eq=False)
class StreamJob(MessageJob):
    """A message for a stream. The subscription to the channel of the run is the reply."""

    runs: Runs
    stream: StreamRule

    def call(self) -> None:
        self.runs.start(self.slot, self.message(), self.message_id, self.stream)

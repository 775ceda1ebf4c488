"""A client of the Umbel protocol, and the messages it sends."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, final

from orjson import Fragment, dumps, loads

from umbel._core import Handshake, Position
from umbel._printable import printable

from .request import ANONYMOUS, Identity, Request

if TYPE_CHECKING:
    from umbel._dispatching.dispatcher import Dispatcher
    from umbel._dispatching.jobs import Job


@final
class Client:
    """One connected client. Made by the server, one object for the whole life of the connection.

    Its methods may be called from any thread and return at once. On a client that is gone they do nothing and
    say so in what they return: that a client has left is an outcome, not an error.

    Attributes:
        identity: what ``authenticate`` returned; an anonymous identity when the application has no such
            function.
    """

    __slots__ = (
        "__weakref__",
        "_backlog",
        "_closed_here",
        "_context",
        "_dispatcher",
        "_handshake",
        "_key",
        "_opening",
        "_paused",
        "_request",
        "_running",
        "_state",
        "identity",
    )

    def __init__(self, dispatcher: Dispatcher, key: int, handshake: Handshake) -> None:
        self.identity: Identity = ANONYMOUS
        self._dispatcher = dispatcher
        # Each of its functions runs in a copy of this, which has what `authenticate` and `on_connect` set.
        self._context = dispatcher.context
        self._key = key
        self._handshake = handshake
        self._request: Request | None = None
        self._state: dict[str, Any] | None = None
        # The dispatcher's bookkeeping for this client. The backlog exists only while jobs wait; it is
        # bounded by the core's event queue, because the client is paused as soon as one waits.
        self._running = 0
        self._backlog: deque[Job] | None = None
        self._closed_here = False  # by the application: what waits is not handled any more
        self._opening = True
        self._paused = False

    @property
    def id(self) -> str:
        """The public id, as ``connection_established`` told it to the client."""
        return self._handshake.client_id

    @property
    def request(self) -> Request:
        """The HTTP request that opened the connection."""
        if self._request is None:
            self._request = Request(self._handshake)
        return self._request

    @property
    def state(self) -> dict[str, Any]:
        """A dictionary for the application's own use, kept as long as the client."""
        if self._state is None:
            self._state = {}
        return self._state

    def send(self, data: Any, key: str | None = None) -> Position | None:
        """Send data to this client alone, in order and in batches, through its private channel.

        Args:
            data: what ``orjson.dumps`` accepts; ``orjson.Fragment`` passes ready-made JSON through, and is
                checked where it is all of the data.
            key: at most 255 bytes; a client that is behind may get only the newest of several with the same
                key.

        Returns:
            The position in the private channel, or ``None`` when the client is gone.

        Raises:
            TypeError: if data are not JSON serialisable.
            ValueError: if the data have more than 16 MiB or the key more than 255 bytes, or if the data are a
                fragment that is not JSON.
        """
        text = dumps(data)
        if type(data) is Fragment:
            loads(text)
        return self._dispatcher.core.send(self._key, text, key)

    def close(self, code: int = 1000, reason: str = "") -> bool:
        """Close the connection, after what was sent before.

        Messages of this client that wait for their turn are dropped; functions that run go on. When it is the
        client that leaves, what it sent before is still handled.

        Args:
            code: a close code: 1000, 4000 to 4499 for "come back", 4500 to 4999 for "do not come back".
            reason: at most 123 bytes of UTF-8.

        Returns:
            ``False`` when the client is gone already. Closing twice is harmless: the first code counts.

        Raises:
            ValueError: if the code may not be sent, or the reason is too long.
        """
        closes = self._dispatcher.core.close(self._key, code, reason)
        if closes:
            self._closed_here = True
        return closes

    def subscribe(self, channel: str) -> bool:
        """Subscribe this client to a channel from the server's side, without asking the channel's function.

        Returns:
            ``True`` when the request was handed over, ``False`` when the client is gone. The outcome is not
            known here: the client gets ``subscription_established``, or an ``error`` when it has as many
            subscriptions as it may.

        Raises:
            ValueError: if the channel name is empty, longer than 255 bytes or starts with ``@``.
        """
        return self._dispatcher.core.subscribe(self._key, channel)

    def unsubscribe(self, channel: str, reason: str = "unsubscribed by the server") -> bool:
        """End a subscription; the client gets ``subscription_ended`` with the reason, if it was subscribed.

        Returns:
            ``True`` when the request was handed over, ``False`` when the client is gone. Whether there was
            such a subscription is not known here.
        """
        return self._dispatcher.core.unsubscribe(self._key, channel, reason)

    def __repr__(self) -> str:
        # Lines of the log show this, so it holds whatever the application has put there.
        subject = getattr(self.identity, "subject", self.identity)
        return f"<Client {self.id} {printable(str(subject)) or 'anonymous'}>"


@final
class Message:
    """A message from a client. Immutable by convention; its JSON is decoded once, before the handler starts.

    Attributes:
        type: the value of ``type``.
        body: the whole object as it came.
    """

    __slots__ = ("_request", "body", "type")

    def __init__(self, type: str, request: bytes | None, text: bytes) -> None:
        """Decode a message.

        Args:
            type: the value of ``type``.
            request: JSON text of ``id``; ``None`` when there is none.
            text: JSON text of the whole message.

        Raises:
            ValueError: if the text can't be decoded.
        """
        self.type = type
        self.body: dict[str, Any] = loads(text)
        self._request = request

    @property
    def data(self) -> Any:
        """The value of ``data``; ``None`` when there is none."""
        return self.body.get("data")

    @property
    def id(self) -> str | int | None:
        """The id that the client gave this message, and that its answer carries; ``None`` when it asks for
        none.
        """
        return None if self._request is None else loads(self._request)

    def __repr__(self) -> str:
        return f"<Message {printable(self.type)}>"  # not the body: logs show this, and it may hold secrets

"""A client of the Umbel protocol, and the messages it sends."""

from typing import Any, final

from orjson import loads

from umbel._core import Handshake, Receipt
from umbel._json import encode
from umbel._printable import printable
from umbel.exceptions import check_close_code

from .identity import ANONYMOUS, Identity
from .port import Port
from .request import Request


@final
class Client:
    """One client. The server makes one object for each session: a client that has lost its connection and
    comes back within the setting ``session_ttl`` is the same client.

    All methods may be called from any thread and return at once. On a client that has left they do nothing,
    and what they return says so: that a client has left is an outcome, not an error.

    Attributes:
        identity: what ``authenticate`` returned. Anonymous when the application has no such function.
        connected: whether the client has a connection. It has none while it is away, and when it has left.
    """

    __slots__ = (
        "__weakref__",
        "_handshake",
        "_id",
        "_number",
        "_port",
        "_request",
        "_state",
        "connected",
        "identity",
    )

    def __init__(self, port: Port, number: int, handshake: Handshake) -> None:
        self.identity: Identity = ANONYMOUS
        self.connected = True
        self._port = port
        self._number = number
        self._handshake = handshake
        self._id = handshake.client_id
        self._request: Request | None = None
        self._state: dict[str, Any] | None = None

    @property
    def id(self) -> str:
        """The public id of this client. ``connection_established`` told it to the client."""
        return self._id

    @property
    def request(self) -> Request:
        """The HTTP request that opened the client's present connection, or its last one."""
        if self._request is None:
            self._request = Request(self._handshake)
        return self._request

    @property
    def state(self) -> dict[str, Any]:
        """A dictionary for the application's own use. It lives as long as the client."""
        if self._state is None:
            self._state = {}
        return self._state

    def send(self, data: Any, key: str | None = None) -> Receipt | None:
        """Send data to this client alone, through its private channel.

        Messages of one thread arrive in order, with the next batch. The private channel is a log like any
        other. A client that keeps up gets everything, up to the setting ``burst_bytes`` (16 MiB) at once. For
        a client that is more than a second behind, the log keeps the newest 1000 messages, at most 1 MiB of
        them, for at most 300 seconds. The client loses the older ones, and a ``gap`` tells it which. For a
        client that is away, the log keeps as much, within a quarter of ``max_log_bytes`` for all clients that
        are away: those that left first lose what was sent to them. It ends when the client has left: what the
        client has not received by then is lost.

        Args:
            data: what ``orjson.dumps`` accepts. ``orjson.Fragment`` passes JSON text through as it is; the
                text is checked when the fragment is all of the data.
            key: at most 255 bytes. It has no effect today: a private channel keeps every publication.

        Returns:
            A receipt for the position in the private channel, or ``None`` when the client has left. A
            position does not say that the client received anything.

        Raises:
            TypeError: if the data can't be encoded as JSON.
            ValueError: if the data have more than 16 MiB, if the key has more than 255 bytes, or if the data
                have an integer beyond 64 bits or are a fragment that is not JSON.
        """
        text = encode(data)
        return self._port.core.send(self._number, text, key)

    async def wait_room(self) -> None:
        """Wait until most of what was sent to this client is on its way.

        At most half of what its private channel keeps (500 messages, 512 KiB) waits then, so nothing is lost
        however slowly the client reads. Returns at once when that is so already, or when the client is gone
        or away: test ``client.connected`` in a loop that sends much.
        A client that reads nothing at all is closed after the setting ``write_timeout``. A loop around it
        lets other functions run, too.

        Example:
            >>> from umbel import Umbel
            >>> app = Umbel()
            >>> @app.on("export")
            ... async def export(client, message):
            ...     for row in range(100_000):
            ...         client.send({"row": row})
            ...         await client.wait_room()
        """
        await self._port.wait_room(self._number)

    def close(self, code: int = 1000, reason: str = "") -> bool:
        """Close the connection, after what was sent before.

        Messages of this client that wait for their turn are dropped. Functions that run go on. (When the
        client itself leaves, the messages that it sent before are still handled.)

        Args:
            code: a close code. Of your own codes, 4000 to 4499 mean "come back" and 4500 to 4999 "do not come
                back"; 4501 to 4503 are reserved. 1000 to 1003, 1007 to 1014 and 3000 to 3999 may be sent,
                too.
            reason: at most 123 bytes of UTF-8.

        Returns:
            ``False`` when the client has left already. Closing twice is harmless: the first code counts.

        Raises:
            ValueError: if the code may not be sent, or the reason is too long.
        """
        check_close_code(code)
        return self._port.close(self._number, code, reason)

    def subscribe(self, channel: str) -> bool:
        """Subscribe this client to a channel. The function of the channel is not called.

        Returns:
            ``False`` when the client has left. ``True`` does not say that the client is subscribed: it gets
            ``subscription_established``, or an ``error`` when it has as many subscriptions as it may have.

        Raises:
            ValueError: if the channel name is empty, longer than 255 bytes, begins with ``@`` or ``$``, or
                has control characters.
        """
        return self._port.core.subscribe(self._number, channel)

    def unsubscribe(self, channel: str, reason: str = "unsubscribed by the server") -> bool:
        """End a subscription. The client gets ``subscription_ended`` with the reason, if it was subscribed.

        Returns:
            ``False`` when the client has left. ``True`` does not say that the client was subscribed.

        Raises:
            ValueError: if this is not the name of a channel.
        """
        return self._port.core.unsubscribe(self._number, channel, reason)

    def _came_back(self, handshake: Handshake) -> None:
        self._handshake, self._request, self.connected = handshake, None, True

    def __repr__(self) -> str:
        # The log shows this, so it must work whatever the application has set as the identity.
        subject = getattr(self.identity, "subject", self.identity)
        return f"<Client {self.id} {printable(str(subject)) or 'anonymous'}>"


@final
class Message:
    """A message from a client. It was decoded before the handler started; do not change it.

    Attributes:
        type: the value of ``type``.
        body: the whole JSON object.
    """

    __slots__ = ("_message_id", "body", "type")

    def __init__(self, type: str, message_id: bytes | None, text: bytes) -> None:
        """Decode a message.

        Args:
            type: the value of ``type``.
            message_id: JSON text of ``id``; ``None`` when there is none.
            text: JSON text of the whole message.

        Raises:
            ValueError: if the text can't be decoded.
        """
        self.type = type
        self.body: dict[str, Any] = loads(text)
        self._message_id = message_id

    @property
    def data(self) -> Any:
        """The value of ``data``; ``None`` when there is none."""
        return self.body.get("data")

    @property
    def id(self) -> str | int | None:
        """The id that the client gave this message. The reply carries it. ``None`` when there is none."""
        return None if self._message_id is None else loads(self._message_id)

    def __repr__(self) -> str:
        return f"<Message {printable(self.type)}>"  # without the body: the log shows this

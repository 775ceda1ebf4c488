"""What the parts of the client machine share: the connection of now, the actions, and numbers."""

from typing import Any

import orjson

JSON = dict[str, Any]


class Line:
    """The connection of the present attempt, as the parts of the machine see it.

    Attributes:
        actions: what the shell has to do, in order. The shell takes them out.
        attempt: the number of the newest attempt to connect.
        connected: whether the server has let the client in, on that attempt's socket.
    """

    def __init__(self) -> None:
        self.actions: list[tuple[Any, ...]] = []
        self.attempt = 0
        self.connected = False
        self._numbers = 0

    def number(self) -> int:
        """A number that was not used before: for messages, and for what the application asks for."""
        self._numbers += 1
        return self._numbers

    def act(self, *action: Any) -> None:
        """Tell the shell to do something."""
        self.actions.append(action)

    def send(self, message: JSON) -> None:
        """Send a message of the client's own."""
        self.send_text(encode(message))

    def send_text(self, text: str) -> None:
        """Send a message whose text is made already."""
        self.act("send", self.attempt, text)


def encode(message: JSON) -> str:
    """The text of a message.

    Raises:
        TypeError: if it can't be encoded as JSON.
    """
    return orjson.dumps(message).decode()

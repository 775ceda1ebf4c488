"""What the machine of a client knows of one channel and of its subscriptions."""

from dataclasses import dataclass, field

from ._machine_line import JSON


@dataclass(slots=True)
class Subscription:
    """What the application reads.

    Attributes:
        epoch: empty as long as there is no position.
        offset: below 0 if it wants to be where the channel is. Then it has nothing to be told.
        begun: whether the application was told where it begins.
        reason: why it has lost its position.
    """

    id: int
    epoch: str = ""
    offset: int = 0
    begun: bool = False
    reason: str = ""


@dataclass(slots=True)
class Channel:
    """A channel that the application or the server wants this client to have.

    Attributes:
        live: whether updates continue the position. They don't before the server has said where they begin.
        asked: the number of the message that asked for the channel and has no answer; 0 for the first message
            of a connection, whose answers have no ``id``.
        named: the position that was asked for.
        mended: a defect of the server was met on this connection.
        state: the server has said that it is a state.
    """

    name: str
    subscriptions: list[Subscription] = field(default_factory=list)
    epoch: str = ""
    offset: int = 0
    live: bool = False
    asked: int | None = None
    named: tuple[str, int] | None = None
    mended: bool = False
    state: bool = False


def position_of(message: JSON, offset: str) -> tuple[str, int]:
    """The position in a message.

    Raises:
        ValueError: if there is none.
    """
    if type(message["epoch"]) is str and type(message[offset]) is int:
        return message["epoch"], message[offset]
    raise ValueError("a position is an epoch and an offset")


def forget(channel: Channel, reason: str) -> None:
    """Forget the positions in a channel."""
    channel.epoch, channel.live = "", False
    channel.asked = channel.named = None
    for it in channel.subscriptions:
        it.epoch, it.reason = "", it.reason or (it.epoch and reason)

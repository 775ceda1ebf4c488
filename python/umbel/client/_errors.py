"""The errors of the client."""

from typing import Any

from umbel._printable import printable
from umbel.exceptions import ConnectionClosed, UmbelError


class RequestFailed(UmbelError):  # noqa: N818 - named as what it says of a request
    """A request, a publication or the start of a run has failed.

    Attributes:
        code: one of the codes of the protocol, or one of the application's own. The client adds ``expired``:
            not sent in time, ``queue_full``: not sent, because too much waits already, ``cancelled``: not
            sent, because the client is somebody else now, and ``closed``: not sent, because the connection is
            over.
        message: for people.
        details: what the application has added.
    """

    def __init__(self, code: str, message: str, details: Any = None) -> None:
        super().__init__(f"{code}: {message}" if message != code else code)
        self.code = code
        self.message = message
        self.details = details


class OutcomeUnknown(RequestFailed):
    """A request was sent, and the session was lost before its answer came: nobody knows whether it was done.

    It is not repeated. To send it again may do it twice.
    """


class SubscriptionFailed(UmbelError):  # noqa: N818 - named as what it says of a subscription
    """A channel can't be had, or not any more.

    Attributes:
        channel: its name.
        code: one of the codes of the protocol.
        reason: for people.
    """

    def __init__(self, channel: str, code: str, reason: str) -> None:
        super().__init__(f"{channel}: {code}: {reason}")
        self.channel = channel
        self.code = code
        self.reason = reason


def never_connected(url: str, code: int, reason: str, cause: Exception | None) -> ConnectionClosed:
    """The error of a client that was never let in. A code that no server has sent says nothing."""
    closed = ConnectionClosed(code, reason)
    why = reason if cause or code == 1002 else f"{code} {printable(reason)}".rstrip()
    closed.args = (f"no connection to {url}: {why}",)
    closed.__cause__ = cause
    return closed


def failure(error: dict[str, Any]) -> RequestFailed:
    """The error of a request that the machine has settled."""
    kind = OutcomeUnknown if error["code"] == "outcome_unknown" else RequestFailed
    return kind(error["code"], error["message"], error.get("details"))


def ended(channel: str, end: dict[str, Any]) -> UmbelError:
    """The error of a subscription that ended before it was of use."""
    code, reason = end.get("code", "ended"), end["reason"]
    if code == "closed" and end.get("close_code") is not None:
        return ConnectionClosed(end["close_code"], reason)
    return SubscriptionFailed(channel, code, reason)

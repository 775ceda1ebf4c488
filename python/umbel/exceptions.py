"""The errors that applications see.

::

    UmbelError
    ├── Conflict                               an entry of a state is not in the expected version
    ├── ConfigurationError (also ValueError)   the application is declared wrongly
    ├── ConnectionClosed                       a websocket path's connection has ended
    ├── MaybePublished                         a publication's outcome is unknown
    ├── NotPublished                           a publication failed: nobody gets it
    ├── Refused                                raised by the application to refuse a client
    ├── Rejected                               raised by the application: an error with a code of its own
    └── StateFull                              a state has no room for a change

Wrong types and values raise the builtin ``TypeError`` and ``ValueError``, calls at the wrong time
``RuntimeError``.
"""

import re
from typing import Any, Final

from ._core import ERROR_CODES, LONGEST_REASON
from ._json import encode
from ._printable import printable


class UmbelError(Exception):
    """The root of Umbel's own errors."""


class ConfigurationError(UmbelError, ValueError):
    """The application can't be served as it is declared. The message says what to change."""


class ConnectionClosed(UmbelError):  # noqa: N818 - as other libraries of the field call it
    """The connection has ended: nothing can be sent or received any more.

    Attributes:
        code: the close code that ended the connection; 1006 when it broke off without one.
        reason: the text that came with the code. It is often empty.
    """

    def __init__(self, code: int = 1006, reason: str = "") -> None:
        super().__init__(f"connection closed with code {code}" + (f": {printable(reason)}" if reason else ""))
        self.code = code
        self.reason = reason


class NotPublished(UmbelError):  # noqa: N818 - named as what it says of a publication
    """The publication failed, and this is certain: nobody gets it. Publishing it again makes no duplicate."""


class StateFull(UmbelError):  # noqa: N818 - named as what it says of a state
    """A state has no room for a change, so nothing was changed. The message names the setting that bounds it:
    ``max_keys`` or ``state_bytes`` of the channel, or ``max_state_bytes`` of all states together.
    """


class Conflict(UmbelError):  # noqa: N818 - named as what it says of a state
    """An entry of a state is not in the version that a change was made for, so nothing was changed.

    Attributes:
        entry: the entry as it was found then, a `Publication`; ``None`` if it was not there.
    """

    entry: Any = None


class MaybePublished(UmbelError):  # noqa: N818 - named as what it says of a publication
    """The broker can't tell what became of the publication.

    Subscribers may have it already, get it later, or never get it. Publishing it again may make a duplicate.
    """


class Refused(UmbelError):  # noqa: N818 - it is an outcome that the application states, not a failure
    """Raise this to refuse a client, with a reason that the client can read.

    When an ``authenticate`` or ``on_connect`` function raises it, the client gets an ``error`` and is closed
    with ``code``. When the function of a websocket path does, the connection is closed with ``code``. When a
    handler or the function of a channel does, the client gets an ``error`` with code ``not_allowed`` and
    stays connected. In a stream it is an error like any other: the run ends with ``status`` ``error``.

    Attributes:
        code: 4401 when credentials are missing or expired: the client gets new ones and comes back. 4500 when
            the client must not come back. Also 1008, 1013 and the other codes from 3000 to 4999, except 4501
            to 4503, which are reserved.
        reason: at most 123 bytes of UTF-8.

    Example:
        >>> from umbel import Refused
        >>> str(Refused(4500, "this account is locked"))
        'this account is locked'
    """

    def __init__(self, code: int = 4401, reason: str = "") -> None:
        """Check the code and the reason.

        Raises:
            TypeError: if the code is no number.
            ValueError: if the code is not one of these, or the reason is too long.
        """
        if not isinstance(code, int):
            raise TypeError(f"the first argument is a close code: write Refused(4500, {code!r})")
        if not (3000 <= code <= 4999 or code in (1008, 1013)):
            raise ValueError(
                f"{code} is not a close code for a refusal: use 4401, 4500, or another from 3000 to 4999"
            )
        check_close_code(code)
        if len(reason.encode()) > LONGEST_REASON:
            raise ValueError(f"a close reason has at most {LONGEST_REASON} bytes of UTF-8")
        super().__init__(reason or ("not allowed" if code == NOT_ALLOWED else "authentication required"))
        self.code = code
        self.reason = str(self)


class Rejected(UmbelError):  # noqa: N818 - it is an outcome that the application states, not a failure
    """Raise this to answer a client with an ``error`` in your own words.

    When a handler, the function of a channel or a publish function raises it, the client gets an ``error``
    with this code, text and details, and stays connected. The log gets no line, and the server does not count
    it as an error of the client. When an ``authenticate`` or ``on_connect`` function raises it, the client is
    refused with the text and close code 4500. In a stream or on a websocket path it is an error like any
    other.

    Attributes:
        code: for programs, 1 to 64 letters, digits and underscores. The codes of the protocol can't be used.
        message: for people.
        details: what ``orjson.dumps`` accepts; ``None`` for nothing. With the message at most 64 KiB of JSON.

    Example:
        >>> from umbel import Rejected
        >>> str(Rejected("conflict", "somebody was faster", details={"version": 7}))
        'somebody was faster'
    """

    def __init__(self, code: str, message: str = "", *, details: Any = None) -> None:
        """Check what the client will be told.

        Raises:
            TypeError: if the message or the details can't be encoded as JSON.
            ValueError: if the code has other characters, or is one of the protocol; if the details have an
                integer beyond 64 bits; if message and details have more than 64 KiB.
        """
        if not isinstance(message, str):
            raise TypeError(f"the message must be a str, not {type(message).__name__}")
        if not OWN_CODE.fullmatch(code):
            raise ValueError(f"{code!r} is not a code: use 1 to 64 letters, digits and underscores")
        if code in PROTOCOL_CODES:
            raise ValueError(f"{code!r} is a code of the protocol: use one of your own")
        super().__init__(message or code)
        self.code = code
        self.message = str(self)
        self.details = details
        size = len(encode(self.message)) + len(encode(details))
        if size > LONGEST_REJECTION:
            raise ValueError(
                f"message and details have {size} bytes of JSON, and an error at most {LONGEST_REJECTION}: "
                "send what is larger with client.send()"
            )


def check_close_code(code: int) -> None:
    """Check a close code of the application.

    Raises:
        ValueError: if only the server itself closes with this code.
    """
    if code in RESERVED_CODES:
        raise ValueError(f"close code {code} is reserved for Umbel: use another from 4504 to 4999")


RESERVED_CODES: Final = range(4501, 4504)

LONGEST_REJECTION: Final = 64 * 1024
"""Bytes of JSON. An error is no way to send data."""

OWN_CODE: Final = re.compile(r"[A-Za-z0-9_]{1,64}")

PROTOCOL_CODES: Final = frozenset([*(name for name, *_ in ERROR_CODES), "state_conflict"])  # later

INTERNAL: Final = 1011
TRY_LATER: Final = 1013
UNAUTHENTICATED: Final = 4401
TOO_MANY: Final = 4429
NOT_ALLOWED: Final = 4500
REVOKED: Final = 4501

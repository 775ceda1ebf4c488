"""The errors that applications see.

::

    UmbelError
    ├── ConfigurationError (also ValueError)   the application is declared wrongly
    ├── ConnectionClosed                       a websocket path's connection has ended
    ├── MaybePublished                         a publication's outcome is unknown
    ├── NotPublished                           a publication failed: nobody gets it
    └── Refused                                raised by the application to refuse a client

Wrong types and values raise the builtin ``TypeError`` and ``ValueError``, calls at the wrong time
``RuntimeError``.
"""

from typing import Final

from ._core import LONGEST_REASON
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


class MaybePublished(UmbelError):  # noqa: N818 - named as what it says of a publication
    """The broker can't tell what became of the publication.

    Subscribers may have it already, get it later, or never get it. Publishing it again may make a duplicate.
    """


class Refused(UmbelError):  # noqa: N818 - it is an outcome that the application states, not a failure
    """Raise this to refuse a client, with a reason that the client can read.

    Raised in an ``authenticate`` or ``on_connect`` function, the client gets an ``error`` and is closed with
    ``code``. Raised in the function of a websocket path, the connection is closed with ``code``. Raised in
    any other function, the client gets an ``error`` with code ``not_allowed`` and stays connected.

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
            ValueError: if the code is not one of these, or the reason is too long.
        """
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


def check_close_code(code: int) -> None:
    """Check a close code of the application.

    Raises:
        ValueError: if the code is kept for a later version of the protocol.
    """
    if code in RESERVED_CODES:
        raise ValueError(f"close code {code} is reserved for Umbel: use another from 4504 to 4999")


RESERVED_CODES: Final = range(4501, 4504)

UNAUTHENTICATED: Final = 4401
TOO_MANY: Final = 4429
NOT_ALLOWED: Final = 4500

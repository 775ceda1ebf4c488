"""The door to the client."""

import asyncio
import difflib
import inspect
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Any, Final
from urllib.parse import urlsplit, urlunsplit

from websockets.asyncio.client import connect as connect_websocket

from ._connection import Connection
from ._limits import Limits
from ._shell import Shell, Token
from ._state import State


class connect:  # noqa: N801 - it reads as what it does, as in the library below it
    """Connect to a server: ``async with connect(url) as umbel``.

    The block begins when the server has let the client in. Until then it tries on, so that a worker may be
    started before its server; put `asyncio.timeout` around it for a limit. When the block ends, the session
    ends, and no task or socket is left. A cancelled block ends in the same way.

    Args:
        url: ``ws://`` or ``wss://``, also written ``http://`` and ``https://``. Without a path it is ``/ws``.
        token: who the client is, for the application's ``authenticate`` function: a string, or a function,
            which may be async, that is called before each attempt and returns a new one when the last has
            expired. It may return ``None`` for no token.
        limits: of retries, of requests that wait, and of what is not read.
        on_state: called with each new `State`, in the thread of the event loop. What it raises is logged.
        options: what ``websockets.connect`` takes: ``additional_headers``, ``ssl``, ``proxy``, and so on.

    Raises:
        ConnectionClosed: when the block begins, if waiting is of no use: the server answers 401, 403, 404 or
            speaks another protocol, or has refused a token that is a string. ``__cause__`` is the error of
            the library.
        TypeError: if there is no such option, or the token is neither a str nor a function.
        ValueError: if the URL has another scheme.
    """

    def __init__(
        self,
        url: str,
        *,
        token: Token = None,
        limits: Limits | None = None,
        on_state: Callable[[State], None] | None = None,
        **options: Any,
    ) -> None:
        if not (token is None or isinstance(token, str) or callable(token)):
            raise TypeError(f"the token is a str or a function, not a {type(token).__name__}")
        check_options(options)
        self._arguments = (websocket_url(url), token, limits or Limits(), on_state, options)
        self._shell: Shell | None = None

    async def __aenter__(self) -> Connection:
        shell = self._shell = Shell(*self._arguments)
        try:
            await shell.start()
        except BaseException:
            await shell.stop()
            raise
        return Connection(shell)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._shell is not None
        await self._shell.stop()


def check_options(names: Iterable[str]) -> None:
    """Check the names of options. The library would complain in each attempt, and not where they are written.

    Raises:
        TypeError: if there is no such option. The message has the one that is meant, perhaps.
    """
    for name in names:
        if name not in OPTIONS:
            near = difflib.get_close_matches(name, OPTIONS, n=1)
            meant = f". Did you mean {near[0]}?" if near else ""
            raise TypeError(f"connect has no option {name!r}{meant}")


def websocket_url(url: str) -> str:
    """The URL of a server's WebSocket.

    Raises:
        ValueError: if it has another scheme.
    """
    parts = urlsplit(url)
    scheme = {"http": "ws", "https": "wss"}.get(parts.scheme, parts.scheme)
    if scheme not in ("ws", "wss") or not parts.netloc:
        raise ValueError(f"{url!r} is not the URL of a server: it begins with ws:// or wss://")
    path = "/ws" if parts.path in ("", "/") else parts.path
    return urlunsplit((scheme, parts.netloc, path, parts.query, parts.fragment))


OPTIONS: Final = frozenset(
    {
        *("token", "limits", "on_state", "unix"),
        *inspect.signature(connect_websocket.__init__).parameters,
        *inspect.signature(asyncio.AbstractEventLoop.create_connection).parameters,
        *inspect.signature(asyncio.AbstractEventLoop.create_unix_connection).parameters,
    }
)
"""Those of this client, of the library, and of the event loop, to which the library passes the rest."""

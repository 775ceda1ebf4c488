"""The application: what it declares, and the ways to serve it."""

from collections.abc import Callable
from typing import Any, NoReturn, Unpack, final

from orjson import Fragment, dumps, loads

from ._core import Core, Receipt
from ._declaring.decorators import Decorators
from ._declaring.settings import Options, Settings
from ._serving import lifetime
from ._serving.process import Process
from ._serving.server import Server
from .exceptions import ConfigurationError


@final
class Umbel(Decorators):
    """A real-time application.

    It is declared with decorators, once, before it is served: by ``run``, which blocks, or by ``serve``
    inside a running event loop. One application has one server at a time; after that one has stopped it may
    be served again.

    The functions may be ``async`` or not. One that is not runs on the event loop itself, so it must not wait.

    Attributes:
        settings: what the constructor was given, and the defaults for the rest.

    Example:
        >>> from umbel import Umbel
        >>> app = Umbel(tick=0.05)
        >>> news = app.channel("news:{topic}", open=True, history=100)
        >>> @app.on("ping")
        ... def ping(client, message):
        ...     return {"you_said": message.data}
    """

    def __init__(self, **settings: Unpack[Options]) -> None:
        """Make an application that declares nothing yet.

        Args:
            **settings: fields of `Settings`, which documents them.

        Raises:
            TypeError: if a setting does not exist or has the wrong type.
            ValueError: if a setting is out of range.
        """
        super().__init__(Settings(**settings))
        self._server: Server | None = None
        self._publish: Callable[[str, bytes, str | None], Receipt] = not_running

    # Publishing

    def publish(self, channel: str, data: Any, key: str | None = None) -> Receipt:
        """Append data to a channel; every subscriber gets them with its next batch.

        May be called from any thread. Publications of one thread keep their order. The call costs the same
        whatever the number of subscribers; they may get a gap instead when they fall behind further than the
        channel's history.

        Args:
            channel: its name, at most 255 bytes. A channel needs no creation.
            data: what ``orjson.dumps`` accepts, with its rules: NaN and infinities become ``null``.
                Ready-made JSON goes through unchanged as ``orjson.Fragment``. It is checked where it is all
                of the data; inside other data nobody looks at it, and one that is not JSON makes the whole
                batch unreadable for every subscriber.
            key: at most 255 bytes; in a channel with ``mode="latest"`` a reader that is behind gets only the
                newest of each key.

        Returns:
            A receipt: ``await`` gives the position in the channel's log. Nobody has to look at it. A broker
            in memory confirms at once, so that its ``position`` is known already.

        Raises:
            TypeError: if data are not JSON serialisable; nothing is published.
            ValueError: if the channel name is empty, too long or private to a client, if the data have more
                than 16 MiB or the key more than 255 bytes, or if the data are a fragment that is not JSON;
                nothing is published.
            RuntimeError: if the application is not being served.
        """
        text = dumps(data)
        if type(data) is Fragment:
            loads(text)
        return self._publish(channel, text, key)

    # Serving

    def serve(self, **settings: Unpack[Options]) -> Server:
        """Return a server for the running event loop: ``async with app.serve(port=0) as server``.

        Args:
            **settings: fields of `Settings` that differ from the application's.

        Raises:
            TypeError: if a setting does not exist or has the wrong type.
            ValueError: if a setting is out of range.
        """
        return Server(self, self.settings.replace(**settings))

    def run(self, *, uvloop: bool | None = None, **settings: Unpack[Options]) -> None:
        """Serve until SIGINT or SIGTERM, then stop gracefully; a second signal hastens the stop. Blocks.

        Signals are handled on the main thread only. When nobody has configured logging, the log goes to
        stderr, from a thread of its own: a reader that is stuck, a pipe that is closed or a full disk cost
        lines (``stats().log_lines_dropped``), and nobody waits for them. A handler of your own that blocks,
        blocks the event loop, and so does ``print``.

        Args:
            uvloop: use uvloop's event loop; by default if it is installed.
            **settings: fields of `Settings` that differ from the application's.

        Raises:
            ConfigurationError: if a declaration of the application is incomplete.
            OSError: if the address can't be bound.
            ValueError: if a setting is out of range, or the certificate or key can't be used.
            RuntimeError: if an event loop runs in this thread already, or the application is served already.
        """
        Process(self.serve(**settings), uvloop=uvloop).run()

    # Called by the server

    def _claim(self, server: Server) -> None:
        if self._server is not None:
            raise RuntimeError(
                "this application is served already; stop that server first, or make another application"
            )
        path = server.settings.websocket_path
        if self._declared.has_path(path):
            raise ConfigurationError(
                f"path {path!r} is the websocket_path of this server and of another declaration; change one"
            )
        self._server = server
        self._declared.served = True

    def _attach(self, core: Core) -> None:
        # Bound once: publish() is the hot path, and a check there would cost a tenth of it.
        self._publish = core.publish

    def _release(self, server: Server) -> None:
        if self._server is server:
            self._server = None
            self._declared.served = False
            self._publish = not_running

    def _forked(self) -> None:
        self._publish = lifetime.forked_core


def not_running(channel: str, data: bytes, key: str | None) -> NoReturn:
    """Takes the place of the core's ``publish`` while there is none.

    Raises:
        RuntimeError: always.
    """
    raise RuntimeError(
        "the application is not being served: publish after app.run() or app.serve() has started"
    )

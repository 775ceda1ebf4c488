"""The application: it declares, publishes, and is served."""

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

    First declare its functions with the decorators. Then serve it: with ``run``, which blocks, or with
    ``serve`` in a running event loop. An application has one server at a time. When that server has stopped,
    the application may be served again.

    All functions are called on one event loop. They may be ``async`` or not. A function that is not ``async``
    must not wait for anything, because the event loop waits with it.

    Attributes:
        settings: the settings that were given, with defaults for the others.

    Example:
        >>> from umbel import Umbel
        >>> app = Umbel(tick=0.05)
        >>> news = app.channel("news:{topic}", open=True, history=100)
        >>> @app.on("ping")
        ... def ping(client, message):
        ...     return {"you_said": message.data}
    """

    def __init__(self, **settings: Unpack[Options]) -> None:
        """Make an application without declarations.

        Args:
            **settings: fields of `Settings`.

        Raises:
            TypeError: if a setting does not exist or has the wrong type.
            ValueError: if a setting is out of range.
        """
        super().__init__(Settings(**settings))
        self._server: Server | None = None
        self._publish: Callable[[str, bytes, str | None], Receipt] = not_running

    # Publishing

    def publish(self, channel: str, data: Any, key: str | None = None) -> Receipt:
        """Append data to a channel. Every subscriber gets them with its next batch.

        May be called from any thread. Publications of one thread keep their order. The cost does not depend
        on the number of subscribers. A subscriber that is further behind than the history of the channel does
        not get the oldest publications, and is told which by a ``gap``.

        Args:
            channel: a name of 1 to 255 bytes. A channel need not be created.
            data: what ``orjson.dumps`` accepts. NaN and infinities become ``null``. ``orjson.Fragment``
                passes JSON text through as it is; the text is checked when the fragment is all of the data. A
                fragment inside other data is not checked: one that is not JSON makes the whole batch
                unreadable for every subscriber.
            key: at most 255 bytes. In a channel with ``mode="latest"``, a reader that is behind gets only the
                newest publication of each key.

        Returns:
            A receipt: ``await`` gives the position in the channel's log. You need not look at it. The broker
            in memory confirms at once: ``position`` is known when the call returns.

        Raises:
            TypeError: if the data can't be encoded as JSON. Nothing is published.
            ValueError: if the channel name is empty, too long, or begins with ``@`` or ``$``; if the data
                have more than 16 MiB or the key more than 255 bytes; or if the data are a fragment that is
                not JSON. Nothing is published.
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
            **settings: fields of `Settings` that replace those of the application.

        Raises:
            TypeError: if a setting does not exist or has the wrong type.
            ValueError: if a setting is out of range.
        """
        return Server(self, self.settings.replace(**settings))

    def run(self, *, uvloop: bool | None = None, **settings: Unpack[Options]) -> None:
        """Serve until SIGINT or SIGTERM, then stop gracefully. Blocks.

        The first signal begins the stop, which takes at most the setting ``drain``. A second signal ends it
        at once, a third ends the process. Signals are handled only when this is the main thread. A signal
        that is ignored when ``run`` begins stays ignored; a shell ignores SIGINT for jobs that a script
        starts in the background.

        When logging is not configured, the log goes to stderr. A thread of its own writes it, so that the
        server never waits for it: when nobody reads stderr or the disk is full, lines are dropped and counted
        in ``stats().log_lines_dropped``. A logging handler of your own that blocks also blocks the event
        loop. ``print`` does so, too.

        Args:
            uvloop: whether to use the event loop of uvloop; by default if it is installed.
            **settings: fields of `Settings` that replace those of the application.

        Raises:
            ConfigurationError: if a declaration of the application is incomplete.
            OSError: if the address can't be bound.
            ValueError: if a setting is out of range, or the certificate or key can't be used.
            TypeError: if a setting does not exist or has the wrong type.
            RuntimeError: if this thread runs an event loop, or the application is being served.
        """
        Process(self.serve(**settings), uvloop=uvloop).run()

    # Called by the server

    def _claim(self, server: Server) -> None:
        if self._server is not None:
            raise RuntimeError(
                "this application is being served; stop that server first, or make another application"
            )
        path = server.settings.websocket_path
        if self._declared.has_path(path):
            raise ConfigurationError(
                f"path {path!r} is the websocket_path of this server and is declared, too; change one"
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
    """Takes the place of the core's ``publish`` while there is no core.

    Raises:
        RuntimeError: always.
    """
    raise RuntimeError(
        "the application is not being served: publish after app.run() or app.serve() has started"
    )

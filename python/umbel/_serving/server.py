"""One running server: its start, its numbers, and its graceful stop."""

import asyncio
import logging
from collections.abc import Generator
from math import inf
from types import TracebackType
from typing import Any, Final, Protocol, Self, cast, final

from umbel._core import Core, Stats
from umbel._declaring.declarations import Declarations
from umbel._declaring.settings import Settings
from umbel._dispatching.dispatcher import Dispatcher
from umbel.exceptions import ConfigurationError

from . import lifetime, stderr
from .pages import all_pages, dashboard_pages

logger = logging.getLogger("umbel")


class Application(Protocol):
    """What a server needs of the application that it serves."""

    @property
    def _declared(self) -> Declarations:
        """What it declares."""

    def _claim(self, server: "Server") -> None:
        """Be served by this server, and by no other."""

    def _attach(self, core: Core, dispatcher: Dispatcher) -> None:
        """Publish to this core, and ask this dispatcher."""

    def _release(self, server: "Server") -> None:
        """Be served no longer."""

    def _forked(self) -> None:
        """Refuse to publish: this is a forked child."""


@final
class Server:
    """A server of an application. Use it as ``async with app.serve(…) as server``.

    The server listens from the beginning of the block to its end. Leaving the block stops it gracefully. A
    server is used once.

    ``stats`` and ``stop`` may be called from any thread, and ``stop`` from a signal handler, too. Enter the
    block and call ``wait_closed`` on the event loop.

    Attributes:
        settings: the settings of this server.
        addresses: where it listens, as ``http://127.0.0.1:8000`` or ``unix:/run/umbel.sock``. Empty before
            the start.
        admin_url: where the listener for operators is, as ``http://127.0.0.1:8001``; ``None`` without the
            setting ``admin``, and before the start.
    """

    def __init__(self, app: Application, settings: Settings) -> None:
        self.settings: Final = settings
        self.addresses: tuple[str, ...] = ()
        self.admin_url: str | None = None
        self._app = app
        self._core: Core | None = None
        self._last: Stats | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._dispatcher: Dispatcher | None = None
        self._closed: asyncio.Future[None] | None = None
        self._closing: asyncio.Task[None] | None = None
        self._overdue: asyncio.TimerHandle | None = None
        self._looking: asyncio.TimerHandle | None = None
        self._deadline = inf  # of the stop: the soonest that was asked for

    @property
    def url(self) -> str:
        """The first of the addresses: ``http://…``, ``https://…`` or ``unix:…``. Clients connect at its path
        ``/ws``, or another ``websocket_path``.

        Raises:
            RuntimeError: if the server was not started.
        """
        if not self.addresses:
            raise RuntimeError(
                "this server is not running: enter it with `async with app.serve(…) as server`"
            )
        return self.addresses[0]

    async def __aenter__(self) -> Self:
        """Listen, and begin to serve.

        Raises:
            ConfigurationError: if a declaration of the application is incomplete.
            OSError: if the address can't be bound.
            ValueError: if a setting is out of range, or the certificate or key can't be used.
            RuntimeError: if the application is being served, or this server was used before.
        """
        if self._closed is not None:
            raise RuntimeError("a server is used once: call app.serve() again for another one")
        self._app._claim(self)
        try:
            self._start()
        except BaseException:
            self._app._release(self)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop gracefully, within the setting ``drain``."""
        if isinstance(self._core, lifetime.ForkedCore):
            return  # a child leaves the block: the server is the parent's
        try:
            self.stop()
            await self.wait_closed()
        except asyncio.CancelledError:
            # The wait was cancelled, too: stop at once.
            self.stop(within=0)
            self._detach()
            raise

    def stats(self) -> Stats:
        """Return a snapshot of the server's counters. May be called from any thread.

        After the stop it returns the last snapshot.

        Raises:
            RuntimeError: if the server was never started.
        """
        if self._last is not None:
            return self._last
        if self._core is None:
            raise RuntimeError("this server is not running")
        return self._core.stats(lines_dropped())

    def stop(self, within: float | None = None) -> "Stopping":
        """Begin to stop gracefully. Returns at once; ``await server.stop()`` also waits for the end.

        The server accepts no more connections. Clients are told to come back later, get what waits for them,
        and are closed with 1012. Functions that run may end; runs and background tasks are cancelled.

        May be called from any thread and from a signal handler. A second call with a shorter time hastens the
        stop. After the stop, a call does nothing.

        Args:
            within: seconds that the stop may take; by default the setting ``drain``.
        """
        core, loop = self._core, self._loop
        if core is None or loop is None or self._last is not None:
            return Stopping(self)
        seconds = self.settings.drain if within is None else within
        core.stop(seconds)
        if not loop.is_closed():
            loop.call_soon_threadsafe(self._watch, seconds)
        return Stopping(self)

    def reread_certificate(self) -> bool:
        """Read the certificate and its key again, for new connections.

        The server does so by itself when the files change, and on SIGHUP in ``app.run`` and ``umbel run``.
        The log says whether they can be used; if not, those before are kept. May be called from any thread
        and from a signal handler. Blocks while files are read.

        Returns:
            Whether there is a certificate: ``False`` without TLS, and when the server is not running.
        """
        return self._core is not None and self._last is None and self._core.reread_certificate()

    async def wait_closed(self) -> None:
        """Wait until the server has stopped. This does not stop it: call `stop`, or leave the block.

        Raises:
            RuntimeError: if the server was never started.
        """
        if self._closed is None:
            raise RuntimeError("this server is not running")
        await asyncio.shield(self._closed)

    def __repr__(self) -> str:
        where = ", ".join(self.addresses) or "not started"
        return f"<Server {'stopped' if self._last is not None else where}>"

    def _forked(self) -> None:
        if self._looking is not None:
            self._looking.cancel()
        inert = cast(Core, lifetime.ForkedCore())
        self._core = inert
        if self._dispatcher is not None:
            self._dispatcher.forked(inert)
        self._app._forked()

    def _start(self) -> None:
        loop = self._loop = asyncio.get_running_loop()
        if logger.disabled:
            logger.disabled = False
            logger.warning(
                "logging was configured with disable_existing_loggers, which switched this logger off; "
                "it is on again"
            )
        declared = self._app._declared
        auth = declared.auth
        if self.settings.resume == "authenticate" and declared.authenticate is None and auth is None:
            raise ConfigurationError(
                'resume="authenticate" asks the authenticate function, and the application has none: '
                "declare one with @app.authenticate, or use auth=JWT(…)"
            )
        if auth is not None and auth._cookie is not None and self.settings.origins == "*":
            raise ConfigurationError(
                'origins="*" lets pages of every site connect with the cookie of JWT(cookie=…), in the name '
                "of whoever looks at them: list the origins of your own pages, or drop one of the two"
            )
        if auth is None and declared.authenticate is None and any(rule.claims for rule in declared.channels):
            raise ConfigurationError(
                "channels are declared with claims=True, and no client has claims: use auth=JWT(…), or "
                "declare an authenticate function"
            )
        if self.settings.proxy_header == "forwarded" and not self.settings.trusted_proxies:
            raise ConfigurationError(
                "proxy_header has no effect without trusted_proxies: name the addresses of your proxies"
            )
        if self.settings.ticket_path is not None and auth is None and declared.authenticate is None:
            raise ConfigurationError(
                "ticket_path gives tickets to those who say who they are, and this application asks nobody: "
                "use auth=JWT(…), or declare an authenticate function"
            )
        pages = all_pages(declared.pages, with_client=self.settings.serve_client)
        if self.settings.dashboard:
            pages |= dashboard_pages()
        config = declared.config()
        core = Core(self.settings.to_json(**config), pages, auth and auth._verifier)
        dispatcher = Dispatcher(core, declared, self.settings, loop, self._stopped, self.stop, lines_dropped)
        self.addresses = tuple(core.start())
        self.admin_url = core.admin_url()
        self._core, self._dispatcher = core, dispatcher
        self._closed = loop.create_future()
        lifetime.alive.add(self)
        if auth is not None and auth._by_url is not None:
            auth._by_url.begin(core.keys_settled)
        loop.add_reader(core.fileno(), dispatcher.drain)
        self._look()
        self._app._attach(core, dispatcher)
        dispatcher.start_backgrounds()
        if self.admin_url:
            logger.info("metrics at %s/metrics", self.admin_url)
            if self.settings.dashboard:
                logger.info("dashboard at %s/dashboard", self.admin_url)
        for address in self.addresses:
            logger.info("listening on %s", address)
            if not logger.hasHandlers():
                stderr.handler().write(f"listening on {address}")

    def _look(self) -> None:
        """Tell the core whether DEBUG is wanted. The application may change that at any time."""
        assert self._core is not None
        assert self._loop is not None
        assert self._dispatcher is not None
        self._dispatcher.note_functions()
        self._core.set_debug(logger.isEnabledFor(logging.DEBUG))
        self._looking = self._loop.call_later(LOOK_INTERVAL, self._look)

    def _watch(self, seconds: float) -> None:
        """Set the time at which the stop is over, even if the core does not answer."""
        assert self._loop is not None
        assert self._dispatcher is not None
        deadline = self._loop.time() + seconds
        if deadline >= self._deadline:
            return
        self._deadline = deadline
        if self._closing is not None:
            self._dispatcher.hasten(seconds)
            return
        if self._overdue is not None:
            self._overdue.cancel()
        self._overdue = self._loop.call_at(self._deadline + OVERDUE, self._give_up)

    def _give_up(self) -> None:
        logger.error("the core did not stop in time; the server stops without it")
        self._stopped()

    def _stopped(self) -> None:
        """Called at the core's last event: every shard has ended."""
        assert self._loop is not None
        if self._closing is None:
            self._closing = self._loop.create_task(self._close())

    async def _close(self) -> None:
        assert self._loop is not None
        assert self._dispatcher is not None
        assert self._closed is not None
        if self._overdue is not None:
            self._overdue.cancel()
        now = self._loop.time()
        # A core that stopped by itself was given no time: functions get that of the setting.
        self._deadline = min(self._deadline, now + self.settings.drain)
        try:
            await self._dispatcher.shutdown(max(0.0, self._deadline - now))
        finally:
            self._detach()
            if not self._closed.done():
                self._closed.set_result(None)
            logger.info("stopped")

    def _detach(self) -> None:
        """Let go of the core and the application."""
        core = self._core
        if core is None or self._last is not None or self._loop is None:
            return
        self._last = core.stats(lines_dropped())
        auth = self._app._declared.auth
        if auth is not None and auth._by_url is not None:
            auth._by_url.end(core.keys_settled)
        if self._looking is not None:
            self._looking.cancel()
        if not self._loop.is_closed():
            self._loop.remove_reader(core.fileno())
        self._app._release(self)
        if core.join(JOIN_TIME):
            lifetime.alive.discard(self)


class Stopping:
    """A stop that has begun. Awaiting it waits for the end, on the event loop of the server."""

    __slots__ = ("_server",)

    def __init__(self, server: Server) -> None:
        self._server = server

    def __await__(self) -> Generator[Any, None, None]:
        return self._server.wait_closed().__await__()


LOOK_INTERVAL: Final = 1.0
"""Seconds after which another level of the log has its effect in the core."""


def lines_dropped() -> int:
    """Return how many lines of the log were dropped in this process."""
    return stderr.handler().dropped


OVERDUE: Final = 2.0
"""Seconds after the time of a stop, when the server no longer waits for a core that does not answer."""

JOIN_TIME: Final = 0.2
"""Seconds for which the event loop waits for the threads of the core. After STOPPED they have ended."""

"""A process that only serves: event loop, signals, logging, file descriptors."""

import asyncio
import errno
import importlib
import logging
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, ClassVar, Final

from umbel.exceptions import ConfigurationError

from . import stderr
from .server import Server

logger = logging.getLogger("umbel")


class Process:
    """Serves in the calling thread until a signal or ``server.stop()``.

    Attributes:
        importing: the command is importing the application. It serves it afterwards, so nothing else may.
    """

    importing: ClassVar[bool] = False

    def __init__(
        self,
        server: Server,
        *,
        uvloop: bool | None = None,
        log_format: stderr.LogFormat | None = None,
        listening: Callable[[Server], None] = lambda server: None,
    ) -> None:
        """Prepare.

        Args:
            server: the server; it is used once.
            uvloop: whether to use uvloop; ``None`` to use it if it is installed.
            log_format: how the log looks; ``None`` for text, or what the application has configured.
            listening: called once, when the server listens.
        """
        self._server = server
        self._uvloop = uvloop
        self._log_format = log_format
        self._listening = listening
        self._signals = 0
        self._before: dict[signal.Signals, Any] = {}  # handlers of others, to be put back
        self._has_terminal = False

    def run(self) -> None:
        """Serve. Blocks until the server has stopped.

        Raises:
            ConfigurationError: if a format of the log is wanted, and the application has configured logging.
            OSError: if the address can't be bound, or there are too few file descriptors.
            RuntimeError: if an event loop runs in this thread already.
        """
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            pass
        else:
            raise RuntimeError("an event loop is running in this thread: use `async with app.serve(…)` there")
        configure_logging(self._log_format)
        raise_descriptors(self._server.settings.max_connections)
        check_descriptors()
        factory = loop_factory(self._uvloop)
        try:
            with self._handled(), last_resort(), asyncio.Runner(loop_factory=factory) as runner:
                runner.run(self._serve())
        finally:
            stderr.handler().flush()

    async def _serve(self) -> None:
        with woken_by_signals(asyncio.get_running_loop()):
            async with self._server as server:
                self._listening(server)
                if self._signals:  # one came before there was anything to stop
                    server.stop()
                await server.wait_closed()

    @contextmanager
    def _handled(self) -> Iterator[None]:
        """Handle signals by plain handlers, not the loop's: they run even while a function blocks the loop.

        A signal that is ignored stays ignored. A shell ignores SIGINT for a job that a script runs in the
        background, so that Ctrl-C does not end it; nohup ignores SIGHUP. A handler that the application has
        for SIGHUP stays, too.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        handled = [number for number in SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
        self._before = {number: signal.signal(number, self._signalled) for number in handled}
        if signal.getsignal(signal.SIGHUP) is signal.SIG_DFL:
            self._has_terminal = terminal_error() == 0
            self._before[signal.SIGHUP] = signal.signal(signal.SIGHUP, self._hung_up)
        try:
            yield
        finally:
            for number, handler in self._before.items():
                signal.signal(number, handler)

    def _signalled(self, number: int, frame: FrameType | None) -> None:
        self._signals += 1
        if self._signals == 1:
            self._server.stop()  # first: a log that blocks must not keep the server from stopping
            logger.info("%s: stopping within %g s", signal.Signals(number).name, self._server.settings.drain)
        else:
            self._server.stop(within=0)
            for other in self._before:  # a third one ends the process, whatever hangs
                signal.signal(other, signal.SIG_DFL)

    def _hung_up(self, number: int, frame: FrameType | None) -> None:
        """Read the certificate again. A terminal that is closed sends SIGHUP, too: then stop."""
        if self._has_terminal and terminal_error() in (errno.EIO, errno.ENXIO):
            self._signalled(number, frame)
        elif not self._server.reread_certificate():
            logger.info("SIGHUP: no certificate is served, so none was read again")


@contextmanager
def importing() -> Iterator[None]:
    """Let applications that call ``run`` while they are imported go on without serving."""
    Process.importing = True
    try:
        yield
    finally:
        Process.importing = False


@contextmanager
def woken_by_signals(loop: asyncio.AbstractEventLoop) -> Iterator[None]:
    """Wake a loop for signals.

    Without this, a signal that another thread gets, or that comes just before the loop sleeps, would be
    handled at the next event. There may be none.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    reader, writer = socket.socketpair()
    with reader, writer:
        reader.setblocking(False)
        writer.setblocking(False)
        before = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
        if before != -1:  # uvloop wakes itself
            signal.set_wakeup_fd(before)
        loop.add_reader(reader, reader.recv, 4096)
        try:
            yield
        finally:
            loop.remove_reader(reader)
            signal.set_wakeup_fd(before)


def terminal_error() -> int:
    """Return 0 when this process has a terminal, or the number of the error that opening it gives."""
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except OSError as error:
        return error.errno or errno.ENXIO
    return 0


def loop_factory(wanted: bool | None) -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Return the function that makes the event loop; ``None`` for that of asyncio.

    Raises:
        RuntimeError: if uvloop is wanted and not installed.
    """
    if wanted is False:
        return None
    try:
        module: Any = importlib.import_module("uvloop")
    except ImportError as error:
        if wanted:
            raise RuntimeError("uvloop is not installed: pip install 'umbel[uvloop]'") from error
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = module.new_event_loop
    return factory


def configure_logging(form: stderr.LogFormat | None = None) -> None:
    """Send the log to stderr, unless the application has configured logging.

    Raises:
        ConfigurationError: if it has, and a format is wanted: its own handlers write the log.
    """
    is_ours = not logger.hasHandlers() or stderr.handler() in logger.handlers
    if form is not None and not is_ours:
        raise ConfigurationError(
            f"the application configures logging itself, so log_format={form!r} has no effect: give "
            "umbel.logs.JsonFormatter() to its handler, or let it configure no logging"
        )
    if is_ours:
        stderr.handler().use(form or "text")
    if not logger.hasHandlers():
        logger.addHandler(stderr.handler())
        if logger.level == logging.NOTSET:
            logger.setLevel(logging.INFO)


@contextmanager
def last_resort() -> Iterator[None]:
    """When the log goes to stderr, send records without a handler there, too: asyncio's warnings, say."""
    before = logging.lastResort
    if stderr.handler() in logger.handlers:
        logging.lastResort = LastResort(logging.WARNING)
    try:
        yield
    finally:
        logging.lastResort = before


class LastResort(logging.Handler):
    """Handles records as those of Umbel are handled."""

    def emit(self, record: logging.LogRecord) -> None:
        stderr.handler().handle(record)


def raise_descriptors(connections: int) -> None:
    """Raise the soft limit of file descriptors to the hard one. Warn if there are fewer than connections."""
    try:
        import resource
    except ImportError:  # not on Windows
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard == resource.RLIM_INFINITY:
        hard = max(soft, connections + SPARE_DESCRIPTORS)
    if soft < hard:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
            soft = hard
        except (ValueError, OSError) as error:
            logger.warning("the limit of file descriptors stays at %d: %s", soft, error)
    if soft < connections:
        logger.warning(
            "this process may open %d files, enough for about %d connections, not for max_connections=%d: "
            "raise the hard limit (ulimit -Hn, or LimitNOFILE= in a systemd unit), or lower max_connections",
            soft,
            max(0, soft - SPARE_DESCRIPTORS),
            connections,
        )


def check_descriptors() -> None:
    """Open as many files as an event loop needs. With fewer it fails halfway, with errors that do not say
    why.

    Raises:
        OSError: if the process may not open so many.
    """
    opened: list[int] = []
    try:
        while len(opened) < LOOP_DESCRIPTORS:
            opened.append(os.open(os.devnull, os.O_RDONLY))
    finally:
        for descriptor in opened:
            os.close(descriptor)


SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)

SPARE_DESCRIPTORS: Final = 64
"""Descriptors that are not connections: listeners, event loops, files of the application."""

LOOP_DESCRIPTORS: Final = 12
"""uvloop needs 8, and signals come through 2 more."""

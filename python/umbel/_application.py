"""The application: what it declares, and the ways to serve it."""

from __future__ import annotations

import mimetypes
from collections.abc import Callable
from os import PathLike
from pathlib import Path
from typing import Any, Literal, NoReturn, TypeVar, Unpack, final

from orjson import Fragment, dumps, loads

from ._core import Core, Position
from ._declaring.functions import check_async_generator, check_coroutine_function, check_function, check_name
from ._declaring.patterns import parameters
from ._declaring.routes import (
    Authenticate,
    Background,
    ChannelRule,
    Connect,
    Disconnect,
    Guard,
    Handler,
    Routes,
    Stream,
    StreamRoute,
    WebSocketHandler,
    WebSocketRoute,
)
from ._declaring.settings import Options, Settings
from ._serving import lifetime
from ._serving.process import Process
from ._serving.server import Server
from .exceptions import ConfigurationError

A = TypeVar("A", bound=Authenticate)
B = TypeVar("B", bound=Background)
C = TypeVar("C", bound=Connect)
D = TypeVar("D", bound=Disconnect)
G = TypeVar("G", bound=Guard)
H = TypeVar("H", bound=Handler)
S = TypeVar("S", bound=Stream)
W = TypeVar("W", bound=WebSocketHandler)


@final
class Umbel:
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
        self.settings = Settings(**settings)
        self._routes = Routes()
        self._server: Server | None = None
        self._publish: Callable[[str, bytes, str | None], Position] = not_running

    # Publishing

    def publish(self, channel: str, data: Any, key: str | None = None) -> Position:
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
            The position in the channel's log.

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

    # Declarations

    def authenticate(self, function: A) -> A:
        """Declare the function that says who a client is: ``async def f(request) -> Identity | str | Mapping
        | None``.

        It is asked once per connection, before anything else, for websocket paths too. A ``str`` is the
        subject of the identity, a mapping its claims, the subject being ``sub``. ``None`` refuses with close
        code 4401; so does raising `Refused`, with a code and a reason. Without such a function everybody is
        let in, anonymously.

        Raises:
            ConfigurationError: if there is one already, or the function does not fit.
        """
        self._declare(self._routes.authenticate, "authenticate")
        check_function(function, "the authenticate function", ("request",))
        self._routes.authenticate = function
        return function

    def on_connect(self, function: C) -> C:
        """Declare the function that is called for each client that was let in: ``f(client)``.

        The client's messages wait for its end. Raising `Refused` closes the client.

        Raises:
            ConfigurationError: if there is one already, or the function does not fit.
        """
        self._declare(self._routes.connect, "on_connect")
        check_function(function, "the on_connect function", ("client",))
        self._routes.connect = function
        return function

    def on_disconnect(self, function: D) -> D:
        """Declare the function that is called once for each client that has left: ``f(client, code,
        reason)``.

        It is called for clients whose ``on_connect`` ended well, after its end, and after the functions for
        all that the client sent have started; what a client had sent that ``client.close`` closes is dropped.

        Raises:
            ConfigurationError: if there is one already, or the function does not fit.
        """
        self._declare(self._routes.disconnect, "on_disconnect")
        check_function(function, "the on_disconnect function", ("client", "code", "reason"))
        self._routes.disconnect = function
        return function

    def channel(
        self,
        pattern: str,
        *,
        open: bool = False,
        publish: bool | Guard = False,
        history: int = 1000,
        history_bytes: int = 1 << 20,
        history_seconds: float = 300.0,
        mode: Literal["all", "latest"] = "all",
        overrun: Literal["gap", "close"] = "gap",
        compress: bool = True,
    ) -> Callable[[G], G]:
        """Declare the channels whose names fit a pattern, and who may subscribe.

        As a decorator, on ``f(client, <parameters>) -> bool``, it asks that function for every subscription;
        with ``open=True`` it is a plain call, and everybody may subscribe. The first pattern that fits a
        name counts.

        Args:
            pattern: a name with parameters. ``{x}`` stands for one or more characters other than ``:``,
                ``{x:path}`` for anything.
            open: let every client subscribe, without asking Python.
            publish: let every client publish (``True``), none (``False``), or those for which the function
                ``f(client, <parameters>, data) -> bool`` says so.
            history: publications that are kept for readers that are behind. More cost memory per channel,
                fewer turn slow readers into gaps sooner. The newest one is always kept. All readers are
                behind between two ticks: leave room for what is published in a few of them, else a burst
                gives also the fastest reader a gap, or closes it with ``overrun="close"``.
            history_bytes: bytes of data that are kept, with the same advice: two publications of 600 kB in
                one tick do not fit into 1 MiB.
            history_seconds: seconds for which publications are kept, at least 1.
            mode: ``"latest"`` lets a reader that is behind skip to the newest publication of each key.
            overrun: what a reader gets that falls further behind than the history: a ``gap`` message, or
                close code 4413.
            compress: ``False`` never compresses these publications. For channels in which a secret stands
                beside text that others choose: whoever sees the lengths on the wire could guess at it
                (BREACH). A channel is never compressed together with another one.

        Returns:
            The decorator; calling it is optional with ``open=True``.

        Raises:
            ConfigurationError: if an argument does not fit.
            TypeError: if the pattern is no text.
        """
        check_name(pattern, "channel", "name:{parameter}")
        rule = ChannelRule(
            pattern=pattern,
            open=open,
            publish=publish,
            history=history,
            history_bytes=history_bytes,
            history_seconds=history_seconds,
            mode=mode,
            overrun=overrun,
            compress=compress,
        )
        self._declare()
        self._routes.channels.append(rule)

        def decorate(function: G) -> G:
            rule.decide(function)
            return function

        return decorate

    def on(self, type: str) -> Callable[[H], H]:
        """Declare the function that handles messages of a type: ``f(client, message)``.

        What it returns goes back as ``{"type": "<type>_result", "id": …, "data": …}``: always when the
        message has an ``id``, else when it is not ``None``. When it raises, the client gets an ``error`` and
        the log the traceback.

        Raises:
            ConfigurationError: if the type already has a function or belongs to the protocol, or the
                function does not fit.
            TypeError: if the type is no text.
        """
        check_name(type, "on", "type")
        self._declare()
        self._routes.claim_type(type)

        def decorate(function: H) -> H:
            check_function(function, f"the handler of {type!r}", ("client", "message"))
            self._routes.claim_type(type)
            self._routes.handlers[type] = function
            return function

        return decorate

    def stream(self, type: str, *, cancel_on_disconnect: bool = False) -> Callable[[S], S]:
        """Declare the async generator that answers messages of a type with a run: ``async def f(run,
        message)``.

        It yields ``str``. What it yields appears in the channel ``run:<id>``, to which the sender is
        subscribed first: ``ai_response_start``, chunks (the first at once, later ones gathered per tick) and
        ``ai_response_end`` with ``status`` ``complete``, ``cancelled`` or ``error``. ``ai_cancel`` with
        ``runId`` cancels it, from its starter. The channel may be read by its starter alone, unless the
        application declares ``run:{run_id}`` itself.

        Args:
            type: the type of message.
            cancel_on_disconnect: cancel the run when its starter leaves. By default it goes on.

        Raises:
            ConfigurationError: if the type already has a function, or the function is not an async generator.
            TypeError: if the type is no text.
        """
        check_name(type, "stream", "type")
        self._declare()
        self._routes.claim_type(type)

        def decorate(function: S) -> S:
            check_async_generator(function, f"the stream of {type!r}", ("run", "message"))
            if "ai_cancel" in self._routes.handlers:
                raise ConfigurationError(
                    "messages of type 'ai_cancel' belong to streams; rename that handler"
                )
            self._routes.claim_type(type)
            self._routes.streams[type] = StreamRoute(function, cancel_on_disconnect)
            return function

        return decorate

    def websocket(self, path: str) -> Callable[[W], W]:
        """Declare a path with a protocol of its own: ``async def f(websocket, <parameters>)``.

        The connection is closed when the function ends: with 1000, or with 1011 when it raised. There are
        no subprotocols on these paths yet: one that a client offers is not chosen.

        Args:
            path: ``{x}`` stands for one or more characters other than ``/``, ``{x:path}`` for anything.

        Raises:
            ConfigurationError: if the path is taken or the function does not fit.
            TypeError: if the path is no text.
        """
        check_name(path, "websocket", "/path")
        self._declare()
        names = parameters(path)
        self._routes.claim_path(path, self.settings.websocket_path)

        def decorate(function: W) -> W:
            check_coroutine_function(function, f"the function of path {path!r}", ("websocket",), names)
            self._routes.claim_path(path, self.settings.websocket_path)
            self._routes.websockets.append(WebSocketRoute(path, function, names))
            return function

        return decorate

    def page(self, path: str, body: str | bytes | PathLike[str], content_type: str | None = None) -> None:
        """Declare a fixed answer to ``GET``. The core answers without waking Python.

        Args:
            path: without parameters.
            body: text or bytes to answer with, or the path of a file (a ``Path``, not a ``str``), which is
                read now.
            content_type: by default what the file's name says, ``text/html`` for text.

        Raises:
            ConfigurationError: if the path is taken, or the content type can't stand in a header.
            OSError: if the file can't be read.
        """
        self._declare()
        self._routes.claim_path(path, self.settings.websocket_path)
        if content_type is not None and not (content_type.isascii() and content_type.isprintable()):
            raise ConfigurationError(f"content type {content_type!r} must be printable ASCII")
        if isinstance(body, str):
            kind, data = "text/html; charset=utf-8", body.encode()
        elif isinstance(body, PathLike):
            file = Path(body)
            kind, data = mimetypes.guess_type(file.name)[0] or "application/octet-stream", file.read_bytes()
            kind += "; charset=utf-8" if kind.startswith("text/") else ""
        else:
            kind, data = "application/octet-stream", bytes(body)
        self._routes.pages[path] = content_type or kind, data

    def background(self, function: B) -> B:
        """Declare a coroutine function without arguments that runs while the application is served.

        It is started when the server listens and cancelled when it stops. When it raises, the log has the
        traceback and the server goes on.

        Raises:
            ConfigurationError: if it is not a coroutine function.
        """
        self._declare()
        check_coroutine_function(function, "a background task", ())
        self._routes.backgrounds.append(function)
        return function

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

    def _declare(self, taken: object = None, name: str = "") -> None:
        if taken is not None:
            raise ConfigurationError(f"the application already has a function for {name}")
        if self._server is not None:
            raise RuntimeError("the application is being served; declare everything before that")

    def _claim(self, server: Server) -> None:
        if self._server is not None:
            raise RuntimeError(
                "this application is served already; stop that server first, or make another application"
            )
        path = server.settings.websocket_path
        if path in self._routes.pages or any(path == route.pattern for route in self._routes.websockets):
            raise ConfigurationError(
                f"path {path!r} is the websocket_path of this server and of another declaration; change one"
            )
        self._server = server

    def _attach(self, core: Core) -> None:
        # Bound once: publish() is the hot path, and a check there would cost a tenth of it.
        self._publish = core.publish

    def _release(self, server: Server) -> None:
        if self._server is server:
            self._server = None
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

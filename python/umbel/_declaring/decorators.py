"""The decorators with which an application declares its functions."""

import mimetypes
from collections.abc import Callable
from os import PathLike
from pathlib import Path
from typing import Literal, TypeVar

from umbel.exceptions import ConfigurationError

from .declarations import (
    Authenticate,
    Background,
    Connect,
    Declarations,
    Disconnect,
    Handler,
    Stream,
    StreamRule,
    WebSocketHandler,
    WebSocketRoute,
)
from .functions import check_async_generator, check_coroutine_function, check_function, check_name
from .patterns import parameters
from .rules import ChannelRule, Guard
from .settings import Settings

A = TypeVar("A", bound=Authenticate)
B = TypeVar("B", bound=Background)
C = TypeVar("C", bound=Connect)
D = TypeVar("D", bound=Disconnect)
G = TypeVar("G", bound=Guard)
H = TypeVar("H", bound=Handler)
S = TypeVar("S", bound=Stream)
W = TypeVar("W", bound=WebSocketHandler)


class Decorators:
    """Fill the declarations of an application. Each refuses a mistake at the line that makes it."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._declared = Declarations()

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
        self._declared.check(self._declared.authenticate, "authenticate")
        check_function(function, "the authenticate function", ("request",))
        self._declared.authenticate = function
        return function

    def on_connect(self, function: C) -> C:
        """Declare the function that is called for each client that was let in: ``f(client)``.

        The client's messages wait for its end. Raising `Refused` closes the client.

        Raises:
            ConfigurationError: if there is one already, or the function does not fit.
        """
        self._declared.check(self._declared.connect, "on_connect")
        check_function(function, "the on_connect function", ("client",))
        self._declared.connect = function
        return function

    def on_disconnect(self, function: D) -> D:
        """Declare the function that is called once for each client that has left: ``f(client, code,
        reason)``.

        It is called for clients whose ``on_connect`` ended well, after its end, and after the functions for
        all that the client sent have started; what a client had sent that ``client.close`` closes is dropped.

        Raises:
            ConfigurationError: if there is one already, or the function does not fit.
        """
        self._declared.check(self._declared.disconnect, "on_disconnect")
        check_function(function, "the on_disconnect function", ("client", "code", "reason"))
        self._declared.disconnect = function
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
        self._declared.check()
        self._declared.channels.append(rule)

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
        self._declared.check()
        self._declared.claim_type(type)

        def decorate(function: H) -> H:
            check_function(function, f"the handler of {type!r}", ("client", "message"))
            self._declared.claim_type(type)
            self._declared.handlers[type] = function
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
        self._declared.check()
        self._declared.claim_type(type)

        def decorate(function: S) -> S:
            check_async_generator(function, f"the stream of {type!r}", ("run", "message"))
            if "ai_cancel" in self._declared.handlers:
                raise ConfigurationError(
                    "messages of type 'ai_cancel' belong to streams; rename that handler"
                )
            self._declared.claim_type(type)
            self._declared.streams[type] = StreamRule(function, cancel_on_disconnect)
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
        self._declared.check()
        names = parameters(path)
        self._declared.claim_path(path, self.settings.websocket_path)

        def decorate(function: W) -> W:
            check_coroutine_function(function, f"the function of path {path!r}", ("websocket",), names)
            self._declared.claim_path(path, self.settings.websocket_path)
            self._declared.websockets.append(WebSocketRoute(path, function, names))
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
        self._declared.check()
        self._declared.claim_path(path, self.settings.websocket_path)
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
        self._declared.pages[path] = content_type or kind, data

    def background(self, function: B) -> B:
        """Declare a coroutine function without arguments that runs while the application is served.

        It is started when the server listens and cancelled when it stops. When it raises, the log has the
        traceback and the server goes on.

        Raises:
            ConfigurationError: if it is not a coroutine function.
        """
        self._declared.check()
        check_coroutine_function(function, "a background task", ())
        self._declared.backgrounds.append(function)
        return function

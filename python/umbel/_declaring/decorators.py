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
    """What an application is declared with. A mistake is refused at the line that makes it."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._declared = Declarations()

    def authenticate(self, function: A) -> A:
        """Declare the function that says who a client is: ``f(request)``.

        It is called once for each connection, before any other function, on websocket paths too. It returns

        - an `Identity`;
        - a ``str``, the subject of the identity;
        - a mapping, the claims of the identity; the claim ``sub`` is the subject;
        - ``None`` to refuse the client with close code 4401.

        It may also raise `Refused`, with a close code and a reason. Without an authenticate function every
        client is let in and is anonymous.

        A connection that is not let in within the setting ``handshake_timeout`` is closed. The time begins
        when the server accepts the connection, so the time for the request counts too.

        Raises:
            ConfigurationError: if there is an authenticate function already, or the function does not fit.
            RuntimeError: if the application is being served.
        """
        self._declared.check(self._declared.authenticate, "authenticate")
        check_function(function, "the authenticate function", ("request",))
        self._declared.authenticate = function
        return function

    def on_connect(self, function: C) -> C:
        """Declare the function that is called for each client that was let in: ``f(client)``.

        No message of the client is handled before this function has ended. When it raises `Refused`, the
        client is closed with that code and reason. When it raises another error, or takes longer than the
        setting ``handler_timeout``, the client is closed with 1011.

        Raises:
            ConfigurationError: if there is an on_connect function already, or the function does not fit.
            RuntimeError: if the application is being served.
        """
        self._declared.check(self._declared.connect, "on_connect")
        check_function(function, "the on_connect function", ("client",))
        self._declared.connect = function
        return function

    def on_disconnect(self, function: D) -> D:
        """Declare the function that is called when a client has left: ``f(client, code, reason)``.

        It is called once for each client, after ``on_connect`` succeeded, and after a function was started
        for each message that the client sent. Those functions may still run. A client that was refused, or
        whose ``on_connect`` failed, gets no call.

        When the application closes a client with ``client.close()``, messages of the client that wait are
        dropped, and this function is called without them.

        Raises:
            ConfigurationError: if there is an on_disconnect function already, or the function does not fit.
            RuntimeError: if the application is being served.
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
        """Declare the channels whose names match a pattern, and who may subscribe.

        Use it as a decorator on a function ``f(client, <parameters>)``. The function is called for every
        subscription and returns ``True`` or ``False``, or raises `Refused` with a reason. With ``open=True``
        it is a plain call: every client may subscribe, and no function is called. When several patterns match
        a name, the one that was declared first counts.

        The function counts among the ``max_running`` functions of its client. When it takes longer than
        ``handler_timeout``, the client gets an ``error`` with code ``timeout``. Both are `Settings`.

        Args:
            pattern: a name with parameters. ``{x}`` matches one or more characters other than ``:``,
                ``{x:path}`` matches anything. Names that begin with ``@`` or ``$`` belong to Umbel.
            open: every client may subscribe. No function is called.
            publish: which clients may publish: all (``True``), none (``False``), or those for which the
                function ``f(client, <parameters>, data)`` returns ``True``. The application itself always
                may.
            history: how many publications the channel keeps for readers that are behind. A larger history
                costs memory for each channel. With a smaller one, slow readers get a ``gap`` sooner. The
                newest publication is always kept. Between two ticks every reader is behind, so leave room for
                what is published in a few ticks. Otherwise a burst gives even the fastest reader a ``gap``.
            history_bytes: how many bytes of data the channel keeps. The same advice applies: two publications
                of 600 kB in one tick do not fit into 1 MiB.
            history_seconds: how many seconds the channel keeps a publication, at least 1.
            mode: ``"all"`` delivers every publication. With ``"latest"``, a reader that is behind gets only
                the newest publication of each key.
            overrun: what happens to a reader that is further behind than the history: ``"gap"`` sends a
                ``gap`` message, ``"close"`` closes with 4413.
            compress: ``False`` sends these publications uncompressed. Use it for a channel that carries a
                secret next to text that others choose: the length of a compressed frame would tell an
                observer about the secret (BREACH). Two channels are never compressed together.

        Returns:
            The decorator. With ``open=True`` it need not be used.

        Raises:
            ConfigurationError: if an argument does not fit.
            RuntimeError: if the application is being served.
            TypeError: if the pattern is not a str.
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

        The client gets what the function returns, as ``{"type": "<type>_result", "id": …, "data": …}``. A
        message without ``id`` whose function returns ``None`` gets no reply. When the function raises
        `Refused`, the client gets an ``error`` with code ``not_allowed`` and the reason. When it raises
        another error, the client gets an ``error`` with code ``internal``, and the log has the traceback.

        Functions of one client are started in the order of its messages. Up to ``max_running`` of them (16)
        run at the same time, so a later message may get its reply first. Above that, messages wait, and the
        server stops reading from this client. Other clients do not wait.

        A function may take ``handler_timeout`` (30 s). Then the client gets an ``error`` with code
        ``timeout``, and the function is cancelled where it awaits. A function that is not ``async`` runs on
        the event loop and blocks it: nothing can interrupt it.

        Raises:
            ConfigurationError: if the type has a function already or belongs to the protocol, or the function
                does not fit.
            RuntimeError: if the application is being served.
            TypeError: if the type is not a str.
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
        """Declare the async generator that answers messages of a type with a run: ``f(run, message)``.

        The generator yields pieces of text (``str``). They are published in the channel ``run:<id>``, and the
        sender is subscribed to it first:

        - ``ai_response_start``;
        - ``ai_response_chunk``, with the first piece at once and then one chunk per tick;
        - ``ai_response_end``, with ``status`` ``complete``, ``cancelled`` or ``error``.

        A run has no time limit, and any number of clients may read it. A client may have ``max_runs`` (16)
        unfinished runs. The client that started a run cancels it with a message ``ai_cancel`` with ``runId``.
        Only that client, and others of the same identity, may subscribe to the channel, unless the
        application declares a channel ``run:{run_id}`` itself. That is possible until 5 minutes after the end
        of the run.

        Args:
            type: the type of message.
            cancel_on_disconnect: cancel the run when the client that started it leaves. By default it goes
                on.

        Raises:
            ConfigurationError: if the type has a function already or belongs to the protocol, or the function
                is not an async generator.
            RuntimeError: if the application is being served.
            TypeError: if the type is not a str.
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
        """Declare a websocket path, which has a protocol of the application's own: ``f(websocket,
        <parameters>)``.

        The function is called for each connection and must be ``async``. It has no time limit. When it
        returns, the connection is closed with 1000. When it raises `Refused`, the connection is closed with
        that code; after another error, with 1011. Subprotocols are not supported on these paths yet: none
        that a client offers is accepted.

        Args:
            path: a path with parameters. ``{x}`` matches one or more characters other than ``/``,
                ``{x:path}`` matches anything.

        Raises:
            ConfigurationError: if the path is taken or belongs to Umbel, or the function does not fit.
            RuntimeError: if the application is being served.
            TypeError: if the path is not a str.
        """
        check_name(path, "websocket", "/path")
        self._declared.check()
        names = parameters(path)
        self._declared.claim_path(path, self.settings.websocket_path)

        def decorate(function: W) -> W:
            check_coroutine_function(
                function, f"the function of websocket path {path!r}", ("websocket",), names
            )
            self._declared.claim_path(path, self.settings.websocket_path)
            self._declared.websockets.append(WebSocketRoute(path, function, names))
            return function

        return decorate

    def page(self, path: str, body: str | bytes | PathLike[str], content_type: str | None = None) -> None:
        """Declare a page: a fixed response to ``GET``. The core sends it without calling Python.

        Args:
            path: a path without parameters.
            body: the text or bytes of the page, or the path of a file (a ``Path``, not a ``str``). The file
                is read now.
            content_type: by default ``text/html`` for text, and for a file what its name says.

        Raises:
            ConfigurationError: if the path is taken or belongs to Umbel, or the content type is not printable
                ASCII.
            OSError: if the file can't be read.
            RuntimeError: if the application is being served.
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
        """Declare a background task: a coroutine function without arguments that runs while the server does.

        It is started when the server listens, and cancelled when the server stops. When it raises, the log
        has the traceback, and the server goes on.

        Raises:
            ConfigurationError: if it is not a coroutine function without arguments.
            RuntimeError: if the application is being served.
        """
        self._declared.check()
        check_coroutine_function(function, "a background task", ())
        self._declared.backgrounds.append(function)
        return function

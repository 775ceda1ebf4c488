"""The decorators with which an application declares its functions."""

from collections.abc import Callable
from os import PathLike
from pathlib import Path
from typing import Any, Literal, TypeVar

from umbel._clients.proposal import Proposal
from umbel.exceptions import ConfigurationError

from .client_decorators import ClientDecorators
from .declarations import (
    Background,
    Handler,
    Stream,
    StreamRule,
    WebSocketHandler,
    WebSocketRoute,
)
from .files import file_type, is_file_name
from .functions import (
    check_async_generator,
    check_coroutine_function,
    check_function,
    check_name,
    in_thread,
)
from .patterns import parameters
from .rules import MAX_KEYS, STATE_BYTES, ChannelRule, Guard, Presence, PublishGuard

B = TypeVar("B", bound=Background)
G = TypeVar("G", bound=Guard)
H = TypeVar("H", bound=Handler)
R = TypeVar("R", bound=Callable[[Proposal], Any])
S = TypeVar("S", bound=Stream)
W = TypeVar("W", bound=WebSocketHandler)


class Decorators(ClientDecorators):
    """What an application is declared with. A mistake is refused at the line that makes it."""

    def channel(
        self,
        pattern: str,
        *,
        open: bool = False,
        publish: bool | PublishGuard = False,
        history: int = 1000,
        history_bytes: int = 1 << 20,
        history_seconds: float = 300.0,
        mode: Literal["all", "latest", "state"] = "all",
        overrun: Literal["gap", "close"] = "gap",
        compress: bool = True,
        sender: bool = False,
        replay: Literal["head", "start"] = "head",
        recheck: bool = False,
        claims: bool = False,
        versions: bool = False,
        max_keys: int = MAX_KEYS,
        state_bytes: int = STATE_BYTES,
        presence: Presence = False,
        thread: bool = False,
    ) -> Callable[[G], G]:
        """Declare the channels whose names match a pattern, and who may subscribe.

        A subscriber gets what is published from then on, and with ``replay="start"`` first what the channel
        still has. One that comes back with a position gets what it missed, as far as the history still has
        it, and is told what it does not get.

        Use it as a decorator on a function ``f(client, <parameters>)``. The function is called for every
        subscription and returns ``True`` or ``False``, or raises `Refused` or `Rejected` with a reason. With
        ``open=True`` it is a plain call: every client may subscribe, and no function is called. When several
        patterns match a name, the one that was declared first counts.

        The function counts among the functions of its client that may run at the same time (the setting
        ``max_running``). When it takes longer than the setting ``handler_timeout``, the client gets an
        ``error`` with code ``timeout``.

        Args:
            pattern: a name with parameters. ``{x}`` matches one or more characters other than ``:``,
                ``{x:path}`` matches anything. Names that begin with ``@`` or ``$`` belong to Umbel.
            open: every client may subscribe. No function is called.
            publish: which clients may publish: none (``False``); those for which the function
                ``f(client, <parameters>, data, key)`` returns ``True``; or all (``True``), also to names for
                which they may not subscribe. The application itself always may. The function may leave out
                ``key`` where the mode is ``"all"``. It may also return a dict or a list, which is
                published instead: so the application adds an author or a time. Anything else is an error:
                the log has it, and nothing is published.
            history: how many publications the channel keeps for readers that are behind or come back. A
                larger history costs memory for each channel. With a smaller one, slow readers get a ``gap``
                sooner. Readers that keep up do not depend on the history: what they were not offered yet is
                kept, too, up to the setting ``burst_bytes``.
            history_bytes: how many bytes the channel keeps, some bookkeeping for each publication included.
                The newest publication of the channel is kept even if it alone has more.
            history_seconds: how many seconds the channel keeps a publication, at least 1. Then the newest one
                is dropped, too.
            mode: ``"all"`` delivers every publication. With ``"latest"``, a reader that is behind gets only
                the newest publication of each key. Updates have the key, too.
                With ``"state"`` the channel is a map: a key has the value that was published for it last,
                until it is removed, however old that is. Each subscriber gets all of it first, then the
                changes. `Umbel.state` changes and reads it. ``history`` and ``history_seconds`` are then
                about removals: how many are kept, and how long, for subscribers that are behind or come back.
                One that needs an older one gets all of the state anew.
            overrun: what happens to a reader when publications were dropped that it did not get: ``"gap"``
                sends a ``gap`` message, ``"close"`` closes with 4413.
            compress: ``False`` sends these publications uncompressed. Use it for a channel that carries a
                secret next to text that others choose: the length of a compressed frame would tell an
                observer about the secret (BREACH). Two channels are never compressed together.
            sender: tell subscribers which client has published an update: ``"sender": {"clientId": …,
                "subject": …}`` beside its ``data``. The subject is ``null`` for an anonymous client. Updates
                that the application publishes have no ``sender``, so a client can't pretend to be another
                one or the application.
            replay: where a subscriber without a position begins: ``"head"`` with what is published next,
                ``"start"`` with the oldest publication that the history still has. So a chat shows its last
                messages, and with ``mode="latest"`` a newcomer gets the newest publication of each key. Each
                subscriber gets up to the whole history, so keep that short.
            recheck: call the function again when a subscriber comes back to its session. Otherwise it keeps
                what it was subscribed to, and the application ends that with ``client.unsubscribe`` or
                ``client.close`` when a right is withdrawn; both also reach a client that is away. Until the
                function has returned ``True``, the client gets nothing from the channel. If it returns
                ``False``, fails or takes too long, the subscription is over.
            claims: let the claims of a client allow it, before any function is called. The claim
                ``channels`` names the channels that it may subscribe to, and ``publish`` those that it may
                publish to: ``["task:*", "room:7"]``. A ``*`` at the end means all names that begin so. A
                channel that is not named is decided by the function, or by ``publish``; without them, not at
                all. With ``auth=JWT(…)`` the server decides this without Python. When a client shows a new
                token that allows less, its subscriptions end that it had by claims.
            versions: refuse changes of a state by clients that do not name the version that they replace,
                with ``bad_message``, so that nobody overwrites what it has not seen. Patches need no version.
                The application is free.
            max_keys: how many keys a state has at most. With as many, a new one is refused: a client gets
                ``limit_exceeded``, the application `StateFull`.
            state_bytes: how many bytes a state has at most, with its removals and some bookkeeping for each
                key. Beyond that, a change that needs more is refused in the same way. All states together are
                bounded by the setting ``max_state_bytes``.
            presence: let subscribers see who is in the channel: with ``True`` each client that is subscribed,
                by its subject; with ``"count"`` only how many there are. A function ``f(client)`` returns as
                whom others see a client, or ``None`` to hide it; it is called once for each subscription, and
                a client for which it fails is hidden. `Umbel.presence` lists who is there, and
                ``@app.on_presence`` hears who comes and who leaves.
            thread: call the functions of this channel in threads, because they block.

        Returns:
            The decorator. With ``open=True`` or ``claims=True`` it need not be used.

        Raises:
            ConfigurationError: if an argument does not fit, or a pattern that was declared before matches
                every name that this one does.
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
            sender=sender,
            replay=replay,
            recheck=recheck,
            claims=claims,
            versions=versions,
            max_keys=max_keys,
            state_bytes=state_bytes,
            presence=presence,
            thread=thread,
        )
        self._declared.check()
        self._declared.add_channel(rule)

        def decorate(function: G) -> G:
            rule.decide(function)
            return function

        return decorate

    def resolve(self, pattern: str) -> Callable[[R], R]:
        """Declare the function that resolves conflicts in the channels of a pattern: ``f(proposal)``.

        A client changes an entry that somebody else has changed meanwhile. Without such a function it gets
        ``state_conflict``. The function gets a `Proposal`, which has the value that is there and the one
        that the client wants, and returns the value that counts, or `REMOVED`. It may be ``async``. With
        ``thread=True`` in the declaration of the channel it runs in a thread.

        Subscribers get the result, with the name of the function and what the two had different. When the
        function raises `Refused` or `Rejected`, nothing is changed, and the client gets that error. It may be
        called up to five times for one change, as long as others are faster, and only its last result counts.
        Only the same client's later messages about this channel wait for it.

        It is asked after the publish function, and not about patches, which are merged. Clients have to name
        the version that they replace, as with ``versions=True``. ``umbel.resolvers`` has ready functions.

        Raises:
            ConfigurationError: if no channel is declared with this pattern before this line, or it has no
                state that clients may change; if it has such a function already, or the function does not
                fit.
            RuntimeError: if the application is being served.

        Example:
            >>> from umbel import REMOVED, Umbel
            >>> app = Umbel()
            >>> app.channel("score:{game}", open=True, publish=True, mode="state")
            <...>
            >>> @app.resolve("score:{game}")
            ... def highest(proposal):
            ...     return max(it for it in (proposal.current, proposal.proposed) if it is not REMOVED)
        """
        self._declared.check()
        rule = next((rule for rule in self._declared.channels if rule.pattern == pattern), None)
        if rule is None:
            raise ConfigurationError(f"declare the channel {pattern!r} first: there is none of this pattern")

        def decorate(function: R) -> R:
            self._declared.check()
            rule.resolve_by(function)
            return function

        return decorate

    def on(self, type: str, *, thread: bool = False) -> Callable[[H], H]:
        """Declare the function that handles messages of a type: ``f(client, message)``.

        The client gets what the function returns, as ``{"type": "<type>_result", "id": …, "data": …}``. A
        message without ``id`` whose function returns ``None`` gets no reply. When the function raises
        `Refused`, the client gets an ``error`` with code ``not_allowed`` and the reason; when it raises
        `Rejected`, an ``error`` with that code. When it raises another error, the client gets an ``error``
        with code ``internal``, and the log has the traceback.

        Functions of one client are started in the order of its messages. Up to ``max_running`` of them (16)
        run at the same time, so a later message may get its reply first. As many messages wait for them.
        When these are waiting, the server reads no more messages of this client. Other clients do not wait.

        A function may take ``handler_timeout`` (30 s). Then the client gets an ``error`` with code
        ``timeout``, and the function is cancelled where it awaits. A function that is not ``async`` runs on
        the event loop and blocks it: nothing can interrupt it. With ``thread=True`` it runs in a thread, of
        which there are at most ``max_threads`` (16) for all clients. There, too, nothing can interrupt it: it
        counts among the running functions of its client until it has ended. A stop of the server leaves it
        behind when the time of the stop is over.

        Args:
            type: the type of message.
            thread: call the function in a thread, because it blocks. ``Client`` and ``app.publish`` may be
                used there; `Run` and `WebSocket` may not.

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
            role = f"the handler of {type!r}"
            check_function(function, role, ("client", "message"))
            self._declared.claim_type(type)
            self._declared.handlers[type] = in_thread(function, role) if thread else function
            return function

        return decorate

    def stream(self, type: str, *, cancel_on_disconnect: bool = False) -> Callable[[S], S]:
        """Declare the async generator that answers messages of a type with a run: ``f(run, message)``.

        The generator yields pieces of text (``str``). They are published in the channel ``run:<id>``, and the
        sender is subscribed to it first:

        - ``ai_response_start``;
        - ``ai_response_chunk``, with the first piece at once and then one chunk per tick;
        - ``ai_response_end``, with ``status`` ``complete``, ``cancelled`` or ``error``.

        A run has no time limit, and any number of clients may read it. An identity, or a client without one,
        may have ``max_runs`` (16) unfinished runs. The client that started a run, and clients of the same
        subject, may cancel it with a message ``ai_cancel`` with ``runId``, or with the ``id`` of its message
        as ``request``, and may
        subscribe to its channel until 5 minutes after its end. If the application declares a channel
        ``run:{run_id}`` itself, that function decides who may subscribe. Declare one for anonymous clients:
        a client that has lost its connection comes back as another client, and without a subject nothing
        says that it is the same.

        When the generator raises an error, also `Refused` or `Rejected`, the log has the traceback, and
        ``ai_response_end`` has ``status`` ``error`` and the incident.

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

        The function is called for each connection and must be ``async``. It has no time limit, but is
        cancelled ``close_timeout`` (5 s) after the connection has ended. When it returns, the connection is
        closed with 1000. When it raises `Refused`, the connection is closed with that code; after another
        error, with 1011. Subprotocols are not supported on these paths yet: none that a client offers is
        accepted.

        Args:
            path: a path with parameters. ``{x}`` matches one or more characters other than ``/``,
                ``{x:path}`` matches anything. A slash that is sent as ``%2F`` is not ``/`` here, and
                belongs to its parameter.

        Raises:
            ConfigurationError: if the path is taken, belongs to Umbel or can never be reached, or the
                function does not fit.
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
            self._declared.add_websocket(WebSocketRoute(path, function, names))
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
            ConfigurationError: if the path is taken or belongs to Umbel, if the content type is not printable
                ASCII, or if the text is the name of a file.
            OSError: if the file can't be read.
            RuntimeError: if the application is being served.
        """
        self._declared.check()
        self._declared.claim_path(path, self.settings.websocket_path)
        if content_type is not None and not (content_type.isascii() and content_type.isprintable()):
            raise ConfigurationError(f"content type {content_type!r} must be printable ASCII")
        if isinstance(body, str):
            if is_file_name(body):
                raise ConfigurationError(
                    f"page {path!r} would be the text {body!r}, and there is a file of this name: "
                    f"write Path({body!r}) for what is in it"
                )
            kind, data = "text/html; charset=utf-8", body.encode()
        elif isinstance(body, PathLike):
            file = Path(body)
            kind, data = file_type(file.name), file.read_bytes()
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

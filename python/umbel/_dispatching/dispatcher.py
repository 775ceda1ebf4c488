"""From the core's events to the application's functions.

The core wakes the event loop once per batch. Functions run as tasks; of one client at most ``max_running``
at a time, in the order of its messages; the rest waits in the client's backlog, and reading from that client
stops. What a client has sent before it left is handled, then ``on_disconnect`` is called.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from contextlib import suppress
from contextvars import Context, copy_context
from typing import Any, Final

from umbel import _core
from umbel._clients.client import Client, Message
from umbel._clients.request import ANONYMOUS, Identity
from umbel._clients.websocket import WebSocket, outcome
from umbel._core import Core, Handshake
from umbel._declaring.routes import Background, Handler, Routes, StreamRoute, WebSocketRoute
from umbel._declaring.settings import Settings
from umbel.exceptions import TOO_MANY, Refused

from . import replies
from .deadlines import Deadlines
from .identity_limit import Places
from .jobs import (
    AuthenticateJob,
    ConnectJob,
    DisconnectJob,
    Job,
    MessageJob,
    PublishJob,
    Rejected,
    SubscribeJob,
    shortened,
)
from .runs import Runs

logger = logging.getLogger("umbel")

Event = tuple[Any, ...]


class Dispatcher:
    """Takes events from a core and runs the application's functions on one event loop."""

    def __init__(
        self,
        core: Core,
        routes: Routes,
        settings: Settings,
        loop: asyncio.AbstractEventLoop,
        stopped: Callable[[], None],
        interrupt: Callable[[], None],
    ) -> None:
        """Prepare; events are taken when ``drain`` is called.

        Args:
            core: where events come from and answers go to.
            routes: the application's declarations.
            settings: limits and times.
            loop: the loop that functions run on.
            stopped: called at the core's last event.
            interrupt: called when a function raises KeyboardInterrupt; it stops the server.
        """
        self.core = core
        self.loop = loop
        self.context = copy_context()  # in which clients begin; nothing runs in it, only in copies
        self.interrupt = interrupt
        self.runs = Runs(self, settings.tick, settings.max_runs)
        self._routes = routes
        self._rules = routes.rules()
        self._most = settings.max_running
        self._places = Places(settings.max_connections_per_identity)
        self._clients: dict[int, Client] = {}
        self._sockets: dict[int, WebSocket] = {}
        # Clients that have left before on_connect has ended or all that they sent has started, and how.
        self._leaving: dict[Client, tuple[int, str]] = {}
        self._connecting: set[Client] = set()
        self._waiting = 0  # jobs in all backlogs
        self._ending = False  # the time to stop is over: nothing is started any more
        self._cancelled = 0  # functions that this ended
        self._patience: asyncio.Timeout | None = None
        self._tasks: set[asyncio.Task[None]] = set()  # all that runs; shutdown() ends it
        self._backgrounds: list[asyncio.Task[None]] = []
        self._deadlines = Deadlines(loop, settings.handler_timeout)
        self._authentications = Deadlines(loop, settings.handshake_timeout)
        self._handlers: dict[str, Handler] = dict(routes.handlers)
        for message_type, stream in routes.streams.items():
            self._handlers[message_type] = self._starter(stream)
        if routes.streams:
            self._handlers["ai_cancel"] = self.runs.cancel
        self._events: dict[int, Callable[..., None]] = {
            _core.OPEN: self._opened,
            _core.MESSAGE: self._message,
            _core.SUBSCRIBE: self._subscribe,
            _core.PUBLISH: self._publish,
            _core.TEXT: self._socket_message,
            _core.BINARY: self._socket_message,
            _core.WRITABLE: self._writable,
            _core.ENDED: self._socket_ended,
            _core.CLOSED: self._closed,
            _core.LOG: self._log,
            _core.STOPPED: stopped,
        }

    def drain(self) -> None:
        """Handle one batch. Call it when the core's descriptor is readable, which it stays while more events
        wait.
        """
        for event in self.core.drain(BATCH):
            try:
                self._events[event[0]](*event[1:])  # type: ignore[index]
            except Exception:
                # Without the rest, which is what a client has sent.
                logger.exception("an event was not handled; kind and client: %r", event[:2])

    def spawn(
        self, coroutine: Coroutine[Any, Any, None], context: Context | None = None
    ) -> asyncio.Task[None]:
        """Start a task that ends with the server at the latest; in a copy of the current context if none is
        given.
        """
        task = self.loop.create_task(coroutine, context=context)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def shutdown(self, seconds: float) -> None:
        """Let what clients have sent be handled within a time, then cancel what runs and drop what waits.
        Runs and background tasks are cancelled at once.
        """
        self.runs.stop()
        for task in self._backgrounds:
            task.cancel()
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds) as self._patience:
                while self._tasks:
                    await asyncio.wait(self._tasks)
        self._patience = None
        self._ending = True
        for task in self._tasks:
            task.cancel()
        dropped = self._waiting
        for client in list(self._leaving):
            if not client._opening:
                self._advance(client)
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=CANCEL_TIME)
        if self._cancelled or dropped:
            logger.warning(
                "the time to stop was over; functions cancelled: %d, messages not handled: %d",
                self._cancelled,
                dropped,
            )
        for task in self._tasks:
            task.cancel()
        for task in self._tasks:
            logger.error("%r did not end when it was cancelled; it is left behind", task)
        self._deadlines.clear()
        self._authentications.clear()

    def hasten(self, seconds: float) -> None:
        """Shorten the time that ``shutdown`` waits."""
        if self._patience is not None and not self._patience.expired():
            self._patience.reschedule(self.loop.time() + seconds)

    def start_backgrounds(self) -> None:
        """Start the application's background tasks."""
        self._backgrounds = [self.spawn(self._background(function)) for function in self._routes.backgrounds]

    # Clients

    def _opened(self, key: int, handshake: Handshake) -> None:
        if handshake.route is not None:
            self._socket_opened(key, handshake, self._routes.websockets[handshake.route])
            return
        client = self._clients[key] = Client(self, key, handshake)
        if self._routes.authenticate is None:
            self._admit(client, ANONYMOUS)
            return
        job = AuthenticateJob(
            self._routes.authenticate,
            client.request,
            lambda identity: self._admit(client, identity),
            lambda close, reason: self._turn_away(key, close, reason),
        )
        self._start(job, self._authentications)

    def _admit(self, client: Client, identity: Identity) -> None:
        client.identity = identity
        if self._routes.authenticate is not None:
            client._context = copy_context()
        # What `authenticate` had decoded of it is most of what a client would hold; it can be decoded again.
        client._request = None
        if self._clients.get(client._key) is not client:
            return  # it left while it was authenticated
        if not self._let_in(client._key, identity):
            return
        if self._routes.connect is None:
            self.connected(client, True)
        else:
            self._connecting.add(client)
            self._start(ConnectJob(client, self._routes.connect))

    def connected(self, client: Client, let_in: bool) -> None:
        """Go on after ``on_connect``: with the client's messages, or with its leaving."""
        self._connecting.discard(client)
        if not let_in:
            self._leaving.pop(client, None)
            self._drop_backlog(client)
            return
        client._opening = False
        if self._routes.connect is not None:
            client._context = copy_context()
            if client not in self._leaving:
                self.core.resume(client._key)
        self._advance(client)

    def refuse(
        self, client: Client, close: int, code: str, message: str, details: Mapping[str, Any] | None
    ) -> None:
        """Tell a client why, and close it."""
        self.core.reply(client._key, replies.error(code, message, None, details))
        self.core.close(client._key, close, shortened(message))

    def _let_in(self, key: int, identity: Identity) -> bool:
        if self._places.take(key, identity.subject):
            self.core.admit(key)
            return True
        self._turn_away(key, TOO_MANY, "this identity has as many connections as it may")
        return False

    def _turn_away(self, key: int, close: int, reason: str) -> None:
        self.core.close(key, close, shortened(reason))

    def _closed(self, key: int, code: int, reason: str) -> None:
        self._places.leave(key)
        client = self._clients.pop(key, None)
        if client is None:
            socket = self._sockets.pop(key, None)
            if socket is not None:
                socket._closed(code, reason)
            return
        client._paused = False  # nothing to read from any more
        self.runs.client_left(client)
        if client._opening and client not in self._connecting:
            self._drop_backlog(client)  # it was never let in
            return
        self._leaving[client] = code, reason
        if not client._opening:
            self._advance(client)

    def _left(self, client: Client, code: int, reason: str) -> None:
        self._leaving.pop(client, None)
        if self._routes.disconnect is None:
            return
        job = DisconnectJob(client, self._routes.disconnect, code, reason)
        if client._running and not self._ending:
            self.loop.call_soon(
                self._start, job
            )  # tasks that were made just now take their first step before
        else:
            self._start(job)

    # Jobs

    def _message(self, key: int, message_type: str, request: bytes | None, text: bytes) -> None:
        handler = self._handlers.get(message_type)
        if handler is None:
            text_for_people = f"no handler for messages of type {message_type[:64]!r}"
            self.core.fault(key, replies.error("unknown_type", text_for_people, request))
        elif client := self._clients.get(key):
            self._submit(MessageJob(client, handler, message_type, request, text))

    def _subscribe(self, key: int, ticket: int, rule: int, channel: str, parameters: tuple[str, ...]) -> None:
        if client := self._clients.get(key):
            self._submit(SubscribeJob(client, self._rules[rule], ticket, channel, parameters))

    def _publish(
        self,
        key: int,
        ticket: int,
        rule: int,
        channel: str,
        parameters: tuple[str, ...],
        data: bytes,
        publication_key: str | None,
    ) -> None:
        if client := self._clients.get(key):
            self._submit(PublishJob(client, self._rules[rule], ticket, channel, parameters, data))

    def _starter(self, stream: StreamRoute) -> Handler:
        def start(client: Client, message: Message) -> object:
            return self.runs.start(client, message, stream)

        return start

    def _submit(self, job: Job) -> None:
        """Start a job of a client, or let it wait for its turn."""
        client = job.client
        assert client is not None
        if self._drops(client):
            return
        if not client._opening and not client._backlog and client._running < self._most:
            self._start(job)
            return
        if client._backlog is None:
            client._backlog = deque()
        client._backlog.append(job)
        self._waiting += 1
        if not client._paused:
            client._paused = True
            self.core.pause(client._key)

    def _advance(self, client: Client) -> None:
        """Start what waits, and read from the client again when little runs; or see it off."""
        while client._backlog and not self._drops(client) and client._running < self._most:
            self._waiting -= 1
            self._start(client._backlog.popleft())
        if self._drops(client):
            self._drop_backlog(client)
        if not client._backlog:
            client._backlog = None
            if client._paused and client._running <= self._most // 2:
                client._paused = False
                self.core.resume(client._key)
            if client in self._leaving:
                self._left(client, *self._leaving[client])

    def _drops(self, client: Client) -> bool:
        return client._closed_here or self._ending

    def _drop_backlog(self, client: Client) -> None:
        if client._backlog is not None:
            self._waiting -= len(client._backlog)
            client._backlog = None

    def _start(self, job: Job, deadlines: Deadlines | None = None) -> None:
        """Call a job's function. What it returns decides: a value is the result, an awaitable becomes a
        task. It runs in a context of its own: what it sets there, no other function sees.
        """
        context = (self.context if job.client is None else job.client._context).copy()
        try:
            awaitable = context.run(job.run)
        except BaseException as error:
            context.run(self._failed, job, error)
            return
        if awaitable is None:
            return
        if job.client is not None:
            job.client._running += 1
        deadlines = deadlines or self._deadlines
        job.task = self.spawn(self._finish(job, awaitable, deadlines), context)
        deadlines.add(job)

    async def _finish(self, job: Job, awaitable: Awaitable[object], deadlines: Deadlines) -> None:
        try:
            value = await awaitable
            if not job.expired:
                job.done(value)
        except GeneratorExit:
            raise  # the loop was closed under us: nobody is left to tell
        except BaseException as error:
            self._failed(job, error)
        deadlines.discard(job)
        job.task = None
        if job.client is not None:
            job.client._running -= 1
            self._advance(job.client)

    def _failed(self, job: Job, error: BaseException) -> None:
        if isinstance(error, Refused):
            if not job.expired:
                job.fail("not_allowed", error.reason, close=error.code)
        elif isinstance(error, Rejected):
            job.fail(error.code, str(error))
        elif self._ending and isinstance(error, asyncio.CancelledError):
            self._cancelled += 1
        elif job.expired and isinstance(error, asyncio.CancelledError):
            logger.warning("%s for %r was cancelled: its time was over", job.name, job.who)
        else:
            number = replies.incident()
            logger.error("%s failed for %r (incident %s)", job.name, job.who, number, exc_info=error)
            if not job.expired:
                job.fail(
                    "internal",
                    "the server failed to do this; the details are in its log",
                    {"incident": number},
                )
            if isinstance(error, KeyboardInterrupt):
                self.interrupt()

    # Websocket paths

    def _socket_opened(self, key: int, handshake: Handshake, route: WebSocketRoute) -> None:
        socket = self._sockets[key] = WebSocket(self.core, self.loop, key, handshake)

        def admit(identity: Identity) -> None:
            socket.identity = identity
            if not socket.closed and self._let_in(key, identity):
                parameters = dict(zip(route.names, handshake.params, strict=True))
                self.spawn(self._socket(socket, route, parameters))

        if self._routes.authenticate is None:
            admit(ANONYMOUS)
        else:
            job = AuthenticateJob(
                self._routes.authenticate,
                socket.request,
                admit,
                lambda close, reason: self._turn_away(key, close, reason),
            )
            self._start(job, self._authentications)

    async def _socket(self, socket: WebSocket, route: WebSocketRoute, parameters: dict[str, str]) -> None:
        try:
            await route.function(socket, **parameters)
            socket.close(1000)
        except GeneratorExit:
            raise
        except asyncio.CancelledError:
            socket.close(1012)
        except BaseException as error:
            end = outcome(error)
            if isinstance(end, Refused):
                socket.close(end.code, end.reason)
                return
            if end is not None and socket._over():
                socket.close(1000)
                return
            number = replies.incident()
            logger.error(
                "websocket %r failed for %r (incident %s)", route.pattern, socket, number, exc_info=error
            )
            socket.close(1011, f"incident {number}")
            if isinstance(error, KeyboardInterrupt):
                self.interrupt()

    def _socket_message(self, key: int, message: str | bytes) -> None:
        if socket := self._sockets.get(key):
            socket._received(message)

    def _socket_ended(self, key: int, code: int, reason: str) -> None:
        if socket := self._sockets.get(key):
            socket._input_ended(code, reason)

    def _writable(self, key: int) -> None:
        if socket := self._sockets.get(key):
            socket._drained()

    # The rest

    def _log(self, level: int, text: str) -> None:
        logger.log(level, "%s", text)

    async def _background(self, function: Background) -> None:
        try:
            await function()
        except (GeneratorExit, asyncio.CancelledError):
            raise
        except BaseException as error:
            logger.error("background task %s failed", function.__qualname__, exc_info=error)
            if isinstance(error, KeyboardInterrupt):
                self.interrupt()


BATCH: Final = 256
"""Events per turn of the loop: enough to make the wake-up cheap, few enough that timers stay on time."""

CANCEL_TIME: Final = 1.0
"""Seconds that cancelled functions get to clean up when the server stops."""

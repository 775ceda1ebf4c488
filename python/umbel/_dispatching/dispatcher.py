"""Takes the events of the core, and gives each to the part that handles it.

The core wakes the event loop once per batch of events.
"""

import asyncio
import logging
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from umbel import _core
from umbel._core import Core, Handshake
from umbel._declaring.declarations import Background, Declarations, Handler
from umbel._declaring.settings import Settings

from . import replies
from .caller import Caller
from .channels import PublishJob, SubscribeJob
from .clients import Clients
from .entrance import Entrance
from .messages import HandlerJob, StreamJob
from .runs import Runs
from .slots import Slots
from .sockets import Sockets

logger = logging.getLogger("umbel")


class Dispatcher:
    """Calls the functions of an application for the events of a core, on one event loop."""

    def __init__(
        self,
        core: Core,
        declared: Declarations,
        settings: Settings,
        loop: asyncio.AbstractEventLoop,
        stopped: Callable[[], None],
        interrupt: Callable[[], None],
    ) -> None:
        """Prepare. Events are taken when ``drain`` is called.

        Args:
            core: where events come from and replies go to.
            declared: what the application declares.
            settings: limits and times.
            loop: the loop that functions run on.
            stopped: called at the core's last event.
            interrupt: called when a function raised KeyboardInterrupt; it stops the server.
        """
        self._slots = Slots(core)
        self._caller = Caller(self._slots, settings, loop, interrupt)
        self._entrance = Entrance(self._caller, declared.authenticate, settings)
        self._clients = Clients(self._caller, self._entrance, declared)
        self._sockets = Sockets(self._caller, self._entrance)
        self._runs = Runs(self._caller, settings)
        self._routes = declared.websockets
        self._rules = declared.rules(self._runs.may_read)
        self._streams = declared.streams
        self._handlers: dict[str, Handler] = dict(declared.handlers)
        if declared.streams:
            self._handlers["ai_cancel"] = self._runs.cancel
        self._declared_backgrounds = declared.backgrounds
        self._backgrounds: list[asyncio.Task[None]] = []
        self._events: dict[int, Callable[..., None]] = {
            _core.OPEN: self._opened,
            _core.MESSAGE: self._message,
            _core.SUBSCRIBE: partial(self._ask, SubscribeJob),
            _core.PUBLISH: partial(self._ask, PublishJob),
            _core.TEXT: self._sockets.message,
            _core.BINARY: self._sockets.message,
            _core.WRITABLE: self._sockets.writable,
            _core.ENDED: self._sockets.input_ended,
            _core.CLOSED: self._closed,
            _core.LOG: self._log,
            _core.STOPPED: stopped,
        }

    def drain(self) -> None:
        """Handle one batch. Call this when the core's descriptor is readable, as long as it stays so."""
        for event in self._slots.core.drain(BATCH):
            try:
                self._events[event[0]](*event[1:])  # type: ignore[index]
            except Exception:
                # Without what a client has sent.
                logger.exception("an event was not handled; kind and client: %r", event[:2])

    def start_backgrounds(self) -> None:
        """Start the application's background tasks."""
        self._backgrounds = [
            self._caller.spawn(self._background(function)) for function in self._declared_backgrounds
        ]

    async def shutdown(self, seconds: float) -> None:
        """End all functions. Messages of clients are handled for so many seconds; what runs then is
        cancelled, and what waits is dropped. Runs and background tasks are cancelled at once.
        """
        self._runs.stop()
        for task in self._backgrounds:
            task.cancel()
        dropped = await self._caller.end(seconds)
        if self._caller.cancelled or dropped:
            logger.warning(
                "the time to stop was over; functions cancelled: %d, messages not handled: %d",
                self._caller.cancelled,
                dropped,
            )
        self._caller.log_stubborn()
        self._entrance.clear()

    def hasten(self, seconds: float) -> None:
        """Shorten the time that ``shutdown`` waits."""
        self._caller.hasten(seconds)

    def forked(self, inert: Core) -> None:
        """Use another core, because this is a forked child."""
        self._slots.core = inert

    # Events

    def _opened(self, number: int, handshake: Handshake) -> None:
        if handshake.route is None:
            self._clients.opened(number, handshake)
        else:
            self._sockets.opened(number, handshake, self._routes[handshake.route])

    def _closed(self, number: int, code: int, reason: str) -> None:
        self._entrance.leave(number)
        if slot := self._slots.by_number.get(number):
            self._runs.client_left(slot)
            self._clients.closed(slot, code, reason)
        else:
            self._sockets.closed(number, code, reason)

    def _message(self, number: int, message_type: str, message_id: bytes | None, text: bytes) -> None:
        handler, stream = self._handlers.get(message_type), self._streams.get(message_type)
        if handler is not None:
            if slot := self._slots.by_number.get(number):
                self._caller.submit(slot, HandlerJob(slot, message_type, message_id, text, handler))
        elif stream is not None:
            if slot := self._slots.by_number.get(number):
                job = StreamJob(slot, message_type, message_id, text, self._runs, stream)
                self._caller.submit(slot, job)
        else:
            text_for_people = f"no handler for messages of type {message_type[:64]!r}"
            error = replies.error("unknown_type", text_for_people, message_id)
            self._slots.core.reply_error(number, error)

    def _ask(self, job: type[SubscribeJob], number: int, question: int, rule: int, *details: Any) -> None:
        if slot := self._slots.by_number.get(number):
            self._caller.submit(slot, job(slot, question, self._rules[rule], *details))

    def _log(self, level: int, text: str) -> None:
        logger.log(level, "%s", text)

    async def _background(self, function: Background) -> None:
        try:
            await function()
        except (GeneratorExit, asyncio.CancelledError):
            raise
        except BaseException as error:
            self._caller.failed(error, "background task %s failed", function.__qualname__)


BATCH: Final = 256
"""Events per turn of the loop: enough that a wake-up is cheap, few enough that timers stay on time."""

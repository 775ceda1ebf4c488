"""Takes the events of the core, and gives each to the part that handles it.

The core wakes the event loop once per batch of events.
"""

import asyncio
import logging
from collections.abc import Callable
from functools import partial
from inspect import iscoroutinefunction
from time import perf_counter
from typing import Any, Final

from umbel import _core
from umbel._clients.about import known
from umbel._clients.client import Client
from umbel._clients.history import History, Publication
from umbel._clients.identity import Identity
from umbel._core import Core, Credit, Handshake, Position
from umbel._declaring.declarations import Background, Declarations
from umbel._declaring.rules import RUNS
from umbel._declaring.settings import Settings
from umbel._json import encode
from umbel.exceptions import ConfigurationError
from umbel.presence import Seen

from .caller import Caller
from .channels import PublishJob, SubscribeJob
from .clients import Clients
from .conflicts import ResolveJob
from .entrance import Entrance
from .messages import CoroutineJob, HandlerJob, StreamJob
from .presence import Gatherings, PresenceJob
from .runs import Runs
from .slots import Slots
from .sockets import Sockets
from .times import Slow, slowest

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
        interrupt: Callable[[], object],
        lines_dropped: Callable[[], int] = int,
    ) -> None:
        """Prepare. Events are taken when ``drain`` is called.

        Args:
            core: where events come from and replies go to.
            declared: what the application declares.
            settings: limits and times.
            loop: the loop that functions run on.
            stopped: called at the core's last event.
            interrupt: called when a function raised KeyboardInterrupt; it stops the server.
            lines_dropped: returns how many lines of the log were dropped.
        """
        self._slots = Slots(core)
        self._caller = Caller(self._slots, settings, loop, interrupt)
        self._entrance = Entrance(
            self._caller,
            declared.authenticate,
            settings,
            uses_claims=any(rule.claims for rule in declared.channels),
        )
        self._clients = Clients(self._caller, self._entrance, declared)
        self._sockets = Sockets(self._caller, self._entrance, settings)
        self._runs = Runs(self._caller, settings)
        self._routes = declared.websockets
        self._authenticates = declared.auth is not None or declared.authenticate is not None
        bound = self._caller.threads.bound
        self._rules = [rule.bound(bound) for rule in declared.rules(self._runs.may_read)]
        self._runs.history_bytes = max(
            (rule.history_bytes for rule in self._rules if RUNS.fullmatch(rule.pattern)), default=0
        )
        self._gatherings = Gatherings(self._caller, self._rules)
        self._streams = declared.streams
        handlers = {message_type: bound(handler) for message_type, handler in declared.handlers.items()}
        if declared.streams:
            handlers["ai_cancel"] = self._runs.cancel
        self._handlers = {
            message_type: (CoroutineJob if iscoroutinefunction(handler) else HandlerJob, handler)
            for message_type, handler in handlers.items()
        }
        self._lines_dropped = lines_dropped
        self._busy = 0.0  # seconds in `drain`
        self._declared_backgrounds = declared.backgrounds
        self._backgrounds: list[asyncio.Task[None]] = []
        self._events: dict[int, Callable[..., None]] = {
            _core.OPEN: self._opened,
            _core.MESSAGE: self._message,
            _core.SUBSCRIBE: partial(self._ask, SubscribeJob),
            _core.PUBLISH: partial(self._ask, PublishJob),
            _core.PRESENCE: partial(self._ask, PresenceJob),
            _core.GATHERED: self._gatherings.gathered,
            _core.RESOLVE: partial(self._ask, ResolveJob),
            _core.TEXT: self._sockets.message,
            _core.BINARY: self._sockets.message,
            _core.WRITABLE: self._sockets.writable,
            _core.ENDED: self._sockets.input_ended,
            _core.BEGUN: self._clients.begun,
            _core.MERGED: self._clients.merged,
            _core.RENEWED: self._clients.renewed,
            _core.AWAY: self._clients.away,
            _core.BACK: self._clients.back,
            _core.STAYS: self._entrance.stays,
            _core.CLOSED: self._closed,
            _core.SUBSCRIBED: self._runs.subscribed,
            _core.ROOM: self._slots.rooms.told,
            _core.LOG: self._log,
            _core.STOPPED: stopped,
        }

    def drain(self) -> None:
        """Handle one batch. Call this when the core's descriptor is readable, as long as it stays so."""
        began = perf_counter()
        for event in self._slots.core.drain(BATCH):
            try:
                self._events[event[0]](*event[1:])  # type: ignore[index]
            except Exception:
                # Without what a client has sent.
                logger.exception("an event was not handled; kind and client: %r", event[:2])
        self._busy += perf_counter() - began
        self.note_load()

    def note_load(self, functions: tuple[int, list[Slow]] | None = None) -> None:
        """Tell the core what the metrics say of Python. It answers whether functions are to be timed."""
        caller = self._caller
        is_watched = self._slots.core.note_load(
            caller.running, caller.called, caller.called_for, self._busy, self._lines_dropped(), functions
        )
        if is_watched != (caller.times is not None):
            caller.times = {} if is_watched else None

    def note_functions(self) -> None:
        """Tell it once a second, with how long functions take while somebody looks at the dashboard."""
        times = self._caller.times
        self.note_load(None if times is None else (self._runs.count, slowest(times)))

    def history(self, channel: str, after: Position | None, limit: int) -> History:
        """Return what a channel still has.

        Raises:
            ValueError: if there can be no such channel.
        """
        gap, entries = self._slots.core.history(channel, after, limit)
        return History(tuple(map(Publication.of, entries)), gap)

    def position(self, channel: str) -> Position:
        """Return where the log of a channel stands.

        Raises:
            ValueError: if there can be no such channel.
        """
        return self._slots.core.position(channel)

    def subscribers(self, channel: str) -> int:
        """Return how many clients are subscribed to a channel.

        Raises:
            ValueError: if there can be no such channel.
        """
        return self._slots.core.subscribers(channel)

    def presence(self, channel: str) -> list[Seen]:
        """Return who is in a channel.

        Raises:
            ValueError: if there can be no such channel, or it is declared without ``presence=``.
        """
        found = self._slots.core.members().present(channel)
        if found is None:
            raise ValueError(f"channel {channel!r} is not declared with presence=")
        return found

    def clients(self, subject: str | None) -> list[Client]:
        """Return the clients that are there, all or those of one subject.

        Raises:
            RuntimeError: if the server does not know its clients.
        """
        return self._clients.present(subject)

    def disconnect(self, subject: str, code: int, reason: str) -> int:
        """Close all connections of a subject. Returns how many."""
        # First, so that a connection is found by the one or by the other.
        self._entrance.disconnect(subject, code, reason)
        known = self._clients.disconnect(subject, code, reason)
        known += self._sockets.disconnect(subject, code, reason)
        if self._authenticates:
            # After those that are known here: the messages of a client that is gone would be handled.
            self._slots.core.end_subject(subject, code, reason)
        return known

    def ticket(self, identity: Identity, origin: str | None) -> str:
        """Give a ticket for an event stream.

        Raises:
            ConfigurationError: if clients have no identity.
            ValueError: if there can be no ticket for this identity.
            RuntimeError: if there is no room for it.
        """
        if not self._authenticates:
            raise ConfigurationError(
                "a ticket says who a client is, and this application lets everybody in: use auth=JWT(…), or "
                "declare an @app.authenticate function; one that returns None lets in those with tickets only"
            )
        expires = None if identity.expires is None else int(identity.expires * 1000)
        return self._slots.core.ticket(identity.subject, encode(identity.claims), expires, origin)

    async def wait_room(self, channel: str) -> None:
        """Wait until little enough waits for the readers of a channel that keep up.

        Raises:
            ValueError: if there can be no such channel.
        """
        await self._slots.rooms.wait(partial(self._slots.core.when_room, channel))

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
        await self._sockets.stop()
        dropped = await self._caller.end(seconds)
        if self._caller.cancelled or dropped:
            logger.warning(
                "the time to stop was over; functions cancelled: %d, messages not handled: %d",
                self._caller.cancelled,
                dropped,
            )
        self._gatherings.stop()
        self._caller.leave_behind()
        self._entrance.clear()
        self._slots.rooms.stop()

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
        if slot := self._slots.by_number.get(number):
            self._runs.client_left(slot)
            self._clients.closed(slot, code, reason)
        else:
            self._sockets.closed(number, code, reason)
        # Last: a client that takes its place comes after it.
        self._entrance.leave(number)

    def _message(
        self, number: int, credit: Credit, message_type: str, message_id: bytes | None, text: bytes
    ) -> None:
        if known := self._handlers.get(message_type):
            if slot := self._slots.by_number.get(number):
                job, handler = known
                self._caller.submit(slot, job(slot, credit, message_type, message_id, text, handler))
        elif stream := self._streams.get(message_type):
            if slot := self._slots.by_number.get(number):
                run = StreamJob(slot, credit, message_type, message_id, text, self._runs, stream)
                self._caller.submit(slot, run)
        else:
            reason = f"no handler for messages of type {message_type[:64]!r}"
            self._slots.core.reply_error(number, "unknown_type", reason, message_id, None, True)

    def _ask(
        self,
        job: type[SubscribeJob] | type[PresenceJob],
        number: int,
        credit: Credit,
        question: int,
        rule: int,
        *details: Any,
    ) -> None:
        if slot := self._slots.by_number.get(number):
            self._caller.submit(slot, job(slot, credit, question, self._rules[rule], *details))

    def _log(self, level: int, text: str, client: tuple[str, int] | None) -> None:
        logger.log(level, "%s", text, extra=client and {"umbel": known(*client)})

    async def _background(self, function: Background) -> None:
        try:
            await function()
        except (GeneratorExit, asyncio.CancelledError):
            raise
        except BaseException as error:
            self._caller.failed(error, "background task %s failed", function.__qualname__)


BATCH: Final = 256
"""Events per turn of the loop: enough that a wake-up is cheap, few enough that timers stay on time."""

"""Calls functions of the application, for each client in the order of its messages, a few at a time."""

import asyncio
import logging
import secrets
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from contextvars import Context, copy_context
from inspect import isawaitable
from typing import Any, Final

from umbel._declaring.settings import Settings
from umbel.exceptions import Refused

from .deadlines import Deadlines
from .jobs import Job, Rejected
from .slots import Slot, Slots

logger = logging.getLogger("umbel")


class Caller:
    """Starts jobs, and owns all tasks of one server. A job whose function must be awaited becomes a task.

    At most ``max_running`` functions of one client run at the same time. Further jobs wait here, and the core
    stops reading from that client. So the event queue of the core bounds what can wait.

    Attributes:
        slots: the clients, and the way to the core.
        loop: the loop that functions run on.
        context: the context in which clients begin. Functions run in copies of it.
        cancelled: number of functions that were cancelled at the end of the server.
    """

    def __init__(
        self,
        slots: Slots,
        settings: Settings,
        loop: asyncio.AbstractEventLoop,
        interrupt: Callable[[], None],
    ) -> None:
        self.slots = slots
        self.loop = loop
        self.context = copy_context()
        self.cancelled = 0
        self._interrupt = interrupt
        self._most = settings.max_running
        self._deadlines = Deadlines(loop, settings.handler_timeout)
        self._backlogs: dict[Slot, deque[Job]] = {}  # jobs that wait, of the clients that have any
        self._last: dict[Slot, Job] = {}  # the job after the backlog, of clients that have left
        self._tasks: set[asyncio.Task[None]] = set()
        self._patience: asyncio.Timeout | None = None
        self._ending = False  # the time to stop is over: only last jobs are started

    # Jobs

    def submit(self, slot: Slot, job: Job) -> None:
        """Start a job of a client, or let it wait for its turn."""
        if slot.closed_here or self._ending:
            return
        backlog = self._backlogs.get(slot)
        if backlog is None:
            if not slot.opening and slot.running < self._most:
                self.start(job)
                return
            backlog = self._backlogs[slot] = deque()
        backlog.append(job)
        if not slot.paused:
            slot.paused = True
            self.slots.core.pause_reading(slot.number)

    def submit_last(self, slot: Slot, job: Job) -> None:
        """Start a job when all other jobs of a client have started, even at the end of the server."""
        self._last[slot] = job
        if not slot.opening:
            self.advance(slot)

    def advance(self, slot: Slot) -> None:
        """Start jobs that wait. When none waits, read from the client again, or start its last job."""
        if backlog := self._backlogs.get(slot):
            while backlog and slot.running < self._most and not (slot.closed_here or self._ending):
                self.start(backlog.popleft())
            if backlog and not (slot.closed_here or self._ending):
                return
            self._backlogs.pop(slot, None)
        if slot.paused and slot.running <= self._most // 2:
            slot.paused = False
            if not slot.gone:
                self.slots.core.resume_reading(slot.number)
        if slot.gone and (job := self._last.pop(slot, None)):
            if slot.running and not self._ending:
                # Tasks that were made just now take their first step before it.
                self.loop.call_soon(self.start, job)
            else:
                self.start(job)

    def drop(self, slot: Slot) -> None:
        """Forget all jobs of a client that wait."""
        self._backlogs.pop(slot, None)
        self._last.pop(slot, None)

    def start(self, job: Job, deadlines: Deadlines | None = None) -> None:
        """Call the function of a job. If it returns an awaitable, a task awaits it.

        The function runs in a context of its own. No other function sees the context variables that it sets.
        """
        slot = job.slot
        context = (self.context if slot is None else slot.context).copy()
        try:
            awaitable = context.run(called, job)
        except BaseException as error:
            context.run(self._failed, job, error)
            return
        if awaitable is None:
            return
        if slot is not None:
            slot.running += 1
        deadlines = deadlines or self._deadlines
        job.task = self.spawn(self._finish(job, awaitable, deadlines), context)
        deadlines.add(job)

    async def _finish(self, job: Job, awaitable: Awaitable[object], deadlines: Deadlines) -> None:
        try:
            value = await awaitable
            if not job.expired:
                job.done(value)
        except GeneratorExit:
            raise  # the loop was closed: nobody can be told
        except BaseException as error:
            self._failed(job, error)
        deadlines.discard(job)
        job.task = None
        if job.slot is not None:
            job.slot.running -= 1
            self.advance(job.slot)

    def _failed(self, job: Job, error: BaseException) -> None:
        if isinstance(error, Refused):
            if not job.expired:
                job.fail("not_allowed", error.reason, close=error.code)
        elif isinstance(error, Rejected):
            job.fail(error.code, str(error))
        elif self._ending and isinstance(error, asyncio.CancelledError):
            self.cancelled += 1
        elif job.expired and isinstance(error, asyncio.CancelledError):
            logger.warning("%s for %r was cancelled: its time was over", job.name, job.origin)
        else:
            incident = self.failed(error, "%s failed for %r", job.name, job.origin)
            if not job.expired:
                text = "the server failed to do this; the details are in its log"
                job.fail("internal", text, incident)

    def failed(self, error: BaseException, text: str, *values: object) -> str:
        """Log an error of a function. A KeyboardInterrupt also stops the server.

        Returns:
            A new incident: an id that is in the log and in what the client is told.
        """
        incident = secrets.token_hex(6)
        logger.error(f"{text} (incident %s)", *values, incident, exc_info=error)
        if isinstance(error, KeyboardInterrupt):
            self.loop.call_soon(self._interrupt)  # when the client was told
        return incident

    # Tasks, jobs or not

    def spawn(
        self, coroutine: Coroutine[Any, Any, None], context: Context | None = None
    ) -> asyncio.Task[None]:
        """Start a task, by default in a copy of the current context. It ends with the server, or before."""
        task = self.loop.create_task(coroutine, context=context)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def end(self, seconds: float) -> int:
        """Wait until all tasks have ended, for so many seconds. Then cancel them.

        Returns:
            How many jobs were never started.
        """
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds) as self._patience:
                while self._tasks:
                    await asyncio.wait(self._tasks)
        self._patience = None
        self._ending = True
        for task in self._tasks:
            task.cancel()
        dropped = sum(map(len, self._backlogs.values()))
        self._backlogs.clear()
        for slot in list(self._last):
            if not slot.opening:
                self.advance(slot)
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=CANCEL_TIME)
        self._deadlines.clear()
        return dropped

    def hasten(self, seconds: float) -> None:
        """Shorten the time that ``end`` waits."""
        if self._patience is not None and not self._patience.expired():
            self._patience.reschedule(self.loop.time() + seconds)

    def log_stubborn(self) -> None:
        """Log the tasks that did not end when they were cancelled."""
        for task in self._tasks:
            logger.error("%r did not end when it was cancelled; it is left behind", task)


def called(job: Job) -> Awaitable[object] | None:
    """Call the function of a job, and act on its result. If that must be awaited, return it instead."""
    value = job.call()
    if isawaitable(value):
        return value
    job.done(value)
    return None


CANCEL_TIME: Final = 1.0
"""Seconds that cancelled functions get to clean up when the server stops."""

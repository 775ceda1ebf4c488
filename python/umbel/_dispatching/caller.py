"""Calls functions of the application, for each client in the order of its messages, a few at a time."""

import asyncio
import logging
import secrets
import sys
from asyncio import _unregister_task as unregister_task  # documented, under "Extending"
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from contextvars import Context, copy_context
from inspect import isawaitable
from time import perf_counter
from types import CoroutineType, NoneType
from typing import Any, Final

from umbel._clients.about import about
from umbel._declaring.settings import Settings
from umbel.exceptions import Refused, Rejected

from .deadlines import Deadlines
from .jobs import ClientError, Job
from .slots import Slot, Slots
from .threads import Threads
from .times import Times, note

logger = logging.getLogger("umbel")


class Caller:
    """Starts jobs, and owns all tasks of one server. A job whose function must be awaited becomes a task.

    At most ``max_running`` functions of one client run at the same time. Further jobs wait here. Credits
    bound how many: the core stops reading from a client with twice as many messages under way.

    Attributes:
        slots: the clients, and the way to the core.
        loop: the loop that functions run on.
        threads: those in which functions run that block.
        context: the context in which clients begin. Functions run in copies of it.
        cancelled: number of functions that were cancelled at the end of the server.
        running: jobs that are being awaited.
        called: jobs that have ended.
        called_for: seconds from the calls of these to their ends.
        times: the same for each function, while somebody looks at the dashboard.
    """

    def __init__(
        self,
        slots: Slots,
        settings: Settings,
        loop: asyncio.AbstractEventLoop,
        interrupt: Callable[[], object],
    ) -> None:
        self.slots = slots
        self.loop = loop
        self.context = copy_context()
        self.cancelled = 0
        self.running = 0
        self.called = 0
        self.called_for = 0.0
        self.times: Times | None = None
        self._interrupt = interrupt
        self._most = settings.max_running
        self.threads = Threads(loop, settings.max_threads)
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

    def withdraw(self, slot: Slot, kind: type[Job]) -> bool:
        """Forget the job that a client has submitted last if it is of this kind and has not started."""
        backlog = self._backlogs.get(slot)
        if not backlog or not isinstance(backlog[-1], kind):
            return False
        backlog.pop()
        if not backlog:
            del self._backlogs[slot]  # who submits next starts at once
        return True

    def submit_last(self, slot: Slot, job: Job) -> None:
        """Start a job when all other jobs of a client have started, even at the end of the server."""
        self._last[slot] = job
        if not slot.opening:
            self.advance(slot)

    def advance(self, slot: Slot) -> None:
        """Start jobs that wait. When none waits, start the last job of a client that has left."""
        if backlog := self._backlogs.get(slot):
            while backlog and slot.running < self._most and not (slot.closed_here or self._ending):
                self.start(backlog.popleft())
            if backlog and not (slot.closed_here or self._ending):
                return
            self._backlogs.pop(slot, None)
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
        job.began = perf_counter()
        context = (self.context if slot is None else slot.context).copy()
        awaitable = None
        if not job.awaits:
            try:
                awaitable = context.run(called, job)
            except BaseException as error:
                context.run(self._failed, job, error)
            if awaitable is None:
                self._ended(job)
                return
        deadlines = deadlines or self._deadlines
        task = begin(self._finish(job, awaitable, deadlines), self.loop, context)
        if not task.done():
            job.task = self._own(task)
            self.running += 1
            if slot is not None:
                slot.running += 1
            deadlines.add(job)

    async def _finish(self, job: Job, awaitable: Awaitable[object] | None, deadlines: Deadlines) -> None:
        try:
            value = await (job.call() if awaitable is None else awaitable)  # type: ignore[misc]
            if not job.expired:
                job.done(value)
        except BaseException as error:
            if isinstance(error, GeneratorExit) and (self._ending or not self.loop.is_running()):
                raise  # Python closes the coroutine after its loop: nobody can be told
            self._failed(job, error)
        self._ended(job)
        if job.task is None:
            return  # it did not wait, so `start` has not returned yet
        job.task = None
        deadlines.discard(job)
        self.running -= 1
        slot = job.slot
        if slot is not None:
            slot.running -= 1
            self.advance(slot)

    def _ended(self, job: Job) -> None:
        seconds = perf_counter() - job.began
        self.called += 1
        self.called_for += seconds
        if self.times is not None:
            note(self.times, job.name, seconds)
        job.ended()

    def _failed(self, job: Job, error: BaseException) -> None:
        try:
            self._tell_failure(job, error)
        except Exception as unsayable:  # what the application says can't be encoded
            self._tell_failure(job, unsayable)

    def _tell_failure(self, job: Job, error: BaseException) -> None:
        if isinstance(error, Refused):
            if not job.expired:
                job.fail("not_allowed", error.reason, close=error.code)
        elif isinstance(error, Rejected):
            if not job.expired:
                job.reject(error)
        elif isinstance(error, ClientError):
            job.fail(error.code, str(error))
        elif self._ending and isinstance(error, asyncio.CancelledError):
            self.cancelled += 1
        elif job.expired and isinstance(error, asyncio.CancelledError):
            if job.failures is None:  # otherwise the core counts and logs it
                text = "%s for %r was cancelled: its time was over"
                logger.warning(text, job.name, job.origin, extra=about(job.origin))
        else:
            incident = self._log_failure(job, error)
            if not job.expired:
                text = "the server failed to do this"
                job.fail("internal", f"{text}; the details are in its log" if incident else text, incident)

    def _log_failure(self, job: Job, error: BaseException) -> str | None:
        """Log a failure, and return its incident. ``None`` when it is only counted: the next line tells."""
        count = 1 if job.failures is None or not isinstance(error, Exception) else job.failures.note()
        if count == 0:
            return None
        text = "%s failed for %r" if count == 1 else f"%s failed for %r, and {count - 1} times before that"
        return self.failed(error, text, job.name, job.origin)

    def failed(self, error: BaseException, text: str, *values: object) -> str:
        """Log an error of a function. A KeyboardInterrupt also stops the server.

        Returns:
            A new incident: an id that is in the log and in what the client is told.
        """
        incident = secrets.token_hex(6)
        extra = about(*values, incident=incident)
        logger.error(f"{text} (incident %s)", *values, incident, exc_info=error, extra=extra)
        if isinstance(error, KeyboardInterrupt):
            self.loop.call_soon(self._interrupt)  # when the client was told
        return incident

    # Tasks, jobs or not

    def spawn(
        self, coroutine: Coroutine[Any, Any, None], context: Context | None = None
    ) -> asyncio.Task[None]:
        """Start a task, by default in a copy of the current context. It ends with the server, or before.

        The task factory of the loop is not asked: what begins here must not run before this returns.
        """
        return self._own(asyncio.Task(coroutine, loop=self.loop, context=context))

    def _own(self, task: asyncio.Task[None]) -> asyncio.Task[None]:
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def end(self, seconds: float) -> int:
        """Wait until all tasks have ended, for so many seconds. Then cancel them.

        Returns:
            How many jobs were never started.
        """
        told = False
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds) as self._patience:
                while self._tasks:
                    done, _ = await asyncio.wait(self._tasks, timeout=None if told else LONG_WAIT)
                    if not done and not told:
                        told = True
                        logger.info("the stop waits for %s", self._names())
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
        if self._tasks:  # the last jobs of clients, too, which were started meanwhile
            for task in self._tasks:
                task.cancel()
            await asyncio.wait(self._tasks, timeout=LAST_TURN)
        self._deadlines.clear()
        self.threads.stop()
        return dropped

    def _names(self) -> str:
        """Name what runs, for the log: the most frequent functions first."""
        names = Counter(map(name_of, self._tasks))
        return ", ".join(f"{name} ({count})" for name, count in names.most_common(5))

    def hasten(self, seconds: float) -> None:
        """Shorten the time that ``end`` waits."""
        if self._patience is not None and not self._patience.expired():
            self._patience.reschedule(self.loop.time() + seconds)

    def leave_behind(self) -> None:
        """Log the tasks that did not end in time, and let nobody wait for them. `asyncio.run` would."""
        for task in self._tasks:
            unregister_task(task)
            logger.error("%s did not end in time when the server stopped; it is left behind", name_of(task))


def called(job: Job) -> Awaitable[object] | None:
    """Call the function of a job, and act on its result. If that must be awaited, return it instead."""
    value = job.call()
    kind = type(value)
    # `isawaitable` takes longer than most functions.
    if kind is CoroutineType or (kind not in PLAIN and isawaitable(value)):
        return value  # type: ignore[return-value]
    job.done(value)
    return None


def name_of(task: asyncio.Task[None]) -> str:
    """Name the function that a task runs. A name of its own for each task would cost each message."""
    coroutine: Any = task.get_coro()
    found = coroutine.cr_frame.f_locals if coroutine.cr_frame else {}
    if isinstance(job := found.get("job"), Job):
        return job.name
    if route := found.get("route"):
        return f"function of websocket path {route.pattern!r}"
    if "stream" in found:
        return f"stream {found['message'].type!r}"
    if function := found.get("function"):
        return f"background task {function.__qualname__}"
    name: str = coroutine.__qualname__
    return name


PLAIN: Final = frozenset({NoneType, bool, int, float, str, list, dict})
"""Types of results that can't be awaited."""

LONG_WAIT: Final = 1.0
"""Seconds after which the log says what the stop waits for."""

CANCEL_TIME: Final = 1.0
"""Seconds that cancelled functions get to clean up when the server stops. So long the last functions of
clients may run.
"""

LAST_TURN: Final = 0.25
"""Seconds that those get to clean up which were cancelled last."""


if sys.version_info >= (3, 12):

    def begin(
        coroutine: Coroutine[Any, Any, None], loop: asyncio.AbstractEventLoop, context: Context
    ) -> asyncio.Task[None]:
        """Make a task that runs here until it waits. The task factory of the loop is not asked."""
        return asyncio.Task(coroutine, loop=loop, context=context, eager_start=True)

else:

    def begin(
        coroutine: Coroutine[Any, Any, None], loop: asyncio.AbstractEventLoop, context: Context
    ) -> asyncio.Task[None]:
        """Make a task. It runs later: Python 3.11 can't run it here until it waits."""
        return asyncio.Task(coroutine, loop=loop, context=context)

"""Everything that runs on the event loop for one server. It ends with the server at the latest."""

import asyncio
import logging
from collections.abc import Coroutine
from contextlib import suppress
from contextvars import Context
from typing import Any, Final

logger = logging.getLogger("umbel")


class Tasks:
    """The tasks of one server."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._tasks: set[asyncio.Task[None]] = set()
        self._patience: asyncio.Timeout | None = None

    def spawn(
        self, coroutine: Coroutine[Any, Any, None], context: Context | None = None
    ) -> asyncio.Task[None]:
        """Start a task, in a copy of the current context if none is given."""
        task = self.loop.create_task(coroutine, context=context)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def wait(self, seconds: float) -> None:
        """Wait until all tasks have ended, for so many seconds at most."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds) as self._patience:
                while self._tasks:
                    await asyncio.wait(self._tasks)
        self._patience = None

    def hasten(self, seconds: float) -> None:
        """Shorten the time that `wait` has left."""
        if self._patience is not None and not self._patience.expired():
            self._patience.reschedule(self.loop.time() + seconds)

    def cancel(self) -> None:
        """Cancel what runs."""
        for task in self._tasks:
            task.cancel()

    async def wait_cancelled(self) -> None:
        """Wait until cancelled tasks have cleaned up."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=CANCEL_TIME)

    def log_stubborn(self) -> None:
        """Log the tasks that did not end."""
        for task in self._tasks:
            logger.error("%r did not end when it was cancelled; it is left behind", task)


CANCEL_TIME: Final = 1.0
"""Seconds that cancelled functions get to clean up when the server stops."""

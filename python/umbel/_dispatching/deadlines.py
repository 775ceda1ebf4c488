"""Deadlines of jobs, with one timer for all of them."""

import asyncio
from typing import Protocol


class Expiring(Protocol):
    """Something that has a deadline."""

    def expire(self) -> None:
        """Called once, when the deadline has passed."""


class Deadlines:
    """Jobs that all have the same number of seconds.

    So they expire in the order in which they were added, and a dictionary is the queue. To add and discard a
    job costs a tenth of an ``asyncio.timeout``.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, seconds: float | None) -> None:
        self._loop = loop
        self._seconds = seconds
        self._due: dict[Expiring, float] = {}
        self._timer: asyncio.TimerHandle | None = None

    def add(self, job: Expiring) -> None:
        """Start the time of a job."""
        if self._seconds is None:
            return
        due = self._due[job] = self._loop.time() + self._seconds
        if self._timer is None:
            self._timer = self._loop.call_at(due, self._expire)

    def discard(self, job: Expiring) -> None:
        """Forget a job that has ended. The timer stays, for the next job."""
        self._due.pop(job, None)

    def clear(self) -> None:
        """Forget all jobs and the timer."""
        self._due.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _expire(self) -> None:
        self._timer = None
        now = self._loop.time()
        expired = []
        for job, due in self._due.items():
            if due > now:
                self._timer = self._loop.call_at(due, self._expire)
                break
            expired.append(job)
        for job in expired:
            del self._due[job]
            job.expire()

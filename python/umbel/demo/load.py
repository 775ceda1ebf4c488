"""The processes that hold simulated subscribers: started, watched and ended."""

from __future__ import annotations

import asyncio
import json
import sys
from contextlib import suppress
from typing import Any, Final


class Load:
    """Simulated subscribers, a thousand per process.

    Attributes:
        limit: subscribers at most.
        reason: why there may be no more.
    """

    def __init__(self, limit: int, channels: list[str]) -> None:
        self.limit: Final = limit
        self.reason: Final = (
            f"{limit:,} is the most: every connection needs a file descriptor here"
            if limit < MOST
            else f"{limit:,} is the most"
        )
        self._channels = channels
        self._processes: dict[asyncio.subprocess.Process, dict[str, Any]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def wanted(self) -> int:
        """Subscribers that were asked for."""
        return len(self._processes) * SIZE

    def totals(self) -> dict[str, float]:
        """Add up what the processes report."""
        totals = dict.fromkeys(("connected", "frames", "messages", "gaps", "lost", "cpu"), 0.0)
        for report in self._processes.values():
            for name in totals:
                totals[name] += report.get(name, 0)
        return totals

    async def add(self, url: str) -> bool:
        """Start another thousand; ``False`` at the limit."""
        if self.wanted + SIZE > self.limit:
            return False
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "umbel.demo.load_process",
            *("--count", str(SIZE), "--url", url, "--channels", *self._channels),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            start_new_session=True,  # Ctrl-C is for us; they end when their input does
        )
        self._processes[process] = {}
        task = asyncio.create_task(self._follow(process))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return True

    async def remove(self) -> None:
        """End them all and wait until they are gone."""
        for process in list(self._processes):
            if process.stdin is not None:
                process.stdin.close()
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=END_TIME)
            for process in list(self._processes) if late else ():
                with suppress(ProcessLookupError):
                    process.kill()
            if late:
                await asyncio.wait(late)

    async def _follow(self, process: asyncio.subprocess.Process) -> None:
        """Read the reports of one process until it ends. `remove` and the end of this program stop it."""
        assert process.stdout is not None
        try:
            while line := await process.stdout.readline():
                with suppress(ValueError):
                    self._processes[process] = json.loads(line)
            await process.wait()
        finally:
            del self._processes[process]


def affordable(descriptors: int, connections: int) -> int:
    """Return how many simulated subscribers fit, in whole thousands."""
    free = min(descriptors - SPARE, connections)
    return max(0, min(MOST, free // SIZE * SIZE))


SIZE: Final = 1000
"""Subscribers per process and press of the button."""

MOST: Final = 10_000
"""More than a machine with two cores serves at full rate, which is worth seeing."""

SPARE: Final = 200
"""Descriptors for everything else: pages, files of /proc, pipes to the processes."""

END_TIME: Final = 3.0
"""Seconds for the processes to end by themselves."""

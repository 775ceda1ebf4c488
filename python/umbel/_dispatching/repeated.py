"""What may happen very often, and is logged with a number instead."""

import asyncio
from math import inf
from typing import Final


class Repeated:
    """Counts one kind of event between two log lines about it."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._count = 0
        self._next = -inf

    def note(self) -> int:
        """Count one.

        Returns:
            How many there were since the last line, when another line may be written, and otherwise 0.
        """
        self._count += 1
        now = self._loop.time()
        if now < self._next:
            return 0
        self._next = now + LINE_INTERVAL
        count, self._count = self._count, 0
        return count


LINE_INTERVAL: Final = 10.0
"""Seconds between two lines about the same."""

"""The clocks of a client, and the timer of its machine."""

import asyncio
import time
from collections.abc import Callable
from typing import Final

from ._machine import Machine


class Timer:
    """Calls `Machine.tick` when it is due, and `Machine.probe` when the machine has slept.

    It looks at the clocks all the time that something is due. When nothing is, there is no timer.
    """

    def __init__(self, machine: Machine, act: Callable[[], None], clock: Callable[[], float]) -> None:
        self._machine = machine
        self._act = act
        self._now = clock
        self._loop = asyncio.get_running_loop()
        self._handle: asyncio.TimerHandle | None = None
        self._due = 0.0
        self._drift = drift()

    def set(self) -> None:
        """Look when something is due. An earlier call of the timer does no harm: it looks again."""
        deadline = self._machine.deadline
        if deadline is None:
            if self._handle:
                self._handle.cancel()
                self._handle = None
            return
        at = min(deadline, self._now() + CLOCK_CHECK)
        if self._handle and self._due <= at:
            return
        if self._handle:
            self._handle.cancel()
        self._due = at
        self._handle = self._loop.call_later(max(0.0, at - self._now()) / 1000, self._tick)

    def _tick(self) -> None:
        self._handle = None
        before, self._drift = self._drift, drift()
        if abs(self._drift - before) > JUMP:
            self._machine.probe(self._now(), "clock")
        deadline = self._machine.deadline
        if deadline is not None and deadline <= self._now():
            self._machine.tick(self._now())
        self._act()
        self.set()


def now() -> float:
    """Milliseconds of a clock that only goes forward."""
    return time.monotonic() * 1000


def drift() -> float:
    """Seconds between the clocks. While a machine sleeps, the monotonic one stands still."""
    return time.time() - time.monotonic()


CLOCK_CHECK: Final = 1500.0
"""Milliseconds between two looks at the clocks: with the time for a probe, back in less than 7 s after a
sleep.
"""

JUMP: Final = 1.0
"""Seconds by which the clocks have to differ more than before."""

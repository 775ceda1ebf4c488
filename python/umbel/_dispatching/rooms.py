"""Functions that wait until clients have taken what was published."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from itertools import count
from typing import Final


class Rooms:
    """Functions that wait for room, by the number under which the core tells that there is some."""

    def __init__(self) -> None:
        self._numbers = count(1)
        self._waiting: dict[int, asyncio.Future[None]] = {}

    async def wait(self, has_room: Callable[[int], bool]) -> None:
        """Wait until there is room. Any event loop may do so.

        Args:
            has_room: asks the core, which tells by this number when there is room later.
        """
        number = next(self._numbers)
        # Before the core is asked: on another thread its event could come in between.
        future = self._waiting[number] = asyncio.get_running_loop().create_future()
        try:
            if not has_room(number):
                await future
            elif number % OTHERS_TURN == 0:
                await asyncio.sleep(0)  # a producer that always finds room must not hold up the loop
        finally:
            del self._waiting[number]

    def told(self, number: int) -> None:
        """Handle the event of the core."""
        if future := self._waiting.get(number):
            # Its loop may be another one, and may have ended.
            with suppress(RuntimeError):
                future.get_loop().call_soon_threadsafe(settle, future)

    def stop(self) -> None:
        """Let nobody wait any longer: the server has stopped."""
        for number in list(self._waiting):
            self.told(number)


def settle(future: asyncio.Future[None]) -> None:
    """End a wait, unless it was cancelled."""
    if not future.done():
        future.set_result(None)


OTHERS_TURN: Final = 32
"""Questions of a producer between two turns of the others on its loop."""

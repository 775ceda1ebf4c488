"""Fixtures: a dispatcher on a core in memory, and the application it serves."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from fake_core import FakeCore
from looping import settle
from umbel import Umbel
from umbel._declaring.settings import Settings
from umbel._dispatching.dispatcher import Dispatcher


class Bench:
    """A dispatcher under test. Made inside the running loop."""

    def __init__(self, app: Umbel, **settings: Any) -> None:
        self.core = FakeCore()
        self.interrupts = 0
        self.stopped = 0
        self.dispatcher = Dispatcher(
            self.core,  # type: ignore[arg-type]
            app._routes,
            Settings(**settings),
            asyncio.get_running_loop(),
            self._stopped,
            self._interrupt,
        )

    def _stopped(self) -> None:
        self.stopped += 1

    def _interrupt(self) -> None:
        self.interrupts += 1

    async def run(self) -> None:
        """Handle all events, and let everything run that needs no time."""
        while self.core.events:
            self.dispatcher.drain()
        await settle()

    def client(self, key: int = 1) -> Any:
        return self.dispatcher._clients[key]

    @property
    def answers(self) -> list[Any]:
        """Bodies of the replies, without their timestamps."""
        return [
            {name: value for name, value in body.items() if name != "timestamp"}
            for _, body in self.core.replies
        ]


@pytest.fixture
def app() -> Umbel:
    return Umbel()


@pytest.fixture
def bench(app: Umbel) -> Callable[..., Bench]:
    def make(**settings: Any) -> Bench:
        return Bench(app, **settings)

    return make

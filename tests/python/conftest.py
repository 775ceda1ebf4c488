"""Fixtures: a dispatcher on a core in memory, and the application it serves."""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from fake_core import FakeCore
from looping import settle
from umbel import Client, Settings, Umbel
from umbel._dispatching.dispatcher import Dispatcher
from umbel._dispatching.runs import Runs
from umbel._dispatching.slots import Slot
from umbel._serving.server import Server

os.environ["no_proxy"] = "127.0.0.1,localhost"
"""The client takes proxies from the environment."""


class Bench:
    """A dispatcher under test. Made inside the running loop."""

    def __init__(self, app: Umbel, **settings: Any) -> None:
        self.core = FakeCore()
        self.interrupts = 0
        self.stopped = 0
        self.dispatcher = Dispatcher(
            self.core,  # type: ignore[arg-type]
            app._declared,
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

    def slot(self, number: int = 1) -> Slot:
        return self.dispatcher._slots.by_number[number]

    def client(self, number: int = 1) -> Client:
        return self.slot(number).client

    @property
    def runs(self) -> Runs:
        return self.dispatcher._runs

    def waiting(self) -> int:
        """Jobs that wait for their turn."""
        return sum(map(len, self.dispatcher._caller._backlogs.values()))

    def tasks(self) -> int:
        """Tasks that run."""
        return len(self.dispatcher._caller._tasks)

    @property
    def replies(self) -> list[Any]:
        """Bodies of the replies."""
        return [body for _, body in self.core.replies]


@pytest.fixture
def app() -> Umbel:
    return Umbel()


@pytest.fixture
def bench(app: Umbel) -> Callable[..., Bench]:
    def make(**settings: Any) -> Bench:
        return Bench(app, **settings)

    return make


@pytest.fixture
def serving(app: Umbel) -> Iterator[Any]:
    """Starts servers in a thread of their own."""
    with contextlib.ExitStack() as stack:

        def serve(**settings: Any) -> Server:
            ready: list[Server] = []
            listening, stop = threading.Event(), []

            async def work() -> None:
                async with app.serve(port=0, shards=1, **settings) as server:
                    ready.append(server)
                    stop.append(server.stop)
                    listening.set()
                    await server.wait_closed()

            thread = threading.Thread(target=lambda: asyncio.run(work()))
            thread.start()
            assert listening.wait(10)
            stack.callback(thread.join, 10)
            stack.callback(lambda: stop[0]())
            return ready[0]

        yield serve

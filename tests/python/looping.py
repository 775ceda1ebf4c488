"""Ways to run a coroutine test: on a loop whose time is virtual, or on each supported event loop."""

from __future__ import annotations

import asyncio
import functools
import importlib.util
import inspect
import selectors
import sys
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

Test = Callable[..., Coroutine[Any, Any, None]]


class VirtualSelector(selectors.DefaultSelector):
    """Never waits for time: what the loop would have slept is added to its clock."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(None if timeout is None else 0)
        if not ready and timeout:
            self.now += timeout
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop on which an hour passes in no time."""

    def __init__(self) -> None:
        self._clock = VirtualSelector()
        super().__init__(self._clock)

    def time(self) -> float:
        return self._clock.now


def virtual(test: Test) -> Callable[..., None]:
    """Run a coroutine test in virtual time."""

    @functools.wraps(test)
    def wrapper(*arguments: Any, **keywords: Any) -> None:
        with asyncio.Runner(loop_factory=VirtualLoop) as runner:
            runner.run(test(*arguments, **keywords))

    return wrapper


def on_loops(test: Test) -> Callable[..., None]:
    """Run a coroutine test once per event loop that is installed."""

    @functools.wraps(test)
    def wrapper(*arguments: Any, loop_factory: Any, **keywords: Any) -> None:
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            # pytest-timeout can't interrupt uvloop.
            runner.run(asyncio.wait_for(test(*arguments, **keywords), TEST_TIME))

    signature = inspect.signature(test)
    parameter = inspect.Parameter("loop_factory", inspect.Parameter.KEYWORD_ONLY)
    wrapper.__signature__ = signature.replace(parameters=[*signature.parameters.values(), parameter])  # type: ignore[attr-defined]
    return pytest.mark.parametrize("loop_factory", FACTORIES)(wrapper)


async def settle(turns: int = 20) -> None:
    """Let everything run that can run without time passing."""
    for _ in range(turns):
        await asyncio.sleep(0)


TEST_TIME = 40.0
"""Seconds for one test on a real loop."""

FACTORIES = [pytest.param(asyncio.SelectorEventLoop, id="asyncio")]
if importlib.util.find_spec("uvloop"):
    import uvloop

    FACTORIES.append(pytest.param(uvloop.new_event_loop, id="uvloop"))


def eager_loop() -> asyncio.AbstractEventLoop:
    """A loop of an application that starts its tasks eagerly."""
    loop = asyncio.SelectorEventLoop()
    loop.set_task_factory(asyncio.eager_task_factory)
    return loop


if sys.version_info >= (3, 12):
    FACTORIES.append(pytest.param(eager_loop, id="eager"))

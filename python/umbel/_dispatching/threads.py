"""Functions that block, in threads."""

import asyncio
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from contextvars import copy_context
from functools import partial
from queue import SimpleQueue
from threading import Thread
from typing import Any

from umbel._declaring.functions import InThread

from .rooms import settle


class Threads:
    """The threads of one server. They are made when they are needed, and end with it.

    They are daemons, which those of `concurrent.futures` are not. A call that never ends can't be
    interrupted, and would keep the process from ending.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, most: int) -> None:
        self._loop = loop
        self._most = most
        self._calls: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._begun = 0  # threads
        self._under_way = 0  # calls, those that wait for a thread included

    def bound(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return what calls a function: itself, or what calls it in a thread if it is marked so. The result
        of that must be awaited.
        """
        return partial(self._in_thread, function.function) if isinstance(function, InThread) else function

    def stop(self) -> None:
        """End the threads that wait for a call."""
        for _ in range(self._begun):
            self._calls.put(None)

    async def _in_thread(self, function: Callable[..., Any], *arguments: Any, **keywords: Any) -> Any:
        """Wait for a call of a function. When this is cancelled, a call that has begun is waited for all the
        same: its thread is not free before.

        The call sees the context variables that are set here, and those that it sets are set here after it.
        """
        context = copy_context()
        outcome: Future[Any] = Future()
        ended = self._loop.create_future()
        cancelled: asyncio.CancelledError | None = None
        self._under_way += 1
        try:
            if self._begun < min(self._under_way, self._most):
                Thread(target=self._work, name=f"umbel-function-{self._begun}", daemon=True).start()
                self._begun += 1
            call = partial(context.run, function, *arguments, **keywords)
            self._calls.put(partial(self._carry_out, call, outcome, ended))
            while not ended.done():
                try:
                    await asyncio.shield(ended)
                except asyncio.CancelledError as error:
                    cancelled = error
                    if outcome.cancel():
                        break
        finally:
            self._under_way -= 1
        if cancelled is not None:
            raise cancelled
        for variable, value in context.items():
            variable.set(value)
        return outcome.result()

    def _work(self) -> None:
        """What a thread does."""
        while carry_out := self._calls.get():
            carry_out()
            del carry_out  # and all that it holds

    def _carry_out(self, call: Callable[[], Any], outcome: Future[Any], ended: asyncio.Future[None]) -> None:
        if not outcome.set_running_or_notify_cancel():
            return
        try:
            outcome.set_result(call())
        except StopIteration as error:  # no coroutine may raise it
            outcome.set_exception(RuntimeError(f"the function raised {error!r}"))
        except BaseException as error:
            outcome.set_exception(error)
        with suppress(RuntimeError):  # the loop was closed: the server has left this call behind
            self._loop.call_soon_threadsafe(settle, ended)

"""The shell of the client machine: sockets, timers, and what the application awaits."""

import asyncio
import inspect
import logging
import random
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, Final, Protocol

from ._errors import failure, never_connected
from ._inbox import Inbox
from ._limits import Limits
from ._machine import Machine
from ._socket import Socket, reason_of
from ._state import State
from ._subscription import Subscription
from ._timer import Timer, now

Token = str | Callable[[], str | Awaitable[str | None] | None] | None


class Reader(Protocol):
    """What the updates of a subscription are for.

    Attributes:
        channel: its name.
        key: the number of the subscription in the machine.
    """

    channel: str
    key: int | None

    def begin(self, detail: dict[str, Any]) -> None:
        """It begins, or goes on after a reconnect."""

    def put(self, updates: list[Any], size: int) -> bool:
        """Returns ``False`` if no more can be taken."""

    def put_gap(self, gap: dict[str, Any]) -> None:
        """Some updates will not come."""

    def finish(self, end: dict[str, Any]) -> None:
        """Nothing more comes."""


class Shell:
    """Does what the machine says, and tells it what happens. All of it in the thread of the event loop.

    Attributes:
        state: where the connection is.
        now: the time in milliseconds.
        client_id, subject: what the server has told; empty before.
        limits: those of the application.
    """

    def __init__(
        self,
        url: str,
        token: Token,
        limits: Limits,
        on_state: Callable[[State], None] | None,
        options: dict[str, Any],
        clock: Callable[[], float] = now,
    ) -> None:
        self.state = State()
        self.client_id = ""
        self.subject: str | None = None
        self.limits = limits
        self._url, self._token, self._on_state, self._options = url, token, on_state, options
        fixed = {"token": token} if isinstance(token, str) else {"ask_token": token is not None}
        self._machine = Machine({**limits.options(), **fixed}, random.random)
        self._loop = asyncio.get_running_loop()
        self._inboxes: dict[int, Reader] = {}
        self._settled: dict[int, Callable[[bool, Any], None]] = {}
        self._runs: set[int] = set()
        self._socket: Socket | None = None
        self._asking: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.now = clock
        self._timer = Timer(self._machine, self._act, clock)
        self._frame = 0
        self._busy = False
        self.watchers: dict[object, Callable[[], None]] = {}  # called when the server has let the client in
        self._said: set[str] = set()  # warnings of this time without a connection
        self._let_in: asyncio.Future[None] = self._loop.create_future()
        self._error: Exception | None = None

    async def start(self) -> None:
        """Begin, and wait until the server has let the client in.

        Raises:
            ConnectionClosed: if it never will.
        """
        self._do("connect")
        await self._let_in

    async def stop(self) -> None:
        """Close, and wait until nothing is left: at most some seconds when the server does not answer."""
        self._do("close")
        try:
            if self._tasks:
                await asyncio.wait(self._tasks, timeout=LONGEST_CLOSE)
        finally:
            for task in (tasks := list(self._tasks)):
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    # What the application asks for

    def subscribe(self, inbox: "Reader", start: dict[str, Any] | None) -> None:
        inbox.key = self._machine.subscribe(self.now(), inbox.channel, start)
        self._inboxes[inbox.key] = inbox
        self._act()

    def go_on(self, inbox: Inbox) -> None:
        if inbox.end is None:
            self.subscribe(inbox, {"epoch": inbox.epoch, "offset": inbox.offset})

    def leave(self, inbox: "Reader") -> None:
        if inbox.key is not None and inbox.key in self._inboxes:
            del self._inboxes[inbox.key]
            self._do("unsubscribe", inbox.key)

    def drop(self, inbox: Inbox) -> None:
        """A subscription that nobody refers to is given up. Called in any thread, in the middle of
        anything.
        """
        with suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(self.leave, inbox)

    def hand(self, event: str, *arguments: Any, settled: Callable[[bool, Any], None]) -> int:
        """Make a request. `settled` is called with its outcome, once."""
        key: int = getattr(self._machine, event)(self.now(), *arguments)
        self._settled[key] = settled
        self._act()
        return key

    def send(self, event: str, *arguments: Any) -> tuple[int, asyncio.Future[tuple[bool, Any]]]:
        future: asyncio.Future[tuple[bool, Any]] = self._loop.create_future()

        def settled(ok: bool, value: Any) -> None:
            if not future.done():
                future.set_result((ok, value))

        return self.hand(event, *arguments, settled=settled), future

    async def ask(self, event: str, *arguments: Any) -> Any:
        key, future = self.send(event, *arguments)
        try:
            ok, value = await future
        except asyncio.CancelledError:
            self._settled.pop(key, None)
            self._do("cancel", key)
            raise
        if not ok:
            raise failure(value)
        return value

    def run(self, type: str, data: Any) -> tuple[int, asyncio.Future[tuple[bool, Any]]]:
        """Ask for a run. Its outcome is the subscription to its updates."""
        key, future = self.send("run", type, data)
        self._runs.add(key)
        return key, future

    def cancel(self, key: int) -> bool:
        """Cancel a request that has no outcome yet. Returns whether there is one."""
        if key not in self._settled:
            return False
        self._do("cancel", key)
        return True

    def close(self) -> None:
        self._do("close")

    # Events of sockets

    def opened(self, attempt: int, protocol: str) -> None:
        self._error = None
        self._do("opened", attempt, protocol)

    def received(self, attempt: int, data: bytes) -> int:
        """Returns how many updates there are to read."""
        self._frame = len(data)
        self._machine.received(self.now(), attempt, data)
        actions = self._machine.actions
        if len(actions) == 1 and actions[0][0] == "updates":  # nearly always: a loop costs more than that
            _, key, updates = actions.pop()
            self._act_updates(key, updates)
            return len(updates)
        self._act()
        return 0

    def closed(self, attempt: int, code: int, reason: str) -> None:
        self._do("closed", attempt, code, reason)

    def failed(self, attempt: int, error: Exception, fatal: bool) -> None:
        self._error = error
        self._do("failed", attempt, reason_of(error), fatal)

    # Inside

    def _do(self, event: str, *arguments: Any) -> Any:
        """Tell the machine what has happened, and do what it says."""
        result = getattr(self._machine, event)(self.now(), *arguments)
        self._act()
        return result

    def _act(self) -> None:
        if self._busy:  # a function of the application was called, and what it asks for comes after the rest
            return
        self._busy = True
        only_updates = True
        actions = self._machine.actions
        done = 0
        try:
            while done < len(actions):
                name, *rest = actions[done]
                done += 1
                only_updates = only_updates and name == "updates"
                getattr(self, f"_act_{name}")(*rest)
        finally:
            del actions[:done]
            self._busy = False
        if not only_updates:
            self._timer.set()

    def _act_open(self, attempt: int) -> None:
        first = not self._let_in.done()
        self._socket = Socket(attempt, self._url, self._options, self, first)
        self._socket.task.add_done_callback(lambda task: self._ended(attempt, task))
        self._keep(self._socket.task)

    def _act_send(self, attempt: int, text: str) -> None:
        if self._socket and self._socket.attempt == attempt:
            self._socket.send(text)

    def _act_drop(self, attempt: int, code: int) -> None:
        if self._asking:
            self._asking.cancel()
        if self._socket and self._socket.attempt == attempt:
            self._socket.close(code)
            self._socket = None

    def _act_ask_token(self, ticket: int) -> None:
        if self._asking:
            self._asking.cancel()
        self._asking = self._loop.create_task(self._ask_token(ticket), name="umbel client token")
        self._keep(self._asking)

    def _act_state(self, name: Any, detail: dict[str, Any]) -> None:
        if name == "connected":
            self.client_id, self.subject = detail["client_id"], detail["subject"]
            self._said.clear()
            if not self._let_in.done():
                self._let_in.set_result(None)
            for watcher in list(self.watchers.values()):
                watcher()
        retry_in = max(0.0, (detail["at"] - self.now()) / 1000) if "at" in detail else None
        failing = detail.get("failing", False) or (self.state.failing and name == "connecting")
        if failing and not self.state.failing:
            why = f"{detail['code']} {detail['reason']}".rstrip()
            logger.warning("no connection to %s (%s): further attempts follow", self._url, why)
        self.state = State(name, detail.get("code"), detail.get("reason", ""), retry_in, failing)
        if name == "closed" and not self._let_in.done():
            closed = never_connected(self._url, detail["code"], detail["reason"], self._error)
            self._let_in.set_exception(closed)
            self._let_in.exception()  # nobody waits when the block was cancelled
        logger.debug("%s: %s", self._url, self.state)
        if self._on_state:
            try:
                self._on_state(self.state)
            except Exception:
                logger.exception("on_state has failed")

    def _act_begun(self, key: int, detail: dict[str, Any]) -> None:
        if inbox := self._inboxes.get(key):
            inbox.begin(detail)

    def _act_updates(self, key: int, updates: list[Any]) -> None:
        inbox = self._inboxes.get(key)
        if inbox and not inbox.put(updates, self._frame):
            # It is asked for again when the reader has read what it has.
            del self._inboxes[key]
            self._machine.unsubscribe(self.now(), key)

    def _act_gap(self, key: int, gap: dict[str, Any]) -> None:
        if inbox := self._inboxes.get(key):
            inbox.put_gap(gap)

    def _act_ended(self, key: int, reason: dict[str, Any]) -> None:
        if inbox := self._inboxes.pop(key, None):
            if reason.get("code") == "closed" and self.state.code != 1000:
                reason = {**reason, "close_code": self.state.code}
            inbox.finish(reason)

    def _act_settled(self, key: int, ok: bool, value: Any) -> None:
        settled = self._settled.pop(key, None)
        if key in self._runs:
            self._runs.discard(key)
            value = self._begin_run(value) if ok else value
        if settled:
            settled(ok, value)

    def _act_warn(self, text: str) -> None:
        if text not in self._said:  # each attempt may say the same
            if len(self._said) > MOST_SAID:
                self._said.clear()
            self._said.add(text)
            logger.warning("%s: %s", self._url, text)

    def _begin_run(self, run: dict[str, Any]) -> Subscription:
        inbox = Inbox(run["channel"], self.limits.buffer, self.go_on)
        inbox.key, inbox.epoch = run["subscription"], run["epoch"]
        inbox.begun = {"position": {"epoch": run["epoch"], "offset": 0}, "top": 0}
        self._inboxes[run["subscription"]] = inbox
        return Subscription(inbox, self.leave, self.drop)

    async def _ask_token(self, ticket: int) -> None:
        assert callable(self._token)
        try:
            value = self._token()
            if inspect.isawaitable(value):
                value = await value
            if not isinstance(value, str | None):
                raise TypeError(f"the token function returned a {type(value).__name__}, not a str")
        except Exception as error:
            self._do("token_failed", ticket, f"{type(error).__name__}: {error}")
        else:
            self._do("token", ticket, value)

    def _ended(self, attempt: int, task: asyncio.Task[None]) -> None:
        """What no socket raises is a defect of the client: it is logged, and costs the connection only."""
        if not task.cancelled() and (error := task.exception()):
            logger.error("%s: the client has failed", self._url, exc_info=error)
            self.closed(attempt, 1006, "the client has failed")

    def _keep(self, task: asyncio.Task[None]) -> None:
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


logger = logging.getLogger("umbel.client")

MOST_SAID: Final = 20
"""Warnings that are remembered."""

LONGEST_CLOSE: Final = 5.0
"""Seconds that the end of a connection may take when the server does not answer."""

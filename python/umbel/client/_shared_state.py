"""A state, as the application has it: a map that all subscribers of a channel have."""

import asyncio
import logging
from collections.abc import Callable, Iterator, Mapping
from random import random
from typing import Any, Final, NamedTuple

from ._errors import RequestFailed, ended, failure
from ._feed import Feed
from ._shared_changes import Kind
from ._shared_machine import SharedMachine
from ._shell import Shell


class Changed(NamedTuple):
    """Where a change of a state is in its log: the new version of the entry.

    Attributes:
        epoch: the life of the log.
        offset: within it.
        resolved: the application has decided a conflict, perhaps for another value.
    """

    epoch: str
    offset: int
    resolved: bool = False


class SharedState(Mapping[str, Any]):
    """A channel with ``mode="state"``, live: what the server has, with your changes on top of it until they
    are there, too. `Connection.shared_state` makes it. It is a mapping. Do not change the values that you get
    from it.

    A change is shown when its method returns, and is sent at once. The future that is returned has the
    position when the server has the change. When the server refuses it, the change is shown no more, and the
    future raises `RequestFailed`: ``state_conflict`` says that the entry is not what was shown when you
    called; `OutcomeUnknown` that the session was lost before the answer came. To cancel the future does not
    take the change back.

    Changes of one key are sent one after another, each when the one before it is answered. Changes of several
    keys are independent. What is changed before the map was `whole` once waits for that, and takes the place
    of whatever is there.

    It ends when the server ends the subscription, with `close`, at the end of an ``async with`` block of its
    own, or at the end of the connection's block. Then it stays as it is.

    Attributes:
        channel: its name.
        reason: why the server has ended it; empty before.
    """

    def __init__(
        self,
        shell: Shell,
        channel: str,
        on_change: Callable[["SharedState", list[str]], None] | None,
        on_conflict: Callable[["SharedState", str, dict[str, Any]], None] | None = None,
        event: str | None = None,
    ) -> None:
        self.channel = channel
        self.reason = ""
        self._shell = shell
        self._on_change = on_change
        self._on_conflict = on_conflict
        self._event = event
        self._machine = SharedMachine(channel, random)
        self._waiting: dict[int, asyncio.Future[Changed]] = {}  # calls without an outcome
        self._end: dict[str, Any] | None = None
        self._known = asyncio.Event()  # it is whole, or over
        self._timer: asyncio.TimerHandle | None = None
        self._busy = False
        self._feed = Feed(channel, self._do, self._finish)
        shell.subscribe(self._feed, None)

    @property
    def whole(self) -> bool:
        """All of the state is here. Not so at first, while it comes anew, and while the client catches up."""
        return self._machine.whole

    async def ready(self) -> None:
        """Wait until all of the state is here.

        Raises:
            SubscriptionFailed: if the channel can't be had, or has another mode: ``not_a_state``.
            ConnectionClosed: if the connection is over.
        """
        await self._known.wait()
        if self._end is not None and not self._machine.whole:
            raise ended(self.channel, self._end)

    def set(self, key: str, data: Any) -> asyncio.Future[Changed]:
        """Set a key, if the entry is what is shown.

        Raises:
            TypeError: if the key is no str, or the data can't be JSON.
        """
        return self._call("set", key, data)

    def patch(self, key: str, patch: dict[str, Any]) -> asyncio.Future[Changed]:
        """Change members of an entry that is an object, whatever its others are now.

        Args:
            key: the entry has to be there: otherwise it is a ``state_conflict``.
            patch: a JSON merge patch (RFC 7396): ``None`` removes a member, and a ``dict`` is merged with the
                one that is there.

        Raises:
            TypeError: if the key is no str, or the patch is no ``dict`` or can't be JSON.
        """
        if not isinstance(patch, dict):
            raise TypeError(f"a patch is a dict, not {type(patch).__name__}")
        return self._call("patch", key, patch)

    def delete(self, key: str) -> asyncio.Future[Changed]:
        """Remove a key, if the entry is what is shown. What is not there is removed without an effect.

        Raises:
            TypeError: if the key is no str.
        """
        return self._call("delete", key, None)

    def update(self, key: str, function: Callable[[Any], Any]) -> asyncio.Future[Changed]:
        """Set a key to what a function makes of its value.

        Args:
            key: the entry may be there or not.
            function: gets a copy of the value, or ``None``, and returns the new one. It is called again when
                somebody else was faster: for ten seconds, and at most 20 times. What it raises then is raised
                by the future.

        Raises:
            TypeError: if the key is no str, or the function returns what can't be JSON.
            Exception: what the function raises when it is called first, which is at once.
        """
        return self._call("update", key, function)

    def close(self) -> None:
        """Follow the channel no longer. What was not sent fails as ``closed``. Calling it again does
        nothing.
        """
        if self._end is None:
            self._shell.leave(self._feed)
            self._finish({"code": "closed", "reason": "closed by the application"})

    async def __aenter__(self) -> "SharedState":
        """Wait as `ready` does."""
        try:
            await self.ready()
        except BaseException:
            self.close()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()

    def __getitem__(self, key: str) -> Any:
        return self._machine.shown[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._machine.shown)

    def __len__(self) -> int:
        return len(self._machine.shown)

    def __repr__(self) -> str:
        return f"<SharedState {self.channel!r} of {len(self)} keys{'' if self.whole else ', not whole'}>"

    # Inside

    def _call(self, kind: Kind, key: str, value: Any) -> asyncio.Future[Changed]:
        if not isinstance(key, str):
            raise TypeError(f"a key is a str, not {type(key).__name__}")
        future: asyncio.Future[Changed] = asyncio.get_running_loop().create_future()
        if len(self._waiting) >= MOST:
            future.set_exception(RequestFailed("queue_full", f"{self.channel} has {MOST} changes that wait"))
            return future
        self._waiting[self._machine.call(self._shell.now(), kind, key, value)] = future
        self._perform()
        return future

    def _do(self, event: str, *arguments: Any) -> None:
        getattr(self._machine, event)(self._shell.now(), *arguments)
        self._perform()

    def _perform(self) -> None:
        """What functions of the application ask for meanwhile comes after what is in the list."""
        if self._busy:
            return
        self._busy = True
        actions, done = self._machine.actions, 0
        try:
            while done < len(actions):
                name, *rest = actions[done]
                done += 1
                getattr(self, f"_act_{name}")(*rest)
        finally:
            del actions[:done]
            self._busy = False
        if self._timer:
            self._timer.cancel()
            self._timer = None
        if (deadline := self._machine.deadline) is not None:
            seconds = max(0.0, deadline - self._shell.now()) / 1000
            self._timer = asyncio.get_running_loop().call_later(seconds, self._do, "tick")

    def _act_request(self, number: int, message: dict[str, Any]) -> None:
        if self._event is not None:
            message["event"] = self._event
        self._shell.hand("change", message, settled=lambda ok, value: self._do("settled", number, ok, value))

    def _act_resolve(self, number: int, value: dict[str, Any]) -> None:
        future = self._waiting.pop(number)
        if not future.done():
            future.set_result(Changed(**value))

    def _act_reject(self, number: int, error: dict[str, Any] | Exception) -> None:
        future = self._waiting.pop(number)
        if not future.done():
            future.set_exception(error if isinstance(error, Exception) else failure(error))

    def _act_show(self, shown: list[list[Any]]) -> None:
        if self._machine.whole or self._end:
            self._known.set()
        else:
            self._known.clear()
        self._tell([key for key, *_ in shown])

    def _act_conflict(self, key: str, conflict: dict[str, Any]) -> None:
        self._call_back(self._on_conflict, key, conflict)

    def _act_leave(self, end: dict[str, Any]) -> None:
        self._shell.leave(self._feed)
        self._finish(end)

    def _finish(self, end: dict[str, Any]) -> None:
        if self.whole and end.get("code", "closed") != "closed":
            logger.warning("%s is followed no longer: %s", self.channel, end["reason"])
        self._end = end
        self.reason = end["reason"]
        self._known.set()
        self._do("ended", end)
        self._tell([])

    def _tell(self, keys: list[str]) -> None:
        self._call_back(self._on_change, keys)

    def _call_back(self, function: Callable[..., None] | None, *what: Any) -> None:
        if function:
            try:
                function(self, *what)
            except Exception:
                logger.exception("a function for %s has failed", self.channel)


logger = logging.getLogger("umbel.client")

MOST: Final = 1000
"""Changes of one map without an outcome."""

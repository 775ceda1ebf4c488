"""Who is in a channel, as the application has it."""

import asyncio
import logging
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from ._errors import OutcomeUnknown, ended
from ._feed import Feed
from ._shell import Shell

KEEP: Final[Any] = object()
"""An argument that was not given."""


class Members(Mapping[str, dict[str, Any]]):
    """Who is in a channel that is declared with ``presence=``, live. `Connection.presence` makes it. It is a
    mapping of what each client's id stands for: a dict with ``clientId``, ``subject``, ``isActive``,
    ``lastSeen``, ``currentTask``, ``typing`` and ``data``. This client is in it, too, unless the application
    hides it.

    It ends when the server ends the subscription, with `close`, at the end of an ``async with`` block of its
    own, or at the end of the connection's block. Then it stays as it is.

    Attributes:
        channel: its name.
        count: how many there are. Where they are too many to be listed, the mapping is empty.
        reason: why the server has ended it; empty before.
    """

    def __init__(self, shell: Shell, channel: str, on_change: "OnChange | None") -> None:
        self.channel = channel
        self.count = 0
        self.reason = ""
        self._shell = shell
        self._on_change = on_change
        self._shown: dict[str, dict[str, Any]] = {}
        # What has come. It is shown when it is whole: then who came and who left is the difference.
        self._entries: dict[str, dict[str, Any]] = {}
        self._touched: dict[str, None] = {}  # keys of which something else may be shown
        self._offset = 0
        self._top: float = float("inf")
        self._here = self._counted = False
        self._end: dict[str, Any] | None = None
        self._known = asyncio.Event()  # it is here, or over
        self._said: dict[str, Any] = {}  # what a lost session has forgotten
        self._saying: list[dict[str, Any]] = []  # and what has no answer yet
        self._me = (shell.client_id, shell.subject)
        self._again = False  # it was subscribed anew on this connection
        # The server demands the channel itself, and first. What is in it is for others: nothing of that comes
        # again.
        self._feeds = [
            Feed(channel, lambda *_: None, self._finish),
            Feed(f"$presence:{channel}", self._do, self._finish_presence),
        ]
        shell.watchers[self._feeds[0]] = self._let_in
        for feed, start in zip(self._feeds, ({"epoch": "", "offset": -1}, None), strict=True):
            if self._end is None:
                shell.subscribe(feed, start)

    async def ready(self) -> None:
        """Wait until all members are here.

        Raises:
            SubscriptionFailed: if the channel can't be had, or does not tell who is in it.
            ConnectionClosed: if the connection is over.
        """
        await self._known.wait()
        if not self._here and self._end is not None:
            raise ended(self.channel, self._end)

    async def update(
        self,
        *,
        active: bool | None = KEEP,
        typing: bool | None = KEEP,
        current_task: str | int | float | None = KEEP,
        data: Any = KEEP,
        volatile: bool = False,
    ) -> None:
        """Say what others see of this client, as `Connection.present` does. It is said again when the session
        was lost, without ``typing``: who types says so every three seconds.

        Raises:
            OutcomeUnknown, RequestFailed, TypeError: as `Connection.present`. A lost session is no reason.
        """
        change = named(active=active, typing=typing, current_task=current_task, data=data)
        self._saying.append(change)
        try:
            await self._shell.ask("present", self.channel, change, volatile)
        except OutcomeUnknown:
            if self._end is not None:
                raise
        finally:
            self._saying = [it for it in self._saying if it is not change]
        self._said |= {name: value for name, value in change.items() if name != "typing"}

    def close(self) -> None:
        """Follow the channel no longer. Calling it again does nothing."""
        if self._end is None:
            self._stop({"code": "closed", "reason": "closed by the application"})

    async def __aenter__(self) -> "Members":
        """Wait as `ready` does."""
        try:
            await self.ready()
        except BaseException:
            self.close()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()

    def __getitem__(self, key: str) -> dict[str, Any]:
        return self._shown[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._shown)

    def __len__(self) -> int:
        return len(self._shown)

    def __repr__(self) -> str:
        return f"<Members of {self.channel!r}: {self.count}>"

    # Inside

    def _let_in(self) -> None:
        """What this client says is for a session, and a subject. By now the channel is asked for, and the
        server takes all in order.
        """
        client_id, subject = self._me
        self._again = False
        self._me = (self._shell.client_id, self._shell.subject)
        if subject != self._shell.subject:
            self._said = {}
            self._saying = []
        if client_id != self._shell.client_id:
            for change in (self._said, *self._saying):
                if change:
                    self._shell.hand("present", self.channel, change, settled=self._said_again)

    def _said_again(self, ok: bool, value: Any) -> None:
        if not ok and value["code"] != "outcome_unknown":
            logger.warning("%s is not told again: %s", self.channel, value["message"])

    def _do(self, event: str, what: Any) -> None:
        if event == "updates":
            for update in what:
                key = update.get("key", "")
                if update.get("removed"):
                    self._entries.pop(key, None)
                else:
                    self._entries[key] = update["data"]
                self._touched[key] = None
                self._offset = update["offset"]
                self._top = max(self._top, update.get("top", 0))
        elif event == "begun":
            self._offset, self._top = what["position"]["offset"], what["top"]
            if not what.get("recovered"):
                self._clear()
        else:
            self._offset = what["to"]
            if what["reason"] != "turn":
                self._top = what.get("top", 0)
                self._clear()
        if self._offset >= self._top:
            self._show()

    def _clear(self) -> None:
        self._touched |= dict.fromkeys(self._entries)
        self._entries.clear()

    def _show(self) -> None:
        number = self._entries.get("")
        joined, left = [], []
        for key in self._touched:
            before, now = self._shown.get(key), self._entries.get(key) if key else None
            if now is not None:
                self._shown[key] = now
                if before is None:
                    joined.append(now)
            elif before is not None:
                left.append(self._shown.pop(key))
        self.count = len(self._shown) if number is None else number["count"]
        if not self._here or self._counted or number is not None:
            # Who was there already did not join, nor did those of whom only the number was known.
            joined, left = [], []
        news = bool(self._touched) or not self._here
        self._touched = {}
        self._counted, self._here = number is not None, True
        self._known.set()
        if news:
            self._tell(joined, left)

    def _finish(self, end: dict[str, Any]) -> None:
        if self._end is not None:
            return
        if self._here and end.get("code", "closed") != "closed":
            logger.warning("%s is followed no longer: %s", self.channel, end["reason"])
        self._stop(end)
        self.reason = end["reason"]
        self._tell([], [])

    def _finish_presence(self, end: dict[str, Any]) -> None:
        """In a new session the channel is asked for last if there is a new reader of it."""
        if end.get("code") != "not_subscribed" or self._again or self._end is not None:
            self._finish(end)
        else:
            self._again = True
            self._shell.subscribe(self._feeds[1], None)

    def _stop(self, end: dict[str, Any]) -> None:
        self._end = end
        self._known.set()
        self._shell.watchers.pop(self._feeds[0], None)
        for feed in reversed(self._feeds):  # last the channel: the other one would end with it
            self._shell.leave(feed)

    def _tell(self, joined: list[dict[str, Any]], left: list[dict[str, Any]]) -> None:
        if self._on_change:
            try:
                self._on_change(self, joined, left)
            except Exception:
                logger.exception("a function for %s has failed", self.channel)


OnChange = Callable[[Members, list[dict[str, Any]], list[dict[str, Any]]], None]


def named(*, active: Any, typing: Any, current_task: Any, data: Any) -> dict[str, Any]:
    """The fields of a change that were given."""
    said = {"isActive": active, "typing": typing, "currentTask": current_task, "data": data}
    return {name: value for name, value in said.items() if value is not KEEP}


logger = logging.getLogger("umbel.client")

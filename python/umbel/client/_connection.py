"""A client, as the application sees it."""

import asyncio
from collections.abc import Callable
from typing import Any

from umbel import Position

from ._errors import failure
from ._inbox import Inbox
from ._members import KEEP, Members, named
from ._run import Run
from ._shared_state import SharedState
from ._shell import Shell
from ._state import Published, State
from ._subscription import Subscription


class Connection:
    """A client of an Umbel server, for as long as its block lasts. `connect` makes it.

    It comes back after every loss of its connection, to its session if there still is one. All methods are
    for the thread of the event loop in which it was made.
    """

    def __init__(self, shell: Shell) -> None:
        self._shell = shell

    @property
    def state(self) -> State:
        """Where the connection is."""
        return self._shell.state

    @property
    def client_id(self) -> str:
        """The id that the server has given this client. A lost session changes it."""
        return self._shell.client_id

    @property
    def subject(self) -> str | None:
        """Who the server says that the client is; ``None`` for nobody in particular."""
        return self._shell.subject

    def subscribe(self, channel: str, position: Position | None = None) -> Subscription:
        """Subscribe to a channel. It begins at once, or as soon as there is a connection.

        Several subscriptions to one channel share one on the wire. Each begins as the only one would.

        Args:
            channel: its name; ``"@"`` for the direct messages to this client.
            position: an application that has stored it with its state gets what came after it, or a gap.
                Without one, the subscription begins where the channel begins for newcomers.

        Raises:
            TypeError: if the channel is no str.
        """
        if not isinstance(channel, str):
            raise TypeError(f"a channel is a str, not {type(channel).__name__}")
        inbox = Inbox(channel, self._shell.limits.buffer, self._shell.go_on)
        start = {"epoch": position.epoch, "offset": position.offset} if position else None
        self._shell.subscribe(inbox, start)
        return Subscription(inbox, self._shell.leave, self._shell.drop)

    def shared_state(
        self,
        channel: str,
        on_change: Callable[[SharedState, list[str]], None] | None = None,
        on_conflict: Callable[[SharedState, str, dict[str, Any]], None] | None = None,
        *,
        event: str | None = None,
    ) -> SharedState:
        """Follow a channel with ``mode="state"`` as a live map. It begins at once, or as soon as there is a
        connection: ``await state.ready()`` waits until all of it is here, and so does ``async with``.

        Args:
            channel: its name.
            on_change: called with the map and the keys of which something else is shown, in the thread of the
                event loop; with no keys when ``whole`` or ``reason`` has changed. What it raises is logged.
            on_conflict: called with the map, the key, and ``{"resolution": …, "conflictedChanges": […]}``
                when the application has decided between two who changed an entry at the same time. What
                counts is shown by then.
            event: the name that the changes of this map have as events of streams.

        Raises:
            TypeError: if the channel is no str.
        """
        if not isinstance(channel, str):
            raise TypeError(f"a channel is a str, not {type(channel).__name__}")
        return SharedState(self._shell, channel, on_change, on_conflict, event)

    def presence(
        self,
        channel: str,
        on_change: Callable[[Members, list[dict[str, Any]], list[dict[str, Any]]], None] | None = None,
    ) -> Members:
        """Subscribe to a channel that tells who is in it, and follow that as a live map. It begins at once,
        or as soon as there is a connection: ``await members.ready()`` waits until all of them are here, and
        so does ``async with``.

        Args:
            channel: its name.
            on_change: called with the map when something else is shown, once for each batch, with lists of
                who came and who left since the last call, in the thread of the event loop. Who was there
                already did not come; where the server tells a number instead of members, nobody comes or
                leaves. It is called, too, when ``reason`` has changed. What it raises is logged.

        Raises:
            TypeError: if the channel is no str.
        """
        if not isinstance(channel, str):
            raise TypeError(f"a channel is a str, not {type(channel).__name__}")
        return Members(self._shell, channel, on_change)

    async def request(self, type: str, data: Any = None, *, volatile: bool = False) -> Any:
        """Ask the application on the server, and wait for the answer.

        Requests are sent in the order of the calls. Without a connection they wait (``Limits.queue``). One
        that was sent when the connection broke is repeated in the same session, and done once.

        Args:
            type: the type of message that the application has a function for.
            data: what JSON can say, and what `orjson` makes of other values.
            volatile: do not wait for a connection: without one it fails as ``expired``.

        Raises:
            OutcomeUnknown: if it was sent, and the session was lost.
            RequestFailed: if it was answered with an error, or was not sent.
            TypeError: if the data can't be JSON.
        """
        return await self._shell.ask("request", type, data, volatile)

    async def publish(
        self, channel: str, data: Any, *, key: str | None = None, volatile: bool = False
    ) -> Published:
        """Publish in a channel, and wait until the publication is there.

        Args:
            channel: its name.
            data: as for `request`.
            key: in a channel that keeps the newest values, the publication takes the place of the last with
                this key.
            volatile: as for `request`.

        Raises:
            OutcomeUnknown, RequestFailed, TypeError: as `request`.
        """
        value = await self._shell.ask("publish", channel, data, key, volatile)
        return Published(value["channel"], value["offset"])

    async def present(
        self,
        channel: str,
        *,
        active: bool | None = KEEP,
        typing: bool | None = KEEP,
        current_task: str | int | float | None = KEEP,
        data: Any = KEEP,
        volatile: bool = False,
    ) -> None:
        """Say what others see of this client in a channel that is declared with ``presence=``.

        What is left out stays, and ``None`` clears it. A lost session forgets it. The client has to be
        subscribed to the channel.

        Args:
            channel: its name.
            active: whether this client is at work; at first it is.
            typing: whether it writes something. That ends after six seconds: say it every three.
            current_task: what it works at, at most 255 bytes of JSON.
            data: anything else, at most 4 KiB of JSON.
            volatile: as for `request`.

        Raises:
            OutcomeUnknown, RequestFailed, TypeError: as `request`.
        """
        change = named(active=active, typing=typing, current_task=current_task, data=data)
        await self._shell.ask("present", channel, change, volatile)

    def run(self, type: str, data: Any = None) -> Run:
        """Ask for an answer that arrives piece by piece. The request is sent at once, as `request` does.

        Raises:
            TypeError: if the data can't be JSON.
        """
        key, future = self._shell.run(type, data)

        async def start() -> Subscription:
            ok, value = await asyncio.shield(future)
            if not ok:
                raise failure(value)
            assert isinstance(value, Subscription)
            return value

        return Run(start, lambda run: self._cancel_run(run, key))

    def attach(self, channel: str, position: Position) -> Run:
        """Read a run from `position`, which its `Run.ready` has returned, for example in a program before
        this.

        Raises:
            ValueError: if the channel is empty, as ``Run.channel`` is before `Run.ready` has returned.
        """
        if not channel:
            raise ValueError("this run has not begun: await run.ready() first, then take run.channel")
        updates = self.subscribe(channel, position)

        async def start() -> Subscription:
            return updates

        return Run(start, lambda run: self._cancel_run(run, 0))

    def close(self) -> None:
        """End the session and the connection. What waits for an answer fails, and iterations end."""
        self._shell.close()

    async def _cancel_run(self, run: Run, key: int) -> bool:
        if self._shell.cancel(key):  # the machine stops it as soon as the server has named it
            return True
        await run.ready()
        data = {"runId": run.channel.removeprefix("run:")}
        return bool((await self._shell.ask("request", "ai_cancel", data, False))["cancelled"])

"""The state of a channel, as the application reads and changes it."""

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, final

from orjson import Fragment, dumps

from umbel._core import Core, Position, Receipt
from umbel._json import encode
from umbel.exceptions import Conflict

from .history import Entry, Publication
from .removed import REMOVED


@dataclass(slots=True)
class Access:
    """What the core does with states, while there is a core."""

    change: Callable[[str, str, bytes | None, str | None, Position | int | None, bool], Receipt]
    entries: Callable[[str, str | None], list[Entry]]

    def use(self, core: Core) -> None:
        """Bind it: `State.set` is as hot a path as `Umbel.publish`."""
        self.change, self.entries = core.change_state, core.entries

    def end(self, inert: Callable[..., Any]) -> None:
        """Let every use fail."""
        self.change = self.entries = inert


@final
class State:
    """The state of one channel that is declared with ``mode="state"``: for each key the value that was set
    last. `Umbel.state` returns it. It may be kept, and used by several threads.

    Attributes:
        channel: its name.
    """

    __slots__ = ("_access", "channel")

    def __init__(self, access: Access, channel: str) -> None:
        self._access = access
        self.channel = channel

    def __repr__(self) -> str:
        return f"State({self.channel!r})"

    def set(
        self, key: str, data: Any, *, version: Position | int | None = None, event: str | None = None
    ) -> Receipt:
        """Set the value of a key. Every subscriber gets it with its next batch.

        May be called from any thread. The cost depends neither on the number of subscribers nor on that of
        the keys. It is what `Umbel.publish` does with this key.

        Args:
            key: at most 255 bytes.
            data: what ``orjson.dumps`` accepts, at most 64 KiB of JSON; as for `Umbel.publish`.
            version: change it only if the entry is still the one that was read: its ``position``, or 0 if it
                was not there.
            event: as for `Umbel.publish`.

        Returns:
            A receipt: ``await`` gives the position of the change.

        Raises:
            Conflict: if the entry is another one; the exception has it.
            StateFull: if the state, or all states together, have no room for it: the message names the
                setting. Nothing is changed.
            TypeError: if the data can't be encoded as JSON.
            ValueError: if the channel has no state, or the key or the data are too long; or as for
                `Umbel.publish`.
            RuntimeError: if the application is not being served.
        """
        if type(data) is Fragment:
            text = encode(data)
        else:
            try:
                text = dumps(data)
            except TypeError:
                text = encode(data)  # raises it in other words
        try:
            return self._access.change(self.channel, key, text, event, version, False)
        except Conflict as conflict:
            conflict.entry = self._read(key)
            raise

    def patch(
        self,
        key: str,
        patch: dict[str, Any],
        *,
        version: Position | int | None = None,
        event: str | None = None,
    ) -> Receipt:
        """Change fields of the value of a key by a JSON merge patch (RFC 7396): a field that it names gets
        its value, also in objects within, and one that is ``None`` is removed. What it does not name stays.

        Two patches of different fields at the same time both count. May be called from any thread. The cost
        is linear in the size of the value.

        Args:
            key: at most 255 bytes.
            patch: what ``orjson.dumps`` makes an object of.
            version: as for `set`. With 0 the patch makes the entry; without a version it has to be there.
            event: as for `Umbel.publish`.

        Raises:
            Conflict: if the entry is another one, or is not there.
            StateFull: as for `set`.
            TypeError: if the patch can't be encoded as JSON.
            ValueError: if the patch is no object; or as for `set`, for the value that it makes.
            RuntimeError: if the application is not being served.

        Example:
            >>> from umbel import Umbel
            >>> app = Umbel()
            >>> app.channel("board:{id}", open=True, publish=True, mode="state")
            <...>
            >>> @app.on("finish_task")
            ... def finish_task(client, message):
            ...     app.state("board:1").patch(message.data["task"], {"done": True, "due": None})
        """
        return self._change(key, encode(patch), event, version, True)

    def delete(self, key: str, *, version: Position | int | None = None, event: str | None = None) -> Receipt:
        """Remove a key. Every subscriber is told so with its next batch. If the key is not there, nothing
        happens, and the receipt has the present position.

        May be called from any thread. There is always room for it.

        Args:
            key: at most 255 bytes.
            version: as for `set`. It is not looked at if the key is not there.
            event: as for `Umbel.publish`.

        Raises:
            Conflict: if the entry is another one; the exception has it.
            ValueError: if the channel has no state, or the key is too long.
            RuntimeError: if the application is not being served.
        """
        return self._change(key, None, event, version, False)

    def _change(
        self, key: str, text: bytes | None, event: str | None, version: Position | int | None, is_patch: bool
    ) -> Receipt:
        try:
            return self._access.change(self.channel, key, text, event, version, is_patch)
        except Conflict as conflict:
            conflict.entry = self._read(key)
            raise

    def _read(self, key: str) -> Publication | None:
        found = self._access.entries(self.channel, key)
        return Publication.of(found[0]) if found else None

    async def update(self, key: str, function: Callable[[Any], Any], *, event: str | None = None) -> Position:
        """Change the value of a key to what a function makes of it: read, call, and set if nobody has changed
        it meanwhile; otherwise again. So no change is lost, whoever else changes the key.

        May be called on any event loop.

        Args:
            key: at most 255 bytes.
            function: gets the value, or ``None`` if the key is not there. It returns the new value, or
                `REMOVED` to remove the key. It may be called several times, so it should do nothing else.
            event: as for `Umbel.publish`.

        Returns:
            The position of the change.

        Raises:
            Conflict: if others were faster 100 times.
            Exception: what the function raises; then nothing is changed. What `set` raises.

        Example:
            >>> from umbel import Umbel
            >>> app = Umbel()
            >>> app.channel("votes:{poll}", open=True, mode="state")
            <...>
            >>> @app.on("vote")
            ... async def vote(client, message):
            ...     await app.state("votes:1").update(message.data["for"], lambda votes: (votes or 0) + 1)
        """
        entry = self._read(key)
        for attempt in range(1, ROUNDS + 1):
            version = entry.position if entry else 0
            value = function(entry.data if entry else None)
            try:
                if value is REMOVED:
                    return await self.delete(key, version=version, event=event)
                return await self.set(key, value, version=version, event=event)
            except Conflict as conflict:
                if attempt == ROUNDS:
                    raise
                entry = conflict.entry
            # Two that always meet would do so for ever.
            await asyncio.sleep(random.uniform(0, min(PAUSE * attempt, LONGEST_PAUSE)))
        raise AssertionError

    async def get(self, key: str) -> Publication | None:
        """Return what was published for a key last; ``None`` when it is not there.

        May be called on any event loop.

        Raises:
            ValueError: if the channel has no state.
            RuntimeError: if the application is not being served.
        """
        return self._read(key)

    async def items(self) -> dict[str, Publication]:
        """Return all keys with what was published for them last, in the order of these changes.

        It is the state at one moment. The cost is linear in the number of keys, some microseconds for each.
        The event loop goes on between parts of it. May be called on any event loop.

        Raises:
            ValueError: if the channel has no state.
            RuntimeError: if the application is not being served.

        Example:
            >>> from umbel import Umbel
            >>> app = Umbel()
            >>> app.channel("board:{id}", open=True, publish=True, mode="state")
            <...>
            >>> @app.on("count")
            ... async def count(client, message):
            ...     return len(await app.state("board:1").items())
        """
        found: dict[str, Publication] = {}
        for number, entry in enumerate(self._access.entries(self.channel, None), 1):
            found[str(entry[1])] = Publication.of(entry)
            if number % AT_ONCE == 0:
                await asyncio.sleep(0)
        return found


ROUNDS: Final = 100
"""How often `State.update` calls its function at most."""

PAUSE: Final = 0.001
"""Seconds of the longest pause after the first time. With each time it may be longer, up to `LONGEST_PAUSE`:
all together at most 1.8 s.
"""

LONGEST_PAUSE: Final = 0.02

AT_ONCE: Final = 500
"""Entries that are decoded before the event loop has its turn."""

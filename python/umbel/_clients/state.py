"""The state of a channel, as the application reads and changes it."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, final

from orjson import Fragment, dumps

from umbel._core import Core, Receipt
from umbel._json import encode

from .history import Entry, Publication


@dataclass(slots=True)
class Access:
    """What the core does with states, while there is a core."""

    change: Callable[[str, str, bytes | None, str | None], Receipt]
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

    def set(self, key: str, data: Any, *, event: str | None = None) -> Receipt:
        """Set the value of a key. Every subscriber gets it with its next batch.

        May be called from any thread. The cost depends neither on the number of subscribers nor on that of
        the keys. It is what `Umbel.publish` does with this key.

        Args:
            key: at most 255 bytes.
            data: what ``orjson.dumps`` accepts, at most 64 KiB of JSON; as for `Umbel.publish`.
            event: as for `Umbel.publish`.

        Returns:
            A receipt: ``await`` gives the position of the change.

        Raises:
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
        return self._access.change(self.channel, key, text, event)

    def delete(self, key: str, *, event: str | None = None) -> Receipt:
        """Remove a key. Every subscriber is told so with its next batch. If the key is not there, nothing
        happens, and the receipt has the present position.

        May be called from any thread. There is always room for it.

        Args:
            key: at most 255 bytes.
            event: as for `Umbel.publish`.

        Raises:
            ValueError: if the channel has no state, or the key is too long.
            RuntimeError: if the application is not being served.
        """
        return self._access.change(self.channel, key, None, event)

    async def get(self, key: str) -> Publication | None:
        """Return what was published for a key last; ``None`` when it is not there.

        May be called on any event loop.

        Raises:
            ValueError: if the channel has no state.
            RuntimeError: if the application is not being served.
        """
        found = self._access.entries(self.channel, key)
        return Publication.of(found[0]) if found else None

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


AT_ONCE: Final = 500
"""Entries that are decoded before the event loop has its turn."""

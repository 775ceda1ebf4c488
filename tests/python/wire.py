"""A client of the Umbel protocol for tests, on `websockets`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import orjson
from umbel import Server
from websockets.asyncio.client import ClientConnection, connect


class Wire:
    """One connection. `updates` are taken out of their batches."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection
        self.greeting: Any = None
        self.epochs: dict[str, str] = {}
        self._waiting: list[Any] = []

    async def say(self, type: str, **fields: Any) -> None:
        await self.connection.send(orjson.dumps({"type": type, **fields}).decode())

    async def hear(self, type: str | None = None) -> Any:
        """The next message, of a type if one is given. Batches come update by update, as type `update`."""
        while True:
            while self._waiting:
                message = self._waiting.pop(0)
                if type is None or message["type"] == type:
                    return message
            async with asyncio.timeout(10):
                message = orjson.loads(await self.connection.recv())
            if message["type"] == "subscription_established":
                self.epochs[message["channel"]] = message["epoch"]
            if message["type"] == "batched_updates":
                self._waiting += [{"type": "update", **update} for update in message["updates"]]
            else:
                self._waiting.append(message)


@asynccontextmanager
async def wire(server: Server, path: str = "/ws", **options: Any) -> AsyncIterator[Wire]:
    """Connect, and wait for the greeting."""
    async with connect(server.url.replace("http", "ws", 1) + path, proxy=None, **options) as connection:
        it = Wire(connection)
        it.greeting = await it.hear("connection_established")
        yield it

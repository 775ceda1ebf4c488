"""Connections of clients that have sessions, and what becomes of them."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from umbel import Server
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed
from wire import Wire

FIRST: Any = ["umbel.v1.first", "umbel.v1"]


@asynccontextmanager
async def opened(server: Server) -> AsyncIterator[Wire]:
    """A connection on which the client speaks first."""
    url = server.url.replace("http", "ws", 1) + "/ws"
    async with connect(url, proxy=None, subprotocols=FIRST, close_timeout=1) as connection:
        assert connection.subprotocol == "umbel.v1.first"
        yield Wire(connection)


@asynccontextmanager
async def begun(server: Server, **fields: Any) -> AsyncIterator[Wire]:
    """A new session."""
    async with opened(server) as it:
        await it.say("authenticate", **fields)
        it.greeting = await it.hear("connection_established")
        yield it


@asynccontextmanager
async def resumed(server: Server, of: Wire, attempt: int, **fields: Any) -> AsyncIterator[Wire]:
    """A connection that asks for the session of another one."""
    async with opened(server) as it:
        fields = {"positions": {}, **fields}
        await it.say("resume", session=of.greeting["session"]["token"], attempt=attempt, **fields)
        it.greeting = await it.hear("connection_established")
        yield it


async def cut(it: Wire) -> None:
    """Break a connection off."""
    it.connection.transport.abort()
    await it.connection.wait_closed()


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.01)


async def closed(it: Wire) -> tuple[int, str]:
    with pytest.raises(ConnectionClosed):
        while True:
            await asyncio.wait_for(it.connection.recv(), 5)
    assert it.connection.close_code is not None
    return it.connection.close_code, it.connection.close_reason or ""

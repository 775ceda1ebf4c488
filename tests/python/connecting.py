"""What tests of the client for Python programs share."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Final

from breaking import Network, breaking
from umbel import Server
from umbel.client import Connection, Limits, State, connect

FAST: Final = Limits(window=0.01, base=0.01, cap=0.05, attempts=1000, attempts_in=1, useful=0)


async def until(condition: Callable[[], object], seconds: float = 10) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.005)


def nothing_is_left() -> bool:
    return asyncio.all_tasks() == {asyncio.current_task()}


def port_of(server: Server) -> int:
    return int(server.url.rsplit(":", 1)[1])


@asynccontextmanager
async def through(server: Server, **options: Any) -> AsyncIterator[tuple[Connection, Network]]:
    """A client behind a network that can break."""
    options = {"limits": FAST, **options}
    async with breaking(port_of(server)) as (url, network), connect(url, **options) as umbel:
        yield umbel, network


def cut(network: Network) -> None:
    for link in list(network.links):
        link.end()


def later(function: Callable[[], Callable[[State], None]]) -> Callable[[State], None]:
    """Calls what is there when a state comes; the first states come before it is."""

    def call(state: State) -> None:
        with contextlib.suppress(NameError):
            function()(state)

    return call

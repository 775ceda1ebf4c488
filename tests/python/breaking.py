"""A network between clients and a server that breaks: at any byte, in silence, or on one side only."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

EARLY = 2_000
"""Bytes within which a cut falls that was meant for the handshake and what follows it."""


class Link:
    """One connection through the network. It ends with the first of its sides, or when it is cut."""

    def __init__(self, network: Network, inner: asyncio.StreamWriter, outer: asyncio.StreamWriter) -> None:
        self.network = network
        self.inner, self.outer = inner, outer
        self.stalled = False
        self.left = network.dice.randint(1, EARLY) if network.chance(network.early) else None
        self.cut_off = False

    def pass_on(self, data: bytes, sink: asyncio.StreamWriter) -> None:
        """Pass bytes on, or as many of them as there are before a cut."""
        if self.stalled:
            return
        if self.left is not None:
            data, self.left = data[: self.left], self.left - len(data)
        sink.write(data)
        if self.left is not None and self.left <= 0:
            self.left = None
            self.cut()

    def cut(self) -> None:
        """Break it, in one way or another."""
        if self.cut_off or self.stalled:
            return
        self.network.cuts += 1
        way = self.network.dice.random()
        if way < 0.5:
            self.end()
        elif way < 0.7:
            self.stalled = True  # both sides hear nothing more
        else:
            self.stalled = True
            (self.inner if way < 0.85 else self.outer).transport.abort()

    def end(self) -> None:
        self.cut_off = True
        self.inner.transport.abort()
        self.outer.transport.abort()


class Network:
    """Listens for clients, and has the server at `port`, which may change.

    Attributes:
        early: the part of connections that are cut in their first bytes.
        cuts: how many were cut.
    """

    def __init__(self, port: int, seed: int = 0, early: float = 0.0) -> None:
        self.port = port
        self.dice = random.Random(seed)
        self.early = early
        self.cuts = 0
        self.links: set[Link] = set()

    def chance(self, part: float) -> bool:
        return self.dice.random() < part

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            far, outer = await asyncio.open_connection("127.0.0.1", self.port)
        except OSError:
            writer.transport.abort()
            return
        link = Link(self, writer, outer)
        self.links.add(link)
        try:
            await asyncio.gather(self.pump(link, reader, outer), self.pump(link, far, writer))
        finally:
            link.end()
            self.links.discard(link)

    async def pump(self, link: Link, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        try:
            while data := await source.read(4096):
                link.pass_on(data, sink)
        except OSError:
            pass
        if not link.stalled:
            link.end()

    def cut(self, link: Link | None = None) -> None:
        """Cut one connection, any if none is named."""
        links = [it for it in self.links if not it.stalled]
        if link or links:
            (link or self.dice.choice(links)).cut()

    def heal(self) -> None:
        """Nothing breaks from now on. What was silent ends."""
        self.early = 0.0
        for link in list(self.links):
            link.left = None
            if link.stalled:
                link.end()


@asynccontextmanager
async def breaking(port: int, seed: int = 0, early: float = 0.0) -> AsyncIterator[tuple[str, Network]]:
    """A network, and the URL under which clients reach the server at `port` through it."""
    network = Network(port, seed, early)
    listener = await asyncio.start_server(network.connected, "127.0.0.1", 0)
    try:
        yield f"ws://127.0.0.1:{listener.sockets[0].getsockname()[1]}/ws", network
    finally:
        listener.close()
        for link in list(network.links):
            link.end()
        while network.links:
            await asyncio.sleep(0)

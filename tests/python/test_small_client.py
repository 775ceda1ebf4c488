"""The client that the page of the protocol shows, on a network that breaks all the time."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from pages import blocks
from serving import ROOT
from umbel import Client, Request, Server, Umbel


class Breaking:
    """Passes bytes on, until its connections are cut."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._writers: set[asyncio.StreamWriter] = set()
        self.cuts = 0

    async def pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inner, outer = await asyncio.open_connection("127.0.0.1", self._port)
        self._writers |= {writer, outer}

        async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
            try:
                while data := await source.read(4096):
                    sink.write(data)
            except OSError:
                pass
            sink.transport.abort()

        await asyncio.gather(pump(reader, outer), pump(inner, writer))
        self._writers -= {writer, outer}

    def cut(self) -> None:
        for writer in self._writers:
            writer.transport.abort()
        self.cuts += bool(self._writers)


@asynccontextmanager
async def breaking(server: Server) -> AsyncIterator[tuple[str, Breaking]]:
    network = Breaking(int(server.url.rsplit(":", 1)[1]))
    listener = await asyncio.start_server(network.pass_on, "127.0.0.1", 0)
    async with listener:
        yield f"ws://127.0.0.1:{listener.sockets[0].getsockname()[1]}/ws", network


def shown() -> dict[str, Any]:
    (code,) = (
        block for block in blocks(ROOT / "docs" / "protocol.md", "python") if "async def follow" in block
    )
    names: dict[str, Any] = {}
    exec(code, names)
    names["random"] = random.Random(1)
    names["random"].random = lambda: 0.01  # type: ignore[method-assign]
    return names


async def test_it_gets_everything_once_and_in_order(app: Umbel) -> None:
    connected = []

    @app.authenticate
    def who(request: Request) -> str | None:
        return request.token

    @app.on_connect
    def greet(client: Client) -> None:
        connected.append(client)

    app.channel("room:{x}", open=True)
    told: dict[str, list[Any]] = {"room:a": [], "room:b": []}

    def tell(channel: str, data: Any) -> None:
        told.setdefault(channel, []).append(data)

    dice = random.Random(7)
    async with app.serve(port=0, shards=2) as server, breaking(server) as (url, network):
        following = asyncio.create_task(shown()["follow"](url, lambda: "ann", ["room:a", "room:b"], tell))
        async with asyncio.timeout(5):
            while app.subscribers("room:a") + app.subscribers("room:b") < 2:
                await asyncio.sleep(0.01)
        for number in range(300):
            app.publish("room:a", number)
            app.publish("room:b", -number)
            connected[0].send(number)
            if dice.random() < 0.1:
                network.cut()
            await asyncio.sleep(0.005)
        private = f"@{connected[0].id}"
        async with asyncio.timeout(10):
            while not all(len(told.get(name, ())) >= 300 for name in ("room:a", "room:b", private)):
                await asyncio.sleep(0.01)
        assert told == {
            "room:a": list(range(300)),
            "room:b": [-number for number in range(300)],
            private: list(range(300)),
        }
        assert network.cuts > 10
        assert len(connected) == 1, "it is one client all the time"
        connected[0].close(4500)
        assert await asyncio.wait_for(following, 5) == 4500


async def test_it_says_what_it_has_missed(app: Umbel) -> None:
    app.channel("room:{x}", open=True, history=3)
    told: list[Any] = []
    async with app.serve(port=0) as server, breaking(server) as (url, network):
        follow = shown()["follow"]
        following = asyncio.create_task(follow(url, str, ["room:a"], lambda _, data: told.append(data)))
        async with asyncio.timeout(5):
            while not app.subscribers("room:a"):
                await asyncio.sleep(0.01)
            app.publish("room:a", 0)
            while not told:
                await asyncio.sleep(0.01)
            network.cut()
            while app.subscribers("room:a"):
                await asyncio.sleep(0)
            for number in range(1, 11):
                app.publish("room:a", number)
            while len(told) < 5:
                await asyncio.sleep(0.01)
        assert told == [0, None, 8, 9, 10]
        following.cancel()

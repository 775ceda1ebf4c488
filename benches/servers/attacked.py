"""Umbel as a team would use it, with small limits: what strangers can do to it is measured."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator
from urllib.parse import urlsplit

import control
import umbel
from umbel import Client, Message, Request, Run, Umbel, WebSocket

MIB = 1 << 20


def application() -> Umbel:
    """Declares functions that never end, and channels that keep much."""
    app = Umbel(max_held_bytes=8 * MIB, max_log_bytes=8 * MIB, max_message=MIB, max_connections=100_000)
    never = asyncio.Event()

    @app.authenticate
    def who(request: Request) -> str:
        return request.query.get("user", "stranger")

    async def may_publish(client: Client, name: str, data: object) -> bool:
        await never.wait()
        return True

    app.channel("open:{name}", open=True)
    app.channel("asked:{name}", open=True, publish=may_publish)
    app.channel("latest:{name}", open=True, publish=True, mode="latest", history=100_000)

    @app.on("slow")
    async def slow(client: Client, message: Message) -> None:
        await never.wait()

    @app.on("mail")
    async def mail(client: Client, message: Message) -> None:
        client.send("x" * 500_000)

    @app.stream("ask")
    async def ask(run: Run, message: Message) -> AsyncIterator[str]:
        yield "x" * 1000

    @app.websocket("/deaf")
    async def deaf(websocket: WebSocket) -> None:
        await never.wait()

    return app


async def serve(port: int) -> None:
    app = application()
    loop = asyncio.get_running_loop()

    def publish(channel: str) -> None:
        app.publish(channel, "x" * 1_000_000)

    def block(text: str) -> None:
        loop.call_soon_threadsafe(time.sleep, float(text))

    def stats() -> control.Stats:
        return {}

    async with app.serve(port=port, shards=1) as server:
        control.listening(urlsplit(server.url).port or 0, umbel.__file__)
        await asyncio.to_thread(control.obey, {"publish": publish, "block": block}, stats)
    os._exit(0)


if __name__ == "__main__":
    asyncio.run(serve(control.arguments(__doc__ or "").parse_args().port))

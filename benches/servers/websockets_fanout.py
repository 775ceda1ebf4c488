"""The peer `websockets`: its broadcast() to all connections, one frame per publication."""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os

import control
from websockets.asyncio.server import ServerConnection, broadcast, serve
from websockets.extensions.permessage_deflate import ServerPerMessageDeflateFactory


class Channels:
    def __init__(self) -> None:
        self.readers: dict[str, set[ServerConnection]] = {}
        self.offsets: dict[str, int] = {}

    async def handle(self, connection: ServerConnection) -> None:
        await connection.send('{"type":"connection_established","clientId":"-"}')
        try:
            async for text in connection:
                message = json.loads(text)
                channel = message["channel"]
                if message["type"] == "publish":
                    self.publish(channel, message["data"])
                    await connection.send(
                        json.dumps({"type": "published", "id": message["id"]}, separators=(",", ":"))
                    )
                    continue
                self.readers.setdefault(channel, set()).add(connection)
                answer = {
                    "type": "subscription_established",
                    "channel": channel,
                    "epoch": "e",
                    "offset": self.offsets.get(channel, 0),
                    "id": message["id"],
                }
                await connection.send(json.dumps(answer, separators=(",", ":")))
        finally:
            for readers in self.readers.values():
                readers.discard(connection)

    def publish(self, channel: str, data: dict[str, object]) -> None:
        offset = self.offsets[channel] = self.offsets.get(channel, 0) + 1
        broadcast(self.readers.get(channel, ()), control.envelope(channel, offset, data).decode())


async def main(options: argparse.Namespace) -> None:
    logging.getLogger("websockets").setLevel(logging.CRITICAL)
    channels = Channels()
    targets = control.targets(options.channels, options.each)
    payload = control.Payload(options.payload, options.data_bytes)
    pace = control.Pace()
    loop = asyncio.get_running_loop()

    async def publish() -> None:
        while True:
            for _ in range(pace.take()):
                for name in next(targets):
                    channels.publish(name, payload.make())
            await asyncio.sleep(min(pace.wait(), 0.02))

    def rate(text: str) -> None:
        loop.call_soon_threadsafe(pace.set, float(text))

    deflate = [ServerPerMessageDeflateFactory(True, True)] if options.deflate else []
    server = serve(
        channels.handle,
        "127.0.0.1",
        options.port,
        compression=None,
        extensions=deflate,
        subprotocols=["umbel.v1"],  # type: ignore[list-item]
        ping_interval=20,
    )
    async with server as listener:
        task = asyncio.create_task(publish())
        control.listening(next(iter(listener.sockets)).getsockname()[1])
        await asyncio.to_thread(control.obey, {"rate": rate}, pace.stats)
        task.cancel()
        os._exit(0)


if __name__ == "__main__":
    asyncio.run(main(control.arguments(__doc__ or "").parse_args()))

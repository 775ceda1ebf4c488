"""The peer `socketify` (uWebSockets): publish() to a topic, batched by uWebSockets per loop iteration.

One frame per publication, but the frames of one loop iteration leave a socket in one write.
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import json
import os
from typing import Any

import control
from socketify import App, AppListenOptions, CompressOptions, OpCode


def main(options: argparse.Namespace) -> None:
    app = App()
    targets = control.targets(options.channels, options.each)
    payload = control.Payload(options.payload, options.data_bytes)
    pace = control.Pace()
    offsets: collections.Counter[str] = collections.Counter()
    loop = app.loop.loop

    def opened(ws: Any) -> None:
        ws.send('{"type":"connection_established","clientId":"-"}', OpCode.TEXT)

    def message(ws: Any, text: Any, opcode: Any) -> None:
        asked = json.loads(text)
        channel = asked["channel"]
        ws.subscribe(channel)
        answer = {
            "type": "subscription_established",
            "channel": channel,
            "epoch": "e",
            "offset": offsets[channel],
            "id": asked["id"],
        }
        ws.send(json.dumps(answer, separators=(",", ":")), OpCode.TEXT)

    async def publish() -> None:
        while True:
            for _ in range(pace.take()):
                for name in next(targets):
                    offsets[name] += 1
                    data = control.envelope(name, offsets[name], payload.make())
                    app.publish(name, data, OpCode.TEXT, options.deflate)
            await asyncio.sleep(min(pace.wait(), 0.02))

    def rate(text: str) -> None:
        loop.call_soon_threadsafe(pace.set, float(text))

    async def obey() -> None:
        await asyncio.to_thread(control.obey, {"rate": rate}, pace.stats)
        os._exit(0)

    app.ws(
        "/ws",
        {
            "compression": CompressOptions.SHARED_COMPRESSOR if options.deflate else CompressOptions.DISABLED,
            "max_backpressure": 64 * 1024 * 1024,
            "idle_timeout": 120,
            "open": opened,
            "message": message,
        },
    )
    port = options.port or control.free_port()
    app.listen(AppListenOptions(port=port, host="127.0.0.1"), lambda _: control.listening(port))
    app.loop.create_task(publish())
    app.loop.create_task(obey())
    app.run()


if __name__ == "__main__":
    main(control.arguments(__doc__ or "").parse_args())

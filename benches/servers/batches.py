"""A server that sends the same batches of updates to each client, as fast as it can.

A client that speaks the protocol is let in and subscribed first. The others say ``go``.

python batches.py FRAMES UPDATES
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

from websockets.asyncio.server import ServerConnection, serve

STAMP = "2026-11-23T07:15:45.042Z"


def frames(count: int, updates: int) -> list[str]:
    """Batches whose offsets go on from one to the next."""
    made = []
    for frame in range(count):
        those: list[dict[str, Any]] = [
            {"channel": "task:42", "offset": frame * updates + n + 1, "data": {"n": n, "done": False}}
            for n in range(updates)
        ]
        batch = {"type": "batched_updates", "updates": those, "count": updates, "timestamp": STAMP}
        made.append(json.dumps(batch, separators=(",", ":")))
    return made


async def main() -> None:
    ready = frames(*map(int, sys.argv[1:]))

    async def client(connection: ServerConnection) -> None:
        async for text in connection:
            if text != "go":
                message = json.loads(text)
                if message["type"] == "authenticate":
                    await connection.send(json.dumps(GREETING))
                    continue
                if message["type"] != "subscribe_updates":
                    continue
                answer = {"channel": "task:42", "epoch": "00000000000000e1", "offset": 0, "top": 0}
                await connection.send(
                    json.dumps({"type": "subscription_established", "id": message["id"], **answer})
                )
            for frame in ready:
                await connection.send(frame)

    async with serve(client, "127.0.0.1", 0, subprotocols=[FIRST], compression=None) as server:
        print(next(iter(server.sockets)).getsockname()[1], flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


FIRST: Any = "umbel.v1.first"

GREETING = {
    "type": "connection_established",
    "clientId": "c",
    "subject": None,
    "session": {"token": "s", "ttl": 120},
    "heartbeat": 30,
    "tick": 16,
    "reconnectWindow": 1000,
    "maxUnanswered": 64,
    "timestamp": STAMP,
}

if __name__ == "__main__":
    asyncio.run(main())

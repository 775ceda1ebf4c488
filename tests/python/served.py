"""The server of the socket tests: every channel open, clients may publish, ``/echo`` sends messages back.

python served.py '{"history": 1000, "settings": {"port": 0, "handshake_timeout": 0.3}}'
"""

from __future__ import annotations

import json
import sys

from umbel import Client, Umbel, WebSocket


def main() -> None:
    options = json.loads(sys.argv[1])
    app = Umbel(**options["settings"])
    app.channel("{name:path}", open=True, publish=True, history=options["history"], history_bytes=64 << 20)

    @app.websocket("/echo")
    async def echo(websocket: WebSocket) -> None:
        async for message in websocket:
            await websocket.send(message)

    @app.on("close_me")
    async def close_me(client: Client, message: object) -> None:
        client.close(4500, "as asked")

    app.run()


if __name__ == "__main__":
    main()

"""Echo every message on every path, as it came: what conformance suites and fuzzers are pointed at.

Run it with ``python examples/echo.py --port 9001``.
"""

import argparse

from umbel import Umbel, WebSocket

# The protocol of Umbel itself is moved out of the way, so that every path that anybody tries echoes.
app = Umbel(origins="*", max_message=16 << 20, websocket_path="/.umbel")


@app.websocket("/{path:path}")
async def echo(websocket: WebSocket, path: str) -> None:
    async for message in websocket:
        await websocket.send(message)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=9001)
    arguments = parser.parse_args()
    app.run(host=arguments.host, port=arguments.port)

"""Peers that answer requests: JSON in, JSON out, told apart by `id`. Each as its documentation shows it."""

import argparse
import asyncio
import os
import sys
from collections import defaultdict, deque
from typing import Any

import control
import orjson


def answer(text: str | bytes) -> bytes:
    message = orjson.loads(text)
    data = message["data"]
    return orjson.dumps(
        {
            "type": message["type"] + "_result",
            "id": message["id"],
            "data": {"n": data["n"] + 1, "text": data["text"]},
        }
    )


def end_with_stdin(loop: asyncio.AbstractEventLoop) -> None:
    def watch() -> None:
        sys.stdin.read()
        os._exit(0)

    loop.run_in_executor(None, watch)


def picows() -> None:
    import uvloop
    from picows import WSFrame, WSListener, WSMsgType, WSTransport, ws_create_server

    class Listener(WSListener):
        def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
            if frame.msg_type == WSMsgType.TEXT:
                transport.send(WSMsgType.TEXT, answer(frame.get_payload_as_bytes()))
            elif frame.msg_type == WSMsgType.PING:
                transport.send_pong(frame.get_payload_as_bytes())
            elif frame.msg_type == WSMsgType.CLOSE:
                transport.send_close(frame.get_close_code(), frame.get_close_message())
                transport.disconnect()

    async def serve() -> None:
        server = await ws_create_server(lambda request: Listener(), "127.0.0.1", 0)
        end_with_stdin(asyncio.get_running_loop())
        control.listening(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    uvloop.run(serve())


def socketify() -> None:
    from socketify import App, AppListenOptions, OpCode

    def message(ws: Any, text: Any, opcode: Any) -> None:
        ws.send(answer(text), OpCode.TEXT)

    app = App()
    app.ws("/ws", {"message": message, "idle_timeout": 120, "max_backpressure": 64 * 1024 * 1024})
    port = control.free_port()
    app.listen(AppListenOptions(port=port, host="127.0.0.1"), lambda _: control.listening(port))
    end_with_stdin(app.loop.loop)
    app.run()


def fastapi() -> None:
    import uvicorn
    from fastapi import FastAPI, WebSocket, WebSocketDisconnect
    from pydantic import BaseModel

    app = FastAPI()

    class Publication(BaseModel):
        channel: str
        data: Any

    @app.post("/api/v1/publish")
    async def publish(publication: Publication) -> dict[str, Any]:
        log = logs[publication.channel]
        log.append(publication.data)
        counts[publication.channel] += 1
        return {"type": "published", "channel": publication.channel, "offset": counts[publication.channel]}

    logs: dict[str, deque[Any]] = defaultdict(lambda: deque(maxlen=1000))
    counts: dict[str, int] = defaultdict(int)

    @app.websocket("/ws")
    async def ws(websocket: WebSocket) -> None:
        await websocket.accept()
        try:
            while True:
                await websocket.send_text(answer(await websocket.receive_text()).decode())
        except WebSocketDisconnect:
            pass

    class Server(uvicorn.Server):
        async def startup(self, *arguments: Any, **keywords: Any) -> None:
            await super().startup(*arguments, **keywords)
            end_with_stdin(asyncio.get_running_loop())
            control.listening(self.servers[0].sockets[0].getsockname()[1])

    config = uvicorn.Config(app, "127.0.0.1", 0, log_level="error", ws_per_message_deflate=False)
    Server(config).run()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("server", choices=["picows", "socketify", "fastapi"])
    globals()[parser.parse_args().server]()

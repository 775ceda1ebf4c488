"""The server of the socket tests: every channel open, clients may publish, ``/echo`` sends messages back.

Channels that begin with ``strict:`` close readers that fall behind, those that begin with ``latest:`` keep
the newest publication of each key. Handlers do what clients ask for: close, take their time, block the event
loop, keep the interpreter to themselves, publish as fast as they can, recite, or say what the server counts.

With ``authenticate``, the query names the user: ``?user=ann``. A client with ``?knock=1`` waits until another
one comes with ``?open=1``. A client with ``?count=3`` waits until three have knocked. With ``"at once"``
nobody waits.

python served.py '{"history": 1000, "settings": {"port": 0, "handshake_timeout": 0.3}}'
"""

from __future__ import annotations

import asyncio
import ctypes
import json
import sys
import time
from collections.abc import AsyncIterator

from umbel import Client, Message, Request, Run, Umbel, WebSocket


def guard(app: Umbel) -> None:
    knocking = 0
    is_open = False
    changed = asyncio.Condition()

    @app.authenticate
    async def who(request: Request) -> str | None:
        nonlocal knocking, is_open
        async with changed:
            if "knock" in request.query:
                knocking += 1
                changed.notify_all()
                await changed.wait_for(lambda: is_open)
            if "count" in request.query:
                await changed.wait_for(lambda: knocking >= int(request.query["count"]))
            if "open" in request.query:
                is_open = True
                changed.notify_all()
        return request.query.get("user")


def main() -> None:
    options = json.loads(sys.argv[1])
    app = Umbel(**options["settings"])
    bounds = {"history": options["history"], "history_bytes": 64 << 20, **options.get("bounds", {})}
    app.channel("strict:{name}", open=True, publish=True, overrun="close", **bounds)
    app.channel("latest:{name}", open=True, publish=True, mode="latest", **bounds)
    app.channel("run:{run_id}", open=True, **bounds)
    app.channel("{name:path}", open=True, publish=True, **bounds)

    if options.get("authenticate") == "at once":
        app.authenticate(lambda request: request.query.get("user"))
    elif options.get("authenticate"):
        guard(app)

    app.page("/long", "x" * (3 << 20))

    @app.websocket("/echo")
    async def echo(websocket: WebSocket) -> None:
        async for message in websocket:
            await websocket.send(message)

    @app.on("close_me")
    async def close_me(client: Client, message: object) -> None:
        client.close(4500, "as asked")

    @app.on("take_time")
    async def take_time(client: Client, message: Message) -> object:
        await asyncio.sleep(message.body.get("seconds", 0))
        return message.data

    @app.on("answer_at_length")
    async def answer_at_length(client: Client, message: Message) -> str:
        return "x" * int(message.body["size"])

    @app.on("block_the_loop")
    async def block_the_loop(client: Client, message: Message) -> None:
        client.send("now")
        time.sleep(message.body["seconds"])

    @app.on("keep_the_interpreter")
    async def keep_the_interpreter(client: Client, message: Message) -> None:
        # What PyDLL calls, it calls without letting go of the interpreter lock.
        ctypes.PyDLL(None).usleep(int(message.body["seconds"] * 1e6))

    @app.on("storm")
    async def storm(client: Client, message: Message) -> None:
        def publish() -> None:
            for number in range(1, message.body["count"] + 1):
                app.publish(message.body["channel"], [number, "x" * 200])

        await asyncio.to_thread(publish)

    @app.stream("recite")
    async def recite(run: Run, message: Message) -> AsyncIterator[str]:
        for number in range(message.body["words"]):
            await asyncio.sleep(0.01)
            yield f"word {number} "

    @app.on("count")
    async def count(client: Client, message: Message) -> object:
        assert app._server is not None
        stats = app._server.stats()
        names = ("connections", "subscriptions", "channels", "published", "frames", "gaps", "lost", "panics")
        return {name: getattr(stats, name) for name in names} | {"tasks": len(asyncio.all_tasks())}

    app.run()


if __name__ == "__main__":
    main()

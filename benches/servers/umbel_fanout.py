"""Umbel, to be measured: an open channel, and a publisher in the same process."""

from __future__ import annotations

import argparse
import asyncio
import ctypes
import itertools
import os
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import control
import umbel
from umbel import Client, Identity, Message, Refused, Request, Umbel, WebSocket


def application(options: argparse.Namespace) -> Umbel:
    """Declares open channels: anyone may subscribe, and clients may publish, without asking Python."""
    tokens = {}
    if options.jwt:  # other checkouts may not know it
        tokens["auth"] = umbel.JWT(key=Path(options.jwt_key).read_bytes(), algorithms=[options.jwt])
    settings = {"heartbeat": options.heartbeat, "write_timeout": options.write_timeout}
    if options.presence:
        settings["presence_limit"] = options.presence
    if options.dashboard:  # other checkouts may not know it
        settings |= {"admin": "127.0.0.1:0", "dashboard": True}
    if options.publish_path:
        settings["publish_path"] = options.publish_path
        settings["max_messages_per_second"] = 0
    app = Umbel(
        **tokens,
        tick=options.tick / 1000,
        max_connections=100_000,
        **{name: value for name, value in settings.items() if value is not None},
    )
    if options.rooms:  # other checkouts may not know it
        app.channel("room:{room}", open=True, **({"presence": True} if options.presence else {}))
    app.channel("{channel:path}", open=True, publish=True, history=options.history, mode=options.mode)
    if options.identify:

        @app.authenticate
        async def identify(request: Request) -> Identity:
            return Identity(subject=request.headers["x-user"])

    if options.tokens:
        declare_tokens(app)

    if options.requests:
        declare_requests(app)
    return app


def declare_tokens(app: Umbel) -> None:
    """Lets clients in by the token of their first message, and counts how often that is asked."""

    @app.authenticate
    async def check(request: Request) -> Identity:
        global asked
        asked += 1
        kind, _, number = (request.token or "").partition("-")
        if kind != "user" or not number.isdecimal():
            raise Refused(4401, "who is that?")
        return Identity(subject=number)


asked = 0


def declare_requests(app: Umbel) -> None:
    """Declares the same small work as a coroutine, as a plain function, and as an echo without JSON."""

    @app.on("ask")
    async def ask(client: Client, message: Message) -> object:
        return answer(message.data)

    @app.on("ask_now")
    def ask_now(client: Client, message: Message) -> object:
        return answer(message.data)

    @app.websocket("/echo")
    async def echo(websocket: WebSocket) -> None:
        async for message in websocket:
            await websocket.send(message)


def answer(data: Any) -> dict[str, Any]:
    return {"n": data["n"] + 1, "text": data["text"]}


def block(seconds: float) -> None:
    """Holds the interpreter lock: PyDLL, unlike CDLL, does not release it around the call."""
    ctypes.PyDLL(None).usleep(int(seconds * 1e6))


async def serve(options: argparse.Namespace) -> None:
    app = application(options)
    payload = control.Payload(options.payload, options.data_bytes)
    publisher = control.Publisher(app.publish, payload, control.targets(options.channels, options.each))
    loop = asyncio.get_running_loop()

    def rate(text: str) -> None:
        publisher.set_rate(float(text))

    def timeit(text: str) -> control.Stats:
        return control.time_publish(app.publish, payload, int(text))

    def burst(text: str) -> None:
        items = [payload.make() for _ in range(int(text))]
        for item in items:
            app.publish("bench", item)

    others = control.Publisher(app.publish, payload, itertools.repeat(["others"]))

    def rate_others(text: str) -> None:
        others.set_rate(float(text))

    blocks: list[int] = []

    def hold_now(seconds: float) -> None:
        blocks.append(time.monotonic_ns())
        block(seconds)
        blocks.append(time.monotonic_ns())

    def hold(text: str) -> None:
        loop.call_soon_threadsafe(hold_now, float(text))

    def stats() -> control.Stats:
        return {
            **publisher.pace.stats(),
            "publish_seconds": publisher.publish_seconds,
            "overhead_seconds": publisher.overhead_seconds,
            "others_published": others.pace.published,
            "asked": asked,
            "connections": server.stats().connections,
            "admin_url": server.admin_url,
            # When the interpreter was blocked: from, to, from, to.
            "blocks_ns": blocks,
        }

    async with app.serve(host="127.0.0.1", port=options.port, shards=options.shards) as server:
        publisher.start()
        others.start()
        control.listening(urlsplit(server.url).port or 0, umbel.__file__)
        commands = {"rate": rate, "timeit": timeit, "others": rate_others, "burst": burst, "block": hold}
        await asyncio.to_thread(control.obey, commands, stats)
    # The drain is not what is measured; connections may still be open.
    os._exit(0)


if __name__ == "__main__":
    parser = control.arguments(__doc__ or "")
    parser.add_argument("--tick", type=float, default=16.0, help="milliseconds")
    parser.add_argument("--heartbeat", type=float, help="seconds")
    parser.add_argument("--write-timeout", type=float, help="seconds")
    parser.add_argument("--shards", type=int, default=1)
    parser.add_argument("--history", type=int, default=1000, help="publications kept per channel")
    parser.add_argument("--mode", default="all", help="mode of the channels")
    parser.add_argument("--rooms", action="store_true", help="declare rooms")
    parser.add_argument("--presence", type=int, help="tell who is in a room, up to so many one by one")
    parser.add_argument("--requests", action="store_true", help="answer requests: ask, ask_now, /echo")
    parser.add_argument("--dashboard", action="store_true", help="show the dashboard to operators")
    parser.add_argument("--publish-path", help="take publications over HTTP there")
    parser.add_argument("--identify", action="store_true", help="authenticate by the header X-User")
    parser.add_argument(
        "--tokens", action="store_true", help="authenticate by the token of the first message"
    )
    parser.add_argument("--jwt", help="let clients in by tokens with this algorithm")
    parser.add_argument("--jwt-key", help="file of its key")
    asyncio.run(serve(parser.parse_args()))

"""The server of the JavaScript client's tests: it publishes numbers, and counts what it is asked for.

Every publication of `numbers:…` says which life of the server it is from, and its own offset. So a reader can
tell by itself whether something is missing, came twice, or came in another order.

    python served.py PORT '{"settings": …, "rate": 200, "channels": 4}'
"""

from __future__ import annotations

import asyncio
import json
import secrets
import sys
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

from umbel import Client, Message, Request, Run, Umbel, resolvers

port, options = int(sys.argv[1]), json.loads(sys.argv[2])
app = Umbel(port=port, origins="*", **options.get("settings", {}))
app.channel("numbers:{name}", open=True, history=options.get("history", 20_000))
app.channel("run:{run_id}", open=True)
app.channel("latest:{name}", open=True, publish=True, mode="latest", replay="start")
app.channel("board:{name}", open=True, publish=True, mode="state", history=options.get("board_history", 1000))
app.channel("here:{name}", open=True, publish=True, presence=lambda client: client.identity.subject)
app.channel("hidden:{name}", open=True, presence=lambda client: None)
app.channel("crowd:{name}", open=True, presence="count")
app.channel("merged:{name}", open=True, publish=True, mode="state")
app.channel("team:{name}", open=True, publish=True, mode="state", presence=True)
app.resolve("merged:{name}")(resolvers.merge)
app.channel("{name:path}", open=True, publish=True, history=5000, history_bytes=64 << 20)
for path, file in options.get("pages", {}).items():
    app.page(path, Path(file))

life = secrets.token_hex(4)
done: Counter[str] = Counter()
tokens: list[str | None] = []
left: dict[str, int | None] = {}


@app.authenticate
async def who(request: Request) -> str | None:
    tokens.append(request.token)
    if request.token == "bad":
        return None
    return request.token or request.query.get("user", "somebody")


@app.on_disconnect
def note(client: Client, code: int | None, reason: str) -> None:
    left[client.id] = code


@app.background
async def publish() -> None:
    number = 0
    while rate := options.get("rate", 0):
        number += 1
        for channel in range(options.get("channels", 1)):
            app.publish(f"numbers:{channel}", {"life": life, "n": number})
        await asyncio.sleep(1 / rate)


@app.on("add")
async def add(client: Client, message: Message) -> object:
    """Count how often each request is done."""
    done[message.data] += 1
    await asyncio.sleep(0.001)
    return {"life": life, "done": message.data}


@app.on("counts")
def counts(client: Client, message: Message) -> object:
    assert app._server is not None
    stats = app._server.stats()
    return {
        "life": life,
        "twice": [each for each, count in done.items() if count > 1],
        "done": len(done),
        "tokens": tokens,
        "left": left,
        "connections": stats.connections,
        "subscriptions": stats.subscriptions,
    }


@app.on("burst")
def burst(client: Client, message: Message) -> None:
    for number in range(message.data["count"]):
        app.publish(message.data["channel"], {"n": number, "pad": "x" * message.data.get("pad", 0)})


@app.on("subscribers")
def subscribers(client: Client, message: Message) -> int:
    return app.subscribers(message.data)


@app.on("leave")
def leave(client: Client, message: Message) -> None:
    client.unsubscribe(message.data, "you have left")


@app.on("cut")
def cut(client: Client, message: Message) -> None:
    client.close(message.data or 1012, "as asked")


@app.stream("recite")
async def recite(run: Run, message: Message) -> AsyncIterator[str]:
    for number in range(message.data):
        await asyncio.sleep(0.01)
        yield f"{number} "
    if message.data > 1000:
        raise RuntimeError("more than there is")


app.run()

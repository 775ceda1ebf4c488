"""What a type checker makes of an application. `mypy --strict` must find nothing here."""

from collections.abc import AsyncIterator, Mapping
from typing import Any, assert_type

from umbel import (
    Client,
    Identity,
    Message,
    Position,
    Receipt,
    Refused,
    Request,
    Run,
    Server,
    Settings,
    Stats,
    Umbel,
    WebSocket,
)

app = Umbel(tick=0.1, origins=["https://a.example"], handler_timeout=None)
assert_type(app, Umbel)
assert_type(app.settings, Settings)
assert_type(app.settings.tick, float)


@app.authenticate
async def who(request: Request) -> Identity | None:
    assert_type(request.token, str | None)
    assert_type(request.headers.get("x"), str | None)
    assert_type(request.query["x"], str)
    assert_type(request.query.all("x"), tuple[str, ...])
    assert_type(request.cookies, Mapping[str, str])
    return Identity("x") if request.token else None


@app.on_connect
async def connected(client: Client) -> None:
    assert_type(client.id, str)
    assert_type(client.identity.claims, Mapping[str, Any])
    assert_type(client.state, dict[str, Any])
    assert_type(client.send({"a": 1}), Receipt | None)
    assert_type(client.close(4500, "bye"), bool)


@app.on_disconnect
def disconnected(client: Client, code: int, reason: str) -> None: ...


@app.channel("task:{task_id}", history=10, publish=lambda client, task_id, data: True)
async def task(client: Client, task_id: str) -> bool:
    raise Refused(4500, "no")


@app.channel("room:{room}")
def room(client: Client, room: str) -> bool:
    return True


async def stamped(client: Client, data: object) -> dict[str, object] | bool:
    return {"by": client.identity.subject, "text": data} if isinstance(data, str) else False


def listed(client: Client, data: object) -> list[object]:
    return [client.id, data]


app.channel("open", open=True, publish=True, mode="latest", overrun="close", replay="start")
app.channel("stamped", open=True, publish=stamped)
app.channel("listed", open=True, publish=listed)


@app.on("rename")
async def rename(client: Client, message: Message) -> dict[str, int]:
    assert_type(message.id, str | int | None)
    assert_type(message.body, dict[str, Any])
    receipt = app.publish("task:1", message.data, key="title")
    assert_type(receipt.position, Position | None)
    assert_type(receipt.wait(timeout=1.5), Position)
    position = await receipt
    assert_type(position, Position)
    assert_type(position.offset, int)
    assert_type(await app.position("news"), Position)
    return {"n": 1}


@app.on("sync")
def handled_at_once(client: Client, message: Message) -> None: ...


@app.stream("ai_chat_request", cancel_on_disconnect=True)
async def chat(run: Run, message: Message) -> AsyncIterator[str]:
    assert_type(run.id, str)
    assert_type(run.client, Client)
    yield "x"


@app.websocket("/files/{path:path}")
async def files(websocket: WebSocket, path: str) -> None:
    async for message in websocket:
        assert_type(message, str | bytes)
        await websocket.send(message)
    assert_type(websocket.close_code, int | None)


@app.background
async def tick() -> None: ...


async def main() -> None:
    async with app.serve(port=0, shards=1) as server:
        assert_type(server, Server)
        assert_type(server.addresses, tuple[str, ...])
        assert_type(server.url, str)
        assert_type(server.stats(), Stats)
        assert_type(server.stats().lateness(0.5), float)
        server.stop(within=1)
        await server.wait_closed()


app.run(host="::1", port=1, uvloop=False)

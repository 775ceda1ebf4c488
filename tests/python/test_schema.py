"""Every kind of message that a server sends is one that the schema knows."""

from __future__ import annotations

import asyncio
import json
import pathlib
import time
from collections.abc import AsyncIterator
from typing import Any

import jsonschema
import pytest
from tokens import SECRET, token
from umbel import JWT, Client, Message, Rejected, Run, Umbel
from websockets.asyncio.client import ClientConnection, connect

SCHEMA: dict[str, Any] = json.loads(
    (pathlib.Path(__file__).parents[2] / "docs" / "protocol.schema.json").read_text()
)


def validator(name: str) -> jsonschema.Draft202012Validator:
    part = {"$schema": SCHEMA["$schema"], "$ref": f"#/$defs/{name}", "$defs": SCHEMA["$defs"]}
    return jsonschema.Draft202012Validator(part)


SERVER, CLIENT, RUN = validator("server_message"), validator("client_message"), validator("run_data")
ROOT = jsonschema.Draft202012Validator(SCHEMA)


def application() -> Umbel:
    app = Umbel(tick=0.02)
    app.channel("open:{name}", open=True, publish=True, sender=True)
    app.channel("short", open=True, history=1)
    app.channel("latest", open=True, mode="latest")
    app.channel("room:{id}", open=True, presence=True)

    @app.on("burst")
    def burst(client: Client, message: Message) -> None:
        for number in range(50):
            app.publish(message.data, number, key="k")

    @app.on("fail")
    def fail(client: Client, message: Message) -> None:
        raise RuntimeError

    @app.on("reject")
    def reject(client: Client, message: Message) -> None:
        raise Rejected("conflict", "somebody was faster", details={"version": 7})

    @app.on("echo")
    def echo(client: Client, message: Message) -> Any:
        client.send("to you alone")
        return message.data

    @app.stream("ai_chat_request")
    async def chat(run: Run, message: Message) -> AsyncIterator[str]:
        yield "text"
        if message.data["prompt"] == "fail":
            raise RuntimeError
        if message.data["prompt"] == "wait":
            await asyncio.sleep(60)

    return app


QUESTIONS: list[dict[str, Any]] = [
    {"type": "subscribe_updates", "channels": ["open:a", "short", "latest"], "id": 1},
    {"type": "subscribe_updates", "channel": "open:b", "epoch": "0123456789abcdef", "offset": 7},
    {"type": "subscribe_updates", "channel": "open:b", "id": 9},
    {"type": "subscribe_updates", "channel": "open:b", "restart": True},
    {"type": "subscribe_updates", "channel": "unknown", "id": "x"},
    {"type": "unsubscribe_updates", "channel": "open:b", "id": -1},
    {"type": "unsubscribe_updates", "channel": "open:c"},
    {"type": "publish", "channel": "open:a", "data": {"deep": [None]}, "key": "k", "id": "ä"},
    {"type": "publish", "channel": "short", "data": 1},
    {"type": "subscribe_updates", "channels": ["room:1", "$presence:room:1"]},
    {
        "type": "presence_update",
        "channel": "room:1",
        "typing": True,
        "currentTask": 7,
        "data": [None],
        "id": 10,
    },
    {"type": "presence_update", "channel": "room:1", "isActive": None},
    {"type": "heartbeat", "id": (1 << 64) - 1},
    {"type": "heartbeat"},
    {"type": "burst", "data": "short"},
    {"type": "burst", "data": "latest"},
    {"type": "echo", "id": 1, "data": "x"},
    {"type": "echo", "data": {"no": "id"}},
    {"type": "burst", "id": 2, "data": "open:a"},
    {"type": "nothing", "id": 3},
    {"type": "fail", "id": 4},
    {"type": "reject", "id": 8},
    {"type": "ai_chat_request", "id": 5, "data": {"conversationId": "c", "prompt": "hi"}},
    {"type": "ai_chat_request", "data": {"prompt": "fail"}},
    {"type": "ai_chat_request", "data": {"prompt": "wait", "options": {}}},
    {"type": "ai_cancel", "runId": "none", "id": 6},
]


class Heard:
    """Validates what a connection brings, and keeps it by kind."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection
        self.kinds: dict[str, list[Any]] = {}

    async def wait_kinds(self, wanted: set[str]) -> None:
        async with asyncio.timeout(10):
            while not wanted <= set(self.kinds):
                message = json.loads(await self.connection.recv())
                SERVER.validate(message)
                ROOT.validate(message)
                self.keep(message["type"], message)
                for update in message.get("updates", ()):
                    if "sender" in update:
                        self.keep("with sender", update)
                    self.keep("folded" if "from" in update else "single", update)
                    if update["channel"].startswith("run:"):
                        RUN.validate(update["data"])
                        self.keep(update["data"]["type"] + " " + update["data"].get("status", ""), update)

    def keep(self, kind: str, message: Any) -> None:
        self.kinds.setdefault(kind, []).append(message)


async def test_every_message_of_a_server_is_one_of_the_schema() -> None:
    # So that a burst costs something.
    async with application().serve(port=0, burst_bytes=1) as server:
        url = server.url.replace("http", "ws", 1) + "/ws"
        async with connect(url, proxy=None) as connection:
            heard = Heard(connection)
            for question in QUESTIONS:
                CLIENT.validate(question)
                ROOT.validate(question)
                await connection.send(json.dumps(question))
            await connection.send("no JSON")
            runs = {"ai_response_start ", "ai_response_chunk ", "ai_response_end error"}
            await heard.wait_kinds(
                {"gap", "folded", "with sender", "echo_result", "ai_response_end complete", *runs}
            )
            for number, update in enumerate(heard.kinds["ai_response_start "], 100):
                cancel = {"type": "ai_cancel", "data": {"runId": update["data"]["runId"]}, "id": number}
                await connection.send(json.dumps(cancel))
            parts = SCHEMA["$defs"]["server_message"]["oneOf"]
            known = {part["$ref"].rpartition("/")[2] for part in parts} - {"application_result", "reconnect"}
            known -= {"authenticated", "token_expiring"}  # below
            await heard.wait_kinds({"ai_response_end cancelled", *known})
            server.stop()
            await heard.wait_kinds({"reconnect"})
            codes = {message["code"] for message in heard.kinds["error"]}
            assert codes >= {"unknown_channel", "not_subscribed", "not_allowed", "unknown_type", "internal"}


async def test_what_a_server_says_of_tokens_is_in_the_schema() -> None:
    async with Umbel(auth=JWT(key=SECRET, algorithms=["HS256"])).serve(port=0) as server:
        url = server.url.replace("http", "ws", 1) + "/ws"
        short = {"Authorization": f"Bearer {token(issued=time.time() - 15, lasts=20)}"}
        async with connect(url, proxy=None, additional_headers=short) as connection:
            heard = Heard(connection)
            await connection.send(json.dumps({"type": "authenticate", "token": "x", "id": 1}))
            await connection.send(json.dumps({"type": "authenticate", "token": token(), "id": 2}))
            await heard.wait_kinds({"connection_established", "token_expiring", "error", "authenticated"})


@pytest.mark.parametrize(
    "message",
    [
        {"type": "published", "channel": "a"},
        {"type": "ai_cancel_result", "data": {}, "timestamp": "2026-11-23T07:15:45.042Z"},
        {"type": "echo_result", "data": 1},
        {"type": "echo", "data": 1, "timestamp": "2026-11-23T07:15:45.042Z"},
    ],
)
def test_the_schema_refuses_messages_that_a_server_never_sends(message: dict[str, Any]) -> None:
    assert not SERVER.is_valid(message)

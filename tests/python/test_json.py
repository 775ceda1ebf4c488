"""Numbers and texts that not all readers of JSON understand alike go neither in nor out."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from looping import on_loops
from orjson import Fragment
from umbel import Client, Message, Rejected, Run, Umbel
from umbel._json import encode
from wire import wire

LARGE = (1 << 64, -(1 << 63) - 1, 1 << 70)
OF_64_BITS = ((1 << 64) - 1, -(1 << 63), 1e30, 1.7e308)
NO_JSON = ("nonsense", "18446744073709551616", "1e400", '{"a":1,"a":2}', "[1] 2", '"\\ud800"')


@on_loops
async def test_a_client_can_not_send_numbers_that_readers_round(app: Umbel) -> None:
    app.channel("a", open=True, publish=True)

    @app.on("echo")
    def echo(client: Client, message: Message) -> Any:
        return [message.data, str(message.data)]

    @app.stream("chat")
    async def chat(run: Run, message: Message) -> AsyncIterator[str]:
        yield "nothing"

    async with app.serve(port=0) as server:
        for number in (*LARGE, "1e400", "-1e400"):
            async with wire(server) as client:
                await client.say("subscribe_updates", channel="a")
                await client.hear("subscription_established")
                for fields in (
                    '"type":"echo","data":[{"x":%s}]',
                    '"type":"chat","data":{"prompt":%s}',
                    '"type":"publish","channel":"a","data":%s',
                    '"type":"subscribe_updates","channel":"a","epoch":"0123456789abcdef","offset":%s',
                    '"type":"unsubscribe_updates","channel":"a","more":%s',
                    '"type":"heartbeat","more":[%s]',
                ):
                    await client.connection.send(f'{{{fields % number},"id":1}}')
                    error = await client.hear()
                    assert (error["type"], error["code"], error["id"]) == ("error", "bad_message", 1), fields
                    if isinstance(number, int):
                        assert "an integer beyond 64 bits" in error["message"]
        assert server.stats().published == 0


@on_loops
async def test_numbers_that_all_readers_know_arrive_as_they_were_sent(app: Umbel) -> None:
    app.channel("a", open=True, publish=True)

    @app.on("echo")
    def echo(client: Client, message: Message) -> Any:
        return [message.data, str(message.data)]

    async with app.serve(port=0) as server, wire(server) as client:
        await client.say("subscribe_updates", channel="a")
        for number in (*OF_64_BITS, str(1 << 70)):
            await client.say("echo", data=number)
            assert (await client.hear("echo_result"))["data"] == [number, str(number)]
            await client.say("publish", channel="a", data=number)
            assert (await client.hear("update"))["data"] == number
            app.publish("a", number)
            assert (await client.hear("update"))["data"] == number


@on_loops
async def test_the_application_hears_at_once_what_it_can_not_send(
    app: Umbel, caplog: pytest.LogCaptureFixture
) -> None:
    said: list[str] = []

    def tell(send: Any, value: Any) -> None:
        with pytest.raises(ValueError, match=r"send it as a str|not acceptable JSON") as raised:
            send(value)
        said.append(str(raised.value))

    @app.on("try")
    async def attempt(client: Client, message: Message) -> None:
        for value in (*LARGE, {"deep": [1 << 64]}, *(Fragment(text) for text in NO_JSON)):
            tell(lambda value: app.publish("a", value), value)
            tell(client.send, value)
            tell(lambda value: Rejected("no", details=value), value)

    @app.stream("chat")
    async def chat(run: Run, message: Message) -> AsyncIterator[str]:
        for value in (*LARGE, *(Fragment(text) for text in NO_JSON)):
            tell(run.publish, value)
        yield "done"

    @app.on("result")
    def result(client: Client, message: Message) -> Any:
        return 1 << 64 if message.data == "integer" else Fragment("nonsense")

    app.channel("stamped", open=True, publish=lambda client, data: [1 << 64])
    async with app.serve(port=0) as server, wire(server) as client:
        await client.say("try", id="try")
        await client.hear("try_result")
        await client.say("chat", data={})
        while (await client.hear("update"))["data"]["type"] != "ai_response_end":
            pass
        assert len(said) == 3 * (4 + len(NO_JSON)) + 3 + len(NO_JSON)
        assert server.stats().published == 3, "the run"
        for number, fields in enumerate(
            (
                {"type": "result", "data": "integer"},
                {"type": "result", "data": "fragment"},
                {"type": "publish", "channel": "stamped", "data": 1},
            )
        ):
            await client.say(**fields, id=number)
            error = await client.hear()
            assert (error["type"], error["code"], error["id"]) == ("error", "internal", number)
    assert caplog.text.count("send it as a str") == 2
    assert caplog.text.count("ValueError: not acceptable JSON") == 1


def test_what_can_not_be_encoded_for_another_reason_is_a_type_error() -> None:
    for value in ({1, 2}, {1: 2}, "\ud800", object()):
        with pytest.raises(TypeError):
            encode(value)
    assert encode({"a": [1 << 63, Fragment("[ ]")]}) == b'{"a":[9223372036854775808,[ ]]}'
    assert encode(Fragment('{"a": 1}')) == b'{"a": 1}'

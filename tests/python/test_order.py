"""What a client says of one channel is done in its order, and nothing before the client was let in."""

from __future__ import annotations

import asyncio

import pytest
from looping import on_loops
from umbel import Refused
from websockets.exceptions import ConnectionClosed
from wire import wire


@on_loops
async def test_a_publication_does_not_overtake_the_subscription_before_it(app):
    @app.channel("room:{room}", publish=True)
    async def join(client, room):
        await asyncio.sleep(0.02)
        return True

    async with app.serve(port=0) as server, wire(server) as client:
        await client.say("subscribe_updates", channel="room:lobby", id=1)
        await client.say("publish", channel="room:lobby", data="hello", id=2)
        assert (await client.hear("subscription_established"))["offset"] == 0
        assert (await client.hear("update"))["data"] == "hello"


@on_loops
async def test_a_client_that_unsubscribes_before_the_decision_is_not_subscribed(app):
    @app.channel("slow:{name}", publish=True)
    async def decide(client, name):
        await asyncio.sleep(0.02)
        return True

    async with app.serve(port=0) as server, wire(server) as client:
        await client.say("subscribe_updates", channel="slow:a", id=1)
        await client.say("unsubscribe_updates", channel="slow:a", id=2)
        await client.say("publish", channel="slow:a", data="unheard", id=3)
        heard = [await client.hear() for _ in range(3)]
        assert [message["type"] for message in heard] == [
            "subscription_established",
            "subscription_ended",
            "published",
        ]
        assert [message["id"] for message in heard] == [1, 2, 3]


@on_loops
async def test_a_repeated_publish_is_one_publication_also_while_the_first_is_decided(app):
    async def decide(client, data):
        await asyncio.sleep(0.02)
        return True

    app.channel("asked", open=True, publish=decide)
    async with app.serve(port=0) as server, wire(server) as client:
        for _ in range(3):
            await client.say("publish", channel="asked", data="once", id="p")
        first = await client.hear("published")
        assert first["offset"] == 1
        await client.say("publish", channel="asked", data="once", id="p")
        assert await client.hear() == first, "those that came meanwhile have no answer of their own"
        assert server.stats().published == 1


@on_loops
async def test_an_error_about_one_of_several_channels_says_which(app):
    @app.channel("asked:{name}")
    def decide(client, name):
        return name == "good"

    async with app.serve(port=0) as server, wire(server) as client:
        await client.say("subscribe_updates", channels=["asked:bad", "asked:good", "other"], id=1)
        heard = [await client.hear() for _ in range(3)]
        said = {message["channel"]: message.get("code", message["type"]) for message in heard}
        assert said == {
            "asked:bad": "not_allowed",
            "asked:good": "subscription_established",
            "other": "unknown_channel",
        }


@on_loops
@pytest.mark.parametrize("authenticated", [False, True])
async def test_messages_of_a_client_that_on_connect_refuses_are_not_handled(app, authenticated):
    app.channel("news", open=True, publish=True)
    if authenticated:
        app.authenticate(lambda request: "somebody")

    @app.on_connect
    async def refuse(client):
        await asyncio.sleep(0.02)
        raise Refused(4500, "banned")

    async with app.serve(port=0) as server, wire(server) as client:
        await client.say("publish", channel="news", data="spam", id=1)
        with pytest.raises(ConnectionClosed) as closed:
            await client.hear("published")
        assert closed.value.rcvd.code == 4500
        assert server.stats().published == 0


@on_loops
async def test_messages_of_a_client_that_on_connect_lets_in_are_all_handled(app):
    app.channel("news", open=True, publish=True)

    @app.on_connect
    async def take_time(client):
        await asyncio.sleep(0.02)

    async with app.serve(port=0) as server, wire(server) as client:
        await client.say("publish", channel="news", data="said early", id=1)
        assert (await client.hear("published"))["offset"] == 1


@on_loops
async def test_every_message_is_handled_once_and_in_order_however_many_wait(app):
    handled = []

    @app.on("note")
    async def note(client, message):
        handled.append(message.data)
        await asyncio.sleep(0)
        return message.data

    async with app.serve(port=0, max_running=2) as server, wire(server) as client:
        for number in range(800):
            await client.say("note", id=number, data=number)
        for _ in range(800):
            await client.hear("note_result")
    assert handled == list(range(800))


@on_loops
async def test_functions_that_never_wait_are_handled_however_many_come(app):
    handled = []

    @app.on("note")
    async def note(client, message):
        handled.append(message.data)

    async with app.serve(port=0, max_running=1) as server, wire(server) as client:
        for number in range(3000):
            await client.say("note", data=number)
        await client.say("heartbeat")
        await client.hear("heartbeat_ack")
        async with asyncio.timeout(10):
            while len(handled) < 3000:
                await asyncio.sleep(0.01)
    assert handled == list(range(3000))

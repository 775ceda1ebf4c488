"""What a renewal of credentials leaves alone, and what a revocation does not."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from coming_back import closed, opened, until
from test_credentials import advance, application, entered
from test_jwt import bearer
from tokens import token
from umbel import Client, ConnectionClosed, Message, Request, Umbel, testing
from wire import wire


def seating() -> Umbel:
    app = application()

    @app.on("seat")
    def seat(client: Client, message: Message) -> Any:
        client.subscribe("task:9")
        return True

    return app


async def test_a_renewal_leaves_the_channels_that_the_server_gave_to_a_client_without_a_session() -> None:
    async with seating().serve(port=0) as server, entered(server, channels=["task:*"]) as client:
        await client.say("seat")
        assert (await client.hear())["channel"] == "task:9"
        await client.hear("seat_result")
        await client.say("subscribe_updates", channel="task:1")
        await client.hear("subscription_established")
        await client.say("authenticate", token=token("ann"))
        await client.hear("authenticated")
        assert (await client.hear())["channel"] == "task:1"
        await client.say("unsubscribe_updates", channel="task:9")
        assert (await client.hear())["reason"] == "unsubscribed"


async def test_a_client_that_shows_the_same_token_again_is_not_told_again() -> None:
    app = application()
    async with app.serve(port=0) as server:
        text = token("ann", lasts=60)
        async with wire(server, additional_headers=bearer(text)) as client:
            await client.say("subscribe_updates", channel="chat:1")
            await client.hear("subscription_established")
            advance(server, 31)
            await client.hear("token_expiring")
            await client.say("authenticate", token=text)
            await client.hear("authenticated")
            # A shard looks at deadlines, and then sends what was published.
            app.publish("chat:1", 1)
            assert (await client.hear())["type"] == "update"
            # Of another end it is told.
            await client.say("authenticate", token=token("ann", lasts=31, issued=time.time()))
            await client.hear("authenticated")
            assert (await client.hear())["type"] == "token_expiring"


async def test_messages_of_a_revoked_client_that_wait_for_their_turn_are_dropped() -> None:
    app = application(max_running=1, shards=1)
    began, goes_on = asyncio.Event(), asyncio.Event()
    handled: list[int] = []

    @app.on("work")
    async def work(client: Client, message: Message) -> None:
        handled.append(message.data["number"])
        began.set()
        await goes_on.wait()

    @app.on_disconnect
    def left(client: Client, code: int, reason: str) -> None:
        handled.append(code)

    async with (
        app.serve(port=0) as server,
        entered(server) as client,
        wire(server, additional_headers=bearer(token("bob"))) as bob,
    ):
        await client.say("work", data={"number": 1})
        await client.say("work", data={"number": 2})
        await began.wait()
        await until(lambda: app.stats().received >= 2)
        await bob.say("who")  # Python has what came before
        await bob.hear("who_result")
        app.revoke("ann")
        assert await closed(client) == (4501, "access was revoked")
        goes_on.set()
        await until(lambda: len(handled) > 1)
        assert handled == [1, 4501]


async def test_who_is_let_in_while_a_thread_revokes_is_closed() -> None:
    app = Umbel()
    asked, answers = asyncio.Event(), asyncio.Event()

    @app.authenticate
    async def who(request: Request) -> str:
        asked.set()
        await answers.wait()
        return "ann"

    async with app.serve(port=0) as server, opened(server) as client:
        await client.say("authenticate", token="ann")
        await asked.wait()
        app.revoke("ann")
        answers.set()
        assert (await closed(client))[0] == 4501


async def test_an_application_under_test_can_revoke() -> None:
    app = application()
    text = token("ann")
    async with testing.connect(app, token=text):
        app.revoke("ann")
        with pytest.raises(ConnectionClosed, match="4401"):
            async with testing.connect(app, token=text):
                pass

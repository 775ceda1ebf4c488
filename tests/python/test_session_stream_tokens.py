"""Sessions on streams whose credentials run out, are renewed and are revoked; and runs on streams."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import pytest
from calling import program
from coming_back import until
from looping import on_loops
from talking import again, begun, refused, resumed
from test_credentials import advance, application
from test_jwt import bearer
from test_session_stream_parts import parted
from tokens import token
from umbel import Message, Run, Umbel


async def test_a_client_on_a_stream_is_told_in_time_and_renews() -> None:
    async with application().serve(port=0) as server, begun(server, token=token("ann", lasts=60)) as it:
        advance(server, 31)
        assert (await it.hear("token_expiring"))["expiresIn"] < 30
        async with program(server) as it.caller:
            await it.say("authenticate", token=token("ann", lasts=600, channels=["task:1"]), id=1)
            renewed = await it.hear("authenticated")
            assert (renewed["subject"], renewed["id"]) == ("ann", 1)
            await it.say("subscribe_updates", channel="task:1")
            await it.hear("subscription_established")
            await it.say("authenticate", token=token("ann", lasts=-60), id=2)
            assert (await it.hear("error"))["details"]["reason"] == "expired"
            await it.say("authenticate", token=token("ann"), id=3)
            await it.hear("authenticated")
            assert (await it.hear("subscription_ended"))["reason"] == "not_allowed"
            assert (await it.post({"type": "authenticate", "token": token("ben")})).status == 404
        assert await it.closed() == (4500, False)


@pytest.mark.parametrize("in_parts", [False, True])
async def test_a_stream_ends_with_its_credentials_and_the_session_waits_for_others(in_parts: bool) -> None:
    app = application()
    noted: list[int] = []
    app.on_away(lambda client, code, reason: noted.append(code))
    first = {"type": "authenticate", "token": token("ann", lasts=60)}
    async with app.serve(port=0) as server, AsyncExitStack() as stack:
        if in_parts:
            it: Any = await stack.enter_async_context(parted(server, first))
            advance(server, 40)
            assert [message["type"] for message in await it.next()] == ["token_expiring"]
            end = await stack.enter_async_context(it.open())
        else:
            it = end = await stack.enter_async_context(begun(server, token=first["token"]))
        advance(server, 66)
        assert await end.closed() == (4401, True)
        await until(lambda: noted == [4401])
        assert await refused(server, again(it, 1)) == (401, "unauthenticated", 4401)
        async with resumed(server, it, 1, token=token("ann")) as later:
            assert (later.greeting["resumed"], later.greeting["subject"]) == (True, "ann")


async def test_a_subject_that_is_revoked_has_neither_stream_nor_session() -> None:
    app = application()
    async with app.serve(port=0) as server:
        async with begun(server, bearer(token("ann"))) as it:
            app.revoke("ann")
            assert await it.closed() == (4501, False)
            assert (await it.post({"type": "who"})).status == 404
        async with begun(server, bearer(token("ben"))) as it:
            pass
        app.revoke("ben")
        assert await refused(server, again(it, 1)) == (401, "unauthenticated", 4401)
        async with parted(server, {"type": "authenticate", "token": token("cid")}) as parts:
            app.revoke("cid")
            async with parts.open() as last:
                assert await last.closed() == (4501, False)


@on_loops
async def test_a_run_is_heard_on_a_stream_and_again_after_a_cut() -> None:
    app = Umbel()
    goes_on = asyncio.Event()

    @app.stream("ask")
    async def answer(run: Run, message: Message) -> AsyncIterator[str]:
        yield "one "
        await goes_on.wait()
        yield "two"

    async with app.serve(port=0) as server, begun(server) as it:
        ask = {"type": "ask", "data": {"conversationId": 7}, "id": 1}
        await it.say_all(ask)
        begins = await it.hear("subscription_established")
        assert begins["id"] == 1
        kinds = [(await it.hear("update"))["data"]["type"] for _ in range(2)]
        assert kinds == ["ai_response_start", "ai_response_chunk"]
        it.events.cut()
        position = {"epoch": begins["epoch"], "offset": begins["offset"]}
        async with resumed(server, it, 1, positions={begins["channel"]: position}) as later:
            await later.say_all(ask)
            goes_on.set()
            updates = [(await later.hear("update"))["data"] for _ in range(4)]
            assert "".join(data.get("chunk", "") for data in updates) == "one two"
            assert updates[-1]["status"] == "complete"
            assert (await later.hear("subscription_ended"))["channel"] == begins["channel"]

"""Who is in a channel, when clients and functions do not do what one expects of them."""

from __future__ import annotations

import asyncio

import pytest
from coming_back import begun, cut, resumed, until
from test_members import ROOM, enter, named
from umbel import Client, Umbel
from umbel.presence import PresenceChange
from wire import wire


async def test_a_client_that_is_refused_while_it_is_away_again_has_left(app: Umbel) -> None:
    asked: list[str] = []
    refused = asyncio.Event()

    named(app)

    @app.channel("room:{room}", recheck=True, presence=True)
    async def may_enter(client: Client, room: str) -> bool:
        asked.append(client.identity.subject)
        if asked.count("ann") > 1:
            await refused.wait()
            return False
        return True

    async with (
        app.serve(port=0, presence_interval=0.01, presence_grace=60, session_ttl=120) as server,
        wire(server, "/ws?user=ben") as ben,
    ):
        sees = await enter(ben)
        async with begun(server, token="ann") as ann:
            await enter(ann)
            await sees.subjects("ann", "ben")
            await cut(ann)
        async with resumed(server, ann, 1, token="ann", positions={ROOM: None}) as back:
            await until(lambda: asked.count("ann") == 2)
            await cut(back)
        await until(lambda: not app.clients("ann")[0].connected)
        refused.set()
        await sees.subjects("ben")
        assert list(await app.presence(ROOM)) == ["ben"]


async def test_a_long_subject_hides_its_client_and_takes_no_room(
    app: Umbel, caplog: pytest.LogCaptureFixture
) -> None:
    app.authenticate(lambda request: {"eve": "e" * 1025}.get(request.query["user"], request.query["user"]))
    app.channel("room:{room}", open=True, presence=True)
    app.channel("named:{room}", open=True, presence=lambda client: "x" * 100_000)
    async with (
        app.serve(port=0, presence_interval=0.01) as server,
        wire(server, "/ws?user=ben") as ben,
        wire(server, "/ws?user=eve") as eve,
    ):
        await enter(eve)
        sees = await enter(ben)
        await sees.subjects("ben")
        await eve.say("presence_update", channel=ROOM, typing=True)
        assert (await eve.hear("error"))["code"] == "not_allowed"
        assert list(await app.presence(ROOM)) == ["ben"]
        await ben.say("subscribe_updates", channel="named:1")
        await until(lambda: "must return at most 1024 bytes; it returned 100000" in caplog.text)
        assert await app.presence("named:1") == {}


async def test_the_application_hears_who_leaves_when_the_server_stops(app: Umbel) -> None:
    named(app).channel("room:{room}", open=True, presence=True)
    here: set[str] = set()
    seen: list[set[str]] = []

    @app.on_presence("room:{room}")
    async def changed(change: PresenceChange, room: str) -> None:
        await asyncio.sleep(0)
        for member in change.joined + change.left:
            (here.add if member.here else here.discard)(member.subject)
        seen.append(set(here))

    async with app.serve(port=0, shards=2) as server:
        async with begun(server, token="cem") as away:
            await enter(away)
            await cut(away)
        async with wire(server, "/ws?user=ann") as ann, wire(server, "/ws?user=ben") as ben:
            await enter(ann)
            await enter(ben)
            await until(lambda: here == {"ann", "ben", "cem"})
            await server.stop()
    assert here == set(), seen

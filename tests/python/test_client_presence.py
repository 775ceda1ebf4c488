"""The client for Python programs: who is in a channel."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest
from connecting import cut, nothing_is_left, through, until
from umbel import Client, ConnectionClosed, Request, Umbel
from umbel.client import Members, RequestFailed, SubscriptionFailed, connect

ROOM = "room:1"
QUICK: dict[str, Any] = {"presence_interval": 0.01, "reconnect_window": 0.01}
NOBODY = 1
"""A port where nobody listens: a client that is back at once would not be seen to have been away."""


@pytest.fixture
def rooms(app: Umbel) -> Umbel:
    @app.authenticate
    def who(request: Request) -> str | None:
        return request.token

    app.channel("room:{x}", open=True, presence=True)
    app.channel("crowd:{x}", open=True, presence="count")
    app.channel("hidden:{x}", open=True, presence=lambda client: None)
    app.channel("plain:{x}", open=True)
    app.channel("board:{x}", open=True, publish=True, mode="state", presence=True)
    return app


def by_name(members: Members, name: str) -> dict[str, Any]:
    return next((it for it in members.values() if it["subject"] == name), {})


def names(those: list[dict[str, Any]]) -> list[str]:
    return [it["subject"] for it in those]


async def test_members_see_each_other_come_do_something_and_leave(rooms: Umbel) -> None:
    told: list[tuple[list[str], list[str]]] = []

    def note(members: Members, joined: list[dict[str, Any]], left: list[dict[str, Any]]) -> None:
        if joined or left:
            told.append((names(joined), names(left)))
            raise ValueError("important")

    async with (
        rooms.serve(port=0, **QUICK) as server,
        connect(server.url, token="ann") as ann,
        connect(server.url, token="ben") as ben,
        ann.presence(ROOM, note) as hers,
    ):
        await until(lambda: hers.count == 1)
        async with ben.presence(ROOM) as his:
            assert by_name(his, "ann"), "all who were there are there from the beginning"
            await until(lambda: hers.count == his.count == 2)
            assert dict(hers) == dict(his)
            assert hers[ben.client_id]["subject"] == "ben"
            assert (len(hers), repr(hers)) == (2, "<Members of 'room:1': 2>")
            await his.update(current_task="t1", typing=True, data={"at": [1]})
            await until(lambda: hers[ben.client_id]["currentTask"] == "t1")
            entry = hers[ben.client_id]
            assert (entry["typing"], entry["data"], entry["isActive"]) == (True, {"at": [1]}, True)
            await his.update(data=None)
            await until(lambda: hers[ben.client_id]["data"] is None)
            with pytest.raises(RequestFailed, match="bad_message"):
                await his.update(data="x" * 5000)
        await until(lambda: hers.count == 1)
        his.close()
        assert (his.count, his.reason) == (2, ""), "what is closed stays as it is"
        assert told[-2:] == [(["ben"], []), ([], ["ben"])]
        assert told[:-2] in ([], [(["ann"], [])]), "whether she is in the first list, nobody can know"
        with pytest.raises(RequestFailed, match="not_subscribed"):
            await his.update(typing=True)
        async with ann.presence(ROOM) as again:
            assert dict(again) == dict(hers)
    assert nothing_is_left()


async def test_a_state_that_is_shown_beside_it_does_not_come_again(rooms: Umbel) -> None:
    shown: list[tuple[bool, int]] = []
    async with (
        rooms.serve(port=0, **QUICK) as server,
        connect(server.url, token="ann") as ann,
        ann.shared_state("board:1", lambda board, keys: shown.append((board.whole, len(board)))) as board,
    ):
        await board.set("a", 1)
        async with ann.presence("board:1") as members:
            await board.set("b", 2)
            assert shown == [(True, 0), (True, 1), (True, 2)]
            board.close()
            await members.update(current_task="7")
            await until(lambda: members[ann.client_id]["currentTask"] == "7")


async def test_after_a_lost_session_it_says_again_what_it_had_said(rooms: Umbel) -> None:
    async with (
        rooms.serve(port=0, session_ttl=0, **QUICK) as server,
        connect(server.url, token="ben") as ben,
        ben.presence(ROOM) as other,
        through(server, token="ann") as (ann, network),
        ann.presence(ROOM) as members,
    ):
        await members.update(current_task="t7", typing=True)
        await members.update(data={"seat": 1})
        await members.update(current_task="t8")
        former = ann.client_id
        await until(lambda: other.get(former, {}).get("currentTask") == "t8")
        port, network.port = network.port, NOBODY
        cut(network)
        await until(lambda: ann.state.name != "connected")
        # One more reader, for whom the channel is asked for anew, after those that have a position.
        updates = ann.subscribe(ROOM)
        waiting = asyncio.create_task(members.update(active=False))
        network.port = port
        await until(lambda: ann.client_id not in ("", former))
        await waiting
        await until(lambda: by_name(other, "ann").get("isActive") is False)
        await until(lambda: former not in other and dict(members) == dict(other))
        entry = other[ann.client_id]
        assert (entry["currentTask"], entry["data"], entry["typing"]) == ("t8", {"seat": 1}, False)
        assert members.reason == ""
        updates.close()


async def test_a_cut_within_a_session_changes_nothing_for_others(rooms: Umbel) -> None:
    told: list[list[dict[str, Any]]] = []
    async with (
        rooms.serve(port=0, **QUICK) as server,
        through(server, token="ann") as (ann, network),
        ann.presence(ROOM, lambda _, *news: told.extend(news)) as members,
    ):
        await members.update(current_task=1)
        key = ann.client_id
        await until(lambda: members.get(key, {}).get("currentTask") == 1)
        told.clear()
        port, network.port = network.port, NOBODY
        cut(network)
        await until(lambda: ann.state.name != "connected")
        network.port = port
        await members.update(current_task=2)
        await until(lambda: members[key]["currentTask"] == 2)
        assert ann.client_id == key
        assert not any(told)


async def test_where_a_number_is_told_nobody_comes_and_nobody_leaves(rooms: Umbel) -> None:
    told: list[Any] = []
    async with (
        rooms.serve(port=0, **QUICK, presence_limit=3) as server,
        connect(server.url, token="ann") as umbel,
    ):
        others = [await connect(server.url, token=str(number)).__aenter__() for number in range(4)]
        async with (
            umbel.presence("crowd:1", lambda *what: told.append(what[1:])) as crowd,
            umbel.presence(ROOM, lambda it, *what: it.count > 3 and told.append(what)) as room,
        ):
            for other in others:
                await other.presence(ROOM).ready()
                await other.presence("crowd:1").ready()
            await until(lambda: crowd.count == room.count == 5 and not room)
            assert len(crowd) == 0
            for other in others:
                other.close()
            await until(lambda: crowd.count == 1)
            assert told
            assert all(news == ([], []) for news in told)


async def test_what_can_not_be_had_says_why(rooms: Umbel, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "umbel.client")
    async with rooms.serve(port=0, **QUICK) as server, connect(server.url, token="ann") as umbel:
        with pytest.raises(SubscriptionFailed, match="unknown_channel"):
            await umbel.presence("plain:1").ready()
        await until(lambda: rooms.subscribers("plain:1") == 0)
        with pytest.raises(TypeError):
            umbel.presence(7)  # type: ignore[arg-type]
        async with umbel.presence("hidden:1") as hidden:
            assert (hidden.count, dict(hidden)) == (0, {})
            with pytest.raises(RequestFailed, match="not_allowed"):
                async with asyncio.timeout(10):  # who is hidden is known when the application was asked
                    while True:
                        await hidden.update(typing=True)
            assert hidden.count == 0
        ended = asyncio.Event()
        members = umbel.presence(ROOM, lambda it, *_: ended.set() if it.reason else None)
        await until(lambda: members.count == 1)
        client: Client = rooms.clients("ann")[0]
        client.unsubscribe(ROOM, "you have left")
        await ended.wait()
        assert members.reason == "you have left"
        closing = umbel.presence(ROOM)
        umbel.close()
        with pytest.raises((SubscriptionFailed, ConnectionClosed)):
            await closing.ready()
    assert [record.message for record in caplog.records if record.name == "umbel.client"] == []

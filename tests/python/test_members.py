"""Who is in a channel: what clients read of it and say of themselves, and what the application hears."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
import talking
from coming_back import begun, cut, resumed, until
from streams import stream
from umbel import Client, ConfigurationError, Message, Server, Umbel, testing
from umbel.client import RequestFailed, connect
from umbel.presence import PresenceChange
from wire import Wire, wire

ROOM, WHO = "room:1", "$presence:room:1"


class Seen:
    """What one client sees of who is in a channel."""

    def __init__(self, client: Wire) -> None:
        self.client = client
        self.members: dict[str, Any] = {}
        self.gaps: list[str] = []

    async def until(self, condition: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
        """Read until the members are so."""
        while not condition(self.members):
            message = await self.client.hear()
            if message.get("channel") != WHO:
                continue
            if message["type"] == "gap":
                assert message["to"] == 0
                self.gaps.append(message["reason"])
                self.members.clear()
            elif message["type"] == "update":
                assert message["event"] == "client_presence" or message.get("removed")
                if message.get("removed"):
                    self.members.pop(message["key"], None)
                else:
                    self.members[message["key"]] = message["data"]
        return self.members

    async def subjects(self, *expected: str | None) -> None:
        """Read until these are there."""

        def are_there(members: dict[str, Any]) -> bool:
            return sorted(str(it.get("subject")) for it in members.values()) == sorted(map(str, expected))

        await self.until(are_there)


async def enter(client: Wire) -> Seen:
    """Subscribe to the channel, and to who is in it."""
    await client.say("subscribe_updates", channels=[ROOM, WHO])
    for channel in (ROOM, WHO):
        established = await client.hear("subscription_established")
        assert established["channel"] == channel
    assert (established["state"], established["offset"]) == (True, 0)
    return Seen(client)


def advance(server: Server, seconds: float) -> None:
    assert server._core is not None
    server._core.advance_clock(seconds)


def named(app: Umbel) -> Umbel:
    app.authenticate(lambda request: request.query.get("user") or request.token)
    return app


async def test_clients_see_who_is_there_and_what_they_say_of_themselves(app: Umbel) -> None:
    named(app).channel("room:{room}", open=True, presence=True)
    async with app.serve(port=0, presence_interval=0.01) as server:
        assert await app.presence(ROOM) == {}
        async with wire(server, "/ws?user=ann") as ann, wire(server, "/ws?user=ben") as ben:
            ann_sees, ben_sees = await enter(ann), await enter(ben)
            await ann_sees.subjects("ann", "ben")
            await ben_sees.subjects("ann", "ben")
            key = ann.greeting["clientId"]
            assert ben_sees.members[key] == {
                "type": "client_presence",
                "clientId": key,
                "subject": "ann",
                "isActive": True,
                "lastSeen": ben_sees.members[key]["lastSeen"],
                "currentTask": None,
                "typing": False,
                "data": None,
            }
            change = {"isActive": False, "typing": True, "currentTask": 7, "data": {"x": [1.50]}}
            await ann.say("presence_update", channel=ROOM, id="u", **change)
            assert await ann.hear("presence_updated") == {
                "type": "presence_updated",
                "channel": ROOM,
                "id": "u",
            }
            await ben_sees.until(lambda members: members[key]["currentTask"] == 7)
            assert {**ben_sees.members[key], **change} == ben_sees.members[key]
            (present,) = (await app.presence(ROOM))["ann"]
            assert (present.client_id, present.active, present.typing) == (key, False, True)
            assert (present.current_task, present.data) == (7, {"x": [1.5]})
            assert present.last_seen.timestamp() > 1_700_000_000
            await ann.say("presence_update", channel=ROOM, currentTask=None, isActive=None)
            await ben_sees.until(lambda members: members[key]["currentTask"] is None)
            assert ben_sees.members[key]["isActive"], "null clears"
            assert ben_sees.members[key]["typing"]
            advance(server, 6)
            await ben_sees.until(lambda members: not members[key]["typing"])
            await ann.say("unsubscribe_updates", channel=ROOM)
            ended = [await ann.hear("subscription_ended") for _ in range(2)]
            assert [it["channel"] for it in ended] == [ROOM, WHO]
            await ben_sees.subjects("ben")
        await until(lambda: app.subscribers(ROOM) == 0)
        assert await app.presence(ROOM) == {}


async def test_two_sessions_of_one_subject_are_two_members(app: Umbel) -> None:
    named(app).channel("room:{room}", open=True, presence=True)
    async with app.serve(port=0, presence_interval=0.01) as server, wire(server, "/ws?user=ann") as page:
        sees = await enter(page)
        async with wire(server, "/ws?user=ann") as other:
            await enter(other)
            await sees.subjects("ann", "ann")
            assert [len(them) for them in (await app.presence(ROOM)).values()] == [2]
        await sees.subjects("ann")


async def test_a_lost_connection_is_told_and_the_member_goes_when_it_stays_away(app: Umbel) -> None:
    named(app).channel("room:{room}", open=True, presence=True)
    async with app.serve(port=0, presence_interval=0.01) as server, wire(server, "/ws?user=ben") as ben:
        sees = await enter(ben)
        async with begun(server, token="ann") as ann:
            await enter(ann)
            await sees.subjects("ann", "ben")
            key = ann.greeting["clientId"]
            await ann.say("presence_update", channel=ROOM, currentTask="t")
            await sees.until(lambda members: members[key]["currentTask"] == "t")
            await cut(ann)
        await until(lambda: len(app.clients()) == 1 or not app.clients("ann")[0].connected)
        advance(server, 2)
        await sees.until(lambda members: not members[key]["isActive"])
        positions = {ROOM: None, WHO: None}
        async with resumed(server, ann, 1, token="ann", positions=positions) as back:
            await sees.until(lambda members: members[key]["isActive"])
            assert sees.members[key]["currentTask"] == "t"
            await Seen(back).subjects("ann", "ben")
            await cut(back)
        await until(lambda: not app.clients("ann")[0].connected)
        advance(server, 10)
        await sees.subjects("ben")
        async with resumed(server, ann, 2, token="ann", positions=positions) as back:
            await sees.subjects("ann", "ben")
            assert sees.members[key]["currentTask"] == "t"
            await back.connection.close(1000)
        await sees.subjects("ben")


async def test_a_client_that_comes_back_without_the_channel_has_left(app: Umbel) -> None:
    named(app).channel("room:{room}", open=True, presence=True)
    async with app.serve(port=0, presence_interval=0.01) as server, wire(server, "/ws?user=ben") as ben:
        sees = await enter(ben)
        async with begun(server, token="ann") as ann:
            await enter(ann)
            await sees.subjects("ann", "ben")
            # Its former connection is still open: it is superseded.
            async with resumed(server, ann, 1, token="ann", positions={WHO: None}) as back:
                ended = await back.hear("subscription_ended")
                assert (ended["channel"], ended["reason"]) == (WHO, "not_allowed")
                await sees.subjects("ben")


async def test_a_session_on_a_stream_is_a_member(app: Umbel) -> None:
    named(app).channel("room:{room}", open=True, presence=True)
    async with app.serve(port=0, presence_interval=0.01) as server, wire(server, "/ws?user=ben") as ben:
        sees = await enter(ben)
        async with talking.begun(server, token="ann") as ann:
            await ann.post({"type": "subscribe_updates", "channels": [ROOM, WHO]})
            await sees.subjects("ann", "ben")
            await ann.post({"type": "presence_update", "channel": ROOM, "typing": True})
            key = ann.greeting["clientId"]
            await sees.until(lambda members: members[key]["typing"])
        await until(lambda: not app.clients("ann")[0].connected)
        advance(server, 2)
        await sees.until(lambda members: not members[key]["isActive"])
        async with talking.resumed(server, ann, 1, token="ann", positions={ROOM: None}):
            await sees.until(lambda members: members[key]["isActive"])


async def test_the_application_says_who_is_seen(app: Umbel) -> None:
    asked: list[str] = []

    async def seen_as(client: Client) -> str | None:
        asked.append(client.identity.subject)
        await asyncio.sleep(0)
        if client.identity.subject == "eve":
            raise RuntimeError("a test")
        return None if client.identity.subject == "spy" else f"{client.identity.subject} of the office"

    named(app).channel("room:{room}", open=True, presence=seen_as)
    async with (
        app.serve(port=0, presence_interval=0.01) as server,
        wire(server, "/ws?user=ann") as ann,
        wire(server, "/ws?user=spy") as spy,
        wire(server, "/ws?user=eve") as eve,
    ):
        seen_by_spy = await enter(spy)
        await enter(eve)
        await enter(ann)
        await seen_by_spy.subjects("ann of the office")
        assert sorted(asked) == ["ann", "eve", "spy"]
        for hidden in (spy, eve):
            await hidden.say("presence_update", channel=ROOM, typing=True)
            assert (await hidden.hear("error"))["code"] == "not_allowed"
        assert list(await app.presence(ROOM)) == ["ann of the office"]
        await ann.say("subscribe_updates", channel=ROOM)
        assert (await ann.hear("subscription_established"))["existing"]
        assert len(asked) == 3, "once for each subscription"


async def test_what_is_wrong_has_a_defined_answer(app: Umbel) -> None:
    named(app).channel("room:{room}", open=True, presence=True)
    app.channel("plain", open=True)
    async with app.serve(port=0, max_message=2 << 20) as server, wire(server, "/ws?user=ann") as ann:

        async def code(type: str, **fields: Any) -> str:
            await ann.say(type, **fields)
            answer = await ann.hear()
            return str(answer.get("code", answer["type"]))

        assert await code("subscribe_updates", channel=WHO) == "not_subscribed"
        assert await code("presence_update", channel=ROOM, typing=True) == "not_subscribed"
        assert await code("presence_update", channel="plain", typing=True) == "not_allowed"
        assert await code("presence_update", channel="nowhere", typing=True) == "not_allowed"
        assert await code("presence_update", channel=WHO, typing=True) == "bad_channel"
        assert await code("presence_update", typing=True) == "bad_message"
        assert await code("subscribe_updates", channel="plain") == "subscription_established"
        assert await code("subscribe_updates", channel="$presence:plain") == "unknown_channel"
        assert await code("subscribe_updates", channel="$node") == "bad_channel"
        assert await code("publish", channel=WHO, key="x", data=1) == "bad_channel"
        assert await code("subscribe_updates", channel=ROOM) == "subscription_established"
        assert await code("presence_update", channel=ROOM, data="x" * 4096) == "bad_message"
        assert await code("presence_update", channel=ROOM, data="x" * (1 << 20)) == "bad_message"
        assert await code("presence_update", channel=ROOM, data="x" * 4094, id=1) == "presence_updated"
        assert await code("presence_update", channel=ROOM, currentTask=[1]) == "bad_message"
        assert await code("presence_update", channel=ROOM, clientId="other", subject="x", id=2) == (
            "presence_updated"
        )
        for name in (WHO, "$presence:room:2"):
            with pytest.raises(ValueError, match="channels of the server"):
                app.publish(name, 1, key="x")
        for name in ("client_presence", "conflict_resolved"):
            with pytest.raises(ValueError, match="no event of the protocol"):
                app.publish(ROOM, 1, event=name)
        with pytest.raises(ValueError, match="not declared with presence="):
            await app.presence("plain")
        with pytest.raises(ValueError, match="control"):
            await app.presence("\n")
    with pytest.raises(RuntimeError, match="not being served"):
        await app.presence(ROOM)


async def test_typing_a_thousand_times_a_second_is_told_a_few_times(app: Umbel) -> None:
    named(app).channel("room:{room}", open=True, presence=True)
    async with (
        app.serve(port=0, presence_interval=0.01) as server,
        wire(server, "/ws?user=ann") as ann,
        wire(server, "/ws?user=ben") as ben,
    ):
        await enter(ann)
        sees = await enter(ben)
        await sees.subjects("ann", "ben")
        before, began = app.stats().published, asyncio.get_running_loop().time()
        for number in range(1, 1001):
            await ann.say("presence_update", channel=ROOM, typing=bool(number % 2), currentTask=number)
        key = ann.greeting["clientId"]
        while (await app.presence(ROOM))["ann"][0].current_task != 1000:
            await asyncio.sleep(0.01)
        advance(server, 1)
        await sees.until(lambda members: members[key]["currentTask"] == 1000)
        seconds = asyncio.get_running_loop().time() - began + 1
        assert app.stats().published - before <= 5 * (seconds + 1)
        assert not sees.members[key]["typing"]


async def test_event_streams_read_who_is_there_and_are_nobody(app: Umbel) -> None:
    named(app).channel("room:{room}", open=True, presence=True)
    async with app.serve(port=0, presence_interval=0.01) as server:
        path = f"/api/v1/stream?channel={ROOM}&channel=%24presence%3Aroom%3A1&user=cem"
        async with wire(server, "/ws?user=ann") as ann, stream(server, path) as page:
            sees = await enter(ann)
            await sees.subjects("ann")
            (update,) = await page.updates(1)
            assert (update["channel"], update["event"]) == (WHO, "client_presence")
            assert update["data"]["subject"] == "ann"
            assert list(await app.presence(ROOM)) == ["ann"]


async def test_the_application_hears_who_comes_and_who_leaves(app: Umbel) -> None:
    changes: list[PresenceChange] = []
    ready = asyncio.Event()
    running: list[str] = []
    together = 0

    named(app).channel("room:{room}", open=True, presence=True)

    @app.on_presence("room:{room}")
    async def changed(change: PresenceChange, room: str) -> None:
        nonlocal together
        running.append(room)
        together = max(together, len(running))
        changes.append(change)
        await ready.wait()
        running.remove("1")
        if len(changes) == 1:
            raise RuntimeError("a test")

    async with app.serve(port=0, presence_interval=0.01) as server, wire(server, "/ws?user=ann") as ann:
        await enter(ann)
        await until(lambda: changes)
        (member,) = changes[0].joined
        assert (member.subject, member.client_id, member.here) == ("ann", ann.greeting["clientId"], True)
        assert changes[0].left == ()
        for _ in range(3):
            await ann.say("unsubscribe_updates", channel=ROOM)
            await enter(ann)
        await ann.say("unsubscribe_updates", channel=ROOM)
        async with wire(server, "/ws?user=ben") as ben:
            sees = await enter(ben)
            await sees.subjects("ben")
            ready.set()
            await until(lambda: any(it.subject == "ben" for change in changes for it in change.joined))
        left = [it for change in changes[1:] for it in change.left if it.subject == "ann"]
        assert left and not left[-1].here
        await until(lambda: any(it.subject == "ben" for change in changes for it in change.left))
    assert together == 1, "one after another"
    assert {change.channel for change in changes} == {ROOM}


async def test_many_members_are_a_number(app: Umbel) -> None:
    named(app).channel("room:{room}", open=True, presence=True)
    app.channel("hall", open=True, presence="count")
    async with app.serve(port=0, presence_interval=0.01, presence_limit=2) as server:
        async with (
            wire(server, "/ws?user=ann") as ann,
            wire(server, "/ws?user=ben") as ben,
            wire(server, "/ws?user=cem") as cem,
        ):
            sees = await enter(ann)
            await enter(ben)
            await sees.subjects("ann", "ben")
            late = await enter(cem)
            number = {"": {"type": "client_presence_count", "count": 3}}
            await sees.until(lambda members: members == number)
            await late.until(lambda members: members == number)
            assert sees.gaps == ["count"]
            assert sorted(await app.presence(ROOM)) == ["ann", "ben", "cem"]
            for client in (ben, cem):
                await client.say("unsubscribe_updates", channel=ROOM)
            advance(server, 1)
            await sees.until(lambda members: members.get("", {}).get("count") != 3)
        path = "/api/v1/stream?channel=hall&channel=%24presence%3Ahall&user=eve"
        async with stream(server, path) as page, wire(server, "/ws?user=dan") as dan:
            (update,) = await page.updates(1)
            assert (update["key"], update["data"]) == ("", {"type": "client_presence_count", "count": 0})
            await dan.say("subscribe_updates", channel="hall")
            await dan.hear("subscription_established")
            advance(server, 1)
            (update,) = await page.updates(1)
            assert update["data"]["count"] == 1


async def test_the_log_says_when_there_is_no_room_for_a_list(
    app: Umbel, caplog: pytest.LogCaptureFixture
) -> None:
    app.channel("room:{room}", open=True, presence=True)
    async with app.serve(port=0, presence_interval=0.01, max_state_bytes=1) as server, wire(server) as ann:
        sees = await enter(ann)
        await sees.until(lambda members: members.get("", {}).get("count") == 1)
        await until(lambda: "found no room" in caplog.text)
    assert 'the last one "room:1": all states together would have more bytes' in caplog.text
    assert "max_state_bytes=1" in caplog.text


async def test_a_test_cuts_a_member_and_moves_time(app: Umbel) -> None:
    app.channel("room:{room}", open=True, presence=True)
    async with testing.connect(app, identity="ann") as ann, testing.connect(app, identity="ben") as ben:
        rooms = [client.subscribe(ROOM) for client in (ann, ben)]
        for room in rooms:
            await room.ready()

        async def becomes(**expected: bool) -> None:
            async with asyncio.timeout(10):
                while {name: them[0].active for name, them in (await app.presence(ROOM)).items()} != expected:
                    await asyncio.sleep(0.001)

        await becomes(ann=True, ben=True)
        async with ann.cut():
            ben.advance(2)
            await becomes(ann=False, ben=True)
            ben.advance(8)
            await becomes(ben=True)
        await becomes(ann=True, ben=True)


async def test_our_client_says_what_it_does(app: Umbel) -> None:
    app.channel("room:{room}", open=True, presence=True)
    async with app.serve(port=0, presence_interval=0.01) as server, connect(server.url) as client:
        with pytest.raises(RequestFailed, match="not subscribed"):
            await client.present(ROOM, typing=True)
        room = client.subscribe(ROOM)
        await room.ready()
        await client.present(ROOM, active=False, typing=True, current_task="t", data={"x": [1]})
        (me,) = (await app.presence(ROOM))[""]
        assert (me.client_id, me.active, me.typing) == (client.client_id, False, True)
        assert (me.current_task, me.data) == ("t", {"x": [1]})
        await client.present(ROOM, active=None, data=None)
        (me,) = (await app.presence(ROOM))[""]
        assert (me.active, me.typing, me.current_task, me.data) == (True, True, "t", None)
        who = client.subscribe(WHO)
        update = await anext(who)
        assert (update["key"], update["event"]) == (client.client_id, "client_presence")


async def test_mistakes_are_found_when_they_are_made(app: Umbel) -> None:
    def wrong(text: str, **options: Any) -> None:
        with pytest.raises(ConfigurationError, match=text):
            app.channel("room:{room}", open=True, **options)

    wrong("presence must be", presence="list")
    wrong("presence must be", presence=None)
    wrong("can't be the presence function", presence=lambda: None)
    app.channel("room:{room}", open=True, presence=True)
    app.channel("plain", open=True)
    with pytest.raises(ConfigurationError, match="there is no channel 'other'"):
        app.on_presence("other")(lambda change: None)
    with pytest.raises(ConfigurationError, match="without presence="):
        app.on_presence("plain")(lambda change: None)
    with pytest.raises(ConfigurationError, match="can't be the on_presence function"):
        app.on_presence("room:{room}")(lambda change: None)
    app.on_presence("room:{room}")(lambda change, room: None)
    with pytest.raises(ConfigurationError, match="already has an on_presence function"):
        app.on_presence("room:{room}")(lambda change, room: None)
    for setting, value in (("presence_limit", 0), ("presence_limit", 10_001), ("presence_interval", 0)):
        with pytest.raises(ValueError, match=setting):
            app.serve(**{setting: value})  # type: ignore[arg-type]

    @app.on("x")
    def handler(client: Client, message: Message) -> None: ...

    with pytest.raises(ConfigurationError, match="answered by Umbel itself"):
        app.on("presence_update")(handler)

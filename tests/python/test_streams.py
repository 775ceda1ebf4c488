"""Event streams: what a client gets, and where it goes on."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from looping import on_loops
from streams import PATH, EventStream, stream
from umbel import Client, Identity, Request, Umbel
from wire import wire


@pytest.fixture
def open_app(app: Umbel) -> Umbel:
    app.channel("{name}", open=True, history=5)
    return app


async def begun(events: EventStream, *channels: str) -> list[dict[str, Any]]:
    """Reads up to the last subscription; returns what is said about them beside the usual.

    Updates of the first channels may come before the last one is decided: they are heard after it.
    """
    await events.hear("connected")
    said = {}
    early = []
    while set(said) != set(channels):
        event = await events.hear()
        if event.name == "message":
            early.append(event)
            continue
        assert event.name in ("subscription_established", "server_error")
        said[event.data["channel"]] = {
            name: event.data[name] for name in ("offset", "recovered", "reason", "code") if name in event.data
        }
    events.put_back(early)
    return [said[channel] for channel in channels]


@on_loops
async def test_a_stream_says_who_it_is_and_then_what_is_published(open_app: Umbel) -> None:
    async with open_app.serve(port=0) as server, stream(server, "news") as events:
        assert events.status == 200
        assert events.headers == {
            "content-type": "text/event-stream",
            "cache-control": "no-store, no-transform",
            "x-accel-buffering": "no",
            "transfer-encoding": "chunked",
            "connection": "close",
        }
        connected = await events.hear()
        assert connected.name == "connected" and connected.data["channel"] == "news"
        assert connected.data["subject"] is None and len(connected.data["clientId"]) == 16
        assert 500 <= (events.parser.retry or 0) <= 1500
        assert (await events.hear("subscription_established")).data["offset"] == 0
        open_app.publish("news", {"text": "a\nb\r\0c"})
        batch = await events.hear()
        assert batch.name == "message" and batch.data["type"] == "batched_updates"
        assert batch.data["updates"] == [{"channel": "news", "offset": 1, "data": {"text": "a\nb\r\0c"}}]
        ids = [event.id for event in events.parser.events]
        assert None not in ids and len(set(ids)) == 3, "it moves with the subscription and the update"


@on_loops
async def test_the_last_id_is_all_that_a_client_needs_to_come_back(open_app: Umbel) -> None:
    async with open_app.serve(port=0) as server:
        async with stream(server, "a") as events:
            await begun(events, "a")
            open_app.publish("a", 1)
            await events.updates(1)
        for number in range(2, 5):
            open_app.publish("a", number)
        last = events.parser.last_id
        for options in (
            {"target": "a", "last_id": last},
            {"target": f"a?after={last}"},
            {"target": f"a?after={last}", "last_id": ""},
            {"target": "a?after=nonsense", "last_id": last},
            {"target": "a", "last_id": last, "version": "1.0"},
        ):
            async with stream(server, **options) as again:  # type: ignore[arg-type]
                assert await begun(again, "a") == [{"offset": 1, "recovered": True}]
                assert [update["data"] for update in await again.updates(3)] == [2, 3, 4]


@on_loops
async def test_what_the_history_does_not_have_is_a_loss_and_what_can_not_be_read_is_unknown(
    open_app: Umbel,
) -> None:
    async with open_app.serve(port=0, burst_bytes=0) as server:
        async with stream(server, "a") as events:
            await begun(events, "a")
        last = events.parser.last_id
        for number in range(9):
            open_app.publish("a", number)
        async with stream(server, "a", last_id=last) as again:
            assert await begun(again, "a") == [{"offset": 4, "recovered": False, "reason": "trimmed"}]
            assert [update["data"] for update in await again.updates(5)] == [4, 5, 6, 7, 8]
        for unknown in (last[:-1], last[1:], "x", "é" * 500, "0"):
            async with stream(server, "a", last_id=unknown) as again:
                assert await begun(again, "a") == [{"offset": 9, "recovered": False, "reason": "unknown"}]
        other = await other_process(last)
        async with stream(server, "a", last_id=other) as again:
            assert await begun(again, "a") == [{"offset": 9, "recovered": False, "reason": "epoch"}]


async def other_process(last: str) -> str:
    """The id of the same place in another server's log."""
    app = Umbel()
    app.channel("{name}", open=True)
    async with app.serve(port=0) as server, stream(server, "a") as events:
        await begun(events, "a")
    assert events.parser.last_id != last
    return events.parser.last_id


@on_loops
async def test_channels_may_be_added_removed_and_ordered_differently(open_app: Umbel) -> None:
    async with open_app.serve(port=0) as server:
        async with stream(server, "?channel=a&channel=b&channel=c") as events:
            connected = await events.hear()
            assert connected.data["channels"] == ["a", "b", "c"] and "channel" not in connected.data
            for channel in "abc":
                await events.hear("subscription_established")
                open_app.publish(channel, 1)
            await events.updates(3)
            open_app.publish("b", 2)
            await events.updates(1)
        for channel in "abcd":
            open_app.publish(channel, "missed")
        async with stream(server, "?channel=d&channel=c&channel=b", last_id=events.parser.last_id) as again:
            assert await begun(again, "d", "c", "b") == [
                {"offset": 1},
                {"offset": 1, "recovered": True},
                {"offset": 2, "recovered": True},
            ]
            updates = await again.updates(2)
            assert {(update["channel"], update["offset"]) for update in updates} == {("c", 2), ("b", 3)}


@on_loops
async def test_a_client_that_was_cut_before_it_was_subscribed_has_missed_what_nobody_knows(
    open_app: Umbel,
) -> None:
    async with open_app.serve(port=0) as server:
        async with stream(server, "a") as events:
            last = (await events.hear("connected")).id
        async with stream(server, "a", last_id=last) as again:
            assert await begun(again, "a") == [{"offset": 0, "recovered": False, "reason": "unknown"}]


@on_loops
async def test_a_channel_that_is_refused_keeps_its_position_and_the_others_go_on(app: Umbel) -> None:
    allowed = {"a", "b"}

    @app.channel("{name}")
    def may(client: Client, name: str) -> bool:
        return name in allowed

    async with app.serve(port=0) as server:
        async with stream(server, "?channel=a&channel=b") as events:
            await begun(events, "a", "b")
            app.publish("a", 1)
            await events.updates(1)
        allowed.remove("a")
        app.publish("a", 2)
        async with stream(server, "?channel=a&channel=b", last_id=events.parser.last_id) as events:
            assert await begun(events, "a", "b") == [
                {"code": "not_allowed"},
                {"offset": 0, "recovered": True},
            ]
            app.publish("b", 1)
            assert [update["channel"] for update in await events.updates(1)] == ["b"]
        allowed.add("a")
        async with stream(server, "?channel=a&channel=b", last_id=events.parser.last_id) as events:
            assert (await begun(events, "a", "b"))[0] == {"offset": 1, "recovered": True}


@on_loops
async def test_a_stream_of_refused_channels_stays_open(open_app: Umbel) -> None:
    async with (
        open_app.serve(port=0, heartbeat=0.1) as server,
        stream(server, "?channel=@x&channel=%24y&channel=") as events,
    ):
        await events.hear("connected")
        codes = {(await events.hear("server_error")).data["code"] for _ in range(3)}
        assert codes == {"bad_channel"}
        while events.parser.comments < 2:
            assert not events.parser.feed((await events._read()).decode())


@pytest.mark.parametrize(
    ("method", "target", "status"),
    [
        ("GET", PATH, 400),
        ("GET", f"{PATH}/", 400),
        ("GET", f"{PATH}?" + "&".join(f"channel={n}" for n in range(33)), 400),
        ("GET", f"{PATH}/a?after=x&after=y", 400),
        ("GET", f"{PATH}/a?heartbeat=often", 400),
        ("GET", f"{PATH}?channel=%", 400),
        ("GET", f"{PATH}s/a", 404),
        ("POST", f"{PATH}/a", 405),
        ("DELETE", PATH, 405),
        ("HEAD", f"{PATH}/a", 200),
        ("OPTIONS", f"{PATH}/a", 204),
    ],
)
async def test_what_is_wrong_with_a_request_is_a_status(
    open_app: Umbel, method: str, target: str, status: int
) -> None:
    async with open_app.serve(port=0) as server, stream(server, target, method=method) as events:
        assert events.status == status
        if status == 405:
            assert events.headers["allow"] == "GET, HEAD, OPTIONS"
        if status in (200, 204):
            assert "content-length" not in events.headers
            assert await events._reader.read() == b""


async def test_a_request_with_a_body_is_refused_and_one_that_is_too_long_too(open_app: Umbel) -> None:
    async with open_app.serve(port=0) as server:
        async with stream(server, "a", {"Content-Length": "1"}) as events:
            assert events.status == 400
        async with stream(server, "a", last_id="x" * 20_000) as events:
            assert events.status == 431


@on_loops
async def test_heartbeats_are_comments_or_events_that_a_page_can_see(open_app: Umbel) -> None:
    async with (
        open_app.serve(port=0, heartbeat=0.1) as server,
        stream(server, "a") as quiet,
        stream(server, "a?heartbeat=event") as loud,
    ):
        await begun(loud, "a")
        beat = await loud.hear()
        assert beat.name == "heartbeat" and set(beat.data) == {"type", "timestamp"}
        assert beat.id == loud.parser.last_id
        await begun(quiet, "a")
        while not quiet.parser.comments:
            quiet.parser.feed((await quiet._read()).decode())
        open_app.publish("a", 1)
        assert (await quiet.updates(1)) == (await loud.updates(1))


@on_loops
async def test_an_application_refuses_with_a_status_and_fails_with_a_stream_that_ends(app: Umbel) -> None:
    app.channel("a", open=True)

    @app.authenticate
    def who(request: Request) -> Identity | None:
        user = request.query["user"]
        if user == "broken":
            raise RuntimeError("out of order")
        return None if user == "nobody" else Identity(user)

    async with app.serve(port=0, max_connections_per_identity=1) as server:
        async with stream(server, "a?user=nobody") as events:
            assert events.status == 401 and events.headers["www-authenticate"] == "Bearer"
            assert b'"code":"unauthenticated"' in await events._reader.read()
        async with stream(server, "a?user=broken") as events:
            await assert_postponed(events, "internal", 1011)
        async with stream(server, "a?user=ann") as events:
            assert (await events.hear("connected")).data["subject"] == "ann"
            async with stream(server, "a?user=ann") as second:
                await assert_postponed(second, "limit_exceeded", 4429)
            assert server.stats().refused == 3


async def assert_postponed(events: EventStream, code: str, number: int) -> None:
    assert events.status == 200
    error, closed = await events.end()
    assert (error.name, error.data["code"]) == ("server_error", code)
    assert (closed.name, closed.data["code"], closed.data["reconnect"]) == ("closed", number, True)
    assert 10_000 <= (events.parser.retry or 0) <= 11_000


@on_loops
async def test_a_client_of_a_stream_is_a_client_like_others(app: Umbel) -> None:
    app.channel("a", open=True, history=5)
    seen: list[Any] = []

    @app.on_connect
    def arrived(client: Client) -> None:
        client.state["name"] = client.request.query["name"]
        seen.append(client)
        client.send("welcome")

    @app.channel("own:{name}")
    def may(client: Client, name: str) -> bool:
        return client.state["name"] == name

    @app.on_disconnect
    def left(client: Client, code: int, reason: str) -> None:
        seen.append(code)

    async with (
        app.serve(port=0) as server,
        stream(server, "?channel=own:ann&channel=own:bob&name=ann") as events,
    ):
        connected = await events.hear("connected")
        assert app.clients() == [seen[0]] and seen[0].id == connected.data["clientId"]
        private = await events.hear("subscription_established")
        assert private.data["channel"] == f"@{seen[0].id}"
        said = [await events.hear() for _ in range(3)]
        kinds = {(event.name, event.data.get("channel")) for event in said}
        assert ("subscription_established", "own:ann") in kinds and ("server_error", "own:bob") in kinds
        seen[0].send("bye")
        update = (await events.updates(1))[0]
        assert (update["channel"], update["data"]) == (f"@{seen[0].id}", "bye")
        seen[0].close(4001, "enough")
        closed = (await events.end())[-1]
        assert closed.data == {"type": "closed", "code": 4001, "reason": "enough", "reconnect": True}
        assert closed.id == events.parser.last_id
    assert seen[1:] == [4001]


@on_loops
async def test_what_on_connect_refuses_has_seen_nothing(app: Umbel) -> None:
    app.channel("a", open=True, replay="start", history=5)

    @app.on_connect
    async def refuse(client: Client) -> None:
        client.close(4500, "go away")

    async with app.serve(port=0) as server:
        app.publish("a", "secret")
        async with stream(server, "a") as events:
            names = [event.name for event in await events.end()]
    assert names == ["connected", "closed"]


@on_loops
async def test_a_stream_that_is_over_says_so_and_ends_and_is_204_for_who_has_it_all(app: Umbel) -> None:
    app.channel("chat", open=True)

    @app.stream("tell")
    async def tell(run: Any, message: Any) -> Any:
        yield "once"
        yield "upon"

    @app.channel("run:{id}", replay="start")
    def may(client: Client, id: str) -> bool:
        return True

    async with app.serve(port=0) as server, wire(server) as chat:
        await chat.say("tell", id=1, data={})
        run = (await chat.hear("subscription_established"))["channel"]
        await chat.hear("subscription_ended")
        async with stream(server, run) as events:
            heard = await events.end()
            assert [event.name for event in heard][:2] == ["connected", "subscription_established"]
            assert [event.name for event in heard][-2:] == ["subscription_ended", "closed"]
            assert heard[-1].data["code"] == 1000 and heard[-1].data["reconnect"] is False
            texts = [update["data"].get("chunk") for event in heard[2:-2] for update in event.data["updates"]]
            assert texts == [None, "once", "upon", None] or "".join(filter(None, texts)) == "onceupon"
        last = events.parser.last_id
        async with stream(server, run, last_id=last) as over:
            assert over.status == 204
        async with stream(server, f"{run}?after={last}") as again:
            assert [event.name for event in await again.end()][-1] == "closed"
        async with stream(server, f"?channel={run}&channel=chat", last_id=last) as both:
            assert both.status == 200
            assert (await both.hear("subscription_ended")).data["channel"] == run
            app.publish("chat", 1)
            assert (await both.updates(1))[0]["channel"] == "chat"


@on_loops
async def test_streams_are_rotated_and_go_on_where_they_were(open_app: Umbel) -> None:
    async with open_app.serve(port=0, stream_seconds=0.2) as server:
        async with stream(server, "a") as events:
            await begun(events, "a")
            open_app.publish("a", 1)
            closed = (await events.end())[-1]
            assert closed.name == "closed" and closed.data["reconnect"] is True
        open_app.publish("a", 2)
        async with stream(server, "a", last_id=events.parser.last_id) as again:
            assert await begun(again, "a") == [{"offset": 1, "recovered": True}]
            assert (await again.updates(1))[0]["data"] == 2


@on_loops
async def test_a_server_that_stops_asks_to_come_back(open_app: Umbel) -> None:
    async with open_app.serve(port=0) as server, stream(server, "a") as events:
        await begun(events, "a")
        open_app.publish("a", "last words")
        server.stop()
        heard = await events.end()
        assert [event.name for event in heard if event.name != "message"] == ["reconnect", "closed"]
        assert heard[-1].data["code"] == 1012 and heard[-1].data["reconnect"] is True
        assert any(event.name == "message" for event in heard)


@on_loops
async def test_pages_of_other_origins_need_permission_and_are_told_that_they_may_read(
    open_app: Umbel,
) -> None:
    page = {"Origin": "https://a.example"}
    async with open_app.serve(port=0, origins=["https://a.example"]) as server:
        for headers, status in [
            (page, 200),
            ({"Origin": "https://b.example"}, 403),
            ({"Sec-Fetch-Site": "cross-site"}, 403),
            ({}, 200),
        ]:
            async with stream(server, "a", headers) as events:
                assert events.status == status, headers
        async with stream(server, "a", page) as events:
            assert events.headers["access-control-allow-origin"] == "https://a.example"
            assert events.headers["access-control-allow-credentials"] == "true"
            assert events.headers["vary"] == "Origin"
        async with stream(server, "a", page, method="OPTIONS") as events:
            assert events.status == 204 and events.headers["access-control-max-age"] == "600"
            assert events.headers["access-control-allow-methods"] == "GET, HEAD, OPTIONS"
            assert "Last-Event-ID" in events.headers["access-control-allow-headers"]


async def test_another_path_may_be_chosen_and_nothing_else_is_there(open_app: Umbel) -> None:
    async with open_app.serve(port=0, stream_path="/events") as server:
        async with stream(server, "/events/a") as events:
            await begun(events, "a")
        async with stream(server, "a") as events:
            assert events.status == 404


@on_loops
async def test_what_a_client_sends_after_its_request_is_not_heard(open_app: Umbel) -> None:
    async with open_app.serve(port=0) as server, stream(server, "a") as events:
        await events.send(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n" * 2000)
        await begun(events, "a")
        open_app.publish("a", 1)
        assert len(await events.updates(1)) == 1


@on_loops
@pytest.mark.parametrize("limit", ["max_connections", "max_connections_per_address"])
async def test_a_full_server_lets_streams_wait_and_refuses_others(open_app: Umbel, limit: str) -> None:
    async with open_app.serve(port=0, **{limit: 2}) as server:
        async with stream(server, "a") as first, stream(server, "a"):
            for _ in range(100):  # more than are read at a time
                async with stream(server, "a", {"Origin": "http://localhost"}) as events:
                    await assert_postponed(events, "limit_exceeded", 4429)
                    assert events.headers["access-control-allow-origin"] == "http://localhost"
            expected = 503 if limit == "max_connections" else 429
            for headers in ({}, {"Upgrade": "websocket", "Connection": "upgrade"}):
                async with stream(server, "/ws", headers) as events:
                    assert events.status == expected
            async with stream(server, "a", method="HEAD") as events:
                assert events.status == 200
            open_app.publish("a", 1)
            assert len(await first.updates(1)) == 1
        async with asyncio.timeout(10):
            while server.stats().connections:
                await asyncio.sleep(0.01)
        async with stream(server, "a") as events:
            await begun(events, "a")


@on_loops
async def test_connections_of_a_full_server_that_say_nothing_keep_nobody_waiting_for_long(
    open_app: Umbel,
) -> None:
    async with open_app.serve(port=0, max_connections=1) as server, stream(server, "a") as first:
        await begun(first, "a")
        host, _, port = server.url.removeprefix("http://").rpartition(":")
        silent = [await asyncio.open_connection(host, int(port)) for _ in range(100)]
        async with stream(server, "a") as events:
            await assert_postponed(events, "limit_exceeded", 4429)
        for reader, writer in silent:
            assert (await reader.read()).startswith(b"HTTP/1.1 503 ")
            writer.transport.abort()
        open_app.publish("a", 1)
        assert len(await first.updates(1)) == 1


@on_loops
async def test_each_update_may_be_an_event_with_a_name_of_its_own(open_app: Umbel) -> None:
    async with (
        open_app.serve(port=0) as server,
        stream(server, "a?events=single") as alone,
        stream(server, "?channel=a&channel=b&events=single") as several,
        wire(server) as socket,
    ):
        await begun(alone, "a")
        await begun(several, "a", "b")
        await socket.say("subscribe_updates", channel="a")
        await socket.hear("subscription_established")
        open_app.publish("a", {"}": '{"'}, event="task_update")
        open_app.publish("a", 2)
        open_app.publish("a", [3], event="x:y-z.0")
        for events in (alone, several):
            heard = [await events.hear() for _ in range(3)]
            assert [event.name for event in heard] == ["task_update", "message", "x:y-z.0"]
            assert [event.data["data"] for event in heard] == [{"}": '{"'}, 2, [3]]
            assert [event.data["offset"] for event in heard] == [1, 2, 3]
            assert len({event.id for event in heard}) == 3
            async with stream(server, "a?events=single", last_id=heard[1].id) as again:
                assert await begun(again, "a") == [{"offset": 2, "recovered": True}]
                assert (await again.hear()).data["data"] == [3]
        assert [(await socket.hear("update")).get("event") for _ in range(3)] == [
            "task_update",
            None,
            "x:y-z.0",
        ]
        for wrong in ("", "a b", "é", "a\nb", "x" * 65, "error", "message", "gap", "closed"):
            with pytest.raises(ValueError, match="is no name for an event"):
                open_app.publish("a", 1, event=wrong)

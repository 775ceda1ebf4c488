"""Channels with mode="state": what the application and clients do with them, and what is on the wire."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from calling import CALLS, HISTORY, program
from looping import on_loops
from streams import stream
from umbel import Client, ConfigurationError, Conflict, Position, Server, StateFull, Umbel, UmbelError
from umbel.client import connect
from wire import Wire, wire


async def read(client: Wire, count: int) -> list[dict[str, Any]]:
    """The next so many updates."""
    return [await client.hear("update") for _ in range(count)]


def folded(updates: list[dict[str, Any]]) -> dict[str, Any]:
    """What a map is after updates."""
    found: dict[str, Any] = {}
    for update in updates:
        if update.get("removed"):
            found.pop(update["key"], None)
        else:
            found[update["key"]] = update["data"]
    return found


@on_loops
async def test_an_application_sets_removes_and_reads(app: Umbel) -> None:
    app.channel("board:{x}", open=True, mode="state")
    board = app.state("board:1")
    with pytest.raises(RuntimeError, match="not being served"):
        board.set("a", 1)
    with pytest.raises(RuntimeError, match="not being served"):
        await board.items()
    async with app.serve(port=0):
        assert (await board.get("a"), await board.items()) == (None, {})
        first = await board.set("a", {"n": 1})
        await board.set("b", [2])
        third = await board.set("a", {"n": 3}, event="changed")
        entry = await board.get("a")
        assert entry is not None
        assert (entry.key, entry.data, entry.position, entry.removed) == ("a", {"n": 3}, third, False)
        assert {key: it.data for key, it in (await board.items()).items()} == {"b": [2], "a": {"n": 3}}
        removal = await board.delete("b")
        assert removal.offset == 4
        assert (await board.delete("b"), await board.delete("x")) == (removal, removal), "nothing happens"
        assert (await board.get("b"), list(await board.items())) == (None, ["a"])
        history = await app.history("board:1", after=first)
        assert [(it.key, it.data, it.removed) for it in history.publications] == [
            ("a", {"n": 3}, False),
            ("b", None, True),
        ]
        assert repr(board) == "State('board:1')"
        assert await app.state("board:2").items() == {}
    with pytest.raises(RuntimeError, match="not being served"):
        board.delete("a")


async def test_it_may_be_used_by_several_threads(app: Umbel) -> None:
    app.channel("board", open=True, mode="state")
    async with app.serve(port=0):
        board = app.state("board")

        def work(number: int) -> None:
            for key in range(100):
                board.set(f"{number}-{key}", key).wait(5)
                if key % 2:
                    board.delete(f"{number}-{key}")

        loop = asyncio.get_running_loop()
        with ThreadPoolExecutor(4) as pool:
            await asyncio.gather(*(loop.run_in_executor(pool, work, number) for number in range(4)))
        assert sorted(await board.items()) == sorted(
            f"{n}-{key}" for n in range(4) for key in range(0, 100, 2)
        )


@pytest.mark.parametrize(
    ("use", "error", "text"),
    [
        (lambda app: app.state("news").set("a", 1), ValueError, 'channel "news" is not declared with mode'),
        (lambda app: app.state("").set("a", 1), ValueError, "name"),
        (lambda app: app.state("board").set("k" * 256, 1), ValueError, "a key has at most 255 bytes"),
        (lambda app: app.state("board").set("a", "x" * 70_000), ValueError, "at most 65536 bytes"),
        (lambda app: app.state("board").set("a", object()), TypeError, "JSON"),
        (lambda app: app.state("board").set("a", 1, event="gap"), ValueError, "event"),
        (lambda app: app.state("board").set("c", 1), StateFull, r"max_keys=2"),
        (lambda app: app.state("board").set("a", "x" * 60_000), StateFull, r"state_bytes=20000"),
        (lambda app: app.publish("board", 1), ValueError, "has a key"),
        (lambda app: app.publish("board", 1, key="c"), StateFull, r"max_keys=2"),
    ],
)
async def test_what_can_not_be_set_is_an_error_where_it_is_said(
    app: Umbel, use: Any, error: type[Exception], text: str
) -> None:
    app.channel("news", open=True)
    app.channel("board", open=True, mode="state", max_keys=2, state_bytes=20_000)
    async with app.serve(port=0):
        app.state("board").set("a", 1)
        app.state("board").set("b", 1)
        with pytest.raises(error, match=text):
            use(app)
        assert {key: it.data for key, it in (await app.state("board").items()).items()} == {"a": 1, "b": 1}


async def test_all_states_together_are_bounded(app: Umbel) -> None:
    assert issubclass(StateFull, UmbelError)
    app.channel("board:{x}", open=True, mode="state")
    async with app.serve(port=0, max_state_bytes=100_000):
        with pytest.raises(StateFull, match="max_state_bytes=100000"):
            for number in range(1000):
                app.state(f"board:{number}").set("a", "x" * 1000)
        app.state("board:0").delete("a")
        app.state("board:0").set("a", 1)
        assert app.stats().log_bytes < 150_000


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"mode": "state", "replay": "start"}, "drop replay="),
        ({"mode": "state", "history_bytes": 5}, "drop history_bytes="),
        ({"mode": "state", "max_keys": 0}, "max_keys must be an int of at least 1"),
        ({"mode": "state", "state_bytes": True}, "state_bytes must be an int of at least 1"),
        ({"max_keys": 5}, "max_keys is for channels with mode='state'"),
        ({"mode": "state", "publish": lambda client, data: True}, "must have a parameter `key`"),
    ],
)
def test_a_declaration_that_can_not_work_is_refused(app: Umbel, arguments: Any, text: str) -> None:
    with pytest.raises(ConfigurationError, match=text):
        app.channel("a", open=True, **arguments)


@on_loops
async def test_a_subscriber_gets_all_and_then_the_changes(app: Umbel) -> None:
    app.channel("board", open=True, mode="state")
    async with app.serve(port=0) as server, wire(server) as early, wire(server) as late:
        board = app.state("board")
        await early.say("subscribe_updates", channel="board", id=1)
        established = await early.hear("subscription_established")
        assert {**established, "epoch": ""} == {
            "type": "subscription_established",
            "channel": "board",
            "epoch": "",
            "offset": 0,
            "top": 0,
            "recovered": False,
            "reason": "new",
            "state": True,
            "id": 1,
        }
        for key, value in [("a", 1), ("b", 2), ("a", 3)]:
            board.set(key, value)
        board.delete("b")
        # In one batch or in several.
        updates = await read(early, 1)
        while updates[-1]["offset"] < 4:
            updates += await read(early, 1)
        assert folded(updates) == {"a": 3}
        await late.say("subscribe_updates", channel="board")
        established = await late.hear("subscription_established")
        assert (established["offset"], established["top"]) == (0, 4)
        assert await read(late, 2) == [
            {"type": "update", "channel": "board", "from": 0, "offset": 3, "key": "a", "data": 3},
            {"type": "update", "channel": "board", "offset": 4, "key": "b", "removed": True},
        ]
        await late.say("subscribe_updates", channel="board")
        again = await late.hear("subscription_established")
        assert (again["existing"], again["state"], again["offset"]) == (True, True, 4)
        assert "recovered" not in again


async def test_a_position_goes_on_while_no_removal_after_it_is_forgotten(app: Umbel) -> None:
    app.channel("board", open=True, mode="state", history=1)
    async with app.serve(port=0) as server, wire(server) as client:
        board = app.state("board")
        for key in "abc":
            position = await board.set(key, key)
        board.delete("a")
        await client.say("subscribe_updates", channel="board", epoch=position.epoch, offset=position.offset)
        established = await client.hear("subscription_established")
        assert (established["recovered"], established["offset"]) == (True, 3)
        assert [it["key"] for it in await read(client, 1)] == ["a"]
        board.delete("b")
        await read(client, 1)
        board.set("d", 1)
        board.delete("c")
        while (await read(client, 1))[0]["offset"] < 7:
            pass
        await client.say(
            "subscribe_updates", channel="board", epoch=position.epoch, offset=position.offset, restart=True
        )
        established = await client.hear("subscription_established")
        assert (established["recovered"], established["reason"], established["offset"]) == (
            False,
            "trimmed",
            0,
        )
        updates = await read(client, 2)
        assert (folded(updates), updates[-1]["offset"]) == ({"d": 1}, 7)


async def test_clients_set_keys_by_the_rule_of_the_channel(app: Umbel) -> None:
    def may_publish(client: Client, data: Any, key: str, op: str) -> bool | dict[str, Any]:
        assert op == "set"
        return {"by": key, "value": data} if key != "no" else False

    app.channel("board", open=True, mode="state", publish=may_publish, max_keys=2, sender=True)
    app.channel("open", open=True, mode="state", publish=True, max_keys=1)
    async with app.serve(port=0) as server, wire(server) as client:
        for fields, answer in [
            ({"key": "a", "data": 1}, {"type": "published", "offset": 1}),
            ({"key": "no", "data": 1}, {"type": "error", "code": "not_allowed"}),
            ({"data": 1}, {"type": "error", "code": "bad_message"}),
            ({"key": "b", "data": 1}, {"type": "published", "offset": 2}),
            ({"key": "c", "data": 1}, {"type": "error", "code": "limit_exceeded"}),
            ({"key": "b", "data": "x" * 70_000}, {"type": "error", "code": "limit_exceeded"}),
        ]:
            await client.say("publish", channel="board", **fields)
            heard = await client.hear()
            assert {name: heard.get(name) for name in answer} == answer
            if fields.get("key") == "c":
                assert "max_keys=2" in heard["message"]
        entry = await app.state("board").get("a")
        assert entry is not None
        assert entry.data == {"by": "a", "value": 1}
        assert entry.sender == {"clientId": client.greeting["clientId"], "subject": None}
        await client.say("publish", channel="open", data=1)
        assert (await client.hear())["code"] == "bad_message"


async def test_over_http_a_state_is_set_and_its_changes_are_read() -> None:
    app = Umbel()
    app.channel("board", open=True, mode="state", publish=True)
    async with app.serve(port=0, **CALLS) as server, program(server) as it:
        assert (await it.post({"channel": "board", "key": "a", "data": 1})).body["offset"] == 1
        refused = await it.post({"channel": "board", "data": 1})
        assert (refused.status, refused.body["code"]) == (400, "bad_message")
        app.state("board").set("b", 2)
        app.state("board").delete("a")
        answer = (await it.get(f"{HISTORY}/board")).body
        assert (answer["gap"], answer["offset"], answer["top"]) == (False, 3, 3)
        assert [(one["key"], one.get("data"), one.get("removed")) for one in answer["updates"]] == [
            ("b", 2, None),
            ("a", None, True),
        ]
        after = (await it.get(f"{HISTORY}/board?epoch={answer['epoch']}&offset=2")).body
        assert [one["key"] for one in after["updates"]] == ["a"]


def wait(server: Server, seconds: float) -> None:
    """Let time go on, and what is due then be done."""
    assert server._core is not None
    server._core.advance_clock(seconds)


async def test_a_state_that_is_neither_read_nor_written_for_long_is_dropped() -> None:
    app = Umbel()
    app.channel("board:{x}", open=True, mode="state", publish=True)
    board = app.state("board:1")
    async with app.serve(port=0, **CALLS, state_idle_seconds=3600) as server:

        async def over_http() -> None:
            async with program(server) as it:
                assert (await it.get(f"{HISTORY}/board:1")).status == 200

        before = await board.set("a", 1)
        uses: list[Callable[[], Awaitable[Any]]] = [
            lambda: board.get("b"),
            board.items,
            lambda: app.history("board:1"),
            over_http,
            lambda: board.set("a", 2),
        ]
        for use in uses * 2:
            # More than an hour in all, but never between two uses.
            wait(server, 2000)
            await use()
        async with wire(server) as client:
            await client.say("subscribe_updates", channel="board:1")
            established = await client.hear("subscription_established")
            assert (established["epoch"], established["top"]) == (before.epoch, 3)
            assert folded(await read(client, 1)) == {"a": 2}
        while app.stats().channels:
            await asyncio.sleep(0)
            wait(server, 3601)
        assert await board.get("a") is None
        with pytest.raises(Conflict) as conflict:
            board.set("a", 3, version=Position(before.epoch, 3))
        assert conflict.value.entry is None
        await board.set("b", 1)
        async with wire(server) as client:
            await client.say("subscribe_updates", channel="board:1", epoch=before.epoch, offset=3)
            anew = await client.hear("subscription_established")
            assert (anew["recovered"], anew["reason"], anew["offset"], anew["state"]) == (
                False,
                "epoch",
                0,
                True,
            )
            assert folded(await read(client, 1)) == {"b": 1}


async def test_a_state_with_subscribers_is_not_idle(app: Umbel) -> None:
    app.channel("board", open=True, mode="state")
    async with app.serve(port=0, state_idle_seconds=10, session_ttl=10) as server, wire(server) as client:
        await client.say("subscribe_updates", channel="board")
        await client.hear("subscription_established")
        position = await app.state("board").set("a", 1)
        await read(client, 1)
        for _ in range(10):
            wait(server, 11)
            # So that the connection is not silent.
            await (await client.connection.ping())
        assert await app.state("board").set("b", 2) == Position(position.epoch, 2)


@pytest.mark.parametrize("events", ["", "?events=single"])
async def test_an_event_stream_begins_with_the_state_and_goes_on_after_its_id(
    app: Umbel, events: str
) -> None:
    app.channel("board", open=True, mode="state")
    async with app.serve(port=0) as server:
        board = app.state("board")
        board.set("a", 1, event="changed")
        board.set("b", 2)
        async with stream(server, f"board{events}") as it:
            updates: list[dict[str, Any]] = []
            while len(updates) < 2:
                event = await it.hear()
                updates += event.data.get("updates", [event.data] if "offset" in event.data else [])
                updates = [one for one in updates if "key" in one]
                last = event.id
            assert folded(updates) == {"a": 1, "b": 2}
        board.delete("a")
        async with stream(server, f"board{events}", last_id=last) as it:
            while True:
                event = await it.hear()
                if event.name == "subscription_established":
                    assert (event.data["recovered"], event.data["state"]) == (True, True)
                found = event.data.get("updates", [event.data])
                if "key" in found[0]:
                    break
            assert [(one["key"], one["removed"]) for one in found] == [("a", True)]


async def test_a_python_client_follows_a_state(app: Umbel) -> None:
    app.channel("board", open=True, mode="state", publish=True)
    async with app.serve(port=0) as server, connect(server.url) as umbel:
        board = app.state("board")
        board.set("a", 1)
        board.set("b", 2)
        board.delete("a")
        await umbel.publish("board", 3, key="c")
        tasks: dict[str, Any] = {}
        begun = umbel.subscribe("board")
        async for update in begun:
            assert "gap" not in update
            if update.get("removed"):
                tasks.pop(update["key"], None)
            else:
                tasks[update["key"]] = update["data"]
            if update["offset"] == 4:
                break
        assert tasks == {"b": 2, "c": 3}


async def test_a_large_state_comes_whole_to_a_newcomer_while_it_changes(app: Umbel) -> None:
    app.channel("board", open=True, mode="state", history=10)
    async with app.serve(port=0) as server, wire(server) as client:
        board = app.state("board")
        for number in range(5000):
            board.set(f"k{number}", {"n": number, "x": "x" * 100})
        await client.say("subscribe_updates", channel="board")
        told = (await client.hear("subscription_established"))["top"]
        found: dict[str, Any] = {}
        offset, changed, end = 0, 0, 0
        while offset < max(told, end):
            update = await client.hear("update")
            assert update.get("from", update["offset"] - 1) == offset
            offset, told = update["offset"], max(told, update.get("top", 0))
            if update.get("removed"):
                found.pop(update["key"], None)
            else:
                found[update["key"]] = update["data"]
            if changed < 200:
                changed += 1
                board.set(f"k{changed * 17}", changed)
                end = (await board.delete(f"k{changed * 23}")).offset
        assert found == {key: it.data for key, it in (await board.items()).items()}

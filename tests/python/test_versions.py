"""Changes of states at the same time: versions, patches, conflicts, and what is remembered of them."""

from __future__ import annotations

import asyncio
import random
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from typing import Any

import pytest
from calling import CALLS, program
from coming_back import begun, cut, resumed
from looping import on_loops
from umbel import REMOVED, Client, ConfigurationError, Conflict, Position, Server, Umbel
from wire import Wire, wire

BOARD = "board"


@pytest.fixture
def board(app: Umbel) -> Umbel:
    app.channel(BOARD, open=True, mode="state", publish=True)
    app.channel("news", open=True, publish=True)
    return app


async def answer(client: Wire) -> dict[str, Any]:
    """What a client hears next of its requests."""
    while (heard := await client.hear())["type"] not in ("published", "error"):
        pass
    return dict(heard)


async def change(
    client: Wire, op: str, key: str = "a", channel: str = BOARD, **fields: Any
) -> dict[str, Any]:
    await client.say(f"state_{op}", channel=channel, key=key, **fields)
    return await answer(client)


def conflict(heard: dict[str, Any]) -> dict[str, Any]:
    """How the entry is that was not as expected."""
    assert (heard["code"], heard["channel"]) == ("state_conflict", BOARD)
    return dict(heard["details"])


@on_loops
async def test_a_change_of_the_application_is_made_of_the_version_that_it_names(board: Umbel) -> None:
    state = board.state(BOARD)
    async with board.serve(port=0):
        first = await state.set("a", 1, version=0)
        with pytest.raises(Conflict) as caught:
            state.set("a", 2, version=0)
        assert (caught.value.entry.data, caught.value.entry.position) == (1, first)
        second = await state.set("a", 2, version=first)
        for stale in (first, Position(first.epoch, 9), Position("0" * 16, second.offset)):
            for act in (state.set, state.patch, lambda key, _, version: state.delete(key, version=version)):
                with pytest.raises(Conflict) as caught:
                    act("a", {}, version=stale)
                assert caught.value.entry.position == second
        assert (await state.delete("a", version=second)).offset == 3
        with pytest.raises(Conflict) as caught:
            state.set("a", 2, version=second)
        assert caught.value.entry is None
        assert (await state.delete("a", version=second)).offset == 3, "it is as it should be"
        assert (await state.set("b", 1, version=Position(second.epoch, 0))).offset == 4, "nothing was there"
        assert (await state.delete("b")).offset == 5
        for wrong in (1, -1, "0", 0.5):
            with pytest.raises(ValueError, match="a version is the position"):
                state.set("a", 1, version=wrong)  # type: ignore[arg-type]
        assert (await board.position(BOARD)).offset == 5


@on_loops
async def test_a_patch_changes_what_it_names_and_nothing_else(board: Umbel) -> None:
    state = board.state(BOARD)
    async with board.serve(port=0) as server, wire(server) as client:
        with pytest.raises(Conflict):
            state.patch("a", {"x": 1})
        await state.patch("a", {"x": {"y": 1, "gone": None}, "gone": None}, version=0)
        await state.patch("a", {"x": {"z": [1, None]}, "w": "é"}, event="changed")
        entry = await state.get("a")
        assert entry is not None
        assert entry.data == {"x": {"y": 1, "z": [1, None]}, "w": "é"}
        await state.patch("a", {"x": None, "w": {}})
        for wrong in ([1], None, "x"):
            with pytest.raises(ValueError, match="a patch is a JSON object"):
                state.patch("a", wrong)  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="at most 65536 bytes"):
            state.patch("a", {"x": "x" * 65_536})
        with pytest.raises(ValueError, match="and so has a patch"):
            state.patch("a", {"x" * 65_536: None})
        await client.say("subscribe_updates", channel=BOARD)
        assert (await client.hear("update"))["data"] == {"w": {}}


async def test_an_update_computes_the_new_value_from_the_old_one(board: Umbel) -> None:
    state = board.state(BOARD)
    async with board.serve(port=0):
        assert (await state.update("a", lambda value: (value or 0) + 1)).offset == 1
        assert (await state.update("a", lambda value: value + 1)).offset == 2
        assert (await state.update("a", lambda value: REMOVED)).offset == 3
        assert (await state.update("b", lambda value: REMOVED)).offset == 3
        assert repr(REMOVED) == "REMOVED"
        calls: list[Any] = []

        def outrun(value: Any) -> Any:
            calls.append(value)
            state.set("a", len(calls))
            return "never"

        with pytest.raises(Conflict) as caught:
            await state.update("a", outrun)
        assert calls == [None, *range(1, 100)]
        assert caught.value.entry.data == 100

        def fails(value: Any) -> Any:
            raise LookupError

        with pytest.raises(LookupError):
            await state.update("a", fails)


async def test_no_update_is_lost_between_threads_and_clients(board: Umbel) -> None:
    state = board.state(BOARD)
    async with board.serve(port=0, shards=2) as server, wire(server) as client:
        await state.set("a", {"n": 0})

        def counts() -> None:
            async def count() -> None:
                for _ in range(50):
                    await state.update("a", lambda value: {**value, "n": value["n"] + 1})

            asyncio.run(count())

        with ThreadPoolExecutor(3) as threads:
            loop = asyncio.get_running_loop()
            running = [loop.run_in_executor(threads, counts) for _ in range(3)]
            for number in range(200):
                assert (await change(client, "patch", data={"client": number}))["type"] == "published"
            await asyncio.gather(*running)
        entry = await state.get("a")
        assert entry is not None
        assert entry.data == {"n": 150, "client": 199}


@on_loops
async def test_a_client_changes_what_it_has_seen_and_is_told_what_is_there(board: Umbel) -> None:
    async with board.serve(port=0) as server, wire(server) as one, wire(server) as other:
        made = await change(one, "set", data=[1], ifVersion=0, id=7)
        epoch = made["epoch"]
        assert made == {
            "type": "published", "channel": BOARD, "epoch": epoch, "key": "a", "offset": 1, "id": 7
        }  # fmt: skip
        assert conflict(await change(one, "set", data=2, ifVersion=0)) == {
            "epoch": epoch, "key": "a", "version": 1
        }, "it does not read the channel, so it is not told the value"  # fmt: skip
        await other.say("subscribe_updates", channel=BOARD)
        await other.hear("update")
        known = {"epoch": epoch, "key": "a", "version": 1, "data": [1]}
        for op, stale in [
            ("set", {"ifVersion": 9, "epoch": epoch}),
            ("set", {"ifVersion": 1, "epoch": "f" * 16}),
            ("set", {"ifVersion": 1, "epoch": "no epoch"}),
            ("patch", {"ifVersion": 0}),
            ("delete", {"ifVersion": 2**53 - 1, "epoch": epoch}),
        ]:
            assert conflict(await change(other, op, data={}, **stale)) == known
        await other.say("publish", channel=BOARD, key="a", data=0, ifVersion=0)
        assert conflict(await answer(other)) == known
        assert (await change(other, "set", data=3, ifVersion=1, epoch=epoch))["offset"] == 2
        assert (await change(other, "delete", ifVersion=2, epoch=epoch))["offset"] == 3
        gone = {"epoch": epoch, "key": "a", "version": 0, "removed": True}
        assert conflict(await change(other, "set", data=3, ifVersion=2, epoch=epoch)) == gone
        assert conflict(await change(one, "patch", data={"x": 1})) == gone
        assert (await change(one, "delete", ifVersion=2, epoch=epoch))["offset"] == 3, "nothing to do"
        assert (await change(one, "patch", data={"x": 1, "y": None}, ifVersion=0))["offset"] == 4
        await other.say("heartbeat", id=1)
        assert (await other.hear("heartbeat_ack"))["id"] == 1, "conflicts are nobody's fault"


@pytest.mark.parametrize(
    ("op", "fields", "text"),
    [
        ("set", {"data": 1, "ifVersion": -1}, "ifVersion"),
        ("set", {"data": 1, "ifVersion": 1.5, "epoch": "0" * 16}, "ifVersion"),
        ("set", {"data": 1, "ifVersion": 2**53, "epoch": "0" * 16}, "ifVersion"),
        ("set", {"data": 1, "ifVersion": "1", "epoch": "0" * 16}, "ifVersion"),
        ("set", {"data": 1, "ifVersion": None}, "ifVersion"),
        ("set", {"data": 1, "ifVersion": 1}, "epoch"),
        ("set", {"data": 1, "ifVersion": 1, "epoch": 1}, "epoch"),
        ("set", {}, "data"),
        ("patch", {}, "data"),
        ("patch", {"data": [1]}, "merge patch"),
        ("patch", {"data": None}, "merge patch"),
        ("patch", {"data": {"a": {"b": [[[[]]]]}}, "key": 1}, "key"),
        ("delete", {"key": None}, "key"),
        ("delete", {"key": "k" * 256}, "key"),
    ],
)
async def test_a_change_that_is_not_as_it_must_be_is_refused(
    board: Umbel, op: str, fields: dict[str, Any], text: str
) -> None:
    async with board.serve(port=0) as server, wire(server) as client:
        heard = await change(client, op, **{"key": "a", **fields})
        assert heard["code"] == "bad_message"
        assert text in heard["message"]
        assert (await board.position(BOARD)).offset == 0


async def test_a_deep_patch_and_one_that_grows_an_entry_too_far_are_refused(board: Umbel) -> None:
    async with board.serve(port=0) as server, wire(server) as client:
        await change(client, "set", data={"x": "x" * 60_000})
        deep = '{"type":"state_patch","channel":"board","key":"a","data":' + '{"a":' * 63 + "1" + "}" * 64
        await client.connection.send(deep)
        assert (await answer(client))["type"] == "published", "64 levels, the message among them"
        await client.connection.send(deep.replace('"data":', '"data":{"a":') + "}")
        assert (await answer(client))["code"] == "bad_message"
        heard = await change(client, "patch", data={"y": "y" * 6_000})
        assert (heard["code"], "65536" in heard["message"]) == ("limit_exceeded", True)
        for name in ("__proto__", "constructor"):
            assert (await change(client, "patch", name, data={name: {"x": 1}}, ifVersion=0))["key"] == name
            entry = await board.state(BOARD).get(name)
            assert entry is not None
            assert entry.data == {name: {"x": 1}}


async def test_in_a_channel_without_a_state_there_is_nothing_to_change(board: Umbel) -> None:
    async with board.serve(port=0) as server, wire(server) as client:
        for op in ("set", "patch", "delete"):
            assert (await change(client, op, channel="news", data={}))["code"] == "bad_message"
        await client.say("publish", channel="news", data=1, ifVersion=0)
        assert (await answer(client))["code"] == "bad_message"


@on_loops
async def test_the_publish_function_is_asked_what_is_done(app: Umbel) -> None:
    asked: list[tuple[str, str, Any]] = []

    def may(client: Client, key: str, op: str, data: Any) -> Any:
        asked.append((op, key, data))
        return {"deny": False, "list": [1], "dict": {"by": "us"}}.get(key, True)

    app.channel(BOARD, open=True, mode="state", publish=may)
    async with app.serve(port=0) as server, wire(server) as client:
        assert (await change(client, "set", "a", data=1))["type"] == "published"
        assert (await change(client, "patch", "a", data={"x": 1}))["type"] == "published"
        assert (await change(client, "delete", "a", ifVersion=2, epoch="f" * 16))["code"] == "state_conflict"
        assert (await change(client, "delete", "a"))["type"] == "published"
        for op in ("set", "patch", "delete"):
            assert (await change(client, op, "deny", data={}))["code"] == "not_allowed"
        assert (await change(client, "set", "list", data=1))["type"] == "published"
        for op, key in [("patch", "list"), ("delete", "list"), ("delete", "dict")]:
            assert (await change(client, op, key, data={}))["code"] == "internal"
        replaced = await change(client, "patch", "dict", data={"x": 1}, ifVersion=0)
        assert (replaced["type"], replaced["resolved"]) == ("published", True), "it is not what was sent"
        assert {key: it.data for key, it in (await app.state(BOARD).items()).items()} == {
            "list": [1], "dict": {"by": "us"}
        }  # fmt: skip
    assert asked[:4] == [
        ("set", "a", 1),
        ("patch", "a", {"x": 1}),
        ("delete", "a", None),
        ("delete", "a", None),
    ]


async def test_clients_may_have_to_name_the_version_that_they_replace(app: Umbel) -> None:
    app.channel(BOARD, open=True, mode="state", publish=True, versions=True)
    async with app.serve(port=0) as server, wire(server) as client:
        for op in ("set", "delete"):
            heard = await change(client, op, data=1)
            assert (heard["code"], "ifVersion" in heard["message"]) == ("bad_message", True)
        await client.say("publish", channel=BOARD, key="a", data=1)
        assert (await answer(client))["code"] == "bad_message"
        assert (await change(client, "set", data={}, ifVersion=0))["offset"] == 1
        assert (await change(client, "patch", data={"x": 1}))["offset"] == 2
        app.state(BOARD).set("a", "the application is free")


def test_what_can_not_work_is_refused_where_it_is_declared() -> None:
    app = Umbel()

    def sees_no_op(client: Client, data: Any, key: str) -> bool:
        return True

    def plain(client: Client, op: str, data: Any) -> bool:
        return True

    for options, text in [
        ({"mode": "state", "publish": sees_no_op}, "parameter `op`"),
        ({"mode": "state", "versions": True}, "versions=True is for"),
        ({"publish": True, "versions": True}, "versions=True is for"),
        ({"mode": "state", "publish": True, "versions": 1}, "versions must be True or False"),
    ]:
        with pytest.raises(ConfigurationError, match=text):
            app.channel("x", open=True, **options)
    with pytest.raises(ConfigurationError, match="can't be called"):
        app.channel("{op}", open=True, publish=plain)
    with pytest.raises(ConfigurationError, match="state_set"):
        app.on("state_set")(plain)


@on_loops
async def test_a_conflict_is_repeated_with_the_entry_as_it_is_by_then(board: Umbel) -> None:
    state = board.state(BOARD)
    async with board.serve(port=0) as server, begun(server) as client:
        await client.say("subscribe_updates", channel=BOARD)
        await state.set("a", 1)
        stale = {"data": 0, "ifVersion": 0, "id": 5}
        assert conflict(await change(client, "set", **stale))["data"] == 1
        await state.set("a", 2)
        again = await change(client, "set", **stale)
        assert (conflict(again)["data"], again["id"]) == (2, 5)
        await cut(client)
        await state.delete("a")
        async with resumed(server, client, 1, positions={BOARD: None}) as it:
            heard = conflict(await change(it, "set", **stale))
            assert (heard["version"], heard["removed"]) == (0, True), "it is not done, though it could be now"
            assert await state.get("a") is None
            assert (await change(it, "set", **{**stale, "id": 6}))["type"] == "published"


async def test_over_http_entries_are_changed_too(board: Umbel) -> None:
    async with board.serve(port=0, **CALLS) as server, program(server) as it:
        made = await it.post({"channel": BOARD, "key": "a", "data": {"x": 1}, "ifVersion": 0})
        assert (made.status, made.body["key"], made.body["offset"]) == (200, "a", 1)
        refused = await it.post({"channel": BOARD, "key": "a", "data": 2, "ifVersion": 0})
        assert (refused.status, refused.body["code"]) == (409, "state_conflict")
        assert refused.body["details"]["version"] == 1
        assert "data" not in refused.body["details"]
        several = await it.post([
            {"type": "state_patch", "channel": BOARD, "key": "a", "data": {"y": 2}},
            {"type": "publish", "channel": "news", "data": 1},
            {"type": "state_delete", "channel": BOARD, "key": "b"},
            {"type": "heartbeat", "channel": BOARD},
        ])  # fmt: skip
        assert [one.get("code", one.get("offset")) for one in several.body["results"]] == [
            2,
            1,
            2,
            "bad_message",
        ]
        entry = await board.state(BOARD).get("a")
        assert entry is not None
        assert entry.data == {"x": 1, "y": 2}


async def counts(server: Server, number: int, rounds: int, confirmed: list[int]) -> None:
    """A client that counts one number up by compare-and-set, and loses its connection now and then."""
    chance = random.Random(number)
    async with AsyncExitStack() as stack:
        it = await stack.enter_async_context(begun(server))
        await it.say("subscribe_updates", channel=BOARD)
        attempt = number = 0
        seen: dict[str, Any] = {"version": 0}
        while rounds:
            number += 1
            said = {"data": seen.get("data", 0) + 1, "ifVersion": seen["version"], "id": number}
            if seen["version"]:
                said["epoch"] = seen["epoch"]
            await it.say("state_set", channel=BOARD, key="a", **said)
            heard = None
            while heard is None:
                if chance.random() < 0.1:
                    await cut(it)
                    attempt += 1
                    former = it
                    it = await stack.enter_async_context(
                        resumed(server, it, attempt, positions={BOARD: None})
                    )
                    it.greeting["session"] = former.greeting["session"]
                    assert it.greeting["resumed"] is True
                    await it.say("state_set", channel=BOARD, key="a", **said)
                heard = await answer(it)
                if heard["id"] != number:
                    heard = None
            if heard["type"] == "published":
                rounds -= 1
                confirmed.append(said["data"])
                seen = {"version": heard["offset"], "epoch": heard["epoch"], "data": said["data"]}
            else:
                seen = conflict(heard)


async def test_clients_that_count_and_lose_their_connections_miss_no_number(board: Umbel) -> None:
    confirmed: list[int] = []
    async with board.serve(port=0, shards=2) as server:
        async with asyncio.TaskGroup() as clients:
            for number in range(8):
                clients.create_task(counts(server, number, 12, confirmed))
        entry = await board.state(BOARD).get("a")
    assert entry is not None
    assert entry.data == 8 * 12
    assert sorted(confirmed) == list(range(1, 8 * 12 + 1))

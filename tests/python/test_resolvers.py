"""Functions that resolve conflicts about entries of states."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from calling import CALLS, program
from coming_back import begun, cut, resumed, until
from looping import on_loops
from test_versions import BOARD, answer, change, conflict
from umbel import REMOVED, Client, ConfigurationError, Proposal, Refused, Rejected, Umbel, resolvers
from wire import Wire, wire


def board(app: Umbel, function: Any, **options: Any) -> Any:
    """A channel whose conflicts a function resolves. Returns its state."""
    app.channel(BOARD, open=True, mode="state", publish=True, sender=True, **options)
    app.resolve(BOARD)(function)
    return app.state(BOARD)


async def loses(client: Wire, state: Any, data: Any, was: Any = None, **fields: Any) -> dict[str, Any]:
    """A client sets an entry that the application has changed since the client has seen it as it was."""
    seen = await state.set("a", was)
    await state.set("a", fields.pop("now"))
    return await change(client, "set", data=data, ifVersion=seen.offset, epoch=seen.epoch, **fields)


@on_loops
async def test_a_function_says_what_counts_and_all_readers_see_it(app: Umbel) -> None:
    proposals: list[Proposal] = []

    async def together(proposal: Proposal) -> Any:
        proposals.append(proposal)
        await asyncio.sleep(0)
        return {"sum": proposal.current["n"] + proposal.proposed["n"]}

    state = board(app, together)
    async with app.serve(port=0) as server, wire(server) as client, wire(server) as reader:
        for one in (client, reader):
            await one.say("subscribe_updates", channel=BOARD)
            await one.hear("subscription_established")
        heard = await loses(client, state, {"n": 2, "x": 1}, was={"n": 0}, now={"n": 1, "y": None}, id=3)
        assert heard == {
            "type": "published",
            "channel": BOARD,
            "epoch": heard["epoch"],
            "key": "a",
            "offset": 3,
            "resolved": True,
            "id": 3,
        }
        update: dict[str, Any] = {}
        while update.get("offset") != 3:
            update = await reader.hear("update")
        assert (update["event"], update["data"]) == ("conflict_resolved", {"sum": 3})
        assert update["sender"] == {"clientId": client.greeting["clientId"], "subject": None}
        assert update["conflict"] == {
            "resolution": "together",
            "conflictedChanges": [
                {"field": "n", "current": 1, "proposed": 2},
                {"field": "y", "current": None},
                {"field": "x", "proposed": 1},
            ],
        }
        (it,) = proposals
        assert (it.channel, it.key, it.base, it.current) == (BOARD, "a", {"n": 0}, {"n": 1, "y": None})
        assert (it.proposed, it.writer) == ({"n": 2, "x": 1}, None)
        assert it.client.id == client.greeting["clientId"]
        entry = await state.get("a")
        assert entry.sender == update["sender"], "the conflict beside it is not taken for a part of it"


@on_loops
async def test_what_is_removed_is_an_outcome_like_any_other(app: Umbel) -> None:
    seen: list[tuple[Any, Any, Any]] = []

    def decide(proposal: Proposal) -> Any:
        seen.append((proposal.base, proposal.current, proposal.proposed))
        return REMOVED

    state = board(app, decide)
    async with app.serve(port=0) as server, wire(server) as client:
        await state.set("a", 1)
        assert (await change(client, "set", data=2, ifVersion=0))["resolved"] is True
        assert await state.get("a") is None
        epoch = (await app.position(BOARD)).epoch
        assert (await change(client, "set", data=2, ifVersion=1, epoch=epoch))["offset"] == 2, "nothing there"
        third = await state.set("a", 3)
        await state.set("a", 4)
        assert (await change(client, "delete", ifVersion=third.offset, epoch=epoch))["resolved"] is True
        assert (await change(client, "delete", ifVersion=9, epoch=epoch))["offset"] == 5, "no conflict"
    assert seen == [(REMOVED, 1, 2), (1, REMOVED, 2), (3, 4, REMOVED)]


@pytest.mark.parametrize(
    ("resolver", "base", "current", "proposed", "result"),
    [
        (resolvers.last_writer, 1, 2, 3, 3),
        (resolvers.first_writer, 1, 2, 3, 2),
        (resolvers.merge, {"a": 1, "b": 1}, {"a": 2, "b": 1}, {"a": 1, "b": 2}, {"a": 2, "b": 2}),
        (resolvers.merge, {"a": 1, "b": 1, "c": 1}, {"a": 2, "b": 1, "c": 2}, {"b": 1}, {"a": 2, "b": 1, "c": 2}),  # noqa: E501
        (resolvers.merge, {"a": 1, "b": 1}, {"a": 1, "b": 2, "c": 3}, {"b": 1, "d": 4}, {"b": 2, "c": 3, "d": 4}),  # noqa: E501
        (resolvers.merge, None, {"a": 2, "b": 1}, {"a": 1}, {"a": 1, "b": 1}),
        (resolvers.merge, {"a": 1}, [1], {"b": 1}, {"b": 1}),
        (resolvers.merge, {"t": {"x": 1, "y": 1}}, {"t": {"x": 2, "y": 1}}, {"t": {"x": 1}}, {"t": {"x": 2}}),
        (resolvers.merge, {"a": 1, "b": 0}, {"a": 1, "b": False}, {"a": True}, {"a": True, "b": False}),
        (resolvers.merge, {"t": {"a": 0}}, {"t": {"a": 0, "b": 1}}, {"t": {"a": False}}, {"t": {"a": False, "b": 1}}),  # noqa: E501
        (resolvers.merge, {"a": {"x": 1, "y": 2}, "b": 1}, {"b": 2, "a": 0}, {"a": {"y": 2, "x": 1}, "b": 1}, {"a": 0, "b": 2}),  # noqa: E501
    ],
)  # fmt: skip
async def test_there_are_ready_resolvers(
    app: Umbel, resolver: Any, base: Any, current: Any, proposed: Any, result: Any
) -> None:
    state = board(app, resolver)
    async with app.serve(port=0) as server, wire(server) as client:
        heard = await loses(client, state, proposed, was=base, now=current)
        assert heard["resolved"] is True
        entry = await state.get("a")
        assert (entry.data, entry.position.offset) == (result, 3), "it is published also if nothing changes"


async def test_a_function_that_fails_or_refuses_changes_nothing(app: Umbel) -> None:
    outcomes: list[Any] = [
        (Refused(4500, "no"), "not_allowed"),
        (Rejected("sold_out", "gone", details={"n": 1}), "sold_out"),
        (LookupError("x"), "internal"),
    ]

    async def decide(proposal: Proposal) -> Any:
        if not outcomes:
            await asyncio.sleep(60)
        raise outcomes[0][0]

    state = board(app, decide)
    async with app.serve(port=0, handler_timeout=0.3) as server, wire(server) as client:
        while outcomes:
            assert (await loses(client, state, 3, was=1, now=2))["code"] == outcomes[0][1]
            outcomes.pop(0)
        assert (await loses(client, state, 3, was=1, now=2))["code"] == "timeout"
        assert (await state.get("a")).data == 2


async def test_what_can_not_be_published_is_the_functions_failure(app: Umbel) -> None:
    state = board(app, lambda proposal: {1, 2})
    async with app.serve(port=0) as server, wire(server) as client:
        assert (await loses(client, state, 3, was=1, now=2))["code"] == "internal"
        app_state = await state.get("a")
        assert app_state.data == 2


async def test_others_may_be_faster_and_then_it_decides_anew_a_few_times(app: Umbel) -> None:
    calls: list[Any] = []
    faster = 3

    def decide(proposal: Proposal) -> Any:
        calls.append(proposal.current)
        if len(calls) <= faster:
            state.set("a", f"faster {len(calls)}")
        return [proposal.base, proposal.current, proposal.proposed]

    state = board(app, decide)
    async with app.serve(port=0) as server, wire(server) as client:
        assert (await loses(client, state, 3, was=1, now=2))["resolved"] is True
        assert calls == [2, "faster 1", "faster 2", "faster 3"]
        assert (await state.get("a")).data == [1, "faster 3", 3]
        faster, calls = 9, []
        assert conflict(await loses(client, state, 3, was=1, now=2))["version"] > 0
        assert len(calls) == 5
        assert (await state.get("a")).data == "faster 5"


@on_loops
async def test_only_the_same_clients_messages_about_the_channel_wait(app: Umbel) -> None:
    go = asyncio.Event()

    async def decide(proposal: Proposal) -> Any:
        await go.wait()
        return "resolved"

    state = board(app, decide)
    app.channel("news", open=True, publish=True)
    async with app.serve(port=0) as server, wire(server) as client, wire(server) as other:
        seen = await state.set("a", 1)
        await state.set("a", 2)
        stale = {"key": "a", "data": 3, "ifVersion": 1, "epoch": seen.epoch}
        await client.say("state_set", channel=BOARD, id=1, **stale)
        await client.say("state_patch", channel=BOARD, key="b", data={}, ifVersion=0, id=2)
        await client.say("publish", channel="news", data=1, id=3)
        assert (await answer(client))["id"] == 3
        assert (await change(other, "set", "c", data=1, ifVersion=0))["type"] == "published"
        go.set()
        assert [(await answer(client))["id"] for _ in range(2)] == [1, 2]
        assert (await state.get("a")).data == "resolved"


async def test_a_client_that_comes_back_meanwhile_does_not_overtake_its_own_change(app: Umbel) -> None:
    guarded: list[Any] = []
    resolved: list[Any] = []
    go = asyncio.Event()
    wait = asyncio.Event()

    async def may(client: Client, key: str, op: str, data: Any) -> bool:
        guarded.append(data)
        await go.wait()
        return True

    async def decide(proposal: Proposal) -> Any:
        resolved.append(proposal.current)
        await wait.wait()
        return "resolved"

    app.channel(BOARD, open=True, mode="state", publish=may, presence=True)
    app.resolve(BOARD)(decide)
    state = app.state(BOARD)
    async with app.serve(port=0) as server, begun(server) as client:
        seen = await state.set("a", 1)
        await state.set("a", 2)
        await client.say("subscribe_updates", channel=BOARD)
        await client.hear("subscription_established")
        first = {"key": "a", "data": 3, "ifVersion": 1, "epoch": seen.epoch, "id": 1}
        await client.say("state_set", channel=BOARD, **first)
        await client.say("state_set", channel=BOARD, key="b", data=4, ifVersion=0, id=2)
        # It waits for the two, and is dropped when the client comes back without it.
        await client.say("subscribe_updates", channel=f"$presence:{BOARD}")
        await client.say("heartbeat")
        await client.hear("heartbeat_ack")
        go.set()
        await until(lambda: resolved)
        await cut(client)
        async with resumed(server, client, 1, positions={BOARD: None}) as again:
            await again.say("heartbeat")
            await again.hear("heartbeat_ack")
            wait.set()
            heard = [await answer(again) for _ in range(2)]
            assert [(it["id"], it["offset"]) for it in heard] == [(1, 3), (2, 4)]
    assert (guarded, resolved) == ([3, 4], [2])


async def test_a_client_may_want_to_hear_of_the_conflict_itself(app: Umbel) -> None:
    state = board(app, resolvers.last_writer)
    async with app.serve(port=0, **CALLS) as server, wire(server) as client, program(server) as it:
        assert conflict(await loses(client, state, 3, was=1, now=2, resolve=False))["version"] == 2
        assert (await loses(client, state, 3, was=1, now=2, resolve="no"))["code"] == "bad_message"
        for op in ("set", "delete"):
            assert (await change(client, op, data=1))["code"] == "bad_message", "the version is demanded"
        assert (await change(client, "patch", data={"x": 1}))["type"] == "published"
        heard = await it.post({"channel": BOARD, "key": "a", "data": 5, "ifVersion": 0})
        assert (heard.status, heard.body["resolved"]) == (200, True), "over HTTP, too"
        assert conflict(await change(client, "patch", "b", data={}))["version"] == 0, "patches are merged"
        await client.say("publish", channel=BOARD, key="a", data=1, ifVersion=0, event="conflict_resolved")
        assert (await answer(client))["code"] == "bad_message", "nobody else says so"


async def test_what_is_told_of_a_conflict_is_bounded(app: Umbel) -> None:
    state = board(app, resolvers.last_writer)
    async with app.serve(port=0) as server, wire(server) as client:
        many = {f"field {number}": number for number in range(100)}
        await loses(client, state, many, was=1, now={})
        await client.say("subscribe_updates", channel=BOARD)
        members = (await client.hear("update"))["conflict"]["conflictedChanges"]
        assert members == [{"field": f"field {number}"} for number in range(64)]
        await loses(client, state, {"x": "x" * 20_000}, was=1, now=[])
        while (update := await client.hear("update"))["offset"] < 6:
            pass
        assert update["conflict"]["conflictedChanges"] == [{"field": None}]
        assert len(update["data"]["x"]) == 20_000
        names = ["n" * 5000 + str(number) for number in range(10)]
        await loses(client, state, dict.fromkeys(names), was={}, now={"a": 1})
        while (update := await client.hear("update"))["offset"] < 9:
            pass
        told = update["conflict"]["conflictedChanges"]
        assert told == [{"field": name} for name in ("a", *names[:3])], "names are bounded, too"
        await loses(client, state, {"x": 1}, was={"x": 0, "y": 0}, now={"x": True, "y": 0})
        while (update := await client.hear("update"))["offset"] < 12:
            pass
        told = update["conflict"]["conflictedChanges"]
        assert told == [{"field": "x", "current": True, "proposed": 1}, {"field": "y", "current": 0}]


async def test_what_is_there_has_room_however_large_it_is(app: Umbel) -> None:
    state = board(app, resolvers.first_writer)
    async with app.serve(port=0) as server, wire(server) as client:
        largest = {"x": "x" * (65_536 - len('{"x":"","y":1}')), "y": 1}
        assert (await loses(client, state, {"y": 2}, was=1, now=largest))["resolved"] is True
        assert (await state.get("a")).data == largest


async def test_nobody_is_asked_about_what_would_not_be_taken(app: Umbel) -> None:
    asked: list[Proposal] = []
    state = board(app, asked.append)
    async with app.serve(port=0) as server, wire(server) as client:
        heard = await loses(client, state, "x" * 65_535, was=1, now=2)
        assert (heard["code"], asked) == ("limit_exceeded", [])


async def test_the_base_is_known_while_the_history_keeps_it(app: Umbel) -> None:
    bases: list[Any] = []
    state = board(app, lambda proposal: bases.append(proposal.base), history=3)
    async with app.serve(port=0) as server, wire(server) as client:
        seen = [await state.set("a", number) for number in range(5)]
        for position in (seen[3], seen[2], seen[1], seen[0]):
            fields = {"ifVersion": position.offset, "epoch": position.epoch}
            assert (await change(client, "set", data="x", **fields))["resolved"] is True
    assert bases == [3, 2, None, None], "each result replaces a value, too"


def test_a_resolver_needs_a_state_that_clients_may_change(app: Umbel) -> None:
    app.channel("plain", open=True, publish=True)
    app.channel("ours", open=True, mode="state")
    app.channel(BOARD, open=True, mode="state", publish=True)
    for pattern, text in [("none", "first"), ("plain", "mode='state'"), ("ours", "may change")]:
        with pytest.raises(ConfigurationError, match=text):
            app.resolve(pattern)(resolvers.merge)
    with pytest.raises(ConfigurationError, match="proposal"):
        app.resolve(BOARD)(lambda: 1)  # type: ignore[arg-type, misc]
    app.resolve(BOARD)(resolvers.merge)
    with pytest.raises(ConfigurationError, match="already"):
        app.resolve(BOARD)(resolvers.merge)

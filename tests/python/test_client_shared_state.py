"""The client for Python programs: a state as a live map."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest
from connecting import cut, nothing_is_left, through, until
from umbel import Client, ConnectionClosed, Umbel, resolvers
from umbel.client import (
    Changed,
    Limits,
    OutcomeUnknown,
    RequestFailed,
    SharedState,
    SubscriptionFailed,
    connect,
)

BOARD = "board:1"


@pytest.fixture
def boards(app: Umbel) -> Umbel:
    app.channel("board:{x}", open=True, mode="state", publish=True)
    return app


class Gate:
    """A publish function that waits until it is opened."""

    def __init__(self, app: Umbel) -> None:
        self.asked, self.opened = asyncio.Event(), asyncio.Event()
        app.channel("slow:{x}", open=True, mode="state", publish=self.decide)

    async def decide(self, client: Client, x: str, data: Any, key: str, op: str) -> bool:
        self.asked.set()
        return await self.opened.wait()


async def test_two_clients_have_the_same_map(boards: Umbel) -> None:
    async with boards.serve(port=0) as server:
        boards.state(BOARD).set("a", {"n": 1})
        async with (
            connect(server.url) as one,
            connect(server.url) as other,
            one.shared_state(BOARD) as mine,
            other.shared_state(BOARD) as yours,
        ):
            assert dict(mine) == dict(yours) == {"a": {"n": 1}}
            setting = mine.set("b", [1])
            assert mine["b"] == [1], "a change is shown at once"
            assert "b" not in yours
            position = await boards.position(BOARD)
            assert await setting == Changed(position.epoch, 2)
            await until(lambda: "b" in yours)
            await yours.patch("a", {"done": True})
            await until(lambda: mine["a"] == {"n": 1, "done": True})
            assert await mine.delete("b") == Changed(position.epoch, 4)
            await mine.update("a", lambda value: {**value, "n": value["n"] + 1})
            await mine.update("new", lambda value: [value])
            await until(lambda: dict(yours) == {"a": {"n": 2, "done": True}, "new": [None]})
            assert dict(mine) == dict(yours)
            assert (len(mine), list(mine), mine.get("b"), mine.whole) == (2, ["a", "new"], None, True)
            assert repr(mine) == "<SharedState 'board:1' of 2 keys>"
        assert boards.subscribers(BOARD) == 0


async def test_what_somebody_else_has_changed_is_not_overwritten(boards: Umbel) -> None:
    async with (
        boards.serve(port=0) as server,
        connect(server.url) as umbel,
        umbel.shared_state(BOARD) as state,
    ):
        await state.set("a", 1)
        await boards.state(BOARD).set("a", 2)
        with pytest.raises(RequestFailed) as conflict:
            await state.set("a", 3)
        assert conflict.value.code == "state_conflict"
        assert (conflict.value.details["key"], conflict.value.details["data"]) == ("a", 2)
        await until(lambda: state["a"] == 2)
        await state.set("a", 3)
        await boards.state(BOARD).delete("a")
        first, second, third = state.set("a", 4), state.set("a", 5), state.delete("a")
        outcomes = await asyncio.gather(first, second, third, return_exceptions=True)
        assert [error.code for error in outcomes if isinstance(error, RequestFailed)] == [
            "state_conflict"
        ] * 3
        with pytest.raises(RequestFailed, match="state_conflict"):
            await state.patch("a", {"x": 1})
        await until(lambda: dict(state) == {})
        with pytest.raises(RequestFailed, match="limit_exceeded"):
            await state.set("b", "x" * 70_000)
        assert dict(state) == {}


async def test_clients_count_together(boards: Umbel) -> None:
    async with boards.serve(port=0) as server, connect(server.url) as one, connect(server.url) as other:
        states = [client.shared_state(BOARD) for client in (one, other, one)]
        updates = [state.update("n", lambda n: (n or 0) + 1) for state in states for _ in range(10)]
        await asyncio.gather(*updates)
        entry = await boards.state(BOARD).get("n")
        assert entry is not None
        assert entry.data == 30
        await until(lambda: all(state["n"] == 30 for state in states))


async def test_a_map_tells_what_has_changed(boards: Umbel, caplog: pytest.LogCaptureFixture) -> None:
    told: list[tuple[list[str], bool, dict[str, Any]]] = []

    def tell(state: SharedState, keys: list[str]) -> None:
        told.append((keys, state.whole, dict(state)))
        raise ValueError("important")

    async with boards.serve(port=0) as server, connect(server.url) as umbel:
        boards.state(BOARD).set("a", 1)
        state = umbel.shared_state(BOARD, tell)
        await state.ready()
        assert told == [(["a"], True, {"a": 1})]
        told.clear()
        await asyncio.gather(state.set("b", 2), state.set("c", 3))
        boards.state(BOARD).delete("a")
        await until(lambda: "a" not in state)
        assert told == [
            (["b"], True, {"a": 1, "b": 2}),
            (["c"], True, {"a": 1, "b": 2, "c": 3}),
            (["a"], True, {"b": 2, "c": 3}),
        ]
        assert "important" in caplog.text
        state.close()
        state.close()
        assert told[-1] == ([], True, {"b": 2, "c": 3})
        await until(lambda: boards.subscribers(BOARD) == 0)
        with pytest.raises(RequestFailed, match="closed: closed by the application"):
            await state.set("a", 1)
        assert dict(state) == {"b": 2, "c": 3}
    caplog.clear()


async def test_functions_of_the_application_may_change_the_map(boards: Umbel) -> None:
    """What they ask for comes after what is told already, and each is told of what it has done."""
    calls: list[list[str]] = []
    asked: list[asyncio.Future[Changed]] = []

    def tell(state: SharedState, keys: list[str]) -> None:
        calls.append(keys)
        if keys == ["a"]:
            asked.append(state.set("b", 1))

    def apply(value: object) -> int:
        asked.append(state.set("d", 1))
        return 2

    async with boards.serve(port=0) as server, connect(server.url) as umbel:
        state = umbel.shared_state(BOARD, tell)
        await state.ready()
        await state.set("a", 1)
        await state.update("c", apply)
        await asyncio.gather(*asked)
        assert dict(state) == {"a": 1, "b": 1, "c": 2, "d": 1}
        assert sorted(calls) == [[], ["a"], ["b"], ["c"], ["d"]]
        entries = await boards.state(BOARD).items()
        assert {key: entry.data for key, entry in entries.items()} == dict(state)


async def test_values_are_copies(boards: Umbel) -> None:
    def spoil(value: Any) -> Any:
        value.append(2)
        if len(value) > 2:
            raise ValueError("too long")
        return value

    async with (
        boards.serve(port=0) as server,
        connect(server.url) as umbel,
        umbel.shared_state(BOARD) as state,
    ):
        given: list[Any] = [1]
        setting = state.set("a", given)
        given.append("later")
        await setting
        assert state["a"] == [1]
        await state.update("a", spoil)
        assert state["a"] == [1, 2]
        with pytest.raises(ValueError, match="too long"):
            state.update("a", spoil)
        assert state["a"] == [1, 2], "what a function does to its argument is not shown"
        for wrong in (lambda: state.set("a", object()), lambda: state.update("a", lambda _: {1})):
            with pytest.raises(TypeError):
                wrong()
        for key in (1, None, b"a"):
            with pytest.raises(TypeError, match="a key is a str"):
                state.set(key, 1)  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="a patch is a dict"):
            state.patch("a", [1])  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="a channel is a str"):
            umbel.shared_state(1)  # type: ignore[arg-type]
        assert state["a"] == [1, 2]


async def test_a_function_may_fail_when_it_is_called_again(boards: Umbel) -> None:
    async with (
        boards.serve(port=0) as server,
        connect(server.url) as umbel,
        umbel.shared_state(BOARD) as state,
    ):
        await state.set("a", 1)
        await boards.state(BOARD).set("a", "text")
        with pytest.raises(TypeError, match="can only concatenate"):
            await state.update("a", lambda value: value + 1)
        await until(lambda: state["a"] == "text")


async def test_names_such_as_proto_are_keys(boards: Umbel) -> None:
    async with (
        boards.serve(port=0) as server,
        connect(server.url) as umbel,
        umbel.shared_state(BOARD) as state,
    ):
        for key in ("__proto__", "constructor", "", "a" * 255):
            await state.set(key, {"__proto__": {"a": 1}})
            await state.patch(key, {"__proto__": {"b": 2}, "constructor": None})
        await until(lambda: not state._machine._changes)
        assert set(state) == {"__proto__", "constructor", "", "a" * 255}
        assert list(state.values()) == [{"__proto__": {"a": 1, "b": 2}}] * 4
        with pytest.raises(RequestFailed, match="bad_message"):
            await state.set("a" * 256, 1)
        assert len(state) == 4


async def test_what_is_changed_while_there_is_no_connection_is_done_later(boards: Umbel) -> None:
    async with boards.serve(port=0, reconnect_window=0.02) as server, through(server) as (umbel, network):
        early = umbel.shared_state(BOARD)
        setting = early.set("early", 1)
        assert early["early"] == 1
        assert not early.whole
        assert repr(early).endswith("of 1 keys, not whole>")
        await setting
        port, network.port = network.port, 1  # nobody is there
        cut(network)
        await until(lambda: umbel.state.failing)
        others = [boards.state(BOARD).set(key, 1) for key in "xy"]
        waiting = [
            early.set("a", 1),
            early.set("a", 2),
            early.set("x", 2),
            early.update("y", lambda y: (y or 0) + 5),
        ]
        await asyncio.sleep(0.05)
        assert not any(future.done() for future in waiting)
        assert dict(early) == {"early": 1, "a": 2, "x": 2, "y": 5}
        network.port = port
        outcomes = await asyncio.gather(*waiting, return_exceptions=True)
        await until(lambda: dict(early) == {"early": 1, "a": 2, "x": 1, "y": 6})
        assert [getattr(outcome, "code", None) for outcome in outcomes] == [
            None,
            None,
            "state_conflict",
            None,
        ]
        assert len(others) == 2


async def test_a_lost_session_leaves_an_unknown_outcome(boards: Umbel) -> None:
    gate = Gate(boards)
    async with (
        boards.serve(port=0, reconnect_window=0.02, session_ttl=0) as server,
        through(server) as (umbel, network),
        umbel.shared_state("slow:1") as state,
    ):
        setting, next_one = state.set("a", 1), state.set("a", 2)
        counting = state.update("a", lambda a: (a or 0) + 1)
        await gate.asked.wait()
        cut(network)
        with pytest.raises(OutcomeUnknown):
            await setting
        with pytest.raises(RequestFailed, match="state_conflict"):
            await next_one
        gate.opened.set()
        await counting
        await until(lambda: not state._machine._changes)
        entry = await boards.state("slow:1").get("a")
        assert entry is not None
        assert dict(state) == {"a": entry.data}


async def test_a_channel_of_another_mode_is_no_state(boards: Umbel) -> None:
    boards.channel("news", open=True, publish=True)
    async with boards.serve(port=0) as server, connect(server.url) as umbel:
        news = umbel.shared_state("news")
        setting = news.set("a", 1)
        with pytest.raises(SubscriptionFailed, match='not_a_state: news is no channel of mode "state"'):
            await news.ready()
        with pytest.raises(RequestFailed, match="not_a_state"):
            await setting
        assert news.reason == 'news is no channel of mode "state"'
        assert dict(news) == {}
        await until(lambda: boards.subscribers("news") == 0)
        with pytest.raises(SubscriptionFailed, match="unknown_channel"):
            async with umbel.shared_state("nothing"):
                raise AssertionError


async def test_the_end_of_a_subscription_ends_the_map(boards: Umbel) -> None:
    clients: list[Client] = []
    boards.on_connect(clients.append)
    gate = Gate(boards)
    told: list[list[str]] = []
    async with boards.serve(port=0) as server, connect(server.url) as umbel:
        state = umbel.shared_state("slow:1", lambda _, keys: told.append(keys))
        await state.ready()
        sent, waiting = state.set("a", 1), state.set("a", 2)
        await gate.asked.wait()
        clients[0].unsubscribe("slow:1", "you have left")
        with pytest.raises(RequestFailed, match="you have left"):
            await waiting
        assert state.reason == "you have left"
        assert told[-1] == []
        gate.opened.set()
        await sent
        assert dict(state) == {"a": 1}
        await state.ready()  # it was, and stays as it is
        with pytest.raises(RequestFailed, match="you have left"):
            await state.set("b", 1)


async def test_a_map_that_may_be_had_no_longer_says_so(app: Umbel, caplog: pytest.LogCaptureFixture) -> None:
    allowed = True

    @app.channel("board:{x}", mode="state")
    def may_read(client: Client, x: str) -> bool:
        return allowed

    async with (
        app.serve(port=0, reconnect_window=0.02, session_ttl=0) as server,
        through(server) as (umbel, network),
        umbel.shared_state(BOARD) as state,
    ):
        allowed = False
        cut(network)
        await until(lambda: bool(state.reason))
        assert f"{BOARD} is followed no longer: " in caplog.text
        with pytest.raises(RequestFailed, match="not_allowed"):
            await state.set("a", 1)


async def test_the_end_of_the_connection_ends_the_map(boards: Umbel) -> None:
    clients: list[Client] = []
    boards.on_connect(clients.append)
    async with (
        boards.serve(port=0) as server,
        connect(server.url) as umbel,
    ):
        state = umbel.shared_state(BOARD)
        await state.ready()
        clients[0].close(4500, "locked")
        await until(lambda: bool(state.reason))
        with pytest.raises(RequestFailed, match="closed"):
            await state.set("a", 1)
        later = umbel.shared_state(BOARD)
        with pytest.raises((ConnectionClosed, SubscriptionFailed)):
            await later.ready()
        assert nothing_is_left()
        async with connect(server.url) as umbel:
            state = umbel.shared_state(BOARD)
            waiting = asyncio.ensure_future(state.ready())
        with pytest.raises(SubscriptionFailed, match="closed"):
            await waiting


async def test_the_application_resolves_a_conflict(app: Umbel) -> None:
    app.channel("board:{x}", open=True, mode="state", publish=True)
    app.resolve("board:{x}")(resolvers.merge)
    told: dict[str, list[tuple[str, dict[str, Any]]]] = {"mine": [], "yours": [], "late": []}
    async with (
        app.serve(port=0) as server,
        connect(server.url) as one,
        connect(server.url) as other,
        one.shared_state(BOARD, on_conflict=lambda _, *told_of: told["mine"].append(told_of)) as mine,
        other.shared_state(BOARD, on_conflict=lambda _, *told_of: told["yours"].append(told_of)) as yours,
    ):
        await mine.set("a", {"x": 1})
        await until(lambda: "a" in yours)
        app.state(BOARD).set("a", {"x": 2, "y": 2})
        setting, built = mine.set("a", {"x": 3}), mine.set("a", {"x": 4})
        assert (await setting).resolved
        with pytest.raises(RequestFailed, match="state_conflict"):
            await built  # it was made on top of what is not there
        await until(lambda: mine["a"] == yours["a"] == {"x": 3, "y": 2})
        await until(lambda: bool(told["mine"] and told["yours"]))
        ((key, conflict),) = told["mine"]
        assert told["yours"] == [(key, conflict)]
        assert key == "a"
        assert conflict["resolution"] == "merge"
        assert {"field": "x", "current": 2, "proposed": 3} in conflict["conflictedChanges"]
        assert not (await mine.update("a", lambda value: {**value, "z": 1})).resolved
        late = other.shared_state(BOARD, on_conflict=lambda _, *told_of: told["late"].append(told_of))
        await late.ready()
        assert late["a"] == {"x": 3, "y": 2, "z": 1}
        assert (told["late"], len(told["mine"]), len(told["yours"])) == ([], 1, 1), "it is no news"


async def test_there_is_a_limit_for_what_waits(boards: Umbel) -> None:
    async with (
        boards.serve(port=0) as server,
        connect(server.url, limits=Limits(queue=2000)) as umbel,
        umbel.shared_state(BOARD) as state,
    ):
        futures = [state.patch("a", {}) for _ in range(500)] + [state.set(f"k{n}", n) for n in range(501)]
        assert futures[-1].done()
        with pytest.raises(RequestFailed, match="queue_full"):
            await futures[-1]
        outcomes = await asyncio.gather(*futures[:-1], return_exceptions=True)
        assert [getattr(outcome, "code", None) for outcome in outcomes] == ["state_conflict"] * 500 + [
            None
        ] * 500
        await until(lambda: len(state) == 500)


async def test_to_cancel_the_wait_does_not_take_a_change_back(
    boards: Umbel, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR)
    async with (
        boards.serve(port=0) as server,
        connect(server.url) as umbel,
        umbel.shared_state(BOARD) as state,
    ):
        state.set("a", 1).cancel()
        state.set("a", 2).cancel()
        await state.set("a", 3)
        await state.delete("b")
        assert dict(state) == {"a": 3}
    assert not caplog.records

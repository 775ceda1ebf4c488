"""The limit of connections of one identity, by itself and in the dispatcher."""

import asyncio
import random
from collections import deque
from collections.abc import Callable
from typing import Any

import pytest
from looping import virtual
from umbel import Identity, _core
from umbel._dispatching.identity_limit import IdentityLimit

TURNED_AWAY = (4429, "this identity has as many connections as it may have (max_connections_per_identity)")


def test_an_identity_has_as_many_connections_as_it_may_and_others_have_theirs():
    limit = IdentityLimit(2)
    assert [limit.take(number, "ann") for number in range(3)] == [True, True, False]
    assert limit.take(3, "ben")
    limit.leave(0)
    limit.leave(2)  # it was never counted
    assert [limit.take(number, "ann") for number in (4, 5)] == [True, False]


def test_nothing_is_kept_of_connections_that_ended():
    limit = IdentityLimit(2)
    for number in range(2):
        limit.take(number, "ann")
    for number in range(2):
        limit.leave(number)
    assert (limit._subjects, limit._counts) == ({}, {})


def test_without_a_limit_or_a_subject_nothing_is_counted():
    unlimited, limited = IdentityLimit(0), IdentityLimit(1)
    assert all(unlimited.take(number, "ann") for number in range(9))
    assert all(limited.take(number, "") for number in range(9))
    assert (unlimited._counts, limited._counts) == ({}, {})


@virtual
async def test_clients_and_websockets_of_one_identity_are_counted_together(app, bench):
    app.authenticate(lambda request: request.query.get("user"))

    @app.websocket("/x")
    async def hold(websocket):
        await websocket.receive()

    umbel = bench(max_connections_per_identity=2)
    umbel.core.open(1, query="user=ann")
    umbel.core.open(2, route=0, query="user=ann")
    umbel.core.open(3, query="user=ann")
    umbel.core.open(4, route=0, query="user=ann")
    umbel.core.open(5, query="user=ben")
    await umbel.run()
    assert umbel.core.named("admit") == [(1, "ann"), (2, "ann"), (5, "ben")]
    assert umbel.core.named("close") == [(3, *TURNED_AWAY), (4, *TURNED_AWAY)]
    for key in (2, 3, 4):
        umbel.core.closed(key)
    umbel.core.open(6, query="user=ann")
    umbel.core.open(7, query="user=ann")
    await umbel.run()
    assert umbel.core.named("admit")[3:] == [(6, "ann")]
    await umbel.dispatcher.shutdown(0)


@virtual
async def test_a_refused_client_gets_no_on_connect_and_no_on_disconnect(app, bench):
    told = []
    app.authenticate(lambda request: "ann")
    app.on_connect(lambda client: told.append("came"))
    app.on_disconnect(lambda client, code, reason: told.append("left"))
    umbel = bench(max_connections_per_identity=1)
    umbel.core.open(1)
    umbel.core.open(2)
    umbel.core.closed(2)
    await umbel.run()
    assert told == ["came"]


@virtual
async def test_a_client_that_leaves_during_authentication_is_not_counted(app, bench):
    @app.authenticate
    async def who(request):
        await asyncio.sleep(1)
        return "ann"

    @app.websocket("/x")
    async def hold(websocket):
        await websocket.receive()

    umbel = bench(max_connections_per_identity=1)
    umbel.core.open(1)
    umbel.core.open(2, route=0)
    await umbel.run()
    umbel.core.closed(1)
    umbel.core.closed(2)
    await umbel.run()
    await asyncio.sleep(2)
    umbel.core.open(3)
    await umbel.run()
    await asyncio.sleep(2)
    assert umbel.core.named("admit") == [(3, "ann")]


@virtual
async def test_a_connection_is_counted_for_the_identity_that_it_came_with(app, bench):
    app.authenticate(lambda request: "ann")
    umbel = bench(max_connections_per_identity=1)
    umbel.core.open(1)
    await umbel.run()
    umbel.client().identity = Identity("root")
    umbel.core.closed(1)
    umbel.core.open(2)
    await umbel.run()
    assert umbel.core.named("admit") == [(1, "ann"), (2, "ann")]


@virtual
async def test_at_the_limit_the_client_gives_way_that_is_away_for_longest(app, bench):
    told = []
    app.authenticate(lambda request: "ann")
    app.on_connect(lambda client: told.append((client.id, "came")))
    app.on_disconnect(lambda client, code, reason: told.append((client.id, code)))
    umbel = bench(max_connections_per_identity=2)
    umbel.core.open(1)
    umbel.core.open(2)
    umbel.core.away(2)
    umbel.core.away(1)
    umbel.core.open(3)
    await umbel.run()
    assert umbel.core.named("give_way") == [(2,)]
    assert umbel.core.named("admit") == [(1, "ann"), (2, "ann")], "it waits for the answer"
    umbel.core.closed(2, 1001)
    await umbel.run()
    assert umbel.core.named("admit")[2:] == [(3, "ann")]
    assert told == [("c1", "came"), ("c2", "came"), ("c2", 1001), ("c3", "came")]
    assert umbel.core.named("close") == []


@virtual
async def test_a_client_that_has_come_back_meanwhile_does_not_give_way(app, bench):
    app.authenticate(lambda request: "ann")
    umbel = bench(max_connections_per_identity=2)
    umbel.core.open(1)
    umbel.core.open(2)
    umbel.core.away(1)
    umbel.core.away(2)
    umbel.core.open(3)  # before the core has told that the first is back
    umbel.core.back(1)
    await umbel.run()
    umbel.core.put(_core.STAYS, 1)
    await umbel.run()
    assert umbel.core.named("give_way") == [(1,), (2,)]
    umbel.core.back(2)
    umbel.core.put(_core.STAYS, 2)
    await umbel.run()
    assert umbel.core.named("close") == [(3, *TURNED_AWAY)]
    assert [umbel.client(number).connected for number in (1, 2)] == [True, True]


@virtual
async def test_each_client_that_is_away_gives_way_to_one_newcomer(app, bench):
    app.authenticate(lambda request: "ann")

    @app.websocket("/x")
    async def hold(websocket):
        await websocket.receive()

    umbel = bench(max_connections_per_identity=2)
    umbel.core.open(1)
    umbel.core.open(2)
    umbel.core.away(1)
    umbel.core.away(2)
    umbel.core.open(3)
    umbel.core.open(4, route=0)
    umbel.core.open(5)
    await umbel.run()
    assert umbel.core.named("give_way") == [(1,), (2,)]
    assert umbel.core.named("close") == [(5, *TURNED_AWAY)]
    umbel.core.closed(3)  # it does not wait any longer
    umbel.core.closed(1)
    umbel.core.closed(2)
    umbel.core.open(6)
    await umbel.run()
    assert umbel.core.named("admit")[2:] == [(4, "ann"), (6, "ann")]
    await umbel.dispatcher.shutdown(0)


class Shard:
    """What the core does, at moments of its own: commands wait for it, and its events for Python."""

    def __init__(self, bench: Any) -> None:
        self.bench = bench
        self.commands: deque[tuple[Any, ...]] = deque()
        self.seen = 0
        self.state: dict[int, str] = {}
        self.ended_for_others = 0
        self.refused = 0

    def connect(self) -> None:
        number = len(self.state) + 1
        self.state[number] = "asked"
        self.bench.core.open(number)

    def lose(self, number: int) -> None:
        self.state[number] = "away"
        self.bench.core.away(number)

    def resume(self, number: int) -> None:
        self.state[number] = "connected"
        self.bench.core.back(number)

    def end(self, number: int) -> None:
        self.state[number] = "gone"
        self.bench.core.closed(number)

    def carry_out(self) -> None:
        name, number, *_ = self.commands.popleft()
        match name, self.state[number]:
            case "admit", "asked":
                self.state[number] = "connected"
            case "close", "asked" | "connected" | "away":
                assert self.state[number] == "asked", "only newcomers are refused"
                self.refused += 1
                self.end(number)
            case "give_way", "connected":
                self.bench.core.put(_core.STAYS, number)
            case "give_way", "away":
                self.ended_for_others += 1
                self.end(number)

    async def python(self) -> None:
        await self.bench.run()
        calls = self.bench.core.calls
        self.commands += [call for call in calls[self.seen :] if call[0] in ("admit", "close", "give_way")]
        self.seen = len(calls)

    def those(self, *states: str) -> list[int]:
        return [number for number, state in self.state.items() if state in states]


@pytest.mark.parametrize("seed", range(60))
def test_whatever_crosses_on_the_way_nobody_who_is_there_ends_and_nobody_waits_for_ever(app, bench, seed):
    app.authenticate(lambda request: "ann")
    chance, most = random.Random(seed), 3

    @virtual
    async def history():
        umbel = bench(max_connections_per_identity=most)
        shard = Shard(umbel)
        for _ in range(80):
            moves: list[Callable[[], object]] = [shard.connect]
            moves += [shard.carry_out] * 3 if shard.commands else []
            for states, act in (("connected", shard.lose), ("away", shard.resume), ("connected", shard.end)):
                moves += [lambda act=act, number=number: act(number) for number in shard.those(states)]
            moves += [lambda number=number: shard.end(number) for number in shard.those("asked")[:1]]
            if chance.random() < 0.4:
                await shard.python()
            else:
                chance.choice(moves)()
            assert len(shard.those("connected", "away")) <= most
        while shard.commands or umbel.core.events:
            await shard.python()
            while shard.commands:
                shard.carry_out()
        entrance = umbel.dispatcher._entrance
        assert not shard.those("asked"), "each newcomer was let in or refused"
        assert entrance._giving_way == entrance._waiting == {}
        there = shard.those("connected", "away")
        assert sorted(entrance._limit._subjects) == there
        assert sorted(entrance._limit._away.get("ann", ())) == shard.those("away")
        assert shard.ended_for_others + shard.refused <= len(shard.state)
        # And when nothing crosses, a newcomer is refused only if all the others are there.
        for number in shard.those("connected")[1:]:
            shard.lose(number)
        before = shard.refused
        shard.connect()
        while shard.commands or umbel.core.events:
            await shard.python()
            while shard.commands:
                shard.carry_out()
        assert shard.refused == before

    history()

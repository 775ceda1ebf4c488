"""The limit of connections of one identity, by itself and in the dispatcher."""

import asyncio

from looping import virtual
from umbel import Identity
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

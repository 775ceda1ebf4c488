"""Sessions: what a client has again that comes back."""

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, suppress
from typing import Any

import pytest
from coming_back import begun, closed, cut, opened, resumed, until
from umbel import Client, Identity, Message, Refused, Request, Umbel
from websockets.exceptions import ConnectionClosed
from wire import Wire


class Life:
    """Notes what an application is told of its clients."""

    def __init__(self, app: Umbel) -> None:
        self.noted: list[str] = []
        self.clients: list[Client] = []
        app.on_connect(self.connected)
        app.on_away(self.away)
        app.on_back(self.back)
        app.on_disconnect(self.left)

    def connected(self, client: Client) -> None:
        self.clients.append(client)
        self.noted.append("connect")

    def away(self, client: Client, code: int, reason: str) -> None:
        assert client is self.clients[-1]
        assert not client.connected
        self.noted.append(f"away {code}")

    def back(self, client: Client) -> None:
        assert client is self.clients[-1]
        assert client.connected
        self.noted.append("back")

    def left(self, client: Client, code: int, reason: str) -> None:
        assert not client.connected
        self.noted.append(f"disconnect {code}")


async def test_the_first_message_brings_the_token(app: Umbel) -> None:
    @app.authenticate
    def who(request: Request) -> str | None:
        return {"t": "ann"}.get(request.token or "")

    async with app.serve(port=0) as server:
        async with begun(server, token="t", id=1) as it:
            greeting = it.greeting
            assert greeting["subject"] == "ann"
            assert greeting["session"]["ttl"] == 120
            assert "resumed" not in greeting
            assert "id" not in greeting
        async with opened(server) as it:
            await it.say("authenticate", token="x")
            assert (await it.hear("error"))["code"] == "unauthenticated"
            assert await closed(it) == (4401, "authentication required")


@pytest.mark.parametrize(
    ("said", "code"),
    [
        ('{"type":"subscribe_updates","channel":"a"}', 4500),
        ('{"type":"resume","session":"x","positions":{}}', 4500),
        ('{"type":"resume","session":"x","attempt":1,"positions":{"a":{"offset":1}}}', 4500),
        ("no JSON", 4500),
        (b"\x00", 1003),
        ("x" * (16 * 1024 + 512 * 3 + 1), 1009),
    ],
)
async def test_another_first_message_closes(app: Umbel, said: str | bytes, code: int) -> None:
    async with app.serve(port=0, max_subscriptions=3) as server, opened(server) as it:
        await it.connection.send(said)
        if code == 4500:
            assert (await it.hear("error"))["code"] == "bad_message"
        assert (await closed(it))[0] == code


async def test_who_names_more_channels_than_a_session_has_is_refused(app: Umbel) -> None:
    async with app.serve(port=0, max_subscriptions=3) as server:
        for count, names in (4, "abcd"), (5, "abcde"):
            async with opened(server) as it:
                positions = dict.fromkeys(names)
                await it.say("resume", session="x", attempt=1, positions=positions)
                if count == 4:
                    assert (await it.hear())["type"] == "connection_established"
                else:
                    assert (await it.hear("error"))["code"] == "bad_message"
                    assert (await closed(it))[0] == 4500


async def test_who_says_nothing_is_closed_and_pings_do_not_help(app: Umbel) -> None:
    async with app.serve(port=0, handshake_timeout=0.5) as server, opened(server) as it:
        began = time.monotonic()
        for _ in range(3):
            await asyncio.wait_for(await it.connection.ping(), 5)
            await asyncio.sleep(0.1)
        assert await closed(it) == (1008, "the client did not say in time who it is")
        assert time.monotonic() - began < 3


async def test_later_they_are_errors(app: Umbel) -> None:
    async with app.serve(port=0) as server, begun(server) as it:
        token = it.greeting["session"]["token"]
        await it.say("authenticate", id=1)
        await it.say("resume", session=token, attempt=1, positions={}, id=2)
        for number in (1, 2):
            error = await it.hear("error")
            assert (error["id"], error["code"]) == (number, "bad_message")


@pytest.mark.parametrize("shards", [1, 3])
async def test_a_client_has_everything_again(app: Umbel, shards: int) -> None:
    life = Life(app)
    app.channel("room:{x}", open=True)

    @app.on("state")
    def state(client: Client, message: Message) -> Any:
        before = client.state.get("n", 0)
        client.state["n"] = before + 1
        return before

    async with app.serve(port=0, shards=shards) as server:
        async with begun(server) as it:
            for name in "ab":
                await it.say("subscribe_updates", channel=f"room:{name}")
                await it.hear("subscription_established")
                app.publish(f"room:{name}", name)
                await it.hear("update")
            await it.say("state", id=1)
            assert (await it.hear("state_result"))["data"] == 0
            client = life.clients[0]
            client.send("one")
            private = await it.hear("subscription_established")
            assert (await it.hear("update"))["data"] == "one"
            await cut(it)
        await until(lambda: not client.connected)
        for name in "ab":
            app.publish(f"room:{name}", name * 2)
        client.send("two")
        # `room:b` was not read yet, as far as the client knows.
        positions = {
            "room:a": {"epoch": it.epochs["room:a"], "offset": 1},
            "room:b": None,
            private["channel"]: {"epoch": private["epoch"], "offset": 1},
        }
        async with resumed(server, it, 1, positions=positions) as back:
            assert back.greeting["resumed"] is True
            assert back.greeting["clientId"] == it.greeting["clientId"]
            assert back.greeting["session"] == it.greeting["session"]
            heard = [await back.hear() for _ in range(7)]
            established = {m["channel"]: m for m in heard if m["type"] == "subscription_established"}
            assert established["room:a"]["recovered"] is True
            assert established["room:b"]["offset"] == 0
            assert "recovered" not in established["room:b"]
            updates = [(m["channel"][:6], m["data"]) for m in heard if m["type"] == "update"]
            assert sorted(updates) == sorted(
                [("room:a", "aa"), ("room:b", "b"), ("room:b", "bb"), (private["channel"][:6], "two")]
            )
            await back.say("state", id=2)
            assert (await back.hear("state_result"))["data"] == 1
            assert life.noted == ["connect", "away 1006", "back"]
            assert client.connected
            await back.connection.close(1000)
        await until(lambda: len(life.noted) == 4)
        assert life.noted[3] == "disconnect 1000"


async def test_a_second_connection_takes_the_session_over(app: Umbel) -> None:
    life = Life(app)
    app.channel("room:{x}", open=True)
    async with app.serve(port=0) as server, begun(server) as it:
        await it.say("subscribe_updates", channel="room:a")
        await it.hear("subscription_established")
        async with resumed(server, it, 1, positions={"room:a": None}) as back:
            assert back.greeting["resumed"] is True
            assert await closed(it) == (4502, "the session has another connection")
            await back.hear("subscription_established")
            app.publish("room:a", 1)
            assert (await back.hear("update"))["data"] == 1
            assert life.noted == ["connect"]
            async with opened(server) as late:
                token = it.greeting["session"]["token"]
                await late.say("resume", session=token, attempt=1, positions={})
                assert await closed(late) == (4502, "the session has another connection")
            app.publish("room:a", 2)
            assert (await back.hear("update"))["data"] == 2
            await back.connection.close(4000)
        await until(lambda: life.noted == ["connect", "away 4000"])
        async with resumed(server, it, 3) as again:
            assert again.greeting["resumed"] is True


async def test_ten_resumes_in_a_row_with_all_sockets_open(app: Umbel) -> None:
    app.channel("room:{x}", open=True)
    async with app.serve(port=0, shards=2) as server, begun(server) as it, AsyncExitStack() as stack:
        await it.say("subscribe_updates", channel="room:a")
        established = await it.hear("subscription_established")
        position = {"epoch": established["epoch"], "offset": 0}
        wires = [it]
        for attempt in range(1, 11):
            app.publish("room:a", attempt)
            back = await stack.enter_async_context(opened(server))
            wires.append(back)
            token = it.greeting["session"]["token"]
            await back.say("resume", session=token, attempt=attempt, positions={"room:a": position})
            assert (await back.hear("connection_established"))["resumed"] is True
            update = await back.hear("update")
            assert update["data"] == attempt
            position = {"epoch": established["epoch"], "offset": update["offset"]}
        assert position["offset"] == 10
        for old in wires[:-1]:
            assert (await closed(old))[0] == 4502
        await cut(wires[-1])


@pytest.mark.parametrize(
    "token",
    ["", "x", ".", "0" * 16 + "." + "0" * 32, "f" * 16 + "." + "f" * 32, "é" * 16 + "." + "0" * 32, "+" * 49],
)
async def test_who_has_no_session_gets_a_new_one(app: Umbel, token: str) -> None:
    asked = []

    @app.channel("room:{x}")
    def may(client: Client, x: str) -> bool:
        asked.append(x)
        return x != "c"

    async with app.serve(port=0) as server, opened(server) as it:
        positions = {
            "room:a": {"epoch": "0123456789abcdef", "offset": 7},
            "room:b": None,
            "room:c": None,
            "@someone": None,
            "": None,
        }
        await it.say("resume", session=token, attempt=1, positions=positions)
        greeting = await it.hear()
        assert (greeting["resumed"], greeting["reason"]) == (False, "unknown")
        heard = {m["channel"]: m for m in [await it.hear() for _ in range(5)]}
        assert heard["room:a"]["recovered"] is False
        assert heard["room:a"]["reason"] == "epoch"
        assert "recovered" not in heard["room:b"]
        assert heard["room:c"]["code"] == "not_allowed"
        assert heard["@someone"]["reason"] == "session_lost"
        assert heard[""]["code"] == "bad_channel"
        assert sorted(asked) == ["a", "b", "c"]


async def test_a_session_that_is_restored_asks_nobody(app: Umbel) -> None:
    asked = []

    @app.channel("room:{x}")
    def may(client: Client, x: str) -> bool:
        asked.append(x)
        return True

    async with app.serve(port=0) as server:
        async with begun(server) as it:
            for name in "ab":
                await it.say("subscribe_updates", channel=f"room:{name}")
                await it.hear("subscription_established")
            await cut(it)
        async with resumed(server, it, 1, positions={"room:a": None, "room:c": None}) as back:
            await back.hear("subscription_established")
            await back.hear("subscription_established")
            assert asked == ["a", "b", "c"]
            await until(lambda: app.subscribers("room:b") == 0)
            assert (app.subscribers("room:a"), app.subscribers("room:c")) == (1, 1)


async def test_what_the_server_gave_a_client_stays(app: Umbel) -> None:
    life = Life(app)
    app.channel("room:{x}", open=True)
    async with app.serve(port=0) as server:
        async with begun(server) as it:
            life.clients[0].subscribe("room:a")
            await it.hear("subscription_established")
            app.publish("room:a", 1)
            await it.hear("update")
            await cut(it)
        await until(lambda: not life.clients[0].connected)
        # While it is away, the application goes on with it.
        life.clients[0].subscribe("room:b")
        app.publish("room:b", 2)
        life.clients[0].send(3)
        async with resumed(server, it, 1) as back:
            heard = [(await back.hear("update"))["data"] for _ in range(3)]
            assert sorted(heard) == [1, 2, 3]
            life.clients[0].unsubscribe("room:a", "enough")
            assert (await back.hear("subscription_ended"))["reason"] == "enough"
            await cut(back)
        await until(lambda: not life.clients[0].connected)
        life.clients[0].unsubscribe("room:b")
        async with resumed(server, it, 2) as back:
            established = await back.hear("subscription_established")
            assert established["channel"] == f"@{life.clients[0].id}"
            assert (await back.hear("update"))["data"] == 3
            await asyncio.sleep(0.05)
            assert app.subscribers("room:a") == app.subscribers("room:b") == 0


async def test_a_subscription_that_the_application_repeats_while_a_client_is_away_stays_what_it_was(
    app: Umbel,
) -> None:
    life = Life(app)
    app.channel("room:{x}", open=True)
    async with app.serve(port=0, max_subscriptions=3) as server:
        async with begun(server) as it:
            await it.say("subscribe_updates", channel="room:a")
            await it.hear("subscription_established")
            await cut(it)
        client = life.clients[0]
        await until(lambda: not client.connected)
        app.publish("room:a", 1)
        for name in "abcde":  # the last two are too many
            client.subscribe(f"room:{name}")
        app.publish("room:a", 2)
        positions = {"room:a": {"epoch": it.epochs["room:a"], "offset": 0}}
        async with resumed(server, it, 1, positions=positions) as back:
            heard = {m["channel"]: m for m in [await back.hear("subscription_established") for _ in range(3)]}
            assert list(heard) == ["room:a", "room:b", "room:c"]
            assert heard["room:a"]["recovered"] is True
            assert [(await back.hear("update"))["data"] for _ in range(2)] == [1, 2]


async def test_what_is_decided_while_clients_are_away_keeps_nobody_out(app: Umbel) -> None:
    decide = asyncio.Event()
    asked = []

    async def may_publish(client: Client, x: str, data: Any) -> bool:
        asked.append(x)
        await decide.wait()
        return True

    app.channel("slow:{x}", open=True, publish=may_publish)

    @app.on("hello")
    def hello(client: Client, message: Message) -> str:
        return "hello"

    settings: Any = {"max_message": 256 << 10, "max_held_bytes": 2 << 20}
    async with app.serve(port=0, **settings) as server:
        for number in range(6):
            async with begun(server) as it:
                await it.say("publish", channel="slow:a", data="x" * (200 << 10), id=number)
                await until(lambda: len(asked) > number)  # noqa: B023
                await cut(it)
        decide.set()
        async with begun(server) as other:
            await other.say("hello", id=1)
            assert (await other.hear("hello_result"))["data"] == "hello"


async def test_who_has_much_under_way_asks_for_no_more_by_coming_back(app: Umbel) -> None:
    asked = []

    @app.channel("slow:{x}")
    async def slow(client: Client, x: str) -> bool:
        asked.append(x)
        await asyncio.sleep(60)
        return True

    settings = {"max_running": 2, "max_subscriptions": 128, "drain": 0.1}
    async with app.serve(port=0, **settings) as server, AsyncExitStack() as stack:
        it = await stack.enter_async_context(begun(server))
        for attempt in range(1, 6):
            positions = {f"slow:{attempt}-{number}": None for number in range(100)}
            await stack.enter_async_context(resumed(server, it, attempt, positions=positions))
        # The first time it may: as many as one message may name.
        assert len(asked) <= 2
        await asyncio.sleep(0.1)
        assert server._dispatcher is not None
        backlogs = server._dispatcher._caller._backlogs
        assert sum(map(len, backlogs.values())) <= 200


async def test_a_session_ends_when_nobody_comes(app: Umbel) -> None:
    life = Life(app)
    async with app.serve(port=0, session_ttl=0.2) as server:
        async with begun(server) as it:
            assert it.greeting["session"]["ttl"] == 0.2
            life.clients[0].send("x")
            await it.hear("update")
            await cut(it)
        await until(lambda: len(life.noted) == 3)
        assert life.noted == ["connect", "away 1006", "disconnect 1006"]
        assert life.clients[0].send("x") is None
        await until(lambda: server.stats().channels == 0)
        async with resumed(server, it, 1) as back:
            assert back.greeting["resumed"] is False
            assert back.greeting["clientId"] != it.greeting["clientId"]


async def test_who_is_closed_for_good_is_not_away(app: Umbel) -> None:
    life = Life(app)
    async with app.serve(port=0) as server:
        for end, code in [(lambda it: it.connection.close(1000), 1000), (cut, 1006)]:
            async with begun(server) as it:
                client = life.clients[-1]
                if end is cut:
                    await cut(it)
                    await until(lambda: not client.connected)  # noqa: B023
                    client.close(4000, "go")
                    code = 4000
                else:
                    await end(it)
            await until(lambda: life.noted[-1].startswith("disconnect"))
            assert life.noted[-1] == f"disconnect {code}"
            async with resumed(server, it, 1) as back:
                assert back.greeting["resumed"] is False
                client = life.clients[-1]
                client.close(4001)
                assert (await closed(back))[0] == 4001
            await until(lambda: life.noted[-1] == "disconnect 4001")


async def test_sessions_can_be_switched_off(app: Umbel) -> None:
    life = Life(app)
    app.channel("room:{x}", open=True)
    async with app.serve(port=0, session_ttl=0) as server:
        async with begun(server) as it:
            assert "session" not in it.greeting
            await cut(it)
        await until(lambda: life.noted == ["connect", "disconnect 1006"])
        async with opened(server) as back:
            await back.say("resume", session="x", attempt=1, positions={"room:a": None})
            assert (await back.hear())["resumed"] is False
            assert (await back.hear())["channel"] == "room:a"


async def test_a_stop_ends_sessions_that_are_away(app: Umbel) -> None:
    life = Life(app)
    async with app.serve(port=0) as server:
        async with begun(server) as it:
            await cut(it)
        await until(lambda: life.noted == ["connect", "away 1006"])
    assert life.noted == ["connect", "away 1006", "disconnect 1006"]


async def test_who_comes_and_goes_faster_than_the_application_works_is_not_counted(app: Umbel) -> None:
    noted: list[str] = []
    goes_on = asyncio.Event()

    @app.on_away
    async def away(client: Client, code: int, reason: str) -> None:
        noted.append("away")
        await goes_on.wait()

    @app.on_back
    def back(client: Client) -> None:
        noted.append("back")

    async with app.serve(port=0, max_running=1) as server:
        async with begun(server) as it:
            await cut(it)
        await until(lambda: noted == ["away"])
        for attempt in range(1, 20):
            async with resumed(server, it, attempt) as it_again:
                await until(lambda: app.clients()[0].connected)
                await cut(it_again)
            await until(lambda: not app.clients()[0].connected)
        goes_on.set()
        async with resumed(server, it, 20) as it_again:
            await until(lambda: noted == ["away", "back"])


@pytest.mark.parametrize("shards", [1, 2])
async def test_who_comes_back_during_a_stop_is_sent_away(app: Umbel, shards: int) -> None:
    app.channel("room:{x}", open=True)
    server = app.serve(port=0, shards=shards, drain=5)
    async with server, AsyncExitStack() as stack:
        sessions = [await stack.enter_async_context(begun(server)) for _ in range(4)]
        # These have connected, and say who they are when the server stops already.
        returning = [await stack.enter_async_context(opened(server)) for _ in sessions]
        server.stop()
        for it, back in zip(sessions, returning, strict=True):
            assert (await it.hear("reconnect"))["within"]
            with suppress(ConnectionClosed):
                await back.say("resume", session=it.greeting["session"]["token"], attempt=1, positions={})
        codes = {(await closed(it))[0] for it in returning}
        assert codes == {1012}
        assert {(await closed(it))[0] for it in sessions} <= {1012, 4502}


@pytest.mark.parametrize("event_queue", [4096, 5])
async def test_clients_come_back_while_python_is_blocked(app: Umbel, event_queue: int) -> None:
    life = Life(app)
    app.channel("room:{x}", open=True)

    @app.authenticate
    async def who(request: Request) -> str:
        return request.token or ""

    async with app.serve(port=0, shards=2, event_queue=event_queue) as server:
        wires = []
        for number in range(20):
            async with begun(server, token=f"user-{number}") as it:
                await it.say("subscribe_updates", channel="room:a")
                await it.hear("subscription_established")
                await cut(it)
            wires.append(it)
        await until(lambda: len([n for n in life.noted if n.startswith("away")]) == 20)

        def come_back() -> list[bool]:
            async def all_of_them() -> list[bool]:
                found = []
                for number, it in enumerate(wires):
                    positions = {"room:a": {"epoch": it.epochs["room:a"], "offset": 0}}
                    async with resumed(server, it, 1, positions=positions, token=f"user-{number}") as back:
                        established = await back.hear("subscription_established")
                        found.append(back.greeting["resumed"] and established["recovered"])
                return found

            return asyncio.run(all_of_them())

        with ThreadPoolExecutor(1) as pool:
            assert pool.submit(come_back).result(10) == [True] * 20  # which holds the loop


async def test_another_token_gets_a_session_of_its_own(app: Umbel) -> None:
    @app.authenticate
    def who(request: Request) -> str:
        if request.token == "bad":
            raise Refused(4500, "no")
        return request.token or "nobody"

    async with app.serve(port=0) as server:
        async with begun(server, token="ann") as it:
            await cut(it)
        async with resumed(server, it, 1, token="bob") as bob:
            assert (bob.greeting["resumed"], bob.greeting["subject"]) == (False, "bob")
            assert bob.greeting["reason"] == "subject"
        async with opened(server) as bad:
            token = it.greeting["session"]["token"]
            await bad.say("resume", session=token, attempt=1, positions={}, token="bad")
            assert (await closed(bad))[0] == 4500
        async with resumed(server, it, 1) as back:
            assert (back.greeting["resumed"], back.greeting["subject"]) == (True, "ann")


async def test_a_new_token_of_the_same_subject_renews_the_session(app: Umbel) -> None:
    life = Life(app)
    asked = []

    @app.authenticate
    async def who(request: Request) -> Identity:
        asked.append(request.token)
        return Identity("ann", {"token": request.token})

    app.channel("room:{x}", open=True)
    async with app.serve(port=0, shards=3, max_connections_per_identity=1) as server:
        async with begun(server, token="1") as it:
            await it.say("subscribe_updates", channel="room:a")
            await it.hear("subscription_established")
            await cut(it)
        await until(lambda: life.noted == ["connect", "away 1006"])
        async with resumed(server, it, 1, token="2", positions={"room:a": None}) as back:
            assert back.greeting["resumed"] is True
            assert back.greeting["clientId"] == it.greeting["clientId"]
            await back.hear("subscription_established")
            client = life.clients[0]
            assert client.identity.claims == {"token": "2"}
            assert client.request.token == "2"
            client.send("hello")
            assert (await back.hear("update"))["data"] == "hello"
            # Taken over with another new token, and then with one that is known.
            async with resumed(server, it, 2, token="3") as again:
                assert again.greeting["resumed"] is True
                assert (await closed(back))[0] == 4502
                async with resumed(server, it, 3, token="3") as last:
                    assert last.greeting["resumed"] is True
                    await last.connection.close(1000)
        assert asked == ["1", "2", "3"]
        await until(lambda: life.noted[-1] == "disconnect 1000")
        assert life.noted.count("connect") == 1
        assert app.clients() == []


async def test_what_a_replaced_connection_still_had_to_say_does_not_count(app: Umbel) -> None:
    app.channel("room:{x}", open=True)
    decide = asyncio.Event()

    @app.channel("slow:{x}", publish=lambda client, x, data: False)
    async def slow(client: Client, x: str) -> bool:
        await decide.wait()
        return True

    async with app.serve(port=0) as server, begun(server) as it:
        await it.say("subscribe_updates", channel="slow:a", id=1)
        await it.say("subscribe_updates", channel="room:a", id=2)
        await it.hear("subscription_established")
        async with resumed(server, it, 1, positions={"slow:a": None}) as back:
            decide.set()
            established = await back.hear("subscription_established")
            assert established["channel"] == "slow:a"
            assert "id" not in established, "the request is another one"
            await until(lambda: app.subscribers("room:a") == 0)


async def test_who_lets_many_sessions_be_away_ends_nobody_elses(app: Umbel) -> None:
    @app.authenticate
    def who(request: Request) -> str | None:
        return request.token

    async with app.serve(port=0, shards=1, max_away=5) as server:
        wires: dict[str, list[Wire]] = {}
        for user in ["ann", *["bob"] * 6, "carl", "dora"]:
            async with begun(server, token=user) as it:
                await cut(it)
            wires.setdefault(user, []).append(it)
            await until(lambda: server.stats().connections == 0)
        there = {"ann": [True], "bob": [False] * 4 + [True] * 2, "carl": [True], "dora": [True]}
        for user, expected in there.items():
            for it, is_there in zip(wires[user], expected, strict=True):
                async with resumed(server, it, 1, token=user) as back:
                    assert back.greeting["resumed"] is is_there, user


async def test_at_the_limit_of_an_identity_its_oldest_away_session_gives_way(app: Umbel) -> None:
    life = Life(app)

    @app.authenticate
    def who(request: Request) -> str:
        return request.token or ""

    async with app.serve(port=0, max_connections_per_identity=2) as server:
        async with begun(server, token="ann") as first:
            await cut(first)
        await until(lambda: "away 1006" in life.noted)
        async with begun(server, token="ann") as second, begun(server, token="ann") as third:
            # With the code of its last connection, and before the one that takes its place.
            expected = ["connect", "away 1006", "connect", "disconnect 1006", "connect"]
            await until(lambda: life.noted == expected)
            # Nobody of the identity is away: the next one is refused, and the session counts once.
            async with opened(server) as fourth:
                await fourth.say("authenticate", token="ann")
                assert (await closed(fourth))[0] == 4429
            async with resumed(server, second, 1) as again:
                assert again.greeting["resumed"] is True
            await third.connection.close(1000)


async def test_a_session_outlives_a_close_in_the_middle_of_a_message(app: Umbel) -> None:
    life = Life(app)
    app.channel("room:{x}", open=True)
    async with app.serve(port=0) as server, begun(server) as it:
        await it.say("subscribe_updates", channel="room:a")
        await it.hear("subscription_established")
        for _ in range(40):
            await it.connection.send("no JSON")
        assert await closed(it) == (1008, "too many errors")
        await until(lambda: life.noted == ["connect", "away 1008"])
        app.publish("room:a", 1)
        async with resumed(server, it, 1, positions={"room:a": None}) as back:
            assert back.greeting["resumed"] is True
            assert (await back.hear("update"))["data"] == 1


async def test_of_clients_that_are_away_the_first_loses_what_was_sent_and_is_told_it(app: Umbel) -> None:
    life = Life(app)
    async with app.serve(port=0, max_log_bytes=1 << 20) as server, AsyncExitStack() as stack:
        wires = [await stack.enter_async_context(begun(server)) for _ in range(2)]
        await until(lambda: len(life.clients) == 2)
        clients = {client.id: client for client in life.clients}
        for it in wires:
            client = life.clients[-1] = clients[it.greeting["clientId"]]
            client.send("first")
            await it.hear("update")
            await cut(it)
            await until(lambda client=client: not client.connected)
        for number in range(2):
            for client in clients.values():
                client.send([number, "x" * 100_000])
        for it, is_lost in zip(wires, (True, False), strict=True):
            channel = "@" + it.greeting["clientId"]
            positions = {channel: {"epoch": it.epochs[channel], "offset": 1}}
            life.clients[-1] = clients[it.greeting["clientId"]]
            async with resumed(server, it, 1, positions=positions) as back:
                established = await back.hear("subscription_established")
                if is_lost:
                    assert (established["recovered"], established["reason"]) == (False, "trimmed")
                    assert (established["epoch"], established["offset"]) == (it.epochs[channel], 3)
                    clients[it.greeting["clientId"]].send("next")
                    assert (await back.hear("update"))["offset"] == 4
                else:
                    assert established["recovered"] is True
                    assert [(await back.hear("update"))["data"][0] for _ in range(2)] == [0, 1]

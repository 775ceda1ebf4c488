"""What the application is asked again when a client comes back: about a channel, and about the client."""

import asyncio
import time
from typing import Any

import pytest
from coming_back import begun, closed, cut, opened, resumed, until
from umbel import Client, ConfigurationError, Identity, Message, Request, Server, Umbel
from wire import Wire


class Room:
    """Channels for which the application decides each time."""

    def __init__(self, app: Umbel) -> None:
        self.asked: list[str] = []
        self.allowed = True
        self.goes_on = asyncio.Event()
        self.goes_on.set()
        app.channel("room:{x}", recheck=True)(self.may)
        app.channel("open:{x}", open=True)

    async def may(self, client: Any, x: str) -> bool:
        self.asked.append(x)
        await self.goes_on.wait()
        return self.allowed


async def subscribed(it: Wire, *channels: str) -> dict[str, dict[str, Any]]:
    """Subscribe, and return the positions."""
    for channel in channels:
        await it.say("subscribe_updates", channel=channel)
    answers = [await it.hear("subscription_established") for _ in channels]
    return {answer["channel"]: {"epoch": answer["epoch"], "offset": answer["offset"]} for answer in answers}


async def test_who_may_still_read_gets_what_was_missed(app: Umbel) -> None:
    room = Room(app)
    async with app.serve(port=0) as server:
        async with begun(server) as it:
            positions = await subscribed(it, "room:a", "open:a")
            await cut(it)
        await until(lambda: app.subscribers("room:a") == 0)
        room.goes_on.clear()
        app.publish("room:a", "missed")
        app.publish("open:a", "missed, too")
        async with resumed(server, it, 1, positions=positions) as back:
            assert (await back.hear("subscription_established"))["channel"] == "open:a"
            assert (await back.hear("update"))["data"] == "missed, too", "others do not wait"
            room.goes_on.set()
            answer = await back.hear("subscription_established")
            assert (answer["channel"], answer["recovered"]) == ("room:a", True)
            assert (await back.hear("update"))["data"] == "missed"
    assert room.asked == ["a", "a"]


async def test_who_may_not_read_any_more_gets_nothing(app: Umbel) -> None:
    room = Room(app)
    async with app.serve(port=0, handler_timeout=0.2) as server:
        async with begun(server) as it:
            positions = await subscribed(it, "room:a", "room:b")
            await cut(it)
        await until(lambda: app.subscribers("room:a") == 0)
        app.publish("room:a", "secret")
        room.allowed = False
        async with resumed(server, it, 1, positions=positions) as back:
            ended = [await back.hear() for _ in positions]
            told = sorted((it["type"], it["channel"], it["reason"]) for it in ended)
            assert told == [("subscription_ended", name, "not_allowed") for name in ("room:a", "room:b")]
            app.publish("room:a", "secret")
            await back.say("heartbeat")
            assert (await back.hear())["type"] == "heartbeat_ack"
            # Who asks anew is asked about anew.
            room.allowed = True
            await subscribed(back, "room:a")
            await cut(back)
        room.goes_on.clear()
        async with resumed(server, it, 2, positions={"room:a": None}) as back:
            assert (await back.hear())["reason"] == "not_allowed", "no answer in time is no"
            assert app.subscribers("room:a") == 0


async def test_who_has_much_under_way_is_asked_about_all_the_same(app: Umbel) -> None:
    goes_on = asyncio.Event()
    room = Room(app)

    @app.on_connect
    def seat(client: Client) -> None:
        client.subscribe("room:seat")

    @app.on("slow")
    async def slow(client: Client, message: Message) -> None:
        await goes_on.wait()

    async with app.serve(port=0, max_running=1) as server:
        async with begun(server) as it:
            await it.hear("subscription_established")
            positions = await subscribed(it, "room:a")
            for number in range(2):
                await it.say("slow", id=number)
            await until(lambda: it_waits(server))
            await cut(it)
        async with resumed(server, it, 1, positions=positions) as back:
            goes_on.set()
            answers = [await back.hear("subscription_established") for _ in range(2)]
            assert {answer["channel"] for answer in answers} == {"room:a", "room:seat"}
    assert room.asked == ["a", "a", "seat"]


def it_waits(server: Server) -> bool:
    """Whether a message waits for the function of another one."""
    assert server._dispatcher is not None
    return any(server._dispatcher._caller._backlogs.values())


async def test_what_the_application_says_while_a_publish_waits_does_not_repeat_that(app: Umbel) -> None:
    goes_on = asyncio.Event()
    published: list[object] = []
    clients: list[Client] = []

    async def publish(client: Client, x: str, data: object) -> bool:
        published.append(data)
        await goes_on.wait()
        return True

    @app.channel("room:{x}", recheck=True, publish=publish)
    def may(client: Client, x: str) -> bool:
        clients.append(client)
        return True

    async with app.serve(port=0) as server:
        async with begun(server) as it:
            positions = await subscribed(it, "room:a")
            await it.say("publish", channel="room:a", data=1, id=7)
            await until(lambda: published)
            await cut(it)
        await until(lambda: not clients[0].connected)
        # The publish is still to be decided about. So the question about the channel waits for it.
        async with resumed(server, it, 1, positions=positions) as back:
            clients[0].subscribe("room:a")
            await back.hear("subscription_established")
            clients[0].unsubscribe("room:a", "moved")
            assert (await back.hear("subscription_ended"))["reason"] == "moved"
            goes_on.set()
            assert (await back.hear("published"))["id"] == 7
    assert published == [1]


async def test_credentials_that_have_expired_do_not_bring_back_a_session(app: Umbel) -> None:
    ends = {"old": time.time() + 1, "new": time.time() + 3600}

    @app.authenticate
    def who(request: Request) -> dict[str, Any] | None:
        if ends.get(request.token or "", 0) <= time.time():
            return None
        return {"sub": "ann", "exp": ends[request.token or ""]}

    app.channel("room:{x}", open=True)
    async with app.serve(port=0, shards=2) as server:
        async with begun(server, token="old") as it:
            positions = await subscribed(it, "room:a")
            assert app.clients("ann")[0].identity.expires == ends["old"]
            await cut(it)
        async with resumed(server, it, 1, positions=positions) as back:
            assert back.greeting["resumed"] is True
            assert (await closed(back))[0] == 4401, "a connection ends with its credentials"
            assert ends["old"] <= time.time()
        for fields in ({}, {"token": "old"}):
            async with opened(server) as refused:
                token = it.greeting["session"]["token"]
                await refused.say("resume", session=token, attempt=2, positions=positions, **fields)
                assert (await refused.hear("error"))["code"] == "unauthenticated"
                assert (await closed(refused))[0] == 4401
        async with resumed(server, it, 2, positions=positions, token="new") as back:
            assert back.greeting["resumed"] is True, "the session stays as it was"
            assert back.greeting["clientId"] == it.greeting["clientId"]
            await cut(back)
        async with resumed(server, it, 3, positions=positions) as back:
            assert back.greeting["resumed"] is True


async def test_credentials_that_have_expired_already_let_nobody_in(app: Umbel) -> None:
    app.authenticate(lambda request: Identity("ann", expires=time.time() - 1))
    async with app.serve(port=0) as server, opened(server) as it:
        await it.say("authenticate")
        assert (await it.hear("error"))["message"] == "the credentials have expired"
        assert (await closed(it))[0] == 4401


async def test_an_application_may_want_to_be_asked_each_time(app: Umbel) -> None:
    asked: list[str | None] = []

    @app.authenticate
    def who(request: Request) -> str:
        asked.append(request.token)
        return {"1": "ann", "2": "ann", "3": "ben"}.get(request.token or "", "ann")

    async with app.serve(port=0, resume="authenticate", shards=2) as server:
        async with begun(server, token="1") as it:
            await cut(it)
        for attempt, token in enumerate(("1", "2", None), 1):
            fields = {} if token is None else {"token": token}
            async with resumed(server, it, attempt, **fields) as back:
                assert back.greeting["resumed"] is True
                await cut(back)
        async with resumed(server, it, 4, token="3") as other:
            assert (other.greeting["resumed"], other.greeting["reason"]) == (False, "subject")
            assert other.greeting["clientId"] != it.greeting["clientId"]
        assert asked == ["1", "1", "2", None, "3"]


async def test_declarations_that_ask_nobody_are_errors(app: Umbel) -> None:
    with pytest.raises(ConfigurationError, match="recheck"):
        app.channel("open", open=True, recheck=True)
    with pytest.raises(ValueError, match="resume must be"):
        app.serve(resume="always")
    with pytest.raises(ConfigurationError, match=r"@app\.authenticate"):
        async with app.serve(port=0, resume="authenticate"):
            pass


@pytest.mark.parametrize(
    ("expires", "error"),
    [("soon", TypeError), (True, TypeError), (float("nan"), ValueError), (1_800_000_000_000, ValueError)],
)
def test_the_end_of_credentials_is_a_time_in_seconds(expires: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="expires must be"):
        Identity("ann", expires=expires)
    with pytest.raises(error, match="expires must be"):
        Identity.of({"sub": "ann", "exp": expires})
